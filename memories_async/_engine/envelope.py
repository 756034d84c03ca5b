"""One decoder for every envelope that the three hosts and their gateways send; no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from memories_async import _json
from memories_async._engine.transport.answers import Reply
from memories_async._json import is_object
from memories_async.decoding import read_json
from memories_async.errors import (
    ApiError,
    AuthenticationError,
    BadRequest,
    CapacityReached,
    Conflict,
    EndpointGone,
    InsufficientCredits,
    NotFound,
    NotJson,
    PermissionDenied,
    RateLimited,
    ServerError,
    UnexpectedShape,
    quoted,
)

LONGEST_CODE, LONGEST_MESSAGE = 40, 500
"""Characters of a code and of a message that the service sent."""

SUCCESS_CODES = frozenset({"0000", "0", "200"})
"""What any host may call success: the documentation changed under its clients before."""

DEEPEST_ANSWER = 100
"""Levels of lists and objects in an answer. Python can neither pickle, copy nor print to JSON what
is nested some 300 levels deep; what the service sends has fewer than ten.
"""

# https://api-tools.memories.ai/api-reference/getting-started/error-codes and the older code list.
# HTTP statuses stand here too: the newest host repeats its status as code, gateways send no code.
_ERRORS: dict[str, type[ApiError]] = {
    "0001": BadRequest,
    "0003": BadRequest,
    "0401": AuthenticationError,
    "0402": InsufficientCredits,
    "0403": PermissionDenied,
    "0409": Conflict,
    "0429": RateLimited,
    "9009": PermissionDenied,
    "16": CapacityReached,
    "400": BadRequest,
    "401": AuthenticationError,
    "402": InsufficientCredits,
    "403": PermissionDenied,
    "404": NotFound,
    "405": BadRequest,
    "409": Conflict,
    "410": EndpointGone,
    "413": BadRequest,
    "415": BadRequest,
    "422": BadRequest,
    "429": RateLimited,
}

# Where the code says nothing (the captioning host only knows -1) or too much (0001), the text
# decides. The rate limiter's exact sentence is trusted only with these codes: the newest host sends
# the same one with HTTP 400 for refused files, which must not be sent again. Nor is it where the
# status says that something broke: that may have been after the work was done.
_MESSAGES: tuple[tuple[frozenset[str], re.Pattern[str], type[ApiError]], ...] = (
    # Two teams recorded it on 2026-09-19 for paths that had worked in May: 0001 at HTTP 200.
    # Before Spring 6.1 its framework says the same in two other ways.
    (
        frozenset({"-1", "0001", "0003", "0404", "0500", "400", "404", "500"}),
        re.compile(
            r"no static resource"
            r"|no (?:endpoint|handler found for) (?:GET|HEAD|POST|PUT|PATCH|DELETE)\b",
            re.IGNORECASE,
        ),
        EndpointGone,
    ),
    # A fixture of the official client's tests: busy, not "done already".
    (
        frozenset({"0409", "409"}),
        re.compile(r"\bbusy\b|try (?:again )?later", re.IGNORECASE),
        CapacityReached,
    ),
    (
        frozenset({"-1", "0001"}),
        re.compile(
            r"request has exceeded the limit(?! of [\d.,]+ ?(?:[KMGT]i?B|bytes)\b)", re.IGNORECASE
        ),
        RateLimited,
    ),
    (frozenset({"0001"}), re.compile(r"network abnormal", re.IGNORECASE), ServerError),
    (
        frozenset({"-1"}),
        re.compile(
            r"is not allowed|is not null|not support|exceeds the limit|exceeded the limit of"
            r"|failed to fetch",
            re.IGNORECASE,
        ),
        BadRequest,
    ),
    (frozenset({"0001", "400"}), re.compile(r"not found|does not exist", re.IGNORECASE), NotFound),
)


TURNED_AWAY = (RateLimited, CapacityReached)
"""Refusals that say that nothing was done, so that even what is billed is sent again."""

_NO_CONTENT = 204


def decode(status: int, headers: Mapping[str, str], body: bytes) -> object:
    """Return the ``data`` of a successful answer.

    Args:
        status: HTTP status.
        headers: HTTP headers; any mapping that looks names up without regard to case, or with
            names in lower case.
        body: The whole body, unpacked.

    Raises:
        ApiError: The service or a gateway refused; the subclass says why.
        DecodeError: The answer is not JSON, not of a known shape, or nested beyond reason.
    """
    if 300 <= status < 400:
        raise ApiError("redirect refused", code=str(status), status=status)
    if status == _NO_CONTENT:
        return None
    try:
        answer = read_json(body, headers.get("content-type", "")) if body else None
    except _json.JSONDecodeError:
        if status >= 400:
            raise _error(str(status), status, _reason(status, body), headers) from None
        raise NotJson(
            f"the answer is not JSON (HTTP {status}, {headers.get('content-type', 'no type')})",
            answer=body.decode("utf-8", "replace"),
            status=status,
            snippet=_snippet(body),
        ) from None
    if not is_object(answer):
        if status >= 400:
            raise _error(str(status), status, _reason(status, body), headers)
        raise _unexpected("no envelope", status, body, answer)
    if _may_be_too_deep(body) and _is_too_deep(answer):
        text = body.decode("utf-8", "replace")  # paid for, and as text it can be kept
        raise _unexpected(f"more than {DEEPEST_ANSWER} levels", status, body, text)
    return _open(answer, status, headers, body)


def data_beside(refusal: Reply) -> object:
    """Return the data of an answer that was a refusal, if it has any."""
    try:
        answer = read_json(refusal.body, refusal.headers.get("content-type", ""))
    except _json.JSONDecodeError:
        return None
    if not is_object(answer):
        return None
    return _flatten(answer.get("data")) if "data" in answer else answer


def _open(
    answer: dict[str, object], status: int, headers: Mapping[str, str], body: bytes
) -> object:
    code = _code_of(answer)
    if code is None:
        # A chat completion has no envelope; a gateway's body has its own fields and no code.
        error = answer.get("error")
        if answer.get("status") == "errored" or is_object(error):
            inner: dict[str, object] = error if is_object(error) else {}
            raise _error(
                _code_of(inner) or str(status),
                status,
                _text(inner.get("message")) or "the service reported an error",
                headers,
            )
        refused = answer.get("failed") is True or answer.get("success") is False
        if status >= 400 or refused:
            said = _message_of(answer) or _reason(status, body)
            raise _error(str(status), status, said, headers)
        if answer.get("status") == "completed":
            return answer
        # Recorded: {"success": true, "data": ...} without a code.
        if answer.get("success") is True and "data" in answer:
            return _flatten(answer["data"])
        raise _unexpected("no code", status, body, answer)
    refused = answer.get("failed") is True or answer.get("success") is False or status >= 400
    if code not in SUCCESS_CODES or refused:
        if code in SUCCESS_CODES:
            code = str(status) if status >= 400 else code
        raise _error(code, status, _message_of(answer) or _reason(status, b""), headers)
    return _flatten(answer.get("data"))


def _may_be_too_deep(body: bytes) -> bool:
    """Tell whether an answer has more brackets than levels are allowed; others are not looked into.

    Finding each costs a thirtieth of counting them, where there are few in a long vector.
    """
    if len(body) <= 2 * DEEPEST_ANSWER:  # each level has two
        return False
    brackets = 0
    for bracket in (b"[", b"{"):
        place = body.find(bracket)
        while place >= 0:
            brackets += 1
            if brackets > DEEPEST_ANSWER:
                return True
            place = body.find(bracket, place + 1)
    return False


def _is_too_deep(answer: object) -> bool:
    level = [answer]
    for _ in range(DEEPEST_ANSWER):
        level = [
            item
            for outer in level
            for item in (outer.values() if is_object(outer) else cast("list[object]", outer))
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def _flatten(data: object) -> object:
    """Lift the inner ``data`` of ``{data: {data: {...}, token: ...}}`` (the video captions)."""
    if is_object(data) and is_object(inner := data.get("data")):
        return {**{key: value for key, value in data.items() if key != "data"}, **inner}
    return data


def _message_of(answer: Mapping[str, object]) -> str:
    """Return what an answer says of itself, wherever that stands; what is no text as JSON."""
    for name in ("msg", "message", "error", "detail"):
        said = answer.get(name)
        if said and isinstance(said, str | dict | list):
            return said if isinstance(said, str) else _json.dumps(said).decode()
    return ""


def _code_of(answer: Mapping[str, object]) -> str | None:
    code = answer.get("code")
    if isinstance(code, float) and code.is_integer():
        code = int(code)  # as some of Java's writers print any number
    if isinstance(code, bool) or not isinstance(code, (int, str)):
        return None
    text = str(code).strip()
    if text in SUCCESS_CODES:
        return text
    # The chat stream and the webhooks spell success as a word.
    return "0" if text.upper() == "SUCCESS" else text


def _error(code: str, status: int, message: str, headers: Mapping[str, str]) -> ApiError:
    code = quoted(code, LONGEST_CODE)
    message = quoted(message, LONGEST_MESSAGE) or f"HTTP {status} without a message"
    kind = _kind(code, status, message)
    if kind is RateLimited:
        return RateLimited(message, code=code, status=status, retry_after=_retry_after(headers))
    return kind(message, code=code, status=status)


def _kind(code: str, status: int, message: str) -> type[ApiError]:
    if status == 429:
        return RateLimited
    broken = status >= 500
    for codes, pattern, kind in _MESSAGES:
        if code in codes and pattern.search(message) and not (broken and kind in TURNED_AWAY):
            return kind
    if broken:
        return ServerError
    # 16 is a business code; as an HTTP status it cannot occur.
    return (
        _ERRORS.get(code)
        or _ERRORS.get(str(status))
        or (ServerError if code.isdigit() and len(code) == 3 and code[0] == "5" else ApiError)
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After``: seconds or a date; what is neither, or no real time, is no hint."""
    value = (headers.get("Retry-After") or headers.get("retry-after") or "").strip()
    if not value:
        return None
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", value):
        return float(value)
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


def _reason(status: int, body: bytes) -> str:
    snippet = _snippet(body)
    return f"HTTP {status}: {snippet}" if snippet else f"HTTP {status} without a message"


def _unexpected(what: str, status: int, body: bytes, answer: object) -> UnexpectedShape:
    return UnexpectedShape(
        f"the answer has {what} (HTTP {status})",
        answer=answer,
        status=status,
        snippet=_snippet(body),
    )


def _snippet(body: bytes) -> str:
    return quoted(body[:800].decode("utf-8", "replace"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
