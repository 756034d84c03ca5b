"""Files that changed after they were answered: a look at each, no file is read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from memories_async.bulk.journal import queries
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.rows import AnsweredFile
from memories_async.bulk.preflight import fingerprint

PAGE = 500


async def changed(journal: Journal) -> list[int]:
    """Return the items that have an answer, their own or their original's, to another content.

    Raises:
        JournalError: The file cannot be read.
    """
    found: list[int] = []
    place = 0
    while page := await journal.execute(queries.answered_files, place, PAGE):
        place = page[-1].id
        found += await asyncio.to_thread(_changed, page)
    return found


def has_changed(file: AnsweredFile) -> bool:
    """Tell whether a file is another one since it was answered; blocks on file I/O."""
    try:
        size, modified, _, _ = fingerprint(file.source)
    except (OSError, ValueError):
        return False  # a file that is gone needs no sending
    return (size, modified) != file.seen


def _changed(files: Iterable[AnsweredFile]) -> list[int]:
    return [file.id for file in files if has_changed(file)]
