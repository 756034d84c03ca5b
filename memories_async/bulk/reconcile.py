"""What only library videos need: waiting until they are searchable, finding lost ones again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol, cast

from memories_async.bulk.journal import queries as records
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.queries import Head, Verdict
from memories_async.bulk.kinds import SEARCHABLE_WITHIN, content_tag, video_answer
from memories_async.bulk.models import Status
from memories_async.config import CallOptions
from memories_async.errors import MemoriesError, TaskFailed
from memories_async.models import Video

if TYPE_CHECKING:
    from memories_async.client import Memories

PAGE = 100


class _Listing(Protocol):
    def videos(
        self, *, tag: str | None = None, unique_id: str | None = None
    ) -> AsyncIterator[Video]: ...


async def wait_for_video(
    journal: Journal, head: Head, client: Memories, options: CallOptions, id: int
) -> Verdict | None:
    """Wait until an added video is searchable.

    Returns:
        What has become of it; None if it is not known yet: asking again later is free.
    """
    (row,) = await journal.ask(records.by_id, [id])
    given = {**head.options, **row.item.options}
    result = row.item.result or {}
    try:
        video = await client.library.wait_until_searchable(
            str(result["video_no"]),
            within=cast("float", given.get("searchable_within", SEARCHABLE_WITHIN)),
            unique_id=cast("str | None", given.get("unique_id")),
            options=options,
        )
    except TaskFailed as error:
        return records.verdict(id, Status.FAILED, error)
    except MemoriesError:
        return None
    return Verdict(id, Status.DONE, {**result, **video_answer(video, wait=False).result})


async def reconcile(
    journal: Journal, head: Head, client: Memories, options: CallOptions | None = None
) -> list[Verdict]:
    """Look for the unknown videos in the library, by the tag of their content; free.

    Returns:
        Those that were found.
    """
    library = cast("_Listing", client.library)
    found: list[Verdict] = []
    place = 0
    while items := await journal.ask(records.items_after, place, PAGE, Status.UNKNOWN):
        place = items[-1].id
        for item in items:
            if item.sha256 is None:
                continue
            given = {**head.options, **item.options}
            listed = library.videos(
                tag=content_tag(item.sha256), unique_id=cast("str | None", given.get("unique_id"))
            )
            async for video in listed:
                wait = cast("float", given.get("searchable_within", SEARCHABLE_WITHIN)) > 0
                answer = video_answer(video, wait=wait)
                found.append(Verdict(item.id, Status.DONE, answer.result, waiting=answer.waiting))
                break
    return found
