"""The one file of a job is whole, or says that it is not: nothing is planned or billed twice."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from memories_async import ConfigurationError, Memories
from memories_async.bulk import Job, JournalError, Status
from memories_async.emulator import Emulator
from memories_async.emulator.faults import InjectedFault
from tests import forks
from tests.bulk.conftest import Kill, MakeImages
from tests.bulk.ledgers import assert_journal_matches, until

pytestmark = pytest.mark.anyio


async def killed_in_the_middle(
    emulator: Emulator, kill: Kill, folder: Path, path: Path, after: int = 14
) -> None:
    """Leave a job of which some items are done, and whose last commits are in its log alone."""
    emulator.faults.add(InjectedFault(None, latency=0.01, times=None))
    async with await Job.create(path, "embed_images", folder):
        pass
    ended = await kill(path, emulator.url, after=after, run={"concurrency": 2})
    assert ended["status"] == -signal.SIGKILL
    await until(lambda: all(entry.finished_at for entry in emulator.ledger))
    assert 0 < emulator.ledger.billed() < 40
    assert os.stat(f"{path}-wal").st_size


async def test_a_planned_job_is_one_file_that_can_be_copied(
    images: MakeImages, tmp_path: Path
) -> None:
    job = await Job.create(tmp_path / "job", "embed_images", images(3))
    shutil.copy(tmp_path / "job", tmp_path / "copy")  # nothing has it open as yet
    assert sorted(os.listdir(tmp_path)) == ["copy", "images", "job"]
    await job.aclose()
    async with await Job.open(tmp_path / "copy") as copy:
        assert (await copy.counts()).planned == 3


async def test_a_copy_without_the_log_of_a_killed_run_is_read_but_not_run(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path, kill: Kill
) -> None:
    await killed_in_the_middle(emulator, kill, images(40), tmp_path / "job")
    sent = len(emulator.ledger)  # one that the kill cut off is not billed
    await asyncio.to_thread(shutil.copy, tmp_path / "job", tmp_path / "copy")
    for _ in range(2):  # also after the copy has been opened and closed again
        async with await Job.open(tmp_path / "copy") as copy:
            assert await copy.export(tmp_path / "rows.jsonl") == 40
            with pytest.raises(JournalError, match=r"without the '-wal' file.*recover"):
                await copy.run(client)
    assert len(emulator.ledger) == sent

    async with await Job.open(tmp_path / "copy") as copy:
        assert await copy.recover() == 40
        report = await copy.run(client)
        assert (report.counts.unknown, report.requests) == (40, 0)
        assert await copy.recover() == 0


@pytest.mark.parametrize("looked_at", [False, True])
async def test_where_only_the_log_is_lost_the_job_is_not_run(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    kill: Kill,
    looked_at: bool,
) -> None:
    await killed_in_the_middle(emulator, kill, images(40), tmp_path / "job")
    if looked_at:
        async with await Job.open(tmp_path / "job") as job:
            assert (await job.counts()).done
    sent = len(emulator.ledger)  # one that the kill cut off is not billed
    os.unlink(tmp_path / "job-wal")
    os.unlink(tmp_path / "job-shm")
    async with await Job.open(tmp_path / "job") as job:
        with pytest.raises(JournalError, match="recover"):
            await job.run(client)
    assert len(emulator.ledger) == sent


@pytest.mark.parametrize("by", ["listing", "sqlite"])
async def test_a_log_that_was_taken_in_is_not_lost(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path, kill: Kill, by: str
) -> None:
    """Whoever opens and closes the file properly may take the log in and delete it."""
    await killed_in_the_middle(emulator, kill, images(40), tmp_path / "job")
    if by == "sqlite":
        db = sqlite3.connect(tmp_path / "job")
        assert db.execute("SELECT count(*) FROM item").fetchone() == (40,)
        db.close()
        assert not (tmp_path / "job-wal").exists()
    else:
        async with await Job.open(tmp_path / "job") as job:
            assert (await job.counts()).done
    await asyncio.to_thread(_move_all, tmp_path, "job", "moved")
    async with await Job.open(tmp_path / "moved") as job:
        report = await job.run(client)
        items = await assert_journal_matches(job, emulator.ledger, 40)
    assert report.counts.done + report.counts.unknown == 40
    assert sum(item.status is Status.UNKNOWN for item in items) <= 2


def _move_all(folder: Path, old: str, new: str) -> None:
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(folder / f"{old}{suffix}"):
            os.rename(folder / f"{old}{suffix}", folder / f"{new}{suffix}")


async def test_killed_between_the_two_changes_around_a_checkpoint_nothing_is_lost(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(3)):
        pass
    code = """if True:
        import asyncio, os, signal, sys
        from memories_async import sqlite
        from memories_async.bulk import Job
        async def main():
            async with await Job.open(sys.argv[1]) as job:
                real = sqlite.checkpoint
                def die(db):
                    real(db)
                    os.kill(os.getpid(), signal.SIGKILL)
                sqlite.checkpoint = die
                await job._journal.lock()
        asyncio.run(main())
    """
    ran = await asyncio.to_thread(forks.completed, ["-c", code, str(tmp_path / "job")])
    assert ran.returncode == -signal.SIGKILL
    async with await Job.open(tmp_path / "job") as job:
        assert (await job.run(client)).counts.done == 3


async def test_a_finished_run_leaves_one_whole_file(
    client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(3)) as job:
        await job.run(client)
        await asyncio.to_thread(shutil.copy, tmp_path / "job", tmp_path / "copy")
    assert sorted(os.listdir(tmp_path)) == ["copy", "images", "job"]
    async with await Job.open(tmp_path / "copy") as copy:
        report = await copy.run(client)
    assert (report.counts.done, report.requests) == (3, 0)


async def test_the_log_is_taken_in_while_a_long_run_goes_on(
    client: Memories, images: MakeImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memories_async.bulk.journal.file.LOG_BYTES", 200_000)
    largest = 0

    def watch(event: object) -> None:
        nonlocal largest
        largest = max(largest, os.path.getsize(tmp_path / "job-wal"))

    async with await Job.create(tmp_path / "job", "embed_images", images(80)) as job:
        report = await job.run(client, on_event=watch)
    assert report.counts.done == 80
    assert 0 < largest < 600_000


# --- planning ---------------------------------------------------------------------------------


async def test_a_second_planner_is_refused_and_the_first_s_job_stands(
    images: MakeImages, tmp_path: Path
) -> None:
    """Also when the first is interrupted while the second waits: nobody's file is deleted."""
    started, go_on = asyncio.Event(), asyncio.Event()
    folder = images(4)

    async def slowly() -> object:
        yield folder / "0000.png"
        started.set()
        await go_on.wait()
        yield folder / "0001.png"

    planning = asyncio.create_task(
        Job.create(tmp_path / "job", "embed_images", slowly())  # type: ignore[arg-type]  # a generator
    )
    await started.wait()
    with pytest.raises(JournalError, match=f"process {os.getpid()}.*planning"):
        await Job.create(tmp_path / "job", "embed_images", folder)
    planning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await planning
    assert os.listdir(tmp_path) == ["images"]

    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        assert (await job.counts()).planned == 4


async def test_an_interrupted_planning_leaves_a_job_alone_that_came_in_between(
    images: MakeImages, tmp_path: Path
) -> None:
    folder = images(2)

    async def and_a_job_appears() -> object:
        yield folder / "0000.png"
        async with await Job.create(tmp_path / "other", "embed_images", folder):
            pass
        os.rename(tmp_path / "other", tmp_path / "job")
        yield folder / "0001.png"

    with pytest.raises(ConfigurationError, match="exists already"):
        await Job.create(tmp_path / "job", "embed_images", and_a_job_appears())  # type: ignore[arg-type]  # a generator
    async with await Job.open(tmp_path / "job") as job:
        assert (await job.counts()).planned == 2


async def test_what_a_killed_planning_left_is_no_job_and_in_nobody_s_way(
    images: MakeImages, tmp_path: Path, kill: Kill
) -> None:
    folder = await asyncio.to_thread(images, 1000)
    path = tmp_path / "job"
    ended = await kill(path, create=["embed_images", str(folder)], flag=f"{path}.planning")
    assert ended["status"] in (-signal.SIGKILL, 0)
    if ended["status"]:
        with pytest.raises(ConfigurationError, match="no such job"):
            await Job.open(path)
        async with await Job.create(path, "embed_images", folder):
            pass
    async with await Job.open(path) as job:
        assert (await job.counts()).planned == 1000
    assert sorted(os.listdir(tmp_path)) == ["images", "job"]


async def test_a_file_that_is_not_empty_is_never_planned_over(
    images: MakeImages, tmp_path: Path
) -> None:
    """The file of an older version, killed while all of it was in its log, and copied alone."""
    db = sqlite3.connect(tmp_path / "job")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE item (x)")
    shutil.copy(tmp_path / "job", tmp_path / "copy")
    db.close()
    folder = images(1)
    with pytest.raises(ConfigurationError, match="without the '-wal' file"):
        await Job.open(tmp_path / "copy")
    with pytest.raises(ConfigurationError, match="exists already"):
        await Job.create(tmp_path / "copy", "embed_images", folder)


async def test_a_log_without_its_file_is_not_planned_over(
    images: MakeImages, tmp_path: Path
) -> None:
    (tmp_path / "job-wal").write_bytes(b"results, perhaps")
    with pytest.raises(ConfigurationError, match="may hold results"):
        await Job.create(tmp_path / "job", "embed_images", images(1))
    assert (tmp_path / "job-wal").read_bytes() == b"results, perhaps"


async def test_an_empty_file_that_was_made_beforehand_becomes_the_job(
    images: MakeImages, tmp_path: Path
) -> None:
    (tmp_path / "job").touch(0o644)
    async with await Job.create(tmp_path / "job", "embed_images", images(1)):
        pass
    assert os.stat(tmp_path / "job").st_mode & 0o777 == 0o600
