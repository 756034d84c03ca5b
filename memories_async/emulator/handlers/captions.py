"""Captions of images and videos, at once or by callback."""

from __future__ import annotations

import base64
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeAlias

from memories_async import operations
from memories_async.emulator import callbacks
from memories_async.emulator.engines.protocol import ReferencePerson
from memories_async.emulator.handlers import file_checks as checks
from memories_async.emulator.handlers.request import Callback, HandlerRequest, HandlerResult
from memories_async.emulator.handlers.validation import refuse
from memories_async.emulator.spool import SpooledFile

_GetVideo: TypeAlias = Callable[[HandlerRequest], Awaitable[SpooledFile]]

logger = logging.getLogger(__name__)


# --- image captions ---------------------------------------------------------------------------


async def caption_image_url(request: HandlerRequest) -> HandlerResult:
    """Caption images by their addresses."""
    urls = checks.image_urls(request.fields)
    return await _describe_images(
        request, [await request.fetch(url, "url", checks.caption_image) for url in urls]
    )


async def caption_image_file(request: HandlerRequest) -> HandlerResult:
    """Caption images that were sent."""
    pictures = checks.files(request.files, operations.CAPTION_IMAGE_FILE.file_part)
    for picture in pictures:
        checks.caption_image(picture)
    return await _describe_images(request, pictures)


async def caption_image_base64(request: HandlerRequest) -> HandlerResult:
    """Caption an image that was sent as base64."""
    try:
        content = base64.b64decode(request.text("image_base64"), validate=True)
    except ValueError as error:
        raise refuse("image_base64 is not base64") from error
    picture = await request.spool.save(
        _once(content),
        part="image_base64",
        name="image_base64",
        content_type=request.text("img_type"),
    )
    checks.caption_image(picture)
    return await _describe_images(request, [picture])


async def _describe_images(
    request: HandlerRequest, pictures: Sequence[SpooledFile]
) -> HandlerResult:
    engine = request.context.engine
    paths = [picture.path for picture in pictures]
    text = await request.context.run_engine(
        pictures, engine.describe_images, paths, request.text("user_prompt")
    )
    return HandlerResult({"text": text, "token": _tokens(request, text, len(pictures))})


# --- video captions ---------------------------------------------------------------------------


async def caption_video_url(request: HandlerRequest) -> HandlerResult:
    """Caption a video by its address."""
    return await _caption_now(request, _video_by_url)


async def caption_video_file(request: HandlerRequest) -> HandlerResult:
    """Caption a video that was sent."""
    return await _caption_now(request, _video_by_file)


async def submit_video_url(request: HandlerRequest) -> HandlerResult:
    """Caption a video by its address, and call back."""
    return await _caption_later(request, _video_by_url)


async def submit_video_file(request: HandlerRequest) -> HandlerResult:
    """Caption a video that was sent, and call back."""
    return await _caption_later(request, _video_by_file)


async def _caption_now(request: HandlerRequest, get_video: _GetVideo) -> HandlerResult:
    video = await get_video(request)
    text, token = await _describe_video(request, video, await _persons(request))
    return HandlerResult({"data": {"text": text}, "token": token})  # nested, as documented


async def _caption_later(request: HandlerRequest, get_video: _GetVideo) -> HandlerResult:
    url = request.text("callback")
    request.context.callbacks.check(url)
    # As in the real service, everything is fetched before the answer.
    video = await get_video(request)
    persons = await _persons(request)
    task_id = str(uuid.uuid4())

    async def result() -> dict[str, object]:
        try:
            text, token = await _describe_video(request, video, persons)
            return callbacks.caption_done(task_id, text, token)
        except Exception:
            logger.info("Task %s failed", task_id, exc_info=True)
            return callbacks.caption_failed(task_id)

    return HandlerResult({"task_id": task_id}, callback=Callback(url, result))


async def _video_by_url(request: HandlerRequest) -> SpooledFile:
    url = request.text("video_url")
    return await _checked_duration(
        request, await request.fetch(url, "video_url", checks.caption_video)
    )


async def _video_by_file(request: HandlerRequest) -> SpooledFile:
    [video, *_] = checks.files(request.files, operations.CAPTION_VIDEO_FILE.file_part)
    checks.caption_video(video)
    return await _checked_duration(request, video)


async def _checked_duration(request: HandlerRequest, video: SpooledFile) -> SpooledFile:
    facts = await request.context.run_engine(
        [video], request.context.engine.probe_video, video.path
    )
    checks.caption_duration(facts.duration)
    return video


async def _persons(request: HandlerRequest) -> list[tuple[str, SpooledFile]]:
    """Return the people to look for, with a picture of each."""
    return [
        (name, await request.fetch(url, "persons", checks.person_image))
        for name, url in checks.persons(request.fields)
    ]


async def _describe_video(
    request: HandlerRequest, video: SpooledFile, persons: Sequence[tuple[str, SpooledFile]]
) -> tuple[str, dict[str, int]]:
    text = await request.context.run_engine(
        [video, *(picture for _, picture in persons)],
        request.context.engine.describe_video,
        video.path,
        request.text("user_prompt"),
        [ReferencePerson(name, picture.path) for name, picture in persons],
    )
    return text, _tokens(request, text, 1 + len(persons))


def _tokens(request: HandlerRequest, text: str, pictures: int) -> dict[str, int]:
    """Count in the service's shape; the figures mean no more than that more is more."""
    prompts = request.text("user_prompt") + request.text("system_prompt")
    used, written = 258 * pictures + len(prompts) // 4, max(1, len(text) // 4)
    return {"input": used, "output": written, "total": used + written}


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
