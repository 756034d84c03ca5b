"""A lane: the queue, the rate and the one shared pause of one account's calls of one bucket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from math import inf, isfinite
from numbers import Real
from typing import Final, Literal, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import attrs

from memories_async._engine.queues import Queue
from memories_async._engine.retry import LONGEST_HINT, backoff
from memories_async.checks.kinds import shown
from memories_async.clock import Clock
from memories_async.config import Rate
from memories_async.errors import (
    ConfigurationError,
    DeadlineExceeded,
    LimiterUnavailable,
    RateLimited,
)
from memories_async.limiters import Limiter, PausableLimiter, Spacing, Turn

T = TypeVar("T")
ReportWait: TypeAlias = Callable[[Literal["limiter", "pause"], float], None]
"""Is told for what a call waited, and for how many seconds."""

SLOWEST: Final = 32.0
"""The most seconds between two calls that repeated throttling leads to."""
RECOVERY: Final = 0.8
"""What each success makes of the extra spacing that throttling brought."""
LONGEST_PAUSE: Final = 3600.0
"""Seconds after which a lane tries again, however long the service told it to stay away."""
LEAD: Final = 1.0
"""At most so many seconds before its departure a call gets its connection."""
LONGEST_HOLD: Final = 1.5
"""Seconds that a call may hold a connection until it departs: an idle one is trusted for two."""
DECAY: Final = 0.9
"""What each call leaves of the longest latency of ``before_sending``."""
SHORTEST: Final = 1e-3
"""Seconds after which a limiter is asked again that says not now, and to wait for no time."""
_INSTANT: Final = 1e-6
"""Seconds that are none: what the limiter counts in, and more than a clock's float may lose."""


class NotDue(Exception):
    """Others elsewhere were granted the permit: give the connection back, and reserve anew."""


class _Queues:
    """The calls of one event loop: those without a connection, and those that hold one."""

    __slots__ = ("__weakref__", "departure", "entrance", "waiting")

    def __init__(self) -> None:
        self.entrance = Queue()
        self.departure = Queue()
        self.waiting = 0


class Lane:
    """One account's calls of one bucket, granted permits one by one, first come, first served.

    Attributes:
        clock: The time it goes by.
        hook_latency: The most seconds that ``before_sending`` took lately.
    """

    def __init__(self, name: str, rate: Rate | None, limiter: Limiter, clock: Clock) -> None:
        self._name = name
        self._rate = rate
        self._limiter = limiter
        self.clock = clock
        spacing = Spacing.of(rate) if rate else Spacing(0, 0, 0)
        self._interval = spacing.interval / 1e6
        self._tolerance = spacing.tolerance / 1e6
        self._freshness = spacing.freshness / 1e6
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queues] = WeakKeyDictionary()
        self._queued = 0
        self._due = float("-inf")
        self._paused_until = 0.0
        self._pause_ends = float("-inf")
        self._throttles = 0
        self._slowdown = 0.0
        self._last = float("-inf")
        self.hook_latency = 0.0

    @property
    def interval(self) -> float:
        """Seconds between two calls at the allowed rate."""
        return self._interval

    async def timed(self, waiting: Coroutine[object, object, T], report: ReportWait) -> T:
        """Wait, and report for what, and how long."""
        began = self.clock.monotonic()
        paused = self._pause_ends > began
        try:
            return await waiting
        finally:
            paused = paused or self._pause_ends > began
            report("pause" if paused else "limiter", self.clock.monotonic() - began)

    async def throttled(self, retry_after: float | None) -> float:
        """Pause the whole lane because the service said so; returns for how many seconds.

        Calls that were under way together report one and the same congestion: while the lane is
        already paused, another report neither lengthens the pause nor lowers the rate again.
        """
        now = self.clock.monotonic()
        left = self._paused_until - now
        if left <= 0:
            self._throttles += 1
            left = max(backoff(self._throttles, self.clock.random()), self._interval)
            if self._throttles > 1:
                self._slowdown = min(max(self._slowdown * 2, self._interval * 2, 1.0), SLOWEST)
            if retry_after is not None:
                left = retry_after
        pause = min(max(left, retry_after or 0.0), LONGEST_PAUSE)
        longer = now + pause > self._paused_until
        self._paused_until = self._pause_ends = now + pause
        if longer and self._rate is not None and isinstance(self._limiter, PausableLimiter):
            # A lost store is found out by the next call: it will not be sent.
            with contextlib.suppress(LimiterUnavailable):
                await self._limiter.pause(self._name, self._rate, pause, self.clock)
        return pause

    def succeeded(self) -> None:
        """Note that the service took a call: the rate recovers."""
        self._throttles = 0
        if self._slowdown:
            self._slowdown *= RECOVERY
            if self._slowdown < max(self._interval, 0.05):
                self._slowdown = 0.0

    @property
    def _free(self) -> bool:
        """Whether calls need neither wait nor be counted."""
        return not (self._rate or self._paused_until or self._slowdown)

    @property
    def empty(self) -> bool:
        """Whether a call may depart at once, uncounted, and no other is queued."""
        return self._free and not self._queued

    @property
    def _step(self) -> float:
        return max(self._interval, self._slowdown)

    def _queues_here(self) -> _Queues:
        loop = asyncio.get_running_loop()
        queues = self._queues.get(loop)
        if queues is None:
            queues = self._queues[loop] = _Queues()
        return queues

    async def reserve(self, number: int, until: float | None) -> bool:
        """Wait in the queue; returns whether a departure is now reserved."""
        queues = self._queues_here()
        if self._free and not queues.waiting:
            return False
        self._refuse_if_late(self._until_due(queues.waiting), until)
        queues.waiting += 1
        self._queued += 1
        try:
            async with self._head_of(queues.entrance, number, until):
                while True:
                    wait = self._until_due()
                    self._refuse_if_late(wait, until)
                    if (early := wait - min(self._interval, LEAD)) > _INSTANT:
                        await self.clock.sleep(early)
                    elif queues.departure.taken:
                        async with self._head_of(queues.departure, number, until):
                            pass  # who holds a connection goes first
                    else:
                        break
                self._due = max(self._due, self.clock.monotonic()) + self._step
                return True
        finally:
            queues.waiting -= 1
            self._queued -= 1

    async def confirm(
        self,
        number: int,
        until: float | None,
        *,
        patient: bool = False,
        sleep: Callable[[float, Callable[[], None]], Awaitable[object]] | None = None,
    ) -> Turn | None:
        """Count a call that is about to be sent.

        Args:
            number: Its place in the queue.
            until: The clock's time by which it must depart, or None.
            patient: Whether it holds its connection as long as it takes.
            sleep: How it waits for a permit. It is given a function that releases the head of
                the queue before the wait is over; it must not return then.

        Raises:
            NotDue: It would hold its connection too long, and is not so patient.
        """
        if self._free:
            return None
        departure = self._queues_here().departure
        if departure.length * self._step > LONGEST_HOLD and not patient:
            raise NotDue
        async with self._head_of(departure, number, until) as release_head:
            while (turn := await self._acquire()).wait:
                self._refuse_if_late(turn.wait, until)
                if turn.wait > LONGEST_HOLD and not patient:
                    now = self.clock.monotonic()
                    # What was reserved for this call, and another one had: see withdraw.
                    granted = now + turn.wait + self._tolerance
                    self._due = max(self._due, granted + self._step)
                    raise NotDue
                if sleep is None:
                    await self.clock.sleep(turn.wait)
                else:
                    await sleep(turn.wait, release_head)
            self._last = self.clock.monotonic()
            self._due = max(self._due, self._last + self._step)
            return turn

    def note_hook_latency(self, seconds: float) -> None:
        """Note how long ``before_sending`` took: the next call awaits it that much earlier.

        The longest counts, and decays: early costs nothing, late costs the rate.
        """
        self.hook_latency = max(seconds, self.hook_latency * DECAY)

    def outlives(self, granted: float) -> bool:
        """Tell whether a permit was granted too long ago to depart by it.

        Args:
            granted: The clock's time at which it was.
        """
        now = self.clock.monotonic()
        if self._rate is None:  # only the service's own throttling holds a call up
            return self._paused_until > now
        return now - granted > self._freshness

    def withdraw(self) -> None:
        """Cancel a reservation: the next call departs earlier."""
        self._due -= self._step

    async def give_back(self, turn: Turn) -> None:
        """Give back what was counted for a call that was not sent."""
        self.withdraw()
        if self._rate is not None:
            with contextlib.suppress(LimiterUnavailable):
                giving = self._limiter.give_back(self._name, self._rate, turn)
                await asyncio.shield(asyncio.ensure_future(giving))

    async def _acquire(self) -> Turn:
        """Acquire a permit, unless there is a pause or the rate is used up."""
        if left := self._pause_left():
            return Turn(left)
        if self._rate is None:
            return Turn()
        turn = await self._limiter.take(self._name, self._rate, self.clock)
        wait: object = turn.wait if isinstance(turn, Turn) else None
        if type(wait) is float and 0 <= wait < inf:
            return turn
        # A limiter may be the caller's own, which reckons in other numbers, or a hair too late.
        if not isinstance(wait, Real) or not isfinite(float(wait)):
            raise ConfigurationError(
                f"the limiter's take() returned {shown(turn)}; a Turn with a time to wait is wanted"
            )
        return attrs.evolve(turn, wait=max(float(wait), SHORTEST) if wait else 0.0)

    def _pause_left(self) -> float:
        now = self.clock.monotonic()
        left = max(self._paused_until, self._last + self._slowdown) - now
        if left <= _INSTANT:
            self._paused_until = 0.0
            return 0.0
        return left

    def _until_due(self, others: int = 0) -> float:
        """Return seconds until a call's departure is due, as far as is known here."""
        now = self.clock.monotonic()
        due = max(self._due, now) if others else self._due
        return max(self._pause_left(), due + others * self._step - self._tolerance - now)

    def _refuse_if_late(self, wait: float, until: float | None) -> None:
        paused = self._paused_until - self.clock.monotonic()
        if paused > LONGEST_HINT:
            raise RateLimited(
                f"the service asked for a pause, of which {paused:.0f} s are left",
                retry_after=paused,
            )
        if until is not None and self.clock.monotonic() + wait > until:
            raise RateLimited(
                f"the next turn comes in {wait:.1f} s, after the call's deadline",
                retry_after=wait,
            )

    @contextlib.asynccontextmanager
    async def _head_of(
        self, queue: Queue, number: int, until: float | None
    ) -> AsyncGenerator[Callable[[], None], None]:
        """Wait for the head of a queue; yields what releases it before the end.

        A call that is cancelled, at the head or behind it, holds up no other.
        """
        try:
            async with asyncio.timeout(until and until - self.clock.monotonic()):
                await queue.acquire(number)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while others had their turn") from None
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                queue.release()

        try:
            yield release
        finally:
            release()
