"""What holds for the whole job, in the journal's tables, as plain functions of a connection."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal

from memories_async.bulk.journal import schema
from memories_async.bulk.journal.encoding import as_json, from_json
from memories_async.bulk.journal.rows import JobHeader, Tally
from memories_async.bulk.models import Counts


def write_header(db: sqlite3.Connection, header: JobHeader) -> None:
    """Write what holds for the whole job."""
    db.execute(
        "INSERT INTO job (kind, options, price, created, batch_size) VALUES (?, ?, ?, ?, ?)",
        (
            header.kind,
            as_json(header.options),
            None if header.price is None else str(header.price),
            header.created_at.timestamp(),
            header.batch_size,
        ),
    )


def read_header(db: sqlite3.Connection) -> JobHeader:
    """Read what holds for the whole job."""
    kind, options, price, created, batch_size, merged_into = db.execute(
        "SELECT kind, options, price, created, batch_size, merged_into FROM job"
    ).fetchone()
    return JobHeader(
        kind,
        from_json(options),
        None if price is None else Decimal(price),
        datetime.fromtimestamp(created, UTC),
        batch_size,
        merged_into,
    )


def tally(db: sqlite3.Connection) -> Tally:
    """Return how the job stands."""
    rows = {status: (items, size) for status, items, size in db.execute("SELECT * FROM tally")}
    count = {status: rows[status][0] for status in schema.COUNTED}
    billed, doubtful = count.pop("billed"), count.pop("doubtful")
    return Tally(Counts(**count), rows["planned"][1], billed, doubtful)


def set_batch_size(db: sqlite3.Connection, size: int) -> None:
    """Remember what the service said is the most per request."""
    db.execute("UPDATE job SET batch_size = ?", (size,))


def set_price(db: sqlite3.Connection, price: Decimal | None) -> None:
    """Write down what an item costs."""
    db.execute("UPDATE job SET price = ?", (None if price is None else str(price),))


def set_merged(db: sqlite3.Connection, into: str | None) -> None:
    """Write down which job has taken the items over."""
    db.execute("UPDATE job SET merged_into = ?", (into,))


def read_log(db: sqlite3.Connection) -> int:
    """Return what the file says about its write-ahead log; see the schema."""
    (log,) = db.execute("SELECT log FROM job").fetchone() or (schema.WHOLE,)
    return int(log)


def write_log(db: sqlite3.Connection, log: int) -> None:
    """Say something about the write-ahead log."""
    db.execute("UPDATE job SET log = ?", (log,))
