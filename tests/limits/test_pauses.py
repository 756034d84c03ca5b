"""A throttle pause is the account's: other clients, calls and processes keep to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from memories_async import Bucket, Rate, RateLimited
from memories_async.emulator import HttpResponse, InjectedFault
from memories_async.limiters import Limiter, MemoryLimiter, SqliteLimiter
from tests.faults.conftest import Stage, caption, embed, stage, until

__all__ = ["stage"]

pytestmark = pytest.mark.anyio


def told_to_wait(stage: Stage, seconds: int) -> None:
    answer = HttpResponse(status=429, headers={"Retry-After": str(seconds)})
    stage.emulator.faults.add(InjectedFault("captions.image", answer))


async def test_two_clients_of_one_key_share_a_pause(stage: Stage) -> None:
    """Also where no rate is known, and nothing is counted."""
    first, second = stage.client(), stage.client()
    other = stage.client(caption_key="another-key-0123456789")
    told_to_wait(stage, 500)
    await asyncio.gather(caption(first), return_exceptions=True)
    with pytest.raises(RateLimited, match="asked for a pause, of which 500 s are left") as caught:
        await caption(second)
    assert caught.value.attempts == 0
    assert caught.value.retry_after == pytest.approx(500, abs=1)
    await caption(other)
    await embed(second)
    assert len(stage.emulator.ledger) == 3


async def test_a_pause_too_long_to_wait_for_is_waited_for_once_it_is_shorter(
    stage: Stage,
) -> None:
    client = stage.client()
    told_to_wait(stage, 500)
    await asyncio.gather(caption(client), return_exceptions=True)
    stage.clock.now += 400
    await caption(client)
    assert sum(stage.clock.slept) == pytest.approx(100, abs=1)


async def test_nobody_is_kept_away_for_longer_than_an_hour(stage: Stage) -> None:
    client = stage.client()
    told_to_wait(stage, 10**9)
    await asyncio.gather(caption(client), return_exceptions=True)
    stage.clock.now += 3601
    await caption(client)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_pause_outlives_its_client_and_reaches_other_processes(
    store: str, stage: Stage, tmp_path: Path
) -> None:
    """Two limiters over one file stand for two processes: they share nothing else."""
    shared = MemoryLimiter()

    def limiter() -> Limiter:
        return shared if store == "memory" else SqliteLimiter(tmp_path / "counts.sqlite")

    rates = {Bucket.CAPTION_IMAGE: Rate(5)}
    first = stage.client(rates=rates, limiter=limiter())
    told_to_wait(stage, 90)
    call = asyncio.ensure_future(caption(first))
    await until(lambda: stage.clock.slept)
    call.cancel()
    await asyncio.wait([call])
    await first.aclose()
    began = stage.clock.now
    await caption(stage.client(rates=rates, limiter=limiter()))
    assert stage.clock.now - began == pytest.approx(90, abs=1)
