"""May this be sent again, and when: the replay rule as pure functions."""

from __future__ import annotations

import enum

from memories_async._engine.request import State
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

LONGEST_HINT = 120.0
"""A ``Retry-After`` beyond this many seconds is the caller's to wait for, not ours."""
LONGEST_BACKOFF = 32.0


class Verdict(enum.Enum):
    """What is to become of a failed attempt."""

    RETRY = "send it again after a backoff"
    THROTTLED = "send it again after the whole bucket has paused"
    RAISE = "tell the caller"
    UNKNOWN = "tell the caller that it may have been billed"


def judge(
    error: MemoriesError, state: State, replay: Replay, accept_double: bool, attempt: int = 1
) -> Verdict:
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
        return Verdict.RAISE  # busy, and nothing says that it had not begun
    if isinstance(error, RateLimited | CapacityReached):
        hint = getattr(error, "retry_after", None)
        return Verdict.RAISE if hint is not None and hint > LONGEST_HINT else Verdict.THROTTLED
    if isinstance(error, ConnectError | StallTimeout):
        # Our byte counter, not the exception's type, tells these from OutcomeUnknown.
        return Verdict.RAISE if isinstance(error, TlsError) else Verdict.RETRY
    if isinstance(error, OutcomeUnknown):
        return Verdict.RETRY if repeatable else Verdict.UNKNOWN
    if isinstance(error, ServerError):
        if repeatable:
            return Verdict.RETRY
        # A gateway that answers before the body is whole has passed nothing on; that is trusted
        # once, and only where nothing lasting could have been made.
        refused_early = state is not State.SENT and error.status == 503 and attempt == 1
        return Verdict.RETRY if refused_early and replay is Replay.BILLED else Verdict.UNKNOWN
    return Verdict.RAISE


def backoff(attempt: int, chance: float) -> float:
    """Return the full-jitter wait after an attempt: up to 1 s, doubling, up to 32 s.

    Args:
        attempt: The number of the attempt that failed, from 1.
        chance: A random number from 0 to 1.
    """
    return chance * min(LONGEST_BACKOFF, 2.0 ** (attempt - 1))
