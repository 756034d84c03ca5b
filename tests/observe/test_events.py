"""Observers: told in order, trusted with nothing, and never in the way."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import attrs
import pytest

from memories_async import Bucket, CallOptions, ConfigurationError, Memories, Rate, RateLimited
from memories_async.emulator import Emulator, Hang, InjectedFault, Reason
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.limiters import MemoryLimiter
from memories_async.observe import Event, Observer, Receipts, Waited, read_receipts
from memories_async.observe.logs import Logging
from memories_async.sync import Memories as BlockingMemories
from tests.engine.raw_server import Conversation, RawServer, answer
from tests.faults.conftest import MP4, PNG, Stage, caption, until
from tests.observe.recorded_events import RecordedEvents

pytestmark = pytest.mark.anyio


class Failing:
    def observe(self, event: Event, /) -> None:
        raise RuntimeError("an observer of no use")


def waits(recorded: RecordedEvents) -> list[tuple[str, float, int]]:
    return [
        (event.reason, event.seconds, event.attempt)
        for event in recorded.events
        if isinstance(event, Waited) and event.reason != "connection"
    ]


async def test_several_are_told_alike_and_one_that_fails_harms_nobody(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    first, last = RecordedEvents(), RecordedEvents()
    client = stage.client(observers=[first, Failing(), last])
    await caption(client)
    assert first.events == last.events
    assert first.summary()[-1] == "ended ok 1"
    assert {record.message for record in caplog.records if record.levelno >= logging.ERROR} == {
        "an observer failed: Failing"
    }


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), RuntimeError()])
@pytest.mark.parametrize(
    "told", ["CallStarted", "AttemptStarted", "RequestLeaving", "Charged", "AttemptEnded"]
)
async def test_what_an_observer_raises_costs_no_answer(
    error: BaseException, told: str, stage: Stage
) -> None:
    class Raising:
        def observe(self, event: Event, /) -> None:
            if type(event).__name__ == told:
                raise error

    def broken(record: logging.LogRecord) -> bool:
        raise ValueError("a filter of no use")

    logger = logging.getLogger("memories_async")
    logger.addFilter(broken)
    try:
        result = await caption(stage.client(observers=[Raising(), stage.recorded]))
    finally:
        logger.removeFilter(broken)
    assert result.text
    assert stage.recorded.summary()[-1] == "ended ok 1"


async def test_one_that_is_given_twice_is_told_once(stage: Stage) -> None:
    options = CallOptions(observers=[stage.recorded, stage.recorded])
    client = stage.client(observers=[stage.recorded, stage.recorded], options=options)
    await caption(client, options)
    await caption(stage.client(observers=[stage.recorded, stage.recorded]))
    assert stage.recorded.summary().count("started") == 2
    await stage.saw(requests=2, billed=2)


async def test_a_request_whose_connection_dies_at_the_last_moment_leaves_once(
    tmp_path: Path,
) -> None:
    """The connection is given up after the caller's last step, and another one is made."""
    path = tmp_path / "receipts.jsonl"
    recorded = RecordedEvents()
    closed = asyncio.Event()

    async def serve(conversation: Conversation) -> None:
        if conversation.number > 1:
            await conversation.request()
            await conversation.send_and_be_heard(answer({"text": "a picture"}))
            return
        conversation.writer.close()
        await conversation.writer.wait_closed()
        closed.set()

    async def before_sending() -> None:
        await closed.wait()
        for _ in range(10):  # rounds of the loop in which the client sees it
            await asyncio.sleep(0)

    async with (
        RawServer(serve) as server,
        Memories(
            "k", caption_key="k", base_url=server.url, observers=[recorded, Receipts(path)]
        ) as client,
    ):
        await caption(client, CallOptions(before_sending=before_sending))
        assert server.connections == 2
    assert recorded.summary() == ["started", "attempt 1", "leaving", *recorded.summary()[3:]]
    recorded.check()
    assert [receipt.status for receipt in read_receipts(path)] == ["billed"]


async def test_waits_for_the_limiter_a_pause_and_a_retry(stage: Stage, closed_port: int) -> None:
    rates = {Bucket.CAPTION_IMAGE: Rate(1, 10)}
    client = stage.client(rates=rates, limiter=MemoryLimiter())
    await caption(client)
    await caption(client)
    assert [reason for reason, _, _ in waits(stage.recorded)] == ["limiter", "limiter"]
    assert sum(seconds for _, seconds, _ in waits(stage.recorded)) == pytest.approx(10.1, abs=0.2)
    stage.recorded.events.clear()
    stage.emulator.faults.add(InjectedFault(None, Reason.THROTTLED))
    await client.embeddings.image(PNG)
    assert [(reason, attempt) for reason, _, attempt in waits(stage.recorded)] == [("pause", 2)]
    stage.recorded.events.clear()
    nowhere = f"http://127.0.0.1:{closed_port}"
    away = stage.client(base_url=nowhere, options=CallOptions(attempts=2))
    await asyncio.gather(caption(away), return_exceptions=True)
    assert [(reason, attempt) for reason, _, attempt in waits(stage.recorded)] == [("backoff", 2)]


async def test_a_turn_that_comes_too_late_is_no_attempt(stage: Stage) -> None:
    rates = {Bucket.CAPTION_IMAGE: Rate(1, 60)}
    client = stage.client(rates=rates, limiter=MemoryLimiter())
    await caption(client)
    stage.recorded.events.clear()
    with pytest.raises(RateLimited):
        await caption(client, CallOptions(deadline=10))
    assert stage.recorded.summary() == ["started", "ended RateLimited 0"]


@pytest.mark.parametrize("moment", ["body", "processed"])
async def test_a_cancelled_call_is_perhaps_billed_once_it_is_sent(
    moment: str, stage: Stage
) -> None:
    stage.emulator.faults.add(InjectedFault(None, Hang(), moment=moment))  # type: ignore[arg-type]
    call = asyncio.ensure_future(caption(stage.client()))
    await until(lambda: stage.emulator.ledger and stage.emulator.ledger[0].complete)
    call.cancel()
    await asyncio.wait([call])
    assert stage.recorded.summary()[2:] == [
        "leaving",
        "perhaps billed",
        "interrupted SENT CancelledError",
        "ended CancelledError 1",
    ]


async def test_a_cancelled_upload_is_not(stage: Stage, film: Path) -> None:
    half: list[int] = []
    stage.proxy.limit = 1 << 20
    call = asyncio.ensure_future(
        stage.client().captions.video(film, "what", on_progress=lambda p: half.append(p.sent))
    )
    await until(lambda: half and half[-1] > 1_000_000)
    call.cancel()
    await asyncio.wait([call])
    assert stage.recorded.summary()[2:] == [
        "leaving",
        "interrupted PARTIAL CancelledError",
        "ended CancelledError 1",
    ]


async def test_what_is_asked_is_told_to_nobody(stage: Stage) -> None:
    """Neither words nor names nor identifiers nor signed addresses."""
    client = stage.client(base_url=stage.emulator.url)
    video = await client.library.add_video(MP4, tags=["SECRET-tag"])
    await asyncio.gather(
        client.captions.image(PNG, "SECRET-prompt"),
        client.library.search("SECRET-words"),
        client.library.video(video.video_no),
        client.library.video("SECRET-number"),
        client.assets.metadata("SECRET-asset"),
        return_exceptions=True,
    )
    told = "\n".join(map(repr, stage.recorded.events))
    assert len(stage.recorded.events) > 20
    assert "SECRET" not in told
    assert video.video_no not in told
    assert {event.call.path for event in stage.recorded.events if "video" in event.call.row}


def test_the_blocking_twin_tells_too() -> None:
    recorded = RecordedEvents()
    with Emulator(HashEngine()) as emulator:
        with BlockingMemories(
            "k", caption_key="k", base_url=emulator.url, observers=[recorded]
        ) as client:
            client.captions.image(PNG, "what")
        assert emulator.ledger.billed() == 1
    assert recorded.summary() == [
        "started",
        "attempt 1",
        "leaving",
        "billed",
        "ok SENT 200",
        "ended ok 1",
    ]
    recorded.check()


@pytest.mark.parametrize(
    ("observers", "message"),
    [
        ([5], r"observers\[0\] is 5, which has no observe"),
        (
            [RecordedEvents(), RecordedEvents],
            r"observers\[1\] is <class .*Events'>, which has no observe",
        ),
        ("logging", "observers is 'logging'; a sequence"),
        (RecordedEvents(), "a sequence of observers is wanted"),
    ],
)
def test_what_is_no_observer_is_refused(observers: list[Observer], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Memories("k", observers=observers)


def test_an_observer_that_would_never_be_awaited_is_refused() -> None:
    class Async:
        async def observe(self, event: Event, /) -> None: ...

    with pytest.raises(ConfigurationError, match="never awaited"):
        Memories("k", observers=[Async()])  # type: ignore[list-item]  # what is refused


async def test_events_are_values(stage: Stage) -> None:
    await caption(stage.client())
    for event in stage.recorded.events:
        assert isinstance(attrs.asdict(event), dict)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            event.call = None  # type: ignore[assignment,misc]  # what is refused
    assert isinstance(Logging(), Observer)
