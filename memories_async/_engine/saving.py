"""Writes a downloaded file beside its destination, and puts it in place once it is whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

from memories_async._engine.writer import Share, Transfer
from memories_async.errors import MediaError

_FLAGS = (
    (os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
)


async def save(
    chunks: AsyncIterator[bytes], destination: str, transfer: Transfer, share: Share
) -> int:
    """Write chunks to ``destination + ".part"``, then rename; returns the size.

    The destination appears only when the file is whole; what was there before stays until then.

    Raises:
        MediaError: The file cannot be written.
    """
    part = f"{destination}.part"
    try:
        descriptor = await share.run(lambda: os.open(part, _FLAGS, 0o666))
    except OSError as error:
        raise MediaError(f"{part} cannot be written: {error.strerror}") from None
    size = 0
    try:
        try:
            async for chunk in chunks:
                await _write(share, descriptor, chunk, part)
                size += len(chunk)
                transfer.accepted(len(chunk))
        finally:
            os.close(descriptor)
        os.replace(part, destination)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    return size


async def _write(share: Share, descriptor: int, data: bytes, label: str) -> None:
    def write_all() -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    try:
        await share.run(write_all)
    except OSError as error:
        raise MediaError(f"{label} cannot be written: {error.strerror}") from None
