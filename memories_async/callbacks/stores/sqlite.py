"""A store in a file that the processes of one host share, and that outlives them all."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable
from queue import Empty, SimpleQueue
from typing import Concatenate, Final, ParamSpec, TypeVar

from memories_async.callbacks.stores import sqlite_queries as queries
from memories_async.callbacks.stores.notify import Subscribers
from memories_async.callbacks.stores.protocol import KEPT, Delivery, DeliveryStatus
from memories_async.checks import checked
from memories_async.checks.kinds import seconds_from
from memories_async.errors import MemoriesError, StoreUnavailable
from memories_async.sqlite import connect, identity

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.02
"""How often to look whether another process has written, while somebody waits: 4.5 µs each time."""


class SqliteStore:
    """Keeps everything in one SQLite file (WAL), for any number of processes of this host.

    A result is on the disk before it is acknowledged. The file may be used before a fork and
    after it, on both sides.

    Args:
        path: The file; it is made, readable to this user alone, when it is first used. A symbolic
            link in its place is refused.
        kept: Seconds that tasks and results are kept (default a week).
    """

    @checked({"kept": seconds_from(0)})
    def __init__(self, path: str | os.PathLike[str], *, kept: float = KEPT) -> None:
        self._path: str = os.path.abspath(path)
        self._kept = kept
        self._subscribers = Subscribers()
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        _STORES.add(self)

    def __repr__(self) -> str:
        return f"SqliteStore({self._path!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return functools.partial(type(self), kept=self._kept), (self._path,)

    async def secret(self, proposed: str) -> str:
        """Keep a secret unless one is kept."""
        return await self._run(queries.secret, proposed)

    async def open(self, token: str, name: str | None, now: float) -> bool:
        """Expect a callback."""
        return await self._run(queries.open_task, token, name, now, now - self._kept)

    async def forget(self, token: str) -> None:
        """Expect nothing any more."""
        await self._run(queries.forget, token)

    async def name_of(self, token: str) -> str | None:
        """Return the name that a token was bound to."""
        return await self._run(queries.name_of, token)

    async def opened(self, name: str) -> float | None:
        """Return when what is waited for by a name was opened."""
        return await self._run(queries.opened, name)

    async def bind(self, token: str, name: str, now: float) -> bool:
        """Say by which name a token is waited for."""
        matched = await self._run(queries.bind, token, name, now)
        self._subscribers.wake([name])  # it may have come early
        return matched

    async def deliver(self, token: str, delivery: Delivery) -> DeliveryStatus:
        """Keep the first callback of a token."""
        status = await self._run(queries.deliver, token, delivery)
        if status is DeliveryStatus.FIRST:
            self._subscribers.wake([delivery.name])
        return status

    async def find(self, name: str) -> Delivery | None:
        """Return the callback of what is waited for by a name."""
        return await self._run(queries.find, name)

    @contextlib.asynccontextmanager
    async def watch(self, name: str) -> AsyncGenerator[asyncio.Event]:
        """Within the context, set the event when a callback for a name comes."""
        with self._subscribers.watch(name) as event:
            await self._submit(_Worker.listen)
            yield event

    async def aclose(self) -> None:
        """Close the file."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.shield(worker.stop())

    async def _run(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._submit(lambda worker: work(worker.connection, *args, **kwargs))

    async def _submit(self, work: Callable[[_Worker], T]) -> T:
        with self._lock:
            if self._worker is None:
                self._worker = _Worker(self._path, self._subscribers)
                weakref.finalize(self, self._worker.end).atexit = False
            done = self._worker.submit(work)
        try:
            # What was begun is done, even if whoever asked is cancelled: a callback may be in it.
            return await asyncio.shield(done)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"the callbacks' file {self._path}: {error}") from error

    def pause(self) -> None:
        """Close the file before this process forks, and keep it closed until ``resume``.

        A connection that is open across a fork leaves the child without the locks that it
        believes to hold: the next process to close the file would delete the log in use.
        """
        self._lock.acquire()
        if self._worker is not None:
            self._worker.lock.acquire()
            self._worker.disconnect()

    def resume(self, *, in_child: bool) -> None:
        """Go on after a fork; the child, which has no thread of its parent's, begins anew."""
        if self._worker is not None:
            self._worker.lock.release()
        if in_child:
            self._worker = None
        self._lock.release()


class _Worker:
    """A thread that alone uses the connection, and polls for what other processes write."""

    def __init__(self, path: str, subscribers: Subscribers) -> None:
        self.lock = threading.Lock()
        """Held while the connection is used, and across a fork."""
        self._path = path
        self._subscribers = subscribers
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._data_version: int | None = None
        self._last: int | None = None
        self._polled = 0.0
        self._healthy = True
        # A daemon: at the interpreter's exit nothing that was acknowledged is left to be written.
        self._thread = threading.Thread(
            target=self._serve, name="memories-async-callbacks", daemon=True
        )
        self._thread.start()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection to the file that the path stands for now; for work in the thread."""
        if self._db is not None and identity(self._path) != self._identity:
            # What is written into a file that has no name any more is acknowledged, and lost.
            logger.warning("%s was deleted or replaced: what it kept is gone", self._path)
            self.disconnect()
            self._last = None if self._last is None else 0
        if self._db is None:
            self._db = connect(self._path, queries.SCHEMA, create_missing=True)
            self._identity = identity(self._path)
        return self._db

    def submit(self, work: Callable[[_Worker], T]) -> asyncio.Future[T]:
        """Have work done in the thread; return what becomes of it, on the caller's loop."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            try:
                value = work(self)
            except BaseException as error:
                settle = functools.partial(_fail, done, error)
            else:
                settle = functools.partial(_succeed, done, value)
            with contextlib.suppress(RuntimeError):  # that loop has been closed
                loop.call_soon_threadsafe(settle)

        self._jobs.put(job)
        return done

    def stop(self) -> asyncio.Future[None]:
        """Close the file and end the thread, after what has been asked for."""
        done = self.submit(_Worker.disconnect)
        self.end()
        return done

    def end(self) -> None:
        """Have the thread end, without waiting for it."""
        self._jobs.put(None)

    def disconnect(self) -> None:
        """Close the connection; the next work opens another."""
        db, self._db = self._db, None
        self._data_version = None
        if db is not None:
            db.close()

    def listen(self) -> None:
        """Look for what comes from now on; what came before is there to be found."""
        if self._last is None:
            self._last = queries.last_number(self.connection)

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            with self.lock:
                job()
            del job  # or the next wait would keep alive all that it had to do with
        with self.lock:
            self.disconnect()

    def _next(self) -> Callable[[], object] | None:
        while self._subscribers:
            left = self._polled + POLL_SECONDS - time.monotonic()
            if left <= 0:
                with self.lock:
                    self._poll()
                continue
            with contextlib.suppress(Empty):
                return self._jobs.get(timeout=left)
        self._last = None
        return self._jobs.get()

    def _poll(self) -> None:
        """Wake who waits for what other processes wrote; this one's own is told at once."""
        self._polled = time.monotonic()
        try:
            db = self.connection
            [version] = db.execute("PRAGMA data_version").fetchone()
            if self._last is not None and version != self._data_version:
                arrivals = queries.arrivals_after(db, self._last)
                self._last = max((number for number, _ in arrivals), default=self._last)
                self._subscribers.wake(name for _, name in arrivals)
            self._data_version = version
        except (sqlite3.Error, OSError, MemoriesError) as error:
            if self._healthy:  # once, not fifty times a second
                logger.warning("Waiting for callbacks without their file: %s", error)
            self._healthy = False
        else:
            self._healthy = True


def _succeed(done: asyncio.Future[T], value: T) -> None:
    if not done.done():
        done.set_result(value)


def _fail(done: asyncio.Future[T], error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)


_STORES: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
_forking: list[SqliteStore] = []


def _before_fork() -> None:
    _forking[:] = sorted(_STORES, key=id)  # one order for all who fork at once
    for store in _forking:
        store.pause()


def _after_fork(*, in_child: bool) -> None:
    for store in _forking:
        store.resume(in_child=in_child)
    _forking.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=functools.partial(_after_fork, in_child=False),
        after_in_child=functools.partial(_after_fork, in_child=True),
    )
