"""Pages are fetched as the iteration goes, and long deletions are split."""

from __future__ import annotations

import json

import pytest

from memories_async import Conflict, Memories
from tests.cases import v1
from tests.recorder import Answer, Recorder

pytestmark = pytest.mark.anyio


def page(*numbers: str, total: str | None) -> str:
    videos = ",".join(f'{{"video_no":"{number}"}}' for number in numbers)
    count = "" if total is None else f',"total_count":{total}'
    return v1(f'{{"videos":[{videos}],"current_page":1{count}}}')


def asked(recorder: Recorder) -> list[int]:
    return [json.loads(request.body)["page"] for request in recorder.requests]


async def test_pages_are_fetched_as_the_iteration_goes(
    recorder: Recorder, client: Memories
) -> None:
    recorder.answer(page("a", "b", total='"5"'), page("c", "d", total='"5"'), page("e", total="5"))
    videos = client.library.videos(page_size=2)
    assert recorder.requests == []
    seen = [(video.video_no, len(recorder.requests)) async for video in videos]
    assert seen == [("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 3)]
    assert asked(recorder) == [1, 2, 3]


async def test_nothing_more_is_fetched_than_is_read(recorder: Recorder, client: Memories) -> None:
    recorder.answer(page("a", "b", total="5"))
    async for _ in client.library.videos(page_size=2):
        break
    assert asked(recorder) == [1]


@pytest.mark.parametrize(
    ("pages", "requests"),
    [
        ([page(total="0")], 1),
        ([page("a", "b", total="2")], 1),
        ([page("a", "b", total=None), page("c", total=None)], 2),
        ([page("a", "b", total=None), page(total=None)], 2),
        ([page("a", total="3"), page("b", total="3"), page("c", total="3")], 3),  # a lower cap
        ([page("a", "b", total="9"), page(total="9")], 2),  # deleted in the meantime
    ],
)
async def test_where_the_list_ends(
    pages: list[str], requests: int, recorder: Recorder, client: Memories
) -> None:
    recorder.answer(*pages)
    found = [video.video_no async for video in client.library.videos(page_size=2)]
    assert found == list("abc")[: len(found)]
    assert len(recorder.requests) == requests


async def test_long_deletions_are_split(recorder: Recorder, client: Memories) -> None:
    recorder.answer(v1("null"))
    numbers = [f"VI{number}" for number in range(250)]
    await client.library.delete_videos(tuple(numbers))
    bodies = [json.loads(request.body) for request in recorder.requests]
    assert [len(body) for body in bodies] == [100, 100, 50]
    assert [number for body in bodies for number in body] == numbers


async def test_nothing_to_delete_is_no_request(recorder: Recorder, client: Memories) -> None:
    await client.library.delete_videos([])
    assert recorder.requests == []


DELETED_BEFORE = '{"code":"0409","msg":"repeated","data":null,"success":false,"failed":true}'


async def test_what_was_deleted_before_is_a_conflict(recorder: Recorder, client: Memories) -> None:
    recorder.answer(DELETED_BEFORE)
    with pytest.raises(Conflict):
        await client.library.delete_videos(["VI1"])


async def test_what_an_attempt_of_ours_deleted_is_none(
    recorder: Recorder, client: Memories
) -> None:
    recorder.answers = [Answer("", status=502), Answer(DELETED_BEFORE)]
    await client.library.delete_videos(["VI1"])
    assert len(recorder.requests) == 2
