"""The library's pages, as rows: their own examples first, then every way and field.

https://api-tools.memories.ai/visual-search/upload-image-from-file
https://api-tools.memories.ai/platform/search-clips-by-image
https://api-tools.memories.ai/visual-search/upload-video-from-file
https://api-tools.memories.ai/visual-search/list-videos
https://api-tools.memories.ai/visual-search/search-by-text
"""

from __future__ import annotations

from datetime import UTC, datetime

from memories_async import (
    Clip,
    LibraryImage,
    Media,
    SearchHit,
    Transcript,
    TranscriptLine,
    Video,
)
from tests.cases import (
    JPEG,
    MP4,
    PNG,
    V1,
    Case,
    content,
    in_memory,
    named,
    opened,
    path,
    path_object,
    v1,
)
from tests.recorder import Part

FILM = MP4
NAMED = Media(FILM, name="film.mp4")
QUERY = Media(PNG, name="query.png")
SINCE = datetime(2025, 9, 7, 22, 52, tzinfo=UTC)

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

PAGE_CASES = (
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
            sends="POST /serve/api/v1/upload_img",
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
        sends="POST /serve/api/v1/upload_img",
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
        sends="POST /serve/api/v1/upload_img",
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
        sends="POST /serve/api/v1/search_clips_by_image",
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
        sends="POST /serve/api/v1/search_clips_by_image",
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
            sends="POST /serve/api/v1/upload",
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
            sends=f"GET /serve/api/v1/get_metadata?video_no=VI625239098370850816{query}",
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


NEIGHBOUR_CASES = (
    Case(
        name="add video, 1",
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
        parts=[
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
        name="add video, 2",
        call="library.add_video",
        args=("https://example.com/film.mp4?a=1&b=%2F",),
        kwargs={"tags": ["wild life", "é"], "retain_original_video": True, "folder_id": 7},
        sends=f"POST {V1}upload_url",
        form=(
            b"url=https%3A%2F%2Fexample.com%2Ffilm.mp4%3Fa%3D1%26b%3D%252F&folder_id=7"
            b"&tags=wild+life&tags=%C3%A9&retain_original_video=true"
        ),
        answer=v1(ADDED),
        result=VIDEO,
    ),
    Case(
        name="videos, 1",
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
        json={
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
        name="delete videos, 1",
        call="library.delete_videos",
        args=(["VI1", "VI2"],),
        kwargs={"unique_id": "a b"},
        sends=f"POST {V1}delete_videos?unique_id=a+b",
        json=["VI1", "VI2"],
        answer=v1("null"),
        result=None,
    ),
    Case(
        name="search, 1",
        call="library.search",
        args=("a rabbit",),
        sends=f"POST {V1}search",
        json={"search_param": "a rabbit", "search_type": "BY_CLIP"},
        answer=v1(CLIPS),
        result=HITS,
    ),
    Case(
        name="search, 2",
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
        json={
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
        name="search, 3",
        call="library.search",
        args=("a rabbit",),
        kwargs={"by": "caption"},
        sends=f"POST {V1}search",
        json={"search_param": "a rabbit", "search_type": "BY_CAPTION"},
        answer=v1('[{"video_no":"VI1","text":"A rabbit.","start_time":1.5,"end_time":2}]'),
        result=[SearchHit("VI1", start_time=1.5, end_time=2.0, text="A rabbit.")],
    ),
    Case(
        name="search, 4",
        call="library.search",
        args=("a rabbit",),
        kwargs={"by": "image"},
        sends=f"POST {V1}search",
        json={"search_param": "a rabbit", "search_type": "BY_IMAGE"},
        answer=v1(IMAGES),
        result=[
            SearchHit(name="a.png", image_id=568102998803353601, url="https://x/a.png", score=0.5)
        ],
    ),
    Case(
        name="search similar, 1",
        call="library.search_similar",
        args=(QUERY,),
        kwargs={"similarity": 0.5, "unique_id": "mine"},
        sends=f"POST {V1}search_similar_images",
        parts=[
            Part("similarity", b"0.5"),
            Part("unique_id", b"mine"),
            Part("file", PNG, "query.png", "image/png"),
        ],
        answer=v1(f'{{"results":{CLIPS},"total":2}}'),
        result=HITS,
    ),
    Case(
        name="search transcripts, 1",
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
        name="audio transcript, 1",
        call="library.audio_transcript",
        args=("VI1",),
        kwargs={"unique_id": "mine"},
        sends=f"GET {V1}get_audio_transcription?video_no=VI1&unique_id=mine",
        answer=v1(TRANSCRIPT),
        result=LINES,
    ),
    Case(
        name="video captions, 1",
        call="library.video_captions",
        args=("VI1",),
        sends=f"GET {V1}get_video_caption?video_no=VI1",
        answer=v1(TRANSCRIPT),
        result=LINES,
    ),
)
LIBRARY_CASES = (*PAGE_CASES, *NEIGHBOUR_CASES)
