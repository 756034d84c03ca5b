"""The tables of the store in a file, and what is done with them, as plain functions."""

from __future__ import annotations

import sqlite3
from typing import Final

from memories_async.callbacks.stores.protocol import Delivery, DeliveryStatus
from memories_async.sqlite import Schema, transaction

SCHEMA: Final = Schema(
    application_id=0x6D656D63,  # "memc"
    version=1,
    statements=(
        "CREATE TABLE tasks (token TEXT PRIMARY KEY, name TEXT, opened REAL NOT NULL)"
        " WITHOUT ROWID",
        "CREATE INDEX tasks_by_name ON tasks (name)",
        "CREATE INDEX tasks_by_age ON tasks (opened)",
        "CREATE TABLE arrivals (number INTEGER PRIMARY KEY AUTOINCREMENT,"
        " token TEXT NOT NULL UNIQUE, name TEXT NOT NULL, body BLOB NOT NULL,"
        " digest TEXT NOT NULL, at REAL NOT NULL)",
        "CREATE TABLE secret (value TEXT NOT NULL)",
    ),
    upgrades={0: ()},  # the first version's tables were the same, and the file not yet marked
    unmarked=frozenset({"tasks", "arrivals", "secret"}),
)

_FIND = """
SELECT arrivals.name, body, digest, at FROM tasks JOIN arrivals USING (token)
WHERE tasks.name = ? ORDER BY number DESC LIMIT 1
"""

_NEW_ARRIVALS = """
SELECT number, tasks.name FROM arrivals JOIN tasks USING (token)
WHERE number > ? AND tasks.name IS NOT NULL
"""

_RENUMBER = """
INSERT OR REPLACE INTO arrivals (token, name, body, digest, at)
SELECT token, name, body, digest, at FROM arrivals WHERE token = ?
"""


def secret(db: sqlite3.Connection, proposed: str) -> str:
    """Keep a secret unless one is kept; return the one that is."""
    with transaction(db):
        db.execute(
            "INSERT INTO secret SELECT ? WHERE NOT EXISTS (SELECT * FROM secret)", (proposed,)
        )
        [kept] = db.execute("SELECT value FROM secret").fetchone()
    return str(kept)


def open_task(
    db: sqlite3.Connection, token: str, name: str | None, now: float, before: float
) -> bool:
    """Expect a callback, unless it is expected already; drop what was opened before a time."""
    with transaction(db):
        db.execute(
            "DELETE FROM arrivals WHERE token IN (SELECT token FROM tasks WHERE opened < ?)",
            (before,),
        )
        db.execute("DELETE FROM tasks WHERE opened < ?", (before,))
        added = db.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?, ?)", (token, name, now))
        return added.rowcount == 1


def forget(db: sqlite3.Connection, token: str) -> None:
    """Expect nothing any more, unless somebody waits for it by a name."""
    with transaction(db):
        gone = db.execute("DELETE FROM tasks WHERE token = ? AND name IS NULL", (token,))
        if gone.rowcount:
            db.execute("DELETE FROM arrivals WHERE token = ?", (token,))


def name_of(db: sqlite3.Connection, token: str) -> str | None:
    """Return the name that a token was bound to."""
    row = db.execute("SELECT name FROM tasks WHERE token = ?", (token,)).fetchone()
    return None if row is None else row[0]


def opened(db: sqlite3.Connection, name: str) -> float | None:
    """Return when what is waited for by a name was opened last."""
    [opened] = db.execute("SELECT max(opened) FROM tasks WHERE name = ?", (name,)).fetchone()
    return None if opened is None else float(opened)


def bind(db: sqlite3.Connection, token: str, name: str, now: float) -> bool:
    """Say by which name a token is waited for; return False if an early callback had another."""
    with transaction(db):
        db.execute(
            "INSERT INTO tasks VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET name = excluded.name",
            (token, name, now),
        )
        dropped = db.execute("DELETE FROM arrivals WHERE token = ? AND name <> ?", (token, name))
        # An early one is news only now: the new number shows it to whoever waits for the name.
        db.execute(_RENUMBER, (token,))
        return dropped.rowcount == 0


def deliver(db: sqlite3.Connection, token: str, delivery: Delivery) -> DeliveryStatus:
    """Keep the first callback of a token."""
    with transaction(db):
        task = db.execute("SELECT name FROM tasks WHERE token = ?", (token,)).fetchone()
        if task is None or task[0] not in (None, delivery.name):
            return DeliveryStatus.UNKNOWN
        query = "SELECT name, digest FROM arrivals WHERE token = ?"
        kept = db.execute(query, (token,)).fetchone()
        if kept is not None:
            if kept[0] != delivery.name:
                return DeliveryStatus.CONTESTED
            same = kept[1] == delivery.digest
            return DeliveryStatus.REPEAT if same else DeliveryStatus.DIFFERENT
        db.execute(
            "INSERT INTO arrivals (token, name, body, digest, at) VALUES (?, ?, ?, ?, ?)",
            (token, delivery.name, delivery.body, delivery.digest, delivery.at),
        )
    return DeliveryStatus.FIRST


def find(db: sqlite3.Connection, name: str) -> Delivery | None:
    """Return the latest callback of what is waited for by a name."""
    row = db.execute(_FIND, (name,)).fetchone()
    return None if row is None else Delivery(*row)


def last_number(db: sqlite3.Connection) -> int:
    """Return the number of the callback that came last; 0 before the first."""
    [number] = db.execute("SELECT max(number) FROM arrivals").fetchone()
    return int(number or 0)


def arrivals_after(db: sqlite3.Connection, number: int) -> list[tuple[int, str]]:
    """Return number and name of what came after a number and is waited for by a name."""
    return [(int(number), str(name)) for number, name in db.execute(_NEW_ARRIVALS, (number,))]
