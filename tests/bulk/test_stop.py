"""Stopping: what has left is waited for, what has not stays planned, and nothing is unknown."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from memories_async import Bucket, CallOptions, Memories, Rate
from memories_async.bulk import Event, Job, StopReason
from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.emulator.faults import Hang, InjectedFault
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import assert_journal_matches, until
from tests.faults.conftest import time_passes

pytestmark = pytest.mark.anyio


async def test_stopped_the_calls_in_flight_end_and_are_kept(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(InjectedFault(None, latency=0.2, times=None))
    events: list[Event] = []
    async with await Job.create(tmp_path / "job", "embed_images", images(40)) as job:
        run = asyncio.create_task(job.run(client, concurrency=8, on_event=events.append))
        await until(lambda: len(emulator.ledger) >= 10)
        for _ in range(3):
            job.stop()
        report = await run
        await assert_journal_matches(job, emulator.ledger, 40)
        assert not await job.running()

        assert report.stopped is not None
        assert report.stopped.reason is StopReason.INTERRUPTED
        counts = report.counts
        assert (counts.unknown, counts.sending, counts.failed) == (0, 0, 0)
        assert counts.done == emulator.ledger.billed() == len(emulator.ledger) < 40
        assert [event.name for event in events].count("stopped") == 1
        (stopped,) = [event for event in events if event.name == "stopped"]
        assert stopped.counts.sending > 0

        emulator.faults.clear()
        report = await job.run(client)  # and it goes on
        assert (report.stopped, report.counts.done) == (None, 40)


async def test_stopped_from_another_thread_while_calls_wait_for_their_turn(
    emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    rates = {Bucket.EMBEDDING: Rate(1, 3600)}
    async with (
        Memories("stopped", base_url=emulator.url, rates=rates) as client,
        await Job.create(tmp_path / "job", "embed_images", images(9)) as job,
    ):
        run = asyncio.create_task(job.run(client, concurrency=5))
        await until(lambda: job._journal.tally.counts.done == 1)
        thread = threading.Thread(target=job.stop)
        thread.start()
        report = await asyncio.wait_for(run, 20)
        await asyncio.to_thread(thread.join)
    assert (report.counts.done, report.counts.planned) == (1, 8)
    assert len(emulator.ledger) == 1


async def test_stopped_before_it_has_begun_it_sends_nothing(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(3)) as job:
        job.stop()  # nothing runs: nothing is remembered
        run = asyncio.create_task(job.run(client))
        await asyncio.sleep(0)
        job.stop()
        report = await run
        assert (report.counts.planned, len(emulator.ledger)) == (3, 0)
        assert (await job.run(client)).counts.done == 3


async def test_a_call_that_never_ends_is_given_the_answer_timeout(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(InjectedFault(None, Hang(), nth=2, moment="processed"))
    async with await Job.create(tmp_path / "job", "embed_images", images(5)) as job:
        options = CallOptions(answer_timeout=30)
        run = asyncio.create_task(job.run(client, concurrency=2, options=options))
        await until(lambda: emulator.ledger.billed() >= 2)
        job.stop()
        await until(lambda: job._journal.tally.counts.sending == 1)
        await time_passes(run.done)
        report = await run
        await assert_journal_matches(job, emulator.ledger, 5)
    assert report.counts.unknown == 1


async def test_aborted_while_it_stops_what_had_left_is_unknown(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(InjectedFault(None, Hang(), times=None, moment="processed"))
    async with await Job.create(tmp_path / "job", "embed_images", images(5)) as job:
        run = asyncio.create_task(job.run(client, concurrency=3))
        await until(lambda: emulator.ledger.billed() >= 1)
        job.stop()
        await asyncio.sleep(0.05)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        counts = await job.counts()
        await assert_journal_matches(job, emulator.ledger, 5)
    assert (counts.unknown, counts.sending) == (emulator.ledger.billed(), 0)


async def test_leaving_the_job_while_its_run_is_being_cancelled_is_orderly(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(InjectedFault(None, Hang(), times=None, moment="processed"))
    async with await Job.create(tmp_path / "job", "embed_images", images(5)) as job:
        run = asyncio.create_task(job.run(client))
        await until(lambda: emulator.ledger.billed())
        run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    async with await Job.open(tmp_path / "job") as job:
        assert not await job.running()
        assert (await job.counts()).sending == 0 or (await job.run(client, max_items=0)).counts


class _SlowToEnd:
    """A client whose call, once it is cancelled, takes until the job is closed to end."""

    def __init__(self) -> None:
        self.embeddings = self
        self.began, self.closed = asyncio.Event(), asyncio.Event()

    async def image(self, source: str, *, options: CallOptions, **fields: object) -> object:
        assert options.before_sending is not None
        await options.before_sending()
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            await self.closed.wait()
            error.add_note("the request had left: it may have been billed")
            raise
        return None


async def test_a_run_that_is_cancelled_ends_so_although_the_job_was_closed_first(
    images: MakeImages, tmp_path: Path
) -> None:
    client: Any = _SlowToEnd()
    async with await Job.create(tmp_path / "job", "embed_images", images(1)) as job:
        run = asyncio.create_task(job.run(client))
        await client.began.wait()
        run.cancel()
    client.closed.set()
    with pytest.raises(asyncio.CancelledError):
        await run
    async with await Job.open(tmp_path / "job") as job:
        assert (await job.run(client, max_items=0)).counts.unknown == 1


RUN = """
import asyncio, signal, sys
from memories_async import Memories
from memories_async.bulk import Job

async def main():
    async with Memories("key", base_url=sys.argv[2]) as client, await Job.open(sys.argv[1]) as job:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, job.stop)
        report = await job.run(client, concurrency=8)
        print(report.counts.done, report.counts.unknown, report.counts.planned)

asyncio.run(main())
"""


async def reached(emulator: Emulator, requests: int, process: asyncio.subprocess.Process) -> None:
    await until(lambda: len(emulator.ledger) >= requests or process.returncode is not None)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_terminated_at_any_moment_no_item_is_unknown(
    emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    """300 items, 8 in flight; each time the journal and the service agree.

    ``MOMENTS=20`` asks for as many.
    """
    moments = int(os.environ.get("MOMENTS", "4"))
    chance = random.Random(20)
    folder = await asyncio.to_thread(images, 300)
    emulator.faults.add(InjectedFault(None, latency=0.05, times=None))
    stopped_in_the_middle = 0
    for number in range(moments):
        path = tmp_path / f"job {number}"
        emulator.ledger.clear()
        async with await Job.create(path, "embed_images", folder):
            pass
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUN, str(path), emulator.url, stdout=subprocess.PIPE
        )
        await reached(emulator, chance.randint(1, 150), process)
        chosen = chance.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
        process.send_signal(chosen)
        out, _ = await process.communicate()
        assert process.returncode == 0
        done, unknown, planned = map(int, out.split())
        assert unknown == 0
        assert done == emulator.ledger.billed() == len(emulator.ledger)
        assert done + planned == 300
        stopped_in_the_middle += planned > 0
        async with await Job.open(path) as job:
            await assert_journal_matches(job, emulator.ledger, 300)
    assert stopped_in_the_middle


def test_a_blocking_job_is_stopped_from_a_thread(images: MakeImages, tmp_path: Path) -> None:
    from memories_async import sync
    from memories_async.sync import Job as BlockingJob

    folder = images(60)
    with (
        EmulatorInThread() as url,
        sync.Memories("key", base_url=url) as client,
        BlockingJob.create(tmp_path / "job", "embed_images", folder) as job,
    ):
        begun = threading.Event()
        stopping = threading.Thread(target=lambda: (begun.wait(20), job.stop()))
        stopping.start()
        report = job.run(client, concurrency=1, on_event=lambda _: begun.set())
        stopping.join()
    assert (report.counts.unknown, report.counts.failed) == (0, 0)
    assert report.counts.done + report.counts.planned == 60
    assert report.stopped is not None


class EmulatorInThread:
    """An emulator on a loop of its own, with slow answers."""

    def __enter__(self) -> str:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._emulator = Emulator(HashEngine())
        asyncio.run_coroutine_threadsafe(self._emulator.__aenter__(), self._loop).result()
        self._emulator.faults.add(InjectedFault(None, latency=0.05, times=None))
        return self._emulator.url

    def __exit__(self, *error: object) -> None:
        leaving = self._emulator.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(leaving, self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
