"""An observer for tests: keeps the events, checks that they make sense, sums them up."""

from __future__ import annotations

import collections

from memories_async.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    Charged,
    Event,
    RequestLeaving,
    Throttled,
    Waited,
)


class RecordedEvents:
    """The events of every call, in the order in which they came."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event, /) -> None:
        self.events.append(event)

    def summary(self) -> list[str]:
        """Return the events as short texts, without what depends on time and order of calls."""
        return [text for event in self.events if (text := brief(event))]

    def charged(self, certainty: str) -> int:
        """Count what was billed, or perhaps billed."""
        return sum(
            isinstance(event, Charged) and event.certainty == certainty for event in self.events
        )

    def check(self) -> None:
        """Assert that each call's events come in the order that they must."""
        calls = collections.defaultdict[int, list[Event]](list)
        for event in self.events:
            calls[event.call.number].append(event)
        for events in calls.values():
            check_call(events)


def check_call(events: list[Event]) -> None:
    assert isinstance(events[0], CallStarted), events
    assert sum(isinstance(event, CallStarted) for event in events) == 1
    assert len({event.call for event in events}) == 1
    attempt, begun, leaving, charged = 0, False, False, False
    for event in events[1:]:
        match event:
            case AttemptStarted():
                assert not begun, events
                assert event.attempt == attempt + 1, events
                attempt, begun, leaving, charged = event.attempt, True, False, False
            case RequestLeaving():
                assert begun, events
                assert not leaving, events
                assert event.attempt == attempt
                leaving = True
            case Charged():
                assert begun, events
                assert leaving, events
                assert event.call.billable
                charged = True
            case AttemptEnded():
                assert begun, events
                assert event.attempt == attempt
                assert event.seconds >= 0
                assert leaving or event.state == "NOT_SENT", events
                assert (event.verdict == "ok") == (event.error is None), events
                assert charged or not event.call.billable or event.verdict != "ok", events
                begun = False
            case Throttled():
                assert begun, events
                assert event.pause >= 0
            case Waited():
                assert event.seconds > 0
                assert event.attempt in (attempt, attempt + 1), events
            case _:
                pass
    if isinstance(events[-1], CallEnded):
        assert not begun, events
        assert events[-1].attempts <= attempt, events


def brief(event: Event) -> str:
    match event:
        case Waited():
            return ""
        case AttemptStarted():
            return f"attempt {event.attempt}"
        case RequestLeaving():
            return "leaving"
        case Throttled():
            return "throttled"
        case AttemptEnded():
            came = [event.verdict, event.state, event.status, event.code, event.error]
            return " ".join(str(part) for part in came if part is not None)
        case Charged():
            return event.certainty
        case CallEnded():
            return f"ended {event.error or 'ok'} {event.attempts}"
        case _:
            return "started"
