"""Searching the library: by an image in one video or in all, and by words in what was read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import attrs

from memories_async import operations
from memories_async.emulator import file_checks as checks
from memories_async.emulator.engines import text as words
from memories_async.emulator.engines.protocol import Hit, Line
from memories_async.emulator.envelopes import Refusal
from memories_async.emulator.handlers import library_queries as shelves
from memories_async.emulator.handlers.call import Call, Reply
from memories_async.emulator.handlers.library import seconds
from memories_async.emulator.spool import SpooledFile
from memories_async.emulator.store import StoredImage, StoredVideo
from memories_async.emulator.validation import FILTERING_LEVELS, MOST_CAPTION_HITS, refuse

_MOST_HITS = 1000

_Found: TypeAlias = tuple[float, dict[str, object]]
"""How well something matches, and what it is."""


async def search_clips(call: Call) -> Reply:
    """Find a picture in one video."""
    [picture, *_] = checks.files(call.files, operations.SEARCH_CLIPS.file_part)
    checks.library_image(picture)
    video = await shelves.find_video(call)
    if video is None:
        raise refuse("video not found")
    if video.status != "PARSE":
        raise refuse(f"Video is not parsed: {video.id}")
    hits = await _find_clips(call, video, picture, call.text("prompt"))
    return Reply([attrs.asdict(hit) for hit in hits])


async def search_similar(call: Call) -> Reply:
    """Find a picture in every video of the library."""
    [picture, *_] = checks.files(call.files, operations.SEARCH_SIMILAR.file_part)
    checks.library_image(picture)
    least = call.number("similarity") or 0.0
    found: list[_Found] = [
        (hit.score, _named(video, hit.start_time, hit.end_time))
        for video in await shelves.videos(call)
        if video.status == "PARSE"
        for hit in await _find_clips(call, video, picture, "")
        if hit.score >= least
    ]
    return Reply(_ranked(found, _MOST_HITS))


async def _find_clips(
    call: Call, video: StoredVideo, picture: SpooledFile, prompt: str
) -> list[Hit]:
    film = call.resources.store.videos.file(video)
    return await call.resources.ask(
        [film, picture], call.resources.engine.find_clips, film.path, picture.path, prompt
    )


async def search_library(call: Call) -> Reply:
    """Find words in what the engine saw or heard when the videos were indexed, or in images."""
    search = call.text("search_type")
    if search == "BY_IMAGE":
        return await _search_images(call)
    most = MOST_CAPTION_HITS if search == "BY_CAPTION" else _MOST_HITS
    top_k = call.integer("top_k") or most
    if top_k > most:
        raise refuse(f"top_k must be an integer between 1 and {most}")
    videos = [video for video in await shelves.videos(call) if video.status == "PARSE"]
    found = [hit for video in videos for hit in _LOOKING[search](call, video)]
    return Reply(_ranked(_above(call, found), top_k))


def _clips(call: Call, video: StoredVideo) -> list[_Found]:
    about = video.name, *_tags(video)
    return [(_score(call, line.text, *about), _of(video, line)) for line in video.seen]


def _sayings(call: Call, video: StoredVideo) -> list[_Found]:
    return [
        (_score(call, line.text), {**_of(video, line), "audio_ts": line.text})
        for line in video.heard
    ]


def _captions(call: Call, video: StoredVideo) -> list[_Found]:
    return [
        (_score(call, line.text), {"video_no": video.id, **attrs.asdict(line)})
        for line in video.seen
    ]


_LOOKING = {"BY_CLIP": _clips, "BY_VIDEO": _clips, "BY_AUDIO": _sayings, "BY_CAPTION": _captions}


async def _search_images(call: Call) -> Reply:
    images = shelves.chosen(call, call.resources.store.images.all())
    top_k = call.integer("top_k") or _MOST_HITS
    found: list[_Found] = [
        (
            _score(call, await _text_of(call, image), image.name, *_tags(image)),
            {"id": image.id, "name": image.name, **image.details},
        )
        for image in images
    ]
    items = _ranked(_above(call, found), top_k)
    return Reply(
        {"item": items, "current_page": 0, "page_size": top_k, "total_count": str(len(items))}
    )


async def _text_of(call: Call, image: StoredImage) -> str:
    """Return what an image can be found by, asking the engine the first time."""
    if image.text is None:
        file = call.resources.store.images.file(image)
        engine = call.resources.engine
        try:
            text = await call.resources.ask(
                [file], engine.describe_images, [file.path], "Describe the picture."
            )
        except Refusal:
            text = ""  # it can still be found by its name and tags
        image = attrs.evolve(image, text=text)
        await call.resources.write(call.resources.store.images.update, image)
    return image.text or ""


def _score(call: Call, *texts: str) -> float:
    return round(words.likeness(call.text("search_param"), " ".join(texts)), 4)


def _above(call: Call, found: Sequence[_Found]) -> list[_Found]:
    least = FILTERING_LEVELS[call.text("filtering_level")]
    return [(score, hit) for score, hit in found if score >= least]


def _ranked(found: Sequence[_Found], most: int) -> list[dict[str, object]]:
    """Return the best hits, each with its score; equal ones in the order of the library."""
    best = sorted(found, key=lambda hit: -hit[0])[:most]
    return [{**hit, "score": score} for score, hit in best]


def _of(video: StoredVideo, line: Line) -> dict[str, object]:
    return _named(video, line.start_time, line.end_time)


def _named(video: StoredVideo, start: float, end: float) -> dict[str, object]:
    return {"videoNo": video.id, "videoName": video.name, **seconds(start, end)}


def _tags(stored: StoredVideo | StoredImage) -> list[str]:
    return [tag for tag in cast("list[str]", stored.details["tags"]) if tag != "api"]
