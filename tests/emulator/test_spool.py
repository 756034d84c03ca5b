"""Uploads go to disk as they arrive, in constant memory."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memories_async.emulator import Emulator
from tests.emulator.conftest import KnownEngine, files_in, session_for

pytestmark = pytest.mark.anyio

PIECE = bytes(range(256)) * 1024
PIECES = 256  # 64 MiB
HEAD = (
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="film.mp4"\r\n'
    b"Content-Type: video/mp4\r\n\r\n"
)
REQ = (
    b'--x\r\nContent-Disposition: form-data; name="req"; filename="req.json"\r\n'
    b'Content-Type: application/json\r\n\r\n{"user_prompt": "u", "system_prompt": "s"}\r\n'
)
TAIL = b"\r\n--x--\r\n"


class SizeEngine(KnownEngine):
    """Looks at a video's size only."""

    def _read(self, path: Path) -> bytes:
        self.size = path.stat().st_size
        return b""


async def body() -> AsyncIterator[bytes]:
    yield REQ + HEAD
    for _ in range(PIECES):
        yield PIECE
    yield TAIL


async def test_a_large_upload_costs_no_memory_and_does_not_hold_the_loop() -> None:
    engine = SizeEngine()
    length = len(REQ + HEAD + TAIL) + len(PIECE) * PIECES
    headers = {
        "Content-Type": "multipart/form-data; boundary=x",
        "Content-Length": str(length),
    }
    turns = 0

    async def beat() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with Emulator(engine) as emulator, session_for(emulator) as client:
        heart = asyncio.create_task(beat())
        tracemalloc.start()
        path = "/v1/understand/uploadFileSync"
        async with client.post(path, data=body(), headers=headers) as response:
            assert (await response.json())["code"] == 0
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        heart.cancel()
    [entry] = emulator.ledger
    assert engine.size == entry.files[0].size == len(PIECE) * PIECES
    assert entry.files[0].sha256 == hashlib.sha256(PIECE * PIECES).hexdigest()
    assert peak < 12 << 20
    # Where the loop is held for the whole upload, nobody else has a turn meanwhile.
    assert turns >= PIECES


async def test_nothing_is_left_of_a_finished_call(tmp_path: Path) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with Emulator(SizeEngine(), folder=tmp_path) as emulator:
        async with session_for(emulator) as client:
            data = REQ + HEAD + PIECE + TAIL
            path = "/v1/understand/uploadFileSync"
            async with client.post(path, data=data, headers=headers) as response:
                assert (await response.json())["code"] == 0
        assert files_in(tmp_path) == []
