"""The library and embedding pages' own examples, as rows.

https://api-tools.memories.ai/visual-search/upload-image-from-file
https://api-tools.memories.ai/platform/search-clips-by-image
https://api-tools.memories.ai/api-reference/embeddings/image-embedding
"""

from __future__ import annotations

from datetime import UTC, datetime

from memories_async import Clip, Embedding, LibraryImage, Video
from tests.operations.cases import (
    GENERAL_KEY,
    JPEG,
    MP4,
    PNG,
    Case,
    content,
    in_memory,
    named,
    opened,
    path,
    path_object,
)
from tests.operations.recorder import Part

SEARCH_HOST = "api.memories.ai"
INTELLIGENCE_HOST = "mavi-backend.memories.ai"

ADD_IMAGES_ANSWER = """
{
"code": "0000",
"msg": "success",
"data": [
{ "id": 568102998803353601 },
{ "id": 568102998803353602 }
],
"success": true,
"failed": false
}
"""
TWO_IMAGES = [LibraryImage(id=568102998803353601), LibraryImage(id=568102998803353602)]

CLIPS_ANSWER = """
{
    "code": "0000",
    "msg": "success",
    "data": [
        {
            "start_time": 12.5,
            "end_time": 18.2,
            "score": 0.8631
        },
        {
            "start_time": 42.0,
            "end_time": 47.8,
            "score": 0.8124
        }
    ],
    "success": true,
    "failed": false
}
"""
TWO_CLIPS = [
    Clip(start_time=12.5, end_time=18.2, score=0.8631),
    Clip(start_time=42.0, end_time=47.8, score=0.8124),
]

# The page ends the vector with the text "... (continues for vector length)".
EMBEDDING_ANSWER = """
{
  "code": 200,
  "msg": "success",
  "data": {
    "embedding": [
      0.0234375,
      -0.015625,
      0.0078125,
      0.0390625,
      -0.0234375
    ]
  },
  "success": true,
  "failed": false
}
"""
VECTOR = [0.0234375, -0.015625, 0.0078125, 0.0390625, -0.0234375]

ADD_VIDEO_ANSWER = """
{
  "code": "0000",
  "msg": "success",
  "data": {
    "videoNo": "VI625239098370850816",
    "videoName": "video.mp4",
    "videoStatus": "UNPARSE",
    "uploadTime": "1759039334664"
  },
  "success": true,
  "failed": false
}
"""
VIDEO_ANSWER = """
{
  "code": "0000",
  "msg": "success",
  "data": {
    "video_no": "VI625239098370850816",
    "video_name": "video.mp4",
    "duration": "653",
    "size": "169612362",
    "create_time": "1759039334664",
    "status": "PARSE",
    "cause": "null",
    "resolution_label": "720p",
    "fps": 25.0,
    "width": 1280,
    "height": 720,
    "tags": ["api"]
  },
  "success": true,
  "failed": false
}
"""
UPLOADED_AT = datetime(2025, 9, 28, 6, 2, 14, 664000, tzinfo=UTC)

_FILES = (
    Part("files", JPEG, "photo1.jpg", "image/jpeg"),
    Part("files", PNG, "photo2.png", "image/png"),
)
_METADATA = (
    Part("unique_id", b"my-project"),
    Part("datetime_taken", b"2025-09-07 22:52:00"),
    Part("camera_model", b"Canon EOS 5D"),
    Part("latitude", b"39.9042"),
    Part("longitude", b"116.4074"),
    Part("tags", b"outdoor"),
    Part("tags", b"2025"),
)

LIBRARY_CASES = (
    *(
        Case(
            name=f"images with all metadata, taken as {way}: the page's example",
            call="library.add_images",
            args=([path("photo1.jpg"), path("photo2.png")],),
            kwargs={
                "unique_id": "my-project",
                "datetime_taken": taken,
                "camera_model": "Canon EOS 5D",
                "latitude": 39.9042,
                "longitude": 116.4074,
                "tags": ["outdoor", "2025"],
            },
            host=SEARCH_HOST,
            path="/serve/api/v1/upload_img",
            key=GENERAL_KEY,
            parts=(*_METADATA, *_FILES),
            answer=ADD_IMAGES_ANSWER,
            result=TWO_IMAGES,
        )
        for way, taken in (
            ("text", "2025-09-07 22:52:00"),
            ("a moment", datetime(2025, 9, 7, 22, 52)),  # the camera's own time
        )
    ),
    Case(
        name="images without metadata, in every local way",
        call="library.add_images",
        args=(
            (
                path_object("photo1.jpg"),
                opened("photo2.png"),
                content("photo1.jpg"),
                in_memory("photo2.png"),
                named("photo1.jpg", "beach.JPG", "image/jpeg"),
            ),
        ),
        host=SEARCH_HOST,
        path="/serve/api/v1/upload_img",
        key=GENERAL_KEY,
        parts=(
            *_FILES,
            Part("files", JPEG, "image.jpg", "image/jpeg"),
            Part("files", PNG, "image.png", "image/png"),
            Part("files", JPEG, "beach.JPG", "image/jpeg"),
        ),
        answer='{"code":"0000","data":[{"id":1},{"id":2},{"id":3},{"id":"4"},{"id":5}]}',
        result=[LibraryImage(id=number) for number in range(1, 6)],
    ),
    Case(
        name="one image, with one of the fields",
        call="library.add_images",
        args=(path("photo1.jpg"),),
        kwargs={"camera_model": "Leica"},
        host=SEARCH_HOST,
        path="/serve/api/v1/upload_img",
        key=GENERAL_KEY,
        parts=(Part("camera_model", b"Leica"), _FILES[0]),
        answer='{"code":"0000","msg":"success","data":[{"id":"568102998803353601"}]}',
        result=TWO_IMAGES[:1],
    ),
    Case(
        name="clips: the page's example",
        call="library.search_clips",
        args=(
            "VI625239098370850816",
            path("query.png"),
            "focus on the red shirt, ignore background color",
        ),
        kwargs={"unique_id": "default"},
        host=SEARCH_HOST,
        path="/serve/api/v1/search_clips_by_image",
        key=GENERAL_KEY,
        parts=(
            Part("video_no", b"VI625239098370850816"),
            Part("prompt", b"focus on the red shirt, ignore background color"),
            Part("unique_id", b"default"),
            Part("file", PNG, "query.png", "image/png"),
        ),
        answer=CLIPS_ANSWER,
        result=TWO_CLIPS,
    ),
    Case(
        name="clips by bytes, without unique_id, none found",
        call="library.search_clips",
        args=("VI625239098370850816", content("photo1.jpg"), "красная рубашка"),
        host=SEARCH_HOST,
        path="/serve/api/v1/search_clips_by_image",
        key=GENERAL_KEY,
        parts=(
            Part("video_no", b"VI625239098370850816"),
            Part("prompt", "красная рубашка".encode()),
            Part("file", JPEG, "image.jpg", "image/jpeg"),
        ),
        answer='{"code":"0000","msg":"success","data":[],"success":true,"failed":false}',
        result=[],
    ),
    *(
        Case(
            name=f"video to the library by {way}",
            call="library.add_video",
            args=(source,),
            kwargs=fields,
            host=SEARCH_HOST,
            path="/serve/api/v1/upload",
            key=GENERAL_KEY,
            parts=(
                *(Part(name, value.encode()) for name, value in fields.items()),
                Part("file", MP4, "video.mp4", "video/mp4"),
            ),
            answer=ADD_VIDEO_ANSWER,
            result=Video(
                video_no="VI625239098370850816",
                name="video.mp4",
                status="UNPARSE",
                created_at=UPLOADED_AT,
            ),
        )
        for way, source, fields in (
            ("path", path("video.mp4"), {"unique_id": "my-project"}),
            ("file object", opened("video.mp4"), dict[str, str]()),
            ("bytes", content("video.mp4"), dict[str, str]()),
        )
    ),
    *(
        Case(
            name=f"metadata of a video, {way}",
            call="library.video",
            args=("VI625239098370850816",),
            kwargs=fields,
            method="GET",
            host=SEARCH_HOST,
            path=f"/serve/api/v1/get_metadata?video_no=VI625239098370850816{query}",
            key=GENERAL_KEY,
            answer=VIDEO_ANSWER,
            result=Video(
                video_no="VI625239098370850816",
                name="video.mp4",
                status="PARSE",
                duration=653.0,
                size=169612362,
                created_at=UPLOADED_AT,
                width=1280,
                height=720,
                fps=25.0,
                resolution_label="720p",
                tags=("api",),
            ),
        )
        for way, fields, query in (
            ("in the default namespace", dict[str, object](), ""),
            ("in a namespace", {"unique_id": "a b&c"}, "&unique_id=a+b%26c"),
        )
    ),
)

EMBEDDING_CASES = (
    *(
        Case(
            name=f"embedding by {way}, {model or 'default model'}",
            call="embeddings.image",
            args=(source,),
            kwargs={"model": model} if model else {},
            host=INTELLIGENCE_HOST,
            path="/serve/api/v2/embeddings/image",
            key=GENERAL_KEY,
            parts=(
                Part("model", (model or "multimodalembedding@001").encode()),
                Part("file", file, filename, content_type),
            ),
            answer=EMBEDDING_ANSWER,
            result=Embedding(vector=VECTOR, model=model or "multimodalembedding@001"),
        )
        for way, source, model, file, filename, content_type in (
            ("path", path("test.png"), None, PNG, "test.png", "image/png"),
            ("path", path("test.png"), "mobileclip", PNG, "test.png", "image/png"),
            ("bytes", content("test2.jpg"), "mobileclip", JPEG, "image.jpg", "image/jpeg"),
            ("file object", opened("test2.jpg"), None, JPEG, "test2.jpg", "image/jpeg"),
            (
                "Media",
                named("test2.jpg", "scan.tif", "image/tiff"),
                "mobileclip",
                JPEG,
                "scan.tif",
                "image/tiff",
            ),
        )
    ),
    *(
        Case(
            name=f"embedding by asset, {model or 'default model'}",
            call="embeddings.image",
            kwargs={"asset_id": "re_657929111888723968"} | ({"model": model} if model else {}),
            host=INTELLIGENCE_HOST,
            path="/serve/api/v2/embeddings/image",
            key=GENERAL_KEY,
            json={
                "asset_id": "re_657929111888723968",
                "model": model or "multimodalembedding@001",
            },
            answer=EMBEDDING_ANSWER,
            result=Embedding(vector=VECTOR, model=model or "multimodalembedding@001"),
        )
        for model in (None, "multimodalembedding@001", "mobileclip")
    ),
)
