"""A call on its way, as plain values: what is asked, and how far one attempt has got."""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar
from urllib.parse import quote

import attrs
import orjson

from memories_async.config import Policy
from memories_async.media.readers import Attachment
from memories_async.models import Progress
from memories_async.operations import Body, Operation

T = TypeVar("T")

_PLACEHOLDER = re.compile(r"\{(\w+)\}")

ProgressHook = Callable[[Progress], object]


@attrs.frozen
class Request(Generic[T]):
    """One call: the row of the table and what fills it.

    Attributes:
        operation: The endpoint and way in.
        fields: Wire names to values: JSON members, form fields or query parameters.
        files: What goes into the file parts, in order.
        known: Fields of the result that the answer does not repeat.
        destination: Where a downloaded file is to lie.
        policy: How to wait and retry.
        on_progress: Told of accepted bytes.
    """

    operation: Operation[T]
    fields: Mapping[str, object]
    policy: Policy
    files: Sequence[Attachment] = ()
    known: Mapping[str, object] | None = None
    on_progress: ProgressHook | None = None
    destination: str | None = None

    def path(self) -> str:
        """Return the operation's path with its placeholders filled in."""
        return _PLACEHOLDER.sub(
            lambda match: quote(str(self.fields[match[1]]), safe=""), self.operation.path
        )

    def query(self) -> dict[str, str]:
        """Return the fields that go into the query string."""
        layout = self.operation.body
        if layout is not Body.QUERY and layout is not Body.JSON_ARRAY:
            return {}
        elsewhere = {self.operation.array_field, *_PLACEHOLDER.findall(self.operation.path)}
        return {name: str(value) for name, value in self.fields.items() if name not in elsewhere}

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent a second time."""
        return all(file.replayable for file in self.files)

    def digest(self) -> str:
        """Return a short fingerprint of what was asked, for the caller's own records."""
        asked = orjson.dumps(
            [
                self.operation.name,
                dict(self.fields),
                [[file.name, file.content_type, file.size] for file in self.files],
            ],
            default=str,
        )
        return hashlib.sha256(asked).hexdigest()[:16]


class State(enum.IntEnum):
    """How far one attempt got: all that decides whether it may be sent again."""

    NOT_SENT = 0
    """No connection, or no byte handed over."""
    PARTIAL = 1
    """Framed by length or chunks, and the last byte not handed over: no server has it whole."""
    SENT = 2
    """The last byte is about to be, or has been, handed over."""
