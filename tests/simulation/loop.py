"""An event loop whose time is virtual and whose order of ready tasks is drawn from a seed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import itertools
import random
import selectors
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from tests.simulation.invariants import BrokenInvariantError
from tests.simulation.network import Network

T = TypeVar("T")

WALL_CLOCK = 1_790_000_000.0
"""What a life's wall clock shows when it begins."""
COLLECTED_EVERY = 1000
"""Turns of the loop after which garbage is collected, at the same moments of the same life."""
WATCHED_EVERY = 20
"""Turns of the loop after which what must always hold is looked at."""
LONGEST_THREAD = 0.05
"""Virtual seconds that work in a thread may take: a hop to a busy disk."""


class StuckError(Exception):
    """Everybody waits, and nothing will ever happen: a wake-up was lost."""


class _Selector(selectors.BaseSelector):
    """Watches nothing: where others wait for a file, this lets the virtual time pass."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._map: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = selectors.SelectorKey(fileobj, descriptor, events, data)
        self._map[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._map.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._map

    def select(self, timeout: float | None = None) -> list[Any]:
        self._loop.pass_time(timeout)
        return []


class _Task(asyncio.Task[T]):
    """A task whose place in a set does not depend on its address in memory."""

    _numbers = itertools.count()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*arguments, **named)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs a life: hours pass at once, and the same seed gives the same order of everything."""

    def __init__(self, chance: random.Random, tell: Callable[[str], None]) -> None:
        self.now = 0.0
        self.wall_offset = WALL_CLOCK
        self.turns = 0
        self.broken = ""
        """What must never be so, and was: the life ends before its next step."""
        self.watch: Callable[[], None] | None = None
        """Looks, every few turns, whether what must always hold does; else it raises."""
        self._chance = chance
        self.network = Network(self, chance, tell)
        super().__init__(_Selector(self))
        _Task._numbers = itertools.count()
        self.set_task_factory(_task)

    def time(self) -> float:
        return self.now

    def wall(self) -> float:
        """Return what the wall clock shows; it may jump."""
        return self.now + self.wall_offset

    def oversleep(self, seconds: float) -> None:
        """Let time pass while a thread sleeps, which here is everybody's."""
        self.now += seconds

    def pass_time(self, timeout: float | None) -> None:
        """Let time pass until the next timer, and draw who goes first."""
        self.turns += 1
        if self.turns % COLLECTED_EVERY == 0:
            gc.collect()
        if self.broken:
            raise BrokenInvariantError(self.broken)
        if self.watch is not None and self.turns % WATCHED_EVERY == 0:
            self.watch()
        if timeout is None:
            raise StuckError("nobody can ever wake up again")
        self.now += max(timeout, 0.0)
        ready = self._ready
        if timeout or len(ready) < 2:
            return
        # Only tasks change places: callbacks keep the order that asyncio promises them.
        places = [place for place, handle in enumerate(list(ready)) if _steps_a_task(handle)]
        if len(places) > 1:
            handles = [ready[place] for place in places]
            self._chance.shuffle(handles)
            for place, handle in zip(places, handles, strict=True):
                ready[place] = handle

    def _write_to_self(self) -> None:
        """Nobody sleeps in a real selector."""

    # --- threads ------------------------------------------------------------------------------

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> Any:
        """Do the work inline, at a drawn moment."""
        return asyncio.wrap_future(self.work(func, *args), loop=self)

    def work(
        self, func: Callable[..., T], *args: Any, longest: float = LONGEST_THREAD
    ) -> concurrent.futures.Future[T]:
        """Do blocking work at a drawn moment, as a thread would."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        context = contextvars.copy_context()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = context.run(func, *args)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)

        self.call_later(self._chance.random() * longest, run)
        return future

    # --- the network --------------------------------------------------------------------------

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        return await self.network.resolve(host, port)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        await self.network.connect(sock, address)

    async def create_connection(self, protocol_factory: Any, *_: Any, **named: Any) -> Any:
        return await self.network.open(protocol_factory, named.pop("sock"), **named)

    async def create_server(self, protocol_factory: Any, *where: Any, **_: Any) -> Any:
        return self.network.listen(protocol_factory, *where)


def _task(loop: Any, work: Coroutine[Any, Any, T], **named: Any) -> asyncio.Task[T]:
    return _Task(work, loop=loop, **named)


def _steps_a_task(handle: Any) -> bool:
    callback = getattr(handle, "_callback", None)
    kind = type(callback).__name__
    return "Task" in kind or isinstance(getattr(callback, "__self__", None), asyncio.Task)
