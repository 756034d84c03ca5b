"""A server that does what a test says, byte by byte, and remembers what reached it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import re
import struct
import termios
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

import attrs

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@attrs.frozen
class RawRequest:
    """A request as it came.

    Attributes:
        line: The first line.
        headers: By their names in lower case.
        body: The body; of a chunked one what its chunks held.
    """

    line: str
    headers: Mapping[str, str]
    body: bytes


@attrs.define(eq=False)
class Conversation:
    """One connection, from the server's side."""

    number: int
    server: RawServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> RawRequest:
        """Read a request's line and headers, and leave its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").strip().split("\r\n")
        pairs = (entry.partition(":") for entry in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return RawRequest(line, headers, b"")

    async def request(self) -> RawRequest:
        """Read a whole request, and remember it."""
        request = await self.head()
        if request.headers.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        else:
            body = await self.reader.readexactly(int(request.headers.get("content-length", "0")))
        request = attrs.evolve(request, body=body)
        self.server.requests.append(request)
        return request

    async def _chunks(self) -> bytes:
        """Read a chunked body, whose end is an empty chunk."""
        body = bytearray()
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)
        return bytes(body)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def send_and_be_heard(self, data: bytes) -> None:
        """Send bytes, and return once the client's loop has read them."""
        await self.send(data)
        while unacknowledged(self.writer):  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(0)
        for _ in range(3):  # the kernel has them; the next rounds of the loop read them
            await asyncio.sleep(0)


class RawServer:
    """Listens on loopback; each connection is served by one call of ``serve``.

    Args:
        serve: What happens on a connection; it is closed afterwards.

    Attributes:
        requests: The whole requests that came, on all connections.
        connections: How many connections were made.
    """

    def __init__(self, serve: Callable[[Conversation], Awaitable[None]]) -> None:
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.requests: list[RawRequest] = []
        self.connections = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._closing = True
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._serve(Conversation(self.connections, self, reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        except asyncio.CancelledError:
            if not self._closing:
                raise
        finally:
            self._tasks.discard(task)
            writer.close()


def unacknowledged(writer: asyncio.StreamWriter) -> int:
    """Return how many bytes the peer's kernel has not taken yet."""
    found = bytearray(4)
    fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, found)
    return int(struct.unpack("i", found)[0])


def answer(data: object, status: int = 200, **headers: str) -> bytes:
    """Return an HTTP answer with an envelope around the data."""
    code = "0000" if status == 200 else str(status)
    body = json.dumps({"code": code, "msg": "said", "data": data}).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode("latin-1") + body
