"""Pace, attempt, decode: from a request to a value, by the only retry loop in the package."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from memories_async._engine.body.layout import recipe
from memories_async._engine.body.writer import Transfer
from memories_async._engine.lanes import Lane, NotDue
from memories_async._engine.outcomes import (
    error_of,
    final_error,
    note_unknown,
    unknown_after,
    value_of,
)
from memories_async._engine.pacing import Pacer, Slot
from memories_async._engine.request import (
    NOT_SENT,
    SENT,
    ProgressHook,
    Request,
    address,
    with_fields,
)
from memories_async._engine.retry import Decision, FailedAttempt, backoff, judge, pause_before_next
from memories_async._engine.transport import downloads
from memories_async._engine.transport.downloads import PartialFile
from memories_async._engine.transport.failures import Failure
from memories_async._engine.transport.http import Http
from memories_async._engine.watch import Watch
from memories_async.clock import Clock
from memories_async.config import Policy, Settings
from memories_async.errors import (
    CapacityReached,
    ConnectError,
    DeadlineExceeded,
    MemoriesError,
    OutcomeUnknown,
    RateLimited,
)
from memories_async.limiters import Limiter
from memories_async.media.inspect import inspect_sources
from memories_async.media.readers import Attachment
from memories_async.media.source import Source
from memories_async.observe.budget import Budget, free, reserve
from memories_async.observe.events import Observer
from memories_async.observe.logs import LOGGING, log
from memories_async.operations import Operation, Replay
from memories_async.secret import Secret

S = TypeVar("S")
T = TypeVar("T")


class Pipeline:
    """What turns requests into values for one client."""

    def __init__(
        self,
        settings: Settings,
        *,
        limiter: Limiter,
        clock: Clock,
        ssl_context: ssl.SSLContext | None,
        observers: Sequence[Observer] = (),
        budgets: Sequence[Budget] = (),
    ) -> None:
        self.clock = clock
        self._observers = _each_once(observers)
        self._budgets = budgets
        self.http = Http(settings, ssl_context)
        self._pacer = Pacer(settings.rates, limiter, clock)

    async def call(
        self,
        operation: Operation[T],
        fields: Mapping[str, object],
        *,
        origin: str,
        key: Secret | None,
        policy: Policy,
        sources: Sequence[Source],
        files: Sequence[Attachment],
        known: Mapping[str, object] | None,
        on_progress: ProgressHook | None,
        destination: str | None,
    ) -> T:
        """Resolve a call once, and send it; the arguments are Dispatcher.send's."""
        started = self.clock.monotonic()
        until = None if policy.deadline is None else started + policy.deadline
        headers: Mapping[str, str] = {}
        if key is not None:  # what the caller adds is for the service, not for a signed address
            headers, fields = policy.headers, with_fields(operation, fields, policy.fields)
        url, left = address(operation, fields, origin)
        with Watch(self._watching(policy.observers), operation, url, self.clock) as watch:
            if sources:
                files = await self.inspect(operation, sources, until)
            file = None
            if destination is not None:
                await self.run(lambda: downloads.check(destination), until)
                file = PartialFile(destination, self.http.budget)
            with self.http.budget.reserve_prefetched(files) as held:
                request = Request(
                    operation,
                    url=url,
                    key=key,
                    headers=headers,
                    fields=left,
                    policy=policy,
                    files=held,
                    body=recipe(operation, left, held),
                    known=known,
                    on_progress=on_progress,
                    file=file,
                    started=started,
                )
                try:
                    return await self.send(request, watch)
                finally:
                    if file is not None:
                        file.abandon()

    def _watching(self, besides: Sequence[Observer]) -> Sequence[Observer]:
        observers = _each_once((*self._observers, *besides)) if besides else self._observers
        return (*observers, LOGGING) if log.isEnabledFor(logging.INFO) else observers

    async def inspect(
        self, operation: Operation[Any], sources: Sequence[Source], until: float | None
    ) -> Sequence[Attachment]:
        """Check sources against what an operation takes, in a worker thread.

        Args:
            operation: Whose rule it is.
            sources: What the caller gave.
            until: The clock's time at which the caller's deadline passes.

        Raises:
            MediaError: At least one cannot be sent; each is named.
            ConfigurationError: One is not a kind of source.
            DeadlineExceeded: It took too long.
        """
        rule = operation.takes
        assert rule is not None, f"{operation} takes no files"
        return await self._within(until, inspect_sources(sources, rule, self.http.budget))

    async def run(self, function: Callable[[], S], until: float | None = None) -> S:
        """Run what blocks before a request can be sent, in a worker thread."""
        return await self._within(until, self.http.budget.check(function))

    async def _within(self, until: float | None, work: Awaitable[S]) -> S:
        if until is None:
            return await work
        scope = asyncio.timeout(until - self.clock.monotonic())
        try:
            async with scope:
                return await work
        except TimeoutError:
            if not scope.expired():
                raise
        raise DeadlineExceeded("the deadline passed while the files were looked at")

    async def aclose(self) -> None:
        """Close connections and threads."""
        await self.http.aclose()

    async def send(self, request: Request[T], watch: Watch) -> T:
        """Send a request as often as the replay rule, the attempts and the time allow.

        Raises:
            MemoriesError: The call failed; see errors.py for what each subclass says.
        """
        lane = self._pacer.lane(request.key, request.operation.bucket, request.origin)
        slot = Slot(lane, request.until, watch.report_lane_wait)
        failed: FailedAttempt | None = None
        unknown: OutcomeUnknown | None = None
        try:
            while True:
                outcome = await self._attempt(request, slot, watch, failed)
                if not isinstance(outcome, FailedAttempt):
                    return outcome
                failed, unknown = outcome, outcome.unknown or unknown
                pause = pause_before_next(failed)
                if pause is None:
                    break
                await self.clock.sleep(pause)
                watch.waited("backoff", pause, watch.attempt + 1)
        except BaseException as interruption:
            if unknown is not None:
                note_unknown(interruption, request.operation, unknown)
            raise
        # The frames below are ours: they tell the caller nothing.
        raise final_error(failed.error, unknown).with_traceback(None)

    async def _attempt(
        self, request: Request[T], slot: Slot, watch: Watch, before: FailedAttempt | None
    ) -> T | FailedAttempt:
        """Make one attempt, within the budgets and before the observers.

        Args:
            request: What to ask.
            slot: Its slot among the paced calls.
            watch: Whom to tell.
            before: How the attempt before it failed.
        """
        number, waited = (before.number, before.waited + before.sleep) if before else (0, 0.0)
        if not (self._budgets or watch.observed):
            return await self._try_once(request, slot, watch, number, waited)
        try:
            reserved = reserve(self._budgets, request.operation)
        except MemoriesError as error:
            return self._failed(error, request, number, waited)
        failed: FailedAttempt | None = None
        interruption: BaseException | None = None
        try:
            outcome = await self._try_once(request, slot, watch, number, waited)
            if isinstance(outcome, FailedAttempt):
                failed = outcome
        except BaseException as error:
            interruption = error
            raise
        finally:
            if watch.attempt_ended(request.operation, failed, interruption) is None:
                free(reserved, request.operation)
        return outcome

    async def _try_once(
        self, request: Request[T], slot: Slot, watch: Watch, number: int, waited: float
    ) -> T | FailedAttempt:
        """Wait for a reservation, and send.

        Args:
            request: What to ask.
            slot: Its slot among the paced calls.
            watch: Whom to tell.
            number: How many attempts there were.
            waited: Seconds that passed between them.
        """
        queued = self.clock.monotonic()
        while True:
            try:
                await slot.reserve()
            except MemoriesError as error:
                return self._failed(error, request, number, waited)
            # What a throttled call waits, it waits with its whole lane.
            in_queue = self.clock.monotonic() - queued if number else 0.0
            transfer = _transfer(request, number + 1)
            watch.attempt_started(number + 1, transfer)
            try:
                value = await self._exchange(request, transfer, slot, watch)
            except NotDue:
                continue  # nothing was sent, and no connection is held: that was no attempt
            except MemoriesError as error:
                if error is slot.refusal:
                    return self._failed(error, request, number, waited)
                return await self._judged(
                    error, request, slot.lane, transfer, watch, waited + in_queue
                )
            finally:
                await slot.release(sent=transfer.state is not NOT_SENT)
            slot.lane.succeeded()
            return value

    async def _exchange(
        self, request: Request[T], transfer: Transfer, slot: Slot, watch: Watch
    ) -> T:
        began, until = self.clock.monotonic(), request.until
        outcome = await self.http.exchange(
            request,
            transfer,
            within=None if until is None else until - began,
            departure=_Departure(request, slot, watch, self.clock, began),
        )
        if isinstance(outcome, Failure):
            raise error_of(outcome, request, transfer, self.clock.monotonic())
        watch.status = outcome.status
        value = value_of(request, outcome, transfer.attempt, self.clock.monotonic())
        if transfer.state is not SENT:
            # A refusal may come early; a result cannot be that of a request not yet whole.
            raise ConnectError("an answer came that is none to this request")
        return value

    async def _judged(
        self,
        error: MemoriesError,
        request: Request[Any],
        lane: Lane,
        transfer: Transfer,
        watch: Watch,
        waited: float,
    ) -> FailedAttempt:
        """Apply the replay rule to a failed attempt."""
        operation, number = request.operation, watch.attempt
        replay, file = operation.replay, request.file
        if file is not None and file.would_be_repeated:
            replay = Replay.BILLED
        twice = request.policy.replay == "accept_double_billing"
        decision = judge(error, transfer.state, replay, twice, number)
        unknown = None
        if judge(error, transfer.state, replay, False, number) is Decision.UNKNOWN:
            unknown = unknown_after(error, request, transfer, self.clock.monotonic())
        pause = 0.0
        if decision is Decision.RETRY:
            pause = backoff(number, self.clock.random())
        elif decision is Decision.UNKNOWN:
            error = unknown or error
        elif isinstance(error, RateLimited | CapacityReached):
            # Also where the wait is the caller's: the whole lane stays away meanwhile.
            hint = error.retry_after if isinstance(error, RateLimited) else None
            pause = await lane.throttled(hint)
            watch.throttled(pause, hint)
            if isinstance(error, RateLimited) and hint is None:
                error.retry_after = pause
        replayable = request.replayable or transfer.state is NOT_SENT
        return self._failed(error, request, number, waited, decision, pause, replayable, unknown)

    def _failed(
        self,
        error: MemoriesError,
        request: Request[Any],
        number: int,
        waited: float,
        decision: Decision = Decision.RAISE,
        pause: float = 0.0,
        replayable: bool = True,
        unknown: OutcomeUnknown | None = None,
    ) -> FailedAttempt:
        """Complete an error with what only the call knows."""
        error.operation, error.attempts = str(request.operation), number
        left = None if request.until is None else request.until - self.clock.monotonic()
        return FailedAttempt(
            error, decision, number, pause, waited, left, replayable, request.policy, unknown
        )


@attrs.define(eq=False)
class _Departure:
    """What an attempt does just before its first byte: confirm its slot, and report it."""

    request: Request[Any]
    slot: Slot
    watch: Watch
    clock: Clock
    began: float

    @property
    def stale(self) -> bool:
        return self.slot.stale

    async def confirm(self) -> None:
        self.watch.waited("connection", self.clock.monotonic() - self.began, self.watch.attempt)
        await self.slot.confirm(self.request.policy.before_sending)

    async def renew(self) -> None:
        await self.slot.renew()

    def leave(self) -> None:
        self.watch.leaving(self.request)


def _each_once(observers: Sequence[Observer]) -> Sequence[Observer]:
    """Drop what was given twice: told twice of one bill, it would count two."""
    return tuple({id(observer): observer for observer in observers}.values())


def _transfer(request: Request[Any], number: int) -> Transfer:
    length = request.body.length if request.body else 0
    return Transfer(length, number, request.on_progress if request.file is None else None)
