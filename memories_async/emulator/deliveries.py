"""Callbacks handed to an application in this process, without a port: ASGI, WSGI or a function."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from anyio import to_thread

Deliver: TypeAlias = Callable[[str, bytes], Awaitable[int]]
"""Takes an address and a JSON body; returns the HTTP status."""

Message: TypeAlias = MutableMapping[str, Any]
AsgiApplication: TypeAlias = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
WsgiApplication: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_HEADERS = {"content-type": "application/json", "user-agent": "memories-emulator"}


def to_function(function: Callable[[str, bytes], int]) -> Deliver:
    """Deliver by a blocking function, in a thread: such as one that uses a test client."""

    async def deliver(url: str, body: bytes) -> int:
        return await to_thread.run_sync(function, url, body)

    return deliver


def _write(data: bytes) -> None:
    """Take what an application writes in the oldest way; nobody reads it."""


def to_wsgi(application: WsgiApplication) -> Deliver:
    """Deliver to a WSGI application (PEP 3333), in a thread."""

    def post(url: str, body: bytes) -> int:
        target = urlsplit(url)
        statuses: list[int] = []

        def start_response(status: str, headers: object, exc_info: object = None) -> object:
            statuses.append(int(status.partition(" ")[0]))
            return _write

        environ = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(target.path, "latin-1"),
            "QUERY_STRING": target.query,
            "CONTENT_TYPE": _HEADERS["content-type"],
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": target.hostname or "",
            "SERVER_PORT": str(target.port or _port(target.scheme)),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": target.netloc,
            "HTTP_USER_AGENT": _HEADERS["user-agent"],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": target.scheme,
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        answer = application(environ, start_response)
        try:
            for _ in answer:
                pass
        finally:
            if close := getattr(answer, "close", None):
                close()
        return statuses[-1]

    return to_function(post)


def to_asgi(application: AsgiApplication, loop: asyncio.AbstractEventLoop | None) -> Deliver:
    """Deliver to an ASGI application, on its own loop, or on the emulator's where it has none."""

    async def post(url: str, body: bytes) -> int:
        target = urlsplit(url)
        statuses: list[int] = []
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            return next(messages, {"type": "http.disconnect"})

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        headers = {"host": target.netloc, "content-length": str(len(body)), **_HEADERS}
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": target.scheme,
            "path": unquote(target.path),
            "raw_path": target.path.encode(),
            "query_string": target.query.encode(),
            "root_path": "",
            "headers": _encoded(headers),
            "client": ("127.0.0.1", 0),
            "server": (target.hostname, target.port or _port(target.scheme)),
        }
        await application(scope, receive, send)
        return statuses[0]

    async def deliver(url: str, body: bytes) -> int:
        if loop is None or loop is asyncio.get_running_loop():
            return await post(url, body)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(post(url, body), loop))

    return deliver


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
