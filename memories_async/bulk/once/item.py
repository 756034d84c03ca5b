"""One item on its way: asked of the ledger, sent if that lets it, and reported."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import BinaryIO, Generic, TypeVar

import attrs

from memories_async._engine.body.threads import in_thread
from memories_async.bulk.departures import Departures
from memories_async.bulk.journal.rows import FileState
from memories_async.bulk.ledger import Begun, Entry, Ledger, UnknownPolicy
from memories_async.bulk.models import Status
from memories_async.bulk.once.identity import OnceSource, Openable, fingerprint_of
from memories_async.bulk.once.records import Record, kept, read
from memories_async.checks.hooks import in_turn
from memories_async.config import CallOptions
from memories_async.errors import (
    DecodeError,
    LedgerUnavailable,
    MediaChanged,
    MediaError,
    MemoriesError,
    OutcomeUnknown,
)
from memories_async.media import Media
from memories_async.models import Result

T = TypeVar("T", bound=Result)

POLL_INTERVAL = 0.25
"""Seconds between two looks at an item that another worker is sending."""


@attrs.frozen
class CallKind(Generic[T]):
    """A kind of item: how it is sent, and what the answer is."""

    name: str
    send: Callable[..., Awaitable[T]]
    model: type[T]


class _LedgerRefusalError(Exception):
    """The ledger said that a request must not leave."""


@attrs.define(eq=False)
class SentItem(Generic[T]):
    """One item on its way."""

    ledger: Ledger
    unknown: UnknownPolicy
    patience: float
    kind: CallKind[T]
    source: OnceSource
    given: Mapping[str, object]
    key: str
    seen: FileState | None
    price: Decimal | None
    max_cost: Decimal | None
    options: CallOptions
    token: str = attrs.field(factory=lambda: secrets.token_hex(16))
    departures: Departures = attrs.field(factory=Departures)
    began: Entry | None = None
    said: Begun | None = None
    lost: MemoriesError | None = None

    async def send(self) -> Record[T]:
        """Send it if the ledger lets it, and report what came of it."""
        try:
            known = await self._settled_by_others()
        except Exception as error:
            return self._record(Status.PLANNED, _unavailable(error))
        if known is not None and known.status is Status.DONE:
            return self._replayed(known)
        if not isinstance(self.source, Openable):
            return await self._send(self.source)
        try:
            file = await in_thread(self.source.open)
        except Exception as error:
            return await self._record_failure(error)
        try:
            return await self._send(Media(file, name=self.source.name))
        finally:
            # Only now that the ledger knows the outcome: whoever is cancelled here, or has a store
            # that fails to close what was only read, has lost nothing.
            loop = asyncio.get_running_loop()
            await asyncio.shield(loop.run_in_executor(None, _close, file))

    async def _send(self, source: str | os.PathLike[str] | bytes | Media) -> Record[T]:
        given = self.options
        options = attrs.evolve(
            given,
            # The user's first: what that refuses, the ledger never has as begun.
            before_sending=in_turn(given.before_sending, self._begin),
            observers=(*(given.observers or ()), self.departures),
        )
        try:
            value = await self.kind.send(source, **self.given, options=options)
        except _LedgerRefusalError as error:
            # The engine notes on the exception whether an attempt before may have been billed.
            notes = getattr(error, "__notes__", ())
            if notes and self.said is not Begun.DONE:
                return await self._record_failure(OutcomeUnknown("; ".join(notes)))
            with contextlib.suppress(Exception):
                await self._settle(Status.PLANNED)
            return self._not_sent()
        except asyncio.CancelledError as error:
            status = Status.UNKNOWN if getattr(error, "__notes__", None) else Status.PLANNED
            with contextlib.suppress(Exception):
                await self._settle(status, error=str(error))
            raise
        except Exception as error:
            return await self._record_failure(error)
        result, vector = kept(value)
        try:
            await self._settle(Status.DONE, result=result, vector=vector)
        except Exception as error:
            # It is paid for, and here it is; only the ledger does not know it, and would have it
            # for unknown. The error's own advice, that nothing was sent, is for another moment.
            reason = _unavailable(error).message.rstrip(".")
            text = f"{reason}. This was sent and billed: keep the value, the ledger does not"
            return self._record(Status.DONE, text, value)
        return self._record(Status.DONE, None, value)

    async def _settled_by_others(self) -> Entry | None:
        """Return what the ledger knows, once others who send the same have had time to report."""
        waited = 0.0
        while True:
            known = await self.ledger.find(self.key)
            if known is None or known.status is not Status.SENDING or waited >= self.patience:
                return known
            await asyncio.sleep(POLL_INTERVAL)
            waited += POLL_INTERVAL

    async def _begin(self) -> None:
        if await in_thread(self._changed):
            # Its answer would be kept under the digest of what is no longer there.
            self.lost = MediaChanged(f"{self.source!r} changed while it was looked at: not sent")
            raise _LedgerRefusalError
        try:
            said, entry = await self.ledger.begin(
                self.key,
                self.token,
                unknown=self.unknown,
                price=self.price,
                max_cost=self.max_cost,
            )
        except Exception as error:
            self.lost = _unavailable(error)
            raise _LedgerRefusalError from None
        self.said, self.began = said, entry
        if said is not Begun.SEND:
            raise _LedgerRefusalError

    def _changed(self) -> bool:
        try:
            return fingerprint_of(self.source) != self.seen
        except OSError:
            return True

    def _not_sent(self) -> Record[T]:
        if self.lost is not None:
            return self._record(Status.PLANNED, self.lost)
        if self.said is Begun.DONE and self.began is not None:
            return self._replayed(self.began)
        if self.said is Begun.OVER_BUDGET:
            return self._record(Status.PLANNED, "max_cost: it could cost more than is allowed")
        return self._record(
            Status.UNKNOWN,
            "an attempt began and was never heard of again: it may have been billed",
        )

    async def _record_failure(self, error: Exception) -> Record[T]:
        unbilled = self.departures.unbilled
        if isinstance(error, OutcomeUnknown) and not unbilled:
            status = Status.UNKNOWN  # also where the ledger did not let it leave a second time
        elif self.said is not Begun.SEND:  # it never came so far
            status = Status.FAILED if isinstance(error, MediaError) else Status.PLANNED
            return self._record(status, error)
        elif isinstance(error, DecodeError) or not isinstance(error, MemoriesError):
            status = Status.PLANNED if unbilled else Status.UNKNOWN
        else:
            status = Status.FAILED
        with contextlib.suppress(Exception):
            await self._settle(status, error=str(error))
        return self._record(status, error)

    async def _settle(
        self,
        status: Status,
        *,
        result: str | None = None,
        vector: bytes | None = None,
        error: str | None = None,
    ) -> None:
        if self.began is None:
            return
        outcome = Entry(
            status=status,
            token=self.token,
            sent_at=self.began.sent_at,
            result=result,
            vector=vector,
            error=error,
        )
        # Whoever is cancelled now does not wait for it, but it is written down.
        await asyncio.shield(self.ledger.settle(self.key, outcome))

    def _replayed(self, entry: Entry) -> Record[T]:
        value = read(self.kind.model, entry)
        return Record(status=Status.DONE, value=value, replayed=True, key=self.key)

    def _record(
        self, status: Status, error: Exception | str | None, value: T | None = None
    ) -> Record[T]:
        attempts = getattr(error, "attempts", None)
        if attempts is None:
            attempts = 0 if value is None else value.attempts
        return Record(
            status=status,
            value=value,
            error=None if error is None else str(error),
            attempts=attempts,
            key=self.key,
        )


def _close(file: BinaryIO) -> None:
    with contextlib.suppress(Exception):
        file.close()


def _unavailable(error: Exception) -> MemoriesError:
    """Return what is wrong with a ledger; one of the caller's own may raise anything."""
    if isinstance(error, MemoriesError):
        return error
    return LedgerUnavailable(f"the ledger raised {type(error).__name__}: {error}")
