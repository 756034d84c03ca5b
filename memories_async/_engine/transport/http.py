"""One exchange of a request for its answer, and what its failures mean."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import attrs
from yarl import URL

from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.layout import Recipe
from memories_async._engine.body.writer import Transfer
from memories_async._engine.request import Request, State
from memories_async._engine.transport.downloads import save
from memories_async._engine.transport.payload import Payload
from memories_async._engine.transport.sessions import Sessions
from memories_async.config import Secret, Settings, is_loopback
from memories_async.operations import Service

LARGEST_ANSWER = 16 * 1024 * 1024


class Fault(enum.Enum):
    """Why no answer came."""

    DNS = "the host name did not resolve"
    CERTIFICATE = "the server's certificate or TLS version was refused"
    CONNECT = "no connection could be made"
    CONNECT_TIMEOUT = "the connection was not established in time"
    STALLED = "the peer stopped moving bytes"
    LOST = "the connection was lost"
    NOT_HTTP = "what came back is not HTTP"
    TIMED_OUT = "time ran out"
    TOO_LARGE = "the answer is too large"


@attrs.frozen
class Failure:
    """No usable answer.

    Attributes:
        fault: What went wrong.
        detail: What the library below said, in one line.
        status: The HTTP status, if the answer had begun.
    """

    fault: Fault
    detail: str = ""
    status: int | None = None


@attrs.frozen
class Saved:
    """A whole answer that is a file, and lies where it was asked for."""

    path: str
    size: int
    content_type: str


@attrs.frozen
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


_AT_ONCE: contextlib.nullcontext[None] = contextlib.nullcontext()


class _HeaderKey(str):
    """A key in a header: itself on the wire, masked where a traceback shows local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class Http:
    """What one client sends requests through."""

    def __init__(self, settings: Settings, ssl_context: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._sessions = Sessions(settings.max_connections, ssl_context)
        self._proxy_of = functools.lru_cache(16)(_proxy_from_environment)
        self._url_of = functools.lru_cache(256)(URL)

    async def exchange(
        self,
        request: Request[Any],
        recipe: Recipe | None,
        transfer: Transfer,
        budget: UploadBudget,
        within: float | None,
    ) -> Reply | Saved | Failure:
        """Send one request and read its answer; never raises for what the network does.

        Args:
            request: What to ask.
            recipe: Its body.
            transfer: Where to note how far it got.
            budget: What all uploads share.
            within: Seconds until the caller's deadline.
        """
        ends = None if within is None else asyncio.get_running_loop().time() + within
        here = await self._sessions.current()
        try:
            async with asyncio.timeout_at(ends) if here.places.locked() else _AT_ONCE:
                await here.places.acquire()
        except TimeoutError:
            return Failure(Fault.TIMED_OUT)
        try:
            return await self._exchange(here.session, request, recipe, transfer, budget, ends)
        finally:
            here.places.release()

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        request: Request[Any],
        recipe: Recipe | None,
        transfer: Transfer,
        budget: UploadBudget,
        ends: float | None,
    ) -> Reply | Saved | Failure:
        loop = asyncio.get_running_loop()
        payload = None if recipe is None else Payload(recipe, transfer, budget, request)
        failure = Failure(Fault.LOST)
        key = self._settings.key(request.operation.service)
        scope = asyncio.timeout_at(ends)

        def await_answer() -> None:
            answer_by = loop.time() + request.policy.answer_timeout
            scope.reschedule(answer_by if ends is None else min(answer_by, ends))

        transfer.on_sent = await_answer
        response: aiohttp.ClientResponse | None = None
        try:
            async with scope:
                if payload is None:
                    transfer.whole()
                response = await self._request(session, request, payload)
                if request.destination is not None and _is_file(response):
                    scope.reschedule(ends)  # a long download is no late answer
                    return await _save(response, request.destination, request, transfer, budget)
                return await _reply(response, key)
        except _AnswerTooLargeError:
            failure = Failure(Fault.TOO_LARGE)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # aiohttp's own exceptions hold the request's headers, so none of them goes further:
            # what matters is copied, and the caller's exception is raised outside this handler.
            if scope.expired():
                failure = Failure(Fault.TIMED_OUT)
            elif payload is not None and payload.stalled:
                failure = Failure(Fault.STALLED)
            else:
                failure = _read_failure(error, key)
        except asyncio.CancelledError as error:
            if transfer.state is State.SENT:
                error.add_note(
                    f"{request.operation}: cancelled after the whole request had been sent; "
                    "it may have been billed"
                )
            raise
        finally:
            if payload is not None:
                await payload.stop()
            if response is not None:
                response.release()
        return attrs.evolve(failure, status=response.status if response else None)

    async def _request(
        self, session: aiohttp.ClientSession, request: Request[Any], payload: Payload | None
    ) -> aiohttp.ClientResponse:
        operation = request.operation
        key = self._settings.key(operation.service)
        if operation.service is Service.STORAGE:
            address = str(request.fields["signed_url"])
            url = URL(address, encoded=True)
        else:
            address = self._settings.origin(operation.service)
            url = self._url_of(address + request.path())
        if query := request.query():
            url = url.with_query(query)
        headers: dict[str, str] = {"Accept": "application/json"}
        if request.destination:  # packed, its length would not be what progress counts
            headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = _HeaderKey(key.reveal())
        if payload is not None:
            headers["Content-Type"] = payload.recipe.content_type
        return await session.request(
            operation.method,
            url,
            data=payload,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy_of(_origin_of(address)),
            timeout=_connect_timeout(request.policy.connect_timeout),
        )

    async def aclose(self) -> None:
        """Close the connections of this loop, and those of loops that still run elsewhere."""
        await self._sessions.aclose()


@functools.cache
def _connect_timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=None, sock_connect=seconds, sock_read=None)


def _proxy_from_environment(origin: str) -> str | None:
    parts = urlsplit(origin)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _origin_of(address: str) -> str:
    return "/".join(address.split("/", 3)[:3])


def _is_file(response: aiohttp.ClientResponse) -> bool:
    # JSON is a refusal, and a page comes from something that stands between us and the service.
    kind = response.content_type
    return response.status == 200 and "json" not in kind and kind != "text/html"


async def _save(
    response: aiohttp.ClientResponse,
    destination: str,
    request: Request[Any],
    transfer: Transfer,
    budget: UploadBudget,
) -> Saved:
    receiving = Transfer(response.content_length, transfer.attempt, request.on_progress)
    chunks = _chunks(response, request.policy.stall_timeout)
    size = await save(chunks, destination, receiving, budget)
    return Saved(destination, size, response.content_type)


async def _chunks(response: aiohttp.ClientResponse, stall_timeout: float) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(stall_timeout):
            chunk = await response.content.readany()
        if not chunk:
            return
        yield chunk


class _AnswerTooLargeError(Exception):
    pass


def _hidden(key: Secret | None, data: bytes) -> bytes:
    return data if key is None else key.hide(data)


async def _reply(response: aiohttp.ClientResponse, key: Secret | None) -> Reply:
    """Read a whole answer; should it echo the key, no message, log or traceback will know."""
    headers = {
        name: _hidden(key, value.encode()).decode()
        for name in ("content-type", "retry-after")
        if (value := response.headers.get(name)) is not None
    }
    return Reply(response.status, headers, _hidden(key, await _read(response)))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer, unpacked as it comes, up to the cap: a few KB may unpack to gigabytes."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise _AnswerTooLargeError
    return bytes(body)


_FAULTS: tuple[tuple[type[BaseException], Fault], ...] = (
    (aiohttp.ClientConnectorDNSError, Fault.DNS),
    (aiohttp.ClientConnectorCertificateError, Fault.CERTIFICATE),
    (aiohttp.ClientConnectorSSLError, Fault.CERTIFICATE),
    (aiohttp.ConnectionTimeoutError, Fault.CONNECT_TIMEOUT),
    (aiohttp.ClientProxyConnectionError, Fault.CONNECT),
    (aiohttp.ClientHttpProxyError, Fault.CONNECT),
    (aiohttp.ClientConnectorError, Fault.CONNECT),
    (aiohttp.ClientResponseError, Fault.NOT_HTTP),
    (TimeoutError, Fault.STALLED),
)


def _read_failure(error: Exception, key: Secret | None) -> Failure:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    # aiohttp quotes what it could not parse, over several lines and at any length.
    quoted = _hidden(key, str(cause).encode("utf-8", "replace")).decode()
    detail = " ".join(f"{type(cause).__name__}: {quoted}".split())[:200]
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        # The handshake was cut, which says nothing against the certificate.
        connecting = isinstance(error, aiohttp.ClientConnectorError)
        return Failure(Fault.CONNECT if connecting else Fault.LOST, detail)
    for kind, fault in _FAULTS:
        if isinstance(error, kind):
            return Failure(fault, detail)
    return Failure(Fault.LOST, detail)
