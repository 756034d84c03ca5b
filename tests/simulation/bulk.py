"""A bulk job in a life: planned, run, cancelled, stopped, opened again; paid once all the while."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import Path

from memories_async import Memories, MemoriesError
from memories_async.bulk import Job, JournalError
from memories_async.emulator.ledger import LedgerEntry
from tests.simulation.calls import PNG, vector
from tests.simulation.world import World

ITEMS = 12
RUNS = 3


class BulkLife:
    """One job over a folder of pictures."""

    def __init__(self, world: World, client: Memories, folder: Path) -> None:
        self._world, self._client, self._folder = world, client, folder
        self._path = world.folder / "pictures.job"
        self._contents: dict[str, bytes] = {}
        self._billed: Counter[str] = Counter()
        folder.mkdir()
        for number in range(ITEMS):
            content = PNG + world.chance.randbytes(16) + bytes(world.chance.choice([0, 9000]))
            (folder / f"{number:02}.png").write_bytes(content)
            self._contents[hashlib.sha256(content).hexdigest()] = content

    async def run(self) -> None:
        """Run it, break it off, and run it again."""
        world, chance = self._world, self._world.chance
        job = await Job.create(self._path, "embed_images", self._folder)
        await job.aclose()
        for _ in range(RUNS):
            async with await Job.open(self._path) as job:
                run = asyncio.create_task(job.run(self._client, concurrency=chance.randint(1, 4)))
                ends = chance.choice(["itself", "cancelled", "stopped"])
                if ends != "itself":
                    await asyncio.wait([run], timeout=chance.expovariate(0.2))
                    world.tell(f"the job is {ends}")
                    (run.cancel if ends == "cancelled" else job.stop)()
                try:
                    report = await run
                except (asyncio.CancelledError, MemoriesError, JournalError) as error:
                    world.tell(f"the job ends: {type(error).__name__}")
                else:
                    world.tell(f"the job ends: {report.counts}")

    def saw(self, entry: LedgerEntry) -> bool:
        """Count a request of the job's."""
        digests = [file.sha256 for file in entry.files if file.sha256 in self._contents]
        self._billed.update(digest for digest in digests if entry.billed)
        return bool(digests)

    async def check(self) -> None:
        """Compare what was billed with what the job knows."""
        check = self._world.check
        if not self._path.exists():
            return
        async with await Job.open(self._path) as job:
            counts = await job.counts()
            check(max(self._billed.values(), default=0) <= 1, "an item of the job was billed twice")
            known = counts.done + counts.unknown + counts.sending
            check(self._billed.total() <= known, f"{self._billed.total()} billed, known: {counts}")
            async for item in job.items(status="done"):
                content = self._contents[item.sha256 or ""]
                answered = memoryview(item.vector or b"").cast("f").tolist()
                check(answered == vector(content), f"{item.source} has another's vector")
                check(self._billed[item.sha256 or ""] == 1, "done, and unpaid")
