"""One test that loops over a table: for checks that need neither a fixture nor a name each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import pytest

T = TypeVar("T")

FAILURES = (Exception, pytest.fail.Exception)
"""The second is what ``pytest.raises`` says of what was not refused: no Exception."""


def for_each(items: Mapping[str, T]) -> Callable[[Callable[[T], None]], Callable[[], None]]:
    """Make one test of a check: it goes through all items, and names every one that fails."""
    assert items

    def decorate(check: Callable[[T], None]) -> Callable[[], None]:
        def test() -> None:
            failed: list[str] = []
            for name, item in items.items():
                try:
                    check(item)
                except FAILURES as error:  # whatever an item does, the others are looked at
                    failed.append(f"{name}: {type(error).__name__}: {error}")
            assert not failed, "\n\n".join(failed)

        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            setattr(test, name, getattr(check, name))
        return test

    return decorate
