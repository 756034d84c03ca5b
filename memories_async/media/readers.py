"""What a multipart part is read from: checked once, opened afresh for every attempt."""

from __future__ import annotations

import io
import os
import threading
import weakref
from collections.abc import AsyncIterable, Callable, MutableMapping
from typing import BinaryIO, Protocol

import attrs

from memories_async.errors import ConfigurationError, MediaChanged, MediaError

OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

COLD_READ = 1024 * 1024
"""One read in a worker thread: the hop costs as much as copying 256 KiB, so it must bring more."""

EARLY_READ = 256 * 1024
"""A file up to this size is read when it is checked: another hop to a thread would cost its call
half as much CPU again."""

# Returns what the page cache holds and never waits for the disk (Linux 4.14); elsewhere every
# read takes the way through a worker thread.
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None) if hasattr(os, "preadv") else None


class Reader(Protocol):
    """One pass over a source. Only ``fill`` may be called on the event loop."""

    def fill(self, view: memoryview) -> int | None:
        """Copy what is at hand into ``view`` without blocking; None where that takes a read."""
        ...

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most ``size``; none only at the end."""
        ...

    def verify(self) -> None:
        """Raise MediaChanged if the source is no longer what was checked."""
        ...

    def close(self) -> None:
        """Close what this reader opened, and nothing that the caller opened."""
        ...


@attrs.frozen
class Attachment:
    """A checked source: the content of one multipart part.

    Attributes:
        name: File name to send: bare, without control characters.
        content_type: MIME type to send.
        size: Bytes from where the source stands to its end; None if that cannot be known.
        label: How messages name the source.
        content: The bytes themselves, where the source is bytes.
        open: Starts a pass from the beginning; blocks.
        stream: The async iterable, where the source is one.
        replayable: Whether a second pass is possible.
        early: All bytes of a small file, read when it was checked; for the first attempt.
    """

    name: str
    content_type: str
    size: int | None
    label: str
    content: bytes | None = attrs.field(default=None, repr=False)
    open: Callable[[], Reader] | None = attrs.field(default=None, repr=False)
    stream: AsyncIterable[bytes] | None = attrs.field(default=None, repr=False)
    replayable: bool = True
    early: bytes | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Fingerprint:
    """What tells that a file is still the one that was checked."""

    size: int
    modified: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """Take the fingerprint from a stat result."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


@attrs.define
class FileReader:
    """A pass over a regular file through its descriptor, whose own position it never moves."""

    descriptor: int
    position: int
    seen: Fingerprint
    label: str
    path: str | None = None
    """Where the file was opened from; None for the caller's own descriptor, never closed here."""

    @classmethod
    def at_path(cls, path: str, seen: Fingerprint, label: str) -> FileReader:
        """Open the file at a path, which must still be the one that was checked."""
        try:
            descriptor = os.open(path, OPEN_FLAGS)
        except OSError as error:
            raise MediaChanged(f"{label} is gone: {error.strerror}") from None
        reader = cls(descriptor, 0, seen, label, path)
        try:
            reader.verify()
        except MediaChanged:
            reader.close()
            raise
        return reader

    def fill(self, view: memoryview) -> int | None:
        """Copy what the page cache holds into ``view``."""
        if _NOWAIT is None:
            return None
        try:
            count = os.preadv(self.descriptor, [view], self.position, _NOWAIT)
        except OSError:  # not cached (EAGAIN), or this file system cannot say (EOPNOTSUPP)
            return None
        self.position += count
        return count

    def read(self, size: int) -> bytes:
        """Read from the disk."""
        data = pread(self.descriptor, size, self.position)
        self.position += len(data)
        return data

    def verify(self) -> None:
        """Compare the open file, and what now lies at its path, with what was checked."""
        try:
            now = {Fingerprint.of(os.fstat(self.descriptor))}
            if self.path is not None:
                now.add(Fingerprint.of(os.stat(self.path)))
        except OSError as error:
            raise MediaChanged(f"{self.label} is gone: {error.strerror}") from None
        if now != {self.seen}:
            raise MediaChanged(f"{self.label} changed while it was being sent")

    def close(self) -> None:
        """Close the descriptor if it was opened here."""
        if self.path is not None and self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


@attrs.define
class ObjectReader:
    """A pass over a seekable file object that has no file of its own; its position is put back."""

    file: BinaryIO
    position: int
    end: int
    label: str

    def fill(self, view: memoryview) -> int | None:
        """Copy from memory, where the object is memory."""
        if type(self.file) is not io.BytesIO or self.file.closed:  # a subclass may do anything
            return None
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int) -> bytes:
        """Seek, read and seek back, alone with the object."""
        data = read_object(self.file, min(size, self.end - self.position), self.position)
        self.position += len(data)
        return data

    def verify(self) -> None:
        """Check that the object still ends where it did."""
        with lock_of(self.file):
            here = self.file.tell()
            end = self.file.seek(0, os.SEEK_END)
            self.file.seek(here)
        if end != self.end:
            raise MediaChanged(f"{self.label} changed while it was being sent")

    def close(self) -> None:
        """Leave the caller's object open."""


@attrs.define
class PipeReader:
    """The only pass over a file object that cannot seek, with what was read of it to check it."""

    head: bytes
    file: BinaryIO

    def fill(self, view: memoryview) -> int | None:
        """Always block: nothing is known of a pipe."""
        return None

    def read(self, size: int) -> bytes:
        """Return the checked bytes first."""
        if self.head:
            data, self.head = self.head[:size], self.head[size:]
            return data
        return self.file.read(size)

    def verify(self) -> None:
        """Accept: a pipe has nothing to compare."""

    def close(self) -> None:
        """Leave the caller's object open."""


def whole(attachment: Attachment) -> bytes:
    """Read all of a source of known or unknown size in one go, and check it; blocks."""
    assert attachment.open is not None
    reader = attachment.open()
    try:
        parts: list[bytes] = []
        left = attachment.size
        while left != 0 and (data := reader.read(COLD_READ if left is None else left)):
            parts.append(data)
            left = None if left is None else left - len(data)
        if left:
            raise MediaChanged(f"{attachment.label} became shorter while it was being sent")
        reader.verify()
        return parts[0] if len(parts) == 1 else b"".join(parts)
    except (OSError, ValueError) as error:
        raise unreadable(attachment.label, error) from None
    finally:
        reader.close()


def read_all(attachment: Attachment) -> bytes:
    """Return all bytes of a checked source that is no stream; blocks on file I/O."""
    if attachment.content is not None:
        return attachment.content
    if attachment.open is None:
        raise ConfigurationError(f"{attachment.label}: an async stream cannot be sent as base64")
    return whole(attachment)


def unreadable(label: str, error: OSError | ValueError) -> MediaError:
    """Say why a source could not be read; a file object closed meanwhile is a ValueError."""
    return MediaError(f"{label} cannot be read: {getattr(error, 'strerror', None) or error}")


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


def read_object(file: BinaryIO, size: int, position: int) -> bytes:
    """Read at a position of a seekable object and put its own position back."""
    with lock_of(file):
        here = file.tell()
        file.seek(position)
        try:
            return file.read(size)
        finally:
            file.seek(here)


_NO_PREAD = threading.Lock()
_ANY_OBJECT = threading.Lock()
_OBJECT_LOCKS: MutableMapping[object, threading.Lock] = weakref.WeakKeyDictionary()


def lock_of(file: BinaryIO) -> threading.Lock:
    """Return the lock under which an object's position may be moved: one per object."""
    try:
        return _OBJECT_LOCKS.setdefault(file, threading.Lock())
    except TypeError:  # neither hashable nor weakly referable
        return _ANY_OBJECT
