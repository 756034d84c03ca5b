"""What the exit status says, and which errors lead to it."""

from __future__ import annotations

import enum

from memories_async.errors import (
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    InsufficientCredits,
    OutcomeUnknown,
    PermissionDenied,
)


class Exit(enum.IntEnum):
    """The exit status of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNKNOWN = 3
    STOPPED = 4
    INTERRUPTED = 130


class NoKey(ConfigurationError):
    """No key is known for the service that a command needs."""


# Read from the top: the first that fits. An unreadable answer may have been billed as well.
_EXITS: tuple[tuple[tuple[type[Exception], ...], Exit], ...] = (
    ((NoKey, AuthenticationError, PermissionDenied, InsufficientCredits), Exit.STOPPED),
    ((OutcomeUnknown, DecodeError), Exit.UNKNOWN),
    ((ConfigurationError,), Exit.USAGE),
)


def exit_for(error: Exception) -> Exit:
    """Return the exit status for an error that ended a command."""
    return next((status for kinds, status in _EXITS if isinstance(error, kinds)), Exit.FAILED)
