"""The library: images and videos come in, are listed, read, downloaded and deleted."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import PurePosixPath

import attrs
from yarl import URL

from memories_async import operations
from memories_async.emulator import callbacks, store
from memories_async.emulator.engines.protocol import Line
from memories_async.emulator.handlers import file_checks as checks
from memories_async.emulator.handlers import library_queries
from memories_async.emulator.handlers.request import Callback, HandlerRequest, HandlerResult
from memories_async.emulator.handlers.validation import FAILED_STATUSES, refuse
from memories_async.emulator.spool import SpooledFile
from memories_async.emulator.store import DEFAULT_FOLDER, StoredImage, StoredVideo


async def add_images(request: HandlerRequest) -> HandlerResult:
    """Take in all images, or none."""
    pictures = checks.files(request.files, operations.ADD_IMAGES.file_part)
    checks.batch(pictures, request.context.batch_limit)
    for picture in pictures:
        checks.library_image(picture)
    details = checks.details(request.fields)
    records = [
        library_queries.stored(request, StoredImage, store.new_image_id(), file, details)
        for file in pictures
    ]
    paths = [picture.path for picture in pictures]
    await request.context.write(
        request.context.store.images.add, list(zip(records, paths, strict=True))
    )
    return HandlerResult([{"id": int(record.id)} for record in records])


async def add_video_file(request: HandlerRequest) -> HandlerResult:
    """Take in a video that was sent."""
    [file, *_] = checks.files(request.files, operations.ADD_VIDEO_FILE.file_part)
    checks.library_video(file)
    return await _add_video(request, file)


async def add_video_url(request: HandlerRequest) -> HandlerResult:
    """Take in a video that is fetched before the answer, which is simpler than the service."""
    url = request.text("url")
    file = await request.fetch(url, "url", _library_video_at, checks.LIBRARY_URL_BYTES)
    return await _add_video(request, _named_after_path(file))


def _library_video_at(file: SpooledFile) -> None:
    checks.library_video(_named_after_path(file))


def _named_after_path(file: SpooledFile) -> SpooledFile:
    """Return what was fetched, named without host and query."""
    return attrs.evolve(file, name=PurePosixPath(URL(file.name).path).name)


async def _add_video(request: HandlerRequest, file: SpooledFile) -> HandlerResult:
    context = request.context
    details = checks.details(request.fields)
    callback = request.text("callback")
    if callback:
        context.callbacks.check(callback)
    folder_id = request.integer("folder_id")
    stem, extension = os.path.splitext(file.name)  # all 40 recorded names are without it
    video = attrs.evolve(
        library_queries.stored(request, StoredVideo, store.new_video_no(), file, details),
        name=stem,
        extension=extension,
        folder_id=DEFAULT_FOLDER if folder_id is None else folder_id,
        retained=bool(request.fields["retain_original_video"]),
    )
    await context.write(context.store.videos.add, [(video, file.path)])

    async def result() -> dict[str, object]:
        await context.sleep(context.timing.index_seconds)
        indexed = await library_queries.index(request, video)
        return callbacks.video_indexed(video.id, indexed.status)

    return HandlerResult(
        {
            "videoNo": video.id,
            "videoName": video.name,
            "videoStatus": video.status,
            "uploadTime": str(video.created_at),
        },
        callback=Callback(callback, result) if callback else None,
    )


async def get_video(request: HandlerRequest) -> HandlerResult:
    """Say what is known of a video; nothing of an unknown one, which is no failure."""
    video = await library_queries.find_video(request)
    if video is None:
        return HandlerResult()
    facts = video.facts
    return HandlerResult(
        {
            **_record(video),
            "width": facts and facts.width,
            "height": facts and facts.height,
            "fps": facts and facts.fps,
            "resolution_label": facts and f"{min(facts.width, facts.height)}p",
        }
    )


async def list_videos(request: HandlerRequest) -> HandlerResult:
    """Return one page of the videos that pass the filters, the newest first."""
    status = request.text("status")
    wanted = {
        "id": request.text("video_no"),
        "name": request.text("video_name"),
        "status": "FAILED" if status in FAILED_STATUSES else status,
    }
    found = [
        video
        for video in reversed(await library_queries.videos(request))
        if all(value in ("", getattr(video, name)) for name, value in wanted.items())
    ]
    page, size = request.integer("page") or 1, request.integer("size") or 1
    return HandlerResult(
        {
            "videos": [_record(video) for video in found[(page - 1) * size : page * size]],
            "current_page": page,
            "page_size": size,
            "total_count": str(len(found)),
        }
    )


def _record(video: StoredVideo) -> dict[str, object]:
    """Return a record as the service spells it: 64-bit numbers and a missing cause are text."""
    return {
        "video_no": video.id,
        "video_name": video.name,
        "duration": str(round(video.facts.duration)) if video.facts else "0",
        "size": str(video.size),
        "create_time": str(video.created_at),
        "status": video.status,
        "cause": video.cause or "null",
        **video.details,
    }


async def delete_videos(request: HandlerRequest) -> HandlerResult:
    """Delete the videos that there are, and ignore the others."""
    videos = request.context.store.videos
    for video in map(videos.get, request.texts("video_nos")):
        if video is not None and video.unique_id == request.text("unique_id"):
            await request.context.write(videos.remove, video)
    return HandlerResult()


async def download_video(request: HandlerRequest) -> HandlerResult:
    """Send the file as it came."""
    video = await library_queries.find_video(request)
    if video is None or not video.retained:
        raise refuse("video not found")
    return HandlerResult(file=request.context.store.videos.file(video))


async def get_audio_transcript(request: HandlerRequest) -> HandlerResult:
    """Say what the engine heard; of a silent video nothing (recorded: ``data`` is null)."""
    video = await _parsed(request)
    return HandlerResult(_transcript(video, video.heard) if video and video.heard else None)


async def get_video_captions(request: HandlerRequest) -> HandlerResult:
    """Say what the engine saw."""
    video = await _parsed(request)
    return HandlerResult(video and _transcript(video, video.seen))


async def _parsed(request: HandlerRequest) -> StoredVideo | None:
    video = await library_queries.find_video(request)
    if video is not None and video.status != "PARSE":
        raise refuse(f"Video is not parsed: {video.id}")
    return video


def _transcript(video: StoredVideo, lines: Sequence[Line]) -> dict[str, object]:
    return {
        "videoNo": video.id,
        "transcriptions": [
            {"index": index, "content": line.text, **seconds(line.start_time, line.end_time)}
            for index, line in enumerate(lines)
        ],
    }


def seconds(start: float, end: float) -> dict[str, str]:
    """Return a time range as the service spells it: whole seconds, as text."""
    return {"startTime": str(math.floor(start)), "endTime": str(math.ceil(end))}
