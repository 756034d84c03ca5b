"""What is answered to whoever posts to an address, whichever framework receives it; no I/O."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import attrs

from memories_async import _json
from memories_async.checks.kinds import Kind


def _is_inbox(value: object, *, awaited: bool) -> bool:
    receive: object = getattr(value, "receive", None)
    is_one = callable(receive) and not isinstance(value, type)
    return is_one and inspect.iscoroutinefunction(receive) is awaited


INBOX = Kind("a CallbackInbox", lambda value: _is_inbox(value, awaited=True))
BLOCKING_INBOX = Kind(
    "a CallbackInbox of memories_async.sync", lambda value: _is_inbox(value, awaited=False)
)

MOST_BYTES = 1 << 20
"""No callback is larger: 1 MiB."""

BODY_SECONDS = 30.0
"""How long a body may take to come."""


@attrs.frozen
class CallbackResponse:
    """An HTTP response, for a framework to send.

    Attributes:
        status: The HTTP status.
        body: JSON.
        headers: All that are needed, but for the length.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]


def response(status: int, message: str, **headers: str) -> CallbackResponse:
    """Say it in the service's own envelope: it takes code 0 alone for an acknowledgement."""
    envelope = {"code": 0 if status == 200 else -1, "msg": message, "data": None}
    return CallbackResponse(
        status, _json.dumps(envelope), {"Content-Type": "application/json", **headers}
    )


# Who is refused may still be sending: the connection ends with the answer.
ACKNOWLEDGED = response(200, "success")
NOT_FOUND = response(404, "not found", Connection="close")
NOT_READABLE = response(400, "not a callback")
NOT_FROM_THERE = response(403, "forbidden", Connection="close")
NO_LENGTH = response(411, "no Content-Length")
ONLY_POST = response(405, "only POST", Allow="POST")
TOO_SLOW = response(408, f"more than {BODY_SECONDS:g} s", Connection="close")
TOO_LARGE = response(413, f"more than {MOST_BYTES} bytes", Connection="close")
UNAVAILABLE = response(503, "try again later")


def refuse(method: str, length: int | None) -> CallbackResponse | None:
    """Return the refusal of a request whose head is enough to refuse it.

    Args:
        method: The HTTP method.
        length: The Content-Length, or None where there is none.
    """
    if method != "POST":
        return ONLY_POST
    if length is not None and length > MOST_BYTES:
        return TOO_LARGE
    return None


def path_of(address: str) -> str:
    """Return an address's path as a web server hands it on: decoded."""
    return unquote(urlsplit(address).path)
