"""One call for each content, kind and options, whatever engine runs a task how often."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import stat
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeAlias, TypeVar, cast

import attrs

from memories_async import _json, sqlite
from memories_async.arguments import AMOUNT, seconds_from, with_methods
from memories_async.bulk.journal.rows import FileState
from memories_async.bulk.kinds import CLIENT, PRICES
from memories_async.bulk.ledger import Begun, Entry, Ledger, UnknownPolicy
from memories_async.bulk.models import Status
from memories_async.bulk.preflight import fingerprint
from memories_async.captions import Person
from memories_async.config import CallOptions
from memories_async.errors import (
    ConfigurationError,
    DecodeError,
    MediaChanged,
    MediaError,
    MemoriesError,
    OutcomeUnknown,
    quoted,
)
from memories_async.media import Media
from memories_async.media.urls import is_url
from memories_async.models import (
    Caption,
    Embedding,
    LibraryImage,
    Result,
    Video,
)
from memories_async.parameters import checked

if TYPE_CHECKING:
    from memories_async.client import Memories

T = TypeVar("T", bound=Result)


@checked
@attrs.frozen
class Openable:
    """Something that can be opened as often as needed, e.g. an object in a store.

    Args:
        name: Its file name, with the extension.
        open: Returns a binary file that can be sought; it is closed after use. It may block.
    """

    name: str
    open: Callable[[], BinaryIO]


OnceSource: TypeAlias = str | os.PathLike[str] | bytes | Openable
"""What can be sent once: something whose content can be looked at before it is sent."""

LEDGER = with_methods("begin", "settle", "totals", wanted="a ledger, e.g. SqliteLedger(path)")
READ = 1024 * 1024
LOOK_AGAIN = 0.25
"""Seconds between two looks at an item that another worker is sending."""
BULK_OPTIONS = CallOptions(retry_time=600)


@attrs.frozen(kw_only=True)
class Record(Generic[T]):
    """What has become of one item; nothing of it is ever raised.

    Attributes:
        status: ``DONE``: answered. ``FAILED``: refused or unfit, and not billed. ``UNKNOWN``: it
            may have been billed, and is not sent again unasked. ``PLANNED``: not sent, and not
            billed; the error says why.
        value: The answer; None unless ``DONE``.
        error: What went wrong, in words; None if nothing did.
        replayed: Whether the answer was paid for earlier, and comes from the ledger.
        attempts: How often it was sent just now.
        key: The digest by which the ledger knows the item; empty where it could not be read.
    """

    status: Status
    value: T | None = None
    error: str | None = None
    replayed: bool = False
    attempts: int = 0
    key: str = ""


@attrs.frozen
class _Kind(Generic[T]):
    """A kind of item: how it is sent, and what the answer is."""

    name: str
    send: Callable[..., Awaitable[T]]
    model: type[T]


class Once:
    """Sends each item once, over as many processes, hosts and repetitions as there are.

    An item is known by its content, its kind and its options. It is written into the ledger
    before its first byte leaves, and its answer before you see it: who asks for it again, gets
    that answer and nothing is sent. Engines may therefore run a task as often as they like.

    Args:
        client: Whose account pays, and whose limits pace the calls.
        ledger: Where it is remembered: ``SqliteLedger`` on one host, ``RedisLedger`` on many.
        unknown: Calls whose outcome is unknown: ``keep`` them so (default), or ``retry`` and
            risk paying twice.
        max_cost: Dollars that all calls in the ledger may cost, with those counted in whose
            outcome is unknown.
        price: Dollars per item; by default what is documented, and that is only the price of an
            image's embedding.
        patience: Seconds to wait for another worker that is just sending the same item, before
            it is taken for lost and the item for unknown (default 5).
        options: Deadline, attempts and timeouts of each call; by default ten minutes of retries.

    Raises:
        ConfigurationError: A bad argument.
    """

    @checked(
        {
            "client": CLIENT,
            "ledger": LEDGER,
            "max_cost": AMOUNT,
            "price": AMOUNT,
            "patience": seconds_from(0),
        }
    )
    def __init__(
        self,
        client: Memories,
        ledger: Ledger,
        *,
        unknown: UnknownPolicy = "keep",
        max_cost: Decimal | float | str | None = None,
        price: Decimal | float | str | None = None,
        patience: float = 5.0,
        options: CallOptions | None = None,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._unknown: UnknownPolicy = unknown
        self._max_cost = _dollars("max_cost", max_cost)
        self._price = _dollars("price", price)
        self._patience = patience
        self._options = options or BULK_OPTIONS
        self._under_way: dict[str, asyncio.Future[Record[Any]]] = {}

    async def embed_image(
        self, source: OnceSource, *, model: str = "multimodalembedding@001"
    ) -> Record[Embedding]:
        """Embed an image.

        Args:
            source: A path or bytes.
            model: As for ``embeddings.image``.

        Returns:
            What has become of it; see ``Record``.
        """
        kind = _Kind("embed_images", self._client.embeddings.image, Embedding)
        return await self._send(kind, source, {"model": model})

    async def caption_image(
        self,
        source: OnceSource,
        prompt: str,
        *,
        system_prompt: str | None = None,
        thinking: bool | None = None,
        qa: bool | None = None,
        reasoning_effort: int | str | None = None,
    ) -> Record[Caption]:
        """Caption an image.

        Args:
            source: A path, bytes or a URL. A URL stands for itself: what lies there is not read.
            prompt: What to say about it.
            system_prompt: As for ``captions.image``, like the rest.
            thinking: Whether to reason first.
            qa: Whether to answer a question.
            reasoning_effort: 1 to 10.

        Returns:
            What has become of it; see ``Record``.
        """
        given = _given(
            prompt=prompt,
            system_prompt=system_prompt,
            thinking=thinking,
            qa=qa,
            reasoning_effort=reasoning_effort,
        )
        kind = _Kind("caption_images", self._client.captions.image, Caption)
        return await self._send(kind, source, given)

    async def caption_video(
        self,
        source: OnceSource,
        prompt: str,
        *,
        system_prompt: str | None = None,
        persons: Sequence[Person] = (),
        thinking: bool | None = None,
        qa: bool | None = None,
        reasoning_effort: int | str | None = None,
    ) -> Record[Caption]:
        """Caption a video.

        Args:
            source: A path, bytes or a URL. A URL stands for itself: what lies there is not read.
            prompt: What to say about it.
            system_prompt: As for ``captions.video``, like the rest.
            persons: Whom to recognise.
            thinking: Whether to reason first.
            qa: Whether to answer a question.
            reasoning_effort: 1 to 10.

        Returns:
            What has become of it; see ``Record``.
        """
        given = _given(
            prompt=prompt,
            system_prompt=system_prompt,
            persons=persons or None,
            thinking=thinking,
            qa=qa,
            reasoning_effort=reasoning_effort,
        )
        kind = _Kind("caption_videos", self._client.captions.video, Caption)
        return await self._send(kind, source, given)

    async def add_image(
        self, source: OnceSource, *, unique_id: str | None = None, tags: Sequence[str] = ()
    ) -> Record[LibraryImage]:
        """Add an image to the private image library, in a request of its own.

        Args:
            source: A path or bytes.
            unique_id: As for ``library.add_images``.
            tags: The same.

        Returns:
            What has become of it; see ``Record``.
        """

        async def add(source: Any, **given: Any) -> LibraryImage:
            [image] = await self._client.library.add_images([source], **given)
            return image

        kind = _Kind("add_images", add, LibraryImage)
        return await self._send(kind, source, _given(unique_id=unique_id, tags=tags or None))

    async def add_video(
        self, source: OnceSource, *, unique_id: str | None = None, tags: Sequence[str] = ()
    ) -> Record[Video]:
        """Add a video to the private video library; whether it is indexed is not waited for.

        Args:
            source: A path, bytes or a URL. A URL stands for itself: what lies there is not read.
            unique_id: As for ``library.add_video``.
            tags: The same.

        Returns:
            What has become of it; see ``Record``.
        """
        kind = _Kind("add_videos", self._client.library.add_video, Video)
        return await self._send(kind, source, _given(unique_id=unique_id, tags=tags or None))

    # --- one item -------------------------------------------------------------------------------

    async def _send(
        self, kind: _Kind[T], source: OnceSource, given: Mapping[str, object]
    ) -> Record[T]:
        try:
            limit = limit_of(kind.name, self._max_cost, self._price)
            seen = await asyncio.to_thread(_fingerprint, source)
            key = await _key(kind.name, source, given)
        except MemoriesError as error:
            return Record(status=Status.FAILED, error=str(error))
        except Exception as error:  # a name or a text that cannot be, a store that raises
            return Record(status=Status.FAILED, error=f"{_shown(source)} cannot be read: {error}")
        while (other := self._under_way.get(key)) is not None:
            # The same item, sent by this very process.
            await asyncio.wait([other])
            if not other.cancelled():  # else it is this one's turn: nobody has cancelled it
                record = other.result()
                return attrs.evolve(record, replayed=record.status is Status.DONE)
        future = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            item = _Item(
                self._ledger,
                self._unknown,
                self._patience,
                kind,
                source,
                given,
                key,
                seen,
                limit,
                self._options,
            )
            record = await item.send()
        except BaseException:
            future.cancel()
            raise
        else:
            future.set_result(record)
        finally:
            del self._under_way[key]
        return record


def limit_of(
    kind: str, max_cost: Decimal | float | str | None, price: Decimal | float | str | None
) -> int | None:
    """Return how many calls of a kind a budget pays for; None is any number.

    Args:
        kind: A kind of job.
        max_cost: Dollars; None is any number.
        price: Dollars per item; None is what is documented.

    Raises:
        ConfigurationError: A bad number, or a budget where the price is not known.
    """
    dollars, each = _dollars("max_cost", max_cost), _dollars("price", price)
    if dollars is None:
        return None
    each = PRICES[kind] if each is None else each
    if each is None:
        raise ConfigurationError(
            f"max_cost needs to know what {kind} costs, which is not documented: give a price"
        )
    return int(dollars / each) if each else None


class _HeldBackError(Exception):
    """The ledger said that a request must not leave."""


@attrs.define(eq=False)
class _Item(Generic[T]):
    """One item on its way."""

    ledger: Ledger
    unknown: UnknownPolicy
    patience: float
    kind: _Kind[T]
    source: OnceSource
    given: Mapping[str, object]
    key: str
    seen: FileState | None
    limit: int | None
    options: CallOptions
    token: str = attrs.field(factory=lambda: secrets.token_hex(16))
    began: Entry | None = None
    said: Begun | None = None
    lost: MemoriesError | None = None

    async def send(self) -> Record[T]:
        """Send it if the ledger lets it, and report what came of it."""
        try:
            known = await self._settled_by_others()
        except MemoriesError as error:
            return self._record(Status.PLANNED, error)
        if known is not None and known.status is Status.DONE:
            return self._replayed(known)
        options = attrs.evolve(self.options, before_sending=self._begin)
        try:
            value = await self._call(options)
        except _HeldBackError:
            with contextlib.suppress(MemoriesError):
                await self._settle(Status.PLANNED)
            return self._held_back()
        except asyncio.CancelledError as error:
            # The engine notes on the exception whether the whole request had left.
            status = Status.UNKNOWN if getattr(error, "__notes__", None) else Status.PLANNED
            with contextlib.suppress(MemoriesError):
                await asyncio.shield(self._settle(status, error=str(error)))
            raise
        except Exception as error:
            return await self._went_wrong(error)
        result, vector = _kept(value)
        try:
            await self._settle(Status.DONE, result=result, vector=vector)
        except MemoriesError as error:
            # It is paid for, and here it is; only the ledger does not know it yet.
            return self._record(Status.DONE, error, value)
        return self._record(Status.DONE, None, value)

    async def _call(self, options: CallOptions) -> T:
        if not isinstance(self.source, Openable):
            return await self.kind.send(self.source, **self.given, options=options)
        file = await asyncio.to_thread(self.source.open)
        try:
            media = Media(file, name=self.source.name)
            return await self.kind.send(media, **self.given, options=options)
        finally:
            await asyncio.to_thread(file.close)

    async def _settled_by_others(self) -> Entry | None:
        """Return what the ledger knows, once others who send the same have had time to report."""
        waited = 0.0
        while True:
            known = await self.ledger.find(self.key)
            if known is None or known.status is not Status.SENDING or waited >= self.patience:
                return known
            await asyncio.sleep(LOOK_AGAIN)
            waited += LOOK_AGAIN

    async def _begin(self) -> None:
        if await asyncio.to_thread(self._changed):
            # Its answer would be kept under the digest of what is no longer there.
            self.lost = MediaChanged(f"{self.source!r} changed while it was looked at: not sent")
            raise _HeldBackError
        try:
            said, entry = await self.ledger.begin(
                self.key, self.token, unknown=self.unknown, limit=self.limit
            )
        except MemoriesError as error:
            self.lost = error
            raise _HeldBackError from None
        self.said, self.began = said, entry
        if said is not Begun.SEND:
            raise _HeldBackError

    def _changed(self) -> bool:
        try:
            return _fingerprint(self.source) != self.seen
        except OSError:
            return True

    def _held_back(self) -> Record[T]:
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

    async def _went_wrong(self, error: Exception) -> Record[T]:
        if self.said is not Begun.SEND:  # it never came so far
            status = Status.FAILED if isinstance(error, MediaError) else Status.PLANNED
            return self._record(status, error)
        if isinstance(error, OutcomeUnknown | DecodeError) or not isinstance(error, MemoriesError):
            status = Status.UNKNOWN
        else:
            status = Status.FAILED
        with contextlib.suppress(MemoriesError):
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
        await self.ledger.settle(self.key, outcome)

    def _replayed(self, entry: Entry) -> Record[T]:
        value = _read(self.kind.model, entry)
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


# --- what an item is known by -------------------------------------------------------------------


async def _key(kind: str, source: OnceSource, given: Mapping[str, object]) -> str:
    """Return the digest of a kind, its options and a content."""
    if not isinstance(cast("object", source), str | os.PathLike | bytes | Openable):
        raise ConfigurationError(f"Once: {type(source).__name__} given; a path or bytes is wanted")
    if isinstance(source, str) and is_url(source):
        content = f"url:{source}"
    elif isinstance(source, bytes):
        content = hashlib.sha256(source).hexdigest()
    else:
        content = await asyncio.to_thread(_content_digest, source)
    options = {name: value for name, value in given.items() if value is not None}
    asked = _json.dumps([kind, options, content], option=_json.OPT_SORT_KEYS, default=_plain)
    return hashlib.sha256(asked).hexdigest()


def _fingerprint(source: OnceSource) -> FileState | None:
    """Return what tells that a file is still the same; None for what is no file."""
    if isinstance(source, os.PathLike) or (isinstance(source, str) and not is_url(source)):
        return fingerprint(os.fspath(source))
    return None


def _shown(source: object) -> str:
    return quoted(f"{source!r}")


def _content_digest(source: str | os.PathLike[str] | Openable) -> str:
    if not isinstance(source, Openable):
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{_shown(source)} is no regular file")
        if sqlite.in_use(status):  # to close it here would take SQLite's locks away
            raise MediaError(f"{_shown(source)} is an SQLite file that this process has open")
    with source.open() if isinstance(source, Openable) else open(source, "rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(READ):
            digest.update(piece)
        return digest.hexdigest()


def _plain(value: object) -> object:
    if attrs.has(type(value)):
        return attrs.asdict(cast("attrs.AttrsInstance", value))
    raise TypeError(f"{type(value).__name__} is no option")


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _dollars(name: str, value: Decimal | float | str | None) -> Decimal | None:
    if value is None:
        return None
    try:
        dollars = Decimal(str(value))
    except ArithmeticError:
        raise ConfigurationError(f"Once: {name} is {value!r}; dollars are wanted") from None
    if not dollars.is_finite() or dollars < 0:
        raise ConfigurationError(f"Once: {name} is {value!r}; 0 or more is wanted")
    return dollars


# --- how answers are kept ------------------------------------------------------------------------


def _kept(value: Result) -> tuple[str, bytes | None]:
    """Return an answer as JSON, and its vector apart: as JSON that would be five times as long."""
    data = value.to_dict()
    vector = data.pop("vector", None)
    blob = None if vector is None else array("f", vector).tobytes()
    return _json.dumps(data).decode(), blob


def _read(model: type[T], entry: Entry) -> T:
    data = _json.loads(entry.result or "{}")
    if entry.vector is not None:
        data["vector"] = array("f", entry.vector).tolist()
    return model.from_dict(data)
