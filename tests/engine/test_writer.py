"""Writing bodies: whole from every source, in fair shares, each byte counted."""

from __future__ import annotations

import asyncio
import io
import itertools
import math
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memories_async import Media, Progress
from memories_async._engine.body import writer
from memories_async._engine.body.budget import SMALLEST_PIECE, UploadBudget, loop_seconds
from memories_async._engine.body.writer import PIECE, PROGRESS_INTERVAL, Transfer
from memories_async._engine.request import State
from memories_async.media import readers as sources
from memories_async.media.inspect import inspect_source
from memories_async.media.readers import READ_SIZE
from memories_async.media.rules import CAPTION_VIDEO
from memories_async.media.source import Source
from tests.engine.uploads import HEAD, Sink, body_of, checked, film, send

pytestmark = pytest.mark.anyio

# Every source arrives whole, from where it stands, as often as it is written.

SIZES = (1, 100, PIECE - 1, PIECE, PIECE + 1, READ_SIZE, READ_SIZE + 1, 3 * READ_SIZE + 7)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["path", "file", "memory", "spooled", "bytes", "warm", "cold"])
async def test_each_source_arrives_whole(
    kind: str, size: int, budget: UploadBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
            sent, transfer = await send(recipe, budget, attempt=attempt)
            assert sent == b"<" + data + b">"
            assert transfer.sent == transfer.total == len(sent)
            assert transfer.state is State.SENT
        if kind in ("file", "spooled"):
            assert source.tell() == 6  # type: ignore[union-attr]  # one of the two files
            assert not source.closed  # type: ignore[union-attr]
    assert budget.active == 0


async def test_a_file_that_is_not_in_the_page_cache(
    budget: UploadBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def would_block(*arguments: object) -> int:
        raise BlockingIOError

    path = tmp_path / "a.mp4"
    path.write_bytes(film(3 * READ_SIZE))
    monkeypatch.setattr("memories_async.media.readers.os.preadv", would_block)
    sent, _ = await send(body_of(checked(path)), budget)
    assert sent == path.read_bytes()


def give_way_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep pieces large: on a busy machine an empty round takes longer than work elsewhere."""
    monkeypatch.setattr("memories_async._engine.body.budget.OTHERS", math.inf)


async def test_no_piece_is_larger_than_agreed(
    budget: UploadBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_way_to_nobody(monkeypatch)
    path = tmp_path / "a.mp4"
    path.write_bytes(film(4 * READ_SIZE))
    sink = Sink()
    await send(body_of(bytes(READ_SIZE), checked(path)), budget, sink)
    assert max(map(len, sink.pieces)) == PIECE
    assert len(sink.pieces) == math.ceil(READ_SIZE / PIECE) + math.ceil(4 * READ_SIZE / PIECE)


async def test_many_uploads_share_memory(budget: UploadBudget) -> None:
    assert budget.chunk_size(READ_SIZE) == READ_SIZE
    budget.active = 16
    assert budget.chunk_size(READ_SIZE) == READ_SIZE // 2
    budget.active = 10_000
    assert budget.chunk_size(READ_SIZE) == SMALLEST_PIECE
    assert budget.chunk_size(100) == SMALLEST_PIECE


async def test_concurrent_uploads_do_not_mix(budget: UploadBudget, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    data = film(2 * READ_SIZE)
    path.write_bytes(data)
    memory = io.BytesIO(data)
    with path.open("rb") as file:
        recipes = [body_of(checked(source)) for source in (path, file, memory) for _ in range(4)]
        results = await asyncio.gather(*(send(recipe, budget) for recipe in recipes))
    assert all(sent == data for sent, _ in results)
    assert budget.active == 0


async def test_the_loop_gets_its_turn(budget: UploadBudget) -> None:
    """A sink that never waits must not hold the loop for the whole body."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def work(number: int) -> None:
        until = loop_seconds() + budget.time_slice
        while loop_seconds() < until:
            pass

    sink = Sink()
    sink.before_write = work
    counting = asyncio.create_task(count())
    await send(body_of(bytes(10 * PIECE)), budget, sink)
    counting.cancel()
    assert turns >= 5  # nine, were it not for when the other task is begun and the clock read


@settings(max_examples=30)
@given(pieces=st.lists(st.binary(max_size=50) | st.binary(min_size=1).map(io.BytesIO), max_size=5))
def test_any_mixture_of_pieces(pieces: list[bytes | io.BytesIO]) -> None:
    async def run() -> None:
        budget = UploadBudget()
        made = [
            piece
            if isinstance(piece, bytes)
            else inspect_source(Media(piece, content_type="video/mp4"), CAPTION_VIDEO)
            for piece in pieces
        ]
        sent, transfer = await send(body_of(*made), budget)
        budget.close()
        wanted = b"".join(p if isinstance(p, bytes) else p.getvalue() for p in pieces)
        assert sent == wanted
        assert transfer.sent == len(wanted)

    asyncio.run(run())


# How far it got.


async def test_sent_is_noted_before_the_last_byte_leaves(budget: UploadBudget) -> None:
    states: list[State] = []
    recipe = body_of(b"a" * PIECE, b"b", b"c")
    transfer = Transfer(recipe.length)
    sink = Sink()
    sink.before_write = lambda number: states.append(transfer.state)
    assert transfer.state is State.NOT_SENT
    await writer.write(recipe, sink, transfer, budget)
    assert states == [State.PARTIAL, State.PARTIAL, State.SENT]
    assert transfer.sent_at is not None


async def test_an_empty_piece_changes_nothing(budget: UploadBudget) -> None:
    sent, transfer = await send(body_of(b"", b"ab", b""), budget)
    assert (sent, transfer.sent, transfer.state) == (b"ab", 2, State.SENT)


async def test_a_broken_connection_leaves_the_body_partial(
    budget: UploadBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_way_to_nobody(monkeypatch)

    def reset(number: int) -> None:
        if number == 2:
            raise ConnectionResetError

    sink = Sink()
    sink.before_write = reset
    transfer = Transfer(3 * PIECE)
    with pytest.raises(ConnectionResetError):
        await writer.write(body_of(bytes(3 * PIECE)), sink, transfer, budget)
    assert (transfer.state, transfer.sent) == (State.PARTIAL, PIECE)
    assert budget.active == 0


async def test_progress_counts_accepted_bytes_and_steps_back(
    budget: UploadBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_way_to_nobody(monkeypatch)
    monkeypatch.setattr(writer, "PROGRESS_INTERVAL", 0.0)
    told: list[Progress] = []
    recipe = body_of(bytes(2 * PIECE), b"end")
    total = recipe.length
    assert total is not None
    await writer.write(recipe, Sink(), Transfer(total, 1, told.append), budget)
    assert [progress.sent for progress in told] == [PIECE, 2 * PIECE, total]
    assert {progress.total for progress in told} == {total}
    told.clear()
    await writer.write(recipe, Sink(), Transfer(total, 2, told.append), budget)
    assert [progress.sent for progress in told] == [0, PIECE, 2 * PIECE, total]
    assert {progress.attempt for progress in told} == {2}
    assert told[-1].fraction == 1.0


async def test_progress_is_told_now_and_then_and_at_the_end(
    budget: UploadBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = itertools.count(step=PROGRESS_INTERVAL / 100)
    clock = SimpleNamespace(monotonic=lambda: next(moments), time=time.time)
    monkeypatch.setattr(writer, "time", clock)
    told: list[Progress] = []
    recipe = body_of(*[b"x"] * 5000)
    await writer.write(recipe, Sink(), Transfer(5000, on_progress=told.append), budget)
    assert 48 <= len(told) <= 52  # every hundredth, as floats round
    assert told[-1] == Progress(5000, 5000)
