"""What a bulk job is told and what it tells: inputs, items, counts, plans, events, reports."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from decimal import Decimal
from os import PathLike
from typing import Literal, TypeAlias

import attrs

from memories_async.checks import checked
from memories_async.checks.kinds import instance_of
from memories_async.errors import MemoriesError
from memories_async.observe.events import Event as CallEvent


class Status(enum.StrEnum):
    """What has become of an item."""

    PLANNED = "planned"
    """Not sent yet, or certainly not billed and to be sent again."""
    SENDING = "sending"
    """Its call is under way: committed before the first byte leaves."""
    DONE = "done"
    """Answered, and the answer is kept."""
    FAILED = "failed"
    """Refused by the service or unfit to be sent; not billed, unless it is a video that was added
    and could not be indexed."""
    UNKNOWN = "unknown"
    """Sent, and no answer is known: it may have been billed. Never sent again unasked."""
    SKIPPED = "skipped"
    """A duplicate of another item, or an unknown one that was given up."""


@checked({"source": instance_of(str, PathLike, wanted="a path or a URL")})
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


SingleInput: TypeAlias = str | PathLike[str] | Input
Inputs: TypeAlias = SingleInput | Iterable[SingleInput] | AsyncIterable[SingleInput]
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
        billed: How often the service answered it, and so billed it: once, unless it was sent
            again on request.
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
    billed: int = 0


@attrs.frozen(kw_only=True)
class Counts:
    """How many items have which status.

    Attributes:
        planned: Still to be sent.
        sending: On their way.
        done: Answered; each was billed.
        failed: Not billed, but for videos that were added and could not be indexed.
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


class UnsentReason(enum.StrEnum):
    """Why a run would not send an input."""

    DONE = "done"
    """Answered already."""
    CHANGED = "changed"
    """Answered already, but its file has changed since; ``Job.retry`` sends it again."""
    DUPLICATE = "duplicate"
    """Another input has the same content and options."""
    EMPTY = "empty"
    """A file without content."""
    UNFIT = "unfit"
    """No such file, or one that the service does not take."""
    FAILED = "failed"
    """It failed in an earlier run; ``failed="retry"`` sends it again."""
    UNKNOWN = "unknown"
    """It may have been billed; ``unknown="retry"`` sends it again."""
    SKIPPED = "skipped"
    """Given up in an earlier run."""
    SENDING = "sending"
    """A run has it in hand right now."""


@attrs.frozen
class PlannedInput:
    """What a run would do with an input.

    Attributes:
        source: The absolute path, or the URL.
        size: Bytes; None where unknown.
        reason: Why it would not be sent; None where it would.
        message: The same in words; empty where it would be sent.
    """

    source: str
    size: int | None = None
    reason: UnsentReason | None = None
    message: str = ""


@attrs.frozen(kw_only=True)
class Plan:
    """What a run would do: the dry run.

    Attributes:
        counts: The items by status, as the journal has them.
        inputs: Every input of the job, and of those that are to be added, with what would become
            of it.
        requests: Calls that it takes to send what would be sent.
        size: Bytes of what would be sent, as far as they are known.
        price: Dollars per item, or None if unknown: see ``Job.create``.
        cost: Dollars for what would be sent, or None if the price is unknown.
        possible_cost: Dollars that the unknown items may already have cost, and would cost once
            more if they were sent again; None if the price is unknown.
        seconds: What sending takes at the rate, uploads aside; 0 where there is no limit.
    """

    counts: Counts
    inputs: Sequence[PlannedInput] = attrs.field(repr=False)
    requests: int
    size: int
    price: Decimal | None
    cost: Decimal | None
    possible_cost: Decimal | None
    seconds: float

    @property
    def to_send(self) -> list[PlannedInput]:
        """The inputs that would be sent, each once."""
        return [one for one in self.inputs if one.reason is None]

    @property
    def unsent(self) -> list[PlannedInput]:
        """The inputs that would not be sent, with the reason."""
        return [one for one in self.inputs if one.reason is not None]


class StopReason(enum.StrEnum):
    """Why a run ended with items still planned."""

    MAX_COST = "max_cost"
    """The next item would have cost more than was allowed, here or by ``client.budget``."""
    MAX_ITEMS = "max_items"
    """As many items as were allowed have been sent."""
    CREDITS = "credits"
    """The account's balance does not cover the next call (0402): top up, then run again."""
    KEY = "key"
    """A key is missing or wrong, or may not do this (0401, 0403, 9009)."""
    CONFIGURATION = "configuration"
    """What the client or the run was told lets no item be sent, such as a ``client.budget`` that
    has no price for the call."""
    UNREACHABLE = "unreachable"
    """The service, or the shared limiter, could not be reached within the retry time, or
    serves the call no more."""
    FAILING = "failing"
    """Too many calls in a row came to nothing."""
    INTERRUPTED = "interrupted"
    """``Job.stop`` was called: what had left was waited for, and nothing further was sent."""


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
        cost: Dollars that the job's answers cost, over all runs; None if the price is unknown.
        possible_cost: Dollars that items of unknown outcome may have cost besides.
        seconds: How long this run took.
        changed: Answered items whose file is another one by now, as ``Job.changed`` counts them;
            None where the run ended before it had looked at all of them.
    """

    counts: Counts
    stopped: Stop | None
    requests: int
    bytes_sent: int
    cost: Decimal | None
    possible_cost: Decimal | None
    seconds: float
    changed: int | None = None


EventName: TypeAlias = Literal["started", "call", "bytes", "item", "stopped", "finished"]


@attrs.frozen(kw_only=True)
class Event:
    """Something happened in a run; everything a progress display needs is in every one.

    Attributes:
        name: ``started``; ``call`` (one of the run's calls waited, was sent, throttled, billed or
            ended); ``bytes`` (the network accepted more); ``item`` (one has a new final status);
            ``stopped`` (nothing further is sent; calls under way still end); ``finished``.
        counts: The items by status.
        item: For ``item``: which.
        stop: For ``stopped``: why.
        call: For ``call``: what an observer of the call is told, see ``memories_async.observe``.
        requests: Calls made by this run so far.
        bytes_sent: Bytes accepted in this run so far; an attempt thrown away is taken back.
        bytes_planned: Bytes of the items still to be sent, as far as known.
        cost: Dollars of the job's answers; None if the price is unknown.
        possible_cost: Dollars of the items that may have been billed besides.
        seconds: Since the run began.
        remaining: Seconds that the rest is expected to take, at the account's rate or at the pace
            so far, whichever is slower; None before anything is known.
    """

    name: EventName
    counts: Counts
    item: Item | None = None
    stop: Stop | None = None
    call: CallEvent | None = None
    requests: int = 0
    bytes_sent: int = 0
    bytes_planned: int = 0
    cost: Decimal | None = None
    possible_cost: Decimal | None = None
    seconds: float = 0.0
    remaining: float | None = None
