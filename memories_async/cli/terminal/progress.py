"""Work under way: one line that is redrawn at a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from time import monotonic
from typing import TYPE_CHECKING

from memories_async.cli.terminal.console import (
    at_terminal,
    columns,
    console,
    says_unicode,
    width_of,
)
from memories_async.models import Progress
from memories_async.progress import Hook

if TYPE_CHECKING:
    from memories_async.bulk import Event

LINE_EVERY = 5.0
"""Seconds between two plain lines; of a long run, a twentieth of what it has taken so far."""
REDRAW_EVERY = 0.5
NARROWEST_BAR, WIDEST_BAR = 10, 30
LONGEST_LABEL = 30


def upload(label: str) -> AbstractContextManager[Hook]:
    """Show the bytes of one request, then that its answer is waited for.

    Args:
        label: What is sent.
    """
    return _transfer(label, "sent", "waiting for the answer")


def download(label: str) -> AbstractContextManager[Hook]:
    """Show the bytes of one file as they come.

    Args:
        label: What is received.
    """
    return _transfer(label, "received", "all of it")


@contextlib.contextmanager
def _transfer(label: str, done: str, then: str) -> Generator[Hook]:
    started = monotonic()
    show = _display()

    def hook(progress: Progress) -> None:
        seconds = monotonic() - started
        whole = progress.fraction == 1.0
        of_all = "" if progress.total is None else f" of {progress.total / 1e6:.1f}"
        details = [f"{progress.sent / 1e6:.1f}{of_all} MB {done}"]
        if whole:
            details.append(then)
        elif progress.sent and seconds > 1:
            speed = progress.sent / seconds
            left = ((progress.total or progress.sent) - progress.sent) / speed
            details += [f"{duration(left)} left", f"{speed / 1e6:.1f} MB/s"]
        show(lambda: (label, progress.fraction, details), whole)

    with _redrawn(show):
        yield hook


@contextlib.contextmanager
def job(name: str) -> Generator[Callable[[Event], object]]:
    """Show where a running job stands.

    Args:
        name: The job.
    """
    show = _display()
    before: int | None = None

    def on_event(event: Event) -> None:
        nonlocal before
        before = event.counts.finished if before is None else before
        finished_before, since = before, monotonic()
        show(
            lambda: (name, *standing(event, finished_before, monotonic() - since)),
            event.name in ("stopped", "finished"),
        )

    with _redrawn(show):
        yield on_event


def standing(event: Event, before: int, age: float) -> tuple[float, list[str]]:
    """Say where a job stands: which part of it is done, and more, the most wanted first.

    Args:
        event: The latest.
        before: Items that were finished when this run began: they count in no rate.
        age: Seconds since the event.
    """
    counts = event.counts
    part = counts.finished / counts.total if counts.total else 1.0
    details = [f"{counts.finished} of {counts.total}"]
    if event.stop is not None:
        details.insert(0, f"ending: {counts.sending} in flight")
    elif event.remaining is not None:
        details.insert(0, f"{duration(max(event.remaining - age, 0))} left")
    else:
        details.insert(0, "-:-- left")
    details += [
        f"{count} {name}" for name in ("failed", "unknown") if (count := getattr(counts, name))
    ]
    if event.cost is not None:
        details.append(f"${event.cost}")
    if event.seconds and counts.finished > before:
        details.append(f"{(counts.finished - before) / event.seconds:.1f}/s")
    details.append(f"{event.bytes_sent / 1e6:.1f} MB sent, {event.bytes_planned / 1e6:.1f} to go")
    return part, details


def line(label: str, part: float | None, details: Sequence[str], width: int, *, ascii: bool) -> str:
    """Return a status line that is no wider than a terminal.

    The bar, the percentage and the first of the details are always there from 60 columns on; of
    the rest there is as much as there is room for.

    Args:
        label: What is worked at; it is cut first.
        part: How much of it is done, 0 to 1; None if nobody knows.
        details: What else there is to say, the most wanted first.
        width: The terminal's columns.
        ascii: Draw the bar with signs that every encoding has.
    """
    dot, full, empty = (" - ", "#", ".") if ascii else (" · ", "━", "╌")
    percent = "" if part is None else f" {int(part * 100):3}%"
    room = width - 1 - (0 if part is None else NARROWEST_BAR + 1) - len(percent)
    text = ""
    for number, one in enumerate(details):
        longer = text + (dot if text else " ") + one
        if number and width_of(longer) > room - min(width_of(label), 12):
            break
        text = longer
    room -= width_of(text)
    label = cut(label, min(max(room, 0), LONGEST_LABEL), "~" if ascii else "…")
    bar = ""
    if part is not None:
        length = min(NARROWEST_BAR + room - width_of(label), WIDEST_BAR)
        filled = int(part * length)
        bar = f" {full * filled}{empty * (length - filled)}"
    return f"{label}{bar}{percent}{text}"


def cut(text: str, width: int, mark: str) -> str:
    """Return the end of a text, in so many columns; a mark stands for what is cut off before."""
    if width_of(text) <= width:
        return text
    while text and width_of(text) > width - 1:
        text = text[1:]
    return mark + text if width > 0 else ""


def duration(seconds: float) -> str:
    """Return a duration as h:mm:ss, without the hours if there are none."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


_Draw = Callable[[], tuple[str, float | None, Sequence[str]]]
_Show = Callable[[_Draw | None, bool], None]


def _display() -> _Show:
    """Return what shows the latest state: its time goes on where nothing else happens."""
    return _redrawing() if at_terminal() else _plain_lines()


def _redrawing() -> _Show:
    latest: _Draw | None = None
    drawn = 0.0

    def show(draw: _Draw | None, at_once: bool) -> None:
        nonlocal latest, drawn
        latest = draw or latest
        now = monotonic()
        if latest is not None and (at_once or now - drawn >= REDRAW_EVERY / 5):
            drawn = now
            text = line(*latest(), columns(), ascii=not says_unicode())
            console.show_status(text if "NO_COLOR" in os.environ else coloured(text))

    return show


def coloured(text: str) -> str:
    """Return a status line with its bar in colour."""
    start, end = text.find("━"), text.rfind("━") + 1
    return text if start < 0 else f"{text[:start]}\x1b[36m{text[start:end]}\x1b[0m{text[end:]}"


def _plain_lines() -> _Show:
    started = monotonic()
    due = 0.0

    def show(draw: _Draw | None, at_once: bool) -> None:
        nonlocal due
        now = monotonic()
        if draw is not None and (at_once or now >= due):
            due = now + max(LINE_EVERY, (now - started) / 20)
            label, part, details = draw()
            percent = "" if part is None else f"{int(part * 100)}% · "
            console.say(f"{label}: {percent}{' · '.join(details)}")

    return show


@contextlib.contextmanager
def _redrawn(show: _Show) -> Generator[None]:
    """Redraw now and then, and leave no status line behind."""

    async def redraw() -> None:
        while True:
            await asyncio.sleep(REDRAW_EVERY)
            show(None, True)

    ticking = asyncio.get_running_loop().create_task(redraw())
    try:
        yield
    finally:
        ticking.cancel()
        console.show_status("")
