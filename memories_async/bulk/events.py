"""What a run has done so far and how long the rest will take, told to whoever wants to know."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from decimal import Decimal

from memories_async.bulk.journal import queries
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.models import Event, EventName, Item, Report, Stop
from memories_async.config import Rate
from memories_async.observe.events import CallEnded, RequestLeaving
from memories_async.observe.events import Event as CallEvent

BYTES_EVENT = 0.1
"""Seconds between two events that say no more than that bytes were accepted."""


class EventReporter:
    """Counts what one run does, and observes its calls.

    Of attempts, waits, throttling and bills it is told as every observer is, and passes it on.
    What stands beside that is about the job, of which a call knows nothing: an item has a new
    status once the journal has it, a run starts, stops and ends; and bytes come from the hook of
    the call that sends them.

    A listener that raises is told no more, and the exception is in ``raised``.

    Args:
        journal: How the job stands.
        price: Dollars per item; None if unknown.
        on_event: Who wants to know.
        on_raised: Called once if the listener raises.
        rate: How many requests the account may make; None if there is no limit.
        now: Seconds that only ever grow.
    """

    def __init__(
        self,
        journal: Journal,
        price: Decimal | None,
        on_event: Callable[[Event], object] | None,
        on_raised: Callable[[], object] = lambda: None,
        rate: Rate | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.requests = 0
        self._calls_left: set[int] = set()
        self.raised: Exception | None = None
        self._journal = journal
        self._price = price
        self._on_event = on_event
        self._on_raised = on_raised
        self._rate = rate
        self._now = now
        self._settled = 0
        self._bytes_sent = 0
        self._started = now()
        self._last_left = self._started
        self._first_settled: tuple[float, int] | None = None
        self._last_settled = self._started
        self._bytes_reported_at = 0.0

    def accepted(self, size: int) -> None:
        """Count bytes that the network has accepted; a negative number takes some back."""
        self._bytes_sent += size
        now = self._now()
        if now - self._bytes_reported_at >= BYTES_EVENT:
            self._bytes_reported_at = now
            self.emit("bytes")

    def observe(self, event: CallEvent, /) -> None:
        """Count a request that leaves, once however often it is sent, and tell of the event."""
        number = event.call.number
        if isinstance(event, RequestLeaving) and event.call.billable:
            self._last_left = self._now()
            self.requests += number not in self._calls_left
            self._calls_left.add(number)
        elif isinstance(event, CallEnded):
            self._calls_left.discard(number)
        self.emit("call", call=event)

    def settled(self, count: int) -> None:
        """Count items that have been sent and have a new final status."""
        self._settled += count
        self._last_settled = self._now()
        if self._first_settled is None:
            self._first_settled = self._last_settled, self._settled

    async def report_items(self, ids: Sequence[int]) -> None:
        """Tell of items that have a new final status."""
        if self._on_event is not None and ids:
            for row in await self._journal.execute(queries.by_id, ids):
                self.emit("item", item=row.item)

    def emit(
        self,
        name: EventName,
        *,
        item: Item | None = None,
        stop: Stop | None = None,
        call: CallEvent | None = None,
    ) -> None:
        """Tell that something happened."""
        if self._on_event is None or self.raised is not None:
            return
        tally = self._journal.tally
        cost, possible_cost = tally.costs(self._price)
        event = Event(
            name=name,
            counts=tally.counts,
            item=item,
            stop=stop,
            call=call,
            requests=self.requests,
            bytes_sent=self._bytes_sent,
            bytes_planned=tally.planned_bytes,
            cost=cost,
            possible_cost=possible_cost,
            seconds=self._now() - self._started,
            remaining=self.remaining(tally.counts.planned, tally.counts.sending),
        )
        try:
            self._on_event(event)
        except Exception as error:
            self.raised = error
            self._on_raised()

    def remaining(self, planned: int, sending: int) -> float | None:
        """Return the seconds that the rest is expected to take; None before anything is known.

        The pace so far misleads where there is a limit: the first calls of a period go at once,
        and then nothing does. So the limit says how long the rest takes at least.

        Args:
            planned: Items that are yet to be sent.
            sending: Items that are under way.
        """
        left = planned + sending
        if not left:
            return 0.0
        estimates = self._paced(planned), self._observed(left)
        return max((seconds for seconds in estimates if seconds is not None), default=None)

    def _paced(self, planned: int) -> float | None:
        """Return how long the rest takes at the account's rate, from the last request on."""
        if self._rate is None:
            return None
        each = max(self._settled / self.requests, 1.0) if self.requests else 1.0
        waited = min(self._now() - self._last_left, self._rate.seconds)
        return max(planned / each * self._rate.seconds / self._rate.calls - waited, 0.0)

    def _observed(self, left: int) -> float | None:
        """Return how long the rest takes at the pace between the first answer and the last."""
        if self._first_settled is None:
            return None
        now, (since, before) = self._now(), self._first_settled
        more = self._settled - before
        if not more:  # what came before the first answer is the start, not the pace
            return None if self._rate else left * (now - self._started) / self._settled
        waited = now - self._last_settled
        expected = left * (self._last_settled - since) / more - waited
        if expected > 0:
            return expected
        # A pause that is no longer than a period is the limit's, and no news about the pace.
        paused = self._rate is not None and waited <= self._rate.seconds
        return None if paused else left * (now - since) / more

    def report(self, stop: Stop | None, changed: int | None) -> Report:
        """Return what the run did."""
        tally = self._journal.tally
        cost, possible_cost = tally.costs(self._price)
        return Report(
            counts=tally.counts,
            stopped=stop,
            requests=self.requests,
            bytes_sent=self._bytes_sent,
            cost=cost,
            possible_cost=possible_cost,
            seconds=self._now() - self._started,
            changed=changed,
        )
