"""OpenTelemetry: a span for every call and attempt, and metrics; needs the extra ``[otel]``."""

from __future__ import annotations

from typing import Final

import attrs
from opentelemetry import context, metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from memories_async._version import __version__
from memories_async.arguments import with_methods
from memories_async.observe.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    Charged,
    Event,
    ObservedCall,
    Throttled,
    Waited,
)
from memories_async.parameters import checked

NAME: Final = "memories_async"

_DURATION_BOUNDARIES: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    30.0,
    60.0,
    300.0,
)
"""The HTTP conventions' own, and beyond them what a long video takes."""


@attrs.define
class _OpenCall:
    span: Span
    attempt: Span | None = None


class OpenTelemetryObserver:
    """Writes spans and metrics by the HTTP semantic conventions.

    An observer for ``Memories(observers=[...])``. The span of a call is a child of the caller's
    current span, in the blocking client as well; those of its attempts are its children.
    ``url.full`` is left out: addresses hold identifiers, and signed ones are permissions.

    Args:
        tracer_provider: Where spans go; by default the global one.
        meter_provider: Where metrics go; by default the global one.
    """

    @checked(
        {
            "tracer_provider": with_methods("get_tracer", wanted="a TracerProvider"),
            "meter_provider": with_methods("get_meter", wanted="a MeterProvider"),
        }
    )
    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(NAME, __version__, tracer_provider)
        meter = metrics.get_meter(NAME, __version__, meter_provider)
        self._duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_DURATION_BOUNDARIES,
        )
        self._billed = meter.create_counter(
            "memories.billed",
            unit="{call}",
            description="Calls that were, or may have been, billed.",
        )
        self._wait = meter.create_histogram(
            "memories.limiter.wait",
            unit="s",
            description="What calls waited for their turn, for a pause or for a connection.",
            explicit_bucket_boundaries_advisory=_DURATION_BOUNDARIES,
        )
        self._open: dict[int, _OpenCall] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return OpenTelemetryObserver, ()  # elsewhere, the providers are those of that place

    def observe(self, event: Event, /) -> None:
        """Open or close a span, or count."""
        call = event.call
        if isinstance(event, CallStarted):
            attributes: dict[str, AttributeValue] = {"memories.operation": call.operation}
            span = self._tracer.start_span(call.operation, attributes=attributes)
            self._open[call.number] = _OpenCall(span)
            return
        opened = self._open.get(call.number)
        if opened is None:
            return
        match event:
            case Waited():
                self._wait.record(
                    event.seconds,
                    {"memories.operation": call.operation, "memories.reason": event.reason},
                )
                opened.span.add_event(
                    "waited", {"memories.reason": event.reason, "memories.seconds": event.seconds}
                )
            case AttemptStarted():
                opened.attempt = self._attempt(opened.span, call, event.attempt)
            case Throttled():
                opened.span.add_event("throttled", {"memories.seconds": event.pause})
            case Charged():
                self._billed.add(
                    1,
                    {"memories.operation": call.operation, "memories.certainty": event.certainty},
                )
                opened.span.set_attribute("memories.billed", event.certainty)
            case AttemptEnded():
                self._end_attempt(opened, event)
            case CallEnded():
                del self._open[call.number]
                _end(opened.span, event.error, {"memories.attempts": event.attempts})
            case _:
                pass

    def _attempt(self, parent: Span, call: ObservedCall, attempt: int) -> Span:
        attributes = _server(call) | {"url.scheme": call.scheme, "url.template": call.path}
        if attempt > 1:
            attributes["http.request.resend_count"] = attempt - 1
        return self._tracer.start_span(
            f"{call.method} {call.path}",
            context=trace.set_span_in_context(parent, context.get_current()),
            kind=SpanKind.CLIENT,
            attributes=attributes,
        )

    def _end_attempt(self, opened: _OpenCall, event: AttemptEnded) -> None:
        span, opened.attempt = opened.attempt, None
        if span is None:
            return
        answer: dict[str, AttributeValue] = {}
        if event.status is not None:
            answer["http.response.status_code"] = event.status
        own: dict[str, AttributeValue] = {
            "memories.state": event.state,
            "memories.verdict": event.verdict,
            "http.request.body.size": event.sent,
        }
        if event.code is not None:
            own["memories.code"] = event.code
        _end(span, event.error, answer | own)
        failed = {} if event.error is None else {"error.type": event.error}
        self._duration.record(event.seconds, _server(event.call) | answer | failed)


def _server(call: ObservedCall) -> dict[str, AttributeValue]:
    return {
        "http.request.method": call.method,
        "server.address": call.host,
        "server.port": call.port,
    }


def _end(span: Span, error: str | None, attributes: dict[str, AttributeValue]) -> None:
    span.set_attributes(attributes)
    if error is not None:
        # By our exception: a throttle that came as HTTP 200 is no success.
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
    span.end()
