"""Counts in this process."""

from __future__ import annotations

from memories_async.clock import Clock
from memories_async.config import Rate
from memories_async.limiters.rule import Count, Spacing, Turn, microseconds
from memories_async.limiters.threads import lock_held_across_forks

_LOCK = lock_held_across_forks()


class MemoryLimiter:
    """Counts for the clients of one process that share this object.

    A forked child goes on from its parent's counts, but from then on counts for itself.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Count] = {}

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count in memory."""
        with _LOCK:
            turn, self._counts[lane] = self._at(lane, clock).take(Spacing.of(rate))
        return turn

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take back from memory."""
        with _LOCK:
            if (count := self._counts.get(lane)) is not None:
                self._counts[lane] = count.give_back(Spacing.of(rate), turn)

    async def pause(self, lane: str, rate: Rate, seconds: float, clock: Clock) -> None:
        """Pause for all who share this object."""
        with _LOCK:
            self._counts[lane] = self._at(lane, clock).pause(Spacing.of(rate), seconds)

    def _at(self, lane: str, clock: Clock) -> Count:
        now = microseconds(clock)
        return self._counts.get(lane, Count(now, now)).at(now)


SHARED = MemoryLimiter()
"""What clients of one process use together unless told otherwise: limits are per account."""
