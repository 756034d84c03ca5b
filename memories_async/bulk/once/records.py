"""What has become of an item, and how its answer is kept in a ledger."""

from __future__ import annotations

from array import array
from typing import Generic, TypeVar

import attrs

from memories_async import _json
from memories_async.bulk.ledger import Entry
from memories_async.bulk.models import Status
from memories_async.models import Result

T = TypeVar("T", bound=Result)


@attrs.frozen(kw_only=True)
class Record(Generic[T]):
    """What has become of one item; nothing of it is ever raised.

    Attributes:
        status: ``DONE``: answered. ``FAILED``: refused or unfit, and not billed. ``UNKNOWN``: it
            may have been billed, and is not sent again unasked. ``PLANNED``: not sent, and not
            billed; the error says why.
        value: The answer; None unless ``DONE``.
        error: What went wrong, in words; None if nothing did.
        replayed: Whether the answer was paid for earlier, and comes from the ledger.
        attempts: How often it was sent just now.
        key: The digest by which the ledger knows the item; empty where it could not be read.
    """

    status: Status
    value: T | None = None
    error: str | None = None
    replayed: bool = False
    attempts: int = 0
    key: str = ""


def kept(value: Result) -> tuple[str, bytes | None]:
    """Return an answer as JSON, and its vector apart: as JSON that would be five times as long."""
    data = value.to_dict()
    vector = data.pop("vector", None)
    blob = None if vector is None else array("f", vector).tobytes()
    return _json.dumps(data).decode(), blob


def read(model: type[T], entry: Entry) -> T:
    """Return an answer as the call returned it."""
    data = _json.loads(entry.result or "{}")
    if entry.vector is not None:
        data["vector"] = array("f", entry.vector).tolist()
    return model.from_dict(data)
