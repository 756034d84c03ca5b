"""A downloaded file on its way: written beside its destination, put in place once it is whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import stat
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any

from multidict import MultiMapping

from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.writer import Transfer
from memories_async._engine.transport.packed import packing_of
from memories_async.checks.files import is_open_in_sqlite
from memories_async.errors import MediaError
from memories_async.media.names import clipped
from memories_async.media.readers import READ_SIZE

if os.name == "posix":
    import fcntl

_FLAGS = (
    (os.O_WRONLY | os.O_CREAT)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe that nobody reads is an error, not a wait without end
)
_UNTIL_WHOLE = ".part"
_LONGEST_PATH = 4096
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


def check(destination: str) -> None:
    """Refuse a destination that cannot be written, before anything is asked for; blocks.

    Raises:
        MediaError: It, or the file beside it that is written first, is something else than a file,
            or lies in no directory that a file can be added to, which is tried.
    """
    if "\0" in destination:
        raise MediaError(f"{destination!r} cannot be written: no file's name has a NUL character")
    if len(destination) > _LONGEST_PATH:  # as each system would say, with all of it
        raise MediaError(f"{clipped(destination)} cannot be written: the path is too long")
    folder = os.path.dirname(destination) or os.curdir
    if os.path.isdir(destination):
        raise MediaError(f"{destination} is a directory")
    if not os.path.isdir(folder):
        raise MediaError(f"{destination} cannot be written: {folder} is no directory")
    # What is found out only with the answer at hand has been paid for.
    if os.path.exists(destination):
        if not os.path.isfile(destination):
            raise MediaError(f"{destination} is no regular file, and would be replaced by one")
        if is_open_in_sqlite(os.stat(destination)):
            raise MediaError(f"{destination} is an SQLite file that this process has open")
    path = f"{destination}{_UNTIL_WHOLE}"
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:  # such as a name that is too long
        raise MediaError(f"{path} cannot be written: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise MediaError(f"{path} cannot be written: it is no regular file")
    # Permissions do not say all: nobody may add a file to /proc, or to a read-only medium. Under a
    # name of its own, as another download may be about to write to this one.
    trial = os.path.join(folder, f".{secrets.token_hex(8)}{_UNTIL_WHOLE}")
    try:
        os.close(os.open(trial, _FLAGS | os.O_EXCL, 0o600))
        os.unlink(trial)
    except OSError as error:
        reason = f"nothing can be added to {folder}: {error.strerror}"
        raise MediaError(f"{destination} cannot be written: {reason}") from None


class PartialFile:
    """What has come of a download, kept through all attempts of its call: it has been paid for.

    The destination appears only when the file is whole; what was there before stays until then.

    Args:
        destination: Where the file is to lie.
        budget: What uploads and downloads share.

    Attributes:
        received: Bytes that lie in the file so far.
        came: Bytes that came, those included that a cancelled attempt did not write down.
        total: Bytes of the whole file, where the service says so.
        continuable: Whether the service seems able to send the rest alone.
    """

    def __init__(self, destination: str, budget: UploadBudget) -> None:
        self.destination = destination
        self.received = 0
        self.came = 0
        self.total: int | None = None
        self.continuable = False
        self._validator: str | None = None
        self._packed = False
        self._path = f"{destination}{_UNTIL_WHOLE}"
        self._budget = budget
        self._descriptor: int | None = None
        self._made = False
        self._pending: Future[Any] | None = None

    @property
    def would_be_repeated(self) -> bool:
        """Whether another attempt would send again, and bill, what has come already."""
        return self.received > 0 and not self.continuable

    def headers(self) -> dict[str, str]:
        """Return what asks for the rest alone; nothing before the first byte has come."""
        if not self.received or self._packed:  # ranges would count packed bytes
            return {}
        asked = {"Range": f"bytes={self.received}-"}
        return asked | ({"If-Range": self._validator} if self._validator else {})

    def continued_by(self, status: int, headers: MultiMapping[str]) -> bool:
        """Tell whether an answer goes on where the last one ended, or is the first one.

        Args:
            status: 200 or 206.
            headers: The answer's.
        """
        length = headers.get("Content-Length", "")
        packed = bool(packing_of(headers))  # then lengths and ranges are not the file's own
        if not self.received:
            self._packed = packed
            self.total = int(length) if length.isdecimal() and not packed else None
            tag = headers.get("ETag", "")
            weak = tag.startswith("W/")
            self._validator = tag if tag and not weak else headers.get("Last-Modified")
            ranges = headers.get("Accept-Ranges", "").lower()
            continuable = ranges != "none" and bool(ranges == "bytes" or self._validator)
            self.continuable = continuable and not packed
            return status == 200
        found = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
        continued = (
            status == 206
            and not (packed or self._packed)
            and found is not None
            and int(found[1]) == self.received
            and (self.total is None or found[2] in ("*", str(self.total)))
        )
        self.continuable = self.continuable and continued
        return continued

    def begin_anew(self) -> None:
        """Forget what has come: the caller accepts to pay for it twice."""
        self.received = 0

    async def save(self, chunks: AsyncIterator[bytes], transfer: Transfer) -> None:
        """Append chunks to the file; it is in place, whole, when this returns.

        Args:
            chunks: What comes; should it break off, what came before is kept.
            transfer: Told of each.

        Raises:
            MediaError: The file cannot be written.
        """
        gathered = bytearray()
        self._budget.active += 1
        try:
            await self._in_thread(self._open)
            try:
                async for chunk in chunks:
                    gathered += chunk
                    self.came = self.received + len(gathered)
                    if len(gathered) >= self._budget.chunk_size(READ_SIZE):
                        await self._write(gathered)
                        gathered = bytearray()
                    try:
                        transfer.accepted(len(chunk))
                    except Exception as error:  # the caller's own, not the connection's
                        transfer.failure = error
                        raise
            except Exception:
                if self._pending is None:  # it broke off, and what came is kept
                    await self._write(gathered)
                raise
            await self._write(gathered)
            await self._in_thread(self._put_in_place)
        finally:
            self._budget.active -= 1

    async def _in_thread(self, function: Callable[[], object]) -> None:
        """Do something in a worker thread."""
        self._pending = pending = self._budget.readers.submit(function)
        try:
            await asyncio.wrap_future(pending)
        except OSError as error:
            raise MediaError(f"{self._path} cannot be written: {error.strerror}") from None
        self._pending = None

    async def _write(self, data: bytearray) -> None:
        if not data:
            return
        await self._in_thread(lambda: self._write_all(data))
        self.received += len(data)

    def _open(self) -> None:
        if self._descriptor is None:
            descriptor = os.open(self._path, _FLAGS, 0o666)
            try:
                if os.name == "posix":  # two downloads to one place would write into one another
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise OSError(0, "another download is writing it") from None
            self._descriptor, self._made = descriptor, True
        os.ftruncate(self._descriptor, self.received)
        os.lseek(self._descriptor, self.received, os.SEEK_SET)

    def _write_all(self, data: bytearray) -> None:
        assert self._descriptor is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _put_in_place(self) -> None:
        if os.name != "posix":  # there nothing that is open can be moved
            self._close()
        # Elsewhere before it is closed, and so unlocked: nobody else can have it meanwhile.
        os.replace(self._path, self.destination)
        self._made = False
        self._close()

    def abandon(self) -> None:
        """Close the file, and remove it unless it is in place."""
        if self._pending is not None:
            # Cancelled while a thread still writes: closing now would hand it another file's
            # descriptor, so the thread closes when it comes back.
            self._pending.add_done_callback(lambda _: self._discard())
        else:
            self._discard()

    def _discard(self) -> None:
        if self._made:  # what was not opened here is not removed here
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        with contextlib.suppress(OSError):
            self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None  # never closed twice
        if descriptor is not None:
            os.close(descriptor)
