"""What a run has done so far, told to whoever wants to know."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from decimal import Decimal

from memories_async.bulk.journal import queries as records
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.models import Event, EventName, Item, Report, Stop

BYTES_EVENT = 0.1
"""Seconds between two events that say no more than that bytes were accepted."""


class Teller:
    """Counts what one run does.

    Args:
        journal: How the job stands.
        price: Dollars per item; None if unknown.
        on_event: Who wants to know.
    """

    def __init__(
        self, journal: Journal, price: Decimal | None, on_event: Callable[[Event], object] | None
    ) -> None:
        self.requests = 0
        self.settled = 0
        self._journal = journal
        self._price = price
        self._on_event = on_event
        self._bytes_sent = 0
        self._started = time.monotonic()
        self._told_bytes = 0.0

    def accepted(self, size: int) -> None:
        """Count bytes that the network has accepted; a negative number takes some back."""
        self._bytes_sent += size
        now = time.monotonic()
        if now - self._told_bytes >= BYTES_EVENT:
            self._told_bytes = now
            self.tell("bytes")

    async def tell_of(self, ids: Sequence[int]) -> None:
        """Tell of items that have a new final status."""
        if self._on_event is not None and ids:
            for row in await self._journal.ask(records.by_id, ids):
                self.tell("item", item=row.item)

    def tell(self, name: EventName, *, item: Item | None = None, stop: Stop | None = None) -> None:
        """Tell that something happened."""
        if self._on_event is None:
            return
        tally = self._journal.tally
        cost, possible_cost = tally.costs(self._price)
        seconds = time.monotonic() - self._started
        left = tally.counts.planned + tally.counts.sending
        self._on_event(
            Event(
                name=name,
                counts=tally.counts,
                item=item,
                stop=stop,
                requests=self.requests,
                bytes_sent=self._bytes_sent,
                bytes_planned=tally.planned_bytes,
                cost=cost,
                possible_cost=possible_cost,
                seconds=seconds,
                remaining=left * seconds / self.settled if self.settled else None,
            )
        )

    def report(self, stop: Stop | None) -> Report:
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
            seconds=time.monotonic() - self._started,
        )
