"""Uploads that can be read once: async iterables and pipes."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Callable

import attrs
import pytest

from memories_async import Media, MediaChanged, MediaError, MediaTooLarge, Memories, Progress
from memories_async._engine.body import writer
from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.writer import PIECE, Transfer
from memories_async._engine.request import State
from memories_async.media.inspect import inspect_source
from memories_async.media.readers import READ_SIZE, Attachment
from memories_async.media.rules import CAPTION_VIDEO, MEBIBYTE
from memories_async.media.source import Readable
from tests.engine.raw_server import Conversation, RawServer
from tests.engine.uploads import Sink, body_of, checked, film, send

pytestmark = pytest.mark.anyio

# Streams.


class Stream:
    """An async iterable that says whether it was closed."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for chunk in self.chunks:
                yield chunk
        finally:
            self.closed = True


class EndlessStream:
    """An async iterator without aclose."""

    def __aiter__(self) -> EndlessStream:
        return self

    async def __anext__(self) -> bytes:
        return b"more"


def stream(source: object, size: int | None = None) -> Attachment:
    media = Media(source, name="a.mp4", content_type="video/mp4", size=size)  # type: ignore[arg-type]  # an async iterable
    return inspect_source(media, CAPTION_VIDEO)


async def test_a_stream_of_known_length(budget: UploadBudget) -> None:
    source = Stream(b"ab", b"", b"cd" * PIECE)
    recipe = body_of(b"<", stream(source, 2 + 2 * PIECE), b">")
    assert recipe.length == 4 + 2 * PIECE
    sent, transfer = await send(recipe, budget)
    assert sent == b"<ab" + b"cd" * PIECE + b">"
    assert transfer.state is State.SENT
    assert source.closed


async def test_a_stream_of_unknown_length(budget: UploadBudget) -> None:
    told: list[Progress] = []
    states: list[State] = []
    recipe = body_of(b"<", stream(Stream(b"ab", b"cd")), b">")
    assert recipe.length is None
    transfer = Transfer(None, on_progress=told.append)
    sink = Sink()
    sink.before_write = lambda number: states.append(transfer.state)
    await writer.write(recipe, sink, transfer, budget)
    assert sink.data == b"<abcd>"
    assert states == [State.PARTIAL] * 4
    assert transfer.state is State.SENT
    assert told[-1] == Progress(6, None)
    assert told[-1].fraction is None


@pytest.mark.parametrize("source", [Stream(b"abc"), Stream(b"abc", b"d", b"e"), EndlessStream()])
async def test_a_stream_of_another_length_than_said(
    source: Stream | EndlessStream, budget: UploadBudget
) -> None:
    sink = Sink()
    transfer = Transfer(6)
    with pytest.raises(MediaChanged, match=r"a\.mp4 yielded \d bytes or more instead of 4"):
        await writer.write(body_of(b"<", stream(source, 4), b">"), sink, transfer, budget)
    assert transfer.state is State.PARTIAL
    assert len(sink.data) < 6
    assert getattr(source, "closed", True)


async def test_a_stream_that_yields_nothing(budget: UploadBudget) -> None:
    for source in (Stream(), Stream(b"", b"")):
        with pytest.raises(MediaError, match="yielded nothing"):
            await send(body_of(b"<", stream(source), b">"), budget)


async def test_a_stream_that_fails_is_closed(budget: UploadBudget) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"ab"
        raise OSError("camera unplugged")

    with pytest.raises(OSError, match="camera unplugged"):
        await send(body_of(stream(failing()), b">"), budget)


async def stream_of(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield bytes(1024)


class Unnamed:
    """What has ``read`` and nothing else."""

    def __init__(self, size: int, head: bytes = b"") -> None:
        self.left = io.BytesIO(head)
        self.size = size - len(head)

    def read(self, size: int, /) -> bytes:
        if data := self.left.read(size):
            return data
        count = min(size, self.size)
        self.size -= count
        return bytes(count)


@pytest.mark.parametrize("kind", [stream_of, Unnamed])
async def test_what_turns_out_to_be_too_large_is_not_sent_to_its_end(
    kind: Callable[[int], Readable | AsyncIterator[bytes]], budget: UploadBudget
) -> None:
    most = 2 * MEBIBYTE
    rule = attrs.evolve(CAPTION_VIDEO, max_size=most)

    def of(size: int) -> Attachment:
        return inspect_source(Media(kind(size), "a.mp4", "video/mp4"), rule)

    sent, transfer = await send(body_of(b"<", of(most), b">"), budget)
    assert len(sent) == most + 2
    assert transfer.state is State.SENT

    sink, transfer = Sink(), Transfer(None)
    with pytest.raises(MediaTooLarge, match=r"a\.mp4 has [\d,]+ bytes or more; the limit .* 2 MB"):
        await writer.write(body_of(b"<", of(9 * most), b">"), sink, transfer, budget)
    assert transfer.state is State.PARTIAL
    assert MEBIBYTE <= len(sink.data) <= most + 1


async def test_a_call_with_what_turns_out_to_be_too_large_ends_unbilled() -> None:
    async def speak(conversation: Conversation) -> None:
        await conversation.request()

    endless = Unnamed(1 << 50, b"\x89PNG\r\n\x1a\n")
    async with RawServer(speak) as server:
        async with Memories("sk-mavi-0123456789", base_url=server.url) as client:
            with pytest.raises(MediaTooLarge, match="limit for a library image is 20 MB") as caught:
                await client.library.add_images([endless])
        assert server.requests == []
        assert server.connections == 1
    assert caught.value.attempts == 1


# Pipes.


async def test_a_pipe_is_read_once_with_what_was_looked_at(budget: UploadBudget) -> None:
    data = film(5000)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file:
        with os.fdopen(writing, "wb") as end:
            end.write(data)
        attachment = checked(Media(file, name="a.mp4"))
        assert not attachment.replayable
        sent, transfer = await send(body_of(b"<", attachment, b">"), budget)
        assert sent == b"<" + data + b">"
        assert transfer.state is State.SENT
        assert not file.closed


async def test_a_pipe_of_known_length(budget: UploadBudget) -> None:
    data = film(READ_SIZE + 5)

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.left = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, view: object) -> int:
            return self.left.readinto(view)  # type: ignore[arg-type]  # a buffer

    pipe = io.BufferedReader(Pipe())
    attachment = inspect_source(Media(pipe, name="a.mp4", size=len(data)), CAPTION_VIDEO)
    recipe = body_of(b"<", attachment, b">")
    assert recipe.length == len(data) + 2
    sent, _ = await send(recipe, budget)
    assert sent == b"<" + data + b">"
