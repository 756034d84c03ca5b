"""What is recorded goes on at the pace of whoever takes it, and waits for nobody who has gone."""

from __future__ import annotations

import asyncio

import pytest

from memories_async.emulator.recording.streams import Pipe

pytestmark = pytest.mark.anyio


async def full_pipe() -> tuple[Pipe, list[bytes]]:
    """Return a pipe that takes no more for now, and what is in it."""
    pipe, pieces = Pipe(), [b"1", b"2", b"3", b"4"]
    for piece in pieces:
        await pipe.put(piece)
    return pipe, pieces


async def rounds(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_full_pipe_holds_up_whoever_fills_it_until_it_is_read() -> None:
    pipe, pieces = await full_pipe()
    putting = asyncio.ensure_future(pipe.put(b"5"))
    await rounds()
    assert not putting.done()
    reading = aiter(pipe)
    assert await anext(reading) == b"1"
    await putting
    ending = asyncio.ensure_future(pipe.end())
    assert [piece async for piece in reading] == [*pieces[1:], b"5"]
    await ending


async def test_nobody_waits_for_one_who_has_gone() -> None:
    pipe, _ = await full_pipe()
    putting = asyncio.ensure_future(pipe.put(b"5"))
    await rounds()
    pipe.drop()
    await putting
    for number in range(10):
        await pipe.put(b"%d" % number)
    await pipe.end()


async def test_who_is_cancelled_at_a_full_pipe_leaves_no_task_behind() -> None:
    pipe, _ = await full_pipe()
    before = asyncio.all_tasks()
    putting = asyncio.ensure_future(pipe.put(b"5"))
    await rounds()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert asyncio.all_tasks() == before
