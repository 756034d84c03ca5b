"""What a call elsewhere does, passed on to the observers here as if it were made here."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs

from memories_async._engine.watch import CALL_NUMBERS, notify
from memories_async.observe.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    Charged,
    Event,
    ObservedCall,
    Observer,
    RequestLeaving,
)


class EventRelay:
    """Passes on the events of one call that a worker makes; it ends even where the worker does.

    That a request leaves is reported when permission is given, before its first byte and without
    its digest, which comes with the bill: what a killed worker had sent is in a receipt all the
    same.

    Args:
        observers: Who is notified.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        self._number = next(CALL_NUMBERS)
        self._began = time.monotonic()
        self._call: ObservedCall | None = None
        self._attempt = 0
        self._left = False
        self._under_way = False

    def forward(self, event: Event) -> None:
        """Pass an event on; another process's number of the call means nothing here."""
        event = attrs.evolve(event, call=attrs.evolve(event.call, number=self._number))
        match event:
            case CallStarted():
                self._call = event.call
            case AttemptStarted():
                self._attempt, self._left, self._under_way = event.attempt, False, True
            case RequestLeaving() if self._left:
                return
            case AttemptEnded():
                self._under_way = False
            case CallEnded():
                self._call = None
            case _:
                pass
        notify(self._observers, event)

    def request_leaving(self) -> None:
        """Report that the first byte may leave; once for each attempt."""
        if self._call is not None and not self._left:
            self._left = True
            notify(
                self._observers,
                RequestLeaving(call=self._call, attempt=self._attempt, digest=""),
            )

    def abort(self, error: str) -> None:
        """Report the end of a call that has no more events; it may have been reported.

        Args:
            error: The class of what it ended with.
        """
        call, self._call = self._call, None
        if call is None:
            return
        seconds = time.monotonic() - self._began
        if self._under_way and self._left and call.billable:
            charged = Charged(
                call=call, attempt=self._attempt, certainty="perhaps billed", digest=""
            )
            notify(self._observers, charged)
        if self._under_way:
            ended = AttemptEnded(
                call=call,
                attempt=self._attempt,
                verdict="unknown" if self._left else "interrupted",
                state="SENT" if self._left else "NOT_SENT",
                status=None,
                code=None,
                sent=0,
                seconds=seconds,
                error=error,
            )
            notify(self._observers, ended)
        over = CallEnded(call=call, attempts=self._attempt, seconds=seconds, error=error)
        notify(self._observers, over)
