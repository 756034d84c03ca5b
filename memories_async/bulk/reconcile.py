"""What only library videos need: waiting until they are searchable, finding lost ones again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from memories_async.bulk.journal import queries
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.rows import JobHeader, Settlement
from memories_async.bulk.kinds import content_tag, searchable_within, video_answer
from memories_async.bulk.models import Item, Status
from memories_async.config import CallOptions
from memories_async.errors import TaskFailed
from memories_async.models import Video

if TYPE_CHECKING:
    from memories_async.client import Memories

PAGE = 100


async def wait_for_video(
    journal: Journal, header: JobHeader, client: Memories, options: CallOptions, id: int
) -> Settlement | None:
    """Wait until an added video is searchable.

    Returns:
        What has become of it; None if it is not known yet: asking again later is free.
    """
    (row,) = await journal.execute(queries.by_id, [id])
    given = {**header.options, **row.item.options}
    result = row.item.result or {}
    try:
        video = await client.library.wait_until_searchable(
            str(result["video_no"]),
            within=searchable_within(given),
            unique_id=_unique_id(given),
            options=options,
        )
    except TaskFailed as error:
        return Settlement.of_error(id, Status.FAILED, error)
    except Exception:  # whatever a hook of the user raises, too: it is no reason to end the run
        return None
    return Settlement(id, Status.DONE, {**result, **video_answer(video, wait=False).result})


async def reconcile(
    journal: Journal, header: JobHeader, client: Memories, options: CallOptions | None = None
) -> list[Settlement]:
    """Look for the unknown videos in the library, by the tag of their content; free.

    Returns:
        Those that were found.
    """
    found: list[Settlement] = []
    place = 0
    while items := await journal.execute(queries.items_after, place, PAGE, Status.UNKNOWN):
        place = items[-1].id
        for item in items:
            if item.sha256 is None:
                continue
            given = {**header.options, **item.options}
            tag = content_tag(item.sha256)
            listed = client.library.videos(tag=tag, unique_id=_unique_id(given), options=options)
            async for video in listed:
                if not _is_that(video, tag, item):
                    continue
                answer = video_answer(video, wait=searchable_within(given) > 0)
                found.append(
                    Settlement(item.id, Status.DONE, answer.result, waiting=answer.waiting)
                )
                break
    return found


def _unique_id(options: Mapping[str, object]) -> str | None:
    unique_id = options.get("unique_id")
    assert unique_id is None or isinstance(unique_id, str)  # as planning has checked
    return unique_id


def _is_that(video: Video, tag: str, item: Item) -> bool:
    """Tell whether a listed video is the one that was sent; a server may ignore the tag asked for.

    Where the listing has no tags, the size has to do; where it has neither, the name.
    """
    tags: object = getattr(video, "tags", None) or video.extra.get("tags")
    if isinstance(tags, Sequence) and tags:
        return tag in tags
    if video.size is not None:
        return video.size == item.size
    return video.name == os.path.basename(item.source)
