"""Lines of files that others name, as of lists and receipts: what never ends is refused."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO, Final

from memories_async.checks.files import is_open_in_sqlite
from memories_async.errors import ConfigurationError

LONGEST: Final = 1 << 24
"""Bytes that a line may have; without a limit, one of ``/dev/zero`` would fill the memory."""


def lines(path: str) -> Iterator[bytes]:
    """Yield the lines of a file, or of a pipe that this process was started with.

    Raises:
        ConfigurationError: It is a device, or a pipe that is there by name only, which might be
            waited for without end; a file that SQLite has open here; or a line is too long.
        OSError: It cannot be read.
    """
    with _opened(path) as file:
        while line := file.readline(LONGEST + 1):
            if len(line) > LONGEST:
                raise ConfigurationError(f"{path} has a line of more than {LONGEST >> 20} MiB")
            yield line


def _opened(path: str) -> BinaryIO:
    status = os.stat(path)
    if is_open_in_sqlite(status):
        raise ConfigurationError(f"{path} is an SQLite file that this process has open")
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return open(path, "rb")
    if (descriptor := _held(status)) is None:
        raise ConfigurationError(
            f"{path} is no regular file; of pipes, those can be read that the command is started "
            "with: as /dev/stdin, or as the shell's <(...)"
        )
    # Opened by its name, a pipe whose writer has ended would be waited for.
    return open(os.dup(descriptor), "rb")


def _held(status: os.stat_result) -> int | None:
    """Return the descriptor of this process that is the same pipe or device."""
    try:
        numbers = sorted(map(int, os.listdir("/dev/fd")))
    except OSError:
        numbers = [0]
    for number in numbers:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(number), status):
                return number
    return None
