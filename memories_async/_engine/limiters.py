"""Where the counts of calls are kept: in this process, in a file, or in Redis."""

from __future__ import annotations

import os
from typing import Protocol, cast

from pyrate_limiter import InMemoryBucket, RateItem
from pyrate_limiter import Rate as PyrateRate

from memories_async._engine.clock import Clock
from memories_async.config import Rate


class Limiter(Protocol):
    """Counts calls per lane within the sliding window of a rate."""

    async def take(self, lane: str, rate: Rate, clock: Clock) -> float:
        """Count one call now if the rate allows it.

        Args:
            lane: The account and bucket.
            rate: What the lane allows.
            clock: The time to go by.

        Returns:
            0 if the call was counted and may go; otherwise seconds until it is worth asking again.
        """
        ...

    async def aclose(self) -> None:
        """Close what was opened."""
        ...


class MemoryLimiter:
    """Counts for the clients of one process that share this object."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, Rate], InMemoryBucket] = {}

    async def take(self, lane: str, rate: Rate, clock: Clock) -> float:
        """Count in memory."""
        bucket = self._buckets.get((lane, rate))
        if bucket is None:
            bucket = self._buckets[lane, rate] = InMemoryBucket([pyrate(rate)])
        item = RateItem(lane, round(clock.monotonic() * 1000))
        bucket.leak(item.timestamp)
        if bucket.put(item):
            return 0.0
        return max(cast("int", bucket.waiting(item)), 1) / 1000

    def forget(self) -> None:
        """Start counting anew."""
        self._buckets = {}

    async def aclose(self) -> None:
        """Nothing is open."""


def pyrate(rate: Rate) -> PyrateRate:
    """Say a rate in pyrate-limiter's terms."""
    return PyrateRate(rate.calls, round(rate.seconds * 1000))


SHARED = MemoryLimiter()
"""What clients of one process use together unless told otherwise: limits are per account."""

if hasattr(os, "register_at_fork"):
    # A forked child counts for itself; a bucket's lock may be held by a thread it does not have.
    os.register_at_fork(after_in_child=SHARED.forget)
