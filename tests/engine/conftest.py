"""What the tests of the engine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memories_async._engine.body.budget import UploadBudget


@pytest.fixture
def budget() -> Iterator[UploadBudget]:
    budget = UploadBudget()
    yield budget
    budget.close()
