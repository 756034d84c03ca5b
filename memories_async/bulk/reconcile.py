"""What only library videos need: waiting until they are searchable, finding lost ones again."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from memories_async.bulk.journal import queries
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.rows import JobHeader, Settlement
from memories_async.bulk.kinds import SEARCHABLE_WITHIN, content_tag, video_answer
from memories_async.bulk.models import Item, Status
from memories_async.config import CallOptions
from memories_async.errors import MemoriesError, TaskFailed
from memories_async.models import Video

if TYPE_CHECKING:
    from memories_async.client import Memories

PAGE = 100


class _Listing(Protocol):
    def videos(
        self,
        *,
        tag: str | None = None,
        unique_id: str | None = None,
        options: CallOptions | None = None,
    ) -> AsyncIterator[Video]: ...


async def wait_for_video(
    journal: Journal, header: JobHeader, client: Memories, options: CallOptions, id: int
) -> Settlement | None:
    """Wait until an added video is searchable.

    Returns:
        What has become of it; None if it is not known yet: asking again later is free.
    """
    (row,) = await journal.ask(queries.by_id, [id])
    given = {**header.options, **row.item.options}
    result = row.item.result or {}
    try:
        video = await client.library.wait_until_searchable(
            str(result["video_no"]),
            within=cast("float", given.get("searchable_within", SEARCHABLE_WITHIN)),
            unique_id=cast("str | None", given.get("unique_id")),
            options=options,
        )
    except TaskFailed as error:
        return Settlement.of_error(id, Status.FAILED, error)
    except MemoriesError:
        return None
    return Settlement(id, Status.DONE, {**result, **video_answer(video, wait=False).result})


async def reconcile(
    journal: Journal, header: JobHeader, client: Memories, options: CallOptions | None = None
) -> list[Settlement]:
    """Look for the unknown videos in the library, by the tag of their content; free.

    Returns:
        Those that were found.
    """
    library = cast("_Listing", client.library)
    found: list[Settlement] = []
    place = 0
    while items := await journal.ask(queries.items_after, place, PAGE, Status.UNKNOWN):
        place = items[-1].id
        for item in items:
            if item.sha256 is None:
                continue
            given = {**header.options, **item.options}
            tag = content_tag(item.sha256)
            listed = library.videos(
                tag=tag, unique_id=cast("str | None", given.get("unique_id")), options=options
            )
            async for video in listed:
                if not _is_that(video, tag, item):
                    continue
                wait = cast("float", given.get("searchable_within", SEARCHABLE_WITHIN)) > 0
                answer = video_answer(video, wait=wait)
                found.append(
                    Settlement(item.id, Status.DONE, answer.result, waiting=answer.waiting)
                )
                break
    return found


def _is_that(video: Video, tag: str, item: Item) -> bool:
    """Tell whether a listed video is the one that was sent; a server may ignore the tag asked for.

    Where the listing has no tags, the size has to do; where it has neither, the name.
    """
    tags = cast("object", getattr(video, "tags", None) or video.extra.get("tags"))
    if isinstance(tags, Sequence) and tags:
        return tag in tags
    if video.size is not None:
        return video.size == item.size
    return video.name == os.path.basename(item.source)
