"""The inbox as a WSGI application, for Flask, Django and every other one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from memories_async.callbacks.responses import (
    BLOCKING_INBOX,
    MOST_BYTES,
    NO_LENGTH,
    CallbackResponse,
    path_of,
    refuse,
)
from memories_async.checks import checked
from memories_async.checks.kinds import HOOK

if TYPE_CHECKING:
    from wsgiref.types import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

    from memories_async.sync import CallbackInbox


@checked({"inbox": BLOCKING_INBOX, "otherwise": HOOK})
def wsgi_app(inbox: CallbackInbox, otherwise: WSGIApplication | None = None) -> WSGIApplication:
    """Return a WSGI application that receives for an inbox.

    ``app.wsgi_app = wsgi_app(inbox, otherwise=app.wsgi_app)`` in Flask,
    ``application = wsgi_app(inbox, otherwise=get_wsgi_application())`` in Django.

    Args:
        inbox: The blocking inbox, of ``memories_async.sync``; closing it stays with you.
        otherwise: The application for every path that is not below the inbox's address.

    Raises:
        ConfigurationError: The inbox is none, or the asyncio one; or the application none.
    """
    below = path_of(inbox.address) + "/"

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        decoded = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        # PEP 3333: bytes, each as the character of its number.
        path = decoded.encode("latin-1", "replace").decode("utf-8", "replace")
        if otherwise is not None and not path.startswith(below):
            return otherwise(environ, start_response)
        response = _respond(inbox, path, environ)
        headers = {**response.headers, "Content-Length": str(len(response.body))}
        headers.pop("Connection", None)  # PEP 3333 leaves the connection to the server
        phrase = HTTPStatus(response.status).phrase
        start_response(f"{response.status} {phrase}", list(headers.items()))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]

    return application


def _respond(inbox: CallbackInbox, path: str, environ: WSGIEnvironment) -> CallbackResponse:
    given = str(environ.get("CONTENT_LENGTH") or "")
    length = int(given) if given.isdecimal() else None
    refusal = refuse(environ["REQUEST_METHOD"], length)
    if refusal is not None:
        return refusal
    if length is None and not environ.get("wsgi.input_terminated"):
        return NO_LENGTH  # reading on would wait for ever on some servers
    stream = cast("InputStream", environ["wsgi.input"])
    return inbox.receive(path, lambda: _read(stream, length), peer=environ.get("REMOTE_ADDR"))


def _read(stream: InputStream, length: int | None) -> bytes:
    body = bytearray()
    wanted = MOST_BYTES + 1 if length is None else length
    # Whoever leaves in the middle has sent half a body, and that is not JSON.
    with contextlib.suppress(OSError):
        while len(body) < wanted and (piece := stream.read(wanted - len(body))):
            body += piece
    return bytes(body)
