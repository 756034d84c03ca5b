"""Writes a downloaded file beside its destination, and puts it in place once it is whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any

from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.writer import Transfer
from memories_async.errors import MediaError
from memories_async.media.readers import COLD_READ

_FLAGS = (
    (os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
)


def check(destination: str) -> None:
    """Refuse a destination that cannot be written, before anything is asked for; blocks.

    Raises:
        MediaError: It is a directory, or lies in none that can be written to.
    """
    folder = os.path.dirname(destination) or os.curdir
    if os.path.isdir(destination):
        raise MediaError(f"{destination} is a directory")
    if not os.path.isdir(folder):
        raise MediaError(f"{destination} cannot be written: {folder} is no directory")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MediaError(f"{destination} cannot be written: no permission for {folder}")


async def save(
    chunks: AsyncIterator[bytes], destination: str, transfer: Transfer, budget: UploadBudget
) -> int:
    """Write chunks to ``destination + ".part"``, then rename; returns the size.

    The destination appears only when the file is whole; what was there before stays until then.

    Raises:
        MediaError: The file cannot be written.
    """
    part = _Part(destination, budget)
    gathered, size = bytearray(), 0
    budget.active += 1
    try:
        await part.hop(part.open)
        async for chunk in chunks:
            gathered += chunk
            size += len(chunk)
            if len(gathered) >= budget.portion(COLD_READ):
                await part.write(gathered)
                gathered = bytearray()
            transfer.accepted(len(chunk))
        await part.write(gathered)
        await part.hop(part.finish)
    except BaseException:
        part.abandon()
        raise
    finally:
        budget.active -= 1
    return size


class _Part:
    """The file beside the destination, its blocking calls made in worker threads."""

    def __init__(self, destination: str, budget: UploadBudget) -> None:
        self._destination = destination
        self._path = f"{destination}.part"
        self._budget = budget
        self._descriptor: int | None = None
        self._made = False
        self._pending: Future[Any] | None = None

    async def hop(self, function: Callable[[], object]) -> None:
        """Do something in a worker thread."""
        self._pending = pending = self._budget.readers.submit(function)
        try:
            await asyncio.wrap_future(pending)
        except OSError as error:
            raise MediaError(f"{self._path} cannot be written: {error.strerror}") from None
        self._pending = None

    def open(self) -> None:
        """Make the file; blocks."""
        self._descriptor = os.open(self._path, _FLAGS, 0o666)
        self._made = True

    async def write(self, data: bytearray) -> None:
        """Write all of the data, in a worker thread."""
        await self.hop(lambda: self._write(data))

    def _write(self, data: bytearray) -> None:
        assert self._descriptor is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def finish(self) -> None:
        """Close the file and put it in place; blocks."""
        self._close()
        os.replace(self._path, self._destination)

    def abandon(self) -> None:
        """Close the file and remove it."""
        if self._pending is not None:
            # Cancelled while a thread still writes: closing now would hand it another file's
            # descriptor, so the thread closes when it comes back.
            self._pending.add_done_callback(lambda _: self._discard())
        else:
            self._discard()

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            self._close()
        if self._made:  # what was not opened here is not removed here
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None  # never closed twice
        if descriptor is not None:
            os.close(descriptor)
