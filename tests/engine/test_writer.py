"""Writing bodies into a sink of the test's own: states, progress, shares, files that change."""

from __future__ import annotations

import asyncio
import io
import os
import random
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memories_async import Media, MediaChanged, MediaError, Progress
from memories_async._engine import sources, writer
from memories_async._engine.body import Recipe
from memories_async._engine.request import State
from memories_async._engine.sources import COLD_READ, Attachment
from memories_async._engine.writer import PIECE, SMALLEST_PIECE, Share, Transfer
from memories_async.captions import CAPTION_VIDEO
from memories_async.media import Source, inspect_source

pytestmark = pytest.mark.anyio

HEAD = b"\0\0\0\x18ftypmp42"


def film(size: int) -> bytes:
    """Return what begins like a film, each place of it different."""
    return (HEAD + random.Random(size).randbytes(max(size - len(HEAD), 0)))[:size]


class Sink:
    """Takes bytes as a connection would; may do something at the n-th write."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.before_write: Callable[[int], None] = lambda number: None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    async def write(self, data: bytes | memoryview) -> None:
        self.before_write(len(self.pieces) + 1)
        self.pieces.append(bytes(data))


@pytest.fixture
def share() -> Iterator[Share]:
    share = Share()
    yield share
    share.close()


def checked(source: Source, **media: int) -> Attachment:
    return inspect_source(Media(source, **media) if media else source, CAPTION_VIDEO)  # type: ignore[arg-type]  # size only


def body_of(*pieces: bytes | Attachment) -> Recipe:
    return Recipe("multipart/form-data", pieces)


async def send(
    recipe: Recipe, share: Share, sink: Sink | None = None, attempt: int = 1
) -> tuple[bytes, Transfer]:
    """Write a body once; return what the sink got and how far the transfer is."""
    sink = sink or Sink()
    transfer = Transfer(recipe.length, attempt)
    await writer.write(recipe, sink, transfer, share)
    return sink.data, transfer


# Every source arrives whole, from where it stands, as often as it is written.

SIZES = (1, 100, PIECE - 1, PIECE, PIECE + 1, COLD_READ, COLD_READ + 1, 3 * COLD_READ + 7)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["path", "file", "memory", "spooled", "bytes", "warm", "cold"])
async def test_each_source_arrives_whole(
    kind: str, size: int, share: Share, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "cold":  # a system that cannot read without waiting
        monkeypatch.setattr(sources, "_NOWAIT", None)
    data = HEAD + film(size)
    path = tmp_path / "a.mp4"
    path.write_bytes(b"before" + data if kind in ("file", "spooled") else data)
    with path.open("rb") as file, tempfile.SpooledTemporaryFile(max_size=1 << 30) as spooled:
        spooled.write(path.read_bytes())
        spooled.seek(6)
        file.seek(6)
        source: Source = {
            "path": path,
            "warm": path,
            "cold": path,
            "file": file,
            "memory": io.BytesIO(data),
            "spooled": spooled,
            "bytes": data,
        }[kind]  # type: ignore[assignment]  # every one of them is a source
        attachment = checked(source)
        recipe = body_of(b"<", attachment.content or attachment, b">")
        for attempt in (1, 2, 3):
            sent, transfer = await send(recipe, share, attempt=attempt)
            assert sent == b"<" + data + b">"
            assert transfer.sent == transfer.total == len(sent)
            assert transfer.state is State.SENT
        if kind in ("file", "spooled"):
            assert source.tell() == 6  # type: ignore[union-attr]  # one of the two files
            assert not source.closed  # type: ignore[union-attr]
    assert share.active == 0


async def test_no_piece_is_larger_than_agreed(share: Share, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(film(4 * COLD_READ))
    sink = Sink()
    await send(body_of(bytes(COLD_READ), checked(path)), share, sink)
    assert max(map(len, sink.pieces)) == PIECE
    assert len(sink.pieces) == 4 + 16


async def test_many_uploads_share_memory_and_time(share: Share) -> None:
    alone = share.turn
    assert share.portion(COLD_READ) == COLD_READ
    share.active = 16
    assert share.portion(COLD_READ) == COLD_READ // 2
    assert 0 < share.turn <= max(alone / 16, 0.0001)
    share.active = 10_000
    assert share.portion(COLD_READ) == SMALLEST_PIECE
    assert share.portion(100) == SMALLEST_PIECE


async def test_concurrent_uploads_do_not_mix(share: Share, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    data = film(2 * COLD_READ)
    path.write_bytes(data)
    memory = io.BytesIO(data)
    with path.open("rb") as file:
        recipes = [body_of(checked(source)) for source in (path, file, memory) for _ in range(4)]
        results = await asyncio.gather(*(send(recipe, share) for recipe in recipes))
    assert all(sent == data for sent, _ in results)
    assert share.active == 0


async def test_the_loop_gets_its_turn(share: Share) -> None:
    """A sink that never waits must not hold the loop for the whole body."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def work(number: int) -> None:
        until = time.perf_counter() + share.turn
        while time.perf_counter() < until:
            pass

    sink = Sink()
    sink.before_write = work
    counting = asyncio.create_task(count())
    await send(body_of(bytes(10 * PIECE)), share, sink)
    counting.cancel()
    assert turns >= 10


@settings(max_examples=30)
@given(pieces=st.lists(st.binary(max_size=50) | st.binary(min_size=1).map(io.BytesIO), max_size=5))
def test_any_mixture_of_pieces(pieces: list[bytes | io.BytesIO]) -> None:
    async def run() -> None:
        share = Share()
        made = [
            piece
            if isinstance(piece, bytes)
            else inspect_source(Media(piece, content_type="video/mp4"), CAPTION_VIDEO)
            for piece in pieces
        ]
        sent, transfer = await send(body_of(*made), share)
        share.close()
        wanted = b"".join(p if isinstance(p, bytes) else p.getvalue() for p in pieces)
        assert sent == wanted
        assert transfer.sent == len(wanted)

    asyncio.run(run())


# How far it got.


async def test_sent_is_noted_before_the_last_byte_leaves(share: Share) -> None:
    states: list[State] = []
    told: list[str] = []
    recipe = body_of(b"a" * PIECE, b"b", b"c")
    transfer = Transfer(recipe.length, on_sent=lambda: told.append("sent"))
    sink = Sink()
    sink.before_write = lambda number: states.append(transfer.state)
    assert transfer.state is State.NOT_SENT
    await writer.write(recipe, sink, transfer, share)
    assert states == [State.PARTIAL, State.PARTIAL, State.SENT]
    assert told == ["sent"]
    assert transfer.sent_at is not None


async def test_an_empty_piece_changes_nothing(share: Share) -> None:
    sent, transfer = await send(body_of(b"", b"ab", b""), share)
    assert (sent, transfer.sent, transfer.state) == (b"ab", 2, State.SENT)


async def test_a_broken_connection_leaves_the_body_partial(share: Share) -> None:
    def reset(number: int) -> None:
        if number == 2:
            raise ConnectionResetError

    sink = Sink()
    sink.before_write = reset
    transfer = Transfer(3 * PIECE)
    with pytest.raises(ConnectionResetError):
        await writer.write(body_of(bytes(3 * PIECE)), sink, transfer, share)
    assert (transfer.state, transfer.sent) == (State.PARTIAL, PIECE)
    assert share.active == 0


async def test_progress_counts_accepted_bytes_and_steps_back(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROGRESS_INTERVAL", 0.0)
    told: list[Progress] = []
    recipe = body_of(bytes(2 * PIECE), b"end")
    total = recipe.length
    assert total is not None
    await writer.write(recipe, Sink(), Transfer(total, 1, told.append), share)
    assert [progress.sent for progress in told] == [PIECE, 2 * PIECE, total]
    assert {progress.total for progress in told} == {total}
    told.clear()
    await writer.write(recipe, Sink(), Transfer(total, 2, told.append), share)
    assert [progress.sent for progress in told] == [0, PIECE, 2 * PIECE, total]
    assert {progress.attempt for progress in told} == {2}
    assert told[-1].fraction == 1.0


async def test_progress_is_told_now_and_then_and_at_the_end(share: Share) -> None:
    told: list[Progress] = []
    recipe = body_of(*[b"x"] * 5000)
    await writer.write(recipe, Sink(), Transfer(5000, on_progress=told.append), share)
    assert len(told) < 100
    assert told[-1] == Progress(5000, 5000)


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


async def test_a_stream_of_known_length(share: Share) -> None:
    source = Stream(b"ab", b"", b"cd" * PIECE)
    recipe = body_of(b"<", stream(source, 2 + 2 * PIECE), b">")
    assert recipe.length == 4 + 2 * PIECE
    sent, transfer = await send(recipe, share)
    assert sent == b"<ab" + b"cd" * PIECE + b">"
    assert transfer.state is State.SENT
    assert source.closed


async def test_a_stream_of_unknown_length(share: Share) -> None:
    told: list[Progress] = []
    states: list[State] = []
    recipe = body_of(b"<", stream(Stream(b"ab", b"cd")), b">")
    assert recipe.length is None
    transfer = Transfer(None, on_progress=told.append)
    sink = Sink()
    sink.before_write = lambda number: states.append(transfer.state)
    await writer.write(recipe, sink, transfer, share)
    assert sink.data == b"<abcd>"
    assert states == [State.PARTIAL] * 4
    assert transfer.state is State.SENT
    assert told[-1] == Progress(6, None)
    assert told[-1].fraction is None


@pytest.mark.parametrize("source", [Stream(b"abc"), Stream(b"abc", b"d", b"e"), EndlessStream()])
async def test_a_stream_of_another_length_than_said(
    source: Stream | EndlessStream, share: Share
) -> None:
    sink = Sink()
    transfer = Transfer(6)
    with pytest.raises(MediaChanged, match=r"a\.mp4 yielded \d bytes or more instead of 4"):
        await writer.write(body_of(b"<", stream(source, 4), b">"), sink, transfer, share)
    assert transfer.state is State.PARTIAL
    assert len(sink.data) < 6
    assert getattr(source, "closed", True)


async def test_a_stream_that_yields_nothing(share: Share) -> None:
    for source in (Stream(), Stream(b"", b"")):
        with pytest.raises(MediaError, match="yielded nothing"):
            await send(body_of(b"<", stream(source), b">"), share)


async def test_a_stream_that_fails_is_closed(share: Share) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"ab"
        raise OSError("camera unplugged")

    with pytest.raises(OSError, match="camera unplugged"):
        await send(body_of(stream(failing()), b">"), share)


# Pipes.


async def test_a_pipe_is_read_once_with_what_was_looked_at(share: Share) -> None:
    data = film(5000)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file:
        with os.fdopen(writing, "wb") as end:
            end.write(data)
        attachment = checked(Media(file, name="a.mp4"))
        assert not attachment.replayable
        sent, transfer = await send(body_of(b"<", attachment, b">"), share)
        assert sent == b"<" + data + b">"
        assert transfer.state is State.SENT
        assert not file.closed


async def test_a_pipe_of_known_length(share: Share) -> None:
    data = film(COLD_READ + 5)

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
    sent, _ = await send(recipe, share)
    assert sent == b"<" + data + b">"


# Files that change: never the last byte of a body that is not what was checked.


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(0, 0))


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)


def vanish(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [truncate, grow, rewrite, replace, vanish])
@pytest.mark.parametrize("size", [1000, 3 * COLD_READ])
@pytest.mark.parametrize("moment", ["before", "during"])
async def test_a_file_that_changes(
    change: Callable[[Path], None], size: int, moment: str, share: Share, tmp_path: Path
) -> None:
    """Row 53 of the fault matrix; a small file's first attempt sends what was checked."""
    path = tmp_path / "a.mp4"
    path.write_bytes(film(size))
    attachment = checked(path)
    recipe = body_of(bytes(1000), attachment, b"-- end")
    sink = Sink()
    transfer = Transfer(recipe.length, attempt=2 if size == 1000 else 1)
    if moment == "before":
        change(path)
    else:
        # A small file is read in one hop, so the change falls before that; a large one is changed
        # with its last piece on the way.
        last = 1 if size == 1000 else 1 + size // PIECE
        sink.before_write = lambda number: change(path) if number == last else None
    with pytest.raises(MediaChanged, match=r"a\.mp4"):
        await writer.write(recipe, sink, transfer, share)
    assert transfer.state is State.PARTIAL
    assert transfer.total is not None
    assert len(sink.data) < transfer.total
    assert not sink.data.endswith(b"-- end")
    assert share.active == 0


@pytest.mark.parametrize("size", [1000, 3 * COLD_READ])
async def test_a_caller_s_file_that_changes(size: int, share: Share, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(film(size))
    with path.open("rb") as file:
        recipe = body_of(checked(file), b"end")
        grow(path)
        with pytest.raises(MediaChanged, match="changed while it was being sent"):
            await send(recipe, share)
        assert not file.closed


@pytest.mark.parametrize("size", [1000, 3 * COLD_READ])
@pytest.mark.parametrize("change", ["shorter", "longer"])
async def test_a_memory_file_that_changes(size: int, change: str, share: Share) -> None:
    file = io.BytesIO(film(size))
    recipe = body_of(checked(file), b"end")
    if change == "shorter":
        file.truncate(size - 1)
    else:
        file.seek(0, io.SEEK_END)
        file.write(b"more")
    with pytest.raises(MediaChanged, match="while it was being sent"):
        await send(recipe, share)


async def test_a_file_object_that_cannot_be_read(share: Share) -> None:
    class Unreadable(io.BytesIO):
        broken = False

        def read(self, size: int | None = -1) -> bytes:
            if self.broken:
                raise OSError(5, "Input/output error")
            return super().read(size)

    for size in (1000, 3 * COLD_READ):
        file = Unreadable(film(size))
        recipe = body_of(checked(file), b"end")
        file.broken = True
        with pytest.raises(MediaError, match="cannot be read: Input/output error"):
            await send(recipe, share)


# Cancellation.


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_cancelled_while_a_thread_reads(
    share: Share, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is closed when the thread comes back, not under its hands."""
    path = tmp_path / "a.mp4"
    path.write_bytes(film(3 * COLD_READ))
    recipe = body_of(checked(path))
    reading, may_go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    real_pread = sources.pread

    def slow_pread(descriptor: int, size: int, position: int) -> bytes:
        loop.call_soon_threadsafe(reading.set)
        may_go_on.wait(10)
        return real_pread(descriptor, size, position)

    monkeypatch.setattr(sources, "_NOWAIT", None)
    monkeypatch.setattr(sources, "pread", slow_pread)
    before = open_files()
    task = asyncio.create_task(send(recipe, share))
    await reading.wait()
    assert open_files() == before + 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert share.active == 0
    may_go_on.set()
    share.close()
    await asyncio.to_thread(share._readers.shutdown)
    assert open_files() <= before


async def test_cancelled_while_the_connection_is_full(share: Share, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(film(3 * COLD_READ))

    class FullSink(Sink):
        async def write(self, data: bytes | memoryview) -> None:
            await super().write(data)
            await asyncio.Event().wait()

    before = open_files()
    task = asyncio.create_task(send(body_of(checked(path)), share, sink := FullSink()))
    while not sink.pieces:  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_files() == before
