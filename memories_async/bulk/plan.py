"""The dry run: what a run would send, what not and why, without sending or changing anything."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal

from memories_async.bulk.changes import has_changed
from memories_async.bulk.journal.rows import AnsweredFile, ItemRow, JobHeader, NewItem, Tally
from memories_async.bulk.kinds import JobKind
from memories_async.bulk.models import Plan, PlannedInput, Status, UnsentReason
from memories_async.bulk.preflight import check_file, digest_of
from memories_async.config import Rate
from memories_async.errors import MediaError
from memories_async.media.urls import is_url
from memories_async.observe.prices import dollars_for

_KEPT: Mapping[Status, UnsentReason] = {
    Status.FAILED: UnsentReason.FAILED,
    Status.UNKNOWN: UnsentReason.UNKNOWN,
    Status.SKIPPED: UnsentReason.SKIPPED,
    Status.SENDING: UnsentReason.SENDING,
}
_ANSWERED = (UnsentReason.DONE, UnsentReason.DUPLICATE)


class Preview:
    """Goes through a job's items, and further inputs, as a run would.

    Args:
        kind: What is done with each item.
        header: What holds for the whole job.
        unknown: What the run would do with items of unknown outcome.
        failed: What it would do with failed ones.
    """

    def __init__(self, kind: JobKind, header: JobHeader, unknown: str, failed: str) -> None:
        self._kind = kind
        self._header = header
        self._again = {
            status
            for status, choice in ((Status.UNKNOWN, unknown), (Status.FAILED, failed))
            if choice == "retry"
        }
        self._inputs: list[PlannedInput] = []
        self._variants: list[object] = []
        # By size and options: a digest is needed only where two may be the same.
        self._sized: dict[tuple[object, int], list[tuple[str, str | None]]] = {}

    async def go_through(self, pages: AsyncIterator[Sequence[ItemRow]]) -> None:
        """Look at the job's items, those first that have an answer."""
        later: list[ItemRow] = []
        async for page in pages:
            later += await asyncio.to_thread(self._see_kept, page)
        for start in range(0, len(later), 100):
            await asyncio.to_thread(self._see_planned, later[start : start + 100])

    async def go_through_new(self, items: Sequence[NewItem]) -> None:
        """Look at inputs that are not in the job yet."""
        await asyncio.to_thread(self._see_new, items)

    def plan(self, tally: Tally, price: Decimal | None, rate: Rate | None, most: int) -> Plan:
        """Return what was found."""
        sizes: dict[object, int] = {}
        for variant in self._variants:
            sizes[variant] = sizes.get(variant, 0) + 1
        requests = sum(-(-size // most) for size in sizes.values())
        sent = [one for one in self._inputs if one.reason is None]
        return Plan(
            counts=tally.counts,
            inputs=tuple(self._inputs),
            requests=requests,
            size=sum(one.size or 0 for one in sent),
            price=price,
            cost=None if price is None else dollars_for(len(sent), price),
            possible_cost=tally.costs(price)[1],
            seconds=requests * rate.seconds / rate.calls if rate else 0.0,
        )

    def _see_kept(self, rows: Sequence[ItemRow]) -> list[ItemRow]:
        planned: list[ItemRow] = []
        for row in rows:
            item = row.item
            if item.status is Status.PLANNED or item.status in self._again:
                planned.append(row)
                continue
            original = item.status is not Status.FAILED and item.duplicate_of is None
            if item.sha256 is not None and original:
                key = _key(item.options), item.size or 0
                self._sized.setdefault(key, []).append((item.source, item.sha256))
            reason, message = _KEPT.get(item.status, UnsentReason.DONE), item.error or ""
            if item.duplicate_of is not None:
                reason = UnsentReason.DUPLICATE
            if reason in _ANSWERED and _has_changed(row):
                reason, message = UnsentReason.CHANGED, "its file has changed since it was answered"
            self._inputs.append(PlannedInput(item.source, item.size, reason, message))
        return planned

    def _see_planned(self, rows: Sequence[ItemRow]) -> None:
        for row in rows:
            self._see(row.item.source, row.item.options)

    def _see_new(self, items: Sequence[NewItem]) -> None:
        for item in items:
            self._see(item.source, item.options)

    def _see(self, source: str, options: Mapping[str, object]) -> None:
        variant = _key(options)
        if is_url(source):
            self._inputs.append(PlannedInput(source))
            self._variants.append(variant)
            return
        try:
            check_file(source, self._kind.rule)
            size = os.stat(source).st_size
            original = self._original(source, variant, size)
        except Exception as error:  # whatever it is, a run would hold it against this file
            found = _size(source)
            reason = UnsentReason.EMPTY if found == 0 else UnsentReason.UNFIT
            self._inputs.append(PlannedInput(source, found, reason, _words(error)))
            return
        if original is not None:
            message = f"the same content and options as {original}"
            self._inputs.append(PlannedInput(source, size, UnsentReason.DUPLICATE, message))
        else:
            self._inputs.append(PlannedInput(source, size))
            self._variants.append(variant)

    def _original(self, source: str, variant: str, size: int) -> str | None:
        """Return what has the same content and options and comes first, or None."""
        others = self._sized.setdefault((variant, size), [])
        own: str | None = None
        if others:
            own = digest_of(source)
            for place, (other, digest) in enumerate(others):
                known = digest or _digest_if_there(other)
                others[place] = other, known
                if known == own:
                    return other
        others.append((source, own))
        return None


def _key(options: Mapping[str, object]) -> str:
    return repr(sorted(options.items()))


def _has_changed(row: ItemRow) -> bool:
    item, (size, modified, _, _) = row.item, row.seen
    file = AnsweredFile(item.id, item.source, (size, modified))
    return item.sha256 is not None and has_changed(file)


def _digest_if_there(path: str) -> str | None:
    try:
        return digest_of(path)
    except OSError:
        return None


def _size(path: str) -> int | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _words(error: Exception) -> str:
    if isinstance(error, MediaError):
        return error.message
    return str(getattr(error, "strerror", None) or error)
