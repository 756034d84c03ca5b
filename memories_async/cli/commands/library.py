"""memories-async list, download, delete: the videos of the library."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from memories_async.cli import checks
from memories_async.cli.credentials import account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.options import (
    CALLING,
    SHARED,
    Calling,
    CameraModel,
    FileName,
    Latitude,
    Longitude,
    Shared,
    Text,
)
from memories_async.cli.terminal.console import on_a_line
from memories_async.cli.terminal.output import Output, extra
from memories_async.cli.terminal.progress import duration
from memories_async.cli.terminal.questions import confirmed
from memories_async.models import Video

SHOWN_NUMBERS = 5


async def list_(
    *,
    name: Text | None = None,
    status: Literal["PARSE", "UNPARSE", "FAILED"] | None = None,
    tag: Text | None = None,
    camera_model: CameraModel | None = None,
    latitude: Latitude | None = None,
    longitude: Longitude | None = None,
    unique_id: Text | None = None,
    calling: Calling = CALLING,
    shared: Shared = SHARED,
) -> int:
    """List the videos of the library; free.

    Args:
        name: Only videos of this stored name.
        status: Only videos that can be searched (PARSE), cannot yet, or never will.
        tag: Only videos with this tag.
        camera_model: Only videos of this camera.
        latitude: With --longitude: only videos taken near, in degrees.
        longitude: With --latitude.
        unique_id: Namespace within the account.
        calling: How the service is called.
        shared: What every command understands.
    """
    checks.together("--latitude", latitude, "--longitude", longitude)
    output = Output.of(shared)
    count = 0
    connected = connect(account(shared.profile), "api_key", calling)
    async with connected as client, output.rows() as printer:
        async for video in client.library.videos(
            name=name,
            status=status,
            tag=tag,
            camera_model=camera_model,
            latitude=latitude,
            longitude=longitude,
            unique_id=unique_id,
        ):
            count += 1
            await printer.put(output.line(row_of(video), _text_of(video)))
    if not count:
        output.note("no such video is in the library")
    return Exit.DONE


async def download(
    video_no: Text,
    file: FileName | None = None,
    /,
    *,
    unique_id: Text | None = None,
    force: bool = False,
    calling: Calling = CALLING,
    shared: Shared = SHARED,
) -> int:
    """Download a video of the library; the service bills $0.12 per GB.

    Args:
        video_no: The video's number, as "upload" and "list" print it.
        file: Where to; by default VIDEO_NO.mp4 in this folder.
        unique_id: Namespace within the account.
        force: Replace the file if there is one.
        calling: How the service is called.
        shared: What every command understands.
    """
    destination = file or f"{video_no}.mp4"
    checks.free(destination, force=force)
    output = Output.of(shared)
    async with connect(account(shared.profile), "api_key", calling) as client:
        with output.reporting(video_no), output.download(video_no) as hook:
            found = await client.library.download(
                video_no, destination, unique_id=unique_id, on_progress=hook
            )
    row = {"video_no": video_no, "status": "done", "file": found.path, "bytes": found.size}
    output.result(row, on_a_line(found.path))
    return Exit.DONE


async def delete(
    video_no: Annotated[list[str], Parameter(validator=checks.text)],
    /,
    *,
    unique_id: Text | None = None,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"))] = False,
    calling: Calling = CALLING,
    shared: Shared = SHARED,
) -> int:
    """Delete videos of the library for good; asks first.

    Args:
        video_no: The videos' numbers, as "upload" and "list" print them.
        unique_id: Namespace within the account.
        yes: Do not ask.
        calling: How the service is called.
        shared: What every command understands.
    """
    output = Output.of(shared)
    who = account(shared.profile)
    shown = ", ".join(video_no[:SHOWN_NUMBERS]) + (", …" if len(video_no) > SHOWN_NUMBERS else "")
    videos = "1 video" if len(video_no) == 1 else f"{len(video_no)} videos"
    if not confirmed(f"Delete {videos} for good: {shown}?", yes=yes):
        output.note("nothing was deleted")
        return Exit.FAILED
    async with connect(who, "api_key", calling) as client:
        await client.library.delete_videos(video_no, unique_id=unique_id)
    for one in video_no:
        output.result({"video_no": one, "status": "deleted"}, f"{one} deleted")
    return Exit.DONE


def row_of(video: Video) -> dict[str, object]:
    """Return what is known of a video, as programs read it."""
    row: dict[str, object] = {
        "video_no": video.video_no,
        "video_name": video.name,
        "video_status": video.status,
        "duration": video.duration,
        "bytes": video.size,
        "created_at": video.created_at and video.created_at.isoformat(),
        "cause": video.cause,
    }
    return {name: value for name, value in row.items() if value is not None} | extra(video)


def _text_of(video: Video) -> str:
    columns = [video.video_no, video.status or "", on_a_line(video.name or "")]
    if video.duration is not None:
        columns.append(duration(video.duration))
    if video.size is not None:
        columns.append(f"{video.size / 1e6:.1f} MB")
    return "  ".join(filter(None, map(on_a_line, columns)))
