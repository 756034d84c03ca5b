"""The caption pages' own examples, as rows: images by three ways, videos by four.

https://api-tools.memories.ai/platform/image-caption
https://api-tools.memories.ai/platform/video-caption
"""

from __future__ import annotations

import base64

from memories_async import Caption, CaptionTask, Person, TokenUsage
from tests.cases import (
    JPEG,
    MP4,
    PNG,
    PNG_3,
    Case,
    Local,
    Req,
    content,
    in_memory,
    named,
    opened,
    path,
    path_object,
)
from tests.recorder import Part

IMAGE_ANSWER = """
{
    "code": 0,
    "msg": "success",
    "data": {
        "text": "It shows a person lying on the ground...",
        "token": { "input": 273, "output": 79, "total": 352 }
    }
}
"""
IMAGE_CAPTION = Caption(
    text="It shows a person lying on the ground...",
    tokens=TokenUsage(input=273, output=79, total=352),
)
ASYNC_ANSWER = """
{
    "code": 0,
    "msg": "success",
    "data": {
        "task_id": "xxx"
    }
}
"""
# The page has a comma behind the text, which no JSON parser takes; it is left out here.
SYNC_ANSWER = """
{
    "code": 0,
    "msg": "success",
    "data": {
        "data": {
            "text": "A man enters the room and greets two colleagues..."
        },
        "token": { "input": 123, "output": 456, "total": 579 }
    }
}
"""
VIDEO_CAPTION = Caption(
    text="A man enters the room and greets two colleagues...",
    tokens=TokenUsage(input=123, output=456, total=579),
)


def one_image(name: str, source: Local, filename: str, file: bytes, content_type: str) -> Case:
    """Row for example 2a of the image page."""
    return Case(
        name=name,
        call="captions.image",
        args=(source, "What's happening in this picture?"),
        kwargs={
            "system_prompt": "You are an image understanding system.",
            "reasoning_effort": "2",
        },
        sends="POST /v1/understand/uploadImgFile",
        parts=(
            Req(
                {
                    "user_prompt": "What's happening in this picture?",
                    "system_prompt": "You are an image understanding system.",
                    "thinking": False,
                    "qa": False,
                    "reasoning_effort": "2",
                }
            ),
            Part("file", file, filename, content_type),
        ),
        answer=IMAGE_ANSWER,
        result=IMAGE_CAPTION,
    )


IMAGE_CASES = (
    Case(
        name="image by URL: example 1a",
        call="captions.image",
        args=("https://example.com/test_image.png", "What's happening in this picture?"),
        kwargs={"system_prompt": "You are an image understanding system.", "reasoning_effort": 2},
        sends="POST /v1/understand/uploadImg",
        json={
            "url": "https://example.com/test_image.png",
            "user_prompt": "What's happening in this picture?",
            "system_prompt": "You are an image understanding system.",
            "thinking": False,
            "qa": False,
            "reasoning_effort": "2",
        },
        answer=IMAGE_ANSWER,
        result=IMAGE_CAPTION,
    ),
    Case(
        name="image by URL, every option",
        call="captions.image",
        args=("https://example.com/test_image.png", "Say what is there: «日本»"),
        kwargs={"thinking": True, "qa": True, "reasoning_effort": -1},
        sends="POST /v1/understand/uploadImg",
        json={
            "url": "https://example.com/test_image.png",
            "user_prompt": "Say what is there: «日本»",
            "thinking": True,
            "qa": True,
            "reasoning_effort": "-1",
        },
        answer=IMAGE_ANSWER,
        result=IMAGE_CAPTION,
    ),
    Case(
        name="several images by URL: example 1b",
        call="captions.image",
        args=(
            [
                "https://example.com/test_image1.png",
                "https://example.com/test_image2.jpg",
                "https://example.com/test_image3.png",
            ],
            "What's happening in these pictures?",
        ),
        kwargs={"system_prompt": "You are an image understanding system."},
        sends="POST /v1/understand/uploadImg",
        json={
            "urls": [
                "https://example.com/test_image1.png",
                "https://example.com/test_image2.jpg",
                "https://example.com/test_image3.png",
            ],
            "user_prompt": "What's happening in these pictures?",
            "system_prompt": "You are an image understanding system.",
            "thinking": False,
            "qa": False,
        },
        answer=IMAGE_ANSWER,
        result=IMAGE_CAPTION,
    ),
    one_image("image by path: example 2a", path("test.png"), "test.png", PNG, "image/png"),
    one_image("image by path object", path_object("test2.jpg"), "test2.jpg", JPEG, "image/jpeg"),
    one_image("image by file object", opened("test.png"), "test.png", PNG, "image/png"),
    one_image("image by bytes", content("test2.jpg"), "image.jpg", JPEG, "image/jpeg"),
    one_image("image by memory file", in_memory("test.png"), "image.png", PNG, "image/png"),
    one_image(
        "image by Media",
        named("test2.jpg", "C:\\pictures\\страна 日本.jpg", "image/jpeg"),
        "страна 日本.jpg",
        JPEG,
        "image/jpeg",
    ),
    Case(
        name="several images by file: example 2b",
        call="captions.image",
        args=(
            (path("test1.png"), opened("test2.jpg"), content("test3.png")),
            "What's happening in these pictures?",
        ),
        kwargs={"system_prompt": "You are an image understanding system."},
        sends="POST /v1/understand/uploadImgFile",
        parts=(
            Req(
                {
                    "user_prompt": "What's happening in these pictures?",
                    "system_prompt": "You are an image understanding system.",
                    "thinking": False,
                    "qa": False,
                }
            ),
            Part("file", PNG, "test1.png", "image/png"),
            Part("file", JPEG, "test2.jpg", "image/jpeg"),
            Part("file", PNG_3, "image.png", "image/png"),
        ),
        answer=IMAGE_ANSWER,
        result=IMAGE_CAPTION,
    ),
    *(
        Case(
            name=f"image as base64, by {way}: example 3a",
            call="captions.image",
            args=(source, "Describe the image within 10 words."),
            kwargs={"as_base64": True, "reasoning_effort": "2"},
            sends="POST /v1/understand/uploadImgFileBase64",
            json={
                "user_prompt": "Describe the image within 10 words.",
                "image_base64": base64.b64encode(PNG).decode("utf-8"),
                "img_type": "image/png",
                "thinking": False,
                "qa": False,
                "reasoning_effort": "2",
            },
            answer=IMAGE_ANSWER,
            result=IMAGE_CAPTION,
        )
        for way, source in (
            ("path", path("test.png")),
            ("bytes", content("test.png")),
            ("file object", opened("test.png")),
        )
    ),
)

_PROMPT = "Summarize the video content and identify key persons"
_DETECTS = "You are a video understanding system that analyzes content and detects persons."
_SUMMARIZES = "You are a video understanding system that summarizes video content."
_ALICE = {"name": "Alice", "url": "https://example.com/alice.jpg"}

VIDEO_CASES = (
    Case(
        name="video by URL, asynchronous: the page's example",
        call="captions.submit_video",
        args=("https://example.com/test_video.mp4", _PROMPT),
        kwargs={
            "system_prompt": _DETECTS,
            "callback": "https://yourserver.com/callback",
            "reasoning_effort": "2",
        },
        sends="POST /v1/understand/upload",
        json={
            "video_url": "https://example.com/test_video.mp4",
            "user_prompt": _PROMPT,
            "system_prompt": _DETECTS,
            "callback": "https://yourserver.com/callback",
            "thinking": False,
            "qa": False,
            "reasoning_effort": "2",
        },
        answer=ASYNC_ANSWER,
        result=CaptionTask(task_id="xxx"),
    ),
    Case(
        name="video by URL, asynchronous, with a person: the page's curl example",
        call="captions.submit_video",
        args=("https://example.com/test_video.mp4", _PROMPT),
        kwargs={
            "callback": "https://yourserver.com/callback",
            "persons": [Person("Alice", "https://example.com/alice.jpg")],
            "reasoning_effort": 2,
        },
        sends="POST /v1/understand/upload",
        json={
            "video_url": "https://example.com/test_video.mp4",
            "user_prompt": _PROMPT,
            "system_prompt": "You are a video understanding system.",
            "callback": "https://yourserver.com/callback",
            "thinking": False,
            "qa": False,
            "reasoning_effort": "2",
            "persons": [_ALICE],
        },
        answer=ASYNC_ANSWER,
        result=CaptionTask(task_id="xxx"),
    ),
    Case(
        name="video by file, asynchronous: the page's example",
        call="captions.submit_video",
        args=(path("video.mp4"), _PROMPT),
        kwargs={
            "system_prompt": _SUMMARIZES,
            "callback": "https://yourserver.com/callback",
            "reasoning_effort": "2",
        },
        sends="POST /v1/understand/uploadFile",
        parts=(
            Req(
                {
                    "user_prompt": _PROMPT,
                    "system_prompt": _SUMMARIZES,
                    "callback": "https://yourserver.com/callback",
                    "thinking": False,
                    "qa": False,
                    "reasoning_effort": "2",
                }
            ),
            Part("files", MP4, "video.mp4", "video/mp4"),
        ),
        answer=ASYNC_ANSWER,
        result=CaptionTask(task_id="xxx"),
    ),
    Case(
        name="video by URL, synchronous",
        call="captions.video",
        args=("https://example.com/test_video.mp4", _PROMPT),
        kwargs={"thinking": True, "reasoning_effort": 10},
        sends="POST /v1/understand/uploadSync",
        json={
            "video_url": "https://example.com/test_video.mp4",
            "user_prompt": _PROMPT,
            "system_prompt": "You are a video understanding system.",
            "thinking": True,
            "qa": False,
            "reasoning_effort": "10",
        },
        answer=SYNC_ANSWER,
        result=VIDEO_CAPTION,
    ),
    Case(
        name="video by URL, synchronous, with persons",
        call="captions.video",
        args=("https://example.com/test_video.mp4", _PROMPT),
        kwargs={
            "persons": (
                Person("Alice", "https://example.com/alice.jpg"),
                Person("Боб", "http://example.com/bob.png?size=full"),
            ),
        },
        sends="POST /v1/understand/uploadSync",
        json={
            "video_url": "https://example.com/test_video.mp4",
            "user_prompt": _PROMPT,
            "system_prompt": "You are a video understanding system.",
            "thinking": False,
            "qa": False,
            "persons": [_ALICE, {"name": "Боб", "url": "http://example.com/bob.png?size=full"}],
        },
        answer=SYNC_ANSWER,
        result=VIDEO_CAPTION,
    ),
    *(
        Case(
            name=f"video by {way}, synchronous, with a person",
            call="captions.video",
            args=(source, _PROMPT),
            kwargs={
                "system_prompt": _SUMMARIZES,
                "persons": [Person("Alice", "https://example.com/alice.jpg")],
                "qa": True,
            },
            sends="POST /v1/understand/uploadFileSync",
            parts=(
                Req(
                    {
                        "user_prompt": _PROMPT,
                        "system_prompt": _SUMMARIZES,
                        "thinking": False,
                        "qa": True,
                        "persons": [_ALICE],
                    }
                ),
                Part("files", MP4, filename, "video/mp4"),
            ),
            answer=SYNC_ANSWER,
            result=VIDEO_CAPTION,
        )
        for way, source, filename in (
            ("path", path("video.mp4"), "video.mp4"),
            ("path object with a name in UTF-8", path_object("фильм 日本.mp4"), "фильм 日本.mp4"),
            ("file object", opened("video.mp4"), "video.mp4"),
            ("bytes", content("video.mp4"), "video.mp4"),
            ("Media", named("video.mp4", "holiday.m4v", "video/mp4"), "holiday.m4v"),
        )
    ),
)
