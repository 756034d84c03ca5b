"""From a request's body to fields and files, in the layout that its operation has."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Mapping
from typing import Protocol, cast
from urllib.parse import parse_qsl

import aiohttp
import attrs
from aiohttp.http_exceptions import HttpProcessingError

from memories_async import _json
from memories_async.emulator.http.envelopes import Reason, Refusal
from memories_async.emulator.http.routes import Layout, Route
from memories_async.emulator.spool import Spool, SpooledFile, UploadTooLargeError
from memories_async.operations import Body

JSON_LIMIT = 64 << 20
FIELD_LIMIT = 1 << 20
READ_SIZE = 256 << 10
MOST_PARTS = 2000
"""Parts of one form: each costs memory, however small it is."""

_LISTS = frozenset({"tags"})
_INDEXED = re.compile(r"^(\w+)\[\d*\]$")


class UnsupportedBody(Exception):
    """The content type or encoding is not one that the endpoint takes."""


@attrs.frozen
class Received:
    """What a request brought."""

    fields: Mapping[str, object]
    files: tuple[SpooledFile, ...] = ()


class Incoming(Protocol):
    """A request, as far as it is read here."""

    @property
    def match_info(self) -> Mapping[str, str]:
        """The fields in the path."""
        ...

    @property
    def query(self) -> Mapping[str, str]:
        """The fields in the query."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        ...

    @property
    def content(self) -> IncomingBody:
        """The body."""
        ...

    async def multipart(self) -> aiohttp.MultipartReader:
        """Return a reader of the parts."""
        ...


class IncomingBody(Protocol):
    """A body, as far as it is read here."""

    def iter_any(self) -> AsyncIterator[bytes]:
        """Yield the pieces as they come."""
        ...

    async def readany(self) -> bytes:
        """Return what has arrived, or nothing at the end."""
        ...


async def receive(
    request: Incoming, route: Route, spool: Spool, *, keep: int | None = None
) -> Received:
    """Read path, query and the whole body, files straight to disk.

    Args:
        request: The request.
        route: The operation that it is for, and how it comes.
        spool: Where the files go.
        keep: The size from which on the rest of a file is not worth keeping.

    Raises:
        Refusal: It cannot be read.
        UnsupportedBody: It is compressed, or the part ``req`` is not JSON.
        UploadTooLargeError: It is larger than the emulator takes in.
        ConnectionError: The client has gone.
    """
    # The server decompresses nothing: a megabyte could become a thousand.
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedBody(encoding)
    fields: dict[str, object] = dict(request.match_info)
    if route.layout not in (Body.JSON, Body.REQ_AND_FILES):  # there the service binds JSON alone
        fields.update(request.query)
    files: list[SpooledFile] = []
    content = request.content.iter_any()
    try:
        match route.layout:
            case Body.QUERY:
                pass
            case Body.JSON:
                fields.update(_object(await _read(content, JSON_LIMIT)))
            case Body.JSON_ARRAY:
                fields[route.row.array_field] = _array(await _read(content, JSON_LIMIT))
            case Body.FORM:
                _add_form(fields, await _read(content, JSON_LIMIT))
            case Body.REQ_AND_FILES | Body.FIELDS_AND_FILES:
                await _receive_multipart(request, route, spool, fields, files, keep)
            case Layout.FILE:
                content_type = request.headers.get("Content-Type", "")
                part = route.row.file_part
                file = await spool.save(content, part=part, name="", content_type=content_type)
                files.append(file)
        while await request.content.readany():
            pass  # what follows the last boundary
    except HttpProcessingError as error:
        message = f"Failed to parse multipart servlet request: {error.message}"
        raise Refusal(Reason.BAD_REQUEST, message) from error
    except aiohttp.ClientError as error:  # a body that ends early
        raise ConnectionResetError("The client has gone") from error
    return Received(fields, tuple(files))


async def _receive_multipart(
    request: Incoming,
    route: Route,
    spool: Spool,
    fields: dict[str, object],
    files: list[SpooledFile],
    keep: int | None,
) -> None:
    given = 0
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, aiohttp.BodyPartReader):
                raise ValueError("nested multipart")  # it is the client's value
            given += 1
            if given > MOST_PARTS:
                raise UploadTooLargeError(f"more than {MOST_PARTS} parts")
            await asyncio.sleep(0)  # what has arrived is parsed without a pause
            name, filename = _named(part.headers.get("Content-Disposition"))
            content_type = part.headers.get("Content-Type", "")
            if name == "req" and route.layout is Body.REQ_AND_FILES:
                if content_type.partition(";")[0].strip() != "application/json":
                    raise UnsupportedBody(content_type)
                fields.update(_object(await _read(_pieces(part), FIELD_LIMIT)))
            elif filename is None:
                value = (await _read(_pieces(part), FIELD_LIMIT)).decode()
                _add(fields, name, value)
            else:
                pieces = _pieces(part)
                file = await spool.save(
                    pieces, part=name, name=filename, content_type=content_type, keep=keep
                )
                files.append(file)
    except ValueError as error:
        message = "Failed to parse multipart servlet request"
        raise Refusal(Reason.BAD_REQUEST, message) from error


@functools.lru_cache(maxsize=256)
def _named(disposition: str | None) -> tuple[str, str | None]:
    """Return a part's name and its file's, if any: aiohttp reads them anew each time."""
    _, parameters = aiohttp.parse_content_disposition(disposition)
    filename = aiohttp.content_disposition_filename(parameters)
    return aiohttp.content_disposition_filename(parameters, "name") or "", filename


async def _pieces(part: aiohttp.BodyPartReader) -> AsyncIterator[bytes]:
    while not part.at_eof():
        yield await part.read_chunk(READ_SIZE)


async def _read(pieces: AsyncIterator[bytes], limit: int) -> bytes:
    buffer = bytearray()
    async for piece in pieces:
        buffer += piece
        if len(buffer) > limit:
            raise Refusal(Reason.BAD_REQUEST, f"A field exceeds the limit of {limit} bytes")
    return bytes(buffer)


def _object(data: bytes) -> dict[str, object]:
    value = _parsed(data)
    if not _json.is_object(value):
        raise Refusal(Reason.BAD_REQUEST, "Required request body is missing or not a JSON object")
    return value


def _array(data: bytes) -> list[object]:
    value = _parsed(data)
    if not _json.is_array(value):
        raise Refusal(Reason.BAD_REQUEST, "Required request body is missing or not a JSON array")
    return value


def _parsed(data: bytes) -> object:
    try:
        value: object = _json.loads(data)
    except ValueError:
        return None
    return value


def _add_form(fields: dict[str, object], data: bytes) -> None:
    try:
        pairs = parse_qsl(
            data.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_PARTS
        )
    except ValueError as error:
        message = "Failed to parse form"
        raise Refusal(Reason.BAD_REQUEST, message) from error
    for name, value in pairs:
        _add(fields, name, value)


def _add(fields: dict[str, object], name: str, value: str) -> None:
    """Add a form field; lists come repeated (``tags``) or numbered (``tags[0]``)."""
    if numbered := _INDEXED.match(name):
        name = numbered[1]
    if name in _LISTS:
        cast("list[str]", fields.setdefault(name, [])).append(value)
    else:
        fields[name] = value
