"""The kinds of jobs as a table: which call, how many files a request, what it costs, what stays."""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

import attrs

from memories_async.bulk.models import Item
from memories_async.bulk.options import check_options
from memories_async.captions import Captions
from memories_async.checks.kinds import Kind
from memories_async.config import Policy
from memories_async.embeddings import Embeddings
from memories_async.errors import ConfigurationError
from memories_async.library import Library
from memories_async.models import Caption, Progress, Result, Video
from memories_async.operations import (
    ADD_IMAGES,
    ADD_VIDEO_FILE,
    CAPTION_IMAGE_FILE,
    CAPTION_VIDEO_FILE,
    EMBED_IMAGE_FILE,
    Bucket,
    Operation,
    Service,
)

if TYPE_CHECKING:
    from memories_async.client import Memories
    from memories_async.config import CallOptions, Rate
    from memories_async.media.rules import MediaRule

T = TypeVar("T")

MOST_VIDEO_TAGS = 20
"""Tags that a video may have; https://api-tools.memories.ai/visual-search/upload."""

# Dollars per item as documented; what stands here as None is nowhere published, so that a job's
# creator has to say it, or its cost is shown as unknown.
# https://api-tools.memories.ai/api-reference/embeddings/image-embedding
PRICES: Mapping[str, Decimal | None] = {
    "add_images": None,
    "embed_images": Decimal("0.0001"),
    "caption_images": None,
    "caption_videos": None,
    "add_videos": None,
}


def dollars(value: Decimal | float | str | None) -> Decimal | None:
    """Return an amount that has been checked (``AMOUNT``) exactly as it was written."""
    return None if value is None else Decimal(str(value))


def price_of(
    kind: str, max_cost: Decimal | float | str | None, price: Decimal | float | str | None
) -> Decimal | None:
    """Return the dollars of a call; None where they are not known and need not be.

    Args:
        kind: A kind of job.
        max_cost: The budget in dollars; None is any number.
        price: Dollars per item; None is what is documented.

    Raises:
        ConfigurationError: A budget where the price is not known.
    """
    each = PRICES[kind] if price is None else dollars(price)
    if each is None and max_cost is not None:
        raise ConfigurationError(
            f"max_cost needs to know what {kind} costs, which is not documented: give a price"
        )
    return each


@attrs.frozen
class ItemAnswer:
    """What is kept of what the service answered about one item."""

    result: Mapping[str, object]
    vector: bytes | None = None
    waiting: bool = False


@attrs.frozen
class ItemRequest:
    """One request for one or several items.

    Attributes:
        items: What it sends: one item, or several where the kind of job allows it.
        fields: The client call's arguments, the job's own and the items'.
        options: How to wait and retry.
        on_progress: Told of accepted bytes.
    """

    items: Sequence[Item]
    fields: Mapping[str, object]
    options: CallOptions
    on_progress: Callable[[Progress], object]


Send: TypeAlias = Callable[["Memories", ItemRequest], Awaitable[Sequence[ItemAnswer]]]
"""Makes the request and returns an answer for each item."""


@attrs.frozen(kw_only=True)
class JobKind:
    """A row of the table.

    Attributes:
        name: What ``Job.create`` is told.
        summary: One line, for help texts.
        operation: The row of the HTTP API that sends its files.
        call: The client's method that does, whose arguments its options are.
        send: How a request is made.
        columns: What an exported row has of the answer, and of which type.
        options: Arguments that a job and its items may set.
        required: Those that must be set.
        takes_urls: Whether an input may be a URL.
        most: Items per request unless told otherwise.
        tagged: Whether each item carries a tag of its content, by which it is found again.
    """

    name: str
    summary: str
    operation: Operation[Any]
    call: Callable[..., Any]
    send: Send
    columns: Mapping[str, str]
    options: frozenset[str]
    required: frozenset[str] = frozenset()
    takes_urls: bool = False
    most: int = 1
    tagged: bool = False

    @property
    def bucket(self) -> Bucket:
        """Whose rate limit the requests count against."""
        return self.operation.bucket

    @property
    def rule(self) -> MediaRule:
        """Which files the service takes."""
        assert self.operation.takes is not None
        return self.operation.takes

    @property
    def price(self) -> Decimal | None:
        """Dollars per item where that is documented."""
        return PRICES[self.name]

    def rate_of(self, client: Memories) -> Rate | None:
        """Return what limit paces a client's calls of this kind; None if there is none."""
        settings = _settings(client)
        return None if settings is None else settings.rates.get(self.bucket)

    def missing_key(self, client: Memories) -> ConfigurationError | None:
        """Return why a client can make no such call, before any item is held against it."""
        settings = _settings(client)
        try:
            if settings is not None:
                settings.key(self.operation.service)
        except ConfigurationError as error:
            return error
        return None

    def check(
        self, options: Mapping[str, object], given: Mapping[str, object] | None = None
    ) -> None:
        """Refuse options that the call does not have, or that are not what they should be.

        Args:
            options: What is set.
            given: What is set besides; if not None, the two together must be all that is required.

        Raises:
            ConfigurationError: There is no such option, one has a wrong value, or one is missing.
        """
        check_options(self.name, self.call, sorted(self.options), options, given or {})
        tags = _tags({**(given or {}), **options})
        if self.tagged and len(tags) >= MOST_VIDEO_TAGS:
            raise ConfigurationError(
                f"{self.name}: {len(tags)} tags; {MOST_VIDEO_TAGS - 1} is the most, because a job "
                "adds one of its own"
            )
        if given is not None and (missing := self.required - options.keys() - given.keys()):
            raise ConfigurationError(f"{self.name} needs the option {', '.join(sorted(missing))}")


class _Settings(Protocol):
    rates: Mapping[Bucket, Rate]

    def key(self, service: Service) -> object: ...


def _settings(client: Memories) -> _Settings | None:
    # A stand-in for a client, as tests make them, has none.
    settings: _Settings | None = getattr(client, "_settings", None)
    return settings


def policy_of(client: Memories) -> Policy:
    """Return the options that a client has for all its calls."""
    # Not its settings', which are those of the client that a call of with_options was made of.
    return getattr(getattr(client, "_dispatcher", None), "policy", None) or Policy()


def check_billed_once(client: Memories, options: CallOptions, max_cost: Decimal | None) -> None:
    """Refuse a budget that could not be kept, because an item counts once and may be paid twice.

    Args:
        client: Whose calls are made.
        options: What is set for them besides.
        max_cost: The budget in dollars; None is any number.

    Raises:
        ConfigurationError: A budget, with ``replay="accept_double_billing"``.
    """
    replay = policy_of(client).with_options(options).replay
    if max_cost is not None and replay == "accept_double_billing":
        raise ConfigurationError(
            'max_cost counts an item once, and with replay="accept_double_billing" it may cost '
            "twice: limit the calls instead, by client.budget(dollars=...)"
        )


def _is_client(value: object) -> bool:
    one_of = any(hasattr(value, name) for name in ("captions", "embeddings", "library"))
    return one_of and not isinstance(value, type) and not hasattr(value, "__enter__")


CLIENT = Kind(
    "an instance of memories_async.Memories (the blocking client goes with "
    "memories_async.sync.Job)",
    _is_client,
)


def content_tag(sha256: str) -> str:
    """Return the tag by which a video is found again in the library."""
    return f"sha256:{sha256[:16]}"


async def _add_images(client: Memories, request: ItemRequest) -> list[ItemAnswer]:
    sources = [item.source for item in request.items]
    images = await _call(request, client.library.add_images, sources)
    return [ItemAnswer({"image_id": image.id} | _extra(image)) for image in images]


async def _embed_images(client: Memories, request: ItemRequest) -> list[ItemAnswer]:
    embedding = await _call_for_one(request, client.embeddings.image)
    vector = array("f", embedding.vector).tobytes()
    return [ItemAnswer({"model": embedding.model} | _extra(embedding), vector)]


async def _caption_images(client: Memories, request: ItemRequest) -> list[ItemAnswer]:
    return [_caption(await _call_for_one(request, client.captions.image))]


async def _caption_videos(client: Memories, request: ItemRequest) -> list[ItemAnswer]:
    return [_caption(await _call_for_one(request, client.captions.video))]


async def _add_videos(client: Memories, request: ItemRequest) -> list[ItemAnswer]:
    (item,) = request.items
    fields = dict(request.fields)
    within = searchable_within(fields)
    fields.pop("searchable_within", None)
    fields["tags"] = [*_tags(fields), content_tag(item.sha256 or "")]
    video = await _call_for_one(attrs.evolve(request, fields=fields), client.library.add_video)
    return [video_answer(video, wait=within > 0)]


def _tags(options: Mapping[str, object]) -> Sequence[str]:
    return cast("Sequence[str]", options.get("tags", ()))  # as check_options has found


def searchable_within(options: Mapping[str, object]) -> float:
    """Return for how many seconds a job waits for a video to be indexed."""
    within = options.get("searchable_within", SEARCHABLE_WITHIN)
    assert isinstance(within, int | float)  # as check_options has found
    return within


SEARCHABLE_WITHIN = 1800.0
"""Seconds for which a job waits for a video to be indexed, unless its options say otherwise."""


async def _call_for_one(request: ItemRequest, method: Callable[..., Awaitable[T]]) -> T:
    (item,) = request.items
    return await _call(request, method, item.source)


async def _call(
    request: ItemRequest, method: Callable[..., Awaitable[T]], source: str | Sequence[str]
) -> T:
    return await method(
        source, **request.fields, options=request.options, on_progress=request.on_progress
    )


def _caption(caption: Caption) -> ItemAnswer:
    used = caption.tokens
    tokens = {"input_tokens": used.input, "output_tokens": used.output} if used else {}
    return ItemAnswer({"text": caption.text} | tokens | _extra(caption))


def video_answer(video: Video, *, wait: bool) -> ItemAnswer:
    """Return what is kept of a video."""
    result = {"video_no": video.video_no, "video_name": video.name, "video_status": video.status}
    return ItemAnswer(result | _extra(video), waiting=wait and not video.searchable)


def _extra(result: Result) -> dict[str, object]:
    return {"answer_extra": dict(result.extra)} if result.extra else {}


_CAPTION_COLUMNS = {"text": "string", "input_tokens": "int64", "output_tokens": "int64"}
_PROMPTS = frozenset({"prompt", "system_prompt", "thinking", "qa", "reasoning_effort"})

_ROWS = (
    JobKind(
        name="add_images",
        summary="Add images to the private image library, many to a request.",
        operation=ADD_IMAGES,
        call=Library.add_images,
        send=_add_images,
        columns={"image_id": "int64"},
        options=frozenset(
            {"unique_id", "datetime_taken", "camera_model", "latitude", "longitude", "tags"}
        ),
        most=20,
    ),
    JobKind(
        name="embed_images",
        summary="Turn images into vectors.",
        operation=EMBED_IMAGE_FILE,
        call=Embeddings.image,
        send=_embed_images,
        columns={"model": "string", "vector": "vector"},
        options=frozenset({"model"}),
    ),
    JobKind(
        name="caption_images",
        summary="Describe images.",
        operation=CAPTION_IMAGE_FILE,
        call=Captions.image,
        send=_caption_images,
        columns=_CAPTION_COLUMNS,
        options=_PROMPTS | {"as_base64"},
        required=frozenset({"prompt"}),
        takes_urls=True,
    ),
    JobKind(
        name="caption_videos",
        summary="Describe videos.",
        operation=CAPTION_VIDEO_FILE,
        call=Captions.video,
        send=_caption_videos,
        columns=_CAPTION_COLUMNS,
        options=_PROMPTS | {"persons"},
        required=frozenset({"prompt"}),
        takes_urls=True,
    ),
    JobKind(
        name="add_videos",
        summary="Add videos to the private video library and wait until they are searchable.",
        operation=ADD_VIDEO_FILE,
        call=Library.add_video,
        send=_add_videos,
        columns={"video_no": "string", "video_name": "string", "video_status": "string"},
        options=frozenset({"unique_id", "tags", "searchable_within"}),
        tagged=True,
    ),
)

KINDS: Mapping[str, JobKind] = {kind.name: kind for kind in _ROWS}
"""Every kind of job by its name."""
