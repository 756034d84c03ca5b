"""Functions of callers that are awaited before a request leaves: one, or several in turn."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from memories_async.checks.kinds import shown
from memories_async.errors import ConfigurationError

BeforeSending: TypeAlias = Callable[[], Awaitable[object]]


async def await_hook(hook: BeforeSending) -> None:
    """Await a function that was given as ``before_sending``.

    Raises:
        ConfigurationError: It is a plain function.
    """
    waiting: object = hook()
    if not inspect.isawaitable(waiting):
        raise ConfigurationError(
            f"CallOptions: before_sending gave {shown(waiting)}; give an async function"
        )
    await waiting


def in_turn(first: BeforeSending | None, second: BeforeSending | None) -> BeforeSending | None:
    """Return what awaits both: what the first raises keeps the second from being called."""
    if first is None or second is None:
        return first or second
    one, other = first, second

    async def before_sending() -> None:
        await await_hook(one)
        await await_hook(other)

    return before_sending
