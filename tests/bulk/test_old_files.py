"""A job's file of an older version: upgraded in place, resumed, exported; nothing paid is lost.

``version-1.job`` was written by commit 0de15cf, in the middle of a run that was then killed: of ten
images in ``/photos`` five were done (one after having been unknown), one was being sent, one is a
duplicate and one is no picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import sqlite3
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from memories_async import ConfigurationError, Memories
from memories_async.bulk import Job, JobBusy, JournalError
from memories_async.emulator import Emulator
from tests.bulk.ledgers import PNG, items_of
from tests.test_sqlite import on_read_only_media

pytestmark = pytest.mark.anyio

WRITTEN = Path(__file__).parent / "version-1.job"
STATUSES = ["done", "done", "skipped", "done", "done", "done", "sending", "planned", "planned"]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the file, and the images that it speaks of."""
    path, folder = tmp_path / "old.job", tmp_path / "photos"
    shutil.copy(WRITTEN, path)
    folder.mkdir()
    for number in range(8):
        (folder / f"{number:04}.png").write_bytes(PNG + b"%d" % number)
    (folder / "0001 copy.png").write_bytes(PNG + b"1")
    db = sqlite3.connect(path)
    db.execute("UPDATE item SET source = replace(source, '/photos', ?)", (str(folder),))
    db.commit()
    db.close()
    return path


async def test_it_is_upgraded_resumed_and_exported(
    emulator: Emulator, client: Memories, old: Path, tmp_path: Path
) -> None:
    async with await Job.open(old) as job:
        assert [item.status for item in await items_of(job)] == [*STATUSES, "failed"]
        sources, before = await job.vectors()
        assert len(sources) == 6
        assert job.price == Decimal("0.0002")
        report = await job.run(client)

        assert (report.counts.done, report.counts.unknown, report.counts.failed) == (7, 1, 1)
        assert emulator.ledger.billed() == len(emulator.ledger) == 2
        # Seven answers; one was once unknown and one is: nine may have been paid.
        assert report.cost == 7 * Decimal("0.0002")
        assert report.possible_cost == 2 * Decimal("0.0002")
        _, after = await job.vectors()
        assert after[:6].tolist() == before.tolist()
        for name in ("rows.jsonl", "rows.csv", "rows.parquet"):
            assert await job.export(tmp_path / name) == 10
        (first, *_) = await items_of(job)
        assert first.extra == {"row": 7}
    async with await Job.open(old) as job:
        assert (await job.run(client)).requests == 0
    db = sqlite3.connect(old)
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


async def test_an_upgraded_file_has_the_tables_of_a_new_one(old: Path, tmp_path: Path) -> None:
    async with await Job.open(old):
        pass
    async with await Job.create(tmp_path / "new", "embed_images", tmp_path / "photos"):
        pass

    def tables(path: Path) -> list[tuple[str, str]]:
        db = sqlite3.connect(path)
        found = db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        db.close()
        return found

    assert tables(old) == tables(tmp_path / "new")


async def test_one_that_an_older_version_is_running_is_read_and_left_as_it_is(
    client: Memories, old: Path, tmp_path: Path
) -> None:
    db = sqlite3.connect(old)
    db.execute("UPDATE lease SET seen = ?, host = 'elsewhere'", (time.time(),))
    db.commit()
    db.close()
    before = await asyncio.to_thread(old.read_bytes)
    async with await Job.open(old) as job:
        assert await job.export(tmp_path / "rows.jsonl") == 10
        with pytest.raises(JobBusy, match="older version"):
            await job.run(client)
    assert await asyncio.to_thread(old.read_bytes) == before


async def test_one_whose_run_is_dead_need_not_wait(
    emulator: Emulator, client: Memories, old: Path
) -> None:
    db = sqlite3.connect(old)
    db.execute(
        "UPDATE lease SET seen = ?, host = ?, pid = 4194999", (time.time(), socket.gethostname())
    )
    db.commit()
    db.close()
    async with await Job.open(old) as job:
        assert (await job.run(client)).counts.done == 7


READ = """
import asyncio, sys
from memories_async.bulk import Job
async def main():
    async with await Job.open(sys.argv[1]) as job:
        print((await job.counts()).done, await job.export(sys.argv[2]))
        try:
            await job.add(["x.png"])
        except Exception as error:
            print(type(error).__name__)
asyncio.run(main())
"""


@pytest.mark.parametrize("version", [1, 2])
async def test_a_job_on_read_only_media_is_read_and_exported(
    old: Path, tmp_path: Path, version: int
) -> None:
    media = tmp_path / "media"
    media.mkdir()
    if version == 2:
        async with await Job.open(old):
            pass
    shutil.move(old, media / "old.job")
    command = [sys.executable, "-c", READ, str(media / "old.job"), str(tmp_path / "rows.jsonl")]
    ran = await asyncio.to_thread(on_read_only_media, media, command)
    assert ran.stdout == "5 10\nJournalError\n", ran.stderr
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 10


async def test_one_of_a_newer_version_says_what_to_do(old: Path) -> None:
    db = sqlite3.connect(old)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigurationError, match=r"newer version.*upgrade"):
        await Job.open(old)


async def test_one_that_is_damaged_says_so_and_is_not_changed(old: Path) -> None:
    content = await asyncio.to_thread(old.read_bytes)
    damaged = content[:100] + bytes(3996) + content[4096:]
    await asyncio.to_thread(old.write_bytes, damaged)
    with pytest.raises(JournalError, match=r"old\.job.*malformed"):
        await Job.open(old)
    assert await asyncio.to_thread(old.read_bytes) == damaged


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE item SET status = 'weird'",
        "UPDATE item SET result = '{'",
        "UPDATE item SET sha256 = 'no bytes'",
        "UPDATE job SET price = 'abc'",
        "UPDATE job SET created = 'x'",
    ],
)
async def test_values_that_cannot_be_there_are_damage(old: Path, damage: str) -> None:
    """What a disk has turned into something else is said of the file, in words."""
    async with await Job.open(old):
        pass  # it is of this version now
    with contextlib.closing(sqlite3.connect(old)) as db:
        db.execute(damage)
        db.commit()
    with pytest.raises(JournalError, match=r"old\.job is damaged"):
        async with await Job.open(old) as job:
            _ = [item async for item in job.items()]
