"""Every step that an item takes in the journal's tables, as plain functions of a connection."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from memories_async.bulk.journal.encoding import as_json, from_json, safe_text, stored_path
from memories_async.bulk.journal.rows import (
    AnsweredFile,
    FileContent,
    ItemRow,
    NewItem,
    Settlement,
)
from memories_async.bulk.models import Item, Status
from memories_async.errors import JournalError

_SELECT = """
    SELECT item.id, item.source, item.status, variant.options, item.extra, item.size, item.sha256,
        item.request, {result}, {vector}, item.error, item.details, item.duplicate_of,
        item.waiting, item.billed, item.variant, item.mtime, item.ctime, item.inode
    FROM item JOIN variant ON variant.id = item.variant
"""
_ITEM = _SELECT.format(result="item.result", vector="item.vector")
# A duplicate has its original's answer.
_ITEM_WITH_ANSWER = f"""
    {_SELECT}
    LEFT JOIN item AS original ON original.id = item.duplicate_of
""".format(
    result="ifnull(item.result, original.result)", vector="ifnull(item.vector, original.vector)"
)


# --- planned ----------------------------------------------------------------------------------


def add(db: sqlite3.Connection, items: Iterable[NewItem]) -> int:
    """Add inputs that are not in the job yet; return how many."""
    added = 0
    for one in items:
        added += db.execute(
            "INSERT OR IGNORE INTO item (source, variant, extra, size) VALUES (?, ?, ?, ?)",
            (
                stored_path(one.source),
                variant(db, as_json(one.options)),
                as_json(one.extra) if one.extra else None,
                one.size,
            ),
        ).rowcount
    return added


def missing(db: sqlite3.Connection, items: Iterable[NewItem]) -> list[NewItem]:
    """Return those of the inputs that are not in the job yet; changes nothing."""
    query = """SELECT 1 FROM item JOIN variant ON variant.id = item.variant
        WHERE item.source = ? AND variant.options = ?
        AND ifnull(item.extra, '') = ?"""
    return [
        one
        for one in items
        if not db.execute(
            query,
            (
                stored_path(one.source),
                as_json(one.options),
                as_json(one.extra) if one.extra else "",
            ),
        ).fetchone()
    ]


def variant(db: sqlite3.Connection, options: str) -> int:
    """Return the number of options, given as JSON; they get one where they have none."""
    found = db.execute("SELECT id FROM variant WHERE options = ?", (options,)).fetchone()
    if found is None:
        found = db.execute(
            "INSERT INTO variant (options) VALUES (?) RETURNING id", (options,)
        ).fetchone()
    return int(found[0])


def planned_after(db: sqlite3.Connection, after: tuple[int, int], limit: int) -> list[ItemRow]:
    """Return planned items, ordered by options and number, beyond a place in that order."""
    query = f"""{_ITEM} WHERE item.status = 'planned' AND (item.variant, item.id) > (?, ?)
        ORDER BY item.variant, item.id LIMIT ?"""
    return [_row(values) for values in db.execute(query, (*after, limit))]


def planned_by_id(db: sqlite3.Connection, ids: Collection[int]) -> list[ItemRow]:
    """Return those of the items that are planned."""
    return [row for row in by_id(db, ids) if row.item.status is Status.PLANNED]


def by_id(db: sqlite3.Connection, ids: Collection[int]) -> list[ItemRow]:
    """Return items by their numbers."""
    query = f"{_ITEM} WHERE item.id = ?"
    return [_row(values) for id in ids for values in db.execute(query, (id,))]


def note_content(db: sqlite3.Connection, found: FileContent) -> tuple[int | None, list[int]]:
    """Record what an item's file holds, and skip the item if another has the same.

    Returns:
        The item of the same content and options, or None; and the items that were duplicates of
        this one and are planned again, because its content has changed.
    """
    before, variant = db.execute(
        "SELECT sha256, variant FROM item WHERE id = ?", (found.id,)
    ).fetchone()
    db.execute(
        "UPDATE item SET size = ?, mtime = ?, ctime = ?, inode = ?, sha256 = ? WHERE id = ?",
        (*found.seen, found.sha256, found.id),
    )
    if found.sha256 is None:
        return None, []
    freed = [] if before in (None, found.sha256) else free_duplicates(db, found.id)
    # One that failed has no answer to give, and may have failed because its file is gone. One that
    # was given up has none either, but its content may have been billed.
    # Of two that are planned, the second is the duplicate: the first may have others.
    original = db.execute(
        """SELECT id FROM item
        WHERE sha256 = ? AND variant = ? AND id <> ? AND duplicate_of IS NULL AND status <> 'failed'
        AND (status <> 'planned' OR id < ?) ORDER BY status = 'skipped', id LIMIT 1""",
        (found.sha256, variant, found.id, found.id),
    ).fetchone()
    if original is None:
        return None, freed
    db.execute(
        "UPDATE item SET status = 'skipped', duplicate_of = ?, error = ? WHERE id = ?",
        (original[0], f"the same content and options as item {original[0]}", found.id),
    )
    return int(original[0]), freed


def free_duplicates(db: sqlite3.Connection, id: int) -> list[int]:
    """Plan an item's duplicates again, as it will not have their answer; return them."""
    freed = db.execute(
        """UPDATE item SET status = 'planned', duplicate_of = NULL, error = NULL
        WHERE duplicate_of = ? AND status = 'skipped' RETURNING id""",
        (id,),
    )
    return [int(id) for (id,) in freed]


# --- sending and after ------------------------------------------------------------------------


def start(db: sqlite3.Connection, ids: Sequence[int]) -> int:
    """Mark items as being sent in one request; return the request's number."""
    (request,) = db.execute("UPDATE job SET requests = requests + 1 RETURNING requests").fetchone()
    for id in ids:
        changed = db.execute(
            """UPDATE item SET status = 'sending', request = ?, error = NULL, details = NULL
            WHERE id = ? AND status = 'planned'""",
            (request, id),
        ).rowcount
        if not changed:
            raise JournalError(f"item {id} is not planned: it is not sent")
    return int(request)


def put_back(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Plan items again that certainly were not billed."""
    for id in ids:
        db.execute(
            """UPDATE item SET status = 'planned', request = NULL
            WHERE id = ? AND status = 'sending'""",
            (id,),
        )


def settle(db: sqlite3.Connection, settlements: Iterable[Settlement]) -> list[int]:
    """Record what has become of items.

    An answer that is new, not one more word about a known one, was billed.

    Returns:
        The duplicates that are planned again because the item that was to have their answer
        failed.
    """
    freed: list[int] = []
    for one in settlements:
        db.execute(
            """UPDATE item SET
                billed = billed + (? = 'done' AND status IN ('planned', 'sending', 'unknown')),
                status = ?, result = ifnull(?, result), vector = ifnull(?, vector),
                error = ?, details = ?, waiting = ?
            WHERE id = ?""",
            (
                one.status,  # twice: Python 3.12.1 takes a numbered placeholder for a named one
                one.status,
                None if one.result is None else as_json(one.result),
                one.vector,
                None if one.error is None else safe_text(one.error),
                None if one.details is None else as_json(one.details),
                one.waiting,
                one.id,
            ),
        )
        if one.status is Status.FAILED:
            freed += free_duplicates(db, one.id)
    return freed


def doubt_sending(db: sqlite3.Connection) -> None:
    """Call unknown what a run that ended without a word was sending."""
    details = {"type": "Interrupted", "noticed_at": datetime.fromtimestamp(time.time(), UTC)}
    db.execute(
        """UPDATE item SET status = 'unknown', details = ?,
        error = 'the run ended while this was being sent: it may have been billed'
        WHERE status = 'sending'""",
        (as_json(details),),
    )


def doubt_planned(db: sqlite3.Connection) -> int:
    """Call unknown all that may have been sent after the file was copied; return how many."""
    return db.execute(
        """UPDATE item SET status = 'unknown', details = '{"type": "LogLost"}', error =
        'the record of what was sent last has been lost: it may have been billed'
        WHERE status IN ('planned', 'sending')"""
    ).rowcount


def resolve_unknown(db: sqlite3.Connection, status: Status) -> int:
    """Plan all unknown items again, or skip them; return how many.

    The duplicates of one that is given up are not sent in its place: what may have been billed is
    the content, whatever its name. A retry sends it again, for all of them.
    """
    error = "given up: it may have been billed" if status is Status.SKIPPED else None
    return db.execute(
        """UPDATE item SET status = ?, error = ifnull(?, error), doubtful = doubtful + 1
        WHERE status = 'unknown'""",
        (status, error),
    ).rowcount


def retry(db: sqlite3.Connection, status: Status) -> int:
    """Plan items of a status again; return how many."""
    if status is Status.UNKNOWN:
        return resolve_unknown(db, Status.PLANNED)
    return db.execute(
        """UPDATE item SET status = 'planned', duplicate_of = NULL, error = NULL, details = NULL
        WHERE status = ?""",
        (status,),
    ).rowcount


def retry_by_id(db: sqlite3.Connection, ids: Iterable[int]) -> int:
    """Plan items again, whatever became of them, unless they are under way; return how many.

    Their files are read anew, which forgetting the time sees to. The digest stays, as it tells
    whether the duplicates that had the old answer may have the new one. A duplicate of an item that
    was given up brings that one along, whose answer will be its own too.
    """
    changed = 0
    given_up = """SELECT original.id FROM item JOIN item AS original
        ON original.id = item.duplicate_of AND original.status = 'skipped' WHERE item.id = ?"""
    wanted = dict.fromkeys(ids)
    for id in list(wanted):
        wanted.update((original, None) for (original,) in db.execute(given_up, (id,)))
    for id in wanted:
        changed += db.execute(
            """UPDATE item SET doubtful = doubtful + (status = 'unknown'), status = 'planned',
            duplicate_of = NULL, error = NULL, details = NULL, waiting = 0, mtime = NULL
            WHERE id = ? AND status NOT IN ('planned', 'sending')""",
            (id,),
        ).rowcount
    return changed


# --- reading ----------------------------------------------------------------------------------


def rows_after(
    db: sqlite3.Connection, after: int, limit: int, status: Status | None
) -> list[ItemRow]:
    """Return items in the order of their numbers, beyond one of them, answers included."""
    chosen = "" if status is None else "AND item.status = ?"
    query = f"{_ITEM_WITH_ANSWER} WHERE item.id > ? {chosen} ORDER BY item.id LIMIT ?"
    values = (after, limit) if status is None else (after, status, limit)
    return [_row(row) for row in db.execute(query, values)]


def items_after(
    db: sqlite3.Connection, after: int, limit: int, status: Status | None
) -> list[Item]:
    """Return items in the order of their numbers, beyond one of them, answers included."""
    return [row.item for row in rows_after(db, after, limit, status)]


def answered_files(db: sqlite3.Connection, after: int, limit: int) -> list[AnsweredFile]:
    """Return the files that have an answer, be it their original's, beyond an item's number."""
    query = """SELECT id, source, size, mtime FROM item WHERE id > ? AND sha256 IS NOT NULL
        AND (status = 'done' OR status = 'skipped' AND duplicate_of IS NOT NULL)
        ORDER BY id LIMIT ?"""
    return [
        AnsweredFile(id, os.fsdecode(source), (size, modified))
        for id, source, size, modified in db.execute(query, (after, limit))
    ]


def waiting_ids(db: sqlite3.Connection) -> list[int]:
    """Return the videos that are not yet known to be searchable."""
    return [id for (id,) in db.execute("SELECT id FROM item WHERE waiting = 1 ORDER BY id")]


def _row(values: tuple[Any, ...]) -> ItemRow:
    (id, source, status, options, extra, size, sha256, request, result, vector) = values[:10]
    (error, details, duplicate_of, waiting, billed, variant, mtime, ctime, inode) = values[10:]
    item = Item(
        id=id,
        source=os.fsdecode(source),
        status=Status(status),
        options=from_json(options),
        extra=from_json(extra),
        size=size,
        sha256=None if sha256 is None else sha256.hex(),
        request=request,
        result=None if result is None else from_json(result),
        vector=vector,
        error=error,
        details=None if details is None else from_json(details),
        duplicate_of=duplicate_of,
        waiting=bool(waiting),
        billed=billed,
    )
    return ItemRow(item, variant, (size, mtime, ctime, inode))
