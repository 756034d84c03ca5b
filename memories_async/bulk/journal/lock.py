"""Who runs a job: one live process at a time, and a dead one's job can be taken over."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sqlite3
import time
from pathlib import Path

import attrs

from memories_async.bulk.models import JobBusy

HEARTBEAT = 10.0
"""Seconds between two signs of life."""
STALE = 60.0
"""Seconds without a sign of life after which a run counts as dead, wherever it was."""

HELD_HERE: set[str] = set()
"""The tokens of the runs of this process."""

SCHEMA = """CREATE TABLE lease (
    token TEXT NOT NULL, host TEXT NOT NULL, boot TEXT NOT NULL, pid INTEGER NOT NULL,
    seen REAL NOT NULL
)"""


@attrs.frozen
class Holder:
    """A process that runs a job, and when it was last seen alive."""

    token: str
    host: str
    boot: str
    pid: int
    seen: float

    @classmethod
    def this_process(cls) -> Holder:
        """Return this process with a new token."""
        return cls(secrets.token_hex(16), socket.gethostname(), _boot(), os.getpid(), time.time())

    def alive(self) -> bool:
        """Tell whether it may still be running."""
        if time.time() - self.seen > STALE:
            return False
        if self.host != socket.gethostname():
            return True
        if self.boot != _boot():
            return False
        if self.pid == os.getpid():
            # A restarted container has the same pid again, and a run may have failed to let go.
            return self.token in HELD_HERE
        return _process_exists(self.pid)


def holder(db: sqlite3.Connection) -> Holder | None:
    """Return whoever runs the job now, or None."""
    row = db.execute("SELECT token, host, boot, pid, seen FROM lease").fetchone()
    found = Holder(*row) if row else None
    return found if found and found.alive() else None


def claim(db: sqlite3.Connection, claimant: Holder) -> None:
    """Take the job over, unless another run is alive.

    Raises:
        JobBusy: Another run is alive.
    """
    if (other := holder(db)) is not None:
        raise JobBusy(
            f"the job is being run by process {other.pid} on {other.host} "
            f"(last seen {max(time.time() - other.seen, 0):.0f} s ago)"
        )
    db.execute("DELETE FROM lease")
    db.execute("INSERT INTO lease VALUES (?, ?, ?, ?, ?)", attrs.astuple(claimant))


def renew(db: sqlite3.Connection, token: str) -> None:
    """Show a sign of life; part of every commit of a run, so that none goes on after a take-over.

    Raises:
        JobBusy: Another run has taken the job over, because this one seemed dead.
    """
    if not db.execute("UPDATE lease SET seen = ? WHERE token = ?", (time.time(), token)).rowcount:
        raise JobBusy("another run has taken the job over: this one was out of touch for too long")


def release(db: sqlite3.Connection, token: str) -> None:
    """Give the job up, if it is still held."""
    db.execute("DELETE FROM lease WHERE token = ?", (token,))


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _process_exists(pid: int) -> bool:
    if os.name != "posix":
        return True  # asking would end the process there; the signs of life decide
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
