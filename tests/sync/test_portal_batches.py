"""Batches are plain iterators: one task each, nothing fetched ahead, closed when left."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from memories_async import ClosedError, ConfigurationError
from memories_async import Memories as AsyncMemories
from memories_async.emulator import Emulator
from memories_async.sync import Memories
from tests.sync.conftest import IMAGE_URL, KEY, LONG, PNG, SilentServer, client_for, until


def test_every_outcome_once(client: Memories) -> None:
    outcomes = client.captions.images([PNG, b"no picture", PNG], "what", ordered=True)
    assert iter(outcomes) is outcomes
    found = list(outcomes)
    assert [outcome.index for outcome in found] == [0, 1, 2]
    assert [outcome.error is None for outcome in found] == [True, False, True]
    assert list(outcomes) == []


def test_async_iterables_are_taken_as_well(client: Memories) -> None:
    async def pictures() -> AsyncIterator[bytes]:
        yield PNG
        yield PNG

    assert len([outcome.unwrap() for outcome in client.embeddings.images(pictures())]) == 2


def test_batches_within_batches_and_calls_within_those(client: Memories) -> None:
    total = 0
    for outer in client.embeddings.images([PNG] * 2):
        for inner in client.embeddings.images([PNG] * 2):
            total += len(outer.unwrap().vector) > 0 and len(inner.unwrap().vector) > 0
            assert client.captions.image(PNG, "what").text
    assert total == 4


def test_two_batches_side_by_side(client: Memories) -> None:
    pairs = zip(
        client.embeddings.images([PNG] * 3, ordered=True),
        client.embeddings.images([PNG] * 3, ordered=True),
        strict=True,
    )
    assert [(one.index, other.index) for one, other in pairs] == [(0, 0), (1, 1), (2, 2)]


class Counted:
    """An endless source of what every call refuses at once, and how many were taken of it."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for self.taken in itertools.count(1):
            yield b"no picture"


@pytest.mark.parametrize("concurrency", [1, 3])
def test_nothing_is_fetched_ahead_that_the_asyncio_client_would_not(
    client: Memories, emulator: Emulator, concurrency: int
) -> None:
    async def taken_by_asyncio() -> list[int]:
        counted = Counted()
        async with AsyncMemories(KEY, caption_key=KEY, base_url=emulator.url) as asyncio_client:
            batch = asyncio_client.captions.images(
                counted, "what", concurrency=concurrency, ordered=True
            )
            return [counted.taken for _ in range(5) if await anext(batch)]

    counted = Counted()
    batch = client.captions.images(counted, "what", concurrency=concurrency, ordered=True)
    taken = [counted.taken for _ in range(5) if next(batch)]
    here = counted.taken
    assert client.captions.image(PNG, "what").text  # the loop turns, and fetches nothing
    assert counted.taken == here
    for in_colour in (taken, asyncio.run(taken_by_asyncio())):
        for yielded, count in enumerate(in_colour, start=1):
            assert count <= yielded + concurrency


def test_break_cancels_and_closes(silent: SilentServer) -> None:
    closed: list[bool] = []

    async def pictures() -> AsyncIterator[bytes | str]:
        try:
            yield IMAGE_URL
            yield b"no picture"
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    silent.read_on.set()
    with client_for(silent.url) as client:
        for outcome in client.captions.images(pictures(), "what"):
            assert outcome.error is not None
            assert silent.received.wait(LONG)
            break
        assert silent.closed.wait(LONG)
        assert closed == [True]


def divide_by_zero(client: Memories, silent: SilentServer) -> None:
    for outcome in client.captions.images([IMAGE_URL, b"no picture"], "what"):
        assert silent.received.wait(LONG)
        assert outcome.index / 0  # what a program does wrong with an outcome


def test_an_exception_in_the_loop_s_body_closes(silent: SilentServer) -> None:
    silent.read_on.set()
    with client_for(silent.url) as client:
        with pytest.raises(ZeroDivisionError):
            divide_by_zero(client, silent)
        assert silent.closed.wait(LONG)


def test_an_abandoned_batch_is_collected(silent: SilentServer) -> None:
    silent.read_on.set()
    with client_for(silent.url) as client:
        batch = client.captions.images([IMAGE_URL, b"no picture"], "what")
        next(batch)
        assert silent.received.wait(LONG)
        cycle: list[object] = [batch]
        cycle.append(cycle)
        del batch, cycle
        gc.collect()
        assert silent.closed.wait(LONG)


def test_a_bad_option_is_raised_by_the_first_item(client: Memories) -> None:
    with pytest.raises(ConfigurationError, match="concurrency"):
        next(client.captions.images([PNG], "what", concurrency=0))


def test_closing_the_client_ends_a_batch(client: Memories) -> None:
    batch = client.embeddings.images([PNG] * 3)
    next(batch)
    client.close()
    with pytest.raises(ClosedError):
        next(batch)
    until(lambda: list(batch) == [])
