"""Hands a body to aiohttp as it wants it, and watches that the peer keeps accepting bytes."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
from typing import Any, cast

import aiohttp
import attrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter

from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.layout import Recipe
from memories_async._engine.body.writer import PIECE, TLS_PIECE, Transfer, write
from memories_async._engine.request import Request


class Payload(aiohttp.Payload):
    """Hands our writer to aiohttp, and watches that the peer keeps accepting bytes."""

    _autoclose = True

    def __init__(
        self, recipe: Recipe, transfer: Transfer, budget: UploadBudget, request: Request[Any]
    ) -> None:
        super().__init__(recipe, content_type=recipe.content_type)
        self.recipe = recipe
        self.stalled = False
        self._size = recipe.length
        self._transfer = transfer
        self._budget = budget
        self._stall_timeout = request.policy.stall_timeout
        self._task: asyncio.Task[object] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._draining = False
        self._seen: tuple[int, ...] = ()
        self._moved_at = 0.0
        self._tick: asyncio.TimerHandle | None = None
        self._finished = asyncio.Event()

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
        stream = cast("StreamWriter", writer)
        transport = stream.transport
        sink = _Sink(stream, self)
        try:
            if transport is None or transport.is_closing():
                raise aiohttp.ClientConnectionResetError("closed before the first byte")
            self._transport = transport
            # (0, 0) with drain() hangs over TLS; (1, 0) does not, and its drain means "all taken".
            transport.set_write_buffer_limits(high=1, low=0)
            encrypted = transport.get_extra_info("sslcontext") is not None
            size = TLS_PIECE if encrypted else PIECE
            await write(self.recipe, sink, self._transfer, self._budget, size)
        except (aiohttp.ClientError, ConnectionError):
            raise
        except Exception as error:
            self._transfer.failure = error
            raise
        finally:
            if self._tick is not None:
                self._tick.cancel()
            self._finished.set()

    async def accept(self, writer: StreamWriter, data: bytes | memoryview) -> None:
        """Hand over bytes and wait until the transport has taken them all."""
        await writer.write(data, drain=False)
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size():
            if self._tick is None:
                self._watch(asyncio.get_running_loop())
            self._draining = True
            try:
                await writer.drain()
            finally:
                self._draining = False

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Abort the connection once nothing has moved for the stall time."""
        seen = self._position()
        if not self._draining or seen != self._seen:
            self._seen, self._moved_at = seen, loop.time()
        elif loop.time() - self._moved_at >= self._stall_timeout:
            self.stalled = True
            self._abort()
            return
        self._tick = loop.call_later(self._stall_timeout / 8, self._watch, loop)

    def _position(self) -> tuple[int, ...]:
        transport = self._transport
        if transport is None:
            return ()
        return (
            self._transfer.sent,
            transport.get_write_buffer_size(),
            _unacknowledged(transport.get_extra_info("socket")),
        )

    def _abort(self) -> None:
        if self._transport is not None:
            # asyncio's transport fails where it was closed with bytes left and has sent them.
            with contextlib.suppress(AttributeError):
                self._transport.abort()

    async def stop(self) -> None:
        """End a write that is still under way: cancelled, or answered before its end."""
        if self._task is not None and not self._finished.is_set():
            self._abort()
            self._task.cancel()
            await self._finished.wait()


@attrs.frozen
class _Sink:
    """The connection as our writer sees it."""

    writer: StreamWriter
    payload: Payload

    async def write(self, data: bytes | memoryview) -> None:
        await self.payload.accept(self.writer, data)


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
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])
