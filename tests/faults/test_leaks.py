"""Uploads cancelled at random leave nothing behind: no file, no socket, no task, no thread."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import threading
from pathlib import Path

import attrs
import pytest

from memories_async import Memories, MemoriesError
from tests.conftest import PatientLoop
from tests.faults.conftest import MP4, on_stage, until
from tests.faults.proxy import Plan

LARGE = 3 << 20
"""More than one read, so that a file stays open between reads."""


@pytest.fixture(scope="module")
def large_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "large.mp4"
    path.write_bytes(MP4)
    os.truncate(path, LARGE)
    return path


@attrs.frozen
class Held:
    """What this process holds."""

    files: tuple[str, ...]
    sockets: int
    tasks: int
    threads: int

    @classmethod
    def now(cls) -> Held:
        targets: list[str] = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                targets.append(os.readlink(f"/proc/self/fd/{number}"))
        return cls(
            tuple(sorted(target for target in targets if target.endswith(".mp4"))),
            sum(target.startswith("socket:") for target in targets),
            len(asyncio.all_tasks()),
            threading.active_count(),
        )


def cancelled_at_random(large_film: Path, count: int, seed: int) -> None:
    """Cancel so many uploads at random moments, eight at once, and look at what is left."""
    chance = random.Random(seed)
    content = large_film.read_bytes()

    async def upload(client: Memories, number: int) -> None:
        source = large_film if number % 3 else content
        call = asyncio.ensure_future(client.captions.video(source, "what"))
        # Half of them within the first turns of the loop, where files and sockets are opened.
        if number % 2:
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(chance.random() * 0.03)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled() or isinstance(call.exception(), MemoriesError | None)

    async def work() -> None:
        async with on_stage() as stage:
            client = stage.client(max_connections=8)
            await client.captions.video(large_film, "what")
            await client.aclose()
            await until(lambda: stage.emulator.ledger[0].finished_at is not None)
            await asyncio.sleep(0.05)
            before = Held.now()
            client = stage.client(max_connections=8)
            kinds = [Plan(), Plan(drip=64 * 1024), Plan(body=0.5, how="stall"), Plan(body=0.3)]
            stage.proxy.plans.extend(chance.choice(kinds) for _ in range(count))
            for first in range(0, count, 8):
                await asyncio.gather(*[upload(client, first + offset) for offset in range(8)])
            await client.aclose()
            await stage.proxy.drop()
            gc.collect()
            await until(lambda: Held.now().files == before.files)
            await until(lambda: Held.now().sockets <= before.sockets)
            await until(lambda: Held.now().tasks <= before.tasks)
            assert Held.now().threads <= before.threads + 12  # pools of bounded size

    with asyncio.Runner(debug=False, loop_factory=PatientLoop) as runner:
        runner.run(work())
    gc.collect()


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_300_uploads_cancelled_at_random(large_film: Path, seed: int) -> None:
    cancelled_at_random(large_film, 152, seed)


@pytest.mark.slow
def test_1000_uploads_cancelled_at_random(large_film: Path) -> None:
    cancelled_at_random(large_film, 1000, 2)


@pytest.mark.slow
def test_cancelled_at_every_turn_of_the_loop(large_film: Path) -> None:
    """The first turns one by one: where a file is being opened, nobody but the thread knows it."""

    async def work() -> None:
        async with on_stage() as stage:
            client = stage.client()
            await client.captions.video(large_film, "what")
            for turns in range(150):
                call = asyncio.ensure_future(client.captions.video(large_film, "what"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
            await client.aclose()
            await until(lambda: not Held.now().files)

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        runner.run(work())
