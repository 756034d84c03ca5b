"""What comes back: a whole answer in memory, or a file that is written as it comes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, cast

import aiohttp
import attrs
from aiohttp.client_proto import ResponseHandler

from memories_async import _json
from memories_async._engine.body.writer import Transfer
from memories_async._engine.request import Request
from memories_async._engine.transport import failures
from memories_async._engine.transport.downloads import PartialFile
from memories_async._engine.transport.failures import Failure, Fault
from memories_async._engine.transport.packed import PackedError, packing_of, unpacked
from memories_async.secret import Secret

LARGEST_ANSWER = 16 * 1024 * 1024
LONGEST_REFUSAL = 64 * 1024
"""Bytes of an answer that may be an error although its type says that it is a file."""


@attrs.frozen
class Saved:
    """A whole answer that is a file, and lies where it was asked for."""

    path: str
    size: int
    content_type: str
    status: int
    headers: Mapping[str, str]


@attrs.define  # not frozen, as Request
class Reply:
    """A whole answer.

    Attributes:
        status: The HTTP status.
        headers: Those that mean something, by their names in lower case.
        body: The body, unpacked.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def is_file(response: aiohttp.ClientResponse) -> bool:
    """Tell whether an answer is a file, by its status and type."""
    # JSON is a refusal, and a page comes from something that stands between us and the service.
    kind = response.content_type
    return response.status in (200, 206) and "json" not in kind and kind != "text/html"


async def save(
    response: aiohttp.ClientResponse,
    request: Request[Any],
    file: PartialFile,
    protocol: ResponseHandler | None,
    asked: Transfer,
) -> Reply | Saved | Failure:
    """Write a file as it comes; a small refusal in a file's clothes is returned as what it is.

    Args:
        response: The answer, whose head has come.
        request: What was asked.
        file: Where to write it.
        protocol: The connection, which tells an end from a reset.
        asked: How the attempt went so far; what the caller's hook raises is noted there.
    """
    if not file.continued_by(response.status, response.headers):
        if request.policy.replay != "accept_double_billing" or response.status != 200:
            return Failure(Fault.NOT_CONTINUED, status=response.status)
        file.begin_anew()
    chunks = _chunks(response, request.policy.stall_timeout)
    if packing := packing_of(response.headers):
        chunks = unpacked(_whole(b"", chunks, response, protocol), packing)
    first = b"" if file.received else await _first_of(chunks)
    headers = _kept(response, request.key)
    if len(first) <= LONGEST_REFUSAL and _is_refusal(first):
        return Reply(response.status, headers, _hidden(request.key, first))
    receiving = Transfer(file.total, asked.attempt, request.on_progress)
    receiving.sent = file.received
    try:
        await file.save(_whole(first, chunks, response, protocol), receiving)
    finally:
        asked.failure = receiving.failure
    return Saved(file.destination, file.received, response.content_type, response.status, headers)


async def _chunks(response: aiohttp.ClientResponse, stall_timeout: float) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(stall_timeout):
            chunk = await response.content.readany()
        if not chunk:
            return
        yield chunk


async def _first_of(chunks: AsyncIterator[bytes]) -> bytes:
    """Return the beginning of a file: all of it, or more than any refusal has."""
    first = b""
    async for chunk in chunks:
        first += chunk
        if len(first) > LONGEST_REFUSAL or first[:1] not in (b"{", b"<"):
            break
    return first


async def _whole(
    first: bytes,
    chunks: AsyncIterator[bytes],
    response: aiohttp.ClientResponse,
    protocol: ResponseHandler | None,
) -> AsyncIterator[bytes]:
    """Yield a file's bytes, and raise where it was cut off before its end."""
    if first:
        yield first
    async for chunk in chunks:
        yield chunk
    framed = response.content_length is not None or "chunked" in response.headers.get(
        "Transfer-Encoding", ""
    )
    # What has no length ends with its connection; a reset is no end, which aiohttp takes it for.
    if not framed and protocol is not None and isinstance(protocol.exception(), OSError):
        raise aiohttp.ClientPayloadError("reset before the end of a file of unknown length")


def _is_refusal(body: bytes) -> bool:
    """Tell whether a small answer is an error or a page, whatever its type says."""
    if body[:1] == b"<":
        return body[:200].lower().startswith((b"<!doctype html", b"<html"))
    try:
        said: object = _json.loads(body)
    except _json.JSONDecodeError:
        return False
    fields = cast("dict[str, object]", said) if isinstance(said, dict) else {}
    return not {"code", "error", "msg", "message"}.isdisjoint(fields)


class TooLargeError(Exception):
    """The answer is larger than any that the service sends."""


async def reply(
    response: aiohttp.ClientResponse, key: Secret | None, *, still_packed: bool = False
) -> Reply:
    """Read a whole answer; should it echo the key, no message, log or traceback will know.

    Args:
        response: The answer, whose head has come.
        key: What to hide in it.
        still_packed: Whether it comes as it was sent, as what a download is answered with does:
            aiohttp unpacks all others. Where it cannot be unpacked, an error's status says enough.
    """
    following: Callable[[], Awaitable[bytes]] = response.content.readany
    if still_packed and (packing := packing_of(response.headers)):
        pieces = unpacked(response.content.iter_any(), packing)
        following = functools.partial(anext, pieces, b"")
    try:
        body = await _read(following)
    except PackedError:
        if response.status < 400:
            raise
        body = b""
    return Reply(response.status, _kept(response, key), _hidden(key, body))


async def _read(following: Callable[[], Awaitable[bytes]]) -> bytes:
    """Read an answer, unpacked as it comes, up to the cap: a few KB may unpack to gigabytes."""
    read: list[bytes] = []
    size = 0
    while chunk := await following():
        read.append(chunk)
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise TooLargeError
    return b"".join(read)  # most answers come in one, which is not copied


def _hidden(key: Secret | None, body: bytes) -> bytes:
    return body if key is None else key.hide(body)


_KEPT_HEADERS = frozenset(
    {
        "age",
        "content-length",
        "content-type",
        "date",
        "deprecation",
        "retry-after",
        "server",
        "sunset",
        "traceparent",
        "via",
        "x-correlation-id",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-request-id",
        "x-trace-id",
    }
)
"""What of an answer's headers means something to whoever looks for a fault, and is no secret."""


def _kept(response: aiohttp.ClientResponse, key: Secret | None) -> dict[str, str]:
    kept = {
        name: value
        for full_name, value in response.headers.items()
        if (name := full_name.lower()) in _KEPT_HEADERS
    }
    said = "\n".join(kept.values())
    if said.isascii() and (key is None or failures.hidden(key, said) == said):
        return kept
    return {name: failures.hidden(key, failures.readable(value)) for name, value in kept.items()}
