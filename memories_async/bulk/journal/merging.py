"""Several jobs' items in one journal: each input once, with the best that is known of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from memories_async.bulk.journal import queries

_FILE = ("size", "mtime", "ctime", "inode", "sha256")
_ANSWER = ("request", "result", "vector", "error", "details", "waiting", "billed", "doubtful")
_COLUMNS = ("source", "extra", "status", "duplicate_of", *_FILE, *_ANSWER)
_PAGE = f"""SELECT item.id, variant.options, {", ".join(f"item.{name}" for name in _COLUMNS)}
    FROM item JOIN variant ON variant.id = item.variant
    WHERE item.id > ? ORDER BY item.id LIMIT ?"""  # noqa: S608  # our own column names
_INSERT = f"""INSERT INTO item (variant, {", ".join(_COLUMNS)})
    VALUES (?, {", ".join("?" for _ in _COLUMNS)}) RETURNING id"""  # noqa: S608  # our own names
_REPLACE = f"""UPDATE item SET {", ".join(f"{name} = ?" for name in _COLUMNS)}
    WHERE id = ?"""  # noqa: S608  # our own column names

# What is known best comes last: an answer is an answer, and what may have been billed is not sent.
_KNOWN = ("planned", "skipped", "failed", "unknown", "sending", "done")


@attrs.frozen
class MergedItem:
    """An item on its way from one journal to another.

    Attributes:
        id: Its number where it comes from.
        options: Its options, as JSON.
        values: Its columns by name.
    """

    id: int
    options: str
    values: Mapping[str, Any]


def page_of(db: sqlite3.Connection, after: int, limit: int) -> list[MergedItem]:
    """Return items beyond a number, with all that is known of them."""
    return [
        MergedItem(row[0], row[1], dict(zip(_COLUMNS, row[2:], strict=True)))
        for row in db.execute(_PAGE, (after, limit))
    ]


def first_input(db: sqlite3.Connection) -> tuple[object, ...] | None:
    """Return what a job was given first: the same in each copy of its file, whatever came later."""
    query = """SELECT item.source, variant.options, item.extra
        FROM item JOIN variant ON variant.id = item.variant ORDER BY item.id LIMIT 1"""
    found: tuple[object, ...] | None = db.execute(query).fetchone()
    return found


def requests_of(db: sqlite3.Connection) -> int:
    """Return how many requests a job has made."""
    return int(db.execute("SELECT requests FROM job").fetchone()[0])


def set_requests(db: sqlite3.Connection, requests: int) -> None:
    """Say how many requests a job has made."""
    db.execute("UPDATE job SET requests = ?", (requests,))


def take_over(
    db: sqlite3.Connection, items: Iterable[MergedItem], requests: int
) -> list[tuple[int, int]]:
    """Write another journal's items into this one.

    Args:
        db: Where to.
        items: The items.
        requests: What is added to the numbers of their requests, so that those of different jobs
            stay apart.

    Returns:
        The old number and the new one of each.
    """
    numbers: list[tuple[int, int]] = []
    for item in items:
        values = dict(item.values)
        if values["request"] is not None:
            values["request"] += requests
        variant = queries.variant(db, item.options)
        known = db.execute(
            """SELECT id, status, billed, doubtful FROM item
            WHERE source = ? AND variant = ? AND ifnull(extra, '') = ifnull(?, '')""",
            (values["source"], variant, values["extra"]),
        ).fetchone()
        if known is None:
            row = (variant, *(values[name] for name in _COLUMNS))
            (id,) = db.execute(_INSERT, row).fetchone()
        else:
            id, status, billed, doubtful = known
            # Both have been paid: the costs add up, whichever answer is kept.
            values["billed"] += billed
            values["doubtful"] += doubtful
            if _KNOWN.index(values["status"]) > _KNOWN.index(status):
                db.execute(_REPLACE, (*(values[name] for name in _COLUMNS), id))
            else:
                db.execute(
                    "UPDATE item SET billed = ?, doubtful = ? WHERE id = ?",
                    (values["billed"], values["doubtful"], id),
                )
            if "unknown" in (status, values["status"]) and status != values["status"]:
                # The one that may have been billed besides is not in sight any more.
                db.execute("UPDATE item SET doubtful = doubtful + 1 WHERE id = ?", (id,))
        numbers.append((item.id, int(id)))
    return numbers


def point_to_originals(db: sqlite3.Connection, duplicates: Sequence[tuple[int, int]]) -> None:
    """Have duplicates point to the new numbers of their originals.

    Args:
        db: The journal that has taken the items over.
        duplicates: Pairs of an item and its original, both by their new numbers.
    """
    for id, original in duplicates:
        db.execute(
            """UPDATE item SET duplicate_of = ?, error = ?
            WHERE id = ? AND status = 'skipped' AND id <> ?""",
            (original, f"the same content and options as item {original}", id, original),
        )
