"""The same answers from every adapter, whichever way the body comes."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.validate import validator

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from memories_async import sync
from memories_async.callbacks import (
    CallbackInbox,
    SqliteStore,
    aiohttp_app,
    asgi_app,
    serve,
    wsgi_app,
)
from tests.callbacks.conftest import SOON, free_port

pytestmark = pytest.mark.anyio

# --- a web server for each --------------------------------------------------------------------


@asynccontextmanager
async def run_aiohttp(application: web.Application, port: int) -> AsyncIterator[None]:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield
    await runner.cleanup()


@asynccontextmanager
async def run_asgi(application: object, port: int) -> AsyncIterator[None]:
    config = uvicorn.Config(application, port=port, log_config=None, lifespan="on", ws="none")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    # As its serve() does, but for the look, ten times a second, at whether it is to end.
    await server.startup()
    assert server.started
    yield
    await server.shutdown()


class QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass


class ThreadedServer(WSGIServer):
    """A WSGI server that takes no more than one request from a connection."""


@asynccontextmanager
async def run_wsgi(application: object, port: int) -> AsyncIterator[None]:
    server = make_server("127.0.0.1", port, application, ThreadedServer, QuietHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield
    await asyncio.to_thread(server.shutdown)
    await asyncio.to_thread(thread.join)
    server.server_close()


# --- the adapters -----------------------------------------------------------------------------

Running: TypeAlias = AbstractAsyncContextManager[None]


def in_aiohttp(inbox: CallbackInbox, port: int) -> Running:
    application = web.Application()
    application.add_subapp("/memories", aiohttp_app(inbox))
    application.router.add_get("/", aiohttp_home)
    return run_aiohttp(application, port)


async def home() -> str:
    return "home"


async def aiohttp_home(request: web.Request) -> web.Response:
    return web.Response(text=await home())


def in_fastapi(inbox: CallbackInbox, port: int) -> Running:
    application = FastAPI()
    application.mount("/memories", asgi_app(inbox))
    application.get("/")(home)
    return run_asgi(application, port)


def in_starlette(inbox: CallbackInbox, port: int) -> Running:
    return run_asgi(Starlette(routes=[Mount("/memories", asgi_app(inbox))]), port)


def around_an_asgi_application(inbox: CallbackInbox, port: int) -> Running:
    application = FastAPI()
    application.get("/")(home)
    return run_asgi(asgi_app(inbox, otherwise=application), port)


def as_asgi_application(inbox: CallbackInbox, port: int) -> Running:
    return run_asgi(asgi_app(inbox), port)


def in_flask(inbox: sync.CallbackInbox, port: int) -> Running:
    application = Flask(__name__)
    application.get("/")(lambda: "home")
    application.wsgi_app = wsgi_app(inbox, otherwise=application.wsgi_app)  # type: ignore[method-assign]  # as Flask says
    return run_wsgi(application, port)


def in_werkzeug(inbox: sync.CallbackInbox, port: int) -> Running:
    below = {"/memories": validator(wsgi_app(inbox))}
    return run_wsgi(DispatcherMiddleware(Flask(__name__), below), port)


def as_wsgi_application(inbox: sync.CallbackInbox, port: int) -> Running:
    return run_wsgi(validator(wsgi_app(inbox)), port)


@asynccontextmanager
async def alone(inbox: CallbackInbox, port: int) -> AsyncIterator[None]:
    async with serve(inbox, port=port) as url:
        assert url == f"http://127.0.0.1:{port}"
        yield


ASYNC_ADAPTERS: list[Callable[[CallbackInbox, int], Running]] = [
    in_aiohttp,
    in_fastapi,
    in_starlette,
    around_an_asgi_application,
    as_asgi_application,
    alone,
]
WSGI_ADAPTERS = [in_flask, in_werkzeug, as_wsgi_application]
WITH_MORE = (in_aiohttp, in_fastapi, around_an_asgi_application, in_flask)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def blocking(tmp_path: Path, port: int) -> Iterator[sync.CallbackInbox]:
    store = SqliteStore(tmp_path / "callbacks.db")
    inbox = sync.CallbackInbox(f"http://127.0.0.1:{port}/memories", store=store)
    yield inbox
    inbox.close()


@pytest.fixture(params=[*ASYNC_ADAPTERS, *WSGI_ADAPTERS], ids=lambda adapter: adapter.__name__)
async def inbox(
    request: pytest.FixtureRequest, tmp_path: Path, port: int, blocking: sync.CallbackInbox
) -> AsyncIterator[CallbackInbox]:
    store = SqliteStore(tmp_path / "callbacks.db")
    async with CallbackInbox(f"http://127.0.0.1:{port}/memories", store=store) as inbox:
        running = blocking if request.param in WSGI_ADAPTERS else inbox
        async with request.param(running, port):
            yield inbox


Post: TypeAlias = Callable[..., Awaitable[tuple[int, object]]]


async def request(
    address: str, data: object = None, method: str = "POST", **headers: str
) -> tuple[int, object, str | None]:
    """Send a request on a connection of its own; return status, JSON and Allow."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        session.request(method, address, data=data, headers=headers) as response,
    ):
        answer = await response.json() if method != "HEAD" else None
        assert response.content_type == "application/json"
        return response.status, answer, response.headers.get("Allow")


def head_of(path: str, length: int) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}", "", ""]
    return "\r\n".join(lines).encode()


async def in_pieces(body: bytes, size: int = 7) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


PARSED = b'{"videoNo":"VI1","status":"PARSE"}'


async def test_a_callback_is_taken_and_acknowledged(inbox: CallbackInbox) -> None:
    address = await inbox.address_for_video()
    waiting = asyncio.create_task(inbox.video(address, timeout=SOON))
    answer = await request(address, PARSED)
    assert answer == (200, {"code": 0, "msg": "success", "data": None}, None)
    assert (await waiting).video_no == "VI1"


async def test_what_is_refused(inbox: CallbackInbox) -> None:
    address = await inbox.address_for_video()
    forged = address[:-1] + ("A" if address[-1] != "A" else "B")
    assert (await request(forged, PARSED))[0] == 404
    assert (await request(inbox.address + "/favicon.ico", PARSED))[0] == 404
    assert (await request(address, b"<html>"))[0] == 400
    assert (await request(address, b""))[0] == 400
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        status, _, allow = await request(address, method=method)
        assert (status, allow) == (405, "POST")


async def test_a_body_of_10_mb_is_refused_before_it_comes(inbox: CallbackInbox, port: int) -> None:
    """By its head alone: while a body is on its way, a server's closing may overtake its answer."""
    path = (await inbox.address_for_video()).removeprefix(f"http://127.0.0.1:{port}")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head_of(path, 10 << 20))
    async with asyncio.timeout(SOON):
        assert b" 413 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "inbox", ASYNC_ADAPTERS, indirect=True, ids=lambda adapter: adapter.__name__
)
async def test_a_body_without_a_length(inbox: CallbackInbox) -> None:
    address = await inbox.address_for_video()
    assert (await request(address, in_pieces(PARSED)))[0] == 200
    assert (await inbox.video(address, timeout=0)).video_no == "VI1"


@pytest.mark.parametrize("inbox", WITH_MORE, indirect=True, ids=lambda adapter: adapter.__name__)
async def test_the_rest_of_the_application_is_as_before(inbox: CallbackInbox, port: int) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/") as response:
            assert response.status == 200
            assert "home" in await response.text()
        async with session.post(f"http://127.0.0.1:{port}/elsewhere", data=PARSED) as response:
            assert response.status in (404, 405)


async def test_whoever_leaves_in_the_middle_leaves_no_trace(
    inbox: CallbackInbox, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a callback is none, and worth no traceback; the next one is taken."""
    address = await inbox.address_for_video()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head_of(address.removeprefix(f"http://127.0.0.1:{port}"), 100) + PARSED[:10])
    await writer.drain()
    await asyncio.sleep(0.05)  # it has begun to read: there is nothing that would tell
    writer.transport.abort()
    assert (await request(address, PARSED))[0] == 200
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("path", ["/caf%C3%A9/memories", "/a%20b"])
async def test_an_address_that_is_percent_encoded_is_found_around_an_application(
    path: str, tmp_path: Path, port: int
) -> None:
    store = SqliteStore(tmp_path / "callbacks.db")
    public = f"http://127.0.0.1:{port}{path}"
    async with CallbackInbox(public, store=store) as inbox:
        blocking = sync.CallbackInbox(public, store=SqliteStore(tmp_path / "callbacks.db"))
        flask = Flask(__name__)
        for running in (
            around_an_asgi_application(inbox, port),
            run_wsgi(wsgi_app(blocking, otherwise=flask.wsgi_app), port),
        ):
            async with running:
                address = await inbox.address_for_video()
                assert (await request(address, PARSED))[0] == 200
        await asyncio.to_thread(blocking.close)


# --- beyond HTTP ------------------------------------------------------------------------------


async def test_a_wsgi_body_of_chunks_is_read_where_the_server_ends_it(
    blocking: sync.CallbackInbox,
) -> None:
    address = await asyncio.to_thread(blocking.address_for_video)
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "/memories",
        "PATH_INFO": address.removeprefix(blocking.address),
        "wsgi.input": io.BytesIO(PARSED),
        "wsgi.input_terminated": True,
    }

    def start_response(status: str, headers: object) -> None:
        statuses.append(status)

    application = wsgi_app(blocking)
    body = await asyncio.to_thread(lambda: b"".join(application(environ, start_response)))
    assert (statuses, body) == (["200 OK"], b'{"code":0,"msg":"success","data":null}')
    environ["wsgi.input"] = io.BytesIO(b" " * (1 << 21))
    await asyncio.to_thread(lambda: list(application(environ, start_response)))
    assert statuses[1].startswith("413 ")
    del environ["wsgi.input_terminated"]  # then reading might wait for ever
    await asyncio.to_thread(lambda: list(application(environ, start_response)))
    assert statuses[2].startswith("411 ")


async def test_half_a_body_of_a_peer_that_is_gone_is_no_callback(tmp_path: Path) -> None:
    async with CallbackInbox(
        "http://127.0.0.1/memories", store=SqliteStore(tmp_path / "callbacks.db")
    ) as inbox:
        address = await inbox.address_for_video()
        messages = [
            {"type": "http.request", "body": PARSED[:10], "more_body": True},
            {"type": "http.disconnect"},
        ]
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return messages.pop(0)

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        path = address.removeprefix("http://127.0.0.1")
        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        await asgi_app(inbox)(scope, receive, send)
        assert sent[0]["status"] == 400
