"""A bulk job in a life: planned, run, cancelled, stopped, killed, opened again; paid once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from typing import Never

from memories_async import Memories, MemoriesError
from memories_async.bulk import Job, JobBusy, JournalError, Report, Status
from memories_async.emulator import Emulator
from tests.simulation.calls import PNG, vector
from tests.simulation.invariants import Accounts, Fate, Request
from tests.simulation.world import World

ITEMS = 12
RUNS = 4
PRICE = Decimal("0.001")
ENDS = ("by itself", "cancelled", "stopped", "killed", "killed", "a full disk", "run twice")

FATES = {
    Status.DONE: Fate.ANSWERED,
    Status.UNKNOWN: Fate.TOLD,
    Status.SENDING: Fate.TOLD,
    Status.PLANNED: Fate.REFUSED,
    Status.FAILED: Fate.REFUSED,
}


class BulkLife:
    """One job over a folder of pictures, in one process after another."""

    def __init__(
        self,
        world: World,
        client: Callable[[str], Memories],
        accounts: Accounts,
        emulator: Emulator,
    ) -> None:
        self._world, self._client, self._emulator = world, client, emulator
        self._chance = world.draw("job")
        self._folder = world.folder / "pictures"
        self._path = world.folder / "pictures.job"
        self._contents: dict[str, bytes] = {}
        self._requests: dict[str, Request] = {}
        self._refused: set[asyncio.Task[None]] = set()
        self._folder.mkdir()
        for number in range(ITEMS):
            content = PNG + self._chance.randbytes(16) + bytes(self._chance.choice([0, 9000]))
            (self._folder / f"{number:02}.png").write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            self._contents[digest] = content
            request = Request(f"item {number} of the job", frozenset([digest]))
            self._requests[digest] = accounts.ask(request)

    async def run(self) -> None:
        """Run it, break it off, and run it again."""
        job = await Job.create(self._path, "embed_images", self._folder, price=PRICE)
        await job.aclose()
        for number in range(RUNS):
            host = f"127.0.1.{number + 1}"  # each process has connections and accounts of its own
            client = self._client(host)
            job = await Job.open(self._path)
            try:
                await self._run(job, client, host, number)
            finally:
                self._world.full = False
                await job.aclose()
                await client.aclose()
                await asyncio.gather(*self._refused)

    async def _run(self, job: Job, client: Memories, host: str, number: int) -> None:
        world, chance = self._world, self._chance
        run = asyncio.create_task(
            job.run(client, concurrency=chance.randint(1, 4), on_event=self._beside(job))
        )
        ends = chance.choice(ENDS)
        if ends != "by itself":
            await asyncio.wait([run], timeout=chance.expovariate(0.2))
            world.tell(f"the job: {ends}")
        if ends == "cancelled":
            run.cancel()
        elif ends == "stopped":
            job.stop()
        elif ends == "a full disk":
            world.full = True
        elif ends == "run twice" and not run.done():
            with contextlib.suppress(JobBusy):
                await job.run(client)
        elif ends == "killed":
            self._kill(host, number)
            run.cancel()
            await asyncio.wait([run])
            return  # nobody is there to see how it ends
        try:
            report = await run
        except (asyncio.CancelledError, MemoriesError, JournalError) as error:
            refused = str(error).startswith("one change")
            world.check(not refused, "the run ended by a change that was refused to another")
            world.tell(f"the job ends: {type(error).__name__}")
        else:
            world.tell(f"the job ends: {report.counts}")
            self._check_cost(report)

    def _kill(self, host: str, number: int) -> None:
        """Keep what a killed process leaves: the bytes of its files, and nothing that it says."""
        self._world.loop.network.cut_off(host)
        path = self._path.with_name(f"pictures-{number}.job")
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(f"{self._path}{suffix}", f"{path}{suffix}")
        self._path = path

    def _beside(self, job: Job) -> Callable[[object], None]:
        """Ask, beside the run, for changes that are refused."""

        def refused(_: sqlite3.Connection) -> Never:
            raise JournalError("one change is refused")

        async def ask() -> None:
            with contextlib.suppress(JournalError):
                await job._journal.write(refused)

        def on_event(_: object) -> None:
            if self._chance.random() < 0.2:
                self._refused.add(asyncio.create_task(ask()))

        return on_event

    def _check_cost(self, report: Report) -> None:
        """What the job says it cost is at least what was billed."""
        entries = [entry for entry in self._emulator.ledger if entry.billed]
        digests = [file.sha256 for entry in entries for file in entry.files]
        billed = sum(digest in self._contents for digest in digests) * PRICE
        cost = (report.cost or Decimal(0)) + (report.possible_cost or Decimal(0))
        self._world.check(cost >= billed, f"the job cost {cost}, and ${billed} were billed")

    async def check(self) -> None:
        """Compare what was billed with what the job knows."""
        if not self._path.exists():
            return
        async with await Job.open(self._path) as job:
            async for item in job.items():
                if item.sha256 is not None:
                    self._requests[item.sha256].fate = FATES[item.status]
                if item.status is Status.DONE:
                    content = self._contents[item.sha256 or ""]
                    answered = memoryview(item.vector or b"").cast("f").tolist()
                    holds = answered == vector(content)
                    self._world.check(holds, f"{item.source} has another's vector")
