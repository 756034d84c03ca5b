"""However often an engine runs a task, its item is sent once, and the answer is there each time."""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import os
import threading
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import pytest
from anyio import CancelScope, create_task_group, from_thread, to_thread

from memories_async import CallOptions, ConfigurationError, LedgerUnavailable, Memories
from memories_async.bulk import Once, Record, RedisLedger, SqliteLedger, Status
from memories_async.bulk.ledger import Begun, Entry
from memories_async.bulk.once import Openable, item
from memories_async.emulator import Cut, Emulator, Hang, InjectedFault, Reason
from memories_async.emulator.http.envelopes import HttpResponse
from tests.bulk.conftest import MakeImages
from tests.bulk.ledgers import PNG
from tests.callbacks.conftest import free_port, redis_server
from tests.media.containers import mp4

pytestmark = pytest.mark.anyio

PICTURE = PNG + b"picture"


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    yield ledger
    await ledger.aclose()


@pytest.fixture
def once(client: Memories, ledger: SqliteLedger) -> Once:
    return Once(client, ledger, patience=0)


async def test_the_second_time_nothing_is_sent(once: Once, emulator: Emulator) -> None:
    first = await once.embed_image(PICTURE)
    again = await once.embed_image(PICTURE)
    assert first.status is again.status is Status.DONE
    assert (first.replayed, again.replayed) == (False, True)
    assert first.value is not None
    assert again.value is not None
    assert list(first.value.vector) == pytest.approx(list(again.value.vector))
    assert len(emulator.ledger) == 1


async def test_every_kind_of_call_comes_back_as_it_was(
    once: Once, emulator: Emulator, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(mp4(3))
    calls = (
        lambda: once.embed_image(PICTURE, model="mobileclip"),
        lambda: once.caption_image(PICTURE, "What?", thinking=True),
        lambda: once.caption_video(film, "What?"),
        lambda: once.add_image(PICTURE, tags=["sea"]),
        lambda: once.add_video(film, tags=["sea"]),
    )
    for call in calls:
        first = await call()
        assert first.status is Status.DONE, first.error
        again = await call()
        assert again.replayed
        assert type(again.value) is type(first.value)
    assert emulator.ledger.billed() == len(calls)


async def test_another_prompt_or_content_is_another_item(
    once: Once, emulator: Emulator, images: MakeImages
) -> None:
    [one, two] = sorted(images(2).iterdir())
    for source, prompt in ((one, "a"), (one, "b"), (two, "a"), (str(one), "a")):
        await once.caption_image(source, prompt)
    assert emulator.ledger.billed() == 3


@pytest.mark.parametrize("asked", ["client", "with_options", "once"])
async def test_other_additions_are_another_item(
    client: Memories, ledger: SqliteLedger, emulator: Emulator, asked: str
) -> None:
    """What fields and headers ask for is part of the request, whoever has them."""
    plain = await Once(client, ledger).embed_image(PICTURE)
    added: list[CallOptions] = [
        CallOptions(fields={"dimension": "512"}),
        CallOptions(fields={"dimension": "256"}),
        CallOptions(headers={"X-Version": "2"}),
    ]
    keys = {plain.key}
    for options in added:
        if asked != "client":
            once = Once(client, ledger, options=options)
            if asked == "with_options":
                once = Once(client.with_options(options), ledger)
            first, again = [await once.embed_image(PICTURE) for _ in range(2)]
        else:
            async with Memories("key", base_url=emulator.url, options=options) as other:
                once = Once(other, ledger)
                first, again = [await once.embed_image(PICTURE) for _ in range(2)]
        assert (first.replayed, again.replayed) == (False, True)
        keys.add(first.key)
    assert len(keys) == emulator.ledger.billed() == 4


async def test_what_has_no_additions_keeps_the_key_that_ledgers_have(
    client: Memories, ledger: SqliteLedger, tmp_path: Path
) -> None:
    """A changed key would have everything in the ledgers that there are sent and paid again."""
    for options in (None, CallOptions(attempts=2, fields={}, headers={})):
        record = await Once(client, ledger, options=options).embed_image(PICTURE)
        assert record.key == "16cefa04027365dfc922295abdf9efef469637c1d64873ba5c15ca8c06696662"


async def test_the_case_of_a_header_s_name_makes_no_other_item(
    client: Memories, ledger: SqliteLedger, emulator: Emulator
) -> None:
    for name in ("X-Version", "x-version"):
        options = CallOptions(headers={name: "2"})
        assert (await Once(client, ledger, options=options).embed_image(PICTURE)).value
    assert emulator.ledger.billed() == 1


async def test_the_same_item_at_once_is_sent_once(once: Once, emulator: Emulator) -> None:
    records = await asyncio.gather(*(once.embed_image(PICTURE) for _ in range(10)))
    assert {record.status for record in records} == {Status.DONE}
    assert [record.replayed for record in records].count(False) == 1
    assert len(emulator.ledger) == 1


async def test_a_lost_answer_is_unknown_and_not_sent_again(once: Once, emulator: Emulator) -> None:
    emulator.faults.add(InjectedFault(None, Cut(), moment="processed"))
    record = await once.embed_image(PICTURE)
    assert record.status is Status.UNKNOWN
    assert (await once.embed_image(PICTURE)).status is Status.UNKNOWN
    assert len(emulator.ledger) == 1


async def test_who_risks_it_pays_twice_and_the_budget_knows(
    client: Memories, ledger: SqliteLedger, emulator: Emulator
) -> None:
    emulator.faults.add(InjectedFault(None, Cut(), moment="processed"))
    retrying = Once(client, ledger, unknown="retry", max_cost="0.0002")
    assert (await retrying.embed_image(PICTURE)).status is Status.UNKNOWN
    assert (await retrying.embed_image(PICTURE)).status is Status.DONE
    assert emulator.ledger.billed() == (await ledger.totals()).billable == 2
    record = await retrying.embed_image(PICTURE + b"another")
    assert record.status is Status.PLANNED
    assert "max_cost" in (record.error or "")
    assert len(emulator.ledger) == 2


async def test_a_budget_is_of_dollars_where_kinds_of_other_prices_share_a_ledger(
    client: Memories, ledger: SqliteLedger, emulator: Emulator
) -> None:
    dear = Once(client, ledger, price=1, max_cost=10)
    said = [(await dear.caption_image(PICTURE, f"{number}?")).status for number in range(9)]
    assert set(said) == {Status.DONE}
    cheap = Once(client, ledger, price="0.5", max_cost=10)
    pictures = [PICTURE + b"%d" % number for number in range(5)]
    said = [(await cheap.embed_image(picture)).status for picture in pictures]
    assert said == [Status.DONE] * 2 + [Status.PLANNED] * 3
    assert emulator.ledger.billed() == 11
    # Nor is it less: what is cheap does not count as what is dear.
    dear = Once(client, ledger, price=1, max_cost=11)
    assert (await dear.caption_image(PICTURE, "and?")).status is Status.DONE


async def test_what_was_sent_without_a_budget_counts_at_its_price(
    client: Memories, ledger: SqliteLedger, emulator: Emulator
) -> None:
    """Its documented price too, which nobody has said."""
    for number in range(12):
        await Once(client, ledger).embed_image(PICTURE + b"%d" % number)
    dear = Once(client, ledger, price=1, max_cost=2)
    said = [(await dear.caption_image(PICTURE, f"{number}?")).status for number in range(2)]
    assert said == [Status.DONE, Status.PLANNED]
    assert (await ledger.totals()).cost(Decimal(9)) == Decimal("1.0012")
    assert emulator.ledger.billed() == 13


async def test_what_is_refused_may_be_sent_again(once: Once, emulator: Emulator) -> None:
    emulator.faults.add(InjectedFault(None, Reason.BAD_REQUEST))
    assert (await once.embed_image(PICTURE)).status is Status.FAILED
    assert (await once.embed_image(PICTURE)).status is Status.DONE


async def test_throttling_is_waited_out_with_one_entry(
    once: Once, ledger: SqliteLedger, emulator: Emulator
) -> None:
    emulator.faults.add(InjectedFault(None, Reason.THROTTLED))
    record = await once.embed_image(PICTURE)
    assert (record.status, record.attempts) == (Status.DONE, 2)
    assert (await ledger.totals()).billable == 1


@pytest.mark.parametrize("source", [b"", b"no picture", "missing.png", "s3://bucket/a.png", 5])
async def test_an_item_never_raises(once: Once, emulator: Emulator, source: bytes | str) -> None:
    record = await once.embed_image(source)
    assert record.status is Status.FAILED
    assert record.error
    assert len(emulator.ledger) == 0


async def test_a_lost_ledger_sends_nothing(
    once: Once, ledger: SqliteLedger, emulator: Emulator
) -> None:
    await once.embed_image(PICTURE)
    os.unlink(ledger.path)
    record = await once.embed_image(PICTURE + b"2")
    assert record.status is Status.PLANNED
    assert LedgerUnavailable.advice in (record.error or "") or "deleted" in (record.error or "")
    assert len(emulator.ledger) == 1


async def test_a_ledger_lost_after_sending_still_hands_over_what_was_paid(
    client: Memories, tmp_path: Path
) -> None:
    class Losing(SqliteLedger):
        async def settle(self, key: str, outcome: Entry) -> Entry | None:
            raise LedgerUnavailable("gone")

    ledger = Losing(tmp_path / "ledger")
    record = await Once(client, ledger).embed_image(PICTURE)
    await ledger.aclose()
    assert record.status is Status.DONE
    assert record.value is not None
    assert "gone" in (record.error or "")
    assert "billed" in (record.error or "")
    assert LedgerUnavailable.advice not in (record.error or "")  # it was sent


@pytest.mark.parametrize("raised", [OSError("no disk"), ValueError("odd"), RuntimeError()])
@pytest.mark.parametrize("where", ["find", "begin", "settle"])
async def test_a_ledger_of_ones_own_that_raises_anything_loses_nothing(
    client: Memories, emulator: Emulator, tmp_path: Path, where: str, raised: Exception
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise raised

    ledger = SqliteLedger(tmp_path / "ledger")
    setattr(ledger, where, fail)
    record = await Once(client, ledger).embed_image(PICTURE)
    assert (record.status is Status.DONE) == (where == "settle")
    assert (record.value is not None) == (where == "settle") == bool(emulator.ledger.billed())
    assert str(raised) in (record.error or "")
    assert type(raised).__name__ in (record.error or "")
    await ledger.aclose()


async def test_a_ledger_that_fails_beside_a_refusal_leaves_the_refusal(
    client: Memories, emulator: Emulator, tmp_path: Path
) -> None:
    class Losing(SqliteLedger):
        async def settle(self, key: str, outcome: Entry) -> Entry | None:
            raise OSError("no disk")

    emulator.faults.add(InjectedFault(None, Reason.NO_CREDITS))
    ledger = Losing(tmp_path / "ledger")
    record = await Once(client, ledger).embed_image(PICTURE)
    await ledger.aclose()
    assert record.status is Status.FAILED
    assert "credits" in (record.error or "").lower()


async def test_a_ledger_lost_just_before_the_first_byte_lets_nothing_leave(
    client: Memories, emulator: Emulator, tmp_path: Path
) -> None:
    class Losing(SqliteLedger):
        async def begin(self, key: str, token: str, **options: Any) -> tuple[Begun, Entry | None]:
            raise LedgerUnavailable("gone")

    ledger = Losing(tmp_path / "ledger")
    record = await Once(client, ledger).embed_image(PICTURE)
    await ledger.aclose()
    assert record.status is Status.PLANNED
    assert "gone" in (record.error or "")
    assert emulator.ledger.billed() == 0


async def test_an_answer_that_nobody_can_read_is_unknown_and_not_sent_again(
    once: Once, emulator: Emulator
) -> None:
    no_json = HttpResponse(body=b"<html>", headers={"Content-Type": "text/html"})
    emulator.faults.add(InjectedFault(None, no_json, moment="processed"))
    assert (await once.embed_image(PICTURE)).status is Status.UNKNOWN
    assert (await once.embed_image(PICTURE)).status is Status.UNKNOWN
    assert emulator.ledger.billed() == 1


async def test_what_another_process_sends_is_waited_for_and_not_sent(
    client: Memories, ledger: SqliteLedger, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item, "POLL_INTERVAL", 0)
    once = Once(client, ledger, patience=math.inf)
    answered = await once.embed_image(PICTURE)
    find, looks = ledger.find, iter([Status.SENDING, Status.SENDING])

    async def find_it_under_way(key: str) -> Entry | None:
        entry = await find(key)
        assert entry is not None
        return attrs.evolve(entry, status=next(looks, entry.status))

    ledger.find = find_it_under_way  # type: ignore[method-assign]  # as another process would see
    record = await once.embed_image(PICTURE)
    assert (record.status, record.replayed) == (Status.DONE, True)
    assert next(looks, None) is None
    assert record.value is not None
    assert answered.value is not None
    assert list(record.value.vector) == pytest.approx(list(answered.value.vector))
    assert emulator.ledger.billed() == 1


async def test_a_cancelled_call_is_unknown_if_it_had_left(once: Once, emulator: Emulator) -> None:
    emulator.faults.add(InjectedFault(None, Hang()))
    task = asyncio.create_task(once.embed_image(PICTURE))
    while not any(entry.complete for entry in emulator.ledger):  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await once.embed_image(PICTURE)).status is Status.UNKNOWN
    assert len(emulator.ledger) == 1


async def test_a_budget_needs_a_price(client: Memories, ledger: SqliteLedger) -> None:
    record = await Once(client, ledger, max_cost=5).caption_image(PICTURE, "What?")
    assert record.status is Status.FAILED
    assert "price" in (record.error or "")
    with pytest.raises(ConfigurationError, match="unknown"):
        Once(client, ledger, unknown="perhaps")  # type: ignore[arg-type]  # what a user may write
    for wrong in (-1, "many", float("nan")):
        with pytest.raises(ConfigurationError, match="max_cost"):
            Once(client, ledger, max_cost=wrong)


async def test_options_of_each_call(
    client: Memories, ledger: SqliteLedger, emulator: Emulator
) -> None:
    emulator.faults.add(InjectedFault(None, Hang()))
    once = Once(client, ledger, options=CallOptions(answer_timeout=0.1))
    assert (await once.embed_image(PICTURE)).status is Status.UNKNOWN


async def test_the_same_item_at_once_outlives_the_call_that_sends_it(
    once: Once, emulator: Emulator
) -> None:
    """Who is cancelled is cancelled alone: the other one sends it itself."""
    entered, held = asyncio.Event(), asyncio.Event()
    find = once._ledger.find

    async def slow(key: str) -> Entry | None:
        entered.set()
        await held.wait()
        return await find(key)

    once._ledger.find = slow  # type: ignore[method-assign]  # holds the first one up
    first = asyncio.create_task(once.embed_image(PICTURE))
    second = asyncio.create_task(once.embed_image(PICTURE))
    await entered.wait()
    first.cancel()
    held.set()
    record = await second
    assert first.cancelled()
    assert (record.status, record.replayed) == (Status.DONE, False)
    assert emulator.ledger.billed() == 1


async def test_a_file_that_changes_meanwhile_is_not_kept_as_what_it_was(
    client: Memories, ledger: SqliteLedger, emulator: Emulator, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(PICTURE)
    once = Once(client, ledger, patience=0)
    find = ledger.find

    async def find_and_change(key: str) -> Entry | None:
        path.write_bytes(PICTURE + b"another")
        return await find(key)

    ledger.find = find_and_change  # type: ignore[method-assign]  # between digest and sending
    record = await once.embed_image(path)
    ledger.find = find  # type: ignore[method-assign]  # and from now on nothing changes
    assert record.status is Status.PLANNED
    assert "changed" in str(record.error)
    assert emulator.ledger.billed() == 0
    assert (await once.embed_image(PICTURE)).replayed is False
    assert (await once.embed_image(path)).status is Status.DONE


async def test_a_file_that_is_no_ledger_is_said_and_waits_for_nothing(
    client: Memories, emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no ledger at all " * 10)
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "none" / "ledger"):
        ledger = SqliteLedger(path)
        async with asyncio.timeout(10):
            record = await Once(client, ledger, patience=0).embed_image(PICTURE)
        assert record.status is Status.PLANNED
        assert str(path) in str(record.error)
        await ledger.aclose()
    assert len(emulator.ledger) == 0


async def test_what_is_no_name_or_no_text_is_a_failure_of_that_item(
    once: Once, emulator: Emulator, ledger: SqliteLedger, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    await once.embed_image(PICTURE)  # opens the ledger
    for source in ("a\0b", "a\ud800b", tmp_path / "pipe.png", "/dev/zero", ledger.path):
        record = await once.embed_image(source)
        assert (record.status, record.attempts) == (Status.FAILED, 0), source
    assert (await once.caption_image(PICTURE, "\udc80")).status is Status.FAILED
    for prompt in (None, b"x", "\ud800", "", 5):
        record = await once.caption_image(PICTURE, prompt)  # type: ignore[arg-type]  # on purpose
        assert record.status is Status.FAILED
        assert "prompt" in (record.error or "")
        assert "cannot be read" not in (record.error or ""), "the picture can be"
        assert "missing" not in (record.error or "")
    assert (await once.add_image(PICTURE, tags="sea")).value is None
    assert len(emulator.ledger) == 1


# --- what a cluster does to a ledger -------------------------------------------------------------


async def test_a_server_that_stops_midway_and_comes_back(
    client: Memories, emulator: Emulator, tmp_path: Path
) -> None:
    port, stop = free_port(), contextlib.ExitStack()

    def start() -> str:
        return stop.enter_context(redis_server(port, str(tmp_path), kept=True))

    class Stopping(RedisLedger):
        """Its server stops once the second call has begun."""

        begun = 0

        async def begin(self, key: str, token: str, **options: Any) -> tuple[Begun, Entry | None]:
            said = await super().begin(key, token, **options)
            self.begun += 1
            if self.begun == 2:
                stop.close()
            return said

    ledger = Stopping(start(), job="stops")
    once = Once(client, ledger, patience=0)
    pictures = [PICTURE + b"%d" % number for number in range(4)]
    try:
        records = [await once.embed_image(picture) for picture in pictures[:3]]
        assert [record.status for record in records] == [Status.DONE, Status.DONE, Status.PLANNED]
        assert [bool(record.error) for record in records] == [False, True, True]
        assert emulator.ledger.billed() == 2
        start()
        again = [await once.embed_image(picture) for picture in pictures]
    finally:
        await ledger.aclose()
        stop.close()
    # What was answered while nobody could write it down may have been billed: not sent again.
    said = [(record.status, record.replayed) for record in again]
    assert said == [
        (Status.DONE, True),
        (Status.UNKNOWN, False),
        (Status.DONE, False),
        (Status.DONE, False),
    ]
    assert emulator.ledger.billed() == len(emulator.ledger) == 4


async def test_two_drivers_with_one_ledger_at_once(
    client: Memories, emulator: Emulator, tmp_path: Path
) -> None:
    ledgers = [SqliteLedger(tmp_path / "shared") for _ in range(2)]
    drivers = [Once(client, ledger, patience=0) for ledger in ledgers]
    pictures = [PICTURE + b"%d" % number for number in range(20)]
    records = await asyncio.gather(
        *(driver.embed_image(picture) for picture in pictures for driver in drivers)
    )
    assert emulator.ledger.billed() == len(emulator.ledger) == 20
    for one, other in zip(records[::2], records[1::2], strict=True):
        statuses = {one.status, other.status}
        assert Status.DONE in statuses
        assert statuses <= {Status.DONE, Status.UNKNOWN}
    again = [await drivers[0].embed_image(picture) for picture in pictures]
    assert all(record.replayed for record in again)
    for ledger in ledgers:
        await ledger.aclose()


async def test_a_budget_is_reached_by_three_workers_together(
    client: Memories, emulator: Emulator, tmp_path: Path
) -> None:
    ledgers = [SqliteLedger(tmp_path / "shared") for _ in range(3)]
    workers = [Once(client, ledger, max_cost="0.001") for ledger in ledgers]
    records = await asyncio.gather(
        *(workers[number % 3].embed_image(PICTURE + b"%d" % number) for number in range(40))
    )
    statuses = [record.status for record in records]
    assert (statuses.count(Status.DONE), statuses.count(Status.PLANNED)) == (10, 30)
    assert emulator.ledger.billed() == len(emulator.ledger) == 10
    for ledger in ledgers:
        await ledger.aclose()


async def test_a_job_whose_options_changed(
    client: Memories, ledger: SqliteLedger, emulator: Emulator
) -> None:
    first = await Once(client, ledger).embed_image(PICTURE)
    other = await Once(client, ledger).embed_image(PICTURE, model="mobileclip")
    assert (first.replayed, other.replayed) == (False, False)
    assert emulator.ledger.billed() == 2
    # Less money than is spent: what was paid for is still there, and nothing more is sent.
    poorer = Once(client, ledger, max_cost="0.0001", unknown="retry")
    assert (await poorer.embed_image(PICTURE)).replayed
    assert (await poorer.embed_image(PICTURE, model="mobileclip")).replayed
    assert (await poorer.embed_image(PICTURE + b"new")).status is Status.PLANNED
    assert len(emulator.ledger) == 2


async def test_a_cancelled_item_closes_the_object_that_it_opened(
    once: Once, ledger: SqliteLedger, emulator: Emulator
) -> None:
    """A scope of anyio cancels each await again, the one that closes the object, too."""
    emulator.faults.add(InjectedFault(None, Hang()))
    opened: list[io.BytesIO] = []

    def opener() -> BinaryIO:
        opened.append(io.BytesIO(PICTURE))
        return opened[-1]

    async with create_task_group() as tasks:
        tasks.start_soon(once.embed_image, Openable("a.png", opener))
        while not any(entry.complete for entry in emulator.ledger):  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.001)
        tasks.cancel_scope.cancel()
    while not all(file.closed for file in opened):  # noqa: ASYNC110  # a thread does
        await asyncio.sleep(0.001)
    assert len(opened) == 2
    assert (await ledger.totals()).unknown == 1


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "lost"])
@pytest.mark.parametrize("how", ["cancelled", "in a scope", "by the store"])
async def test_what_ends_while_its_object_is_closed_has_its_outcome_in_the_ledger(
    once: Once, ledger: SqliteLedger, emulator: Emulator, how: str, lost: bool
) -> None:
    """It was forgotten with the answer, taken for never sent, and paid for a second time."""
    if lost:
        emulator.faults.add(InjectedFault(None, Cut(), moment="processed"))
    closing, may_close = threading.Event(), threading.Event()
    files: list[Slow] = []

    class Slow(io.BytesIO):
        def close(self) -> None:
            super().close()
            if len(files) == 2 and not closing.is_set():
                closing.set()
                may_close.wait()
                if how == "by the store":
                    raise asyncio.CancelledError

    def opener() -> BinaryIO:
        files.append(Slow(PICTURE))
        return files[-1]

    scope = CancelScope()

    async def run() -> None:
        with scope:
            await once.embed_image(Openable("a.png", opener))

    task = asyncio.create_task(run())
    await asyncio.to_thread(closing.wait)
    {"cancelled": task.cancel, "in a scope": scope.cancel, "by the store": may_close.set}[how]()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    may_close.set()
    assert all(file.closed for file in files)  # before it waited
    totals = await ledger.totals()
    assert (totals.sending, totals.unknown, totals.done) == (0, int(lost), int(not lost))
    again = await once.embed_image(PICTURE)
    assert again.status is (Status.UNKNOWN if lost else Status.DONE)
    assert again.replayed is not lost
    assert emulator.ledger.billed() == 1


async def test_who_waits_for_the_same_item_is_not_sent_where_the_first_is_cancelled_closing(
    once: Once, emulator: Emulator
) -> None:
    closing, may_close = threading.Event(), threading.Event()
    opened = 0

    class Slow(io.BytesIO):
        def close(self) -> None:
            super().close()
            if opened == 2 and not closing.is_set():
                closing.set()
                may_close.wait()

    def opener() -> BinaryIO:
        nonlocal opened
        opened += 1
        return Slow(PICTURE)

    source = Openable("a.png", opener)
    first = asyncio.create_task(once.embed_image(source))
    await asyncio.to_thread(closing.wait)
    second = asyncio.create_task(once.embed_image(PICTURE))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    may_close.set()
    record = await second
    assert (record.status, record.replayed) == (Status.DONE, True)
    assert emulator.ledger.billed() == 1


async def test_items_are_sent_though_all_threads_of_anyio_wait_for_them(
    client: Memories, ledger: SqliteLedger
) -> None:
    """As the plain functions of a web framework do: they held the threads that an item needed."""
    once = Once(client, ledger)
    taken = int(to_thread.current_default_thread_limiter().total_tokens)
    pictures = [PICTURE + bytes([number]) for number in range(taken)]
    waiting = threading.Barrier(taken)
    records: list[Record[Any]] = []

    def endpoint(picture: bytes) -> None:
        waiting.wait()
        records.append(from_thread.run(once.embed_image, picture))

    async with create_task_group() as tasks:
        for picture in pictures:
            tasks.start_soon(to_thread.run_sync, endpoint, picture)
    assert {record.status for record in records} == {Status.DONE}
    assert len(records) == taken


@pytest.mark.parametrize("moment", ["open", "read", "reopen", "close"])
async def test_an_object_that_raises_stop_iteration_ends_its_item(
    once: Once, emulator: Emulator, moment: str
) -> None:
    """On Python 3.11 a future of a loop cannot hold a StopIteration, and the call never ended."""
    opened = 0

    class Ended(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return next(iter(())) if moment == "read" else super().read(size)

        def close(self) -> None:
            if moment == "close" and opened == 2 and not self.closed:
                super().close()
                next(iter(()))
            super().close()

    def opener() -> BinaryIO:
        nonlocal opened
        opened += 1
        if moment == "open" or (moment == "reopen" and opened == 2):
            next(iter(()))
        return Ended(PICTURE)

    async with asyncio.timeout(30):
        record = await once.embed_image(Openable("a.png", opener))
    if moment == "close":  # the answer is there, and paid for
        assert record.status is Status.DONE, record.error
        assert len(emulator.ledger) == 1
    else:
        assert record.status is not Status.DONE
        assert record.error is not None
        assert "StopIteration" in record.error
        assert len(emulator.ledger) == 0
