"""What is in a file: whether it can be sent, and which content; hashed anew only if it changed."""

from __future__ import annotations

import hashlib
import os

import attrs

from memories_async.bulk.journal.queries import Content, Row
from memories_async.bulk.models import Item
from memories_async.errors import MediaChanged, MediaError, MemoriesError
from memories_async.media.inspect import inspect_source
from memories_async.media.rules import MediaRule
from memories_async.media.urls import is_url


@attrs.frozen
class Look:
    """What looking at an item's file showed.

    Attributes:
        item: The item, with size and digest as they are now.
        variant: The number of its options: only items that share it may share a request.
        content: What is in it; None where it cannot be sent.
        name: The file name that will be sent; empty for a URL.
        problem: Why it cannot be sent.
    """

    item: Item
    variant: int
    content: Content | None = None
    name: str = ""
    problem: MemoriesError | None = None

    @property
    def id(self) -> int:
        """The item's number."""
        return self.item.id


def look_at(row: Row, rule: MediaRule) -> Look:
    """Check an item's file against what the service takes, and hash it; blocks on file I/O."""
    item, variant = row.item, row.variant
    source = item.source
    if is_url(source):
        return Look(item, variant, Content(item.id, (None, None, None), None))
    try:
        attachment = inspect_source(source, rule)
        seen = _seen(source)
        known = item.sha256 if seen == row.seen else None
        digest = known or _digest(source)
        if _seen(source) != seen:
            raise MediaChanged(f"{source} changed while it was being read")
    except MediaError as error:
        return Look(item, variant, problem=error)
    except OSError as error:
        problem = MediaError(f"{source!r} cannot be read: {error.strerror}")
        return Look(item, variant, problem=problem)
    content = Content(item.id, seen, bytes.fromhex(digest))
    item = attrs.evolve(item, size=seen[0], sha256=digest)
    return Look(item, variant, content, attachment.name)


def _seen(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    # SQLite's integers are signed; an inode may have all 64 bits.
    return status.st_size, status.st_mtime_ns, status.st_ino & (2**63 - 1)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
