"""The journal's tables: items with their options, the tally of their statuses, the job's head."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from typing import Final

from memories_async.errors import JobBusy
from memories_async.sqlite import Schema, Step

APPLICATION_ID: Final = 0x6D617362
"""Marks a file as a job of ours."""

WHOLE: Final = 0
"""All of the job is in the file itself."""
LOG_NEEDED: Final = 1
"""What follows is in the write-ahead log: seen only where that log has been lost."""
LOG_SEEN: Final = 2
"""Written to the log first of all, so seen wherever the log is, or has been taken in."""
LOG_LOST: Final = 3
"""The log was found to be missing: what was sent last is not known."""

STATUSES: Final = ("planned", "sending", "done", "failed", "unknown", "skipped")
COUNTED: Final = (*STATUSES, "waiting", "billed", "doubtful")
"""What the tally keeps, so that asking costs the same for ten items and a million."""

_NO_ITEMS = ", ".join(f"('{status}', 0, 0)" for status in COUNTED)
_TABLES = (
    """CREATE TABLE job (
        kind TEXT NOT NULL, options TEXT NOT NULL, price TEXT, created REAL NOT NULL,
        batch_size INTEGER, requests INTEGER NOT NULL DEFAULT 0, log INTEGER NOT NULL DEFAULT 0,
        merged_into TEXT
    )""",
    "CREATE TABLE variant (id INTEGER PRIMARY KEY, options TEXT NOT NULL UNIQUE)",
    """CREATE TABLE item (
        id INTEGER PRIMARY KEY, source NOT NULL, variant INTEGER NOT NULL REFERENCES variant,
        extra TEXT, status TEXT NOT NULL DEFAULT 'planned',
        size INTEGER, mtime INTEGER, ctime INTEGER, inode INTEGER, sha256 BLOB,
        request INTEGER, result TEXT, vector BLOB, error TEXT, details TEXT,
        duplicate_of INTEGER, waiting INTEGER NOT NULL DEFAULT 0,
        billed INTEGER NOT NULL DEFAULT 0, doubtful INTEGER NOT NULL DEFAULT 0
    )""",
    """CREATE TABLE tally (
        status TEXT PRIMARY KEY, items INTEGER NOT NULL, bytes INTEGER NOT NULL
    ) WITHOUT ROWID""",
    f"INSERT INTO tally VALUES {_NO_ITEMS}",  # noqa: S608  # our own words
)
_INDEXES = (
    "CREATE UNIQUE INDEX item_input ON item (source, variant, ifnull(extra, ''))",
    "CREATE INDEX item_planned ON item (variant, id) WHERE status = 'planned'",
    """CREATE INDEX item_open ON item (status, id)
        WHERE status IN ('sending', 'unknown', 'failed')""",
    "CREATE INDEX item_waiting ON item (id) WHERE waiting = 1",
    "CREATE INDEX item_content ON item (sha256, variant) WHERE sha256 IS NOT NULL",
    "CREATE INDEX item_copies ON item (duplicate_of) WHERE duplicate_of IS NOT NULL",
)
_TRIGGERS = (
    """CREATE TRIGGER item_added AFTER INSERT ON item BEGIN
        UPDATE tally SET items = items + 1, bytes = bytes + ifnull(new.size, 0)
            WHERE status = new.status;
        UPDATE tally SET items = items + new.waiting WHERE status = 'waiting';
        UPDATE tally SET items = items + new.billed WHERE status = 'billed';
        UPDATE tally SET items = items + new.doubtful
            WHERE status = 'doubtful';
    END""",
    """CREATE TRIGGER item_changed AFTER UPDATE OF status, size, waiting, billed, doubtful ON item
    WHEN old.status <> new.status OR old.size IS NOT new.size OR old.waiting <> new.waiting
        OR old.billed <> new.billed OR old.doubtful <> new.doubtful BEGIN
        UPDATE tally SET items = items - 1, bytes = bytes - ifnull(old.size, 0)
            WHERE status = old.status;
        UPDATE tally SET items = items + 1, bytes = bytes + ifnull(new.size, 0)
            WHERE status = new.status;
        UPDATE tally SET items = items + new.waiting - old.waiting
            WHERE status = 'waiting' AND old.waiting <> new.waiting;
        UPDATE tally SET items = items + new.billed - old.billed
            WHERE status = 'billed' AND old.billed <> new.billed;
        UPDATE tally SET items = items + new.doubtful - old.doubtful
            WHERE status = 'doubtful' AND old.doubtful <> new.doubtful;
    END""",
)

_LEASE_SECONDS = 60.0


def _refuse_a_live_run(db: sqlite3.Connection) -> None:
    """Leave a file alone that a run of the first version may be writing: it had a lease in it."""
    copied = "SELECT length(file) = 0 FROM pragma_database_list WHERE name = 'main'"
    lease = db.execute("SELECT host, pid, seen FROM lease").fetchone()
    if lease is None or db.execute(copied).fetchone()[0]:
        return
    host, pid, seen = lease
    gone = host == socket.gethostname() and not os.path.exists(f"/proc/{pid}")
    if time.time() - seen < _LEASE_SECONDS and not (gone and os.path.exists("/proc/self")):
        raise JobBusy(f"process {pid} on {host} runs the job with an older version of the package")


_FROM_VERSION_1: tuple[Step, ...] = (
    _refuse_a_live_run,
    "DROP TRIGGER item_added",
    "DROP TRIGGER item_changed",
    "DROP TABLE tally",
    "DROP TABLE lease",
    "ALTER TABLE job RENAME TO old_job",
    "ALTER TABLE item RENAME TO old_item",
    *(f"DROP INDEX item_{name}" for name in ("planned", "open", "waiting", "content", "copies")),
    *(statement for statement in _TABLES if not statement.startswith("CREATE TABLE variant")),
    *_TRIGGERS,
    """INSERT INTO job (kind, options, price, created, batch_size, requests)
        SELECT kind, options, price, created, batch_size, requests FROM old_job""",
    # A video that was answered and could not be indexed has its number, and was billed.
    """INSERT INTO item (id, source, variant, extra, status, size, mtime, inode, sha256, request,
            result, vector, error, details, duplicate_of, waiting, billed)
        SELECT id, source, variant, extra, status, size, mtime, inode, sha256, request,
            result, vector, error, details, duplicate_of, waiting, result IS NOT NULL
        FROM old_item""",
    # What was once unknown and sent again was counted for the job alone.
    """UPDATE item SET doubtful = (SELECT doubtful FROM old_job)
        WHERE id = (SELECT min(id) FROM item)""",
    "DROP TABLE old_item",
    "DROP TABLE old_job",
    *_INDEXES,
)

SCHEMA: Final = Schema(
    application_id=APPLICATION_ID,
    version=2,
    statements=(*_TABLES, *_INDEXES, *_TRIGGERS),
    upgrades={1: _FROM_VERSION_1},
)
