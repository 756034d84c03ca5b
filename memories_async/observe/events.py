"""What an observer is told: frozen values, with nothing in them that must stay secret."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, runtime_checkable

import attrs

WaitReason: TypeAlias = Literal["limiter", "pause", "connection", "backoff"]
"""The account's rate, a throttled lane, a free or new connection, the time between attempts."""

Certainty: TypeAlias = Literal["billed", "perhaps billed"]

Verdict: TypeAlias = Literal["ok", "retry", "throttled", "raise", "unknown", "interrupted"]
"""What became of an attempt: its answer is the result; it may be repeated; repeated after a pause
of the whole lane; the caller is told; the caller is told that it may have been billed; something
of the caller's ended it."""

SendState: TypeAlias = Literal["NOT_SENT", "PARTIAL", "SENT"]
"""No byte left; the last byte did not; all of them did, or were about to."""


@attrs.frozen(kw_only=True)
class ObservedCall:
    """Which call an event belongs to.

    No field says what was asked: neither fields, nor files, nor identifiers in a path, nor signed
    addresses.

    Attributes:
        number: Tells the calls of this process apart.
        operation: The public method, such as ``captions.image``.
        row: The row of the operations table, such as ``caption_image_file``.
        method: The HTTP method.
        path: The path with names in the place of values; a signed address is ``{signed_url}``.
        scheme: ``https``, or ``http`` on loopback.
        host: The server's name.
        port: Its port.
        billable: Whether a success costs money.
    """

    number: int
    operation: str
    row: str
    method: str
    path: str
    scheme: str
    host: str
    port: int
    billable: bool


@attrs.frozen(kw_only=True)
class CallStarted:
    """A call was made; its files are looked at next."""

    call: ObservedCall


@attrs.frozen(kw_only=True)
class Waited:
    """A call waited for at least a millisecond.

    Attributes:
        reason: For what.
        seconds: How long.
        attempt: The attempt that was to come, from 1.
    """

    call: ObservedCall
    reason: WaitReason
    seconds: float
    attempt: int


@attrs.frozen(kw_only=True)
class AttemptStarted:
    """A call's turn came, and it looks for a connection.

    Attributes:
        attempt: The number of the attempt, from 1.
    """

    call: ObservedCall
    attempt: int


@attrs.frozen(kw_only=True)
class RequestLeaving:
    """The first byte of a request is about to leave: from here on it may come to be billed.

    Attributes:
        attempt: The number of the attempt, from 1.
        digest: A short fingerprint of what is asked.
    """

    call: ObservedCall
    attempt: int
    digest: str


@attrs.frozen(kw_only=True)
class Throttled:
    """The service said that it throttles, and the whole lane pauses.

    Attributes:
        attempt: The number of the attempt that was told so.
        pause: Seconds until anything goes again.
        retry_after: Seconds that the service asked for, if it did.
    """

    call: ObservedCall
    attempt: int
    pause: float
    retry_after: float | None


@attrs.frozen(kw_only=True)
class AttemptEnded:
    """An attempt came to its end.

    Attributes:
        attempt: Its number, from 1.
        verdict: What became of it.
        state: How far the request got.
        status: The HTTP status, if an answer began.
        code: The service's own code, if it refused.
        sent: Bytes of the body that the connection took.
        seconds: From its turn to its end.
        error: The class of the exception, if it failed.
    """

    call: ObservedCall
    attempt: int
    verdict: Verdict
    state: SendState
    status: int | None
    code: str | None
    sent: int
    seconds: float
    error: str | None


@attrs.frozen(kw_only=True)
class Charged:
    """An attempt was billed, or may have been.

    Attributes:
        attempt: Its number, from 1.
        certainty: Which of the two.
        digest: A short fingerprint of what was asked.
    """

    call: ObservedCall
    attempt: int
    certainty: Certainty
    digest: str


@attrs.frozen(kw_only=True)
class CallEnded:
    """A call returned or raised.

    Attributes:
        attempts: How many it made.
        seconds: From the call to its end, all waits included.
        error: The class of the exception, if it raised one.
    """

    call: ObservedCall
    attempts: int
    seconds: float
    error: str | None


Event: TypeAlias = (
    CallStarted
    | Waited
    | AttemptStarted
    | RequestLeaving
    | Throttled
    | AttemptEnded
    | Charged
    | CallEnded
)


@runtime_checkable
class Observer(Protocol):
    """Whoever wants to know what calls do."""

    def observe(self, event: Event, /) -> None:
        """Take note of an event, at once and without blocking: the call waits for it.

        It is called on the event loop, in the call's own task and context. What it raises is
        logged and changes nothing.
        """
        ...
