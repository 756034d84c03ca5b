"""Searching the library: by an image in one video or in all, and by words in what was read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import attrs

from memories_async import operations
from memories_async.emulator.engines.protocol import Hit, Line
from memories_async.emulator.engines.text import word_overlap
from memories_async.emulator.handlers import file_checks as checks
from memories_async.emulator.handlers import library_queries
from memories_async.emulator.handlers.library import seconds
from memories_async.emulator.handlers.request import HandlerRequest, HandlerResult
from memories_async.emulator.handlers.validation import FILTERING_LEVELS, MOST_CAPTION_HITS, refuse
from memories_async.emulator.http.envelopes import Refusal
from memories_async.emulator.http.routes import IMAGE_PATH
from memories_async.emulator.spool import SpooledFile
from memories_async.emulator.store import StoredImage, StoredVideo

_MOST_HITS = 1000
_USUAL_HITS = {"BY_CAPTION": 10}
_OTHERWISE = 100

_Found: TypeAlias = tuple[float, dict[str, object]]
"""How well something matches, and what it is."""


async def search_clips(request: HandlerRequest) -> HandlerResult:
    """Find a picture in one video."""
    [picture, *_] = checks.files(request.files, operations.SEARCH_CLIPS.file_part)
    checks.library_image(picture)
    video = await library_queries.find_video(request)
    if video is None:
        raise refuse("video not found")
    if video.status != "PARSE":
        raise refuse(f"Video is not parsed: {video.id}")
    hits = await _find_clips(request, video, picture, request.text("prompt"))
    return HandlerResult([attrs.asdict(hit) for hit in hits])


async def search_similar(request: HandlerRequest) -> HandlerResult:
    """Find a picture in every video of the library."""
    [picture, *_] = checks.files(request.files, operations.SEARCH_SIMILAR.file_part)
    checks.library_image(picture)
    least = request.number("similarity") or 0.0
    found: list[_Found] = [
        (hit.score, _named(video, hit.start_time, hit.end_time))
        for video in await library_queries.videos(request)
        if video.status == "PARSE"
        for hit in await _find_clips(request, video, picture, "")
        if hit.score >= least
    ]
    return HandlerResult(_ranked(found, _MOST_HITS))


async def _find_clips(
    request: HandlerRequest, video: StoredVideo, picture: SpooledFile, prompt: str
) -> list[Hit]:
    film = request.context.store.videos.file(video)
    return await request.context.run_engine(
        [film, picture], request.context.engine.find_clips, film.path, picture.path, prompt
    )


async def search_library(request: HandlerRequest) -> HandlerResult:
    """Find words in what the engine saw or heard when the videos were indexed, or in images."""
    search = request.text("search_type")
    if search == "BY_IMAGE":
        return await _search_images(request)
    most = MOST_CAPTION_HITS if search == "BY_CAPTION" else _MOST_HITS
    top_k = request.integer("top_k") or _USUAL_HITS.get(search, _OTHERWISE)
    if top_k > most:
        raise refuse(f"top_k must be an integer between 1 and {most}")
    videos = [video for video in await library_queries.videos(request) if video.status == "PARSE"]
    found = [hit for video in videos for hit in _SEARCHES[search](request, video)]
    return HandlerResult(_ranked(_above(request, found), top_k))


async def search_transcripts(request: HandlerRequest) -> HandlerResult:
    """Return one page of the lines in which the words are said."""
    words = request.text("query").casefold()
    lines = [
        {
            "videoNo": video.id,
            "videoName": video.name,
            "startTime": str(math.floor(line.start_time)),
            "audio_ts": line.text,
        }
        for video in await library_queries.videos(request)
        if video.status == "PARSE"
        for line in video.heard
        if words in line.text.casefold()
    ]
    page, size = request.integer("page") or 1, request.integer("page_size") or 1
    return HandlerResult(
        {
            "videos": lines[(page - 1) * size : page * size],
            "current_page": page,
            "page_size": size,
            "total_count": str(len(lines)),
        }
    )


def _clips(request: HandlerRequest, video: StoredVideo) -> list[_Found]:
    about = video.name, *_tags(video)
    return [(_score(request, line.text, *about), _of(video, line)) for line in video.seen]


def _spoken_lines(request: HandlerRequest, video: StoredVideo) -> list[_Found]:
    return [
        (_score(request, line.text), {**_of(video, line), "audio_ts": line.text})
        for line in video.heard
    ]


def _captions(request: HandlerRequest, video: StoredVideo) -> list[_Found]:
    return [
        (_score(request, line.text), {"video_no": video.id, **attrs.asdict(line)})
        for line in video.seen
    ]


_SEARCHES = {
    "BY_CLIP": _clips,
    "BY_VIDEO": _clips,
    "BY_AUDIO": _spoken_lines,
    "BY_CAPTION": _captions,
}


async def _search_images(request: HandlerRequest) -> HandlerResult:
    images = library_queries.chosen(request, request.context.store.images.all())
    top_k = request.integer("top_k") or _OTHERWISE
    found: list[_Found] = [
        (
            _score(request, await _text_of(request, image), image.name, *_tags(image)),
            {
                "id": image.id,
                "name": image.name,
                "img_url": image_address(request, image),
                **image.details,
            },
        )
        for image in images
    ]
    items = _ranked(_above(request, found), top_k)
    return HandlerResult(
        {"item": items, "current_page": 0, "page_size": top_k, "total_count": str(len(items))}
    )


def image_address(request: HandlerRequest, image: StoredImage) -> str:
    """Return an address at which the image can be had without a key, as long as this runs."""
    path = IMAGE_PATH.format(image_id=image.id)
    return f"{request.origin}{path}?signature={request.context.signature(image.id)}"


async def _text_of(request: HandlerRequest, image: StoredImage) -> str:
    """Return what an image can be found by, asking the engine the first time."""
    if image.text is None:
        file = request.context.store.images.file(image)
        engine = request.context.engine
        try:
            text = await request.context.run_engine(
                [file], engine.describe_images, [file.path], "Describe the picture."
            )
        except Refusal:
            text = ""  # it can still be found by its name and tags
        image = attrs.evolve(image, text=text)
        await request.context.write(request.context.store.images.update, image)
    return image.text or ""


def _score(request: HandlerRequest, *texts: str) -> float:
    return round(word_overlap(request.text("search_param"), " ".join(texts)), 4)


def _above(request: HandlerRequest, found: Sequence[_Found]) -> list[_Found]:
    """Return what has enough in common with the search; without a level, anything at all."""
    least = FILTERING_LEVELS.get(request.text("filtering_level"), 0.0)
    return [(score, hit) for score, hit in found if score and score >= least]


def _ranked(found: Sequence[_Found], most: int) -> list[dict[str, object]]:
    """Return the best hits, each with its score; equal ones in the order of the library."""
    best = sorted(found, key=lambda hit: -hit[0])[:most]
    return [{**hit, "score": score} for score, hit in best]


def _of(video: StoredVideo, line: Line) -> dict[str, object]:
    return _named(video, line.start_time, line.end_time)


def _named(video: StoredVideo, start: float, end: float) -> dict[str, object]:
    return {"videoNo": video.id, "videoName": video.name, **seconds(start, end)}


def _tags(stored: StoredVideo | StoredImage) -> list[str]:
    return [str(tag) for tag in stored.tags if tag != "api"]
