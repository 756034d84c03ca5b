"""What must hold after every step of a life, whatever happened in it."""

from __future__ import annotations

import enum
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from memories_async import DecodeError, OutcomeUnknown, Rate
from memories_async.emulator.ledger import LedgerEntry
from memories_async.limiters import MemoryLimiter, Turn
from memories_async.operations import OPERATIONS

SENTINEL = "sentinel"
"""A part of every key: where it is seen, a key is."""


class BrokenInvariantError(AssertionError):
    """Something that must never be so was so."""


class Fate(enum.Enum):
    """What whoever asked knows of a request."""

    UNDER_WAY = "nothing yet"
    ANSWERED = "it has the answer"
    TOLD = "it may have been billed"
    REFUSED = "it was certainly not billed"


def fate_of(error: BaseException | None) -> Fate:
    """Return what an exception says about the bill."""
    if error is None:
        return Fate.ANSWERED
    noted = any("billed" in note for note in getattr(error, "__notes__", ()))
    if noted or isinstance(error, OutcomeUnknown | DecodeError):
        return Fate.TOLD
    return Fate.REFUSED


@attrs.define(eq=False)
class Request:
    """What is asked once, and may be paid for once.

    Attributes:
        name: How the story calls it.
        marks: Digests of its files, or words of its fields, that no other request has.
        costs: Whether a success costs money.
        fate: What whoever asked knows.
    """

    name: str
    marks: frozenset[str]
    costs: bool = True
    fate: Fate = Fate.UNDER_WAY


class Accounts:
    """Every request that the service saw is one that was asked, and so is every cent."""

    def __init__(self) -> None:
        self._by_mark: dict[str, Request] = {}
        self._requests: list[Request] = []
        self._looked_at: list[LedgerEntry] = []

    def ask(self, request: Request) -> Request:
        """Expect a request from now on."""
        self._requests.append(request)
        self._by_mark.update(dict.fromkeys(request.marks, request))
        return request

    def watch(self, ledger: Iterable[LedgerEntry]) -> None:
        """Check what has changed since the last look, if anything has."""
        entries = list(ledger)
        if entries != self._looked_at:  # the same objects, most of the time: that is soon seen
            self._looked_at = entries
            self.check(entries)

    def check(self, ledger: Iterable[LedgerEntry]) -> None:
        """Compare what the service saw and billed with what whoever asked knows."""
        seen: defaultdict[Request, list[LedgerEntry]] = defaultdict(list)
        for entry in ledger:
            request = self._request_of(entry)
            if request is not None:
                seen[request].append(entry)
            elif entry.complete and entry.method == "POST":
                raise BrokenInvariantError(f"a request holds what nobody sent: {entry}")
        for request in self._requests:
            _check_request(request, seen[request])

    def _request_of(self, entry: LedgerEntry) -> Request | None:
        if entry.files and entry.complete:
            found = {self._by_mark.get(file.sha256) for file in entry.files}
            return found.pop() if len(found) == 1 else None
        words = [file.sha256 for file in entry.files]
        for value in entry.fields.values():
            words += [str(word) for word in (value if isinstance(value, list) else [value])]
        return next((self._by_mark[word] for word in words if word in self._by_mark), None)


def _check_request(request: Request, entries: Sequence[LedgerEntry]) -> None:
    if not request.costs:
        return
    whole = [entry for entry in entries if entry.complete]
    refused = sum(map(_refused, whole))
    billed = sum(entry.billed for entry in entries)
    if len(whole) > 1 + refused:
        raise BrokenInvariantError(f"{request.name}: {len(whole)} whole requests")
    if billed > 1:
        raise BrokenInvariantError(f"{request.name} was billed {billed} times")
    if request.fate is Fate.ANSWERED and not billed:
        raise BrokenInvariantError(f"{request.name} was answered, and not billed")
    if request.fate is Fate.REFUSED and billed:
        raise BrokenInvariantError(f"{request.name} was billed, and nobody was told")


def _refused(entry: LedgerEntry) -> bool:
    """Tell whether the service itself said no: throttled, or for good and asked for once more."""
    # The captioning host has one code for every refusal, and no status of its own.
    return (entry.status or 0) // 100 == 4 or str(entry.code) in ("0429", "0402", "-1")


class Departures:
    """No window of the rate holds more requests than it allows, by when they left."""

    def __init__(self, rate: Rate | None) -> None:
        self._rate = rate
        self._moments: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def saw(self, moment: float, host: str, line: str) -> None:
        """Count a request whose first byte leaves now; an account is counted at each host."""
        moments = self._moments[host, bucket_of(line)]
        moments.append(moment)
        if self._rate is None or len(moments) <= self._rate.calls:
            return
        passed = moment - moments[-1 - self._rate.calls]
        if passed < self._rate.seconds - 1e-6:
            raise BrokenInvariantError(
                f"{bucket_of(line)}: {self._rate.calls + 1} requests within {passed:.4f} s"
            )

    def check_turns(self, turns: Counter[str]) -> None:
        """Compare with the turns that were taken and not given back, by bucket."""
        left: Counter[str] = Counter()
        for (_, bucket), moments in self._moments.items():
            left[bucket] += len(moments)
        for bucket, taken in turns.items():
            if taken != left[bucket]:
                raise BrokenInvariantError(
                    f"{bucket}: {taken} turns were taken and kept, {left[bucket]} requests left"
                )


class CountingLimiter(MemoryLimiter):
    """The limiter in memory, which counts the turns that are taken and not given back.

    Attributes:
        turns: How many, by bucket.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turns: Counter[str] = Counter()

    async def take(self, lane: str, rate: Rate, clock: Any) -> Turn:
        turn = await super().take(lane, rate, clock)
        self.turns[lane.rpartition(":")[2]] += not turn.wait
        return turn

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        await super().give_back(lane, rate, turn)
        self.turns[lane.rpartition(":")[2]] -= 1


_PATHS = [
    (row.method, re.compile(re.sub(r"\\{\w+\\}", "[^/?]+", re.escape(row.path)) + r"(\?|$)"), row)
    for row in OPERATIONS
    if row.path.startswith("/")
]


def bucket_of(line: str) -> str:
    """Return the limit that a request counts against, by its first line."""
    method, _, rest = line.partition(" ")
    path = rest.partition(" ")[0]
    return next(
        (
            row.bucket.name.lower()
            for name, way, row in _PATHS
            if name == method and way.match(path)
        ),
        path,
    )


class KeyWatch(logging.Handler):
    """Looks for a key in whatever is said, where a log or an error says it."""

    def __init__(self, broken: Callable[[str], None]) -> None:
        super().__init__(logging.DEBUG)
        self._broken = broken

    def emit(self, record: logging.LogRecord) -> None:
        self.look(f"{record.getMessage()} {record.__dict__}")

    def look(self, *said: object) -> None:
        """Look at a text, or at an exception with its notes."""
        for one in said:
            text = f"{one!r} {one} {getattr(one, '__notes__', '')}"
            if SENTINEL in text:
                self._broken(f"a key is in: {text[:200]}")


def check_lateness(name: str, began: float, ended: float, deadline: float | None) -> None:
    """A call ends by its deadline, or as long after it as cleaning up takes."""
    if deadline is not None and ended - began - deadline > GRACE:
        late = ended - began - deadline
        raise BrokenInvariantError(f"{name} ended {late:.2f} s after its deadline")


GRACE = 1.0
"""Virtual seconds that a call may take to clean up after its deadline."""
