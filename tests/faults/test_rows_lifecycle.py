"""Rows 47 to 49: calls that are cancelled, loops that end, and clients that are closed."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from memories_async import (
    Bucket,
    CallOptions,
    ClosedError,
    DeadlineExceeded,
    Memories,
    MemoriesError,
    OutcomeUnknown,
    Rate,
    RateLimited,
)
from memories_async.emulator import Drip, Emulator, Hang
from memories_async.emulator import HttpResponse as Answer
from memories_async.emulator import InjectedFault as Fault
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.limiters import MemoryLimiter
from memories_async.observe import Throttled
from tests.callbacks.conftest import free_port
from tests.faults.conftest import MP4, Stage, caption, failure_of, until
from tests.faults.proxy import Plan, Proxy

pytestmark = pytest.mark.anyio

ONE_A_MINUTE = {Bucket.CAPTION_IMAGE: Rate(1, 60), Bucket.CAPTION_VIDEO: Rate(1, 60)}


def descriptors() -> int:
    """Count the open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


async def cancel(call: asyncio.Future[object]) -> asyncio.CancelledError:
    """Cancel a call; assert that it ends at once and return what it ends with."""
    call.cancel()
    # What it could wait for, a stall or an answer, takes a minute and more.
    done, _ = await asyncio.wait([call], timeout=20)
    assert done, "it does not end"
    with pytest.raises(asyncio.CancelledError) as caught:
        await call
    return caught.value


def notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))


def one_at_a_time(stage: Stage) -> Memories:
    """Return a client whose next call waits where a place or a turn has been lost."""
    return stage.client(rates=ONE_A_MINUTE, limiter=MemoryLimiter(), max_connections=1)


async def test_row_47_cancelled_while_waiting_for_a_turn(stage: Stage) -> None:
    client = one_at_a_time(stage)
    await caption(client)
    before = descriptors()
    waiting = asyncio.ensure_future(caption(client))
    stage.clock.may_leap = waiting.done
    await until(lambda: stage.clock.slept)
    assert notes(await cancel(waiting)) == []
    assert descriptors() == before
    began = stage.clock.now
    await caption(client)
    assert stage.clock.now - began <= 60.1  # the one who left took no turn along
    await stage.saw(requests=2, billed=2)


async def test_row_47_cancelled_while_connecting(stage: Stage) -> None:
    client = one_at_a_time(stage)
    connecting = asyncio.ensure_future(caption(client))
    await asyncio.sleep(0)  # it has not gone further than the resolver
    while not connecting.done() and not _resolving():  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0)
    assert notes(await cancel(connecting)) == []
    await caption(client)
    assert stage.clock.slept == []  # the turn was given back, and the place in the pool
    await stage.saw(requests=1, billed=1)


def _resolving() -> bool:
    return any("resolve" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_row_47_cancelled_in_the_middle_of_the_body(stage: Stage, film: Path) -> None:
    client = one_at_a_time(stage)
    await caption(client)
    stage.emulator.ledger.clear()
    stage.recorded.events.clear()
    before = descriptors()
    stage.proxy.plans.append(Plan(body=0.5, how="stall"))
    half: list[int] = []
    uploading = asyncio.ensure_future(
        client.captions.video(film, "what", on_progress=lambda p: half.append(p.sent))
    )
    await until(lambda: half and half[-1] > 20_000_000)
    assert notes(await cancel(uploading)) == []
    await stage.aclose()
    await until(lambda: descriptors() <= before)
    await stage.saw(requests=1, billed=0)


async def test_row_47_a_partial_upload_has_taken_its_turn(stage: Stage, film: Path) -> None:
    client = one_at_a_time(stage)
    stage.proxy.plans.append(Plan(body=0.1, how="stall"))
    uploading = asyncio.ensure_future(client.captions.video(film, "what"))
    await until(lambda: stage.proxy.received > 1_000_000)
    await cancel(uploading)
    await client.captions.video(MP4, "what")
    assert sum(stage.clock.slept) == pytest.approx(60, abs=0.1)
    await until(lambda: stage.emulator.ledger.billed() == 1)


@pytest.mark.parametrize("moment", ["body", "processed"])
async def test_row_47_cancelled_after_the_body(stage: Stage, moment: str) -> None:
    client = one_at_a_time(stage)
    stage.emulator.faults.add(Fault("captions.image", Hang(), moment=moment))  # type: ignore[arg-type]
    before = descriptors()
    sent = asyncio.ensure_future(caption(client))
    await until(lambda: stage.emulator.ledger and stage.emulator.ledger[0].complete)
    [note] = notes(await cancel(sent))
    assert "may have been billed" in note
    assert "captions.image" in note
    await caption(client)
    assert sum(stage.clock.slept) == pytest.approx(60, abs=0.1)  # its turn was used
    await client.aclose()
    await until(lambda: descriptors() <= before + 2)  # what the emulator holds of its own
    assert len(stage.emulator.ledger) == 2
    assert stage.emulator.ledger.billed() == (2 if moment == "processed" else 1)


async def test_row_47_cancelled_in_the_middle_of_the_answer(stage: Stage) -> None:
    client = one_at_a_time(stage)
    stage.emulator.faults.add(Fault("captions.image", Drip(0.05), moment="processed"))
    sent = asyncio.ensure_future(caption(client))
    await until(lambda: stage.proxy.returned > 0)
    assert len(notes(await cancel(sent))) == 1
    await caption(client)
    await stage.saw(requests=2, billed=2)


async def _time_out_once_billed(stage: Stage) -> None:
    async def end(limit: asyncio.Timeout) -> None:
        await until(stage.emulator.ledger.billed)
        limit.reschedule(asyncio.get_running_loop().time())

    async with asyncio.timeout(None) as limit:
        ending = asyncio.ensure_future(end(limit))
        await asyncio.gather(caption(stage.client()), ending)


async def test_row_48_a_timeout_of_the_callers_own(stage: Stage) -> None:
    stage.emulator.faults.add(Fault("captions.image", Hang(), moment="processed"))
    with pytest.raises(TimeoutError) as caught:
        await _time_out_once_billed(stage)
    assert type(caught.value) is TimeoutError
    cancelled = caught.value.__cause__ or caught.value.__context__  # before Python 3.11.3
    assert isinstance(cancelled, asyncio.CancelledError)
    [note] = notes(cancelled)
    assert "may have been billed" in note
    await stage.saw(requests=1, billed=1)


async def test_row_48_within_a_task_group(stage: Stage) -> None:
    stage.emulator.faults.add(Fault("captions.image", Hang(), moment="processed"))
    client = stage.client()

    async def fail() -> None:
        await until(lambda: stage.emulator.ledger.billed())
        raise KeyError("other")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(caption(client))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await both()
    assert [type(error) for error in caught.value.exceptions] == [KeyError]
    await stage.saw(requests=1, billed=1)


def run(work: Callable[[], Awaitable[object]]) -> object:
    async def main() -> object:
        return await work()

    return asyncio.run(main())


def test_row_49_one_client_in_one_loop_after_another() -> None:
    client: Memories | None = None

    async def call() -> tuple[int, int]:
        nonlocal client
        async with Emulator(HashEngine(), port=port) as emulator:
            client = client or Memories("k", caption_key="k", base_url=emulator.url)
            await caption(client)
            return len(emulator.ledger), emulator.ledger.billed()

    port = free_port()
    assert run(call) == (1, 1)
    assert run(call) == (1, 1)
    assert client is not None
    run(client.aclose)
    with pytest.raises(ClosedError):
        run(call)
    del client
    gc.collect()  # and no complaint of a closed loop


def test_row_49_a_client_that_nobody_closed() -> None:
    async def call() -> None:
        async with Emulator(HashEngine()) as emulator:
            client = Memories("k", caption_key="k", base_url=emulator.url)
            await caption(client)

    run(call)
    gc.collect()


def test_row_49_a_loop_that_was_not_wound_up() -> None:
    """A loop closed without shutting its generators down: nothing can be done for it any more."""
    loop = asyncio.new_event_loop()
    emulator = Emulator(HashEngine())
    loop.run_until_complete(emulator.start())
    client = Memories("k", caption_key="k", base_url=emulator.url)
    loop.run_until_complete(caption(client))
    loop.run_until_complete(emulator.stop())
    loop.close()
    run(client.aclose)
    del client, loop
    gc.collect()


async def test_row_49_closed_before_a_call(stage: Stage) -> None:
    client = stage.client()
    await client.aclose()
    await client.aclose()
    assert type(await failure_of(caption(client))) is ClosedError
    await stage.saw(requests=0, billed=0)


async def test_row_49_closed_under_a_call_that_is_sent(stage: Stage) -> None:
    stage.emulator.faults.add(Fault("captions.image", Hang(), moment="processed"))
    client = stage.client()
    calling = asyncio.ensure_future(caption(client))
    await until(lambda: stage.emulator.ledger.billed())
    await client.aclose()
    assert isinstance(await failure_of(calling), OutcomeUnknown)
    await stage.saw(requests=1, billed=1)


async def test_row_49_closed_under_a_call_that_waits_to_try_again(stage: Stage) -> None:
    client = stage.client()
    stage.proxy.plans.extend([Plan(request=10)] * 5)

    def close(number: int) -> None:
        closing.append(asyncio.ensure_future(client.aclose()))

    closing: list[asyncio.Future[None]] = []
    stage.clock.on_sleep = close
    film = MP4 + bytes(20 << 20)
    error = await failure_of(client.captions.video(film, "what"))
    assert type(error) is ClosedError
    await asyncio.gather(*closing)
    await stage.saw(requests=0, billed=0)


async def test_row_49_closed_under_a_call_that_is_half_sent(stage: Stage, film: Path) -> None:
    stage.proxy.plans.append(Plan(body=0.1, how="stall"))
    client = stage.client()
    calling = asyncio.ensure_future(client.captions.video(film, "what"))
    await until(lambda: stage.proxy.received > 1_000_000)
    await client.aclose()
    error = await failure_of(calling)
    assert isinstance(error, MemoriesError)
    assert not isinstance(error, OutcomeUnknown)
    await stage.aclose()
    await stage.saw(requests=1, billed=0)


async def test_a_deadline_ends_the_wait_behind_others(stage: Stage) -> None:
    """A pause of a minute begins while a call queues: it ends when that is known, or in time."""
    client = stage.client(rates={Bucket.CAPTION_IMAGE: Rate(1, 0.1)}, limiter=MemoryLimiter())
    stage.clock.moment = 0.4  # longer than the deadline, which is kept in real time, too
    events = stage.recorded.events
    stage.clock.may_leap = lambda: any(isinstance(event, Throttled) for event in events)
    answer = Answer(status=429, headers={"Retry-After": "60"})
    stage.emulator.faults.add(Fault("captions.image", answer))
    first = asyncio.ensure_future(caption(client))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(caption(client))
    await asyncio.sleep(0)
    began = stage.clock.now
    error = await failure_of(caption(client, CallOptions(deadline=0.25)))
    assert type(error) in (RateLimited, DeadlineExceeded)
    assert error.attempts == 0
    assert stage.clock.now - began < 60, "it waited for the pause to end"
    stage.clock.moment = 0.001
    await asyncio.gather(first, second)
    await stage.saw(requests=3, billed=2)


async def test_a_turn_that_was_given_back_is_no_second_turn(stage: Stage) -> None:
    """Taken at 0 s, unused as the connection was refused, used at 0.5 s: the next is at 1.5 s."""
    proxy = Proxy(stage.proxy.target)
    client = stage.client(
        base_url=f"http://127.0.0.1:{proxy.port}",
        rates={Bucket.CAPTION_IMAGE: Rate(1)},
        limiter=MemoryLimiter(),
    )
    stage.clock.on_sleep = lambda number: proxy.start() if number == 1 else None
    began = stage.clock.now
    await caption(client)
    assert stage.clock.now - began == 0.5
    await caption(client)
    assert stage.clock.now - began >= 1.5
    await client.aclose()
    await proxy.stop()
    await stage.saw(requests=2, billed=2)
