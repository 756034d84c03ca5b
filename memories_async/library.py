"""client.library: the account's private images and videos, and searching them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeVar

import attrs

from memories_async import polling
from memories_async.checks import checked
from memories_async.config import CallOptions
from memories_async.errors import ConfigurationError, Conflict, UnexpectedShape
from memories_async.fields import callback_address, date_and_time, drop_none, epoch_ms
from memories_async.media.source import Source, listed
from memories_async.media.urls import check_url, is_url
from memories_async.models import (
    Clip,
    Download,
    LibraryImage,
    Progress,
    Results,
    SearchHit,
    Transcript,
    Video,
)
from memories_async.operations import (
    ADD_IMAGES,
    ADD_VIDEO_FILE,
    ADD_VIDEO_URL,
    DELETE_VIDEOS,
    DOWNLOAD_VIDEO,
    GET_AUDIO_TRANSCRIPT,
    GET_VIDEO,
    GET_VIDEO_CAPTIONS,
    LIST_VIDEOS,
    SEARCH_CLIPS,
    SEARCH_LIBRARY,
    SEARCH_SIMILAR,
    SEARCH_TRANSCRIPTS,
    Operation,
)
from memories_async.request_limits import LIMITS, TOGETHER

if TYPE_CHECKING:
    from memories_async._engine.dispatch import Dispatcher

T = TypeVar("T")

MOST_DELETIONS = 100

SearchBy = Literal["clip", "audio", "caption", "image"]
"""What is searched: what is to be seen or said in videos, what was written of them, or images."""
FilteringLevel = Literal["low", "medium", "high"]
"""How alike hits must be; without one the service filters nothing out."""
MOST_HITS: Mapping[SearchBy, int] = {"clip": 1000, "audio": 1000, "caption": 200, "image": 1000}


@checked(LIMITS, namespace=True, together=TOGETHER)
class Library:
    """The private library; its host wants the general key.

    What its methods share is said here, and named in theirs.

    Args:
        unique_id: Namespace within the account, made on first use; the service's default is
            ``default``.
        datetime_taken: When it was taken: a datetime, or text as ``2025-09-07 22:52:00``. The
            service takes no offset: an aware datetime is sent as UTC.
        camera_model: What it was taken with, at most 200 characters.
        latitude: Degrees, -90 to 90, together with ``longitude``; as a filter: within about 20 km.
        longitude: Degrees, -180 to 180, together with ``latitude``.
        on_progress: Called with the bytes accepted so far; of a download, with those received.
        options: Deadline, attempts and timeouts of each request.

    Raises:
        ConfigurationError: No key, or an argument is of another kind or beyond its limit; nothing
            was opened or sent.
        MediaError: A file cannot be sent, or written; nothing was sent.
        ApiError: The service refused.
        OutcomeUnknown: It was sent and no answer came; it may have been billed.
    """

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
            tags: At most 50; the service adds the tag ``api``.

        Returns:
            The images in the order of the sources, each with its exact identifier.

        Raises:
            MediaError: At least one file cannot be sent; each is named, and nothing was sent.
            UnexpectedShape: Another number of ids came than images went; they are in its
                ``answer``, and have been billed.
            OutcomeUnknown: It was sent and no answer came; the images may exist and be billed.

        Shared (see ``Library``): unique_id, datetime_taken, camera_model, latitude, longitude,
            on_progress, options, ApiError, ConfigurationError.

        Source: POST /serve/api/v1/upload_img
        (https://api-tools.memories.ai/visual-search/upload-image-from-file).
        """
        images = listed(sources)
        if not images:
            raise ConfigurationError("no image given")
        fields = drop_none(
            unique_id=unique_id,
            datetime_taken=date_and_time(datetime_taken),
            camera_model=camera_model,
            latitude=latitude,
            longitude=longitude,
            tags=list(tags) or None,
        )
        added = await self._dispatcher.send(
            ADD_IMAGES, fields, sources=images, options=options, on_progress=on_progress
        )
        if len(added) != len(images):
            raise UnexpectedShape(
                f"{len(added)} ids came for {len(images)} images, so which is whose is unknown",
                answer=added,
                operation=str(ADD_IMAGES),
                attempts=added.attempts,
            )
        return added

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

        Returns:
            The clips, with times in seconds; each successful call is billed, also an empty one.

        Shared (see ``Library``): unique_id, on_progress, options, ApiError, MediaError,
            OutcomeUnknown, ConfigurationError.

        Source: POST /serve/api/v1/search_clips_by_image
        (https://api-tools.memories.ai/platform/search-clips-by-image).
        """
        fields = drop_none(
            video_no=video_no,
            prompt=prompt,
            unique_id=unique_id,
        )
        return await self._dispatcher.send(
            SEARCH_CLIPS,
            fields,
            sources=(image,),
            options=options,
            on_progress=on_progress,
        )

    async def add_video(
        self,
        source: Source,
        *,
        unique_id: str | None = None,
        folder_id: int | None = None,
        callback: str | None = None,
        datetime_taken: datetime | str | None = None,
        camera_model: str | None = None,
        latitude: float | None = None,
        longitude: float | None = None,
        tags: Sequence[str] = (),
        retain_original_video: bool | None = None,
        video_transcription_prompt: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> Video:
        """Add a video to the private video library; it is indexed afterwards.

        Args:
            source: A video (MP4, MOV, AVI or MKV of at most 3 GB): path, bytes, binary file
                object or ``Media``; or a public URL (MP4, or M3U8 with absolute links; at most
                1 GB without special permission). A file is streamed from where it lies.
            folder_id: Folder within the account; newer accounts have folders instead of
                namespaces.
            callback: Public http(s) address, of at most 299 characters, that is told when the
                video has been indexed.
            tags: At most 20; the service adds the tag ``api``.
            retain_original_video: Whether the service keeps the original (its default: yes).
            video_transcription_prompt: What to pay attention to when it is transcribed.

        Returns:
            The video, as yet with status ``UNPARSE``: see ``wait_until_searchable``.

        Raises:
            OutcomeUnknown: It was sent and no answer came; the video may exist and be billed.

        Shared (see ``Library``): unique_id, datetime_taken, camera_model, latitude, longitude,
            on_progress, options, ApiError, MediaError, ConfigurationError.

        Source: POST /serve/api/v1/upload, POST /serve/api/v1/upload_url
        (https://api-tools.memories.ai/visual-search/upload-video-from-file).
        """
        if callback is not None:
            callback_address(callback, self._dispatcher.settings)
        fields = drop_none(
            callback=callback,
            unique_id=unique_id,
            folder_id=folder_id,
            datetime_taken=date_and_time(datetime_taken),
            camera_model=camera_model,
            latitude=latitude,
            longitude=longitude,
            tags=list(tags) or None,
            retain_original_video=retain_original_video,
            video_transcription_prompt=video_transcription_prompt,
        )
        if isinstance(source, str) and is_url(source):
            return await self._dispatcher.send(
                ADD_VIDEO_URL,
                {"url": check_url(source, "video URL")} | fields,
                options=options,
                on_progress=on_progress,
            )
        return await self._dispatcher.send(
            ADD_VIDEO_FILE,
            fields,
            sources=(source,),
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

        Returns:
            The video with its status, duration and size.

        Raises:
            NotFound: There is no such video.

        Shared (see ``Library``): unique_id, options, ApiError, ConfigurationError.

        Source: GET /serve/api/v1/get_metadata
        (https://api-tools.memories.ai/visual-search/get-metadata).
        """
        fields = drop_none(video_no=video_no, unique_id=unique_id)
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

        Returns:
            The video, with status ``PARSE``.

        Raises:
            TaskFailed: Indexing failed for good.
            DeadlineExceeded: It was not indexed in time; asking later is free.
            NotFound: There is no such video.

        Shared (see ``Library``): unique_id, options, ApiError.

        Source: GET /serve/api/v1/get_metadata
        (https://api-tools.memories.ai/visual-search/get-metadata).
        """
        return await polling.until_ready(
            lambda: self.video(video_no, unique_id=unique_id, options=options),
            lambda video: video.searchable,
            operation=GET_VIDEO,
            identifier=video_no,
            within=within,
            clock=await self._dispatcher.clock(),
        )

    def videos(
        self,
        *,
        name: str | None = None,
        video_nos: Sequence[str] = (),
        status: str | None = None,
        camera_model: str | None = None,
        tag: str | None = None,
        taken_since: datetime | None = None,
        latitude: float | None = None,
        longitude: float | None = None,
        unique_id: str | None = None,
        folder_id: int | None = None,
        page_size: int = 200,
        options: CallOptions | None = None,
    ) -> AsyncIterator[Video]:
        """List the videos of the library; pages are fetched as the iteration goes. Free.

        Args:
            name: Only videos of this stored name.
            video_nos: Only these videos.
            status: Only videos of this status: ``PARSE``, ``UNPARSE`` or ``FAILED`` (``FAIL`` in
                older answers).
            tag: Only videos with this tag.
            taken_since: Only videos taken at this time or later; a naive one is local time.
            folder_id: Folder within the account.
            page_size: Videos in one request (default 200).

        Returns:
            An iterator of videos.

        Shared (see ``Library``): unique_id, camera_model, latitude, longitude, options, ApiError,
            ConfigurationError.

        Source: POST /serve/api/v1/list_videos
        (https://api-tools.memories.ai/visual-search/list-videos).
        """
        fields = drop_none(
            size=page_size,
            video_name=name,
            video_nos=list(video_nos) or None,
            status=status,
            camera_model=camera_model,
            tag=tag,
            datetime_taken=epoch_ms(taken_since),
            latitude=latitude,
            longitude=longitude,
            unique_id=unique_id,
            folder_id=folder_id,
        )

        return self._pages(LIST_VIDEOS, fields, page_size, options)

    async def delete_videos(
        self,
        video_nos: Sequence[str],
        *,
        unique_id: str | None = None,
        options: CallOptions | None = None,
    ) -> None:
        """Delete videos; free, and the same when repeated.

        Args:
            video_nos: The videos; more than 100 go in several requests. The service ignores
                those that it does not know.

        Raises:
            Conflict: The service says that they were deleted before.

        Shared (see ``Library``): unique_id, options, ApiError, ConfigurationError.

        Source: POST /serve/api/v1/delete_videos
        (https://api-tools.memories.ai/visual-search/delete-videos).
        """
        unwanted = list(video_nos)
        for start in range(0, len(unwanted), MOST_DELETIONS):
            some = unwanted[start : start + MOST_DELETIONS]
            try:
                await self._dispatcher.send(
                    DELETE_VIDEOS, drop_none(video_nos=some, unique_id=unique_id), options=options
                )
            except Conflict as error:
                if error.attempts == 1:
                    raise
                # An earlier attempt of ours deleted them, and its answer was lost.

    async def download(
        self,
        video_no: str,
        destination: str | os.PathLike[str],
        *,
        unique_id: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> Download:
        """Download a video to a file; $0.12 per GB.

        Args:
            video_no: The video's identifier.
            destination: Path of the file. It appears when the download is whole; until then the
                bytes lie beside it, in ``<destination>.part``. Names that the service gives are
                never used.

        Returns:
            Where the file lies, its size and type.

        Raises:
            NotFound: There is no such video.

        Shared (see ``Library``): unique_id, on_progress, options, ApiError, MediaError,
            ConfigurationError.

        Source: POST /serve/api/v1/download
        (https://api-tools.memories.ai/visual-search/download-video).
        """
        return await self._dispatcher.send(
            DOWNLOAD_VIDEO,
            drop_none(video_no=video_no, unique_id=unique_id),
            options=options,
            on_progress=on_progress,
            destination=destination,
        )

    async def search(
        self,
        query: str,
        *,
        by: SearchBy = "clip",
        top_k: int | None = None,
        filtering_level: FilteringLevel | None = None,
        video_nos: Sequence[str] = (),
        tag: str | None = None,
        camera_model: str | None = None,
        taken_since: datetime | None = None,
        latitude: float | None = None,
        longitude: float | None = None,
        unique_id: str | None = None,
        options: CallOptions | None = None,
    ) -> Results[SearchHit]:
        """Search the whole library by words; billed.

        Args:
            query: What to look for.
            by: What to search: ``"clip"`` what is to be seen in videos, ``"audio"`` what is said
                in them, ``"caption"`` what was written of them, ``"image"`` the image library.
            top_k: Hits at most, 1 to 1000 (by caption 1 to 200).
            filtering_level: ``"low"``, ``"medium"`` or ``"high"``: how alike hits must be.
            video_nos: Only these videos, at most 100.
            tag: Only with this tag.
            taken_since: Only taken at this time or later; sent without an offset, an aware one as
                UTC.

        Returns:
            The hits, best first as the service sorts them.

        Shared (see ``Library``): unique_id, camera_model, latitude, longitude, options, ApiError,
            OutcomeUnknown, ConfigurationError.

        Source: POST /serve/api/v1/search
        (https://api-tools.memories.ai/visual-search/search-by-text).
        """
        if top_k is not None and top_k > MOST_HITS[by]:
            raise ConfigurationError(
                f"top_k must be between 1 and {MOST_HITS[by]}, not {top_k}, by {by}"
            )
        return await self._dispatcher.send(
            SEARCH_LIBRARY,
            drop_none(
                search_param=query,
                search_type=f"BY_{by.upper()}",
                top_k=top_k,
                filtering_level=filtering_level,
                video_nos=list(video_nos) or None,
                tag=tag,
                camera_tag=camera_model,
                datetime_taken=date_and_time(taken_since),
                latitude=latitude,
                longitude=longitude,
                unique_id=unique_id,
            ),
            options=options,
        )

    async def search_similar(
        self,
        image: Source,
        *,
        similarity: float | None = None,
        unique_id: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> Results[SearchHit]:
        """Find where in the whole video library something like an image is to be seen; billed.

        Args:
            image: The query image (JPEG, PNG, GIF, BMP or WebP of at most 20 MB): path, bytes,
                binary file object or ``Media``.
            similarity: How alike it must be, 0 to 1 (the service's default: 0.85).

        Returns:
            The hits; older answers leave out the end of a range.

        Shared (see ``Library``): unique_id, on_progress, options, ApiError, MediaError,
            OutcomeUnknown, ConfigurationError.

        Source: POST /serve/api/v1/search_similar_images
        (https://api-tools.memories.ai/visual-search/search-by-image).
        """
        return await self._dispatcher.send(
            SEARCH_SIMILAR,
            drop_none(similarity=similarity, unique_id=unique_id),
            sources=(image,),
            options=options,
            on_progress=on_progress,
        )

    def search_transcripts(
        self,
        query: str,
        *,
        unique_id: str | None = None,
        page_size: int = 100,
        options: CallOptions | None = None,
    ) -> AsyncIterator[SearchHit]:
        """Find where words are said; pages are fetched as the iteration goes. Billed by page.

        Args:
            query: The words, as they are said.
            page_size: Hits in one request, 1 to 500 (default 100).

        Returns:
            An iterator of hits: the video, when it is said and the text.

        Shared (see ``Library``): unique_id, options, ApiError, OutcomeUnknown, ConfigurationError.

        Source: GET /serve/api/v1/search_audio_transcripts
        (https://api-tools.memories.ai/visual-search/search-audio-transcripts).
        """
        fields = drop_none(query=query, page_size=page_size, unique_id=unique_id)
        return self._pages(SEARCH_TRANSCRIPTS, fields, page_size, options)

    async def audio_transcript(
        self,
        video_no: str,
        *,
        unique_id: str | None = None,
        options: CallOptions | None = None,
    ) -> Transcript:
        """Return what is said in a video.

        Args:
            video_no: The video's identifier.

        Returns:
            The lines with their times in seconds; none where nothing is said.

        Raises:
            NotFound: There is no such video.

        Shared (see ``Library``): unique_id, options, ApiError, ConfigurationError.

        Source: GET /serve/api/v1/get_audio_transcription
        (https://api-tools.memories.ai/visual-search/get-audio-transcription).
        """
        return await self._transcript(GET_AUDIO_TRANSCRIPT, video_no, unique_id, options)

    async def video_captions(
        self,
        video_no: str,
        *,
        unique_id: str | None = None,
        options: CallOptions | None = None,
    ) -> Transcript:
        """Return what was written of a video when it was indexed.

        Args:
            video_no: The video's identifier.

        Returns:
            The lines with their times in seconds.

        Raises:
            NotFound: There is no such video.

        Shared (see ``Library``): unique_id, options, ApiError, ConfigurationError.

        Source: GET /serve/api/v1/get_video_caption
        (https://api-tools.memories.ai/visual-search/get-video-caption).
        """
        return await self._transcript(GET_VIDEO_CAPTIONS, video_no, unique_id, options)

    async def _transcript(
        self,
        operation: Operation[Transcript],
        video_no: str,
        unique_id: str | None,
        options: CallOptions | None,
    ) -> Transcript:
        fields = drop_none(video_no=video_no, unique_id=unique_id)
        transcript = await self._dispatcher.send(operation, fields, options=options)
        # A silent video has the answer null, which does not repeat the number.
        return transcript if transcript.video_no else attrs.evolve(transcript, video_no=video_no)

    async def _pages(
        self,
        operation: Operation[Results[T]],
        fields: dict[str, object],
        page_size: int,
        options: CallOptions | None,
    ) -> AsyncIterator[T]:
        """Yield the items of page after page, from page 1."""
        number, seen = 1, 0
        while True:
            page = await self._dispatcher.send(
                operation, {"page": number} | fields, options=options
            )
            for item in page:
                yield item
            number, seen = number + 1, seen + len(page)
            # A short page does not end the list where the service caps its pages lower.
            if not page or (
                seen >= page.total if page.total is not None else len(page) < page_size
            ):
                return
