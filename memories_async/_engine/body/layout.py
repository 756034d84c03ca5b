"""JSON and multipart bodies: of exact length, streamed, replayable, counted."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import attrs

from memories_async import _json
from memories_async.media.readers import Attachment
from memories_async.operations import Body, Operation

# Each looked up once, as the states of a request are.
_QUERY, _FORM, _JSON, _JSON_ARRAY = Body.QUERY, Body.FORM, Body.JSON, Body.JSON_ARRAY


@attrs.define(eq=False)  # as Request
class Recipe:
    """How to write one body, as often as needed.

    Attributes:
        content_type: The header's value.
        pieces: What to write, in order.
        length: Exact bytes in all; None where an attachment's size cannot be known.
    """

    content_type: str
    pieces: tuple[bytes | Attachment, ...]
    length: int | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        length = 0
        for piece in self.pieces:
            size = len(piece) if isinstance(piece, bytes) else piece.size
            if size is None:
                self.length = None
                return
            length += size
        self.length = length


def recipe(
    operation: Operation[Any], fields: Mapping[str, object], files: Sequence[Attachment] = ()
) -> Recipe | None:
    """Lay out a body; None where the operation has none.

    Args:
        operation: Says how.
        fields: What goes into it beside the files.
        files: What goes into the file parts, in order.
    """
    layout = operation.body
    if layout is _JSON:
        return Recipe("application/json", (_json.dumps(dict(fields)),))
    if layout is _QUERY:
        return None
    if layout is _FORM:
        form = urlencode(list(_form_fields(fields))).encode()
        return Recipe("application/x-www-form-urlencoded", (form,))
    if layout is _JSON_ARRAY:
        array = fields[operation.array_field]
        return Recipe("application/json", (_json.dumps(array),))
    # Long and random: no file will hold it, and so nothing in a file can end its part.
    boundary = f"memories-async-{secrets.token_hex(16)}"
    return Recipe(
        f"multipart/form-data; boundary={boundary}",
        tuple(_joined(_multipart(operation, fields, files, boundary))),
    )


def _multipart(
    operation: Operation[Any],
    fields: Mapping[str, object],
    files: Sequence[Attachment],
    boundary: str,
) -> Iterator[bytes | Attachment]:
    delimiter = f"--{boundary}\r\n".encode()
    if operation.body is Body.REQ_AND_FILES:
        # The service binds this part as JSON by its own content type.
        yield delimiter + _disposition("req", "req.json", "application/json")
        yield _json.dumps(dict(fields)) + b"\r\n"
    else:
        for name, value in _form_fields(fields):
            yield delimiter + _disposition(name) + value.encode() + b"\r\n"
    for file in files:
        yield delimiter + _disposition(operation.file_part, file.name, file.content_type)
        yield file if file.content is None else file.content
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _form_fields(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield each form field; a list becomes the field repeated."""
    for name, value in fields.items():
        for item in value if _json.is_array(value) else [value]:
            yield name, str(item).lower() if isinstance(item, bool) else str(item)


_QUOTED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A", "\0": ""})


def _disposition(name: str, filename: str | None = None, content_type: str | None = None) -> bytes:
    """Write the head of a part as browsers do: names in UTF-8, quotes and line ends escaped.

    https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data
    """
    head = f'Content-Disposition: form-data; name="{name.translate(_QUOTED)}"'
    if filename is not None:
        head += f'; filename="{filename.translate(_QUOTED)}"'
    if content_type is not None:
        head += f"\r\nContent-Type: {content_type.translate(_QUOTED)}"
    return f"{head}\r\n\r\n".encode("utf-8", "replace")


SMALL = 16 * 1024


def _joined(pieces: Iterator[bytes | Attachment]) -> Iterator[bytes | Attachment]:
    """Join neighbouring small pieces, so that each write carries something; copy nothing large."""
    waiting = b""
    for piece in pieces:
        if isinstance(piece, bytes) and len(piece) <= SMALL:
            waiting += piece
            continue
        if waiting:
            yield waiting
            waiting = b""
        yield piece
    if waiting:
        yield waiting
