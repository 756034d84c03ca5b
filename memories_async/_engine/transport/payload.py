"""A body on its connection: handed to aiohttp as it wants it, and watched so that it moves."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Never, cast

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_writer import StreamWriter

from memories_async._engine.body.budget import loop_seconds
from memories_async._engine.body.layout import Recipe
from memories_async._engine.body.writer import PIECE, TLS_PIECE


class Payload(aiohttp.Payload):
    """A body whose bytes aiohttp never sees: what writes them is called with the connection.

    Args:
        recipe: Its type and length.
        send: Writes the whole body.
        stall_timeout: Seconds without the peer accepting a byte that end the connection.
    """

    _autoclose = True

    def __init__(
        self, recipe: Recipe, send: Callable[[Connection], Awaitable[None]], stall_timeout: float
    ) -> None:
        super().__init__(recipe, content_type=recipe.content_type)
        self._size = recipe.length
        self._send = send
        self._stall_timeout = stall_timeout
        self._connection: Connection | None = None
        self._task: asyncio.Task[object] | None = None
        self._ended: asyncio.Event | None = None  # made by who waits for it, as hardly any does

    @property
    def stalled(self) -> bool:
        """Whether the connection was ended because nothing moved."""
        return self._connection is not None and self._connection.stalled

    @property
    def cut(self) -> bool:
        """Whether the peer answered before the last byte, which was then not written."""
        return self._connection is not None and self._connection.cut

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Refuse: a body may be gigabytes."""
        raise TypeError("a streamed body is no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the whole body."""
        await self.write_with_length(writer, None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write the whole body; aiohttp calls this in a task of its own."""
        self._task = asyncio.current_task()
        try:
            # aiohttp's own writer is the only one that it ever passes.
            connection = Connection(cast("StreamWriter", writer), self._stall_timeout)
            self._connection = connection
            try:
                await self._send(connection)
            finally:
                connection.stop_watching()
        finally:
            self._task = None
            if self._ended is not None:
                self._ended.set()

    async def stop(self) -> None:
        """End a write that is still under way: cancelled, or answered before its end."""
        if self._task is not None and self._connection is not None:
            self._connection.abort()
            self._task.cancel()
            self._ended = asyncio.Event()
            await self._ended.wait()


class Connection:
    """Where a body's bytes go, and the watch that the peer keeps accepting them.

    Attributes:
        piece: How many bytes one write should have.
        stalled: Whether the peer stopped accepting, and the connection was aborted for it.
        cut: Whether the peer answered before the last byte, which was then not written.
        waited: Seconds that the loop gave to others while writes waited for the peer.
    """

    def __init__(self, writer: StreamWriter, stall_timeout: float) -> None:
        transport = writer.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("closed before the first byte")
        # (0, 0) with drain() hangs over TLS; (1, 0) does not, and its drain means "all taken".
        transport.set_write_buffer_limits(high=1, low=0)
        encrypted = transport.get_extra_info("sslcontext") is not None
        self.piece = TLS_PIECE if encrypted else PIECE
        self.stalled = self.cut = False
        self.waited = 0.0
        self._writer = writer
        self._protocol = cast("ResponseHandler", writer.protocol)  # a client's always is one
        self._transport: asyncio.WriteTransport = transport
        self._stall_timeout = stall_timeout
        self._accepted = 0
        self._draining = False
        self._seen: tuple[int, ...] = ()
        self._moved_at = 0.0
        self._tick: asyncio.TimerHandle | None = None

    async def write(self, data: bytes | memoryview) -> None:
        """Hand over bytes and wait until the transport has taken them all."""
        if self.answered:
            await self.hold()
        await self._writer.write(data, drain=False)
        if self._transport.get_write_buffer_size():
            if self._tick is None:
                self._watch(asyncio.get_running_loop())
            self._draining = True
            began = loop_seconds()
            try:
                await self._writer.drain()
            finally:
                self._draining = False
                self.waited += loop_seconds() - began
        self._accepted += len(data)

    @property
    def answered(self) -> bool:
        """Whether the peer has begun to answer, or the connection is lost."""
        return self._protocol.should_close

    async def hold(self) -> Never:
        """Write nothing further: whoever reads the answer cancels the writing."""
        self.cut = True
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody sets this future")

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Abort the connection once nothing has moved for the stall time."""
        seen = (
            self._accepted,
            self._transport.get_write_buffer_size(),
            _unacknowledged(self._transport.get_extra_info("socket")),
        )
        if not self._draining or seen != self._seen:
            self._seen, self._moved_at = seen, loop.time()
        elif loop.time() - self._moved_at >= self._stall_timeout:
            self.stalled = True
            self.abort()
            return
        self._tick = loop.call_later(self._stall_timeout / 8, self._watch, loop)

    def stop_watching(self) -> None:
        """Leave the connection to itself: the body is through, or given up."""
        if self._tick is not None:
            self._tick.cancel()

    def abort(self) -> None:
        """Drop the connection with whatever it still holds."""
        # asyncio's transport fails where it was closed with bytes left and has sent them.
        with contextlib.suppress(AttributeError):
            self._transport.abort()


def _unacknowledged(socket: object) -> int:
    """Return how many bytes the peer has not acknowledged yet, where the system says so.

    A peer that reads a kilobyte a second opens its window so rarely that our own buffers may
    stand still for minutes; this number still moves.
    """
    if sys.platform != "linux" or socket is None:
        return 0
    import fcntl
    import termios

    answer = bytearray(4)
    try:
        fcntl.ioctl(cast("int", socket), termios.TIOCOUTQ, answer)
    except (OSError, ValueError):  # ValueError: closed meanwhile, its descriptor is -1
        return 0
    return int(struct.unpack("i", answer)[0])
