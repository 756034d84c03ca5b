"""Who waits for what in this process, on whichever event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Generator, Iterable


class Subscribers:
    """Events by the name that they wait for; waking is safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, dict[asyncio.Event, asyncio.AbstractEventLoop]] = {}

    @contextlib.contextmanager
    def watch(self, name: str) -> Generator[asyncio.Event]:
        """Within the context, have an event set when the name is woken."""
        event = asyncio.Event()
        with self._lock:
            self._events.setdefault(name, {})[event] = asyncio.get_running_loop()
        try:
            yield event
        finally:
            with self._lock:
                del self._events[name][event]
                if not self._events[name]:
                    del self._events[name]

    def wake(self, names: Iterable[str]) -> None:
        """Set the events of these names."""
        with self._lock:
            for name in names:
                for event, loop in self._events.get(name, {}).items():
                    with contextlib.suppress(RuntimeError):  # that loop has been closed
                        loop.call_soon_threadsafe(event.set)

    def wake_all(self) -> None:
        """Set every event: something may have been missed."""
        with self._lock:
            names = list(self._events)
        self.wake(names)
