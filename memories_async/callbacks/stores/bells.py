"""Waking the other processes of this host: a named pipe each, beside the file that they share."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading

SECONDS_BETWEEN_LOOKS = 0.25
"""How often to look where there are no named pipes (Windows)."""


class Bell:
    """One process's pipe. A ring says only that something happened: none can be lost.

    Args:
        directory: Where the processes that share a file keep their bells.
    """

    def __init__(self, directory: str) -> None:
        self._silenced = threading.Event()
        self._path: str | None = None
        if hasattr(os, "mkfifo"):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            self._path = os.path.join(directory, f"{os.getpid()}-{secrets.token_hex(4)}")
            os.mkfifo(self._path, mode=0o600)
            # Open for writing as well, so that reading waits even while nobody else has it open.
            self._pipe = os.open(self._path, os.O_RDWR)

    def wait(self) -> bool:
        """Block until it has rung; return False once it is silenced."""
        if self._path is None:
            return not self._silenced.wait(SECONDS_BETWEEN_LOOKS)
        os.read(self._pipe, 1 << 16)  # all rings until now
        return not self._silenced.is_set()

    def silence(self) -> None:
        """Let nobody wait any longer."""
        self._silenced.set()
        if self._path is not None:
            os.write(self._pipe, b"!")
            os.unlink(self._path)

    def close(self) -> None:
        """Close the pipe, when nobody waits."""
        if self._path is not None:
            os.close(self._pipe)


def ring_all(directory: str) -> None:
    """Ring every bell in a directory, and remove those of processes that are no more."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return  # nobody waits
    for name in names:
        path = os.path.join(directory, name)
        try:
            pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        except OSError:  # ENXIO: nobody has it open for reading
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            continue
        try:
            # A pipe that is full has rung already.
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(pipe, b"!")
        finally:
            os.close(pipe)
