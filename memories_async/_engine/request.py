"""A call on its way, as plain values: what is asked of whom, and how far one attempt has got."""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import attrs

from memories_async import _json
from memories_async._engine.body.layout import Recipe
from memories_async.config import Policy
from memories_async.errors import ConfigurationError
from memories_async.media.readers import Attachment
from memories_async.models import Progress
from memories_async.operations import Body, Operation
from memories_async.secret import Secret

if TYPE_CHECKING:
    from memories_async._engine.transport.downloads import PartialFile

T = TypeVar("T")

_WITH_QUERY = (Body.QUERY, Body.JSON_ARRAY)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")

LONG_BODY = 256 * 1024
"""Bytes at each end of a JSON body that its fingerprint is taken of; all of a large picture would
hold up the loop."""

ProgressHook = Callable[[Progress], object]


@attrs.define(eq=False)  # nothing changes it; to make a frozen one takes four times as long
class Request(Generic[T]):
    """One call, resolved: where it goes, as whom, with what, and how long it may take.

    Attributes:
        operation: The row of the table.
        url: Where it goes, query included.
        key: What it is sent with; None where the address alone is the permission.
        headers: What the caller wants sent besides.
        fields: What the address does not carry: JSON members, form fields or parts.
        files: What goes into the file parts, in order.
        body: The two laid out; None where the operation has no body.
        policy: How to wait and retry.
        known: Fields of the result that the answer does not repeat.
        on_progress: Told of accepted bytes.
        file: What a download is written to.
        started: The clock's time at which the caller began to wait.
        origin: The address up to its path.
    """

    operation: Operation[T]
    url: str
    key: Secret | None
    fields: Mapping[str, object]
    policy: Policy
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    files: Sequence[Attachment] = ()
    body: Recipe | None = None
    known: Mapping[str, object] | None = None
    on_progress: ProgressHook | None = None
    file: PartialFile | None = None
    started: float = 0.0
    origin: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.origin = origin_of(self.url)

    @property
    def until(self) -> float | None:
        """The clock's time at which the caller's deadline passes."""
        return None if self.policy.deadline is None else self.started + self.policy.deadline

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent a second time."""
        return all(file.replayable for file in self.files)

    def digest(self) -> str:
        """Return a short fingerprint of what was asked, for the caller's own records."""
        written = self.body.pieces[0] if self.body is not None and not self.files else b""
        content = f"{self.operation.name} {self.url.partition('://')[2].partition('/')[2]}".encode()
        if self.files or self.headers or not isinstance(written, bytes):
            files = [[file.name, file.content_type, file.size] for file in self.files]
            content += _json.dumps([dict(self.headers), dict(self.fields), files], default=str)
        elif len(written) > 2 * LONG_BODY:
            content += written[:LONG_BODY] + written[-LONG_BODY:] + b"%d" % len(written)
        else:
            content += written  # the fields, as they are sent
        return hashlib.blake2b(content, digest_size=8).hexdigest()


def with_fields(
    operation: Operation[Any], fields: Mapping[str, object], more: Mapping[str, object]
) -> Mapping[str, object]:
    """Return the fields of a call with those that the caller adds.

    Raises:
        ConfigurationError: The call names one of them itself, or it has no place for any.
    """
    if not more:
        return fields
    taken = {*fields, operation.array_field}
    if operation.body is Body.FIELDS_AND_FILES:
        taken.add(operation.file_part)  # each field is a part of its own, beside the file's
    for name in more:
        if name in taken:
            raise ConfigurationError(
                f"CallOptions: fields has {name!r}, which {operation.call} sets itself"
            )
    return {**fields, **more}


def address(
    operation: Operation[Any], fields: Mapping[str, object], origin: str
) -> tuple[str, Mapping[str, object]]:
    """Return where a request goes, and the fields that are left for its body.

    Args:
        operation: The row of the table.
        fields: Wire names to values.
        origin: The address before the service's paths.
    """
    path, left = operation.path, fields
    if "{" in path:
        named = _PLACEHOLDER.findall(path)
        left = {name: value for name, value in fields.items() if name not in named}
        if not path.startswith("/"):  # a field is the whole address, signed as it stands
            return str(fields[named[0]]), left
        path = _PLACEHOLDER.sub(lambda match: quote(str(fields[match[1]]), safe=""), path)
    if operation.body in _WITH_QUERY:
        query = {name: value for name, value in left.items() if name != operation.array_field}
        left = {name: value for name, value in left.items() if name == operation.array_field}
        if query:
            path = f"{path}?{urlencode(query, doseq=True)}"
    return origin + path, left


def origin_of(url: str) -> str:
    """Return an address up to its path."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.partition("/")[0]


class State(enum.IntEnum):
    """How far one attempt got: all that decides whether it may be sent again."""

    NOT_SENT = 0
    """No connection, or no byte handed over."""
    PARTIAL = 1
    """Framed by length or chunks, and the last byte not handed over: no server has it whole."""
    SENT = 2
    """The last byte is about to be, or has been, handed over."""


NOT_SENT, PARTIAL, SENT = State
"""The same, each looked up once: on Python 3.11 that takes as long as a call of a function."""
