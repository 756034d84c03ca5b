"""Which locks this process holds on an SQLite file for as long as it has it open."""

from __future__ import annotations

import os
from pathlib import Path

from memories_async.sqlite import SUFFIXES

TABLE = Path("/proc/locks")
TRANSACTION = range(120, 128)
"""Bytes of the shared memory that are locked no longer than a transaction; the next is for good."""


def locks_held(path: Path) -> set[tuple[str, str, int]]:
    """Return kind, file's suffix and first byte of each POSIX lock, but for a transaction's.

    The table is no snapshot: while other processes lock and unlock, a line may come twice, or not
    at all (seen in 1,500 of 6,300 reads beside three that do nothing else). So it is read ten
    times, and each lock counts once.
    """
    names = {suffix: f"{path}{suffix}" for suffix in ("", *SUFFIXES)}
    # By suffix: the shared memory is made anew, as another file, where all have closed it.
    suffixes = {
        os.stat(name).st_ino: suffix for suffix, name in names.items() if os.path.exists(name)
    }
    held: set[tuple[str, str, int]] = set()
    for line in "".join(TABLE.read_text() for _ in range(10)).splitlines():
        _, scheme, _, kind, *rest = line.split()
        if scheme != "POSIX":  # "->" is one that is waited for
            continue
        process, file, first, last = rest
        inode = int(file.split(":")[-1])
        if int(process) != os.getpid() or inode not in suffixes:
            continue
        if int(first) in TRANSACTION:  # with its neighbour it may be one
            if last != "EOF" and int(last) in TRANSACTION:
                continue
            first = str(TRANSACTION.stop)
        held.add((kind, suffixes[inode], int(first)))
    return held
