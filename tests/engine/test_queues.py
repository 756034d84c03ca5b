"""The lock that goes to the lowest number, and what a cancellation leaves of it."""

from __future__ import annotations

import asyncio

import pytest

from memories_async._engine.queues import Queue

pytestmark = pytest.mark.anyio


async def turn() -> None:
    """Let every task that can go on go on."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_who_was_sent_back_does_not_lose_its_place() -> None:
    queue = Queue()
    await queue.acquire(0)
    order: list[int] = []

    async def have_it(number: int) -> None:
        await queue.acquire(number)
        order.append(number)
        queue.release()

    waiting = [asyncio.create_task(have_it(number)) for number in (3, 1, 2)]
    await turn()
    assert queue.length == 4
    queue.release()
    await asyncio.gather(*waiting)
    assert (order, queue.length) == ([1, 2, 3], 0)


async def test_one_that_leaves_while_it_waits_is_not_waited_for() -> None:
    queue = Queue()
    await queue.acquire(0)
    leaving, staying = (asyncio.create_task(queue.acquire(number)) for number in (1, 2))
    await turn()
    leaving.cancel()
    await asyncio.wait([leaving])
    assert queue.length == 2
    queue.release()
    await staying
    assert queue.length == 1


async def test_one_that_leaves_as_it_gets_the_lock_hands_it_on() -> None:
    queue = Queue()
    await queue.acquire(0)
    leaving, staying = (asyncio.create_task(queue.acquire(number)) for number in (1, 2))
    await turn()
    queue.release()  # to the first, whose task has not run since
    leaving.cancel()
    await asyncio.wait([leaving])
    await asyncio.wait_for(staying, 20)
    queue.release()
    assert queue.length == 0


async def test_all_that_left_free_the_lock() -> None:
    queue = Queue()
    await queue.acquire(0)
    leaving = asyncio.create_task(queue.acquire(1))
    await turn()
    leaving.cancel()
    queue.release()  # the one that leaves is still in the queue
    await asyncio.wait([leaving])
    await asyncio.wait_for(queue.acquire(2), 20)
