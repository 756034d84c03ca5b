"""What a job costs, over all its runs: the limit holds, and what may have been billed counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import ROUND_UP, Decimal, localcontext
from pathlib import Path
from typing import cast

import pytest

from memories_async import CallOptions, ConfigurationError, JobBusy, Memories, TaskFailed, Video
from memories_async.bulk import Counts, Input, Job, Once, Record, SqliteLedger, Status, StopReason
from memories_async.bulk.journal.lock import JobLock
from memories_async.bulk.journal.rows import Tally
from memories_async.bulk.ledger.entries import Begun, Totals, begin
from memories_async.emulator import Emulator
from memories_async.emulator.faults import Cut, InjectedFault
from memories_async.emulator.http.envelopes import Reason
from memories_async.observe.prices import calls_within
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import MP4, PNG, assert_journal_matches, items_of
from tests.bulk.test_videos import Client, Library
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("limit", [1, 15, 16, 17, 40])
async def test_the_limit_is_exact_with_sixteen_calls_at_once(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path, limit: int
) -> None:
    """No call too many, and none too few: what turns out to be free makes room again."""
    emulator.faults.add(
        InjectedFault(None, latency=0.01, times=None),
        *(InjectedFault(None, Reason.BAD_REQUEST, nth=number) for number in (2, 5, 6, 14)),
    )
    async with await Job.create(tmp_path / "job", "embed_images", images(60)) as job:
        report = await job.run(client, concurrency=16, max_cost=limit * Decimal("0.0001"))
        await assert_journal_matches(job, emulator.ledger, 60)
    assert emulator.ledger.billed() == report.counts.done == limit
    assert report.cost == limit * Decimal("0.0001")
    assert report.stopped is not None
    assert report.stopped.reason is StopReason.MAX_COST


@pytest.mark.parametrize(
    ("budget", "price", "calls"),
    [
        ("0.1099", "0.0001", 1099),
        ("0.29999999999999999999999999999999", "0.1", 2),
        ("0.0001", "0.0002", 0),
        ("0", "0.0001", 0),
        ("0e100", "0.0001", 0),
        ("1e900000", "1e-900000", 10**18),
        ("1e-900000", "1e900000", 0),
    ],
)
def test_a_budget_pays_for_whole_calls_however_the_application_rounds(
    budget: str, price: str, calls: int
) -> None:
    with localcontext(prec=2, rounding=ROUND_UP):
        assert calls_within(Decimal(budget), Decimal(price)) == calls
        said, _ = begin(None, Totals(), "one", 0.0, "keep", Decimal(price), Decimal(budget))
        assert said is (Begun.SEND if calls else Begun.OVER_BUDGET)
        if 0 < calls < 10**18:
            spent = Totals(done=calls, priced={Decimal(price): calls - 1})
            said, _ = begin(None, spent, "one", 0.0, "keep", Decimal(price), Decimal(budget))
            assert said is Begun.OVER_BUDGET


def test_costs_do_not_go_by_the_application_s_decimal_context() -> None:
    tally = Tally(counts=Counts(unknown=1099), billed=1234)
    with localcontext(prec=2):
        assert tally.costs(Decimal("0.0001")) == (Decimal("0.1234"), Decimal("0.1099"))


async def test_a_job_s_limit_is_exact_where_the_application_rounds(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """To one digit the 16 calls that $0.50 pays for would seem to be 20."""
    with localcontext(prec=1):
        async with await Job.create(
            tmp_path / "job", "embed_images", images(21), price="0.03"
        ) as job:
            assert (await job.plan()).cost == Decimal("0.63")
            report = await job.run(client, max_cost="0.5")
    assert emulator.ledger.billed() == report.counts.done == 16
    assert (report.cost, report.possible_cost) == (Decimal("0.48"), 0)


async def test_the_limit_is_exact_where_outcomes_are_unknown(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(
        *(InjectedFault(None, Cut(), moment="processed", nth=number) for number in (3, 8, 9))
    )
    async with await Job.create(tmp_path / "job", "embed_images", images(40)) as job:
        for _ in range(3):
            report = await job.run(client, concurrency=16, max_cost="0.002", unknown="retry")
        await job.run(client, unknown="retry", max_cost="0.002")
    assert report.cost is not None
    assert report.possible_cost is not None
    assert emulator.ledger.billed() <= 20
    assert report.cost + report.possible_cost == Decimal("0.002")
    assert report.cost + report.possible_cost >= emulator.ledger.billed() * Decimal("0.0001")


class ActingClock(HurriedClock):
    """Does something in place of waiting."""

    act: Callable[[], object]

    async def sleep(self, seconds: float) -> None:
        self.act()
        await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["stopped", "cancelled", "changed"])
async def test_what_may_have_been_billed_is_kept_whatever_comes_before_it_is_sent_again(
    emulator: Emulator, images: MakeImages, tmp_path: Path, how: str
) -> None:
    """Whole at the server, its answer lost, and not sent a second time: unknown, and counted."""
    emulator.faults.add(InjectedFault(None, Cut(), moment="processed"))
    folder, clock = images(1), ActingClock()
    options = CallOptions(replay="accept_double_billing")
    async with (
        Memories("key", base_url=emulator.url, clock=clock) as client,
        await Job.create(tmp_path / "job", "embed_images", folder) as job,
    ):
        run = asyncio.ensure_future(job.run(client, options=options))
        clock.act = {
            "stopped": job.stop,
            "cancelled": run.cancel,
            "changed": lambda: (folder / "0000.png").write_bytes(PNG + b"another picture"),
        }[how]
        await asyncio.gather(run, return_exceptions=True)
        counts = await job.counts()
        again = await job.run(client, max_cost="0.0001")
    assert (counts.planned, counts.unknown, emulator.ledger.billed()) == (0, 1, 1)
    assert (again.counts.unknown, again.possible_cost) == (1, Decimal("0.0001"))
    assert len(emulator.ledger) == 1


@pytest.mark.parametrize("how", ["cancelled", "changed"])
async def test_once_keeps_what_may_have_been_billed_before_it_is_sent_again(
    emulator: Emulator, images: MakeImages, tmp_path: Path, how: str
) -> None:
    emulator.faults.add(InjectedFault(None, Cut(), moment="processed"))
    image, clock = images(1) / "0000.png", ActingClock()
    options = CallOptions(replay="accept_double_billing")
    ledger = SqliteLedger(tmp_path / "ledger")
    async with Memories("key", base_url=emulator.url, clock=clock) as client:
        once = Once(client, ledger, patience=0, max_cost="0.0001")
        twice = Once(client, ledger, patience=0, options=options)
        call = asyncio.ensure_future(twice.embed_image(image))
        content = image.read_bytes()
        clock.act = {
            "cancelled": call.cancel,
            "changed": lambda: image.write_bytes(PNG + b"another picture"),
        }[how]
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        if how == "changed":
            assert isinstance(outcome, Record)
            assert outcome.status is Status.UNKNOWN
            assert "may have been billed" in str(outcome.error)
        totals = await ledger.totals()
        image.write_bytes(content)
        same = await once.embed_image(image)
        other = await once.embed_image(PNG + b"one more")
    await ledger.aclose()
    assert (totals.unknown, totals.billable, emulator.ledger.billed()) == (1, 1, 1)
    assert (same.status, other.status) == (Status.UNKNOWN, Status.PLANNED)
    assert len(emulator.ledger) == 1


@pytest.mark.parametrize("of", ["client", "call"])
async def test_a_budget_that_what_is_paid_twice_would_pass_is_refused(
    emulator: Emulator, images: MakeImages, tmp_path: Path, of: str
) -> None:
    """It counts an item once: ten answers lost under a budget of ten cost nineteen."""
    options = CallOptions(replay="accept_double_billing")
    on_client, on_call = (options, None) if of == "client" else (None, options)
    ledger = SqliteLedger(tmp_path / "ledger")
    async with (
        Memories("key", base_url=emulator.url, options=on_client) as client,
        await Job.create(tmp_path / "job", "embed_images", images(1)) as job,
    ):
        with pytest.raises(ConfigurationError, match=r"client\.budget"):
            await job.run(client, max_cost=1, options=on_call)
        with pytest.raises(ConfigurationError, match=r"client\.budget"):
            Once(client, ledger, max_cost=1, options=on_call)
        assert len(emulator.ledger) == 0
        async with client.budget(dollars=1):
            report = await job.run(client, options=on_call)
    assert report.counts.done == emulator.ledger.billed() == 1
    await ledger.aclose()


async def test_a_video_that_was_added_and_not_indexed_was_billed(tmp_path: Path) -> None:
    """Sent again on request it is billed again: the limit and the cost count both."""
    library, billed = Library(), 0
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.mp4").write_bytes(MP4 + b"%d" % number)
        video_no = f"VI-me-{number}.mp4"
        library.outcomes[video_no] = TaskFailed("indexing failed", task_id=video_no)
    real = library.add_video

    async def add_video(source: str, **fields: object) -> Video:
        nonlocal billed
        video = await real(source, **fields)  # type: ignore[arg-type]  # as they came
        billed += 1
        return video

    library.add_video = add_video  # type: ignore[method-assign,assignment]  # counted
    stand_in = Client()
    stand_in.library = library
    client = cast("Memories", stand_in)
    options = {"unique_id": "me"}
    async with await Job.create(
        tmp_path / "job", "add_videos", folder, options=options, price=1
    ) as job:
        for _ in range(3):
            report = await job.run(client, max_cost=4, failed="retry")
        assert billed == 4
        assert report.cost == 4
        assert {item.billed for item in await items_of(job)} <= {0, 1, 2, 3, 4}
        assert sum(item.billed for item in await items_of(job)) == 4


async def test_a_price_may_be_said_later(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "add_images", images(4)) as job:
        with pytest.raises(ConfigurationError, match="price"):
            await job.run(client, max_cost=1)
        report = await job.run(client, max_cost="0.5", price="0.25", batch_size=1)
        assert (report.counts.done, report.cost) == (2, Decimal("0.50"))
    async with await Job.open(tmp_path / "job") as job:
        assert job.price == Decimal("0.25")
        assert (await job.plan()).cost == Decimal("0.50")
        await job.set_price(2)
        assert (await job.plan()).cost == 4
        with pytest.raises(ConfigurationError, match="dollars"):
            await job.set_price("dear")


async def test_a_run_that_is_refused_as_another_is_alive_leaves_the_price(
    client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    alive = JobLock(str(tmp_path / "job"))
    async with await Job.create(tmp_path / "job", "add_images", images(1), price=1) as job:
        alive.acquire("run")
        try:
            with pytest.raises(JobBusy):
                await job.run(client, price=2)
        finally:
            alive.release()
        assert job.price == 1
    async with await Job.open(tmp_path / "job") as job:
        assert job.price == 1


async def test_a_second_answer_is_a_second_bill(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(3)) as job:
        await job.run(client)
        assert await job.retry([2]) == 1
        report = await job.run(client)
        assert [item.billed for item in await items_of(job)] == [1, 2, 1]
    assert report.cost == Decimal("0.0004")
    assert emulator.ledger.billed() == 4


async def test_a_budget_of_the_client_stops_the_run_and_fails_no_item(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(9)) as job:
        with client.budget(dollars=Decimal("0.0004")):
            report = await job.run(client)
        await assert_journal_matches(job, emulator.ledger, 9)
        assert report.stopped is not None
        assert report.stopped.reason is StopReason.MAX_COST
        assert (report.counts.done, report.counts.failed) == (emulator.ledger.billed(), 0)
        assert report.counts.done + report.counts.planned == 9
        assert report.counts.done <= 4
        assert (await job.run(client)).counts.done == 9


@pytest.mark.parametrize("own", [{}, {"prompt": "And this?"}])
async def test_a_budget_without_a_price_for_the_call_stops_the_run_and_fails_no_item(
    own: dict[str, object],
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
) -> None:
    inputs = [Input(path, own) for path in images(5).iterdir()]
    async with await Job.create(
        tmp_path / "job", "caption_images", inputs, options={"prompt": "What is it?"}
    ) as job:
        with client.budget(dollars=5):
            report = await job.run(client)
        assert report.stopped is not None
        assert report.stopped.reason is StopReason.CONFIGURATION
        assert "documents no price for captions.image" in report.stopped.message
        assert (report.counts.planned, report.requests) == (5, 0)
        assert (await job.run(client)).counts.done == 5


@pytest.mark.parametrize(
    "options",
    [
        CallOptions(before_sending=lambda: 5),  # type: ignore[arg-type, return-value]  # that is the point
        CallOptions(fields={"model": "another"}),
    ],
)
async def test_options_of_the_run_that_no_call_takes_fail_no_item(
    options: CallOptions,
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(5)) as job:
        report = await job.run(client, batch_size=1, options=options)
        assert report.stopped is not None
        assert report.stopped.reason is StopReason.CONFIGURATION
        assert (report.counts.planned, report.requests) == (5, 0)


# --- reconcile --------------------------------------------------------------------------------


class UnfilteredLibrary(Library):
    """A server that ignores the tag it is asked for, and lists somebody else's video first."""

    def __init__(self, *, tagged: bool) -> None:
        super().__init__()
        self.tagged = tagged
        self.options: list[CallOptions | None] = []

    async def videos(
        self,
        *,
        tag: str | None = None,
        unique_id: str | None = None,
        options: CallOptions | None = None,
    ) -> AsyncIterator[Video]:
        self.options.append(options)
        yield self._listed(Video(video_no="VI-stranger", name="a stranger.mp4"), ["holiday"])
        for video, tags in self.stored.values():
            yield self._listed(video, tags)

    def _listed(self, video: Video, tags: Sequence[str]) -> Video:
        extra = {"tags": [*tags, "api"]} if self.tagged else {}
        return Video(video_no=video.video_no, name=video.name, status="PARSE", extra=extra)


@pytest.mark.parametrize("tagged", [True, False])
async def test_a_stranger_s_video_is_never_taken_for_a_lost_one(
    tmp_path: Path, tagged: bool
) -> None:
    library = UnfilteredLibrary(tagged=tagged)
    stand_in = Client()
    stand_in.library = library
    client = cast("Memories", stand_in)
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(MP4 + name.encode())
    library.loses = {"a.mp4", "b.mp4"}
    options = {"unique_id": "me", "searchable_within": 0}
    async with await Job.create(tmp_path / "job", "add_videos", folder, options=options) as job:
        await job.run(client)
        del library.stored["VI-me-a.mp4"]  # this one never arrived
        told = CallOptions(attempts=7)
        assert await job.reconcile(client, options=told) == 1
        items = await items_of(job)
    assert [item.status for item in items] == ["unknown", "done"]
    assert items[1].result is not None
    assert items[1].result["video_no"] == "VI-me-b.mp4"
    assert set(library.options) == {told}


async def test_what_is_found_again_counts_as_billed(tmp_path: Path) -> None:
    library = Library()
    stand_in = Client()
    stand_in.library = library
    client = cast("Memories", stand_in)
    (tmp_path / "a.mp4").write_bytes(MP4)
    library.loses = {"a.mp4"}
    options = {"unique_id": "me", "searchable_within": 0}
    async with await Job.create(
        tmp_path / "job", "add_videos", tmp_path / "a.mp4", options=options, price=1
    ) as job:
        first = await job.run(client)
        assert (first.cost, first.possible_cost) == (0, 1)
        second = await job.run(client)
        assert (second.cost, second.possible_cost, second.requests) == (1, 0, 0)
    await asyncio.sleep(0)
