"""What a run sends next: planned items, looked at a little ahead, duplicates left out."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Sequence

from memories_async.bulk.journal import queries as records
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.queries import Row
from memories_async.bulk.models import Status
from memories_async.bulk.preflight import Look, look_at
from memories_async.media.rules import MediaRule

PAGE = 64
"""Items asked of the journal at once, and looked at in one hop to a thread."""
LOOK_BYTES = 64 * 1024 * 1024
"""Bytes of files that are looked at in one hop, unless a single one has more: the first film of
many must not wait until all of them have been hashed."""
REQUEST_BYTES = 128 * 1024 * 1024
"""Bytes of files that a request of several files holds at most."""


class Supply:
    """The planned items of a job, in an order in which those that may share a request are together.

    Args:
        journal: Where they are planned.
        rule: What the service takes.
    """

    def __init__(self, journal: Journal, rule: MediaRule) -> None:
        self._journal = journal
        self._rule = rule
        self._rows: deque[Row] = deque()
        self._ready: deque[Look] = deque()
        self._place = (0, 0)
        self._freed: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._ready)

    async def fill(self, count: int) -> list[int]:
        """Look ahead until so many items are ready, or none are left.

        Returns:
            The items that turned out not to be sent: unfit, or duplicates.
        """
        left_out: list[int] = []
        while len(self._ready) < count and (rows := await self._next_rows()):
            looks = await asyncio.to_thread(self._look_at, rows)
            left_out += await self._journal.write(self._note, looks)
        return left_out

    def take(self, most: int) -> list[Look]:
        """Take items for one request: ready ones with the same options, at most so many."""
        looks: list[Look] = []
        size = 0
        while self._ready and len(looks) < most:
            look = self._ready[0]
            size += look.item.size or 0
            if looks and (look.variant != looks[0].variant or size > REQUEST_BYTES):
                break
            looks.append(self._ready.popleft())
        return looks

    async def _next_rows(self) -> list[Row]:
        if not self._rows:
            self._rows.extend(await self._page())
        rows: list[Row] = []
        size = 0
        while self._rows and (not rows or size < LOOK_BYTES):
            rows.append(self._rows.popleft())
            size += rows[-1].item.size or 0
        return rows

    async def _page(self) -> list[Row]:
        while self._freed:
            ids, self._freed = self._freed, []
            freed = await self._journal.ask(records.planned_by_id, ids)
            # Those beyond the place come with a page of their own.
            if page := [row for row in freed if (row.variant, row.item.id) <= self._place]:
                return page
        page = await self._journal.ask(records.planned_after, self._place, PAGE)
        if page:
            self._place = page[-1].variant, page[-1].item.id
        return page

    def _look_at(self, rows: Sequence[Row]) -> list[Look]:
        return [look_at(row, self._rule) for row in rows]

    def _note(self, db: sqlite3.Connection, looks: Sequence[Look]) -> list[int]:
        """Record what was found; return the items that are not to be sent."""
        left_out: list[int] = []
        for look in looks:
            if look.content is None:
                assert look.problem is not None
                records.settle(db, [records.verdict(look.id, Status.FAILED, look.problem)])
                left_out.append(look.id)
                continue
            original, freed = records.note_content(db, look.content)
            self._freed += freed
            if original is None:
                self._ready.append(look)
            else:
                left_out.append(look.id)
        return left_out
