"""Who comes next: a lock that goes to the one who came first."""

from __future__ import annotations

import asyncio
import heapq


class Queue:
    """A lock that goes to the lowest number: who was sent back does not lose its place."""

    __slots__ = ("_waiting", "taken")

    def __init__(self) -> None:
        self.taken = False
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def length(self) -> int:
        """How many have it or wait for it."""
        return self.taken + len(self._waiting)

    async def acquire(self, number: int) -> None:
        """Wait for the lock."""
        if not self.taken:
            self.taken = True
            return
        waiting = (number, asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, waiting)
        try:
            await waiting[1]
        except asyncio.CancelledError:
            if not waiting[1].cancelled():
                self.release()  # it had just been handed over
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
                heapq.heapify(self._waiting)
            raise

    def release(self) -> None:
        """Hand the lock on."""
        while self._waiting:
            _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
                return
        self.taken = False
