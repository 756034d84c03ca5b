"""One aiohttp session per event loop, and how each of them ends."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator
from typing import Any, Protocol
from weakref import WeakSet

import aiohttp
import attrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from memories_async._version import __version__
from memories_async.errors import ClosedError

IDLE_CONNECTION = 2.0
"""Seconds: a connection that rests longer may be closed under the next billed call."""

CONNECTIONS_TRIED = 3
"""How many connections in a row may turn out dead between their making and their first byte."""

OTHER_FILES = 24
"""Descriptors that are left to the process: its own files, the event loop, the standard streams."""

USER_AGENT = f"memories-async/{__version__} aiohttp/{aiohttp.__version__}"


def affordable(connections: int) -> int:
    """Return so many connections that each may send a file within the limit on open files.

    Else some calls hold the connections, and others find that they cannot open their file.
    """
    try:
        import resource
    except ImportError:  # Windows
        return connections
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return connections
    return min(connections, max((limit - OTHER_FILES) // 2, 1))


class Sessions:
    """The client's connections: a session for each event loop that it is used from."""

    def __init__(self, max_connections: int, ssl_context: ssl.SSLContext | None) -> None:
        self._max_connections = affordable(max_connections)
        self._ssl_context = ssl_context
        self._open: dict[asyncio.AbstractEventLoop, Open] = {}
        self._closed = False

    async def current(self) -> Open:
        """Return what is open on the running loop.

        Raises:
            ClosedError: The client was closed.
        """
        loop = asyncio.get_running_loop()
        opened = self._open.get(loop)
        if opened is None or opened.session.closed:
            if self._closed:
                raise ClosedError("the client was closed while the call was under way")
            self._forget_ended_loops()
            session = self._new()
            permits = asyncio.Semaphore(self._max_connections)
            opened = self._open[loop] = Open(session, permits, _until_the_loop_ends(session))
            _ALL_OPEN.add(opened)
            await anext(opened.life)
        return opened

    def _new(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=_Connector(
                limit=self._max_connections,
                keepalive_timeout=IDLE_CONNECTION,
                ssl=self._ssl_context or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
            # Proxies are looked up per request; aiohttp's trust_env would also read ~/.netrc, and
            # what stands there must never replace the key.
            trust_env=False,
        )
        # aiohttp would send a free read a second time by itself, and no attempt would count it.
        session._retry_connection = False  # pyright: ignore[reportPrivateUsage]  # no other way
        return session

    def _forget_ended_loops(self) -> None:
        for loop in list(self._open):  # a copy: other threads' loops come and go meanwhile
            if loop.is_closed() and (opened := self._open.pop(loop, None)) is not None:
                opened.abandon()

    async def aclose(self) -> None:
        """Close the session of this loop, and those of loops that still run elsewhere."""
        self._closed = True
        self._forget_ended_loops()
        here = asyncio.get_running_loop()
        for loop, opened in list(self._open.items()):
            if loop is here:
                await opened.life.aclose()
            elif loop.is_running():
                closing = opened.session.close()
                try:
                    asyncio.run_coroutine_threadsafe(closing, loop)
                except RuntimeError:  # it has ended in this very moment
                    closing.close()
                    opened.abandon()
        self._open.clear()


class Awaiting(Protocol):
    """An exchange that waits for a connection."""

    def connecting(self) -> None:
        """Note that none is at hand and one is being made."""
        ...

    async def ready(self, protocol: ResponseHandler) -> bool:
        """Take the last step before the first byte; tell whether this connection will do."""
        ...


class Unlimited(aiohttp.ClientTimeout):
    """No limit of aiohttp's own, and whose connection is asked for.

    Of what a request is given, aiohttp hands its timeout on to the connector, and nothing else of
    the caller's. A context variable would reach it, too, but outlive the call: every timer copies
    its context, and asyncio keeps a hundred cancelled timers and more, each then with a whole
    request and its body.

    Attributes:
        exchange: Asked for the connection.
    """

    # Said by the class, no call has to set them; the limit below is never come to.
    total = connect = sock_connect = sock_read = None
    ceil_threshold = 0.0
    __slots__ = ("exchange",)
    __setattr__ = object.__setattr__  # the class above is frozen

    def __init__(self, exchange: Awaiting) -> None:
        self.exchange = exchange


def is_quiet(protocol: ResponseHandler) -> bool:
    """Tell whether a connection is open and has said nothing that nobody asked for."""
    return protocol.is_connected() and not protocol.should_close


class _Connector(aiohttp.TCPConnector):
    """Connections that hold no answer to another's question, and ask before their first byte.

    They are left alone once the loop that they belong to is out of reach.
    """

    abandoned = False

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Return a connection over which the exchange may begin at once."""
        exchange = _exchange_of(timeout)
        for _ in range(CONNECTIONS_TRIED):
            connection = await super().connect(req, traces, timeout)
            assert connection.protocol is not None
            try:
                if await exchange.ready(connection.protocol):
                    return connection
            except BaseException:
                connection.release()  # nothing was sent over it: another call may have it
                raise
            connection.close()
        raise aiohttp.ClientConnectionResetError("closed, or answered, before anything was asked")

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        # aiohttp's pool looks at age and socket only. An answer that came while a connection was
        # idle (a proxy's timeout, a server's mistake) would be taken for the next call's.
        while (connection := await super()._get(key, traces)) is not None:
            assert connection.protocol is not None
            if not connection.protocol.should_close:
                return connection
            connection.close()
        return None

    def _release(
        self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        super()._release(key, protocol, should_close=should_close)
        # The answer's parser would swallow the beginning of another; without one it is kept, and
        # ``should_close`` tells. The next request brings a parser of its own.
        protocol._parser = None  # pyright: ignore[reportPrivateUsage]  # no other way

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        _exchange_of(timeout).connecting()
        return await super()._create_connection(req, traces, timeout)

    def __del__(self, *arguments: Any) -> None:
        if not self.abandoned:
            super().__del__(*arguments)


def _exchange_of(timeout: aiohttp.ClientTimeout) -> Awaiting:
    assert isinstance(timeout, Unlimited)
    return timeout.exchange


@attrs.define(eq=False)
class Open:
    """What is open on one loop.

    Attributes:
        session: The session.
        permits: One for each connection. Who waits for a connection inside aiohttp has already
            built its whole request: 10,000 that wait there hold 70 MB more than 10,000 here.
        life: Closes the session when the loop ends.
    """

    session: aiohttp.ClientSession
    permits: asyncio.Semaphore
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


_ALL_OPEN: WeakSet[Open] = WeakSet()


def _abandon_inherited() -> None:
    for opened in list(_ALL_OPEN):
        opened.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_inherited)
