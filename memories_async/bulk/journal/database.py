"""One SQLite file per job: what was planned, what left, what came back; durable at every step."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

from memories_async.bulk.journal import lock as lease
from memories_async.bulk.journal import queries as records
from memories_async.bulk.journal import schema
from memories_async.bulk.journal.queries import Tally
from memories_async.bulk.models import JournalError
from memories_async.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")

SUFFIXES = ("", "-wal", "-shm")


class Journal:
    """The file behind a job. All its I/O happens in one thread, many changes to a commit.

    Attributes:
        path: The file.
        tally: How the job stands, as of the last commit.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = os.path.abspath(path)
        self.tally = Tally()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memories-async-journal")
        self._db: sqlite3.Connection | None = None
        self._token: str | None = None
        self._pending: list[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._closed = False

    async def create(self) -> None:
        """Make the file, readable by its owner only, and begin the one transaction of planning.

        Raises:
            ConfigurationError: There is a job already, or another file.
            JournalError: The file cannot be made.
        """
        await self._run(self._create)

    async def open(self) -> None:
        """Open an existing job.

        Raises:
            ConfigurationError: There is none.
            JournalError: The file cannot be read.
        """
        await self._run(self._open)

    async def complete(self) -> None:
        """Commit the planning: from now on there is a job."""
        await self._run(self._complete)

    async def abandon(self) -> None:
        """Undo the planning and remove the file."""
        await self._run(self._remove)
        await self.aclose()

    async def ask(
        self,
        query: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a query, or a change within the transaction of planning."""
        return await self._run(lambda: query(self._connection(), *args, **kwargs))

    async def write(
        self,
        change: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Make a change and return once it is on disk.

        Changes asked for while a commit is under way share the next one. A change that was asked
        for is made, even if whoever asked is cancelled.

        Raises:
            JobBusy: Another run has taken the job over.
            JournalError: It cannot be written; nor could what shared its commit.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append((lambda db: change(db, *args, **kwargs), future))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_pending())
        return await future

    async def settled(self) -> None:
        """Wait until nothing more is to be written."""
        while self._committing is not None:
            await asyncio.wait([self._committing])

    async def lease(self) -> None:
        """Become the one run of the job; whatever a dead one was sending is unknown now.

        Raises:
            JobBusy: Another run is alive.
        """
        claimant = lease.Holder.this_process()

        def claim(db: sqlite3.Connection) -> None:
            lease.claim(db, claimant)
            records.doubt_sending(db)

        await self.write(claim)
        self._token = claimant.token
        lease.HELD_HERE.add(claimant.token)

    async def release(self) -> None:
        """Stop being the run of the job."""
        token, self._token = self._token, None
        if token is not None:
            lease.HELD_HERE.discard(token)
            await self.write(lease.release, token)

    async def beat(self) -> None:
        """Show a sign of life now and then, for as long as the run lasts."""
        while True:
            await asyncio.sleep(lease.HEARTBEAT)
            await self.write(lambda db: None)

    async def aclose(self) -> None:
        """Write what is left and close the file. May be repeated."""
        if not self._closed:
            await self.settled()
            await self._run(self._close)
            self._closed = True
            self._thread.shutdown(wait=False)

    async def _commit_pending(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                changes = [change for change, _ in batch]
                try:
                    results = await self._run(functools.partial(self._commit, changes))
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), result in zip(batch, results, strict=True):
                        if not future.done():
                            future.set_result(result)
        finally:
            self._committing = None

    async def _run(self, function: Callable[[], T]) -> T:
        if self._closed:
            raise JournalError(f"{self.path}: the job has been closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self.path}: {error}") from error

    # --- in the thread ------------------------------------------------------------------------

    def _create(self) -> None:
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(self.path, flags, 0o600)
        try:
            empty = os.fstat(descriptor).st_size == 0
            if empty and hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o600)  # SQLite gives its other files the same mode
        finally:
            os.close(descriptor)
        db = self._connect()
        # A planning that was killed leaves a file without tables: its transaction never ended.
        if not empty and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise ConfigurationError(f"{self.path} exists already")
        db.execute("BEGIN IMMEDIATE")
        for statement in schema.SCHEMA:
            db.execute(statement)

    def _open(self) -> None:
        if not os.path.isfile(self.path):
            raise ConfigurationError(f"{self.path}: no such job")
        db = self._connect()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if application != schema.APPLICATION_ID:
            raise ConfigurationError(f"{self.path} is no job, or its planning was never finished")
        if version != schema.VERSION:
            raise ConfigurationError(f"{self.path} was written by another version of the package")
        self.tally = records.tally(db)

    def _connect(self) -> sqlite3.Connection:
        self._db = sqlite3.connect(self.path, isolation_level=None, timeout=30.0)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(f"{self.path} is no job: {error}") from None
        self._db.execute("PRAGMA synchronous = FULL")
        return self._db

    def _connection(self) -> sqlite3.Connection:
        assert self._db is not None, "not opened"
        return self._db

    def _complete(self) -> None:
        db = self._connection()
        self.tally = records.tally(db)
        db.execute("COMMIT")

    def _commit(self, changes: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        db = self._connection()
        db.execute("BEGIN IMMEDIATE")
        try:
            if self._token is not None:
                lease.renew(db, self._token)
            results = [change(db) for change in changes]
            tally = records.tally(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self.tally = tally
        return results

    def _remove(self) -> None:
        self._close()
        for suffix in SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path + suffix)

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()
