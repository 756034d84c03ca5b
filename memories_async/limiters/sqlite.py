"""Counts in a file, for the processes of one host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from memories_async import sqlite
from memories_async.checks import checked
from memories_async.checks.kinds import SECONDS, path_problem, shown
from memories_async.clock import Clock
from memories_async.config import Rate
from memories_async.errors import LimiterUnavailable
from memories_async.limiters.rule import Count, Spacing, Turn, microseconds
from memories_async.limiters.threads import Take, lock_held_across_forks

T = TypeVar("T")

# An SQLite connection that is open across a fork would cost the child its locks on the file.
_LOCK = lock_held_across_forks()

SCHEMA = sqlite.Schema(
    application_id=0x4D61694C,  # "MaiL"
    version=1,
    statements=(
        "CREATE TABLE lanes (name TEXT PRIMARY KEY, due INTEGER NOT NULL, seen INTEGER NOT NULL)"
        " WITHOUT ROWID",
    ),
)


def _shared_file(name: str, path: str | os.PathLike[str]) -> str | None:
    if path_problem(name, path) is None and os.fsdecode(path) != ":memory:":
        return None
    return (
        f"{name} is {shown(path)}; the name of a file that processes share is wanted (within one "
        "process use MemoryLimiter)"
    )


class SqliteLimiter:
    """Counts in an SQLite file for the processes of one host.

    Time is the system's monotonic clock, which all processes of a host share and which nobody
    sets; it starts anew with the machine, after which a lane waits once for its next permit.
    Nothing is kept open between two counts: the object may be used from any event loop or thread
    and carried through a fork, and needs no closing.

    Args:
        path: The file; it is made if it does not exist. Not on a network file system.
        patience: Seconds to wait for other processes before the file counts as lost (default 5).

    Raises:
        ConfigurationError: The path is none, or the patience no positive number of seconds. Also
            from the first call, if the file is something else.
    """

    @checked({"path": _shared_file, "patience": SECONDS})
    def __init__(self, path: str | os.PathLike[str], *, patience: float = 5.0) -> None:
        self._path = os.fsdecode(path)
        self._patience = patience

    def __repr__(self) -> str:
        return f"SqliteLimiter({self._path!r})"

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count in the file, in a worker thread."""
        spacing = Spacing.of(rate)

        def count() -> Turn:
            return self._change(lane, clock, lambda count: count.take(spacing))

        def give_back(turn: Turn) -> None:
            self._give_back(lane, spacing, turn)

        return await Take(count, give_back, clock, rate).run()

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take back from the file, in a worker thread."""
        await asyncio.to_thread(self._give_back, lane, Spacing.of(rate), turn)

    async def pause(self, lane: str, rate: Rate, seconds: float, clock: Clock) -> None:
        """Pause for all who share the file, in a worker thread."""
        spacing = Spacing.of(rate)

        def pause() -> None:
            self._change(lane, clock, lambda count: (None, count.pause(spacing, seconds)))

        await asyncio.to_thread(pause)

    def _give_back(self, lane: str, spacing: Spacing, turn: Turn) -> None:
        self._change(lane, None, lambda count: (None, count.give_back(spacing, turn)))

    def _change(
        self, lane: str, clock: Clock | None, step: Callable[[Count], tuple[T, Count]]
    ) -> T:
        """Read, decide and write while the file's write lock is ours."""
        try:
            with _LOCK, contextlib.closing(self._connect()) as db, sqlite.transaction(db):
                query = "SELECT due, seen FROM lanes WHERE name = ?"
                row = db.execute(query, (lane,)).fetchone()
                # Only now: what was waited for the lock has passed.
                now = microseconds(clock) if clock else row[1] if row else 0
                result, kept = step((Count(*row) if row else Count(now, now)).at(now))
                db.execute(
                    "INSERT INTO lanes VALUES (?, ?, ?) ON CONFLICT (name) "
                    "DO UPDATE SET due = excluded.due, seen = excluded.seen",
                    (lane, kept.due, kept.seen),
                )
                return result
        except (sqlite3.Error, OSError) as error:
            raise LimiterUnavailable(f"the limiter's file {self._path}: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        # What a power cut may lose are the calls of the last period.
        return sqlite.connect(
            self._path,
            SCHEMA,
            create_missing=True,
            synchronous="OFF",
            busy_timeout=self._patience,
        )
