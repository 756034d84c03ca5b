"""OpenTelemetry: spans and metrics as the SDK's in-memory exporters see them."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from memories_async import Bucket, CallOptions, Rate
from memories_async.emulator import Emulator, Hang, InjectedFault, Reason
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.limiters import MemoryLimiter
from memories_async.observe.telemetry import OpenTelemetryObserver
from memories_async.sync import Memories as BlockingMemories
from tests.faults.conftest import PNG, Stage, caption, until
from tests.faults.proxy import Plan
from tests.observe.telemetry import Telemetry

pytestmark = pytest.mark.anyio


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


async def test_a_throttle_within_http_200_is_no_success(stage: Stage, telemetry: Telemetry) -> None:
    stage.emulator.faults.add(InjectedFault(None, Reason.THROTTLED))
    await caption(stage.client(observers=[telemetry.observer]))
    first, second, call = telemetry.finished()
    assert [span.name for span in (first, second, call)] == [
        "POST /v1/understand/uploadImgFile",
        "POST /v1/understand/uploadImgFile",
        "captions.image",
    ]
    assert call.context is not None
    for span in (first, second):
        assert span.kind is SpanKind.CLIENT
        assert span.parent is not None
        assert span.parent.span_id == call.context.span_id
    assert first.attributes is not None
    assert first.status.status_code is StatusCode.ERROR
    assert dict(first.attributes) == {
        "http.request.method": "POST",
        "server.address": "localhost",
        "server.port": stage.proxy.port,
        "url.scheme": "http",
        "url.template": "/v1/understand/uploadImgFile",
        "http.response.status_code": 200,
        "http.request.body.size": first.attributes["http.request.body.size"],
        "memories.state": "SENT",
        "memories.verdict": "throttled",
        "memories.code": "-1",
        "error.type": "RateLimited",
    }
    assert second.attributes is not None
    assert second.attributes["http.request.resend_count"] == 1
    assert second.status.status_code is StatusCode.UNSET
    assert call.attributes is not None
    assert dict(call.attributes) == {
        "memories.operation": "captions.image",
        "memories.attempts": 2,
        "memories.billed": "billed",
    }
    assert {event.name for event in call.events} >= {"throttled", "waited"}


async def test_the_metrics(stage: Stage, telemetry: Telemetry) -> None:
    rates = {Bucket.CAPTION_IMAGE: Rate(1, 10)}
    client = stage.client(observers=[telemetry.observer], rates=rates, limiter=MemoryLimiter())
    await caption(client)
    stage.proxy.plans.append(Plan(answer=0))
    await client.aclose()
    client = stage.client(observers=[telemetry.observer], rates=rates, limiter=MemoryLimiter())
    await asyncio.gather(caption(client), return_exceptions=True)
    await caption(client)
    counted = {
        point.attributes["memories.certainty"]: point.value
        for point in telemetry.points("memories.billed")
    }
    assert counted == {"billed": 2, "perhaps billed": 1}
    durations = telemetry.points("http.client.request.duration")
    assert sum(point.count for point in durations) == 3
    assert {point.attributes.get("error.type") for point in durations} == {None, "OutcomeUnknown"}
    [turns] = [
        point
        for point in telemetry.points("memories.limiter.wait")
        if point.attributes["memories.reason"] == "limiter"
    ]
    assert turns.sum == pytest.approx(10.1, abs=0.2)


async def test_a_cancelled_call_leaves_no_span_open(stage: Stage, telemetry: Telemetry) -> None:
    stage.emulator.faults.add(InjectedFault(None, Hang()))
    call = asyncio.ensure_future(caption(stage.client(observers=[telemetry.observer])))
    await until(lambda: stage.emulator.ledger)
    call.cancel()
    await asyncio.wait([call])
    assert [dict(span.attributes or {}).get("error.type") for span in telemetry.finished()] == [
        "CancelledError",
        "CancelledError",
    ]
    assert not telemetry.observer._open


async def test_calls_at_once_do_not_mix(stage: Stage, telemetry: Telemetry) -> None:
    client = stage.client(observers=[telemetry.observer])
    tracer = telemetry.tracing.get_tracer("test")

    async def one(number: int) -> None:
        with tracer.start_as_current_span(f"caller {number}"):
            await caption(client, CallOptions(attempts=1))

    await asyncio.gather(*[one(number) for number in range(20)])
    spans = {span.context.span_id: span for span in telemetry.finished() if span.context}
    for span in spans.values():
        if span.name == "captions.image":
            assert span.parent is not None
            assert spans[span.parent.span_id].name.startswith("caller")
    parents = [span.parent.span_id for span in spans.values() if span.parent]
    assert len(parents) == 40
    assert len(set(parents)) == 40, "each caller one call, each call one attempt"


def test_the_context_of_a_blocking_caller(telemetry: Telemetry) -> None:
    tracer = telemetry.tracing.get_tracer("test")
    with (
        Emulator(HashEngine()) as emulator,
        BlockingMemories(
            "k", caption_key="k", base_url=emulator.url, observers=[telemetry.observer]
        ) as client,
        tracer.start_as_current_span("caller") as caller,
    ):
        client.captions.image(PNG, "what")
    [call] = [span for span in telemetry.finished() if span.name == "captions.image"]
    assert call.parent is not None
    assert call.parent.span_id == caller.get_span_context().span_id


def test_it_travels() -> None:
    assert isinstance(pickle.loads(pickle.dumps(OpenTelemetryObserver())), OpenTelemetryObserver)
