"""One run of a job: sends what is planned, records what came of it, and knows when to stop."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, cast

import attrs

from memories_async.bulk import changes, failures, reconcile
from memories_async.bulk.departures import Departures
from memories_async.bulk.events import EventReporter
from memories_async.bulk.journal import job_table, queries
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.rows import JobHeader, Settlement
from memories_async.bulk.kinds import ItemAnswer, ItemRequest, JobKind
from memories_async.bulk.models import Event, Item, Report, Status, Stop, StopReason
from memories_async.bulk.preflight import CheckedItem
from memories_async.bulk.queue import ItemQueue
from memories_async.checks.hooks import in_turn
from memories_async.config import CallOptions, Rate
from memories_async.errors import (
    ClosedError,
    ConfigurationError,
    JournalError,
    MediaError,
    MemoriesError,
    OutcomeUnknown,
)
from memories_async.media.urls import check_url, is_url
from memories_async.models import Progress
from memories_async.observe.prices import calls_within

if TYPE_CHECKING:
    from memories_async.client import Memories

PROBE = 30.0
"""Seconds for which the first request goes alone: a wrong key is then refused once, and not once
for every request that may be under way."""
_SENDERS = 1_000
"""At once, where fewer items are planned: more may be added meanwhile."""
WATCHERS = 8
"""Videos of which it is asked at once whether they are searchable."""
ANSWER_TIMEOUT = 300.0
"""Seconds that calls in flight have to end once the run is asked to stop, unless its options name
another answer timeout."""

BULK_OPTIONS = CallOptions(attempts=100, retry_time=600.0)
"""A job has time: ten minutes of retries, throttling included, before it gives up."""


class _RunStoppedError(Exception):
    """The run stopped before this request left."""


class _FileChangedError(Exception):
    """A file of this request is another one than was checked: nothing has left."""


@attrs.frozen(kw_only=True)
class RunOptions:
    """How one run goes; see ``Job.run``."""

    concurrency: int
    batch_size: int | None
    max_cost: Decimal | None
    max_items: int | None
    unknown: Literal["keep", "retry", "skip"]
    failed: Literal["keep", "retry"]
    max_failures: int
    options: CallOptions
    on_event: Callable[[Event], object] | None


class Run:
    """One run, from its first look at the journal to its report."""

    def __init__(
        self,
        journal: Journal,
        kind: JobKind,
        header: JobHeader,
        price: Decimal | None,
        client: Memories,
        run_options: RunOptions,
        rate: Rate | None,
    ) -> None:
        self._journal = journal
        self._kind = kind
        self._header = header
        self._price = price
        self._client = client
        self._events = EventReporter(journal, price, run_options.on_event, self.stop, rate)
        observers = (*(run_options.options.observers or ()), self._events)
        options = attrs.evolve(run_options.options, observers=observers)
        self._run_options = attrs.evolve(run_options, options=options)
        self._queue = ItemQueue(journal, kind.rule)
        most = run_options.batch_size or kind.most
        self._batch_size = 1 if kind.most == 1 else min(most, header.batch_size or most)
        self._stop: Stop | None = None
        self._held = False
        self._failures = 0
        self._taken = 0
        self._in_hand: set[int] = set()
        self._taking = asyncio.Lock()
        self._settling = asyncio.Event()
        self._probed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._queued: set[asyncio.Task[None]] = set()
        self._sending: dict[asyncio.Task[None], _Attempt] = {}
        self._to_watch: asyncio.Queue[int | None] = asyncio.Queue()

    async def run(self) -> Report:
        """Send what is planned, and return how it went."""
        self._events.emit("started")
        try:
            if not self._held:
                await self._resolve()
            async with asyncio.TaskGroup() as tasks:
                watchers = [tasks.create_task(self._watch()) for _ in range(WATCHERS)]
                for id in await self._journal.execute(queries.waiting_ids):
                    self._to_watch.put_nowait(id)
                stopping = tasks.create_task(self._end_in_time(watchers))
                changed = tasks.create_task(changes.changed(self._journal))
                async with asyncio.TaskGroup() as senders:
                    # As many as could have an item at once, though more were asked for.
                    needed = max(self._journal.tally.counts.planned, _SENDERS)
                    for number in range(min(self._run_options.concurrency, needed)):
                        senders.create_task(self._work(first=number == 0))
                for watcher in watchers:
                    if self._held:
                        watcher.cancel()
                    self._to_watch.put_nowait(None)
                await asyncio.wait(watchers)
                stopping.cancel()
                if self._held:
                    changed.cancel()  # whoever ends a run does not wait for it
        except BaseExceptionGroup as errors:
            task = asyncio.current_task()
            if self._journal.closed and task is not None and task.cancelling():
                # Closed before the calls had ended: the next run finds them unknown.
                raise asyncio.CancelledError from None
            raise _first(errors) from None
        self._events.emit("finished")
        if self._events.raised is not None:
            raise self._events.raised
        changed_files = None if changed.cancelled() else len(changed.result())
        return self._events.report(self._stop, changed_files)

    def refuse(self, error: MemoriesError) -> None:
        """Send nothing at all, for a reason that holds for every item."""
        self._halt(StopReason.KEY, str(error), error)

    def stop(self) -> None:
        """Hand nothing more out, and let the calls in flight end. May be repeated."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._halt(StopReason.INTERRUPTED, "stopped on request; what had left was waited for")

    async def _end_in_time(self, watchers: Sequence[asyncio.Task[None]]) -> None:
        """Once the run is asked to stop, end what does not end by itself."""
        await self._stopping.wait()
        for watcher in watchers:
            watcher.cancel()  # whether a video is searchable can be asked at any time
        await asyncio.sleep(self._run_options.options.answer_timeout or ANSWER_TIMEOUT)
        for task in self._sending:
            task.cancel()

    async def _resolve(self) -> None:
        """Do with unknown and failed items as the user said, once the lost ones were looked for."""
        journal, run_options = self._journal, self._run_options
        if self._kind.tagged and journal.tally.counts.unknown:
            try:
                found = await reconcile.reconcile(
                    journal, self._header, self._client, run_options.options
                )
            except MemoriesError as error:
                if not self._stops(error):
                    raise
                return
            await self._settle(found, sent=False)
        status = {"retry": Status.PLANNED, "skip": Status.SKIPPED}.get(run_options.unknown)
        if status is not None:
            await journal.write(queries.resolve_unknown, status)
        if run_options.failed == "retry":
            await journal.write(queries.retry, Status.FAILED)

    # --- what to send -------------------------------------------------------------------------

    async def _work(self, *, first: bool) -> None:
        if not first:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE):
                    await self._probed.wait()
        try:
            while checked := await self._take():
                try:
                    await self._send_all(checked)
                finally:
                    self._let_go([one.id for one in checked])
        finally:
            self._probed.set()

    async def _take(self) -> list[CheckedItem]:
        """Return the items of the next request; none where there are none, or no more may be."""
        async with self._taking:
            while self._stop is None:
                left_out = await self._queue.fill(self._batch_size)
                await self._events.report_items(left_out)
                if not self._queue:
                    # What is in hand may fail, and free a duplicate, or have changed.
                    if not self._in_hand:
                        return []
                elif allowed := self._allowed():
                    taken = self._queue.take(min(allowed, self._batch_size))
                    self._taken += len(taken)
                    self._in_hand |= {one.id for one in taken}
                    return taken
                self._settling.clear()
                if self._stop is None:
                    await self._settling.wait()
            return []

    def _allowed(self) -> int:
        """Return how many more items may be sent now; stop the run if it is none for good.

        What is in hand counts as if it had been billed; if it was not, there is room again.
        """
        run_options, allowed = self._run_options, self._batch_size
        if run_options.max_items is not None:
            allowed = min(allowed, run_options.max_items - self._taken)
            if allowed <= 0 and not self._in_hand:
                self._halt(StopReason.MAX_ITEMS, f"{run_options.max_items} items have been sent")
        if run_options.max_cost is not None and self._price:
            tally = self._journal.tally
            in_hand = max(len(self._in_hand), tally.counts.sending)
            spent = tally.spent - tally.counts.sending + in_hand
            allowed = min(allowed, calls_within(run_options.max_cost, self._price) - spent)
            if allowed <= 0 and not self._in_hand:
                message = f"the next item could cost more than ${run_options.max_cost} in all"
                self._halt(StopReason.MAX_COST, message)
        return max(allowed, 0)

    def _let_go(self, ids: Sequence[int]) -> None:
        """Note that items are no longer in hand: what became of them is written down."""
        self._in_hand -= set(ids)
        self._settling.set()

    # --- sending ------------------------------------------------------------------------------

    async def _send_all(self, checked: list[CheckedItem]) -> None:
        """Send items in one request, or in several if the service will not have them together."""
        parts = deque([checked])
        while parts and not self._held:
            parts.extendleft(reversed(await self._send(parts.popleft())))

    async def _send(self, checked: list[CheckedItem]) -> list[list[CheckedItem]]:
        """Make one request and record what came of it; return what is to be sent again."""
        attempt = _Attempt(checked)
        task = asyncio.current_task()
        assert task is not None
        self._queued.add(task)
        try:
            try:
                answers = await self._kind.send(self._client, self._request(attempt))
            finally:
                self._queued.discard(task)
                self._sending.pop(task, None)
        except (_RunStoppedError, _FileChangedError) as error:
            # The engine notes on the exception whether an attempt before may have been billed.
            if hasattr(error, "__notes__"):
                await self._settle(attempt.all_unknown("sent once, and not let through again"))
                return []
            await self._put_back(attempt)
            if isinstance(error, _RunStoppedError):
                return []
            self._queue.put_changed(attempt.ids)
            self._taken -= len(attempt.ids)
            return []
        except asyncio.CancelledError as error:
            if not task.cancelling():  # nobody asked for it: a hook of the user's raised it
                return await self._settle_odd(attempt, RuntimeError("a hook was cancelled"))
            if attempt.begun and hasattr(error, "__notes__"):
                await self._settle(attempt.all_unknown("cancelled after the request had left"))
            else:
                await self._put_back(attempt)
            if self._held and task.cancelling() == 1:
                task.uncancel()  # it was the run itself that ended this request
                return []
            raise
        except JournalError as error:
            error.operation, error.attempts = None, 0  # it is the job's: no request has left
            raise
        except MemoriesError as error:
            return await self._judge(attempt, error)
        except Exception as error:
            return await self._settle_odd(attempt, error)
        except BaseException:
            if attempt.begun:
                await self._settle(attempt.all_unknown("the run broke off"))
            raise
        self._failures = 0
        await self._keep(attempt, answers)
        return []

    async def _settle_odd(self, attempt: _Attempt, error: Exception) -> list[list[CheckedItem]]:
        """Record what nobody expected: nothing that one item brings about keeps the others back."""
        doubtful = attempt.begun and not attempt.departures.unbilled
        status = Status.UNKNOWN if doubtful else Status.FAILED
        await self._settle([Settlement.of_error(id, status, error) for id in attempt.ids])
        self._count_failure(error)
        return []

    def _request(self, attempt: _Attempt) -> ItemRequest:
        async def before_sending() -> None:
            await self._begin(attempt)

        def on_progress(progress: Progress) -> None:
            self._events.accepted(progress.sent - attempt.bytes_sent)
            attempt.bytes_sent = progress.sent

        items = attempt.items
        fields = {**self._header.options, **items[0].options}
        given = self._run_options.options
        options = attrs.evolve(
            given,
            # The user's first: what that refuses, the journal never has as begun.
            before_sending=in_turn(given.before_sending, before_sending),
            observers=(*(given.observers or ()), attempt.departures),
        )
        return ItemRequest(items, fields, options, on_progress)

    async def _begin(self, attempt: _Attempt) -> None:
        """Record that a request is about to leave.

        Raises:
            _RunStoppedError: The run has stopped: it must not leave.
            _FileChangedError: A file is no longer the one whose digest the journal has.
        """
        if not self._held and await asyncio.to_thread(attempt.changed):
            raise _FileChangedError
        if not self._held and not attempt.begun:
            attempt.begun = True
            task = asyncio.current_task()
            assert task is not None
            self._queued.discard(task)
            self._sending[task] = attempt
            await self._journal.start(attempt.ids)
        if self._held:
            raise _RunStoppedError

    async def _judge(self, attempt: _Attempt, error: MemoriesError) -> list[list[CheckedItem]]:
        """Decide what an error means for a request's items, and for the run."""
        if self._stops(error):
            await self._put_back(attempt)
            return []
        if isinstance(error, ConfigurationError) and not self._is_own_fault(attempt):
            self._halt(StopReason.CONFIGURATION, str(error), error)
            await self._put_back(attempt)
            return []
        if isinstance(error, ClosedError):
            await self._put_back(attempt)
            raise error
        again: list[list[CheckedItem]] = []
        if failures.may_have_cost(error) and not attempt.departures.unbilled:
            await self._settle(attempt.all(Status.UNKNOWN, error))
        elif len(attempt.ids) == 1 or isinstance(error, ConfigurationError):
            await self._settle(attempt.all(Status.FAILED, error))
        else:
            again = await self._divide(attempt, error)
        self._probed.set()
        if not isinstance(error, MediaError):
            self._count_failure(error)
        return again

    def _is_own_fault(self, attempt: _Attempt) -> bool:
        """Tell whether planning would refuse an item of a request, by what only that item has.

        Whatever else is wrong with the settings is wrong for every item.
        """
        try:
            for item in attempt.items:
                if is_url(item.source):
                    check_url(item.source, "source")
                if item.options:
                    self._kind.check(item.options, self._header.options)
        except ConfigurationError:
            return True
        return False

    def _count_failure(self, error: Exception) -> None:
        self._failures += 1
        if self._failures >= self._run_options.max_failures:
            message = f"{self._failures} requests in a row came to nothing; the last: {error}"
            ours = error if isinstance(error, MemoriesError) else None
            self._halt(StopReason.FAILING, message, ours)

    async def _divide(self, attempt: _Attempt, error: MemoriesError) -> list[list[CheckedItem]]:
        """Drop the files that a refusal names; where it names none, make smaller requests."""
        checked = attempt.checked
        local = isinstance(error, MediaError)
        names = {one.id: one.item.source if local else one.name for one in checked}
        named = failures.named_in(failures.text_of(error), names)
        if named:
            await self._put_back(
                attempt, [Settlement.of_error(id, Status.FAILED, error) for id in named]
            )
            left = [one for one in checked if one.id not in named]
            return [left] if left else []
        size = failures.smaller_size(error, len(checked))
        if size is not None:
            self._batch_size = min(self._batch_size, size)
            await self._journal.write(job_table.set_batch_size, self._batch_size)
        await self._put_back(attempt)
        size = size or (len(checked) + 1) // 2
        return [checked[start : start + size] for start in range(0, len(checked), size)]

    # --- stopping -----------------------------------------------------------------------------

    def _stops(self, error: MemoriesError) -> bool:
        """Stop the run for an error that concerns every item; tell whether it was one."""
        reason = failures.reason_to_stop(error)
        if reason is not None:
            self._halt(reason, str(error), error)
        return reason is not None

    def _halt(self, reason: StopReason, message: str, error: MemoriesError | None = None) -> None:
        """Take no more items; unless a limit was reached, send nothing further either."""
        if self._stop is None or self._stop.reason in failures.LIMITS:
            self._stop = Stop(reason, message, error)
        self._probed.set()
        self._settling.set()
        if reason not in failures.LIMITS:
            self._held = True
            waiting = set(self._queued)
            if reason is not StopReason.INTERRUPTED:
                # What is written down may still wait for its turn, as long as no byte has left.
                waiting |= {task for task, one in self._sending.items() if one.is_waiting}
            for task in waiting - {asyncio.current_task()}:
                task.cancel()
        self._events.emit("stopped", stop=self._stop)

    # --- recording ----------------------------------------------------------------------------

    async def _keep(self, attempt: _Attempt, answers: Sequence[ItemAnswer]) -> None:
        """Record answers."""
        answered = list(zip(attempt.ids, answers, strict=True))
        await self._settle(
            [
                Settlement(id, Status.DONE, answer.result, answer.vector, waiting=answer.waiting)
                for id, answer in answered
            ]
        )
        self._probed.set()
        for id, answer in answered:
            if answer.waiting:
                self._to_watch.put_nowait(id)

    async def _settle(self, settlements: Sequence[Settlement], *, sent: bool = True) -> None:
        ids = [one.id for one in settlements]
        self._queue.put_again(await self._journal.write(queries.settle, settlements))
        self._let_go(ids)
        if sent:
            self._events.settled(len(settlements))
        await self._events.report_items(ids)

    async def _put_back(self, attempt: _Attempt, settled: Sequence[Settlement] = ()) -> None:
        """Plan a request's items again, but for those that are settled."""
        gone = [one.id for one in settled]
        back = [id for id in attempt.ids if id not in gone] if attempt.begun else []

        def change(db: sqlite3.Connection) -> list[int]:
            queries.put_back(db, back)
            return queries.settle(db, settled)

        if back or settled:
            self._queue.put_again(await self._journal.write(change))
            self._let_go(gone)
            await self._events.report_items(gone)

    async def _watch(self) -> None:
        """Wait for videos to become searchable, one after the other."""
        while (id := await self._to_watch.get()) is not None:
            found = await reconcile.wait_for_video(
                self._journal, self._header, self._client, self._run_options.options, id
            )
            if found is not None:
                await self._settle([found], sent=False)


@attrs.define(eq=False)
class _Attempt:
    """One request: journalled once its turn has come, before its first byte leaves."""

    checked: list[CheckedItem]
    begun: bool = False
    bytes_sent: int = 0
    departures: Departures = attrs.field(factory=Departures)

    @property
    def ids(self) -> list[int]:
        return [one.id for one in self.checked]

    @property
    def items(self) -> list[Item]:
        return [one.item for one in self.checked]

    @property
    def is_waiting(self) -> bool:
        """Whether certainly nothing of it has left: of a file's bytes each one is reported."""
        return not self.bytes_sent and not any(is_url(one.item.source) for one in self.checked)

    def changed(self) -> bool:
        return any(one.changed() for one in self.checked)

    def all(self, status: Status, error: MemoriesError) -> list[Settlement]:
        return [Settlement.of_error(id, status, error) for id in self.ids]

    def all_unknown(self, why: str) -> list[Settlement]:
        return self.all(Status.UNKNOWN, OutcomeUnknown(why))


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error that ended the run: the others followed from it."""
    error = errors.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        return _first(cast("BaseExceptionGroup[BaseException]", error))
    return error
