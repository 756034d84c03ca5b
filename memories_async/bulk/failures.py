"""What an error means: for the run, for the items of a request, and for the files that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from memories_async.bulk.models import StopReason
from memories_async.errors import (
    ApiError,
    AuthenticationError,
    BudgetExceeded,
    CapacityReached,
    ConnectError,
    DecodeError,
    EndpointGone,
    InsufficientCredits,
    LimiterUnavailable,
    MediaError,
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
    (EndpointGone, StopReason.UNREACHABLE),
    (StallTimeout, StopReason.UNREACHABLE),
    (RateLimited, StopReason.UNREACHABLE),
    (CapacityReached, StopReason.UNREACHABLE),
    (LimiterUnavailable, StopReason.UNREACHABLE),
    (BudgetExceeded, StopReason.MAX_COST),
)

LIMITS = frozenset({StopReason.MAX_COST, StopReason.MAX_ITEMS})
"""Stops at which what has been taken is still sent."""


def reason_to_stop(error: MemoriesError) -> StopReason | None:
    """Return why the run must stop, or None where the error is one request's own."""
    for kind, reason in _STOPS:
        if isinstance(error, kind):
            return reason
    return None


def may_have_cost(error: MemoriesError) -> bool:
    """Tell whether the request may have been billed: also an unreadable answer may be a success."""
    return isinstance(error, OutcomeUnknown | DecodeError | ServerError)


# --- which files a refusal means ---------------------------------------------------------------

_CAP = re.compile(
    r"(?:number|count|amount) of (?:files|images)|too many (?:files|images)"
    r"|(?:files|images) (?:per|in one|in a single) (?:request|batch|call|upload)"
    r"|(?:at most|up to|maximum(?: of)?|max\.?|more than|limit(?: of| is)?) \d[\d,]* "
    r"(?:files|images)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.])\d{1,3}(?:,\d{3})+(?![\w,])|(?<![\w.])\d+(?!\w|\.\d)")
_TOO_MUCH = 413


def named_in(message: str, names: Mapping[int, str]) -> list[int]:
    """Return the items whose file a message names.

    Longer names are looked for first and taken out, so that ``1.jpg`` is not found in
    ``11.jpg``. A name that several items share says nothing about any of them.

    Args:
        message: What the service said.
        names: The items' file names as they were sent.
    """
    found: list[int] = []
    shared = list(names.values())
    for item, name in sorted(names.items(), key=lambda pair: -len(pair[1])):
        if name and name in message:
            message = message.replace(name, " ")
            if shared.count(name) == 1:
                found.append(item)
    return sorted(found)


def cap_in(message: str, sent: int) -> int | None:
    """Return how many files a request may have, if that is what a message says.

    Args:
        message: What the service said.
        sent: How many were sent; a number that would have allowed them is not the cap.
    """
    if not _CAP.search(message):
        return None
    numbers = [int(number.replace(",", "")) for number in _NUMBER.findall(message)]
    fitting = [number for number in numbers if 0 < number < sent]
    return max(fitting, default=sent // 2 or None)


def smaller_size(error: MemoriesError, sent: int) -> int | None:
    """Return a size for the next requests where this one was refused for holding too much."""
    if isinstance(error, ApiError):
        if error.status == _TOO_MUCH or error.code == str(_TOO_MUCH):
            return sent // 2 or None
        return cap_in(error.message, sent)
    return None


def text_of(error: MemoriesError) -> str:
    """Return all that an error says about files."""
    return "\n".join(error.problems) if isinstance(error, MediaError) else error.message
