"""What a command shows: stdout and stderr that lose nothing paid, and one line that is redrawn."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Callable, Generator
from typing import TextIO, TypeVar, cast

from memories_async.cli.exit_codes import Exit

T = TypeVar("T")

# Captions repeat what stands in pictures, and file names come from anywhere: neither may steer
# the terminal, nor look like a line of our own.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


SHORT_KEY = 8


class StdoutLost(OSError):
    """Nobody reads stdout any more, or it cannot be written."""


def printable(text: str) -> str:
    """Return text that a terminal shows and does not obey; its lines stay lines."""
    shown = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    return shown.encode("utf-8", "backslashreplace").decode()


def one_line(text: str) -> str:
    """Return text as one line, so that nothing in it can pass for another line."""
    return printable(" ".join(text.split()))


def on_a_line(name: str) -> str:
    """Return a name, spaces and all, as it can stand in a line."""
    return printable(name).translate({ord(sign): "\N{REPLACEMENT CHARACTER}" for sign in "\t\n"})


def width_of(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    return sum(
        0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in "WF")
        for sign in text
    )


class Console:
    """stdout for results, stderr for people, and a status line where stderr is a terminal."""

    def __init__(self) -> None:
        self._status = ""
        self._secrets: set[str] = set()
        self._writing = threading.Lock()
        # Rows are printed by a thread: a status line drawn between its wiping the one before and
        # its row would stand before the row. A signal may find the same thread within.
        self._terminal = threading.RLock()
        self._alone = False
        self._results: TextIO | None = None

    def prepare(self) -> None:
        """Escape what an encoding cannot say, and keep files from getting a standard number."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        for number in (0, 1, 2):
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one

    def hide(self, secret: str) -> None:
        """Show a key never, whoever repeats it: the last line of defence, not the first."""
        secret = secret.strip()  # as it is sent
        # A key of a few letters, as tests use, is no secret and would take words apart.
        if len(secret) > SHORT_KEY:
            self._secrets |= {secret, json.dumps(secret)[1:-1], secret.replace("/", "\\/")}

    def hidden(self, text: str) -> str:
        """Return text without the keys."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text

    def print(self, text: str) -> None:
        """Print text on stdout at once.

        Raises:
            StdoutLost: It cannot be written.
        """
        stdout = self._results if self._alone else sys.stdout
        with self._around_status(stdout):
            try:
                if stdout is None:
                    raise OSError("it is closed")
                with self._writing:
                    print(self.hidden(text), file=stdout, flush=True)
            except (OSError, ValueError) as error:
                if self._alone:
                    self._results = _abandoned(stdout)
                else:
                    sys.stdout = _abandoned(stdout)
                raise StdoutLost(f"stdout cannot be written: {error}") from error

    @contextlib.contextmanager
    def alone_on_stdout(self) -> Generator[None]:
        """Send what others print on stdout meanwhile, native code too, to stderr.

        Ray does, from threads of its own, when a worker dies: between a row and its line feed.
        """
        stdout = sys.stdout
        if not _is(stdout, 1) or not _is(sys.stderr, 2):
            yield
            return
        stdout.flush()
        descriptor = os.dup(1)
        os.dup2(2, 1)
        encoding, errors = stdout.encoding, stdout.errors
        with open(descriptor, "w", encoding=encoding, errors=errors) as self._results:
            self._alone, sys.stdout = True, sys.stderr
            try:
                yield
            finally:
                os.dup2(descriptor, 1)
                # It is given up where nobody reads it any more.
                sys.stdout = stdout if self._results else _abandoned(stdout)
                self._alone, self._results = False, None

    def give_up(self, error: OSError, status: int = Exit.DONE) -> int:
        """Say why stdout cannot be written, unless its reader has merely gone.

        Args:
            error: What writing ended in.
            status: The exit status that there was; one that tells of a failure has been explained.

        Returns:
            The exit status.
        """
        if not isinstance(error, StdoutLost):
            sys.stdout = _abandoned(sys.stdout)
        if status != Exit.DONE:
            return status
        cause = error.__cause__ or error
        if isinstance(cause, BrokenPipeError):
            return Exit.READER_GONE
        self.say(f"stdout cannot be written: {cause}")
        return Exit.FAILED

    def say(self, message: str) -> None:
        """Print one line for people on stderr; if nobody is there to read it, it is not missed."""
        self.write_error(f"memories-async: {one_line(message)}\n")

    def write_error(self, text: str) -> None:
        """Print text on stderr as it is."""
        with self._around_status(sys.stderr):
            self._to_stderr(self.hidden(text))

    def show_status(self, line: str) -> None:
        """Put a line in the place of the status line before; an empty one ends it."""
        if line == self._status:
            return
        with self._terminal:
            self._status = line
            self._to_stderr(f"\r{line}\x1b[K")

    @property
    def blocked(self) -> bool:
        """Whether stdout's reader takes nothing, so that flushing would wait for ever."""
        return self._writing.locked()

    @contextlib.contextmanager
    def _around_status(self, stream: TextIO | None) -> Generator[None]:
        """Take the status line away while something else is written to the same terminal."""
        if not _is_terminal(stream):
            yield
            return
        with self._terminal:
            if self._status:
                self._to_stderr("\r\x1b[K")
            try:
                yield
            finally:
                self._to_stderr(self._status)

    def _to_stderr(self, text: str) -> None:
        try:
            if sys.stderr is not None and text:
                print(text, end="", file=sys.stderr, flush=True)
        except (OSError, ValueError):
            sys.stderr = _abandoned(sys.stderr)


console = Console()
"""The process's own; there is only one terminal."""


def at_terminal() -> bool:
    """Tell whether stderr is a terminal that can redraw a line."""
    return _is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"


def columns() -> int:
    """Return how many columns stderr's terminal has; 80 where it does not say."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if found := os.get_terminal_size(sys.stderr.fileno()).columns:
            return found
    with contextlib.suppress(KeyError, ValueError):
        return max(int(os.environ["COLUMNS"]), 20)
    return 80


def says_unicode() -> bool:
    """Tell whether stderr can show more than ASCII."""
    return (getattr(sys.stderr, "encoding", None) or "").lower().startswith("utf")


async def in_thread(work: Callable[[], T]) -> T:
    """Do what may block for ever in a thread that the end of the process does not wait for.

    Args:
        work: What to do; cancelling leaves it behind.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(set_it: Callable[[], None]) -> None:
        # The loop is closed where the command has ended meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if done.done() else set_it())

    def run() -> None:
        try:
            value = work()
        except BaseException as error:
            caught = error
            settle(lambda: done.set_exception(caught))
        else:
            settle(lambda: done.set_result(value))

    threading.Thread(target=run, daemon=True).start()
    return await done


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False


def _is(stream: TextIO | None, descriptor: int) -> bool:
    try:
        return stream is not None and stream.fileno() == descriptor
    except (OSError, ValueError):
        return False


def _abandoned(stream: TextIO | None) -> TextIO:
    """Let what a broken stream still holds go nowhere; return what Python has for a closed one.

    The interpreter flushes its streams when it ends, and would exit with 120 if that failed.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, cast("TextIO", stream).fileno())
        os.close(null)
    return cast("TextIO", None)
