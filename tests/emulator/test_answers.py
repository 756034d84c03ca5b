"""Answers that a test chooses, latency, the clock that it turns, callbacks without a port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from memories_async import ConfigurationError, Memories
from memories_async.callbacks import CallbackInbox, MemoryStore, asgi_app, wsgi_app
from memories_async.emulator import CallbackFault, Emulator, Held, Late
from memories_async.models import Caption, Clip, TokenUsage
from memories_async.operations import OPERATIONS
from memories_async.sync import CallbackInbox as BlockingInbox
from memories_async.sync import Memories as BlockingMemories
from tests.emulator.conftest import JPEG, MP4, PNG, post, req_and_files, until

pytestmark = pytest.mark.anyio


def client_for(emulator: Emulator) -> Memories:
    return Memories("any", caption_key="any", base_url=emulator.url)


# --- chosen answers ---------------------------------------------------------------------------


async def test_a_film_is_described_as_the_test_wants(emulator: Emulator) -> None:
    emulator.answers.add("captions.video", text="A rabbit.", tokens=TokenUsage(input=3, output=4))
    async with client_for(emulator) as client:
        caption = await client.captions.video(MP4, "What happens?", system_prompt="s")
    assert caption.text == "A rabbit."
    assert caption.tokens is not None
    assert caption.tokens.output == 4
    emulator.assert_billed(1, "captions.video")


async def test_answers_for_some_requests_and_in_order(emulator: Emulator) -> None:
    answers = emulator.answers
    answers.add("captions.image", text="red", when={"user_prompt": "Which colour?"})
    answers.add("captions.image", text="big", when=lambda entry: entry.files[0].size > 1000)
    answers.add("captions.image", text="first", times=1)
    answers.add("captions.image", Caption(text="then"))
    async with client_for(emulator) as client:
        texts = [
            (await client.captions.image(picture, prompt)).text
            for picture, prompt in (
                (PNG, "Which colour?"),
                (PNG + bytes(2000), "What is it?"),
                (PNG, "What is it?"),
                (PNG, "What is it?"),
            )
        ]
    assert texts == ["red", "big", "first", "then"]


MOMENT = datetime(2025, 9, 7, 22, 52, tzinfo=UTC)

CHOSEN: dict[str, tuple[object, Callable[[Memories], Any], object]] = {
    "captions.image": (
        {"text": "t"},
        lambda client: client.captions.image(JPEG, "p"),
        {"text": "t"},
    ),
    "library.add_images": (
        [{"id": 568102998803353601}],
        lambda client: client.library.add_images([PNG]),
        [{"id": 568102998803353601}],
    ),
    "library.search_clips": (
        [Clip(start_time=1.5, end_time=2.5, score=0.9)],
        lambda client: client.library.search_clips("VI1", PNG, "p"),
        [{"start_time": 1.5, "end_time": 2.5, "score": 0.9}],
    ),
    "embeddings.image": (
        {"vector": [0.5, 0.25]},
        lambda client: client.embeddings.image(PNG),
        {"vector": [0.5, 0.25]},
    ),
    "embeddings.text": (
        [{"vector": [0.5]}, {"vector": [0.25]}],
        lambda client: client.embeddings.text(["a", "b"]),
        [{"vector": [0.5]}, {"vector": [0.25]}],
    ),
    "embeddings.video": (
        {"vector": [0.125]},
        lambda client: client.embeddings.video("re_1"),
        {"vector": [0.125]},
    ),
    "library.add_video": (
        {"video_no": "VI1", "name": "film", "created_at": MOMENT, "status": "UNPARSE"},
        lambda client: client.library.add_video(MP4),
        {"video_no": "VI1", "name": "film", "created_at": MOMENT, "status": "UNPARSE"},
    ),
    "library.video": (
        {"video_no": "VI1", "duration": 5.5, "tags": ["zoo"], "created_at": MOMENT},
        lambda client: client.library.video("VI1"),
        {"video_no": "VI1", "duration": 5.5, "tags": ("zoo",), "created_at": MOMENT},
    ),
    "library.search": (
        [{"video_no": "VI1", "name": "film", "start_time": 1, "end_time": 2, "score": 0.5}],
        lambda client: client.library.search("meadow"),
        [{"video_no": "VI1", "name": "film", "start_time": 1, "end_time": 2, "score": 0.5}],
    ),
    "library.search_similar": (
        [{"video_no": "VI1", "name": "film", "start_time": 1, "score": 0.5}],
        lambda client: client.library.search_similar(PNG),
        [{"video_no": "VI1", "name": "film", "start_time": 1, "score": 0.5}],
    ),
    "library.audio_transcript": (
        {"video_no": "VI1", "lines": [{"content": "Hop", "start_time": 1, "end_time": 2}]},
        lambda client: client.library.audio_transcript("VI1"),
        {"video_no": "VI1"},
    ),
    "library.video_captions": (
        {"video_no": "VI1", "lines": [{"content": "A rabbit"}]},
        lambda client: client.library.video_captions("VI1"),
        {"video_no": "VI1"},
    ),
    "upload_asset": (
        {"asset_id": "re_657466124521283584"},
        lambda client: client.assets.upload(PNG),
        {"asset_id": "re_657466124521283584"},
    ),
    "library.delete_videos": (None, lambda client: client.library.delete_videos(["VI1"]), None),
}


@pytest.mark.parametrize("operation", CHOSEN)
async def test_every_call_s_answer_can_be_chosen(emulator: Emulator, operation: str) -> None:
    value, call, expected = CHOSEN[operation]
    emulator.answers.add(operation, value)
    async with client_for(emulator) as client:
        found = await call(client)
    pairs = (
        zip(found, expected, strict=True)
        if isinstance(expected, list)
        else ([] if expected is None else [(found, expected)])
    )
    for one, fields in pairs:
        assert {name: getattr(one, name) for name in fields} == fields


async def test_lists_downloads_and_assets_can_be_chosen(emulator: Emulator, tmp_path: Any) -> None:
    emulator.answers.add("library.videos", [{"video_no": "VI1"}, {"video_no": "VI2"}])
    emulator.answers.add("library.download", b"a film")
    emulator.answers.add("assets.download", b"a picture")
    emulator.answers.add("assets.metadata", [{"status": "FAILED"}])
    emulator.answers.add("library.search_transcripts", [{"video_no": "VI1", "text": "Hop"}])
    async with client_for(emulator) as client:
        numbers = [video.video_no async for video in client.library.videos()]
        assert numbers == ["VI1", "VI2"]
        await client.library.download("VI1", tmp_path / "film.mp4")
        assert (tmp_path / "film.mp4").read_bytes() == b"a film"
        await client.assets.download("re_1", tmp_path / "picture.png")
        assert (tmp_path / "picture.png").read_bytes() == b"a picture"
        assert (await client.assets.metadata("re_1")).failed
        lines = [hit.text async for hit in client.library.search_transcripts("hop")]
        assert lines == ["Hop"]


CHOSEN_ELSEWHERE = {
    *("library.videos", "library.download", "assets.metadata", "library.search_transcripts"),
    *("captions.video", "assets.download"),
    "captions.submit_video",  # its answer is the task's number; below, its callback is chosen
    "assets.upload",  # its two ways have two results; upload_asset is one of them
}


def test_no_call_is_left_out() -> None:
    """A new row of the table stands here too, or with the reason why not."""
    assert {row.call for row in OPERATIONS} == {
        name for name in CHOSEN if "." in name
    } | CHOSEN_ELSEWHERE


def test_a_wrong_field_is_refused_for_every_row(emulator_of_hashes: Emulator) -> None:
    for row in OPERATIONS:
        if row.result is not type(None):
            with pytest.raises(ConfigurationError):
                emulator_of_hashes.answers.add(row.name, no_such_field=1)


@pytest.fixture
def emulator_of_hashes() -> Emulator:
    from memories_async.emulator.engines.hashing import HashEngine

    return Emulator(HashEngine())


@pytest.mark.parametrize(
    ("operation", "value", "message"),
    [
        ("captions.video", {"txt": "x"}, "has no field 'txt'; it has text, tokens"),
        ("captions.video", {}, "Caption needs text"),
        ("captions.video", {"text": 5}, "text is 5; a text is wanted"),
        ("captions.video", "A rabbit.", "a Caption or its fields are wanted"),
        ("captions.video", {"text": "x", "tokens": 5}, "tokens is 5; TokenUsage"),
        ("captions.song", {"text": "x"}, "No operation is called 'captions.song'"),
        ("assets.upload", {"asset_id": "x"}, "name one of upload_asset, sign_upload"),
        ("library.search_clips", {"score": 1}, "a list of Clip is wanted"),
        ("library.search_clips", [{"score": 1.0}], "Clip needs start_time"),
        ("library.add_images", [{"id": True}], "id is True; a whole number is wanted"),
        ("embeddings.image", {"vector": ["a"]}, r"vector\[0\] is 'a'; a number is wanted"),
        ("library.download", "x", "its bytes are wanted"),
        ("library.delete_videos", {"x": 1}, "returns nothing"),
        (
            "library.video",
            {"video_no": "V", "duration": "5"},
            "duration is '5'; a number is wanted",
        ),
        # What JSON, or the client's own reading of the answer, has no place for.
        ("captions.image", {"text": "a \ud83d"}, "a lone surrogate"),
        ("captions.image", {"text": "x", "tokens": {"input": 2**70}}, "input is too large"),
        ("library.video", {"video_no": "V", "duration": float("inf")}, "a finite number"),
        ("library.video", {"video_no": ""}, "video_no is empty, which no identifier is"),
        ("library.video", {"video_no": "V", "tags": ["zoo", "\udc80"]}, "a lone surrogate"),
        (
            "library.search_clips",
            [{"start_time": 1, "end_time": 2, "score": float("nan")}],
            "score is nan; a finite number is wanted",
        ),
        ("embeddings.image", {"vector": [0.5, float("nan")]}, r"vector\[1\] is nan"),
        ("embeddings.image", {"vector": [1e39]}, "a finite number is wanted"),
        ("embeddings.image", {"vector": []}, "vector is empty"),
    ],
)
def test_a_wrong_answer_is_refused_when_it_is_chosen(
    emulator_of_hashes: Emulator,
    operation: str,
    value: object,
    message: str,
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        emulator_of_hashes.answers.add(operation, value)
    assert len(emulator_of_hashes.answers) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": 0}, "times is 0; a whole number from 1 is wanted"),
        ({"times": -1}, "times is -1; a whole number from 1 is wanted"),
        ({"when": "q"}, "when is 'q'; a mapping of the request's fields or a function"),
        ({"when": {"user_promt": "q"}}, "sends no field 'user_promt'; those that it sends: "),
        ({"when": {"taken_since": MOMENT}}, "sends no field 'taken_since'"),
        ({"when": lambda entry: entry}, None),
    ],
)
def test_an_answer_that_would_never_be_given_is_refused(
    emulator_of_hashes: Emulator, options: dict[str, Any], message: str | None
) -> None:
    refused = pytest.raises(ConfigurationError, match=message) if message else nullcontext()
    with refused:
        emulator_of_hashes.answers.add("captions.image", text="x", **options)
    assert len(emulator_of_hashes.answers) == (message is None)


async def _async_condition(entry: object) -> bool:
    return False


def test_a_condition_that_nobody_would_await_is_refused(emulator_of_hashes: Emulator) -> None:
    """Its coroutine would be true of every request."""
    condition: Any = _async_condition
    with pytest.raises(ConfigurationError, match="when is an async function"):
        emulator_of_hashes.answers.add("captions.image", text="x", when=condition)


async def test_conditions_in_the_names_of_the_sdk(emulator: Emulator) -> None:
    """And of values that a form says as text."""
    answers = emulator.answers
    answers.add("captions.image", text="red", when={"prompt": "Which colour?", "thinking": True})
    answers.add("library.search_similar", [], when={"similarity": 0.5})
    answers.add("library.search", [], when={"query": "zoo", "camera_model": "X100", "top_k": 3})
    answers.add("library.videos", [{"video_no": "VI1"}], when={"name": "film"})
    answers.add("embeddings.text", [{"vector": [0.5]}], when={"texts": ["a"]})
    answers.add("library.add_images", [{"id": 7}], when={"latitude": 1.0, "tags": ["a", "b"]})
    async with client_for(emulator) as client:
        caption = await client.captions.image(PNG, "Which colour?", thinking=True)
        await client.library.search_similar(PNG, similarity=0.5)
        await client.library.search("zoo", camera_model="X100", top_k=3)
        numbers = [video.video_no async for video in client.library.videos(name="film")]
        [embedding] = await client.embeddings.text(["a"])
        [image] = await client.library.add_images(
            [PNG], latitude=1.0, longitude=2.0, tags=["a", "b"]
        )
        assert (await client.captions.image(PNG, "Which colour?")).text != "red"
    assert (caption.text, numbers, len(embedding.vector), image.id) == ("red", ["VI1"], 1, 7)


async def test_a_chosen_answer_does_not_hide_a_bad_request(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    emulator.answers.add("library.videos", [{"video_no": "VI1"}])
    emulator.answers.add("captions.image", text="A rabbit.")
    answer = await post(client, "/serve/api/v1/list_videos", {"page": 0})
    assert "page must be an integer" in str(answer["msg"])
    answer = await post(client, "/v1/understand/uploadImgFile", req_and_files({"user_prompt": "p"}))
    assert "Required part 'file' is not present." in str(answer["msg"])
    async with client.post(
        "/serve/api/v1/list_videos", json={}, headers={"Authorization": ""}
    ) as response:
        assert (await response.json())["code"] == "0401"
    emulator.assert_billed(0)


# --- time -------------------------------------------------------------------------------------


async def test_a_slow_answer_and_a_clock_that_is_turned(emulator: Emulator) -> None:
    emulator.latency = {"captions.video": 3600.0}
    async with client_for(emulator) as client:
        waiting = asyncio.create_task(client.captions.video(MP4, "p", system_prompt="s"))
        await until(lambda: emulator.clock.waiting)
        await client.embeddings.image(PNG)  # other calls are as fast as ever
        assert not waiting.done()
        emulator.clock.advance(3600)
        assert (await waiting).text


async def test_indexing_by_the_test_s_clock(emulator: Emulator) -> None:
    emulator.index_seconds = 600
    async with client_for(emulator) as client:
        video = await client.library.add_video(MP4)
        assert (await client.library.video(video.video_no)).status == "UNPARSE"
        emulator.clock.advance(601)
        assert (await client.library.video(video.video_no)).searchable


async def test_a_late_callback_by_the_test_s_clock(emulator: Emulator) -> None:
    emulator.callbacks.add(CallbackFault(None, Late(1800)))
    async with (
        CallbackInbox("http://application.example/memories", store=MemoryStore()) as inbox,
        client_for(emulator) as client,
    ):
        emulator.callbacks.deliver_to_asgi(asgi_app(inbox))
        task = await inbox.submit(
            lambda url: client.captions.submit_video(MP4, "p", system_prompt="s", callback=url)
        )
        await until(lambda: emulator.clock.waiting)
        assert not emulator.callbacks.posted
        emulator.clock.advance(1800)
        assert (await inbox.result(task.task_id, timeout=30)).text


def test_a_clock_is_never_turned_back(emulator_of_hashes: Emulator) -> None:
    before = emulator_of_hashes.clock()
    emulator_of_hashes.clock.advance(60)
    assert emulator_of_hashes.clock() - before >= 60
    for seconds in (-1, float("nan"), float("inf"), "60"):
        with pytest.raises(ConfigurationError, match="seconds"):
            emulator_of_hashes.clock.advance(seconds)
    emulator_of_hashes.clock.reset()
    assert abs(emulator_of_hashes.clock() - time.time()) < 30


LATENCIES: tuple[Any, ...] = (
    *("2", -1, float("nan"), None),
    *({"embeddings.imgae": 1}, {"embeddings.image": "2"}, {"embeddings.image": -1}, {1: 1}),
)


@pytest.mark.parametrize("seconds", LATENCIES, ids=repr)
def test_a_latency_that_is_none_is_refused(emulator_of_hashes: Emulator, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Emulator\.latency: "):
        emulator_of_hashes.latency = seconds
    assert emulator_of_hashes.latency == 0


@pytest.mark.parametrize("seconds", ["2", -1, float("nan"), None])
def test_an_index_time_that_is_none_is_refused(emulator_of_hashes: Emulator, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="a number of seconds from 0 is wanted"):
        emulator_of_hashes.index_seconds = seconds
    assert emulator_of_hashes.index_seconds == 0


# --- callbacks without a port -----------------------------------------------------------------


async def test_callbacks_into_an_asgi_application(emulator: Emulator) -> None:
    emulator.answers.add("captions.submit_video", text="A rabbit.")
    async with (
        CallbackInbox("https://application.example/memories", store=MemoryStore()) as inbox,
        client_for(emulator) as client,
    ):
        emulator.callbacks.deliver_to_asgi(asgi_app(inbox))
        task = await inbox.submit(
            lambda url: client.captions.submit_video(MP4, "p", system_prompt="s", callback=url)
        )
        assert (await inbox.result(task.task_id, timeout=30)).text == "A rabbit."
    [posted] = emulator.callbacks.posted
    assert posted.status == 200
    assert posted.url.startswith("https://application.example/memories/")


def test_callbacks_into_a_wsgi_application_in_blocking_code() -> None:
    from memories_async.emulator.engines.hashing import HashEngine

    with (
        Emulator(HashEngine()) as emulator,
        BlockingInbox("https://application.example/memories", store=MemoryStore()) as inbox,
        BlockingMemories("any", caption_key="any", base_url=emulator.url) as client,
    ):
        emulator.callbacks.deliver_to_wsgi(wsgi_app(inbox))
        emulator.callbacks.add(CallbackFault(None, Held()))
        task = inbox.submit(
            lambda url: client.captions.submit_video(MP4, "p", system_prompt="s", callback=url)
        )
        while not emulator.callbacks.held:
            time.sleep(0.001)
        emulator.call(emulator.callbacks.release)
        assert "A video of" in inbox.result(task.task_id, timeout=30).text
        emulator.assert_billed(1)


def test_callbacks_into_a_function() -> None:
    from memories_async.emulator.engines.hashing import HashEngine

    seen: list[tuple[str, bytes]] = []

    def receive(url: str, body: bytes) -> int:
        seen.append((url, body))
        return 204

    with (
        Emulator(HashEngine()) as emulator,
        BlockingMemories("any", caption_key="any", base_url=emulator.url) as client,
    ):
        emulator.callbacks.deliver_to(receive)
        client.captions.submit_video(
            MP4, "p", system_prompt="s", callback="https://application.example/done"
        )
        while not emulator.callbacks.posted:
            time.sleep(0.001)
    assert seen[0][0] == "https://application.example/done"
    assert emulator.callbacks.posted[0].status == 204


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("503 Service Unavailable", [])
    return [b""]


async def test_what_an_application_answers_is_recorded(emulator: Emulator) -> None:
    emulator.callbacks.deliver_to_wsgi(application)
    async with client_for(emulator) as client:
        await client.captions.submit_video(
            MP4, "p", system_prompt="s", callback="https://application.example/done"
        )
    await until(lambda: emulator.callbacks.posted)
    assert emulator.callbacks.posted[0].status == 503


# --- blocking code ----------------------------------------------------------------------------


def test_an_emulator_in_blocking_code() -> None:
    from memories_async.emulator.engines.hashing import HashEngine

    emulator = Emulator(HashEngine())
    with pytest.raises(RuntimeError, match="is for an emulator that is used in 'with'"):
        emulator.call(emulator.callbacks.release)
    for _ in range(2):
        with (
            emulator,
            BlockingMemories("any", caption_key="any", base_url=emulator.url) as client,
        ):
            client.embeddings.image(PNG)
    assert repr(emulator) == "<Emulator: stopped>"
    emulator.assert_billed(2, "embeddings.image")
    with pytest.raises(AssertionError, match=r"2 requests of embeddings\.image were billed, not 3"):
        emulator.assert_billed(3, "embeddings.image")


async def test_reset_forgets_all_but_the_address(emulator: Emulator) -> None:
    url = emulator.url
    emulator.answers.add("captions.image", text="x")
    emulator.latency = 5
    async with client_for(emulator) as client:
        emulator.latency = 0
        await client.library.add_video(MP4)
        emulator.index_seconds = 99
        emulator.clock.advance(99)
        emulator.reset()
        assert [video async for video in client.library.videos()] == []
    assert (len(emulator.ledger), len(emulator.answers), emulator.url) == (1, 0, url)
    assert emulator.index_seconds == 0
