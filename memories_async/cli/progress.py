"""What shows work under way: a bar at a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator
from time import monotonic
from typing import TYPE_CHECKING

from memories_async.models import Progress
from memories_async.progress import Hook, for_rich

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import ProgressColumn

    from memories_async.bulk import Event

LINE_EVERY = 5.0
"""Seconds between two plain lines."""

Say = Callable[[str], None]


@contextlib.contextmanager
def upload(label: str, say: Say) -> Generator[Hook]:
    """Show the bytes of one request, then that its answer is waited for.

    Args:
        label: What is sent.
        say: Prints a line.
    """
    if not at_terminal():
        yield _upload_lines(label, say)
        return
    from rich import progress as bars

    with _display(
        bars.BarColumn(bar_width=20),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    ) as display:
        task = display.add_task(label, total=None)
        draw = for_rich(display, task)

        def hook(progress: Progress) -> None:
            draw(progress)
            if progress.fraction == 1.0:
                display.update(task, description=f"{label}: waiting for the answer")

        yield hook


@contextlib.contextmanager
def job(name: str, say: Say) -> Generator[Callable[[Event], object]]:
    """Show where a running job stands.

    Args:
        name: The job.
        say: Prints a line.
    """
    standing = _standing()
    if not at_terminal():
        yield _job_lines(name, standing, say)
        return
    from rich import progress as bars

    with _display(
        bars.BarColumn(bar_width=10),
        bars.TextColumn("{task.fields[standing]}", markup=False),
    ) as display:
        task = display.add_task(name, total=None, standing="")
        yield lambda event: display.update(
            task,
            completed=event.counts.finished,
            total=event.counts.total,
            standing=standing(event),
        )


def duration(seconds: float) -> str:
    """Return a duration as h:mm:ss, without the hours if there are none."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def at_terminal() -> bool:
    """Tell whether stderr is a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _display(*columns: ProgressColumn) -> Display:
    """Return a display that draws on stderr alone and is gone when it ends."""
    from rich.console import Console
    from rich.progress import Progress as Display
    from rich.progress import TextColumn

    return Display(
        TextColumn("{task.description}", markup=False),
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _upload_lines(label: str, say: Say) -> Hook:
    due = 0.0

    def hook(progress: Progress) -> None:
        nonlocal due
        whole = progress.fraction == 1.0
        if whole or monotonic() >= due:
            due = monotonic() + LINE_EVERY
            total = "" if progress.total is None else f" of {progress.total / 1e6:.1f}"
            wait = ", waiting for the answer" if whole else ""
            say(f"{label}: {progress.sent / 1e6:.1f}{total} MB sent{wait}")

    return hook


def _job_lines(name: str, standing: Callable[[Event], str], say: Say) -> Callable[[Event], object]:
    due = 0.0

    def show(event: Event) -> None:
        nonlocal due
        where = standing(event)
        if event.name == "finished" or monotonic() >= due:
            due = monotonic() + LINE_EVERY
            say(f"{name}: {where}")

    return show


def _standing() -> Callable[[Event], str]:
    """Return what says where a job stands; what earlier runs did counts in no rate."""
    before: int | None = None

    def standing(event: Event) -> str:
        nonlocal before
        counts = event.counts
        before = counts.finished if before is None else before
        told = [f"{counts.finished} of {counts.total}"]
        if counts.failed:
            told.append(f"{counts.failed} failed")
        if counts.unknown:
            told.append(f"{counts.unknown} unknown")
        if event.remaining is not None:
            told.append(f"{duration(event.remaining)} left")
        if event.cost is not None:
            told.append(f"${event.cost}")
        if event.seconds:
            told.append(f"{(counts.finished - before) / event.seconds:.1f}/s")
        told.append(f"{event.bytes_sent / 1e6:.1f} MB sent, {event.bytes_planned / 1e6:.1f} to go")
        return " · ".join(told)

    return standing
