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

from memories_async.emulator import Emulator, InjectedFault, Reason
from tests.bulk.ledgers import PNG
from tests.ray.conftest import MakeRows, processes

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

WORKER = b"ray::_Caller"


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
    status, printed, said = ended(command(emulator, home, "embed", folder, "--ray", "--json"))
    assert status == 1, said  # one of them is no image
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
