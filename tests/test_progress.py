from __future__ import annotations

import io

import pytest

from memories_async import Progress
from memories_async.progress import for_rich, for_tqdm

STEPS = [Progress(10, 100), Progress(70, 100), Progress(0, 100, attempt=2), Progress(100, 100, 2)]


def test_tqdm_bar_follows_and_steps_back() -> None:
    tqdm = pytest.importorskip("tqdm")
    positions: list[float] = []
    with tqdm.tqdm(unit="B", file=io.StringIO()) as bar:
        show = for_tqdm(bar)
        for step in STEPS:
            show(step)
            positions.append(bar.n)
        assert bar.total == 100
    assert positions == [10, 70, 0, 100]


def test_rich_task_follows_and_steps_back() -> None:
    rich_progress = pytest.importorskip("rich.progress")
    console = pytest.importorskip("rich.console").Console(file=io.StringIO())
    positions: list[float] = []
    with rich_progress.Progress(console=console) as display:
        task = display.add_task("upload")
        show = for_rich(display, task)
        for step in STEPS:
            show(step)
            positions.append(display.tasks[0].completed)
        assert display.tasks[0].total == 100
    assert positions == [10, 70, 0, 100]


@pytest.mark.parametrize(
    ("progress", "fraction"),
    [(Progress(5, 10), 0.5), (Progress(0, 0), 1.0), (Progress(5, None), None)],
)
def test_fraction(progress: Progress, fraction: float | None) -> None:
    assert progress.fraction == fraction
