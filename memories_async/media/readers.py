"""What a multipart part is read from: checked once, opened afresh for every attempt."""

from __future__ import annotations

import errno
import io
import os
import select
import threading
from collections.abc import AsyncIterable, Callable
from typing import Protocol, cast

import attrs

from memories_async.errors import ConfigurationError, MediaChanged, MediaError, MediaTooLarge
from memories_async.media.file_objects import (
    SharedFile,
    as_bytes,
    end_of,
    plain_file,
    pread,
    seek,
    unreadable,
)
from memories_async.media.rules import MEBIBYTE, MediaRule, readable_size
from memories_async.media.source import Readable

OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

POLL_MILLISECONDS = 100
"""Milliseconds between two looks of a thread that waits for a pipe at whether it still should."""

READ_SIZE = 1024 * 1024
"""One read in a worker thread: the hop costs as much as copying 256 KiB, so it must bring more."""

PREFETCH_SIZE = 256 * 1024
"""A file up to this size is read when it is checked: another hop to a thread would cost its call
half as much CPU again."""

MOST_IN_MEMORY = 64 * MEBIBYTE
"""Bytes that are read into memory of a source of unknown size, which may have no end: more than
any picture has. They are there several times over until they are sent as base64."""

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


@attrs.define(eq=False)
class Prefetched:
    """All bytes of a small file, read when it was checked: there until they are sent."""

    content: bytes | None = attrs.field(repr=False)

    def take(self) -> bytes | None:
        """Return the bytes, and hold them no longer; None where they have been taken."""
        content, self.content = self.content, None
        return content


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
        waits: Whether reading it may wait for more than a disk: for another process, for a peer,
            for whatever a caller's own object does. It then gets a thread of its own.
        prefetched: The content of a small file, for the first attempt.
        rule: What the endpoint takes, where the size is still to be seen.
    """

    name: str
    content_type: str
    size: int | None
    label: str
    content: bytes | None = attrs.field(default=None, repr=False)
    open: Callable[[], Reader] | None = attrs.field(default=None, repr=False)
    stream: AsyncIterable[bytes] | None = attrs.field(default=None, repr=False)
    replayable: bool = True
    waits: bool = False
    prefetched: Prefetched | None = attrs.field(default=None, repr=False)
    rule: MediaRule | None = attrs.field(default=None, repr=False)

    def check_size(self, count: int) -> None:
        """Refuse to go on with a source of unknown size once more has come than may be sent.

        Raises:
            MediaTooLarge: So it is.
        """
        if self.rule is not None:
            self.rule.check_size(self.label, count, known=False)


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
            raise _missing_or_unreadable(label, error) from None
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
            raise _missing_or_unreadable(self.label, error) from None
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

    file: Readable
    start: int
    end: int
    label: str
    position: int = attrs.field(init=False)
    _shared: SharedFile | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.position = self.start
        self._shared = SharedFile.of(self.file)
        self._shared.begin(self.start)

    def fill(self, view: memoryview) -> int | None:
        """Copy from memory, where the object is memory."""
        if type(self.file) is not io.BytesIO or self.file.closed:  # a subclass may do anything
            return None
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int) -> bytes:
        """Read where this pass stands, alone with the object."""
        assert self._shared is not None
        with self._shared.lock:
            # Elsewhere only at the start, and where two calls send one object. Seeking back and
            # forth for each read would make a compressed file unpack itself from its start.
            seek(self.file, self.position, self.label)
            size = min(size, self.end - self.position)
            data = as_bytes(self.file.read(size), self.label)[:size]
        self.position += len(data)
        return data

    def verify(self) -> None:
        """Check that the object still ends where it did."""
        assert self._shared is not None
        with self._shared.lock:
            end = end_of(self.file, self.label)
        if end != self.end:
            raise MediaChanged(f"{self.label} changed while it was being sent")

    def close(self) -> None:
        """Put the object's position back after the last pass over it, and leave it open."""
        shared, self._shared = self._shared, None  # closed once
        if shared is None:
            return
        try:
            with shared.lock:
                shared.passes -= 1
                if not shared.passes:
                    seek(self.file, shared.home, self.label)
        finally:
            shared.leave(self.file)


@attrs.define
class PipeReader:
    """The only pass over a file object that cannot seek; what is looked at first is not lost."""

    file: Readable
    label: str
    size: int | None = None
    """How many bytes it must yield; None for as many as come."""
    abandoned: threading.Event = attrs.field(factory=threading.Event)
    """Set when nobody waits for its bytes any more."""
    _ahead: bytes = b""
    _buffered: bool = True

    def peek(self, size: int) -> bytes:
        """Return the first bytes, fewer only at the end, and keep them for the pass."""
        while len(self._ahead) < size and (data := self._next(size)):
            self._ahead += data
        return self._ahead[:size]

    def fill(self, view: memoryview) -> int | None:
        """Always block: nothing is known of a pipe."""
        return None

    def read(self, size: int) -> bytes:
        """Return what was looked at first, then what comes."""
        self._ahead = self._ahead or self._next(size)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def _next(self, size: int) -> bytes:
        raw = plain_file(self.file) if hasattr(select, "poll") else None
        if raw is None:
            return as_bytes(self.file.read(size), self.label)
        # Read beneath its buffer, once that is empty: a thread that waits within a buffered
        # reader would keep its caller from closing it.
        if self._buffered and raw is not self.file:
            self._wait(raw)
            data = cast("io.BufferedReader", self.file).read1(READ_SIZE)
            self._buffered = len(data) == READ_SIZE
            if data:
                return data
        while True:
            self._wait(raw)
            if (some := raw.read(size)) is not None:  # None: somebody else was faster
                return some

    def _wait(self, raw: io.FileIO) -> None:
        """Wait until there is something to read or the end, looking up now and then."""
        polling = select.poll()
        polling.register(raw.fileno(), select.POLLIN)
        while not polling.poll(POLL_MILLISECONDS):
            if self.abandoned.is_set():
                raise MediaError(f"{self.label} is no longer waited for")
            if raw.closed:
                raise MediaError(f"{self.label} was closed while it was being sent")

    def verify(self) -> None:
        """Check that it ends where it was said to end."""
        if self.size is not None and self.read(1):
            raise MediaChanged(
                f"{self.label} yields more than the {self.size} bytes it was said to"
            )

    def close(self) -> None:
        """Let a thread that still waits go; leave the caller's object open."""
        self.abandoned.set()


def whole(attachment: Attachment) -> bytes:
    """Read all of a source of known or unknown size in one go, and check it; blocks."""
    assert attachment.open is not None
    reader = attachment.open()
    try:
        parts: list[bytes] = []
        left, count = attachment.size, 0
        while left != 0 and (data := reader.read(READ_SIZE if left is None else left)):
            parts.append(data)
            count += len(data)
            if left is None:
                _check_memory(attachment, count)
            else:
                left -= len(data)
        if left:
            raise MediaChanged(f"{attachment.label} became shorter while it was being sent")
        reader.verify()
        return parts[0] if len(parts) == 1 else b"".join(parts)
    except MediaError:
        raise
    except Exception as error:  # a caller's object may raise anything
        raise unreadable(attachment.label, error) from error
    finally:
        reader.close()


def _check_memory(attachment: Attachment, count: int) -> None:
    attachment.check_size(count)
    if count > MOST_IN_MEMORY:
        raise MediaTooLarge(
            f"{attachment.label} has {count:,} bytes or more; of unknown size, "
            f"{readable_size(MOST_IN_MEMORY)} are the most that is read into memory"
        )


def read_all(attachment: Attachment) -> bytes:
    """Return all bytes of a checked source that is no stream; blocks on file I/O."""
    if attachment.content is not None:
        return attachment.content
    if attachment.open is None:
        raise ConfigurationError(f"{attachment.label}: an async stream cannot be sent as base64")
    return whole(attachment)


def _missing_or_unreadable(label: str, error: OSError) -> MediaError:
    # All else says nothing about the file: too many may be open, or the disk may fail.
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return MediaChanged(f"{label} is gone: {error.strerror}")
    return unreadable(label, error)
