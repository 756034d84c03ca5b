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
    ServerError,
)


class Exit(enum.IntEnum):
    """The exit status of every command."""

    DONE = 0
    """All was done."""
    FAILED = 1
    """Something failed, and was not billed; or a file of results could not be written."""
    USAGE = 2
    """The arguments or the settings are wrong; nothing was sent."""
    UNKNOWN = 3
    """Something may have been billed although no answer came."""
    STOPPED = 4
    """The account's key or credits do not allow it."""
    LIMIT = 5
    """A limit of the user's was reached, and items are left."""
    HUNG_UP = 129
    """SIGHUP ended it, and something is left to do."""
    INTERRUPTED = 130
    """Ctrl-C ended it, and something is left to do."""
    READER_GONE = 141
    """Whoever read stdout left before all was printed."""
    TERMINATED = 143
    """SIGTERM ended it, and something is left to do."""


class NoKey(ConfigurationError):
    """No key is known for the service that a command needs."""


# Read from the top: the first that fits. A call that ended in an unreadable
# answer or an error of the server's may have been billed as well.
_EXITS: tuple[tuple[tuple[type[Exception], ...], Exit], ...] = (
    ((NoKey, AuthenticationError, PermissionDenied, InsufficientCredits), Exit.STOPPED),
    ((OutcomeUnknown, DecodeError, ServerError), Exit.UNKNOWN),
    ((ConfigurationError,), Exit.USAGE),
)


def exit_for(error: Exception) -> Exit:
    """Return the exit status for an error that ended a command."""
    return next((status for kinds, status in _EXITS if isinstance(error, kinds)), Exit.FAILED)
