"""What a bulk job is told and what it tells: inputs, items, counts, plans, events, reports."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterable, Iterable, Mapping
from decimal import Decimal
from os import PathLike
from typing import Literal, TypeAlias

import attrs

from memories_async.errors import MemoriesError


class Status(enum.StrEnum):
    """What has become of an item."""

    PLANNED = "planned"
    """Not sent yet, or certainly not billed and to be sent again."""
    SENDING = "sending"
    """Its call is under way: committed before the first byte leaves."""
    DONE = "done"
    """Answered, and the answer is kept."""
    FAILED = "failed"
    """Refused by the service or unfit to be sent; not billed."""
    UNKNOWN = "unknown"
    """Sent, and no answer is known: it may have been billed. Never sent again unasked."""
    SKIPPED = "skipped"
    """A duplicate of another item, or an unknown one that was given up."""


@attrs.frozen
class Input:
    """One thing to send, with what applies to it alone.

    Args:
        source: A path, or an ``http(s)://`` URL where the kind of job takes one.
        options: What differs from the job's own options, e.g. ``tags`` or ``prompt``.
        extra: Anything of yours; it is kept and comes back in the exported row.
    """

    source: str | PathLike[str]
    options: Mapping[str, object] = attrs.field(factory=dict[str, object])
    extra: Mapping[str, object] = attrs.field(factory=dict[str, object])


One: TypeAlias = str | PathLike[str] | Input
Inputs: TypeAlias = One | Iterable[One] | AsyncIterable[One]
"""A folder (searched deeply for the formats that the kind of job takes), a glob pattern, a file,
a URL, a ``.jsonl`` file (an object per line: ``path`` or ``url``, options, ``extra``), a ``.txt``
file (a path or URL per line), an :class:`Input`; or any iterable or async iterable of these."""


@attrs.frozen(kw_only=True)
class Item:
    """An input as the journal knows it.

    Attributes:
        id: Its number in the job, from 1, in the order of the inputs.
        source: The absolute path, or the URL.
        status: What has become of it.
        options: What differs from the job's own options.
        extra: What came with the input and is yours.
        size: Bytes, as last seen; None for a URL or a file that could not be found.
        sha256: The content's digest as last sent, in hex; None before that, and for a URL.
        request: Which request of the job it was sent in; items of one upload share it.
        result: What the service answered, flat: a caption has ``text`` and tokens, a library
            image ``image_id``, a video ``video_no`` and ``video_status``, an embedding ``model``.
        vector: The embedding as float32 numbers in native byte order; None for other kinds.
        error: What went wrong, in words; None if nothing did.
        details: More about the error: ``type``, ``code``, ``status``, and for an unknown outcome
            ``sent_at``, ``bytes_sent``, ``request_digest``.
        duplicate_of: The item that has the same content and options, if this one was skipped.
        waiting: Whether a video was added but is not yet searchable.
    """

    id: int
    source: str
    status: Status
    options: Mapping[str, object] = attrs.field(factory=dict[str, object])
    extra: Mapping[str, object] = attrs.field(factory=dict[str, object])
    size: int | None = None
    sha256: str | None = None
    request: int | None = None
    result: Mapping[str, object] | None = None
    vector: bytes | None = attrs.field(default=None, repr=False)
    error: str | None = None
    details: Mapping[str, object] | None = None
    duplicate_of: int | None = None
    waiting: bool = False


@attrs.frozen(kw_only=True)
class Counts:
    """How many items have which status.

    Attributes:
        planned: Still to be sent.
        sending: On their way.
        done: Answered; each was billed.
        failed: Not billed.
        unknown: May have been billed.
        skipped: Not sent.
        waiting: Of the videos done, those not yet searchable.
    """

    planned: int = 0
    sending: int = 0
    done: int = 0
    failed: int = 0
    unknown: int = 0
    skipped: int = 0
    waiting: int = 0

    @property
    def total(self) -> int:
        """All items of the job."""
        return self.planned + self.sending + self.done + self.failed + self.unknown + self.skipped

    @property
    def finished(self) -> int:
        """The items of which nothing more will come unasked."""
        return self.total - self.planned - self.sending


@attrs.frozen(kw_only=True)
class Plan:
    """What a run would do: the dry run.

    Attributes:
        counts: The items by status.
        requests: Calls that it takes to send the planned items.
        size: Bytes of the planned items, as far as they are known.
        price: Dollars per item, or None if unknown: see ``Job.create``.
        cost: Dollars that the planned items cost, or None if the price is unknown.
        possible_cost: Dollars that the unknown items may already have cost, and would cost once
            more if they were sent again; None if the price is unknown.
        seconds: What sending takes at the rate, uploads aside; 0 where there is no limit.
    """

    counts: Counts
    requests: int
    size: int
    price: Decimal | None
    cost: Decimal | None
    possible_cost: Decimal | None
    seconds: float


class StopReason(enum.StrEnum):
    """Why a run ended with items still planned."""

    MAX_COST = "max_cost"
    """The next item would have cost more than was allowed."""
    MAX_ITEMS = "max_items"
    """As many items as were allowed have been sent."""
    CREDITS = "credits"
    """The account's balance does not cover the next call (0402): top up, then run again."""
    KEY = "key"
    """A key is missing or wrong, or may not do this (0401, 0403, 9009)."""
    UNREACHABLE = "unreachable"
    """The service, or the shared limiter, could not be reached within the retry time."""
    FAILING = "failing"
    """Too many calls in a row came to nothing."""


@attrs.frozen
class Stop:
    """Why a run ended early, and what the service said.

    Attributes:
        reason: Which of the stops it was.
        message: In words.
        error: The exception behind it, if there was one.
    """

    reason: StopReason
    message: str
    error: MemoriesError | None = None


@attrs.frozen(kw_only=True)
class Report:
    """What a run did, and where the job stands.

    Attributes:
        counts: The items by status, over all runs.
        stopped: Why items are still planned, or None if the run came to its end.
        requests: Calls made by this run.
        bytes_sent: Bytes of bodies that the network accepted in this run.
        cost: Dollars that the job's done items cost, over all runs; None if the price is unknown.
        possible_cost: Dollars that its unknown items may have cost besides.
        seconds: How long this run took.
    """

    counts: Counts
    stopped: Stop | None
    requests: int
    bytes_sent: int
    cost: Decimal | None
    possible_cost: Decimal | None
    seconds: float


EventName: TypeAlias = Literal["started", "bytes", "item", "stopped", "finished"]


@attrs.frozen(kw_only=True)
class Event:
    """Something happened in a run; everything a progress display needs is in every one.

    Attributes:
        name: ``started``; ``bytes`` (the network accepted more); ``item`` (one has a new final
            status); ``stopped`` (nothing further is sent; calls under way still end);
            ``finished``.
        counts: The items by status.
        item: For ``item``: which.
        stop: For ``stopped``: why.
        requests: Calls made by this run so far.
        bytes_sent: Bytes accepted in this run so far; an attempt thrown away is taken back.
        bytes_planned: Bytes of the items still to be sent, as far as known.
        cost: Dollars of the job's done items; None if the price is unknown.
        possible_cost: Dollars of its unknown items.
        seconds: Since the run began.
        remaining: Seconds that the rest is expected to take; None before anything is known.
    """

    name: EventName
    counts: Counts
    item: Item | None = None
    stop: Stop | None = None
    requests: int = 0
    bytes_sent: int = 0
    bytes_planned: int = 0
    cost: Decimal | None = None
    possible_cost: Decimal | None = None
    seconds: float = 0.0
    remaining: float | None = None


class JournalError(MemoriesError):
    """The job's file cannot be read or written, e.g. because the disk is full.

    A run that meets it stops before anything is sent that is not in the journal.
    """

    advice = "Nothing unrecorded was sent: free the disk or repair the file, then run again"


class JobBusy(JournalError):
    """Another run of the job is alive; two would send items twice."""

    advice = "Wait for it or stop it, then run again"
