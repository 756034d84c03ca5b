"""Many calls at once: lazy, bounded, in order or as they finish, isolated, cancelled cleanly."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memories_async import ConfigurationError, Outcome, OutcomeUnknown, batches
from tests.emulator.conftest import until
from tests.virtual_clock import VirtualClock, settle

pytestmark = pytest.mark.anyio


class Calls:
    """Calls that end when told to, counted while they run."""

    def __init__(self) -> None:
        self.started: list[object] = []
        self.cancelled: list[object] = []
        self.running = 0
        self.most = 0
        self.ends: dict[object, asyncio.Future[object]] = {}

    async def __call__(self, item: object) -> object:
        self.started.append(item)
        self.running += 1
        self.most = max(self.most, self.running)
        self.ends[item] = asyncio.get_running_loop().create_future()
        try:
            return await self.ends[item]
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        finally:
            self.running -= 1

    def finish(self, item: object) -> None:
        self.ends[item].set_result(f"result of {item}")


class Supply:
    """An iterable that says how much was taken of it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            self.taken += 1
            yield number


async def double(item: int) -> int:
    await asyncio.sleep(0)
    return 2 * item


async def collect(iterator: AsyncIterator[Outcome[object]]) -> list[Outcome[object]]:
    return [outcome async for outcome in iterator]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3, 20])
@pytest.mark.parametrize("concurrency", [1, 4, 100])
async def test_every_item_has_one_outcome(ordered: bool, count: int, concurrency: int) -> None:
    outcomes = [
        outcome
        async for outcome in batches.run(
            range(count), double, concurrency=concurrency, ordered=ordered
        )
    ]
    assert {outcome.index for outcome in outcomes} == set(range(count))
    for outcome in outcomes:
        assert outcome.source == outcome.index
        assert outcome.unwrap() == 2 * outcome.index
        assert outcome.error is None
    if ordered:
        assert [outcome.index for outcome in outcomes] == list(range(count))


async def test_items_of_an_async_iterable() -> None:
    closed = []

    async def supply() -> AsyncIterator[int]:
        try:
            for number in range(5):
                await asyncio.sleep(0)
                yield number
        finally:
            closed.append(True)

    outcomes = [o async for o in batches.run(supply(), double, concurrency=2, ordered=True)]
    assert [outcome.value for outcome in outcomes] == [0, 2, 4, 6, 8]
    assert closed == [True]


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_concurrency_is_at_least_one(concurrency: int) -> None:
    supply = Supply(1)
    iterator = batches.run(supply, double, concurrency=concurrency, ordered=False)
    with pytest.raises(ConfigurationError, match=f"at least 1, not {concurrency}"):
        await anext(iterator)
    assert supply.taken == 0


async def test_nothing_is_taken_before_it_is_asked_for() -> None:
    supply = Supply(3)
    iterator = batches.run(supply, double, concurrency=2, ordered=False)
    await settle()
    assert supply.taken == 0
    assert (await anext(iterator)).value == 0
    await iterator.aclose()  # type: ignore[attr-defined]  # it is an async generator


async def test_no_more_in_flight_than_told_and_nothing_taken_ahead() -> None:
    calls, supply = Calls(), Supply(100)
    iterator = batches.run(supply, calls, concurrency=3, ordered=False)
    first = asyncio.ensure_future(anext(iterator))
    await settle()
    assert calls.started == [0, 1, 2]
    assert supply.taken == 3
    calls.finish(1)
    outcome = await first
    assert (outcome.index, outcome.value) == (1, "result of 1")
    await settle()
    assert supply.taken == 3, "nobody asks for more, so nothing more is taken"
    second = asyncio.ensure_future(anext(iterator))
    await settle()
    assert calls.started == [0, 1, 2, 3]
    calls.finish(0)
    assert (await second).index == 0
    await iterator.aclose()  # type: ignore[attr-defined]  # it is an async generator
    assert calls.most == 3
    assert calls.running == 0


async def test_outcomes_come_as_calls_finish() -> None:
    calls = Calls()
    collecting = asyncio.ensure_future(
        collect(batches.run("abc", calls, concurrency=3, ordered=False))
    )
    for item in "cab":
        await settle()
        calls.finish(item)
    assert [outcome.source for outcome in await collecting] == ["c", "a", "b"]


async def test_outcomes_come_in_order_if_so_told() -> None:
    calls = Calls()
    collecting = asyncio.ensure_future(
        collect(batches.run("abcd", calls, concurrency=2, ordered=True))
    )
    await settle()
    assert calls.started == ["a", "b"]
    calls.finish("b")
    await settle()
    assert calls.started == ["a", "b"], "what is finished and not yet yielded takes a place"
    calls.finish("a")
    await settle()
    assert calls.started == ["a", "b", "c", "d"]
    calls.finish("d")
    calls.finish("c")
    assert [outcome.source for outcome in await collecting] == ["a", "b", "c", "d"]


async def test_one_failure_leaves_the_others_alone() -> None:
    async def call(item: int) -> int:
        if item % 2:
            raise ValueError(item)
        return item

    outcomes = [o async for o in batches.run(range(4), call, concurrency=2, ordered=True)]
    assert [outcome.value for outcome in outcomes] == [0, None, 2, None]
    assert [type(outcome.error) for outcome in outcomes] == [type(None), ValueError] * 2
    with pytest.raises(ValueError, match="1"):
        outcomes[1].unwrap()


async def test_a_slow_supply_holds_up_no_results() -> None:
    more = asyncio.Event()

    async def supply() -> AsyncIterator[int]:
        yield 1
        await more.wait()
        yield 2

    iterator = batches.run(supply(), double, concurrency=2, ordered=False)
    assert (await anext(iterator)).value == 2
    more.set()
    assert [outcome.value async for outcome in iterator] == [4]


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_supply_that_fails_ends_the_batch_and_cancels_what_is_in_flight(
    ordered: bool,
) -> None:
    calls = Calls()

    def supply() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        await collect(batches.run(supply(), calls, concurrency=5, ordered=ordered))
    assert calls.cancelled == [1, 2]
    assert calls.running == 0


async def test_ending_early_cancels_and_waits() -> None:
    before = asyncio.all_tasks()
    calls = Calls()
    unwound = []

    async def slow_to_unwind(item: int) -> object:
        try:
            return await calls(item)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            unwound.append(item)
            raise

    iterator = batches.run(Supply(10), slow_to_unwind, concurrency=3, ordered=False)
    first = asyncio.ensure_future(anext(iterator))
    await settle()
    calls.finish(0)
    await first
    await iterator.aclose()  # type: ignore[attr-defined]  # it is an async generator
    assert sorted(unwound) == [1, 2]
    assert asyncio.all_tasks() == before


async def test_cancelling_the_consumer_cancels_the_calls() -> None:
    before = asyncio.all_tasks()
    calls = Calls()
    collecting = asyncio.ensure_future(
        collect(batches.run(Supply(10), calls, concurrency=2, ordered=False))
    )
    await settle()
    collecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await collecting
    await settle()
    assert calls.cancelled == [0, 1]
    assert asyncio.all_tasks() == before


async def test_a_call_that_is_cancelled_by_itself_ends_the_batch() -> None:
    async def call(item: int) -> int:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await collect(batches.run([1], call, concurrency=1, ordered=False))


async def test_a_finished_item_is_not_kept() -> None:
    class Item:
        pass

    kept: list[weakref.ref[Item]] = []

    def supply() -> Iterator[Item]:
        for _ in range(50):
            item = Item()
            kept.append(weakref.ref(item))
            yield item
            del item

    async def call(item: Item) -> None:
        await asyncio.sleep(0)

    most = 0
    async for _ in batches.run(supply(), call, concurrency=2, ordered=False):
        gc.collect(0)
        most = max(most, sum(reference() is not None for reference in kept))
    assert most <= 6


@settings(max_examples=40, deadline=None)
@given(
    delays=st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0, None]), max_size=15),
    concurrency=st.integers(1, 5),
    ordered=st.booleans(),
)
def test_any_mixture_of_quick_slow_and_failing_calls(
    delays: list[float | None], concurrency: int, ordered: bool
) -> None:
    async def run() -> None:
        clock = VirtualClock()
        in_flight = 0

        async def call(delay: float | None) -> float:
            nonlocal in_flight
            in_flight += 1
            assert in_flight <= concurrency
            try:
                if delay is None:
                    raise ValueError("no delay")
                await clock.sleep(delay)
                return delay
            finally:
                in_flight -= 1

        outcomes = await clock.run(
            collect(batches.run(delays, call, concurrency=concurrency, ordered=ordered))
        )
        by_index = {outcome.index: outcome for outcome in outcomes}
        assert len(outcomes) == len(by_index) == len(delays)
        for index, delay in enumerate(delays):
            assert by_index[index].value == delay
            assert (by_index[index].error is None) == (delay is not None)
        if ordered:
            assert list(by_index) == list(range(len(delays)))

    asyncio.run(run())


# --- what is paid for and not handed on -------------------------------------------------------


async def noted(item: int) -> str:
    """Answer a zero, fail on a one, wait on a two; answer a three once all have begun."""
    if item == 3:
        await settle()
        return "the first"
    if item == 0:
        return "a caption"
    if item == 1:
        raise OutcomeUnknown("no answer came")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as cancelled:
        cancelled.add_note("it may have been billed")
        raise
    raise AssertionError


NOTES = [
    "item 1: the call had succeeded: 'a caption'",
    "item 2: the call had failed meanwhile: OutcomeUnknown: no answer came",
    "item 3: it may have been billed",
]


def starts(notes: list[str]) -> list[str]:
    return [note[: len(start)] for note, start in zip(notes, NOTES, strict=True)]


async def test_an_interrupted_batch_says_what_became_of_every_call() -> None:
    async def consume() -> None:
        async for _ in batches.run([2, 0, 1, 2], noted, concurrency=4, ordered=True):
            raise AssertionError  # the first never comes, and all others wait for it

    task = asyncio.create_task(consume())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.__notes__[0] == "item 0: it may have been billed"
    assert starts(caught.value.__notes__[1:]) == NOTES


async def test_a_source_that_fails_is_told_what_became_of_every_call() -> None:
    async def source() -> AsyncIterator[int]:
        for item in (2, 0, 1, 2):
            yield item
        await settle()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await anext(batches.run(source(), noted, concurrency=9, ordered=True))
    assert caught.value.__notes__[0] == "item 0: it may have been billed"
    assert starts(caught.value.__notes__[1:]) == NOTES


async def test_a_batch_that_is_left_early_logs_what_became_of_every_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = batches.run([3, 0, 1, 2], noted, concurrency=4, ordered=True)
    assert (await anext(batch)).unwrap() == "the first"
    with caplog.at_level(logging.WARNING):
        await batch.aclose()
    messages = [record.getMessage() for record in caplog.records]
    assert starts([line.removeprefix("A batch was ended early; ") for line in messages]) == NOTES


async def test_a_batch_that_ends_has_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    batch = batches.run([0, 1], noted, concurrency=2, ordered=True)
    outcomes = [outcome async for outcome in batch]
    assert [outcome.error is None for outcome in outcomes] == [True, False]
    assert not caplog.records


async def test_the_notes_of_a_large_batch_are_bounded() -> None:
    async def consume() -> None:
        async for _ in batches.run([2] * 300, noted, concurrency=300, ordered=False):
            raise AssertionError

    task = asyncio.create_task(consume())
    async with asyncio.timeout(20):
        await until(lambda: len(asyncio.all_tasks()) > 300)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert len(caught.value.__notes__) == batches.MOST_NOTES + 1
    assert caught.value.__notes__[-1].startswith("and ")


def test_an_enormous_answer_is_shown_in_part() -> None:
    assert batches.shown("x" * 9_000) == repr("x" * 9_000)
    assert len(batches.shown("x" * 90_000)) == batches.LONGEST_ANSWER + 1
