"""The lanes of a client's accounts, and a call's slot in its lane until it is sent.

A call waits in the queue without a connection until it has a reservation (``Slot.reserve``), gets a
connection shortly before its departure, and is counted when its first byte is about to leave
(``Slot.confirm``): what counts by the service's clock is when requests leave, not when they were
granted a permit.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from memories_async._engine.lanes import Lane, ReportWait
from memories_async.checks.hooks import await_hook
from memories_async.clock import Clock, SystemClock
from memories_async.config import Rate
from memories_async.errors import MemoriesError
from memories_async.limiters import Limiter, Turn
from memories_async.operations import Bucket
from memories_async.secret import Secret

T = TypeVar("T")

HOOK_VALIDITY: Final = 0.05
"""Seconds for which ``before_sending`` holds once awaited; later it is awaited again."""
PATIENCE: Final = 0.25
"""The part of an interval for which a call that is due waits for ``before_sending``; then others
pass it."""


class _OvertakenError(Exception):
    """The call was due before ``before_sending`` was done, and others went first."""


class Pacer:
    """The lanes of every account that a client uses."""

    def __init__(self, rates: Mapping[Bucket, Rate], limiter: Limiter, clock: Clock) -> None:
        self._rates = rates
        self._limiter = limiter
        self._clock = clock
        self._lanes: dict[tuple[Secret | None, Bucket, str], Lane] = {}

    def lane(self, key: Secret | None, bucket: Bucket, origin: str = "") -> Lane:
        """Return the lane that all calls of an account and bucket share.

        Args:
            key: The account's key.
            bucket: What the service counts together.
            origin: The service's address; a key elsewhere is another account.
        """
        lane = self._lanes.get((key, bucket, origin))
        if lane is None:
            # A store shared with other hosts sees a digest, never the key.
            secret = key.reveal() if key else ""
            account = hashlib.sha256(f"{origin}\n{secret}".encode()).hexdigest()[:16]
            lane = self._shared(f"{account}:{bucket.name.lower()}", self._rates.get(bucket))
            self._lanes[key, bucket, origin] = lane
        return lane

    def _shared(self, name: str, rate: Rate | None) -> Lane:
        """Return the lane of all clients of this process that go by the same limiter and clock."""
        real = type(self._clock) is SystemClock
        clock = None if real else id(self._clock)
        own = Lane(name, rate, self._limiter, self._clock)
        return _LANES.setdefault((name, rate, id(self._limiter), clock, os.getpid()), own)


class Slot:
    """A call's slot in its lane, which it keeps through all its attempts.

    Args:
        lane: The lane.
        until: The clock's time by which each attempt must depart, or None.
        report: Told for what the call waited, and for how many seconds.

    Attributes:
        lane: The lane.
        refusal: What the limiter or ``before_sending`` raised: the call may not be sent.
    """

    __slots__ = (
        "_before",
        "_clock",
        "_granted",
        "_hook_awaited_at",
        "_hook_validity",
        "_number",
        "_report",
        "_reserved",
        "_turn",
        "_until",
        "lane",
        "refusal",
    )

    def __init__(self, lane: Lane, until: float | None, report: ReportWait | None = None) -> None:
        self.lane = lane
        self._clock = lane.clock
        self._report = report
        self.refusal: MemoriesError | None = None
        self._until = until
        self._number = next(_NUMBERS)
        self._reserved = False
        self._turn: Turn | None = None
        self._granted = 0.0
        self._before: Callable[[], Awaitable[object]] | None = None
        self._hook_awaited_at, self._hook_validity = _NEVER, HOOK_VALIDITY

    async def reserve(self) -> None:
        """Wait until it is time to get a connection; nothing is counted yet.

        Raises:
            RateLimited: No permit can be had in time; raised at once, not when time is up. Or the
                service asked for a pause longer than calls wait for.
            DeadlineExceeded: There could have been one, but what was ahead took longer.
        """
        if not self.lane.empty:
            self._reserved = await self._timed(self.lane.reserve(self._number, self._until))

    async def confirm(self, before: Callable[[], Awaitable[object]] | None = None) -> None:
        """Count the call, whose first byte leaves as soon as this returns.

        Args:
            before: The hook: awaited at the end of the wait for a permit, so that no time of the
                lane is spent on it; where there is no wait, once the call is counted. If it takes
                long, the call is counted anew, and it is awaited again should that take long, too.
                While it takes longer than the wait, other calls go first.

        Raises:
            NotDue: The departure is not due, nor soon: nothing was counted; reserve again.
            RateLimited: No permit can be had in time.
            DeadlineExceeded: There could have been one, but what was ahead took longer.
            LimiterUnavailable: The limiter's store cannot be reached.
        """
        if self._turn is not None:  # the connection that it was counted for had died meanwhile
            await self.release(sent=False)
        self._before = before
        self._hook_awaited_at, self._hook_validity = _NEVER, HOOK_VALIDITY
        if not self.lane.empty:
            await self._count()
        if before is not None and self._hook_stale:
            await self._await_hook(before)
            if self.stale:
                await self.renew()

    @property
    def stale(self) -> bool:
        """Whether the call was counted too long ago to leave now."""
        return self._turn is not None and self.lane.outlives(self._granted)

    async def renew(self) -> None:
        """Count the call anew: something lay between its count and its first byte.

        A hook that hops to a thread takes now a millisecond and now fifty, and two calls that
        were counted an interval apart would leave closer together.

        Raises:
            RateLimited: No permit can be had in time.
            DeadlineExceeded: There could have been one, but what was ahead took longer.
            LimiterUnavailable: The limiter's store cannot be reached.
        """
        while self.stale:
            await self.release(sent=False)
            await self._count(patient=True)
            if self._before is not None and self._hook_stale:
                await self._await_hook(self._before)

    @property
    def _hook_stale(self) -> bool:
        return self._clock.monotonic() - self._hook_awaited_at > self._hook_validity

    async def _await_hook(self, before: Callable[[], Awaitable[object]]) -> None:
        """Await ``before_sending``.

        Raises:
            ConfigurationError: It is a plain function.
        """
        began = self._clock.monotonic()
        try:
            await await_hook(before)
        except MemoriesError as error:
            self.refusal = error
            raise
        self._hook_awaited_at = self._clock.monotonic()
        self.lane.note_hook_latency(self._hook_awaited_at - began)

    async def _sleep(self, seconds: float, release_head: Callable[[], None]) -> None:
        """Wait for a permit; the hook is awaited within the wait: after it would cost the rate.

        Others go first once the call is due and its hook is not done: a hook that waits for
        another call of the lane would wait for ever.

        Raises:
            _OvertakenError: They did.
        """
        now = self._clock.monotonic()
        if self._before is None or now + seconds - self._hook_awaited_at <= self._hook_validity:
            await self._clock.sleep(seconds)
            return
        if (early := seconds - self.lane.hook_latency) > 0:
            await self._clock.sleep(early)
        by = now + seconds + PATIENCE * self.lane.interval
        waiting = asyncio.ensure_future(self._at(by, release_head))
        try:
            await self._await_hook(self._before)  # in the call's own task, as everywhere
        finally:
            waiting.cancel()
        if waiting.done():
            raise _OvertakenError

    async def _at(self, moment: float, act: Callable[[], None]) -> None:
        await self._clock.sleep(moment - self._clock.monotonic())
        act()

    async def _count(self, *, patient: bool = False) -> None:
        sleep = None if self._before is None else self._sleep
        while True:
            counting = self.lane.confirm(self._number, self._until, patient=patient, sleep=sleep)
            try:
                self._turn = await self._timed(counting)
            except _OvertakenError:
                # By its number it is the next. A hook that takes longer than an interval would be
                # awaited for ever while others go first: it is valid for so much longer.
                if self.lane.hook_latency > self.lane.interval:
                    self._hook_validity = HOOK_VALIDITY + self.lane.interval
            except MemoriesError as error:
                self.refusal = error
                raise
            else:
                self._granted = self._clock.monotonic()
                return

    async def _timed(self, waiting: Coroutine[object, object, T]) -> T:
        if self._report is None:
            return await waiting
        return await self.lane.timed(waiting, self._report)

    async def release(self, *, sent: bool) -> None:
        """End an attempt; what was counted and not used is given back.

        Args:
            sent: Whether a single byte left.
        """
        turn, self._turn = self._turn, None
        reserved, self._reserved = self._reserved, False
        if turn is None:
            if reserved:
                self.lane.withdraw()
        elif not sent:
            await self.lane.give_back(turn)


_NEVER: Final = float("-inf")
_NUMBERS = itertools.count()
_LANES: WeakValueDictionary[tuple[object, ...], Lane] = WeakValueDictionary()
