"""memories-async upload: one file, and the identifier that it gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, TypeAlias

import attrs
from cyclopts import Parameter

from memories_async.cli.credentials import account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.options import SHARED, MediaKind, Shared
from memories_async.cli.output import Output, extra
from memories_async.cli.sources import kind_of
from memories_async.client import Memories


@attrs.frozen
class Asked:
    """What the command line asks for."""

    source: str
    unique_id: str | None
    wait: bool
    output: Output


Upload: TypeAlias = Callable[[Memories, Asked], Awaitable[dict[str, object]]]


async def _video(client: Memories, asked: Asked) -> dict[str, object]:
    with asked.output.upload(asked.source) as hook:
        video = await client.library.add_video(
            asked.source, unique_id=asked.unique_id, on_progress=hook
        )
    if asked.wait:
        asked.output.note(f"{video.video_no} is uploaded; waiting until it can be searched")
        video = await client.library.wait_until_searchable(
            video.video_no, unique_id=asked.unique_id
        )
    row = {"video_no": video.video_no, "video_name": video.name, "video_status": video.status}
    return row | extra(video)


async def _image(client: Memories, asked: Asked) -> dict[str, object]:
    with asked.output.upload(asked.source) as hook:
        (image,) = await client.library.add_images(
            asked.source, unique_id=asked.unique_id, on_progress=hook
        )
    return {"image_id": image.id} | extra(image)


UPLOADS: Mapping[MediaKind, tuple[Upload, str]] = {
    "video": (_video, "video_no"),
    "image": (_image, "image_id"),
}
"""How each kind of file is uploaded, and which field of the result identifies it."""


async def upload(
    source: str,
    /,
    *,
    as_: Annotated[MediaKind | None, Parameter(name="--as")] = None,
    unique_id: str | None = None,
    wait: bool = False,
    shared: Shared = SHARED,
) -> int:
    """Upload one file to the library and print its identifier; "index" is for many.

    Args:
        source: The file.
        as_: What it is, where its name does not say it.
        unique_id: Namespace within the account.
        wait: Return only when the video can be searched.
        shared: What every command understands.
    """
    send, identifier = UPLOADS[as_ or kind_of([source])]
    asked = Asked(source, unique_id, wait, Output.of(shared))
    async with connect(account(shared.profile), "api_key") as client:
        with asked.output.reporting(source):
            row = await send(client, asked)
    asked.output.result({"source": source, "status": "done"} | row, str(row[identifier]))
    return Exit.DONE
