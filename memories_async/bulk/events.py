"""What a run has done so far and how long the rest will take, told to whoever wants to know."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from decimal import Decimal

from memories_async.bulk.journal import queries
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.models import Event, EventName, Item, Report, Stop
from memories_async.config import Rate

BYTES_EVENT = 0.1
"""Seconds between two events that say no more than that bytes were accepted."""


class EventReporter:
    """Counts what one run does.

    A listener that raises ends the run in an orderly way: what has left is waited for and
    written down, and the exception is in ``raised``.

    Args:
        journal: How the job stands.
        price: Dollars per item; None if unknown.
        on_event: Who wants to know.
        rate: How many requests the account may make; None if there is no limit.
        now: Seconds that only ever grow.
    """

    def __init__(
        self,
        journal: Journal,
        price: Decimal | None,
        on_event: Callable[[Event], object] | None,
        rate: Rate | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.requests = 0
        self.raised: Exception | None = None
        self._journal = journal
        self._price = price
        self._on_event = on_event
        self._rate = rate
        self._now = now
        self._settled = 0
        self._bytes_sent = 0
        self._started = now()
        self._last_left = self._started
        self._first_settled: tuple[float, int] | None = None
        self._last_settled = self._started
        self._told_bytes = 0.0

    def accepted(self, size: int) -> None:
        """Count bytes that the network has accepted; a negative number takes some back."""
        self._bytes_sent += size
        now = self._now()
        if now - self._told_bytes >= BYTES_EVENT:
            self._told_bytes = now
            self.tell("bytes")

    def left(self) -> None:
        """Count a request that is about to leave."""
        self.requests += 1
        self._last_left = self._now()

    def settled(self, count: int) -> None:
        """Count items that have been sent and have a new final status."""
        self._settled += count
        self._last_settled = self._now()
        if self._first_settled is None:
            self._first_settled = self._last_settled, self._settled

    async def tell_of(self, ids: Sequence[int]) -> None:
        """Tell of items that have a new final status."""
        if self._on_event is not None and ids:
            for row in await self._journal.ask(queries.by_id, ids):
                self.tell("item", item=row.item)

    def tell(self, name: EventName, *, item: Item | None = None, stop: Stop | None = None) -> None:
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
