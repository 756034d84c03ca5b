"""Lanes in virtual time: order, spacing, the one shared pause, deadlines, and recovery."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from fractions import Fraction
from typing import ClassVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memories_async import Bucket, ConfigurationError, DeadlineExceeded, Rate, RateLimited
from memories_async._engine.lanes import SLOWEST, Lane, NotDue
from memories_async._engine.pacing import Pacer, Slot
from memories_async.clock import Clock, SystemClock
from memories_async.limiters import MemoryLimiter, Turn
from memories_async.secret import Secret
from tests.virtual_clock import START, VirtualClock, settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def lane(clock: Clock, rate: Rate | None = None) -> Lane:
    return Lane("lane", rate, MemoryLimiter(), clock)


async def leave(lane: Lane, until: float | None = None, *, place: Slot | None = None) -> Slot:
    """Do as a call does up to its first byte."""
    place = place or Slot(lane, until)
    while True:
        try:
            await place.reserve()
            await place.confirm()
        except NotDue:
            await place.release(sent=False)
        except BaseException:
            await place.release(sent=False)
            raise
        else:
            return place


class Entries:
    """Calls that enter a lane, and when each came through."""

    def __init__(self, lane: Lane, clock: VirtualClock) -> None:
        self.lane = lane
        self.clock = clock
        self.came: list[tuple[str, float]] = []

    async def enter(self, name: str, within: float | None = None) -> None:
        until = None if within is None else self.clock.now + within
        place = await leave(self.lane, until)
        self.came.append((name, round(self.clock.now - START, 3)))
        await place.release(sent=True)

    def start(self, name: str, within: float | None = None) -> asyncio.Task[None]:
        return asyncio.create_task(self.enter(name, within))


async def several(*work: Coroutine[object, object, None]) -> None:
    await asyncio.gather(*work)


# Rates.


async def test_without_a_rate_nobody_waits(clock: VirtualClock) -> None:
    entries = Entries(lane(clock), clock)
    await several(*(entries.enter(str(number)) for number in range(100)))
    assert len(entries.came) == 100
    assert clock.slept == []


async def test_calls_come_through_in_the_order_they_came(clock: VirtualClock) -> None:
    entries = Entries(lane(clock, Rate(1)), clock)
    await clock.run(several(*(entries.enter(str(number)) for number in range(5))))
    assert [name for name, _ in entries.came] == ["0", "1", "2", "3", "4"]
    assert [when for _, when in entries.came] == pytest.approx([0, 1, 2, 3, 4], rel=0.02)


async def test_a_rate_of_several_calls_spaces_them_evenly(clock: VirtualClock) -> None:
    entries = Entries(lane(clock, Rate(4, 10)), clock)
    await clock.run(several(*(entries.enter(str(number)) for number in range(5))))
    assert [when for _, when in entries.came] == pytest.approx([0, 2.5, 5, 7.5, 10], rel=0.02)


async def test_a_burst_where_it_is_asked_for_and_never_two_in_a_period(clock: VirtualClock) -> None:
    entries = Entries(lane(clock, Rate(4, 10, burst=3)), clock)
    await clock.run(several(*(entries.enter(str(number)) for number in range(6))))
    assert [when for _, when in entries.came] == pytest.approx([0, 0, 0, 5, 10, 15], rel=0.03)
    await clock.advance(30)
    entries.came.clear()
    await several(*(entries.enter(str(number)) for number in range(3)))
    assert len(entries.came) == 3, "after a rest they come together again"


@settings(max_examples=30, deadline=None)
@given(
    rate=st.builds(
        lambda calls, seconds, spare: Rate(calls, seconds, burst=max(1, calls - spare)),
        st.integers(1, 4),
        st.sampled_from([0.5, 1, 60]),
        st.integers(0, 4),
    ),
    starts=st.lists(st.floats(0, 100), min_size=1, max_size=15).map(sorted),
)
def test_no_window_ever_holds_more_than_the_rate(rate: Rate, starts: list[float]) -> None:
    async def run() -> list[tuple[str, float]]:
        clock = VirtualClock()
        entries = Entries(lane(clock, rate), clock)

        async def start_later(name: str, after: float) -> None:
            if after:
                await clock.sleep(after)
            await entries.enter(name)

        await clock.run(several(*(start_later(str(n), at) for n, at in enumerate(starts))))
        return entries.came

    came = asyncio.run(run())
    times = [when for _, when in came]
    assert len(came) == len(starts)
    for first, beyond in zip(times, times[rate.calls :], strict=False):
        assert beyond - first > rate.seconds


@settings(max_examples=30, deadline=None)
@given(
    calls=st.integers(1, 3),
    takes=st.lists(st.tuples(st.floats(0, 3), st.one_of(st.none(), st.floats(0, 3))), max_size=15),
)
def test_unused_turns_break_no_window(calls: int, takes: list[tuple[float, float | None]]) -> None:
    """Each take waits a while, enters, and may find after another while that it was unused."""

    async def run() -> list[float]:
        clock = VirtualClock()
        shared = lane(clock, Rate(calls, 2))
        made: list[float] = []

        async def call(pause: float, unused_after: float | None) -> None:
            await clock.sleep(pause)
            turn = await leave(shared)
            if unused_after is None:
                made.append(clock.now)
            else:
                await clock.sleep(unused_after)
                await turn.release(sent=False)

        await clock.run(several(*(call(*take) for take in takes)))
        return sorted(made)

    made = asyncio.run(run())
    for first, beyond in zip(made, made[calls:], strict=False):
        assert beyond - first > 2


async def test_two_lanes_do_not_wait_for_each_other(clock: VirtualClock) -> None:
    pacer = Pacer({Bucket.SEARCH: Rate(1)}, MemoryLimiter(), clock)
    key, other = Secret("key", "X"), Secret("other", "X")
    search = pacer.lane(key, Bucket.SEARCH)
    assert pacer.lane(Secret("key", "Y"), Bucket.SEARCH) is search
    assert pacer.lane(other, Bucket.SEARCH) is not search
    assert pacer.lane(key, Bucket.EMBEDDING) is not search
    for each in (search, pacer.lane(other, Bucket.SEARCH), pacer.lane(key, Bucket.EMBEDDING)):
        await leave(each)
    assert clock.slept == []
    assert search.interval == pytest.approx(1, rel=0.02)
    assert pacer.lane(key, Bucket.EMBEDDING).interval == 0


async def test_clients_that_share_a_limiter_share_an_account_s_limit(clock: VirtualClock) -> None:
    limiter = MemoryLimiter()
    rates = {Bucket.SEARCH: Rate(1)}
    key = Secret("key", "X")
    lanes = [Pacer(rates, limiter, clock).lane(key, Bucket.SEARCH) for _ in range(2)]
    entries = [Entries(lane, clock) for lane in lanes]
    await clock.run(several(*(each.enter("a") for each in entries for _ in range(2))))
    times = sorted(when for each in entries for _, when in each.came)
    assert times == pytest.approx([0, 1, 2, 3], rel=0.02)


async def test_the_limiter_never_sees_the_key(clock: VirtualClock) -> None:
    class Spy(MemoryLimiter):
        lanes: ClassVar[list[str]] = []

        async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
            self.lanes.append(lane)
            return await super().take(lane, rate, clock)

    pacer = Pacer({Bucket.SEARCH: Rate(1)}, Spy(), clock)
    await leave(pacer.lane(Secret("sk-SENTINEL-0123456789", "X"), Bucket.SEARCH))
    [lane] = Spy.lanes
    assert "SENTINEL" not in lane
    assert lane.endswith(":search")


@pytest.mark.parametrize(
    "turn",
    [None, 0.5, Turn(wait=float("nan")), Turn(wait=float("inf")), Turn("1")],  # type: ignore[arg-type]
)
async def test_a_limiter_that_returns_no_turn_is_asked_once(
    clock: VirtualClock, turn: object
) -> None:
    """One that says to come back before now was asked without end, at full speed."""

    class Odd(MemoryLimiter):
        asked = 0

        async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
            self.asked += 1
            return cast("Turn", turn)

    limiter = Odd()
    lane = Pacer({Bucket.SEARCH: Rate(1)}, limiter, clock).lane(Secret("key", "X"), Bucket.SEARCH)
    with pytest.raises(ConfigurationError, match=r"the limiter's take\(\) returned"):
        await leave(lane)
    assert limiter.asked == 1


@pytest.mark.parametrize("wait", [-1, -1e-9, Fraction(1, 2000)])
async def test_a_limiter_that_reckons_otherwise_is_asked_a_thousand_times_a_second(
    clock: VirtualClock, wait: float
) -> None:
    """One that waits less than no time was asked without end, at full speed."""

    class Odd(MemoryLimiter):
        times: ClassVar[list[float]] = []

        async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
            self.times.append(clock.monotonic())
            return Turn(wait) if len(self.times) < 5 else Turn(False)

    Odd.times.clear()
    lane = Pacer({Bucket.SEARCH: Rate(1)}, Odd(), clock).lane(Secret("key", "X"), Bucket.SEARCH)
    await clock.run(leave(lane))
    assert Odd.times == pytest.approx([START + n / 1000 for n in range(5)])


# Cancellation.


async def test_a_sleeper_that_is_cancelled_harms_nobody(clock: VirtualClock) -> None:
    entries = Entries(lane(clock, Rate(1)), clock)
    tasks = [entries.start(name) for name in "abcd"]
    await settle()
    tasks[1].cancel()  # at the head of the queue, asleep
    tasks[2].cancel()  # behind it
    await clock.advance(1.1)
    assert [name for name, _ in entries.came] == ["a", "d"]
    assert tasks[1].cancelled()
    assert tasks[2].cancelled()
    await clock.run(entries.enter("e"))
    name, when = entries.came[-1]
    assert name == "e"
    assert when == pytest.approx(2, rel=0.02)


# The shared pause.


async def test_one_pause_for_all(clock: VirtualClock) -> None:
    paused = lane(clock)
    entries = Entries(paused, clock)
    assert await paused.throttled(None) == 1.0
    await clock.run(several(*(entries.enter(name) for name in "abc")))
    assert entries.came == [("a", 1.0), ("b", 1.0), ("c", 1.0)]
    assert clock.slept == [1.0], "one sleeps at the head of the queue, and nobody beside it"


async def test_reports_of_one_congestion_count_once(clock: VirtualClock) -> None:
    paused = lane(clock)
    assert [await paused.throttled(None) for _ in range(5)] == [1.0] * 5
    clock.now += 0.6
    assert await paused.throttled(None) == pytest.approx(0.4)
    clock.now += 0.5
    assert await paused.throttled(None) == 2.0, "the next congestion pauses longer"


async def test_what_the_service_says_counts(clock: VirtualClock) -> None:
    paused = lane(clock)
    assert await paused.throttled(7.0) == 7.0
    assert await paused.throttled(None) == 7.0
    assert await paused.throttled(3.0) == 7.0
    assert await paused.throttled(9.0) == 9.0
    entries = Entries(paused, clock)
    await clock.run(entries.enter("a"))
    assert entries.came == [("a", 9.0)]
    assert await lane(clock).throttled(0.0) == 0.0


async def test_a_pause_lasts_at_least_a_turn(clock: VirtualClock) -> None:
    clock.chance = 0.0
    assert await lane(clock, Rate(1, 60)).throttled(None) == pytest.approx(60, abs=0.2)
    assert await lane(clock).throttled(None) == 0


async def test_a_pause_lengthened_while_somebody_waits(clock: VirtualClock) -> None:
    paused = lane(clock)
    entries = Entries(paused, clock)
    await paused.throttled(5)
    entries.start("a")
    await clock.advance(4)
    await paused.throttled(10)
    await clock.advance(9.9)
    assert entries.came == []
    await clock.advance(0.2)
    assert entries.came == [("a", 14.0)]


# Deadlines: row 11 of the fault matrix.


async def test_a_turn_that_comes_too_late_is_refused_at_once(clock: VirtualClock) -> None:
    busy = lane(clock, Rate(1, 60))
    await leave(busy)
    clock.now += 1
    with pytest.raises(RateLimited) as caught:
        await leave(busy, clock.now + 10)
    assert caught.value.retry_after == pytest.approx(59, abs=0.1)
    assert "the next turn comes in 59.1 s, after the call's deadline" in str(caught.value)
    assert clock.slept == []


async def test_a_pause_beyond_the_deadline_is_refused_at_once(clock: VirtualClock) -> None:
    paused = lane(clock)
    await paused.throttled(30)
    with pytest.raises(RateLimited, match=r"the next turn comes in 30\.0 s"):
        await leave(paused, clock.now + 29)
    assert clock.slept == []


async def test_those_ahead_are_counted(clock: VirtualClock) -> None:
    entries = Entries(lane(clock, Rate(1)), clock)
    waiting = [entries.start(str(number)) for number in range(10)]
    await settle()
    with pytest.raises(RateLimited) as caught:
        await entries.enter("late", within=5)
    assert caught.value.retry_after == pytest.approx(10, abs=0.5)
    await clock.run(several(*(_finish(task) for task in waiting)))
    await clock.run(entries.enter("last", within=5))
    assert len(entries.came) == 11


async def test_those_who_come_through_together_are_not_counted_one_by_one(
    clock: VirtualClock,
) -> None:
    entries = Entries(lane(clock, Rate(3, 10, burst=3)), clock)
    await several(*(entries.enter("now") for _ in range(3)))
    await clock.advance(31)
    await several(*(entries.enter("soon", within=5) for _ in range(3)))
    assert [when for _, when in entries.came] == pytest.approx([0, 0, 0, 31, 31, 31])


async def _finish(task: asyncio.Task[None]) -> None:
    await task


# Unused turns.


async def test_an_unused_turn_goes_to_the_next(clock: VirtualClock) -> None:
    shared = lane(clock, Rate(1, 60))
    await (await leave(shared)).release(sent=False)
    await leave(shared)
    assert clock.slept == []
    with pytest.raises(RateLimited):
        await leave(shared, clock.now + 1)


@pytest.mark.parametrize("after", [0.3, 0.9, 1.1, 100])
async def test_an_unused_turn_counts_from_when_it_is_used(
    after: float, clock: VirtualClock
) -> None:
    shared = lane(clock, Rate(1))
    turn = await leave(shared)
    clock.now += after
    await turn.release(sent=False)
    await leave(shared)
    assert clock.slept == []
    with pytest.raises(RateLimited) as caught:
        await leave(shared, clock.now + 0.5)
    assert caught.value.retry_after == pytest.approx(1, abs=0.02)


async def test_several_unused_turns_are_several(clock: VirtualClock) -> None:
    shared = lane(clock, Rate(3, 10, burst=3))
    turns = [await leave(shared) for _ in range(3)]
    for turn in turns[:0:-1]:
        await turn.release(sent=False)
    for _ in range(2):
        await leave(shared, clock.now)
    with pytest.raises(RateLimited):
        await leave(shared, clock.now + 5)


async def test_without_a_rate_there_are_no_turns_to_give_back(clock: VirtualClock) -> None:
    free = lane(clock)
    await (await leave(free)).release(sent=False)
    await leave(free)
    assert clock.slept == []


async def test_without_a_rate_a_throttled_call_that_was_not_sent_holds_up_nobody(
    clock: VirtualClock,
) -> None:
    free = lane(clock)
    turn = await leave(free)
    await free.throttled(1)
    await clock.run(turn.confirm())
    await turn.release(sent=False)
    await leave(free)
    assert len(clock.slept) == 1


async def test_a_call_whose_connection_died_gives_its_turn_back_before_it_takes_another(
    clock: VirtualClock,
) -> None:
    place = await leave(lane(clock, Rate(1, 60)))
    await place.confirm()
    assert clock.slept == []


async def test_who_would_stand_too_long_with_a_connection_comes_again(clock: VirtualClock) -> None:
    """One waits a second for its turn; the next one's comes two seconds after that."""
    shared = lane(clock, Rate(1, 2))
    await (await leave(shared)).release(sent=True)
    clock.now += 1
    first = asyncio.create_task(shared.confirm(1, None))
    await settle()
    with pytest.raises(NotDue):
        await shared.confirm(2, None)
    with pytest.raises(DeadlineExceeded, match="while others had their turn"):
        await shared.confirm(3, clock.now, patient=True)
    await clock.advance(1.5)
    assert first.done()


async def test_who_waits_in_another_loop_is_not_waited_for(clock: VirtualClock) -> None:
    free, elsewhere = lane(clock), asyncio.new_event_loop()
    await free.throttled(30)
    waiting = elsewhere.create_task(leave(free))
    await asyncio.to_thread(elsewhere.run_until_complete, asyncio.sleep(0))
    clock.now += 30
    for _ in range(2):  # the first finds that the pause is over
        assert not (await leave(free)).lane.empty
    assert len(clock.slept) == 1
    waiting.cancel()
    await asyncio.to_thread(elsewhere.run_until_complete, asyncio.wait([waiting]))
    elsewhere.close()


# Repeated throttling lowers the rate; success lets it recover.


async def gaps(entries: Entries, count: int) -> list[float]:
    """Let so many calls through and return the times between them."""
    entries.came.clear()
    await entries.enter("first")
    for number in range(count):
        await entries.enter(str(number))
    times = [when for _, when in entries.came]
    return [round(after - before, 3) for before, after in itertools.pairwise(times)]


async def test_repeated_throttling_lowers_the_rate_and_success_raises_it(
    clock: VirtualClock,
) -> None:
    slowed = lane(clock)
    entries = Entries(slowed, clock)
    await slowed.throttled(None)
    await clock.advance(5)
    assert await clock.run(gaps(entries, 3)) == [0, 0, 0], "once is no pattern"
    await slowed.throttled(None)
    await clock.advance(5)
    assert await clock.run(gaps(entries, 3)) == [1, 1, 1]
    await slowed.throttled(None)
    await clock.advance(10)
    assert await clock.run(gaps(entries, 2)) == [2, 2]
    slowed.succeeded()
    assert await clock.run(gaps(entries, 2)) == [1.6, 1.6]
    for _ in range(30):
        slowed.succeeded()
    clock.slept.clear()
    assert await clock.run(gaps(entries, 3)) == [0, 0, 0]
    assert clock.slept == []


async def test_the_rate_has_a_floor(clock: VirtualClock) -> None:
    slowed = lane(clock)
    for _ in range(20):
        await slowed.throttled(None)
        clock.now += 100
    entries = Entries(slowed, clock)
    assert await clock.run(gaps(entries, 2)) == [SLOWEST, SLOWEST]


async def test_success_forgets_the_throttling_before(clock: VirtualClock) -> None:
    slowed = lane(clock)
    for _ in range(5):
        assert await slowed.throttled(None) == 1.0
        clock.now += 50
        slowed.succeeded()
    assert await clock.run(gaps(Entries(slowed, clock), 2)) == [0, 0]


def test_a_lane_serves_loop_after_loop() -> None:
    clock = VirtualClock()
    shared = lane(clock, Rate(2, 60, burst=2))

    async def enter_once(until: float | None = None) -> None:
        await leave(shared, until)

    for _ in range(2):
        asyncio.run(enter_once())
    with pytest.raises(RateLimited):
        asyncio.run(enter_once(clock.now + 1))


async def test_the_system_s_clock() -> None:
    clock = SystemClock()
    before, wall = clock.monotonic(), clock.wall()
    await clock.sleep(0)
    assert clock.monotonic() >= before
    assert clock.wall() >= wall - 1
    assert 0 <= clock.random() < 1
