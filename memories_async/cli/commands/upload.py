"""memories-async upload: one file, and the identifier that it gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, TypeAlias, TypedDict

import attrs
from cyclopts import Parameter

from memories_async.cli import checks
from memories_async.cli.credentials import account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.interrupts import one_call
from memories_async.cli.options import (
    CALLING,
    SHARED,
    Calling,
    CameraModel,
    FileName,
    Latitude,
    Longitude,
    MediaKind,
    Moment,
    Shared,
    Text,
    Texts,
)
from memories_async.cli.sources import kind_of
from memories_async.cli.terminal.output import Output, extra
from memories_async.client import Memories
from memories_async.errors import ConfigurationError
from memories_async.models import Video


class Metadata(TypedDict):
    """What is said of a file besides its bytes."""

    unique_id: str | None
    tags: tuple[str, ...]
    datetime_taken: str | None
    camera_model: str | None
    latitude: float | None
    longitude: float | None


@attrs.frozen
class UploadRequest:
    """What the command line asks for."""

    source: str
    metadata: Metadata
    wait: bool
    output: Output


Upload: TypeAlias = Callable[[Memories, UploadRequest], Awaitable[dict[str, object]]]


async def _video(client: Memories, request: UploadRequest) -> dict[str, object]:
    output, unique_id = request.output, request.metadata["unique_id"]
    with output.upload(request.source) as hook, one_call() as options:
        video = await client.library.add_video(
            request.source, **request.metadata, on_progress=hook, options=options
        )
    if request.wait:
        output.note(f"{video.video_no} is uploaded; waiting until it can be searched")
        try:
            video = await client.library.wait_until_searchable(video.video_no, unique_id=unique_id)
        except BaseException:
            # Whatever ends the wait, the upload has been paid and its number is what it gave.
            output.paid((_video_row(request.source, video), video.video_no))
            raise
    return _video_row(request.source, video)


def _video_row(source: str, video: Video) -> dict[str, object]:
    row: dict[str, object] = {"source": source, "status": "done", "video_no": video.video_no}
    return row | {"video_name": video.name, "video_status": video.status} | extra(video)


async def _image(client: Memories, request: UploadRequest) -> dict[str, object]:
    with request.output.upload(request.source) as hook, one_call() as options:
        (image,) = await client.library.add_images(
            request.source, **request.metadata, on_progress=hook, options=options
        )
    return {"source": request.source, "status": "done", "image_id": image.id} | extra(image)


UPLOADS: Mapping[MediaKind, tuple[Upload, str]] = {
    "video": (_video, "video_no"),
    "image": (_image, "image_id"),
}
"""How each kind of file is uploaded, and which field of the result identifies it."""


async def upload(
    source: FileName,
    /,
    *,
    as_: Annotated[MediaKind | None, Parameter(name="--as")] = None,
    unique_id: Text | None = None,
    tag: Texts = (),
    datetime_taken: Moment | None = None,
    camera_model: CameraModel | None = None,
    latitude: Latitude | None = None,
    longitude: Longitude | None = None,
    wait: bool = False,
    calling: Calling = CALLING,
    shared: Shared = SHARED,
) -> int:
    """Upload one file to the library and print its identifier; "index" is for many.

    Args:
        source: The file.
        as_: What it is, where its name does not say it.
        unique_id: Namespace within the account.
        tag: A tag. May be repeated.
        datetime_taken: When it was taken, as "2025-09-07 22:52:00".
        camera_model: What it was taken with.
        latitude: Degrees, -90 to 90, with --longitude.
        longitude: Degrees, -180 to 180, with --latitude.
        wait: Return only when the video can be searched.
        calling: How the service is called.
        shared: What every command understands.
    """
    checks.together("--latitude", latitude, "--longitude", longitude)
    kind = as_ or kind_of([source])
    if wait and kind == "image":
        raise ConfigurationError("--wait is for videos")
    send, identifier = UPLOADS[kind]
    metadata = Metadata(
        unique_id=unique_id,
        tags=tag,
        datetime_taken=datetime_taken,
        camera_model=camera_model,
        latitude=latitude,
        longitude=longitude,
    )
    request = UploadRequest(source, metadata, wait, Output.of(shared))
    async with connect(account(shared.profile), "api_key", calling) as client:
        with request.output.reporting(source):
            row = await send(client, request)
    request.output.paid((row, str(row[identifier])))
    return Exit.DONE
