"""Between a call's count and its first byte: no hook, observer or late loop breaks a rate."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from memories_async import Bucket, CallOptions, ConnectError, Memories, Rate
from memories_async._engine.lanes import Lane, NotDue
from memories_async._engine.pacing import HOOK_VALIDITY, Slot
from memories_async.limiters import MemoryLimiter
from memories_async.observe import Event, RequestLeaving
from tests.engine.raw_server import Conversation, RawServer, answer
from tests.limits.homes import most_in_a_window
from tests.virtual_clock import HurriedClock, VirtualClock, settle

pytestmark = pytest.mark.anyio

ANSWER = answer({"embedding": [0.5]})
CALLS = 24
RATES = [Rate(1, 0.3), Rate(20), Rate(100), Rate(5, burst=3)]


async def depart(lane: Lane, before: Callable[[], Awaitable[object]]) -> None:
    """Do as a call does up to its first byte."""
    place = Slot(lane, None)
    while True:
        try:
            await place.reserve()
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
    interval = lanes[0].interval
    holds = HOOK_VALIDITY + (interval if slowest > interval else 0.0)
    assert max(since_asked) <= holds + 1e-6
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
        assert clock.now - times[-1] <= HOOK_VALIDITY + 1e-6

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


@pytest.mark.parametrize("takes", [0.012, 0.03, 0.2])
async def test_hooks_that_take_longer_than_a_turn_are_asked_side_by_side(takes: float) -> None:
    """One after the other they would leave the rest of the rate to nobody."""
    clock, rate, calls = VirtualClock(), Rate(100), 200
    lane, left = Lane("lane", rate, MemoryLimiter(), clock), list[float]()

    async def call() -> None:
        await depart(lane, lambda: clock.sleep(takes))
        left.append(clock.now)

    await clock.run(_all(call() for _ in range(calls)))
    assert most_in_a_window(left, rate.seconds) <= rate.calls
    assert max(left) - min(left) <= 0.7 * calls * takes + calls * rate.seconds / rate.calls


async def test_a_hook_may_wait_for_another_call_of_its_lane() -> None:
    """Calls of one account share a lane, whoever makes them: nobody's hook holds it."""
    clock = VirtualClock()
    lane, left, passed = Lane("lane", Rate(5), MemoryLimiter(), clock), list[str](), asyncio.Event()

    async def waits() -> None:
        await passed.wait()

    async def passes() -> None:
        passed.set()

    async def call(name: str, before: Callable[[], Awaitable[object]]) -> None:
        await depart(lane, before)
        left.append(name)

    before = {"first": passes, "waits": waits, "other": passes}
    started = clock.now

    async def all_of_them() -> None:
        await call("first", passes)
        passed.clear()
        await _all(call(name, before[name]) for name in ("waits", "other"))

    await clock.run(all_of_them())
    assert left == ["first", "other", "waits"]
    assert clock.now - started < 1.0


async def test_a_hook_runs_in_its_call_s_own_task() -> None:
    """A job knows by the task which of its calls may have been billed, also of a slow hook's."""
    clock = VirtualClock()
    lane, seen = Lane("lane", Rate(5), MemoryLimiter(), clock), list[object]()

    async def before() -> None:
        await clock.sleep(0.4)
        seen.append(asyncio.current_task())

    async def three() -> set[object]:
        tasks = {asyncio.ensure_future(depart(lane, before)) for _ in range(3)}
        await asyncio.gather(*tasks)
        return {*tasks}

    assert await clock.run(three()) == {*seen}


async def test_a_call_that_is_cancelled_takes_its_hook_with_it() -> None:
    """Whether the hook is awaited at the head of the line or beside it; the next one goes on."""
    for turns in range(40):
        clock = VirtualClock()
        lane, ended = Lane("lane", Rate(5), MemoryLimiter(), clock), list[str]()

        async def before(ended: list[str] = ended) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("hook")

        await clock.run(depart(lane, lambda clock=clock: clock.sleep(0)))
        before_it = asyncio.all_tasks()
        task = asyncio.ensure_future(depart(lane, before))
        for _ in range(turns):
            await asyncio.sleep(0)
            await clock.advance(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()
        assert asyncio.all_tasks() == before_it
        assert len(ended) <= 1
        await clock.run(depart(lane, lambda clock=clock: clock.sleep(0)))


@pytest.mark.parametrize("ahead", [0, 2])
async def test_what_a_hook_raises_ends_the_call(ahead: int) -> None:
    """Also what would be tried again, were it the network's: it is asked once."""
    clock, asked = HurriedClock(), list[int]()

    async def serve(conversation: Conversation) -> None:
        while True:
            length = int((await conversation.head()).headers["content-length"])
            await conversation.reader.readexactly(length)
            await conversation.send(ANSWER)

    async def before() -> None:
        asked.append(1)
        raise ConnectError("the record cannot be reached")

    rates = {Bucket.EMBEDDING: Rate(5)}
    async with (
        RawServer(serve) as server,
        Memories("key", base_url=server.url, rates=rates, clock=clock) as client,
    ):
        for _ in range(ahead):
            await client.embeddings.image(asset_id="1")
        with pytest.raises(ConnectError, match="the record cannot be reached"):
            await client.embeddings.image(asset_id="1", options=CallOptions(before_sending=before))
    assert asked == [1]


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


@pytest.mark.parametrize("call", ["with a body", "without"])
async def test_an_observer_that_takes_long_breaks_no_window(call: str, tmp_path: Path) -> None:
    """A receipt is written to a disk once the call is counted, and before its first byte."""
    clock, chance, rate = HurriedClock(), random.Random(3), Rate(5)
    image = tmp_path / "image.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    left: list[float] = []

    async def serve(conversation: Conversation) -> None:
        while True:
            head = await conversation.head()
            left.append(clock.now)
            await conversation.reader.readexactly(int(head.headers.get("content-length", 0)))
            await conversation.send(ANSWER if call == "with a body" else answer([]))

    class SlowDisk:
        def observe(self, event: Event, /) -> None:
            if isinstance(event, RequestLeaving):
                clock.now += chance.random() * 0.15

    async with (
        RawServer(serve) as server,
        Memories(
            "key",
            base_url=server.url,
            rates=dict.fromkeys(Bucket, rate),
            clock=clock,
            observers=[SlowDisk()],
        ) as client,
    ):
        for _ in range(30):
            if call == "with a body":
                await client.embeddings.image(image)
            else:
                assert [hit async for hit in client.library.search_transcripts("hello")] == []
    assert len(left) == 30
    assert most_in_a_window(left, rate.seconds) <= rate.calls
