"""The calls that ``Once`` has, each sent once however many ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from memories_async._engine.body.threads import in_thread
from memories_async.bulk.kinds import CLIENT, check_billed_once, dollars, policy_of, price_of
from memories_async.bulk.ledger import Ledger, UnknownPolicy
from memories_async.bulk.models import Status
from memories_async.bulk.once.identity import (
    OnceSource,
    additions_of,
    fingerprint_of,
    key_of,
    shown,
)
from memories_async.bulk.once.item import CallKind, SentItem
from memories_async.bulk.once.records import Record
from memories_async.captions import Person
from memories_async.checks import checked
from memories_async.checks.kinds import AMOUNT, TEXT, seconds_from, with_methods
from memories_async.config import CallOptions
from memories_async.errors import ConfigurationError, MemoriesError
from memories_async.models import Caption, Embedding, LibraryImage, Result, Video

if TYPE_CHECKING:
    from memories_async.client import Memories

T = TypeVar("T", bound=Result)

LEDGER = with_methods("begin", "settle", "totals", wanted="a ledger, e.g. SqliteLedger(path)")
BULK_OPTIONS = CallOptions(retry_time=600)


class Once:
    """Sends each item once, over as many processes, hosts and repetitions as there are.

    An item is known by its content, its kind and its options, and by the headers and fields that
    ``options`` and the client's own add to each request. It is written into the ledger
    before its first byte leaves, and its answer before you see it: who asks for it again, gets
    that answer and nothing is sent. Engines may therefore run a task as often as they like.

    Args:
        client: Whose account pays, and whose limits pace the calls.
        ledger: Where it is remembered: ``SqliteLedger`` on one host, ``RedisLedger`` on many.
        unknown: Calls whose outcome is unknown: ``keep`` them so (default), or ``retry`` and
            risk paying twice.
        max_cost: Dollars that all calls in the ledger may cost, each at the price that was known
            when it was sent (where none was, at this one), with those counted in whose outcome
            is unknown.
        price: Dollars per item; by default what is documented, and that is only the price of an
            image's embedding.
        patience: Seconds to wait for another worker that is just sending the same item, before
            it is taken for lost and the item for unknown (default 5).
        options: Deadline, attempts and timeouts of each call; by default ten minutes of retries.
            Headers and fields make it another item: leave out what is new each time, as the
            identifier of a trace is, or everything is sent and billed again.
            A ``before_sending``, here or of the client, is awaited before the item is written down
            as being sent: what it raises leaves the item to be sent another time.

    Raises:
        ConfigurationError: A bad argument, or ``max_cost`` with
            ``replay="accept_double_billing"``, by which an item may cost twice.
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
        self._max_cost = dollars(max_cost)
        self._price = dollars(price)
        self._patience = patience
        self._options = options or BULK_OPTIONS
        check_billed_once(client, self._options, self._max_cost)
        self._additions = additions_of(policy_of(client).with_options(self._options))
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
        kind = CallKind("embed_images", self._client.embeddings.image, Embedding)
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
        options = _given(
            system_prompt=system_prompt,
            thinking=thinking,
            qa=qa,
            reasoning_effort=reasoning_effort,
        )
        kind = CallKind("caption_images", self._client.captions.image, Caption)
        return await self._send(kind, source, {"prompt": prompt, **options})

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
        options = _given(
            system_prompt=system_prompt,
            persons=persons or None,
            thinking=thinking,
            qa=qa,
            reasoning_effort=reasoning_effort,
        )
        kind = CallKind("caption_videos", self._client.captions.video, Caption)
        return await self._send(kind, source, {"prompt": prompt, **options})

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

        kind = CallKind("add_images", add, LibraryImage)
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
        kind = CallKind("add_videos", self._client.library.add_video, Video)
        return await self._send(kind, source, _given(unique_id=unique_id, tags=tags or None))

    # --- one item -------------------------------------------------------------------------------

    async def _send(
        self, kind: CallKind[T], source: OnceSource, given: Mapping[str, object]
    ) -> Record[T]:
        try:
            if "prompt" in given:
                _check_prompt(given["prompt"])
            price = price_of(kind.name, self._max_cost, self._price)
            seen = await in_thread(fingerprint_of, source)
            key = await key_of(kind.name, source, given, self._additions)
        except MemoriesError as error:
            return Record(status=Status.FAILED, error=str(error))
        except Exception as error:  # a name or a text that cannot be, a store that raises
            return Record(status=Status.FAILED, error=f"{shown(source)} cannot be read: {error}")
        while (other := self._under_way.get(key)) is not None:
            # The same item, sent by this very process.
            await asyncio.wait([other])
            if not other.cancelled():  # else it is this one's turn: nobody has cancelled it
                record = other.result()
                return attrs.evolve(record, replayed=record.status is Status.DONE)
        future = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            item = SentItem(
                self._ledger,
                self._unknown,
                self._patience,
                kind,
                source,
                given,
                key,
                seen,
                price,
                self._max_cost,
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


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _check_prompt(prompt: object) -> None:
    # It becomes part of the key before the call itself would look at it.
    fits = TEXT.fits(prompt)
    wanted = f"prompt is {shown(prompt)}; {TEXT.wanted} is wanted"
    problem = TEXT.problem("prompt", prompt) if fits else wanted
    if problem is not None:
        raise ConfigurationError(f"Once: {problem}")
