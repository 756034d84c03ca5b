"""What the journal's queries take and return, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import attrs

from memories_async.bulk.models import Counts, Item, Status
from memories_async.errors import MemoriesError
from memories_async.observe.prices import dollars_for

FileState = tuple[int | None, int | None, int | None, int | None]
"""A file's size, times of modification and of change (ns) and inode; None where unknown."""
UNSEEN: FileState = (None, None, None, None)


@attrs.frozen
class Tally:
    """How the job stands.

    Attributes:
        counts: Items by status.
        planned_bytes: Bytes of the planned items, as far as known.
        billed: Answers that the service gave, each of which it billed, whatever came later.
        doubtful: Times that an unknown item was sent again or given up.
    """

    counts: Counts = attrs.field(factory=Counts)
    planned_bytes: int = 0
    billed: int = 0
    doubtful: int = 0

    @property
    def spent(self) -> int:
        """How many items have been billed, or may have been."""
        return self.billed + self.counts.unknown + self.counts.sending + self.doubtful

    def costs(self, price: Decimal | None) -> tuple[Decimal | None, Decimal | None]:
        """Return what the job has cost, and what it may have cost besides; None if unknown."""
        if price is None:
            return None, None
        return dollars_for(self.billed, price), dollars_for(self.spent - self.billed, price)


@attrs.frozen
class JobHeader:
    """What holds for the whole job.

    Attributes:
        kind: The name of its row in the table of kinds.
        options: What every call is given.
        price: Dollars per item, if its creator said.
        created_at: When.
        batch_size: What the service said is the most per request, once it has said so.
        merged_into: The job that has taken this one's items over, if one has.
    """

    kind: str
    options: Mapping[str, object]
    price: Decimal | None
    created_at: datetime
    batch_size: int | None = None
    merged_into: str | None = None


@attrs.frozen
class ItemRow:
    """An item with what only the journal needs of it.

    Attributes:
        item: The item.
        variant: The number of its options: only items that share it may share a request.
        seen: The fingerprint of the file whose digest is known.
    """

    item: Item
    variant: int
    seen: FileState


@attrs.frozen
class AnsweredFile:
    """A file whose content has an answer.

    Attributes:
        id: Which item.
        source: Its path.
        seen: Its size and time of modification (ns) when it was sent; None where it is to be sent
            again whatever they are.
    """

    id: int
    source: str
    seen: tuple[int | None, int | None]


@attrs.frozen
class NewItem:
    """An input on its way into the journal."""

    source: str
    options: Mapping[str, object]
    extra: Mapping[str, object]
    size: int | None


@attrs.frozen
class Settlement:
    """What has become of an item.

    Attributes:
        id: Which.
        status: Its status from now on.
        result: What the service answered.
        vector: The embedding's float32 numbers.
        error: What went wrong.
        details: More about that.
        waiting: Whether it is yet to become searchable.
    """

    id: int
    status: Status
    result: Mapping[str, object] | None = None
    vector: bytes | None = None
    error: str | None = None
    details: Mapping[str, object] | None = None
    waiting: bool = False

    @classmethod
    def of_error(cls, id: int, status: Status, error: BaseException) -> Settlement:
        """Return what an error makes of an item."""
        details: dict[str, object] = {"type": type(error).__name__}
        for name in ("code", "status", "sent_at", "bytes_sent", "request_digest", "attempts"):
            if (value := getattr(error, name, None)) not in (None, ""):
                details[name] = value
        ours = isinstance(error, MemoriesError)
        message = str(error) if ours else f"{type(error).__name__}: {error}"
        return cls(id, status, error=message, details=details)


@attrs.frozen
class FileContent:
    """What was found in an item's file.

    Attributes:
        id: Which item.
        seen: The file's fingerprint.
        sha256: The digest; None for a URL.
    """

    id: int
    seen: FileState
    sha256: bytes | None
