"""What a job asks of its file: in one thread, many changes to a commit, durable at every step."""

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
from typing import Concatenate, ParamSpec, TypeVar, cast

from memories_async.bulk.group_commit import Change, GroupCommit
from memories_async.bulk.journal import queries
from memories_async.bulk.journal.file import JobFile
from memories_async.bulk.journal.lock import JobLock
from memories_async.bulk.journal.rows import Tally
from memories_async.errors import JournalError, MemoriesError

P = ParamSpec("P")
T = TypeVar("T")


class Journal:
    """A job's file, for many tasks at once.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = JobFile(path)
        self.path: str = self._file.path
        self._closed = False
        self._working = threading.RLock()
        self._start_afresh()
        _JOURNALS.add(self)

    def _start_afresh(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memories-async-journal")
        self._commits = GroupCommit[Change[object], object](self._commit_group)

    @property
    def tally(self) -> Tally:
        """How the job stands, as of the last commit."""
        return self._file.tally

    # --- planning -----------------------------------------------------------------------------

    async def create(self) -> None:
        """Begin the one transaction of planning, in a file of its own.

        Raises:
            ConfigurationError: There is a job already, or another file.
            JobBusy: Somebody else plans the same job.
            JournalError: The file cannot be made.
        """
        await self._run(self._file.create)

    async def complete(self) -> None:
        """Commit the planning and move the file to its place: from now on there is a job."""
        await self._run(self._file.complete)

    async def abandon(self) -> None:
        """Undo the planning, and close."""
        await asyncio.shield(asyncio.ensure_future(self._abandon()))

    async def _abandon(self) -> None:
        with contextlib.suppress(JournalError):
            await self._run(self._file.remove_planning)
        await self.aclose()

    # --- use ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open an existing job; one of an older version is upgraded.

        Raises:
            ConfigurationError: There is none, or it is no job.
            JournalError: The file cannot be read.
        """
        await self._run(self._file.open)

    async def execute(
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
            return await self._run(lambda: query(self._file.connection(), *args, **kwargs))
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
        return cast("T", await self._commits.submit(lambda db: change(db, *args, **kwargs)))

    async def start(self, ids: Sequence[int]) -> None:
        """Write down that items are about to be sent, in the file that the next run will find.

        Raises:
            JournalError: It cannot be written, or the file is not in its place any more.
        """

        def change(db: sqlite3.Connection) -> None:
            self._file.check_place()
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
            await self._run(self._file.take_lock, held, purpose, merging_into)
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
            await self._run(self._file.release_lock, held)

    async def recover(self) -> int:
        """Go on without a log that is lost for good: what was planned counts as unknown."""
        return await self._run(self._file.recover)

    @property
    def closed(self) -> bool:
        """Whether nothing more can be read or written."""
        return self._closed

    async def aclose(self) -> None:
        """Write what is left and close the file. May be repeated."""
        if not self._closed:
            await self.settled()
        if not self._closed:
            self._closed = True  # at once: what is asked after the closing would open it again
            await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        try:
            await self._in_thread(self._file.close)
        finally:
            self._thread.shutdown(wait=False)

    async def _commit_group(self, changes: Sequence[Change[object]]) -> list[object | Exception]:
        results = await self._run(self._file.commit, changes)
        return [self._explained(r) if isinstance(r, sqlite3.Error) else r for r in results]

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise JournalError(f"{self.path}: the job has been closed")
        return await self._in_thread(function, *args, **kwargs)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def work() -> T:
            with self._working:
                return function(*args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> JournalError:
        return JournalError(f"{self.path}: {error}")

    # --- around a fork ------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Close the file: a child that inherits it open would believe that it holds its locks.

        A file in which a job is being planned has a name that no child will open.
        """
        self._working.acquire()
        if not self._file.planning:
            self._file.close_connection()

    def after_fork_in_parent(self) -> None:
        """Go on; the file is opened again when it is asked for."""
        self._working.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: the thread, the changes under way and the lock are the parent's."""
        self._working = threading.RLock()
        self._file.forget_lock()
        if self._file.planning:
            self._closed = True
        self._start_afresh()


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
