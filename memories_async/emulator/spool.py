"""Files on their way in: to disk as they arrive, hashed on the way, under names of our own."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from anyio import CapacityLimiter, to_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Sequence

PIECE_SIZE = 1 << 20
"""Bytes that are gathered before they are written: the memory that an upload costs."""


@attrs.frozen
class SpooledFile:
    """A file on disk, with what the client said about it; its own name is never a path."""

    part: str
    name: str
    content_type: str
    size: int
    sha256: str
    path: Path


class Spool:
    """The files of one request.

    Args:
        folder: Where they go.
        disk_threads: Bounds the threads that all spools write with.
    """

    def __init__(self, folder: Path, disk_threads: CapacityLimiter) -> None:
        self._folder = folder
        self._disk_threads = disk_threads
        self._paths: list[Path] = []

    async def save(
        self, pieces: AsyncIterable[bytes], *, part: str, name: str, content_type: str
    ) -> SpooledFile:
        """Write the pieces as they come; memory stays at about one piece."""
        path = self._folder / secrets.token_hex(16)
        self._paths.append(path)
        digest = hashlib.sha256()
        size = 0
        gathered: list[bytes] = []
        gathered_size = 0
        async for piece in pieces:
            gathered.append(piece)
            gathered_size += len(piece)
            if gathered_size >= PIECE_SIZE:
                await to_thread.run_sync(
                    _append, path, gathered, digest.update, limiter=self._disk_threads
                )
                size += gathered_size
                gathered, gathered_size = [], 0
        await to_thread.run_sync(_append, path, gathered, digest.update, limiter=self._disk_threads)
        size += gathered_size
        return SpooledFile(part, name, content_type, size, digest.hexdigest(), path)

    async def discard(self) -> None:
        """Delete what was not moved away; harmless when called again."""
        if self._paths:
            paths, self._paths = self._paths, []
            await to_thread.run_sync(_delete, paths, limiter=self._disk_threads)


def _append(path: Path, pieces: Sequence[bytes], update: Callable[[bytes], object]) -> None:
    # Opened anew for each megabyte, so that no handle outlives a cancelled request.
    with path.open("ab") as file:
        for piece in pieces:
            file.write(piece)
            update(piece)


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
