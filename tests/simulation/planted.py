"""Faults put into the product on purpose: the simulation is worth what it finds of them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from unittest.mock import patch

from memories_async._engine import pacing, pipeline, queues
from memories_async._engine.body.writer import Transfer
from memories_async._engine.request import State
from memories_async._engine.retry import Verdict
from memories_async._engine.transport import http, payload, sessions
from memories_async.callbacks.stores.memory import MemoryStore
from memories_async.callbacks.stores.protocol import DeliveryStatus
from memories_async.errors import OutcomeUnknown
from memories_async.limiters import MemoryLimiter, Turn

Plant = Callable[[], contextlib.AbstractContextManager[Any]]


def _judging(wrong: Callable[[Any, State], bool]) -> Plant:
    right = pipeline.judge

    def judge(error: Any, state: State, *more: Any) -> Verdict:
        return Verdict.RETRY if wrong(error, state) else right(error, state, *more)

    return lambda: patch.object(pipeline, "judge", judge)


def _nothing(*_: object, **__: object) -> None:
    return None


async def _nothing_async(*_: object, **__: object) -> None:
    return None


def _replacing(place: Any, name: str, value: Any) -> Plant:
    return lambda: patch.object(place, name, value)


def _late_state(self: Transfer, size: int) -> None:
    """Note the last byte as sent after it was handed over, instead of before."""
    self.state = max(self.state, State.PARTIAL)


_ACCEPTED = Transfer.accepted


def _whole_once_accepted(self: Transfer, size: int) -> None:
    _ACCEPTED(self, size)
    if self.sent == self.total:
        self.whole()


@contextlib.contextmanager
def _sent_too_late() -> Iterator[None]:
    with (
        patch.object(Transfer, "handing_over", _late_state),
        patch.object(Transfer, "accepted", _whole_once_accepted),
    ):
        yield


_ENTER, _COUNT = pacing.Place.enter, pacing.Place._count


async def _counted_when_granted(self: pacing.Place) -> None:
    await _ENTER(self)
    await _COUNT(self, patient=True)


async def _confirmed_already(
    self: pacing.Place, before: Callable[[], Awaitable[object]] | None = None
) -> None:
    if before is not None:
        await before()


@contextlib.contextmanager
def _turn_before_connection() -> Iterator[None]:
    with (
        patch.object(pacing.Place, "enter", _counted_when_granted),
        patch.object(pacing.Place, "confirm", _confirmed_already),
    ):
        yield


def _forgotten(self: queues.Queue) -> None:
    """Wake the next one even if it has been cancelled: then nobody is woken."""
    if self._waiting:
        _, future = queues.heapq.heappop(self._waiting)
        if not future.done():
            future.set_result(None)
        return
    self.taken = False


async def _always(self: MemoryLimiter, lane: str, rate: Any, clock: Any) -> Turn:
    return Turn()


_LIMIT = http._Exchange._limit


def _no_answer_timer(self: http._Exchange, seconds: float | None) -> None:
    _LIMIT(self, None if seconds == self.request.policy.answer_timeout else seconds)


async def _place_kept(
    self: http.Http,
    request: Any,
    transfer: Transfer,
    *,
    within: float | None,
    before_first_byte: Any,
) -> Any:
    here = await self._sessions.current()
    await here.places.acquire()
    ends = None if within is None else queues.asyncio.get_running_loop().time() + within
    exchange = http._Exchange(request, transfer, self.budget, ends, before_first_byte)
    return await exchange.run(here.session, None)


async def _acknowledged_and_dropped(self: MemoryStore, token: str, delivery: Any) -> Any:
    return DeliveryStatus.FIRST


_LOG_ATTEMPT = pipeline.Pipeline._attempt


async def _telling_the_key(self: pipeline.Pipeline, request: Any, *more: Any) -> Any:
    pipeline.log.debug("sending with %s", request.key and request.key.reveal())
    return await _LOG_ATTEMPT(self, request, *more)


PLANTED: dict[str, Plant] = {
    "a whole request without an answer is sent again": _judging(
        lambda error, state: isinstance(error, OutcomeUnknown)
    ),
    "the last byte is noted after it is handed over": _sent_too_late,
    "a turn is taken before there is a connection": _turn_before_connection,
    "nothing is counted": _replacing(MemoryLimiter, "take", _always),
    "a wake-up goes to one that was cancelled": _replacing(queues.Queue, "release", _forgotten),
    "an answer may take for ever": _replacing(http._Exchange, "_limit", _no_answer_timer),
    "a place for a connection is never free again": _replacing(http.Http, "exchange", _place_kept),
    "a callback is acknowledged and dropped": _replacing(
        MemoryStore, "deliver", _acknowledged_and_dropped
    ),
    "a peer that stalls is waited for": _replacing(payload.Connection, "_watch", _nothing),
    "the key is logged": _replacing(pipeline.Pipeline, "_attempt", _telling_the_key),
    "a client that is closed raises what is not ours": _replacing(
        sessions.Sessions, "aclose", _nothing_async
    ),
}
