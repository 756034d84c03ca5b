"""memories-async index: images and videos into the library."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from memories_async.cli import checks
from memories_async.cli.job_commands import start
from memories_async.cli.options import (
    CALLING,
    MAKING,
    RUNNING,
    SHARED,
    Calling,
    CameraModel,
    Latitude,
    Longitude,
    Making,
    MediaKind,
    Moment,
    Running,
    Shared,
    Sources,
    Text,
    Texts,
)
from memories_async.cli.sources import kind_of


async def index(
    sources: Sources,
    /,
    *,
    as_: Annotated[MediaKind | None, Parameter(name="--as")] = None,
    unique_id: Text | None = None,
    tag: Texts = (),
    datetime_taken: Moment | None = None,
    camera_model: CameraModel | None = None,
    latitude: Latitude | None = None,
    longitude: Longitude | None = None,
    making: Making = MAKING,
    running: Running = RUNNING,
    calling: Calling = CALLING,
    shared: Shared = SHARED,
) -> int:
    """Add images or videos to the library, in a job that can be resumed.

    Args:
        sources: Files, folders, patterns, lists (.txt), .jsonl files, and - for names on standard
            input.
        as_: What the sources are, where their names do not say it.
        unique_id: Namespace within the account.
        tag: A tag for all of them. May be repeated.
        datetime_taken: When they were taken, as "2025-09-07 22:52:00".
        camera_model: What they were taken with.
        latitude: Degrees, -90 to 90.
        longitude: Degrees, -180 to 180.
        making: How a job is made.
        running: How a job is run.
        calling: How the service is called.
        shared: What every command understands.
    """
    options = {
        "unique_id": unique_id,
        "tags": list(tag) or None,
        "datetime_taken": datetime_taken,
        "camera_model": camera_model,
        "latitude": latitude,
        "longitude": longitude,
    }
    checks.together("--latitude", latitude, "--longitude", longitude)
    kind = as_ or kind_of(sources)
    return await start(f"add_{kind}s", sources, options, making, running, shared, calling)
