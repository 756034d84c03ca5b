"""The journal's file: one run at a time, many changes to a commit, nothing half done."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memories_async import ConfigurationError, Memories
from memories_async.bulk import Job, JobBusy, JournalError, Status
from memories_async.bulk.journal import lock as lease
from memories_async.bulk.journal import queries as records
from memories_async.bulk.journal.database import Journal
from memories_async.emulator import Emulator
from memories_async.emulator.faults import InjectedFault as Fault
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import until

pytestmark = pytest.mark.anyio


# --- one run at a time ------------------------------------------------------------------------


async def test_a_second_live_run_is_refused(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(Fault(None, latency=0.2))
    async with (
        await Job.create(tmp_path / "job", "embed_images", images(2)) as job,
        await Job.open(tmp_path / "job") as same,
    ):
        run = asyncio.create_task(job.run(client))
        await until(lambda: len(emulator.ledger))
        assert await same.running()
        with pytest.raises(JobBusy, match=str(os.getpid())):
            await same.run(client)
        assert (await same.counts()).sending == 1  # the refused one changed nothing

        assert (await run).counts.done == 2
        assert not await same.running()
        assert (await same.run(client)).counts.done == 2


def _dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


HERE = lease.Holder.this_process()


@pytest.mark.parametrize(
    ("host", "boot", "pid", "age", "alive"),
    [
        (HERE.host, HERE.boot, os.getppid(), 0, True),
        (HERE.host, HERE.boot, os.getppid(), 61, False),  # the number is another's by now
        (HERE.host, HERE.boot, os.getpid(), 0, False),  # this process holds no such token
        (HERE.host, HERE.boot, None, 0, False),
        (HERE.host, "before the last boot", os.getpid(), 0, False),
        ("elsewhere", "another boot", None, 30, True),
        ("elsewhere", "another boot", None, 61, False),
    ],
)
def test_who_counts_as_alive(host: str, boot: str, pid: int | None, age: int, alive: bool) -> None:
    if pid is None:
        pid = _dead_process()
    assert lease.Holder("token", host, boot, pid, time.time() - age).alive() is alive


async def test_a_dead_run_s_sending_items_become_unknown_and_are_not_sent_again(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(3)) as job:
        dead = lease.Holder("dead", socket.gethostname(), HERE.boot, _dead_process(), time.time())
        db = sqlite3.connect(tmp_path / "job")
        lease.claim(db, dead)
        records.start(db, [2])
        db.commit()
        db.close()

        report = await job.run(client)
        (unknown,) = [item async for item in job.items(status=Status.UNKNOWN)]
    assert (report.counts.done, report.counts.unknown, unknown.id) == (2, 1, 2)
    assert len(emulator.ledger) == 2


async def test_a_run_that_was_taken_over_sends_nothing_more(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """It was suspended for so long that it seemed dead: its next commit tells it."""
    async with await Job.create(tmp_path / "job", "embed_images", images(20)) as job:

        def take_over(event: object) -> None:
            db = sqlite3.connect(tmp_path / "job")
            db.execute("UPDATE lease SET seen = 0")
            lease.claim(db, lease.Holder.this_process())
            db.commit()
            db.close()

        with pytest.raises(JobBusy, match="taken the job over"):
            await job.run(client, concurrency=1, on_event=take_over)
        assert len(emulator.ledger) == 0


async def test_a_run_shows_signs_of_life(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT", 0.01)
    emulator.faults.add(Fault(None, latency=0.2))
    async with await Job.create(tmp_path / "job", "embed_images", images(1)) as job:

        async def seen() -> float:
            holder = await job._journal.ask(lease.holder)
            assert holder is not None
            return holder.seen

        run = asyncio.create_task(job.run(client))
        await until(lambda: len(emulator.ledger))
        first = await seen()
        await asyncio.sleep(0.08)
        assert await seen() > first
        await run


# --- commits ----------------------------------------------------------------------------------


async def new_journal(path: Path) -> Journal:
    journal = Journal(path)
    await journal.create()
    head = records.Head("embed_images", {}, None, datetime.now(UTC))
    await journal.ask(records.write_head, head)
    for number in range(100):
        await journal.ask(records.add, [records.Planned(f"/{number}", {}, {}, 10)])
    await journal.complete()
    return journal


async def test_changes_asked_for_together_share_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = Journal._commit

    def commit(journal: Journal, changes: list[object]) -> object:
        sizes.append(len(changes))
        return real(journal, changes)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(Journal, "_commit", commit)
    journal = await new_journal(tmp_path / "job")
    numbers = await asyncio.gather(*(journal.write(records.start, [id]) for id in range(1, 101)))
    await journal.aclose()

    assert sorted(numbers) == list(range(1, 101))
    assert sum(sizes) == 100
    assert len(sizes) <= 3
    assert journal.tally.counts.sending == 100


async def test_a_change_that_fails_takes_its_commit_with_it(tmp_path: Path) -> None:
    journal = await new_journal(tmp_path / "job")
    await journal.write(records.start, [1])
    with pytest.raises(JournalError, match="item 1 is not planned"):
        await journal.write(records.start, [2, 1])
    assert (await journal.ask(records.by_id, [2]))[0].item.status is Status.PLANNED
    assert journal.tally.counts.sending == 1
    await journal.aclose()


async def test_a_change_is_made_even_if_whoever_asked_is_cancelled(tmp_path: Path) -> None:
    journal = await new_journal(tmp_path / "job")
    asking = asyncio.create_task(journal.write(records.start, [1]))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await journal.settled()
    assert journal.tally.counts.sending == 1
    await journal.aclose()


async def test_the_tally_follows_every_step(tmp_path: Path) -> None:
    journal = await new_journal(tmp_path / "job")
    await journal.write(records.start, [1, 2, 3, 4])
    await journal.write(
        records.settle,
        [
            records.Verdict(1, Status.DONE, {"video_no": "VI1"}, waiting=True),
            records.Verdict(2, Status.UNKNOWN, error="?"),
            records.Verdict(3, Status.FAILED, error="!"),
        ],
    )
    await journal.write(records.put_back, [4])
    counts = journal.tally.counts
    assert (counts.done, counts.waiting, counts.unknown, counts.failed) == (1, 1, 1, 1)
    assert (counts.planned, counts.total, counts.finished) == (97, 100, 3)
    assert journal.tally.planned_bytes == 970

    await journal.write(records.resolve_unknown, Status.PLANNED)
    await journal.write(records.retry_failed)
    assert journal.tally.counts.planned == 99
    assert journal.tally.doubtful == 1
    rows = await journal.ask(records.items_after, 0, 1000, None)
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
