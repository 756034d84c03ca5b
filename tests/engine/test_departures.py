"""Between a call's count and its first byte: no hook, observer or late loop breaks a rate."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from memories_async import Bucket, Memories, Rate
from memories_async._engine.lanes import Lane, NotDue
from memories_async._engine.pacing import ASKED_JUST_NOW, Slot
from memories_async.limiters import MemoryLimiter
from memories_async.observe import Event, RequestLeaving
from tests.engine.raw_server import Conversation, RawServer, answer
from tests.limits.homes import most_in_a_window
from tests.virtual_clock import HurriedClock, VirtualClock

pytestmark = pytest.mark.anyio

ANSWER = answer({"embedding": [0.5]})
CALLS = 24
RATES = [Rate(1, 0.3), Rate(20), Rate(100), Rate(5, burst=3)]


async def depart(lane: Lane, before: Callable[[], Awaitable[object]]) -> None:
    """Do as a call does up to its first byte."""
    place = Slot(lane, None)
    while True:
        try:
            await place.enter()
            await place.confirm(before)
        except NotDue:
            await place.release(sent=False)
        else:
            await place.release(sent=True)
            return


@pytest.mark.parametrize("slowest", [0.004, 0.05, 0.4])
@pytest.mark.parametrize("rate", RATES, ids=str)
async def test_a_hook_of_any_length_breaks_no_window(rate: Rate, slowest: float) -> None:
    """As long as a thread's hop to a disk takes, sometimes: the count is that of the departure."""
    clock, limiter, chance = VirtualClock(), MemoryLimiter(), random.Random(7)
    left: list[float] = []
    since_asked: list[float] = []

    async def call(lane: Lane) -> None:
        asked: list[float] = []

        async def before() -> None:
            await clock.sleep(chance.random() * slowest)
            asked.append(clock.now)

        await depart(lane, before)
        left.append(clock.now)
        since_asked.append(clock.now - asked[-1])

    # As in two processes: the counts are shared, and nothing else is.
    lanes = [Lane("lane", rate, limiter, clock) for _ in range(2)]
    calls = [call(lanes[number % 2]) for number in range(CALLS)]
    await clock.run(_all(calls))
    assert len(left) == CALLS
    assert most_in_a_window(left, rate.seconds) <= rate.calls
    assert max(since_asked) <= ASKED_JUST_NOW + 1e-6
    # Each call may cost its turn as long as its hook takes, and no turn is left for nobody.
    assert max(left) - min(left) <= CALLS * 2.1 * (rate.seconds / rate.calls + slowest)


@pytest.mark.parametrize("shortest", [0.0, 0.015])
@pytest.mark.parametrize("rate", [Rate(5), Rate(20)], ids=str)
async def test_a_slow_hook_costs_no_turns(rate: Rate, shortest: float) -> None:
    """It is asked while the call waits for its turn: a journal on a disk takes 15 ms each time."""
    clock, chance, calls = VirtualClock(), random.Random(11), 120
    lane, left, asked = Lane("lane", rate, MemoryLimiter(), clock), list[float](), list[int]()

    async def call() -> None:
        times: list[float] = []

        async def before() -> None:
            await clock.sleep(shortest + chance.random() * (0.015 - shortest))
            times.append(clock.now)

        await depart(lane, before)
        left.append(clock.now)
        asked.append(len(times))
        assert clock.now - times[-1] <= ASKED_JUST_NOW + 1e-6

    await clock.run(_all(call() for _ in range(calls)))
    assert most_in_a_window(left, rate.seconds) <= rate.calls
    assert (calls - 1) / (max(left) - min(left)) >= 0.98 * rate.calls / rate.seconds
    assert sum(asked) <= calls + 2


@pytest.mark.parametrize("takes", [0.001, 0.012, 0.03])
@pytest.mark.parametrize("processes", [1, 3])
async def test_a_slow_hook_takes_no_part_of_the_rate(processes: int, takes: float) -> None:
    """A permit that ran out while a ledger was asked cost each call two turns: half of the rate."""
    clock, limiter, rate = VirtualClock(), MemoryLimiter(), Rate(20)
    left: list[float] = []

    async def call(lane: Lane) -> None:
        await depart(lane, lambda: clock.sleep(takes))
        left.append(clock.now)

    lanes = [Lane("lane", rate, limiter, clock) for _ in range(processes)]
    calls = [call(lanes[number % processes]) for number in range(200)]
    await clock.run(_all(calls))
    assert most_in_a_window(left, rate.seconds) <= rate.calls
    assert max(left) - min(left) <= 1.05 * 199 * rate.seconds / rate.calls


async def _all(calls: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*calls)


async def test_throttled_calls_without_a_rate_leave_at_once_when_their_turn_comes() -> None:
    """The spacing that throttling brought counts from a call's own turn, and ages it not."""
    clock = VirtualClock()
    lane, left = Lane("lane", None, MemoryLimiter(), clock), list[float]()

    async def before() -> None:
        await clock.sleep(0.02)

    async def call() -> None:
        await depart(lane, before)
        left.append(clock.now)

    for _ in range(2):
        await clock.advance(await lane.throttled(None))
    await clock.run(_all(call() for _ in range(5)))
    assert len(left) == 5


async def test_an_observer_that_takes_long_breaks_no_window(tmp_path: Path) -> None:
    """A receipt is written to a disk once the call is counted, and before its first byte."""
    clock, chance, rate = HurriedClock(), random.Random(3), Rate(5)
    image = tmp_path / "image.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    left: list[float] = []

    async def serve(conversation: Conversation) -> None:
        while True:
            length = int((await conversation.head()).headers["content-length"])
            left.append(clock.now)
            await conversation.reader.readexactly(length)
            await conversation.send(ANSWER)

    class SlowDisk:
        def observe(self, event: Event, /) -> None:
            if isinstance(event, RequestLeaving):
                clock.now += chance.random() * 0.15

    async with (
        RawServer(serve) as server,
        Memories(
            "key",
            base_url=server.url,
            rates={Bucket.EMBEDDING: rate},
            clock=clock,
            observers=[SlowDisk()],
        ) as client,
    ):
        for _ in range(30):
            await client.embeddings.image(image)
    assert len(left) == 30
    assert most_in_a_window(left, rate.seconds) <= rate.calls
