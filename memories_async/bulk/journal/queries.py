"""The journal's tables, and every step that an item takes in them, as plain functions."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs
import orjson

from memories_async.bulk.models import Counts, Item, JournalError, Status
from memories_async.errors import MemoriesError

_SELECT = """
    SELECT item.id, item.source, item.status, variant.options, item.extra, item.size, item.sha256,
        item.request, {result}, {vector}, item.error, item.details, item.duplicate_of,
        item.waiting, item.variant, item.mtime, item.inode
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


@attrs.frozen
class Tally:
    """How the job stands.

    Attributes:
        counts: Items by status.
        planned_bytes: Bytes of the planned items, as far as known.
        doubtful: Items that were once unknown and then sent again or given up.
    """

    counts: Counts = attrs.field(factory=Counts)
    planned_bytes: int = 0
    doubtful: int = 0

    def costs(self, price: Decimal | None) -> tuple[Decimal | None, Decimal | None]:
        """Return what the job has cost, and what it may have cost besides; None if unknown."""
        if price is None:
            return None, None
        counts = self.counts
        return counts.done * price, (counts.unknown + counts.sending + self.doubtful) * price


@attrs.frozen
class Head:
    """What holds for the whole job.

    Attributes:
        kind: The name of its row in the table of kinds.
        options: What every call is given.
        price: Dollars per item, if its creator said.
        created_at: When.
        batch_size: What the service said is the most per request, once it has said so.
    """

    kind: str
    options: Mapping[str, object]
    price: Decimal | None
    created_at: datetime
    batch_size: int | None = None


@attrs.frozen
class Row:
    """An item with what only the journal needs of it.

    Attributes:
        item: The item.
        variant: The number of its options: only items that share it may share a request.
        seen: Size, modification time (ns) and inode of the file whose digest is known.
    """

    item: Item
    variant: int
    seen: tuple[int | None, int | None, int | None]


@attrs.frozen
class Planned:
    """An input on its way into the journal."""

    source: str
    options: Mapping[str, object]
    extra: Mapping[str, object]
    size: int | None


@attrs.frozen
class Verdict:
    """What has become of an item.

    Attributes:
        id: Which.
        status: Its status from now on.
        result: What the service answered.
        vector: The embedding's float32 numbers.
        error: What went wrong.
        details: More about that.
        waiting: Whether it is yet to become searchable.
    """

    id: int
    status: Status
    result: Mapping[str, object] | None = None
    vector: bytes | None = None
    error: str | None = None
    details: Mapping[str, object] | None = None
    waiting: bool = False


def verdict(id: int, status: Status, error: MemoriesError) -> Verdict:
    """Return what an error makes of an item."""
    details: dict[str, object] = {"type": type(error).__name__}
    for name in ("code", "status", "sent_at", "bytes_sent", "request_digest", "attempts"):
        if (value := getattr(error, name, None)) not in (None, ""):
            details[name] = value
    return Verdict(id, status, error=str(error), details=details)


@attrs.frozen
class Content:
    """What was found in an item's file.

    Attributes:
        id: Which item.
        seen: Size, modification time (ns) and inode.
        sha256: The digest; None for a URL.
    """

    id: int
    seen: tuple[int | None, int | None, int | None]
    sha256: bytes | None


# --- the whole job ----------------------------------------------------------------------------


def write_head(db: sqlite3.Connection, head: Head) -> None:
    """Write what holds for the whole job."""
    db.execute(
        "INSERT INTO job (kind, options, price, created) VALUES (?, ?, ?, ?)",
        (
            head.kind,
            _json(head.options),
            None if head.price is None else str(head.price),
            head.created_at.timestamp(),
        ),
    )


def read_head(db: sqlite3.Connection) -> Head:
    """Read what holds for the whole job."""
    kind, options, price, created, batch_size = db.execute(
        "SELECT kind, options, price, created, batch_size FROM job"
    ).fetchone()
    return Head(
        kind,
        orjson.loads(options),
        None if price is None else Decimal(price),
        datetime.fromtimestamp(created, UTC),
        batch_size,
    )


def tally(db: sqlite3.Connection) -> Tally:
    """Return how the job stands."""
    rows = {status: (items, size) for status, items, size in db.execute("SELECT * FROM tally")}
    (doubtful,) = db.execute("SELECT ifnull(sum(doubtful), 0) FROM job").fetchone()
    counts = Counts(**{status: items for status, (items, _) in rows.items()})
    return Tally(counts, rows["planned"][1], doubtful)


def set_batch_size(db: sqlite3.Connection, size: int) -> None:
    """Remember what the service said is the most per request."""
    db.execute("UPDATE job SET batch_size = ?", (size,))


def variant_sizes(db: sqlite3.Connection) -> list[int]:
    """Return how many planned items share each set of options."""
    query = "SELECT count(*) FROM item WHERE status = 'planned' GROUP BY variant"
    return [count for (count,) in db.execute(query)]


# --- planned ----------------------------------------------------------------------------------


def add(db: sqlite3.Connection, planned: Iterable[Planned]) -> int:
    """Add inputs that are not in the job yet; return how many."""
    added = 0
    for one in planned:
        added += db.execute(
            "INSERT OR IGNORE INTO item (source, variant, extra, size) VALUES (?, ?, ?, ?)",
            (
                _stored_path(one.source),
                _variant(db, _json(one.options)),
                _json(one.extra) if one.extra else None,
                one.size,
            ),
        ).rowcount
    return added


def _variant(db: sqlite3.Connection, options: str) -> int:
    found = db.execute("SELECT id FROM variant WHERE options = ?", (options,)).fetchone()
    if found is None:
        found = db.execute(
            "INSERT INTO variant (options) VALUES (?) RETURNING id", (options,)
        ).fetchone()
    return int(found[0])


def planned_after(db: sqlite3.Connection, after: tuple[int, int], limit: int) -> list[Row]:
    """Return planned items, ordered by options and number, beyond a place in that order."""
    query = f"""{_ITEM} WHERE item.status = 'planned' AND (item.variant, item.id) > (?, ?)
        ORDER BY item.variant, item.id LIMIT ?"""
    return [_row(values) for values in db.execute(query, (*after, limit))]


def planned_by_id(db: sqlite3.Connection, ids: Collection[int]) -> list[Row]:
    """Return those of the items that are planned."""
    return [row for row in by_id(db, ids) if row.item.status is Status.PLANNED]


def by_id(db: sqlite3.Connection, ids: Collection[int]) -> list[Row]:
    """Return items by their numbers."""
    query = f"{_ITEM} WHERE item.id = ?"
    return [_row(values) for id in ids for values in db.execute(query, (id,))]


def note_content(db: sqlite3.Connection, found: Content) -> tuple[int | None, list[int]]:
    """Record what an item's file holds, and skip the item if another has the same.

    Returns:
        The item of the same content and options, or None; and the items that were duplicates of
        this one and are planned again, because its content has changed.
    """
    before, variant = db.execute(
        "SELECT sha256, variant FROM item WHERE id = ?", (found.id,)
    ).fetchone()
    db.execute(
        "UPDATE item SET size = ?, mtime = ?, inode = ?, sha256 = ? WHERE id = ?",
        (*found.seen, found.sha256, found.id),
    )
    if found.sha256 is None:
        return None, []
    freed: list[int] = []
    if before is not None and before != found.sha256:
        freed = [
            id
            for (id,) in db.execute(
                """UPDATE item SET status = 'planned', duplicate_of = NULL, error = NULL
                WHERE duplicate_of = ? RETURNING id""",
                (found.id,),
            )
        ]
    original = db.execute(
        """SELECT id FROM item WHERE sha256 = ? AND variant = ? AND id <> ? AND status <> 'skipped'
        ORDER BY id LIMIT 1""",
        (found.sha256, variant, found.id),
    ).fetchone()
    if original is None:
        return None, freed
    db.execute(
        "UPDATE item SET status = 'skipped', duplicate_of = ?, error = ? WHERE id = ?",
        (original[0], f"the same content and options as item {original[0]}", found.id),
    )
    return int(original[0]), freed


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


def settle(db: sqlite3.Connection, verdicts: Iterable[Verdict]) -> None:
    """Record what has become of items."""
    for verdict in verdicts:
        db.execute(
            """UPDATE item SET status = ?, result = ifnull(?, result), vector = ?, error = ?,
            details = ?, waiting = ? WHERE id = ?""",
            (
                verdict.status,
                None if verdict.result is None else _json(verdict.result),
                verdict.vector,
                verdict.error,
                None if verdict.details is None else _json(verdict.details),
                verdict.waiting,
                verdict.id,
            ),
        )


def doubt_sending(db: sqlite3.Connection) -> None:
    """Call unknown what a run that ended without a word was sending."""
    details = {"type": "Interrupted", "noticed_at": datetime.fromtimestamp(time.time(), UTC)}
    db.execute(
        """UPDATE item SET status = 'unknown', details = ?,
        error = 'the run ended while this was being sent: it may have been billed'
        WHERE status = 'sending'""",
        (_json(details),),
    )


def resolve_unknown(db: sqlite3.Connection, status: Status) -> int:
    """Plan all unknown items again, or skip them; return how many."""
    error = "given up: it may have been billed" if status is Status.SKIPPED else None
    changed = db.execute(
        "UPDATE item SET status = ?, error = ifnull(?, error) WHERE status = 'unknown'",
        (status, error),
    ).rowcount
    db.execute("UPDATE job SET doubtful = doubtful + ?", (changed,))
    return changed


def retry_failed(db: sqlite3.Connection) -> int:
    """Plan all failed items again; return how many."""
    return db.execute("UPDATE item SET status = 'planned' WHERE status = 'failed'").rowcount


# --- reading ----------------------------------------------------------------------------------


def items_after(
    db: sqlite3.Connection, after: int, limit: int, status: Status | None
) -> list[Item]:
    """Return items in the order of their numbers, beyond one of them, answers included."""
    chosen = "" if status is None else "AND item.status = ?"
    query = f"{_ITEM_WITH_ANSWER} WHERE item.id > ? {chosen} ORDER BY item.id LIMIT ?"
    values = (after, limit) if status is None else (after, status, limit)
    return [_row(row).item for row in db.execute(query, values)]


def waiting_ids(db: sqlite3.Connection) -> list[int]:
    """Return the videos that are not yet known to be searchable."""
    return [id for (id,) in db.execute("SELECT id FROM item WHERE waiting = 1 ORDER BY id")]


def _row(values: tuple[Any, ...]) -> Row:
    (id, source, status, options, extra, size, sha256, request, result, vector) = values[:10]
    (error, details, duplicate_of, waiting, variant, mtime, inode) = values[10:]
    item = Item(
        id=id,
        source=os.fsdecode(source),
        status=Status(status),
        options=_object(options),
        extra=_object(extra),
        size=size,
        sha256=None if sha256 is None else sha256.hex(),
        request=request,
        result=None if result is None else _object(result),
        vector=vector,
        error=error,
        details=None if details is None else _object(details),
        duplicate_of=duplicate_of,
        waiting=bool(waiting),
    )
    return Row(item, variant, (size, mtime, inode))


def _stored_path(source: str) -> str | bytes:
    try:
        source.encode()
    except UnicodeEncodeError:  # a name that is no UTF-8 has no text to store
        return os.fsencode(source)
    return source


def _json(value: Mapping[str, object]) -> str:
    return orjson.dumps(dict(value), option=orjson.OPT_SORT_KEYS).decode()


def _object(text: str | None) -> dict[str, object]:
    return dict(orjson.loads(text)) if text else {}
