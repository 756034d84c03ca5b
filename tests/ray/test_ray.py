"""Rows of a Ray dataset: each sent once, paced as one account, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from memories_async import Bucket, ConfigurationError, Rate
from memories_async.bulk import SqliteLedger, Status
from memories_async.bulk.ledger import Begun, Totals
from memories_async.emulator import Cut, Emulator, InjectedFault, Reason
from memories_async.ray import (
    RayLedger,
    add_images,
    add_videos,
    caption_images,
    caption_videos,
    embed_images,
    report,
    results,
)
from tests.bulk.ledgers import PNG
from tests.media.containers import mp4
from tests.ray.conftest import MakeRows, processes

pytestmark = [
    pytest.mark.slow,
    # Ray and what it brings warn of themselves, and leave sockets to the interpreter's end.
    pytest.mark.filterwarnings("ignore"),
]

WORKER = b"MapWorker(MapBatches(RowWorker))"
LEDGER = b"ray::_LedgerActor"
LIMITER = b"ray::_LimiterActor"


def billed(emulator: Emulator) -> Counter[str]:
    return Counter(entry.files[0].sha256 for entry in emulator.ledger if entry.billed)


def dataset(ray: Any, rows: list[dict[str, Any]], blocks: int = 4) -> Any:
    return ray.data.from_items(rows, override_num_blocks=blocks)


def test_columns_pass_through_and_vectors_are_fixed(
    cluster: Any, emulator: Emulator, rows: MakeRows
) -> None:
    import pyarrow

    made = [*rows(20), {"path": "/no/such.png", "number": 99}]
    embedded = embed_images(dataset(cluster, made), job="columns", concurrency=2).materialize()
    [table] = [pyarrow.concat_tables(cluster.get(embedded.to_arrow_refs()))]
    assert table.schema.field("vector").type == pyarrow.list_(pyarrow.float32(), 1408)
    answered = {row["number"]: row for row in table.to_pylist()}
    assert set(answered) == {*range(20), 99}
    assert answered[99]["status"] == "failed"
    assert answered[99]["vector"] is None
    assert "no such" in answered[99]["error"].lower() or "cannot be read" in answered[99]["error"]
    assert answered[3]["status"] == "done"
    assert len(answered[3]["vector"]) == 1408
    assert answered[3]["attempts"] == 1
    again = embed_images(dataset(cluster, made), job="columns", concurrency=1).take_all()
    assert {row["replayed"] for row in again if row["status"] == "done"} == {True}
    assert emulator.ledger.billed() == 20
    assert report("columns").done == 20
    assert {entry.status for _, entry in results("columns")} == {Status.DONE}
    assert {key for key, _ in results("columns")} >= {answered[3]["key"]}


def test_arrow_s_types_and_what_is_no_picture(cluster: Any, emulator: Emulator) -> None:
    import pyarrow

    contents = [PNG + b"arrow 1", PNG + b"arrow 2", None]
    large = pyarrow.array(contents, pyarrow.large_binary())
    coded = pyarrow.array(contents, pyarrow.binary()).dictionary_encode()
    listed = pyarrow.array([[content] for content in contents], pyarrow.list_(pyarrow.binary()))
    for name, column, done in (("large", large, 2), ("coded", coded, 2), ("listed", listed, 0)):
        table = pyarrow.table({"content": column, "error": [name] * 3})
        rows = embed_images(
            cluster.data.from_arrow(table), source="content", job="arrow", concurrency=1
        ).take_all()
        assert Counter(row["status"] for row in rows) == Counter(done=done, failed=3 - done)
        assert all((row["error"] is None) == (row["status"] == "done") for row in rows)
    assert emulator.ledger.billed() == 2


def test_another_size_of_vector_fails_no_other_row(
    cluster: Any, emulator: Emulator, rows: MakeRows
) -> None:
    answered = embed_images(
        dataset(cluster, rows(2), 1), job="sizes", dimensions=7, concurrency=1
    ).take_all()
    assert [row["vector"] for row in answered] == [None, None]
    assert all("1408 numbers" in row["error"] for row in answered)
    assert report("sizes").done == 2


def test_an_acknowledged_begin_outlives_its_actor(cluster: Any, emulator: Emulator) -> None:
    async def across_a_kill() -> None:
        ledger = RayLedger("killed actor")
        said, _ = await ledger.begin("a", "one")
        assert said is Begun.SEND
        actors = processes(LEDGER)
        assert actors
        for actor in actors:
            os.kill(actor, signal.SIGKILL)
        assert (await RayLedger("killed actor").begin("a", "two"))[0] is Begun.UNKNOWN
        assert await ledger.totals() == Totals(unknown=1)

    asyncio.run(across_a_kill())


def test_every_kind(cluster: Any, emulator: Emulator, tmp_path: Path) -> None:
    picture, film = tmp_path / "a.png", tmp_path / "a.mp4"
    picture.write_bytes(PNG + b"every kind")
    film.write_bytes(mp4(2))
    pictures = dataset(cluster, [{"path": str(picture)}], 1)
    contents = dataset(cluster, [{"content": picture.read_bytes()}], 1)
    films = dataset(cluster, [{"path": f"file://{film}"}], 1)
    [captioned] = caption_images(pictures, "What?", job="captions", concurrency=1).take_all()
    assert captioned["text"]
    assert captioned["output_tokens"] is not None
    [added] = add_images(contents, source="content", job="images", concurrency=1).take_all()
    assert added["image_id"] > 2**53
    [video] = add_videos(films, job="videos", tags=["sea"], concurrency=1).take_all()
    assert video["video_no"].startswith("VI"), video["error"]
    [told] = caption_videos(films, "What?", job="films", concurrency=1).take_all()
    assert told["text"], told["error"]
    assert emulator.ledger.billed() == 4


def test_the_account_s_limit_holds_for_all_workers(
    cluster: Any, emulator: Emulator, rows: MakeRows
) -> None:
    rate = Rate(20)
    embed_images(
        dataset(cluster, rows(100)),
        job="paced",
        concurrency=3,
        rates={Bucket.EMBEDDING: rate},
    ).materialize()
    moments = sorted(entry.started_at for entry in emulator.ledger)
    assert len(moments) == 100
    for first, last in zip(moments, moments[rate.calls :], strict=False):
        assert last - first >= rate.seconds


def test_a_budget_for_all_workers(cluster: Any, emulator: Emulator, rows: MakeRows) -> None:
    answered = embed_images(
        dataset(cluster, rows(40)), job="budget", concurrency=3, max_cost="0.001"
    ).take_all()
    assert Counter(row["status"] for row in answered) == {"done": 10, "planned": 30}
    assert emulator.ledger.billed() == 10


def test_lost_answers_and_throttling(cluster: Any, emulator: Emulator, rows: MakeRows) -> None:
    emulator.faults.add(InjectedFault(None, Cut(), nth=3, times=2, moment="processed"))
    emulator.faults.add(InjectedFault(None, Reason.THROTTLED, nth=10, times=3))
    made = rows(30)
    answered = embed_images(dataset(cluster, made), job="lost", concurrency=2).take_all()
    assert Counter(row["status"] for row in answered) == {"done": 28, "unknown": 2}
    again = embed_images(dataset(cluster, made), job="lost", concurrency=2).take_all()
    assert Counter(row["status"] for row in again) == {"done": 28, "unknown": 2}
    assert max(billed(emulator).values()) == 1


class Killer(threading.Thread):
    """Kills a worker now and then, while there is something to send."""

    def __init__(self, emulator: Emulator, kills: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.killed = 0
        self._emulator = emulator
        self._chance = random.Random(seed)
        # Kill when so many requests have been seen: that is neither before nor after the work.
        self._at = sorted(self._chance.sample(range(20, 450), kills))

    def run(self) -> None:
        for count in self._at:
            while len(self._emulator.ledger) < count:
                time.sleep(0.01)
            if found := processes(WORKER):
                os.kill(self._chance.choice(found), signal.SIGKILL)
                self.killed += 1


@pytest.mark.parametrize("seed", range(int(os.environ.get("RAY_RUNS", "2"))))
def test_killed_workers_cost_nothing_twice(
    cluster: Any, emulator: Emulator, rows: MakeRows, seed: int
) -> None:
    emulator.faults.add(InjectedFault(None, None, times=None, latency=0.02, moment="processed"))
    made, job, rate = rows(500), f"killed {seed} {time.time_ns()}", Rate(50)

    def run() -> list[dict[str, Any]]:
        return embed_images(
            dataset(cluster, made, 20), job=job, concurrency=3, rates={Bucket.EMBEDDING: rate}
        ).take_all()

    killer = Killer(emulator, kills=4, seed=seed)
    began = time.monotonic()
    killer.start()
    answered = run()
    killer.join(timeout=30)
    seconds = time.monotonic() - began
    statuses = Counter(row["status"] for row in answered)
    moments = sorted(entry.started_at for entry in emulator.ledger)
    paid = billed(emulator)
    again = Counter(row["status"] for row in run())
    sent_again = len(emulator.ledger) - len(moments)
    print(
        f"seed {seed}: {seconds:.0f} s, {killer.killed} killed, {statuses['done']} done, "
        f"{statuses['unknown']} unknown, {paid.total()} billed, "
        f"{sum(times > 1 for times in paid.values())} twice, "
        f"{500 - statuses['done'] - statuses['unknown']} lost; second run: "
        f"{sent_again} requests, {again['done']} done, {again['unknown']} unknown"
    )
    assert killer.killed, "nobody was killed"
    assert max(paid.values()) == 1, "billed twice"
    assert statuses["done"] + statuses["unknown"] == 500, statuses
    assert statuses["unknown"] <= killer.killed * 4, "more than were under way"
    for first, last in zip(moments, moments[rate.calls :], strict=False):
        assert last - first >= rate.seconds, "faster than the account's limit"
    assert again["done"] >= statuses["done"]
    assert again["done"] + again["unknown"] == 500
    assert not sent_again, "what was done or unknown was sent again"


def test_killed_actors_lose_nothing(cluster: Any, emulator: Emulator, rows: MakeRows) -> None:
    """The one that remembers and the one that counts are killed while rows are sent."""
    made, rate = rows(120), Rate(20)

    def kill() -> None:
        for count, title in ((30, LEDGER), (60, LIMITER), (90, LEDGER)):
            while len(emulator.ledger) < count:
                time.sleep(0.01)
            for actor in processes(title):
                os.kill(actor, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    answered = embed_images(
        dataset(cluster, made),
        job="killed actors",
        concurrency=3,
        rates={Bucket.EMBEDDING: rate},
    ).take_all()
    killer.join(timeout=30)
    assert not killer.is_alive()
    assert Counter(row["status"] for row in answered) == {"done": 120}
    assert set(billed(emulator).values()) == {1}
    moments = sorted(entry.started_at for entry in emulator.ledger)
    for first, last in zip(moments, moments[rate.calls :], strict=False):
        assert last - first >= rate.seconds


def test_two_drivers_with_one_job_at_once(
    cluster: Any, emulator: Emulator, rows: MakeRows, tmp_path: Path
) -> None:
    """One pays, the other is given the answer, or told that it is under way."""
    (tmp_path / "rows.json").write_text(json.dumps(rows(80)))
    address = cluster.get_runtime_context().gcs_address
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "rows.json"), "together", address]
    drivers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for driver in drivers:
        output = driver.communicate(timeout=180)[0]
        statuses = Counter(json.loads(output.splitlines()[-1]))
        assert statuses["done"] + statuses["unknown"] == 80, statuses
    assert set(billed(emulator).values()) == {1}
    assert emulator.ledger.billed() == report("together").done == 80


DRIVER = """
import json, os, sys, ray, ray.data
from memories_async.ray import embed_images
where = {"address": sys.argv[3]} if sys.argv[3:] else {"num_cpus": 2, "include_dashboard": False}
ray.init(log_to_driver=False, logging_level="ERROR", **where)
print(ray.get_runtime_context().gcs_address, flush=True)
rows = json.load(open(sys.argv[1]))
dataset = ray.data.from_items(rows, override_num_blocks=10)
answered = embed_images(dataset, job=sys.argv[2], concurrency=2).take_all()
print(json.dumps([row["status"] for row in answered]))
"""


def test_a_killed_driver_goes_on(
    cluster: Any, emulator: Emulator, rows: MakeRows, tmp_path: Path
) -> None:
    emulator.faults.add(InjectedFault(None, None, times=None, latency=0.02, moment="processed"))
    (tmp_path / "rows.json").write_text(json.dumps(rows(200)))
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "rows.json"), "driver"]
    with subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        address = driver.stdout.readline().strip()
        while len(emulator.ledger) < 60:
            time.sleep(0.01)
        os.killpg(driver.pid, signal.SIGKILL)
    while processes(address.encode()):  # its head and its workers die with it
        time.sleep(0.05)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    statuses = Counter(json.loads(done.stdout.splitlines()[-1]))
    assert statuses["done"] + statuses["unknown"] == 200
    assert max(billed(emulator).values()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"job": ""},
        {"job": "a/b"},
        {"job": "a", "concurrency": 0},
        {"job": "a", "in_flight": 0},
        {"job": "a", "max_cost": "much"},
        {"job": "a", "model": "another"},
        {"job": "a", "source": "status"},
        {"job": "a", "source": "vector"},
    ],
)
def test_wrong_arguments_are_told_before_anything_runs(cluster: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        embed_images(cluster.data.from_items([{"path": "a.png"}]), **wrong)


def test_the_ledger_s_file_can_be_read_without_ray(
    cluster: Any, emulator: Emulator, rows: MakeRows, state: Path
) -> None:
    embed_images(dataset(cluster, rows(3), 1), job="plain", concurrency=1).materialize()

    async def read() -> int:
        ledger = SqliteLedger(state / "memories-async" / "ray" / "plain.ledger")
        totals = await ledger.totals()
        await ledger.aclose()
        return totals.done

    assert asyncio.run(read()) == 3
