"""Captions in an aiohttp application, with as many workers as you like.

Try it with the emulator in place of the service::

    python -m memories_async.emulator &
    export MEMORIES_BASE_URL=http://127.0.0.1:8765 MEMORIES_API_KEY=any MEMORIES_CAPTION_KEY=any
    gunicorn aiohttp_app:create -k aiohttp.GunicornWebWorker -w 4 -b 127.0.0.1:8000

The workers share the SQLite file. ``PUBLIC_ADDRESS`` is where the service reaches the application.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator

import pages
from aiohttp import web

from memories_async import (
    CallbackTimeout,
    ConfigurationError,
    Media,
    Memories,
    MemoriesError,
    TaskFailed,
)
from memories_async.callbacks import CallbackInbox, SqliteStore, aiohttp_app

PUBLIC_ADDRESS = os.environ.get("PUBLIC_ADDRESS", "http://127.0.0.1:8000")
CLIENT = web.AppKey("CLIENT", Memories)
INBOX = web.AppKey("INBOX", CallbackInbox)

logger = logging.getLogger("captions")

# Each start makes its own client: this one says at once, and not in a traceback, what is missing.
try:
    Memories()
except ConfigurationError as error:
    print(error, file=sys.stderr)
    sys.exit(4)  # how gunicorn knows that a worker in this one's stead would not load either


async def home(_: web.Request) -> web.Response:
    return page(pages.upload())


async def submit(request: web.Request) -> web.Response:
    """Forward the body as it arrives: it is never whole in this process, nor on its disk."""
    client, query = request.app[CLIENT], request.query
    try:
        video = Media(
            request.content.iter_chunked(1 << 16),
            name=query.get("name", ""),
            content_type=request.content_type,
            size=request.content_length or 0,
        )
        task = await request.app[INBOX].submit(
            lambda url: client.captions.submit_video(video, query.get("prompt", ""), callback=url),
            key=query.get("key"),
        )
    except MemoriesError as error:
        logger.warning("A video was not handed in: %s", error)
        status, text = pages.in_words(error)
        return web.json_response({"error": text}, status=status)
    return web.json_response({"page": f"/captions/{task.task_id}"})


async def show(request: web.Request) -> web.Response:
    inbox, task_id = request.app[INBOX], request.match_info["task_id"]
    submitted = await inbox.submitted_at(task_id)
    if submitted is None:
        return page(pages.unknown(), 404)
    try:
        caption = await inbox.result(task_id, timeout=2)
    except CallbackTimeout:
        return page(pages.waiting(submitted))
    except TaskFailed:
        return page(pages.failed())
    return page(pages.caption(caption.text))


def page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, content_type="text/html", status=status)


async def client_and_inbox(application: web.Application) -> AsyncIterator[None]:
    """Open the client with the application, and close both with it."""
    async with Memories() as application[CLIENT], application[INBOX]:
        yield


async def create() -> web.Application:
    """Make the application; each start of a server makes its own."""
    application = web.Application()
    inbox = application[INBOX] = CallbackInbox(
        f"{PUBLIC_ADDRESS}/memories",
        store=SqliteStore(os.environ.get("CALLBACK_STORE", "callbacks.db")),
    )
    application.add_routes(
        [
            web.get("/", home),
            web.post("/captions", submit),
            web.get("/captions/{task_id}", show),
        ]
    )
    application.add_subapp("/memories", aiohttp_app(inbox))
    application.cleanup_ctx.append(client_and_inbox)
    return application


if __name__ == "__main__":
    web.run_app(create(), host="127.0.0.1", port=8000)
