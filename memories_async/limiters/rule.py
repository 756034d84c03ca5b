"""The rule by which calls are counted, and what a store of counts must be able to do.

It is the generic cell rate algorithm: a lane keeps one time, that of the next call if all came
evenly spaced, and a call may go once that time, less a tolerance, has come.
"""

from __future__ import annotations

import math
from typing import Final, Protocol, runtime_checkable

import attrs

from memories_async.clock import Clock
from memories_async.config import Rate

_GUARD: Final = 0.015
"""By how much of a period calls are farther apart than the rate says, and so still within it by a
server's clock, which sees each of them a little early or late. It is what the rate loses."""
_LONGEST_GUARD: Final = 0.12
"""Seconds beyond which the guard does not grow with the period."""
_CATCH_UP: Final = 1 / 3
"""The part of the guard by which a call may be early if the one before it was late: sleeps end
late, and lateness that is never made up for would add up. The rest is the network's."""


@attrs.frozen
class Turn:
    """A permit for one call now, or how long to wait for one.

    Attributes:
        wait: 0 if the call was counted and may go; otherwise seconds until it is worth asking
            again.
        stamp: What tells this permit from others of its lane: the time to which it moved the next
            one, in microseconds of the store's clock.
    """

    wait: float = 0.0
    stamp: int = 0


@runtime_checkable
class Limiter(Protocol):
    """Counts the calls of each lane, so that no period holds more than the rate allows."""

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count one call now if the rate allows it.

        A cancelled take counts nothing.

        Args:
            lane: The account and bucket; it holds a digest of the key, never the key.
            rate: What the lane allows.
            clock: The time to go by, for stores that have no clock of their own.

        Raises:
            LimiterUnavailable: The counts cannot be reached.
        """
        ...

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take the count of a call back that was never made.

        Only a lane's latest permit can still be of use to anybody; any other is left to run out.

        Raises:
            LimiterUnavailable: The counts cannot be reached.
        """
        ...


@runtime_checkable
class PausableLimiter(Limiter, Protocol):
    """A limiter through which a service's demand to pause reaches all who share it."""

    async def pause(self, lane: str, rate: Rate, seconds: float, clock: Clock) -> None:
        """Grant nothing for so many seconds.

        Raises:
            LimiterUnavailable: The counts cannot be reached.
        """
        ...


@attrs.frozen
class Spacing:
    """A rate as the rule needs it, in microseconds.

    A server that counts over any period sees at most the rate: of ``calls + 1`` calls the last is
    at least ``calls * interval - tolerance`` after the first, which is the period and what is left
    of the guard. Hence a burst costs spacing: the calls that may come together cannot also come
    evenly spaced within the same period.

    Attributes:
        interval: Between two calls.
        tolerance: How much before its time a call may come.
        freshness: How long after it was granted a permit may still be used.
    """

    interval: int
    tolerance: int
    freshness: int

    @classmethod
    def of(cls, rate: Rate) -> Spacing:
        """Return the spacing that keeps a rate."""
        period = rate.seconds * 1e6
        guard = min(period * _GUARD, _LONGEST_GUARD * 1e6)
        interval = math.ceil((period + guard) / (rate.calls - rate.burst + 1))
        catch_up = int(guard * _CATCH_UP)
        return cls(interval, (rate.burst - 1) * interval + catch_up, int(guard) - catch_up)


@attrs.frozen
class Count:
    """What a store keeps of a lane, in microseconds of its clock.

    Attributes:
        due: When the next call would come if all came evenly spaced.
        seen: The latest time at which anybody asked.
    """

    due: int
    seen: int

    def at(self, now: int) -> Count:
        """Go on to a time. One before the latest is the clock's fault: no time has passed then.

        A restarted machine's monotonic clock is such a case, too, and never counts too much: what
        it shows is less than the time since the last call.
        """
        return Count(self.due - max(self.seen - now, 0), now)

    def take(self, spacing: Spacing) -> tuple[Turn, Count]:
        """Return a permit, or how long to wait for it, and what to keep."""
        wait = self.due - spacing.tolerance - self.seen
        if wait > 0:
            return Turn(wait / 1e6), self
        due = max(self.due, self.seen) + spacing.interval
        return Turn(0.0, due), Count(due, self.seen)

    def give_back(self, spacing: Spacing, turn: Turn) -> Count:
        """Return what to keep if a permit was not used."""
        return Count(self.due - spacing.interval * (self.due == turn.stamp), self.seen)

    def pause(self, spacing: Spacing, seconds: float) -> Count:
        """Return what to keep if nothing may go for so long."""
        until = self.seen + math.ceil(seconds * 1e6) + spacing.tolerance
        # Never just the latest permit's stamp: giving that back would take the pause back, too.
        return Count(max(self.due + 1, until), self.seen)


def microseconds(clock: Clock) -> int:
    """Return the time by a clock, as stores keep it."""
    return round(clock.monotonic() * 1e6)
