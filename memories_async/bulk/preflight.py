"""What is in a file: whether it can be sent, and which content; hashed anew only if it changed."""

from __future__ import annotations

import hashlib
import os

import attrs

from memories_async.bulk.journal.rows import UNSEEN, FileContent, FileState, ItemRow
from memories_async.bulk.models import Item
from memories_async.errors import MediaChanged, MediaError, MemoriesError
from memories_async.media.inspect import inspect_source
from memories_async.media.rules import MediaRule
from memories_async.media.urls import is_url


@attrs.frozen
class CheckedItem:
    """An item whose file has been looked at.

    Attributes:
        item: The item, with size and digest as they are now.
        variant: The number of its options: only items that share it may share a request.
        content: What is in it; None where it cannot be sent.
        name: The file name that will be sent; empty for a URL.
        problem: Why it cannot be sent.
    """

    item: Item
    variant: int
    content: FileContent | None = None
    name: str = ""
    problem: MemoriesError | None = None

    @property
    def id(self) -> int:
        """The item's number."""
        return self.item.id

    def changed(self) -> bool:
        """Tell whether its file is another one, or gone, since it was looked at; blocks."""
        if self.content is None or is_url(self.item.source):
            return False
        try:
            return fingerprint(self.item.source) != self.content.seen
        except OSError:
            return True


def check(row: ItemRow, rule: MediaRule) -> CheckedItem:
    """Check an item's file against what the service takes, and hash it; blocks on file I/O."""
    item, variant = row.item, row.variant
    source = item.source
    if is_url(source):
        return CheckedItem(item, variant, FileContent(item.id, UNSEEN, None))
    try:
        name = check_file(source, rule)
        seen = fingerprint(source)
        known = item.sha256 if seen == row.seen else None
        digest = known or digest_of(source)
        if fingerprint(source) != seen:
            raise MediaChanged(f"{source} changed while it was being read")
    except MediaError as error:
        return CheckedItem(item, variant, problem=error)
    except Exception as error:  # whatever one file brings about ends with that file
        reason = getattr(error, "strerror", None) or error
        problem = MediaError(f"{source!r} cannot be read: {reason}")
        return CheckedItem(item, variant, problem=problem)
    content = FileContent(item.id, seen, bytes.fromhex(digest))
    item = attrs.evolve(item, size=seen[0], sha256=digest)
    return CheckedItem(item, variant, content, name)


def check_file(path: str, rule: MediaRule) -> str:
    """Check a file against what the service takes, and return the name that will be sent.

    Raises:
        MediaError: It cannot be sent.
    """
    return inspect_source(path, rule).name


def fingerprint(path: str) -> FileState:
    """Return what tells that a file is still the same."""
    status = os.stat(path)
    # The time of change is set by the system, so that a time of modification that was put back,
    # as by rsync, hides nothing. SQLite's integers are signed; an inode may have all 64 bits.
    inode = status.st_ino & (2**63 - 1)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode


def digest_of(path: str) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
