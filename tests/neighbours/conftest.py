"""A recording server, and a client that talks to it by a clock that never waits."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from memories_async import Memories
from tests.operations.recorder import Recorder
from tests.virtual_clock import HurriedClock

KEY = "sk-mavi-general-0123456789"
FILM = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x08free" + bytes(range(256)) * 64
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


@pytest.fixture
def clock() -> HurriedClock:
    return HurriedClock()


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    async with Recorder() as recorder:
        yield recorder


@pytest.fixture
async def client(recorder: Recorder, clock: HurriedClock) -> AsyncIterator[Memories]:
    async with Memories(KEY, base_url=recorder.url, clock=clock) as client:
        yield client


def v1(data: str) -> str:
    """Wrap JSON as the library does."""
    return f'{{"code":"0000","msg":"success","data":{data},"success":true,"failed":false}}'


def v2(data: str) -> str:
    """Wrap JSON as the newest host does."""
    return f'{{"code":200,"msg":"success","data":{data},"success":true,"failed":false}}'
