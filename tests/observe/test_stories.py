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
from memories_async.ray.stories import Story

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


def begin(story: Story) -> None:
    story.tell(CallStarted(call=ELSEWHERE))
    story.tell(AttemptStarted(call=ELSEWHERE, attempt=1))


def test_a_call_is_told_once_and_under_a_number_of_ours(tmp_path: Path) -> None:
    listener, receipts = Listener(), Receipts(tmp_path / "receipts")
    for _ in range(2):  # of two workers, each with a call of the same number
        story = Story([listener, receipts])
        begin(story)
        story.leaving()
        story.leaving()
        story.tell(RequestLeaving(call=ELSEWHERE, attempt=1, digest="abc"))
        story.tell(Charged(call=ELSEWHERE, attempt=1, certainty="billed", digest="abc"))
        story.tell(ended())
        story.tell(CallEnded(call=ELSEWHERE, attempts=1, seconds=0.1, error=None))
        story.break_off("NothingMore")
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
    story = Story([listener, receipts])
    begin(story)
    if left:
        story.leaving()
    story.break_off("OutcomeUnknown")
    said = [type(event).__name__ for event in listener.events[2:]]
    money = ["RequestLeaving", "Charged"] if left else []
    assert said == [*money, "AttemptEnded", "CallEnded"]
    kept = read_receipts(tmp_path / "receipts")
    assert [receipt.status for receipt in kept] == ["perhaps billed"] * left


def test_a_free_call_of_a_worker_that_dies_costs_nothing(tmp_path: Path) -> None:
    listener, receipts = Listener(), Receipts(tmp_path / "receipts")
    story = Story([listener, receipts])
    free = attrs.evolve(ELSEWHERE, operation="library.video", row="get_video", billable=False)
    story.tell(CallStarted(call=free))
    story.tell(AttemptStarted(call=free, attempt=1))
    story.leaving()
    story.break_off("OutcomeUnknown")
    said = [type(event).__name__ for event in listener.events[2:]]
    assert said == ["RequestLeaving", "AttemptEnded", "CallEnded"]
    assert list(read_receipts(tmp_path / "receipts")) == []


def test_a_worker_killed_with_everybody_is_in_the_file_before_its_first_byte(
    tmp_path: Path,
) -> None:
    story = Story([Receipts(tmp_path / "receipts")])
    begin(story)
    story.leaving()
    assert [receipt.status for receipt in read_receipts(tmp_path / "receipts")] == [
        "perhaps billed"
    ]


def test_a_second_attempt_leaves_too() -> None:
    listener = Listener()
    story = Story([listener])
    begin(story)
    story.leaving()
    story.tell(ended())
    story.tell(AttemptStarted(call=ELSEWHERE, attempt=2))
    story.leaving()
    leaving = [event for event in listener.events if isinstance(event, RequestLeaving)]
    assert [event.attempt for event in leaving] == [1, 2]
