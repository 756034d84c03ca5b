"""What is asked of a caller's own file object, and who may move its position."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import threading
from collections.abc import Generator
from typing import cast

import attrs

from memories_async.checks.kinds import shown
from memories_async.errors import MediaError

_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)


def unreadable(label: str, error: Exception) -> MediaError:
    """Say why a source could not be read; a file object closed meanwhile is a ValueError."""
    if isinstance(error, OSError | ValueError):
        reason = str(getattr(error, "strerror", None) or error)
    else:
        reason = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in _TOO_MANY_FILES:
        reason += "; make fewer calls at once, or raise the limit (ulimit -n)"
    return MediaError(f"{label} cannot be read: {reason}")


def as_bytes(data: object, label: str) -> bytes:
    """Return what a source gave as bytes.

    Raises:
        MediaError: It is something else. None above all is not the end: a non-blocking file has
            nothing yet.
    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(cast("bytearray | memoryview[int]", data))
    if data is None:
        raise MediaError(
            f"{label} gave None instead of bytes, as a non-blocking file does while it has none: "
            "open it so that reading waits"
        )
    if isinstance(data, str):
        raise MediaError(f"{label} gives text: open it in binary mode, with 'rb'")
    raise MediaError(f"{label} gave {type(data).__name__} instead of bytes")


def plain_file(file: object) -> io.FileIO | None:
    """Return the open file whose bytes are exactly what an object reads, if there is one.

    Only the standard library's plain files qualify, and none of their subclasses: a GzipFile has
    a descriptor too, and a buffer may lie above anything, but of other bytes. Asking a
    SpooledTemporaryFile for its descriptor would write it to disk.
    """
    if type(file).__module__ == "tempfile":  # a named temporary file wraps a plain one
        file = vars(file).get("file", file)
    if type(file) is io.BufferedReader or type(file) is io.BufferedRandom:
        file = cast("io.BufferedReader", file).raw
    return file if type(file) is io.FileIO else None


def pread(descriptor: int, size: int, position: int) -> bytes:
    """Read at a position without moving the descriptor's own, where the system can."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, position)
    with _NO_PREAD:
        here = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, position, os.SEEK_SET)
        try:
            return os.read(descriptor, size)
        finally:
            os.lseek(descriptor, here, os.SEEK_SET)


def tell(file: object, label: str) -> int:
    """Return where a caller's object stands; what ``seek`` returns is often None."""
    return position(file.tell(), label)  # type: ignore[attr-defined]  # asked only of what seeks


def position(offset: object, label: str) -> int:
    """Return what ``tell`` gave, if that is a position."""
    if not isinstance(offset, int) or offset < 0:
        raise MediaError(f"{label}: its tell() gave {shown(offset)}, which is no position")
    return offset


def seek(file: object, position: int, label: str) -> None:
    """Move a caller's object to a position, if it stands elsewhere."""
    if tell(file, label) != position:
        file.seek(position)  # type: ignore[attr-defined]  # asked only of what seeks
        if (now := tell(file, label)) != position:
            raise MediaError(f"{label}: its seek({position}) led to {now}")


def end_of(file: object, label: str) -> int:
    """Return where a caller's object ends, and put its position back."""
    here = tell(file, label)
    file.seek(0, os.SEEK_END)  # type: ignore[attr-defined]  # asked only of what seeks
    end = tell(file, label)
    seek(file, here, label)
    return end


_NO_PREAD = threading.Lock()


@attrs.define(eq=False)
class SharedFile:
    """What the calls that send one file object at the same time must know of each other.

    Attributes:
        lock: Held while its position is moved.
        passes: How many read it now; its own position means nothing until they are through.
        home: Where it stood before the first of them, and stands again after the last.
    """

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    passes: int = 0
    home: int = 0
    _users: int = 0

    @classmethod
    def of(cls, file: object) -> SharedFile:
        """Return the one of a file object, until ``leave``."""
        with _SHARING:  # by identity: an object may be neither hashable nor weakly referable
            shared = _SHARED.setdefault(id(file), cls())
            shared._users += 1
            return shared

    def leave(self, file: object) -> None:
        """Forget the file object once nobody uses it."""
        with _SHARING:
            self._users -= 1
            if not self._users:
                del _SHARED[id(file)]

    def begin(self, start: int) -> None:
        """Note that one more pass begins."""
        with self.lock:
            if not self.passes:
                self.home = start
            self.passes += 1


_SHARING = threading.Lock()
_SHARED: dict[int, SharedFile] = {}


@contextlib.contextmanager
def alone_with(file: object) -> Generator[SharedFile, None, None]:
    """Hold a file object's lock, so that its position may be moved."""
    shared = SharedFile.of(file)
    try:
        with shared.lock:
            yield shared
    finally:
        shared.leave(file)
