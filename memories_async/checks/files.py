"""Files that SQLite has open in this process, where opening them in any other way does harm."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import cast


def is_open_in_sqlite(status: os.stat_result) -> bool:
    """Tell whether a file is one that must not be opened here: closing it drops SQLite's locks.

    Args:
        status: What ``os.stat`` says of the file.
    """
    # Who has not imported it has no such file open, and does not wait for its import.
    if (sqlite := sys.modules.get("memories_async.sqlite")) is None:
        return False
    return cast("Callable[[os.stat_result], bool]", sqlite.in_use)(status)
