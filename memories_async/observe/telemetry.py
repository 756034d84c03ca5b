"""OpenTelemetry: a span for every call and attempt, and metrics; needs the extra ``[otel]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs
from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from memories_async._version import __version__
from memories_async.checks import checked
from memories_async.checks.kinds import with_methods
from memories_async.observe.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    Certainty,
    Charged,
    Event,
    ObservedCall,
    RequestLeaving,
    Throttled,
    Waited,
)

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


Attributes: TypeAlias = "Mapping[str, str | int]"


@attrs.frozen
class _Server:
    """What is the same of every attempt at an operation: built once, for the SDK copies it."""

    name: str
    of_spans: Attributes
    of_metrics: Attributes


@attrs.define
class _OpenCall:
    span: Span
    server: _Server
    attempt: Span | None = None
    charged: Certainty | None = None


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
        self._servers: dict[tuple[str, str, int], _Server] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return OpenTelemetryObserver, ()  # elsewhere, the providers are those of that place

    def observe(self, event: Event, /) -> None:
        """Open or close a span, or count."""
        kind = type(event)
        if kind is RequestLeaving:
            return  # the span of its attempt is open already
        if kind is CallStarted:
            call = event.call
            span = self._tracer.start_span(
                call.operation, attributes={"memories.operation": call.operation}
            )
            self._open[call.number] = _OpenCall(span, self._server(call))
        elif opened := self._open.get(event.call.number):
            self._go_on(opened, event)

    def _go_on(self, opened: _OpenCall, event: Event) -> None:
        # By the order of a call that succeeds: each kind that is asked for takes its time.
        match event:
            case AttemptStarted():
                opened.attempt = self._attempt(opened, event)
            case Charged():
                opened.charged = event.certainty
                self._billed.add(
                    1,
                    {
                        "memories.operation": event.call.operation,
                        "memories.certainty": event.certainty,
                    },
                )
            case AttemptEnded():
                self._end_attempt(opened, event)
            case CallEnded():
                del self._open[event.call.number]
                _end_call(opened, event)
            case Waited():
                self._wait.record(
                    event.seconds,
                    {"memories.operation": event.call.operation, "memories.reason": event.reason},
                )
                opened.span.add_event(
                    "waited", {"memories.reason": event.reason, "memories.seconds": event.seconds}
                )
            case Throttled():
                opened.span.add_event("throttled", {"memories.seconds": event.pause})
            case _:
                pass

    def _attempt(self, opened: _OpenCall, event: AttemptStarted) -> Span:
        server = opened.server
        attributes = server.of_spans
        if event.attempt > 1:
            attributes = {**attributes, "http.request.resend_count": event.attempt - 1}
        return self._tracer.start_span(
            server.name,
            context=trace.set_span_in_context(opened.span),
            kind=SpanKind.CLIENT,
            attributes=attributes,
        )

    def _end_attempt(self, opened: _OpenCall, event: AttemptEnded) -> None:
        span, opened.attempt = opened.attempt, None
        if span is None:
            return
        measured = {**opened.server.of_metrics}
        if event.status is not None:
            measured["http.response.status_code"] = event.status
        if event.error is not None:
            measured["error.type"] = event.error
        if span.is_recording():
            attributes: dict[str, AttributeValue] = {
                "memories.state": event.state,
                "memories.verdict": event.verdict,
                "http.request.body.size": event.sent,
            }
            if event.status is not None:
                attributes["http.response.status_code"] = event.status
            if event.code is not None:
                attributes["memories.code"] = event.code
            _mark(span, attributes, event.error)
        span.end()
        self._duration.record(event.seconds, measured)

    def _server(self, call: ObservedCall) -> _Server:
        key = call.row, call.host, call.port
        server = self._servers.get(key)
        if server is None:
            measured: dict[str, str | int] = {
                "http.request.method": call.method,
                "server.address": call.host,
                "server.port": call.port,
            }
            spans = {**measured, "url.scheme": call.scheme, "url.template": call.path}
            server = self._servers[key] = _Server(f"{call.method} {call.path}", spans, measured)
        return server


def _end_call(opened: _OpenCall, event: CallEnded) -> None:
    if opened.span.is_recording():
        attributes: dict[str, AttributeValue] = {"memories.attempts": event.attempts}
        if opened.charged is not None:
            attributes["memories.billed"] = opened.charged
        _mark(opened.span, attributes, event.error)
    opened.span.end()


def _mark(span: Span, attributes: dict[str, AttributeValue], error: str | None) -> None:
    if error is not None:
        # By our exception: a throttle that came as HTTP 200 is no success.
        attributes["error.type"] = error
        span.set_status(Status(StatusCode.ERROR))
    span.set_attributes(attributes)
