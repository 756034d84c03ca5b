"""A store in a file that the processes of one host share, and that outlives them all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar, cast

from memories_async.callbacks.stores.bells import Bell, ring_all
from memories_async.callbacks.stores.notify import Subscribers
from memories_async.callbacks.stores.protocol import (
    EARLY_KEPT,
    KEPT,
    MOST_EARLY,
    Delivery,
    DeliveryStatus,
)

P = ParamSpec("P")
T = TypeVar("T")

BUSY_SECONDS = 30.0
"""How long a process waits while another one writes."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    token TEXT PRIMARY KEY, name TEXT, opened REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_by_name ON tasks (name);
CREATE INDEX IF NOT EXISTS tasks_by_age ON tasks (opened);
CREATE TABLE IF NOT EXISTS arrivals (
    number INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL, body BLOB NOT NULL, digest TEXT NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS secret (value TEXT NOT NULL);
"""

_FIND = """
SELECT arrivals.name, body, digest, at FROM tasks JOIN arrivals USING (token)
WHERE tasks.name = ? ORDER BY number DESC LIMIT 1
"""

_NEWS = """
SELECT number, tasks.name FROM arrivals JOIN tasks USING (token)
WHERE number > ? AND tasks.name IS NOT NULL
"""

_EARLY = """
SELECT token, at FROM tasks JOIN arrivals USING (token)
WHERE tasks.name IS NULL ORDER BY number DESC
"""


class SqliteStore:
    """Keeps everything in one SQLite file (WAL), for any number of processes of this host.

    A result is on the disk before it is acknowledged. Beside the file, named as it is with
    ``-waiting`` behind, stands a folder by which the processes wake each other.

    Args:
        path: The file; it is made, readable to this user alone, when it is first used.
        kept: Seconds that tasks and results are kept (default a week).
    """

    def __init__(self, path: str | os.PathLike[str], *, kept: float = KEPT) -> None:
        self._path: str = os.path.abspath(path)
        self._kept = kept
        self._subscribers = Subscribers()
        self._lock = threading.Lock()
        self._process: _Process | None = None

    def __repr__(self) -> str:
        return f"SqliteStore({self._path!r})"

    async def secret(self, proposed: str) -> str:
        """Keep a secret unless one is kept."""
        return await self._run(_secret, proposed)

    async def open(self, token: str, name: str | None, now: float) -> None:
        """Expect a callback."""
        await self._run(_open, token, name, now, now - self._kept)

    async def bind(self, token: str, name: str, now: float) -> bool:
        """Say by which name a token is waited for."""
        return await self._run(_bind, token, name, now)

    async def deliver(self, token: str, delivery: Delivery) -> DeliveryStatus:
        """Keep the first callback of a token."""
        return await self._run(_deliver, token, delivery)

    async def find(self, name: str) -> Delivery | None:
        """Return the callback of what is waited for by a name."""
        return await self._run(_find, name)

    @contextlib.asynccontextmanager
    async def watch(self, name: str) -> AsyncGenerator[asyncio.Event]:
        """Within the context, set the event when a callback for a name comes."""
        with self._subscribers.watch(name) as event:
            await self._run(_Process.listen)
            yield event

    async def aclose(self) -> None:
        """Close the file."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.id == os.getpid():
            await asyncio.get_running_loop().run_in_executor(None, process.close)

    async def _run(
        self, work: Callable[Concatenate[_Process, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with self._lock:
            if self._process is None or self._process.id != os.getpid():
                # Neither a connection nor a thread survives a fork.
                self._process = _Process(self._path, self._subscribers)
            process = self._process
        return await asyncio.get_running_loop().run_in_executor(
            process.thread, lambda: work(process, *args, **kwargs)
        )


class _Process:
    """What one process has open: a connection with a thread that alone uses it, and a bell."""

    def __init__(self, path: str, subscribers: Subscribers) -> None:
        self.id = os.getpid()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="memories-callbacks")
        self.path = path
        self.subscribers = subscribers
        self.bells = f"{path}-waiting"
        self._connection: sqlite3.Connection | None = None
        self._bell: Bell | None = None
        self._listener: threading.Thread | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = _connect(self.path)
            self._connection.executescript(_SCHEMA)
        return self._connection

    @contextlib.contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """Open a transaction that no other can come between."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            yield connection

    def listen(self) -> None:
        """Have subscribers woken from now on; do nothing if they are already."""
        if self._listener is None:
            [last] = self.connection.execute("SELECT max(number) FROM arrivals").fetchone()
            self._bell = Bell(self.bells)
            self._listener = threading.Thread(
                target=self._wake_subscribers,
                args=(self._bell, last or 0),
                name="memories-callbacks-listener",
                daemon=True,
            )
            self._listener.start()

    def _wake_subscribers(self, bell: Bell, last: int) -> None:
        connection = _connect(self.path)
        with contextlib.closing(connection), contextlib.closing(bell):
            while bell.wait():
                news = cast("list[tuple[int, str]]", connection.execute(_NEWS, (last,)).fetchall())
                last = max((number for number, _ in news), default=last)
                self.subscribers.wake(name for _, name in news)

    def close(self) -> None:
        """End the threads and close the connection."""
        self.thread.submit(self._close).result()
        self.thread.shutdown()

    def _close(self) -> None:
        if self._bell is not None and self._listener is not None:
            self._bell.silence()
            self._listener.join()
        if self._connection is not None:
            self._connection.close()


def _connect(path: str) -> sqlite3.Connection:
    # Made here, so that nobody else may read it; what SQLite lays beside it has the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")
    # What has been acknowledged is sent no second time, so it must survive a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _secret(process: _Process, proposed: str) -> str:
    with process.writing() as connection:
        connection.execute(
            "INSERT INTO secret SELECT ? WHERE NOT EXISTS (SELECT * FROM secret)", (proposed,)
        )
        [kept] = connection.execute("SELECT value FROM secret").fetchone()
    return str(kept)


def _open(process: _Process, token: str, name: str | None, now: float, before: float) -> None:
    with process.writing() as connection:
        connection.execute("INSERT INTO tasks VALUES (?, ?, ?)", (token, name, now))
        connection.execute(
            "DELETE FROM arrivals WHERE token IN (SELECT token FROM tasks WHERE opened < ?)",
            (before,),
        )
        connection.execute("DELETE FROM tasks WHERE opened < ?", (before,))
        _forget_early(connection, now)


def _bind(process: _Process, token: str, name: str, now: float) -> bool:
    with process.writing() as connection:
        _forget_early(connection, now)
        connection.execute(
            "INSERT INTO tasks VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET name = excluded.name",
            (token, name, now),
        )
        dropped = connection.execute(
            "DELETE FROM arrivals WHERE token = ? AND name <> ?", (token, name)
        )
        return dropped.rowcount == 0


def _deliver(process: _Process, token: str, delivery: Delivery) -> DeliveryStatus:
    with process.writing() as connection:
        task = connection.execute("SELECT name FROM tasks WHERE token = ?", (token,)).fetchone()
        if task is None or task[0] not in (None, delivery.name):
            return DeliveryStatus.UNKNOWN
        kept = connection.execute(
            "SELECT digest FROM arrivals WHERE token = ?", (token,)
        ).fetchone()
        if kept is not None:
            return DeliveryStatus.REPEAT if kept[0] == delivery.digest else DeliveryStatus.DIFFERENT
        connection.execute(
            "INSERT INTO arrivals (token, name, body, digest, at) VALUES (?, ?, ?, ?, ?)",
            (token, delivery.name, delivery.body, delivery.digest, delivery.at),
        )
        if task[0] is None:
            _forget_early(connection, delivery.at)
    ring_all(process.bells)
    return DeliveryStatus.FIRST


def _find(process: _Process, name: str) -> Delivery | None:
    row = process.connection.execute(_FIND, (name,)).fetchone()
    return None if row is None else Delivery(*row)


def _forget_early(connection: sqlite3.Connection, now: float) -> None:
    """Forget the early callbacks that are too old, or too many."""
    early = connection.execute(_EARLY).fetchall()
    gone = [
        (token,)
        for position, (token, at) in enumerate(early)
        if at < now - EARLY_KEPT or position >= MOST_EARLY
    ]
    connection.executemany("DELETE FROM arrivals WHERE token = ?", gone)
    connection.executemany("DELETE FROM tasks WHERE token = ?", gone)
