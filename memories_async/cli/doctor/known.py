"""What a successful answer of each operation looks like, as documented and recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from memories_async.cli.doctor.shapes import Shape

ExpectedAnswer: TypeAlias = tuple[int, str, int | str, Shape]
"""HTTP status, Content-Type, the envelope's code, and the shape of the whole answer."""

JSON = "application/json"
_TOKEN: Shape = {"input": "number", "output": "number", "total": "number"}
_VIDEO: Mapping[str, Shape] = {
    "video_no": "text",
    "video_name": "text",
    "duration": "text",
    "size": "text",
    "create_time": "text",
    "status": "text",
    "cause": "text",
    "camera_model?": "text",
    "latitude?": "number",
    "longitude?": "number",
    "datetime_taken?": "text",
    "tags?": ["text"],
}
_HIT: Shape = {
    "videoNo": "text",
    "videoName": "text",
    "startTime": "text",
    "endTime?": "text",
    "score?": "number",
}


def _captioned(data: Shape) -> ExpectedAnswer:
    return 200, JSON, 0, {"code": "number", "msg": "text", "data": data}


def _library(data: Shape) -> ExpectedAnswer:
    flags: Mapping[str, Shape] = {"success": "boolean", "failed": "boolean"}
    return 200, JSON, "0000", {"code": "text", "msg": "text", "data": data, **flags}


def _intelligence(data: Shape) -> ExpectedAnswer:
    flags: Mapping[str, Shape] = {"success": "boolean", "failed": "boolean"}
    return 200, JSON, 200, {"code": "number", "msg": "text", "data": data, **flags}


def _page(item: Shape) -> Shape:
    numbers: Mapping[str, Shape] = {"current_page": "number", "page_size": "number"}
    return {"videos": [item], **numbers, "total_count": "text"}


_TRANSCRIPT: Shape = {
    "videoNo": "text",
    "transcriptions": [
        {"index": "number", "content": "text", "startTime": "text", "endTime": "text"}
    ],
}

ANSWERS: Mapping[str, ExpectedAnswer] = {
    "caption_image_url": _captioned({"text": "text", "token": _TOKEN}),
    "caption_video_url": _captioned({"data": {"text": "text"}, "token": _TOKEN}),
    "submit_video_file": _captioned({"task_id": "text"}),
    "submit_video_url": _captioned({"task_id": "text"}),
    "caption_image_file": _captioned({"text": "text", "token": _TOKEN}),
    "caption_image_base64": _captioned({"text": "text", "token": _TOKEN}),
    "caption_video_file": _captioned({"data": {"text": "text"}, "token": _TOKEN}),
    "add_images": _library([{"id": "number"}]),
    "add_video_file": _library(
        {"videoNo": "text", "videoName": "text", "videoStatus": "text", "uploadTime": "text"}
    ),
    "search_clips": _library([{"start_time": "number", "end_time": "number", "score": "number"}]),
    "search_library": _library([_HIT]),
    "search_similar": _library([_HIT]),
    "search_transcripts": _library(_page("null")),
    "list_videos": _library(_page(_VIDEO)),
    "get_video": _library(
        {
            **_VIDEO,
            "width?": "number",
            "height?": "number",
            "fps?": "number",
            "resolution_label?": "text",
        }
    ),
    "delete_videos": _library("null"),
    "add_video_url": _library(
        {"videoNo": "text", "videoName": "text", "videoStatus": "text", "uploadTime": "text"}
    ),
    "get_audio_transcript": _library("null"),
    "get_video_captions": _library(_TRANSCRIPT),
    "embed_image_asset": _intelligence({"embedding": ["number"]}),
    "sign_upload": _intelligence(
        {"asset_id": "text", "signed_url": "text", "expires_in?": "number"}
    ),
    "embed_image_file": _intelligence({"embedding": ["number"]}),
    "embed_texts": _intelligence([{"embedding": ["number"]}]),
    "upload_asset": _intelligence({"asset_id": "text"}),
    "get_asset": _intelligence({"resource": [{"upload_status": "text"}]}),
    "embed_video": _intelligence({"embedding": ["number"]}),
}
"""By the name of the operation; a field that ends in ``?`` may be missing."""
