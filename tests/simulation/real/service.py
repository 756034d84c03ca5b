"""The service of the stories of real processes, and who ends as it takes which request."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from memories_async.emulator import Emulator
from memories_async.emulator.callbacks import CallbackFault, Dropped
from memories_async.emulator.engines.hashing import HashEngine
from tests.simulation.invariants import BrokenInvariantError

PATIENCE = 120.0
"""Real seconds after which somebody hangs; nothing here is to take one."""


def check(holds: object, what: object) -> None:
    if not holds:
        raise BrokenInvariantError(str(what))


class Endings:
    """Which process is to end as the service takes which request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0
        self._victims: dict[int, list[tuple[int, int, float]]] = {}
        self.ended: list[threading.Timer] = []

    def end_at(self, nth: int, process: int, number: int, later: float) -> None:
        """Send a signal at the nth request from now on, or so much later."""
        with self._lock:
            self._victims.setdefault(self._taken + nth, []).append((process, number, later))

    def spare(self) -> None:
        """End nobody any more: who has ended has given its number back."""
        with self._lock:
            self._victims.clear()
            timers, self.ended = self.ended, []
        for timer in timers:
            timer.cancel()
            timer.join()

    def take(self) -> None:
        """Count a request: it is whole, about to be billed, and not answered yet."""
        with self._lock:
            self._taken += 1
            for process, number, later in self._victims.pop(self._taken, ()):
                timer = threading.Timer(later, os.kill, (process, number))
                self.ended.append(timer)
                timer.start()
                if not later:
                    timer.join()


@attrs.frozen(eq=False)
class _Engine(HashEngine):
    taken: Callable[[], None]

    def embed_image(self, picture: Path, model: str) -> list[float]:
        self.taken()
        return super().embed_image(picture, model)


class Service:
    """An emulator on a loop in a thread of its own."""

    def __init__(self) -> None:
        self.endings = Endings()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.emulator = Emulator(_Engine(self.endings.take))
        self.do(self.emulator.__aenter__())
        self.emulator.callbacks.add(CallbackFault(None, Dropped(), times=None))

    def do(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop).result(PATIENCE)

    def billed(self) -> Counter[str]:
        """Count what was billed so far, by what was sent."""
        entries = [entry for entry in list(self.emulator.ledger) if entry.billed]
        return Counter(file.sha256 for entry in entries for file in entry.files)

    def come_to_rest(self) -> None:
        """Wait until every request has been answered or given up."""
        end = time.monotonic() + PATIENCE
        while any(entry.finished_at is None for entry in list(self.emulator.ledger)):
            check(time.monotonic() < end, "a request is never finished")
            time.sleep(0.002)

    def close(self) -> None:
        self.do(self.emulator.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
