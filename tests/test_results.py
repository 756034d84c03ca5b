"""What comes back: it prints in a line, becomes JSON, tables and web answers, and travels."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import tracemalloc
from array import array
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
import numpy
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import memories_async
from memories_async import (
    Asset,
    Caption,
    CaptionTask,
    Clip,
    Embedding,
    Failed,
    HttpExchange,
    LibraryImage,
    Outcome,
    Results,
    SearchHit,
    Succeeded,
    TokenUsage,
    Transcript,
    TranscriptLine,
    UnexpectedShape,
    Vector,
    Video,
)
from memories_async._engine.convert import structure
from memories_async.results import Result, completed
from tests.engine.test_convert import MODELS

NUMBERS = [((number * 37) % 101 - 50) / 1000 for number in range(1408)]
VECTOR = Vector(NUMBERS)
EMBEDDING = Embedding(NUMBERS, "multimodalembedding@001")
CAPTION = Caption("A cat.", TokenUsage(1, 2, 3), extra={"processingTime": 12})
CLIPS = Results(
    [Clip(1.5, 2.0, 0.9, extra={"video_bucket": "b"}), Clip(3.0, 4.5, 0.25)],
    extra={"total_count": "2"},
)
WHEN = datetime(2025, 9, 28, 6, 2, 14, 664000, tzinfo=UTC)
VIDEO = Video("VI1", "talk", created_at=WHEN, tags=["zoo", "api"])
TALK = Transcript([TranscriptLine("Good morning.", 0.0, 6.0, 0)], "VI1")


def shown(value: object) -> str:
    """Return what rich prints."""
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print([value])
    return capture.get().strip()


# Printing.


@pytest.mark.parametrize("kind", [Asset, CaptionTask, Video])
def test_an_identifier_of_any_length_is_shown_in_a_line(
    kind: Callable[[str], memories_async.Result],
) -> None:
    assert len(repr(kind("x" * 1_000_000))) < 700
    assert "'re_657466124521283584'" in repr(kind("re_657466124521283584"))


def test_an_embedding_is_one_short_line_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    line = "Embedding(1408 numbers: -0.05, -0.013, …)"
    assert repr(EMBEDDING) == str(EMBEDDING) == line
    assert repr(VECTOR) == "Vector(1408 numbers: -0.05, -0.013, …)"
    assert shown(EMBEDDING) == f"[{line}]"
    assert line in repr(Outcome(0, "a.png", value=EMBEDDING))
    assert repr(Results([EMBEDDING])) == f"Results([{line}])"
    logging.getLogger("test").warning("%s", EMBEDDING)
    assert caplog.messages == [line]
    assert "<td>1408 numbers: -0.05, -0.013, …</td>" in EMBEDDING._repr_html_()


@pytest.mark.parametrize(
    ("numbers", "line"),
    [([], "no numbers"), ([0.5], "1 numbers: 0.5"), ([1, -2], "2 numbers: 1.0, -2.0")],
)
def test_short_vectors(numbers: list[float], line: str) -> None:
    assert repr(Vector(numbers)) == f"Vector({line})"


def test_many_results_are_a_short_line() -> None:
    many = Results(LibraryImage(number) for number in range(1000))
    assert repr(many) == (
        "Results([LibraryImage(id=0), LibraryImage(id=1), LibraryImage(id=2), … 997 more])"
    )
    assert many._repr_html_().count("<tr>") == 21
    assert "… 980 more" in many._repr_html_()


def test_an_outcome_does_not_print_a_picture() -> None:
    for outcome in (
        Outcome(7, b"x" * 10**6, value=CAPTION),
        Outcome(7, b"x" * 10**6, error=KeyError()),
    ):
        assert len(repr(outcome)) < 300
    assert repr(Outcome(7, "a.png", value=LibraryImage(1))) == (
        "Succeeded(index=7, source='a.png', value=LibraryImage(id=1))"
    )
    assert repr(Outcome(7, "a.png", error=KeyError("x"))) == (
        "Failed(index=7, source='a.png', error=KeyError('x'))"
    )


def test_a_notebook_shows_text_as_text() -> None:
    evil = Caption("<script>alert(1)</script>&", extra={"<b>": "<i>"})
    for shown in (evil._repr_html_(), Results([evil])._repr_html_()):
        assert "<script>" not in shown
        assert "<i>" not in shown
        assert "<b>&" not in shown
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in shown


# JSON.


@given(value=st.one_of(*MODELS.values()))
def test_json_and_back_loses_nothing(value: Result) -> None:
    kind = type(value)
    assert kind.from_dict(value.to_dict()) == value
    again = kind.from_json(value.to_json())
    assert again == value
    assert again.extra == value.extra
    assert again.to_json() == value.to_json()
    assert "\n" not in value.to_json()


def test_what_the_service_said_goes_round() -> None:
    said = {"text": "A cat.", "token": {"input": 1, "cached": "2"}, "processingTime": 12, "x": None}
    caption = structure(said, Caption)
    assert caption.to_dict() == {
        "text": "A cat.",
        "tokens": {"input": 1, "output": 0, "total": 0, "cached": "2"},
        "processingTime": 12,
        "x": None,
    }
    assert Caption.from_dict(caption.to_dict()) == caption
    assert json.loads(json.dumps(caption.to_dict())) == caption.to_dict()


def test_large_ids_and_times_stay_exact() -> None:
    assert LibraryImage.from_json(LibraryImage(2**62 + 1).to_json()).id == 2**62 + 1
    assert Video.from_json(VIDEO.to_json()).created_at == WHEN
    assert VIDEO.to_dict()["created_at"] == "2025-09-28T06:02:14.664000+00:00"
    assert VIDEO.to_dict()["tags"] == ["zoo", "api"]


def test_a_vector_goes_round_exactly() -> None:
    assert Embedding.from_json(EMBEDDING.to_json()) == EMBEDDING


def test_results_as_json() -> None:
    assert json.loads(CLIPS.to_json()) == CLIPS.to_dicts()
    assert CLIPS.to_dicts()[0] == {
        "start_time": 1.5,
        "end_time": 2.0,
        "score": 0.9,
        "video_bucket": "b",
    }


def test_what_is_no_answer_is_refused_by_name() -> None:
    with pytest.raises(UnexpectedShape, match="Caption lacks text") as caught:
        Caption.from_dict({"txt": "A cat."})
    assert caught.value.answer == {"txt": "A cat."}
    with pytest.raises(ValueError, match="Expecting"):
        Caption.from_json("{")


# Mappings, tables, web frameworks.


def test_a_result_is_a_mapping_of_its_fields() -> None:
    assert isinstance(CAPTION, Mapping)
    assert dict(CAPTION) == {"text": "A cat.", "tokens": CAPTION.tokens, "processingTime": 12}
    assert list(CAPTION) == ["text", "tokens", "processingTime"]
    assert len(CAPTION) == 3
    assert {**EMBEDDING}["vector"] == VECTOR.tolist()
    assert type(EMBEDDING["vector"]) is list
    assert CAPTION.get("nothing") is None
    with pytest.raises(KeyError):
        CAPTION["attempts"]


def test_pandas_and_polars_see_columns() -> None:
    import pandas  # both take long to load, and each process collects this file
    import polars

    for frame in (pandas.DataFrame(CLIPS), pandas.DataFrame(CLIPS.to_table())):
        # pandas before 3 sorts the columns of mappings that are no dicts.
        assert set(frame.columns) == {"start_time", "end_time", "score", "video_bucket"}
        assert frame["score"].tolist() == [0.9, 0.25]
    for other in (polars.DataFrame(CLIPS), polars.DataFrame(CLIPS.to_table())):
        assert other.columns == ["start_time", "end_time", "score", "video_bucket"]
        assert other["end_time"].to_list() == [2.0, 4.5]
    videos = pandas.DataFrame(Results([VIDEO]))
    assert videos["created_at"].iloc[0] == pandas.Timestamp(WHEN)
    embedded = pandas.DataFrame(Results([EMBEDDING, EMBEDDING]))
    assert set(embedded.columns) == {"vector", "model"}
    assert pandas.DataFrame(TALK.lines)["content"].tolist() == ["Good morning."]
    assert Results().to_table() == {}


def test_fastapi_returns_results_as_they_are() -> None:
    from fastapi import FastAPI
    from httpx import ASGITransport, AsyncClient

    app = FastAPI()

    @app.get("/plain")
    async def plain() -> Any:
        return CAPTION

    @app.get("/typed")
    async def typed() -> Caption:
        return CAPTION

    @app.get("/untyped", response_model=None)
    async def untyped() -> Caption:
        return CAPTION

    @app.get("/clips")
    async def clips() -> Results[Clip]:
        return CLIPS

    @app.get("/listed")
    async def listed() -> list[Clip]:
        return list(CLIPS)

    @app.get("/embedding")
    async def embedding() -> Embedding:
        return EMBEDDING

    @app.get("/embedding/untyped", response_model=None)
    async def embedding_untyped() -> Embedding:
        return EMBEDDING

    @app.get("/all", response_model=None)
    async def everything() -> object:
        return {"video": VIDEO, "talk": TALK, "clips": CLIPS}

    @app.post("/back")
    async def back(caption: Caption) -> Caption:
        assert type(caption) is Caption
        return caption

    async def ask() -> None:
        transport = ASGITransport(app=app)
        async with AsyncClient(transport=transport, base_url="http://here") as client:
            for path in ("/plain", "/typed", "/untyped"):
                assert (await client.get(path)).json() == CAPTION.to_dict(), path
            for path in ("/clips", "/listed"):
                assert (await client.get(path)).json() == CLIPS.to_dicts(), path
            for path in ("/embedding", "/embedding/untyped"):
                assert (await client.get(path)).json() == EMBEDDING.to_dict(), path
            said = (await client.get("/all")).json()
            assert said["clips"] == CLIPS.to_dicts()
            assert said["video"]["tags"] == ["zoo", "api"]
            assert datetime.fromisoformat(said["video"]["created_at"]) == WHEN
            assert said["talk"]["lines"][0]["content"] == "Good morning."
            assert (await client.post("/back", json=CAPTION.to_dict())).json() == CAPTION.to_dict()
            assert (await client.get("/openapi.json")).status_code == 200

    asyncio.run(ask())


def test_a_task_queue_carries_results() -> None:
    # kombu, which Celery serialises with, asks for __json__; its other serialiser is pickle.
    encoder = json.JSONEncoder(default=lambda value: value.__json__())
    assert json.loads(encoder.encode({"caption": CAPTION})) == {"caption": CAPTION.to_dict()}
    assert CLIPS.__json__() == CLIPS.to_dicts()
    for value in (CAPTION, CLIPS, EMBEDDING, VIDEO, TALK, Outcome(1, "a", value=CAPTION)):
        assert pickle.loads(pickle.dumps(value)) == value


# Results.


def test_results_are_a_sequence_that_cannot_be_changed() -> None:
    assert [CLIPS[0], CLIPS[1]] == CLIPS
    assert (CLIPS[0], CLIPS[1]) == CLIPS
    assert [CLIPS[0]] != CLIPS
    assert CLIPS != 5
    assert [CLIPS[0], CLIPS[1]] == CLIPS
    assert CLIPS[-1] in CLIPS
    assert CLIPS.index(CLIPS[1]) == 1
    with pytest.raises(AttributeError):
        CLIPS.attempts = 5
    with pytest.raises(AttributeError):
        CLIPS.append(CLIPS[0])  # type: ignore[attr-defined]  # that is the point
    with pytest.raises(TypeError):
        CLIPS[0] = CLIPS[1]  # type: ignore[index]  # that is the point
    assert [clip.score for clip in sorted(CLIPS, key=lambda clip: clip.score)] == [0.25, 0.9]


def test_results_keep_what_came_beside_them() -> None:
    http = HttpExchange(status=200, headers={"x-request-id": "1"}, seconds=0.5, digest="abc")
    told = completed(CLIPS, attempts=3, http=http)
    for same in (told[:1], copy.copy(told), copy.deepcopy(told), pickle.loads(pickle.dumps(told))):
        assert type(same) is Results
        assert (same.extra, same.attempts, same.http) == ({"total_count": "2"}, 3, http)
    assert told == CLIPS
    assert told.total == 2
    caption = completed(CAPTION, attempts=3, http=http)
    assert caption == CAPTION
    assert (caption.attempts, caption.http, caption.extra) == (3, http, CAPTION.extra)
    assert "http" not in repr(caption)
    assert caption.to_dict() == CAPTION.to_dict()
    assert completed(None, attempts=2) is None


@pytest.mark.parametrize(
    ("extra", "total"),
    [
        ({"total_count": "31"}, 31),
        ({"total": 7}, 7),
        ({"total_count": "many"}, None),
        ({"total_count": None}, None),
        ({"total_count": "9" * 5000}, None),
        ({}, None),
    ],
)
def test_the_total_where_there_is_one(extra: dict[str, object], total: int | None) -> None:
    assert Results([], extra=extra).total == total


# Vectors.


def test_numpy_reads_a_vector_without_a_copy() -> None:
    numbers = numpy.asarray(VECTOR)
    assert numbers.dtype == numpy.float32
    assert numbers.shape == (1408,)
    assert numpy.shares_memory(numbers, numpy.asarray(VECTOR))
    assert memoryview(VECTOR).nbytes == 5632


def test_a_vector_is_a_sequence_of_floats() -> None:
    vector = Vector([0.5, 1, -2.25])
    assert len(vector) == 3
    assert list(vector) == vector.tolist() == [0.5, 1.0, -2.25]
    assert vector[0] == 0.5
    assert vector[1:] == [1.0, -2.25]
    assert type(vector[1:]) is Vector
    assert vector == (0.5, 1.0, -2.25)
    assert vector == array("f", [0.5, 1.0, -2.25])
    assert vector != [0.5, 1.0]
    assert vector != ["a", "b", "c"]
    assert vector != "abc"
    assert Vector([0.1]) == [0.1]  # as float32
    assert type(vector.tolist()) is list
    assert sum(vector) == -0.75


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_vector_pickles(protocol: int) -> None:
    same = pickle.loads(pickle.dumps(VECTOR, protocol))
    assert type(same) is Vector
    assert same == VECTOR
    assert copy.copy(VECTOR) is copy.deepcopy(VECTOR) is VECTOR


def test_a_vector_cannot_be_changed() -> None:
    vector = Vector([0.5, 1.0])
    for change in (
        lambda: vector.append(1.0),
        lambda: vector.extend([1.0]),
        lambda: vector.__setitem__(0, 1.0),
        lambda: vector.pop(),
        lambda: vector.fromlist([1.0]),
        lambda: vector.byteswap(),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    with pytest.raises(TypeError):
        hash(vector)
    assert vector == [0.5, 1.0]


def test_an_embedding_takes_at_most_6_kilobytes() -> None:
    data = {"embedding": NUMBERS, "model": "multimodalembedding@001"}
    structure(data, Embedding)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = [structure(dict(data), Embedding) for _ in range(500)]
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / len(kept) <= 6 * 1024


# Outcomes.


def test_outcomes_are_two_kinds_of_one() -> None:
    value, error = Outcome(0, "a", value=CAPTION), Outcome(1, "b", error=KeyError("x"))
    assert type(value) is Succeeded
    assert type(error) is Failed
    assert isinstance(value, Outcome)
    assert isinstance(error, Outcome)
    assert (value.value, value.error) == (CAPTION, None)
    assert error.value is None
    assert value.unwrap() is CAPTION
    with pytest.raises(KeyError):
        error.unwrap()
    assert Outcome(0, "a", CAPTION) == value
    assert Outcome(index=0, source="a", value=CAPTION, error=None) == value
    for outcome in (value, error):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            outcome.value = 5
    assert pickle.loads(pickle.dumps(value)) == value
    assert repr(pickle.loads(pickle.dumps(error))) == repr(error)
    assert Outcome[Caption]  # as annotations have it


def test_outcomes_match() -> None:
    def told(outcome: Outcome[Caption]) -> str:
        match outcome:
            case Succeeded(value=caption):
                return caption.text
            case Failed(error=error):
                return repr(error)

    assert told(Outcome(0, "a", value=CAPTION)) == "A cat."
    assert told(Outcome(0, "a", error=KeyError("x"))) == "KeyError('x')"


def test_every_public_result_can_travel() -> None:
    results = [
        value
        for name in memories_async.__all__
        if isinstance(value := getattr(memories_async, name), type)
        and issubclass(value, Result)
        and value is not Result
    ]
    assert len(results) >= 13
    for kind in results:
        assert attrs.has(kind)
        assert kind in MODELS


def test_a_hit_without_a_number_is_one() -> None:
    assert SearchHit.from_dict({"name": "a.png", "id": "7"}).image_id == 7


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Caption, {"tex": 5}), (Caption, 5), (Results[Clip], [{"score": 1}]), (Results[Clip], 5)],
)
def test_what_pydantic_cannot_read_is_refused_as_it_refuses(kind: Any, value: object) -> None:
    """FastAPI answers 422 then, not 500."""
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(kind).validate_python(value)


def test_a_set_holds_results() -> None:
    clip = Clip(start_time=1.0, end_time=2.0, score=0.5, extra={"more": [1]})
    same = Clip(start_time=1.0, end_time=2.0, score=0.5, extra={"more": [1]})
    other = Clip(start_time=1.0, end_time=2.0, score=0.5)
    assert {clip, same, other} == {clip, other}
    assert len({Results([clip]), Results([same])}) == 1


def test_json_nested_too_deeply_is_refused_as_json() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        Caption.from_json('{"text": "x", "more": ' + "[" * 100_000 + "]" * 100_000 + "}")


def test_what_came_beside_the_fields_cannot_be_changed() -> None:
    given = {"more": 1}
    clip = Clip(start_time=1.0, end_time=2.0, score=0.5, extra=given)
    given["more"] = 2
    assert clip.extra == {"more": 1}
    extra: Any = clip.extra
    for change in (
        lambda: extra.update(more=3),
        lambda: extra.pop("more"),
        lambda: extra.__setitem__("more", 3),
        lambda: extra.__ior__({"more": 3}),
        lambda: extra.clear(),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    for same in (pickle.loads(pickle.dumps(clip)), copy.deepcopy(clip), copy.copy(clip)):
        assert same == clip
        assert same.extra == {"more": 1}
    assert json.loads(json.dumps(extra)) == {"more": 1}
    assert dict(extra) | {"more": 4} == {"more": 4}
    results: Any = Results([clip], extra={"total": 1})
    with pytest.raises(TypeError, match="cannot be changed"):
        results.extra["total"] = 2
