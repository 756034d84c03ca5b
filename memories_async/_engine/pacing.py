"""Per-account limits and the one shared pause: every call waits here before it opens a socket."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from memories_async._engine.clock import Clock
from memories_async._engine.limiters import Limiter
from memories_async._engine.retry import backoff
from memories_async.config import Rate, Secret
from memories_async.errors import RateLimited
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
        self._unused: deque[float] = deque()

    @property
    def interval(self) -> float:
        """Seconds between two calls at the allowed rate."""
        return self._rate.seconds / self._rate.calls if self._rate else 0.0

    @property
    def _idle(self) -> bool:
        return not (self._rate or self._waiting or self._paused_until or self._spacing)

    async def enter(self, until: float | None) -> None:
        """Wait for this call's turn.

        Args:
            until: The clock's time by which the turn must come, or None.

        Raises:
            RateLimited: The turn cannot come in time; raised at once, not when time is up.
            LimiterUnavailable: The limiter's store cannot be reached.
        """
        if self._idle:
            return
        self._waiting += 1
        try:
            ahead = (self._waiting - 1) * max(self.interval, self._spacing)
            self._refuse_if_late(
                max(self._paused_until - self._clock.monotonic(), 0.0) + ahead, until
            )
            # The lock is the queue: one call sleeps at its head, and one that is cancelled
            # leaves the others in order.
            async with self._queue():
                while wait := self._pause_left() or await self._take():
                    self._refuse_if_late(wait, until)
                    await self._clock.sleep(wait)
                self._last = self._clock.monotonic()
        finally:
            self._waiting -= 1

    def leave_unused(self) -> None:
        """Give back the turn of a call of which not one byte was sent."""
        if self._rate is not None:
            self._unused.append(self._clock.monotonic())

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

    async def _take(self) -> float:
        """Take a turn from the limiter; returns how long to wait for one, 0 when taken."""
        if self._rate is None:
            return 0.0
        while self._unused:
            if self._clock.monotonic() - self._unused.popleft() < self._rate.seconds:
                return 0.0
        return await self._limiter.take(self._name, self._rate, self._clock)

    def _refuse_if_late(self, wait: float, until: float | None) -> None:
        if until is not None and self._clock.monotonic() + wait > until:
            raise RateLimited(
                f"the next turn comes in {wait:.1f} s, after the call's deadline",
                retry_after=wait,
            )

    def _queue(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = asyncio.Lock()
        return queue
