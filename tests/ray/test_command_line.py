"""``--ray``: a job like any other, its calls made by the workers of a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from memories_async.emulator import Emulator, Hang, InjectedFault, Reason
from memories_async.observe import read_receipts
from tests.bulk.ledgers import PNG
from tests.ray.conftest import MakeRows, processes

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

WORKER = b"ray::CallerActor"
KILLED_AT = (15, 40)
"""The requests during which workers are killed."""


def command(emulator: Emulator, home: Path, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {
        # Not HOME: it has the token by which Ray lets its own user in.
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "MEMORIES_API_KEY": "key",
        "MEMORIES_CAPTION_KEY": "caption",
        "MEMORIES_BASE_URL": emulator.url,
        "PYTHONPATH": os.getcwd(),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "memories_async", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]], str]:
    """Return a command's exit status, its rows and what it said."""
    output, said = process.communicate(timeout=180)
    return process.returncode, [json.loads(line) for line in output.splitlines()], said


def billed(emulator: Emulator) -> Counter[str]:
    return Counter(entry.files[0].sha256 for entry in emulator.ledger if entry.billed)


def test_a_job_like_any_other(emulator: Emulator, rows: MakeRows, tmp_path: Path) -> None:
    folder = Path(rows(12)[0]["path"]).parent
    (folder / "bad.jpg").write_bytes(b"nothing")
    emulator.faults.add(InjectedFault(None, Reason.THROTTLED, nth=3, times=1))
    home = tmp_path / "home"
    asked = ("embed", folder, "--ray", "--json", "--verbose")
    status, printed, said = ended(command(emulator, home, *asked))
    assert status == 1, said  # one of them is no image
    # What the calls do there is said here.
    assert said.count(": attempt 1\n") == 12, said
    assert said.count(": attempt 2\n") == 1, said
    assert said.count(": throttled: ") == 1, said
    assert said.count(": billed\n") == 12, said
    assert Counter(row["status"] for row in printed) == {"done": 12, "failed": 1}
    assert {len(row["vector"]) for row in printed if row["status"] == "done"} == {1408}
    assert emulator.ledger.billed() == 12
    # The same without a cluster finds the same job, and so do all other commands.
    again, found, _ = ended(command(emulator, home, "embed", folder, "--json"))
    assert again == 1
    assert sorted(row["id"] for row in found) == sorted(row["id"] for row in printed)
    [job] = ended(command(emulator, home, "jobs", "list", "--json"))[1]
    table = tmp_path / "vectors.jsonl"
    assert ended(command(emulator, home, "jobs", "export", job["job"], table))[0] == 0
    exported = [json.loads(line) for line in table.read_text().splitlines()]
    assert Counter(row["status"] for row in exported) == {"done": 12, "failed": 1}
    assert emulator.ledger.billed() == 12


def test_a_budget_on_a_cluster_that_is_there(
    cluster: Any, emulator: Emulator, rows: MakeRows, tmp_path: Path
) -> None:
    folder = Path(rows(9)[0]["path"]).parent
    address = cluster.get_runtime_context().gcs_address
    asked = ("embed", folder, "--ray", address, "--json", "--max-cost", "0.0004", "--rate", "50")
    status, printed, said = ended(command(emulator, tmp_path / "home", *asked))
    assert status == 5, said
    assert [row["status"] for row in printed] == ["done"] * 4
    assert emulator.ledger.billed() == 4
    [job] = ended(command(emulator, tmp_path / "home", "jobs", "list", "--json"))[1]
    resumed = ("jobs", "resume", job["job"], "--ray", address, "--json")
    status, printed, said = ended(command(emulator, tmp_path / "home", *resumed))
    assert (status, len(printed)) == (0, 9), said
    assert set(billed(emulator).values()) == {1}


def test_another_account_is_refused(
    cluster: Any, emulator: Emulator, rows: MakeRows, tmp_path: Path
) -> None:
    folder = Path(rows(1)[0]["path"]).parent
    address = cluster.get_runtime_context().gcs_address
    asked = ("embed", folder, "--ray", address)
    environment = {"MEMORIES_API_KEY": "somebody-elses"}
    said = subprocess.run(
        [sys.executable, "-m", "memories_async", *map(str, asked)],
        env=os.environ | environment | {"XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2, said.stderr
    assert "another key" in said.stderr
    assert "somebody" not in said.stderr
    assert not list(emulator.ledger)


def test_other_kinds(cluster: Any, emulator: Emulator, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(PNG + b"kinds %d" % number)
    address = cluster.get_runtime_context().gcs_address
    home = tmp_path / "home"
    asked = ("caption", folder, "--as", "image", "-p", "What?", "--ray", address, "--json")
    status, printed, said = ended(command(emulator, home, *asked))
    assert (status, len(printed)) == (0, 3), said
    assert all(row["text"] for row in printed)
    asked = ("index", folder, "--as", "image", "--tag", "sea", "--ray", address, "--json")
    status, printed, said = ended(command(emulator, home, *asked))
    assert (status, len(printed)) == (0, 3), said
    assert all(row["image_id"] > 2**53 for row in printed)


def test_killed_workers_cost_nothing_twice(
    emulator: Emulator, rows: MakeRows, tmp_path: Path
) -> None:
    emulator.faults.add(InjectedFault(None, None, times=None, latency=0.05, moment="processed"))
    folder = Path(rows(120)[0]["path"]).parent
    home = tmp_path / "home"
    process = command(emulator, home, "embed", folder, "--ray", "--json", "--concurrency", 6)
    killed = 0
    for count in (20, 60, 90):
        while len(emulator.ledger) < count and process.poll() is None:
            time.sleep(0.01)
        for worker in processes(WORKER)[:1]:
            os.kill(worker, signal.SIGKILL)
            killed += 1
    status, printed, said = ended(process)
    statuses = Counter(row["status"] for row in printed)
    assert killed, "nobody was killed"
    assert set(billed(emulator).values()) == {1}, "billed twice"
    assert statuses["done"] + statuses["unknown"] == 120, (statuses, said)
    assert statuses["unknown"] <= killed * 6, "more than were under way"
    assert status == (3 if statuses["unknown"] else 0)
    before = len(emulator.ledger)
    ended(command(emulator, home, "embed", folder, "--ray", "--json"))
    assert len(emulator.ledger) == before, "what was done or unknown was sent again"


RECEIPTS = """
import asyncio, json, os, sys
from memories_async import Memories
from memories_async.bulk import Job
from memories_async.observe import Receipts
from memories_async.ray.caller import ACCOUNT_VARIABLES
from memories_async.ray.cluster import cluster_of
async def main(folder, place, receipts):
    account = {name: os.environ[name] for name in ACCOUNT_VARIABLES}
    heard = Receipts(receipts)
    async with Memories() as client, await Job.create(place, "embed_images", [folder]) as job:
        async with cluster_of(client, account, workers=2, observers=[heard]) as there:
            report = await job.run(there, concurrency=4)
    counts = report.counts
    print(json.dumps([report.requests, counts.done, counts.unknown]))
asyncio.run(main(*sys.argv[1:]))
"""


def test_receipts_hear_of_every_call_on_workers_that_are_killed(
    emulator: Emulator, rows: MakeRows, tmp_path: Path
) -> None:
    for count in KILLED_AT:  # of the first fault that is due for a request each
        emulator.faults.add(InjectedFault(None, Hang(), nth=count, moment="processed"))
    emulator.faults.add(InjectedFault(None, None, times=None, latency=0.05, moment="processed"))
    folder = Path(rows(60)[0]["path"]).parent
    environment = os.environ | {
        "MEMORIES_API_KEY": "key",
        "MEMORIES_CAPTION_KEY": "caption",
        "MEMORIES_BASE_URL": emulator.url,
        "PYTHONPATH": os.getcwd(),
    }
    place, receipts = tmp_path / "job", tmp_path / "receipts"
    command = [sys.executable, "-c", RECEIPTS, str(folder), str(place), str(receipts)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for count in KILLED_AT:  # whose answer one of the workers waits for
            while len(emulator.ledger) < count and process.poll() is None:
                time.sleep(0.01)
            for worker in processes(WORKER):
                os.kill(worker, signal.SIGKILL)
        output = process.communicate(timeout=180)[0]
    requests, done, unknown = json.loads(output.splitlines()[-1])
    kept = Counter(receipt.status for receipt in read_receipts(receipts))
    assert done + unknown == requests == 60
    assert unknown, "nobody was killed while a call was under way"
    # A worker may be killed between what it says of the bill and its answer.
    assert kept["billed"] >= done
    assert kept["billed"] + kept["perhaps billed"] == requests
    assert set(billed(emulator).values()) == {1}


def test_the_first_signal_lets_what_is_in_flight_end(
    emulator: Emulator, rows: MakeRows, tmp_path: Path
) -> None:
    emulator.faults.add(InjectedFault(None, None, times=None, latency=0.1, moment="processed"))
    folder = Path(rows(100)[0]["path"]).parent
    home = tmp_path / "home"
    process = command(emulator, home, "embed", folder, "--ray", "--json")
    while len(emulator.ledger) < 10 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    status, printed, said = ended(process)
    assert status == 143, said
    assert {row["status"] for row in printed} == {"done"}
    assert len(printed) == emulator.ledger.billed() < 100
    assert ended(command(emulator, home, "embed", folder, "--ray", "--json"))[0] == 0
    assert set(billed(emulator).values()) == {1}
    assert emulator.ledger.billed() == 100
