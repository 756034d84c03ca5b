"""One exchange of a request for its answer: connect, send, await, each under a limit of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import attrs
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.writer import Transfer, write
from memories_async._engine.request import Request, State, origin_of
from memories_async._engine.transport import failures
from memories_async._engine.transport.downloads import save
from memories_async._engine.transport.failures import Failure, Fault
from memories_async._engine.transport.payload import Connection, Payload
from memories_async._engine.transport.sessions import EXCHANGE, Sessions, is_quiet
from memories_async.addresses import Proxy
from memories_async.config import Secret, Settings
from memories_async.operations import Replay

LARGEST_ANSWER = 16 * 1024 * 1024


@attrs.frozen
class Saved:
    """A whole answer that is a file, and lies where it was asked for."""

    path: str
    size: int
    content_type: str
    status: int
    headers: Mapping[str, str]


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


class _HeaderSecret(str):
    """A key or password in a header: itself on the wire, masked where local variables are shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class Http:
    """What one client sends requests through: its connections, and what its uploads share."""

    def __init__(self, settings: Settings, ssl_context: ssl.SSLContext | None = None) -> None:
        self.budget = UploadBudget()
        self._sessions = Sessions(settings.max_connections, ssl_context)
        self._proxy_for = functools.lru_cache(16)(settings.proxy_for)

    async def exchange(
        self,
        request: Request[Any],
        transfer: Transfer,
        *,
        within: float | None,
        before_first_byte: Callable[[], Awaitable[object]],
    ) -> Reply | Saved | Failure:
        """Send one request and read its answer; what the network does is returned, not raised.

        Args:
            request: What to ask of whom.
            transfer: Where to note how far it got.
            within: Seconds until the caller's deadline.
            before_first_byte: Awaited once, with the connection at hand. What it raises ends the
                exchange with nothing sent, as does what the source or the caller's hook raises.
        """
        ends = None if within is None else asyncio.get_running_loop().time() + within
        here = await self._sessions.current()
        try:
            async with asyncio.timeout_at(ends) if here.places.locked() else _AT_ONCE:
                await here.places.acquire()
        except TimeoutError:
            return Failure(Fault.TIMED_OUT)
        try:
            exchange = _Exchange(request, transfer, self.budget, ends, before_first_byte)
            return await exchange.run(here.session, self._proxy_for(origin_of(request.url)))
        finally:
            here.places.release()

    async def aclose(self) -> None:
        """Close the connections of this loop, those of loops that run elsewhere, and threads."""
        await self._sessions.aclose()
        self.budget.close()


@attrs.define(eq=False)
class _Exchange:
    """One request on its way: its steps in the order in which they come."""

    request: Request[Any]
    transfer: Transfer
    budget: UploadBudget
    ends: float | None
    before_first_byte: Callable[[], Awaitable[object]]
    scope: asyncio.Timeout = attrs.field(init=False)
    payload: Payload | None = None
    connected: bool = False

    async def run(
        self, session: aiohttp.ClientSession, proxy: Proxy | None
    ) -> Reply | Saved | Failure:
        request, transfer = self.request, self.transfer
        if request.body is not None:
            self.payload = Payload(request.body, self.send_body, request.policy.stall_timeout)
        failure = Failure(Fault.LOST)
        response: aiohttp.ClientResponse | None = None
        self.scope = asyncio.timeout_at(self.ends)
        token = EXCHANGE.set(self)
        try:
            async with self.scope:
                # Within this: connecting(), ready(), send_body(), then the answer's head.
                response = await session.request(
                    request.operation.method,
                    URL(request.url, encoded=True),
                    data=self.payload,
                    headers=_headers(request, proxy),
                    allow_redirects=False,
                    proxy=None if proxy is None else proxy.address,
                    proxy_headers=_login(proxy),
                    timeout=_NO_TIMEOUT,
                )
                return await self.receive(response)
        except _AnswerTooLargeError:
            failure = Failure(Fault.TOO_LARGE)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # aiohttp's own exceptions hold the request's headers, so none of them goes further:
            # what matters is copied, and the caller's exception is raised outside this handler.
            failure = self._failure(error)
        except asyncio.CancelledError as error:
            self._note(error)
            raise
        finally:
            EXCHANGE.reset(token)
            if (payload := self.payload) is not None:
                await payload.stop()
                if payload.cut:
                    transfer.state = min(transfer.state, State.PARTIAL)
                self.payload = None  # each holds the other: the collector would have to come
            if response is not None:
                response.release()
        if transfer.failure is not None:
            self._note(transfer.failure)
            raise transfer.failure
        return attrs.evolve(failure, status=response.status if response else None)

    def connecting(self) -> None:
        """A connection is being made: a name looked up, a proxy asked, TLS agreed on."""
        self._limit(self.request.policy.connect_timeout)

    async def ready(self, protocol: ResponseHandler) -> bool:
        """Take the last step before the first byte; tell whether this connection will do.

        The connector asks, with a connection at hand: perhaps again, should it have died meanwhile.
        """
        self._limit(None)
        if not self.connected:
            self.connected = True
            try:
                await self.before_first_byte()
            except Exception as error:
                self.transfer.failure = error
                raise aiohttp.ClientConnectionError("not to be sent") from None
        if not is_quiet(protocol):
            return False
        if self.payload is None:
            self.transfer.whole()
            self._limit(self.request.policy.answer_timeout)
        return True

    async def send_body(self, connection: Connection) -> None:
        """Write the body; from its last byte on the peer owes the answer."""
        body = self.request.body
        assert body is not None
        try:
            await write(body, connection, self.transfer, self.budget, connection.piece)
        except (aiohttp.ClientError, ConnectionError):
            raise
        except Exception as error:
            self.transfer.failure = error
            raise
        if body.length is None and connection.answered:
            await connection.hold()  # what ends a chunked body has not been written
        self._limit(self.request.policy.answer_timeout)

    async def receive(self, response: aiohttp.ClientResponse) -> Reply | Saved | Failure:
        """Read the answer, whose head has come."""
        request = self.request
        if request.destination is not None and _is_file(response):
            self._limit(None)  # a long download is no late answer
            return await _save(response, request.destination, request, self.transfer, self.budget)
        return await _reply(response, request.key)

    def _limit(self, seconds: float | None) -> None:
        """Let the step that begins now take so long, and never longer than the caller waits."""
        if self.scope.expired():
            return
        by = self.ends
        if seconds is not None:
            by = asyncio.get_running_loop().time() + seconds
            by = by if self.ends is None else min(by, self.ends)
        if by != self.scope.when():
            self.scope.reschedule(by)

    def _failure(self, error: Exception) -> Failure:
        if self.scope.expired():
            late = self.ends is not None and asyncio.get_running_loop().time() >= self.ends
            return Failure(Fault.TIMED_OUT if late or self.connected else Fault.CONNECT_TIMEOUT)
        if self.payload is not None and self.payload.stalled:
            return Failure(Fault.STALLED)
        return failures.read(error, self.request.key)

    def _note(self, error: BaseException) -> None:
        billed = self.request.operation.replay is not Replay.FREE_READ
        if billed and self.transfer.state is State.SENT:
            error.add_note(
                f"{self.request.operation}: ended after the whole request had been sent; "
                "it may have been billed"
            )


_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


def _headers(request: Request[Any], proxy: Proxy | None) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    if request.destination:  # packed, its length would not be what progress counts
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if request.headers:
        own = {name.lower() for name in request.headers}
        headers = {name: value for name, value in headers.items() if name.lower() not in own}
        headers |= request.headers
    if request.key is not None:
        headers["Authorization"] = _HeaderSecret(request.key.reveal())
    if request.body is not None:
        headers["Content-Type"] = request.body.content_type
    if proxy is not None and not request.url.startswith("https:"):
        headers |= _login(proxy)  # in the clear there is no tunnel: the proxy reads the request
    return headers


def _login(proxy: Proxy | None) -> dict[str, str]:
    if proxy is None or proxy.login is None:
        return {}
    return {"Proxy-Authorization": _HeaderSecret(proxy.login)}


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
    headers = _kept(response, request.key)
    return Saved(destination, size, response.content_type, response.status, headers)


async def _chunks(response: aiohttp.ClientResponse, stall_timeout: float) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(stall_timeout):
            chunk = await response.content.readany()
        if not chunk:
            return
        yield chunk


class _AnswerTooLargeError(Exception):
    pass


async def _reply(response: aiohttp.ClientResponse, key: Secret | None) -> Reply:
    """Read a whole answer; should it echo the key, no message, log or traceback will know."""
    headers = _kept(response, key)
    body = await _read(response)
    return Reply(response.status, headers, body if key is None else key.hide(body))


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
    return {
        name: failures.hidden(key, failures.readable(value))
        for full_name, value in response.headers.items()
        if (name := full_name.lower()) in _KEPT_HEADERS
    }


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer, unpacked as it comes, up to the cap: a few KB may unpack to gigabytes."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise _AnswerTooLargeError
    return bytes(body)
