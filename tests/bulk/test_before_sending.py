"""``CallOptions(before_sending=)``: told once the turn has come, before the first byte leaves."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from pathlib import Path
from typing import Literal

import pytest

from memories_async import (
    Bucket,
    CallOptions,
    ConfigurationError,
    Memories,
    OutcomeUnknown,
    Rate,
    ServerError,
)
from memories_async.bulk import Job, Once, SqliteLedger, Status
from memories_async.emulator import Emulator
from memories_async.emulator.faults import Cut
from memories_async.emulator.faults import InjectedFault as Fault
from memories_async.emulator.http.envelopes import Reason
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import MP4, items_of
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def image(images: MakeImages) -> Path:
    return images(1) / "0000.png"


async def test_it_is_awaited_before_every_attempt(emulator: Emulator, image: Path) -> None:
    emulator.faults.add(Fault(None, Reason.THROTTLED))
    clock, seen = HurriedClock(), list[tuple[float, int]]()
    rates = {Bucket.EMBEDDING: Rate(1, 60)}

    async def note() -> None:
        seen.append((clock.now, len(emulator.ledger)))

    options = CallOptions(before_sending=note)
    async with Memories("noted", base_url=emulator.url, rates=rates, clock=clock) as client:
        await client.embeddings.image(image, options=options)
    assert [requests for _, requests in seen] == [0, 1]
    assert seen[1][0] - seen[0][0] >= 60  # its turn had come before it was told


async def test_what_it_raises_ends_the_call_and_gives_the_turn_back(
    emulator: Emulator, image: Path
) -> None:
    clock = HurriedClock()
    rates = {Bucket.EMBEDDING: Rate(1, 60)}

    async def refuse() -> None:
        raise InterruptedError("not now")

    options = CallOptions(before_sending=refuse)
    async with Memories("refused", base_url=emulator.url, rates=rates, clock=clock) as client:
        with pytest.raises(InterruptedError, match="not now"):
            await client.embeddings.image(image, options=options)
        assert len(emulator.ledger) == 0
        await client.embeddings.image(image)
    assert clock.slept == []


def test_the_other_options_are_still_checked() -> None:
    async def note() -> None: ...

    with pytest.raises(ConfigurationError, match="attempts"):
        CallOptions(before_sending=note, attempts=0)


# --- in bulk ----------------------------------------------------------------------------------


class Veto:
    """A hook that lets so many through and refuses the rest, and knows what was billed then."""

    def __init__(
        self, emulator: Emulator, through: int = 0, error: BaseException | None = None
    ) -> None:
        self._emulator, self._through = emulator, through
        self._error = error or RuntimeError("our own quota is used up")
        self.billed: list[int] = []

    async def __call__(self) -> None:
        self.billed.append(self._emulator.ledger.billed())
        if len(self.billed) > self._through:
            raise self._error


Where = Literal["client", "run"]
SOMEWHERE = pytest.mark.parametrize("where", ["client", "run"])


def told(where: Where, veto: Veto) -> tuple[CallOptions | None, CallOptions | None]:
    """Return the options of the client, and of the run or the call."""
    options = CallOptions(before_sending=veto)
    return (options, None) if where == "client" else (None, options)


@SOMEWHERE
async def test_a_veto_holds_in_a_job(
    where: Where, emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    veto = Veto(emulator)
    of_client, of_run = told(where, veto)
    async with (
        await Job.create(tmp_path / "job", "embed_images", images(3)) as job,
        Memories("vetoed", base_url=emulator.url, options=of_client) as client,
    ):
        report = await job.run(client, batch_size=1, options=of_run)
        items = await items_of(job)
    assert len(veto.billed) == 3
    assert emulator.ledger.billed() == 0
    assert (report.counts.failed, report.counts.unknown) == (3, 0)
    assert all("RuntimeError: our own quota" in str(item.error) for item in items)


@pytest.mark.parametrize("error", [OutcomeUnknown("of another call"), asyncio.CancelledError()])
async def test_a_veto_by_any_error_fails_its_item_alone(
    error: BaseException, emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    """A run whose hook was cancelled returned as if it were through, with all items planned."""
    veto = Veto(emulator, through=1, error=error)
    async with (
        await Job.create(tmp_path / "job", "embed_images", images(4)) as job,
        Memories("vetoed", base_url=emulator.url) as client,
    ):
        options = CallOptions(before_sending=veto)
        report = await job.run(client, batch_size=1, concurrency=1, options=options)
    assert len(veto.billed) == 4
    assert (len(emulator.ledger), emulator.ledger.billed()) == (1, 1)
    assert (report.counts.done, report.counts.failed, report.counts.planned) == (1, 3, 0)


@SOMEWHERE
@pytest.mark.parametrize("error", [None, ServerError("of our own service", status=500, code=None)])
async def test_a_veto_of_a_later_attempt_leaves_nothing_unknown(
    where: Where,
    error: Exception | None,
    emulator: Emulator,
    images: MakeImages,
    tmp_path: Path,
) -> None:
    emulator.faults.add(Fault(None, Reason.THROTTLED))
    veto = Veto(emulator, through=1, error=error)
    of_client, of_run = told(where, veto)
    async with (
        await Job.create(tmp_path / "job", "embed_images", images(1)) as job,
        Memories(
            "vetoed", base_url=emulator.url, options=of_client, clock=HurriedClock()
        ) as client,
    ):
        report = await job.run(client, options=of_run)
    assert (len(emulator.ledger), emulator.ledger.billed()) == (1, 0)
    assert (report.counts.failed, report.counts.unknown) == (1, 0)


async def test_what_was_let_through_is_unknown_where_it_may_have_been_billed(
    emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(Fault(None, Cut(), moment="processed"))
    veto = Veto(emulator, through=1)
    options = CallOptions(before_sending=veto, replay="accept_double_billing")
    async with (
        await Job.create(tmp_path / "job", "embed_images", images(1)) as job,
        Memories("vetoed", base_url=emulator.url, clock=HurriedClock()) as client,
    ):
        report = await job.run(client, options=options)
    assert len(veto.billed) == 2
    assert (report.counts.failed, report.counts.unknown) == (0, 1)


async def test_the_client_s_the_run_s_and_the_journal_s_come_in_turn(
    emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    seen: list[str] = []
    async with await Job.create(tmp_path / "job", "embed_images", images(1)) as job:

        async def note(who: str) -> None:
            counts = await job.counts()
            seen.append(f"{who} {counts.planned} {counts.sending}")

        of_client = CallOptions(before_sending=functools.partial(note, "client"))
        of_run = CallOptions(before_sending=functools.partial(note, "run"))
        async with Memories("told", base_url=emulator.url, options=of_client) as client:
            report = await job.run(client, options=of_run)
    assert seen[:2] == ["client 1 0", "run 1 0"]
    assert report.counts.done == 1


@SOMEWHERE
async def test_a_veto_holds_with_a_ledger(
    where: Where, emulator: Emulator, image: Path, tmp_path: Path
) -> None:
    veto = Veto(emulator)
    of_client, of_call = told(where, veto)
    async with (
        Memories("vetoed", base_url=emulator.url, options=of_client) as client,
        Memories("free", base_url=emulator.url) as free,
        contextlib.aclosing(SqliteLedger(tmp_path / "ledger")) as ledger,
    ):
        record = await Once(client, ledger, options=of_call).embed_image(image)
        assert (record.status, len(veto.billed)) == (Status.PLANNED, 1)
        assert (await ledger.totals()).unknown == 0
        assert emulator.ledger.billed() == 0
        assert (await Once(free, ledger).embed_image(image)).status is Status.DONE


@SOMEWHERE
async def test_a_ledger_has_nothing_unknown_by_a_veto_of_a_later_attempt(
    where: Where, emulator: Emulator, image: Path, tmp_path: Path
) -> None:
    emulator.faults.add(Fault(None, Reason.THROTTLED))
    veto = Veto(emulator, through=1)
    of_client, of_call = told(where, veto)
    async with (
        Memories(
            "vetoed", base_url=emulator.url, options=of_client, clock=HurriedClock()
        ) as client,
        Memories("free", base_url=emulator.url) as free,
        contextlib.aclosing(SqliteLedger(tmp_path / "ledger")) as ledger,
    ):
        record = await Once(client, ledger, options=of_call).embed_image(image)
        assert (record.status, len(emulator.ledger)) == (Status.PLANNED, 1)
        assert (await Once(free, ledger).embed_image(image)).status is Status.DONE


async def test_a_video_that_is_waited_for_is_no_reason_to_end_the_run(
    emulator: Emulator, tmp_path: Path
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(MP4)
    veto = Veto(emulator, through=1)
    async with (
        await Job.create(tmp_path / "job", "add_videos", folder) as job,
        Memories("vetoed", base_url=emulator.url) as client,
    ):
        report = await job.run(client, options=CallOptions(before_sending=veto))
    assert (report.counts.done, report.counts.unknown, report.counts.waiting) == (1, 0, 1)
