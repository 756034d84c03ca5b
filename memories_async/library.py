"""client.library: the account's private images and videos, and searching them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from memories_async.errors import ConfigurationError, DeadlineExceeded, TaskFailed
from memories_async.formats import AVI, BMP, GIF, JPEG, MATROSKA, MP4, PNG, QUICKTIME, WEBP
from memories_async.media import (
    GIBIBYTE,
    MEBIBYTE,
    MediaRule,
    Source,
    inspect_all,
    inspect_source,
    is_url,
    listed,
)
from memories_async.models import Clip, LibraryImage, Progress, Results, Video
from memories_async.operations import ADD_IMAGES, ADD_VIDEO_FILE, GET_VIDEO, SEARCH_CLIPS

if TYPE_CHECKING:
    from memories_async._engine.dispatch import Dispatcher
    from memories_async.config import CallOptions

_LIBRARY_FORMATS = frozenset({JPEG, PNG, GIF, BMP, WEBP})
LIBRARY_IMAGE = MediaRule("a library image", _LIBRARY_FORMATS, max_size=20 * MEBIBYTE)
QUERY_IMAGE = MediaRule("a query image", _LIBRARY_FORMATS, max_size=20 * MEBIBYTE)
LIBRARY_VIDEO = MediaRule(
    "a library video", frozenset({MP4, AVI, MATROSKA, QUICKTIME}), max_size=3 * GIBIBYTE
)
MOST_TAGS = 50
LONGEST_CAMERA_MODEL = 200
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
FIRST_POLL, LONGEST_POLL = 2.0, 30.0


class Library:
    """The private library; its host wants the general key."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def add_images(
        self,
        sources: Source | Iterable[Source],
        *,
        unique_id: str | None = None,
        datetime_taken: datetime | str | None = None,
        camera_model: str | None = None,
        latitude: float | None = None,
        longitude: float | None = None,
        tags: Sequence[str] = (),
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> Results[LibraryImage]:
        """Add images to the private image library in one request: all of them or none.

        Every image is checked first; if one would be refused, nothing is sent. The metadata
        applies to all of them. Each image is billed.

        Args:
            sources: Local images (JPEG, PNG, GIF, BMP or WebP of at most 20 MB each): paths,
                bytes, binary file objects or ``Media``. How many one request may hold is a
                setting of the service, which names it when exceeded.
            unique_id: Namespace within the account, made on first use; the service's default
                is ``default``.
            datetime_taken: When they were taken: a datetime, or text as ``2025-09-07 22:52:00``.
            camera_model: At most 200 characters.
            latitude: Degrees, -90 to 90.
            longitude: Degrees, -180 to 180.
            tags: At most 50; the service adds the tag ``api``.
            on_progress: Called with the bytes of the whole request accepted so far.
            options: Deadline, attempts and timeouts of this call.

        Returns:
            The images in the order of the sources, each with its exact identifier.

        Raises:
            ConfigurationError: No key, or a metadata field is beyond its limit.
            MediaError: At least one file cannot be sent; each is named, and nothing was sent.
            ApiError: The service refused.
            OutcomeUnknown: It was sent and no answer came; the images may exist and be billed.

        Source: POST /serve/api/v1/upload_img
        (https://api-tools.memories.ai/visual-search/upload-image-from-file).
        """
        images = listed(sources)
        if not images:
            raise ConfigurationError("no image given")
        fields = _present(
            unique_id=unique_id,
            datetime_taken=_moment(datetime_taken),
            camera_model=_limited("camera_model", camera_model, LONGEST_CAMERA_MODEL),
            latitude=_degrees("latitude", latitude, 90),
            longitude=_degrees("longitude", longitude, 180),
            tags=_tags(tags),
        )
        return await self._dispatcher.send(
            ADD_IMAGES,
            fields,
            attach=lambda: inspect_all(images, LIBRARY_IMAGE),
            options=options,
            on_progress=on_progress,
        )

    async def search_clips(
        self,
        video_no: str,
        image: Source,
        prompt: str,
        *,
        unique_id: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> Results[Clip]:
        """Find the time ranges of one video that match a picture and a prompt.

        Args:
            video_no: A searchable video of the library (status ``PARSE``).
            image: The query image (JPEG, PNG, GIF, BMP or WebP of at most 20 MB): path, bytes,
                binary file object or ``Media``.
            prompt: What to pay attention to, in English.
            unique_id: Namespace within the account.
            on_progress: Called with the bytes accepted so far.
            options: Deadline, attempts and timeouts of this call.

        Returns:
            The clips, with times in seconds; each successful call is billed, also an empty one.

        Raises:
            ConfigurationError: No key, no video_no or no prompt.
            MediaError: The image cannot be sent; nothing was.
            ApiError: The service refused.
            OutcomeUnknown: It was sent and no answer came; it may have been billed.

        Source: POST /serve/api/v1/search_clips_by_image
        (https://api-tools.memories.ai/platform/search-clips-by-image).
        """
        fields = _present(
            video_no=_filled("video_no", video_no),
            prompt=_filled("prompt", prompt),
            unique_id=unique_id,
        )
        return await self._dispatcher.send(
            SEARCH_CLIPS,
            fields,
            attach=lambda: (inspect_source(image, QUERY_IMAGE),),
            options=options,
            on_progress=on_progress,
        )

    async def add_video(
        self,
        source: Source,
        *,
        unique_id: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> Video:
        """Add a video file to the private video library; it is indexed afterwards.

        Args:
            source: A local video (MP4, MOV, AVI or MKV of at most 3 GB): path, bytes, binary
                file object or ``Media``. A file is streamed from where it lies.
            unique_id: Namespace within the account.
            on_progress: Called with the bytes accepted so far.
            options: Deadline, attempts and timeouts of this call.

        Returns:
            The video, as yet with status ``UNPARSE``: see ``wait_until_searchable``.

        Raises:
            ConfigurationError: No key.
            MediaError: The file cannot be sent; nothing was.
            ApiError: The service refused.
            OutcomeUnknown: It was sent and no answer came; the video may exist and be billed.

        Source: POST /serve/api/v1/upload
        (https://api-tools.memories.ai/visual-search/upload-video-from-file).
        """
        if is_url(source):
            raise ConfigurationError("add_video takes a local video, not a URL")
        return await self._dispatcher.send(
            ADD_VIDEO_FILE,
            _present(unique_id=unique_id),
            attach=lambda: (inspect_source(source, LIBRARY_VIDEO),),
            options=options,
            on_progress=on_progress,
        )

    async def video(
        self,
        video_no: str,
        *,
        unique_id: str | None = None,
        options: CallOptions | None = None,
    ) -> Video:
        """Return what the library knows of a video; free.

        Args:
            video_no: The video's identifier.
            unique_id: Namespace within the account.
            options: Deadline, attempts and timeouts of this call.

        Returns:
            The video with its status, duration and size.

        Raises:
            ConfigurationError: No key or no video_no.
            NotFound: There is no such video.
            ApiError: The service refused.

        Source: GET /serve/api/v1/get_metadata
        (https://api-tools.memories.ai/visual-search/get-metadata).
        """
        fields = _present(video_no=_filled("video_no", video_no), unique_id=unique_id)
        return await self._dispatcher.send(GET_VIDEO, fields, options=options)

    async def wait_until_searchable(
        self,
        video_no: str,
        *,
        within: float = 600.0,
        unique_id: str | None = None,
        options: CallOptions | None = None,
    ) -> Video:
        """Ask about a video until it is indexed: after 2 s, then ever less often, up to 30 s.

        Args:
            video_no: The video's identifier.
            within: Seconds to wait at most (default 600).
            unique_id: Namespace within the account.
            options: Deadline, attempts and timeouts of each question.

        Returns:
            The video, with status ``PARSE``.

        Raises:
            TaskFailed: Indexing failed for good.
            DeadlineExceeded: It was not indexed in time; asking later is free.
            NotFound: There is no such video.
            ApiError: The service refused.

        Source: GET /serve/api/v1/get_metadata
        (https://api-tools.memories.ai/visual-search/get-metadata).
        """
        waited, pause = 0.0, FIRST_POLL
        while True:
            video = await self.video(video_no, unique_id=unique_id, options=options)
            if video.searchable:
                return video
            if video.failed:
                cause = f": {video.cause}" if video.cause else ""
                raise TaskFailed(f"indexing of {video_no} failed{cause}", task_id=video_no)
            if waited + pause > within:
                raise DeadlineExceeded(
                    f"{video_no} is still {video.status or 'unknown'} after {waited:.0f} s"
                )
            await self._dispatcher.sleep(pause)
            waited += pause
            pause = min(pause * 1.5, LONGEST_POLL)


def _present(**fields: object) -> dict[str, object]:
    """Keep the fields that were given, in this order: the service tells absent from empty."""
    return {name: value for name, value in fields.items() if value is not None}


def _filled(field: str, value: str) -> str:
    if not value.strip():
        raise ConfigurationError(f"{field} is empty")
    return value


def _limited(field: str, value: str | None, limit: int) -> str | None:
    if value is not None and len(value) > limit:
        raise ConfigurationError(f"{field} has {len(value)} characters; the limit is {limit}")
    return value


def _degrees(field: str, value: float | None, limit: int) -> float | None:
    if value is not None and not -limit <= value <= limit:
        raise ConfigurationError(f"{field} must be between -{limit} and {limit}, not {value}")
    return value


def _tags(tags: Sequence[str]) -> list[str] | None:
    if isinstance(tags, str):
        raise ConfigurationError("tags is a sequence of texts, not one text")
    if len(tags) > MOST_TAGS:
        raise ConfigurationError(f"tags: {len(tags)} given; the limit is {MOST_TAGS}")
    return list(tags) or None


def _moment(value: datetime | str | None) -> str | None:
    if isinstance(value, datetime):
        return value.strftime(TIME_FORMAT)
    if value is not None:
        try:
            datetime.strptime(value, TIME_FORMAT)
        except ValueError:
            raise ConfigurationError(
                f"datetime_taken is yyyy-MM-dd HH:mm:ss, not {value!r}"
            ) from None
    return value
