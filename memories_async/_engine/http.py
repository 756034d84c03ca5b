"""One aiohttp session per event loop, one exchange at a time, and what its failures mean."""

from __future__ import annotations

import asyncio
import enum
import functools
import os
import ssl
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import aiohttp
import attrs
from yarl import URL

from memories_async._engine.body import Recipe
from memories_async._engine.payload import Payload
from memories_async._engine.request import Request, State
from memories_async._engine.saving import save
from memories_async._engine.writer import Share, Transfer
from memories_async._version import __version__
from memories_async.config import Secret, Settings, is_loopback
from memories_async.errors import ClosedError
from memories_async.operations import Service

LARGEST_ANSWER = 16 * 1024 * 1024
IDLE_CONNECTION = 2.0
"""Seconds: a connection that rests longer may be closed under the next billed call."""

USER_AGENT = f"memories-async/{__version__} aiohttp/{aiohttp.__version__}"


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


class _HeaderKey(str):
    """A key in a header: itself on the wire, masked where a traceback shows local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class Http:
    """The client's connections: a session for each event loop that it is used from."""

    def __init__(self, settings: Settings, ssl_context: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._ssl_context = ssl_context
        self._open: dict[asyncio.AbstractEventLoop, _Open] = {}
        self._closed = False
        self._proxy_of = functools.lru_cache(16)(_proxy_from_environment)
        self._url_of = functools.lru_cache(256)(URL)

    async def exchange(
        self,
        request: Request[Any],
        recipe: Recipe | None,
        transfer: Transfer,
        share: Share,
        within: float | None,
    ) -> Reply | Saved | Failure:
        """Send one request and read its answer; never raises for what the network does.

        Args:
            request: What to ask.
            recipe: Its body.
            transfer: Where to note how far it got.
            share: What uploads share.
            within: Seconds until the caller's deadline.
        """
        loop = asyncio.get_running_loop()
        ends = None if within is None else loop.time() + within
        payload = None if recipe is None else Payload(recipe, transfer, share, request)
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
                response = await self._request(request, payload)
                if request.destination is not None and _is_file(response):
                    scope.reschedule(ends)  # a long download is no late answer
                    return await _save(response, request.destination, request, transfer, share)
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
        self, request: Request[Any], payload: Payload | None
    ) -> aiohttp.ClientResponse:
        operation = request.operation
        address, key = self._settings.origin(operation.service), None
        if operation.service is Service.STORAGE:
            address = str(request.fields["signed_url"])
            url = URL(address, encoded=True)
        else:
            url = self._url_of(address + request.path())
            key = self._settings.key(operation.service)
        if query := request.query():
            url = url.with_query(query)
        headers = {"Accept": "application/json"}
        if request.destination:  # packed, its length would not be what progress counts
            headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = _HeaderKey(key.reveal())
        if payload is not None:
            headers["Content-Type"] = payload.recipe.content_type
        return await (await self._session()).request(
            operation.method,
            url,
            data=payload,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy_of(_origin_of(address)),
            timeout=_connect_timeout(request.policy.connect_timeout),
        )

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        opened = self._open.get(loop)
        if opened is None or opened.session.closed:
            if self._closed:
                raise ClosedError("the client was closed while the call was under way")
            self._forget_ended_loops()
            session = self._new_session()
            opened = self._open[loop] = _Open(session, _until_the_loop_ends(session))
            _ALL_OPEN.add(opened)
            await anext(opened.life)
        return opened.session

    def _new_session(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=_Connector(
                limit=self._settings.max_connections,
                keepalive_timeout=IDLE_CONNECTION,
                ssl=self._ssl_context or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT},
            # Proxies are looked up here; aiohttp's trust_env would also read ~/.netrc, and
            # what stands there must never replace the key.
            trust_env=False,
        )
        # aiohttp would send a free read a second time by itself, and no attempt would count it.
        session._retry_connection = False  # pyright: ignore[reportPrivateUsage]
        return session

    def _forget_ended_loops(self) -> None:
        for loop in [loop for loop in self._open if loop.is_closed()]:
            self._open.pop(loop).abandon()

    async def aclose(self) -> None:
        """Close the connections of this loop, and those of loops that still run elsewhere."""
        self._closed = True
        self._forget_ended_loops()
        here = asyncio.get_running_loop()
        for loop, opened in list(self._open.items()):
            if loop is here:
                await opened.life.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(opened.session.close(), loop)
        self._open.clear()


class _Connector(aiohttp.TCPConnector):
    """Connections that are left alone once the loop that they belong to is out of reach."""

    abandoned = False

    def __del__(self, *arguments: Any) -> None:
        if not self.abandoned:
            super().__del__(*arguments)


@attrs.define(eq=False)
class _Open:
    """A session, and what closes it when its loop ends."""

    session: aiohttp.ClientSession
    life: AsyncGenerator[None, None]

    def abandon(self) -> None:
        """Give the session up without touching its loop, which has ended or is another process's.

        Closing it would wake a closed loop or, after a fork, take the parent's sockets out of the
        set that both processes watch.
        """
        if isinstance(connector := self.session.connector, _Connector):
            connector.abandoned = True
        self.session.detach()


async def _until_the_loop_ends(session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    """Close a session when its loop shuts its generators down, as ``asyncio.run`` does at the end.

    So a client may be used in one ``asyncio.run`` after another, closed or not.
    """
    try:
        yield
    finally:
        await session.close()


_ALL_OPEN: WeakSet[_Open] = WeakSet()


def _abandon_inherited() -> None:
    for opened in list(_ALL_OPEN):
        opened.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_inherited)


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


class _AnswerTooLargeError(Exception):
    pass


async def _reply(response: aiohttp.ClientResponse, key: Secret | None) -> Reply:
    """Read a whole answer; should it echo the key, no message, log or traceback will know."""
    headers = {
        name: _without(key, value.encode()).decode()
        for name in ("content-type", "retry-after")
        if (value := response.headers.get(name)) is not None
    }
    return Reply(response.status, headers, _without(key, await _read(response)))


def _without(key: Secret | None, data: bytes) -> bytes:
    return data if key is None else key.hide(data)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer, unpacked as it comes, up to the cap: a few KB may unpack to gigabytes."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise _AnswerTooLargeError
    return bytes(body)


def _is_file(response: aiohttp.ClientResponse) -> bool:
    # JSON is a refusal, and a page comes from something that stands between us and the service.
    kind = response.content_type
    return response.status == 200 and "json" not in kind and kind != "text/html"


async def _save(
    response: aiohttp.ClientResponse,
    destination: str,
    request: Request[Any],
    transfer: Transfer,
    share: Share,
) -> Saved:
    receiving = Transfer(response.content_length, transfer.attempt, request.on_progress)
    chunks = _chunks(response, request.policy.stall_timeout)
    size = await save(chunks, destination, receiving, share)
    return Saved(destination, size, response.content_type)


async def _chunks(response: aiohttp.ClientResponse, stall_timeout: float) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(stall_timeout):
            chunk = await response.content.readany()
        if not chunk:
            return
        yield chunk


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
    quoted = _without(key, str(cause).encode("utf-8", "replace")).decode()
    detail = " ".join(f"{type(cause).__name__}: {quoted}".split())[:200]
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        # The handshake was cut, which says nothing against the certificate.
        connecting = isinstance(error, aiohttp.ClientConnectorError)
        return Failure(Fault.CONNECT if connecting else Fault.LOST, detail)
    for kind, fault in _FAULTS:
        if isinstance(error, kind):
            return Failure(fault, detail)
    return Failure(Fault.LOST, detail)
