"""The journal's tables: items with their options, the tally of their statuses, the lease."""

from __future__ import annotations

from memories_async.bulk.journal import lock as lease

APPLICATION_ID = 0x6D617362
"""Marks a file as a job of ours."""
VERSION = 1

# The tally keeps the counts, so that asking for them costs the same for ten items and a million.
SCHEMA = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
    """CREATE TABLE job (
        kind TEXT NOT NULL, options TEXT NOT NULL, price TEXT, created REAL NOT NULL,
        batch_size INTEGER, requests INTEGER NOT NULL DEFAULT 0, doubtful INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE TABLE variant (id INTEGER PRIMARY KEY, options TEXT NOT NULL UNIQUE)",
    """CREATE TABLE item (
        id INTEGER PRIMARY KEY, source NOT NULL, variant INTEGER NOT NULL REFERENCES variant,
        extra TEXT, status TEXT NOT NULL DEFAULT 'planned',
        size INTEGER, mtime INTEGER, inode INTEGER, sha256 BLOB,
        request INTEGER, result TEXT, vector BLOB, error TEXT, details TEXT,
        duplicate_of INTEGER, waiting INTEGER NOT NULL DEFAULT 0,
        UNIQUE (source, variant)
    )""",
    "CREATE INDEX item_planned ON item (variant, id) WHERE status = 'planned'",
    """CREATE INDEX item_open ON item (status, id)
        WHERE status IN ('sending', 'unknown', 'failed')""",
    "CREATE INDEX item_waiting ON item (id) WHERE waiting = 1",
    "CREATE INDEX item_content ON item (sha256, variant) WHERE sha256 IS NOT NULL",
    "CREATE INDEX item_copies ON item (duplicate_of) WHERE duplicate_of IS NOT NULL",
    """CREATE TABLE tally (
        status TEXT PRIMARY KEY, items INTEGER NOT NULL, bytes INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """INSERT INTO tally VALUES ('planned', 0, 0), ('sending', 0, 0), ('done', 0, 0),
        ('failed', 0, 0), ('unknown', 0, 0), ('skipped', 0, 0), ('waiting', 0, 0)""",
    """CREATE TRIGGER item_added AFTER INSERT ON item BEGIN
        UPDATE tally SET items = items + 1, bytes = bytes + ifnull(new.size, 0)
            WHERE status = new.status;
    END""",
    """CREATE TRIGGER item_changed AFTER UPDATE OF status, size, waiting ON item
    WHEN old.status <> new.status OR old.size IS NOT new.size OR old.waiting <> new.waiting BEGIN
        UPDATE tally SET items = items - 1, bytes = bytes - ifnull(old.size, 0)
            WHERE status = old.status;
        UPDATE tally SET items = items + 1, bytes = bytes + ifnull(new.size, 0)
            WHERE status = new.status;
        UPDATE tally SET items = items + new.waiting - old.waiting WHERE status = 'waiting';
    END""",
    lease.SCHEMA,
)
