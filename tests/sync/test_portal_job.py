"""The blocking job lives and ends as the blocking client does: in threads, forks and at Ctrl-C."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from memories_async.emulator import Emulator
from tests.sync.conftest import PNG, Child
from tests.sync.test_portal_endings import AT_EXIT

ITEMS = 30
ALL_DONE = f"{ITEMS} done, 0 unknown, 0 planned"


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_FOLDER", str(tmp_path))
    (tmp_path / "pictures").mkdir()
    for number in range(ITEMS):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(PNG + bytes([number]))


@pytest.mark.parametrize(
    ("program", "thread"), [("run_a_job", "MainThread"), ("run_a_job_in_a_thread", "worker")]
)
def test_a_job_runs_and_tells_the_thread_that_runs_it(
    emulator: Emulator, program: str, thread: str
) -> None:
    with Child(program, emulator.url) as child:
        assert child.listen() == f"{ALL_DONE} {thread}"
        assert child.listen() == f"{ITEMS} items, {ITEMS} exported"
        assert child.listen() == "leaving"
        assert child.end(AT_EXIT) == (0, "")
    assert emulator.ledger.billed() == ITEMS


def test_the_first_ctrl_c_lets_the_calls_in_flight_end(emulator: Emulator) -> None:
    emulator.latency = 0.05
    with Child("run_a_job_until_ctrl_c", emulator.url) as child:
        for _ in range(8):
            child.listen()
        emulator.latency = 0.5  # seconds until all are done, however late the signal comes
        child.process.send_signal(signal.SIGINT)
        while not (line := child.listen()).startswith("interrupted"):
            assert line
        assert child.listen() == "leaving"
        assert child.end(AT_EXIT) == (0, "")
    done = emulator.ledger.billed()
    assert 0 < done < ITEMS
    assert line == f"interrupted: {done} done, 0 unknown, {ITEMS - done} planned noted"


def test_a_job_is_stopped_from_another_thread(emulator: Emulator) -> None:
    emulator.latency = 0.3
    with Child("stop_a_job_from_another_thread", emulator.url) as child:
        assert child.listen() == "begun"
        child.say("stop")
        line = child.listen()
        assert child.listen() == "leaving"
        assert child.end(AT_EXIT) == (0, "")
    done = emulator.ledger.billed()
    assert line == f"interrupted {done} done, 0 unknown, {ITEMS - done} planned"


def test_a_job_that_was_opened_before_a_fork(emulator: Emulator) -> None:
    with Child("fork_with_a_job", emulator.url) as child:
        lines = [child.listen() for _ in range(6)]
        assert child.end(AT_EXIT) == (0, "")
    assert lines == [
        f"parent 0 done, 0 unknown, {ITEMS} planned",
        f"child 0 done, 0 unknown, {ITEMS} planned",
        f"child {ALL_DONE}",
        "child ended with 0",
        f"parent {ALL_DONE}",
        "leaving",
    ]
    assert emulator.ledger.billed() == ITEMS


def test_a_job_that_nobody_closes_ends_with_the_interpreter(emulator: Emulator) -> None:
    with Child("leave_a_job_unclosed", emulator.url) as child:
        assert [child.listen(), child.listen()] == [ALL_DONE, "leaving"]
        assert child.end(AT_EXIT) == (0, "")
