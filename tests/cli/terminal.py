"""The command line as a process: with pipes, or at a pseudo-terminal that it controls."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from tests import forks

PATIENCE = 120.0
"""Seconds until a test gives up; nothing waits that long but a failure."""

SENTINEL = b"SENTINEL"
"""What the keys of the tests have in them, and nothing that is shown."""

OPTIONS = ("-W", "error")
MODULE = ("-m", "memories_async.cli")
COMMAND = (sys.executable, *OPTIONS, *MODULE)


def clean_environment(home: Path) -> dict[str, str]:
    """Return variables that keep everything a command writes within a folder."""
    return {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        "TERM": "xterm",
        "COLUMNS": "200",
    }


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the emulator's thread has seen what the process does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Process:
    """A process whose stdout and stderr are pipes."""

    def __init__(self, popen: forks.Started) -> None:
        self._popen = popen
        self.seen = b""

    @classmethod
    def start(
        cls, arguments: Sequence[object], environment: Mapping[str, str], stdin: int | None = None
    ) -> Self:
        """Start the command line; nobody is at its standard input unless one is given."""
        return cls(
            forks.start(
                [*MODULE, *map(str, arguments)],
                options=OPTIONS,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL if stdin is None else stdin,
            )
        )

    def read_until(self, text: str) -> None:
        """Wait until stderr has shown a text."""
        assert self._popen.stderr is not None
        descriptor = self._popen.stderr.fileno()
        self.seen = _read_until(descriptor, text.encode(), self.seen)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._popen.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return exit status, stdout and stderr."""
        out, err = self._popen.communicate(timeout=PATIENCE)
        err = self.seen + err
        assert SENTINEL not in out + err
        return self._popen.wait(), out.decode(), err.decode()

    def close(self) -> None:
        """Leave nothing behind."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.communicate()


class Terminal:
    """A process at a pseudo-terminal: what it shows is read, and keys can be typed."""

    def __init__(self, popen: forks.Started, descriptor: int) -> None:
        self._popen = popen
        self._descriptor = descriptor
        self._seen = b""

    @classmethod
    def start(
        cls, arguments: Sequence[object], environment: Mapping[str, str], columns: int = 0
    ) -> Self:
        """Start the command line at a terminal of its own, so many columns wide."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        try:
            # Ctrl-C reaches a process only through the terminal that controls it.
            popen = forks.start(
                [*MODULE, *map(str, arguments)],
                options=OPTIONS,
                env={**os.environ, **environment},
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                controlled=True,
            )
        finally:
            os.close(theirs)
        return cls(popen, ours)

    @property
    def shown(self) -> str:
        """All that has been shown."""
        return self._seen.decode()

    def read_until(self, text: str) -> None:
        """Wait until the terminal has shown a text."""
        self._seen = _read_until(self._descriptor, text.encode(), self._seen)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._popen.send_signal(number)

    def type(self, keys: str) -> None:
        """Type; ``\\x03`` is Ctrl-C."""
        os.write(self._descriptor, keys.encode())

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit status and all that was shown."""
        self._seen = _read_until(self._descriptor, None, self._seen)
        assert SENTINEL not in self._seen
        return self._popen.wait(PATIENCE), self.shown

    def close(self) -> None:
        """Leave nothing behind."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.communicate()
        os.close(self._descriptor)


def _read_until(descriptor: int, text: bytes | None, seen: bytes) -> bytes:
    deadline = time.monotonic() + PATIENCE
    while text is None or text not in seen:
        ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"{text!r} was not shown: {seen.decode(errors='replace')}"
        try:
            read = os.read(descriptor, 65536)
        except OSError:  # a terminal that nobody has open any more
            read = b""
        if not read:
            assert text is None, f"{text!r} was not shown: {seen.decode(errors='replace')}"
            break
        seen += read
    return seen
