"""One job of several: nothing is lost, and nothing can be billed a second time."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from memories_async import ConfigurationError, Memories
from memories_async.bulk import Input, Job, JobBusy, JournalError, Status
from memories_async.bulk.journal import job_table
from memories_async.emulator import Emulator
from memories_async.emulator.faults import Cut, InjectedFault
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import AN_HOUR, items_of, until

pytestmark = pytest.mark.anyio


async def test_three_shards_become_one_job_that_goes_on(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(30)
    for number in range(3):
        (folder / f"copy {number}.png").write_bytes((folder / f"000{number}.png").read_bytes())
    emulator.faults.add(InjectedFault(None, Cut(), moment="processed", nth=7))
    paths = [tmp_path / f"shard {number}" for number in (1, 2, 3)]
    for number, path in enumerate(paths, 1):
        async with await Job.create(path, "embed_images", folder, shard=(number, 3)) as job:
            await job.run(client, max_items=5, concurrency=1)
    billed = emulator.ledger.billed()

    async with await Job.merge(paths, tmp_path / "whole") as job:
        counts = await job.counts()
        assert (counts.total, counts.unknown) == (33, 1)
        assert counts.done == billed - 1
        report = await job.run(client)
        items = await items_of(job)
    assert report.counts.planned == 0
    assert {item.source for item in items} == {str(folder / name) for name in os.listdir(folder)}
    requests = [item.request for item in items if item.request is not None]
    assert len(requests) == len(set(requests)) == len(emulator.ledger)
    for item in items:
        if item.duplicate_of is not None:
            (original,) = [one for one in items if one.id == item.duplicate_of]
            assert item.vector == original.vector
    assert report.cost == (emulator.ledger.billed() - 1) * Decimal("0.0001")
    assert report.possible_cost == Decimal("0.0001")

    for path in paths:  # they are retired: read, not run
        async with await Job.open(path) as shard:
            assert await shard.export(tmp_path / "rows.jsonl")
            with pytest.raises(JournalError, match=r"merged into.*whole"):
                await shard.run(client)
    with pytest.raises(JournalError, match=r"merged into.*whole"):
        await Job.merge(paths, tmp_path / "another")


async def test_the_best_that_is_known_of_an_input_is_kept_and_all_that_was_paid_counts(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(4)
    one, two = tmp_path / "one", tmp_path / "two"
    async with await Job.create(one, "embed_images", folder) as job:
        await job.run(client, max_items=2, concurrency=1)  # items 1 and 2 are done
    emulator.faults.add(
        InjectedFault(None, Cut(), moment="processed", nth=len(emulator.ledger) + 1)
    )
    async with await Job.create(two, "embed_images", folder) as job:
        await job._journal.write(
            lambda db: db.execute("UPDATE item SET status = 'failed' WHERE id IN (2, 4)").rowcount
        )
        emulator.faults.clear()
        emulator.faults.add(InjectedFault(None, Cut(), moment="processed"))
        await job.run(client, concurrency=1)  # item 1 is unknown here, and 3 done
    async with await Job.merge([one, two], tmp_path / "both") as job:
        items = await items_of(job)
        assert [item.status for item in items] == ["done", "done", "done", "failed"]
        assert emulator.ledger.billed() == 4
        plan = await job.plan()
        assert plan.possible_cost == Decimal("0.0001")
        report = await job.run(client)
        assert report.cost == Decimal("0.0003")
        assert report.requests == 0


@pytest.mark.parametrize("run_on", ["none", "original", "copy", "both"])
async def test_a_copy_of_a_job_is_not_merged_with_it(
    run_on: str, emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """What was billed once would count twice; and the two stay as they are."""
    folder = images(4)
    original, copy = tmp_path / "original", tmp_path / "copy"
    async with await Job.create(original, "embed_images", folder) as job:
        await job.run(client, max_items=2, concurrency=1)
    shutil.copy(original, copy)
    for path in (original, copy):
        if run_on in (path.name, "both"):
            async with await Job.open(path) as job:
                await job.add([Input(folder / "0000.png", extra={"row": path.name})])
                await job.run(client, max_items=1)
    with pytest.raises(ConfigurationError, match=r"copies of one job.*merge the one that was run"):
        await Job.merge([original, copy], tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    async with await Job.open(copy) as job:
        assert (await job.run(client)).counts.planned == 0


async def test_shards_that_were_planned_at_one_instant_are_no_copies(
    images: MakeImages, tmp_path: Path
) -> None:
    paths = [tmp_path / f"shard {number}" for number in (1, 2)]
    for number, path in enumerate(paths, 1):
        async with await Job.create(path, "embed_images", images(9), shard=(number, 2)) as job:
            await job._journal.write(lambda db: db.execute("UPDATE job SET created = 1e9").rowcount)
    async with await Job.merge(paths, tmp_path / "whole") as job:
        assert (await job.counts()).total == 9


async def test_jobs_that_do_not_belong_together_are_refused(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(3)
    made = {
        "job": ("embed_images", {}, None),
        "model": ("embed_images", {"model": "mobileclip"}, None),
        "added": ("add_images", {}, None),
        "dear": ("embed_images", {}, 7),
        "cheap": ("embed_images", {}, 1),
    }
    for name, (kind, options, price) in made.items():
        async with await Job.create(tmp_path / name, kind, folder, options=options, price=price):
            pass
    into = tmp_path / "into"
    for names, message in (
        (["job", "model"], "something else"),
        (["job", "added"], "something else"),
        (["dear", "cheap"], "prices"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            await Job.merge([tmp_path / name for name in names], into)
    for paths in ([], str(tmp_path / "job")):
        with pytest.raises(ConfigurationError, match=r"list|a sequence of paths"):
            await Job.merge(paths, into)
    os.link(tmp_path / "job", tmp_path / "same")
    for other in ("job", "same"):
        with pytest.raises(ConfigurationError, match="twice"):
            await Job.merge([tmp_path / "job", tmp_path / other], into)
    os.unlink(tmp_path / "same")
    with pytest.raises(ConfigurationError, match="exists"):
        await Job.merge([tmp_path / "job"], tmp_path / "dear")
    with pytest.raises(ConfigurationError, match="no such job"):
        await Job.merge([tmp_path / "nowhere"], into)
    assert not into.exists()
    async with await Job.open(tmp_path / "job") as job:  # none of this has retired it
        assert (await job.run(client)).counts.done == 3


async def test_a_job_that_is_being_run_is_not_merged(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(InjectedFault(None, latency=AN_HOUR))
    async with await Job.create(tmp_path / "job", "embed_images", images(2)) as job:
        run = asyncio.create_task(job.run(client))
        await until(lambda: emulator.clock.waiting)
        with pytest.raises(JobBusy, match="run, since"):
            await Job.merge([tmp_path / "job"], tmp_path / "into")
        emulator.clock.advance(AN_HOUR)
        assert (await run).counts.done == 2


async def test_a_merge_that_was_cut_short_can_be_repeated_and_nothing_else(
    client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(2)) as job:
        await job._journal.write(job_table.set_merged, str(tmp_path / "into"))
        with pytest.raises(JournalError, match="merged into") as caught:
            await job.run(client)
        assert "merge" in caught.value.advice  # its disk and its file are well
        assert "same path" in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(JournalError, match="merged into"):
        await Job.merge([tmp_path / "job"], tmp_path / "elsewhere")
    async with await Job.merge([tmp_path / "job"], tmp_path / "into") as job:
        assert (await job.run(client)).counts.done == 2
    with pytest.raises((JournalError, ConfigurationError)):
        await Job.merge([tmp_path / "job"], tmp_path / "into")


# --- retry and remove -------------------------------------------------------------------------


async def test_retrying_by_status_and_by_number(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(4)
    (folder / "0002.png").write_bytes(b"no picture")
    emulator.faults.add(InjectedFault(None, Cut(), moment="processed", nth=2))
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        await job.run(client, concurrency=1)
        assert await job.retry() == 1
        assert await job.retry(Status.UNKNOWN) == 1
        assert await job.retry([1, 99]) == 1
        assert (await job.counts()).planned == 3
        report = await job.run(client)
        await items_of(job)
        assert (report.counts.done, report.counts.failed) == (3, 1)
        assert report.cost == Decimal("0.0004")  # one of them twice
        assert report.possible_cost == Decimal("0.0001")
        for wrong in ("planned", "sending", "paid"):
            with pytest.raises(ConfigurationError):
                await job.retry(wrong)
    assert emulator.ledger.billed() == 5


async def test_removing_a_job_takes_all_that_belongs_to_it_and_nothing_else(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(2)
    (tmp_path / "letter").write_text("Dear Sir or Madam, " * 200)
    (tmp_path / "link").symlink_to(tmp_path / "job")
    emulator.faults.add(InjectedFault(None, latency=AN_HOUR))
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        run = asyncio.create_task(job.run(client))
        await until(lambda: emulator.clock.waiting)
        with pytest.raises(JobBusy):
            await Job.remove(tmp_path / "job")
        emulator.clock.advance(AN_HOUR)
        assert (await run).counts.done == 2
    for wrong in ("letter", "link", "nowhere", "images"):
        with pytest.raises(ConfigurationError):
            await Job.remove(tmp_path / wrong)
    await Job.remove(tmp_path / "job")
    assert sorted(os.listdir(tmp_path)) == ["images", "letter", "link"]
    async with await Job.create(
        tmp_path / "job", "embed_images", Input(folder / "0000.png")
    ) as job:
        assert (await job.counts()).planned == 1
