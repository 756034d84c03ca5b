"""Batches of captions, keys, and a client that has been closed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memories_async import Caption, ClosedError, ConfigurationError, Memories, UnsupportedMedia
from memories_async.media.source import Source
from tests.captions.cases import IMAGE_ANSWER, IMAGE_CAPTION
from tests.cases import GENERAL_KEY, JPEG, PNG
from tests.recorder import Recorder

pytestmark = pytest.mark.anyio

URL = "https://example.com/a.png"


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


async def test_a_batch_refuses_a_bad_concurrency(client: Memories) -> None:
    for batch in (
        client.captions.images([PNG], "What?", concurrency=0),
        client.embeddings.images([PNG], concurrency=0),
    ):
        with pytest.raises(ConfigurationError, match="concurrency must be at least 1"):
            await anext(batch)


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


async def test_captions_need_the_captioning_key_and_nothing_else_does(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMORIES_CAPTION_KEY", raising=False)
    recorder.answer('{"code":200,"data":{"embedding":[1.0]}}')
    async with Memories(GENERAL_KEY, base_url=recorder.url) as client:
        for source in (URL, "/no/such/file.png"):
            with pytest.raises(ConfigurationError, match="pass caption_key or set MEMORIES_CAPT"):
                await client.captions.image(source, "What?")
        assert recorder.requests == []
        assert (await client.embeddings.image(PNG)).vector == [1.0]


async def test_a_caption_needs_no_general_key(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMORIES_API_KEY", raising=False)
    recorder.answer('{"code":0,"data":{"text":"A cat."}}')
    async with Memories(caption_key="caption", base_url=recorder.url) as client:
        assert (await client.captions.image(URL, "What?")).text == "A cat."
        with pytest.raises(ConfigurationError, match="pass api_key or set MEMORIES_API_KEY"):
            await client.library.add_images(PNG)
