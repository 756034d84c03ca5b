"""Per-account limits and the one shared pause: every call waits here before it opens a socket."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Mapping
from weakref import WeakKeyDictionary

from memories_async._engine.retry import backoff
from memories_async.clock import Clock
from memories_async.config import Rate, Secret
from memories_async.errors import DeadlineExceeded, RateLimited
from memories_async.limiters import Limiter, Turn
from memories_async.operations import Bucket

SLOWEST = 32.0
"""The most seconds between two calls that repeated throttling leads to."""
RECOVERY = 0.8
"""What each success makes of the extra spacing that throttling brought."""


class Pacer:
    """The lanes of every account that a client uses."""

    def __init__(self, rates: Mapping[Bucket, Rate], limiter: Limiter, clock: Clock) -> None:
        self._rates = rates
        self._limiter = limiter
        self._clock = clock
        self._lanes: dict[tuple[Secret | None, Bucket], Lane] = {}

    def lane(self, key: Secret | None, bucket: Bucket) -> Lane:
        """Return the lane that all calls of an account and bucket share."""
        lane = self._lanes.get((key, bucket))
        if lane is None:
            # A store shared with other hosts sees a digest, never the key.
            secret = key.reveal() if key else ""
            account = hashlib.sha256(secret.encode()).hexdigest()[:16]
            lane = self._lanes[key, bucket] = Lane(
                f"{account}:{bucket.name.lower()}",
                self._rates.get(bucket),
                self._limiter,
                self._clock,
            )
        return lane


class Lane:
    """One account's calls of one bucket, let through one by one in the order they came."""

    def __init__(self, name: str, rate: Rate | None, limiter: Limiter, clock: Clock) -> None:
        self._name = name
        self._rate = rate
        self._limiter = limiter
        self._clock = clock
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]
        self._queues = WeakKeyDictionary()
        self._waiting = 0
        self._paused_until = 0.0
        self._throttles = 0
        self._spacing = 0.0
        self._last = float("-inf")
        self._unused: list[Turn] = []

    @property
    def interval(self) -> float:
        """Seconds between two calls at the allowed rate."""
        return self._rate.seconds / self._rate.calls if self._rate else 0.0

    @property
    def _idle(self) -> bool:
        return not (self._rate or self._waiting or self._paused_until or self._spacing)

    async def enter(self, until: float | None) -> Turn:
        """Wait for this call's turn.

        Args:
            until: The clock's time by which the turn must come, or None.

        Raises:
            RateLimited: The turn cannot come in time; raised at once, not when time is up.
            DeadlineExceeded: It could have come in time, but what was ahead took longer.
            LimiterUnavailable: The limiter's store cannot be reached.
        """
        if self._idle:
            return Turn()
        self._waiting += 1
        try:
            others = self._waiting - 1
            periods = others // self._rate.calls * self._rate.seconds if self._rate else 0.0
            ahead = max(periods, others * self._spacing)
            self._refuse_if_late(
                max(self._paused_until - self._clock.monotonic(), 0.0) + ahead, until
            )
            async with self._head_of_queue(until):
                while (turn := await self._ask()).wait:
                    self._refuse_if_late(turn.wait, until)
                    await self._clock.sleep(turn.wait)
                self._last = self._clock.monotonic()
                return turn
        finally:
            self._waiting -= 1

    def leave_unused(self, turn: Turn) -> None:
        """Give back the turn of a call of which not one byte was sent."""
        if self._rate is not None:
            self._unused.append(turn)

    def throttled(self, retry_after: float | None) -> float:
        """Pause the whole lane because the service said so; returns for how many seconds.

        Calls that were under way together report one and the same congestion: while the lane is
        already paused, another report neither lengthens the pause nor lowers the rate again.
        """
        now = self._clock.monotonic()
        left = self._paused_until - now
        if left <= 0:
            self._throttles += 1
            left = max(backoff(self._throttles, self._clock.random()), self.interval)
            if self._throttles > 1:
                self._spacing = min(max(self._spacing * 2, self.interval * 2, 1.0), SLOWEST)
            if retry_after is not None:
                left = retry_after
        pause = max(left, retry_after or 0.0)
        self._paused_until = now + pause
        return pause

    def succeeded(self) -> None:
        """Note that the service took a call: the rate recovers."""
        self._throttles = 0
        if self._spacing:
            self._spacing *= RECOVERY
            if self._spacing < max(self.interval, 0.05):
                self._spacing = 0.0

    def _pause_left(self) -> float:
        now = self._clock.monotonic()
        left = max(self._paused_until, self._last + self._spacing) - now
        if left <= 0:
            self._paused_until = 0.0
            return 0.0
        return left

    async def _ask(self) -> Turn:
        """Take a turn, unless there is a pause or the rate is used up."""
        if wait := self._pause_left():
            return Turn(wait)
        if self._rate is None:
            return Turn()
        while self._unused:
            await self._limiter.give_back(self._name, self._rate, self._unused.pop())
        return await self._limiter.take(self._name, self._rate, self._clock)

    def _refuse_if_late(self, wait: float, until: float | None) -> None:
        if until is not None and self._clock.monotonic() + wait > until:
            raise RateLimited(
                f"the next turn comes in {wait:.1f} s, after the call's deadline",
                retry_after=wait,
            )

    @contextlib.asynccontextmanager
    async def _head_of_queue(self, until: float | None) -> AsyncGenerator[None, None]:
        """Wait to be the first in line: one call sleeps there, and those behind keep their order.

        One that is cancelled, at the head or behind it, harms nobody.
        """
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = asyncio.Lock()
        try:
            async with asyncio.timeout(until and until - self._clock.monotonic()):
                await queue.acquire()
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while others had their turn") from None
        try:
            yield
        finally:
            queue.release()
