"""Results on stdout, everything else on stderr: bars at a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from time import monotonic

import attrs

from memories_async.cli.exits import Exit, exit_for
from memories_async.cli.options import Shared
from memories_async.errors import MemoriesError
from memories_async.models import Progress, Result
from memories_async.progress import Hook, for_rich

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
    def reporting(self, source: str) -> Iterator[None]:
        """Report an error as the result of a source too, where programs read the results."""
        try:
            yield
        except MemoriesError as error:
            if self.json:
                status = "unknown" if exit_for(error) is Exit.UNKNOWN else "failed"
                self.result({"source": source, "status": status, "error": describe(error)}, "")
            raise

    @contextlib.contextmanager
    def upload(self, label: str) -> Iterator[Hook]:
        """Show the bytes of one request while it is sent."""
        label = printable(label)
        if self.quiet:
            yield lambda progress: None
        elif at_terminal():
            with _bar(label) as hook:
                yield hook
        else:
            yield _lines(label)


def describe(error: Exception) -> dict[str, object]:
    """Return an error as it stands in results."""
    code = getattr(error, "code", None)
    return {"type": type(error).__name__, "message": str(error)} | ({"code": code} if code else {})


def row_of(result: Result) -> dict[str, object]:
    """Return the fields of an answer; those that this version does not know only if there are."""
    return attrs.asdict(
        result, filter=lambda field, value: field.name != "attempts" and (field.name, value) != ("extra", {})
    )


def at_terminal() -> bool:
    """Tell whether stderr is a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def _bar(label: str) -> Iterator[Hook]:
    from rich import progress as bars
    from rich.console import Console

    display = bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = display.add_task(label, total=None)
    draw = for_rich(display, task)

    def hook(progress: Progress) -> None:
        draw(progress)
        if progress.fraction == 1.0:
            display.update(task, description=f"{label}: waiting for the answer")

    with display:
        yield hook


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
