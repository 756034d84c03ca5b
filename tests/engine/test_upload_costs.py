"""What an upload costs, in figures that no other load changes: calls, hops, memory, turns."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import threading
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from memories_async._engine.body import budget as budgets
from memories_async._engine.body import writer
from memories_async._engine.body.budget import (
    OTHERS,
    SMALL_PIECE,
    TIME_SLICE,
    YIELD_SECONDS,
    UploadBudget,
    UploadTurn,
)
from memories_async._engine.body.threads import Threads
from memories_async._engine.body.writer import PIECE, TLS_PIECE, Transfer
from memories_async.media.inspect import inspect_sources
from memories_async.media.readers import PREFETCH_SIZE
from memories_async.media.rules import CAPTION_VIDEO, EMBEDDED_IMAGE
from tests.engine.uploads import Sink, body_of, checked, film, send

pytestmark = pytest.mark.anyio

MEBIBYTE = 1 << 20


class Clock:
    """The loop's time: it passes where somebody works, and nowhere else."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    perf_counter = __call__


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(budgets, "loop_seconds", clock)
    monkeypatch.setattr(writer, "loop_seconds", clock)
    monkeypatch.setattr(budgets, "time", clock)
    return clock


class Working(Sink):
    """A sink that takes half a millisecond for a MiB, and notes what it got in every round."""

    def __init__(self, clock: Clock, rounds: list[int]) -> None:
        super().__init__()
        self.clock = clock
        self.rounds = rounds
        self.sizes: list[int] = []

    async def write(self, data: bytes | memoryview) -> None:
        self.clock.now += len(data) / MEBIBYTE * 0.0005
        self.rounds[-1] += len(data)
        self.sizes.append(len(data))


async def others(clock: Clock, rounds: list[int], busy: Any) -> None:
    """Take of each of the loop's rounds what ``busy`` says."""
    while True:
        clock.now += busy()
        rounds.append(0)
        await asyncio.sleep(0)


async def upload_beside(clock: Clock, busy: Any, uploads: int = 1) -> tuple[list[int], list[int]]:
    """Upload beside others; return the sizes of the writes and the bytes of each round."""
    rounds, budget = [0], UploadBudget()
    sinks = [Working(clock, rounds) for _ in range(uploads)]
    beside = asyncio.create_task(others(clock, rounds, busy))
    recipe = body_of(bytes(8 * MEBIBYTE))
    await asyncio.gather(
        *(writer.write(recipe, sink, Transfer(recipe.length), budget, TLS_PIECE) for sink in sinks)
    )
    beside.cancel()
    budget.close()
    return [size for sink in sinks for size in sink.sizes], rounds


@pytest.mark.parametrize("uploads", [1, 8])
async def test_pieces_are_large_where_nobody_else_wants_the_loop(
    uploads: int, clock: Clock
) -> None:
    sizes, rounds = await upload_beside(clock, lambda: OTHERS / 2, uploads)
    assert set(sizes) <= {TLS_PIECE, 8 * MEBIBYTE % TLS_PIECE}
    # What other uploads take is no reason to give way to them; in each round one has its turn.
    assert max(rounds) <= TIME_SLICE / 0.0005 * MEBIBYTE + TLS_PIECE


@pytest.mark.parametrize("uploads", [1, 8])
async def test_pieces_are_small_where_others_want_the_loop(uploads: int, clock: Clock) -> None:
    sizes, rounds = await upload_beside(clock, lambda: 2 * OTHERS, uploads)
    fair = min(SMALL_PIECE * uploads, TLS_PIECE)  # whose turn comes rarer writes more
    large = [size for size in sizes if size > fair]
    assert len(large) <= 2 * uploads  # until they noticed
    assert max(rounds[4:]) <= max(fair, 2 * SMALL_PIECE)


async def test_uploads_have_their_turns_one_after_the_other(clock: Clock) -> None:
    """Else whatever else comes due waits for a piece of each of them."""
    rounds, budget, order = [0], UploadBudget(), list[int]()

    class Named(Working):
        def __init__(self, number: int) -> None:
            super().__init__(clock, rounds)
            self.number = number

        async def write(self, data: bytes | memoryview) -> None:
            await super().write(data)
            order.append(self.number)

    beside = asyncio.create_task(others(clock, rounds, lambda: 2 * OTHERS))
    recipe = body_of(bytes(8 * MEBIBYTE))
    await asyncio.gather(
        *(
            writer.write(recipe, Named(number), Transfer(recipe.length), budget, TLS_PIECE)
            for number in range(8)
        )
    )
    beside.cancel()
    turns = [number for number, _ in itertools.groupby(order)]
    assert turns[8:160] == turns[:8] * 19
    assert max(rounds[4:]) == TLS_PIECE


@pytest.mark.parametrize("moment", ["first", "called", "next", "in line", "last"])
async def test_a_cancelled_upload_leaves_its_turn_to_others(clock: Clock, moment: str) -> None:
    rounds, budget = [0], UploadBudget()
    recipe = body_of(bytes(8 * MEBIBYTE))

    class Cancelling(Working):
        async def write(self, data: bytes | memoryview) -> None:
            await super().write(data)
            if len(self.sizes) == 5 and moment != "first":
                # This upload's turn: the next was called when it began, and has not run yet.
                number = {"called": 1, "next": 2, "in line": 3, "last": 7}[moment]
                uploads[number].cancel()

    sinks = [Cancelling(clock, rounds), *(Working(clock, rounds) for _ in range(7))]
    uploads = [
        asyncio.create_task(writer.write(recipe, sink, Transfer(recipe.length), budget, TLS_PIECE))
        for sink in sinks
    ]
    if moment == "first":
        await asyncio.sleep(0)  # each has asked for its first turn; this one's is the next
        uploads[0].cancel()
    ended = await asyncio.gather(*uploads, return_exceptions=True)
    assert sum(isinstance(error, asyncio.CancelledError) for error in ended) == 1
    assert [sum(sink.sizes) for sink in sinks].count(8 * MEBIBYTE) == 7
    assert budget.active == 0
    # Alone again, one has each round's turn and asks nobody.
    await asyncio.wait_for(budget.give_way(UploadTurn()), 5)


async def test_pieces_grow_again_once_the_others_are_done(clock: Clock) -> None:
    ends = clock.now + YIELD_SECONDS
    sizes, _ = await upload_beside(clock, lambda: 2 * OTHERS if clock.now < ends else OTHERS / 4, 2)
    small = [index for index, size in enumerate(sizes) if size == 2 * SMALL_PIECE]
    assert small
    assert sizes[-10:].count(TLS_PIECE) >= 5


async def test_waiting_for_the_peer_is_no_turn_of_ours(clock: Clock) -> None:
    """While an upload waits, others run: that is neither counted as its own nor forgotten."""

    class Waiting(Working):
        async def write(self, data: bytes | memoryview) -> None:
            await super().write(data)
            began = self.clock.now
            await asyncio.sleep(0)
            self.waited += self.clock.now - began

    rounds, budget = [0], UploadBudget()
    sink = Waiting(clock, rounds)
    beside = asyncio.create_task(others(clock, rounds, lambda: OTHERS / 2))
    recipe = body_of(bytes(8 * MEBIBYTE))
    await writer.write(recipe, sink, Transfer(recipe.length), budget, TLS_PIECE)
    beside.cancel()
    assert set(sink.sizes) <= {TLS_PIECE, 8 * MEBIBYTE % TLS_PIECE}


async def test_the_threads_clock_is_asked_twice_a_turn(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a system call: once for each piece and thrice more a turn, it slowed an upload."""
    asked = 0

    def counted() -> float:
        nonlocal asked
        asked += 1
        return clock.now

    monkeypatch.setattr(budgets, "loop_seconds", counted)
    monkeypatch.setattr(writer, "loop_seconds", counted)
    sizes, rounds = await upload_beside(clock, lambda: OTHERS / 2)
    turns = sum(size > 0 for size in rounds)
    assert len(sizes) > turns  # more than a piece each
    assert asked <= 2 * turns + 2


# Costs.


class Calls:
    """Counts the calls of the system that are about one file."""

    def __init__(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        self._file: set[object] = {path}
        for name in ("open", "stat", "fstat", "preadv", "pread", "lseek", "close"):
            monkeypatch.setattr(os, name, self._counting(name, getattr(os, name)))

    def _counting(self, name: str, function: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            ours = arguments[0] in self._file
            self.counts[name] += ours
            result = function(*arguments, **named)
            if ours and name == "open":
                self._file.add(result)
            elif ours and name == "close":
                self._file.discard(arguments[0])
            return result

        return counted


@pytest.fixture
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A debugging loop takes longer for an empty round than others would for their work."""
    monkeypatch.setattr(budgets, "OTHERS", 1.0)


@pytest.mark.usefixtures("nobody_else")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reads without waiting for a disk")
async def test_system_calls_of_a_large_file(
    budget: UploadBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read and one write for each piece, and four calls for the file as such."""
    path = tmp_path / "a.mp4"
    path.write_bytes(film(64) + bytes(64 * MEBIBYTE - 64))
    calls = Calls(str(path), monkeypatch)
    sink = Sink()
    await send(body_of(b"<", checked(str(path)), b">"), budget, sink)
    assert sum(map(len, sink.pieces)) == 64 * MEBIBYTE + 2
    assert len(sink.pieces) <= 64 * MEBIBYTE // PIECE * 1.05 + 2
    # Where the page cache lacks a page, a thread reads a MiB instead.
    reads = calls.counts.pop("preadv") + calls.counts.pop("pread")
    assert reads <= len(sink.pieces) * 1.05 + 2
    assert sum(calls.counts.values()) <= 9, calls.counts


def no_clock() -> float:
    raise AssertionError("a clock was asked")


async def test_a_small_file_costs_one_hop_and_five_system_calls(
    budget: UploadBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened once, and its first bytes are looked at in the buffer that is sent."""
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(PREFETCH_SIZE - 8))
    hops: list[object] = []
    enqueue = Threads._enqueue

    def counted(self: Threads, job: Any) -> None:
        hops.append(job)
        enqueue(self, job)

    monkeypatch.setattr(Threads, "_enqueue", counted)
    monkeypatch.setattr(writer, "loop_seconds", no_clock)  # each look at it is a system call
    calls = Calls(str(path), monkeypatch)
    (attachment,) = await inspect_sources([str(path)], EMBEDDED_IMAGE, budget)
    sink = Sink()
    await send(body_of(b"<", attachment, b">"), budget, sink)
    assert len(hops) == 1
    assert +calls.counts == dict.fromkeys(["open", "stat", "fstat", "pread", "close"], 1)
    assert len(sink.pieces) == 3


async def test_memory_of_an_upload(budget: UploadBudget, tmp_path: Path) -> None:
    """One piece, whatever the size of the file, and nothing that stays."""
    path = tmp_path / "a.mp4"
    path.write_bytes(film(64) + bytes(32 * MEBIBYTE))

    class Dropping(Sink):
        async def write(self, data: bytes | memoryview) -> None:
            await asyncio.sleep(0)

    (attachment,) = await inspect_sources([str(path)], CAPTION_VIDEO, budget)
    await send(body_of(attachment), budget, Dropping())
    tracemalloc.start()
    await send(body_of(attachment), budget, Dropping())
    left, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 2 * PIECE + MEBIBYTE
    assert left <= 64 * 1024


async def test_a_picture_is_held_once_and_let_go_once_it_has_left(
    budget: UploadBudget, tmp_path: Path
) -> None:
    """What waits for its answer holds no content: of sixty calls at once that is 12 MB."""
    path, size = tmp_path / "a.png", 200 * 1024
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(size - 8))
    small = tmp_path / "b.png"
    small.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8))

    class Dropping(Sink):
        async def write(self, data: bytes | memoryview) -> None:
            pass

    for source in (small, path):  # what is made once has been made with the first
        tracemalloc.start()
        (attachment,) = await inspect_sources([str(source)], EMBEDDED_IMAGE, budget)
        await send(body_of(b"head", attachment, b"tail"), budget, Dropping())
        left, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert attachment.prefetched is not None  # sent from memory, in the hop that checked it
    assert attachment.prefetched.take() is None
    assert peak <= 1.25 * size
    assert left <= 0.2 * size


async def test_threads_of_a_hundred_uploads(budget: UploadBudget, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(film(64) + bytes(PREFETCH_SIZE))
    before = threading.active_count()
    attachments = [
        (await inspect_sources([str(path)], CAPTION_VIDEO, budget))[0] for _ in range(100)
    ]
    await asyncio.gather(*(send(body_of(attachment), budget) for attachment in attachments))
    assert threading.active_count() <= before + 5
