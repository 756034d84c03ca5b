"""What stores need that are asked from worker threads and carried through forks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Final

from memories_async.clock import Clock
from memories_async.config import Rate
from memories_async.errors import LimiterUnavailable
from memories_async.limiters.rule import Spacing, Turn

_RETAKES: Final = 3
"""How often a permit that has grown stale on its way from a thread is taken anew."""


def lock_held_across_forks() -> threading.Lock:
    """Return a lock that a child never inherits locked by a thread that it does not have."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
    return lock


class Take:
    """A take in a worker thread: one that nobody waits for any more is given back there."""

    def __init__(
        self,
        count: Callable[[], Turn],
        give_back: Callable[[Turn], None],
        clock: Clock,
        rate: Rate,
    ) -> None:
        self._count = count
        self._give_back = give_back
        self._clock = clock
        self._freshness = Spacing.of(rate).freshness / 1e6
        self._lock = threading.Lock()
        self._turn = Turn()
        self._counted_at = 0.0
        self._abandoned = False

    async def run(self) -> Turn:
        """Return a permit of just now: an event loop that was busy may come for it too late."""
        for _ in range(_RETAKES):
            await self._in_thread()
            if self._turn.wait or self._clock.monotonic() - self._counted_at <= self._freshness:
                break
        return self._turn

    async def _in_thread(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, self._work)
        except asyncio.CancelledError:
            with self._lock:
                self._abandoned, unused = True, self._turn
            if unused.stamp:
                # Not by the loop, which may be about to end.
                threading.Thread(
                    target=self._discard, args=(unused,), name="memories-async-give-back"
                ).start()
            raise

    def _work(self) -> None:
        if self._turn.stamp:
            self._discard(self._turn)
            self._turn = Turn()
        turn = self._count()
        with self._lock:
            self._counted_at = self._clock.monotonic()
            self._turn = Turn() if self._abandoned else turn
            unused = self._abandoned and turn.stamp
        if unused:
            self._discard(turn)

    def _discard(self, turn: Turn) -> None:
        with contextlib.suppress(LimiterUnavailable):
            self._give_back(turn)
