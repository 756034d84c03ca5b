"""Each neighbour by each way in: the exact request, and the typed result of the answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import attrs
import pytest

from memories_async import (
    Asset,
    AssetMetadata,
    ConfigurationError,
    Embedding,
    Media,
    Memories,
    Results,
    SearchHit,
    Transcript,
    TranscriptLine,
    UnexpectedShape,
    Video,
)
from memories_async.operations import OPERATIONS, Service
from tests.neighbours.conftest import FILM, KEY, PNG, v1, v2
from tests.operations.recorder import Part, Recorder, parts_of

pytestmark = pytest.mark.anyio

SINCE = datetime(2025, 9, 7, 22, 52, tzinfo=UTC)
V1 = "/serve/api/v1/"
V2 = "/serve/api/v2/"
NAMED = Media(FILM, name="film.mp4")
QUERY = Media(PNG, name="query.png")


@attrs.frozen(kw_only=True)
class Case:
    """One call, what it must send, what is answered and what it must return.

    Attributes:
        call: Namespace and method.
        args: Positional arguments.
        kwargs: Keyword arguments.
        sends: Method and path, with the query.
        content_type: Of the body, up to the boundary; empty where there is no body.
        body: The bytes, a JSON value to compare with, or the parts.
        answer: What the service answers.
        result: What the call must return.
    """

    call: str
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = attrs.field(factory=dict[str, object])
    sends: str
    content_type: str = ""
    body: object = b""
    answer: str
    result: object


JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

ADDED = '{"videoNo":"VI625239098370850816","videoName":"film.mp4"}'
VIDEO = Video("VI625239098370850816", "film.mp4")
RECORD = (
    '{"video_no":"VI1","video_name":"a.mp4","duration":"653","size":"169612362",'
    '"create_time":"1759039334664","status":"PARSE","cause":"null","tags":["zoo","api"]}'
)
LISTED = Video(
    "VI1",
    name="a.mp4",
    duration=653.0,
    size=169612362,
    created_at=datetime(2025, 9, 28, 6, 2, 14, 664000, tzinfo=UTC),
    status="PARSE",
    tags=("zoo", "api"),
)
PAGE = f'{{"videos":[{RECORD}],"current_page":1,"page_size":50,"total_count":"1"}}'
CLIPS = (
    '[{"videoNo":"VI1","videoName":"a.mp4","startTime":"467","endTime":"501","score":0.3},'
    '{"videoNo":"VI2","videoName":"b.mp4","startTime":"1","endTime":"null","score":"0.25",'
    '"video_bucket":"b"}]'
)
HITS = [
    SearchHit("VI1", "a.mp4", start_time=467.0, end_time=501.0, score=0.3),
    SearchHit("VI2", "b.mp4", start_time=1.0, score=0.25, extra={"video_bucket": "b"}),
]
IMAGES = (
    '{"item":[{"id":"568102998803353601","name":"a.png","img_url":"https://x/a.png",'
    '"score":0.5}],"current_page":0,"page_size":10,"total_count":"1"}'
)
TRANSCRIPT = (
    '{"videoNo":"VI1","transcriptions":'
    '[{"index":0,"content":"Nobody.","startTime":"0","endTime":"6"}]}'
)
LINES = Transcript([TranscriptLine("Nobody.", 0.0, 6.0, 0)], "VI1")

CASES = [
    Case(
        call="library.add_video",
        args=(NAMED,),
        kwargs={
            "unique_id": "mine",
            "folder_id": -1,
            "callback": "https://example.com/done?job=7",
            "datetime_taken": SINCE,
            "camera_model": "Leica",
            "latitude": 52.5,
            "longitude": -13.25,
            "tags": ["a", "b"],
            "retain_original_video": False,
            "video_transcription_prompt": "Name the animals",
        },
        sends=f"POST {V1}upload",
        content_type=MULTIPART,
        body=[
            Part("callback", b"https://example.com/done?job=7"),
            Part("unique_id", b"mine"),
            Part("folder_id", b"-1"),
            Part("datetime_taken", b"2025-09-07 22:52:00"),
            Part("camera_model", b"Leica"),
            Part("latitude", b"52.5"),
            Part("longitude", b"-13.25"),
            Part("tags", b"a"),
            Part("tags", b"b"),
            Part("retain_original_video", b"false"),
            Part("video_transcription_prompt", b"Name the animals"),
            Part("file", FILM, "film.mp4", "video/mp4"),
        ],
        answer=v1(ADDED),
        result=VIDEO,
    ),
    Case(
        call="library.add_video",
        args=("https://example.com/film.mp4?a=1&b=%2F",),
        kwargs={"tags": ["wild life", "é"], "retain_original_video": True, "folder_id": 7},
        sends=f"POST {V1}upload_url",
        content_type=FORM,
        body=(
            b"url=https%3A%2F%2Fexample.com%2Ffilm.mp4%3Fa%3D1%26b%3D%252F&folder_id=7"
            b"&tags=wild+life&tags=%C3%A9&retain_original_video=true"
        ),
        answer=v1(ADDED),
        result=VIDEO,
    ),
    Case(
        call="library.videos",
        kwargs={
            "name": "a.mp4",
            "video_nos": ["VI1"],
            "status": "PARSE",
            "camera_model": "Leica",
            "tag": "zoo",
            "taken_since": SINCE,
            "latitude": 52.5,
            "longitude": 13.25,
            "unique_id": "mine",
            "folder_id": 7,
            "page_size": 50,
        },
        sends=f"POST {V1}list_videos",
        content_type=JSON,
        body={
            "page": 1,
            "size": 50,
            "video_name": "a.mp4",
            "video_nos": ["VI1"],
            "status": "PARSE",
            "camera_model": "Leica",
            "tag": "zoo",
            "datetime_taken": 1757285520000,
            "latitude": 52.5,
            "longitude": 13.25,
            "unique_id": "mine",
            "folder_id": 7,
        },
        answer=v1(PAGE),
        result=[LISTED],
    ),
    Case(
        call="library.delete_videos",
        args=(["VI1", "VI2"],),
        kwargs={"unique_id": "a b"},
        sends=f"POST {V1}delete_videos?unique_id=a+b",
        content_type=JSON,
        body=["VI1", "VI2"],
        answer=v1("null"),
        result=None,
    ),
    Case(
        call="library.search",
        args=("a rabbit",),
        sends=f"POST {V1}search",
        content_type=JSON,
        body={"search_param": "a rabbit", "search_type": "BY_CLIP"},
        answer=v1(CLIPS),
        result=HITS,
    ),
    Case(
        call="library.search",
        args=("a rabbit",),
        kwargs={
            "by": "audio",
            "top_k": 5,
            "filtering_level": "high",
            "video_nos": ["VI1"],
            "tag": "zoo",
            "camera_model": "Leica",
            "taken_since": SINCE,
            "latitude": 52.5,
            "longitude": 13.25,
            "unique_id": "mine",
        },
        sends=f"POST {V1}search",
        content_type=JSON,
        body={
            "search_param": "a rabbit",
            "search_type": "BY_AUDIO",
            "top_k": 5,
            "filtering_level": "high",
            "video_nos": ["VI1"],
            "tag": "zoo",
            "camera_tag": "Leica",
            "datetime_taken": "2025-09-07 22:52:00",
            "latitude": 52.5,
            "longitude": 13.25,
            "unique_id": "mine",
        },
        answer=v1('[{"videoNo":"VI1","startTime":"1","endTime":"2","audio_ts":"Nobody."}]'),
        result=[SearchHit("VI1", start_time=1.0, end_time=2.0, text="Nobody.")],
    ),
    Case(
        call="library.search",
        args=("a rabbit",),
        kwargs={"by": "caption"},
        sends=f"POST {V1}search",
        content_type=JSON,
        body={"search_param": "a rabbit", "search_type": "BY_CAPTION"},
        answer=v1('[{"video_no":"VI1","text":"A rabbit.","start_time":1.5,"end_time":2}]'),
        result=[SearchHit("VI1", start_time=1.5, end_time=2.0, text="A rabbit.")],
    ),
    Case(
        call="library.search",
        args=("a rabbit",),
        kwargs={"by": "image"},
        sends=f"POST {V1}search",
        content_type=JSON,
        body={"search_param": "a rabbit", "search_type": "BY_IMAGE"},
        answer=v1(IMAGES),
        result=[
            SearchHit(name="a.png", image_id=568102998803353601, url="https://x/a.png", score=0.5)
        ],
    ),
    Case(
        call="library.search_similar",
        args=(QUERY,),
        kwargs={"similarity": 0.5, "unique_id": "mine"},
        sends=f"POST {V1}search_similar_images",
        content_type=MULTIPART,
        body=[
            Part("similarity", b"0.5"),
            Part("unique_id", b"mine"),
            Part("file", PNG, "query.png", "image/png"),
        ],
        answer=v1(f'{{"results":{CLIPS},"total":2}}'),
        result=HITS,
    ),
    Case(
        call="library.search_transcripts",
        args=("nobody",),
        kwargs={"page_size": 500, "unique_id": "mine"},
        sends=f"GET {V1}search_audio_transcripts?page=1&query=nobody&page_size=500&unique_id=mine",
        answer=v1(
            '{"videos":[{"videoNo":"VI1","videoName":"a","startTime":"4","audio_ts":"Nobody."}],'
            '"current_page":1,"page_size":500,"total_count":"1"}'
        ),
        result=[SearchHit("VI1", "a", start_time=4.0, text="Nobody.")],
    ),
    Case(
        call="library.audio_transcript",
        args=("VI1",),
        kwargs={"unique_id": "mine"},
        sends=f"GET {V1}get_audio_transcription?video_no=VI1&unique_id=mine",
        answer=v1(TRANSCRIPT),
        result=LINES,
    ),
    Case(
        call="library.video_captions",
        args=("VI1",),
        sends=f"GET {V1}get_video_caption?video_no=VI1",
        answer=v1(TRANSCRIPT),
        result=LINES,
    ),
    Case(
        call="assets.upload",
        args=(NAMED,),
        sends=f"POST {V2}upload",
        content_type=MULTIPART,
        body=[Part("file", FILM, "film.mp4", "video/mp4")],
        answer=v2('{"asset_id":"re_657466124521283584"}'),
        result=Asset("re_657466124521283584"),
    ),
    Case(
        call="assets.metadata",
        args=("re_1/é",),
        sends=f"GET {V2}re_1%2F%C3%A9/metadata",
        answer=v2('{"resource":[{"upload_status":"SUCCESS","size":7}]}'),
        result=AssetMetadata("SUCCESS", extra={"size": 7}),
    ),
    Case(
        call="embeddings.text",
        args=(["one", "two"],),
        kwargs={"dimensionality": 256},
        sends=f"POST {V2}embeddings/text",
        content_type=JSON,
        body={"input": ["one", "two"], "model": "gemini-embedding-001", "dimensionality": 256},
        answer=v2('[{"embedding":[1,0.5]},{"embedding":[0.25,0]}]'),
        result=[
            Embedding([1, 0.5], "gemini-embedding-001"),
            Embedding([0.25, 0], "gemini-embedding-001"),
        ],
    ),
    Case(
        call="embeddings.text",
        args=("one",),
        kwargs={"model": "another"},
        sends=f"POST {V2}embeddings/text",
        content_type=JSON,
        body={"input": ["one"], "model": "another"},
        answer=v2('[{"embedding":[1]}]'),
        result=[Embedding([1], "another")],
    ),
    Case(
        call="embeddings.video",
        args=("re_1",),
        sends=f"POST {V2}embeddings/video",
        content_type=JSON,
        body={"asset_id": "re_1", "model": "multimodalembedding@001"},
        answer=v2('{"embedding":[0.5]}'),
        result=Embedding([0.5], "multimodalembedding@001"),
    ),
]


async def made(client: Memories, case: Case) -> object:
    """Make the row's call; return all that comes of it."""
    returned = attrgetter(case.call)(client)(*case.args, **case.kwargs)
    if isinstance(returned, AsyncIterator):
        return [item async for item in returned]
    return await returned


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.call} {case.sends}")
async def test_the_request_and_the_result(case: Case, recorder: Recorder, client: Memories) -> None:
    recorder.answer(case.answer)
    result = await made(client, case)
    [request] = recorder.requests
    assert f"{request.method} {request.target}" == case.sends
    assert request.headers["Authorization"] == KEY
    content_type = request.headers.get("Content-Type", "")
    assert content_type.partition(";")[0] == case.content_type
    if case.content_type == MULTIPART:
        assert parts_of(content_type, request.body) == case.body
    elif case.content_type == JSON:
        # As text: in Python True == 1 and 1 == 1.0, on the wire they differ.
        sent = json.dumps(json.loads(request.body), sort_keys=True)
        assert sent == json.dumps(case.body, sort_keys=True)
    else:
        assert request.body == case.body
    assert result == case.result
    for read, wanted in zip(_items(result), _items(case.result), strict=True):
        assert read.extra == wanted.extra
    iterates = case.call in ("library.videos", "library.search_transcripts")
    if isinstance(case.result, list) and not iterates:
        assert type(result) is Results


def _items(value: object) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | Results) else [value]


def test_every_neighbour_is_here() -> None:
    elsewhere = {  # the ten of the five pages, what they need, downloads and signed addresses
        *("captions.image", "captions.video", "captions.submit_video", "embeddings.image"),
        *("library.add_images", "library.search_clips", "library.video"),
        *("library.download", "assets.download"),
    }
    rows = {row.call for row in OPERATIONS if row.service is not Service.STORAGE}
    assert rows - elsewhere == {case.call for case in CASES}


# What is refused before anything is sent.

REFUSED: list[tuple[str, tuple[object, ...], dict[str, object], str]] = [
    ("library.add_video", (NAMED,), {"tags": ["x"] * 21}, "tags: 21 given; the limit is 20"),
    ("library.add_video", (NAMED,), {"tags": "zoo"}, "tags is a sequence of texts"),
    ("library.add_video", (NAMED,), {"callback": "ftp://x/"}, "callback must be an http"),
    ("library.add_video", (NAMED,), {"callback": "http://x/" + "y" * 300}, "limit is 299"),
    ("library.add_video", (NAMED,), {"camera_model": "x" * 201}, "the limit is 200"),
    ("library.add_video", (NAMED,), {"latitude": 91}, "latitude must be between -90 and 90"),
    ("library.add_video", ("http://me:secret@x/a.mp4",), {}, "must not carry a user name"),
    ("library.videos", (), {"page_size": 0}, "page_size must be at least 1"),
    ("library.videos", (), {"video_nos": "VI1"}, "video_nos is a sequence of texts"),
    ("library.delete_videos", ("VI1",), {}, "video_nos is a sequence of texts"),
    ("library.download", (" ", "x"), {}, "video_no is empty"),
    ("library.search", (" ",), {}, "query is empty"),
    ("library.search", ("x",), {"by": "taste"}, "by is one of clip, audio, caption, image"),
    ("library.search", ("x",), {"top_k": 0}, "top_k must be between 1 and 1000"),
    ("library.search", ("x",), {"by": "caption", "top_k": 201}, "between 1 and 200"),
    ("library.search", ("x",), {"filtering_level": "all"}, "is one of low, medium, high"),
    ("library.search", ("x",), {"video_nos": ["VI1"] * 101}, "the limit is 100"),
    ("library.search_similar", (QUERY,), {"similarity": 1.1}, "must be between 0 and 1"),
    ("library.search_transcripts", (" ",), {}, "query is empty"),
    ("library.search_transcripts", ("x",), {"page_size": 501}, "must be between 1 and 500"),
    ("library.audio_transcript", ("",), {}, "video_no is empty"),
    ("library.video_captions", ("",), {}, "video_no is empty"),
    ("assets.upload", ("https://x/a.mp4",), {}, "takes a local file, not a URL"),
    ("assets.metadata", ("..",), {}, "in a path it means another place"),
    ("assets.download", (" . ", "x"), {}, "in a path it means another place"),
    ("assets.metadata", ("",), {}, "asset_id is empty"),
    ("embeddings.text", ([],), {}, "no text given"),
    ("embeddings.text", (["one", " "],), {}, r"texts[1] is empty"),
    ("embeddings.text", ("one",), {"model": ""}, "model is empty"),
    ("embeddings.video", ("",), {}, "asset_id is empty"),
]


@pytest.mark.parametrize(("call", "args", "kwargs", "says"), REFUSED)
async def test_refused_before_anything_is_sent(
    call: str,
    args: tuple[object, ...],
    kwargs: dict[str, object],
    says: str,
    recorder: Recorder,
    client: Memories,
) -> None:
    case = Case(call=call, args=args, kwargs=kwargs, sends="", answer="", result=None)
    with pytest.raises(ConfigurationError) as caught:
        await made(client, case)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert recorder.requests == []


@pytest.mark.parametrize("signed", [True, False])
async def test_a_missing_key_is_told_before_a_file_is_touched(
    recorder: Recorder, signed: bool
) -> None:
    async with Memories(caption_key="caption", base_url=recorder.url) as client:
        with pytest.raises(ConfigurationError, match="MEMORIES_API_KEY"):
            await client.assets.upload("no such file.mp4", signed=signed)


async def test_vectors_must_be_as_many_as_texts(recorder: Recorder, client: Memories) -> None:
    recorder.answer(v2('[{"embedding":[1]}]'))
    with pytest.raises(UnexpectedShape, match="1 vectors came for 2 texts"):
        await client.embeddings.text(["one", "two"])


async def test_an_asset_without_a_record(recorder: Recorder, client: Memories) -> None:
    recorder.answer(v2('{"resource":[]}'))
    with pytest.raises(UnexpectedShape, match="holds no record"):
        await client.assets.metadata("re_1")
