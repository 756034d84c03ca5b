"""One exchange of a request for its answer: connect, send, await, each under a limit of its own."""

from __future__ import annotations

import asyncio
import base64
import functools
import ssl
from typing import Any, Protocol

import aiohttp
import attrs
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.writer import Transfer, write
from memories_async._engine.request import Request, State
from memories_async._engine.transport import answers, failures
from memories_async._engine.transport.answers import Reply, Saved
from memories_async._engine.transport.failures import Failure, Fault
from memories_async._engine.transport.packed import PackedError
from memories_async._engine.transport.payload import Connection, Payload
from memories_async._engine.transport.sessions import Sessions, Unlimited, is_quiet
from memories_async.addresses import Proxy
from memories_async.config import Settings
from memories_async.errors import ClosedError, MemoriesError
from memories_async.operations import Replay
from memories_async.secret import Secret


class _HeaderSecret(str):
    """A key or password in a header: itself on the wire, masked where local variables are shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class Departure(Protocol):
    """What a request asks before it leaves."""

    @property
    def stale(self) -> bool:
        """Whether what was confirmed no longer holds, as the first byte is about to leave."""
        ...

    async def confirm(self) -> None:
        """Have the request counted; again, should its connection have died meanwhile."""
        ...

    async def renew(self) -> None:
        """Have it counted anew: its first byte leaves as soon as this returns."""
        ...

    def leave(self) -> None:
        """Note that it leaves, by a connection that has stood until now."""
        ...


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
        departure: Departure,
    ) -> Reply | Saved | Failure:
        """Send one request and read its answer; what the network does is returned, not raised.

        Args:
            request: What to ask of whom.
            transfer: Where to note how far it got.
            within: Seconds until the caller's deadline.
            departure: Asked with the connection at hand. What it raises ends the exchange with
                nothing sent, as does what the source or the caller's hook raises.
        """
        ends = None if within is None else asyncio.get_running_loop().time() + within
        here = await self._sessions.current()
        if ends is None:
            await here.permits.acquire()
        else:
            try:
                async with asyncio.timeout_at(ends):
                    await here.permits.acquire()
            except TimeoutError:
                return Failure(Fault.TIMED_OUT)
        try:
            exchange = _Exchange(request, transfer, self.budget, ends, departure)
            return await exchange.run(here.session, self._proxy_for(request.origin))
        except MemoriesError:
            raise
        except BaseException as error:  # cancelled, or what the caller's own hook or source raised
            _note_what_may_be_billed(error, request, transfer)
            raise
        finally:
            here.permits.release()

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
    departure: Departure
    scope: asyncio.Timeout = attrs.field(init=False)
    payload: Payload | None = None
    connected: bool = False
    protocol: ResponseHandler | None = None
    proxy: Proxy | None = None

    async def run(
        self, session: aiohttp.ClientSession, proxy: Proxy | None
    ) -> Reply | Saved | Failure:
        request, transfer = self.request, self.transfer
        self.proxy = proxy
        if request.body is not None:
            self.payload = Payload(request.body, self.send_body, request.policy.stall_timeout)
        failure = _LOST
        response: aiohttp.ClientResponse | None = None
        self.scope = asyncio.timeout_at(self.ends)
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
                    timeout=Unlimited(self),
                    auto_decompress=request.file is None,
                )
                return await self.receive(response)
        except answers.TooLargeError:
            failure = Failure(Fault.TOO_LARGE)
        except PackedError as error:
            failure = Failure(Fault.PACKED, str(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # aiohttp's own exceptions hold the request's headers, so none of them goes further:
            # what matters is copied, and the caller's exception is raised outside this handler.
            failure = self._failure(error)
        except RuntimeError:
            if not session.closed:
                raise
            raise ClosedError("the client was closed while the call was under way") from None
        finally:
            if (payload := self.payload) is not None:
                await payload.stop()
                if payload.cut:
                    transfer.state = min(transfer.state, State.PARTIAL)
                self.payload = None  # each holds the other: the collector would have to come
            if response is not None:
                response.release()
        if transfer.failure is not None:
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
        self.connected = True
        try:
            await self.departure.confirm()
            if quiet := is_quiet(protocol):
                if self.protocol is None:
                    self.departure.leave()
                self.protocol = protocol
                # An observer's disk may have taken long. What has a body looks when that leaves.
                if self.payload is None and self.departure.stale:
                    await self.departure.renew()
                    quiet = is_quiet(protocol)
        except Exception as error:
            self.transfer.failure = error
            raise aiohttp.ClientConnectionError("not to be sent") from None
        if not quiet:
            self.connected = False  # the next one takes its time: the call is counted anew then
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
            # aiohttp keeps the head back for the body's first piece: it leaves now, with it.
            if self.departure.stale:
                await self.departure.renew()
            await write(body, connection, self.transfer, self.budget, connection.piece)
        except (aiohttp.ClientError, ConnectionError):
            raise
        except BaseException as error:
            if _is_asked_for(error):
                raise
            self.transfer.failure = self.transfer.failure or error
            if isinstance(error, Exception):
                raise
            # Of anything else aiohttp, in whose task this runs, tells nobody: the call would wait
            # for an answer to half a request.
            raise RuntimeError("the caller's own code ended the writing") from error
        if body.length is None and connection.answered:
            await connection.hold()  # what ends a chunked body has not been written
        self._limit(self.request.policy.answer_timeout)

    async def receive(self, response: aiohttp.ClientResponse) -> Reply | Saved | Failure:
        """Read the answer, whose head has come."""
        request = self.request
        if request.file is None:
            reply = await answers.reply(response, request.key)
        elif answers.is_file(response):
            self._limit(None)  # a long download is no late answer
            return await answers.save(response, request, request.file, self.protocol, self.transfer)
        else:
            reply = await answers.reply(response, request.key, still_packed=True)
        for secret in _of_the_proxy(self.proxy):  # its own refusal may repeat what it was told
            reply = attrs.evolve(reply, body=secret.hide(reply.body))
        return reply

    def _limit(self, seconds: float | None) -> None:
        """Let the step that begins now take so long, and never longer than the caller waits."""
        by = self.ends
        if seconds is not None:
            by = asyncio.get_running_loop().time() + seconds
            by = by if self.ends is None else min(by, self.ends)
        if by != self.scope.when():
            # It fails where time is up already: the step is being cancelled. To ask for that first
            # would cost each call as much as a function or two.
            try:  # noqa: SIM105  # for the same reason
                self.scope.reschedule(by)
            except RuntimeError:
                pass

    def _failure(self, error: Exception) -> Failure:
        if self.scope.expired():
            late = self.ends is not None and asyncio.get_running_loop().time() >= self.ends
            return Failure(Fault.TIMED_OUT if late or self.connected else Fault.CONNECT_TIMEOUT)
        if self.payload is not None and self.payload.stalled:
            return Failure(Fault.STALLED)
        return failures.read(error, self.request.key, *_of_the_proxy(self.proxy))


def _is_asked_for(error: BaseException) -> bool:
    """Tell whether an error cancels this task; a source may raise a cancellation of its own."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _note_what_may_be_billed(
    error: BaseException, request: Request[Any], transfer: Transfer
) -> None:
    billed = request.operation.replay is not Replay.FREE_READ
    if billed and transfer.state is State.SENT:
        error.add_note(
            f"{request.operation}: ended after the whole request had been sent; "
            "it may have been billed"
        )


_LOST = Failure(Fault.LOST)


def _headers(request: Request[Any], proxy: Proxy | None) -> dict[str, str]:
    """Return what differs from the session's own; the type of a body comes with it."""
    headers: dict[str, str] = {}
    if request.file is not None:  # packed, its length would not be what progress counts
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", **request.file.headers()}
    if request.headers:
        own = {name.lower() for name in request.headers}
        headers = {name: value for name, value in headers.items() if name.lower() not in own}
        headers |= request.headers
    if request.key is not None:
        headers["Authorization"] = _HeaderSecret(request.key.reveal())
    if proxy is not None and request.url[:6].lower() != "https:":
        headers |= _login(proxy)  # in the clear there is no tunnel: the proxy reads the request
    return headers


def _login(proxy: Proxy | None) -> dict[str, str]:
    if proxy is None or proxy.login is None:
        return {}
    return {"Proxy-Authorization": _HeaderSecret(proxy.login)}


def _of_the_proxy(proxy: Proxy | None) -> tuple[Secret, ...]:
    """Return what must not be seen of a proxy's login: as its header has it, and the password."""
    if proxy is None or proxy.login is None:
        return ()
    packed = proxy.login.removeprefix("Basic ")
    password = base64.b64decode(packed).decode().partition(":")[2]
    return Secret(packed, "proxy"), Secret(password, "proxy")
