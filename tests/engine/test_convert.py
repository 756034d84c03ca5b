"""From JSON to models: both spellings, int64 as text, "null" as text, unknown fields kept."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memories_async import (
    Caption,
    CaptionTask,
    Clip,
    Embedding,
    LibraryImage,
    Results,
    TokenUsage,
    UnexpectedShape,
    Vector,
    Video,
    _json,
    models,
)
from memories_async._engine.convert import structure
from memories_async.models import (
    Asset,
    AssetMetadata,
    Download,
    SearchHit,
    SignedUpload,
    Transcript,
    TranscriptLine,
)

BIG = 568102998803353601


def video(**fields: object) -> Video:
    return structure({"video_no": "VI1", **fields}, Video)


def test_both_spellings_of_every_field() -> None:
    snake = {
        "video_no": "VI1",
        "video_name": "a.mp4",
        "video_status": "PARSE",
        "upload_time": "1759039334664",
        "video_url": "https://a/b",
        "resolution_label": "720p",
    }
    camel = {
        "videoNo": "VI1",
        "videoName": "a.mp4",
        "videoStatus": "PARSE",
        "uploadTime": 1759039334664,
        "videoUrl": "https://a/b",
        "resolutionLabel": "720p",
    }
    ours = {
        "video_no": "VI1",
        "name": "a.mp4",
        "status": "PARSE",
        "created_at": 1759039334664,
        "url": "https://a/b",
        "resolution_label": "720p",
    }
    read = structure(snake, Video)
    assert read == structure(camel, Video) == structure(ours, Video)
    assert read.extra == {}
    assert read.created_at == datetime(2025, 9, 28, 6, 2, 14, 664000, tzinfo=UTC)
    assert structure([{"startTime": "467", "endTime": "501", "score": 0.5}], Results[Clip]) == [
        Clip(start_time=467.0, end_time=501.0, score=0.5)
    ]


def test_of_two_spellings_the_first_with_a_value_counts() -> None:
    assert video(create_time=None, uploadTime="1000").created_at == datetime(
        1970, 1, 1, 0, 0, 1, tzinfo=UTC
    )
    assert video(status="PARSE", video_status="UNPARSE").status == "PARSE"


@pytest.mark.parametrize("value", [BIG, str(BIG), f"-{BIG}", -BIG, 2**63 - 1, 10**30, "7", 7.0, 0])
def test_integers_are_exact(value: object) -> None:
    image = structure({"id": value}, LibraryImage)
    assert image.id == int(value)  # type: ignore[call-overload]  # a number or its text
    assert type(image.id) is int


@pytest.mark.parametrize(
    "value", [float(BIG), 2.0**53, 1.5, 1e300, True, "1.0", "", "null", "x", [1], {}, None]
)
def test_no_id_comes_out_of_a_float(value: object) -> None:
    with pytest.raises(UnexpectedShape):
        structure({"id": value}, LibraryImage)


@pytest.mark.parametrize("nothing", [None, "null", "", "None"])
def test_null_in_any_spelling(nothing: object) -> None:
    read = video(cause=nothing, duration=nothing, size=nothing, create_time=nothing, fps=nothing)
    assert read == Video(video_no="VI1")


@pytest.mark.parametrize("nothing", [None, "null", ""])
def test_null_where_a_field_may_be_left_out(nothing: object) -> None:
    """A caption is not thrown away for a count of tokens that nobody made."""
    read = structure({"text": "A cat", "token": {"input": nothing, "output": 6}}, Caption)
    assert read.tokens == TokenUsage(output=6)
    assert video(tags=nothing, size=nothing) == Video(video_no="VI1")


@pytest.mark.parametrize("nothing", [None, "", [], {}])
def test_nothing_found_in_any_spelling(nothing: object) -> None:
    assert structure(nothing, Transcript) == Transcript(lines=[])
    assert structure(nothing, Results[Clip]) == []


def test_numbers_as_text() -> None:
    read = video(duration="653", size="169612362", fps="29.97", width="1280", height=720)
    assert (read.duration, read.size, read.fps) == (653.0, 169612362, 29.97)
    assert (read.width, read.height) == (1280, 720)


def test_identifiers_may_come_as_numbers() -> None:
    assert structure({"task_id": BIG}, CaptionTask).task_id == str(BIG)
    assert video(video_no=17).video_no == "17"


def test_unknown_fields_are_kept_as_they_came() -> None:
    """Row 46 of the fault matrix."""
    read = structure(
        {"text": "A cat", "token": {"input": 1, "cached": "2"}, "processingTime": 12, "x": None},
        Caption,
    )
    assert read.extra == {"processingTime": 12, "x": None}
    assert read.tokens == TokenUsage(input=1, extra={"cached": "2"})


def test_a_caption_by_its_other_name_and_without_tokens() -> None:
    assert structure({"response": "A cat", "token": None}, Caption) == Caption(text="A cat")


def test_known_fields_are_filled_in_and_the_answer_wins() -> None:
    known = {"model": "mobileclip"}
    assert structure({"embedding": [1.0]}, Embedding, known).model == "mobileclip"
    assert structure({"embedding": [1.0], "model": "other"}, Embedding, known).model == "other"


def test_a_vector_is_float32_in_one_buffer() -> None:
    vector = structure({"embedding": [0.5, 1, -2.0], "model": "m"}, Embedding).vector
    assert type(vector) is Vector
    assert vector == [0.5, 1.0, -2.0]
    assert memoryview(vector).nbytes == 12


@pytest.mark.parametrize(
    "vector",
    [
        *(None, "0.5", {"0": 0.5}, [0.5, "0.5"], [0.5, None], [[0.5]], [{}]),
        *([], [0.5, True], [False], [1e39], [10**400], [math.nan], [math.inf], [0.5] * 9 + ["NaN"]),
        [0.5, "... (continues for vector length)"],  # the embedding page's own sample
    ],
)
def test_a_vector_of_other_things(vector: object) -> None:
    with pytest.raises(UnexpectedShape, match=r"Embedding: embedding|Embedding lacks"):
        structure({"embedding": vector, "model": "m"}, Embedding)


@pytest.mark.parametrize(
    ("data", "target", "says"),
    [
        ({}, Caption, "does not fit Caption: Caption lacks text"),
        ({"text": None}, Caption, "text"),
        ({"text": ["A", "cat"]}, Caption, r"text: \['A', 'cat'\] is not text"),
        ({"text": True}, Caption, "is not text"),
        ({"text": "A cat", "token": [1]}, Caption, "token: TokenUsage expects an object, not list"),
        ({"text": "A", "token": {"input": 1.5}}, Caption, "token: input: 1.5 is not an exact int"),
        (None, Caption, "Caption expects an object, not NoneType"),
        ([], CaptionTask, "CaptionTask expects an object, not list"),
        ({"start_time": 1, "end_time": 2}, Clip, "Clip lacks score"),
        ({"start_time": [1], "end_time": 2, "score": 3}, Clip, r"start_time: \[1\] is not a num"),
        ({"start_time": True, "end_time": 2, "score": 3}, Clip, "True is not a number"),
        ({"id": 1}, Results[LibraryImage], "the answer is not a list"),
        ("none", Results[LibraryImage], "the answer is not a list"),
        ([{"id": 1}, {}], Results[LibraryImage], "LibraryImage lacks id"),
        ([7], Results[Clip], "Clip expects an object, not int"),
        ({"video_no": "VI1", "create_time": "soon"}, Video, "create_time"),
        ({"video_no": "VI1", "create_time": 10**30}, Video, "create_time"),
        ({"video_no": "VI1", "create_time": "9" * 5000}, Video, "create_time"),
        ({"video_no": "VI1", "size": "9" * 5000}, Video, "size"),
        ({"name": "a.mp4"}, Video, "Video lacks video_no"),
    ],
)
def test_what_does_not_fit(data: object, target: type[object], says: str) -> None:
    with pytest.raises(UnexpectedShape, match=says):
        structure(data, target)


@pytest.mark.parametrize("nothing", ["", "null", "None", None])
@pytest.mark.parametrize(
    ("target", "field"),
    [
        (CaptionTask, "task_id"),
        (Video, "video_no"),
        (Asset, "asset_id"),
        (SignedUpload, "asset_id"),
        (LibraryImage, "id"),
    ],
)
def test_an_answer_without_the_identifier_lacks_it(
    target: type[models.Result], field: str, nothing: str | None
) -> None:
    data = {field: nothing, "signed_url": "https://example.com/"}
    with pytest.raises(UnexpectedShape, match=rf"{target.__name__} lacks {field}$") as caught:
        structure(data, target)
    assert caught.value.answer == data
    spelt = structure({**data, _camel_case(field): "7"}, target)
    assert str(getattr(spelt, field)) == "7"


def test_results_is_a_sequence_that_says_how_many_attempts() -> None:
    read = structure([{"id": 1}, {"id": "2"}], Results[LibraryImage])
    assert type(read) is Results
    assert read == [LibraryImage(id=1), LibraryImage(id=2)]
    assert read.attempts == 1


# Round trips: whatever a model holds comes back from the wire, in every spelling of its fields.

_TEXT = st.text(max_size=20)
_FILLED = _TEXT.filter(lambda text: text not in ("", "null", "None"))
_FLOAT = st.floats(allow_nan=False, allow_infinity=False)
_MOMENT = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(
    lambda moment: (moment - timedelta(microseconds=moment.microsecond % 1000)).replace(tzinfo=UTC)
)
_EXTRA = st.dictionaries(
    st.from_regex(r"extra_[a-z]{1,5}", fullmatch=True), _TEXT | st.integers(-(2**63), 2**63 - 1)
)
_TOKENS = st.builds(
    TokenUsage, input=st.integers(), output=st.integers(), total=st.integers(), extra=_EXTRA
)
_LINES = st.builds(
    TranscriptLine,
    content=_TEXT,
    start_time=st.none() | _FLOAT,
    end_time=st.none() | _FLOAT,
    index=st.none() | st.integers(),
    extra=_EXTRA,
)
_RECORDS = st.builds(
    AssetMetadata, status=st.none() | st.sampled_from(["WAITING", "SUCCESS"]), extra=_EXTRA
)
MODELS: dict[type[models.Result], st.SearchStrategy[Any]] = {
    TokenUsage: _TOKENS,
    Caption: st.builds(Caption, text=_TEXT, tokens=st.none() | _TOKENS, extra=_EXTRA),
    CaptionTask: st.builds(CaptionTask, task_id=_FILLED, extra=_EXTRA),
    LibraryImage: st.builds(LibraryImage, id=st.integers(), extra=_EXTRA),
    Clip: st.builds(Clip, start_time=_FLOAT, end_time=_FLOAT, score=_FLOAT, extra=_EXTRA),
    Embedding: st.builds(
        Embedding,
        vector=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1),
        model=_TEXT,
        extra=_EXTRA,
    ),
    Video: st.builds(
        Video,
        video_no=_FILLED,
        name=st.none() | _FILLED,
        status=st.none() | st.sampled_from(["UNPARSE", "PARSE", "FAIL"]),
        duration=st.none() | _FLOAT,
        size=st.none() | st.integers(),
        created_at=st.none() | _MOMENT,
        cause=st.none() | _FILLED,
        url=st.none() | _FILLED,
        width=st.none() | st.integers(),
        height=st.none() | st.integers(),
        fps=st.none() | _FLOAT,
        resolution_label=st.none() | _FILLED,
        tags=st.lists(_TEXT, max_size=3),
        datetime_taken=st.none() | _MOMENT,
        camera_model=st.none() | _FILLED,
        latitude=st.none() | _FLOAT,
        longitude=st.none() | _FLOAT,
        extra=_EXTRA,
    ),
    SearchHit: st.builds(
        SearchHit,
        video_no=st.none() | _FILLED,
        name=st.none() | _FILLED,
        start_time=st.none() | _FLOAT,
        end_time=st.none() | _FLOAT,
        score=st.none() | _FLOAT,
        text=st.none() | _FILLED,
        image_id=st.none() | st.integers(),
        url=st.none() | _FILLED,
        datetime_taken=st.none() | _MOMENT,
        camera_model=st.none() | _FILLED,
        latitude=st.none() | _FLOAT,
        longitude=st.none() | _FLOAT,
        extra=_EXTRA,
    ),
    TranscriptLine: _LINES,
    Transcript: st.builds(
        Transcript, lines=st.lists(_LINES, max_size=3), video_no=st.none() | _FILLED, extra=_EXTRA
    ),
    Asset: st.builds(Asset, asset_id=_FILLED, extra=_EXTRA),
    AssetMetadata: _RECORDS,
    SignedUpload: st.builds(
        SignedUpload,
        asset_id=_FILLED,
        signed_url=_TEXT,
        expires_in=st.none() | st.integers(),
        extra=_EXTRA,
    ),
    Download: st.builds(Download, path=_TEXT, size=st.integers(), content_type=_TEXT, extra=_EXTRA),
}


def _camel_case(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


def _on_the_wire(value: object, spell: Callable[[str], str], as_text: bool) -> object:
    """Say a value as the service might: other names, large numbers as text."""
    if isinstance(value, models.Result):
        said: dict[str, object] = dict(value.extra)
        for field in attrs.fields(type(value)):
            if not field.metadata.get("of_the_call"):
                names = field.metadata.get("wire", (field.name,))
                item = _on_the_wire(getattr(value, field.name), spell, as_text)
                said[spell(names[-1])] = item
        return said
    if isinstance(value, tuple):
        return [_on_the_wire(item, spell, as_text) for item in value]
    if isinstance(value, Vector):
        return value.tolist()
    if isinstance(value, datetime):
        value = round(value.timestamp() * 1000)
    if as_text and isinstance(value, int | float):
        return str(value)
    return value


@given(
    value=st.one_of(*MODELS.values()),
    spell=st.sampled_from([str, _camel_case]),
    as_text=st.booleans(),
)
def test_round_trip(value: models.Result, spell: Callable[[str], str], as_text: bool) -> None:
    read = structure(_on_the_wire(value, spell, as_text), type(value))
    assert read == value
    assert read.extra == value.extra


@given(value=st.one_of(*MODELS.values()))
def test_round_trip_through_json(value: models.Result) -> None:
    content = _json.dumps(_on_the_wire(value, str, as_text=True))
    assert structure(_json.loads(content), type(value)) == value


def test_every_model_is_covered() -> None:
    public = {
        value
        for value in vars(models).values()
        if isinstance(value, type) and issubclass(value, models.Result)
    }
    assert public - {models.Result} == set(MODELS)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(data=st.data())
def test_any_answer_is_a_model_or_an_unexpected_shape(data: st.DataObject) -> None:
    targets: list[type[object]] = [*MODELS, Results[Clip], Results[LibraryImage]]
    target = data.draw(st.sampled_from(targets))
    names = [
        name
        for model in MODELS
        for field in attrs.fields(model)
        for name in (field.name, *field.metadata.get("wire", ()))
    ]
    answer = data.draw(st.dictionaries(st.sampled_from(names), _JSON, max_size=6) | _JSON)
    with contextlib.suppress(UnexpectedShape):
        structure(answer, target)


def test_what_is_known_fills_what_an_answer_leaves_out() -> None:
    known = {"video_no": "VI1", "name": "a.mp4"}
    assert structure({"status": "PARSE"}, Video, known).video_no == "VI1"
    said = structure({"videoNo": "VI2", "name": None, "status": "PARSE"}, Video, known)
    assert (said.video_no, said.name) == ("VI2", "a.mp4")
    both = structure([{"status": "PARSE"}, {"videoNo": "VI3"}], Results[Video], known)
    assert [video.video_no for video in both] == ["VI1", "VI3"]
    with pytest.raises(UnexpectedShape):
        structure("VI1", Video, known)
