"""Every request and response sample of the pages, and the row of the tests that holds it."""

from __future__ import annotations

import json

import attrs
import pytest

from memories_async import (
    Caption,
    CaptionTask,
    Clip,
    Embedding,
    LibraryImage,
    MemoriesError,
    Results,
    UnexpectedShape,
)
from memories_async._engine.convert import structure
from memories_async._engine.envelope import decode
from memories_async.operations import OPERATIONS, PAGES
from tests.assets.cases import ASSET_CASES
from tests.captions.cases import IMAGE_CASES, VIDEO_CASES
from tests.embeddings.cases import EMBEDDING_CASES
from tests.library.cases import LIBRARY_CASES

CASES = {
    case.name: case
    for case in (*IMAGE_CASES, *VIDEO_CASES, *LIBRARY_CASES, *EMBEDDING_CASES, *ASSET_CASES)
}

IMAGE_PAGE = "platform/image-caption"
VIDEO_PAGE = "platform/video-caption"
UPLOAD_PAGE = "visual-search/upload-image-from-file"
CLIPS_PAGE = "platform/search-clips-by-image"
EMBEDDING_PAGE = "api-reference/embeddings/image-embedding"

# Page, the sample on it, and the row that makes exactly this request.
REQUESTS = (
    (IMAGE_PAGE, "curl: by URL", "image by URL: example 1a"),
    (IMAGE_PAGE, "example 1a: one image by URL", "image by URL: example 1a"),
    (IMAGE_PAGE, "example 1b: several images by URL", "several images by URL: example 1b"),
    (IMAGE_PAGE, "example 2a: one local file", "image by path: example 2a"),
    (IMAGE_PAGE, "example 2b: several local files", "several images by file: example 2b"),
    (IMAGE_PAGE, "example 3a: base64", "image as base64, by path: example 3a"),
    (
        VIDEO_PAGE,
        "curl: by URL, with a person",
        "video by URL, asynchronous, with a person: the page's curl example",
    ),
    (VIDEO_PAGE, "by URL", "video by URL, asynchronous: the page's example"),
    (VIDEO_PAGE, "by local file", "video by file, asynchronous: the page's example"),
    (
        UPLOAD_PAGE,
        "two images with all metadata",
        "images with all metadata, taken as text: the page's example",
    ),
    (CLIPS_PAGE, "curl and Python: one image", "clips: the page's example"),
    (EMBEDDING_PAGE, "JavaScript: file, then model", "embedding by path, default model"),
    (EMBEDDING_PAGE, "curl: model, then file", "embedding by path, default model"),
    (EMBEDDING_PAGE, "method 2: an asset", "embedding by asset, multimodalembedding@001"),
)


@attrs.frozen
class Answered:
    """A response sample: the page, what it is called there, its text and what it becomes."""

    page: str
    sample: str
    kind: object
    text: str
    value: object


MODEL = {"model": "m"}
PANEL = '{"code": "0000", "msg": "success", "data": {}, "success": true, "failed": false}'
"""What the documentation's generator prints where the schema says nothing of ``data``."""

RESPONSES = (
    Answered(
        IMAGE_PAGE,
        "response example",
        Caption,
        '{"code": 0, "msg": "success", "data": {"text": "It shows a person lying on the ground...",'
        '"token": {"input": 273, "output": 79, "total": 352}}}',
        CASES["image by URL: example 1a"].result,
    ),
    Answered(
        VIDEO_PAGE,
        "response example (async)",
        CaptionTask,
        '{"code": 0, "msg": "success", "data": {"task_id": "xxx"}}',
        CaptionTask("xxx"),
    ),
    Answered(
        VIDEO_PAGE,
        "response example (sync), without the comma that no parser takes",
        Caption,
        '{"code": 0, "msg": "success", "data": {"data": {"text": "A man enters the room and greets '
        'two colleagues..."}, "token": {"input": 123, "output": 456, "total": 579}}}',
        Caption.from_dict(
            {
                "text": "A man enters the room and greets two colleagues...",
                "tokens": {"input": 123, "output": 456, "total": 579},
            }
        ),
    ),
    Answered(
        UPLOAD_PAGE,
        "response example",
        Results[LibraryImage],
        '{"code": "0000", "msg": "success", "data": [{"id": 568102998803353601},'
        '{"id": 568102998803353602}], "success": true, "failed": false}',
        [LibraryImage(568102998803353601), LibraryImage(568102998803353602)],
    ),
    Answered(
        UPLOAD_PAGE,
        "generated example: ids as a browser rounds them",
        Results[LibraryImage],
        '{"code": "0000", "data": [{"id": 568102998803353600}, {"id": 568102998803353600}]}',
        [LibraryImage(568102998803353600), LibraryImage(568102998803353600)],
    ),
    Answered(
        CLIPS_PAGE,
        "response example",
        Results[Clip],
        '{"code": "0000", "msg": "success", "data": [{"start_time": 12.5, "end_time": 18.2, '
        '"score": 0.8631}, {"start_time": 42, "end_time": 47.8, "score": 0.8124}], '
        '"success": true, "failed": false}',
        [Clip(12.5, 18.2, 0.8631), Clip(42.0, 47.8, 0.8124)],
    ),
    Answered(CLIPS_PAGE, "first stored version: data is empty", Results[Clip], PANEL, []),
    Answered(
        EMBEDDING_PAGE,
        "response, without the text that stands for the other numbers",
        Embedding,
        '{"code": 200, "msg": "success", "data": {"embedding": [0.0234375, -0.015625, 0.0078125, '
        '0.0390625, -0.0234375]}, "success": true, "failed": false}',
        Embedding([0.0234375, -0.015625, 0.0078125, 0.0390625, -0.0234375], "m"),
    ),
    # Placeholders, not answers: refused, and what came is handed on.
    Answered(IMAGE_PAGE, "generated panel", Caption, PANEL, UnexpectedShape),
    Answered(VIDEO_PAGE, "generated panel", CaptionTask, PANEL, UnexpectedShape),
    Answered(
        EMBEDDING_PAGE,
        "response, with a text in the place of the other numbers",
        Embedding,
        '{"code": 200, "data": {"embedding": [0.0234375, "... (continues for vector length)"]}}',
        UnexpectedShape,
    ),
)


@pytest.mark.parametrize(("page", "sample", "row"), REQUESTS)
def test_every_request_sample_is_a_row(page: str, sample: str, row: str) -> None:
    case = CASES[row]  # test_calls.py makes it, in both colours
    pages = {operation.page for operation in OPERATIONS if operation.call == case.call}
    assert page in pages, f"{PAGES}{page}: {sample}"


@pytest.mark.parametrize("answered", RESPONSES, ids=lambda row: f"{row.page}: {row.sample}")
def test_every_response_sample_decodes(answered: Answered) -> None:
    try:
        data = decode(200, {}, answered.text.encode())
        value: object = structure(
            data, answered.kind, MODEL if answered.kind is Embedding else None
        )  # type: ignore[type-var]  # a type
    except MemoriesError as error:
        value = type(error)
    assert value == answered.value
    json.loads(answered.text)
