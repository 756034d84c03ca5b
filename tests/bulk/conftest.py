"""An emulator, a client and folders of small images that are all different."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memories_async import Memories
from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine
from tests import forks
from tests.bulk.ledgers import PNG

MakeImages = Callable[..., Path]
Kill = Callable[..., Awaitable[dict[str, int]]]


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(HashEngine()) as emulator:
        yield emulator


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[Memories]:
    async with Memories("key", caption_key="caption", base_url=emulator.url) as client:
        yield client


@pytest.fixture
def images(tmp_path: Path) -> MakeImages:
    """Return what makes a folder of so many images."""

    def make(count: int, folder: str = "images") -> Path:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        for number in range(count):
            (path / f"{number:04}.png").write_bytes(PNG + f"{folder} {number}".encode())
        return path

    return make


@pytest.fixture
def kill() -> Iterator[Kill]:
    """Return what runs a job in a process of its own, until that is killed.

    No coroutine, as a fork's first moments and its end are waited for.
    """
    program = ["-m", "tests.bulk.killed_runs"]
    server = forks.start(program, cwd=forks.ROOT, stdin=subprocess.PIPE, stderr=2)
    orders, answers = server.stdin, server.stdout
    assert orders is not None
    assert answers is not None

    async def order(job: Path, url: str = "", **details: Any) -> dict[str, int]:
        details.setdefault("run", {})
        orders.write(json.dumps({"job": str(job), "url": url, **details}).encode() + b"\n")
        return dict(json.loads(await asyncio.to_thread(answers.readline)))

    yield order
    server.communicate()
