"""The rows of the fault matrix that are a job's: 41, 42, 51, 52 and 55, each with its ledger."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memories_async import Bucket, ConfigurationError, Memories, Rate
from memories_async.bulk import Job, JournalError, Status, StopReason
from memories_async.emulator import Emulator
from memories_async.emulator.faults import Hang
from memories_async.emulator.faults import InjectedFault as Fault
from memories_async.emulator.http.envelopes import HttpResponse as Answer
from memories_async.emulator.http.envelopes import Reason
from tests.bulk.conftest import Kill, MakeImages
from tests.bulk.killings import Killings
from tests.bulk.ledgers import assert_journal_matches, items_of, until
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio

# --- 41: no credits in the middle -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["add_images", "embed_images"])
async def test_row_41_no_credits_in_the_middle_stops_the_run(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path, kind: str
) -> None:
    emulator.faults.add(Fault(None, Reason.NO_CREDITS, nth=4, times=None))
    async with await Job.create(tmp_path / "job", kind, images(10)) as job:
        report = await job.run(client, concurrency=1, batch_size=1)

        assert report.stopped is not None
        assert report.stopped.reason is StopReason.CREDITS
        assert (len(emulator.ledger), emulator.ledger.billed()) == (4, 3)
        assert (report.counts.done, report.counts.planned) == (3, 7)
        await assert_journal_matches(job, emulator.ledger, 10)

        emulator.faults.clear()  # topped up
        report = await job.run(client)
        assert (report.stopped, report.counts.done) == (None, 10)
        await assert_journal_matches(job, emulator.ledger, 10)


async def test_row_41_nothing_leaves_after_the_refusal_has_come(
    emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    """Many requests wait for their turn when the account runs dry: none of them leaves."""
    emulator.faults.add(Fault(None, Reason.NO_CREDITS, nth=4, times=None))
    rates = {Bucket.EMBEDDING: Rate(1, 0.4)}
    async with (
        Memories("dry", base_url=emulator.url, rates=rates) as client,
        await Job.create(tmp_path / "job", "embed_images", images(30)) as job,
    ):
        report = await job.run(client, concurrency=20)
        assert (len(emulator.ledger), emulator.ledger.billed()) == (4, 3)
        assert (report.counts.done, report.counts.planned) == (3, 27)
        await assert_journal_matches(job, emulator.ledger, 30)


async def test_row_41_a_throttled_request_is_not_sent_again_once_the_run_has_stopped(
    emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    stopped = asyncio.Event()

    class Clock(HurriedClock):
        async def sleep(self, seconds: float) -> None:
            await stopped.wait()
            await super().sleep(seconds)

    emulator.faults.add(
        Fault(None, Reason.THROTTLED, nth=2),
        Fault(None, Reason.NO_CREDITS, nth=3, latency=0.05),
    )
    async with (
        Memories("throttled", base_url=emulator.url, clock=Clock()) as client,
        await Job.create(tmp_path / "job", "embed_images", images(5)) as job,
    ):
        report = await job.run(
            client,
            concurrency=2,
            on_event=lambda event: stopped.set() if event.name == "stopped" else None,
        )
        assert (len(emulator.ledger), report.counts.done, report.counts.planned) == (3, 1, 4)
        await assert_journal_matches(job, emulator.ledger, 5)


# --- 42: a key that may not -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "refusal"),
    [
        ("embed_images", Reason.KEY),
        ("add_images", Reason.KEY),
        ("add_images", Reason.ACCOUNT_DISABLED),
        ("add_images", Answer(body={"code": "9009", "msg": "No permission", "data": None})),
    ],
)
async def test_row_42_a_refused_key_is_refused_once(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    kind: str,
    refusal: Reason | Answer,
) -> None:
    emulator.faults.add(Fault(None, refusal, times=None))
    async with await Job.create(tmp_path / "job", kind, images(10)) as job:
        report = await job.run(client, concurrency=8, batch_size=1)

    assert report.stopped is not None
    assert report.stopped.reason is StopReason.KEY
    assert (len(emulator.ledger), emulator.ledger.billed()) == (1, 0)
    assert report.counts.planned == 10


# --- 51: interrupted --------------------------------------------------------------------------


async def test_row_51_cancelled_what_had_left_is_unknown_and_the_rest_planned(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(Fault(None, Hang(), nth=3, times=None, moment="processed"))
    # One call an hour: the next ones wait for their turn, and have not left.
    rates = {Bucket.EMBEDDING: Rate(1, 3600)}
    async with (
        Memories("interrupted", base_url=emulator.url, rates=rates) as paced,
        await Job.create(tmp_path / "job", "embed_images", images(10)) as job,
    ):
        await job.run(client, max_items=2)
        run = asyncio.create_task(job.run(paced, concurrency=5))
        await until(lambda: emulator.ledger.billed() == 3)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

        counts = await job.counts()
        assert (counts.done, counts.unknown, counts.planned) == (2, 1, 7)
        assert not await job.running()
        await assert_journal_matches(job, emulator.ledger, 10)
        (unknown,) = [item async for item in job.items(status="unknown")]
        assert unknown.error is not None
        assert "cancelled" in unknown.error
    assert len(emulator.ledger) == 3


async def test_row_51_ctrl_c_leaves_a_job_that_resumes(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path, kill: Kill
) -> None:
    emulator.faults.add(Fault(None, Hang(), nth=2, times=None, moment="processed"))
    async with await Job.create(tmp_path / "job", "embed_images", images(6)) as job:
        flag = tmp_path / "now"
        order = {"run": {"concurrency": 1}, "signal": signal.SIGINT, "flag": str(flag)}
        run = asyncio.create_task(kill(tmp_path / "job", emulator.url, **order))
        await until(lambda: emulator.ledger.billed() == 2)
        flag.touch()
        ended = await run
        assert ended["status"] == 130
        counts = await job.counts()
        assert (counts.done, counts.unknown, counts.planned) == (1, 1, 4)

        emulator.faults.clear()
        report = await job.run(client)
        assert (report.counts.done, report.counts.unknown) == (5, 1)
        await assert_journal_matches(job, emulator.ledger, 6)


# --- 52: killed -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["add_images", pytest.param("caption_images", marks=pytest.mark.slow)]
)
async def test_row_52_killed_at_each_step_of_the_journal(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    kill: Kill,
    kind: str,
) -> None:
    folder = images(4)
    stage = Killings(emulator, client, kill, kind, folder)
    commits = await stage.kill_then_resume(tmp_path / "whole")
    assert commits >= 6  # the lock, a look at the files, sending and done
    for step in range(1, commits + 1):
        for moment in ("before", "after"):
            await stage.kill_then_resume(tmp_path / f"{moment} {step}", **{moment: step})


async def test_row_52_a_planning_that_was_killed_has_left_the_whole_job_or_none(
    images: MakeImages, tmp_path: Path, kill: Kill
) -> None:
    folder = await asyncio.to_thread(images, 1000)
    for number, seconds in enumerate((0.0, 0.01, 0.02, 0.04)):
        path = tmp_path / f"job {number}"
        await kill(path, create=["embed_images", str(folder)], seconds=seconds)
        try:
            job = await Job.open(path)
        except ConfigurationError:
            job = await Job.create(path, "embed_images", folder)
        async with job:
            assert (await job.counts()).planned == 1000


# --- 55: the disk is full ---------------------------------------------------------------------


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """Return what limits how large a file may become, which is how a full disk looks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 100_000])
async def test_row_55_nothing_unjournalled_is_sent_when_the_disk_is_full(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    limit_files: Callable[[int], None],
    room: int,
) -> None:
    folder = images(60)
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        limit_files(room)
        with pytest.raises(JournalError, match="job"):
            await job.run(client)
        limit_files(resource.RLIM_INFINITY)

        sent = {entry.files[0].name for entry in emulator.ledger}
        recorded = {
            os.path.basename(item.source)
            for item in await items_of(job)
            if item.status in (Status.SENDING, Status.DONE, Status.UNKNOWN)
        }
        assert sent <= recorded
        assert len(sent) < 60

        report = await job.run(client)
        assert report.counts.planned == 0
        await assert_journal_matches(job, emulator.ledger, 60)
