"""A store in this process: for tests, and for scripts that do not outlive their tasks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator
from typing import NoReturn

import attrs

from memories_async.callbacks.stores.notify import Subscribers
from memories_async.callbacks.stores.protocol import KEPT, Delivery, DeliveryStatus
from memories_async.checks import checked
from memories_async.checks.kinds import seconds_from


@attrs.define
class _Task:
    opened: float
    name: str | None
    delivery: Delivery | None = None


class MemoryStore:
    """Keeps everything in this process alone: other workers see nothing of it.

    Args:
        kept: Seconds that tasks and results are kept (default a week).
    """

    @checked({"kept": seconds_from(0)})
    def __init__(self, *, kept: float = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._secret: str | None = None
        self._tasks: dict[str, _Task] = {}
        self._tokens: dict[str, str] = {}
        self._subscribers = Subscribers()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a MemoryStore is in one process alone: give SqliteStore(path) or RedisStore(url)"
        )

    async def secret(self, proposed: str) -> str:
        """Keep a secret unless one is kept."""
        with self._lock:
            self._secret = self._secret or proposed
            return self._secret

    async def open(self, token: str, name: str | None, now: float) -> bool:
        """Expect a callback."""
        with self._lock:
            self._forget(now)
            if token in self._tasks:
                return False
            self._tasks[token] = _Task(now, name)
            if name is not None:
                self._tokens[name] = token
            return True

    async def forget(self, token: str) -> None:
        """Expect nothing any more."""
        with self._lock:
            if token in self._tasks and self._tasks[token].name is None:
                del self._tasks[token]

    async def name_of(self, token: str) -> str | None:
        """Return the name that a token was bound to."""
        with self._lock:
            task = self._tasks.get(token)
            return task.name if task else None

    async def opened(self, name: str) -> float | None:
        """Return when what is waited for by a name was opened."""
        with self._lock:
            task = self._tasks.get(self._tokens.get(name, ""))
            return task.opened if task else None

    async def bind(self, token: str, name: str, now: float) -> bool:
        """Say by which name a token is waited for."""
        with self._lock:
            self._forget(now)
            task = self._tasks.setdefault(token, _Task(now, name))
            task.name = name
            self._tokens[name] = token
            if task.delivery is not None and task.delivery.name != name:
                task.delivery = None
                return False
        self._subscribers.wake([name])  # it may have come early
        return True

    async def deliver(self, token: str, delivery: Delivery) -> DeliveryStatus:
        """Keep the first callback of a token."""
        with self._lock:
            self._forget(delivery.at)
            task = self._tasks.get(token)
            if task is None or (task.name is not None and task.name != delivery.name):
                return DeliveryStatus.UNKNOWN
            if task.delivery is not None:
                if task.delivery.name != delivery.name:
                    return DeliveryStatus.CONTESTED
                same = task.delivery.digest == delivery.digest
                return DeliveryStatus.REPEAT if same else DeliveryStatus.DIFFERENT
            task.delivery = delivery
        self._subscribers.wake([delivery.name])
        return DeliveryStatus.FIRST

    async def find(self, name: str) -> Delivery | None:
        """Return the callback of what is waited for by a name."""
        with self._lock:
            task = self._tasks.get(self._tokens.get(name, ""))
            return task.delivery if task else None

    @contextlib.asynccontextmanager
    async def watch(self, name: str) -> AsyncGenerator[asyncio.Event]:
        """Within the context, set the event when a callback for a name comes."""
        with self._subscribers.watch(name) as event:
            yield event

    async def aclose(self) -> None:
        """Nothing is open."""

    def _forget(self, now: float) -> None:
        """Drop from the front what is too old: tasks are in order of time."""
        while self._tasks:
            token, task = next(iter(self._tasks.items()))
            if task.opened >= now - self._kept:
                break
            del self._tasks[token]
            if task.name is not None and self._tokens.get(task.name) == token:
                del self._tokens[task.name]
