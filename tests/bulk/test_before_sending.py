"""``CallOptions(before_sending=)``: told once the turn has come, before the first byte leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from memories_async import Bucket, CallOptions, ConfigurationError, Memories, Rate
from memories_async.emulator import Emulator
from memories_async.emulator.faults import InjectedFault as Fault
from memories_async.emulator.http.envelopes import Reason
from tests.bulk.conftest import MakeImages
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def image(images: MakeImages) -> Path:
    return images(1) / "0000.png"


async def test_it_is_awaited_before_every_attempt(emulator: Emulator, image: Path) -> None:
    emulator.faults.add(Fault(None, Reason.THROTTLED))
    clock, seen = HurriedClock(), list[tuple[float, int]]()
    rates = {Bucket.EMBEDDING: Rate(1, 60)}

    async def note() -> None:
        seen.append((clock.now, len(emulator.ledger)))

    options = CallOptions(before_sending=note)
    async with Memories("noted", base_url=emulator.url, rates=rates, clock=clock) as client:
        await client.embeddings.image(image, options=options)
    assert [requests for _, requests in seen] == [0, 1]
    assert seen[1][0] - seen[0][0] >= 60  # its turn had come before it was told


async def test_what_it_raises_ends_the_call_and_gives_the_turn_back(
    emulator: Emulator, image: Path
) -> None:
    clock = HurriedClock()
    rates = {Bucket.EMBEDDING: Rate(1, 60)}

    async def refuse() -> None:
        raise InterruptedError("not now")

    options = CallOptions(before_sending=refuse)
    async with Memories("refused", base_url=emulator.url, rates=rates, clock=clock) as client:
        with pytest.raises(InterruptedError, match="not now"):
            await client.embeddings.image(image, options=options)
        assert len(emulator.ledger) == 0
        await client.embeddings.image(image)
    assert clock.slept == []


def test_the_other_options_are_still_checked() -> None:
    async def note() -> None: ...

    with pytest.raises(ConfigurationError, match="attempts"):
        CallOptions(before_sending=note, attempts=0)
