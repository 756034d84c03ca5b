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

import html
import os

from flask import Flask, redirect, request, url_for
from werkzeug.wrappers import Response

from memories_async import CallbackTimeout, Media, MemoriesError, TaskFailed
from memories_async.callbacks import SqliteStore, wsgi_app
from memories_async.sync import CallbackInbox, Memories

PUBLIC_ADDRESS = os.environ.get("PUBLIC_ADDRESS", "http://127.0.0.1:8000")

client = Memories()
inbox = CallbackInbox(
    f"{PUBLIC_ADDRESS}/memories",
    store=SqliteStore(os.environ.get("CALLBACK_STORE", "callbacks.db")),
)

app = Flask(__name__)
app.wsgi_app = wsgi_app(inbox, otherwise=app.wsgi_app)  # type: ignore[method-assign]  # Flask's way


@app.get("/")
def home() -> str:
    return UPLOAD


@app.post("/captions")
def submit() -> Response | tuple[str, int]:
    video = request.files["video"]
    source = Media(video.stream, name=video.filename)
    try:
        prompt = request.form["prompt"]
        task = inbox.submit(lambda url: client.captions.submit_video(source, prompt, callback=url))
    except MemoriesError as error:
        return html.escape(str(error)), 502
    return redirect(url_for("show", task_id=task.task_id), 303)


@app.get("/captions/<task_id>")
def show(task_id: str) -> str:
    try:
        caption = inbox.result(task_id, timeout=0)
    except CallbackTimeout:
        return '<meta http-equiv="refresh" content="1"><p>The service is still looking …'
    except TaskFailed:
        return "<p>The service could not describe this video."
    # What the model says about a stranger's video is a stranger's text.
    return f"<p>{html.escape(caption.text)}"


UPLOAD = """<!doctype html>
<form action="/captions" method="post" enctype="multipart/form-data">
  <input type="file" name="video" accept="video/*" required>
  <input name="prompt" value="What happens in this video?" required>
  <button>Describe</button>
</form>
"""
