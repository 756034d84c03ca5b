"""What should be on the bill: a file of all that was, or may have been, billed."""

from __future__ import annotations

import collections
import errno
import json
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal, TypeAlias

import attrs

from memories_async import _json
from memories_async._lines import lines
from memories_async.checks import checked
from memories_async.checks.files import is_open_in_sqlite
from memories_async.checks.kinds import MAPPING, shown
from memories_async.errors import ConfigurationError
from memories_async.observe.events import AttemptEnded, Charged, Event, RequestLeaving
from memories_async.observe.prices import dollars_for, prices_with

log = logging.getLogger("memories_async")

ReceiptStatus: TypeAlias = Literal["billed", "perhaps billed", "not billed"]

_SENT: Final = "sent"
_STATUSES: Final[Mapping[str, ReceiptStatus]] = {
    _SENT: "perhaps billed",
    "billed": "billed",
    "perhaps billed": "perhaps billed",
    "not billed": "not billed",
}
_NEWLINE: Final = b"\n"
_BEGINNING: Final = b'{"id"'
_FIRST: Final = (_BEGINNING[:1], _NEWLINE, b"\0")
"""What a file of receipts begins with; a power cut may have left zeros."""


@attrs.frozen(kw_only=True)
class Receipt:
    """One attempt that was, or may have been, billed.

    Attributes:
        id: Tells attempts apart, over all processes.
        time: When it left.
        operation: The public method.
        attempt: Its number within the call, from 1.
        digest: A short fingerprint of what was asked.
        status: Whether it was billed, as far as is known.
    """

    id: str
    time: datetime
    operation: str
    attempt: int
    digest: str
    status: ReceiptStatus


class Receipts:
    """Writes a line before a request that may be billed leaves, and one when it is known whether.

    An observer for ``Memories(observers=[...])``. The file only ever grows; any number of clients,
    threads and processes may write to one. Each line is written by one call of the system, before
    the first byte leaves: what a killed process had sent and heard nothing of is read as perhaps
    billed. A power cut may lose the last lines. A line that cannot be written is logged, and the
    call goes on.

    Args:
        path: The file; made, readable by its owner only, if it does not exist.

    Raises:
        ConfigurationError: It cannot be written to.
    """

    @checked
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._open: dict[tuple[int, int], tuple[str, datetime]] = {}
        self._file = _AppendOnly(self._path)

    def __reduce__(self) -> tuple[object, ...]:
        return Receipts, (self._path,)

    def __repr__(self) -> str:
        return f"Receipts({self._path!r})"

    def observe(self, event: Event, /) -> None:
        """Write what the event says of money."""
        if not event.call.billable:
            return
        match event:
            case RequestLeaving():
                entry = secrets.token_hex(8), datetime.now(UTC)
                self._open[event.call.number, event.attempt] = entry
                self._write(entry, event, event.digest, _SENT)
            case Charged():
                self._close(event, event.digest, event.certainty)
            case AttemptEnded():
                # Comes after Charged: what is still open was neither billed nor perhaps billed.
                self._close(event, "", "not billed")
            case _:
                pass

    def _close(self, event: Charged | AttemptEnded, digest: str, status: ReceiptStatus) -> None:
        entry = self._open.pop((event.call.number, event.attempt), None)
        if entry is not None:
            self._write(entry, event, digest, status)

    def _write(
        self,
        entry: tuple[str, datetime],
        event: RequestLeaving | Charged | AttemptEnded,
        digest: str,
        status: str,
    ) -> None:
        line = {
            "id": entry[0],
            "time": entry[1].isoformat(timespec="milliseconds"),
            "operation": event.call.operation,
            "attempt": event.attempt,
            "digest": digest,
            "status": status,
        }
        self._file.append(json.dumps(line).encode())


class _AppendOnly:
    """A file to which whole lines are added, from any thread or process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = _open_to_append(path)
        size = os.fstat(self._descriptor).st_size
        if not size:
            return
        if os.read(self._descriptor, 1) not in _FIRST:
            raise ConfigurationError(f"{path} is no file of receipts: nothing is added to it")
        # A line that a full disk cut short shall not take the next one with it.
        os.lseek(self._descriptor, -1, os.SEEK_END)  # Windows has no pread
        if os.read(self._descriptor, 1) != _NEWLINE:
            os.write(self._descriptor, _NEWLINE)

    def append(self, line: bytes) -> None:
        if not os.fstat(self._descriptor).st_nlink:  # deleted: nobody would ever read it
            anew = _open_to_append(self._path)
            os.dup2(anew, self._descriptor, inheritable=False)  # other threads may be writing
            os.close(anew)
        written = os.write(self._descriptor, line + _NEWLINE)
        if written <= len(line):
            raise OSError(errno.ENOSPC, "a receipt was cut short", self._path)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def _open_to_append(path: str) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        if os.path.exists(path) and is_open_in_sqlite(os.stat(path)):
            raise ConfigurationError(f"{path} is an SQLite file that this process has open")
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise ConfigurationError(f"receipts cannot be written to {path}: {error}") from None


@checked
def read_receipts(path: str | os.PathLike[str]) -> list[Receipt]:
    """Return what a file of receipts says, in the order in which the requests left.

    Of lines that cannot be read, because a full disk or a power cut left part of them, their number
    is logged.

    Args:
        path: The file.

    Raises:
        ConfigurationError: The path is none, or the file cannot be read or is none of receipts; or
            it is a device, or a pipe by name, which may never end.
    """
    try:
        return _read(os.fspath(path))
    except OSError as error:
        raise ConfigurationError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None


def _read(path: str) -> list[Receipt]:
    found: dict[str, Receipt] = {}
    broken = 0
    for line in lines(path):
        start = max(line.rfind(_BEGINNING), 0)  # before it may stand what was cut short
        receipt = _receipt(line[start:])
        broken += bool(line[:start].strip()) + (receipt is None and bool(line[start:].strip()))
        if receipt is None:
            continue
        before = found.setdefault(receipt.id, receipt)
        if before.status == "perhaps billed":  # what is known for certain stays
            digest = before.digest or receipt.digest  # elsewhere it may be known only later
            found[receipt.id] = attrs.evolve(before, status=receipt.status, digest=digest)
    if broken and not found:
        raise ConfigurationError(f"{path} is no file of receipts")
    if broken:
        log.warning("%s: %d lines are no whole receipts", path, broken)
    return [receipt for receipt in found.values() if receipt.status != "not billed"]


def _receipt(line: bytes) -> Receipt | None:
    try:
        entry: object = json.loads(line)
        if not _json.is_object(entry):
            return None
        return Receipt(
            id=str(entry["id"]),
            time=_utc(datetime.fromisoformat(str(entry["time"]))),
            operation=str(entry["operation"]),
            attempt=int(str(entry["attempt"])),
            digest=str(entry["digest"]),
            status=_STATUSES[str(entry["status"])],
        )
    except (ValueError, KeyError, RecursionError, OverflowError):
        return None


def _utc(time: datetime) -> datetime:
    """Return a time by UTC, as one without an offset is meant."""
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


@attrs.frozen(kw_only=True)
class Total:
    """What is to be expected on the bill.

    Attributes:
        day: The day, by UTC.
        operation: The public method.
        status: Whether it was billed, as far as is known.
        count: How many times.
        dollars: What they cost; None where the service documents no price.
    """

    day: str
    operation: str
    status: ReceiptStatus
    count: int
    dollars: Decimal | None


@checked({"prices": attrs.evolve(MAPPING, wanted="a mapping of calls to dollars")})
def totals(
    receipts: Iterable[Receipt], prices: Mapping[str, float | Decimal] | None = None
) -> Iterator[Total]:
    """Sum receipts by day, operation and status.

    Args:
        receipts: What was read.
        prices: Dollars per success by public method, before and beside the documented ones.

    Raises:
        ConfigurationError: An argument is none of these.
    """
    known = prices_with(prices, "totals")
    counts: collections.Counter[tuple[str, str, ReceiptStatus]] = collections.Counter()
    for receipt in receipts:
        if not isinstance(receipt, Receipt):
            raise ConfigurationError(f"totals: {shown(receipt)} is among them; receipts are wanted")
        counts[_utc(receipt.time).date().isoformat(), receipt.operation, receipt.status] += 1
    return (
        Total(
            day=day,
            operation=operation,
            status=status,
            count=count,
            dollars=None if (price := known.get(operation)) is None else dollars_for(count, price),
        )
        for (day, operation, status), count in sorted(counts.items())
    )
