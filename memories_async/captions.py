"""client.captions: what is to be seen in images and videos, in words."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

import attrs

from memories_async.checks import checked
from memories_async.checks.kinds import Kind, Problem, is_sequence, shown, text_problem
from memories_async.checks.parameters import means
from memories_async.config import CallOptions
from memories_async.errors import ConfigurationError
from memories_async.fields import callback_address, drop_none
from memories_async.media.source import Source, listed
from memories_async.media.urls import check_url, is_url
from memories_async.models import Caption, CaptionTask, Outcome, Progress
from memories_async.operations import (
    CAPTION_IMAGE_BASE64,
    CAPTION_IMAGE_FILE,
    CAPTION_IMAGE_URL,
    CAPTION_VIDEO_FILE,
    CAPTION_VIDEO_URL,
    SUBMIT_VIDEO_FILE,
    SUBMIT_VIDEO_URL,
    Operation,
)
from memories_async.request_limits import LIMITS

if TYPE_CHECKING:
    from memories_async._engine.dispatch import Dispatcher

T = TypeVar("T")

VIDEO_SYSTEM_PROMPT = "You are a video understanding system."
"""The documentation's own example; the service requires one for videos."""


@checked
@attrs.frozen
class Person:
    """Someone to recognise in a video.

    Args:
        name: What the caption shall call them.
        url: Public address of a picture of them (PNG or JPEG).

    Raises:
        ConfigurationError: One of them is no text, or empty.
    """

    name: str
    url: str


def _persons_problem(name: str, persons: Sequence[object]) -> Problem:
    for index, person in enumerate(persons):
        if (problem := _person_problem(f"{name}[{index}]", person)) is not None:
            return problem
    return None


def _person_problem(name: str, person: object) -> Problem:
    if isinstance(person, Mapping):
        given = dict(cast("Mapping[object, object]", person))
    elif hasattr(person, "name") and hasattr(person, "url"):
        given = {"name": getattr(person, "name", None), "url": getattr(person, "url", None)}
    else:
        return f"{name} is {shown(person)}; a Person, or a mapping of name and url, is wanted"
    for field in ("name", "url"):
        value = given.pop(field, None)
        if not isinstance(value, str):
            return f"{name}.{field} is {shown(value)}; a text is wanted"
        if (problem := text_problem(f"{name}.{field}", value)) is not None:
            return problem
        if field == "url":
            try:
                check_url(value, f"{name}.url")
            except ConfigurationError as error:
                return error.message
    if given:
        return f"{name} has {shown(next(iter(given)))}; name and url are what a person has"
    return None


means(
    Sequence[Person | Mapping[str, str]],
    Kind("a sequence of persons", is_sequence, _persons_problem),
)


@checked(LIMITS, namespace=True)
class Captions:
    """Captions of images and videos; the host wants the captioning key.

    What its methods share is said here, and named in theirs.

    Args:
        system_prompt: What the model is told to be; for videos the service requires one.
        persons: Up to 5 people to recognise in a video (human re-identification): ``Person``, or
            ``{"name": ..., "url": ...}`` as the documentation writes them.
        thinking: Use the reasoning model.
        qa: Answer in the style of a conversation instead of a caption.
        reasoning_effort: 1 to 10, or -1 to let the model decide; applies when thinking.
        on_progress: Called with the bytes accepted so far.
        options: Deadline, attempts and timeouts of each call.

    Raises:
        ConfigurationError: No key, or an argument is of another kind or beyond its limit; nothing
            was opened or sent.
        MediaError: A file cannot be sent, or written; nothing was sent.
        ApiError: The service refused.
        OutcomeUnknown: It was sent and no answer came; it may have been billed.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def image(
        self,
        source: Source | Sequence[Source],
        prompt: str,
        *,
        system_prompt: str | None = None,
        thinking: bool = False,
        qa: bool = False,
        reasoning_effort: int | str | None = None,
        as_base64: bool = False,
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> Caption:
        """Describe an image, or several images together in one text.

        Args:
            source: A PNG or JPEG: URL, path, bytes, binary file object or ``Media``; or a
                sequence of them, either all URLs or all local.
            prompt: What to say or to answer.
            as_base64: Send a single local image inside the JSON request: read into memory, and so
                of at most 64 MB where its size is unknown.

        Returns:
            The text and the tokens used.

        Shared (see ``Captions``): system_prompt, thinking, qa, reasoning_effort, on_progress,
            options, ApiError, MediaError, OutcomeUnknown, ConfigurationError.

        Source: POST /v1/understand/uploadImg, uploadImgFile, uploadImgFileBase64
        (https://api-tools.memories.ai/platform/image-caption).
        """
        sources = listed(source)
        fields = _prompts(prompt, system_prompt, thinking, qa, reasoning_effort)
        if not sources:
            raise ConfigurationError("no image given")
        urls = [_url(item, "image URL") for item in sources if is_url(item)]
        if urls and len(urls) < len(sources):
            raise ConfigurationError("one request takes image URLs or local images, not both")
        if as_base64:
            if urls or len(sources) > 1:
                raise ConfigurationError(
                    "as_base64 sends one local image: the service does not say how several are "
                    "named; use captions.images for one call per image"
                )
            return await self._image_as_base64(sources[0], fields, on_progress, options)
        if urls:
            address: dict[str, object] = {"url": urls[0]} if len(urls) == 1 else {"urls": urls}
            return await self._dispatcher.send(
                CAPTION_IMAGE_URL, address | fields, options=options, on_progress=on_progress
            )
        return await self._dispatcher.send(
            CAPTION_IMAGE_FILE,
            fields,
            sources=sources,
            options=options,
            on_progress=on_progress,
        )

    def images(
        self,
        sources: Iterable[Source] | AsyncIterable[Source],
        prompt: str,
        *,
        concurrency: int = 4,
        ordered: bool = False,
        system_prompt: str | None = None,
        thinking: bool = False,
        qa: bool = False,
        reasoning_effort: int | str | None = None,
        as_base64: bool = False,
        options: CallOptions | None = None,
    ) -> AsyncIterator[Outcome[Caption]]:
        """Describe many images, each in a call of its own.

        Args:
            sources: Images as for ``image``; any iterable or async iterable, taken lazily.
            prompt: What to say of each.
            concurrency: How many calls may be in flight (default 4).
            ordered: Yield in the order of the sources instead of as answers come.
            as_base64: As for ``image``; URLs are then refused.

        Returns:
            An iterator of outcomes: one image's failure leaves the others alone.

        Raises:
            ConfigurationError: ``concurrency`` is below 1.

        Shared (see ``Captions``): system_prompt, thinking, qa, reasoning_effort, options.

        Source: POST /v1/understand/uploadImg, uploadImgFile, uploadImgFileBase64
        (https://api-tools.memories.ai/platform/image-caption).
        """

        async def call(source: Source) -> Caption:
            return await self.image(
                source,
                prompt,
                system_prompt=system_prompt,
                thinking=thinking,
                qa=qa,
                reasoning_effort=reasoning_effort,
                as_base64=as_base64,
                options=options,
            )

        return self._dispatcher.batch(sources, call, concurrency=concurrency, ordered=ordered)

    async def video(
        self,
        source: Source,
        prompt: str,
        *,
        system_prompt: str = VIDEO_SYSTEM_PROMPT,
        persons: Sequence[Person | Mapping[str, str]] = (),
        thinking: bool = False,
        qa: bool = False,
        reasoning_effort: int | str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> Caption:
        """Describe a video and wait for the answer.

        Args:
            source: A video of at most 8 GB and 2 hours: URL, path, bytes, binary file object or
                ``Media``. A file is streamed from where it lies.
            prompt: What to say or to answer.

        Returns:
            The text and the tokens used.

        Shared (see ``Captions``): system_prompt, persons, thinking, qa, reasoning_effort,
            on_progress, options, ApiError, MediaError, OutcomeUnknown, ConfigurationError.

        Source: POST /v1/understand/uploadSync, uploadFileSync
        (https://api-tools.memories.ai/platform/video-caption).
        """
        fields = _prompts(prompt, system_prompt, thinking, qa, reasoning_effort)
        fields |= _persons(persons)
        return await self._send_video(
            CAPTION_VIDEO_URL, CAPTION_VIDEO_FILE, source, fields, on_progress, options
        )

    async def submit_video(
        self,
        source: Source,
        prompt: str,
        *,
        callback: str,
        system_prompt: str = VIDEO_SYSTEM_PROMPT,
        persons: Sequence[Person | Mapping[str, str]] = (),
        thinking: bool = False,
        qa: bool = False,
        reasoning_effort: int | str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        options: CallOptions | None = None,
    ) -> CaptionTask:
        """Hand in a video whose description the service will POST to an address of yours.

        The result comes only by that callback, unsigned and at most once as far as is known;
        there is no way to ask for it.

        Args:
            source: A video of at most 8 GB and 2 hours, as for ``video``.
            prompt: What to say or to answer.
            callback: Public http(s) address that the result is POSTed to.

        Returns:
            The task's identifier, which the callback repeats.

        Shared (see ``Captions``): system_prompt, persons, thinking, qa, reasoning_effort,
            on_progress, options, ApiError, MediaError, OutcomeUnknown, ConfigurationError.

        Source: POST /v1/understand/upload, uploadFile
        (https://api-tools.memories.ai/platform/video-caption).
        """
        fields = _prompts(prompt, system_prompt, thinking, qa, reasoning_effort)
        fields |= {"callback": callback_address(callback, self._dispatcher.settings)} | _persons(
            persons
        )
        return await self._send_video(
            SUBMIT_VIDEO_URL, SUBMIT_VIDEO_FILE, source, fields, on_progress, options
        )

    async def _send_video(
        self,
        by_url: Operation[T],
        by_file: Operation[T],
        source: Source,
        fields: dict[str, object],
        on_progress: Callable[[Progress], object] | None,
        options: CallOptions | None,
    ) -> T:
        if is_url(source):
            return await self._dispatcher.send(
                by_url,
                {"video_url": _url(source, "video URL")} | fields,
                options=options,
                on_progress=on_progress,
            )
        return await self._dispatcher.send(
            by_file,
            fields,
            sources=(source,),
            options=options,
            on_progress=on_progress,
        )

    async def _image_as_base64(
        self,
        source: Source,
        fields: dict[str, object],
        on_progress: Callable[[Progress], object] | None,
        options: CallOptions | None,
    ) -> Caption:
        # Only here is a file read by a namespace; to import a client need not load its readers.
        from memories_async.media.readers import read_all

        (file,) = await self._dispatcher.inspect(CAPTION_IMAGE_BASE64, (source,))

        def encode() -> dict[str, object]:
            return {
                "image_base64": base64.b64encode(read_all(file)).decode("ascii"),
                "img_type": file.content_type,
            }

        image = await self._dispatcher.prepare(CAPTION_IMAGE_BASE64, encode)
        return await self._dispatcher.send(
            CAPTION_IMAGE_BASE64, image | fields, options=options, on_progress=on_progress
        )


def _url(source: object, field: str) -> str:
    return check_url(cast("str", source), field)


def _prompts(
    prompt: str,
    system_prompt: str | None,
    thinking: bool,
    qa: bool,
    reasoning_effort: int | str | None,
) -> dict[str, object]:
    """Name the fields that every caption has, as the pages' examples send them."""
    return drop_none(
        user_prompt=prompt,
        system_prompt=system_prompt,
        thinking=thinking,
        qa=qa,
        reasoning_effort=None if reasoning_effort is None else str(reasoning_effort),
    )


def _persons(persons: Sequence[Person | Mapping[str, str]]) -> dict[str, object]:
    """Name the persons, given as such or as the page writes them."""
    listed = [
        {"name": str.__str__(person["name"]), "url": str.__str__(person["url"])}
        if isinstance(person, Mapping)
        else {"name": str.__str__(person.name), "url": str.__str__(person.url)}
        for person in persons
    ]
    return {"persons": listed} if listed else {}
