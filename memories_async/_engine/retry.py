"""May this be sent again, and when: the replay rule and the retry loop's strategies, all pure."""

from __future__ import annotations

import enum
import logging

import attrs
from tenacity import DoSleep, RetryCallState, Retrying, retry_if_result

from memories_async._engine.request import State
from memories_async.config import Policy
from memories_async.errors import (
    CapacityReached,
    ConnectError,
    MemoriesError,
    OutcomeUnknown,
    RateLimited,
    ServerError,
    StallTimeout,
    TlsError,
)
from memories_async.operations import Replay

log = logging.getLogger("memories_async")

LONGEST_HINT = 120.0
"""A ``Retry-After`` beyond this many seconds is the caller's to wait for, not ours."""
LONGEST_BACKOFF = 32.0


class Decision(enum.Enum):
    """What is to become of a failed attempt."""

    RETRY = "send it again after a backoff"
    THROTTLED = "send it again after the whole bucket has paused"
    RAISE = "tell the caller"
    UNKNOWN = "tell the caller that it may have been billed"


def judge(
    error: MemoriesError, state: State, replay: Replay, accept_double: bool, attempt: int = 1
) -> Decision:
    """Apply the replay rule.

    A billed request goes out again only where no server can have had the whole of it, or where
    the service itself said that it throttled; everything else is unknown.

    Args:
        error: What the attempt ended with.
        state: How far the request got.
        replay: What sending it twice would cost.
        accept_double: Whether the caller accepts to pay twice.
        attempt: The number of the attempt, from 1.
    """
    repeatable = replay is Replay.FREE_READ or accept_double
    if isinstance(error, CapacityReached) and error.code.endswith("409") and not repeatable:
        return Decision.RAISE  # busy, and nothing says that it had not begun
    if isinstance(error, RateLimited | CapacityReached):
        hint = getattr(error, "retry_after", None)
        return Decision.RAISE if hint is not None and hint > LONGEST_HINT else Decision.THROTTLED
    if isinstance(error, ConnectError | StallTimeout):
        # Our byte counter, not the exception's type, tells these from OutcomeUnknown.
        return Decision.RAISE if isinstance(error, TlsError) else Decision.RETRY
    if isinstance(error, OutcomeUnknown):
        return Decision.RETRY if repeatable else Decision.UNKNOWN
    if isinstance(error, ServerError):
        if repeatable:
            return Decision.RETRY
        # A gateway that answers before the body is whole has passed nothing on; that is trusted
        # once, and only where nothing lasting could have been made.
        refused_early = state is not State.SENT and error.status == 503 and attempt == 1
        return Decision.RETRY if refused_early and replay is Replay.BILLED else Decision.UNKNOWN
    return Decision.RAISE


def backoff(attempt: int, chance: float) -> float:
    """Return the full-jitter wait after an attempt: up to 1 s, doubling, up to 32 s.

    Args:
        attempt: The number of the attempt that failed, from 1.
        chance: A random number from 0 to 1.
    """
    return chance * min(LONGEST_BACKOFF, 2.0 ** (attempt - 1))


@attrs.frozen
class FailedAttempt:
    """How an attempt failed: all that decides whether, and when, there is another one.

    Attributes:
        error: What the caller is told if this was the last.
        decision: What the replay rule says.
        number: The number of the attempt, from 1.
        pause: Seconds before another may start.
        waited: Seconds that the call has waited since its first attempt.
        left: Seconds until the caller's deadline; None where there is none.
        replayable: Whether the body, if any of it was sent, can be sent again.
        policy: How to wait and retry.
        unknown: What the caller must be told where this attempt may have been billed, even if it
            is repeated and a later one ends in another way.
    """

    error: MemoriesError
    decision: Decision
    number: int
    pause: float
    waited: float
    left: float | None
    replayable: bool
    policy: Policy
    unknown: OutcomeUnknown | None = None

    @property
    def sleep(self) -> float:
        """Seconds to wait here; a throttled call waits with its whole lane instead."""
        return 0.0 if self.decision is Decision.THROTTLED else self.pause


def may_be_repeated(failed: FailedAttempt) -> bool:
    """Tell whether the rule and the source allow another attempt."""
    return failed.replayable and failed.decision in (Decision.RETRY, Decision.THROTTLED)


def is_spent(failed: FailedAttempt) -> bool:
    """Tell whether the attempts or the time that the caller grants are used up."""
    return (
        failed.number >= failed.policy.attempts
        or failed.waited + failed.pause > failed.policy.retry_time
        or (failed.left is not None and failed.pause > failed.left)
    )


def _failed(state: RetryCallState) -> FailedAttempt:
    assert state.outcome is not None
    failed: FailedAttempt = state.outcome.result()
    return failed


def _log(state: RetryCallState) -> None:
    failed = _failed(state)
    log.info("%s: again in %.1f s: %s", failed.error.operation, failed.pause, failed.error)


_RETRYING = Retrying(
    retry=retry_if_result(may_be_repeated),
    stop=lambda state: is_spent(_failed(state)),
    wait=lambda state: _failed(state).sleep,
    before_sleep=_log,
    retry_error_callback=_failed,
)
"""All its strategies are functions of the outcome alone, so one serves all calls of a process."""


def pause_before_next(failed: FailedAttempt) -> float | None:
    """Return the seconds after which there is another attempt; None if this was the last."""
    _RETRYING.begin()
    state = RetryCallState(_RETRYING, fn=None, args=(), kwargs={})
    state.set_result(failed)
    step = _RETRYING.iter(state)
    return float(step) if isinstance(step, DoSleep) else None
