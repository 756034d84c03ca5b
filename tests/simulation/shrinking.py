"""A broken life, made smaller: parts are left out for as long as it breaks in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import attrs

from tests.simulation.draws import CALLS
from tests.simulation.life import a_life
from tests.simulation.network import Weather
from tests.simulation.world import live

PARTS = (
    *("job", "callbacks", "faults", "encryption", "rate", "slow disk", "early close"),
    *(field.name for field in attrs.fields(Weather)),
)
"""What can be left out besides calls."""
MOST_LIVES = 60
"""Lives that a smaller one is looked for in."""


def steps_of(error: BaseException) -> int:
    """Return how many steps a life had taken when it broke."""
    notes = (re.match(r"seed \d+, (\d+) steps:", note) for note in getattr(error, "__notes__", ()))
    return next((int(found[1]) for found in notes if found), 0)


def kind_of(error: BaseException) -> str:
    """Return what broke, but for its numbers."""
    return f"{type(error).__name__} {re.sub(r'[0-9a-f.]*[0-9][0-9a-f.]*', '', str(error))[:60]}"


def shrunk(
    seed: int, error: BaseException, breaks: Callable[[int, frozenset[str]], str] | None = None
) -> frozenset[str]:
    """Return what can be left out of a life that breaks, so that it still breaks in the same way.

    Args:
        seed: The life.
        error: How it breaks.
        breaks: Lives a life without some of its parts, and returns how it breaks.
    """
    kind, without, lives = kind_of(error), frozenset[str](), 0
    calls = [f"call-{number}" for number in range(CALLS)]
    for group in _groups(calls):
        if lives >= MOST_LIVES:
            break
        less = without | frozenset(group)
        if less != without:
            lives += 1
            if (breaks or _breaks)(seed, less) == kind:
                without = less
    return without


def _groups(calls: list[str]) -> Iterable[list[str]]:
    """Yield what may be left out together: each part, then calls, ever fewer at a time."""
    for part in PARTS:
        yield [part]
    size = len(calls) // 2
    while size:
        for start in range(0, len(calls), size):
            yield calls[start : start + size]
        size //= 2


def _breaks(seed: int, without: frozenset[str]) -> str:
    try:
        live(seed, a_life, without)
    except Exception as error:
        return kind_of(error)
    return ""
