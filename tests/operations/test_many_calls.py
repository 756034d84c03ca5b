"""What makes several calls: batches of captions and embeddings, and waiting for a video."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memories_async import (
    Caption,
    ClosedError,
    ConfigurationError,
    DeadlineExceeded,
    Memories,
    NotFound,
    TaskFailed,
    UnsupportedMedia,
)
from memories_async.media.source import Source
from tests.operations.caption_cases import IMAGE_ANSWER, IMAGE_CAPTION
from tests.operations.cases import GENERAL_KEY, JPEG, PNG
from tests.operations.library_cases import EMBEDDING_ANSWER, VECTOR
from tests.operations.recorder import Recorder, parts_of
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio


async def test_each_image_is_captioned_in_a_call_of_its_own(
    recorder: Recorder, client: Memories, folder: Path
) -> None:
    recorder.answer(IMAGE_ANSWER)
    url = "https://example.com/test_image.png"
    sources: list[Source] = [str(folder / "test.png"), b"no picture", url]
    outcomes = [
        outcome
        async for outcome in client.captions.images(
            sources, "What?", ordered=True, system_prompt="Be short.", reasoning_effort=3
        )
    ]
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]
    assert [outcome.source for outcome in outcomes] == sources
    assert outcomes[0].unwrap() == outcomes[2].unwrap() == IMAGE_CAPTION
    assert outcomes[1].value is None
    with pytest.raises(UnsupportedMedia):
        outcomes[1].unwrap()
    by_target = {request.target: request for request in recorder.requests}
    assert set(by_target) == {"/v1/understand/uploadImgFile", "/v1/understand/uploadImg"}
    assert json.loads(by_target["/v1/understand/uploadImg"].body) == {
        "url": "https://example.com/test_image.png",
        "user_prompt": "What?",
        "system_prompt": "Be short.",
        "thinking": False,
        "qa": False,
        "reasoning_effort": "3",
    }


async def test_images_as_base64(recorder: Recorder, client: Memories) -> None:
    recorder.answer(IMAGE_ANSWER)
    async for outcome in client.captions.images([PNG, JPEG], "What?", as_base64=True, qa=True):
        assert outcome.unwrap() == IMAGE_CAPTION
    sent = {json.loads(request.body)["img_type"] for request in recorder.requests}
    assert sent == {"image/png", "image/jpeg"}
    assert {request.target for request in recorder.requests} == {
        "/v1/understand/uploadImgFileBase64"
    }


async def test_embeddings_take_an_async_iterable(recorder: Recorder, client: Memories) -> None:
    async def pictures() -> AsyncIterator[bytes]:
        yield PNG
        yield JPEG

    recorder.answer(EMBEDDING_ANSWER)
    outcomes = [
        outcome
        async for outcome in client.embeddings.images(
            pictures(), model="mobileclip", concurrency=1, ordered=True
        )
    ]
    assert [outcome.unwrap().vector for outcome in outcomes] == [VECTOR, VECTOR]
    assert [outcome.unwrap().model for outcome in outcomes] == ["mobileclip", "mobileclip"]
    sent = [
        parts_of(request.headers["Content-Type"], request.body) for request in recorder.requests
    ]
    assert [parts[1].content for parts in sent] == [PNG, JPEG]


async def test_a_batch_refuses_a_bad_concurrency(client: Memories) -> None:
    for batch in (
        client.captions.images([PNG], "What?", concurrency=0),
        client.embeddings.images([PNG], concurrency=0),
    ):
        with pytest.raises(ConfigurationError, match="concurrency must be at least 1"):
            await anext(batch)


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


async def test_a_closed_client_says_so(recorder: Recorder) -> None:
    recorder.answer(IMAGE_ANSWER)
    client = Memories(GENERAL_KEY, caption_key="caption", base_url=recorder.url)
    assert isinstance(await client.captions.image(PNG, "What?"), Caption)
    await client.aclose()
    await client.aclose()
    for call in (
        client.captions.image(PNG, "What?"),
        client.captions.image("https://example.com/a.png", "What?"),
        client.library.video("VI1"),
    ):
        with pytest.raises(ClosedError):
            await call
