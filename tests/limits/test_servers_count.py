"""A server with its own clock counts: never more than the rate in any period, and hardly less."""

from __future__ import annotations

from pathlib import Path

import pytest

from memories_async import Rate
from tests.limits.processes import seen_by_a_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

RATE = Rate(100, 20)
"""So long a period that the guard is wider than what a machine adds to a call's way."""
SECONDS = 30.0
HARDLY_LESS = 0.9
"""Of what the rate allows: a busy machine takes a second of the 30. What the rule itself gives away
is 2 % at most, on a virtual clock (tests/limits/test_stores.py)."""


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "redis":
            return str(request.getfixturevalue("redis_url"))
        case "sqlite":
            return str(tmp_path / "counts.sqlite")
        case _:
            return ""


async def test_one_process(store: str) -> None:
    seen = await seen_by_a_server(store, RATE, 1, SECONDS)
    assert seen.most <= RATE.calls, seen
    assert seen.share >= HARDLY_LESS, seen


@pytest.mark.parametrize("store", ["sqlite", "redis"], indirect=True)
async def test_four_processes(store: str) -> None:
    seen = await seen_by_a_server(store, RATE, 4, SECONDS)
    assert seen.most <= RATE.calls, seen
    assert seen.share >= HARDLY_LESS, seen
    assert seen.fewest >= 0.25, "every process gets its turns"
