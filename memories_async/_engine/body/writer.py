"""Writes a body: in large pieces, within the budget, the loop never blocked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast

import attrs

from memories_async._engine.body.budget import UploadBudget, UploadTurn, loop_seconds
from memories_async._engine.body.layout import SMALL, Recipe
from memories_async._engine.body.threads import Threads
from memories_async._engine.request import PARTIAL, SENT, ProgressHook, State
from memories_async.checks import unchecked
from memories_async.errors import MediaChanged, MediaError, MemoriesError
from memories_async.media.file_objects import as_bytes, unreadable
from memories_async.media.readers import READ_SIZE, Attachment, PipeReader, Reader, whole
from memories_async.models import Progress

T = TypeVar("T")

KIBIBYTE = 1024
PIECE = 256 * KIBIBYTE
"""One write in the clear: what the processor's cache still holds when the kernel copies it."""
TLS_PIECE = 384 * KIBIBYTE
"""One write over TLS, where each costs more (both by python -m benchmarks upload)."""
PROGRESS_INTERVAL = 0.05


class Sink(Protocol):
    """Where bytes go: one connection's writer.

    Attributes:
        waited: Seconds that the loop gave to others while its writes waited for the peer.
    """

    waited: float

    async def write(self, data: bytes | memoryview) -> None:
        """Hand over bytes; return once the buffer behind them may be used again."""
        ...


@attrs.define(eq=False)
class Transfer:
    """How far one attempt's body got, and who wants to know.

    Attributes:
        total: Bytes of the body; None if unknown.
        attempt: Its number, from 1.
        state: What the replay rule goes by.
        sent: Bytes that the connection has accepted.
        sent_at: When the last byte was handed over, in seconds since 1970.
        failure: What went wrong on our side, where the connection is not to blame.
    """

    total: int | None
    attempt: int = 1
    on_progress: ProgressHook | None = None
    state: State = State.NOT_SENT
    sent: int = 0
    sent_at: float | None = None
    failure: BaseException | None = None
    _reported_at: float = 0.0

    def handing_over(self, size: int) -> None:
        """Note that so many bytes are about to leave: the last of them decides the state."""
        if self.total is not None and self.sent + size >= self.total:
            self.whole()
        else:
            self.state = max(self.state, PARTIAL)

    def whole(self) -> None:
        """Note that from now on a server may have the whole request."""
        if self.state is not SENT:
            self.state = SENT
            self.sent_at = time.time()

    def accepted(self, size: int) -> None:
        """Count bytes that the connection has taken, and tell the caller now and then."""
        self.sent += size
        if self.on_progress is not None:
            now = time.monotonic()
            if now - self._reported_at >= PROGRESS_INTERVAL or self.sent == self.total:
                self._reported_at = now
                self.report()

    def report(self) -> None:
        """Tell the caller where the upload stands."""
        if self.on_progress is not None:
            try:
                self.on_progress(unchecked(Progress, self.sent, self.total, self.attempt))
            except asyncio.CancelledError as error:
                # The hook's own: raised on, it would read as if this write had been cancelled.
                self.failure = error
                raise RuntimeError("the hook on progress was cancelled") from error


async def write(
    recipe: Recipe, sink: Sink, transfer: Transfer, budget: UploadBudget, piece_size: int = PIECE
) -> None:
    """Write a body from its start.

    Raises:
        MediaError: A source cannot be read, or is no longer what was checked; the last byte
            has not been handed over.
    """
    if transfer.attempt > 1:
        transfer.report()
    only = recipe.pieces[0] if len(recipe.pieces) == 1 else None
    if isinstance(only, bytes) and len(only) <= piece_size:  # small JSON shares nothing with others
        await _hand_over(only, sink, transfer)
        return
    budget.active += 1
    try:
        if recipe.length is not None and recipe.length <= piece_size + SMALL:
            parts = [_at_hand(piece, transfer.attempt) for piece in recipe.pieces]
            if None not in parts:
                # A piece, its head and its tail at once keep nobody waiting longer than a piece
                # does: no clock is asked, which is a system call each. What has been handed over
                # is let go of: sixty pictures that wait for answers would be 12 MB.
                parts.reverse()
                while parts:
                    await _hand_over(cast("bytes", parts.pop()), sink, transfer)
                return
        turn = UploadTurn()
        await budget.give_way(turn)  # uploads that begin together have their first turns in turn
        writing = _BodyWriter(sink, transfer, budget, piece_size, turn)
        for piece in recipe.pieces:
            if isinstance(piece, bytes):
                await writing.put(piece)
            elif piece.stream is not None:
                await writing.put_stream(piece)
            else:
                await writing.put_file(piece)
        if recipe.length is None:
            transfer.whole()  # the writer ends a chunked body by itself
            transfer.report()
    finally:
        budget.active -= 1


def _at_hand(piece: bytes | Attachment, attempt: int) -> bytes | None:
    """Return what is in memory of a body's piece; what was prefetched is for the first attempt."""
    if isinstance(piece, bytes):
        return piece
    return piece.prefetched.take() if piece.prefetched is not None and attempt == 1 else None


async def _hand_over(data: bytes | memoryview, sink: Sink, transfer: Transfer) -> None:
    transfer.handing_over(len(data))
    await sink.write(data)
    transfer.accepted(len(data))


@attrs.define(eq=False)
class _BodyWriter:
    """One body on its way out."""

    sink: Sink
    transfer: Transfer
    budget: UploadBudget
    piece_size: int
    turn: UploadTurn

    async def put(self, data: bytes | memoryview) -> None:
        """Write bytes in pieces."""
        if len(data) <= self.piece_size:  # a picture: dividing it would cost it half as much again
            await self._put_piece(data)
            return
        view = memoryview(data)
        while view:
            size = self.budget.piece(self.piece_size)
            await self._put_piece(view[:size])
            view = view[size:]

    async def _put_piece(self, data: bytes | memoryview) -> None:
        waited = self.sink.waited
        await _hand_over(data, self.sink, self.transfer)
        self.turn.waited += self.sink.waited - waited
        # A peer that never pushes back would let this loop run for ever.
        if self.turn.is_over(self.budget.time_slice):
            await self.budget.give_way(self.turn)

    async def put_file(self, attachment: Attachment) -> None:
        """Write a file or file object."""
        size = attachment.size
        if (data := _at_hand(attachment, self.transfer.attempt)) is not None:
            await self.put(data)
            return
        if size is not None and size <= self.budget.chunk_size(READ_SIZE) and not attachment.waits:
            # A picture takes one hop: open, read, check and close.
            await self.put(await self.budget.run(lambda: whole(attachment)))
            return
        async with _OpenSource(attachment, self.budget) as reading:
            if size is None:
                count = 0
                while data := await reading.read(self.budget.chunk_size(READ_SIZE)):
                    count += len(data)
                    attachment.check_size(count)
                    await self.put(data)
            else:
                await self._put_sized(reading, size)
            await reading.verify()

    async def _put_sized(self, reading: _OpenSource, size: int) -> None:
        buffer = memoryview(bytearray(min(self.budget.chunk_size(self.piece_size), size)))
        left = size
        while left:
            # Filled no larger than it will be written.
            size = self.budget.chunk_size(self.budget.piece(self.piece_size))
            view = buffer[: min(len(buffer), left, size)]
            count = reading.reader.fill(view)
            if count is not None:
                data: bytes | memoryview = view[:count]
            else:
                began = loop_seconds()
                data = await reading.read(min(self.budget.chunk_size(READ_SIZE), left))
                self.turn.waited += loop_seconds() - began
            if not data:
                raise MediaChanged(f"{reading.label} became shorter while it was being sent")
            await self.put(data)
            left -= len(data)

    async def put_stream(self, attachment: Attachment) -> None:
        """Write what an async iterable yields."""
        assert attachment.stream is not None
        label, size, count = attachment.label, attachment.size, 0
        chunks = aiter(attachment.stream)
        try:
            while (chunk := await self._draw(chunks)) is not _END:
                data = _flat(chunk, label)
                count += len(data)
                if size is not None and count > size:
                    break
                attachment.check_size(count)
                if data:
                    await self.put(data)
        finally:
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()
        if count == 0:
            raise MediaError(f"{label} yielded nothing (a stream can be sent only once)")
        if size is not None and count != size:
            raise MediaChanged(f"{label} yielded {count} bytes or more instead of {size}")

    async def _draw(self, chunks: AsyncIterator[object]) -> object:
        try:
            return await anext(chunks, _END)
        except Exception as error:
            # The source's own trouble, even where it looks like that of our connection.
            self.transfer.failure = error
            raise


_END = object()
"""What no stream yields."""


def _flat(chunk: object, label: str) -> bytes | memoryview:
    """Return a chunk as bytes, whatever the size of its items; copied only where it must be."""
    if isinstance(chunk, bytearray | memoryview):
        view = memoryview(cast("bytearray | memoryview[int]", chunk))
        return view.cast("B") if view.c_contiguous else view.tobytes()
    return as_bytes(chunk, label)


class _OpenSource:
    """One pass over a source, its blocking calls made in worker threads, closed in any case."""

    def __init__(self, attachment: Attachment, budget: UploadBudget) -> None:
        assert attachment.open is not None
        self._open = attachment.open
        # What may wait for long has a thread of its own, in which it can wait for itself alone.
        self._own = Threads(1, "memories-async-pipe") if attachment.waits else None
        self._threads = self._own or budget.readers
        self._reader: Reader | None = None
        self._pending: Future[Any] | None = None
        self.label = attachment.label

    @property
    def reader(self) -> Reader:
        assert self._reader is not None
        return self._reader

    async def __aenter__(self) -> _OpenSource:
        try:
            await self._in_thread(self._start)
        except BaseException:
            self._leave()  # cancelled, perhaps while a thread was opening the file
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._own is not None and kind is not asyncio.CancelledError:
                # A caller's object is put back to where it stood before the call ends.
                await self._in_thread(self._close)
        finally:
            self._leave()

    def _leave(self) -> None:
        if isinstance(self._reader, PipeReader):
            self._reader.close()  # its thread looks up now and then, and goes
        if self._pending is not None:
            # Cancelled while a thread still reads: closing now would hand it another file's
            # descriptor, so the thread closes when it comes back.
            self._pending.add_done_callback(lambda _: self._close())
        elif self._own is not None:
            self._own.submit(self._close)
        else:
            self._close()
        if self._own is not None:
            self._own.close()

    def _start(self) -> None:
        self._reader = self._open()

    def _close(self) -> None:
        if (reader := self._reader) is not None:
            self._reader = None  # closed once
            with contextlib.suppress(Exception):  # a caller's object that fails has failed before
                reader.close()

    async def _in_thread(self, function: Callable[[], T]) -> T:
        pending = self._threads.submit(function)
        self._pending = pending
        try:
            return await asyncio.wrap_future(pending)
        except MemoriesError:
            raise
        except Exception as error:  # a caller's object may raise anything
            raise unreadable(self.label, error) from error
        finally:
            if pending.done():
                self._pending = None

    async def read(self, size: int) -> bytes:
        """Read in a worker thread."""
        return await self._in_thread(lambda: self.reader.read(size))

    async def verify(self) -> None:
        """Check in a worker thread that the source is still what was checked."""
        await self._in_thread(self.reader.verify)
