"""Rows of a Ray dataset: each sent once, paced as one account, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
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
from memories_async.emulator import Cut, Emulator, InjectedFault, Reason
from memories_async.ray import (
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


DRIVER = """
import json, os, sys, ray, ray.data
from memories_async.ray import embed_images
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
rows = json.load(open(sys.argv[1]))
dataset = ray.data.from_items(rows, override_num_blocks=10)
answered = embed_images(dataset, job="driver", concurrency=2).take_all()
print(json.dumps([row["status"] for row in answered]))
"""


def test_a_killed_driver_goes_on(
    cluster: Any, emulator: Emulator, rows: MakeRows, tmp_path: Path
) -> None:
    import json

    emulator.faults.add(InjectedFault(None, None, times=None, latency=0.02, moment="processed"))
    (tmp_path / "rows.json").write_text(json.dumps(rows(200)))
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "rows.json")]
    with subprocess.Popen(command, start_new_session=True) as driver:
        while len(emulator.ledger) < 60:
            time.sleep(0.01)
        os.killpg(driver.pid, signal.SIGKILL)
    time.sleep(1)  # whatever Ray lets die with its driver dies
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
