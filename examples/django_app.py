"""Captions in a Django project, all of it in one file, under plain synchronous workers.

Try it with the emulator in place of the service::

    python -m memories_async.emulator &
    export MEMORIES_BASE_URL=http://127.0.0.1:8765 MEMORIES_API_KEY=any MEMORIES_CAPTION_KEY=any
    gunicorn django_app:application -w 4 -b 127.0.0.1:8000

The workers share the SQLite file. ``PUBLIC_ADDRESS`` is where the service reaches the application.
A view that waits occupies its worker, and if all of them wait, none is left to receive: so the page
only looks whether the caption has come, and asks the browser to look again.
"""

from __future__ import annotations

import logging
import os
import sys

import pages
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from memories_async import CallbackTimeout, ConfigurationError, Media, MemoriesError, TaskFailed
from memories_async.callbacks import SqliteStore, wsgi_app
from memories_async.sync import CallbackInbox, Memories

PUBLIC_ADDRESS = os.environ.get("PUBLIC_ADDRESS", "http://127.0.0.1:8000")

logger = logging.getLogger("captions")

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", os.urandom(32).hex()),
    ALLOWED_HOSTS=["*"],  # of your project: the names that it is reached by
)

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


@require_GET
def home(_: HttpRequest) -> HttpResponse:
    return HttpResponse(pages.upload())


@require_POST
def submit(request: HttpRequest) -> HttpResponse:
    """Forward the body as it arrives: it is never whole in this process, nor on its disk."""
    query = request.GET
    try:
        video = Media(
            request,
            name=query.get("name", ""),
            content_type=request.content_type,
            size=int(request.headers.get("content-length") or 0),
        )
        task = inbox.submit(
            lambda url: client.captions.submit_video(video, query.get("prompt", ""), callback=url),
            key=query.get("key"),
        )
    except MemoriesError as error:
        logger.warning("A video was not handed in: %s", error)
        status, text = pages.in_words(error)
        return JsonResponse({"error": text}, status=status)
    return JsonResponse({"page": f"/captions/{task.task_id}"})


@require_GET
def show(_: HttpRequest, task_id: str) -> HttpResponse:
    submitted = inbox.submitted_at(task_id)
    if submitted is None:
        return HttpResponse(pages.unknown(), status=404)
    try:
        caption = inbox.result(task_id, timeout=0)
    except CallbackTimeout:
        return HttpResponse(pages.waiting(submitted))
    except TaskFailed:
        return HttpResponse(pages.failed())
    return HttpResponse(pages.caption(caption.text))


urlpatterns = [
    path("", home),
    path("captions", submit),
    path("captions/<str:task_id>", show),
]
application = wsgi_app(inbox, otherwise=get_wsgi_application())
