"""Captions of images and videos, at once or by callback."""

from __future__ import annotations

import base64
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeAlias

from memories_async import operations
from memories_async.emulator import callbacks
from memories_async.emulator import file_checks as checks
from memories_async.emulator.engines.protocol import Person
from memories_async.emulator.handlers.call import Call, Callback, Reply
from memories_async.emulator.spool import SpooledFile
from memories_async.emulator.validation import refuse

_GetVideo: TypeAlias = Callable[[Call], Awaitable[SpooledFile]]

logger = logging.getLogger(__name__)


# --- image captions ---------------------------------------------------------------------------


async def caption_image_url(call: Call) -> Reply:
    """Caption images by their addresses."""
    urls = checks.image_urls(call.fields)
    return await _describe_images(
        call, [await call.fetch(url, "url", checks.caption_image) for url in urls]
    )


async def caption_image_file(call: Call) -> Reply:
    """Caption images that were sent."""
    pictures = checks.files(call.files, operations.CAPTION_IMAGE_FILE.file_part)
    for picture in pictures:
        checks.caption_image(picture)
    return await _describe_images(call, pictures)


async def caption_image_base64(call: Call) -> Reply:
    """Caption an image that was sent as base64."""
    try:
        content = base64.b64decode(call.text("image_base64"), validate=True)
    except ValueError as error:
        raise refuse("image_base64 is not base64") from error
    picture = await call.spool.save(
        _once(content),
        part="image_base64",
        name="image_base64",
        content_type=call.text("img_type"),
    )
    checks.caption_image(picture)
    return await _describe_images(call, [picture])


async def _describe_images(call: Call, pictures: Sequence[SpooledFile]) -> Reply:
    engine = call.resources.engine
    paths = [picture.path for picture in pictures]
    text = await call.resources.ask(
        pictures, engine.describe_images, paths, call.text("user_prompt")
    )
    return Reply({"text": text, "token": _tokens(call, text, len(pictures))})


# --- video captions ---------------------------------------------------------------------------


async def caption_video_url(call: Call) -> Reply:
    """Caption a video by its address."""
    return await _caption_now(call, _video_by_url)


async def caption_video_file(call: Call) -> Reply:
    """Caption a video that was sent."""
    return await _caption_now(call, _video_by_file)


async def submit_video_url(call: Call) -> Reply:
    """Caption a video by its address, and call back."""
    return await _caption_later(call, _video_by_url)


async def submit_video_file(call: Call) -> Reply:
    """Caption a video that was sent, and call back."""
    return await _caption_later(call, _video_by_file)


async def _caption_now(call: Call, get_video: _GetVideo) -> Reply:
    video = await get_video(call)
    text, token = await _describe_video(call, video, await _persons(call))
    return Reply({"data": {"text": text}, "token": token})  # nested, as documented


async def _caption_later(call: Call, get_video: _GetVideo) -> Reply:
    url = call.text("callback")
    call.resources.callbacks.check(url)
    # As in the real service, everything is fetched before the answer.
    video = await get_video(call)
    persons = await _persons(call)
    task_id = str(uuid.uuid4())

    async def result() -> dict[str, object]:
        try:
            text, token = await _describe_video(call, video, persons)
            return callbacks.caption_done(task_id, text, token)
        except Exception:
            logger.info("Task %s failed", task_id, exc_info=True)
            return callbacks.caption_failed(task_id)

    return Reply({"task_id": task_id}, callback=Callback(url, result))


async def _video_by_url(call: Call) -> SpooledFile:
    url = call.text("video_url")
    return await _checked_duration(call, await call.fetch(url, "video_url", checks.caption_video))


async def _video_by_file(call: Call) -> SpooledFile:
    [video, *_] = checks.files(call.files, operations.CAPTION_VIDEO_FILE.file_part)
    checks.caption_video(video)
    return await _checked_duration(call, video)


async def _checked_duration(call: Call, video: SpooledFile) -> SpooledFile:
    facts = await call.resources.ask([video], call.resources.engine.probe_video, video.path)
    checks.caption_duration(facts.duration)
    return video


async def _persons(call: Call) -> list[tuple[str, SpooledFile]]:
    """Return the people to look for, with a picture of each."""
    return [
        (name, await call.fetch(url, "persons", checks.person_image))
        for name, url in checks.persons(call.fields)
    ]


async def _describe_video(
    call: Call, video: SpooledFile, persons: Sequence[tuple[str, SpooledFile]]
) -> tuple[str, dict[str, int]]:
    text = await call.resources.ask(
        [video, *(picture for _, picture in persons)],
        call.resources.engine.describe_video,
        video.path,
        call.text("user_prompt"),
        [Person(name, picture.path) for name, picture in persons],
    )
    return text, _tokens(call, text, 1 + len(persons))


def _tokens(call: Call, text: str, pictures: int) -> dict[str, int]:
    """Count in the service's shape; the figures mean no more than that more is more."""
    prompts = call.text("user_prompt") + call.text("system_prompt")
    used, written = 258 * pictures + len(prompts) // 4, max(1, len(text) // 4)
    return {"input": used, "output": written, "total": used + written}


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
