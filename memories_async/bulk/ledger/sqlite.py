"""A ledger in an SQLite file: for all processes of one host."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import TypeVar, cast

from memories_async import sqlite
from memories_async.bulk.group_commit import Change, GroupCommit, change_each
from memories_async.bulk.ledger import entries
from memories_async.bulk.ledger.entries import Begun, Entry, Totals, UnknownPolicy
from memories_async.bulk.models import Status
from memories_async.checks import checked
from memories_async.errors import LedgerUnavailable

T = TypeVar("T")

_PRICED = "CREATE TABLE priced (price TEXT PRIMARY KEY, calls INTEGER NOT NULL) WITHOUT ROWID"
SCHEMA = sqlite.Schema(
    application_id=0x6D616C65,
    version=2,
    statements=(
        """CREATE TABLE entry (
            key TEXT PRIMARY KEY, status TEXT NOT NULL, token TEXT NOT NULL, sent_at REAL NOT NULL,
            result TEXT, vector BLOB, error TEXT, doubtful INTEGER NOT NULL, price TEXT
        )""",
        "CREATE TABLE totals (name TEXT PRIMARY KEY, calls INTEGER NOT NULL) WITHOUT ROWID",
        _PRICED,
    ),
    upgrades={1: ("ALTER TABLE entry ADD COLUMN price TEXT", _PRICED)},
)
_COLUMNS = "status, token, sent_at, result, vector, error, doubtful, price"
_FIND = f"SELECT {_COLUMNS} FROM entry WHERE key = ?"  # noqa: S608  # our own column names
_NEXT = f"SELECT key, {_COLUMNS} FROM entry WHERE key > ? ORDER BY key LIMIT 500"  # noqa: S608  # ours
_PUT = f"INSERT OR REPLACE INTO entry (key, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # ours


class SqliteLedger:
    """Keeps what was sent in one SQLite file on a local disk.

    A ``begin`` is on the disk before it returns. Many tasks that change it at once share a commit.

    Args:
        path: The file; made where there is none, readable by its owner only.
    """

    @checked
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = os.path.abspath(os.fspath(path))
        self._thread: ThreadPoolExecutor | None = None
        self._database: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._commits = GroupCommit[Change[object], object](self._commit_all)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path,)

    async def find(self, key: str) -> Entry | None:
        """Return what is known of a key; None if nothing is.

        Raises:
            LedgerUnavailable: The file cannot be read, or is another one than before.
        """
        return await self._change(lambda db: _find(db, key))

    async def begin(
        self,
        key: str,
        token: str,
        *,
        unknown: UnknownPolicy = "keep",
        price: Decimal | None = None,
        max_cost: Decimal | None = None,
    ) -> tuple[Begun, Entry | None]:
        """Ask whether an attempt may send; what it says is on the disk.

        Args:
            key: What is to be sent, as a digest.
            token: The attempt.
            unknown: Whether to send what may have been billed.
            price: Dollars of the call; None if nobody knows.
            max_cost: Dollars that all calls may cost, those without a price at this one's; None
                is any number.

        Raises:
            LedgerUnavailable: The file cannot be written, or is another one than before.
        """

        def change(db: sqlite3.Connection) -> tuple[Begun, Entry | None]:
            before, totals = _find(db, key), _totals(db)
            said, after = entries.begin(
                before, totals, token, time.time(), unknown, price, max_cost
            )
            _write(db, key, before, after, totals)
            return said, after

        return await self._change(change)

    async def settle(self, key: str, outcome: Entry) -> Entry | None:
        """Report what became of an attempt.

        Args:
            key: What was to be sent.
            outcome: What came of it, with the attempt's token.

        Raises:
            LedgerUnavailable: The file cannot be written, or is another one than before.
        """

        def change(db: sqlite3.Connection) -> Entry | None:
            before = _find(db, key)
            after = entries.settle(before, outcome)
            _write(db, key, before, after, _totals(db))
            return after

        return await self._change(change)

    async def totals(self) -> Totals:
        """Count the calls by what became of them.

        Raises:
            LedgerUnavailable: The file cannot be read.
        """
        return await self._change(_totals)

    async def entries(self) -> AsyncIterator[tuple[str, Entry]]:
        """Yield all keys with what is known of them, in the order of the keys.

        Raises:
            LedgerUnavailable: The file cannot be read.
        """
        after = ""
        while page := await self.page(after):
            for found in page:
                yield found
            after = page[-1][0]

    async def page(self, after: str = "") -> list[tuple[str, Entry]]:
        """Return some hundred keys with what is known of them, in the order of the keys.

        Args:
            after: The last key of the page before; by default the first page is returned.

        Raises:
            LedgerUnavailable: The file cannot be read.
        """
        return await self._change(partial(_page, after=after))

    async def aclose(self) -> None:
        """Close the file. May be repeated."""
        thread, self._thread = self._thread, None
        if thread is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(thread, self._close)
            thread.shutdown(wait=False)

    # --- one thread, one transaction for all who wait -------------------------------------------

    async def _change(self, change: Change[T]) -> T:
        # A group holds changes of all types.
        return cast("T", await self._commits.submit(change))

    async def _commit_all(self, changes: Sequence[Change[object]]) -> list[object | Exception]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="memories-async-ledger")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._commit, changes)
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailable(f"{self.path}: {error}") from None

    def _commit(self, changes: Sequence[Change[object]]) -> list[object | Exception]:
        db = self._open()
        if sqlite.identity(self.path) != self._identity:
            raise LedgerUnavailable(f"{self.path} was deleted or replaced: nothing is sent")
        with sqlite.transaction(db):
            return change_each(db, changes)

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = sqlite.connect(self.path, SCHEMA, create_missing=True)
            self._identity = sqlite.identity(self.path)
        return self._database

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _find(db: sqlite3.Connection, key: str) -> Entry | None:
    row = db.execute(_FIND, (key,)).fetchone()
    return None if row is None else _entry(*row)


def _page(db: sqlite3.Connection, after: str) -> list[tuple[str, Entry]]:
    return [(key, _entry(*row)) for key, *row in db.execute(_NEXT, (after,))]


def _entry(
    status: str,
    token: str,
    sent_at: float,
    result: str | None,
    vector: bytes | None,
    error: str | None,
    doubtful: int,
    price: str | None,
) -> Entry:
    return Entry(
        status=Status(status),
        token=token,
        sent_at=sent_at,
        result=result,
        vector=vector,
        error=error,
        doubtful=doubtful,
        price=None if price is None else Decimal(price),
    )


def _totals(db: sqlite3.Connection) -> Totals:
    priced = db.execute("SELECT price, calls FROM priced WHERE calls != 0")
    return Totals(
        **dict(db.execute("SELECT name, calls FROM totals")),
        priced={Decimal(price): calls for price, calls in priced},
    )


def _write(
    db: sqlite3.Connection, key: str, before: Entry | None, after: Entry | None, totals: Totals
) -> None:
    if after == before:
        return
    if after is None:
        db.execute("DELETE FROM entry WHERE key = ?", (key,))
    else:
        values = after.token, after.sent_at, after.result, after.vector, after.error
        price = None if after.price is None else str(after.price)
        db.execute(_PUT, (key, after.status.value, *values, after.doubtful, price))
    moved = totals.moved(before, after)
    db.executemany("INSERT OR REPLACE INTO totals VALUES (?, ?)", moved.counts.items())
    changed = [
        (str(price), moved.priced.get(price, 0))
        for price in {entry.price for entry in (before, after) if entry is not None}
        if price is not None and moved.priced.get(price) != totals.priced.get(price)
    ]
    db.executemany("INSERT OR REPLACE INTO priced VALUES (?, ?)", changed)
