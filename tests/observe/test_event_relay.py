"""Calls that a worker elsewhere makes, as the observers here are told of them."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from memories_async.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    Charged,
    Event,
    ObservedCall,
    Receipts,
    RequestLeaving,
    read_receipts,
)
from memories_async.ray.event_relay import EventRelay

ELSEWHERE = ObservedCall(
    number=7,
    operation="embeddings.image",
    row="embed_image",
    method="POST",
    path="/embeddings/image",
    scheme="https",
    host="example.com",
    port=443,
    billable=True,
)


class Listener:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event, /) -> None:
        self.events.append(event)


def ended(attempt: int = 1) -> AttemptEnded:
    return AttemptEnded(
        call=ELSEWHERE,
        attempt=attempt,
        verdict="ok",
        state="SENT",
        status=200,
        code=None,
        sent=10,
        seconds=0.1,
        error=None,
    )


def begin(relay: EventRelay) -> None:
    relay.forward(CallStarted(call=ELSEWHERE))
    relay.forward(AttemptStarted(call=ELSEWHERE, attempt=1))


def test_a_call_is_told_once_and_under_a_number_of_ours(tmp_path: Path) -> None:
    listener, receipts = Listener(), Receipts(tmp_path / "receipts")
    for _ in range(2):  # of two workers, each with a call of the same number
        relay = EventRelay([listener, receipts])
        begin(relay)
        relay.request_leaving()
        relay.request_leaving()
        relay.forward(RequestLeaving(call=ELSEWHERE, attempt=1, digest="abc"))
        relay.forward(Charged(call=ELSEWHERE, attempt=1, certainty="billed", digest="abc"))
        relay.forward(ended())
        relay.forward(CallEnded(call=ELSEWHERE, attempts=1, seconds=0.1, error=None))
        relay.abort("NothingMore")
    first, second = listener.events[:6], listener.events[6:]
    kinds = [CallStarted, AttemptStarted, RequestLeaving, Charged, AttemptEnded, CallEnded]
    assert [type(event) for event in first] == [type(event) for event in second] == kinds
    numbers = [{event.call.number for event in events} for events in (first, second)]
    assert [len(of_one) for of_one in numbers] == [1, 1]
    assert numbers[0] != numbers[1]
    kept = read_receipts(tmp_path / "receipts")
    assert [(receipt.status, receipt.digest) for receipt in kept] == [("billed", "abc")] * 2


@pytest.mark.parametrize("left", [True, False])
def test_a_worker_that_dies_ends_its_call(left: bool, tmp_path: Path) -> None:
    listener, receipts = Listener(), Receipts(tmp_path / "receipts")
    relay = EventRelay([listener, receipts])
    begin(relay)
    if left:
        relay.request_leaving()
    relay.abort("OutcomeUnknown")
    said = [type(event).__name__ for event in listener.events[2:]]
    money = ["RequestLeaving", "Charged"] if left else []
    assert said == [*money, "AttemptEnded", "CallEnded"]
    kept = read_receipts(tmp_path / "receipts")
    assert [receipt.status for receipt in kept] == ["perhaps billed"] * left


def test_a_free_call_of_a_worker_that_dies_costs_nothing(tmp_path: Path) -> None:
    listener, receipts = Listener(), Receipts(tmp_path / "receipts")
    relay = EventRelay([listener, receipts])
    free = attrs.evolve(ELSEWHERE, operation="library.video", row="get_video", billable=False)
    relay.forward(CallStarted(call=free))
    relay.forward(AttemptStarted(call=free, attempt=1))
    relay.request_leaving()
    relay.abort("OutcomeUnknown")
    said = [type(event).__name__ for event in listener.events[2:]]
    assert said == ["RequestLeaving", "AttemptEnded", "CallEnded"]
    assert list(read_receipts(tmp_path / "receipts")) == []


def test_a_worker_killed_with_everybody_is_in_the_file_before_its_first_byte(
    tmp_path: Path,
) -> None:
    relay = EventRelay([Receipts(tmp_path / "receipts")])
    begin(relay)
    relay.request_leaving()
    assert [receipt.status for receipt in read_receipts(tmp_path / "receipts")] == [
        "perhaps billed"
    ]


def test_a_second_attempt_leaves_too() -> None:
    listener = Listener()
    relay = EventRelay([listener])
    begin(relay)
    relay.request_leaving()
    relay.forward(ended())
    relay.forward(AttemptStarted(call=ELSEWHERE, attempt=2))
    relay.request_leaving()
    leaving = [event for event in listener.events if isinstance(event, RequestLeaving)]
    assert [event.attempt for event in leaving] == [1, 2]
