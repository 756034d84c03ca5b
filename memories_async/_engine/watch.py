"""Tells a call's observers what it does; where there are none it costs next to nothing."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from memories_async._engine.body.writer import Transfer
from memories_async._engine.lanes import ReportWait
from memories_async._engine.request import Request, State
from memories_async._engine.retry import Decision, FailedAttempt
from memories_async.clock import Clock
from memories_async.errors import ApiError, DecodeError, MemoriesError, OutcomeUnknown, ServerError
from memories_async.observe.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    Certainty,
    Charged,
    Event,
    ObservedCall,
    Observer,
    RequestLeaving,
    SendState,
    Throttled,
    Verdict,
    Waited,
    WaitReason,
)
from memories_async.operations import Operation, Replay

log = logging.getLogger("memories_async")

SHORTEST_WAIT: Final = 0.001
"""Seconds below which no wait is reported."""

_VERDICTS: dict[Decision, Verdict] = {
    Decision.RETRY: "retry",
    Decision.THROTTLED: "throttled",
    Decision.RAISE: "raise",
    Decision.UNKNOWN: "unknown",
}
_STATES: dict[State, SendState] = {
    State.NOT_SENT: "NOT_SENT",
    State.PARTIAL: "PARTIAL",
    State.SENT: "SENT",
}
_PORTS = {"http": 80, "https": 443}
CALL_NUMBERS: Final = itertools.count(1)
"""Tell the calls of this process apart."""


class Watch:
    """What one call tells; a context in which the call is made.

    Args:
        observers: Who is told.
        operation: What is called.
        url: Where; all but the server is left out.
        clock: The time to go by.
    """

    __slots__ = (
        "_began",
        "_call",
        "_clock",
        "_digest",
        "_observers",
        "_started",
        "_transfer",
        "attempt",
        "status",
    )

    def __init__(
        self, observers: Sequence[Observer], operation: Operation[Any], url: str, clock: Clock
    ) -> None:
        self._observers = observers
        self._clock = clock
        self._digest = ""
        self._began = 0.0
        self.attempt = 0
        self.status: int | None = None
        self._transfer: Transfer | None = None
        if observers:
            self._started = clock.monotonic()
            self._call = _observed(operation, url)

    @property
    def observed(self) -> bool:
        """Whether anybody is told."""
        return bool(self._observers)

    def __enter__(self) -> Self:
        if self._observers:
            self._notify(CallStarted(call=self._call))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._observers:
            seconds = self._clock.monotonic() - self._started
            failed = None if kind is None else kind.__name__
            attempts = self.attempt
            if isinstance(error, MemoriesError):
                attempts = error.attempts
            self._notify(
                CallEnded(call=self._call, attempts=attempts, seconds=seconds, error=failed)
            )

    def waited(self, reason: WaitReason, seconds: float, attempt: int) -> None:
        """Tell of a wait that is over."""
        if self._observers and seconds >= SHORTEST_WAIT:
            self._notify(Waited(call=self._call, reason=reason, seconds=seconds, attempt=attempt))

    @property
    def report_lane_wait(self) -> ReportWait | None:
        """What reports the waits for the call's lane; None where nobody observes."""
        return self._lane_waited if self._observers else None

    def _lane_waited(self, reason: Literal["limiter", "pause"], seconds: float) -> None:
        # While a call is in the queue, its attempt is still to be started.
        attempt = self.attempt if self._transfer is not None else self.attempt + 1
        self.waited(reason, seconds, attempt)

    def attempt_started(self, attempt: int, transfer: Transfer) -> None:
        """Report that an attempt has its reservation; again, if it then had to make another."""
        self._transfer = transfer
        if attempt == self.attempt:
            return
        self.attempt, self.status = attempt, None
        if self._observers:
            self._began = self._clock.monotonic()
            self._notify(AttemptStarted(call=self._call, attempt=attempt))

    def leaving(self, request: Request[Any]) -> None:
        """Tell that a connection is at hand and the first byte leaves."""
        if self._observers:
            self._digest = self._digest or request.digest()
            self._notify(RequestLeaving(call=self._call, attempt=self.attempt, digest=self._digest))

    def throttled(self, pause: float, retry_after: float | None) -> None:
        """Tell that the lane pauses."""
        if self._observers:
            self._notify(
                Throttled(
                    call=self._call, attempt=self.attempt, pause=pause, retry_after=retry_after
                )
            )

    def attempt_ended(
        self,
        operation: Operation[Any],
        failed: FailedAttempt | None,
        interruption: BaseException | None,
    ) -> Certainty | None:
        """Tell how an attempt ended; returns what it cost.

        Args:
            operation: What was asked.
            failed: How it failed, if it did.
            interruption: What ended it from outside.
        """
        transfer, self._transfer = self._transfer, None
        if transfer is None:
            return None  # it was still in the queue
        error = interruption if failed is None else failed.error
        # What may have been billed may have been, whether or not the caller accepts to pay twice.
        outcome = error if failed is None else failed.unknown or error
        certainty = certainty_of(operation, transfer.state, outcome)
        if not self._observers:
            return certainty
        if certainty is not None:
            self._notify(
                Charged(
                    call=self._call,
                    attempt=self.attempt,
                    certainty=certainty,
                    digest=self._digest,
                )
            )
        verdict: Verdict = "ok"
        if failed is not None:
            verdict = _VERDICTS[failed.decision]
        elif error is not None:
            verdict = "interrupted"
        # What is unknown after a gateway's answer is raised from that answer.
        answer = error.__cause__ or error if isinstance(error, OutcomeUnknown) else error
        status, code = self.status, None
        if isinstance(answer, ApiError | OutcomeUnknown | DecodeError):
            status = answer.status if answer.status is not None else self.status
        if isinstance(answer, ApiError):
            code = answer.code
        self._notify(
            AttemptEnded(
                call=self._call,
                attempt=self.attempt,
                verdict=verdict,
                state=_STATES[transfer.state],
                status=status,
                code=code,
                sent=transfer.sent,
                seconds=self._clock.monotonic() - self._began,
                error=None if error is None else type(error).__name__,
            )
        )
        return certainty

    def _notify(self, event: Event) -> None:
        notify(self._observers, event)


def notify(observers: Sequence[Observer], event: Event) -> None:
    """Tell observers of an event; what one of them raises is logged, and changes nothing."""
    for observer in observers:
        try:
            observer.observe(event)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # CancelledError, too: the result may have been paid for
            with contextlib.suppress(Exception):  # what fails may be the application's handler
                log.exception("an observer failed: %s", type(observer).__name__)


def certainty_of(
    operation: Operation[Any], state: State, error: BaseException | None
) -> Certainty | None:
    """Return whether an attempt was billed; None if it was not.

    Args:
        operation: What was asked.
        state: How far the request got.
        error: What the attempt ended with; None for a result.
    """
    if operation.replay is Replay.FREE_READ or state is State.NOT_SENT:
        return None  # also where a hook of the caller raised what would say something else
    if error is None:
        return "billed"
    if isinstance(error, OutcomeUnknown):
        return "perhaps billed"
    if state is not State.SENT:
        return None  # the service cannot have had the whole of it
    refused = isinstance(error, ApiError) and not isinstance(error, ServerError)
    return None if refused else "perhaps billed"


def _observed(operation: Operation[Any], url: str) -> ObservedCall:
    scheme, _, rest = url.partition("://")
    return ObservedCall(
        number=next(CALL_NUMBERS), **_of_each_call(operation, scheme, rest.partition("/")[0])
    )


@functools.lru_cache(maxsize=256)
def _of_each_call(operation: Operation[Any], scheme: str, server: str) -> Mapping[str, Any]:
    """Return what every call of an operation says of itself."""
    parts = urlsplit(f"{scheme}://{server}")
    return {
        "operation": operation.call,
        "row": operation.name,
        "method": operation.method,
        "path": operation.path,
        "scheme": parts.scheme,
        "host": parts.hostname or "",
        "port": parts.port or _PORTS.get(parts.scheme, 0),
        "billable": operation.replay is not Replay.FREE_READ,
    }
