"""Jobs from inputs to rows: every kind, what is refused, what is limited, what is told."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from memories_async import (
    Bucket,
    CallOptions,
    ConfigurationError,
    EndpointGone,
    Memories,
    Rate,
)
from memories_async.bulk import (
    KINDS,
    Event,
    Input,
    Job,
    JournalError,
    Status,
    StopReason,
    UnsentReason,
)
from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.emulator.faults import Cut
from memories_async.emulator.faults import InjectedFault as Fault
from memories_async.emulator.handlers import HANDLERS
from memories_async.emulator.handlers import HandlerRequest as Call
from memories_async.emulator.handlers import HandlerResult as Reply
from memories_async.emulator.http import app
from memories_async.emulator.http.envelopes import HttpResponse as Answer
from memories_async.emulator.http.envelopes import Reason, Refusal
from memories_async.observe import Charged, RequestLeaving, Throttled, Waited
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import MP4, PNG, assert_journal_matches, items_of
from tests.observe.recorded_events import RecordedEvents
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio


# --- each kind --------------------------------------------------------------------------------


async def test_images_are_added_several_to_a_request(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(
        tmp_path / "job", "add_images", images(50), options={"tags": ["trip"]}
    ) as job:
        report = await job.run(client)

        items = await assert_journal_matches(job, emulator.ledger, 50)
    assert report.counts.done == 50
    assert report.stopped is None
    assert report.requests == len(emulator.ledger) == 3
    assert emulator.ledger[0].fields["tags"] in ("trip", ["trip"])
    ids = {item.result["image_id"] for item in items if item.result}
    assert len(ids) == 50
    assert all(isinstance(id, int) for id in ids)
    assert {item.request for item in items} == {1, 2, 3}


async def test_images_are_embedded(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(7)) as job:
        report = await job.run(client)
        sources, vectors = await job.vectors()
        items = await assert_journal_matches(job, emulator.ledger, 7)

    assert report.counts.done == 7
    assert report.cost == Decimal("0.0007")
    assert vectors.shape == (7, 1408)
    assert sources == [item.source for item in items]
    expected = HashEngine().embed_image(Path(sources[3]), "multimodalembedding@001")
    assert vectors[3].tolist() == pytest.approx(expected, rel=1e-6)


async def test_images_are_captioned_each_as_told(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(2)
    inputs = [
        Input(folder / "0000.png"),
        Input(folder / "0001.png", {"prompt": "Which colours?"}, {"my_id": 7}),
    ]
    async with await Job.create(
        tmp_path / "job", "caption_images", inputs, options={"prompt": "What is it?", "qa": True}
    ) as job:
        await job.run(client)
        first, second = await items_of(job)

    assert [first.status, second.status] == [Status.DONE] * 2
    assert first.result is not None
    assert first.result["text"].startswith("1 picture")  # type: ignore[attr-defined]  # a text
    assert second.extra == {"my_id": 7}
    asked = [entry.fields for entry in emulator.ledger]
    assert [fields["user_prompt"] for fields in asked] == ["What is it?", "Which colours?"]
    assert all(fields["qa"] is True for fields in asked)


async def test_videos_are_captioned_with_the_persons_in_the_options(
    emulator: Emulator, client: Memories, tmp_path: Path
) -> None:
    (tmp_path / "film.mp4").write_bytes(MP4 + bytes(1000))
    async with await Job.create(
        tmp_path / "job", "caption_videos", tmp_path / "film.mp4", options={"prompt": "Who?"}
    ) as job:
        report = await job.run(client)

    assert report.counts.done == 1
    assert emulator.ledger.billed("captions.video") == 1


# --- what the service refuses -----------------------------------------------------------------


async def test_the_batch_size_is_learned_from_the_service_and_remembered(
    images: MakeImages, tmp_path: Path
) -> None:
    async with (
        Emulator(HashEngine(), batch_limit=8) as emulator,
        Memories("key", base_url=emulator.url) as client,
        await Job.create(tmp_path / "job", "add_images", images(48)) as job,
    ):
        first = await job.run(client, max_items=24, batch_size=24, concurrency=1)
        assert (first.requests, first.counts.done) == (4, 24)  # one refused, then three of eight
        assert (await job.plan(batch_size=24)).requests == 3

        second = await job.run(client, batch_size=24)
        assert (second.requests, second.counts.done) == (3, 48)
        await assert_journal_matches(job, emulator.ledger, 48)


async def test_a_file_that_the_service_names_is_dropped_and_the_rest_sent(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    message = "The file 0003.png is damaged"
    refusal = Answer(body={"code": "0001", "msg": message, "data": None, "failed": True})
    emulator.faults.add(Fault("library.add_images", refusal))
    async with await Job.create(tmp_path / "job", "add_images", images(10)) as job:
        report = await job.run(client)
        items = await assert_journal_matches(job, emulator.ledger, 10)

    assert report.requests == 2
    failed = [item for item in items if item.status is Status.FAILED]
    assert [os.path.basename(item.source) for item in failed] == ["0003.png"]
    assert failed[0].error is not None
    assert message in failed[0].error
    assert failed[0].details is not None
    assert failed[0].details["code"] == "0001"
    assert report.counts.done == 9


async def test_a_refusal_that_names_nothing_is_narrowed_down(
    client: Memories, emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    """The bad file is found in halves, and what is refused is not billed."""
    folder = images(8)
    size = (folder / "0005.png").write_bytes(PNG + b"the bad one")

    real = HANDLERS["add_images"]

    async def refuses_the_bad_one(call: Call) -> Reply:
        if any(file.size == size for file in call.files):
            raise Refusal(Reason.BAD_REQUEST, "one of the images is unreadable")
        return await real(call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "HANDLERS", {**HANDLERS, "add_images": refuses_the_bad_one})
        async with await Job.create(tmp_path / "job", "add_images", folder) as job:
            report = await job.run(client)
            items = await assert_journal_matches(job, emulator.ledger, 8)

    assert [item.id for item in items if item.status is Status.FAILED] == [6]
    assert report.counts.done == 7
    assert report.requests == 7  # 8; 4, 4; 2, 2; 1, 1


async def test_unfit_files_fail_without_a_request(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(3)
    (folder / "0001.png").write_bytes(b"no image at all")
    inputs = [folder, tmp_path / "missing.png"]
    async with await Job.create(tmp_path / "job", "add_images", inputs) as job:
        report = await job.run(client)
        items = await items_of(job)

    assert [item.status for item in items] == ["done", "failed", "done", "failed"]
    assert items[1].details == {"type": "UnsupportedMedia", "attempts": 0}
    assert "no such file" in str(items[3].error)
    assert (report.requests, report.counts.done, report.counts.failed) == (1, 2, 2)


async def test_requests_in_a_row_that_come_to_nothing_stop_the_run(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(Fault(None, Reason.BAD_REQUEST, times=None))
    async with await Job.create(tmp_path / "job", "embed_images", images(9)) as job:
        report = await job.run(client, max_failures=3, concurrency=1)
        assert report.stopped is not None
        assert report.stopped.reason is StopReason.FAILING
        assert (report.counts.failed, report.counts.planned) == (3, 6)

        emulator.faults.clear()
        report = await job.run(client, failed="retry")
        assert report.counts.done == 9
        await assert_journal_matches(job, emulator.ledger, 9)


async def test_a_missing_key_stops_the_run_and_fails_no_item(
    emulator: Emulator, images: MakeImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMORIES_CAPTION_KEY", raising=False)
    async with (
        Memories("key", base_url=emulator.url) as client,
        await Job.create(
            tmp_path / "job", "caption_images", images(3), options={"prompt": "?"}
        ) as job,
    ):
        report = await job.run(client)

    assert report.stopped is not None
    assert report.stopped.reason is StopReason.KEY
    assert "caption_key" in report.stopped.message
    assert report.counts.planned == 3
    assert len(emulator.ledger) == 0


async def test_an_unreachable_service_stops_the_run_and_fails_no_item(
    images: MakeImages, tmp_path: Path, closed_port: int
) -> None:
    async with (
        Memories("key", base_url=f"http://127.0.0.1:{closed_port}") as client,
        await Job.create(tmp_path / "job", "embed_images", images(3)) as job,
    ):
        report = await job.run(client, options=CallOptions(attempts=1))

    assert report.stopped is not None
    assert report.stopped.reason is StopReason.UNREACHABLE
    assert report.counts.planned == 3


async def test_a_call_that_is_served_no_more_stops_the_run_and_fails_no_item(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    """So says the service of every item, and nothing was done."""
    gone = Answer(
        status=200, body={"code": "0001", "msg": "No static resource api/v2/embeddings/image."}
    )
    emulator.faults.add(Fault(None, gone))
    async with await Job.create(tmp_path / "job", "embed_images", images(3)) as job:
        report = await job.run(client)
        assert report.stopped is not None
        assert report.stopped.reason is StopReason.UNREACHABLE
        assert isinstance(report.stopped.error, EndpointGone)
        assert report.counts.failed == 0
        report = await job.run(client)
        assert report.counts.done == 3


# --- duplicates and resuming ------------------------------------------------------------------


async def test_the_same_content_is_sent_once_and_each_input_has_its_row(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(3)
    (folder / "copy.png").write_bytes((folder / "0001.png").read_bytes())
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        await job.run(client)
        assert await job.add(folder) == 0
        (folder / "later.png").write_bytes((folder / "0002.png").read_bytes())
        assert await job.add(folder) == 1
        report = await job.run(client)
        items = await assert_journal_matches(job, emulator.ledger, 5)
        sources, vectors = await job.vectors()

    assert report.counts.skipped == 2
    assert [item.duplicate_of for item in items] == [None, None, None, 2, 3]
    assert items[3].vector == items[1].vector is not None
    assert len(sources) == 5
    assert vectors[3].tolist() == vectors[1].tolist()
    assert emulator.ledger.billed() == 3


async def test_the_same_content_with_other_options_is_another_item(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    image = images(1) / "0000.png"
    inputs = [Input(image, {"prompt": "Who?"}), Input(image, {"prompt": "What?"})]
    async with await Job.create(tmp_path / "job", "caption_images", inputs) as job:
        report = await job.run(client)

    assert report.counts.done == emulator.ledger.billed() == 2


async def test_when_an_original_changes_its_duplicate_is_sent_itself(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(2)
    first, copy = folder / "0000.png", folder / "0001.png"
    copy.write_bytes(first.read_bytes())
    content = first.read_bytes()
    emulator.faults.add(Fault(None, Reason.NO_CREDITS))
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        stopped = await job.run(client)
        assert (stopped.counts.planned, stopped.counts.skipped) == (1, 1)

        first.write_bytes(PNG + b"something else")
        report = await job.run(client)
        assert report.counts.done == 2
        await assert_journal_matches(job, emulator.ledger, 2)
    assert copy.read_bytes() == content


async def test_a_finished_job_sends_nothing_more(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(3)) as job:
        await job.run(client)
    async with await Job.open(tmp_path / "job") as job:
        report = await job.run(client)
        assert (job.kind.name, job.created_at.tzinfo is not None) == ("embed_images", True)

    assert (report.counts.done, report.requests) == (3, 0)
    assert len(emulator.ledger) == 3


# --- unknown ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "billed", "status"),
    [("keep", 5, "unknown"), ("retry", 6, "done"), ("skip", 5, "skipped")],
)
async def test_unknown_items_are_what_the_user_says(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    choice: str,
    billed: int,
    status: str,
) -> None:
    emulator.faults.add(Fault(None, Cut(), nth=2, moment="processed"))
    async with await Job.create(tmp_path / "job", "embed_images", images(5)) as job:
        first = await job.run(client, concurrency=1)
        (unknown,) = [item async for item in job.items(status="unknown")]
        assert (first.counts.done, first.counts.unknown) == (4, 1)
        assert first.possible_cost == (await job.plan()).possible_cost == Decimal("0.0001")
        assert unknown.details is not None
        assert {"sent_at", "bytes_sent", "request_digest"} <= unknown.details.keys()

        second = await job.run(client, unknown=choice)  # type: ignore[arg-type]  # one of the three
        (row,) = [item async for item in job.items() if item.id == unknown.id]
    assert row.status == status
    assert emulator.ledger.billed() == billed
    assert second.possible_cost == Decimal("0.0001")  # what may have been paid stays in sight


@pytest.mark.parametrize("which", [[1], [2], [3], "skipped"])
async def test_what_was_given_up_is_not_sent_under_another_name_until_it_is_asked_for(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    which: str | list[int],
) -> None:
    """The content may have been billed; a retry of whichever of its names sends it once for all."""
    folder = images(1)
    content = (folder / "0000.png").read_bytes()
    (folder / "0001.png").write_bytes(content)
    emulator.faults.add(Fault(None, Cut(), moment="processed"))
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        assert (await job.run(client)).counts.unknown == 1
        await job.run(client, unknown="skip")
        (folder / "0002.png").write_bytes(content)
        assert [one.reason for one in (await job.plan(folder)).inputs] == [
            UnsentReason.SKIPPED,
            UnsentReason.DUPLICATE,
            UnsentReason.DUPLICATE,
        ]
        assert await job.add(folder) == 1
        assert (await job.run(client)).counts.skipped == 3
        assert emulator.ledger.billed() == 1
        assert await job.retry(which) >= 1
        report = await job.run(client)
        vectors = [item.vector async for item in job.items()]
    assert (report.counts.done, report.counts.skipped) == (1, 2)
    assert vectors[0] is not None
    assert vectors == [vectors[0]] * 3
    assert emulator.ledger.billed() == 2
    assert report.cost == Decimal("0.0001")
    assert report.possible_cost == Decimal("0.0001")


async def test_an_answer_that_cannot_be_read_is_unknown(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    page = Answer(body=b"<html>please log in", headers={"Content-Type": "text/html"})
    emulator.faults.add(Fault(None, page))
    async with await Job.create(tmp_path / "job", "embed_images", images(2)) as job:
        report = await job.run(client)
    assert (report.counts.unknown, report.counts.done) == (1, 1)


# --- limits of the user's ---------------------------------------------------------------------


async def test_max_cost_holds_over_all_runs(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "add_images", images(10), price="0.02") as job:
        first = await job.run(client, max_cost=0.1, batch_size=2)
        assert first.stopped is not None
        assert first.stopped.reason is StopReason.MAX_COST
        assert (first.counts.done, first.cost) == (5, Decimal("0.10"))

        second = await job.run(client, max_cost=0.1)
        assert (second.requests, second.counts.done) == (0, 5)

        third = await job.run(client, max_cost="0.15")
        assert third.counts.done == 7
    assert sum(len(entry.files) for entry in emulator.ledger) == 7


async def test_unknown_items_count_towards_max_cost(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    emulator.faults.add(Fault(None, Cut(), moment="processed"))
    async with await Job.create(tmp_path / "job", "embed_images", images(5)) as job:
        report = await job.run(client, max_cost="0.0003")
    assert (report.counts.done, report.counts.unknown, report.counts.planned) == (2, 1, 2)


async def test_max_cost_needs_a_price(client: Memories, images: MakeImages, tmp_path: Path) -> None:
    async with await Job.create(tmp_path / "job", "add_images", images(1)) as job:
        assert (job.price, (await job.plan()).cost) == (None, None)
        with pytest.raises(ConfigurationError, match="price"):
            await job.run(client, max_cost=5)


async def test_max_items_is_for_one_run(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(5)) as job:
        report = await job.run(client, max_items=2)
        assert report.stopped is not None
        assert report.stopped.reason is StopReason.MAX_ITEMS
        assert report.counts.done == 2
        report = await job.run(client, max_items=3)
        assert report.stopped is None
        assert report.counts.done == len(emulator.ledger) == 5


async def test_a_plan_says_count_bytes_price_and_hours(images: MakeImages, tmp_path: Path) -> None:
    folder = images(45)
    size = sum(file.stat().st_size for file in folder.iterdir())
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        plan = await job.plan()
        assert (plan.counts.planned, plan.requests, plan.size) == (45, 45, size)
        assert (plan.price, plan.cost) == (Decimal("0.0001"), Decimal("0.0045"))
        assert plan.seconds == 45  # the documented call a second
        assert (await job.plan(rate=Rate(5, 10))).seconds == 90
    async with await Job.create(tmp_path / "other", "add_images", folder) as job:
        assert (await job.plan()).requests == 3
        assert (await job.plan(batch_size=10, rate=Rate(1, 60))).seconds == 300


# --- events and the journal's file ------------------------------------------------------------


async def test_events_tell_of_every_item_and_add_up(
    emulator: Emulator, client: Memories, images: MakeImages, tmp_path: Path
) -> None:
    folder = images(6)
    (folder / "0002.png").write_bytes(b"nothing")
    events: list[Event] = []
    async with await Job.create(tmp_path / "job", "embed_images", folder) as job:
        report = await job.run(client, on_event=events.append)

    assert [events[0].name, events[-1].name] == ["started", "finished"]
    told = sorted(event.item.id for event in events if event.name == "item" and event.item)
    assert told == [1, 2, 3, 4, 5, 6]
    assert events[-1].counts == report.counts
    assert events[-1].bytes_sent == report.bytes_sent > 0
    assert events[-1].cost == Decimal("0.0005")
    assert events[-1].remaining == 0
    assert all(before.bytes_sent <= after.bytes_sent for before, after in pairwise(events))


async def test_events_tell_what_the_calls_do(
    emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    """The run is an observer of its calls, and passes on what it is told, in order."""
    emulator.faults.add(Fault(None, Reason.THROTTLED, nth=2))
    emulator.faults.add(Fault(None, Cut(), moment="processed", nth=5))
    recorded, events = RecordedEvents(), list[Event]()
    async with (
        Memories("events", base_url=emulator.url, clock=HurriedClock()) as client,
        await Job.create(tmp_path / "job", "embed_images", images(4)) as job,
    ):
        report = await job.run(
            client,
            concurrency=2,
            on_event=events.append,
            options=CallOptions(observers=[recorded]),
        )
    told = [event.call for event in events if event.name == "call" and event.call]
    assert told == recorded.events
    recorded.check()
    assert any(isinstance(one, Throttled) and one.pause > 0 for one in told)
    assert any(isinstance(one, Waited) and one.reason == "pause" for one in told)
    assert recorded.charged("billed") == report.counts.done == 3
    assert recorded.charged("perhaps billed") == report.counts.unknown == 1
    # However often it is sent, a request is one; and it is counted once it leaves.
    assert (report.requests, len(emulator.ledger)) == (4, 5)
    leaving = [event for event in events if isinstance(event.call, RequestLeaving)]
    assert (leaving[0].requests, leaving[-1].requests) == (1, 4)


@pytest.mark.parametrize("kind", [Waited, RequestLeaving, Charged])
async def test_a_listener_that_raises_at_what_a_call_does_ends_the_run_in_order(
    emulator: Emulator, images: MakeImages, tmp_path: Path, kind: type
) -> None:
    def listen(event: Event) -> None:
        if isinstance(event.call, kind):
            raise LookupError("the listener's own")

    rates = {Bucket.EMBEDDING: Rate(100)}
    async with (
        Memories("raises", base_url=emulator.url, rates=rates) as client,
        await Job.create(tmp_path / "job", "embed_images", images(30)) as job,
    ):
        with pytest.raises(LookupError):
            await job.run(client, concurrency=4, on_event=listen)
        counts = await job.counts()
        assert (counts.unknown, counts.sending) == (0, 0)
        assert counts.done == emulator.ledger.billed() == len(emulator.ledger) < 30


async def test_the_journal_is_private_and_holds_no_key(
    emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    key = "sk-SENTINEL0123456789abcdefKEY0"
    emulator.faults.add(Fault(None, Reason.KEY, nth=2))
    async with (
        Memories(key, base_url=emulator.url) as client,
        await Job.create(tmp_path / "job", "embed_images", images(3)) as job,
    ):
        await job.run(client, concurrency=1)
        for name in ("job", "job-wal", "job-shm"):
            file = tmp_path / name
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert key.encode() not in file.read_bytes()


async def test_the_pace_is_the_client_s(
    emulator: Emulator, images: MakeImages, tmp_path: Path
) -> None:
    clock = HurriedClock()
    rates = {Bucket.EMBEDDING: Rate(1)}
    async with (
        Memories("paced", base_url=emulator.url, rates=rates, clock=clock) as client,
        await Job.create(tmp_path / "job", "embed_images", images(6)) as job,
    ):
        start = clock.now
        await job.run(client)
    assert clock.now - start >= 5


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "price", "message"),
    [
        ("embed_pictures", {}, None, "embed_images"),
        ("embed_images", {"modle": "x"}, None, "modle"),
        ("caption_images", {}, None, "prompt"),
        ("embed_images", {}, "cheap", "dollars"),
        ("embed_images", {}, -1, "dollars"),
        ("embed_images", {"model": object()}, None, "keep"),
    ],
)
async def test_a_bad_job_is_refused_and_leaves_no_file(
    images: MakeImages,
    tmp_path: Path,
    kind: str,
    options: dict[str, object],
    price: float | str | None,
    message: str,
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await Job.create(tmp_path / "job", kind, images(1), options=options, price=price)
    assert not (tmp_path / "job").exists()


async def test_a_job_is_never_written_over(images: MakeImages, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam")
    folder = images(1)
    async with await Job.create(tmp_path / "job", "embed_images", folder):
        for taken in ("job", "letter.txt"):
            with pytest.raises(ConfigurationError):
                await Job.create(tmp_path / taken, "embed_images", folder)
    assert (tmp_path / "letter.txt").read_text() == "Dear Sir or Madam"
    async with await Job.open(tmp_path / "job") as job:
        assert (await job.counts()).planned == 1


async def test_what_is_no_job_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam, " * 100)
    for name in ("missing", "letter.txt"):
        with pytest.raises(ConfigurationError):
            await Job.open(tmp_path / name)
    assert not (tmp_path / "missing").exists()


async def test_of_what_is_no_file_it_is_not_said_that_it_should_be_deleted() -> None:
    with pytest.raises(ConfigurationError, match="no regular file") as refused:
        await Job.open(os.devnull)
    assert "delete" not in str(refused.value)


async def test_a_job_whose_tables_cannot_be_read_is_an_error_of_ours(
    images: MakeImages, tmp_path: Path
) -> None:
    path = tmp_path / "job"
    await (await Job.create(path, "embed_images", images(1))).aclose()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CREATE TABLE item", b"CREATE \xf8ABLE item"))
    with pytest.raises(JournalError, match="damaged"):
        await Job.open(path)


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(lambda c: c.replace(b"CREATE TABLE", b"CREATE \xf8ABLE"), id="tables"),
        pytest.param(lambda c: c[:100] + bytes(3996) + c[4096:], id="first page"),
        pytest.param(lambda c: c[:5000], id="cut short"),
        pytest.param(lambda c: c[:4096] + bytes(len(c) - 4096), id="all but the first page"),
    ],
)
async def test_a_damaged_job_can_be_removed(
    damaged: Callable[[bytes], bytes], images: MakeImages, tmp_path: Path
) -> None:
    folder = images(1)
    await (await Job.create(tmp_path / "job", "embed_images", folder)).aclose()
    (tmp_path / "job").write_bytes(damaged((tmp_path / "job").read_bytes()))
    await Job.remove(tmp_path / "job")
    assert os.listdir(tmp_path) == ["images"]


async def test_a_damaged_file_of_another_purpose_is_not_removed(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "letters")) as db:
        db.execute("CREATE TABLE letter (text)")
    content = (tmp_path / "letters").read_bytes()
    (tmp_path / "letters").write_bytes(content.replace(b"CREATE TABLE", b"CREATE \xf8ABLE"))
    with pytest.raises(ConfigurationError, match="no job"):
        await Job.remove(tmp_path / "letters")
    assert (tmp_path / "letters").exists()


async def test_a_closed_job_says_so(images: MakeImages, tmp_path: Path) -> None:
    job = await Job.create(tmp_path / "job", "embed_images", images(1))
    await job.aclose()
    await job.aclose()
    with pytest.raises(JournalError, match="closed"):
        await job.counts()


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"batch_size": 0}, {"unknown": "pay"}, {"max_failures": 0}]
)
async def test_a_bad_run_is_refused(
    client: Memories, images: MakeImages, tmp_path: Path, wrong: dict[str, object]
) -> None:
    async with await Job.create(tmp_path / "job", "embed_images", images(1)) as job:
        with pytest.raises(ConfigurationError):
            await job.run(client, **wrong)  # type: ignore[arg-type]  # wrong on purpose
        assert not await job.running()


def test_every_kind_has_a_price_entry_and_a_summary() -> None:
    for name, kind in KINDS.items():
        assert kind.name == name
        assert kind.summary.endswith(".")
        assert kind.price is None or kind.price > 0
        assert kind.required <= kind.options
