"""What an inbox asks of the place where its tasks and their results are kept."""

from __future__ import annotations

import asyncio
import enum
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import attrs

KEPT = 7 * 24 * 60 * 60.0
"""Seconds that a task and its result are kept: a week."""


@attrs.frozen
class Delivery:
    """A callback as it came.

    Attributes:
        name: What its body says it is for.
        body: The body.
        digest: SHA-256 of the body, in hexadecimal.
        at: Seconds since 1970.
    """

    name: str
    body: bytes = attrs.field(repr=False)
    digest: str
    at: float


class DeliveryStatus(enum.Enum):
    """What became of a callback."""

    FIRST = "kept"
    REPEAT = "the same as the one that is kept"
    DIFFERENT = "another than the one that is kept, which stays"
    CONTESTED = "for another name than an early one that is kept; nobody can tell yet whose it is"
    UNKNOWN = "for nothing that is known"


@runtime_checkable
class Store(Protocol):
    """Tokens, the names they are waited for by, and the first callback of each.

    Every method may be called from any event loop and, after a fork, from any process. A token
    without a name is one whose submitter has yet to learn the task; its callback is early, and
    kept as long as its token: how many there may be is bounded by how many tokens were opened.

    Every method raises StoreUnavailable where what is kept cannot be reached.
    """

    async def secret(self, proposed: str) -> str:
        """Keep a secret unless one is kept; return the one that is."""
        ...

    async def open(self, token: str, name: str | None, now: float) -> bool:
        """Expect a callback under a token, and forget what is too old.

        Returns:
            False if the token had been opened before, and nothing was changed.
        """
        ...

    async def forget(self, token: str) -> None:
        """Expect nothing any more under a token that no task was bound to."""
        ...

    async def name_of(self, token: str) -> str | None:
        """Return the name that a token was bound to, if it was."""
        ...

    async def opened(self, name: str) -> float | None:
        """Return when what is waited for by a name was opened; None if nothing is."""
        ...

    async def bind(self, token: str, name: str, now: float) -> bool:
        """Say by which name a token is waited for.

        Returns:
            False if an early callback was for another name, and has been dropped.
        """
        ...

    async def deliver(self, token: str, delivery: Delivery) -> DeliveryStatus:
        """Keep the first callback of a token. One for another name than the bound is unknown."""
        ...

    async def find(self, name: str) -> Delivery | None:
        """Return the callback of what is waited for by a name, if it has come."""
        ...

    def watch(self, name: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """Within the context, set the event when a callback for a name comes, in any process.

        It may be set for no reason as well: look again with ``find``.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open. What is kept stays, and the next use opens it again."""
        ...
