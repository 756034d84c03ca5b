"""Results on stdout, for people or for programs; everything else on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import attrs

from memories_async._folders import state_folder
from memories_async.cli.exit_codes import Exit, exit_for
from memories_async.cli.options import Shared
from memories_async.cli.terminal import progress
from memories_async.cli.terminal.console import StdoutLost, console, in_thread, on_a_line, printable
from memories_async.cli.terms import in_options
from memories_async.errors import ApiError, MemoriesError
from memories_async.models import Result
from memories_async.progress import Hook

if TYPE_CHECKING:
    from memories_async.bulk import Event

WAITING_ROWS = 200
"""Rows that wait for a reader that is slow; a job's others are read from its journal later."""


class Printer:
    """Prints rows from a thread of its own: a reader that is slow or gone holds up nothing else.

    Attributes:
        lost: Why rows can no longer be printed.
    """

    def __init__(self, on_lost: Callable[[], object]) -> None:
        self.lost: StdoutLost | None = None
        self._on_lost = on_lost
        self._rows: asyncio.Queue[str] = asyncio.Queue(WAITING_ROWS)

    def offer(self, row: str) -> bool:
        """Print a row soon, or say that too many wait already."""
        with contextlib.suppress(asyncio.QueueFull):
            self._rows.put_nowait(row)
            return True
        return False

    async def put(self, row: str) -> None:
        """Print a row, once there is room for it.

        Raises:
            StdoutLost: There never will be.
        """
        await self._rows.put(row)
        if self.lost:
            raise self.lost

    async def finish(self) -> None:
        """Wait until all rows are printed.

        Raises:
            StdoutLost: They cannot be.
        """
        await self._rows.join()
        if self.lost:
            raise self.lost

    async def print_all(self) -> None:
        """Print what comes, until cancelled."""
        while True:
            rows = [await self._rows.get()]
            while not self._rows.empty():
                rows.append(self._rows.get_nowait())
            if self.lost is None:
                try:
                    await in_thread(functools.partial(console.print, "\n".join(rows)))
                except StdoutLost as error:
                    self.lost = error
                    self._on_lost()
            for _ in rows:
                self._rows.task_done()


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

    def line(self, row: Mapping[str, object], text: str) -> str:
        """Return one result as it is printed: the row for programs, or the text for people."""
        # JSON is escaped to ASCII: whole in every locale, and nothing in it can steer a terminal.
        return json.dumps(row, default=str) if self.json else printable(text)

    def result(self, row: Mapping[str, object], text: str) -> None:
        """Print one result.

        Raises:
            StdoutLost: It cannot be printed.
        """
        console.print(self.line(row, text))

    def paid(self, *results: tuple[Mapping[str, object], str]) -> None:
        """Print the results of a call that cost money; where that fails, keep them in a file.

        Args:
            results: Each as a row for programs and a text for people.

        Raises:
            StdoutLost: They cannot be printed; where they are kept is said.
        """
        try:
            for row, text in results:
                self.result(row, text)
        except StdoutLost as error:
            path = str(state_folder() / "unprinted.jsonl")
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with open(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
                file.writelines(f"{json.dumps(row, default=str)}\n" for row, _ in results)
            console.say(f"{error}; what was paid for is kept in {path}")
            raise

    @contextlib.asynccontextmanager
    async def rows(self, on_lost: Callable[[], object] = lambda: None) -> AsyncGenerator[Printer]:
        """Print many rows; leaving without an error waits until all are printed.

        Args:
            on_lost: Called when rows can no longer be printed.

        Raises:
            StdoutLost: They cannot be printed.
        """
        printer = Printer(on_lost)
        printing = asyncio.create_task(printer.print_all())
        try:
            try:
                yield printer
            except Exception:
                with contextlib.suppress(StdoutLost):
                    await printer.finish()
                raise
            await printer.finish()
        finally:
            printing.cancel()

    def note(self, message: str) -> None:
        """Print one line for people, unless they asked for quiet."""
        if not self.quiet:
            console.say(message)

    @contextlib.contextmanager
    def reporting(self, source: str) -> Generator[None]:
        """Report an error as the result of a source too, where programs read the results."""
        try:
            yield
        except MemoriesError as error:
            if self.json:
                status = "unknown" if exit_for(error) is Exit.UNKNOWN else "failed"
                row = {"source": source, "status": status, "error": in_options(str(error))}
                with contextlib.suppress(StdoutLost):  # what went wrong is said on stderr too
                    self.result(row | {"details": details(error)}, "")
            raise

    def upload(self, label: str) -> AbstractContextManager[Hook]:
        """Show the bytes of one request while it is sent."""
        return nullcontext(lambda _: None) if self.quiet else progress.upload(on_a_line(label))

    def download(self, label: str) -> AbstractContextManager[Hook]:
        """Show the bytes of one file while it is received."""
        return nullcontext(lambda _: None) if self.quiet else progress.download(on_a_line(label))

    def job(self, name: str) -> AbstractContextManager[Callable[[Event], object]]:
        """Show a job at work."""
        return nullcontext(lambda _: None) if self.quiet else progress.job(on_a_line(name))


def details(error: MemoriesError) -> dict[str, object]:
    """Return what programs want to know of an error."""
    kind: dict[str, object] = {"type": type(error).__name__}
    if isinstance(error, ApiError):
        kind |= {"code": error.code, "status": error.status}
    return kind


def extra(result: Result) -> dict[str, object]:
    """Return the fields of an answer that this version does not know, if there are any."""
    return {"answer_extra": dict(result.extra)} if result.extra else {}
