"""Rows for other programs: one per input, whatever became of it."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from memories_async import ConfigurationError, Memories
from memories_async.bulk import Input, Job
from memories_async.emulator import Emulator
from memories_async.emulator.faults import Cut
from memories_async.emulator.faults import InjectedFault as Fault
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import PNG

pytestmark = pytest.mark.anyio


@pytest.fixture
async def job(emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path) -> Any:
    """A job with a row of each kind: done, duplicate, unfit, unknown, done."""
    folder = images(4)
    (folder / "0001.png").write_bytes((folder / "0000.png").read_bytes())
    (folder / "0002.png").write_bytes(b"nothing")
    inputs = [Input(folder / f"{n:04}.png", extra={"my_id": n} if n == 3 else {}) for n in range(4)]
    (folder / "0004.png").write_bytes(PNG)
    emulator.faults.add(Fault(None, Cut(), moment="processed", nth=2))
    async with await Job.create(tmp_path / "job", "embed_images", inputs) as job:
        await job.add(folder / "0004.png")
        await job.run(client, concurrency=1)
        yield job


STATUSES = ["done", "skipped", "failed", "unknown", "done"]


async def test_json_lines(job: Job, tmp_path: Path) -> None:
    assert await job.export(tmp_path / "rows.jsonl") == 5
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]

    assert [row["status"] for row in rows] == STATUSES
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["error"] is None for row in rows] == [True, False, False, False, True]
    assert rows[0]["vector"] == rows[1]["vector"]
    assert rows[1]["duplicate_of"] == 1
    assert rows[2]["vector"] is rows[3]["vector"] is None
    assert rows[3]["extra"] == {"my_id": 3}
    assert rows[0]["model"] == "multimodalembedding@001"
    _, vectors = await job.vectors()
    assert np.array_equal(np.array(rows[4]["vector"], np.float32), vectors[2])  # bit for bit


async def test_parquet(job: Job, tmp_path: Path) -> None:
    assert await job.export(tmp_path / "rows.parquet") == 5
    table = pq.read_table(tmp_path / "rows.parquet")

    assert table["status"].to_pylist() == STATUSES
    assert str(table.schema.field("vector").type.value_type) == "float"
    _, vectors = await job.vectors()
    assert table["vector"].to_pylist()[0] == vectors[0].tolist()
    assert table["vector"].to_pylist()[2] is None
    assert json.loads(table["extra"].to_pylist()[3]) == {"my_id": 3}


async def test_an_array_of_all_vectors(job: Job) -> None:
    sources, vectors = await job.vectors()
    assert [Path(source).name for source in sources] == ["0000.png", "0001.png", "0004.png"]
    assert vectors.shape == (3, 1408)
    assert vectors.dtype == np.float32


async def test_a_file_is_replaced_only_by_a_whole_one(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("the last export")

    def fail(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("memories_async.bulk.exports.JsonLines.write", fail)
    with pytest.raises(OSError, match="no space"):
        await job.export(path)
    assert path.read_text() == "the last export"
    assert not (tmp_path / "rows.jsonl.part").exists()


async def test_what_cannot_be_written_is_said_before_anything_is(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="jsonl, csv, parquet"):
        await job.export(tmp_path / "rows.xlsx")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match="pip install pyarrow"):
        await job.export(tmp_path / "rows.parquet")
    assert not [name for name in os.listdir(tmp_path) if name.startswith("rows")]


async def test_captions_have_columns_of_their_own(
    client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    options = {"prompt": "What is it?"}
    async with await Job.create(
        tmp_path / "job", "caption_images", images(1), options=options
    ) as job:
        await job.run(client)
        await job.export(tmp_path / "rows", format="jsonl")
    row = json.loads((tmp_path / "rows").read_text())
    assert row["text"].startswith("1 picture")
    assert row["input_tokens"] > 0
    assert row["output_tokens"] > 0


async def test_csv(job: Job, tmp_path: Path) -> None:
    assert await job.export(tmp_path / "rows.csv") == 5
    with open(tmp_path / "rows.csv", encoding="utf-8", newline="") as file:  # noqa: ASYNC230  # small
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == STATUSES
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert json.loads(rows[3]["extra"]) == {"my_id": 3}
    assert rows[2]["vector"] == rows[3]["vector"] == ""
    _, vectors = await job.vectors()
    numbers = np.array(json.loads(rows[4]["vector"]), np.float32)
    assert np.array_equal(numbers, vectors[2])


async def test_csv_holds_any_text(client: Memories, images: MakeImages, tmp_path: Path) -> None:
    text = 'two\nlines, a "quotation", =1+1, ü and \t tab'
    inputs = [Input(images(1) / "0000.png", extra={"text": text, "big": 2**63 - 1})]
    async with await Job.create(tmp_path / "job", "embed_images", inputs) as job:
        for name in ("rows.csv", "rows.jsonl"):
            assert await job.export(tmp_path / name) == 1
    with open(tmp_path / "rows.csv", encoding="utf-8", newline="") as file:  # noqa: ASYNC230  # small
        (row,) = csv.DictReader(file)
    assert json.loads(row["extra"]) == {"text": text, "big": 2**63 - 1}
    assert json.loads((tmp_path / "rows.jsonl").read_text())["extra"] == json.loads(row["extra"])


async def test_exports_to_one_name_at_once_do_not_meet(job: Job, tmp_path: Path) -> None:
    others = [await Job.open(tmp_path / "job") for _ in range(4)]
    rows = await asyncio.gather(*(one.export(tmp_path / "rows.jsonl") for one in (job, *others)))
    for other in others:
        await other.aclose()
    assert rows == [5] * 5
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 5
    assert [name for name in os.listdir(tmp_path) if name.startswith("rows")] == ["rows.jsonl"]


async def test_no_planted_link_is_written_through(job: Job, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "rows.jsonl.part").symlink_to(tmp_path / "precious")
    (tmp_path / "rows.jsonl").symlink_to(tmp_path / "precious")
    assert await job.export(tmp_path / "rows.jsonl") == 5
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "rows.jsonl").is_symlink()


async def test_a_job_is_never_exported_over(job: Job, tmp_path: Path) -> None:
    for name in ("job", "job-wal"):
        if (tmp_path / name).exists():
            with pytest.raises(ConfigurationError, match="own file"):
                await job.export(tmp_path / name, format="jsonl")
    assert (await job.counts()).total == 5
    async with await Job.create(tmp_path / "other", "embed_images", tmp_path / "images"):
        pass
    with pytest.raises(ConfigurationError, match="own file"):
        await job.export(tmp_path / "other", format="jsonl")


@pytest.mark.parametrize(
    "suffix", [".lock", ".planning", "-wal", "-shm", "-journal", ".planning-wal", ".LOCK"]
)
async def test_no_name_of_a_job_s_own_is_exported_to(suffix: str, job: Job, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for name in (f"job{suffix}", f"link/job{suffix}", f"images/../job{suffix}"):
        with pytest.raises(ConfigurationError, match="own file"):
            await job.export(tmp_path / name, format="jsonl")
    async with await Job.create(tmp_path / "other", "embed_images", tmp_path / "images"):
        pass
    with pytest.raises(ConfigurationError, match="own file"):
        await job.export(tmp_path / f"other{suffix}", format="jsonl")
    assert await job.export(tmp_path / "nobody.lock", format="jsonl") == 5


async def test_what_is_no_regular_file_is_not_replaced_by_one(job: Job, tmp_path: Path) -> None:
    pipe = tmp_path / "rows.jsonl"
    os.mkfifo(pipe)
    (tmp_path / "link.jsonl").symlink_to(os.devnull)
    for place in (pipe, tmp_path / "link.jsonl"):
        with pytest.raises(ConfigurationError, match="no regular file, and would be replaced"):
            await job.export(place)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o400])
async def test_the_mode_of_a_file_that_is_replaced_stays(
    job: Job, tmp_path: Path, mode: int
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("earlier")
    rows.chmod(mode)
    assert await job.export(rows) == 5
    assert stat.S_IMODE(rows.stat().st_mode) == mode
    assert len(rows.read_text().splitlines()) == 5
