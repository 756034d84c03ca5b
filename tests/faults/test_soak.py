"""A day at one call a second with 5 % faults: memory flat, the rate kept, retries never stuck."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from memories_async import Rate
from tests.faults.soak import Soaked, soak

PER_HOUR = 3600


def soaked(hours: int, calls: int = PER_HOUR) -> Soaked:
    """Soak for so many hours, of so many calls: at one a second, shorter ones have fewer."""
    tracemalloc.start()
    try:
        return asyncio.run(soak(hours * calls, hour=calls, measure=_traced))
    finally:
        tracemalloc.stop()


def _traced() -> float:
    return tracemalloc.get_traced_memory()[0]


def assert_well(result: Soaked, calls: int = PER_HOUR) -> None:
    assert result.fullest <= 1
    # Most faults are healed by a retry; what may have been billed is said and not repeated.
    assert result.ended["ok"] / result.ended.total() > 0.97
    assert set(result.ended) <= {"ok", "OutcomeUnknown", "AnswerTimeout"}
    assert result.ended["OutcomeUnknown"] > 0
    # Never stuck, and never slowed down for good: the last hour is as good as the first.
    assert min(result.hourly) > 0.85 * calls
    assert result.hourly[-1] > 0.97 * result.hourly[0]


def test_two_short_hours() -> None:
    """Of 20 minutes: 14 bytes kept of each call are too many, here as in the whole hours."""
    result = soaked(2, calls=1200)
    assert_well(result, calls=1200)
    assert abs(result.memory[-1] - result.memory[0]) < 17_000


@pytest.mark.slow
def test_two_hours() -> None:
    result = soaked(2)
    assert_well(result)
    assert abs(result.memory[-1] - result.memory[0]) < 50_000


@pytest.mark.slow
def test_24_hours() -> None:
    result = soaked(26)
    assert len(result.memory) >= 24
    assert_well(result)
    growth = (result.memory[-1] - result.memory[3]) / (len(result.memory) - 4)
    assert abs(growth) < 1000  # bytes an hour


def test_calls_recover_from_an_outage() -> None:
    """Nearly every exchange of half an hour fails: the hour after is as good as any."""
    result = asyncio.run(soak(5400, faults=lambda second: 0.95 if second < 1800 else 0.0))
    assert result.ended["ok"] > 3500
    assert result.hourly[1] > 0.98 * PER_HOUR
    assert result.fullest <= 1


def test_the_rate_of_many_a_second() -> None:
    result = asyncio.run(soak(2000, rate=Rate(5), workers=16, faults=lambda second: 0.0))
    assert result.fullest <= 5
    assert result.seconds < 2000 / 5 * 1.05
