"""Jobs that are told to end, or killed, at random moments: nothing lost, nothing billed twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from memories_async.bulk import Item, Job, Status
from memories_async.cli.exit_codes import Exit
from memories_async.emulator import Emulator, InjectedFault
from tests.cli.conftest import PNG
from tests.cli.forked import Server
from tests.cli.terminal import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="the signals are POSIX's"),
]

ITEMS = 300
IN_FLIGHT = 8
TERMINATIONS = int(os.environ.get("MEMORIES_TERMINATIONS", "20"))
KILLS = int(os.environ.get("MEMORIES_KILLS", "100"))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(ITEMS):
        (folder / f"{number}.png").write_bytes(PNG + number.to_bytes(4, "big"))
    return folder


@pytest.fixture
def server(account: Emulator, tmp_path: Path) -> Iterator[Server]:
    """What starts commands in processes of their own, with the environment of the test."""
    server = Server(tmp_path)
    yield server
    server.close()


def embed(folder: Path, job: Path) -> Sequence[object]:
    return ["embed", folder, "--job", job, "--concurrency", IN_FLIGHT]


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
    account: Emulator, server: Server, many: Path, tmp_path: Path, number: signal.Signals
):
    """In the middle of 300 items, 8 in flight: no doubt is left, and the books agree."""
    seed = random.Random(number)  # the moments, not a secret
    for _ in range(TERMINATIONS if number == signal.SIGTERM else 1):
        account.ledger.clear()
        account.faults.clear()
        account.faults.add(InjectedFault(None, None, times=None, moment="body", latency=0.05))
        job = tmp_path / "job.sqlite"
        server.start(embed(many, job))
        after = seed.randrange(1, ITEMS - 3 * IN_FLIGHT)
        wait_until(lambda after=after: account.ledger.billed() >= after)
        server.send(number)
        status, err = server.end()
        items = items_of(job)
        done = [item for item in items if item.status is Status.DONE]
        assert (
            status
            == {
                signal.SIGTERM: Exit.TERMINATED,
                signal.SIGINT: Exit.INTERRUPTED,
                signal.SIGHUP: Exit.HUNG_UP,
            }[number]
        ), err
        assert {item.status for item in items} == {Status.DONE, Status.PLANNED}
        assert sorted(item.sha256 or "" for item in done) == sorted(billed_of(account))
        assert f"{len(done)} done, {ITEMS - len(done)} planned" in err
        assert "to go on: memories-async jobs resume" in err
        job.unlink()


def test_a_job_that_is_killed_bills_nothing_twice(
    account: Emulator, server: Server, many: Path, tmp_path: Path
):
    """Killed again and again at random moments, then run to its end."""
    account.faults.add(InjectedFault(None, None, times=None, moment="body", latency=0.02))
    seed = random.Random(1)  # the moments, not a secret
    job = tmp_path / "job.sqlite"
    killed = 0
    while killed < KILLS:
        # A job of so many items bears some thirty kills; then comes the next.
        server.start(embed(many, job))
        after = account.ledger.billed() + seed.randrange(0, 12)
        if after > ITEMS - 4 * IN_FLIGHT:
            check_the_end(account, server, many, job, killed)
            account.ledger.clear()
            job.unlink()
            continue
        wait_until(lambda most=after: account.ledger.billed() >= most)
        server.send(signal.SIGKILL)
        assert server.end()[0] == -signal.SIGKILL
        killed += 1
    server.start(embed(many, job))
    check_the_end(account, server, many, job, killed)


def check_the_end(account: Emulator, server: Server, many: Path, job: Path, killed: int) -> None:
    """Let a job's last run end, and compare its file with what was paid for."""
    status, err = server.end()
    items = items_of(job)
    unknown = [item for item in items if item.status is Status.UNKNOWN]
    assert status == (Exit.UNKNOWN if unknown else Exit.DONE), err
    assert {item.status for item in items} <= {Status.DONE, Status.UNKNOWN}
    assert len(unknown) <= killed * IN_FLIGHT
    paid = billed_of(account)
    assert len(paid) == len(set(paid))
    known = {item.sha256 for item in items}
    assert set(paid) <= known
    assert len(items) == ITEMS
