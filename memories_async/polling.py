"""Asks again and again until something is ready, less often the longer it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from memories_async.errors import DeadlineExceeded, TaskFailed

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
    identifier: str,
    within: float,
    sleep: Callable[[float], Awaitable[None]],
) -> P:
    """Ask until the answer is ready.

    Args:
        ask: The question.
        is_ready: Tells whether an answer is what is waited for.
        identifier: What is asked about, for messages.
        within: Seconds to wait at most.
        sleep: Waits.

    Raises:
        TaskFailed: It failed for good.
        DeadlineExceeded: It was not ready in time.
    """
    waited, pause = 0.0, FIRST_PAUSE
    while True:
        answer = await ask()
        if is_ready(answer):
            return answer
        if answer.failed:
            cause = getattr(answer, "cause", None)
            raise TaskFailed(
                f"{identifier} failed ({answer.status}){f': {cause}' if cause else ''}",
                task_id=identifier,
            )
        if waited + pause > within:
            error = DeadlineExceeded(
                f"{identifier} is still {answer.status or 'in no known state'} after {waited:.0f} s"
            )
            error.advice = "Asking later is free"
            raise error
        await sleep(pause)
        waited += pause
        pause = min(pause * GROWTH, LONGEST_PAUSE)
