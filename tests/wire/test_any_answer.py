"""Whatever JSON a server answers, every operation returns a value or raises an error of ours."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memories_async import (
    ApiError,
    CallOptions,
    MemoriesError,
    Results,
    UnexpectedShape,
)
from memories_async._engine.convert import structure
from memories_async._engine.envelope import decode
from memories_async.operations import OPERATIONS, Operation
from memories_async.results import Result
from tests.cases import PNG
from tests.recorder import Recorder
from tests.service import client, clock, recorder

__all__ = ["client", "clock", "recorder"]  # fixtures

pytestmark = pytest.mark.anyio

JSON_ROWS = [row for row in OPERATIONS if row.result is not type(None)]

_NUMBERS = st.integers() | st.floats() | st.integers(min_value=10**15, max_value=10**25)
_TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        "NaN",
        "inf",
        "-Infinity",
        "1e999",
        "null",
        "None",
        "9" * 400,
        "\x1b[31m",
        "2025-09-07",
        "0x10",
    ]
)
_WORDS = st.sampled_from(
    [
        *("text", "token", "tokens", "data", "id", "task_id", "start_time", "endTime", "score"),
        *("embedding", "vector", "video_no", "videoNo", "create_time", "size", "tags", "videos"),
        *("item", "results", "transcriptions", "lines", "resource", "asset_id", "signed_url"),
        *("total_count", "datetime_taken", "latitude", "upload_status", "expires_in", "extra"),
        *("attempts", "http", "path", "content_type", "index", "content", "model"),
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=12,
)


def read(row: Operation[Any], data: object) -> object:
    """Decode an answer with these data, as the engine does."""
    body = json.dumps({"code": "0000", "msg": "success", "data": data}).encode()
    return structure(decode(200, {}, body), row.result, {"model": "m"})


def attempted(row: Operation[Any], data: object) -> tuple[MemoriesError | None, object]:
    """Return the error or the value."""
    try:
        return None, read(row, data)
    except MemoriesError as error:
        return error, None


@settings(
    max_examples=4 * settings().max_examples,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(row=st.sampled_from(JSON_ROWS), data=_JSON)
def test_a_value_or_an_error_of_ours(row: Operation[Any], data: object) -> None:
    failure, value = attempted(row, data)
    if failure is not None:
        assert str(failure).isprintable()
        assert len(str(failure)) < 1500
        pickle.loads(pickle.dumps(failure))
        return
    assert repr(value).isprintable() or "\\x" not in repr(value)
    if isinstance(value, Result | Results):
        assert pickle.loads(pickle.dumps(value)) == value
        assert json.loads(value.to_json()) is not None


def deep(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


# Each was billed before it broke the reader with an exception of Python's own.
BROKEN: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("video", {"video_no": "VI1", "duration": deep(80)}),
    ("video", {"video_no": deep(80)}),
    ("video", {"video_no": "VI1", "create_time": 10**17}),
    ("video", {"video_no": "VI1", "create_time": "9" * 18}),
    ("video", {"video_no": "VI1", "create_time": -(10**18)}),
    ("video", {"video_no": "VI1", "duration": "NaN"}),
    ("video", {"video_no": "VI1", "fps": "inf"}),
    ("video", {"video_no": "VI1", "size": "9" * 5000}),
    ("video", {"video_no": "VI1", "tags": "zoo"}),
    ("video", {"video_no": "VI1", "datetime_taken": "2025-13-45 00:00:00"}),
)


@pytest.mark.parametrize(("call", "data"), BROKEN)
async def test_what_broke_the_reader(
    call: str, data: Mapping[str, object], recorder: Recorder, client: Any
) -> None:
    recorder.answer(json.dumps({"code": "0000", "data": data}))
    with pytest.raises(UnexpectedShape) as caught:
        await getattr(client.library, call)("VI1")
    assert len(str(caught.value)) < 800
    assert str(caught.value).isprintable()
    assert caught.value.answer == json.loads(json.dumps(data))


@pytest.mark.parametrize(
    "clip",
    [
        {"start_time": "NaN", "end_time": 2, "score": 0.5},
        {"start_time": 1, "end_time": "Infinity", "score": 0.5},
        {"start_time": 1, "end_time": 2, "score": "nan"},
        {"start_time": 1, "end_time": 2, "score": True},
        {"start_time": 1, "end_time": 2, "score": "1e999"},
    ],
)
async def test_times_and_scores_are_finite_numbers(
    clip: Mapping[str, object], recorder: Recorder, client: Any
) -> None:
    recorder.answer(json.dumps({"code": "0000", "data": [clip]}))
    with pytest.raises(UnexpectedShape, match="is not a number"):
        await client.library.search_clips("VI1", PNG, "red")


async def test_a_message_as_long_as_the_answer(recorder: Recorder, client: Any) -> None:
    said = "\x1b]0;owned\x07\r\n\x1b[2J" + "a" * 2_000_000
    recorder.answer(json.dumps({"code": "0001", "msg": said, "data": None}))
    with pytest.raises(ApiError) as caught:
        await client.library.video("VI1")
    assert len(str(caught.value)) < 700
    assert str(caught.value).isprintable()


# A key that a gateway echoes, however it is spelled, is in no answer, error, log or pickle.

KEY = "sk-mavi-a/b+c==0123456789"


def spellings() -> dict[str, str]:
    return {
        "as it is": KEY,
        "slashes escaped": KEY.replace("/", "\\/"),
        "equals signs escaped": KEY.replace("=", "\\u003d"),
        "in capitals": KEY.replace("=", "\\u003D").replace("+", "\\u002B"),
        "every character escaped": "".join(f"\\u{ord(c):04x}" for c in KEY),
    }


@pytest.mark.parametrize("spelling", spellings())
@pytest.mark.parametrize("kind", ["value", "refusal", "shape", "gateway"])
async def test_an_echoed_key_is_nowhere(
    spelling: str, kind: str, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    from memories_async import Memories

    caplog.set_level("DEBUG")
    echoed = spellings()[spelling]
    recorder.answer(
        {
            "value": f'{{"code":"0000","data":{{"video_no":"VI1","video_name":"{echoed}"}}}}',
            "refusal": f'{{"code":"0001","msg":"bad key {echoed}","data":null}}',
            "shape": f'{{"code":"0000","data":{{"name":"{echoed}"}}}}',
            "gateway": f'{{"path":"/x?key={echoed}"}}',
        }[kind]
    )
    options = CallOptions(attempts=1)
    async with Memories(KEY, base_url=recorder.url, options=options) as client:
        try:
            told: object = (await client.library.video("VI1")).to_json()
        except MemoriesError as error:
            told = f"{error} {error!r} {vars(error)}"
    assert KEY not in str(told)
    assert KEY not in str(told).encode().decode("unicode_escape", "ignore").replace("\\/", "/")
    assert KEY not in caplog.text


# Addresses that the service signs.


@pytest.mark.parametrize(
    "address",
    ["https://[::1", "https://", "//x", "ftp://x/", "http://x/", "https://a:b@[", ""],
)
async def test_a_signed_address_that_is_none(address: str, recorder: Recorder, client: Any) -> None:
    answer = {"code": 200, "data": {"asset_id": "re_1", "signed_url": address}}
    recorder.answer(json.dumps(answer))
    with pytest.raises(UnexpectedShape, match="signed address"):
        await client.assets.upload(PNG, signed=True)
    assert len(recorder.requests) == 1, "no file went anywhere"


# What users hand in that JSON or UTF-8 cannot carry.


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.captions.image(PNG, "\ud800"),
        lambda client: client.library.add_images(PNG, tags=["\ud800"]),
        lambda client: client.library.video("\ud800"),
        lambda client: client.library.search("x", unique_id="\udfff"),
        lambda client: client.embeddings.text("x", dimensionality=2**70),
        lambda client: client.library.videos(folder_id=2**63).__anext__(),
    ],
)
async def test_what_cannot_be_sent(
    call: Callable[[Any], Any], recorder: Recorder, client: Any
) -> None:
    with pytest.raises(MemoriesError):
        await call(client)
    assert recorder.requests == []


async def test_any_answer_by_wire(recorder: Recorder, client: Any) -> None:
    """A few of them through the whole engine: nothing of the connection is left behind."""
    calls: list[Callable[[], Any]] = [
        lambda: client.captions.image(PNG, "What?"),
        lambda: client.library.add_images(PNG),
        lambda: client.library.search("x"),
        lambda: client.library.audio_transcript("VI1"),
        lambda: client.embeddings.image(PNG),
        lambda: client.embeddings.text("x"),
        lambda: client.assets.metadata("re_1"),
        lambda: client.library.delete_videos(["VI1"]),
        lambda: anext(client.library.videos(), None),
    ]
    for data in (None, {}, [], "", 0, True, [[]], [{}], {"data": {}}, {"data": []}, {"videos": 5}):
        recorder.answer(json.dumps({"code": "0000", "data": data}))
        for call in calls:
            try:
                value = await call()
            except MemoriesError:
                continue
            assert value is None or isinstance(value, Result | Results)
