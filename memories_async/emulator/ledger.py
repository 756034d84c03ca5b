"""Every request the emulator has seen, and which of them were billed."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import attrs

from memories_async import _json
from memories_async.checks import checked
from memories_async.checks.kinds import Kind, Problem, shown
from memories_async.operations import OPERATIONS, Operation, Replay

if TYPE_CHECKING:
    from memories_async.emulator.http.envelopes import HttpResponse


def named(*rows: Operation[Any], what: str = "operation") -> Kind:
    """Return the kind of what names one of some rows, or the call of one."""
    calls = tuple(dict.fromkeys(row.call for row in rows))
    names = {*calls, *(row.name for row in rows)}

    def problem(name: str, value: str) -> Problem:
        if value in names:
            return None
        return f"No {what} is called {shown(value)}; the calls are {', '.join(calls)}"

    return Kind(f"the name of an {what}", lambda value: isinstance(value, str), problem)


OPERATION = named(*OPERATIONS)
"""A row of the table, or a call. One that is misspelt would match nothing, ever: a test of it
would pass whatever the application did."""

_LONGEST_VALUE = 4096
_MOST_CHARACTERS = 16_384
_MOST_ENTRIES = 100_000


@attrs.frozen
class FileEntry:
    """A file as it arrived: what the client said about it, and what its bytes were."""

    part: str
    name: str
    content_type: str
    size: int
    sha256: str


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """One request; never the key.

    Attributes:
        number: Counts requests from 1.
        operation: The name of the row in the operations table, or None if none matched.
        method: HTTP method.
        path: Path without the query.
        fields: The JSON object, form fields or query, however they came; very long texts
            (base64) and lists are shortened.
        files: The files, in the order of their parts.
        status: HTTP status of the answer, or None if none was sent.
        code: Business code of the answer, or None.
        billed: Whether the account paid: only ever for a success that is not a free read.
        complete: Whether the whole body arrived.
        started_at: When the request line and headers had arrived, in seconds since the epoch.
        finished_at: When the answer was ready or the connection lost; None until then.
    """

    number: int
    operation: str | None
    method: str
    path: str
    started_at: float
    fields: Mapping[str, object] = attrs.field(factory=dict[str, object])
    files: tuple[FileEntry, ...] = ()
    status: int | None = None
    code: str | int | None = None
    billed: bool = False
    complete: bool = False
    finished_at: float | None = None

    def __str__(self) -> str:
        """Return a line that tells of the request."""
        answer = "no answer" if self.status is None else f"HTTP {self.status}"
        code = "" if self.code is None else f" code {self.code}"
        billed = "billed" if self.billed else "not billed"
        files = "".join(f" {file.name} ({file.size} bytes)" for file in self.files)
        name = self.operation or "no operation"
        line = f"{self.number}. {name} {self.method} {self.path}{files}: {answer}{code}, {billed}"
        return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)


class RequestLedger(Sequence[LedgerEntry]):
    """The requests in the order in which they began; a snapshot of each, replaced as it goes on.

    The oldest are forgotten from 100,000 on; what was billed is counted all the same.
    """

    def __init__(self) -> None:
        self._entries: collections.deque[LedgerEntry] = collections.deque()
        self._forgotten = 0
        self._billed: collections.Counter[str] = collections.Counter()

    @overload
    def __getitem__(self, index: int) -> LedgerEntry: ...
    @overload
    def __getitem__(self, index: slice) -> list[LedgerEntry]: ...
    def __getitem__(self, index: int | slice) -> LedgerEntry | list[LedgerEntry]:
        return list(self._entries)[index] if isinstance(index, slice) else self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[LedgerEntry]:
        return iter(list(self._entries))

    def __repr__(self) -> str:
        return f"<Ledger: {len(self)} requests, {self.billed()} billed>"

    @checked({"operation": OPERATION})
    def of(self, operation: str) -> list[LedgerEntry]:
        """Return the requests of a row (``caption_video_url``) or a call (``captions.video``).

        Raises:
            ConfigurationError: No operation is called so.
        """
        return [entry for entry in self if matches(operation, entry.operation)]

    @checked({"operation": OPERATION})
    def billed(self, operation: str | None = None) -> int:
        """Count the billed requests, of one row or call or of all.

        Raises:
            ConfigurationError: No operation is called so.
        """
        billed = dict(
            self._billed
        )  # a copy made in one step: the emulator's thread goes on counting
        return sum(count for name, count in billed.items() if matches(operation, name))

    def clear(self) -> None:
        """Forget everything; requests under way are forgotten as well."""
        self._forgotten += len(self._entries)
        self._entries.clear()
        self._billed.clear()

    def begin(
        self, operation: Operation[object] | None, method: str, path: str, started_at: float
    ) -> int:
        """Record a request whose headers have arrived; return its number."""
        entry = LedgerEntry(
            number=self._forgotten + len(self._entries) + 1,
            operation=operation.name if operation else None,
            method=method,
            path=path,
            started_at=started_at,
        )
        self._entries.append(entry)
        if len(self._entries) > _MOST_ENTRIES:
            self._entries.popleft()
            self._forgotten += 1
        return entry.number

    def received(
        self, number: int, fields: Mapping[str, object], files: Sequence[FileEntry]
    ) -> None:
        """Record that the whole body has arrived."""
        self._change(number, fields=shortened(fields), files=tuple(files), complete=True)

    def bill(self, number: int, operation: Operation[object]) -> None:
        """Record a success: billed, unless it is a free read."""
        if operation.replay is not Replay.FREE_READ and self._change(number, billed=True):
            self._billed[operation.name] += 1

    def answered(self, number: int, answer: HttpResponse | None, finished_at: float) -> None:
        """Record what is about to be sent, or None if nothing whole is."""
        status, code = (answer.status, answer.code) if answer else (None, None)
        self._change(number, status=status, code=code, finished_at=finished_at)

    def entry(self, number: int) -> LedgerEntry | None:
        """Return the entry of a number, unless it has been forgotten."""
        position = number - self._forgotten - 1
        return self._entries[position] if 0 <= position < len(self._entries) else None

    def __str__(self) -> str:
        """Return the requests, a line for each: what a test wants to see when it fails."""
        return "\n".join([repr(self), *map(str, self)])

    def _change(self, number: int, **changes: Any) -> bool:
        position = number - self._forgotten - 1
        if position < 0:  # it has been forgotten in the meantime
            return False
        self._entries[position] = attrs.evolve(self._entries[position], **changes)
        return True


def matches(pattern: str | None, operation: str | None) -> bool:
    """Return whether a row's name is meant by a row name, a call name or None for any."""
    return pattern is None or pattern == operation or operation in _ROWS_OF_CALL.get(pattern, ())


_ROWS_OF_CALL = {
    row.call: frozenset(other.name for other in OPERATIONS if other.call == row.call)
    for row in OPERATIONS
}


def shortened(fields: Mapping[str, object]) -> dict[str, object]:
    """Return fields as they are, or with less in them where they are long."""
    left = _MOST_CHARACTERS

    def shorten(value: object) -> object:
        nonlocal left
        left -= 16  # what any value costs
        match value:
            case str() if len(value) > min(_LONGEST_VALUE, left):
                left -= 100
                return f"{value[:100]}… ({len(value)} characters)"
            case str():
                left -= len(value)
                return value
            case _ if _json.is_array(value):
                kept = [shorten(item) for item in itertools.takewhile(lambda _: left > 0, value)]
                return [*kept, f"… ({len(value)} items)"] if len(kept) < len(value) else kept
            case _ if _json.is_object(value):
                return shorten_object(value)
            case _:
                return value

    def shorten_object(pairs: Mapping[str, object]) -> dict[str, object]:
        fitting = itertools.takewhile(lambda _: left > 0, pairs.items())
        some = {str(shorten(name)): shorten(item) for name, item in fitting}
        return {**some, "…": f"({len(pairs)} fields)"} if len(some) < len(pairs) else some

    left -= 16
    return shorten_object(fields)
