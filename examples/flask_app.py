"""Captions in a Flask application, under plain synchronous workers.

Try it with the emulator in place of the service::

    python -m memories_async.emulator &
    export MEMORIES_BASE_URL=http://127.0.0.1:8765 MEMORIES_API_KEY=any MEMORIES_CAPTION_KEY=any
    gunicorn flask_app:app -w 4 -b 127.0.0.1:8000

The workers share the SQLite file. ``PUBLIC_ADDRESS`` is where the service reaches the application.
A view that waits occupies its worker, and if all of them wait, none is left to receive: so the page
only looks whether the caption has come, and asks the browser to look again.
"""

from __future__ import annotations

import logging
import os
import sys

import pages
from flask import Flask, request
from werkzeug.wrappers import Response

from memories_async import CallbackTimeout, ConfigurationError, Media, MemoriesError, TaskFailed
from memories_async.callbacks import SqliteStore, wsgi_app
from memories_async.sync import CallbackInbox, Memories

PUBLIC_ADDRESS = os.environ.get("PUBLIC_ADDRESS", "http://127.0.0.1:8000")

logger = logging.getLogger("captions")

# Made once for each process: their event loops start with the first call and end with the process.
try:
    client = Memories()
except ConfigurationError as error:
    print(error, file=sys.stderr)
    sys.exit(4)  # how gunicorn knows that a worker in this one's stead would not load either
inbox = CallbackInbox(
    f"{PUBLIC_ADDRESS}/memories",
    store=SqliteStore(os.environ.get("CALLBACK_STORE", "callbacks.db")),
)

app = Flask(__name__)
app.wsgi_app = wsgi_app(inbox, otherwise=app.wsgi_app)  # type: ignore[assignment]  # Flask's way


@app.get("/")
def home() -> str:
    return pages.upload()


@app.post("/captions")
def submit() -> dict[str, str] | tuple[dict[str, str], int]:
    """Forward the body as it arrives: it is never whole in this process, nor on its disk."""
    query = request.args
    try:
        video = Media(
            request.stream,
            name=query.get("name", ""),
            content_type=request.content_type,
            size=request.content_length or 0,
        )
        task = inbox.submit(
            lambda url: client.captions.submit_video(video, query.get("prompt", ""), callback=url),
            key=query.get("key"),
        )
    except MemoriesError as error:
        logger.warning("A video was not handed in: %s", error)
        status, text = pages.in_words(error)
        return {"error": text}, status
    return {"page": f"/captions/{task.task_id}"}


@app.get("/captions/<task_id>")
def show(task_id: str) -> str | Response:
    submitted = inbox.submitted_at(task_id)
    if submitted is None:
        return Response(pages.unknown(), 404, content_type="text/html; charset=utf-8")
    try:
        caption = inbox.result(task_id, timeout=0)
    except CallbackTimeout:
        return pages.waiting(submitted)
    except TaskFailed:
        return pages.failed()
    return pages.caption(caption.text)
