"""Captions in a FastAPI application: a video goes on to the service while the browser sends it.

Try it with the emulator in place of the service::

    python -m memories_async.emulator &
    export MEMORIES_BASE_URL=http://127.0.0.1:8765 MEMORIES_API_KEY=any MEMORIES_CAPTION_KEY=any
    uvicorn fastapi_app:app --port 8000

Any number of workers will do: they share the SQLite file. ``PUBLIC_ADDRESS`` is where the service
reaches the application.
"""

from __future__ import annotations

import html
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse

from memories_async import CallbackTimeout, Media, Memories, MemoriesError, TaskFailed
from memories_async.callbacks import CallbackInbox, SqliteStore, asgi_app

PUBLIC_ADDRESS = os.environ.get("PUBLIC_ADDRESS", "http://127.0.0.1:8000")

client = Memories()
inbox = CallbackInbox(
    f"{PUBLIC_ADDRESS}/memories",
    store=SqliteStore(os.environ.get("CALLBACK_STORE", "callbacks.db")),
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with client, inbox:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/memories", asgi_app(inbox))


@app.get("/", response_class=HTMLResponse)
async def home() -> str:
    return UPLOAD


@app.post("/captions")
async def submit(request: Request, name: str, prompt: str) -> dict[str, str]:
    """Forward the body as it arrives: it is never whole in this process, nor on its disk."""
    if "content-length" not in request.headers:
        raise HTTPException(411, "The service wants to know the length beforehand")
    video = Media(
        request.stream(),
        name=name,
        content_type=request.headers.get("content-type"),
        size=int(request.headers["content-length"]),
    )
    try:
        task = await inbox.submit(
            lambda url: client.captions.submit_video(video, prompt, callback=url)
        )
    except MemoriesError as error:
        raise HTTPException(502, str(error)) from error
    return {"page": f"/captions/{task.task_id}"}


@app.get("/captions/{task_id}", response_class=HTMLResponse)
async def show(task_id: str) -> str:
    try:
        caption = await inbox.result(task_id, timeout=20)
    except CallbackTimeout:
        return WAITING
    except TaskFailed:
        return "<p>The service could not describe this video."
    # What the model says about a stranger's video is a stranger's text.
    return f"<p>{html.escape(caption.text)}"


WAITING = '<meta http-equiv="refresh" content="1"><p>The service is still looking …'

UPLOAD = """<!doctype html>
<form>
  <input type="file" name="video" accept="video/*" required>
  <input name="prompt" value="What happens in this video?" required>
  <button>Describe</button>
</form>
<script>
const form = document.querySelector("form")
form.onsubmit = async event => {
  event.preventDefault()
  const video = form.video.files[0]
  const query = new URLSearchParams({name: video.name, prompt: form.prompt.value})
  const answer = await fetch(`/captions?${query}`, {method: "POST", body: video})
  if (answer.ok) location = (await answer.json()).page
  else alert(await answer.text())
}
</script>
"""
