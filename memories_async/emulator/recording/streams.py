"""A request's body read once and sent on at the same pace, without ever being whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol


class ByteSource(Protocol):
    """Where a body comes from."""

    async def readany(self) -> bytes:
        """Return what has arrived, or nothing at the end."""
        ...


class TeedStream:
    """Passes each piece on before it is read here; what aiohttp's multipart reader needs of it."""

    def __init__(self, source: ByteSource, forward: Callable[[bytes], Awaitable[None]]) -> None:
        self._source = source
        self._forward = forward
        self._buffer = b""
        self._ended = False

    async def _more(self) -> None:
        piece = await self._source.readany()
        if piece:
            await self._forward(piece)
            self._buffer = self._buffer + piece if self._buffer else piece
        else:
            self._ended = True

    async def readany(self) -> bytes:
        """Return what there is, or nothing at the end."""
        if not self._buffer and not self._ended:
            await self._more()
        found, self._buffer = self._buffer, b""
        return found

    async def read(self, size: int) -> bytes:
        """Return up to so many bytes, or nothing at the end."""
        if not self._buffer and not self._ended:
            await self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        """Return up to the end of the line.

        Raises:
            ValueError: The line is too long.
        """
        while (end := self._buffer.find(b"\n")) < 0 and not self._ended:
            if len(self._buffer) > (max_line_length or 1 << 16):
                raise ValueError("a line of the multipart headers is too long")
            await self._more()
        end = len(self._buffer) if end < 0 else end + 1
        found, self._buffer = self._buffer[:end], self._buffer[end:]
        return found

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Yield the pieces as they come."""
        while piece := await self.readany():
            yield piece

    def unread_data(self, data: bytes) -> None:
        """Put bytes back."""
        self._buffer = data + self._buffer

    def at_eof(self) -> bool:
        """Return whether nothing is left."""
        return self._ended and not self._buffer


class Pipe:
    """A few pieces between the one who reads and the one who sends on."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(maxsize=4)
        self._dropped = False

    async def put(self, piece: bytes) -> None:
        """Hand a piece over, waiting until there is room; nobody wants it once it is dropped."""
        if not self._dropped:
            await self._pieces.put(piece)

    async def end(self) -> None:
        """Say that no more comes."""
        await self.put(b"")

    def drop(self) -> None:
        """Take no more, and let go whoever waits for room."""
        self._dropped = True
        while not self._pieces.empty():
            self._pieces.get_nowait()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._pieces.get():
            yield piece
