"""The journal's file: one run at a time, many changes to a commit, nothing half done."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sqlite3
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memories_async import ConfigurationError, Memories, sqlite
from memories_async.bulk import Job, JobBusy, JournalError, Status
from memories_async.bulk.journal import job_table, queries
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.file import JobFile
from memories_async.bulk.journal.rows import JobHeader, NewItem, Settlement
from memories_async.emulator import Emulator
from memories_async.emulator.faults import InjectedFault as Fault
from tests import forks
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import AN_HOUR, until

pytestmark = pytest.mark.anyio


# --- one run at a time ------------------------------------------------------------------------


async def test_a_second_live_run_is_refused(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(Fault(None, latency=AN_HOUR))
    async with (
        await Job.create(tmp_path / "job", "embed_images", images(2)) as job,
        await Job.open(tmp_path / "job") as same,
    ):
        run = asyncio.create_task(job.run(client))
        await until(lambda: emulator.clock.waiting)
        assert await same.running()
        with pytest.raises(JobBusy, match=str(os.getpid())):
            await same.run(client)
        assert (await same.counts()).sending == 1  # the refused one changed nothing

        emulator.clock.advance(AN_HOUR)
        assert (await run).counts.done == 2
        assert not await same.running()
        assert (await same.run(client)).counts.done == 2


@pytest.mark.parametrize("same", [True, False])
async def test_a_refused_run_does_not_touch_the_live_one(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path, same: bool
) -> None:
    """In one process, on the same object or on another one, while the first has calls in flight."""
    emulator.faults.add(Fault(None, latency=AN_HOUR, times=None))
    async with (
        await Job.create(tmp_path / "job", "embed_images", images(12)) as job,
        await Job.open(tmp_path / "job") as other,
    ):
        run = asyncio.create_task(job.run(client))
        refused = 0
        while not run.done():
            await asyncio.sleep(0.01)
            if emulator.clock.waiting:  # and so it cannot end meanwhile
                with pytest.raises(JobBusy):
                    await (job if same else other).run(client)
                refused += 1
                emulator.clock.advance(AN_HOUR)
        report = await run
    assert refused
    assert (report.counts.done, report.counts.unknown) == (12, 0)
    assert emulator.ledger.billed() == 12


async def run_code(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(forks.completed, ["-c", code, str(path)])


async def in_another_process(code: str, path: Path) -> list[str]:
    ran = await run_code(code, path)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


async def test_a_file_with_two_names_is_not_run_under_either(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """Each name has a lock of its own beside it."""
    async with await Job.create(tmp_path / "job", "embed_images", images(1)):
        pass
    os.link(tmp_path / "job", tmp_path / "other")
    for name in ("job", "other"):
        async with await Job.open(tmp_path / name) as job:
            with pytest.raises(JournalError, match="hard link"):
                await job.run(client)
    os.unlink(tmp_path / "job")
    async with await Job.open(tmp_path / "other") as job:
        assert (await job.run(client)).counts.done == 1


async def test_a_job_is_one_by_whatever_way_its_folder_is_reached(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(1)
    (tmp_path / "link").symlink_to(folder)
    async with (
        await Job.create(folder / "job", "embed_images", folder) as job,
        await Job.open(tmp_path / "link" / "job") as same,
    ):
        held = await job._journal.lock()
        with pytest.raises(JobBusy):
            await same.run(client)
        await job._journal.unlock(held)


TRY_TO_LOCK = """
import asyncio, sys
from memories_async.bulk import Job, JobBusy
async def main():
    async with await Job.open(sys.argv[1]) as job:
        print(await job.running())
        try:
            await job._journal.lock()
        except JobBusy as error:
            print(error)
asyncio.run(main())
"""


async def test_another_process_learns_who_has_the_job(images: MakeImages, tmp_path: Path) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(2)) as job:
        held = await job._journal.lock()
        running, message = await in_another_process(TRY_TO_LOCK, tmp_path / "job")
        assert running == "True"
        assert f"process {os.getpid()} on {socket.gethostname()} (run, since " in message
        await job._journal.unlock(held)
        assert await in_another_process(TRY_TO_LOCK, tmp_path / "job") == ["False"]
    assert sorted(os.listdir(tmp_path)) == ["images", "job"]


HOLD_AND_FORK = """
import asyncio, os, sys, time
from memories_async.bulk import Job
async def main():
    job = await Job.open(sys.argv[1])
    await job._journal.lock()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.closerange(1, 3)
        time.sleep(60)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


async def test_the_lock_ends_with_the_process_that_took_it_and_not_with_its_children(
    images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(2)):
        pass
    killed = await run_code(HOLD_AND_FORK, tmp_path / "job")
    assert killed.returncode == -signal.SIGKILL
    child = int(killed.stdout)
    try:
        async with await Job.open(tmp_path / "job") as job:
            assert not await job.running()
            held = await job._journal.lock()
            await job._journal.unlock(held)
    finally:
        os.kill(child, signal.SIGKILL)


async def test_a_dead_run_s_sending_items_become_unknown_and_are_not_sent_again(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(3)) as job:
        await job._journal.write(queries.start, [2])

        report = await job.run(client)
        (unknown,) = [item async for item in job.items(status=Status.UNKNOWN)]
    assert (report.counts.done, report.counts.unknown, unknown.id) == (2, 1, 2)
    assert len(emulator.ledger) == 2


async def test_no_job_is_left_whose_log_could_not_be_taken_into_its_file(
    images: MakeImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: to close the connection says nothing of it, and leaves half a file."""
    taken: list[str] = []

    def checkpoint(db: sqlite3.Connection) -> bool:
        taken.append(db.execute("PRAGMA database_list").fetchone()[2])
        raise sqlite3.OperationalError("database or disk is full")

    pictures = images(3)
    path = tmp_path / "made" / "job"
    path.parent.mkdir()
    with monkeypatch.context() as full:
        full.setattr(sqlite, "checkpoint", checkpoint)
        with pytest.raises(JournalError, match="disk is full"):
            await Job.create(path, "embed_images", pictures)
    assert taken == [f"{path}.planning"]
    assert [left.name for left in path.parent.iterdir() if left.suffix != ".lock"] == []
    async with await Job.create(path, "embed_images", pictures) as job:
        assert (await job.counts()).planned == 3


async def test_asking_who_runs_a_job_never_keeps_a_run_from_starting(
    client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with (
        await Job.create(tmp_path / "job", "embed_images", images(1)) as job,
        await Job.open(tmp_path / "job") as other,
    ):
        asking = [asyncio.create_task(other.running()) for _ in range(200)]
        for _ in range(20):
            held = await job._journal.lock()
            await job._journal.unlock(held)
        await asyncio.gather(*asking)


# --- commits ----------------------------------------------------------------------------------


async def new_journal(path: Path) -> Journal:
    journal = Journal(path)
    await journal.create()
    header = JobHeader("embed_images", {}, None, datetime.now(UTC))
    await journal.execute(job_table.write_header, header)
    for number in range(100):
        await journal.execute(queries.add, [NewItem(f"/{number}", {}, {}, 10)])
    await journal.complete()
    return journal


async def test_what_is_asked_for_while_the_file_is_being_closed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file would be opened again, without the job's lock, and stay open."""
    closing, go_on, real = threading.Event(), threading.Event(), JobFile.close

    def close(file: JobFile) -> None:
        closing.set()
        assert go_on.wait(30)
        real(file)

    monkeypatch.setattr(JobFile, "close", close)
    journal = await new_journal(tmp_path / "job")
    ending = asyncio.create_task(journal.aclose())
    assert await asyncio.to_thread(closing.wait, 30)
    asked = asyncio.create_task(journal.write(job_table.set_batch_size, 1))
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(JournalError, match="closed"):
        await asked
    await ending


async def test_changes_asked_for_together_share_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = JobFile.commit

    def commit(file: JobFile, changes: list[object]) -> object:
        sizes.append(len(changes))
        return real(file, changes)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(JobFile, "commit", commit)
    journal = await new_journal(tmp_path / "job")
    numbers = await asyncio.gather(*(journal.write(queries.start, [id]) for id in range(1, 101)))
    await journal.aclose()

    assert sorted(numbers) == list(range(1, 101))
    assert sum(sizes) == 100
    assert len(sizes) <= 3
    assert journal.tally.counts.sending == 100


async def test_a_change_that_fails_is_undone_whole_and_the_others_stand(tmp_path: Path) -> None:
    journal = await new_journal(tmp_path / "job")
    await journal.write(queries.start, [1])
    results = await asyncio.gather(
        journal.write(queries.start, [5]),
        journal.write(queries.start, [2, 1]),  # the first of the two was done already
        journal.write(lambda db: db.execute("INSERT INTO nowhere VALUES (1)")),
        journal.write(lambda db: 1 / 0),
        journal.write(queries.start, [6]),
        return_exceptions=True,
    )
    assert isinstance(results[0], int)
    assert isinstance(results[4], int)
    assert isinstance(results[1], JournalError)
    assert "item 1 is not planned" in str(results[1])
    assert isinstance(results[2], JournalError)
    assert isinstance(results[3], ZeroDivisionError)
    assert (await journal.execute(queries.by_id, [2]))[0].item.status is Status.PLANNED
    assert journal.tally.counts.sending == 3
    await journal.aclose()


async def test_a_change_is_made_even_if_whoever_asked_is_cancelled(tmp_path: Path) -> None:
    journal = await new_journal(tmp_path / "job")
    asking = asyncio.create_task(journal.write(queries.start, [1]))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await journal.settled()
    assert journal.tally.counts.sending == 1
    await journal.aclose()


async def test_the_tally_follows_every_step(tmp_path: Path) -> None:
    journal = await new_journal(tmp_path / "job")
    await journal.write(queries.start, [1, 2, 3, 4])
    await journal.write(
        queries.settle,
        [
            Settlement(1, Status.DONE, {"video_no": "VI1"}, waiting=True),
            Settlement(2, Status.UNKNOWN, error="?"),
            Settlement(3, Status.FAILED, error="!"),
        ],
    )
    await journal.write(queries.put_back, [4])
    counts = journal.tally.counts
    assert (counts.done, counts.waiting, counts.unknown, counts.failed) == (1, 1, 1, 1)
    assert (counts.planned, counts.total, counts.finished) == (97, 100, 3)
    assert journal.tally.planned_bytes == 970

    await journal.write(queries.resolve_unknown, Status.PLANNED)
    await journal.write(queries.retry, Status.FAILED)
    assert journal.tally.counts.planned == 99
    assert journal.tally.doubtful == 1
    rows = await journal.execute(queries.items_after, 0, 1000, None)
    for status in Status:
        told = getattr(journal.tally.counts, status)
        assert told == sum(item.status is status for item in rows)
    await journal.aclose()


async def test_a_file_of_another_version_is_not_touched(images: MakeImages, tmp_path: Path) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(1)):
        pass
    db = sqlite3.connect(tmp_path / "job")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigurationError, match="version"):
        await Job.open(tmp_path / "job")


def test_the_journal_s_errors_are_picklable_and_say_what_to_do() -> None:
    error = pickle.loads(pickle.dumps(JobBusy("the job is being run by process 7")))
    assert isinstance(error, JournalError)
    assert "process 7" in str(error)
    assert "run again" in str(error)


async def test_a_name_that_is_no_utf_8_is_kept(
    emulator: Emulator, client: Memories, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    name = os.fsdecode(b"caf\xe9.png")
    (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        report = await job.run(client)
        (item,) = [item async for item in job.items()]
        assert await job.export(tmp_path / "rows.jsonl") == 1
    assert report.counts.done == 1
    assert item.source == str(folder / name)
