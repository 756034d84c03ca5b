"""One exchange at a time over aiohttp, and what its failures mean."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import ssl
import struct
import sys
import urllib.request
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import attrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter
from yarl import URL

from memories_async._engine.body import Recipe
from memories_async._engine.request import Request, State
from memories_async._engine.sessions import Sessions
from memories_async._engine.writer import Share, Transfer, write
from memories_async.config import Secret, Settings, is_loopback

LARGEST_ANSWER = 16 * 1024 * 1024


class Fault(enum.Enum):
    """Why no answer came."""

    DNS = "the host name did not resolve"
    CERTIFICATE = "the server's certificate or TLS version was refused"
    CONNECT = "no connection could be made"
    CONNECT_TIMEOUT = "the connection was not established in time"
    STALLED = "the peer stopped accepting bytes"
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
    """What one client sends requests through."""

    def __init__(self, settings: Settings, ssl_context: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._sessions = Sessions(settings.max_connections, ssl_context)
        self._proxy_of = functools.cache(_proxy_from_environment)
        self._url_of = functools.cache(URL)

    async def exchange(
        self,
        request: Request[Any],
        recipe: Recipe | None,
        transfer: Transfer,
        share: Share,
        within: float | None,
    ) -> Reply | Failure:
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
        payload = None if recipe is None else _Payload(recipe, transfer, share, request)
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
        self, request: Request[Any], payload: _Payload | None
    ) -> aiohttp.ClientResponse:
        operation = request.operation
        url = self._url_of(self._settings.origin(operation.service) + operation.path)
        if payload is None and request.fields:
            url = url.with_query({name: str(value) for name, value in request.fields.items()})
        headers: dict[str, str] = {
            "Authorization": _HeaderKey(self._settings.key(operation.service).reveal()),
            "Accept": "application/json",
        }
        if payload is not None:
            headers["Content-Type"] = payload.recipe.content_type
        return await (await self._sessions.current()).request(
            operation.method,
            url,
            data=payload,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy_of(self._settings.origin(operation.service)),
            timeout=_connect_timeout(request.policy.connect_timeout),
        )

    async def aclose(self) -> None:
        """Close the connections."""
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


class _AnswerTooLargeError(Exception):
    pass


async def _reply(response: aiohttp.ClientResponse, key: Secret) -> Reply:
    """Read a whole answer; should it echo the key, no message, log or traceback will know."""
    headers = {
        name: key.hide(value.encode()).decode()
        for name in ("content-type", "retry-after")
        if (value := response.headers.get(name)) is not None
    }
    return Reply(response.status, headers, key.hide(await _read(response)))


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
)


def _read_failure(error: Exception, key: Secret) -> Failure:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    # aiohttp quotes what it could not parse, over several lines and at any length.
    quoted = key.hide(str(cause).encode("utf-8", "replace")).decode()
    detail = " ".join(f"{type(cause).__name__}: {quoted}".split())[:200]
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        # The handshake was cut, which says nothing against the certificate.
        connecting = isinstance(error, aiohttp.ClientConnectorError)
        return Failure(Fault.CONNECT if connecting else Fault.LOST, detail)
    for kind, fault in _FAULTS:
        if isinstance(error, kind):
            return Failure(fault, detail)
    return Failure(Fault.LOST, detail)


class _Payload(aiohttp.Payload):
    """Hands our writer to aiohttp, and watches that the peer keeps accepting bytes."""

    _autoclose = True

    def __init__(
        self, recipe: Recipe, transfer: Transfer, share: Share, request: Request[Any]
    ) -> None:
        super().__init__(recipe, content_type=recipe.content_type)
        self.recipe = recipe
        self.stalled = False
        self._size = recipe.length
        self._transfer = transfer
        self._share = share
        self._stall_timeout = request.policy.stall_timeout
        self._task: asyncio.Task[object] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._draining = False
        self._seen: tuple[int, ...] = ()
        self._moved_at = 0.0
        self._tick: asyncio.TimerHandle | None = None
        self._finished = asyncio.Event()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Refuse: a body may be gigabytes."""
        raise TypeError("a streamed body is no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the whole body."""
        await self.write_with_length(writer, None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write the whole body; aiohttp calls this in a task of its own."""
        self._task = asyncio.current_task()
        stream = cast("StreamWriter", writer)
        transport = stream.transport
        sink = _Sink(stream, self)
        try:
            if transport is None or transport.is_closing():
                raise aiohttp.ClientConnectionResetError("closed before the first byte")
            self._transport = transport
            # (0, 0) with drain() hangs over TLS; (1, 0) does not, and its drain means "all taken".
            transport.set_write_buffer_limits(high=1, low=0)
            await write(self.recipe, sink, self._transfer, self._share)
        except (aiohttp.ClientError, ConnectionError):
            raise
        except Exception as error:
            self._transfer.failure = error
            raise
        finally:
            if self._tick is not None:
                self._tick.cancel()
            self._finished.set()

    async def accept(self, writer: StreamWriter, data: bytes | memoryview) -> None:
        """Hand over bytes and wait until the transport has taken them all."""
        await writer.write(data, drain=False)
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size():
            if self._tick is None:
                self._watch(asyncio.get_running_loop())
            self._draining = True
            try:
                await writer.drain()
            finally:
                self._draining = False

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Abort the connection once nothing has moved for the stall time."""
        seen = self._position()
        if not self._draining or seen != self._seen:
            self._seen, self._moved_at = seen, loop.time()
        elif loop.time() - self._moved_at >= self._stall_timeout:
            self.stalled = True
            self._abort()
            return
        self._tick = loop.call_later(self._stall_timeout / 8, self._watch, loop)

    def _position(self) -> tuple[int, ...]:
        transport = self._transport
        if transport is None:
            return ()
        return (
            self._transfer.sent,
            transport.get_write_buffer_size(),
            _unacknowledged(transport.get_extra_info("socket")),
        )

    def _abort(self) -> None:
        if self._transport is not None:
            # asyncio's transport fails where it was closed with bytes left and has sent them.
            with contextlib.suppress(AttributeError):
                self._transport.abort()

    async def stop(self) -> None:
        """End a write that is still under way: cancelled, or answered before its end."""
        if self._task is not None and not self._finished.is_set():
            self._abort()
            self._task.cancel()
            await self._finished.wait()


@attrs.frozen
class _Sink:
    """The connection as our writer sees it."""

    writer: StreamWriter
    payload: _Payload

    async def write(self, data: bytes | memoryview) -> None:
        await self.payload.accept(self.writer, data)


def _unacknowledged(socket: object) -> int:
    """Return how many bytes the peer has not acknowledged yet, where the system says so.

    A peer that reads a kilobyte a second opens its window so rarely that our own buffers may
    stand still for minutes; this number still moves.
    """
    if sys.platform != "linux" or socket is None:
        return 0
    import fcntl
    import termios

    answer = bytearray(4)
    try:
        fcntl.ioctl(cast("int", socket), termios.TIOCOUTQ, answer)
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])
