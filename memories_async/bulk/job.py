"""Job: a file that remembers everything about a run that may take days."""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import attrs

from memories_async.bulk import changes, exports, reconcile
from memories_async.bulk.inputs.find import chunks
from memories_async.bulk.inputs.selection import Selection
from memories_async.bulk.inputs.values import kept
from memories_async.bulk.journal import file, job_table, lock, merge, queries
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.rows import ItemRow, JobHeader
from memories_async.bulk.kinds import CLIENT, KINDS, JobKind, check_billed_once, dollars
from memories_async.bulk.models import Counts, Event, Inputs, Item, Plan, Report, Status
from memories_async.bulk.plan import Preview
from memories_async.bulk.runner import BULK_OPTIONS, Run, RunOptions
from memories_async.checks import checked
from memories_async.checks.kinds import AMOUNT, ANYTHING, COUNT, Kind, is_sequence, shown
from memories_async.checks.parameters import between
from memories_async.config import DOCUMENTED_RATES, CallOptions, Rate
from memories_async.errors import ConfigurationError, JournalError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memories_async.client import Memories

PAGE = 500


def _is_which(value: object) -> bool:
    return isinstance(value, str) or is_sequence(value)


@checked(
    {
        "inputs": ANYTHING,  # as they are taken
        "client": CLIENT,
        "price": AMOUNT,
        "max_cost": AMOUNT,
        "concurrency": COUNT,
        "batch_size": COUNT,
        "max_failures": COUNT,
        "max_items": between(0, math.inf),
        "paths": Kind("a sequence of paths", is_sequence),
        "which": Kind("a status, 'changed' or numbers of items", _is_which),
    }
)
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

    def __init__(self, journal: Journal, header: JobHeader, /) -> None:
        self._journal = journal
        self._run: Run | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runs_requested = 0
        self._stop_requested = False
        self.path: str = journal.path
        self.kind: JobKind = KINDS[header.kind]
        self.options: Mapping[str, object] = header.options
        self.price: Decimal | None = self.kind.price if header.price is None else header.price
        self.created_at: datetime = header.created_at

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
        include: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        shard: str | tuple[int, int] | None = None,
    ) -> Job:
        """Plan a job; nothing is sent.

        The inputs are written down as they are found, all of them or none: where planning is cut
        short there is no job, and the path can be used again.

        Args:
            path: The file to make; readable by its owner only.
            kind: ``add_images``, ``embed_images``, ``caption_images``, ``caption_videos`` or
                ``add_videos``; ``KINDS`` describes them.
            inputs: What to send: a folder, a glob pattern, a file, a URL, a ``.jsonl`` or ``.txt``
                file, an ``Input``, or any iterable or async iterable of these. A file that is
                missing among several, in a list or as an ``Input`` is an item that fails; a
                missing path that is the only one, or ends in ``/``, is refused.
            options: Arguments of every call, e.g. ``{"prompt": "Describe this."}``.
            price: Dollars per item. By default what is documented, and that is only the price of
                an image's embedding; without a price costs are unknown and cannot be capped.
            include: Take only inputs whose name fits one of these patterns: ``"*.jpg"`` means a
                file, or a folder, of that name anywhere; ``"2024/**/*.jpg"`` is relative to the
                folder, or to the pattern's fixed part, that was given.
            exclude: Leave out what fits one of these patterns.
            shard: Take one of several parts, ``"3/10"`` or ``(3, 10)``, so that ten machines can
                share the inputs. An input belongs to the same part everywhere, by its name
                relative to the folder, or the pattern's fixed part, that it was found in. An entry
                of a list goes by its name relative to the list, if it lies beneath the list's
                folder; a list that is named relatively must be named alike everywhere. What comes
                from an iterable or from standard input goes by the name that it has there. So what
                is absolute in these, or elsewhere than its list, must be so named everywhere.
                Content that has two names may be in two parts. The job's own files are never
                inputs.

        Returns:
            The job, open.

        Raises:
            ConfigurationError: No such kind, a bad option, price, input, pattern or shard,
                nothing to send, or the file exists.
            JobBusy: The same job is being planned by somebody else.
            JournalError: The file cannot be written.
        """
        if cast("object", kind) not in tuple(KINDS):
            raise ConfigurationError(f"no kind of job is called {kind!r}: {', '.join(KINDS)}")
        row, given = KINDS[kind], kept(options or {})
        row.check(given)
        selection = Selection.of(include, exclude, shard, file.own_files(path))
        header = JobHeader(kind, given, dollars(price), datetime.now(UTC))
        journal = Journal(path)
        try:
            await journal.create()
            await journal.execute(job_table.write_header, header)
            added = 0
            async for chunk in chunks(inputs, row, given, selection):
                added += await journal.execute(queries.add, chunk)
            if not added:
                raise ConfigurationError(f"nothing to send was found for {kind}")
            await journal.complete()
        except BaseException:
            await journal.abandon()
            raise
        return cls(journal, header)

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> Job:
        """Open a job that was planned before; whether it is being run does not matter.

        A file of an older version of this package is upgraded, where it can be written; on
        read-only media it can be read and exported.

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
            header = await journal.execute(job_table.read_header)
            if header.kind not in KINDS:
                raise ConfigurationError(f"{journal.path} is for {header.kind!r}, which is no job")
            return cls(journal, header)
        except BaseException:
            await journal.aclose()
            raise

    @classmethod
    async def merge(
        cls, paths: Sequence[str | os.PathLike[str]], into: str | os.PathLike[str]
    ) -> Job:
        """Make one job of several, e.g. of the shards that ten machines have worked on.

        Each input is in the new job once, with the best that is known of it: an answer before a
        doubt, a doubt before anything else. Costs add up. From then on only the new job can be
        run; the old ones can be read, but two that send the same would bill it twice.

        Args:
            paths: The jobs' files; of one kind, with the same options and price.
            into: The file to make.

        Returns:
            The new job, open.

        Raises:
            ConfigurationError: The jobs do not belong together, one is named twice, or the file
                exists.
            JobBusy: One of them is being run.
            JournalError: One was merged into another job, is not whole, or cannot be written.
        """
        journal, header = await merge.merge(paths, into)
        return cls(journal, header)

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

    async def add(
        self,
        inputs: Inputs,
        *,
        include: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        shard: str | tuple[int, int] | None = None,
    ) -> int:
        """Plan more inputs; one that the job has already, with the same options, is left out.

        Args:
            inputs: As for ``create``. A run under way may leave them to the next.
            include: As for ``create``.
            exclude: As for ``create``.
            shard: As for ``create``.

        Returns:
            How many were added.

        Raises:
            ConfigurationError: An input is none, or has a bad option; those before it stay.
            JournalError: The file cannot be written.
        """
        added = 0
        selection = Selection.of(include, exclude, shard, file.own_files(self.path))
        async for chunk in chunks(inputs, self.kind, self.options, selection):
            added += await self._journal.write(queries.add, chunk)
        return added

    async def counts(self) -> Counts:
        """Return how many items have which status, also while another process runs the job."""
        return (await self._journal.execute(job_table.tally)).counts

    async def changed(self) -> int:
        """Return how many answered items, or duplicates of such, have another file by now.

        A file's size and time of modification are looked at, and no file is read. ``plan`` names
        these items, and ``retry("changed")`` has the next run send them again.

        Raises:
            JournalError: The job's file cannot be read.
        """
        return len(await changes.changed(self._journal))

    async def running(self) -> bool:
        """Tell whether a live run, here or elsewhere, has the job."""
        return await asyncio.to_thread(lock.holder, self.path) is not None

    async def set_price(self, price: Decimal | float | str) -> None:
        """Say what an item costs, so that costs are known and can be capped.

        Args:
            price: Dollars per item; it is kept in the job's file. It is the price of what was sent
                before, too: a lower one makes that cheaper, and so room under ``max_cost``.

        Raises:
            ConfigurationError: It is no number of dollars.
            JournalError: The file cannot be written.
        """
        given = dollars(price)
        await self._journal.write(job_table.set_price, given)
        self.price = given

    async def retry(self, which: Status | str | Sequence[int] = Status.FAILED) -> int:
        """Plan items again, for the next run to send.

        Args:
            which: A status (``failed`` by default; ``unknown`` and ``done`` risk or mean paying
                again), ``changed`` for answered items whose file has changed since, or the
                numbers of items.

        Returns:
            How many were planned again; none of those that are being sent.

        Raises:
            ConfigurationError: There is no such status, or nothing of it can be sent again.
            JournalError: The file cannot be written.
        """
        if which == "changed":
            return await self._journal.write(
                queries.retry_by_id, await changes.changed(self._journal)
            )
        if isinstance(which, str):
            status = _status(which)
            if status in (None, Status.PLANNED, Status.SENDING):
                raise ConfigurationError(f"what is {which} will be sent, or is on its way")
            return await self._journal.write(queries.retry, status)
        return await self._journal.write(queries.retry_by_id, _numbers(which))

    async def recover(self) -> int:
        """Go on with a file that was copied or moved without the ``-wal`` file beside it.

        What was sent last is not in such a file, so every item that it calls planned becomes
        unknown, to be kept, looked for, sent again or skipped as ``run(unknown=...)`` says.

        Returns:
            How many items became unknown; 0 where nothing is missing.

        Raises:
            JobBusy: The job is being run.
            JournalError: The file cannot be written.
        """
        return await self._journal.recover()

    @classmethod
    async def remove(cls, path: str | os.PathLike[str]) -> None:
        """Delete a job: its file, and what lies beside it. What it held is lost.

        Args:
            path: The file; it may be damaged, as long as its header says that it is a job.

        Raises:
            ConfigurationError: There is no such file, or it is no job.
            JobBusy: The job is being run.
            JournalError: The file cannot be deleted.
        """
        try:
            await asyncio.to_thread(file.remove, path)
        except OSError as error:
            raise JournalError(f"{os.fspath(path)}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise JournalError(f"{os.fspath(path)}: {error}") from error

    async def plan(
        self,
        inputs: Inputs | None = None,
        *,
        client: Memories | None = None,
        rate: Rate | None = None,
        batch_size: int | None = None,
        unknown: Literal["keep", "retry", "skip"] = "keep",
        failed: Literal["keep", "retry"] = "keep",
        include: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        shard: str | tuple[int, int] | None = None,
    ) -> Plan:
        """Say what a run would do, input by input: the dry run. Nothing is sent or changed.

        Every file that would be sent is looked at as a run looks at it; files are read whole
        only where two of the same size may have the same content.

        Args:
            inputs: What ``add`` would be given before the run.
            client: Whose limits would pace the run.
            rate: The account's limit; by default the client's, or without a client the
                documented one.
            batch_size: Files per request, as for ``run``.
            unknown: As for ``run``.
            failed: As for ``run``.
            include: As for ``add``.
            exclude: As for ``add``.
            shard: As for ``add``.

        Returns:
            What would be sent and what not, and why; requests, bytes, price and duration.

        Raises:
            ConfigurationError: ``batch_size`` is below 1, or an input is none.
        """
        most = batch_size or self.kind.most
        header = await self._journal.execute(job_table.read_header)
        most = 1 if self.kind.most == 1 else min(most, header.batch_size or most)
        preview = Preview(self.kind, header, unknown, failed)
        await preview.go_through(self._row_pages(None))
        if inputs is not None:
            selection = Selection.of(include, exclude, shard, file.own_files(self.path))
            async for chunk in chunks(inputs, self.kind, self.options, selection):
                await preview.go_through_new(await self._journal.execute(queries.missing, chunk))
        if rate is None:
            documented = DOCUMENTED_RATES[self.kind.bucket]
            rate = documented if client is None else self.kind.rate_of(client)
        tally = await self._journal.execute(job_table.tally)
        return preview.plan(tally, self.price, rate, most)

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
        price: Decimal | float | str | None = None,
        options: CallOptions | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> Report:
        """Send what is planned; may be interrupted in any way and called again.

        An item is in the journal as ``sending`` before its first byte leaves and as ``done``, with
        its answer, once that has been read. What was being sent when a run died is ``unknown``,
        and is not sent again unless ``unknown="retry"`` says so. What concerns one item ends up
        with that item; what concerns all of them (no credits, a refused key, no connection, a
        budget without a price) stops the run, with nothing further sent.

        Args:
            client: Whose account pays, and whose limits pace the run.
            concurrency: Requests under way, or waiting for their turn, at once (default 4).
            batch_size: Files per request where one may hold several (default 20); what the
                service says is the most goes before it.
            max_cost: Dollars that the job may cost over all its runs, at the price that it has now,
                with what unknown items may have cost counted in.
            max_items: Items that this run may send.
            unknown: What becomes of items whose outcome is unknown: ``keep`` them (default),
                ``retry`` and risk paying twice, or ``skip`` them for good. Videos are looked for
                in the library first.
            failed: ``retry`` plans failed items again; by default they stay as they are.
            max_failures: Requests in a row that may come to nothing before the run stops.
            price: Dollars per item, as for ``set_price``.
            options: Deadline, attempts and timeouts of each call; by default ten minutes of
                retries. What is done stays so, whichever fields and headers it was sent with. A
                ``before_sending``, here or of the client, is awaited before an item is written
                down as being sent: what it raises is that item's failure, nothing is sent, and
                nothing is unknown. It is awaited before free requests (for videos), too.
            on_event: Told of every step, on the loop: it must be quick. What it raises ends the
                run in order, as ``stop`` does, and is raised in the end.

        Returns:
            How it went. An early end is in ``stopped`` and raises nothing.

        Raises:
            ConfigurationError: A bad argument, ``max_cost`` where the price is unknown, or with
                ``replay="accept_double_billing"``, by which an item may cost twice.
            JobBusy: Another run of the job is alive, here or elsewhere; it is not disturbed.
            JournalError: The journal cannot be written, e.g. because the disk is full; nothing
                was sent that is not in it.
        """
        budget = dollars(max_cost)
        if budget is not None and self.price is None and price is None:
            raise ConfigurationError(
                f"max_cost needs to know what {self.kind.name} costs, which is not documented: "
                "say it with price"
            )
        given = _given(options)
        call_options = attrs.evolve(BULK_OPTIONS, **given)
        check_billed_once(client, call_options, budget)
        run_options = RunOptions(
            concurrency=concurrency or 1,
            batch_size=batch_size,
            max_cost=budget,
            max_items=max_items,
            unknown=unknown,
            failed=failed,
            max_failures=max_failures or 1,
            options=call_options,
            on_event=on_event,
        )
        journal = self._journal
        self._runs_requested += 1
        try:
            held = await journal.lock()
            try:
                if price is not None:
                    await self.set_price(price)
                header = await journal.execute(job_table.read_header)
                rate = self.kind.rate_of(client)
                run = Run(journal, self.kind, header, self.price, client, run_options, rate)
                self._run, self._loop = run, asyncio.get_running_loop()
                if (problem := self.kind.missing_key(client)) is not None:
                    run.refuse(problem)
                if self._stop_requested:
                    run.stop()
                return await run.run()
            finally:
                self._run = None
                await journal.unlock(held)
        finally:
            self._runs_requested -= 1
            self._stop_requested = self._stop_requested and self._runs_requested > 0

    def stop(self) -> None:
        """Have the run under way hand out nothing more, and end once the calls in flight have.

        Requests that wait for their turn are not sent; what has left is waited for, for no longer
        than the answer timeout, and written down. The run's report says ``interrupted``. Does
        nothing where this object runs nothing. May be called from any thread or signal handler,
        and more than once; to abort at once, cancel the run.
        """
        run, loop = self._run, self._loop
        if run is not None and loop is not None:
            loop.call_soon_threadsafe(run.stop)
        elif self._runs_requested:
            self._stop_requested = True

    async def reconcile(self, client: Memories, *, options: CallOptions | None = None) -> int:
        """Look in the library for videos whose upload has no known outcome; free.

        Each video of a job carries a tag made of its content's digest, by which it is listed. A
        run does this by itself before it does anything about unknown items.

        Args:
            client: The account that the videos were added to.
            options: Deadline, attempts and timeouts of each request.

        Returns:
            How many were found; they are ``done`` now.

        Raises:
            ConfigurationError: The job is of another kind: nothing else can be found again.
            JobBusy: The job is being run.
            ApiError: The service refused.
        """
        if not self.kind.tagged:
            raise ConfigurationError(f"{self.kind.name} leaves nothing that can be found by a tag")
        held = await self._journal.lock("reconciliation")
        try:
            header = await self._journal.execute(job_table.read_header)
            found = await reconcile.reconcile(self._journal, header, client, options)
            await self._journal.write(queries.settle, found)
        finally:
            await self._journal.unlock(held)
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
            format: ``jsonl``, ``csv`` or ``parquet`` (needs pyarrow); by default what the extension
                says.

        Returns:
            How many rows were written.

        Raises:
            ConfigurationError: No such format, its package is not installed, or the name is one of
                a job's own, such as that of its lock.
            OSError: The file cannot be written.
        """
        name = os.fspath(path)
        chosen = exports.format_of(name, format)
        return await exports.write(name, chosen, self.kind, self._pages(None), self.path)

    async def vectors(self) -> tuple[list[str], NDArray[np.float32]]:
        """Return all embeddings as one NumPy array, in memory.

        Returns:
            The sources, and an array with one row of float32 numbers for each.

        Raises:
            ConfigurationError: NumPy is not installed, or the vectors have different lengths.
        """
        return await exports.vectors(self._pages(None))

    async def _pages(self, status: Status | None) -> AsyncIterator[Sequence[Item]]:
        async for rows in self._row_pages(status):
            yield [row.item for row in rows]

    async def _row_pages(self, status: Status | None) -> AsyncIterator[Sequence[ItemRow]]:
        place = 0
        while page := await self._journal.execute(queries.rows_after, place, PAGE, status):
            yield page
            place = page[-1].item.id


def _given(options: CallOptions | None) -> dict[str, Any]:
    """Return what is set of a call's options."""
    if options is None:
        return {}
    return attrs.asdict(options, recurse=False, filter=lambda _, value: value is not None)


def _numbers(which: object) -> list[int]:
    if not isinstance(which, Iterable):
        raise ConfigurationError(
            f"what to retry is a status or numbers of items, not {shown(which)}"
        )
    numbers: list[int] = []
    for number in cast("Iterable[object]", which):
        if type(number) is not int or not 0 < number < 2**63:
            raise ConfigurationError(f"{shown(number)} is no number of an item")
        numbers.append(number)
    return numbers


def _status(status: Status | str | None) -> Status | None:
    try:
        return None if status is None else Status(status)
    except ValueError:
        raise ConfigurationError(f"no item is {shown(status)}: {', '.join(Status)}") from None
