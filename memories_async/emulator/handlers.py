"""What each operation does, by the name of its row."""

from __future__ import annotations

import base64
import binascii
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import attrs

from memories_async import operations
from memories_async.emulator import callbacks, checks, store
from memories_async.emulator.engine import Person
from memories_async.emulator.envelopes import Refusal
from memories_async.emulator.resources import Resources
from memories_async.emulator.spool import Spool, SpooledFile
from memories_async.emulator.store import Stored, StoredVideo


@attrs.frozen(kw_only=True)
class Call:
    """A request that has arrived whole, with what is needed to answer it."""

    fields: Mapping[str, object]
    files: Sequence[SpooledFile]
    spool: Spool
    resources: Resources

    async def fetch(self, url: str, part: str, check: checks.FileCheck) -> SpooledFile:
        """Return what is at an address, if it passes a check."""
        file = await self.resources.fetching.fetch(
            url, self.spool, part=part, limit=self.resources.fetch_limit
        )
        check(file)
        return file


@attrs.frozen
class Callback:
    """What is posted later: where to, and how its body comes about."""

    url: str
    body: Callable[[], Awaitable[dict[str, object]]]


@attrs.frozen
class Reply:
    """A success: the envelope's data, and what is posted once the answer has gone out."""

    data: object
    callback: Callback | None = None


Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]

_GetVideo: TypeAlias = Callable[[Call], Awaitable[SpooledFile]]

S = TypeVar("S", bound=Stored)

logger = logging.getLogger(__name__)


# --- image captions ---------------------------------------------------------------------------


async def _caption_image_url(call: Call) -> Reply:
    prompt = checks.user_prompt(call.fields)
    urls = checks.image_urls(call.fields)
    return await _describe_images(
        call, prompt, [await call.fetch(url, "url", checks.caption_image) for url in urls]
    )


async def _caption_image_file(call: Call) -> Reply:
    prompt = checks.user_prompt(call.fields)
    pictures = checks.files(call.files, operations.CAPTION_IMAGE_FILE.file_part)
    for picture in pictures:
        checks.caption_image(picture)
    return await _describe_images(call, prompt, pictures)


async def _caption_image_base64(call: Call) -> Reply:
    prompt = checks.user_prompt(call.fields)
    encoded = checks.required(
        call.fields, "image_base64", "image_base64 is not allowed, please provide an image"
    )
    try:
        content = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise checks.refuse("image_base64 is not base64") from error
    picture = await call.spool.save(
        _once(content),
        part="image_base64",
        name="image_base64",
        content_type=checks.text(call.fields, "img_type"),
    )
    checks.caption_image(picture)
    return await _describe_images(call, prompt, [picture])


async def _describe_images(call: Call, prompt: str, pictures: Sequence[SpooledFile]) -> Reply:
    engine = call.resources.engine
    paths = [picture.path for picture in pictures]
    text = await call.resources.ask(pictures, engine.describe_images, paths, prompt)
    return Reply({"text": text, "token": _tokens(call, text, len(pictures))})


# --- video captions ---------------------------------------------------------------------------


async def _caption_video_url(call: Call) -> Reply:
    return await _caption_now(call, _video_by_url)


async def _caption_video_file(call: Call) -> Reply:
    return await _caption_now(call, _video_by_file)


async def _submit_video_url(call: Call) -> Reply:
    return await _caption_later(call, _video_by_url)


async def _submit_video_file(call: Call) -> Reply:
    return await _caption_later(call, _video_by_file)


async def _caption_now(call: Call, get_video: _GetVideo) -> Reply:
    prompt = checks.video_prompts(call.fields)
    video = await get_video(call)
    text, token = await _describe_video(call, video, prompt, await _persons(call))
    return Reply({"data": {"text": text}, "token": token})  # nested, as documented


async def _caption_later(call: Call, get_video: _GetVideo) -> Reply:
    prompt = checks.video_prompts(call.fields)
    url = checks.callback(call.fields)
    call.resources.callbacks.check(url)
    # As in the real service, everything is fetched before the answer.
    video = await get_video(call)
    persons = await _persons(call)
    task_id = str(uuid.uuid4())

    async def result() -> dict[str, object]:
        try:
            text, token = await _describe_video(call, video, prompt, persons)
            return callbacks.caption_done(task_id, text, token)
        except Exception:
            logger.info("Task %s failed", task_id, exc_info=True)
            return callbacks.caption_failed(task_id)

    return Reply({"task_id": task_id}, Callback(url, result))


async def _video_by_url(call: Call) -> SpooledFile:
    url = checks.video_url(call.fields)
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
    call: Call, video: SpooledFile, prompt: str, persons: Sequence[tuple[str, SpooledFile]]
) -> tuple[str, dict[str, int]]:
    text = await call.resources.ask(
        [video, *(picture for _, picture in persons)],
        call.resources.engine.describe_video,
        video.path,
        prompt,
        [Person(name, picture.path) for name, picture in persons],
    )
    return text, _tokens(call, text, 1 + len(persons))


def _tokens(call: Call, text: str, pictures: int) -> dict[str, int]:
    """Count in the service's shape; the figures mean no more than that more is more."""
    prompts = checks.text(call.fields, "user_prompt") + checks.text(call.fields, "system_prompt")
    used, written = 258 * pictures + len(prompts) // 4, max(1, len(text) // 4)
    return {"input": used, "output": written, "total": used + written}


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


# --- the library ------------------------------------------------------------------------------


async def _add_images(call: Call) -> Reply:
    pictures = checks.files(call.files, operations.ADD_IMAGES.file_part)
    checks.batch(pictures, call.resources.batch_limit)
    for picture in pictures:
        checks.library_image(picture)
    details = checks.details(call.fields, checks.MOST_IMAGE_TAGS)
    records = [_stored(call, Stored, store.new_image_id(), file, details) for file in pictures]
    paths = [picture.path for picture in pictures]
    await call.resources.write(
        call.resources.store.images.add, list(zip(records, paths, strict=True))
    )
    return Reply([{"id": int(record.id)} for record in records])


async def _add_video_file(call: Call) -> Reply:
    resources = call.resources
    [file, *_] = checks.files(call.files, operations.ADD_VIDEO_FILE.file_part)
    checks.library_video(file)
    details = checks.details(call.fields, checks.MOST_VIDEO_TAGS)
    url = checks.library_callback(call.fields)
    if url:
        resources.callbacks.check(url)
    video = _stored(call, StoredVideo, store.new_video_no(), file, details)
    await resources.write(resources.store.videos.add, [(video, file.path)])

    async def result() -> dict[str, object]:
        await resources.sleep(resources.index_seconds)
        indexed = await _indexed(call, video)
        return callbacks.video_indexed(video.id, indexed.status)

    return Reply(
        {
            "videoNo": video.id,
            "videoName": video.name,
            "videoStatus": video.status,
            "uploadTime": str(video.created_at),
        },
        Callback(url, result) if url else None,
    )


async def _get_video(call: Call) -> Reply:
    video = await _look_up(call)
    return Reply(None if video is None else _metadata(video))


async def _search_clips(call: Call) -> Reply:
    prompt = checks.required(call.fields, "prompt", "The prompt parameter cannot be empty!")
    [picture, *_] = checks.files(call.files, operations.SEARCH_CLIPS.file_part)
    checks.library_image(picture)
    video = await _look_up(call)
    if video is None:
        raise checks.refuse("video not found")
    if video.status != "PARSE":
        raise checks.refuse(f"Video is not parsed: {video.id}")
    film = call.resources.store.videos.file(video)
    hits = await call.resources.ask(
        [film, picture], call.resources.engine.find_clips, film.path, picture.path, prompt
    )
    return Reply([attrs.asdict(hit) for hit in hits])


async def _look_up(call: Call) -> StoredVideo | None:
    """Return the video that is asked for, indexed if it is time, or None."""
    video_no = checks.required(call.fields, "video_no", "The video_no parameter cannot be empty!")
    video = call.resources.store.videos.get(video_no)
    if video is None or video.unique_id != _unique_id(call):
        return None
    due = video.created_at / 1000 + call.resources.index_seconds <= call.resources.clock()
    return await _indexed(call, video) if video.status == "UNPARSE" and due else video


async def _indexed(call: Call, video: StoredVideo) -> StoredVideo:
    """Return the video as indexing left it."""
    resources = call.resources
    film = resources.store.videos.file(video)
    try:
        facts = await resources.ask([film], resources.engine.probe_video, film.path)
        video = attrs.evolve(video, status="PARSE", facts=facts)
    except Refusal as refusal:
        video = attrs.evolve(video, status="FAILED", cause=str(refusal.message))
    await resources.write(resources.store.videos.save, video)
    return video


def _metadata(video: StoredVideo) -> dict[str, object]:
    """Return a record as the service spells it: 64-bit numbers and a missing cause are text."""
    facts = video.facts
    return {
        "video_no": video.id,
        "video_name": video.name,
        "duration": str(round(facts.duration)) if facts else "0",
        "size": str(video.size),
        "create_time": str(video.created_at),
        "status": video.status,
        "cause": video.cause or "null",
        "width": facts and facts.width,
        "height": facts and facts.height,
        "fps": facts and facts.fps,
        "resolution_label": facts and f"{min(facts.width, facts.height)}p",
        **video.details,
    }


def _stored(
    call: Call, record: type[S], id: str, file: SpooledFile, details: Mapping[str, object]
) -> S:
    """Return the record of an upload."""
    return record(
        id=id,
        name=file.name,
        content_type=file.content_type,
        size=file.size,
        sha256=file.sha256,
        created_at=int(call.resources.clock() * 1000),
        unique_id=_unique_id(call),
        details=details,
    )


def _unique_id(call: Call) -> str:
    return checks.text(call.fields, "unique_id") or "default"


# --- embeddings -------------------------------------------------------------------------------


async def _embed_image_file(call: Call) -> Reply:
    model = checks.embedding_model(call.fields)
    [picture, *_] = checks.files(call.files, operations.EMBED_IMAGE_FILE.file_part)
    checks.embedding_image(picture)
    return await _embed(call, picture, model)


async def _embed_image_asset(call: Call) -> Reply:
    model = checks.embedding_model(call.fields)
    asset = call.resources.store.assets.get(checks.text(call.fields, "asset_id"))
    if asset is None:
        raise checks.refuse("Asset not found")
    return await _embed(call, call.resources.store.assets.file(asset), model)


async def _embed(call: Call, picture: SpooledFile, model: str) -> Reply:
    engine = call.resources.engine
    vector = await call.resources.ask([picture], engine.embed_image, picture.path, model)
    return Reply({"embedding": vector})


HANDLERS: Mapping[str, Handler] = {
    operations.CAPTION_IMAGE_URL.name: _caption_image_url,
    operations.CAPTION_IMAGE_FILE.name: _caption_image_file,
    operations.CAPTION_IMAGE_BASE64.name: _caption_image_base64,
    operations.CAPTION_VIDEO_URL.name: _caption_video_url,
    operations.CAPTION_VIDEO_FILE.name: _caption_video_file,
    operations.SUBMIT_VIDEO_URL.name: _submit_video_url,
    operations.SUBMIT_VIDEO_FILE.name: _submit_video_file,
    operations.ADD_IMAGES.name: _add_images,
    operations.SEARCH_CLIPS.name: _search_clips,
    operations.EMBED_IMAGE_FILE.name: _embed_image_file,
    operations.EMBED_IMAGE_ASSET.name: _embed_image_asset,
    operations.ADD_VIDEO_FILE.name: _add_video_file,
    operations.GET_VIDEO.name: _get_video,
}
"""One handler for each row of the operations table."""
