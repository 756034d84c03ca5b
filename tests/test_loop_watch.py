"""The watch over the event loop that every test has: it sees what it must, and no more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import pytest

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
    run(lambda: time.sleep(0.03))
    [message] = complaints.messages
    assert message.startswith("Executing ")
    assert "took 0.0" in message


def test_a_callback_that_computes_is_seen(complaints: Complaints) -> None:
    def compute() -> None:
        until = time.thread_time() + 0.03
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
        time.sleep(0.03)
        COLLECTIONS("stop", {})

    run(collect)
    assert complaints.messages == []


def test_a_leap_brings_what_is_due() -> None:
    loop = PatientLoop()
    ended: list[str] = []
    loop.call_later(3000, ended.append, "late")
    loop.call_later(6000, ended.append, "later")
    loop.leap(3000)
    loop.run_until_complete(asyncio.sleep(0))
    assert ended == ["late"]
    loop.close()
