"""What an exchange came to for the caller: a value, or the exception that says what happened."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

from memories_async._engine import envelope
from memories_async._engine.body.writer import Transfer
from memories_async._engine.convert import structure
from memories_async._engine.request import Request, State
from memories_async._engine.transport.answers import Reply, Saved
from memories_async._engine.transport.downloads import PartialFile
from memories_async._engine.transport.failures import Failure, Fault
from memories_async._json import is_array, is_object
from memories_async.checks import unchecked
from memories_async.errors import (
    AnswerTimeout,
    AnswerTooLarge,
    ApiError,
    ConnectError,
    ConnectTimeout,
    DeadlineExceeded,
    DecodeError,
    DnsError,
    MemoriesError,
    NotFound,
    OutcomeUnknown,
    StallTimeout,
    TlsError,
    UnexpectedShape,
)
from memories_async.observe.prices import DOWNLOAD_PER_GB
from memories_async.operations import Answer, Operation, Replay
from memories_async.results import HttpExchange, completed

T = TypeVar("T")

_STATUS, _FILE = Answer.STATUS, Answer.FILE  # looked up once, as the states of a request are
_NOT_CONNECTED: dict[Fault, type[ConnectError]] = {
    Fault.DNS: DnsError,
    Fault.CERTIFICATE: TlsError,
    Fault.CONNECT: ConnectError,
    Fault.CONNECT_TIMEOUT: ConnectTimeout,
}


def value_of(request: Request[T], answer: Reply | Saved, number: int, now: float) -> T:
    """Return what the caller asked for.

    Args:
        request: What was asked.
        answer: What came.
        number: The number of the attempt, from 1.
        now: The clock's time.

    Raises:
        ApiError: The service refused.
        DecodeError: The answer cannot be read.
    """
    operation = request.operation
    try:
        data = _data_of(answer, operation)
    except envelope.TURNED_AWAY as refusal:
        raise _believed(refusal, answer, request) from None
    value = structure(data, operation.result, request.known)
    exchange = unchecked(
        HttpExchange,
        status=answer.status,
        headers=answer.headers,
        seconds=now - request.started,
        digest=request.digest(),
    )
    return completed(value, attempts=number, http=exchange)


def _believed(refusal: ApiError, answer: Reply | Saved, request: Request[Any]) -> MemoriesError:
    """Return what it is to be turned away: another thing where the result came along.

    Who is turned away comes again, also with what is billed. A result says that it was served.
    """
    if isinstance(answer, Saved) or request.operation.replay is Replay.FREE_READ:
        return refusal
    data = envelope.data_beside(answer)
    if _says_something(data):
        try:
            served = structure(data, request.operation.result, request.known)
        except DecodeError:
            served = None
        if served is not None:
            return UnexpectedShape(
                f"the answer has both a refusal and a result: {refusal.message}",
                answer=data,
                status=answer.status,
            )
    return refusal


def _says_something(data: object) -> bool:
    """Tell whether anything in an answer's data is more than nothing, zero or empty."""
    if is_object(data):
        return any(map(_says_something, data.values()))
    return any(map(_says_something, data)) if is_array(data) else bool(data)


def _data_of(answer: Reply | Saved, operation: Operation[Any]) -> object:
    if isinstance(answer, Saved):
        return {"path": answer.path, "size": answer.size, "content_type": answer.content_type}
    if operation.answer is _STATUS and 200 <= answer.status < 300:
        return None
    data = envelope.decode(answer.status, answer.headers, answer.body)
    if operation.answer is _FILE:
        raise UnexpectedShape("the answer is JSON instead of a file", status=answer.status)
    if data is None and operation.null_means:
        raise NotFound(operation.null_means, code="404", status=answer.status)
    return data


def error_of(
    failure: Failure, request: Request[Any], transfer: Transfer, now: float
) -> MemoriesError:
    """Return what a failed exchange means to the caller.

    Args:
        failure: What the transport saw.
        request: What was asked.
        transfer: How far it got.
        now: The clock's time.
    """
    fault = failure.fault
    message = f"{fault.value} ({failure.detail})" if failure.detail else fault.value
    if (kind := _NOT_CONNECTED.get(fault)) is not None:
        return kind(message)
    if fault is Fault.TOO_LARGE:
        return AnswerTooLarge("the answer exceeds 16 MiB", status=failure.status)
    if fault is Fault.PACKED:
        if request.file is not None and request.file.came:
            message += f": {_advice_on(request.file)}"
        return DecodeError(message, status=failure.status)
    if transfer.state is State.SENT:
        if fault is Fault.TIMED_OUT:
            late = request.until is not None and request.until <= now
            message = f"no answer came {'before the deadline' if late else 'in time'}"
            return _unknown(AnswerTimeout, message, failure.status, request, transfer, now)
        return _unknown(OutcomeUnknown, message, failure.status, request, transfer, now)
    so_far = f"after {transfer.sent} of {transfer.total} bytes"
    if fault is Fault.TIMED_OUT:
        return DeadlineExceeded(f"the deadline passed {so_far}")
    if fault is Fault.STALLED:
        seconds = request.policy.stall_timeout
        return StallTimeout(f"the peer accepted no byte for {seconds:g} s {so_far}")
    return ConnectError(f"{message} {so_far}")


def unknown_after(
    error: MemoriesError, request: Request[Any], transfer: Transfer, now: float
) -> OutcomeUnknown:
    """Return what is raised where a billed call got an answer that leaves its outcome open."""
    if isinstance(error, OutcomeUnknown):
        return error
    status = error.status if isinstance(error, ApiError) else None
    message = f"the service failed: {error.message}"
    unknown = _unknown(OutcomeUnknown, message, status, request, transfer, now, state="ANSWERED")
    unknown.__cause__ = error
    return unknown


def final_error(last: MemoriesError, unknown: OutcomeUnknown | None) -> MemoriesError:
    """Return what a call raises that was sent several times.

    Args:
        last: What the last attempt ended with.
        unknown: What an attempt left open that was repeated because the caller accepts to pay
            twice. Its bill is not undone by how the last one ended.
    """
    if unknown is None or isinstance(last, OutcomeUnknown):
        return last
    unknown.operation, unknown.attempts = last.operation, last.attempts
    unknown.__cause__ = last
    return unknown


def note_unknown(
    interruption: BaseException, operation: Operation[Any], unknown: OutcomeUnknown
) -> None:
    """Tell who ends a call from outside what an attempt before had left open.

    Args:
        interruption: What ended it: a cancellation, or what a hook of the caller raised.
        operation: What was asked.
        unknown: As in ``final_error``.
    """
    interruption.add_note(
        f"{operation}: ended before it was sent again, after {unknown.message}; "
        "it may have been billed"
    )


def _unknown(
    kind: type[OutcomeUnknown],
    message: str,
    status: int | None,
    request: Request[Any],
    transfer: Transfer,
    now: float,
    *,
    state: str = "SENT",
) -> OutcomeUnknown:
    error = kind(
        message,
        state=state,
        bytes_sent=transfer.sent,
        elapsed=now - request.started,
        sent_at=None if transfer.sent_at is None else datetime.fromtimestamp(transfer.sent_at, UTC),
        request_digest=request.digest(),
        status=status,
    )
    if (file := request.file) is not None and file.came:
        error.advice = _advice_on(file)
    elif request.operation.replay is Replay.FREE_READ:
        error.advice = "The call is free and changes nothing: call again"
    return error


def _advice_on(file: PartialFile) -> str:
    size = f" of {file.total:,}" if file.total is not None else ""
    price = f"${DOWNLOAD_PER_GB} per GB"
    if file.total is not None:
        price += f", here up to ${file.total / 1e9 * DOWNLOAD_PER_GB:.4f}"
    return (
        f"{file.came:,}{size} bytes had come and may be billed; calling again begins anew and "
        f"may bill them once more ({price})"
    )
