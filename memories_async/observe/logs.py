"""Log lines with stable field names; ``MEMORIES_LOG=debug`` shows them in a script."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from memories_async.checks.kinds import shown
from memories_async.observe.events import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    Charged,
    Event,
    RequestLeaving,
    Throttled,
    Waited,
)

LOG_VARIABLE: Final = "MEMORIES_LOG"
log = logging.getLogger("memories_async")

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Logging:
    """Writes events to the logger ``memories_async``: throttling at INFO, all else at DEBUG.

    Each record carries the event's fields as attributes, their names begun with ``memories_``:
    formatters that write JSON and structlog's show them.
    """

    def observe(self, event: Event, /) -> None:
        """Write a line."""
        level = logging.INFO if isinstance(event, Throttled) else logging.DEBUG
        if log.isEnabledFor(level) and (text := text_of(event)):
            log.log(level, "%s: %s", event.call.operation, text, extra=fields_of(event))


LOGGING: Final = Logging()


def fields_of(event: Event) -> Mapping[str, object]:
    """Return what a record says of an event."""
    call = event.call
    own = {
        f"memories_{field.name}": getattr(event, field.name)
        for field in attrs.fields(type(event))
        if field.name != "call"
    }
    return own | {
        "memories_event": type(event).__name__,
        "memories_call": call.number,
        "memories_operation": call.operation,
        "memories_method": call.method,
        "memories_path": call.path,
    }


def text_of(event: Event) -> str:
    """Say in a few words what happened; empty where that is said by another event."""
    call = event.call
    match event:
        case CallStarted():
            return f"{call.method} {call.path}"
        case Waited():
            return f"waited {event.seconds:.3f} s for {_FOR[event.reason]}"
        case RequestLeaving():
            return f"attempt {event.attempt}"
        case Throttled():
            return f"throttled: the lane pauses for {event.pause:.1f} s"
        case AttemptEnded():
            came = " ".join(
                str(part) for part in (event.status, event.code, event.error) if part is not None
            )
            return f"attempt {event.attempt}: {event.verdict} {came} after {event.seconds:.3f} s"
        case Charged():
            return event.certainty
        case CallEnded():
            ending = event.error or "ok"
            return f"{ending} after {event.seconds:.3f} s, attempts: {event.attempts}"
        case _:
            return ""


_FOR = {
    "limiter": "its turn",
    "pause": "a throttled lane",
    "connection": "a connection",
    "backoff": "the next attempt",
}


def configure_from_environment() -> None:
    """Write this package's log lines to stderr if ``MEMORIES_LOG`` names a level."""
    named = os.environ.get(LOG_VARIABLE, "").strip()
    level = logging.getLevelNamesMapping().get(named.upper())
    if level is None:
        if named:
            log.warning("%s is %s, no level such as debug or info", LOG_VARIABLE, shown(named))
        return
    if any(isinstance(handler, _Handler) for handler in log.handlers):
        return
    handler = _Handler()
    handler.setFormatter(logging.Formatter(_FORMAT))
    log.addHandler(handler)
    log.setLevel(level)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # generic for checkers only
    """Ours: set up once, however many clients there are; the application's own go first."""

    def emit(self, record: logging.LogRecord) -> None:
        if not any(_shows(handler, record) for handler in _handlers_of(record)):
            super().emit(record)


def _handlers_of(record: logging.LogRecord) -> Iterator[logging.Handler]:
    """Yield all to whom ``logging`` gives a record, the loggers above its own as far as it goes."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _shows(handler: logging.Handler, record: logging.LogRecord) -> bool:
    """Say whether a handler of the application's writes a record: it is asked as it will be."""
    return (
        not isinstance(handler, _Handler | logging.NullHandler)
        and record.levelno >= handler.level
        # Of a copy: a filter may change what it is given.
        and bool(handler.filter(copy.copy(record)))
    )
