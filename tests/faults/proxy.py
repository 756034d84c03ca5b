"""A TCP proxy that breaks connections at a chosen byte, in front of the emulator."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections import deque
from collections.abc import Coroutine
from types import TracebackType
from typing import Literal, Self

import attrs

PIECE = 16 * 1024
RESET = struct.pack("ii", 1, 0)
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class Plan:
    """What happens on one connection.

    Attributes:
        accept: Strike at once: the connection is established and nothing is passed on.
        request: Strike once so many bytes of the client's stream have been passed on.
        body: Strike once this share of the request's body has been passed on: 0 is right after
            the headers, 1 right after the last byte.
        withhold: So many bytes less of it than that.
        answer: Strike once so many bytes of the server's stream have been passed on.
        how: ``"reset"`` (RST) or ``"close"`` (FIN) cut the connection to the client, while the
            server may answer a whole request; ``"stall"`` stops reading and passing on.
        drip: Pass on the client's stream in pieces of so many bytes, one each tick.
        reply: What to send to the client before striking.
    """

    accept: bool = False
    request: int | None = None
    body: float | None = None
    withhold: int = 0
    answer: int | None = None
    how: Literal["reset", "close", "stall"] = "reset"
    drip: int | None = None
    reply: bytes = b""


class Proxy:
    """Passes everything on, except on connections for which there is a plan.

    Args:
        target: The port on loopback to pass on to.
        tls: Speak TLS to the client.
        tick: Seconds between two dripping pieces.

    Attributes:
        plans: One for each connection to come; without one, everything is passed on.
        connections: How many were accepted.
        received: Bytes of the clients' streams.
        returned: Bytes of the server's streams.
    """

    def __init__(
        self, target: int, *, tls: ssl.SSLContext | None = None, tick: float = 0.001
    ) -> None:
        self.target = target
        self.plans: deque[Plan] = deque()
        self.connections = 0
        self.received = 0
        self.returned = 0
        self._tls = tls
        self._tick = tick
        self._tasks: set[asyncio.Task[None]] = set()
        self._lingering: list[asyncio.StreamWriter] = []
        self._listener = socket.socket()
        self._listener.setblocking(False)
        # Accepted connections inherit it: a peer that stops reading is felt at once.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        self._listener.bind(("127.0.0.1", 0))

    @property
    def port(self) -> int:
        """Where to connect to; until ``start`` connections are refused."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Accept connections from now on."""
        self._listener.listen(100)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def stop(self) -> None:
        """Drop all connections and accept no more."""
        await self.drop()
        self._listener.close()

    async def drop(self) -> None:
        """Drop all connections, and accept no more until ``start``."""
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
        # Who is cancelled before it has begun closes nothing: a connection that has just come.
        await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._lingering:
            writer.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self) -> None:
        # Not sock_accept: cancelled just as a connection has come, it loses it.
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        connection.setblocking(False)
        self.connections += 1
        plan = self.plans.popleft() if self.plans else Plan()
        self._spawn(self._serve(connection, plan))

    async def _serve(self, connection: socket.socket, plan: Plan) -> None:
        # Not asyncio.start_server: it reports a failed TLS handshake as an error of this side.
        loop = asyncio.get_running_loop()
        client = asyncio.StreamReader(PIECE)
        protocol = asyncio.StreamReaderProtocol(client)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._tls
            )
        except OSError:
            connection.close()
            return
        to_client = asyncio.StreamWriter(transport, protocol, client, loop)
        struck = plan.accept
        try:
            if not plan.accept:
                server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
                struck = await _Connection(self, plan, client, to_client, server, to_server).run()
            if struck:
                await _strike(plan, to_client)
        except (ConnectionError, asyncio.CancelledError):
            struck = True
        finally:
            transport.abort() if struck and plan.how != "close" else transport.close()


@attrs.define
class _Connection:
    """One client's connection and ours to the server."""

    proxy: Proxy
    plan: Plan
    client: asyncio.StreamReader
    to_client: asyncio.StreamWriter
    server: asyncio.StreamReader
    to_server: asyncio.StreamWriter

    async def run(self) -> bool:
        """Pass on until a stream reaches its point or the connection has ended; tell which."""
        up, down = asyncio.create_task(self._up()), asyncio.create_task(self._down())
        try:
            done, _ = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            return any(task.result() for task in done)
        finally:
            if self.plan.body == 1 and not self.plan.withhold:
                # It was sent a whole request: let it answer, though nobody will hear.
                self.proxy._lingering.append(self.to_server)
            else:
                self.to_server.close()
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _up(self) -> bool:
        """Pass on what the client says; returns whether the point was reached."""
        passed, head, point = 0, b"", self.plan.request
        size = self.plan.drip or PIECE
        while data := await self.client.read(size):
            if point is None and self.plan.body is not None:
                head += data
                point = _point(head, self.plan.body, self.plan.withhold)
                head = head[-PIECE:] if point is None else b""
            if self.plan.drip:
                await asyncio.sleep(self.proxy._tick)
            room = data if point is None else data[: max(point - passed, 0)]
            self.to_server.write(room)
            passed += len(room)
            self.proxy.received += len(room)
            await self.to_server.drain()
            if point is not None and passed >= point:
                return True
        return False

    async def _down(self) -> bool:
        passed, point = 0, self.plan.answer
        while data := await self.server.read(PIECE):
            room = data if point is None else data[: point - passed]
            self.to_client.write(room)
            passed += len(room)
            self.proxy.returned += len(room)
            await self.to_client.drain()
            if point is not None and passed >= point:
                return True
        return False


def _point(head: bytes, share: float, withhold: int) -> int | None:
    """Return the position in the stream at which to strike, once the headers are there."""
    end = head.find(b"\r\n\r\n")
    length = CONTENT_LENGTH.search(head[: end + 4]) if end >= 0 else None
    if end < 0:
        return None
    return end + 4 + int(share * int(length[1] if length else 0)) - withhold


async def _strike(plan: Plan, to_client: asyncio.StreamWriter) -> None:
    if plan.reply:
        to_client.write(plan.reply)
        await to_client.drain()
    if plan.how == "stall":
        await asyncio.Event().wait()
    connection = to_client.get_extra_info("socket")
    # Its descriptor is -1 where the client has gone meanwhile: there is nothing left to reset.
    if plan.how == "reset" and connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
