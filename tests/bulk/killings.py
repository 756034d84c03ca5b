"""A run is killed, the job is run to its end, and the ledger is held against the journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from memories_async import Memories
from memories_async.bulk import Job, Status
from memories_async.emulator import Emulator
from memories_async.emulator.faults import InjectedFault as Fault
from tests.bulk.conftest import Kill
from tests.bulk.ledgers import assert_journal_matches, until

CONCURRENCY = 2
OPTIONS = {"caption_images": {"prompt": "What is it?"}}


@attrs.frozen
class Killings:
    """What they need: the service, a client for the resumed run, a killer, and what to send."""

    emulator: Emulator
    client: Memories
    kill: Kill
    kind: str
    folder: Path

    async def kill_then_resume(
        self, path: Path, *faults: Fault, times: int = 1, **when: Any
    ) -> int:
        """Kill so many runs of a new job, then run it to its end.

        Returns:
            How many commits the last killed run saw.
        """
        emulator, count = self.emulator, sum(1 for _ in self.folder.iterdir())
        emulator.ledger.clear()
        emulator.faults.clear()
        emulator.faults.add(*faults)
        details = {"run": {"concurrency": CONCURRENCY, "batch_size": 2}} | when
        options = OPTIONS.get(self.kind)
        async with await Job.create(path, self.kind, self.folder, options=options) as job:
            for _ in range(times):
                ended = await self.kill(path, emulator.url, **details)
            await until(lambda: all(entry.finished_at for entry in emulator.ledger))
            report = await job.run(self.client, batch_size=2)

            items = await assert_journal_matches(job, emulator.ledger, count)
        assert report.stopped is None
        finals = {Status.DONE, Status.UNKNOWN, *([Status.FAILED] if faults else [])}
        assert {item.status for item in items} <= finals
        unknown = {item.request for item in items if item.status is Status.UNKNOWN}
        assert len(unknown) <= CONCURRENCY * times + len(faults)
        return ended["commits"]
