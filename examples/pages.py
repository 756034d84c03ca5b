"""The pages that every example of a web application shows, and what went wrong in words.

The upload page sends the video as the body of ``POST /captions?name=…&prompt=…&key=…`` and shows
how far it has come; the answer is JSON: ``page``, where the caption will be, or ``error``. The key
is a random number of the page: a second click sends it again, and the server hands in only once.
"""

from __future__ import annotations

import html
from datetime import UTC, datetime, timedelta

from memories_async import (
    BadRequest,
    ConfigurationError,
    MediaError,
    MediaTooLarge,
    MediaTooLong,
    MemoriesError,
    OutcomeUnknown,
    UnsupportedMedia,
)

PATIENCE = timedelta(hours=1)
"""After this, the service will hardly call back any more."""

NO_VIDEO = "This is no video that can be described: please choose an MP4 file."
WORDS: list[tuple[type[MemoriesError], int, str]] = [
    (MediaTooLarge, 413, "This video is too large: up to 8 GB can be described."),
    (MediaTooLong, 413, "This video is too long: up to two hours can be described."),
    (UnsupportedMedia, 415, NO_VIDEO),
    (BadRequest, 415, NO_VIDEO),  # what arrives piece by piece, the service itself looks at
    (MediaError, 400, "The video did not arrive whole. Please try again."),
    (ConfigurationError, 400, "Something is missing: a video and a question are wanted."),
    (
        OutcomeUnknown,
        502,
        "The connection to the service was lost at the last moment, and the video may have arrived "
        "all the same. Trying again may cost twice.",
    ),
    (MemoriesError, 503, "The service cannot take a video at the moment. Please try again later."),
]
"""What visitors are told, from the top: the first that fits. The log has the error itself."""


def in_words(error: MemoriesError) -> tuple[int, str]:
    """Return the HTTP status of an error, and what to say about it to whoever visits the page."""
    return next((status, text) for kind, status, text in WORDS if isinstance(error, kind))


def upload() -> str:
    """Return the page that everything begins with."""
    return _page("Describe a video", UPLOAD)


def caption(text: str) -> str:
    """Return the page of a caption, which is a stranger's text."""
    return _page("What happens in your video", f"<p class=caption>{html.escape(text)}</p>{AGAIN}")


def failed() -> str:
    """Return the page of a video that the service gave up."""
    return _page("No description", f"<p>The service could not describe this video.</p>{AGAIN}")


def unknown() -> str:
    """Return the page of a video that nobody has handed in; its status is 404."""
    return _page("Not found", f"<p>No such video has been handed in here.</p>{AGAIN}")


def waiting(submitted: datetime) -> str:
    """Return the page of a video that is being looked at: it asks again, but not for ever."""
    waited = datetime.now(UTC) - submitted
    if waited > PATIENCE:
        text = "<p>No description has come within an hour, and none is likely to come any more.</p>"
        return _page("No description", text + AGAIN)
    minutes = round(waited.total_seconds() / 60)
    since = "It was handed in just now." if minutes < 1 else f"Handed in {minutes} min ago."
    text = f"<p role=status><progress></progress> The service is looking at your video. {since}</p>"
    return _page("One moment …", text, head='<meta http-equiv="refresh" content="2">')


def _page(title: str, body: str, head: str = "") -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>{STYLE}{head}</head>"
        f"<body><main><h1>{title}</h1>{body}</main></body></html>"
    )


AGAIN = '<p><a href="/">Describe another video</a></p>'

STYLE = """<style>
  :root { color-scheme: light dark; font: 1.0625rem/1.5 system-ui, sans-serif }
  body { margin: 0 }
  main { max-width: 38rem; margin: 0 auto; padding: 1.5rem 1rem }
  h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 1rem }
  label { display: block; margin: 1rem 0 .25rem; font-weight: 600 }
  input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .7rem;
                  border: 1px solid #888; border-radius: .5rem }
  button { margin-top: 1.25rem; border: 0; background: #0b57d0; color: #fff; font-weight: 600 }
  button:disabled { background: #6f7783 }
  progress { width: 100%; height: .75rem; margin: 1rem 0 .5rem }
  .caption { white-space: pre-wrap; overflow-wrap: anywhere }
  .error { color: #b3261e; font-weight: 600 }
  @media (prefers-color-scheme: dark) { .error { color: #ffb4ab } }
</style>"""

UPLOAD = """
<form>
  <label for="video">Video</label>
  <input id="video" type="file" accept="video/*" required>
  <label for="prompt">Question</label>
  <input id="prompt" value="What happens in this video?" required maxlength="2000">
  <button>Describe</button>
  <progress max="1" value="0" hidden aria-label="How much has been sent"></progress>
  <p id="status" role="status"></p>
  <p id="error" class="error" role="alert"></p>
</form>
<noscript><p class="error">This page needs JavaScript to show how far the upload is.</p></noscript>
<script>
const form = document.querySelector("form")
const [button, bar] = [form.querySelector("button"), form.querySelector("progress")]
const [status, error] = [document.getElementById("status"), document.getElementById("error")]
let key

function renew() {
  // What stands for this video and this question: sent twice, it is handed in once.
  key = Array.from(crypto.getRandomValues(new Uint32Array(4)), n => n.toString(16)).join("-")
}

function busy(yes) {
  for (const part of form.elements) part.disabled = yes
  button.textContent = yes ? "Sending …" : "Describe"
  bar.hidden = !yes
}

function stop(text) {
  busy(false)
  status.textContent = ""
  error.textContent = text
}

form.onchange = renew
renew()
onpageshow = () => { busy(false); status.textContent = "" }  // also after going back

form.onsubmit = event => {
  event.preventDefault()
  const video = form.video.files[0]
  const query = new URLSearchParams({name: video.name, prompt: form.prompt.value, key})
  const request = new XMLHttpRequest()  // fetch cannot tell how much has been sent
  request.open("POST", `/captions?${query}`)
  request.responseType = "json"
  // No plain form of another site can send this type: browsers would ask us first.
  request.setRequestHeader("Content-Type", video.type || "application/octet-stream")
  request.upload.onprogress = sent => {
    bar.value = sent.loaded / sent.total
    status.textContent = sent.loaded < sent.total
      ? `${Math.floor(100 * sent.loaded / sent.total)} % sent`
      : "Sent. The service is checking the video …"
  }
  request.onload = () => {
    const answer = request.response || {}
    if (request.status === 200 && answer.page) location = answer.page
    else stop(answer.error || "The server could not take the video. Please try again later.")
  }
  request.onerror = () => stop("The connection was lost. Please try again.")
  error.textContent = ""
  bar.value = 0
  busy(true)
  request.send(video)
}
</script>"""
