"""An application that says which of its workers answered: for aiohttp, FastAPI and Flask."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from flask import Flask, request
from starlette.middleware.base import RequestResponseEndpoint
from starlette.responses import Response as ASGIResponse
from werkzeug.wrappers import Response

from memories_async import CallbackTimeout, Memories, sync
from memories_async.callbacks import (
    CallbackInbox,
    SqliteStore,
    aiohttp_app,
    asgi_app,
    wsgi_app,
)

ADDRESS = f"{os.environ['PUBLIC_ADDRESS']}/memories"
FILM = b"\x00\x00\x00\x18ftypmp42" + bytes(1000)

store = SqliteStore(os.environ["CALLBACK_STORE"])
client = Memories()


def received_by(worker: int) -> None:
    """Note which worker took a callback."""
    with open(f"{os.environ['CALLBACK_STORE']}.received", "a") as notes:
        notes.write(f"{worker}\n")


# --- aiohttp ----------------------------------------------------------------------------------

inbox = CallbackInbox(ADDRESS, store=store)


async def handed_in(prompt: str) -> str:
    task = await inbox.submit(lambda url: client.captions.submit_video(FILM, prompt, callback=url))
    return task.task_id


async def home(_: web.Request) -> web.Response:
    return web.Response()


async def submit(request: web.Request) -> web.Response:
    return web.Response(text=await handed_in(request.query["prompt"]))


async def show(request: web.Request) -> web.Response:
    try:
        caption = await inbox.result(request.match_info["task_id"], timeout=5)
    except CallbackTimeout:
        return web.Response(status=202)
    return web.Response(text=caption.text)


@web.middleware
async def name_worker(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    response.headers["X-Worker"] = str(os.getpid())
    if request.path.startswith("/memories/") and response.status == 200:
        received_by(os.getpid())
    return response


aiohttp_application = web.Application(middlewares=[name_worker])
aiohttp_application.add_routes(
    [web.get("/", home), web.post("/submit", submit), web.get("/tasks/{task_id}", show)]
)
aiohttp_application.add_subapp("/memories", aiohttp_app(inbox))

# --- FastAPI ----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with client, inbox:
        yield


fastapi_application = FastAPI(lifespan=lifespan)
fastapi_application.mount("/memories", asgi_app(inbox))


@fastapi_application.get("/")
async def fastapi_home() -> str:
    return ""


@fastapi_application.post("/submit")
async def fastapi_submit(prompt: str) -> PlainTextResponse:
    return PlainTextResponse(await handed_in(prompt))


@fastapi_application.get("/tasks/{task_id}")
async def fastapi_show(task_id: str) -> PlainTextResponse:
    try:
        return PlainTextResponse((await inbox.result(task_id, timeout=0.5)).text)
    except CallbackTimeout:
        return PlainTextResponse("", 202)


@fastapi_application.middleware("http")
async def fastapi_name_worker(request: Request, call_next: RequestResponseEndpoint) -> ASGIResponse:
    response = await call_next(request)
    response.headers["X-Worker"] = str(os.getpid())
    return response


# --- Flask ------------------------------------------------------------------------------------

blocking = sync.CallbackInbox(ADDRESS, store=store)
blocking_client = sync.Memories()
flask_application = Flask(__name__)


@flask_application.get("/")
def flask_home() -> str:
    return ""


@flask_application.post("/submit")
def flask_submit() -> str:
    prompt = request.args["prompt"]
    task = blocking.submit(
        lambda url: blocking_client.captions.submit_video(FILM, prompt, callback=url)
    )
    return task.task_id


@flask_application.get("/tasks/<task_id>")
def flask_show(task_id: str) -> tuple[str, int]:
    try:
        return blocking.result(task_id, timeout=0).text, 200
    except CallbackTimeout:
        return "", 202


@flask_application.after_request
def flask_name_worker(response: Response) -> Response:
    response.headers["X-Worker"] = str(os.getpid())
    return response


receive = wsgi_app(blocking, otherwise=flask_application.wsgi_app)


def flask_and_notes(environ: dict[str, object], start_response: object) -> object:
    answer = receive(environ, start_response)
    if str(environ["PATH_INFO"]).startswith("/memories/"):
        received_by(os.getpid())
    return answer
