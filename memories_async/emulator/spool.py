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


class UploadTooLargeError(Exception):
    """A request brings more than the emulator takes in."""


class Spool:
    """The files of one request.

    Args:
        folder: Where they go.
        disk_threads: Bounds the threads that all spools write with.
        limit: Bytes of all files together.
        most_files: How many files.
    """

    def __init__(
        self, folder: Path, disk_threads: CapacityLimiter, *, limit: int, most_files: int
    ) -> None:
        self._folder = folder
        self._disk_threads = disk_threads
        self._left = limit
        self._most_files = most_files
        self._paths: list[Path] = []

    async def save(
        self,
        pieces: AsyncIterable[bytes],
        *,
        part: str,
        name: str,
        content_type: str,
        keep: int | None = None,
    ) -> SpooledFile:
        """Write the pieces as they come; memory stays at about one piece.

        Args:
            pieces: The content.
            part: The multipart part that it came in.
            name: What the client calls it.
            content_type: What the client says it is.
            keep: Bytes from which on the rest is counted and hashed, but no longer written: a file
                that is too large in any case.

        Raises:
            UploadTooLargeError: There are too many files, or too many bytes in all.
        """
        if len(self._paths) == self._most_files:
            raise UploadTooLargeError(f"more than {self._most_files} files")
        path = self._folder / secrets.token_hex(16)
        self._paths.append(path)
        digest = hashlib.sha256()
        size = 0
        gathered: list[bytes] = []
        gathered_size = 0
        async for piece in pieces:
            self._left -= len(piece)
            if self._left < 0:
                raise UploadTooLargeError("the files are too large together")
            gathered.append(piece)
            gathered_size += len(piece)
            if gathered_size >= PIECE_SIZE:
                await self._append(path, gathered, digest.update, size, keep)
                size += gathered_size
                gathered, gathered_size = [], 0
        await self._append(path, gathered, digest.update, size, keep)
        size += gathered_size
        return SpooledFile(part, name, content_type, size, digest.hexdigest(), path)

    async def _append(
        self,
        path: Path,
        pieces: Sequence[bytes],
        update: Callable[[bytes], object],
        size: int,
        keep: int | None,
    ) -> None:
        kept = keep is None or size <= keep
        await to_thread.run_sync(
            _append, path if kept else None, pieces, update, limiter=self._disk_threads
        )

    async def discard(self) -> None:
        """Delete what was not moved away; harmless when called again."""
        if self._paths:
            paths, self._paths = self._paths, []
            await to_thread.run_sync(_delete, paths, limiter=self._disk_threads)


def _append(path: Path | None, pieces: Sequence[bytes], update: Callable[[bytes], object]) -> None:
    for piece in pieces:
        update(piece)
    if path is not None:
        # Opened anew for each megabyte, so that no handle outlives a cancelled request.
        with path.open("ab") as file:
            file.writelines(pieces)


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
