"""Clocks for tests: hours pass at once."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")

START = 1_000_000.0


class HurriedClock:
    """Never waits: each sleep is noted and moves the time; for calls over a real socket."""

    def __init__(self, chance: float = 1.0) -> None:
        self.now = START
        self.chance = chance
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def random(self) -> float:
        return self.chance


class VirtualClock(HurriedClock):
    """Wakes sleepers in the order of their times; for many tasks that touch no socket."""

    def __init__(self, chance: float = 1.0) -> None:
        super().__init__(chance)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    async def sleep(self, seconds: float) -> None:
        waking = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), waking))
        self.slept.append(seconds)
        await waking

    async def advance(self, seconds: float) -> None:
        """Let so much time pass, and everybody do what is due in it."""
        end = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            await self._wake_next()
        self.now = end

    async def run(self, work: Coroutine[object, object, T]) -> T:
        """Run to the end, the time jumping from sleeper to sleeper."""
        task = asyncio.ensure_future(work)
        await settle()
        while not task.done():
            for _ in range(20):  # many calls that fail at once take many turns and no time
                if self._sleepers or task.done():
                    break
                await settle()
            if task.done():
                break
            assert self._sleepers, "nobody sleeps and the work goes on"
            await self._wake_next()
        return task.result()

    async def _wake_next(self) -> None:
        due, _, waking = heapq.heappop(self._sleepers)
        if waking.done():  # its sleeper was cancelled: that takes no time
            return
        self.now = max(self.now, due)
        waking.set_result(None)
        await settle()


async def settle() -> None:
    """Let every task run until it waits for something other than the next turn."""
    for _ in range(30):
        await asyncio.sleep(0)
