"""Captions in an aiohttp application, with as many workers as you like.

Try it with the emulator in place of the service::

    python -m memories_async.emulator &
    export MEMORIES_BASE_URL=http://127.0.0.1:8765 MEMORIES_API_KEY=any MEMORIES_CAPTION_KEY=any
    gunicorn aiohttp_app:application -k aiohttp.GunicornWebWorker -w 4 -b 127.0.0.1:8000

The workers share the SQLite file. ``PUBLIC_ADDRESS`` is where the service reaches the application.
"""

from __future__ import annotations

import html
import os
from collections.abc import AsyncIterator

from aiohttp import web

from memories_async import CallbackTimeout, Media, Memories, MemoriesError, TaskFailed
from memories_async.callbacks import CallbackInbox, SqliteStore, aiohttp_app

PUBLIC_ADDRESS = os.environ.get("PUBLIC_ADDRESS", "http://127.0.0.1:8000")

client = Memories()
inbox = CallbackInbox(
    f"{PUBLIC_ADDRESS}/memories",
    store=SqliteStore(os.environ.get("CALLBACK_STORE", "callbacks.db")),
)


async def home(_: web.Request) -> web.Response:
    return page(UPLOAD)


async def submit(request: web.Request) -> web.Response:
    """Forward the body as it arrives: it is never whole in this process, nor on its disk."""
    if request.content_length is None:
        raise web.HTTPLengthRequired
    video = Media(
        request.content.iter_chunked(1 << 16),
        name=request.query["name"],
        content_type=request.content_type,
        size=request.content_length,
    )
    try:
        prompt = request.query["prompt"]
        task = await inbox.submit(
            lambda url: client.captions.submit_video(video, prompt, callback=url)
        )
    except MemoriesError as error:
        raise web.HTTPBadGateway(text=str(error)) from error
    return web.json_response({"page": f"/captions/{task.task_id}"})


async def show(request: web.Request) -> web.Response:
    try:
        caption = await inbox.result(request.match_info["task_id"], timeout=20)
    except CallbackTimeout:
        return page('<meta http-equiv="refresh" content="1"><p>The service is still looking …')
    except TaskFailed:
        return page("<p>The service could not describe this video.")
    # What the model says about a stranger's video is a stranger's text.
    return page(f"<p>{html.escape(caption.text)}")


def page(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html")


async def close(_: web.Application) -> AsyncIterator[None]:
    async with client, inbox:
        yield


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

application = web.Application()
application.add_routes(
    [
        web.get("/", home),
        web.post("/captions", submit),
        web.get("/captions/{task_id}", show),
    ]
)
application.add_subapp("/memories", aiohttp_app(inbox))
application.cleanup_ctx.append(close)

if __name__ == "__main__":
    web.run_app(application, host="127.0.0.1", port=8000)
