"""Receipts against the emulator's ledger: equal, or said to be uncertain."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import random
import stat
import threading
import time as clock
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from memories_async import CallOptions, ConfigurationError
from memories_async.cli import main as command_line
from memories_async.emulator import Cut, Emulator, InjectedFault, Reason, gateway
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.observe import Receipt, Receipts, read_receipts, totals
from memories_async.sync import Memories as BlockingMemories
from tests import forks
from tests.faults.conftest import PNG, Stage, caption, until

pytestmark = pytest.mark.anyio


def counts(path: Path) -> dict[str, int]:
    statuses = [receipt.status for receipt in read_receipts(path)]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


@pytest.mark.parametrize("calls", [200, pytest.param(1000, marks=pytest.mark.slow)])
async def test_many_calls_with_faults_are_what_the_ledger_says(
    stage: Stage, tmp_path: Path, calls: int
) -> None:
    path = tmp_path / "receipts.jsonl"
    client = stage.client(
        base_url=stage.emulator.url, observers=[Receipts(path), stage.recorded], max_connections=20
    )
    chance = random.Random(5)
    effects = [
        (Cut(), "processed"),
        (Cut(), "body"),
        (Reason.THROTTLED, "body"),
        (gateway(502), "body"),
        (Reason.NO_CREDITS, "body"),
    ]

    async def one(number: int) -> None:
        if chance.random() < 0.1:
            effect, moment = chance.choice(effects)
            stage.emulator.faults.add(InjectedFault(None, effect, moment=moment))  # type: ignore[arg-type]
        call = caption(client) if number % 2 else client.embeddings.image(PNG)
        await asyncio.gather(call, return_exceptions=True)

    for first in range(0, calls, 50):
        await asyncio.gather(*[one(first + number) for number in range(50)])
    await until(lambda: all(entry.finished_at is not None for entry in stage.emulator.ledger))
    billed = stage.emulator.ledger.billed()
    found = counts(path)
    assert billed > 0.8 * calls
    assert found["perhaps billed"] > calls / 200
    assert found["billed"] <= billed <= found["billed"] + found["perhaps billed"]
    stage.check_recorded()
    assert found == {
        "billed": stage.recorded.charged("billed"),
        "perhaps billed": stage.recorded.charged("perhaps billed"),
    }
    summed = list(totals(read_receipts(path)))
    assert {total.operation for total in summed} == {"captions.image", "embeddings.image"}
    assert sum(total.count for total in summed) == sum(found.values())
    for total in summed:
        known = total.operation == "embeddings.image"
        assert total.dollars == (Decimal("0.0001") * total.count if known else None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_a_killed_process_had_sent_is_perhaps_billed(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    async with Emulator(HashEngine()) as emulator:
        for round_ in range(3):
            arguments = ["-m", "tests.observe.billed_program", emulator.url, str(path)]
            program = await asyncio.to_thread(forks.start, arguments)
            assert program.stdout is not None
            assert await asyncio.to_thread(program.stdout.readline) == b"calling\n"
            goal = emulator.ledger.billed() + 40 + 17 * round_
            await until(lambda goal=goal: emulator.ledger.billed() >= goal, within=60)  # type: ignore[misc]
            program.kill()
            await asyncio.to_thread(program.communicate)
            await until(lambda: all(entry.finished_at is not None for entry in emulator.ledger))
        billed = emulator.ledger.billed()
    found = counts(path)
    assert found["billed"] <= billed <= found["billed"] + found.get("perhaps billed", 0)
    assert found.get("perhaps billed", 0) <= 3 * 10, "at most what was under way"


async def test_what_was_refused_or_never_left_leaves_no_receipt(
    stage: Stage, tmp_path: Path, closed_port: int
) -> None:
    path = tmp_path / "receipts.jsonl"
    receipts = Receipts(path)
    stage.emulator.faults.add(InjectedFault(None, Reason.NO_CREDITS))
    nowhere, once = f"http://127.0.0.1:{closed_port}", CallOptions(attempts=1)
    away = stage.client(base_url=nowhere, observers=[receipts], options=once)
    refused = stage.client(observers=[receipts])
    await asyncio.gather(caption(refused), caption(away), return_exceptions=True)
    await stage.client(observers=[receipts]).library.videos().aclose()  # type: ignore[attr-defined]
    assert read_receipts(path) == []
    assert "not billed" in path.read_text()


def test_threads_and_clients_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    receipts = Receipts(path)
    with Emulator(HashEngine()) as emulator:

        def work(receipts: Receipts) -> None:
            with BlockingMemories(
                "k", caption_key="k", base_url=emulator.url, observers=[receipts]
            ) as client:
                for _ in range(10):
                    client.captions.image(PNG, "what")

        copies = [receipts, receipts, Receipts(path), pickle.loads(pickle.dumps(receipts))]
        threads = [threading.Thread(target=work, args=(copy,)) for copy in copies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert emulator.ledger.billed() == 40
    assert counts(path) == {"billed": 40}
    assert len({receipt.id for receipt in read_receipts(path)}) == 40


def test_a_line_that_was_cut_short_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    line = {
        "id": "a",
        "time": "2026-11-21T10:00:00.000+00:00",
        "operation": "captions.image",
        "attempt": 1,
        "digest": "d",
        "status": "billed",
    }
    path.write_text(json.dumps(line) + "\n" + json.dumps(line | {"id": "b"})[:30])
    receipts = Receipts(path)
    with (
        Emulator(HashEngine()) as emulator,
        BlockingMemories(
            "k", caption_key="k", base_url=emulator.url, observers=[receipts]
        ) as client,
    ):
        client.captions.image(PNG, "what")
    assert counts(path) == {"billed": 2}


LINE = {
    "id": "a",
    "time": "2026-11-21T10:00:00.000+00:00",
    "operation": "captions.image",
    "attempt": 1,
    "digest": "d",
    "status": "sent",
}


def written(path: Path, *entries: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps(LINE | entry) + "\n" for entry in entries))
    return path


def test_a_disk_that_fills_up_amid_a_line_loses_that_line_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is cut short is said, and what is written behind it once there is room is read."""
    path = tmp_path / "receipts.jsonl"
    write = os.write
    with (
        Emulator(HashEngine()) as emulator,
        BlockingMemories(
            "k", caption_key="k", base_url=emulator.url, observers=[Receipts(path)]
        ) as client,
    ):
        client.captions.image(PNG, "what")
        with monkeypatch.context() as patch:
            patch.setattr(
                "memories_async.observe.receipts.os.write",
                lambda file, line: write(file, line[:20]),
            )
            client.captions.image(PNG, "what")
        assert "a receipt was cut short" in caplog.text
        client.captions.image(PNG, "what")
    caplog.clear()
    assert counts(path) == {"billed": 2}
    assert f"{path}: 1 lines are no whole receipts" in caplog.text


def test_a_file_that_is_deleted_under_way_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    with (
        Emulator(HashEngine()) as emulator,
        BlockingMemories(
            "k", caption_key="k", base_url=emulator.url, observers=[Receipts(path)]
        ) as client,
    ):
        client.captions.image(PNG, "what")
        path.unlink()
        client.captions.image(PNG, "what")
        assert counts(path) == {"billed": 1}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.rename(tmp_path / "moved.jsonl")  # by who makes room: it is still the same file
        client.captions.image(PNG, "what")
        assert counts(tmp_path / "moved.jsonl") == {"billed": 2}


def test_nothing_is_added_to_a_file_of_others(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("buy milk")
    with pytest.raises(ConfigurationError, match="is no file of receipts: nothing is added"):
        Receipts(path)
    assert path.read_text() == "buy milk"


def test_what_is_certain_is_not_taken_back_by_a_copy_of_an_older_line(tmp_path: Path) -> None:
    certain = [{}, {"status": "billed"}, {}]
    assert counts(written(tmp_path / "a", *certain)) == {"billed": 1}
    assert counts(written(tmp_path / "b", *certain, {"id": "b"})) == {
        "billed": 1,
        "perhaps billed": 1,
    }
    assert counts(written(tmp_path / "c", {}, {"status": "not billed"}, {})) == {}


@pytest.mark.parametrize(
    ("time", "day"),
    [
        ("2026-11-21T23:59:59.999+00:00", "2026-11-21"),
        ("2026-11-21T23:59:59.999-05:00", "2026-11-22"),
        ("2026-11-22T00:30:00+01:00", "2026-11-21"),
        ("2026-11-21T23:59:59", "2026-11-21"),
        ("9999-12-31T23:00:00-05:00", None),
        ("0001-01-01T00:00:00+05:00", None),
    ],
)
def test_days_are_by_utc_wherever_the_machine_is(
    time: str, day: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    clock.tzset()
    try:
        path = written(tmp_path / "a", {"time": time}, {"id": "b"})
        days = [total.day for total in totals(read_receipts(path))]
    finally:
        monkeypatch.undo()
        clock.tzset()
    assert days == sorted({day or "2026-11-21", "2026-11-21"}), "what is no day is no receipt"


def test_sums_do_not_go_by_the_application_s_decimal_context(tmp_path: Path) -> None:
    entries = [{"id": str(number), "operation": "library.search"} for number in range(1234)]
    with localcontext(prec=2):
        [total] = totals(read_receipts(written(tmp_path / "a", *entries)))
    assert total.dollars == Decimal("0.1234")


@pytest.mark.parametrize("content", ["hello\n", "[1, 2]\n", '{"id": 5}\n', "\x00\n", '"x"\n'])
def test_what_is_no_file_of_receipts(content: str, tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="is no file of receipts"):
        read_receipts(path)


@pytest.mark.skipif(os.name != "posix", reason="Windows has neither by name")
def test_what_may_never_end_is_not_read_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memories_async._lines.LONGEST", 1000)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        with pytest.raises(ConfigurationError, match=r"no regular file|more than"):
            read_receipts(tmp_path / name)
    (tmp_path / "long").write_bytes(bytes(1001))
    with pytest.raises(ConfigurationError, match="has a line of more than"):
        read_receipts(tmp_path / "long")


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="descriptors have no names here")
def test_a_pipe_that_the_process_holds_is_read(tmp_path: Path) -> None:
    """What the shell's ``<(...)`` names, also when its writer has ended."""
    entry = {"id": "1", "time": "2026-11-21T23:59:00+00:00", "operation": "x", "attempt": 1}
    reading, writing = os.pipe()
    os.write(writing, json.dumps(entry | {"digest": "d", "status": "billed"}).encode())
    os.close(writing)
    try:
        assert [receipt.id for receipt in read_receipts(f"/dev/fd/{reading}")] == ["1"]
    finally:
        os.close(reading)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="receipts cannot be written to"):
        Receipts(tmp_path / "none" / "receipts.jsonl")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="receipts cannot be written to"):
        Receipts(tmp_path / "link")


async def test_a_disk_that_is_full_stops_nobody(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipts = Receipts(tmp_path / "receipts.jsonl")

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    client = stage.client(observers=[receipts])
    await caption(client)
    monkeypatch.setattr("memories_async.observe.receipts.os.write", full)
    await caption(client)
    monkeypatch.undo()
    assert stage.emulator.ledger.billed() == 2


def test_the_command_line_sums_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "receipts.jsonl"
    line = {"time": "2026-11-21T23:59:00+00:00", "attempt": 1, "digest": "d", "status": "billed"}
    lines = [
        line | {"id": "1", "operation": "embeddings.image"},
        line | {"id": "2", "operation": "embeddings.image"},
        line | {"id": "3", "operation": "captions.image", "status": "sent"},
        line | {"id": "4", "operation": "captions.image", "status": "sent"},
        line | {"id": "4", "operation": "captions.image", "status": "not billed"},
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    monkeypatch.setenv("XDG_CONFIG_HOME", os.fspath(tmp_path))
    assert command_line(["audit", str(path), "--json"]) == 0
    out = capsys.readouterr()
    assert [json.loads(row) for row in out.out.splitlines()] == [
        {
            "day": "2026-11-21",
            "operation": "captions.image",
            "status": "perhaps billed",
            "count": 1,
            "dollars": None,
        },
        {
            "day": "2026-11-21",
            "operation": "embeddings.image",
            "status": "billed",
            "count": 2,
            "dollars": 0.0002,
        },
    ]


def of_one_caption(folder: Path) -> list[Receipt]:
    line = {"id": "1", "time": "2026-11-21T23:59:00+00:00", "operation": "captions.image"}
    path = folder / "receipts.jsonl"
    path.write_text(json.dumps(line | {"attempt": 1, "digest": "d", "status": "billed"}) + "\n")
    return read_receipts(path)


@pytest.mark.parametrize("price", [0.01, "0.01", Decimal("0.01")])
def test_totals_take_prices_as_a_budget_does(tmp_path: Path, price: Any) -> None:
    [total] = totals(of_one_caption(tmp_path), prices={"captions.image": price})
    assert total.dollars == Decimal("0.01")


@pytest.mark.parametrize(
    ("prices", "wanted"),
    [
        ({"captions.imge": 1}, r"totals: prices names 'captions\.imge', which is no call"),
        ({"captions.image": "much"}, "is 'much'; a number of dollars from 0 is wanted"),
        ({"captions.image": -1}, "a number of dollars from 0 is wanted"),
        ({"captions.image": float("nan")}, "a number of dollars from 0 is wanted"),
        ([1], "a mapping of calls to dollars is wanted"),
    ],
)
def test_totals_refuse_other_prices_at_once(prices: Any, wanted: str) -> None:
    with pytest.raises(ConfigurationError, match=wanted):
        totals([], prices=prices)


@pytest.mark.parametrize("receipts", [["x"], [None], "receipts.jsonl", None])
def test_totals_are_of_receipts(receipts: Any) -> None:
    with pytest.raises(ConfigurationError, match="receipts"):
        totals(receipts)


@pytest.mark.parametrize("name", ["missing.jsonl", "", "x" * 300])
def test_receipts_that_cannot_be_read_are_an_error_of_the_package(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:  # as where they cannot be written
        read_receipts(f"{tmp_path}/{name}")
    assert str(tmp_path) in str(caught.value)
