"""What the journal says against what the service billed."""

from __future__ import annotations

import asyncio
import collections
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from memories_async import bulk
from memories_async.bulk import Item, Job, RedisLedger, SqliteLedger, Status
from memories_async.emulator.ledger import RequestLedger as Ledger

PNG = b"\x89PNG\r\n\x1a\n"
MP4 = b"\x00\x00\x00\x18ftypmp42"

TIMES_BILLED = {
    Status.PLANNED: {0},
    Status.DONE: {1},
    Status.FAILED: {0},
    Status.SKIPPED: {0},
    Status.UNKNOWN: {0, 1},
}
"""How often an item may have been billed, by its status."""


def billed_by_content(ledger: Ledger) -> collections.Counter[str]:
    """Count how often each content was billed, by its SHA-256."""
    return collections.Counter(
        file.sha256 for entry in ledger if entry.billed for file in entry.files
    )


def ledger_at(kind: str, where: str, folder: str = "") -> bulk.Ledger:
    """Return the engines' ledger of a kind, which all who name the same place share."""
    if kind == "sqlite":
        return SqliteLedger(where)
    if kind == "redis":
        return RedisLedger(where, job=folder)
    from memories_async.ray import RayLedger

    return RayLedger(os.path.basename(folder), os.path.join(folder, "ledger.sqlite"))


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


AN_HOUR = 3600.0
"""What an answer takes, until the emulator's clock is turned on: nothing is over too early."""


async def until(condition: Callable[[], object]) -> None:
    """Wait until something in another task, thread or process has happened."""
    while not condition():  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0.002)


async def items_of(job: Job) -> list[Item]:
    return [item async for item in job.items()]


async def assert_journal_matches(job: Job, ledger: Ledger, expected: int) -> list[Item]:
    """Assert that no input was lost, none billed twice, and each as often as its status says.

    Returns:
        The items.
    """
    items = await items_of(job)
    billed = billed_by_content(ledger)
    assert len(items) == expected
    for item in items:
        if item.duplicate_of is None:
            assert billed[_digest(item.source)] in TIMES_BILLED[item.status], item
    told = await job.counts()
    for status in Status:
        assert getattr(told, status) == sum(item.status is status for item in items)
    return items
