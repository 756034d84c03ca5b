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

from memories_async.bulk import reconcile as searchable
from memories_async.bulk import rejections, stops
from memories_async.bulk.events import Teller
from memories_async.bulk.journal import queries as records
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.queries import Head, Verdict, verdict
from memories_async.bulk.kinds import Answer, Call, Kind
from memories_async.bulk.models import Event, JournalError, Report, Status, Stop, StopReason
from memories_async.bulk.preflight import Look
from memories_async.bulk.queue import Supply
from memories_async.config import CallOptions
from memories_async.errors import ClosedError, MediaError, MemoriesError, OutcomeUnknown
from memories_async.models import Progress

if TYPE_CHECKING:
    from memories_async.client import Memories

PROBE = 30.0
"""Seconds for which the first request goes alone: a wrong key is then refused once, and not once
for every request that may be under way."""
WATCHERS = 8
"""Videos of which it is asked at once whether they are searchable."""

BULK_OPTIONS = CallOptions(attempts=100, retry_time=600.0)
"""A job has time: ten minutes of retries, throttling included, before it gives up."""


class _HeldBackError(Exception):
    """The run stopped before this request left."""


@attrs.frozen(kw_only=True)
class Orders:
    """What one run was told; see ``Job.run``."""

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
        kind: Kind,
        head: Head,
        price: Decimal | None,
        client: Memories,
        orders: Orders,
    ) -> None:
        self._journal = journal
        self._kind = kind
        self._head = head
        self._price = price
        self._client = client
        self._orders = orders
        self._supply = Supply(journal, kind.rule)
        self._teller = Teller(journal, price, orders.on_event)
        most = orders.batch_size or kind.most
        self._batch_size = 1 if kind.most == 1 else min(most, head.batch_size or most)
        self._stop: Stop | None = None
        self._held = False
        self._failures = 0
        self._taken = 0
        self._in_hand = 0
        self._taking = asyncio.Lock()
        self._probed = asyncio.Event()
        self._queued: set[asyncio.Task[None]] = set()
        self._to_watch: asyncio.Queue[int | None] = asyncio.Queue()

    async def run(self) -> Report:
        """Send what is planned, and return how it went."""
        self._teller.tell("started")
        beating = asyncio.create_task(self._journal.beat())
        try:
            await self._resolve()
            async with asyncio.TaskGroup() as tasks:
                watchers = [tasks.create_task(self._watch()) for _ in range(WATCHERS)]
                for id in await self._journal.ask(records.waiting_ids):
                    self._to_watch.put_nowait(id)
                async with asyncio.TaskGroup() as senders:
                    for number in range(self._orders.concurrency):
                        senders.create_task(self._work(first=number == 0))
                for watcher in watchers:
                    if self._held:
                        watcher.cancel()
                    self._to_watch.put_nowait(None)
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            beating.cancel()
            await asyncio.wait([beating])
        self._teller.tell("finished")
        return self._teller.report(self._stop)

    async def _resolve(self) -> None:
        """Do with unknown and failed items as the user said, once the lost ones were looked for."""
        journal, orders = self._journal, self._orders
        if self._kind.tagged and journal.tally.counts.unknown:
            try:
                found = await searchable.reconcile(
                    journal, self._head, self._client, orders.options
                )
            except MemoriesError as error:
                if not self._stops(error):
                    raise
                return
            await self._settle(found)
        status = {"retry": Status.PLANNED, "skip": Status.SKIPPED}.get(orders.unknown)
        if status is not None:
            await journal.write(records.resolve_unknown, status)
        if orders.failed == "retry":
            await journal.write(records.retry_failed)

    # --- what to send -------------------------------------------------------------------------

    async def _work(self, *, first: bool) -> None:
        if not first:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE):
                    await self._probed.wait()
        try:
            while looks := await self._take():
                try:
                    await self._send_all(looks)
                finally:
                    self._in_hand -= len(looks)
        finally:
            self._probed.set()

    async def _take(self) -> list[Look]:
        """Return the items of the next request; none where there are none, or no more may be."""
        async with self._taking:
            if self._stop is not None:
                return []
            await self._teller.tell_of(await self._supply.fill(self._batch_size))
            allowed = self._allowed() if self._supply else 0
            looks = self._supply.take(min(allowed, self._batch_size))
            self._taken += len(looks)
            self._in_hand += len(looks)
            return looks

    def _allowed(self) -> int:
        """Return how many more items may be sent; stop the run if it is none."""
        orders, allowed = self._orders, self._batch_size
        if orders.max_items is not None:
            allowed = min(allowed, orders.max_items - self._taken)
            if allowed <= 0:
                self._halt(StopReason.MAX_ITEMS, f"{orders.max_items} items have been sent")
        if orders.max_cost is not None and self._price:
            tally = self._journal.tally
            spent = tally.counts.done + tally.counts.unknown + tally.doubtful + self._in_hand
            allowed = min(allowed, int(orders.max_cost / self._price) - spent)
            if allowed <= 0:
                message = f"the next item could cost more than ${orders.max_cost} in all"
                self._halt(StopReason.MAX_COST, message)
        return max(allowed, 0)

    # --- sending ------------------------------------------------------------------------------

    async def _send_all(self, looks: list[Look]) -> None:
        """Send items in one request, or in several if the service will not have them together."""
        parts = deque([looks])
        while parts and not self._held:
            parts.extendleft(reversed(await self._send(parts.popleft())))

    async def _send(self, looks: list[Look]) -> list[list[Look]]:
        """Make one request and record what came of it; return what is to be sent again."""
        attempt = _Attempt(looks)
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._queued.add(task)
        try:
            try:
                answers = await self._kind.send(self._client, self._call(attempt))
            finally:
                self._queued.discard(task)
        except _HeldBackError:
            await self._put_back(attempt)
            return []
        except asyncio.CancelledError as error:
            # The engine notes on the exception whether the whole request had left.
            if attempt.begun and hasattr(error, "__notes__"):
                await self._settle(attempt.all_unknown("cancelled after the request had left"))
            else:
                await self._put_back(attempt)
            if self._held and not attempt.begun and task.cancelling() == 1:
                task.uncancel()  # it was the run itself that held this request back
                return []
            raise
        except JournalError:
            raise
        except MemoriesError as error:
            return await self._judge(attempt, error)
        except BaseException:
            if attempt.begun:
                await self._settle(attempt.all_unknown("the run broke off"))
            raise
        self._failures = 0
        await self._keep(attempt, answers)
        return []

    def _call(self, attempt: _Attempt) -> Call:
        async def before_sending() -> None:
            await self._begin(attempt)

        def on_progress(progress: Progress) -> None:
            self._teller.accepted(progress.sent - attempt.bytes_sent)
            attempt.bytes_sent = progress.sent

        items = [look.item for look in attempt.looks]
        fields = {**self._head.options, **items[0].options}
        options = attrs.evolve(self._orders.options, before_sending=before_sending)
        return Call(items, fields, options, on_progress)

    async def _begin(self, attempt: _Attempt) -> None:
        """Record that a request is about to leave.

        Raises:
            _HeldBackError: The run has stopped: it must not leave.
        """
        if not self._held and not attempt.begun:
            attempt.begun = True
            self._queued.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            await self._journal.write(records.start, attempt.ids)
            self._teller.requests += 1
        if self._held:
            raise _HeldBackError

    async def _judge(self, attempt: _Attempt, error: MemoriesError) -> list[list[Look]]:
        """Decide what an error means for a request's items, and for the run."""
        if self._stops(error):
            await self._put_back(attempt)
            return []
        if isinstance(error, ClosedError):
            await self._put_back(attempt)
            raise error
        again: list[list[Look]] = []
        if stops.may_have_cost(error):
            await self._settle([verdict(id, Status.UNKNOWN, error) for id in attempt.ids])
        elif len(attempt.ids) == 1:
            await self._settle([verdict(id, Status.FAILED, error) for id in attempt.ids])
        else:
            again = await self._divide(attempt, error)
        self._probed.set()
        if not isinstance(error, MediaError):
            self._failures += 1
            if self._failures >= self._orders.max_failures:
                message = f"{self._failures} requests in a row came to nothing; the last: {error}"
                self._halt(StopReason.FAILING, message, error)
        return again

    async def _divide(self, attempt: _Attempt, error: MemoriesError) -> list[list[Look]]:
        """Drop the files that a refusal names; where it names none, make smaller requests."""
        looks = attempt.looks
        local = isinstance(error, MediaError)
        names = {look.id: look.item.source if local else look.name for look in looks}
        named = rejections.named_in(rejections.words(error), names)
        if named:
            await self._put_back(attempt, [verdict(id, Status.FAILED, error) for id in named])
            left = [look for look in looks if look.id not in named]
            return [left] if left else []
        size = rejections.smaller(error, len(looks))
        if size is not None:
            self._batch_size = min(self._batch_size, size)
            await self._journal.write(records.set_batch_size, self._batch_size)
        await self._put_back(attempt)
        size = size or (len(looks) + 1) // 2
        return [looks[start : start + size] for start in range(0, len(looks), size)]

    # --- stopping -----------------------------------------------------------------------------

    def _stops(self, error: MemoriesError) -> bool:
        """Stop the run for an error that concerns every item; tell whether it was one."""
        reason = stops.reason_to_stop(error)
        if reason is not None:
            self._halt(reason, str(error), error)
        return reason is not None

    def _halt(self, reason: StopReason, message: str, error: MemoriesError | None = None) -> None:
        """Take no more items; unless a limit was reached, send nothing further either."""
        if self._stop is None or self._stop.reason in stops.LIMITS:
            self._stop = Stop(reason, message, error)
        self._probed.set()
        if reason not in stops.LIMITS:
            self._held = True
            for task in self._queued - {asyncio.current_task()}:
                task.cancel()
        self._teller.tell("stopped", stop=self._stop)

    # --- recording ----------------------------------------------------------------------------

    async def _keep(self, attempt: _Attempt, answers: Sequence[Answer]) -> None:
        """Record answers."""
        answered = list(zip(attempt.ids, answers, strict=True))
        await self._settle(
            [
                Verdict(id, Status.DONE, answer.result, answer.vector, waiting=answer.waiting)
                for id, answer in answered
            ]
        )
        self._probed.set()
        for id, answer in answered:
            if answer.waiting:
                self._to_watch.put_nowait(id)

    async def _settle(self, verdicts: Sequence[Verdict]) -> None:
        await self._journal.write(records.settle, verdicts)
        self._teller.settled += len(verdicts)
        await self._teller.tell_of([verdict.id for verdict in verdicts])

    async def _put_back(self, attempt: _Attempt, settled: Sequence[Verdict] = ()) -> None:
        """Plan a request's items again, but for those that are settled."""
        gone = [verdict.id for verdict in settled]
        back = [id for id in attempt.ids if id not in gone] if attempt.begun else []

        def change(db: sqlite3.Connection) -> None:
            records.put_back(db, back)
            records.settle(db, settled)

        if back or settled:
            await self._journal.write(change)
            await self._teller.tell_of(gone)

    async def _watch(self) -> None:
        """Wait for videos to become searchable, one after the other."""
        while (id := await self._to_watch.get()) is not None:
            found = await searchable.wait_for_video(
                self._journal, self._head, self._client, self._orders.options, id
            )
            if found is not None:
                await self._settle([found])


@attrs.define(eq=False)
class _Attempt:
    """One request: journalled once its turn has come, before its first byte leaves."""

    looks: list[Look]
    begun: bool = False
    bytes_sent: int = 0

    @property
    def ids(self) -> list[int]:
        return [look.id for look in self.looks]

    def all_unknown(self, why: str) -> list[Verdict]:
        return [verdict(id, Status.UNKNOWN, OutcomeUnknown(why)) for id in self.ids]


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error that ended the run: the others followed from it."""
    error = errors.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        return _first(cast("BaseExceptionGroup[BaseException]", error))
    return error
