"""Jobs that are told to end, or killed, at random moments: nothing lost, nothing billed twice."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memories_async.bulk import Item, Job, Status
from memories_async.cli.exit_codes import Exit
from memories_async.emulator import Emulator, InjectedFault
from tests.cli.conftest import PNG
from tests.cli.terminal import COMMAND, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="the signals are POSIX's"),
]

ITEMS = 300
IN_FLIGHT = 8
TERMINATIONS = int(os.environ.get("MEMORIES_TERMINATIONS", "3"))
KILLS = int(os.environ.get("MEMORIES_KILLS", "10"))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(ITEMS):
        (folder / f"{number}.png").write_bytes(PNG + number.to_bytes(4, "big"))
    return folder


def start(folder: Path, job: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "embed", str(folder), "--job", str(job), "--concurrency", str(IN_FLIGHT)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def items_of(job: Path) -> list[Item]:
    async def read() -> list[Item]:
        async with await Job.open(job) as opened:
            return [item async for item in opened.items()]

    return asyncio.run(read())


def billed_of(emulator: Emulator) -> list[str]:
    """Return the digests of the files that were paid for."""
    return [entry.files[0].sha256 for entry in emulator.ledger if entry.billed]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_job_that_is_told_to_end_loses_nothing(
    account: Emulator, many: Path, tmp_path: Path, number: signal.Signals
):
    """In the middle of 300 items, 8 in flight: no doubt is left, and the books agree."""
    seed = random.Random(number)  # the moments, not a secret
    for _ in range(TERMINATIONS if number == signal.SIGTERM else 1):
        account.ledger.clear()
        account.faults.clear()
        account.faults.add(InjectedFault(None, None, times=None, moment="body", latency=0.05))
        job = tmp_path / "job.sqlite"
        one = start(many, job)
        after = seed.randrange(1, ITEMS - 3 * IN_FLIGHT)
        wait_until(lambda after=after: account.ledger.billed() >= after)
        one.send_signal(number)
        _, err = one.communicate(timeout=60)
        items = items_of(job)
        done = [item for item in items if item.status is Status.DONE]
        assert (
            one.returncode
            == {
                signal.SIGTERM: Exit.TERMINATED,
                signal.SIGINT: Exit.INTERRUPTED,
                signal.SIGHUP: Exit.HUNG_UP,
            }[number]
        ), err
        assert {item.status for item in items} == {Status.DONE, Status.PLANNED}
        assert sorted(item.sha256 or "" for item in done) == sorted(billed_of(account))
        assert f"{len(done)} done, {ITEMS - len(done)} planned" in err.decode()
        assert "to go on: memories-async jobs resume" in err.decode()
        job.unlink()


def test_a_job_that_is_killed_bills_nothing_twice(account: Emulator, many: Path, tmp_path: Path):
    """Killed again and again at random moments, then run to its end."""
    account.faults.add(InjectedFault(None, None, times=None, moment="body", latency=0.02))
    seed = random.Random(1)  # the moments, not a secret
    job = tmp_path / "job.sqlite"
    for _ in range(KILLS):
        one = start(many, job)
        if account.ledger.billed() < ITEMS - 2 * IN_FLIGHT:
            after = account.ledger.billed() + seed.randrange(0, 12)
            wait_until(lambda one=one, most=after: account.ledger.billed() >= most or one.poll())
        else:
            wait_until(lambda: job.exists())
        one.send_signal(signal.SIGKILL)
        one.communicate(timeout=60)
    last = start(many, job)
    _, err = last.communicate(timeout=120)
    items = items_of(job)
    unknown = [item for item in items if item.status is Status.UNKNOWN]
    assert last.returncode == (Exit.UNKNOWN if unknown else Exit.DONE), err
    assert {item.status for item in items} <= {Status.DONE, Status.UNKNOWN}
    assert len(unknown) <= KILLS * IN_FLIGHT
    paid = billed_of(account)
    assert len(paid) == len(set(paid))
    known = {item.sha256 for item in items}
    assert set(paid) <= known
    assert len(items) == ITEMS
    shutil.rmtree(many)
