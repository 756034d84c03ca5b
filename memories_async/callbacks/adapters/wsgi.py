"""The inbox as a WSGI application, for Flask, Django and every other one."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from memories_async.callbacks.responses import MOST_BYTES, NO_LENGTH, CallbackResponse, refuse

if TYPE_CHECKING:
    from wsgiref.types import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

    from memories_async.callbacks.blocking import BlockingInbox


def wsgi_app(inbox: BlockingInbox, otherwise: WSGIApplication | None = None) -> WSGIApplication:
    """Return a WSGI application that receives for an inbox.

    ``app.wsgi_app = wsgi_app(inbox, otherwise=app.wsgi_app)`` in Flask,
    ``application = wsgi_app(inbox, otherwise=get_wsgi_application())`` in Django.

    Args:
        inbox: The inbox; closing it stays with you.
        otherwise: The application for every path that is not below the inbox's address.
    """
    below = urlsplit(inbox.address).path + "/"

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        if otherwise is not None and not path.startswith(below):
            return otherwise(environ, start_response)
        answer = _answer(inbox, path, environ)
        headers = {**answer.headers, "Content-Length": str(len(answer.body))}
        headers.pop("Connection", None)  # PEP 3333 leaves the connection to the server
        phrase = HTTPStatus(answer.status).phrase
        start_response(f"{answer.status} {phrase}", list(headers.items()))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    return application


def _answer(inbox: BlockingInbox, path: str, environ: WSGIEnvironment) -> CallbackResponse:
    given = str(environ.get("CONTENT_LENGTH") or "")
    length = int(given) if given.isdecimal() else None
    refusal = refuse(environ["REQUEST_METHOD"], length)
    if refusal is not None:
        return refusal
    if length is None and not environ.get("wsgi.input_terminated"):
        return NO_LENGTH  # reading on would wait for ever on some servers
    body = _read(cast("InputStream", environ["wsgi.input"]), length)
    return inbox.receive(path, body, peer=environ.get("REMOTE_ADDR"))


def _read(stream: InputStream, length: int | None) -> bytes:
    body = bytearray()
    wanted = MOST_BYTES + 1 if length is None else length
    while len(body) < wanted and (piece := stream.read(wanted - len(body))):
        body += piece
    return bytes(body)
