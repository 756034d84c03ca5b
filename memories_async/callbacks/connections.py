"""The connections of whoever knocks: how many there may be, and how long each may take."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from aiohttp import web

from memories_async.callbacks.adapters.aiohttp import respond

if TYPE_CHECKING:
    from memories_async.callbacks.inbox import CallbackInbox

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 100
"""Connections that may be open at once."""
HEAD_SECONDS = 10.0
"""How long the head of a request may take to come."""
LINGERING_SECONDS = 1.0
"""How long what is left of a refused body is read, so that the answer is not overtaken."""
SHUTDOWN_SECONDS = 5.0
"""How long callbacks that are being taken in have at the end."""
RETRY_SECONDS = 1.0
"""How long to wait before accepting again where there are no more descriptors."""
SECONDS_BETWEEN_LINES = 60.0
"""However many strangers knock, they fill no log."""


@contextlib.asynccontextmanager
async def accepting(inbox: CallbackInbox, listening: socket.socket) -> AsyncGenerator[None]:
    """Within the context, accept connections and have the inbox take in what they bring."""
    server = _Server(inbox)
    # Not by asyncio's own: out of descriptors, it logs a traceback for each place in the backlog.
    listening.setblocking(False)
    accept = asyncio.create_task(_accept(server, listening))
    try:
        yield
    finally:
        accept.cancel()
        await asyncio.wait([accept])
        server.pre_shutdown()
        await server.shutdown(SHUTDOWN_SECONDS)


async def _accept(server: _Server, listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = await loop.sock_accept(listening)
        except OSError as error:
            server.complain(f"No connection can be accepted: {error}")
            if not server.make_room():
                await asyncio.sleep(RETRY_SECONDS)
            continue
        try:
            await loop.connect_accepted_socket(server, connection)
        except OSError:  # it has gone
            connection.close()


class _Quiet(logging.Logger):
    """What aiohttp would log with a traceback whenever a stranger sends what is no HTTP."""

    def handle(self, record: logging.LogRecord) -> None:
        """Keep it for whoever looks for it."""
        logger.debug("%s", record.getMessage())


class _Server(web.Server):
    """Makes a handler for each connection, and knows which of them have shown no head yet."""

    def __init__(self, inbox: CallbackInbox) -> None:
        super().__init__(
            functools.partial(_take, inbox, self),
            access_log=None,
            logger=_Quiet(__name__),
            lingering_time=LINGERING_SECONDS,
        )
        self.silent: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        """In the order in which they came, with what ends each."""
        self._next_line = 0.0

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Give a connection its time for the head; at the limit, one that is silent gives way."""
        super().connection_made(handler, transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self.complain(f"More than {MOST_CONNECTIONS} connections: the oldest silent one ends")
            if not self.make_room():
                transport.abort()
                return
        loop = asyncio.get_running_loop()
        self.silent[handler] = loop.call_later(HEAD_SECONDS, transport.abort)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Forget a connection."""
        self.heard(handler)
        super().connection_lost(handler, exc)

    def heard(self, handler: web.RequestHandler) -> None:
        """Note that the head of a request has come."""
        if timer := self.silent.pop(handler, None):
            timer.cancel()

    def make_room(self) -> bool:
        """End the connection that has been silent for longest, if there is one."""
        handler = next(iter(self.silent), None)
        if handler is None:
            return False
        self.heard(handler)
        handler.force_close()
        return True

    def complain(self, line: str) -> None:
        """Log a line, unless there was one not long ago."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_line:
            self._next_line = now + SECONDS_BETWEEN_LINES
            logger.warning("%s (said at most once a minute)", line)


async def _take(inbox: CallbackInbox, server: _Server, request: web.BaseRequest) -> web.Response:
    server.heard(request.protocol)
    response = await respond(inbox, request)
    response.force_close()  # one callback is all that comes
    return response
