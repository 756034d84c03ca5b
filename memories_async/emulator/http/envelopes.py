"""What the services wrap around data and refusals: each has its own spelling."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

import attrs

from memories_async import _json
from memories_async.checks import checked
from memories_async.checks.kinds import Kind, Problem, shown
from memories_async.checks.parameters import between
from memories_async.operations import Service


def _headers_problem(name: str, headers: Mapping[object, object]) -> Problem:
    for header, value in headers.items():
        if not isinstance(header, str) or not isinstance(value, str) or "\n" in value:
            return f"{name}[{shown(header)}] is {shown(value)}; lines of text are wanted"
    return None


_HEADERS = Kind(
    "a mapping of texts to texts", lambda value: isinstance(value, Mapping), _headers_problem
)
_STATUS = Kind("an HTTP status, e.g. 503", lambda value: value in tuple(map(int, HTTPStatus)))


@checked({"status": between(100, 999), "headers": _HEADERS})
@attrs.frozen(kw_only=True)
class HttpResponse:
    """An HTTP answer, as a value.

    Attributes:
        status: The HTTP status.
        body: Bytes are sent as they are, anything else as JSON.
        headers: Sent as given; the content type is JSON unless they say otherwise.
        chunks: Sent in place of ``body``, chunked, for as long as the client takes them; may be
            endless.
        file: Sent in place of ``body``, straight from the disk.
    """

    status: int = 200
    body: object = b""
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    chunks: Iterable[bytes] | None = None
    file: Path | None = None

    def payload(self) -> bytes:
        """Return the body as it goes on the wire."""
        if self.file is not None:
            return self.file.read_bytes()  # only where a fault is to cut it or make it drip
        if isinstance(self.body, bytes | bytearray):
            return bytes(self.body)
        return _json.dumps(self.body)

    @property
    def code(self) -> str | int | None:
        """The envelope's business code, or None where there is no envelope."""
        body = self.body
        code = body.get("code") if _json.is_object(body) else None
        return code if isinstance(code, str | int) else None


class Reason(enum.Enum):
    """Why the service refuses; each service has its own code for it, and some a text."""

    BAD_REQUEST = enum.auto()
    KEY = enum.auto()
    NO_CREDITS = enum.auto()
    ACCOUNT_DISABLED = enum.auto()
    CONFLICT = enum.auto()
    BUSY = enum.auto()
    THROTTLED = enum.auto()
    SERVER = enum.auto()


class Refusal(Exception):
    """The service answers no.

    Attributes:
        reason: What is said in the service's own code.
        message: What is said in words; None is the reason's usual text.
    """

    def __init__(self, reason: Reason, message: str | None = None) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message


# https://api-tools.memories.ai/api-reference/getting-started/error-codes for the third service;
# the second has one code for a bad parameter and for its own trouble, the first has -1 for all.
_CODES = {
    Reason.BAD_REQUEST: ("0001", 400),
    Reason.KEY: ("0401", 401),
    Reason.NO_CREDITS: ("0402", 402),
    Reason.ACCOUNT_DISABLED: ("0403", 403),
    Reason.CONFLICT: ("0409", 409),
    Reason.BUSY: ("0409", 429),
    Reason.THROTTLED: ("0429", 429),
    Reason.SERVER: ("0001", 500),
}
_MESSAGES = {
    Reason.BAD_REQUEST: "Invalid request parameters",
    Reason.KEY: "Unauthorized",
    Reason.NO_CREDITS: "Insufficient credits",
    Reason.ACCOUNT_DISABLED: "Account disabled",
    Reason.CONFLICT: "Operation cannot be repeated",
    Reason.BUSY: "Service is busy, try later",
    Reason.THROTTLED: "Request has exceeded the limit.",
    Reason.SERVER: "Network abnormal",
}


def success(service: Service, data: object) -> HttpResponse:
    """Wrap data as the service does."""
    match service:
        case Service.CAPTION:
            return HttpResponse(body={"code": 0, "msg": "success", "data": data})
        case Service.VISUAL_SEARCH:
            return HttpResponse(body=_flagged("0000", "success", data))
        case Service.VISUAL_INTELLIGENCE:
            return HttpResponse(body=_flagged(200, "success", data))
        case Service.STORAGE:
            return HttpResponse(status=204, headers={"Content-Type": "text/html"})


def failure(service: Service, reason: Reason, message: str | None = None) -> HttpResponse:
    """Say no as the service does: two of them at HTTP 200, one with the code as status."""
    text_code, number_code = _CODES[reason]
    match service:
        case Service.CAPTION:
            message = f"failure: {message or _MESSAGES[reason]}"
            return HttpResponse(body={"code": -1, "msg": message, "data": None})
        case Service.VISUAL_SEARCH:
            return HttpResponse(body=_flagged(text_code, message or _MESSAGES[reason], None))
        case Service.VISUAL_INTELLIGENCE:
            if reason is Reason.THROTTLED:
                message = message or "Rate limit exceeded"
            body = _flagged(number_code, message or _MESSAGES[reason], None)
            return HttpResponse(status=number_code, body=body)
        case Service.STORAGE:
            return HttpResponse(
                status=number_code,
                body=f"<Error><Code>{escape(message or _MESSAGES[reason])}</Code></Error>".encode(),
                headers={"Content-Type": "application/xml"},
            )


def download(name: str, content_type: str, file: Path) -> HttpResponse:
    """HttpResponse with a file, as both services do."""
    return HttpResponse(
        file=file,
        headers={
            "Content-Type": content_type or "application/octet-stream",
            # Encoded, for the name is the client's and this is a header.
            "Content-Disposition": f'attachment; filename="{quote(name, errors="replace")}"',
        },
    )


@checked({"status": _STATUS})
def gateway(status: int, path: str = "/") -> HttpResponse:
    """HttpResponse as the gateway before the services does: without a code."""
    return HttpResponse(
        status=status,
        body={
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "path": path,
            "status": status,
            "error": HTTPStatus(status).phrase,
            "requestId": uuid.uuid4().hex[:8],
        },
    )


def unknown_path(service: Service | None, path: str, method: str) -> HttpResponse:
    """Answer for a path that no operation has.

    Visual search says it in an envelope at HTTP 200 (recorded on 2026-09-19).
    """
    if service is Service.VISUAL_SEARCH:
        missing = f"No static resource {path.removeprefix('/serve/')}."
        return failure(service, Reason.BAD_REQUEST, missing)
    return gateway(404, path)


def wrong_method(service: Service | None, path: str, method: str) -> HttpResponse:
    """Answer for a path of another method; visual intelligence has a code for it."""
    return _unsupported(service, 405, path, f"{method} not supported")


def wrong_content_type(service: Service | None, path: str, content_type: str) -> HttpResponse:
    """Answer for a body of another kind; visual intelligence has a code for it."""
    return _unsupported(service, 415, path, f"Content-Type '{content_type}' is not supported")


# https://api-tools.memories.ai/api-reference/getting-started/error-codes: HTTP equal to the code.
def _unsupported(service: Service | None, status: int, path: str, message: str) -> HttpResponse:
    match service:
        case Service.VISUAL_INTELLIGENCE:
            return HttpResponse(status=status, body=_flagged(status, message, None))
        case Service.VISUAL_SEARCH:  # as it says that a path is unknown
            return failure(service, Reason.BAD_REQUEST, message)
        case _:
            return gateway(status, path)


def _flagged(code: str | int, message: str, data: object) -> dict[str, object]:
    failed = code not in {"0000", 200}
    return {"code": code, "msg": message, "data": data, "success": not failed, "failed": failed}
