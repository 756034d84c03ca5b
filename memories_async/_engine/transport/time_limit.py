"""The time limit that the steps of an exchange set anew, each as it begins."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class TimeLimit:
    """A block whose task is cancelled once time is up; what leaves it then is a TimeoutError.

    That is ``asyncio.timeout_at``, whose states are members of an enum: looking those up made it a
    twentieth of what a small call costs.

    Args:
        when: The loop's time at which time is up; None for never.

    Attributes:
        when: The same, as it was last moved to.
        expired: Whether time was up.
    """

    __slots__ = ("_cancelling", "_left", "_loop", "_task", "_timer", "expired", "when")

    def __init__(self, when: float | None) -> None:
        self.when = when
        self.expired = False
        self._task: asyncio.Task[object]
        self._cancelling = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._left = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._set_timer()
        return self

    def move(self, when: float | None) -> None:
        """Set the limit anew; in vain once time is up, or the block has been left."""
        if when != self.when and not self.expired and not self._left:
            self.when = when
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self.when is None else self._loop.call_at(self.when, self._expire)

    def _expire(self) -> None:
        self.expired = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left = True
        if self._timer is not None:
            self._timer.cancel()
        if not self.expired:
            return
        # Cancelled from outside as well, the task stays cancelled.
        ours_alone = self._task.uncancel() <= self._cancelling
        if ours_alone and kind is asyncio.CancelledError:
            raise TimeoutError from error
