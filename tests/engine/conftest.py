"""What the tests of the engine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memories_async._engine.body.writer import Share


@pytest.fixture
def share() -> Iterator[Share]:
    share = Share()
    yield share
    share.close()
