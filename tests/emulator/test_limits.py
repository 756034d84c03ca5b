"""The service's limits and the words in which it refuses."""

from __future__ import annotations

import base64
import threading
from pathlib import Path

import aiohttp
import pytest

from memories_async.emulator import Emulator
from memories_async.emulator.handlers import file_checks as checks
from memories_async.emulator.http.envelopes import Refusal
from memories_async.emulator.spool import SpooledFile
from tests.emulator.conftest import (
    JPEG,
    MP4,
    PNG,
    KnownEngine,
    Site,
    add_video,
    fields_and_files,
    files_in,
    post,
    post_any,
    req_and_files,
    session_for,
)

pytestmark = pytest.mark.anyio

IMAGE = ("file", "a.png", PNG, "image/png")
VIDEO = ("files", "v.mp4", MP4, "video/mp4")
PROMPTS = {"user_prompt": "u", "system_prompt": "s"}


def spooled(name: str, content_type: str, size: int) -> SpooledFile:
    return SpooledFile("file", name, content_type, size, "", Path("unused"))


# --- captions: always -1 at HTTP 200 ----------------------------------------------------------

ENCODED = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "uploadImg",
            {"url": "http://127.0.0.1/a.png"},
            "userPrompt is not allowed, please provide a user prompt",
        ),
        (
            "uploadImg",
            {"user_prompt": "  "},
            "userPrompt is not allowed, please provide a user prompt",
        ),
        ("uploadImg", {"user_prompt": "u"}, "url is not allowed, please provide an image URL"),
        (
            "uploadImgFileBase64",
            {"user_prompt": "u", "image_base64": "?", "img_type": "image/png"},
            "image_base64 is not base64",
        ),
        (
            "uploadImgFileBase64",
            {"user_prompt": "u", "image_base64": ENCODED, "img_type": "image/gif"},
            "image_base64 is not support image type, please upload a image file",
        ),
        (
            "uploadSync",
            {"user_prompt": "u"},
            "systemPrompt is not allowed, please provide a system prompt",
        ),
        ("uploadSync", PROMPTS, "videoUrl is not allowed, please upload a video file"),
        ("upload", PROMPTS, "callback is not allowed, please provide a callback URL"),
    ],
)
async def test_refused_caption_fields(
    client: aiohttp.ClientSession, path: str, body: dict[str, object], message: str
) -> None:
    answer = await post(client, f"/v1/understand/{path}", body)
    assert answer == {"code": -1, "msg": f"failure: {message}", "data": None}


@pytest.mark.parametrize(
    ("path", "form", "message"),
    [
        ("uploadImgFile", ({"user_prompt": "u"},), "Required part 'file' is not present."),
        (
            "uploadImgFile",
            ({"user_prompt": "u"}, ("file", "a.gif", PNG, "image/gif")),
            "a.gif is not support image type, please upload a image file",
        ),
        (
            "uploadImgFile",
            ({"user_prompt": "u"}, ("file", "a.png", b"", "image/png")),
            "a.png is not support image type, please upload a image file",
        ),
        (
            "uploadImgFile",
            ({"user_prompt": "u"}, IMAGE, ("file", "b.png", b"BROKEN", "image/png")),
            "b.png is broken",
        ),
        ("uploadFileSync", (PROMPTS, IMAGE), "Required part 'files' is not present."),
        (
            "uploadFileSync",
            (PROMPTS, ("files", "a.txt", MP4, "text/plain")),
            "videoUrl is not support video type, please upload a video file (a.txt)",
        ),
        (
            "uploadFileSync",
            (PROMPTS, ("files", "a.mp4", b"", "video/mp4")),
            "Video file size exceeds the limit of 8GB",
        ),
        (
            "uploadFileSync",
            (PROMPTS, ("files", "a.mp4", b"BROKEN", "video/mp4")),
            "a.mp4 is broken",
        ),
        (
            "uploadFile",
            (PROMPTS, VIDEO),
            "callback is not allowed, please provide a callback URL",
        ),
        (
            "uploadFileSync",
            ({**PROMPTS, "persons": [{"name": "x", "url": "http://127.0.0.1"}] * 6}, VIDEO),
            "Up to 5 reference person images can be provided",
        ),
        (
            "uploadFileSync",
            ({**PROMPTS, "persons": [{"url": "http://127.0.0.1"}]}, VIDEO),
            "person name is not null,please provide a name",
        ),
        (
            "uploadFileSync",
            ({**PROMPTS, "persons": [{"name": "Alice"}]}, VIDEO),
            "person url is not null, please upload a image file",
        ),
    ],
)
async def test_refused_caption_files(
    client: aiohttp.ClientSession, path: str, form: tuple[object, ...], message: str
) -> None:
    answer = await post(client, f"/v1/understand/{path}", req_and_files(*form))
    assert answer == {"code": -1, "msg": f"failure: {message}", "data": None}


async def test_a_person_needs_a_picture(client: aiohttp.ClientSession, site: Site) -> None:
    url = site.file("alice.txt", "text/plain", b"Alice")
    req = {**PROMPTS, "persons": [{"name": "Alice", "url": url}]}
    answer = await post(client, "/v1/understand/uploadFileSync", req_and_files(req, VIDEO))
    assert "person url is not support image type" in str(answer["msg"])


async def test_a_video_may_last_two_hours(
    client: aiohttp.ClientSession, engine: KnownEngine
) -> None:
    engine.duration = 7200.0
    body = req_and_files(PROMPTS, VIDEO)
    assert (await post(client, "/v1/understand/uploadFileSync", body))["code"] == 0
    engine.duration = 7200.1
    body = req_and_files(PROMPTS, VIDEO)
    answer = await post(client, "/v1/understand/uploadFileSync", body)
    assert answer["msg"] == "failure: Video duration exceeds the limit of 2 hours"


def test_a_video_may_have_eight_gigabytes() -> None:
    checks.caption_video(spooled("v.mp4", "video/mp4", 8 << 30))
    with pytest.raises(Refusal, match="exceeds the limit of 8GB"):
        checks.caption_video(spooled("v.mp4", "video/mp4", (8 << 30) + 1))


async def test_req_must_be_json(client: aiohttp.ClientSession) -> None:
    form = aiohttp.FormData()
    form.add_field("req", '{"user_prompt": "u"}')
    form.add_field("file", PNG, filename="a.png", content_type="image/png")
    status, answer = await post_any(client, "/v1/understand/uploadImgFile", form)
    assert (status, answer["error"]) == (415, "Unsupported Media Type")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"'])
async def test_json_must_be_an_object(client: aiohttp.ClientSession, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    async with client.post("/v1/understand/uploadImg", data=body, headers=headers) as response:
        answer = await response.json()
    assert answer["code"] == -1
    assert "Required request body" in answer["msg"]


async def test_multipart_must_be_multipart(client: aiohttp.ClientSession) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    path = "/v1/understand/uploadImgFile"
    async with client.post(path, data=b"no boundary", headers=headers) as response:
        answer = await response.json()
    assert answer["msg"] == "failure: Failed to parse multipart servlet request"


# --- the library: "0001" at HTTP 200 ----------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "part", "message"),
    [
        ({}, ("file", "a.png", PNG, "image/png"), "Required part 'files' is not present."),
        ({}, ("files", "b.png", b"", "image/png"), "The file b.png is empty"),
        (
            {},
            ("files", "b.tiff", PNG, "image/tiff"),
            "The file b.tiff has an unsupported extension; "
            "allowed: .bmp, .gif, .jpeg, .jpg, .png, .webp",
        ),
        (
            {},
            ("files", "b.png", PNG, "application/octet-stream"),
            "The content type of the file b.png must start with image/",
        ),
        (
            {"datetime_taken": "2025-09-07T22:52:00"},
            ("files", "b.png", PNG, "image/png"),
            "datetime_taken has an invalid format, expected yyyy-MM-dd HH:mm:ss",
        ),
        (
            {"datetime_taken": "2025-13-07 22:52:00"},
            ("files", "b.png", PNG, "image/png"),
            "datetime_taken has an invalid format, expected yyyy-MM-dd HH:mm:ss",
        ),
        (
            {"camera_model": "x" * 201},
            ("files", "b.png", PNG, "image/png"),
            "camera_model exceeds the limit of 200 characters",
        ),
        (
            {"tags": ["x"] * 51},
            ("files", "b.png", PNG, "image/png"),
            "tags exceed the limit of 50",
        ),
        (
            {"latitude": "north"},
            ("files", "b.png", PNG, "image/png"),
            "latitude must be a decimal between -90 and 90",
        ),
        (
            {"longitude": "180.5"},
            ("files", "b.png", PNG, "image/png"),
            "longitude must be a decimal between -180 and 180",
        ),
    ],
)
async def test_refused_images(
    client: aiohttp.ClientSession,
    emulator: Emulator,
    fields: dict[str, str | list[str]],
    part: tuple[str, str, bytes, str],
    message: str,
) -> None:
    good = (part[0], "good.png", PNG, "image/png")
    answer = await post(
        client, "/serve/api/v1/upload_img", fields_and_files(fields, good, part, good)
    )
    assert answer == {
        "code": "0001",
        "msg": message,
        "data": None,
        "success": False,
        "failed": True,
    }
    assert emulator.ledger.billed() == 0


async def test_a_refused_batch_leaves_nothing_behind(engine: KnownEngine, tmp_path: Path) -> None:
    async with Emulator(engine, folder=tmp_path) as emulator, session_for(emulator) as client:
        body = fields_and_files(
            {}, ("files", "a.png", PNG, "image/png"), ("files", "b.txt", b"x", "text/plain")
        )
        await post(client, "/serve/api/v1/upload_img", body)
        assert files_in(tmp_path) == []


async def test_an_image_may_have_twenty_megabytes() -> None:
    checks.library_image(spooled("a.JPEG", "image/jpeg", 20 << 20))
    with pytest.raises(Refusal, match=r"a\.jpeg exceeds the limit of 20 MB"):
        checks.library_image(spooled("a.jpeg", "image/jpeg", (20 << 20) + 1))


async def test_the_cap_on_a_batch_is_in_the_message(engine: KnownEngine) -> None:
    async with Emulator(engine, batch_limit=2) as emulator, session_for(emulator) as client:
        for count, code in (2, "0000"), (3, "0001"):
            parts = [("files", f"{number}.png", PNG, "image/png") for number in range(count)]
            body = fields_and_files({}, *parts)
            answer = await post(client, "/serve/api/v1/upload_img", body)
            assert answer["code"] == code
        assert answer["msg"] == "The number of files exceeds the limit of 2 per request"


@pytest.mark.parametrize(
    ("fields", "part", "message"),
    [
        ({}, ("file", "v.webm", MP4, "video/webm"), "unsupported extension"),
        ({}, ("file", "v.mp4", MP4, "image/png"), "must start with video/"),
        ({"tags": ["x"] * 21}, ("file", "v.mp4", MP4, "video/mp4"), "tags exceed the limit of 20"),
        (
            {"callback": "http://127.0.0.1/" + "x" * 300},
            ("file", "v.mp4", MP4, "video/mp4"),
            "callback exceeds the limit of 299 characters",
        ),
    ],
)
async def test_refused_videos(
    client: aiohttp.ClientSession,
    fields: dict[str, str | list[str]],
    part: tuple[str, str, bytes, str],
    message: str,
) -> None:
    answer = await post(client, "/serve/api/v1/upload", fields_and_files(fields, part))
    assert answer["code"] == "0001"
    assert message in str(answer["msg"])


def test_a_library_video_may_have_three_gigabytes() -> None:
    checks.library_video(spooled("v.mov", "video/quicktime", 3 << 30))
    with pytest.raises(Refusal, match=r"v\.mov exceeds the limit of 3072 MB"):
        checks.library_video(spooled("v.mov", "video/quicktime", (3 << 30) + 1))


@pytest.mark.parametrize(
    ("fields", "parts", "message"),
    [
        ({"prompt": "p"}, [IMAGE], "The video_no parameter cannot be empty!"),
        ({"video_no": "VI1"}, [IMAGE], "The prompt parameter cannot be empty!"),
        ({"video_no": "VI1", "prompt": " "}, [IMAGE], "The prompt parameter cannot be empty!"),
        ({"video_no": "VI1", "prompt": "p"}, [], "Required part 'file' is not present."),
        ({"video_no": "VI1", "prompt": "p"}, [IMAGE], "video not found"),
    ],
)
async def test_refused_clip_searches(
    client: aiohttp.ClientSession,
    fields: dict[str, str],
    parts: list[tuple[str, str, bytes, str]],
    message: str,
) -> None:
    body = fields_and_files(fields, *parts)
    answer = await post(client, "/serve/api/v1/search_clips_by_image", body)
    assert (answer["code"], answer["msg"]) == ("0001", message)


async def test_a_query_image_obeys_the_librarys_rules(client: aiohttp.ClientSession) -> None:
    video_no = await add_video(client)
    part = ("file", "query.pdf", PNG, "image/png")
    body = fields_and_files({"video_no": video_no, "prompt": "p"}, part)
    answer = await post(client, "/serve/api/v1/search_clips_by_image", body)
    assert "query.pdf has an unsupported extension" in str(answer["msg"])


# --- embeddings: the code is the HTTP status --------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "parts", "message"),
    [
        ({}, [IMAGE], "model must be multimodalembedding@001 or mobileclip"),
        ({"model": "gpt"}, [IMAGE], "model must be multimodalembedding@001 or mobileclip"),
        ({"model": "mobileclip"}, [], "Required part 'file' is not present."),
        (
            {"model": "mobileclip"},
            [("file", "a.pdf", PNG, "application/pdf")],
            "a.pdf is not a supported image",
        ),
        (
            {"model": "mobileclip"},
            [("file", "a.png", b"BROKEN", "image/png")],
            "a.png is broken",
        ),
    ],
)
async def test_refused_embeddings(
    client: aiohttp.ClientSession,
    fields: dict[str, str],
    parts: list[tuple[str, str, bytes, str]],
    message: str,
) -> None:
    body = fields_and_files(fields, *parts)
    status, answer = await post_any(client, "/serve/api/v2/embeddings/image", body)
    assert (status, answer["code"]) == (400, 400)
    assert message in str(answer["msg"])


# --- the engine -------------------------------------------------------------------------------


async def test_the_engine_has_a_time_limit(client: aiohttp.ClientSession) -> None:
    class SlowEngine(KnownEngine):
        def embed_image(self, picture: Path, model: str) -> list[float]:
            released.wait(60)
            return []

    released = threading.Event()
    async with Emulator(SlowEngine(), engine_seconds=0.02) as emulator:
        async with session_for(emulator) as client:
            body = fields_and_files({"model": "mobileclip"}, IMAGE)
            status, answer = await post_any(client, "/serve/api/v2/embeddings/image", body)
        released.set()
    assert status == 500
    assert answer["msg"] == "a.png: The engine took longer than 0.02 s"


async def test_an_engine_that_breaks_is_a_server_error(
    client: aiohttp.ClientSession, emulator: Emulator, engine: KnownEngine
) -> None:
    engine.embed_image = lambda picture, model: 1 / 0
    body = fields_and_files({"model": "mobileclip"}, ("file", "a.jpg", JPEG, "image/jpeg"))
    status, answer = await post_any(client, "/serve/api/v2/embeddings/image", body)
    assert (status, answer["error"]) == (500, "Internal Server Error")
    assert emulator.ledger.billed() == 0
