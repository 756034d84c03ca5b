"""Answers as they were recorded: each becomes the right value, or the right error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memories_async import (
    ApiError,
    Asset,
    AssetMetadata,
    AuthenticationError,
    BadRequest,
    CapacityReached,
    Caption,
    CaptionTask,
    Clip,
    Embedding,
    EndpointGone,
    LibraryImage,
    NotFound,
    RateLimited,
    Results,
    SearchHit,
    ServerError,
    TokenUsage,
    Transcript,
    TranscriptLine,
    Video,
)
from memories_async._engine.convert import structure
from memories_async._engine.envelope import decode
from memories_async._engine.request import State
from memories_async._engine.retry import Decision, judge
from memories_async.operations import OPERATIONS, Operation

FOLDER = Path(__file__).parent / "recorded"
ANSWERS: Mapping[str, Any] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
ROWS = {row.name: row for row in OPERATIONS}

VIDEO_1, VIDEO_3 = "VI00000000000000001", "VI00000000000000003"
CREATED = datetime(2025, 9, 28, 6, 2, 14, 664000, tzinfo=UTC)
MODEL = "multimodalembedding@001"

VALUES: Mapping[str, object] = {
    "list_videos_page": [
        Video(VIDEO_1, "talk", "PARSE", 653.0, 169612362, CREATED),
        Video(
            "VI00000000000000002",
            "clip",
            "FAIL",
            12.0,
            1048576,
            datetime(2025, 9, 28, 5, 56, 40, tzinfo=UTC),
            "unsupported codec",
        ),
    ],
    "list_videos_null": [],
    "search_by_clip": [
        SearchHit(VIDEO_1, "talk", 467.0, 501.0, 0.4185),
        SearchHit(VIDEO_1, "talk", 1.0, 12.0, 0.3),
    ],
    "search_nothing": [],
    "search_by_image": [
        SearchHit(
            name="beach.jpg",
            image_id=568102998803353601,
            url="https://storage.example.com/beach.jpg",
            datetime_taken=datetime(2025, 9, 7, 22, 52, tzinfo=UTC),
            camera_model="Canon EOS 5D",
            latitude=39.9042,
            longitude=116.4074,
            extra={"bucket": "b", "blob": "c"},
        )
    ],
    "clips_empty_object": [],
    "clips_with_bucket": [
        Clip(12.5, 18.2, 0.8631, extra={"video_bucket": "b", "video_blob": "v.mp4"})
    ],
    "similar_wrapped": [SearchHit(VIDEO_1, "talk", 5.0, None, 0.91)],
    "transcript": Transcript(
        Results(
            [TranscriptLine("Good morning.", 0.0, 6.0, 0), TranscriptLine("", 6.0, 7.0, 1)],
        ),
        VIDEO_1,
    ),
    "transcript_of_a_silent_video": Transcript(Results()),
    "upload_by_url": Video(VIDEO_3, "talk"),
    "upload_file": Video(VIDEO_3, "talk.mp4", "UNPARSE", created_at=CREATED),
    "delete": None,
    "image_ids_as_text": [LibraryImage(568102998803353601)],
    "success_without_a_code": [SearchHit(VIDEO_1, start_time=1.0, end_time=2.0, score=0.5)],
    "caption_sync": Caption("A man enters the room.", TokenUsage(123, 456, 579)),
    "caption_image": Caption("A cat.", TokenUsage(1, 2, 3)),
    "caption_submitted": CaptionTask("8e03075a-2230-4e67-98d4-ba53f37c807a"),
    "embedding": Embedding([0.0234375, -0.015625, 0.0078125, 0.0390625, -0.0234375], MODEL),
    "embedding_before_march_2026": Embedding([0.5], MODEL),
    "text_embeddings": [Embedding([0.5, 0.25], MODEL), Embedding([0.125, 1.0], MODEL)],
    "asset_metadata": [AssetMetadata("SUCCESS", extra={"mime_type": "video/mp4"})],
    "asset_uploaded": Asset("re_657466124521283584"),
    "transcripts_found": [SearchHit(VIDEO_1, "talk", start_time=12.0, text="Good morning.")],
}

# The error, and what becomes of the attempt: a billed call is sent again only after throttling.
REFUSALS: Mapping[str, tuple[type[ApiError], Decision]] = {
    "gone_upload_img": (EndpointGone, Decision.RAISE),
    "gone_search": (EndpointGone, Decision.RAISE),
    "throttled": (RateLimited, Decision.THROTTLED),
    "network_abnormal": (ServerError, Decision.UNKNOWN),
    "busy": (CapacityReached, Decision.RAISE),
    "clips_without_a_prompt": (BadRequest, Decision.RAISE),
    "caption_not_copied": (ApiError, Decision.RAISE),
    "caption_throttled": (RateLimited, Decision.THROTTLED),
    "caption_too_large": (BadRequest, Decision.RAISE),
    "asset_not_found": (NotFound, Decision.RAISE),
    "limit_text_of_a_refused_file": (BadRequest, Decision.RAISE),
    "unauthorized": (AuthenticationError, Decision.RAISE),
    "gateway": (ServerError, Decision.UNKNOWN),
}

# What the pipeline, not the decoder, reads from null: the page of the metadata says so.
ABSENT = {"metadata_of_an_unknown_video": "no such video"}


def read(name: str) -> object:
    """Decode a recorded answer to its operation's result."""
    answer = ANSWERS[name]
    row: Operation[Any] = ROWS[answer["operation"]]
    data = decode(answer["status"], {}, json.dumps(answer["body"]).encode())
    return structure(data, row.result, {"model": MODEL} if "embed" in row.name else None)


def test_every_recorded_answer_has_its_meaning() -> None:
    assert set(ANSWERS) == {*VALUES, *REFUSALS, *ABSENT}
    assert all(answer["evidence"] for answer in ANSWERS.values())


@pytest.mark.parametrize("name", VALUES)
def test_what_an_answer_becomes(name: str) -> None:
    value, expected = read(name), VALUES[name]
    assert value == expected
    pairs = zip(value, expected, strict=True) if isinstance(expected, list) else [(value, expected)]  # type: ignore[call-overload]  # lists
    for one, other in pairs:
        assert getattr(one, "extra", None) == getattr(other, "extra", None)


@pytest.mark.parametrize("name", REFUSALS)
def test_what_a_refusal_becomes(name: str) -> None:
    error, verdict = REFUSALS[name]
    with pytest.raises(ApiError) as caught:
        read(name)
    assert type(caught.value) is error
    row = ROWS[ANSWERS[name]["operation"]]
    if name != "asset_not_found":  # a free read, which is repeated where it may be
        assert judge(caught.value, State.SENT, row.replay, accept_double=False) is verdict


@pytest.mark.parametrize("name", ABSENT)
def test_where_null_means_that_nothing_is_there(name: str) -> None:
    assert ROWS[ANSWERS[name]["operation"]].null_means == ABSENT[name]
    assert {row.name for row in OPERATIONS if row.null_means} == {"get_video"}


def test_the_page_s_total_is_kept() -> None:
    page = read("list_videos_page")
    assert isinstance(page, Results)
    assert page.total == 31
    assert page.extra == {"current_page": 1, "page_size": 200, "total_count": "31"}
