"""What the API returns, as frozen values in our names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Mapping  # of each model's __init__, for get_type_hints
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeAlias, TypeVar

import attrs

from memories_async.checks import checked
from memories_async.checks.kinds import SEQUENCE, TEXTS, shown
from memories_async.results import HttpExchange, Result, Results, wire
from memories_async.vectors import Vector

__all__ = [
    "Asset",
    "AssetMetadata",
    "Caption",
    "CaptionTask",
    "Clip",
    "Download",
    "Embedding",
    "Failed",
    "HttpExchange",
    "LibraryImage",
    "Outcome",
    "Progress",
    "Result",
    "Results",
    "SearchHit",
    "SignedUpload",
    "Succeeded",
    "TokenUsage",
    "Transcript",
    "TranscriptLine",
    "Vector",
    "Video",
]

T = TypeVar("T")

SEARCHABLE = "PARSE"
"""The status of a video that is indexed and can be searched."""

FAILED_STATUSES = frozenset({"FAILED", "FAIL", "PARSE_ERROR"})
"""Every spelling of a failed index run that the service is known to use; all are final."""


_LONGEST_SHOWN = 200
_IDENTIFIER = {"identifier": True}
"""Marks what an answer is worth nothing without: empty, it is missing."""


def _shortened(identifier: str) -> str:
    """Return an identifier as a line may hold it: whoever answers may say a million characters."""
    if len(identifier) <= _LONGEST_SHOWN:
        return repr(identifier)
    return f"{identifier[:_LONGEST_SHOWN]!r}…"


@checked(model=True)
@attrs.frozen
class TokenUsage(Result):
    """Tokens that a caption used: what captions are billed by."""

    input: int = 0
    output: int = 0
    total: int = 0


@checked(model=True)
@attrs.frozen
class Caption(Result):
    """What the service says about an image, several images or a video.

    Attributes:
        text: The caption. It is model output about untrusted media: treat it as untrusted text.
        tokens: Tokens used, or None if the service did not say.
    """

    text: str = attrs.field(metadata=wire("response"))
    tokens: TokenUsage | None = attrs.field(default=None, metadata=wire("token"))


@checked(model=True)
@attrs.frozen
class CaptionTask(Result):
    """A video caption under way; its result is POSTed to the callback address.

    Attributes:
        task_id: The identifier that the callback repeats. There is no way to poll it.
    """

    task_id: str = attrs.field(repr=_shortened, metadata=_IDENTIFIER)


@checked(model=True)
@attrs.frozen
class LibraryImage(Result):
    """An image that is now in the private image library.

    Attributes:
        id: The exact identifier (beyond 2**53, so never a float).
    """

    id: int = attrs.field(metadata=_IDENTIFIER)


@checked(model=True)
@attrs.frozen
class Clip(Result):
    """A time range of a video that matches the query.

    Attributes:
        start_time: Seconds from the start of the video.
        end_time: Seconds from the start of the video.
        score: How well it matches; higher is better.
    """

    start_time: float
    end_time: float
    score: float


def _as_vector(numbers: Sequence[float]) -> Vector:
    return numbers if isinstance(numbers, Vector) else Vector(numbers)


@checked(model=True)
@attrs.frozen(repr=False)
class Embedding(Result):
    """An embedding vector.

    Attributes:
        vector: The numbers, as float32; how many depends on the model and may change.
        model: The model that was asked for.
    """

    vector: Vector = attrs.field(converter=_as_vector, metadata=wire("embedding"))
    model: str

    def __repr__(self) -> str:
        return f"Embedding({self.vector.summary()})"

    def __rich_repr__(self) -> Iterable[object]:
        return self.vector.__rich_repr__()


@checked({"tags": TEXTS}, model=True)
@attrs.frozen
class Video(Result):
    """A video of the private library.

    Attributes:
        video_no: The video's identifier, e.g. ``VI625239098370850816``.
        name: The stored name; the service may change the name that was sent.
        status: ``UNPARSE`` while indexing, ``PARSE`` once searchable, or a failure word.
        duration: Seconds.
        size: Bytes.
        created_at: When it was uploaded, in UTC.
        cause: Why indexing failed, if the service says so.
        url: Where the service keeps it, if it says so.
        width: Pixels.
        height: Pixels.
        fps: Frames per second.
        resolution_label: The service's word for the resolution, e.g. ``720p``.
        tags: What it was tagged with; the service adds ``api``.
        datetime_taken: When it was taken; without an offset where the service gives none.
        camera_model: What it was taken with.
        latitude: Where it was taken, in degrees.
        longitude: Where it was taken, in degrees.
    """

    video_no: str = attrs.field(repr=_shortened, metadata=_IDENTIFIER)
    name: str | None = attrs.field(default=None, metadata=wire("video_name"))
    status: str | None = attrs.field(default=None, metadata=wire("video_status"))
    duration: float | None = None
    size: int | None = None
    created_at: datetime | None = attrs.field(
        default=None, metadata=wire("create_time", "upload_time")
    )
    cause: str | None = None
    url: str | None = attrs.field(default=None, metadata=wire("video_url"))
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    resolution_label: str | None = None
    tags: tuple[str, ...] = attrs.field(default=(), converter=tuple[str, ...])
    datetime_taken: datetime | None = None
    camera_model: str | None = None
    latitude: float | None = None
    longitude: float | None = None

    @property
    def searchable(self) -> bool:
        """Whether the video is indexed."""
        return self.status == SEARCHABLE

    @property
    def failed(self) -> bool:
        """Whether indexing failed for good."""
        return self.status in FAILED_STATUSES


@checked(model=True)
@attrs.frozen
class SearchHit(Result):
    """Something in the library that matches a search: a range of a video, or an image.

    Attributes:
        video_no: The video; None for an image of the image library.
        name: The video's or image's stored name.
        start_time: Seconds from the start of the video.
        end_time: Seconds from the start of the video; older answers may leave it out.
        score: How well it matches; higher is better.
        text: What is said or captioned there, where the search was for that.
        image_id: The image of the image library.
        url: Where the service keeps the image.
        datetime_taken: When the image was taken.
        camera_model: What the image was taken with.
        latitude: Where the image was taken, in degrees.
        longitude: Where the image was taken, in degrees.
    """

    video_no: str | None = None
    name: str | None = attrs.field(default=None, metadata=wire("video_name"))
    start_time: float | None = None
    end_time: float | None = None
    score: float | None = None
    text: str | None = attrs.field(default=None, metadata=wire("audio_ts"))
    image_id: int | None = attrs.field(default=None, metadata=wire("id"))
    url: str | None = attrs.field(default=None, metadata=wire("img_url"))
    datetime_taken: datetime | None = None
    camera_model: str | None = None
    latitude: float | None = None
    longitude: float | None = None


@checked(model=True)
@attrs.frozen
class TranscriptLine(Result):
    """What is said or seen in one stretch of a video.

    Attributes:
        content: The words.
        start_time: Seconds from the start of the video.
        end_time: Seconds from the start of the video.
        index: The line's number.
    """

    content: str
    start_time: float | None = None
    end_time: float | None = None
    index: int | None = None


def _as_lines(lines: Iterable[TranscriptLine]) -> Results[TranscriptLine]:
    return Results(lines)


@checked({"lines": SEQUENCE}, model=True)
@attrs.frozen
class Transcript(Result):
    """What is said or seen in a video, line by line.

    Attributes:
        lines: The lines in order.
        video_no: The video.
    """

    lines: Results[TranscriptLine] = attrs.field(
        converter=_as_lines, metadata=wire("transcriptions")
    )
    video_no: str | None = None


@checked(model=True)
@attrs.frozen
class Asset(Result):
    """A file that was uploaded for further use.

    Attributes:
        asset_id: Its identifier, e.g. ``re_657466124521283584``.
    """

    asset_id: str = attrs.field(repr=_shortened, metadata=_IDENTIFIER)


@checked(model=True)
@attrs.frozen
class AssetMetadata(Result):
    """What the service knows of an asset; its other fields are undocumented and in ``extra``.

    Attributes:
        status: ``WAITING``, ``UPLOADING``, ``SUCCESS`` or ``FAILED``; usable only at ``SUCCESS``.
    """

    status: str | None = attrs.field(default=None, metadata=wire("upload_status"))

    @property
    def ready(self) -> bool:
        """Whether the asset can be used."""
        return self.status == "SUCCESS"

    @property
    def failed(self) -> bool:
        """Whether the upload failed for good."""
        return self.status in FAILED_STATUSES


@checked(model=True)
@attrs.frozen
class SignedUpload(Result):
    """Permission to upload one asset to an address.

    Attributes:
        asset_id: The asset that the upload becomes.
        signed_url: The address; whoever has it may upload, so it is not shown.
        expires_in: Seconds for which it is valid.
    """

    asset_id: str = attrs.field(repr=_shortened, metadata=_IDENTIFIER)
    signed_url: str = attrs.field(repr=False)
    expires_in: int | None = None


@checked(model=True)
@attrs.frozen
class Download(Result):
    """A file that was downloaded.

    Attributes:
        path: Where it lies now.
        size: Bytes.
        content_type: What the service says it is.
    """

    path: str
    size: int
    content_type: str


class _Outcome(Generic[T]):
    """What became of one item of a batch: ``Succeeded`` with a value or ``Failed`` with an error.

    Type-checkers see the two kinds: after ``if outcome.error is None`` the value is there, and
    ``match`` tells ``Succeeded()`` from ``Failed()``.

    Args:
        index: The item's position in the batch, from 0.
        source: The item as it was given.
        value: The result, or None.
        error: The exception, or None.
    """

    __slots__ = ()

    def __new__(cls, *args: object, error: Exception | None = None, **fields: object) -> Any:
        if cls is _Outcome:
            kind: type[Any] = Succeeded if error is None else Failed
            return object.__new__(kind)
        return object.__new__(cls)


@checked(model=True)
@attrs.frozen
class Succeeded(_Outcome[T]):
    """An item of a batch whose call succeeded.

    Attributes:
        index: The item's position in the batch, from 0.
        source: The item as it was given.
        value: The result.
        error: None.
    """

    index: int
    source: object = attrs.field(repr=shown)  # a picture's bytes fill no log
    value: T
    error: None = attrs.field(default=None, repr=False)

    def unwrap(self) -> T:
        """Return the value."""
        return self.value


@checked(model=True)
@attrs.frozen
class Failed(_Outcome[Any]):
    """An item of a batch whose call failed; the others go on.

    Exceptions are equal to themselves alone, and so an outcome that was pickled and read again is
    not equal to the first.

    Attributes:
        index: The item's position in the batch, from 0.
        source: The item as it was given.
        value: None.
        error: The exception.
    """

    index: int
    source: object = attrs.field(repr=shown)
    value: None = attrs.field(default=None, repr=False)
    error: Exception = attrs.field(kw_only=True)

    def unwrap(self) -> NoReturn:
        """Raise the error."""
        raise self.error


if TYPE_CHECKING:
    Outcome: TypeAlias = Succeeded[T] | Failed
else:
    # A class, so that ``Outcome(0, source, value=...)`` and ``isinstance`` go on working.
    Outcome = _Outcome
    Outcome.__name__ = Outcome.__qualname__ = "Outcome"


@checked(model=True)
@attrs.frozen
class Progress:
    """How much of a request's body the network has accepted.

    Attributes:
        sent: Bytes accepted in this attempt; it steps back when an attempt is thrown away.
        total: Bytes of the whole body, or None for a stream of unknown length.
        attempt: The number of this attempt, from 1.
    """

    sent: int
    total: int | None
    attempt: int = 1

    @property
    def fraction(self) -> float | None:
        """``sent / total`` from 0 to 1, or None if the total is unknown."""
        return None if self.total is None else (self.sent / self.total if self.total else 1.0)
