"""What a small call costs, in numbers that no noise touches."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import memories_async
from memories_async import Memories
from memories_async._engine.body.layout import Recipe
from memories_async._engine.body.threads import Threads
from memories_async._engine.body.writer import Transfer
from memories_async._engine.pacing import Slot
from memories_async._engine.request import Request
from memories_async._engine.watch import Watch
from memories_async.secret import Secret, _written
from tests.engine.raw_server import Conversation, RawServer, answer

pytestmark = pytest.mark.anyio

OURS = os.path.dirname(memories_async.__file__)
ANSWER = answer({"embedding": [0.5, 0.25] * 700})
CALLS = 20


@pytest.fixture
async def client() -> AsyncIterator[Memories]:
    async def serve(conversation: Conversation) -> None:
        while True:
            await conversation.request()
            await conversation.send(ANSWER)

    async with RawServer(serve) as server, Memories("key", base_url=server.url) as client:
        yield client


async def test_python_functions_of_a_small_call(client: Memories) -> None:
    """Ours alone; what aiohttp calls is aiohttp's. 138 on Python 3.11 when this was written."""
    counts = Counter[str]()

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            counts[frame.f_code.co_qualname] += 1

    await client.embeddings.image(asset_id="re_1")  # what is made once has been made
    sys.setprofile(count)
    try:
        for _ in range(CALLS):
            await client.embeddings.image(asset_id="re_1")
    finally:
        sys.setprofile(None)
    assert sum(counts.values()) / CALLS <= 150, counts.most_common(40)


def test_allocations_of_a_small_call() -> None:
    """On Python 3.11: 116 blocks held by a call that waits for its answer, 490 made in all."""
    blocks = json.loads(
        subprocess.run(
            [sys.executable, "-E", "-m", "tests.engine.allocations"],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    )
    assert 0 < blocks["held"] <= 130
    assert blocks["held"] < blocks["made"] <= 540


def test_a_vector_is_searched_for_one_spelling_of_a_key_at_most() -> None:
    """Of a long answer a search for forty letters costs what sixteen for a single one do.

    In base 16 a key has no letter that an answer would not have.
    """
    key = "sk-mavi-0123456789abcdef0123456789abcdef"
    looked_for = _written(key)
    assert len(looked_for) <= 4  # spellings share what they are first looked for by
    searched = [one for rare, spelled in looked_for if rare in ANSWER for one in spelled]
    assert searched == [b"sk-mavi-0123456789abcdef0123456789abcdef".hex().encode()]


@pytest.mark.parametrize(
    "key", ["sk-mavi-0123456789abcdef", "MNOPQRSTUVWXYZ", "0123456789", "abcdefghi"]
)
def test_whatever_a_key_is_first_looked_for_by_is_part_of_it(key: str) -> None:
    looked_for = _written(key)
    assert looked_for[0][1][0] == key.encode()
    assert all(rare in written for rare, spelled in looked_for for written in spelled)
    assert Secret(key, "key").hide(f"said {key}.".encode()) == "said ….".encode()


async def test_a_call_leaves_nothing_to_the_collector(client: Memories, tmp_path: Path) -> None:
    """Cycles would have it stop the loop every few calls."""
    image = tmp_path / "a.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    for source in (None, str(image)):
        arguments: dict[str, Any] = {"source": source} if source else {"asset_id": "re_1"}
        await client.embeddings.image(**arguments)
        gc.collect()
        gc.disable()
        try:
            for _ in range(CALLS):
                await client.embeddings.image(**arguments)
            assert gc.collect() < CALLS
        finally:
            gc.enable()


async def test_nothing_of_a_call_outlives_it(client: Memories, tmp_path: Path) -> None:
    """asyncio keeps cancelled timers by the hundred, each with the context that it was set in."""
    image = tmp_path / "a.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    gc.collect()
    gc.disable()
    try:
        for _ in range(CALLS):
            await client.embeddings.image(asset_id="re_1")
            await client.embeddings.image(str(image))
        kept = Counter(map(type, gc.get_objects()))
    finally:
        gc.enable()
    assert [kept[kind] for kind in (Request, Recipe, Transfer, Watch, Slot)] == [0] * 5


async def test_results_that_come_together_wake_the_loop_once() -> None:
    """A wake-up is a system call on either side, and a switch between threads."""
    loop, wakes = asyncio.get_running_loop(), list[object]()
    threads, gate = Threads(1, "counted"), threading.Event()
    real = loop.call_soon_threadsafe

    def counted(function: Any, *arguments: Any, **named: Any) -> Any:
        wakes.append(function)
        return real(function, *arguments, **named)

    loop.call_soon_threadsafe = counted  # type: ignore[assignment]
    try:
        first = asyncio.create_task(threads.run(gate.wait))
        others = [asyncio.create_task(threads.run(partial(int, n))) for n in range(50)]
        await asyncio.sleep(0)
        gate.set()
        while threads._unfinished:
            pass  # the loop is busy with others
        assert await first is True
        assert await asyncio.gather(*others) == list(range(50))
    finally:
        del loop.call_soon_threadsafe
        threads.close()
    assert len(wakes) == 1


async def test_one_cancelled_result_disturbs_no_other() -> None:
    threads, gate = Threads(1, "cancelled"), threading.Event()
    ran = list[int]()
    try:
        first = asyncio.create_task(threads.run(gate.wait))
        others = [asyncio.create_task(threads.run(partial(ran.append, n))) for n in range(3)]
        await asyncio.sleep(0)
        others[1].cancel()
        await asyncio.sleep(0)
        gate.set()
        assert await first is True
        done = await asyncio.gather(*others, return_exceptions=True)
        assert [type(result).__name__ for result in done] == [
            "NoneType",
            "CancelledError",
            "NoneType",
        ]
        assert ran == [0, 2]
    finally:
        threads.close()
