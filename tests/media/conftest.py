"""The picture that the tests of inspection hand in by its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.inspecting import PNG


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    return path
