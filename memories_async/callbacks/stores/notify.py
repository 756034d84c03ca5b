"""Who waits for which callback in this process, on whichever event loop; waking them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Generator, Iterable


class Subscribers:
    """Events by the name that they wait for; waking is safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, dict[asyncio.Event, asyncio.AbstractEventLoop]] = {}
        _ALL.add(self)

    def __bool__(self) -> bool:
        return bool(self._events)

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
                waiting = self._events.get(name, {})
                waiting.pop(event, None)
                if not waiting:
                    self._events.pop(name, None)

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

    def forget(self) -> None:
        """Begin anew in a forked child: the parent's loops do not run here, nor do its threads."""
        self._lock = threading.Lock()
        self._events = {}


_ALL: weakref.WeakSet[Subscribers] = weakref.WeakSet()


def _forget_the_parent_s() -> None:
    for subscribers in list(_ALL):
        subscribers.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parent_s)
