"""Waiting asks ever less often, ends at the deadline, and knows every word for failure."""

from __future__ import annotations

import json

import pytest

from memories_async import DeadlineExceeded, Memories, NotFound, TaskFailed
from tests.cases import GENERAL_KEY, v1, v2
from tests.recorder import Recorder
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio


def video(status: str, cause: str = "null") -> str:
    return v1(f'{{"video_no":"VI1","status":"{status}","cause":"{cause}"}}')


def asset(status: str) -> str:
    return v2(f'{{"resource":[{{"upload_status":"{status}"}}]}}')


async def test_questions_come_ever_less_often(
    recorder: Recorder, client: Memories, clock: HurriedClock
) -> None:
    recorder.answer(*[video("UNPARSE")] * 10, video("PARSE"))
    found = await client.library.wait_until_searchable("VI1")
    assert found.searchable
    pauses = [2.0, 3.0, 4.5, 6.75, 10.125, 15.1875, 22.78125, 30.0, 30.0, 30.0]
    assert clock.slept == pytest.approx(pauses)


async def test_what_is_ready_is_not_waited_for(
    recorder: Recorder, client: Memories, clock: HurriedClock
) -> None:
    recorder.answer(video("PARSE"))
    await client.library.wait_until_searchable("VI1", within=0)
    assert clock.slept == []


async def test_a_last_question_comes_at_the_end(
    recorder: Recorder, client: Memories, clock: HurriedClock
) -> None:
    recorder.answer(*[video("SOMETHING_NEW")] * 3, video("PARSE"))
    await client.library.wait_until_searchable("VI1", within=6)
    assert clock.slept == [2.0, 3.0, 1.0]


async def test_time_that_the_questions_take_counts(
    recorder: Recorder, client: Memories, clock: HurriedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.answer(video("UNPARSE"))
    ask = client.library.video

    async def slowly(*args: object, **kwargs: object) -> object:
        clock.now += 50
        return await ask(*args, **kwargs)

    monkeypatch.setattr(client.library, "video", slowly)
    with pytest.raises(DeadlineExceeded, match="VI1 is still UNPARSE after 60 s") as caught:
        await client.library.wait_until_searchable("VI1", within=60)
    assert clock.slept == [2.0]
    assert "asking later is free" in str(caught.value).lower()
    assert "library.video" in str(caught.value)


@pytest.mark.parametrize("word", ["FAILED", "FAIL", "PARSE_ERROR"])
async def test_every_word_for_failure_ends_it(
    word: str, recorder: Recorder, client: Memories, clock: HurriedClock
) -> None:
    recorder.answer(video("UNPARSE"), video(word, "no key frames"))
    with pytest.raises(TaskFailed, match="no key frames") as caught:
        await client.library.wait_until_searchable("VI1")
    assert caught.value.task_id == "VI1"
    assert clock.slept == [2.0]


async def test_an_asset_becomes_ready(
    recorder: Recorder, client: Memories, clock: HurriedClock
) -> None:
    recorder.answer(asset("WAITING"), asset("UPLOADING"), asset("SUCCESS"))
    assert (await client.assets.wait_until_ready("re_1")).ready
    assert clock.slept == [2.0, 3.0]


async def test_an_asset_fails(recorder: Recorder, client: Memories) -> None:
    recorder.answer(asset("FAILED"))
    with pytest.raises(TaskFailed, match=r"re_1 failed"):
        await client.assets.wait_until_ready("re_1")


def _video(status: str, **more: object) -> str:
    return json.dumps({"code": "0000", "data": {"video_no": "VI1", "status": status} | more})


async def test_waiting_asks_ever_less_often(recorder: Recorder) -> None:
    clock = HurriedClock()
    recorder.answer(*[_video("UNPARSE")] * 10, _video("PARSE", duration="5"))
    async with Memories(GENERAL_KEY, base_url=recorder.url, clock=clock) as client:
        video = await client.library.wait_until_searchable("VI1", unique_id="mine")
    assert video.searchable
    assert video.duration == 5
    assert clock.slept[:4] == [2.0, 3.0, 4.5, 6.75]
    assert clock.slept[-2:] == [30.0, 30.0]
    assert {request.target for request in recorder.requests} == {
        "/serve/api/v1/get_metadata?video_no=VI1&unique_id=mine"
    }


@pytest.mark.parametrize("status", ["FAILED", "FAIL", "PARSE_ERROR"])
async def test_waiting_ends_when_indexing_has_failed(
    status: str, recorder: Recorder, client: Memories
) -> None:
    recorder.answer(_video(status, cause="no key frames"))
    with pytest.raises(TaskFailed, match=rf"VI1 failed \({status}\): no key frames") as caught:
        await client.library.wait_until_searchable("VI1")
    assert caught.value.task_id == "VI1"
    recorder.answer(_video(status, cause="null"))
    with pytest.raises(TaskFailed, match=rf"VI1 failed \({status}\)$"):
        await client.library.wait_until_searchable("VI1")


async def test_waiting_has_an_end(recorder: Recorder) -> None:
    clock = HurriedClock()
    recorder.answer(_video("INDEXING"))
    async with Memories(GENERAL_KEY, base_url=recorder.url, clock=clock) as client:
        with pytest.raises(DeadlineExceeded, match="VI1 is still INDEXING after 10 s"):
            await client.library.wait_until_searchable("VI1", within=10)
    assert clock.slept == [2.0, 3.0, 4.5, 0.5]  # and a last question at the end


async def test_a_video_that_is_not_there(recorder: Recorder, client: Memories) -> None:
    recorder.answer('{"code":"0000","msg":"success","data":null,"success":true,"failed":false}')
    with pytest.raises(NotFound, match="no such video"):
        await client.library.video("VI1")
