"""Stories of real processes hold, and find what is put in on purpose."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence

import pytest

from tests.simulation.invariants import BrokenInvariantError
from tests.simulation.real.program import PLANTED
from tests.simulation.real.story import Story, stage, stories

ONCE_BROKEN: tuple[int, ...] = (739942004,)
"""Seeds whose stories once broke."""
STORIES = int(os.environ.get("SIMULATION_STORIES", "25"))
TODAY = datetime.datetime.now(datetime.UTC).date().toordinal() * 1000
SEEN = {
    "a job sends what is not written down": "neither done nor unknown|billed twice",
    "a callback is acknowledged and dropped": "was acknowledged, and is None",
    "a second click is a second task": "is two tasks|billed 2 times",
}
NEARBY = 20


def hold(seeds: Sequence[int]) -> None:
    status, seen = stories(seeds)
    assert not status
    assert seen["billed"] > len(seeds)


@pytest.mark.slow  # real processes, and moments between them: how they fall the kernel decides
@pytest.mark.timeout(900)
def test_many_stories_of_processes() -> None:
    """New ones each day, and always the first and those that once broke."""
    hold([*ONCE_BROKEN, *range(STORIES), *range(TODAY, TODAY + STORIES)])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_put_in_on_purpose_breaks_a_story(planted: str) -> None:
    with pytest.raises(BrokenInvariantError, match=SEEN[planted]):
        live_with(planted)


def live_with(planted: str) -> None:
    with stage(planted) as (service, workers):
        for seed in range(NEARBY):
            Story(seed, service, workers, lambda told: None).live()
