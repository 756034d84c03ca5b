"""The lanes of a client's accounts, and a call's slot in its lane until it is sent.

A call waits in line without a connection (``Slot.enter``), gets one shortly before its time, and
is counted when its first byte is about to leave (``Slot.confirm``): what counts by the service's
clock is when requests leave, not when they were allowed to.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import itertools
import os
import reprlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from memories_async._engine.lanes import Lane, Waited
from memories_async.clock import Clock, SystemClock
from memories_async.config import Rate, Secret
from memories_async.errors import ConfigurationError, MemoriesError
from memories_async.limiters import Limiter, Turn
from memories_async.operations import Bucket

T = TypeVar("T")

ASKED_JUST_NOW: Final = 0.05
"""Seconds for which what ``before_sending`` said holds; after a longer wait it is asked again."""
PATIENCE: Final = 0.25
"""So much of a turn is waited for what ``before_sending`` says; then the turn is another call's."""


class _GaveWayError(Exception):
    """The turn came before the answer of ``before_sending``, and is another call's."""


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
        until: The clock's time by which each turn must come, or None.
        waited: Told for what the call waited, and for how many seconds.

    Attributes:
        lane: The lane.
        refusal: What the limiter or ``before_sending`` raised: the call may not be sent.
    """

    __slots__ = (
        "_asked_at",
        "_before",
        "_clock",
        "_granted",
        "_holds",
        "_number",
        "_reserved",
        "_turn",
        "_until",
        "_waited",
        "lane",
        "refusal",
    )

    def __init__(self, lane: Lane, until: float | None, waited: Waited | None = None) -> None:
        self.lane = lane
        self._clock = lane.clock
        self._waited = waited
        self.refusal: MemoriesError | None = None
        self._until = until
        self._number = next(_NUMBERS)
        self._reserved = False
        self._turn: Turn | None = None
        self._granted = 0.0
        self._before: Callable[[], Awaitable[object]] | None = None
        self._asked_at, self._holds = _NEVER, ASKED_JUST_NOW

    async def enter(self) -> None:
        """Wait until it is time to get a connection; nothing is counted yet.

        Raises:
            RateLimited: The turn cannot come in time; raised at once, not when time is up. Or the
                service asked for a pause longer than calls wait for.
            DeadlineExceeded: It could have come in time, but what was ahead took longer.
        """
        if not self.lane.empty:
            self._reserved = await self._timed(self.lane.enter(self._number, self._until))

    async def confirm(self, before: Callable[[], Awaitable[object]] | None = None) -> None:
        """Count the call, whose first byte leaves as soon as this returns.

        Args:
            before: Awaited at the end of the wait for a turn, so that the turn is not spent on it;
                where there is no wait, once the call is counted. If it takes long, the call is
                counted anew, and it is awaited again should that take long, too. While it takes
                longer than the wait, other calls have their turns.

        Raises:
            NotDue: The time has not come, nor comes soon: nothing was counted; enter again.
            RateLimited: The turn cannot come in time.
            DeadlineExceeded: It could have come in time, but what was ahead took longer.
            LimiterUnavailable: The limiter's store cannot be reached.
        """
        if self._turn is not None:  # the connection that it was counted for had died meanwhile
            await self.release(sent=False)
        self._before = before
        self._asked_at, self._holds = _NEVER, ASKED_JUST_NOW
        if not self.lane.empty:
            await self._count()
        if before is not None and self._asked_long_ago:
            await self._ask(before)
            if self.stale:
                await self.renew()

    @property
    def stale(self) -> bool:
        """Whether the call was counted too long ago to leave now."""
        return self._turn is not None and self.lane.outlives(self._granted)

    async def renew(self) -> None:
        """Count the call anew: something lay between its count and its first byte.

        A hook that hops to a thread takes now a millisecond and now fifty, and two calls that
        were counted a turn apart would leave closer together.

        Raises:
            RateLimited: The turn cannot come in time.
            DeadlineExceeded: It could have come in time, but what was ahead took longer.
            LimiterUnavailable: The limiter's store cannot be reached.
        """
        while self.stale:
            await self.release(sent=False)
            await self._count(patient=True)
            if self._before is not None and self._asked_long_ago:
                await self._ask(self._before)

    @property
    def _asked_long_ago(self) -> bool:
        return self._clock.monotonic() - self._asked_at > self._holds

    async def _ask(self, before: Callable[[], Awaitable[object]]) -> None:
        """Await the caller's own last step.

        Raises:
            ConfigurationError: It is a plain function.
        """
        began = self._clock.monotonic()
        try:
            waiting: object = before()
            if not inspect.isawaitable(waiting):
                raise ConfigurationError(
                    f"CallOptions: before_sending gave {reprlib.repr(waiting)}; "
                    "give an async function"
                )
            await waiting
        except MemoriesError as error:
            self.refusal = error
            raise
        self._asked_at = self._clock.monotonic()
        self.lane.asking_took(self._asked_at - began)

    async def _sleep(self, seconds: float, give_way: Callable[[], None]) -> None:
        """Wait for a turn, and ask at the end of the wait, not after it: that would cost turns.

        Others are let by once the turn has come and the answer has not: a hook that waits for
        another call of the lane would wait for ever.

        Raises:
            _GaveWayError: They were.
        """
        now = self._clock.monotonic()
        if self._before is None or now + seconds - self._asked_at <= self._holds:
            await self._clock.sleep(seconds)
            return
        if (early := seconds - self.lane.asking_takes) > 0:
            await self._clock.sleep(early)
        by = now + seconds + PATIENCE * self.lane.interval
        waiting = asyncio.ensure_future(self._at(by, give_way))
        try:
            await self._ask(self._before)  # in the call's own task, as everywhere
        finally:
            waiting.cancel()
        if waiting.done():
            raise _GaveWayError

    async def _at(self, moment: float, act: Callable[[], None]) -> None:
        await self._clock.sleep(moment - self._clock.monotonic())
        act()

    async def _count(self, *, patient: bool = False) -> None:
        sleep = None if self._before is None else self._sleep
        while True:
            counting = self.lane.confirm(self._number, self._until, patient=patient, sleep=sleep)
            try:
                self._turn = await self._timed(counting)
            except _GaveWayError:
                # By its number it is the next. A hook that takes longer than a turn would be asked
                # for ever while others have theirs: its answer holds until then.
                if self.lane.asking_takes > self.lane.interval:
                    self._holds = ASKED_JUST_NOW + self.lane.interval
            except MemoriesError as error:
                self.refusal = error
                raise
            else:
                self._granted = self._clock.monotonic()
                return

    async def _timed(self, waiting: Coroutine[object, object, T]) -> T:
        if self._waited is None:
            return await waiting
        return await self.lane.timed(waiting, self._waited)

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
