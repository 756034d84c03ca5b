"""What a job or Once cannot use is said at once, in words, before any item is held against it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from memories_async import ConfigurationError, Memories
from memories_async import sync as blocking
from memories_async.bulk import Input, Job, Once, SqliteLedger
from memories_async.emulator import Emulator
from tests.bulk.conftest import MakeImages

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("inputs", [5, None, 0.5, b"photos", {"photos": 1}, 10**5000], ids=range(6))
async def test_what_is_no_input(tmp_path: Path, inputs: Any) -> None:
    with pytest.raises(ConfigurationError, match="inputs are a path"):
        await Job.create(tmp_path / "job", "embed_images", inputs)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["\ud800.png", "\ud800", "\ud800/*.png", "\ud800.txt"])
async def test_half_a_character_is_in_no_name(tmp_path: Path, name: str) -> None:
    for inputs in (name, [name], Input(name)):
        with pytest.raises(ConfigurationError, match="no name of a file"):
            await Job.create(tmp_path / "job", "embed_images", inputs)
    for path in (tmp_path / name, f"{tmp_path}/{name}"):
        with pytest.raises(ConfigurationError, match="path"):
            await Job.create(path, "embed_images", [])
    assert not os.listdir(tmp_path)


async def test_more_calls_at_once_than_a_machine_can_hold(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """A task for each would fill the memory before the first item is sent."""
    async with await Job.create(tmp_path / "job", "embed_images", images(3)) as job:
        tasks: list[int] = []
        report = await job.run(
            client,
            concurrency=10_000,
            on_event=lambda _: tasks.append(len(asyncio.all_tasks())),
        )
        assert report.counts.done == 3
        assert max(tasks) < 2_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": ["embed_images"]},
        {"options": 5},
        {"include": 5},
        {"shard": (1.5, 2)},
        {"path": 5},
        {"path": ""},
    ],
)
async def test_what_no_job_can_be_made_of(
    images: MakeImages, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    given = {"path": tmp_path / "job", "kind": "embed_images", "inputs": images(1), **wrong}
    with pytest.raises(ConfigurationError):
        await Job.create(**given)
    assert "job" not in os.listdir(tmp_path)


@pytest.mark.parametrize("path", [5, "", None])
async def test_what_is_no_file_to_open(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="path"):
        await Job.open(path)


@pytest.mark.parametrize("which", [5, None, ["1"], [True], [0], [2**70]])
async def test_what_cannot_be_retried(images: MakeImages, tmp_path: Path, which: Any) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(1)) as job:
        with pytest.raises(ConfigurationError):
            await job.retry(which)


async def test_what_is_no_client_fails_no_item(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """The blocking client in a loop would even wait for ever: for a loop that waits for it."""
    with blocking.Memories("key", base_url=emulator.url) as blocking_client:
        wrong: list[Any] = [None, "key", Memories, blocking_client]
        async with await Job.create(tmp_path / "job", "embed_images", images(2)) as job:
            for one in wrong:
                with pytest.raises(ConfigurationError, match="client is"):
                    await job.run(one)
                with pytest.raises(ConfigurationError, match="client is"):
                    Once(one, SqliteLedger(tmp_path / "ledger"))
            with pytest.raises(ConfigurationError, match="on_event"):
                await job.run(client, on_event=5)  # type: ignore[arg-type]  # on purpose
            assert (await job.counts()).planned == 2
