"""Faults put into the product on purpose: the simulation is worth what it finds of them."""

from __future__ import annotations

import contextlib
import fcntl
import struct
import termios
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import aiohttp
import attrs

from memories_async import batches
from memories_async._engine import lanes, pacing, pipeline, queues
from memories_async._engine.body.writer import Transfer
from memories_async._engine.request import State
from memories_async._engine.retry import Decision
from memories_async._engine.transport import downloads, http, payload, sessions
from memories_async._engine.transport.answers import Reply
from memories_async.bulk.journal import database, file, job_table, queries
from memories_async.callbacks import inbox
from memories_async.callbacks.inbox import CallbackInbox
from memories_async.callbacks.stores.memory import MemoryStore
from memories_async.callbacks.stores.protocol import DeliveryStatus
from memories_async.callbacks.tokens import CallbackKind
from memories_async.errors import OutcomeUnknown, ServerError
from memories_async.limiters import MemoryLimiter, Turn
from memories_async.media import readers

Plant = Callable[[], contextlib.AbstractContextManager[Any]]


@attrs.frozen
class Planted:
    """One fault.

    Attributes:
        plant: Puts it in, and takes it out again.
        seed: A life that finds it.
    """

    plant: Plant
    seed: int


# --- how they are put in ------------------------------------------------------------------------


def _nothing(*_: object, **__: object) -> None:
    return None


async def _nothing_async(*_: object, **__: object) -> None:
    return None


def _replacing(*changes: tuple[Any, str, Any]) -> Plant:
    @contextlib.contextmanager
    def plant() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for place, name, value in changes:
                stack.enter_context(patch.object(place, name, value))
            yield

    return plant


def _judging(kind: type[Exception]) -> Plant:
    right = pipeline.judge

    def judge(error: Any, state: State, *more: Any) -> Decision:
        return Decision.RETRY if isinstance(error, kind) else right(error, state, *more)

    return _replacing((pipeline, "judge", judge))


# --- the engine ---------------------------------------------------------------------------------


def _late_state(self: Transfer, size: int) -> None:
    """Note the last byte as sent after it was handed over, instead of before."""
    self.state = max(self.state, State.PARTIAL)


_ACCEPTED = Transfer.accepted


def _whole_once_accepted(self: Transfer, size: int) -> None:
    _ACCEPTED(self, size)
    if self.sent == self.total:
        self.whole()


_RESERVE, _COUNT, _RELEASE = pacing.Slot.reserve, pacing.Slot._count, pacing.Slot.release


async def _counted_when_granted(self: pacing.Slot) -> None:
    await _RESERVE(self)
    await _COUNT(self, patient=True)


async def _confirmed_already(self: pacing.Slot, before: Any = None) -> None:
    if before is not None:
        await before()


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


async def _turn_kept(self: lanes.Lane, turn: Turn) -> None:
    self.withdraw()


_LIMIT = http._Exchange._limit


def _no_answer_timer(self: http._Exchange, seconds: float | None) -> None:
    _LIMIT(self, None if seconds == self.request.policy.answer_timeout else seconds)


_EXCHANGE = http.Http.exchange


async def _place_kept(self: http.Http, *arguments: Any, **named: Any) -> Any:
    here = await self._sessions.current()
    with patch.object(here.permits, "release", _nothing):
        return await _EXCHANGE(self, *arguments, **named)


async def _believing(self: http.Http, request: Any, transfer: Transfer, **named: Any) -> Any:
    """Take an answer for this request's, even if that has not left."""
    outcome = await _EXCHANGE(self, request, transfer, **named)
    if isinstance(outcome, Reply):
        transfer.whole()
    return outcome


async def _any_time(self: pipeline.Pipeline, until: float | None, work: Any) -> Any:
    return await work


_TCP = aiohttp.TCPConnector


def _connected(protocol: Any) -> bool:
    return bool(protocol.is_connected())


def _unacknowledged(socket: Any) -> int:
    """Ask a socket that may be closed by now."""
    answer = bytearray(4)
    try:
        fcntl.ioctl(socket, termios.TIOCOUTQ, answer)
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])


_ATTEMPT = pipeline.Pipeline._attempt


async def _telling_the_key(self: pipeline.Pipeline, request: Any, *more: Any) -> Any:
    pipeline.log.debug("sending with %s", request.key and request.key.reveal())
    return await _ATTEMPT(self, request, *more)


# --- bulk and callbacks -------------------------------------------------------------------------


def _committed_together(self: file.JobFile, changes: Sequence[Any]) -> list[Any]:
    db = self._writer()
    db.execute("BEGIN IMMEDIATE")
    try:
        results = [change(db) for change in changes]
        tally = job_table.tally(db)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    self.tally = tally
    return results


_TALLY = job_table.tally


def _unpaid(db: Any) -> Any:
    return attrs.evolve(_TALLY(db), billed=0)


_SETTLE = queries.settle


def _first_answer_for_all(db: Any, settlements: Any) -> Any:
    """Give each item the first vector that is in the journal."""
    found = db.execute("SELECT vector FROM item WHERE vector IS NOT NULL LIMIT 1").fetchone()
    if found is not None:
        settlements = [attrs.evolve(one, vector=one.vector and found[0]) for one in settlements]
    return _SETTLE(db, settlements)


async def _acknowledged_and_dropped(self: MemoryStore, token: str, delivery: Any) -> Any:
    return DeliveryStatus.FIRST


async def _last_one_wins(self: MemoryStore, token: str, delivery: Any) -> Any:
    task = self._tasks.get(token)
    if task is None or (task.name is not None and task.name != delivery.name):
        return DeliveryStatus.UNKNOWN
    task.delivery = delivery
    self._subscribers.wake([delivery.name])
    return DeliveryStatus.FIRST


def _unverified(segment: str, secret: bytes) -> Any:
    token = segment.rpartition(".")[0]
    return CallbackKind(token.partition("-")[0]), token


async def _not_expected(self: CallbackInbox, token: str) -> None:
    await self._store.open(token, None, self._clock.wall())


PLANTED: dict[str, Planted] = {
    "a whole request without an answer is sent again": Planted(_judging(OutcomeUnknown), 0),
    "a server's failure is taken for a refusal": Planted(_judging(ServerError), 2),
    "the last byte is noted after it is handed over": Planted(
        _replacing(
            (Transfer, "handing_over", _late_state), (Transfer, "accepted", _whole_once_accepted)
        ),
        0,
    ),
    "a turn is taken before there is a connection": Planted(
        _replacing(
            (pacing.Slot, "reserve", _counted_when_granted),
            (pacing.Slot, "confirm", _confirmed_already),
            (pacing.Slot, "renew", _nothing_async),
        ),
        1,
    ),
    "nothing is counted": Planted(_replacing((MemoryLimiter, "take", _always)), 1),
    "a turn is not given back": Planted(_replacing((lanes.Lane, "give_back", _turn_kept)), 1),
    "a wake-up goes to one that was cancelled": Planted(
        _replacing((queues.Queue, "release", _forgotten)), 4
    ),
    "an answer may take for ever": Planted(
        _replacing((http._Exchange, "_limit", _no_answer_timer)), 0
    ),
    "a connection may take for ever": Planted(
        _replacing((http._Exchange, "connecting", _nothing)), 19
    ),
    "files are looked at beyond the deadline": Planted(
        _replacing((pipeline.Pipeline, "_within", _any_time)), 2
    ),
    "a place for a connection is never free again": Planted(
        _replacing((http.Http, "exchange", _place_kept)), 2
    ),
    "aiohttp's own pool: an unasked answer is the next call's": Planted(
        _replacing(
            (sessions._Connector, "_get", _TCP._get),
            (sessions._Connector, "_release", _TCP._release),
            (http, "is_quiet", _connected),
            (payload.Connection, "answered", False),
            (http.Http, "exchange", _believing),
        ),
        2,
    ),
    "a peer that stalls is waited for": Planted(
        _replacing((payload.Connection, "_watch", _nothing)), 62
    ),
    "a timer asks a socket that is closed": Planted(
        _replacing(
            (payload, "_unacknowledged", _unacknowledged),
            (payload.Connection, "stop_watching", _nothing),
        ),
        0,
    ),
    "a body is left behind, still being written": Planted(
        _replacing((payload.Payload, "stop", _nothing_async)), 0
    ),
    "an interrupted call says nothing of the bill": Planted(
        _replacing((http, "_note_what_may_be_billed", _nothing)), 0
    ),
    "an interrupted batch says nothing of the bill": Planted(
        _replacing((batches, "left_behind", lambda task: [])), 9
    ),
    "the key is logged": Planted(_replacing((pipeline.Pipeline, "_attempt", _telling_the_key)), 0),
    "a client that is closed raises what is not ours": Planted(
        _replacing((sessions.Sessions, "aclose", _nothing_async)), 3
    ),
    "a file that changes is sent all the same": Planted(
        _replacing((readers.FileReader, "verify", _nothing)), 1
    ),
    "a file stays open": Planted(_replacing((readers.FileReader, "close", _nothing)), 0),
    "what came of a download is left lying about": Planted(
        _replacing((downloads.PartialFile, "abandon", downloads.PartialFile._close)), 16
    ),
    "a refused change takes its neighbours with it": Planted(
        _replacing((file.JobFile, "commit", _committed_together)), 3
    ),
    "a job sends what is not written down": Planted(
        _replacing((database.Journal, "start", _nothing_async)), 22
    ),
    "a job forgets what was billed": Planted(_replacing((job_table, "tally", _unpaid)), 3),
    "a job gives an item another's vector": Planted(
        _replacing((queries, "settle", _first_answer_for_all)), 3
    ),
    "a callback is acknowledged and dropped": Planted(
        _replacing((MemoryStore, "deliver", _acknowledged_and_dropped)), 1
    ),
    "the last callback wins": Planted(_replacing((MemoryStore, "deliver", _last_one_wins)), 1),
    "an address's signature is not looked at": Planted(
        _replacing((inbox, "verify", _unverified)), 3
    ),
    "a second click is a second task": Planted(
        _replacing((CallbackInbox, "_expect", _not_expected)), 0
    ),
}
