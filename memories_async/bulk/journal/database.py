"""One SQLite file per job: what was planned, what left, what came back; durable at every step."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, Final, ParamSpec, TypeVar, cast

from memories_async import sqlite
from memories_async.bulk.group_commit import Change, GroupCommit, change_each
from memories_async.bulk.journal import lock, queries
from memories_async.bulk.journal.lock import JobLock
from memories_async.bulk.journal.rows import Tally
from memories_async.bulk.journal.schema import LOG_LOST, LOG_NEEDED, LOG_SEEN, SCHEMA, WHOLE
from memories_async.errors import ConfigurationError, JobBusy, JournalError, MemoriesError

P = ParamSpec("P")
T = TypeVar("T")

PLANNING: Final = ".planning"
"""Added to the name of a file in which a job is being planned."""
LOG_BYTES: Final = 8 * 1024 * 1024
"""How large the write-ahead log grows before it is taken into the file."""


class Journal:
    """The file behind a job. All its I/O happens in one thread, many changes to a commit.

    A job is planned in a file of another name and moved to its place once it is whole, so that
    what is found there is always a whole job. While a job is run, the file alone is not the whole
    truth, as what was written last is in SQLite's write-ahead log; the file says so, and a copy
    that was made without the log is never run.

    Attributes:
        path: The file.
        tally: How the job stands, as of the last commit.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = sqlite.check_name(path)
        self.tally = Tally()
        self._lock: JobLock | None = None
        self._db: sqlite3.Connection | None = None
        self._writable = False
        self._identity: tuple[int, int] | None = None
        self._planning = False
        self._running = False
        self._closed = False
        self._working = threading.RLock()
        self._start_afresh()
        _JOURNALS.add(self)

    def _start_afresh(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memories-async-journal")
        self._commits = GroupCommit[Change[object], object](self._commit_group)

    # --- planning -----------------------------------------------------------------------------

    async def create(self) -> None:
        """Begin the one transaction of planning, in a file of its own.

        Raises:
            ConfigurationError: There is a job already, or another file.
            JobBusy: Somebody else plans the same job.
            JournalError: The file cannot be made.
        """
        await self._run(self._create)

    async def complete(self) -> None:
        """Commit the planning and move the file to its place: from now on there is a job."""
        await self._run(self._complete)

    async def abandon(self) -> None:
        """Undo the planning, and close."""
        await asyncio.shield(asyncio.ensure_future(self._abandon()))

    async def _abandon(self) -> None:
        with contextlib.suppress(JournalError):
            await self._run(self._remove_planning)
        await self.aclose()

    # --- use ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open an existing job; one of an older version is upgraded.

        Raises:
            ConfigurationError: There is none, or it is no job.
            JournalError: The file cannot be read.
        """
        await self._run(self._open)

    async def ask(
        self,
        query: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a query, or a change within the transaction of planning.

        Raises:
            JournalError: The file cannot be read, or holds what cannot be in it.
        """
        try:
            return await self._run(lambda: query(self._connection(), *args, **kwargs))
        except (ValueError, TypeError, ArithmeticError, AttributeError) as error:
            if isinstance(error, MemoriesError):
                raise
            raise JournalError(f"{self.path} is damaged: {error}") from error

    async def write(
        self,
        change: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Make a change and return once it is on disk.

        Changes asked for while a commit is under way share the next one, and each fails for
        itself. A change that was asked for is made, even if whoever asked is cancelled.

        Raises:
            JournalError: It cannot be written.
        """
        # A group holds changes of all types.
        return cast("T", await self._commits.ask(lambda db: change(db, *args, **kwargs)))

    async def start(self, ids: Sequence[int]) -> None:
        """Write down that items are about to be sent, in the file that the next run will find.

        Raises:
            JournalError: It cannot be written, or the file is not in its place any more.
        """

        def change(db: sqlite3.Connection) -> None:
            if sqlite.identity(self.path) != self._identity:
                raise JournalError(
                    f"{self.path} was deleted, moved or replaced while it was being run"
                )
            queries.start(db, ids)

        await self.write(change)

    async def settled(self) -> None:
        """Wait until nothing more is to be written."""
        await self._commits.settled()

    async def lock(self, purpose: str = "run", *, merging_into: str | None = None) -> JobLock:
        """Become the one run of the job; whatever a dead one was sending is unknown now.

        Args:
            purpose: What for, told to those that are refused.
            merging_into: The job that is to take the items over; an attempt to do so that was cut
                short may be repeated.

        Returns:
            What ``unlock`` wants to have back.

        Raises:
            JobBusy: Another run is alive, be it of this object.
            JournalError: The file cannot be written, or the record of what was sent is not whole.
        """
        held = JobLock(self.path)
        try:
            await self._run(self._take_lock, held, purpose, merging_into)
        except asyncio.CancelledError:
            await self.unlock(held)  # the thread may have taken it all the same
            raise
        return held

    async def unlock(self, held: JobLock) -> None:
        """Stop being the run of the job, if this is still the lock that it has."""
        await asyncio.shield(asyncio.ensure_future(self._unlock(held)))

    async def _unlock(self, held: JobLock) -> None:
        await self.settled()
        if not self._closed:
            await self._run(self._release_lock, held)

    async def recover(self) -> int:
        """Go on without a log that is lost for good: what was planned counts as unknown."""
        return await self._run(self._recover)

    async def aclose(self) -> None:
        """Write what is left and close the file. May be repeated."""
        if not self._closed:
            await self.settled()
        if not self._closed:
            await self._run(self._close)
            self._closed = True
            self._thread.shutdown(wait=False)

    async def _commit_group(self, changes: Sequence[Change[object]]) -> list[object | Exception]:
        results = await self._run(self._commit, changes)
        return [self._explained(r) if isinstance(r, sqlite3.Error) else r for r in results]

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise JournalError(f"{self.path}: the job has been closed")

        def work() -> T:
            with self._working:
                return function(*args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> JournalError:
        return JournalError(f"{self.path}: {error}")

    # --- planning, in the thread --------------------------------------------------------------

    def _create(self) -> None:
        sqlite.check_name(self.path)
        if not os.path.isdir(os.path.dirname(self.path)):
            raise ConfigurationError(f"{os.path.dirname(self.path)}: there is no such folder")
        self._refuse_what_is_there()
        self._lock = JobLock(self.path)
        self._lock.acquire("planning")
        try:
            self._refuse_what_is_there()  # again, now that nobody else plans here
            # Nobody else has it in use: whoever planned here and was killed held the lock.
            with contextlib.suppress(FileNotFoundError):
                sqlite.delete(self.path + PLANNING)
            self._planning = True
            self._db = sqlite.connect(self.path + PLANNING, SCHEMA, create_missing=True)
            self._writable = True
            self._db.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._remove_planning()
            raise

    def _refuse_what_is_there(self) -> None:
        if os.path.lexists(self.path) and (os.path.islink(self.path) or _size(self.path)):
            raise ConfigurationError(f"{self.path} exists already")
        for suffix in ("-wal", "-journal"):  # the third has nothing that is not in these
            if _size(self.path + suffix):
                raise ConfigurationError(
                    f"{self.path}{suffix} is left of a job whose file is gone, and may hold "
                    "results: move it back beside that file, or delete it"
                )

    def _complete(self) -> None:
        db = self._connection()
        self.tally = queries.tally(db)
        db.execute("COMMIT")
        # Closing takes the log into the file, which then is all there is of the job.
        self._close_connection()
        self._refuse_what_is_there()
        for suffix in sqlite.SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path + suffix)
        os.replace(self.path + PLANNING, self.path)
        _keep_name(os.path.dirname(self.path))
        self._planning = False
        self._release_lock(self._lock)

    def _remove_planning(self) -> None:
        self._close_connection()
        if self._planning:
            self._planning = False
            with contextlib.suppress(FileNotFoundError):
                sqlite.delete(self.path + PLANNING)
        self._release_lock(self._lock)

    # --- use, in the thread -------------------------------------------------------------------

    def _open(self) -> None:
        self._db = self._open_to_read()
        self.tally = queries.tally(self._db)

    def _open_to_read(self) -> sqlite3.Connection:
        """Open the file so that its log, if it has one, cannot be deleted by this connection."""
        sqlite.check_name(self.path)
        if not os.path.lexists(self.path):
            raise ConfigurationError(f"{self.path}: no such job")
        try:
            if os.path.exists(f"{self.path}-wal") and sqlite.marks_of(self.path) == SCHEMA.marks:
                return sqlite.connect_for_reading(self.path, SCHEMA)
            return self._open_to_write()
        except ConfigurationError as error:
            if _is_hollow(self.path):
                raise ConfigurationError(
                    f"{self.path} holds no job: its planning was never finished, or it was copied "
                    "or moved without the '-wal' file beside it. Put that back; only if there "
                    "is none, delete the file and plan again"
                ) from None
            raise error
        except (sqlite3.Error, OSError, JournalError):
            # Read-only media, or a run of an older version at work: there is reading at least.
            return sqlite.connect_for_reading(self.path, SCHEMA)

    def _open_to_write(self) -> sqlite3.Connection:
        log_was_there = os.path.exists(f"{self.path}-wal")
        db = sqlite.connect(self.path, SCHEMA)
        try:
            # The log is taken in where the file can say that it must not be lost; see _checkpoint.
            db.execute("PRAGMA wal_autocheckpoint = 0")
            if queries.read_log(db) == LOG_NEEDED:
                self._judge_log(db, log_was_there)
            if self._running:
                self._checkpoint(db)
        except BaseException:
            db.close()
            raise
        self._writable = True
        return db

    def _judge_log(self, db: sqlite3.Connection, was_there: bool) -> None:
        """Say in the file whether the log that it needs has been lost, unless a run has it."""
        mine = self._lock is not None
        held = self._lock or JobLock(self.path)
        try:
            if not mine:
                held.acquire("opening")
        except JobBusy:
            return
        try:
            if queries.read_log(db) == LOG_NEEDED:
                queries.write_log(db, LOG_SEEN if was_there else LOG_LOST)
        finally:
            if not mine:
                held.release()

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = self._open_to_read()
        return self._db

    def _writer(self) -> sqlite3.Connection:
        if self._db is None or not self._writable:
            self._close_connection()
            self._db = self._open_to_write()
        return self._db

    def _commit(self, changes: Sequence[Change[T]]) -> list[T | Exception]:
        db = self._writer()
        with sqlite.transaction(db):
            results = change_each(db, changes)
            tally = queries.tally(db)
        self.tally = tally
        if self._running and _size(f"{self.path}-wal") > LOG_BYTES:
            self._checkpoint(db)
        return results

    def _commit_alone(self, change: Change[T]) -> T:
        [result] = self._commit([change])
        if isinstance(result, Exception):
            raise result
        return result

    def _take_lock(self, held: JobLock, purpose: str, merging_into: str | None) -> None:
        held.acquire(purpose)
        self._lock = held
        try:
            self._identity = sqlite.identity(self.path)
            if os.stat(self.path).st_nlink > 1:
                raise JournalError(
                    f"{self.path} has another name (a hard link), under which it could be run at "
                    "the same time: delete one of the two names"
                )
            db = self._writer()
            if queries.read_log(db) == LOG_LOST:
                raise JournalError(
                    f"{self.path} was copied or moved without the '-wal' file beside it, so what "
                    "was sent last is not in it: bring that file back, or, if it is lost for "
                    "good, call recover(), which makes unknown whatever may have been sent"
                )
            into = queries.read_header(db).merged_into
            if into is not None and into != merging_into:
                raise JournalError(f"{self.path} was merged into {into}: run that one")
            self._commit_alone(queries.doubt_sending)
            self._checkpoint(db)
            self._running = True
        except BaseException:
            self._release_lock(held)
            raise

    def _release_lock(self, held: JobLock | None) -> None:
        if held is None or held is not self._lock:
            return
        try:
            if self._running:
                self._running = False
                # Where it cannot be written, the log stays beside the file, and is whole.
                with contextlib.suppress(sqlite3.Error, OSError, JournalError):
                    db = self._writer()
                    queries.write_log(db, WHOLE)
                    sqlite.checkpoint(db)
                if not os.path.lexists(self.path):
                    self._clear_old_place()
        finally:
            self._lock = None
            held.release()

    def _clear_old_place(self) -> None:
        """Delete what SQLite leaves beside the old name of a file that was moved or deleted."""
        self._close_connection()
        if not _size(f"{self.path}-wal"):  # all of it is in the file, wherever that is
            for suffix in sqlite.SUFFIXES:
                with contextlib.suppress(OSError):
                    os.unlink(self.path + suffix)

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        """Take the log into the file, and have the file say that it needs the log to come.

        The second change is the first in the new log: whoever has the log reads that, and only
        who has lost it reads the first. A crash between the two leaves a log that is empty, but
        there.
        """
        queries.write_log(db, LOG_NEEDED)
        sqlite.checkpoint(db)
        queries.write_log(db, LOG_SEEN)

    def _recover(self) -> int:
        held = JobLock(self.path)
        held.acquire("recovery")
        try:
            db = self._writer()
            if queries.read_log(db) != LOG_LOST:
                return 0

            def doubt(db: sqlite3.Connection) -> int:
                queries.write_log(db, WHOLE)
                return queries.doubt_planned(db)

            return self._commit_alone(doubt)
        finally:
            held.release()

    def _close(self) -> None:
        self._release_lock(self._lock)
        if self._planning:
            self._remove_planning()
        self._close_connection()

    def _close_connection(self) -> None:
        db, self._db, self._writable = self._db, None, False
        if db is not None:
            db.close()

    # --- around a fork ------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Close the file: a child that inherits it open would believe that it holds its locks.

        A file in which a job is being planned has a name that no child will open.
        """
        self._working.acquire()
        if not self._planning:
            self._close_connection()

    def after_fork_in_parent(self) -> None:
        """Go on; the file is opened again when it is asked for."""
        self._working.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: the thread, the changes under way and the lock are the parent's."""
        self._working = threading.RLock()
        self._running = False
        self._lock = None
        if self._planning:
            self._closed = True
        self._start_afresh()


def remove(path: str | os.PathLike[str]) -> None:
    """Delete a job's file and what lies beside it.

    Raises:
        ConfigurationError: There is no such file, or it is no job.
        JobBusy: The job is being run.
        OSError: It cannot be deleted.
    """
    name = os.path.abspath(path)
    sqlite.check_name(name)
    if not os.path.lexists(name):
        raise ConfigurationError(f"{name}: no such job")
    if sqlite.marks_of(name)[0] != SCHEMA.application_id and not _is_hollow(name):
        raise ConfigurationError(f"{name} is no job")
    held = JobLock(name)
    held.acquire("removal")
    try:
        sqlite.delete(name)
    finally:
        held.release()


_JOURNALS: weakref.WeakSet[Journal] = weakref.WeakSet()
_FORK = threading.Lock()
_FORKING: list[Journal] = []


def _before_fork() -> None:
    _FORK.acquire()
    _FORKING[:] = list(_JOURNALS)
    for journal in _FORKING:
        journal.before_fork()


def _after_fork(step: Callable[[Journal], None]) -> None:
    while _FORKING:
        step(_FORKING.pop())
    _FORK.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=functools.partial(_after_fork, Journal.after_fork_in_parent),
        after_in_child=functools.partial(_after_fork, Journal.after_fork_in_child),
    )


def running(path: str) -> bool:
    """Tell whether a live run, here or elsewhere, has the job."""
    return lock.holder(path) is not None


def _is_hollow(path: str) -> bool:
    """Tell whether a file is empty, or an SQLite file without a table."""
    if not _size(path):
        return True
    try:
        with contextlib.closing(sqlite.connect_for_reading(path)) as db:
            return not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except (sqlite3.Error, OSError, ConfigurationError):
        return False


def _keep_name(folder: str) -> None:
    """Have a new name survive a power cut."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
