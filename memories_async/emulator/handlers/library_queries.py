"""What of the library a request is about: its namespace, its filters, and indexed if it is time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import attrs

from memories_async.emulator.handlers import file_checks
from memories_async.emulator.handlers.request import HandlerRequest
from memories_async.emulator.handlers.validation import refuse
from memories_async.emulator.http.envelopes import Refusal
from memories_async.emulator.spool import SpooledFile
from memories_async.emulator.store import Stored, StoredVideo

S = TypeVar("S", bound=Stored)

_NEAR = 20.0  # kilometres, as documented
_EARTH_RADIUS = 6371.0


def stored(
    request: HandlerRequest,
    record: type[S],
    id: str,
    file: SpooledFile,
    details: Mapping[str, object],
) -> S:
    """Return the record of an upload."""
    return record(
        id=id,
        name=file.name,
        content_type=file.content_type,
        size=file.size,
        sha256=file.sha256,
        created_at=request.context.now(),
        unique_id=request.text("unique_id"),
        details=details,
    )


async def find_video(request: HandlerRequest) -> StoredVideo | None:
    """Return the video that is asked for, indexed if it is time, or None."""
    video = request.context.store.videos.get(request.text("video_no"))
    if video is None or video.unique_id != request.text("unique_id"):
        return None
    return await current(request, video)


async def videos(request: HandlerRequest) -> list[StoredVideo]:
    """Return the videos of the namespace that pass the filters, indexed if it is time."""
    folder = request.integer("folder_id")
    numbers = set(request.texts("video_nos"))
    return [
        await current(request, video)
        for video in chosen(request, request.context.store.videos.all())
        if folder in (None, video.folder_id) and (not numbers or video.id in numbers)
    ]


def chosen(request: HandlerRequest, records: Sequence[S]) -> list[S]:
    """Return the records of the namespace that pass the filters on their details."""
    return [
        record
        for record in records
        if record.unique_id == request.text("unique_id") and _passes(request, record)
    ]


def _passes(request: HandlerRequest, record: Stored) -> bool:
    details = record.details
    tag = request.text("tag")
    camera = request.text("camera_model") or request.text("camera_tag")
    since = _since(request)
    return (
        (not tag or tag in record.tags)
        and (not camera or camera == details.get("camera_model"))
        and (since is None or int(str(details.get("datetime_taken", -1))) >= since)
        and _is_near(request, details)
    )


def _since(request: HandlerRequest) -> int | None:
    """Return the earliest time that is asked for: a search names it as text, a list as a number."""
    since = request.fields.get("datetime_taken")
    return (
        file_checks.milliseconds(since)
        if isinstance(since, str)
        else request.integer("datetime_taken")
    )


def _is_near(request: HandlerRequest, details: Mapping[str, object]) -> bool:
    wanted = request.number("latitude"), request.number("longitude")
    if wanted == (None, None):
        return True
    if None in wanted:
        raise refuse("latitude and longitude must be given together")
    there = details.get("latitude"), details.get("longitude")
    if None in there:
        return False
    return _kilometres(cast("_Place", wanted), cast("_Place", there)) <= _NEAR


_Place = tuple[float, float]


def _kilometres(one: _Place, other: _Place) -> float:
    """Return the distance along the surface (haversine formula)."""
    (north, east), (north_2, east_2) = (map(math.radians, place) for place in (one, other))
    chord = (
        math.sin((north_2 - north) / 2) ** 2
        + math.cos(north) * math.cos(north_2) * math.sin((east_2 - east) / 2) ** 2
    )
    return 2 * _EARTH_RADIUS * math.asin(min(1.0, math.sqrt(chord)))


async def current(request: HandlerRequest, video: StoredVideo) -> StoredVideo:
    """Return a video as it is now: its time to be indexed may have come."""
    due = video.created_at / 1000 + request.context.timing.index_seconds <= request.context.clock()
    return await index(request, video) if due else video


async def index(request: HandlerRequest, video: StoredVideo) -> StoredVideo:
    """Return the video as indexing left it: searchable, or failed."""
    context = request.context
    async with context.indexing:
        video = context.store.videos.get(video.id) or video
        if video.status != "UNPARSE":
            return video
        video = await _indexed(request, video)
        await context.write(context.store.videos.update, video)
    return video


async def _indexed(request: HandlerRequest, video: StoredVideo) -> StoredVideo:
    engine, run = request.context.engine, request.context.run_engine
    film = request.context.store.videos.file(video)
    try:
        return attrs.evolve(
            video,
            status="PARSE",
            facts=await run([film], engine.probe_video, film.path),
            seen=await run([film], engine.describe_shots, film.path),
            heard=await run([film], engine.transcribe, film.path),
        )
    except Refusal as refusal:
        return attrs.evolve(video, status="FAILED", cause=str(refusal.message))
