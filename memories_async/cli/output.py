"""Results on stdout, everything else on stderr: bars at a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Generator, Mapping
from time import monotonic
from typing import TYPE_CHECKING

import attrs

from memories_async.cli.exits import Exit, exit_for
from memories_async.cli.options import Shared
from memories_async.errors import ApiError, MemoriesError
from memories_async.models import Progress, Result
from memories_async.progress import Hook, for_rich

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import ProgressColumn

    from memories_async.bulk import Event

LINE_EVERY = 5.0
"""Seconds between two plain lines of progress."""

# Captions repeat what stands in pictures, and file names come from anywhere: neither may steer
# the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return text that a terminal shows and does not obey."""
    shown = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    return shown.encode("utf-8", "backslashreplace").decode()


def say(message: str) -> None:
    """Print one line for people on stderr."""
    print(f"memories-async: {printable(' '.join(message.split()))}", file=sys.stderr, flush=True)


@attrs.frozen
class Output:
    """What one command shows, and where.

    Attributes:
        json: Results are JSON objects, one per line.
        quiet: No progress and no notes.
    """

    json: bool = False
    quiet: bool = False

    @classmethod
    def of(cls, shared: Shared) -> Output:
        """Return the output that the options ask for."""
        return cls(json=shared.json, quiet=shared.quiet)

    def result(self, row: Mapping[str, object], text: str) -> None:
        """Print one result: the row for programs, or the text for people."""
        if self.json:
            # Escaped to ASCII: whole in every locale, and nothing in it can steer a terminal.
            text = json.dumps(row, default=str)
        print(text if self.json else printable(text), flush=True)

    def note(self, message: str) -> None:
        """Print one line for people, unless they asked for quiet."""
        if not self.quiet:
            say(message)

    @contextlib.contextmanager
    def reporting(self, source: str) -> Generator[None]:
        """Report an error as the result of a source too, where programs read the results."""
        try:
            yield
        except MemoriesError as error:
            if self.json:
                status = "unknown" if exit_for(error) is Exit.UNKNOWN else "failed"
                row = {"source": source, "status": status, "error": str(error)}
                self.result(row | {"details": details(error)}, "")
            raise

    @contextlib.contextmanager
    def upload(self, label: str) -> Generator[Hook]:
        """Show the bytes of one request while it is sent."""
        label = printable(label)
        if self.quiet:
            yield lambda progress: None
        elif at_terminal():
            with _bar(label) as hook:
                yield hook
        else:
            yield _lines(label)

    @contextlib.contextmanager
    def job(self, name: str) -> Generator[Callable[[Event], object]]:
        """Show a job at work."""
        if self.quiet:
            yield lambda event: None
        elif at_terminal():
            with _job_bar(name) as show:
                yield show
        else:
            yield _job_lines(name)


def duration(seconds: float) -> str:
    """Return a duration as h:mm:ss, without the hours if there are none."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def standing(event: Event, finished_before: int) -> str:
    """Say where a running job stands: items, bytes, rate, cost and the time that is left."""
    counts = event.counts
    now = counts.finished - finished_before
    told = [f"{counts.finished} of {counts.total}"]
    told += [f"{number} failed" for number in [counts.failed] if number]
    told += [f"{number} unknown" for number in [counts.unknown] if number]
    told += [f"{event.bytes_sent / 1e6:.1f} MB sent, {event.bytes_planned / 1e6:.1f} to go"]
    if event.seconds:
        told += [f"{now / event.seconds:.1f}/s"]
    if event.cost is not None:
        told += [f"${event.cost}"]
    if event.remaining is not None:
        told += [f"{duration(event.remaining)} left"]
    return " · ".join(told)


def details(error: MemoriesError) -> dict[str, object]:
    """Return what programs want to know of an error."""
    kind: dict[str, object] = {"type": type(error).__name__}
    if isinstance(error, ApiError):
        kind |= {"code": error.code, "status": error.status}
    return kind


def extra(result: Result) -> dict[str, object]:
    """Return the fields of an answer that this version does not know, if there are any."""
    return {"answer_extra": dict(result.extra)} if result.extra else {}


def at_terminal() -> bool:
    """Tell whether stderr is a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def _job_bar(name: str) -> Generator[Callable[[Event], object]]:
    from rich import progress as bars

    display = _display(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=20),
        bars.TextColumn("{task.fields[standing]}", markup=False),
    )
    task = display.add_task(name, total=None, standing="")
    before: int | None = None

    def show(event: Event) -> None:
        nonlocal before
        before = event.counts.finished if before is None else before
        display.update(
            task,
            completed=event.counts.finished,
            total=event.counts.total,
            standing=standing(event, before),
        )

    with display:
        yield show


def _job_lines(name: str) -> Callable[[Event], object]:
    due = 0.0
    before: int | None = None

    def show(event: Event) -> None:
        nonlocal before, due
        before = event.counts.finished if before is None else before
        if event.name == "finished" or monotonic() >= due:
            due = monotonic() + LINE_EVERY
            say(f"{name}: {standing(event, before)}")

    return show


@contextlib.contextmanager
def _bar(label: str) -> Generator[Hook]:
    from rich import progress as bars

    display = _display(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=20),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    task = display.add_task(label, total=None)
    draw = for_rich(display, task)

    def hook(progress: Progress) -> None:
        draw(progress)
        if progress.fraction == 1.0:
            display.update(task, description=f"{label}: waiting for the answer")

    with display:
        yield hook


def _display(*columns: ProgressColumn) -> Display:
    """Return a display that draws on stderr alone and is gone when it ends."""
    from rich.console import Console
    from rich.progress import Progress as Display

    return Display(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _lines(label: str) -> Hook:
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
