"""A job whose folder of inputs holds the job's own file, in a process that keeps its locks."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from memories_async import ConfigurationError, MediaError, Memories, sqlite
from memories_async.bulk import Event, Job, JournalError, Status
from memories_async.emulator import Emulator
from memories_async.emulator.faults import InjectedFault
from memories_async.observe import Receipts, read_receipts
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import assert_journal_matches, items_of, until
from tests.locks import locks_held
from tests.test_sqlite import PROC

pytestmark = pytest.mark.anyio


@PROC
async def test_a_run_keeps_its_locks_whatever_else_its_process_does(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """It looks at its own folder, plans the job a second time, lists, exports, and adds."""
    emulator.faults.add(InjectedFault(None, latency=0.02, times=None))
    folder = images(30)
    path = folder / "images.job"
    async with await Job.create(path, "embed_images", f"{folder}/*") as job:
        run = asyncio.create_task(job.run(client))
        await until(lambda: len(emulator.ledger))
        os.link(path, folder / "another name of it.png")
        held = locks_held(path)
        assert held
        with pytest.raises(ConfigurationError, match="exists already: go on"):
            await Job.create(path, "embed_images", folder)
        async with await Job.open(path) as other:
            await other.counts()
            await other.running()
            await other.plan(f"{folder}/*")
            await other.add([path, folder / "images.job-wal", folder])
            await other.export(tmp_path / "rows.jsonl")
            with pytest.raises(ConfigurationError, match="own file"):
                await other.export(path, format="jsonl")
        own = f"{path} is an SQLite file that this process has open"
        with pytest.raises(MediaError, match=own):
            await client.captions.image(path, "What?")
        with pytest.raises(ConfigurationError, match=own):
            Receipts(path)
        with pytest.raises(ConfigurationError, match=own):
            read_receipts(path)
        with pytest.raises(MediaError, match=own):
            await client.library.download("VI1", path)
        assert not run.done()
        assert locks_held(path) >= held
        report = await run
        await assert_journal_matches(job, emulator.ledger, report.counts.total)
    assert report.counts.done == 30
    assert {Path(entry.files[0].name).suffix for entry in emulator.ledger} == {".png"}
    assert report.counts.failed == 0


async def test_the_job_s_own_files_are_no_inputs(images: MakeImages, tmp_path: Path) -> None:
    folder = images(2)
    path = folder / "photos.job"
    async with await Job.create(path, "embed_images", f"{folder}/*") as job:
        assert (await job.counts()).total == 2
        held = await job._journal.lock()
        names = sorted(os.listdir(folder))
        assert [name for name in names if "photos.job" in name] == [
            "photos.job",
            "photos.job-shm",
            "photos.job-wal",
            "photos.job.lock",
        ]
        assert await job.add([f"{folder}/*", *(folder / name for name in names)]) == 0
        await job._journal.unlock(held)


@PROC
async def test_another_sqlite_file_that_the_process_has_open_fails_and_is_not_opened(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(1)
    other = folder / "callbacks.png"
    db = sqlite.connect(other, create_missing=True)
    db.execute("CREATE TABLE x (y)")
    held = locks_held(other)
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        plan = await job.plan()
        report = await job.run(client)
        (_, item) = await items_of(job)
    assert (report.counts.done, item.status) == (1, Status.FAILED)
    assert "SQLite file that this process has open" in str(item.error)
    assert [one.source for one in plan.unsent] == [str(other)]
    assert locks_held(other) == held
    db.close()


@PROC
async def test_a_forked_child_neither_has_nor_breaks_its_parent_s_locks(
    client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(4)) as job:
        held = await job._journal.lock()
        before = locks_held(tmp_path / "job")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                # The file is closed in the child, and a new connection takes locks of its own.
                assert job._journal._file._db is None
                db = sqlite.connect(tmp_path / "job")
                db.execute("SELECT count(*) FROM item").fetchone()
                code = 0 if locks_held(tmp_path / "job") else 2
                db.close()
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert (await job.counts()).planned == 4
        await job._journal.write(lambda db: None)
        assert locks_held(tmp_path / "job") == before
        assert await job.running()
        await job._journal.unlock(held)
        assert (await job.run(client)).counts.done == 4


async def test_after_a_fork_a_log_that_is_lost_is_still_noticed(
    images: MakeImages, tmp_path: Path
) -> None:
    """The parent closes its file for the fork, and opens it again later."""
    async with await Job.create(tmp_path / "job", "embed_images", images(2)) as job:
        held = await job._journal.lock()
        child = os.fork()
        if child == 0:
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        await job.counts()
        await asyncio.to_thread(shutil.copy, tmp_path / "job", tmp_path / "copy")
        await job._journal.unlock(held)
    async with await Job.open(tmp_path / "copy") as copy:
        assert await copy.recover() == 2


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
async def test_a_file_that_is_taken_away_ends_its_run(
    how: str, emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """What is written into a file that nobody finds again is as good as not written."""
    path = tmp_path / "job"

    def take_away(event: Event) -> None:
        if event.counts.done == 1 and path.is_file():
            path.rename(tmp_path / "elsewhere")
            if how == "deleted":
                (tmp_path / "elsewhere").unlink()
            elif how == "replaced":
                path.mkdir()

    job = await Job.create(path, "embed_images", images(6))
    with pytest.raises(JournalError, match="deleted, moved or replaced") as caught:
        await job.run(client, concurrency=1, on_event=take_away)
    await job.aclose()
    billed = emulator.ledger.billed()
    assert billed <= 2
    # No request was made that there could have been attempts of.
    assert "attempt" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    if how != "replaced":  # what stands there now is somebody else's
        left = {"images"} if how == "deleted" else {"images", "elsewhere"}
        assert set(os.listdir(tmp_path)) == left
    if how != "deleted":  # where it is now, it is whole, and goes on
        async with await Job.open(tmp_path / "elsewhere") as job:
            assert (await job.counts()).done == billed
            assert (await job.run(client)).counts.done == emulator.ledger.billed() == 6
    if how != "replaced":
        async with await Job.create(path, "embed_images", tmp_path / "images") as job:
            assert (await job.counts()).planned == 6


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
async def test_what_is_no_file_gives_way_to_no_job(images: MakeImages, tmp_path: Path) -> None:
    """A pipe and a device have no size: root's job in the place of one removed it."""
    folder, path = images(1), tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ConfigurationError, match="exists already"):
        await Job.create(path, "embed_images", folder)
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        source = job.path
    with pytest.raises(ConfigurationError, match="exists already"):
        await Job.merge([source], path)
    assert path.is_fifo()


async def test_a_second_name_of_a_job_is_never_written_under(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """Two names have two logs, of which neither knows what is in the other."""
    path, link = tmp_path / "job", tmp_path / "link"
    async with await Job.create(path, "embed_images", images(3)) as job:
        held = await job._journal.lock()
        os.link(path, link)
        with pytest.raises(JournalError, match="hard link"):
            await Job.open(link)
        await job._journal.unlock(held)
    async with await Job.open(link) as second:  # at rest it can be read
        assert (await second.counts()).planned == 3
        with pytest.raises(JournalError, match="hard link"):
            await second.retry([1])
    assert not [name for name in os.listdir(tmp_path) if name.startswith("link-")]
    link.unlink()
    async with await Job.open(path) as job:
        assert (await job.run(client)).counts.done == 3
