"""Every exception the package raises, each saying what happened and what the caller can do.

MemoriesError
├── ConfigurationError            no key, bad base_url, bad option: before any I/O
├── MediaError                    a file, bytes or stream that cannot be sent
│   ├── UnsupportedMedia          not a format the endpoint documents
│   ├── MediaTooLarge             over the documented size
│   ├── MediaTooLong              over the documented duration
│   └── MediaChanged              changed on disk between the check and the last byte
├── ClosedError                   the client has been closed
├── ConnectError                  nothing was sent
│   ├── DnsError
│   ├── TlsError
│   └── ConnectTimeout            (also TimeoutError)
├── StallTimeout                  the peer stopped accepting bytes mid-body (also TimeoutError)
├── DeadlineExceeded              the caller's deadline passed (also TimeoutError)
├── OutcomeUnknown                the whole request left us and no answer came
│   └── AnswerTimeout             (also TimeoutError)
├── ApiError                      the service answered, and the answer is no
│   ├── BadRequest
│   ├── AuthenticationError
│   ├── PermissionDenied
│   ├── InsufficientCredits
│   ├── NotFound
│   │   └── EndpointGone          the path itself is no longer served
│   ├── Conflict
│   ├── RateLimited
│   ├── CapacityReached
│   └── ServerError
├── DecodeError                   an answer came that cannot be read
│   ├── AnswerTooLarge
│   ├── NotJson
│   └── UnexpectedShape
├── LimiterUnavailable            the shared rate limiter cannot be reached
├── StoreUnavailable              where callbacks are kept cannot be reached
├── LedgerUnavailable             the ledger of what was sent cannot be reached
├── BudgetExceeded                the call would cost more than a budget leaves: nothing was sent
├── JournalError                  a bulk job's file cannot be read or written
│   └── JobBusy                   another run of the job is alive
├── CallbackTimeout               no callback arrived in time (also TimeoutError)
└── TaskFailed                    the service called back to say that the task failed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = [
    "AnswerTimeout",
    "AnswerTooLarge",
    "ApiError",
    "AuthenticationError",
    "BadRequest",
    "BudgetExceeded",
    "CallbackTimeout",
    "CapacityReached",
    "ClosedError",
    "ConfigurationError",
    "Conflict",
    "ConnectError",
    "ConnectTimeout",
    "DeadlineExceeded",
    "DecodeError",
    "DnsError",
    "EndpointGone",
    "InsufficientCredits",
    "JobBusy",
    "JournalError",
    "LedgerUnavailable",
    "LimiterUnavailable",
    "MediaChanged",
    "MediaError",
    "MediaTooLarge",
    "MediaTooLong",
    "MemoriesError",
    "NotFound",
    "NotJson",
    "OutcomeUnknown",
    "PermissionDenied",
    "RateLimited",
    "ServerError",
    "StallTimeout",
    "StoreUnavailable",
    "TaskFailed",
    "TlsError",
    "UnexpectedShape",
    "UnsupportedMedia",
]


def quoted(text: str, limit: int = 200) -> str:
    """Return text from outside as a message may hold it: one line, printable, not too long.

    Args:
        text: What the service, a gateway or a file said; it may be hostile.
        limit: How many characters may stay.
    """
    some = text[: limit * 4]  # a message as long as the answer is never looked through whole
    if not some.isprintable() or "  " in some:
        some = " ".join("".join(c if c.isprintable() else " " for c in some).split())
    return some if len(some) <= limit else f"{some[: limit - 1]}…"


class MemoriesError(Exception):
    """The root of every exception this package raises on purpose.

    Attributes:
        message: What happened, without the operation and the advice.
        operation: The call and its endpoint, e.g. ``captions.image (POST /v1/...)``, when known.
        attempts: How many attempts had been made when it was raised; 0 before the first.
    """

    advice: str = ""

    def __init__(self, message: str, *, operation: str | None = None, attempts: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.attempts = attempts

    def __str__(self) -> str:
        where = f"{self.operation}: " if self.operation else ""
        tries = {0: "", 1: " (1 attempt)"}.get(self.attempts, f" ({self.attempts} attempts)")
        what = self.message.rstrip(".") if self.advice else self.message
        return f"{where}{what}{tries}{'. ' if self.advice else ''}{self.advice}"

    def __reduce__(self) -> tuple[object, ...]:
        # The default rebuilds from ``args`` alone and would lose the keyword-only attributes.
        return _restore, (type(self), self.args, dict(self.__dict__))


def _restore(
    cls: type[MemoriesError], args: tuple[object, ...], state: dict[str, object]
) -> MemoriesError:
    error = cls.__new__(cls, *args)
    error.args = args  # which TimeoutError, being an OSError, would set in __init__ only
    error.__dict__.update(state)
    return error


class ConfigurationError(MemoriesError):
    """A key, address or option is missing or wrong; nothing was sent."""


class MediaError(MemoriesError):
    """A file, bytes or stream cannot be sent as it is; a complete request never left.

    Attributes:
        problems: One line per refused source, so that a batch names every bad file at once.
    """

    def __init__(
        self,
        message: str,
        *,
        problems: Sequence[str] = (),
        operation: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, operation=operation, attempts=attempts)
        self.problems = tuple(problems) or (message,)


class UnsupportedMedia(MediaError):
    """The name or the first bytes are not of a format that the endpoint documents."""


class MediaTooLarge(MediaError):
    """The media is larger than the endpoint documents."""


class MediaTooLong(MediaError):
    """The video lasts longer than the endpoint documents."""


class MediaChanged(MediaError):
    """The file changed between its check and its last byte; the upload was cut short."""

    advice = "Nothing complete was sent: call again once the file is at rest"


class ClosedError(MemoriesError):
    """The client has been closed; make a new one."""


class ConnectError(MemoriesError):
    """No connection could be made, or it was lost before the whole request had been sent."""

    advice = "Nothing whole was sent and nothing billed: check the network, then call again"


class DnsError(ConnectError):
    """The host name did not resolve."""


class TlsError(ConnectError):
    """The TLS handshake failed or the certificate was refused; the key was not sent."""

    advice = "Nothing was sent: check the certificate, or pass ssl_context with your own CA"


class ConnectTimeout(ConnectError, TimeoutError):
    """The connection was not established in time."""


class StallTimeout(MemoriesError, TimeoutError):
    """The peer accepted no byte for the stall time; the request never became whole."""

    advice = "The request never became whole, so it was not billed: call again"


class DeadlineExceeded(MemoriesError, TimeoutError):
    """The caller's deadline passed before the request was sent."""

    advice = "Nothing complete was sent: call again with a longer deadline"


class OutcomeUnknown(MemoriesError):
    """The whole request left us and no usable answer came: it may have been billed.

    Attributes:
        state: How far the request got: ``"SENT"``, or ``"ANSWERED"`` for a gateway's answer.
        bytes_sent: Bytes of the body handed to the network.
        elapsed: Seconds from the start of the call to this error.
        sent_at: When the last byte was handed over, in UTC; None if that was not seen.
        request_digest: A short digest of what was asked, to compare with your own records.
        status: The HTTP status, if one arrived.
    """

    advice = (
        "It may have been billed. Check whether the result exists before calling again, "
        'or opt in with CallOptions(replay="accept_double_billing")'
    )

    def __init__(
        self,
        message: str,
        *,
        state: str = "SENT",
        bytes_sent: int = 0,
        elapsed: float = 0.0,
        sent_at: datetime | None = None,
        request_digest: str = "",
        status: int | None = None,
        operation: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, operation=operation, attempts=attempts)
        self.state = state
        self.bytes_sent = bytes_sent
        self.elapsed = elapsed
        self.sent_at = sent_at
        self.request_digest = request_digest
        self.status = status

    def __str__(self) -> str:
        when = f" at {self.sent_at:%H:%M:%S} UTC" if self.sent_at else ""
        return f"{super().__str__()} [{self.bytes_sent} bytes sent{when}]"


class AnswerTimeout(OutcomeUnknown, TimeoutError):
    """The whole request left us and the answer did not come in time."""


class ApiError(MemoriesError):
    """The service, or a gateway before it, answered with an error.

    Attributes:
        code: The business code as text, e.g. ``"0402"``, ``"-1"`` or ``"400"``; the HTTP
            status as text where a gateway sent no code.
        status: The HTTP status. The service reports many errors at 200.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        operation: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, operation=operation, attempts=attempts)
        self.code = code
        self.status = status

    def __str__(self) -> str:
        return f"{super().__str__()} [code {self.code}, HTTP {self.status}]"


class BadRequest(ApiError):
    """A parameter or a file was refused (codes 0001, 0003, 400, 405, 413, 415)."""


class AuthenticationError(ApiError):
    """The key is missing or invalid (codes 0401, 401)."""

    advice = "Check the key; the captioning host needs its own"


class PermissionDenied(ApiError):
    """The account is disabled or the key may not do this (codes 0403, 403, 9009)."""


class InsufficientCredits(ApiError):
    """The account's credit balance does not cover the call (codes 0402, 402)."""

    advice = "Top up the account, then call again"


class NotFound(ApiError):
    """The video, asset or path does not exist."""


class EndpointGone(NotFound):
    """The service knows no such path any more ("No static resource ...")."""

    advice = (
        "Nothing was done. Either base_url leads elsewhere, or the service has retired this API: "
        "recorded alive on 2026-05-17; on 2026-09-19 two teams got this answer for upload_img and "
        "search while their keys worked on its newer product, the Video Datalake "
        "(api.memories.ai/serve/datalake/v1), which this package does not speak. Ask the service"
    )


class Conflict(ApiError):
    """The operation was done already and cannot be repeated (codes 0409, 409)."""


class RateLimited(ApiError):
    """The account's rate limit was exceeded (codes 0429, 429) and the retry budget spent.

    Attributes:
        retry_after: Seconds to wait before calling again, when known.
    """

    advice = "Throttled calls are not billed: wait, lower the rate, then call again"

    def __init__(
        self,
        message: str,
        *,
        code: str = "0429",
        status: int = 200,
        retry_after: float | None = None,
        operation: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, code=code, status=status, operation=operation, attempts=attempts)
        self.retry_after = retry_after


class CapacityReached(ApiError):
    """The service has no capacity left for now (code 16, or 0409 with "Service is busy")."""

    advice = "Wait, then call again"


class ServerError(ApiError):
    """The service or a gateway failed (HTTP 5xx, or code 0001 "network abnormal")."""


class DecodeError(MemoriesError):
    """An answer arrived that cannot be read; a billed call may have been billed.

    Attributes:
        answer: What came, as far as it could be read: what was paid for is not lost. A text where
            it is not JSON; None where it was not read to its end.
        status: The HTTP status of the answer.
        snippet: At most 200 characters of the answer, without control characters.
    """

    def __init__(
        self,
        message: str,
        *,
        answer: object = None,
        status: int | None = None,
        snippet: str = "",
        operation: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, operation=operation, attempts=attempts)
        self.answer = answer
        self.status = status
        self.snippet = snippet


class AnswerTooLarge(DecodeError):
    """The answer exceeds the cap on JSON answers (16 MiB unpacked)."""


class NotJson(DecodeError):
    """The answer is not JSON, e.g. a captive portal's page."""


class UnexpectedShape(DecodeError):
    """The answer is JSON, but not of a shape that the endpoint is known to send."""


class BudgetExceeded(MemoriesError):
    """A call would cost more than an open budget leaves; it was not sent."""

    advice = "Nothing was sent: open a larger budget, or leave this one, then call again"


class LimiterUnavailable(MemoriesError):
    """The shared rate limiter cannot be reached; the call was not sent unpaced."""

    advice = "Nothing was sent: restore the limiter's store, then call again"


class StoreUnavailable(MemoriesError):
    """Where callbacks are kept, a file or Redis, cannot be reached or written."""

    advice = "What it keeps is not lost: restore the store, then ask again"


class LedgerUnavailable(MemoriesError):
    """The ledger of what was sent cannot be reached, or has been lost; nothing was sent."""

    advice = "Nothing was sent: restore the ledger, then call again"


class JournalError(MemoriesError):
    """A bulk job's file cannot be read or written, e.g. because the disk is full.

    A run that meets it stops before anything is sent that is not in the journal.
    """

    advice = "Nothing unrecorded was sent: free the disk or repair the file, then run again"


class JobBusy(JournalError):
    """Another run of the job is alive; two would send items twice."""

    advice = "Wait for it or stop it, then run again"


class CallbackTimeout(MemoriesError, TimeoutError):
    """No callback arrived in time; a later one is still stored.

    Attributes:
        task_id: The task that was waited for.
    """

    def __init__(
        self, message: str, *, task_id: str, operation: str | None = None, attempts: int = 0
    ) -> None:
        super().__init__(message, operation=operation, attempts=attempts)
        self.task_id = task_id


class TaskFailed(MemoriesError):
    """The service called back to say that the task failed; it sends no reason.

    Attributes:
        task_id: The task that failed.
    """

    def __init__(
        self, message: str, *, task_id: str, operation: str | None = None, attempts: int = 0
    ) -> None:
        super().__init__(message, operation=operation, attempts=attempts)
        self.task_id = task_id
