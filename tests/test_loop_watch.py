"""The watch over the event loop that every test has: it sees what it must, and no more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import conftest
from tests.conftest import COLLECTIONS, Complaints, PatientLoop

Turn = Callable[[], object]


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> Complaints:
    """What the watch would fail this test for, were it not taken away."""
    complaints = Complaints()
    monkeypatch.setattr(logging.getLogger("asyncio"), "handlers", [complaints])
    return complaints


def run(turn: Turn) -> None:
    loop = PatientLoop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.02
    try:
        loop.call_soon(turn)
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


def test_a_callback_that_blocks_the_loop_is_seen(complaints: Complaints) -> None:
    run(lambda: time.sleep(0.1))
    [message] = complaints.messages
    assert message.startswith("Executing ")
    assert "took 0." in message


def test_a_callback_that_computes_is_seen(complaints: Complaints) -> None:
    def compute() -> None:
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass

    run(compute)
    assert len(complaints.messages) == 1


def test_an_error_that_nobody_takes_is_seen(complaints: Complaints) -> None:
    run(lambda: 1 / 0)
    [message] = complaints.messages
    assert "Exception in callback" in message


def test_quick_callbacks_are_no_complaint(complaints: Complaints) -> None:
    run(lambda: None)
    assert complaints.messages == []


def test_collecting_garbage_is_no_complaint(complaints: Complaints) -> None:
    def collect() -> None:
        COLLECTIONS("start", {})
        time.sleep(0.1)
        COLLECTIONS("stop", {})

    run(collect)
    assert complaints.messages == []


@pytest.fixture
def statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What Linux says of the one thread that there is."""
    monkeypatch.setattr(conftest, "THREADS", str(tmp_path))
    monkeypatch.setattr(conftest, "THREADS_ARE_TOLD", True)
    (tmp_path / "1").mkdir()
    written = tmp_path / "1" / "schedstat"
    written.write_text("5 0 1\n")
    return written


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the monotonic clock says."""
    now = [1000.0]
    monkeypatch.setattr(conftest, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_time_stands_still_while_a_thread_waits_for_a_processor(
    statistics: Path, now: list[float]
) -> None:
    loop = PatientLoop()
    began = loop.time()
    now[0] += 10
    assert loop.time() - began == pytest.approx(10)
    now[0] += 10
    statistics.write_text("5 7000000000 2\n")
    assert loop.time() - began == pytest.approx(13)
    now[0] += 10
    statistics.write_text("5 99000000000 3\n")  # as several threads may wait at once
    assert loop.time() - began == pytest.approx(13)
    now[0] += 10
    assert loop.time() - began == pytest.approx(23)
    loop.close()


def test_a_thread_that_ends_takes_no_time_along(statistics: Path, now: list[float]) -> None:
    loop = PatientLoop()
    began = loop.time()
    statistics.unlink()
    now[0] += 10
    assert loop.time() - began == pytest.approx(10)
    loop.close()


def test_a_leap_brings_what_is_due() -> None:
    loop = PatientLoop()
    ended: list[str] = []
    loop.call_later(3000, ended.append, "late")
    loop.call_later(6000, ended.append, "later")
    loop.leap(3000)
    loop.run_until_complete(asyncio.sleep(0))
    assert ended == ["late"]
    loop.close()
