"""Asks again and again until something is ready, less often the longer it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from memories_async.errors import DeadlineExceeded, TaskFailed

if TYPE_CHECKING:
    from memories_async.clock import Clock
    from memories_async.operations import Operation

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 2.0, 30.0, 1.5


class Pollable(Protocol):
    """Something that becomes ready, or fails for good. An unknown status is "not yet"."""

    @property
    def status(self) -> str | None:
        """The service's word for where it stands."""
        ...

    @property
    def failed(self) -> bool:
        """Whether it never will be."""
        ...


P = TypeVar("P", bound=Pollable)


async def until_ready(
    ask: Callable[[], Awaitable[P]],
    is_ready: Callable[[P], bool],
    *,
    operation: Operation[Any],
    identifier: str,
    within: float,
    clock: Clock,
) -> P:
    """Ask until the answer is ready.

    Args:
        ask: The question.
        is_ready: Tells whether an answer is what is waited for.
        operation: What it is sent by, for messages.
        identifier: What is asked about, for messages.
        within: Seconds to wait at most; the last question comes when they are over.
        clock: The time to go by.

    Raises:
        TaskFailed: It failed for good.
        DeadlineExceeded: It was not ready in time.
    """
    ends, pause = clock.monotonic() + within, FIRST_PAUSE
    while True:
        answer = await ask()
        if is_ready(answer):
            return answer
        if answer.failed:
            cause = getattr(answer, "cause", None)
            raise TaskFailed(
                f"{identifier} failed ({answer.status}){f': {cause}' if cause else ''}",
                task_id=identifier,
                operation=str(operation),
            )
        left = ends - clock.monotonic()
        if left <= 0:
            error = DeadlineExceeded(
                f"{identifier} is still {answer.status or 'in no known state'} after {within:g} s",
                operation=str(operation),
            )
            error.advice = "Asking later is free"
            raise error
        await clock.sleep(min(pause, left))
        pause = min(pause * GROWTH, LONGEST_PAUSE)
