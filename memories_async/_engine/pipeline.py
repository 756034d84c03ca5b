"""Pace, attempt, decode: from a request to a value, by the only retry loop in the package."""

from __future__ import annotations

import logging
import ssl
from typing import Any, Generic, NoReturn, TypeVar

import attrs
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from memories_async._engine import envelope
from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.layout import Recipe, recipe
from memories_async._engine.body.writer import Transfer
from memories_async._engine.convert import structure
from memories_async._engine.pacing import Lane, Pacer
from memories_async._engine.request import Request, State
from memories_async._engine.retry import Verdict, backoff, judge
from memories_async._engine.transport.http import Failure, Fault, Http, Reply, Saved
from memories_async.clock import Clock
from memories_async.config import Settings
from memories_async.errors import (
    AnswerTimeout,
    AnswerTooLarge,
    ConnectError,
    ConnectTimeout,
    DeadlineExceeded,
    DnsError,
    MemoriesError,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    StallTimeout,
    TlsError,
    UnexpectedShape,
)
from memories_async.limiters import Limiter, Turn
from memories_async.operations import Answer, Operation, Replay
from memories_async.results import completed

T = TypeVar("T")

log = logging.getLogger("memories_async")

_NOT_CONNECTED: dict[Fault, type[ConnectError]] = {
    Fault.DNS: DnsError,
    Fault.CERTIFICATE: TlsError,
    Fault.CONNECT: ConnectError,
    Fault.CONNECT_TIMEOUT: ConnectTimeout,
}


class Pipeline:
    """What turns requests into values for one client."""

    def __init__(
        self,
        settings: Settings,
        *,
        budget: UploadBudget,
        limiter: Limiter,
        clock: Clock,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.settings = settings
        self.budget = budget
        self.clock = clock
        self.http = Http(settings, ssl_context)
        self._pacer = Pacer(settings.rates, limiter, clock)

    async def send(self, request: Request[T]) -> T:
        """Send a request as often as the replay rule, the attempts and the time allow.

        Raises:
            MemoriesError: The call failed; see errors.py for what each subclass says.
        """
        operation = request.operation
        lane = self._pacer.lane(self.settings.key(operation.service), operation.bucket)
        call = _Call(self, request, lane, recipe(request))
        try:
            return await call.attempt()
        except MemoriesError as error:
            call.failed = error
        # Tenacity comes in only now, told of the attempt that failed: its machinery would cost a
        # call that succeeds at once another tenth of its CPU.
        retrying = AsyncRetrying(
            sleep=self.clock.sleep,
            wait=call.wait,
            stop=call.must_stop,
            retry=retry_if_exception(call.may_retry),
            before_sleep=call.note_retry,
            reraise=True,
        )
        try:
            return await retrying(call.attempt_again)
        except MemoriesError as error:
            # The frames below are ours and tenacity's: they tell the caller nothing.
            raise error.with_traceback(None)  # noqa: B904  # it is the same error

    async def aclose(self) -> None:
        """Close connections and threads."""
        await self.http.aclose()
        self.budget.close()


@attrs.define(eq=False)
class _Call(Generic[T]):
    """One call, through all its attempts."""

    pipeline: Pipeline
    request: Request[T]
    lane: Lane
    body: Recipe | None
    started: float = attrs.field(init=False)
    number: int = 0
    verdict: Verdict = Verdict.RAISE
    pause: float = 0.0
    waited: float = 0.0
    transfer: Transfer = attrs.field(init=False)
    failed: MemoriesError | None = None
    """The first attempt's error, until tenacity has been told of it."""

    def __attrs_post_init__(self) -> None:
        self.started = self.pipeline.clock.monotonic()
        self.transfer = self._transfer()

    def _transfer(self) -> Transfer:
        length = self.body.length if self.body else 0
        downloading = self.request.destination is not None
        hook = None if downloading else self.request.on_progress
        return Transfer(length, max(self.number, 1), hook)

    @property
    def _until(self) -> float | None:
        deadline = self.request.policy.deadline
        return None if deadline is None else self.started + deadline

    async def attempt(self) -> T:
        """Make one attempt; what it raises has its verdict in ``self.verdict``."""
        self.verdict = Verdict.RAISE
        queued = self.pipeline.clock.monotonic()
        try:
            turn = await self.lane.enter(self._until)
        except MemoriesError as error:
            self._complete(error)
            raise
        if self.number:  # what a throttled call waits, it waits here, with its whole lane
            self.waited += self.pipeline.clock.monotonic() - queued
        self.number += 1
        self.transfer = self._transfer()
        try:
            return completed(await self._try_once(turn), attempts=self.number)
        except MemoriesError as error:
            self._complete(error)
            self._settle(error)

    async def attempt_again(self) -> T:
        """Fail as the first attempt did, then make further ones."""
        if self.failed is not None:
            failed, self.failed = self.failed, None
            raise failed
        return await self.attempt()

    async def _try_once(self, turn: Turn) -> T:
        request, transfer, pipeline = self.request, self.transfer, self.pipeline
        log.debug("%s: attempt %d", request.operation, self.number)
        try:
            if request.policy.before_sending is not None:
                await request.policy.before_sending()
            outcome = await pipeline.http.exchange(
                request, self.body, transfer, pipeline.budget, self._left()
            )
        finally:
            if transfer.state is State.NOT_SENT:
                self.lane.leave_unused(turn)
        if transfer.failure is not None:
            raise transfer.failure
        if isinstance(outcome, Failure):
            raise self._error_of(outcome)
        data = _data_of(outcome, request.operation)
        value = structure(data, request.operation.result, request.known)
        self.lane.succeeded()
        return value

    def _left(self) -> float | None:
        return None if self._until is None else self._until - self.pipeline.clock.monotonic()

    def _complete(self, error: MemoriesError) -> None:
        """Complete an error with what only the call knows."""
        error.operation = str(self.request.operation)
        error.attempts = self.number

    def _settle(self, error: MemoriesError) -> NoReturn:
        """Judge a failed attempt, and raise what the caller is to see if it was the last."""
        policy, operation = self.request.policy, self.request.operation
        self.verdict = judge(
            error,
            self.transfer.state,
            operation.replay,
            policy.replay == "accept_double_billing",
            self.number,
        )
        if self.verdict is Verdict.THROTTLED:
            hint = error.retry_after if isinstance(error, RateLimited) else None
            self.pause = self.lane.throttled(hint)
            if isinstance(error, RateLimited) and hint is None:
                error.retry_after = self.pause
        if self.verdict is Verdict.UNKNOWN and not isinstance(error, OutcomeUnknown):
            raise self._unknown(
                OutcomeUnknown,
                f"the service failed: {error.message}",
                getattr(error, "status", None),
                state="ANSWERED",
            ) from error
        raise error

    def may_retry(self, error: BaseException) -> bool:
        """Tell tenacity whether the attempt may be repeated at all."""
        return self.verdict in (Verdict.RETRY, Verdict.THROTTLED)

    def wait(self, state: RetryCallState) -> float:
        """Tell tenacity how long to wait; a throttled call waits with its whole lane instead."""
        if self.verdict is Verdict.THROTTLED:
            return 0.0
        return backoff(self.number, self.pipeline.clock.random())

    def must_stop(self, state: RetryCallState) -> bool:
        """Tell tenacity whether attempts, time or the source are used up."""
        wait = self.pause if self.verdict is Verdict.THROTTLED else state.upcoming_sleep
        left = self._left()
        consumed = self.transfer.state is not State.NOT_SENT and not self.request.replayable
        return (
            consumed
            or self.number >= self.request.policy.attempts
            or self.waited + wait > self.request.policy.retry_time
            or (left is not None and wait > left)
        )

    def note_retry(self, state: RetryCallState) -> None:
        """Count and log a wait that is about to begin."""
        wait = self.pause if self.verdict is Verdict.THROTTLED else state.upcoming_sleep
        self.waited += state.upcoming_sleep
        error = state.outcome.exception() if state.outcome else None
        log.info("%s: again in %.1f s: %s", self.request.operation, wait, error)

    def _error_of(self, failure: Failure) -> MemoriesError:
        """Say what a failed exchange means to the caller."""
        fault = failure.fault
        message = f"{fault.value} ({failure.detail})" if failure.detail else fault.value
        if (kind := _NOT_CONNECTED.get(fault)) is not None:
            return kind(message)
        if fault is Fault.TOO_LARGE:
            return AnswerTooLarge("the answer exceeds 16 MiB", status=failure.status)
        if self.transfer.state is State.SENT:
            if fault is Fault.TIMED_OUT:
                left = self._left()
                late = "before the deadline" if left is not None and left <= 0 else "in time"
                return self._unknown(AnswerTimeout, f"no answer came {late}", failure.status)
            return self._unknown(OutcomeUnknown, message, failure.status)
        so_far = f"after {self.transfer.sent} of {self.transfer.total} bytes"
        if fault is Fault.TIMED_OUT:
            return DeadlineExceeded(f"the deadline passed {so_far}")
        if fault is Fault.STALLED:
            seconds = self.request.policy.stall_timeout
            return StallTimeout(f"the peer accepted no byte for {seconds:g} s {so_far}")
        return ConnectError(f"{message} {so_far}")

    def _unknown(
        self, kind: type[OutcomeUnknown], message: str, status: int | None, state: str = "SENT"
    ) -> OutcomeUnknown:
        operation = self.request.operation
        error = kind(
            message,
            state=state,
            bytes_sent=self.transfer.sent,
            elapsed=self.pipeline.clock.monotonic() - self.started,
            sent_at=self.transfer.sent_at,
            request_digest=self.request.digest(),
            status=status,
            operation=str(operation),
            attempts=self.number,
        )
        if operation.replay is Replay.FREE_READ:
            error.advice = "The call is free and changes nothing: call again"
        return error


def _data_of(outcome: Reply | Saved, operation: Operation[Any]) -> object:
    """Return what the operation's result is made of."""
    if isinstance(outcome, Saved):
        return attrs.asdict(outcome)
    if operation.answer is Answer.STATUS and 200 <= outcome.status < 300:
        return None
    data = envelope.decode(outcome.status, outcome.headers, outcome.body)
    if operation.answer is Answer.FILE:
        raise UnexpectedShape("the answer is JSON instead of a file", status=outcome.status)
    if data is None and operation.null_means:
        raise NotFound(operation.null_means, code="404", status=outcome.status)
    return data
