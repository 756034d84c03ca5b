"""Job: a file that remembers everything about a run that may take days."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import attrs

from memories_async.bulk import exports
from memories_async.bulk import reconcile as searchable
from memories_async.bulk.inputs import chunks, kept
from memories_async.bulk.journal import lock as lease
from memories_async.bulk.journal import queries as records
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.queries import Head
from memories_async.bulk.kinds import KINDS, Kind
from memories_async.bulk.models import Counts, Event, Inputs, Item, Plan, Report, Status
from memories_async.bulk.runner import BULK_OPTIONS, Orders, Run
from memories_async.config import DOCUMENTED_RATES, CallOptions, Rate
from memories_async.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memories_async.client import Memories

PAGE = 500


class Job:
    """A bulk job: inputs of one kind, each sent once, in as many runs as it takes.

    ``Job.create`` plans one and ``Job.open`` finds it again; ``run`` sends what is still to be
    sent. Everything is in one SQLite file with paths, options and answers, and never a key.

    Attributes:
        path: The file.
        kind: What is done with each item.
        options: What every call is given.
        price: Dollars per item; None if it is unknown.
        created_at: When it was planned, in UTC.
    """

    def __init__(self, journal: Journal, head: Head) -> None:
        self._journal = journal
        self.path: str = journal.path
        self.kind: Kind = KINDS[head.kind]
        self.options: Mapping[str, object] = head.options
        self.price: Decimal | None = self.kind.price if head.price is None else head.price
        self.created_at: datetime = head.created_at

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, {self.kind.name!r})"

    @classmethod
    async def create(
        cls,
        path: str | os.PathLike[str],
        kind: str,
        inputs: Inputs,
        *,
        options: Mapping[str, object] | None = None,
        price: Decimal | float | str | None = None,
    ) -> Job:
        """Plan a job; nothing is sent.

        The inputs are written down as they are found, all of them or none: where planning is cut
        short there is no job, and the path can be used again.

        Args:
            path: The file to make; readable by its owner only.
            kind: ``add_images``, ``embed_images``, ``caption_images``, ``caption_videos`` or
                ``add_videos``; ``KINDS`` describes them.
            inputs: What to send: a folder, a glob pattern, a file, a URL, a ``.jsonl`` or ``.txt``
                file, an ``Input``, or any iterable or async iterable of these.
            options: Arguments of every call, e.g. ``{"prompt": "Describe this."}``.
            price: Dollars per item. By default what is documented, and that is only the price of
                an image's embedding; without a price costs are unknown and cannot be capped.

        Returns:
            The job, open.

        Raises:
            ConfigurationError: No such kind, a bad option, price or input, nothing to send, or
                the file exists.
            JournalError: The file cannot be written.
        """
        if kind not in KINDS:
            raise ConfigurationError(f"no kind of job is called {kind!r}: {', '.join(KINDS)}")
        row, given = KINDS[kind], kept(options or {})
        row.check(given)
        head = Head(kind, given, _dollars("price", price), datetime.now(UTC))
        journal = Journal(path)
        try:
            await journal.create()
        except BaseException:
            await journal.aclose()
            raise
        try:
            await journal.ask(records.write_head, head)
            added = 0
            async for chunk in chunks(inputs, row, given):
                added += await journal.ask(records.add, chunk)
            if not added:
                raise ConfigurationError(f"nothing to send was found for {kind}")
            await journal.complete()
        except BaseException:
            await journal.abandon()
            raise
        return cls(journal, head)

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> Job:
        """Open a job that was planned before; whether it is being run does not matter.

        Args:
            path: Its file.

        Returns:
            The job.

        Raises:
            ConfigurationError: There is no such file, or it is no job.
            JournalError: The file cannot be read.
        """
        journal = Journal(path)
        try:
            await journal.open()
            return cls(journal, await journal.ask(records.read_head))
        except BaseException:
            await journal.aclose()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the file; calls from now on raise JournalError. May be repeated."""
        await self._journal.aclose()

    async def add(self, inputs: Inputs) -> int:
        """Plan more inputs; one that the job has already, with the same options, is left out.

        Args:
            inputs: As for ``create``. A run under way may leave them to the next.

        Returns:
            How many were added.

        Raises:
            ConfigurationError: An input is none, or has a bad option; those before it stay.
            JournalError: The file cannot be written.
        """
        added = 0
        async for chunk in chunks(inputs, self.kind, self.options):
            added += await self._journal.write(records.add, chunk)
        return added

    async def counts(self) -> Counts:
        """Return how many items have which status, also while another process runs the job."""
        return (await self._journal.ask(records.tally)).counts

    async def running(self) -> bool:
        """Tell whether a live run, here or elsewhere, has the job."""
        return await self._journal.ask(lease.holder) is not None

    async def plan(self, *, rate: Rate | None = None, batch_size: int | None = None) -> Plan:
        """Say what a run would do: the dry run. Nothing is sent.

        Args:
            rate: The account's limit; by default the documented one.
            batch_size: Files per request, as for ``run``.

        Returns:
            The number of items and requests, their bytes, price and duration.

        Raises:
            ConfigurationError: ``batch_size`` is below 1.
        """
        most = _at_least("batch_size", batch_size, 1) or self.kind.most
        head = await self._journal.ask(records.read_head)
        most = 1 if self.kind.most == 1 else min(most, head.batch_size or most)
        tally = await self._journal.ask(records.tally)
        sizes = await self._journal.ask(records.variant_sizes)
        requests = sum(-(-size // most) for size in sizes)
        rate = rate or DOCUMENTED_RATES[self.kind.bucket]
        return Plan(
            counts=tally.counts,
            requests=requests,
            size=tally.planned_bytes,
            price=self.price,
            cost=None if self.price is None else tally.counts.planned * self.price,
            possible_cost=tally.costs(self.price)[1],
            seconds=requests * rate.seconds / rate.calls,
        )

    async def run(
        self,
        client: Memories,
        *,
        concurrency: int = 4,
        batch_size: int | None = None,
        max_cost: Decimal | float | str | None = None,
        max_items: int | None = None,
        unknown: Literal["keep", "retry", "skip"] = "keep",
        failed: Literal["keep", "retry"] = "keep",
        max_failures: int = 20,
        options: CallOptions | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> Report:
        """Send what is planned; may be interrupted in any way and called again.

        An item is in the journal as ``sending`` before its first byte leaves and as ``done``, with
        its answer, once that has been read. What was being sent when a run died is ``unknown``,
        and is not sent again unless ``unknown="retry"`` says so. What concerns one item ends up
        with that item; what concerns all of them (no credits, a refused key, no connection) stops
        the run, with nothing further sent.

        Args:
            client: Whose account pays, and whose limits pace the run.
            concurrency: Requests under way, or waiting for their turn, at once (default 4).
            batch_size: Files per request where one may hold several (default 20); what the
                service says is the most goes before it.
            max_cost: Dollars that the job may cost over all its runs, with what unknown items may
                have cost counted in.
            max_items: Items that this run may send.
            unknown: What becomes of items whose outcome is unknown: ``keep`` them (default),
                ``retry`` and risk paying twice, or ``skip`` them for good. Videos are looked for
                in the library first.
            failed: ``retry`` plans failed items again; by default they stay as they are.
            max_failures: Requests in a row that may come to nothing before the run stops.
            options: Deadline, attempts and timeouts of each call; by default ten minutes of
                retries.
            on_event: Told of every step, on the loop: it must be quick.

        Returns:
            How it went. An early end is in ``stopped`` and raises nothing.

        Raises:
            ConfigurationError: A bad argument, or ``max_cost`` where the price is unknown.
            JobBusy: Another run of the job is alive, or took it over.
            JournalError: The journal cannot be written, e.g. because the disk is full; nothing
                was sent that is not in it.
        """
        if unknown not in ("keep", "retry", "skip") or failed not in ("keep", "retry"):
            raise ConfigurationError("unknown is keep, retry or skip; failed is keep or retry")
        dollars = _dollars("max_cost", max_cost)
        if dollars is not None and self.price is None:
            raise ConfigurationError(
                f"max_cost needs to know what {self.kind.name} costs, which is not documented: "
                "create the job with a price"
            )
        given = attrs.asdict(options, filter=lambda _, value: value is not None) if options else {}
        orders = Orders(
            concurrency=_at_least("concurrency", concurrency, 1) or 1,
            batch_size=_at_least("batch_size", batch_size, 1),
            max_cost=dollars,
            max_items=_at_least("max_items", max_items, 0),
            unknown=unknown,
            failed=failed,
            max_failures=_at_least("max_failures", max_failures, 1) or 1,
            options=attrs.evolve(BULK_OPTIONS, **given),
            on_event=on_event,
        )
        journal = self._journal
        await journal.lease()
        try:
            head = await journal.ask(records.read_head)
            return await Run(journal, self.kind, head, self.price, client, orders).run()
        finally:
            await journal.release()

    async def reconcile(self, client: Memories) -> int:
        """Look in the library for videos whose upload has no known outcome; free.

        Each video of a job carries a tag made of its content's digest, by which it is listed. A
        run does this by itself before it does anything about unknown items.

        Args:
            client: The account that the videos were added to.

        Returns:
            How many were found; they are ``done`` now.

        Raises:
            ConfigurationError: The job is of another kind: nothing else can be found again.
            JobBusy: The job is being run.
            ApiError: The service refused.
        """
        if not self.kind.tagged:
            raise ConfigurationError(f"{self.kind.name} leaves nothing that can be found by a tag")
        await self._journal.lease()
        try:
            head = await self._journal.ask(records.read_head)
            found = await searchable.reconcile(self._journal, head, client)
            await self._journal.write(records.settle, found)
        finally:
            await self._journal.release()
        return len(found)

    async def items(self, *, status: Status | str | None = None) -> AsyncIterator[Item]:
        """Yield the items in the order of the inputs.

        Args:
            status: Only those with this status.

        Raises:
            ConfigurationError: There is no such status.
        """
        async for page in self._pages(_status(status)):
            for item in page:
                yield item

    async def export(self, path: str | os.PathLike[str], *, format: str | None = None) -> int:
        """Write one row per input, with status, answer and error.

        Args:
            path: The file to write; it is replaced once the new one is whole.
            format: ``jsonl`` or ``parquet`` (needs pyarrow); by default what the extension says.

        Returns:
            How many rows were written.

        Raises:
            ConfigurationError: No such format, or its package is not installed.
            OSError: The file cannot be written.
        """
        name = os.fspath(path)
        chosen = exports.format_of(name, format)
        return await exports.write(name, chosen, self.kind, self._pages(None))

    async def vectors(self) -> tuple[list[str], NDArray[np.float32]]:
        """Return all embeddings as one NumPy array, in memory.

        Returns:
            The sources, and an array with one row of float32 numbers for each.

        Raises:
            ConfigurationError: NumPy is not installed, or the vectors have different lengths.
        """
        return await exports.vectors(self._pages(None))

    async def _pages(self, status: Status | None) -> AsyncIterator[Sequence[Item]]:
        place = 0
        while page := await self._journal.ask(records.items_after, place, PAGE, status):
            yield page
            place = page[-1].id


def _status(status: Status | str | None) -> Status | None:
    try:
        return None if status is None else Status(status)
    except ValueError:
        raise ConfigurationError(f"no item is {status!r}: {', '.join(Status)}") from None


def _dollars(name: str, value: Decimal | float | str | None) -> Decimal | None:
    if value is None:
        return None
    try:
        dollars = Decimal(str(value))
    except InvalidOperation:
        dollars = Decimal("nan")
    if not dollars.is_finite() or dollars < 0:
        raise ConfigurationError(f"{name} is a number of dollars, not {value!r}")
    return dollars


def _at_least(name: str, value: int | None, least: int) -> int | None:
    if value is not None and value < least:
        raise ConfigurationError(f"{name} must be at least {least}, not {value}")
    return value
