"""Results on stdout, for people or for programs; everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import attrs

from memories_async.cli import progress
from memories_async.cli.exit_codes import Exit, exit_for
from memories_async.cli.options import Shared
from memories_async.errors import ApiError, MemoriesError
from memories_async.models import Result
from memories_async.progress import Hook

if TYPE_CHECKING:
    from memories_async.bulk import Event

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

    def upload(self, label: str) -> AbstractContextManager[Hook]:
        """Show the bytes of one request while it is sent."""
        shown = printable(label)
        return nullcontext(lambda _: None) if self.quiet else progress.upload(shown, say)

    def job(self, name: str) -> AbstractContextManager[Callable[[Event], object]]:
        """Show a job at work."""
        shown = printable(name)
        return nullcontext(lambda _: None) if self.quiet else progress.job(shown, say)


def details(error: MemoriesError) -> dict[str, object]:
    """Return what programs want to know of an error."""
    kind: dict[str, object] = {"type": type(error).__name__}
    if isinstance(error, ApiError):
        kind |= {"code": error.code, "status": error.status}
    return kind


def extra(result: Result) -> dict[str, object]:
    """Return the fields of an answer that this version does not know, if there are any."""
    return {"answer_extra": dict(result.extra)} if result.extra else {}
