"""The three stores of counts, each with a clock that a test moves."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import attrs

from memories_async import Rate
from memories_async.limiters import (
    MemoryLimiter,
    PausableLimiter,
    RedisLimiter,
    SqliteLimiter,
    Turn,
)
from tests.virtual_clock import HurriedClock

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")


class Home(Protocol):
    """A store, and time as it sees it."""

    limiter: PausableLimiter
    clock: HurriedClock
    lane: str

    @property
    def elapsed(self) -> float:
        """Seconds that passed by the store's clock without being moved."""
        ...

    async def take(self, rate: Rate) -> Turn:
        """Take a permit of the home's lane."""
        ...

    async def give_back(self, rate: Rate, turn: Turn) -> None:
        """Give a permit back."""
        ...

    def move(self, seconds: float) -> None:
        """Move the store's clock, back if negative."""
        ...


class InMemory:
    def __init__(self) -> None:
        self.limiter: PausableLimiter = MemoryLimiter()
        self.clock = HurriedClock()
        self.lane = "account:bucket"

    @property
    def elapsed(self) -> float:
        return 0.0

    async def take(self, rate: Rate) -> Turn:
        return await self.limiter.take(self.lane, rate, self.clock)

    async def give_back(self, rate: Rate, turn: Turn) -> None:
        await self.limiter.give_back(self.lane, rate, turn)

    def move(self, seconds: float) -> None:
        self.clock.now += seconds


class InSqlite(InMemory):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.limiter = SqliteLimiter(path)


class InRedis(InMemory):
    """Its clock cannot be moved, so what it keeps is moved the other way: the same to the rule."""

    def __init__(self, url: str) -> None:
        super().__init__()
        import redis

        self.limiter = RedisLimiter(url, prefix="test")
        self.lane = uuid.uuid4().hex
        self._redis: Any = redis.Redis.from_url(url)
        self._moved = 0
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    async def take(self, rate: Rate) -> Turn:
        turn = await super().take(rate)
        return turn if turn.wait else attrs.evolve(turn, stamp=turn.stamp + self._moved)

    async def give_back(self, rate: Rate, turn: Turn) -> None:
        await super().give_back(rate, attrs.evolve(turn, stamp=turn.stamp - self._moved))

    def move(self, seconds: float) -> None:
        key, microseconds = f"test:{self.lane}", round(seconds * 1e6)
        self._moved += microseconds
        for field in ("due", "seen"):
            if self._redis.hexists(key, field):
                self._redis.hincrby(key, field, -microseconds)
        self._redis.persist(key)


Moment = tuple[float, float]
"""Between which times something happened; a store's own clock cannot be asked in between."""


def assert_no_window_holds_more(calls: list[Moment], rate: Rate) -> None:
    """Of one call more than the rate allows, the last comes a period after the first."""
    for (earliest, _), (_, latest) in zip(calls, calls[rate.calls :], strict=False):
        assert latest - earliest >= rate.seconds


def most_in_a_window(times: list[float], seconds: float) -> int:
    """Count the calls in the fullest window."""
    times = sorted(times)
    most = first = 0
    for last, end in enumerate(times):
        while times[first] <= end - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis of one's own; yields its address."""
    assert SERVER is not None
    path = folder / "redis.sock"
    server = subprocess.Popen(
        [SERVER, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        while not path.exists():
            assert server.poll() is None
            time.sleep(0.01)
        yield f"unix://{path}"
    finally:
        server.kill()
        server.wait()


async def cancelled_take(home: Home, rate: Rate, turns_of_the_loop: int) -> bool:
    """Start a take and cancel it a little later; returns whether it was over before that."""
    take = asyncio.ensure_future(home.take(rate))
    for _ in range(turns_of_the_loop):
        await asyncio.sleep(0)
    take.cancel()
    try:
        turn = await take
    except asyncio.CancelledError:
        await threads_at_rest()
        return False
    if not turn.wait:
        await home.give_back(rate, turn)
    return True


async def threads_at_rest() -> None:
    """Wait until the loop's worker threads, and those that give back, have nothing left to do."""
    await asyncio.get_running_loop().run_in_executor(None, int)
    for thread in threading.enumerate():
        if thread.name == "memories-async-give-back":
            await asyncio.to_thread(thread.join)
