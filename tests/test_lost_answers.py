"""What the comparison of clients counts: whole requests that were billed, and no others."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.lost_answers import Outcome, memories_async, outcome_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("loses", "resets", "results", "paid"), [(0.0, 0.0, 6, 6), (1.0, 0.0, 0, 6)]
)
async def test_what_memories_async_pays(
    loses: float, resets: float, results: int, paid: int
) -> None:
    outcome = await outcome_of(memories_async, 6, loses, resets, seed=1)
    assert (outcome.results, outcome.paid.total()) == (results, paid)
    sample = outcome.sample()
    assert sample["twice"] == 0
    assert sample["warned"] == sample["failed"] == 100 * (6 - results) / 6


async def test_a_client_that_repeats_pays_twice() -> None:
    def make(url: str) -> object:
        host, port = url.removeprefix("http://").split(":")

        async def ask(number: int) -> object:
            for attempt in range(2):
                reader, writer = await asyncio.open_connection(host, int(port))
                body = b"ask-%06d" % number
                head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
                writer.write(head + body)
                try:
                    return await reader.readuntil(b"}")
                except (ConnectionError, asyncio.IncompleteReadError):
                    if attempt:
                        raise
                finally:
                    writer.close()
            return None

        return ask

    outcome: Outcome = await outcome_of(make, 4, 1.0, 0.0, seed=1)  # type: ignore[arg-type]  # as a peer
    assert (outcome.results, outcome.paid.total()) == (0, 8)
    assert outcome.sample()["twice"] == 100
