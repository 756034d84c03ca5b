"""A folder of sources, a recording server and a client that talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memories_async import Memories
from tests.operations.cases import CAPTION_KEY, FILES, GENERAL_KEY
from tests.operations.recorder import Recorder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    async with Recorder() as recorder:
        yield recorder


@pytest.fixture
async def client(recorder: Recorder) -> AsyncIterator[Memories]:
    async with Memories(GENERAL_KEY, caption_key=CAPTION_KEY, base_url=recorder.url) as client:
        yield client
