"""Captions in a FastAPI application: a video goes on to the service while the browser sends it.

Try it with the emulator in place of the service::

    python -m memories_async.emulator &
    export MEMORIES_BASE_URL=http://127.0.0.1:8765 MEMORIES_API_KEY=any MEMORIES_CAPTION_KEY=any
    uvicorn fastapi_app:app --port 8000

Any number of workers will do: they share the SQLite file. ``PUBLIC_ADDRESS`` is where the service
reaches the application.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pages
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse

from memories_async import (
    CallbackTimeout,
    ConfigurationError,
    Media,
    Memories,
    MemoriesError,
    TaskFailed,
)
from memories_async.callbacks import CallbackInbox, SqliteStore, asgi_app

PUBLIC_ADDRESS = os.environ.get("PUBLIC_ADDRESS", "http://127.0.0.1:8000")

logger = logging.getLogger("captions")

# Each start makes its own client: this one says at once, and not in a traceback, what is missing.
try:
    Memories()
except ConfigurationError as error:
    print(error, file=sys.stderr)
    sys.exit(4)

# The inbox may be closed and used again; a client is closed for good, so each start makes its own.
inbox = CallbackInbox(
    f"{PUBLIC_ADDRESS}/memories",
    store=SqliteStore(os.environ.get("CALLBACK_STORE", "callbacks.db")),
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    async with Memories() as client, inbox:
        yield {"client": client}


app = FastAPI(title="Captions", lifespan=lifespan)
app.mount("/memories", asgi_app(inbox))


@app.get("/", response_class=HTMLResponse)
async def home() -> str:
    return pages.upload()


@app.post("/captions")
async def submit(request: Request, name: str, prompt: str, key: str) -> JSONResponse:
    """Forward the body as it arrives: it is never whole in this process, nor on its disk."""
    client: Memories = request.state.client
    try:
        video = Media(
            request.stream(),
            name=name,
            content_type=request.headers.get("content-type"),
            size=int(request.headers.get("content-length", "0")),
        )
        task = await inbox.submit(
            lambda url: client.captions.submit_video(video, prompt, callback=url), key=key
        )
    except MemoriesError as error:
        logger.warning("A video was not handed in: %s", error)
        status, text = pages.in_words(error)
        return JSONResponse({"error": text}, status)
    return JSONResponse({"page": f"/captions/{task.task_id}"})


@app.get("/captions/{task_id}", response_class=HTMLResponse)
async def show(task_id: str) -> HTMLResponse:
    submitted = await inbox.submitted_at(task_id)
    if submitted is None:
        return HTMLResponse(pages.unknown(), 404)
    try:
        caption = await inbox.result(task_id, timeout=2)
    except CallbackTimeout:
        return HTMLResponse(pages.waiting(submitted))
    except TaskFailed:
        return HTMLResponse(pages.failed())
    return HTMLResponse(pages.caption(caption.text))


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=8000)
