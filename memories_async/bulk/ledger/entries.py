"""A ledger's rules as pure functions: what an entry becomes when a call begins and when it ends."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, TypeAlias

import attrs

from memories_async.bulk.models import Status
from memories_async.observe.prices import ARITHMETIC, dollars_for

UnknownPolicy: TypeAlias = Literal["keep", "retry"]
"""What becomes of a call whose outcome is unknown: never send it again, or risk paying twice."""


@attrs.frozen(kw_only=True)
class Entry:
    """What a ledger knows of one key.

    Attributes:
        status: ``SENDING``, ``DONE``, ``FAILED`` or ``UNKNOWN``, as in a job.
        token: The attempt that it is about.
        sent_at: When that attempt began, in seconds since 1970 by the ledger's clock.
        result: What is kept of the answer, as JSON; None if there is none.
        vector: The embedding as float32 numbers in native byte order; None for other kinds.
        error: What went wrong, as JSON; None if nothing did.
        doubtful: Earlier attempts that may have been billed, and were followed by another.
        price: Dollars of each attempt, the most that was said of any; None if none was said.
    """

    status: Status
    token: str
    sent_at: float
    result: str | None = None
    vector: bytes | None = None
    error: str | None = None
    doubtful: int = 0
    price: Decimal | None = None

    @property
    def billable(self) -> int:
        """How many attempts may have been billed, at the most."""
        return (self.status is not Status.FAILED) + self.doubtful


class Begun(enum.Enum):
    """What a ledger says to a call that wants to begin."""

    SEND = "go ahead"
    DONE = "it was answered: here is the answer"
    UNKNOWN = "it may have been billed: do not send it"
    OVER_BUDGET = "it could cost more than was allowed: do not send it"


@attrs.frozen
class Totals:
    """How many calls a ledger knows of, by what became of them.

    Attributes:
        sending: Under way, or lost with their worker and not looked at since.
        done: Answered.
        failed: Refused, and not billed.
        unknown: They may have been billed.
        doubtful: Unknown calls that were sent again on request: they may have been billed too.
        priced: How many of those that may have been billed cost so many dollars, by the dollars.
    """

    sending: int = 0
    done: int = 0
    failed: int = 0
    unknown: int = 0
    doubtful: int = 0
    priced: Mapping[Decimal, int] = attrs.field(factory=dict[Decimal, int], hash=False)

    @property
    def billable(self) -> int:
        """How many calls may have been billed, at the most."""
        return self.sending + self.done + self.unknown + self.doubtful

    @property
    def counts(self) -> dict[str, int]:
        """The calls by what became of them, without their prices."""
        return attrs.asdict(self, filter=lambda attribute, _: attribute.name != "priced")

    def cost(self, price: Decimal) -> Decimal:
        """Return what the calls may cost in all.

        Args:
            price: Dollars of those whose price nobody has said.
        """
        unpriced = self.billable - sum(self.priced.values())
        total = dollars_for(max(unpriced, 0), price)
        for each, calls in self.priced.items():
            total = ARITHMETIC.add(total, dollars_for(calls, each))
        return total

    def moved(self, before: Entry | None, after: Entry | None) -> Totals:
        """Return the totals once an entry has changed."""
        counts, priced = self.counts, dict(self.priced)
        for entry, by in ((before, -1), (after, 1)):
            if entry is not None:
                counts[entry.status.value] += by
                counts["doubtful"] += by * entry.doubtful
                if entry.price is not None:
                    priced[entry.price] = priced.get(entry.price, 0) + by * entry.billable
        return Totals(**counts, priced={price: calls for price, calls in priced.items() if calls})


def begin(
    entry: Entry | None,
    totals: Totals,
    token: str,
    now: float,
    unknown: UnknownPolicy,
    price: Decimal | None,
    max_cost: Decimal | None,
) -> tuple[Begun, Entry | None]:
    """Say whether an attempt may send, and what its entry becomes.

    An attempt that finds another one under way cannot know whether that one lives: what it finds
    is unknown, until the other one's answer comes after all.

    Args:
        entry: What is known of the key.
        totals: What is known of all keys.
        token: The attempt; the same token may ask again.
        now: Seconds since 1970.
        unknown: Whether to send what may have been billed.
        price: Dollars of the call; None if nobody knows.
        max_cost: Dollars that all calls may cost, those without a price at this one's; None is
            any number.
    """
    if entry is not None:
        if entry.status is Status.DONE:
            return Begun.DONE, entry
        if entry.status in _MAY_BE_BILLED and entry.token == token:
            # It asks before each of its attempts, and makes another only where none was billed.
            return Begun.SEND, attrs.evolve(entry, status=Status.SENDING)
        if entry.status in _MAY_BE_BILLED and unknown == "keep":
            return Begun.UNKNOWN, attrs.evolve(entry, status=Status.UNKNOWN)
    if max_cost is not None and price and ARITHMETIC.add(totals.cost(price), price) > max_cost:
        return Begun.OVER_BUDGET, entry
    doubtful = 0 if entry is None else entry.billable
    said = [price, entry.price] if entry is not None and doubtful else [price]
    highest = max((one.normalize(ARITHMETIC) for one in said if one is not None), default=None)
    return Begun.SEND, Entry(
        status=Status.SENDING, token=token, sent_at=now, doubtful=doubtful, price=highest
    )


def settle(entry: Entry | None, outcome: Entry) -> Entry | None:
    """Return what an entry becomes when an attempt reports; None is as if it had never begun.

    Args:
        entry: What is known of the key.
        outcome: What the attempt reports: ``DONE``, ``FAILED``, ``UNKNOWN``, or ``PLANNED`` if
            not one byte of it had left.
    """
    if entry is None:
        return None if outcome.status is Status.PLANNED else outcome
    if entry.status is Status.DONE:
        return entry  # the first answer stands
    if entry.token != outcome.token and outcome.status is not Status.DONE:
        return entry  # of a worker that was thought dead only an answer counts
    if outcome.status in (Status.PLANNED, Status.FAILED):
        if entry.doubtful:  # this attempt cost nothing, but one before it may have
            doubtful = entry.doubtful - 1
            return attrs.evolve(
                outcome, status=Status.UNKNOWN, token="", doubtful=doubtful, price=entry.price
            )
        return None if outcome.status is Status.PLANNED else outcome
    return attrs.evolve(outcome, doubtful=entry.doubtful, price=entry.price)


_MAY_BE_BILLED = (Status.SENDING, Status.UNKNOWN)
