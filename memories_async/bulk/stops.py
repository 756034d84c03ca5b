"""What an error means for a run: whether it concerns every item, and whether it may have cost."""

from __future__ import annotations

from memories_async.bulk.models import StopReason
from memories_async.errors import (
    AuthenticationError,
    CapacityReached,
    ConfigurationError,
    ConnectError,
    DecodeError,
    InsufficientCredits,
    LimiterUnavailable,
    MemoriesError,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    ServerError,
    StallTimeout,
)

# What these say holds for every item, and nothing was billed.
_STOPS: tuple[tuple[type[MemoriesError], StopReason], ...] = (
    (InsufficientCredits, StopReason.CREDITS),
    (AuthenticationError, StopReason.KEY),
    (PermissionDenied, StopReason.KEY),
    (ConnectError, StopReason.UNREACHABLE),
    (StallTimeout, StopReason.UNREACHABLE),
    (RateLimited, StopReason.UNREACHABLE),
    (CapacityReached, StopReason.UNREACHABLE),
    (LimiterUnavailable, StopReason.UNREACHABLE),
)

LIMITS = frozenset({StopReason.MAX_COST, StopReason.MAX_ITEMS})
"""Stops that the user set: what has been taken is still sent."""


def reason_to_stop(error: MemoriesError) -> StopReason | None:
    """Return why the run must stop, or None where the error is one request's own."""
    for kind, reason in _STOPS:
        if isinstance(error, kind):
            return reason
    # An item's own bad options are told before there is an operation; a missing key after.
    if isinstance(error, ConfigurationError) and error.operation is not None:
        return StopReason.KEY
    return None


def may_have_cost(error: MemoriesError) -> bool:
    """Tell whether the request may have been billed: also an unreadable answer may be a success."""
    return isinstance(error, OutcomeUnknown | DecodeError | ServerError)
