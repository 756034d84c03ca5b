"""What a run sends next: planned items, checked a little ahead, duplicates left out."""

from __future__ import annotations

import asyncio
import collections
import sqlite3
from collections import deque
from collections.abc import Iterable, Sequence

from memories_async.bulk.journal import queries
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.rows import ItemRow, Settlement
from memories_async.bulk.models import Status
from memories_async.bulk.preflight import CheckedItem, check
from memories_async.errors import MediaChanged
from memories_async.media.rules import MediaRule

PAGE = 64
"""Items asked of the journal at once, and checked in one hop to a thread."""
CHECKED_BYTES = 64 * 1024 * 1024
"""Bytes of files that are checked in one hop, unless a single one has more: the first film of
many must not wait until all of them have been hashed."""
REQUEST_BYTES = 128 * 1024 * 1024
"""Bytes of files that a request of several files holds at most."""
MOST_CHANGES = 5
"""How often a file may change between its check and its turn before it counts as unfit."""


class ItemQueue:
    """The planned items of a job, in an order in which those that may share a request are together.

    Args:
        journal: Where they are planned.
        rule: What the service takes.
    """

    def __init__(self, journal: Journal, rule: MediaRule) -> None:
        self._journal = journal
        self._rule = rule
        self._rows: deque[ItemRow] = deque()
        self._ready: deque[CheckedItem] = deque()
        self._place = (0, 0)
        self._again: list[int] = []
        self._changes: collections.Counter[int] = collections.Counter()

    def __bool__(self) -> bool:
        return bool(self._ready)

    def put_again(self, ids: Iterable[int]) -> None:
        """Queue items that are planned again: they are checked once more."""
        self._again += ids

    def put_changed(self, ids: Iterable[int]) -> None:
        """Queue items whose files changed after they were checked."""
        self._changes.update(ids)
        self.put_again(ids)

    async def fill(self, count: int) -> list[int]:
        """Check further items until so many are ready, or none are left.

        Returns:
            The items that turned out not to be sent: unfit, or duplicates.
        """
        left_out: list[int] = []
        while len(self._ready) < count and (rows := await self._next_rows()):
            checked = await asyncio.to_thread(self._check, rows)
            left_out += await self._journal.write(self._note, checked)
        return left_out

    def take(self, most: int) -> list[CheckedItem]:
        """Take items for one request: ready ones with the same options, at most so many."""
        taken: list[CheckedItem] = []
        size = 0
        while self._ready and len(taken) < most:
            checked = self._ready[0]
            size += checked.item.size or 0
            if taken and (checked.variant != taken[0].variant or size > REQUEST_BYTES):
                break
            taken.append(self._ready.popleft())
        return taken

    async def _next_rows(self) -> list[ItemRow]:
        if not self._rows:
            self._rows.extend(await self._page())
        rows: list[ItemRow] = []
        size = 0
        while self._rows and (not rows or size < CHECKED_BYTES):
            rows.append(self._rows.popleft())
            size += rows[-1].item.size or 0
        return rows

    async def _page(self) -> list[ItemRow]:
        while self._again:
            ids, self._again = self._again, []
            rows = await self._journal.execute(queries.planned_by_id, ids)
            # Those beyond the place come with a page of their own.
            if page := [row for row in rows if (row.variant, row.item.id) <= self._place]:
                return page
        page = await self._journal.execute(queries.planned_after, self._place, PAGE)
        if page:
            self._place = page[-1].variant, page[-1].item.id
        return page

    def _check(self, rows: Sequence[ItemRow]) -> list[CheckedItem]:
        return [check(row, self._rule) for row in rows]

    def _note(self, db: sqlite3.Connection, checked: Sequence[CheckedItem]) -> list[int]:
        """Record what was found; return the items that are not to be sent."""
        left_out: list[int] = []
        for one in checked:
            problem = one.problem
            if self._changes[one.id] > MOST_CHANGES:
                problem = MediaChanged(f"{one.item.source} keeps changing")
            if problem is not None or one.content is None:
                assert problem is not None
                failed = Settlement.of_error(one.id, Status.FAILED, problem)
                self._again += queries.settle(db, [failed])
                left_out.append(one.id)
                continue
            original, freed = queries.note_content(db, one.content)
            self._again += freed
            if original is None:
                self._ready.append(one)
            else:
                left_out.append(one.id)
        return left_out
