"""Kills of jobs whose folder holds the job's own file, while another process lists them.

``KILLS=200`` asks for as many; a few are enough to see that it still holds.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from memories_async import Memories
from memories_async.bulk import Job, Status
from memories_async.emulator import Emulator
from memories_async.emulator.faults import InjectedFault
from tests.bulk.conftest import Kill, MakeImages
from tests.bulk.ledgers import billed_by_content, items_of, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = int(os.environ.get("KILLS", "20"))
KILLS_OF_A_JOB, IMAGES, CONCURRENCY = 5, 60, 4

LIST = """
import asyncio, pathlib, sys
from memories_async.bulk import Job, JournalError
from memories_async.errors import ConfigurationError

async def main():
    print("ready", flush=True)
    while True:
        for path in pathlib.Path(sys.argv[1]).glob("*/photos.job"):
            try:
                async with await Job.open(path) as job:
                    await job.counts()
                    await job.running()
            except (ConfigurationError, JournalError) as error:
                print(error, flush=True)
        await asyncio.sleep(0.005)

asyncio.run(main())
"""


async def sent_or_done(emulator: Emulator, requests: int, run: asyncio.Task[object]) -> None:
    wanted = len(emulator.ledger) + requests
    await until(lambda: len(emulator.ledger) >= wanted or run.done())


async def test_nothing_is_lost_or_billed_twice(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path, kill: Kill
) -> None:
    chance = random.Random(200)
    emulator.faults.add(InjectedFault(None, latency=0.02, times=None))
    lister = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LIST, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert lister.stdout is not None
    assert await lister.stdout.readline() == b"ready\n"
    kills = in_the_middle = unknown = billed = 0
    try:
        while kills < KILLS:
            folder = await asyncio.to_thread(images, IMAGES, f"folder {kills}")
            path = folder / "photos.job"
            emulator.ledger.clear()
            async with await Job.create(path, "embed_images", f"{folder}/*.[pj]*"):
                pass
            for number in range(KILLS_OF_A_JOB):
                flag = folder / f"kill {number}"
                order = {"flag": str(flag), "seconds": chance.uniform(0, 0.01)}
                run = {"concurrency": CONCURRENCY}
                killing = asyncio.create_task(kill(path, emulator.url, run=run, **order))
                await sent_or_done(emulator, chance.randint(1, 9), killing)
                flag.touch()
                ended = await killing
                kills += 1
                in_the_middle += ended["status"] == -signal.SIGKILL
            await until(lambda: all(entry.finished_at for entry in emulator.ledger))
            async with await Job.open(path) as job:
                report = await job.run(client)
                items = await items_of(job)
            times = billed_by_content(emulator.ledger)
            assert len(items) == IMAGES
            assert max(times.values()) == 1, "billed twice"
            assert {item.status for item in items} <= {Status.DONE, Status.UNKNOWN}
            assert len(times) >= report.counts.done
            assert report.counts.unknown <= KILLS_OF_A_JOB * CONCURRENCY
            unknown += report.counts.unknown
            billed += len(times)
        assert lister.returncode is None
    finally:
        lister.kill()
        complaints, _ = await lister.communicate()
    print(f"{kills} kills, {in_the_middle} in the middle of a run; {billed} billed, none twice; ")
    print(f"{unknown} unknown; the lister's complaints: {complaints.decode()[:500] or 'none'}")
    assert in_the_middle > KILLS // 4
    assert unknown > KILLS // 4  # they came while calls were in flight
    assert not complaints
