"""The emulator's time: real time, which a test may turn on."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable

from memories_async.checks import checked
from memories_async.checks.parameters import between


class AdjustableClock:
    """Real time plus what it was advanced by; who sleeps by it wakes when it is advanced.

    Args:
        base: Returns seconds since the epoch.
    """

    def __init__(self, base: Callable[[], float] = time.time) -> None:
        self._base = base
        self._ahead = 0.0
        self._lock = threading.Lock()
        self._sleepers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        return self._base() + self._ahead

    def __repr__(self) -> str:
        return f"<AdjustableClock: {self._ahead:g} s ahead>"

    @property
    def waiting(self) -> int:
        """How many wait by this clock: look at it before turning, lest one begins afterwards."""
        return len(self._sleepers)

    @checked({"seconds": between(0, math.inf)})
    def advance(self, seconds: float) -> None:
        """Turn the clock on, from any thread: indexing, latencies and late callbacks are due.

        Args:
            seconds: By so much, at least 0.

        Raises:
            ConfigurationError: It is negative: time does not go back.
        """
        with self._lock:
            self._ahead += seconds
            sleepers = list(self._sleepers)
        for loop, moved in sleepers:
            loop.call_soon_threadsafe(moved.set)

    def reset(self) -> None:
        """Go back to real time."""
        with self._lock:
            self._ahead = 0.0

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of this clock."""
        due = self._ahead + seconds
        loop = asyncio.get_running_loop()
        began, moved = loop.time(), asyncio.Event()
        sleeper = loop, moved
        with self._lock:
            self._sleepers.add(sleeper)
        try:
            while (left := due - self._ahead - (loop.time() - began)) > 0:
                moved.clear()
                try:
                    async with asyncio.timeout(left):
                        await moved.wait()
                except TimeoutError:
                    return
        finally:
            with self._lock:
                self._sleepers.discard(sleeper)
