"""The time limit of an exchange: what asyncio's own would do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from memories_async._engine.transport.time_limit import TimeLimit

pytestmark = pytest.mark.anyio


async def wait_with(limit: TimeLimit, act: Callable[[], object] = lambda: None) -> None:
    """Wait for ever within a limit; act when that is cancelled."""
    with limit:
        try:
            await asyncio.Event().wait()
        finally:
            act()


def cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_limit_that_is_over_is_a_timeout_and_no_cancellation() -> None:
    limit = TimeLimit(now())
    with pytest.raises(TimeoutError) as raised:
        await wait_with(limit)
    assert limit.expired
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)
    assert cancellations() == 0


async def test_a_limit_is_moved_nearer() -> None:
    with pytest.raises(TimeoutError), TimeLimit(now() + 60) as limit:  # noqa: PT012  # one step
        limit.move(now())
        await asyncio.Event().wait()


async def test_a_limit_that_moves_away_does_not_come() -> None:
    with TimeLimit(now() + 60) as limit:
        first = limit._timer
        limit.move(now() + 120)
        second = limit._timer
        limit.move(None)
    assert first is not None
    assert second is not None
    assert (first.cancelled(), second.cancelled(), limit._timer) == (True, True, None)


async def test_a_limit_that_has_passed_is_not_moved() -> None:
    """The task is being cancelled already."""
    limit = TimeLimit(now())
    with pytest.raises(TimeoutError):
        await wait_with(limit, lambda: limit.move(None))
    assert limit.when is not None


async def test_a_limit_ends_with_its_block() -> None:
    """The body's task may write its last byte when the answer has been read."""
    with TimeLimit(now() + 60) as limit:
        timer = limit._timer
    limit.move(now())
    assert timer is not None
    assert timer.cancelled()
    assert limit._timer is timer


async def test_who_cancels_when_time_is_up_as_well_is_heard() -> None:
    """The task was cancelled twice: only the limit's own is taken back."""
    limit = TimeLimit(None)
    waiting = asyncio.create_task(wait_with(limit, limit._expire))
    await asyncio.sleep(0)  # it runs until it waits
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()
    assert waiting.cancelling() == 1


async def test_what_is_raised_as_time_is_up_is_raised_on() -> None:
    def fail() -> None:
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        await wait_with(TimeLimit(now()), fail)
    assert cancellations() == 0
