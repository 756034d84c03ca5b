"""The one SQLite file behind a job: planned elsewhere, then whole in its place, with its log."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Sequence
from typing import Final, TypeVar

from memories_async import sqlite
from memories_async.bulk.group_commit import Change, change_each
from memories_async.bulk.journal import job_table, queries
from memories_async.bulk.journal.lock import SUFFIX as LOCK_SUFFIX
from memories_async.bulk.journal.lock import JobLock
from memories_async.bulk.journal.rows import Tally
from memories_async.bulk.journal.schema import LOG_LOST, LOG_NEEDED, LOG_SEEN, SCHEMA, WHOLE
from memories_async.errors import ConfigurationError, JobBusy, JournalError

T = TypeVar("T")

PLANNING: Final = ".planning"
"""Added to the name of a file in which a job is being planned."""
LOG_BYTES: Final = 8 * 1024 * 1024
"""How large the write-ahead log grows before it is taken into the file."""


class JobFile:
    """A job's file and the connection to it; everything here blocks, one thread at a time.

    A job is planned in a file of another name and moved to its place once it is whole, so that
    what is found there is always a whole job. While a job is run, the file alone is not the whole
    truth, as what was written last is in SQLite's write-ahead log; the file says so, and a copy
    that was made without the log is never run.

    Attributes:
        path: The file.
        tally: How the job stands, as of the last commit.
        planning: Whether a job is being planned.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = sqlite.check_name(path)
        self.tally = Tally()
        self.planning = False
        self._lock: JobLock | None = None
        self._db: sqlite3.Connection | None = None
        self._writable = False
        self._identity: tuple[int, int] | None = None
        self._running = False

    # --- planning -----------------------------------------------------------------------------

    def create(self) -> None:
        """Begin the one transaction of planning, in a file of another name."""
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
            self.planning = True
            self._db = sqlite.connect(self.path + PLANNING, SCHEMA, create_missing=True)
            self._writable = True
            self._db.execute("BEGIN IMMEDIATE")
        except BaseException:
            self.remove_planning()
            raise

    def _refuse_what_is_there(self) -> None:
        if os.path.lexists(self.path) and not _is_empty_file(self.path):
            raise ConfigurationError(
                f"{self.path} exists already: go on with it (Job.open), or give another name"
            )
        for suffix in ("-wal", "-journal"):  # the third has nothing that is not in these
            if _size(self.path + suffix):
                raise ConfigurationError(
                    f"{self.path}{suffix} is left of a job whose file is gone, and may hold "
                    "results: move it back beside that file, or delete it"
                )

    def complete(self) -> None:
        """Commit the planning and move the file to its place: from now on there is a job."""
        db = self.connection()
        self.tally = job_table.tally(db)
        db.execute("COMMIT")
        # The log goes into the file, which then is all there is of the job. Closing does that, too,
        # but says nothing where the disk is full, and the log stays behind under the old name.
        if not sqlite.checkpoint(db):
            raise sqlite3.OperationalError("another process reads the file")
        self.close_connection()
        self._refuse_what_is_there()
        for suffix in sqlite.SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path + suffix)
        os.replace(self.path + PLANNING, self.path)
        _keep_name(os.path.dirname(self.path))
        self.planning = False
        self.release_lock(self._lock)

    def remove_planning(self) -> None:
        """Undo the planning."""
        self.close_connection()
        if self.planning:
            self.planning = False
            with contextlib.suppress(FileNotFoundError):
                sqlite.delete(self.path + PLANNING)
        self.release_lock(self._lock)

    # --- use ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Open an existing job; one of an older version is upgraded."""
        self._db = self._open_to_read()
        self.tally = job_table.tally(self._db)

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
            if _is_empty(self.path):
                raise ConfigurationError(
                    f"{self.path} holds no job: its planning was never finished, or it was copied "
                    "or moved without the '-wal' file beside it. Put that back; only if there "
                    "is none, delete the file and plan again"
                ) from None
            raise error
        except (sqlite3.Error, OSError, JournalError):
            # Read-only media, or a run of an older version at work: there is reading at least.
            return self._open_only_to_read()

    def _open_only_to_read(self) -> sqlite3.Connection:
        alone = sqlite.has_another_name(self.path)
        db = sqlite.connect_for_reading(self.path, SCHEMA)
        if alone and job_table.read_log(db) == LOG_NEEDED:
            db.close()
            raise JournalError(
                f"{self.path} has another name (a hard link), under which it is being run, or was "
                "until that was killed: open it there, where its '-wal' file is"
            )
        return db

    def _open_to_write(self) -> sqlite3.Connection:
        if sqlite.has_another_name(self.path):
            raise JournalError(
                f"{self.path} has another name (a hard link), under which it could be in use at "
                "the same time: delete one of the two names"
            )
        log_was_there = os.path.exists(f"{self.path}-wal")
        db = sqlite.connect(self.path, SCHEMA)
        try:
            # The log is taken in where the file can say that it must not be lost; see _checkpoint.
            db.execute("PRAGMA wal_autocheckpoint = 0")
            if job_table.read_log(db) == LOG_NEEDED:
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
            if job_table.read_log(db) == LOG_NEEDED:
                job_table.write_log(db, LOG_SEEN if was_there else LOG_LOST)
        finally:
            if not mine:
                held.release()

    def connection(self) -> sqlite3.Connection:
        """Return the connection, opened where there is none."""
        if self._db is None:
            self._db = self._open_to_read()
        return self._db

    def _writer(self) -> sqlite3.Connection:
        if self._db is None or not self._writable:
            self.close_connection()
            self._db = self._open_to_write()
        return self._db

    def commit(self, changes: Sequence[Change[T]]) -> list[T | Exception]:
        """Make changes in one transaction; each fails for itself."""
        db = self._writer()
        with sqlite.transaction(db):
            results = change_each(db, changes)
            tally = job_table.tally(db)
        self.tally = tally
        if self._running and _size(f"{self.path}-wal") > LOG_BYTES:
            self._checkpoint(db)
        return results

    def _commit_alone(self, change: Change[T]) -> T:
        [result] = self.commit([change])
        if isinstance(result, Exception):
            raise result
        return result

    def take_lock(self, held: JobLock, purpose: str, merging_into: str | None) -> None:
        """Become the one run of the job; whatever a dead one was sending is unknown now."""
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
            if job_table.read_log(db) == LOG_LOST:
                raise JournalError(
                    f"{self.path} was copied or moved without the '-wal' file beside it, so what "
                    "was sent last is not in it: bring that file back, or, if it is lost for "
                    "good, call recover(), which makes unknown whatever may have been sent"
                )
            into = job_table.read_header(db).merged_into
            if into is not None and into != merging_into:
                error = JournalError(f"{self.path} was merged into {into}")
                error.advice = (
                    "Run that one; if it was removed, repeat the merge into that same path, with "
                    "all the jobs that were merged"
                )
                raise error
            self._commit_alone(queries.doubt_sending)
            self._checkpoint(db)
            self._running = True
        except BaseException:
            self.release_lock(held)
            raise

    def release_lock(self, held: JobLock | None) -> None:
        """Stop being the run of the job, if this is still the lock that it has."""
        if held is None or held is not self._lock:
            return
        try:
            if self._running:
                self._running = False
                # Where it cannot be written, the log stays beside the file, and is whole.
                with contextlib.suppress(sqlite3.Error, OSError, JournalError):
                    db = self._writer()
                    job_table.write_log(db, WHOLE)
                    sqlite.checkpoint(db)
                if not os.path.lexists(self.path):
                    self._clear_old_place()
        finally:
            self._lock = None
            held.release()

    def _clear_old_place(self) -> None:
        """Delete what SQLite leaves beside the old name of a file that was moved or deleted."""
        self.close_connection()
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
        job_table.write_log(db, LOG_NEEDED)
        sqlite.checkpoint(db)
        job_table.write_log(db, LOG_SEEN)

    def recover(self) -> int:
        """Go on without a log that is lost for good; return how many items that makes unknown."""
        held = JobLock(self.path)
        held.acquire("recovery")
        try:
            db = self._writer()
            if job_table.read_log(db) != LOG_LOST:
                return 0

            def doubt(db: sqlite3.Connection) -> int:
                job_table.write_log(db, WHOLE)
                return queries.doubt_planned(db)

            return self._commit_alone(doubt)
        finally:
            held.release()

    def close(self) -> None:
        """Stop whatever is under way, and close the file."""
        self.release_lock(self._lock)
        if self.planning:
            self.remove_planning()
        self.close_connection()

    def close_connection(self) -> None:
        """Close the file; it is opened again when it is asked for."""
        db, self._db, self._writable = self._db, None, False
        if db is not None:
            db.close()

    def check_place(self) -> None:
        """Refuse to write into a file that the next run would not find.

        Raises:
            JournalError: It is not in its place any more.
        """
        if sqlite.identity(self.path) != self._identity:
            raise JournalError(f"{self.path} was deleted, moved or replaced while it was being run")

    def forget_lock(self) -> None:
        """Leave the lock to the process that this one was forked from."""
        self._running = False
        self._lock = None


def own_files(path: str | os.PathLike[str]) -> list[str]:
    """Return all names that belong to a job's file."""
    name = sqlite.check_name(path)
    files = [name, name + PLANNING]
    return [*files, *(f + suffix for f in files for suffix in sqlite.SUFFIXES), name + LOCK_SUFFIX]


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
    if sqlite.marks_of(name)[0] != SCHEMA.application_id and not _is_empty(name):
        raise ConfigurationError(f"{name} is no job")
    held = JobLock(name)
    held.acquire("removal")
    try:
        sqlite.delete(name)
    finally:
        held.release()


def _is_empty(path: str) -> bool:
    """Tell whether a file is empty, or an SQLite file without a table."""
    if not os.path.isfile(path):
        return False
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


def _is_empty_file(path: str) -> bool:
    """Tell an empty file, which gives way to a job, from a device, a pipe or a folder of size 0."""
    status = os.lstat(path)
    return stat.S_ISREG(status.st_mode) and not status.st_size


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
