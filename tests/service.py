"""What tests of calls share: a recording server, a folder of sources and a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from memories_async import Memories
from tests.cases import CAPTION_KEY, FILES, GENERAL_KEY
from tests.recorder import Recorder
from tests.virtual_clock import HurriedClock

FILM = FILES["video.mp4"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def clock() -> HurriedClock:
    return HurriedClock()


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    async with Recorder() as recorder:
        yield recorder


@pytest.fixture
async def client(recorder: Recorder, clock: HurriedClock) -> AsyncIterator[Memories]:
    async with Memories(
        GENERAL_KEY, caption_key=CAPTION_KEY, base_url=recorder.url, clock=clock
    ) as client:
        yield client


@pytest.fixture
def beside() -> Iterator[Recorder]:
    """A recording server in another thread: the test itself blocks."""

    async def start() -> Recorder:
        return await Recorder().__aenter__()

    with start_blocking_portal() as portal:
        recorder = portal.call(start)
        yield recorder
        portal.call(recorder.__aexit__, None, None, None)
