"""Shows the progress of an upload in the bars that people have: one call makes the hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from memories_async.models import Progress

Hook = Callable[[Progress], object]


class TqdmBar(Protocol):
    """What is used of a ``tqdm.tqdm``."""

    n: float
    total: float | None

    def refresh(self) -> object:
        """Draw the bar."""
        ...


class RichProgress(Protocol):
    """What is used of a ``rich.progress.Progress``."""

    @property
    def update(self) -> Callable[..., Any]:
        """Move a task."""
        ...


def for_tqdm(bar: TqdmBar) -> Hook:
    """Return an ``on_progress`` that moves a tqdm bar, also backwards when an attempt is lost.

    Args:
        bar: A ``tqdm.tqdm(unit="B", unit_scale=True)``; its total is set here.
    """

    def show(progress: Progress) -> None:
        bar.n, bar.total = progress.sent, progress.total
        bar.refresh()

    return show


def for_rich(display: RichProgress, task: int) -> Hook:
    """Return an ``on_progress`` that moves one task of a rich progress display.

    Args:
        display: A ``rich.progress.Progress``.
        task: What its ``add_task`` returned; its total is set here.
    """

    def show(progress: Progress) -> None:
        display.update(task, completed=progress.sent, total=progress.total)

    return show
