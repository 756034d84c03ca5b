"""Every operation by every documented way in, laid out as the pages' own examples are."""

from __future__ import annotations

import base64
import re

import aiohttp
import pytest

from memories_async.emulator import Emulator
from memories_async.emulator.handlers import HANDLERS
from memories_async.operations import OPERATIONS
from tests.emulator.conftest import (
    FILM_METADATA,
    JPEG,
    MP4,
    PNG,
    KnownEngine,
    Site,
    add_video,
    fields_and_files,
    post,
    post_any,
    req_and_files,
)

pytestmark = pytest.mark.anyio

IMAGE_REQ = {
    "user_prompt": "What's happening in this picture?",
    "system_prompt": "You are an image understanding system.",
    "thinking": False,
    "qa": False,
    "reasoning_effort": "2",
}
VIDEO_REQ = {
    "user_prompt": "Summarize",
    "system_prompt": "You are a video understanding system.",
    "thinking": False,
    "qa": False,
    "reasoning_effort": "2",
}


def test_every_operation_has_a_handler() -> None:
    assert set(HANDLERS) == {row.name for row in OPERATIONS}


def image_caption(text: str, pictures: int) -> dict[str, object]:
    prompts = len(str(IMAGE_REQ["user_prompt"]) + str(IMAGE_REQ["system_prompt"])) // 4
    token = {"input": 258 * pictures + prompts, "output": len(text) // 4}
    token["total"] = token["input"] + token["output"]
    return {"code": 0, "msg": "success", "data": {"text": text, "token": token}}


async def test_caption_image_by_url(client: aiohttp.ClientSession, site: Site) -> None:
    url = site.file("test_image.png", "image/png", PNG)
    answer = await post(client, "/v1/understand/uploadImg", {"url": url, **IMAGE_REQ})
    assert answer == image_caption("What's happening in this picture? [108]", 1)


async def test_caption_images_by_urls(client: aiohttp.ClientSession, site: Site) -> None:
    urls = [
        site.file("test_image1.png", "image/png", PNG),
        site.file("test_image2.jpg", "application/octet-stream", JPEG),
    ]
    answer = await post(client, "/v1/understand/uploadImg", {"urls": urls, **IMAGE_REQ})
    assert answer == image_caption("What's happening in this picture? [108, 104]", 2)


async def test_caption_image_by_file(client: aiohttp.ClientSession, emulator: Emulator) -> None:
    body = req_and_files(IMAGE_REQ, ("file", "test.png", PNG, "image/png"))
    answer = await post(client, "/v1/understand/uploadImgFile", body)
    assert answer == image_caption("What's happening in this picture? [108]", 1)
    assert emulator.ledger[0].fields == IMAGE_REQ


async def test_caption_images_by_files(client: aiohttp.ClientSession) -> None:
    body = req_and_files(
        IMAGE_REQ,
        ("file", "test1.png", PNG, "image/png"),
        ("file", "test2.jpg", JPEG, "image/jpeg"),
        ("file", "test3.png", PNG, "image/png"),
    )
    answer = await post(client, "/v1/understand/uploadImgFile", body)
    assert answer == image_caption("What's happening in this picture? [108, 104, 108]", 3)


async def test_caption_image_by_base64(client: aiohttp.ClientSession) -> None:
    encoded = {"image_base64": base64.b64encode(PNG).decode(), "img_type": "image/png"}
    answer = await post(client, "/v1/understand/uploadImgFileBase64", {**IMAGE_REQ, **encoded})
    assert answer == image_caption("What's happening in this picture? [108]", 1)


async def test_caption_video_by_url(client: aiohttp.ClientSession, site: Site) -> None:
    url = site.file("test_video.mp4", "video/mp4", MP4)
    alice = site.file("alice.jpg", "image/jpeg", JPEG)
    persons = [{"name": "Alice", "url": alice}]
    body = {"video_url": url, **VIDEO_REQ, "persons": persons}
    answer = await post(client, "/v1/understand/uploadSync", body)
    assert answer["data"] == {
        "data": {"text": "Summarize [1012] Alice:104"},
        "token": {"input": 527, "output": 6, "total": 533},
    }


async def test_caption_video_by_file(client: aiohttp.ClientSession) -> None:
    body = req_and_files(VIDEO_REQ, ("files", "video.mp4", MP4, "video/mp4"))
    answer = await post(client, "/v1/understand/uploadFileSync", body)
    assert answer["code"] == 0
    assert answer["data"]["data"] == {"text": "Summarize [1012]"}


async def test_submit_video_by_url(client: aiohttp.ClientSession, site: Site) -> None:
    url = site.file("test_video.mp4", "video/mp4", MP4)
    body = {"video_url": url, **VIDEO_REQ, "callback": f"{site.url}/callback?job=7"}
    answer = await post(client, "/v1/understand/upload", body)
    assert answer == {"code": 0, "msg": "success", "data": {"task_id": answer["data"]["task_id"]}}
    where, callback = await site.callbacks.get()
    assert where == "/callback?job=7"
    assert callback == {
        "status": 0,
        "task_id": answer["data"]["task_id"],
        "data": {
            "text": "Summarize [1012]",
            "token": {"input": 269, "output": 4, "total": 273},
        },
    }


async def test_submit_video_by_file(client: aiohttp.ClientSession, site: Site) -> None:
    req = {**VIDEO_REQ, "callback": f"{site.url}/callback"}
    body = req_and_files(req, ("files", "video.mp4", MP4, "video/mp4"))
    answer = await post(client, "/v1/understand/uploadFile", body)
    _, callback = await site.callbacks.get()
    assert callback["task_id"] == answer["data"]["task_id"]
    assert callback["data"]["text"] == "Summarize [1012]"


async def test_add_images(client: aiohttp.ClientSession, emulator: Emulator) -> None:
    body = fields_and_files(
        {
            "unique_id": "my-project",
            "datetime_taken": "2025-09-07 22:52:00",
            "camera_model": "Canon EOS 5D",
            "latitude": "39.9042",
            "longitude": "116.4074",
            "tags": ["outdoor", "2025"],
        },
        ("files", "photo1.jpg", JPEG, "image/jpeg"),
        ("files", "photo2.PNG", PNG, "image/png"),
    )
    answer = await post(client, "/serve/api/v1/upload_img", body)
    ids = [image["id"] for image in answer["data"]]
    assert len(set(ids)) == 2
    assert all(isinstance(id, int) and 2**53 < id < 2**63 and int(float(id)) != id for id in ids)
    assert answer == {
        "code": "0000",
        "msg": "success",
        "data": [{"id": ids[0]}, {"id": ids[1]}],
        "success": True,
        "failed": False,
    }
    assert emulator.ledger[0].fields["tags"] == ["outdoor", "2025"]


async def test_tags_may_be_numbered(client: aiohttp.ClientSession, emulator: Emulator) -> None:
    body = fields_and_files(
        {"tags[0]": "outdoor", "tags[1]": "2025"}, ("files", "a.png", PNG, "image/png")
    )
    await post(client, "/serve/api/v1/upload_img", body)
    assert emulator.ledger[0].fields == {"tags": ["outdoor", "2025"]}


async def test_search_clips(client: aiohttp.ClientSession) -> None:
    video_no = await add_video(client)
    prompt = "focus on the red shirt, ignore background color"
    fields = {"video_no": video_no, "prompt": prompt, "unique_id": "default"}
    body = fields_and_files(fields, ("file", "query.png", PNG, "image/png"))
    answer = await post(client, "/serve/api/v1/search_clips_by_image", body)
    assert answer == {
        "code": "0000",
        "msg": "success",
        "data": [
            {"start_time": 12.5, "end_time": 18.2, "score": 0.8631},
            {"start_time": 42.0, "end_time": 47.8, "score": 0.47},
        ],
        "success": True,
        "failed": False,
    }


async def test_embed_image_by_file(client: aiohttp.ClientSession) -> None:
    body = fields_and_files(
        {"model": "multimodalembedding@001"}, ("file", "a.png", PNG, "image/png")
    )
    answer = await post(client, "/serve/api/v2/embeddings/image", body)
    assert answer == {
        "code": 200,
        "msg": "success",
        "data": {"embedding": [0.5] * 8 + [108]},
        "success": True,
        "failed": False,
    }


async def test_embed_image_by_asset(
    client: aiohttp.ClientSession, emulator: Emulator, tmp_path: object
) -> None:
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(JPEG)
    asset_id = emulator.add_asset(picture)
    assert re.fullmatch(r"re_\d{18}", asset_id)
    body = {"asset_id": asset_id, "model": "mobileclip"}
    answer = await post(client, "/serve/api/v2/embeddings/image", body)
    assert answer["data"] == {"embedding": [0.5] * 4 + [104]}


async def test_unknown_asset(client: aiohttp.ClientSession) -> None:
    body = {"asset_id": "re_1", "model": "mobileclip"}
    assert await post_any(client, "/serve/api/v2/embeddings/image", body) == (
        400,
        {
            "code": 400,
            "msg": "Asset not found",
            "data": None,
            "success": False,
            "failed": True,
        },
    )


async def test_add_video_and_its_metadata(client: aiohttp.ClientSession) -> None:
    body = fields_and_files(
        {"datetime_taken": "2025-09-07 22:52:00"}, ("file", "film.mp4", MP4, "video/mp4")
    )
    added = (await post(client, "/serve/api/v1/upload", body))["data"]
    assert re.fullmatch(r"VI\d{18}", added["videoNo"])
    assert re.fullmatch(r"\d{13}", added["uploadTime"])
    assert added["videoName"] == "film"
    assert added["videoStatus"] == "UNPARSE"
    query = {"video_no": added["videoNo"]}
    async with client.get("/serve/api/v1/get_metadata", params=query) as response:
        assert (await response.json())["data"] == {
            **FILM_METADATA,
            "video_no": added["videoNo"],
            "create_time": added["uploadTime"],
            "datetime_taken": "1757285520000",
            "tags": ["api"],
        }


async def metadata(client: aiohttp.ClientSession, video_no: str, **query: str) -> object:
    query = {"video_no": video_no, **query}
    async with client.get("/serve/api/v1/get_metadata", params=query) as response:
        answer = await response.json()
    assert answer["code"] == "0000"
    return answer["data"]


async def test_an_unknown_video_is_a_success_without_data(client: aiohttp.ClientSession) -> None:
    assert await metadata(client, "VI1") is None


async def test_a_video_belongs_to_its_namespace(client: aiohttp.ClientSession) -> None:
    video_no = await add_video(client, unique_id="mine")
    assert await metadata(client, video_no) is None
    assert await metadata(client, video_no, unique_id="mine") is not None


async def test_a_video_that_cannot_be_read_fails(client: aiohttp.ClientSession) -> None:
    video_no = await add_video(client, b"BROKEN")
    found = await metadata(client, video_no)
    assert (found["status"], found["cause"]) == ("FAILED", "film.mp4 is broken")
    assert found["width"] is None
    fields = {"video_no": video_no, "prompt": "x"}
    body = fields_and_files(fields, ("file", "query.png", PNG, "image/png"))
    answer = await post(client, "/serve/api/v1/search_clips_by_image", body)
    assert (answer["code"], answer["msg"]) == ("0001", f"Video is not parsed: {video_no}")


async def test_indexing_takes_its_time(engine: KnownEngine) -> None:
    now = 1_000_000.0
    async with Emulator(engine, index_seconds=60, clock=lambda: now) as emulator:
        headers = {"Authorization": "sk-x"}
        async with aiohttp.ClientSession(emulator.url, headers=headers) as client:
            video_no = await add_video(client)
            now += 59
            assert (await metadata(client, video_no))["status"] == "UNPARSE"
            now += 1
            assert (await metadata(client, video_no))["status"] == "PARSE"


async def test_the_library_calls_back_when_a_video_is_indexed(
    client: aiohttp.ClientSession, site: Site
) -> None:
    video_no = await add_video(client, callback=f"{site.url}/indexed")
    assert await site.callbacks.get() == (
        "/indexed",
        {"videoNo": video_no, "status": "PARSE"},
    )


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/serve/api/v1/nothing", 200, "0001"),
        ("/serve/api/v2/nothing", 404, None),
        ("/v1/understand/nothing", 404, None),
    ],
)
async def test_an_unknown_path(
    client: aiohttp.ClientSession, path: str, status: int, code: str | None
) -> None:
    found, answer = await post_any(client, path, {})
    assert (found, answer.get("code")) == (status, code)


async def test_a_wrong_content_type_is_the_gateways_affair(client: aiohttp.ClientSession) -> None:
    status, answer = await post_any(client, "/v1/understand/uploadImgFile", {"user_prompt": "x"})
    assert status == 415
    assert set(answer) == {"timestamp", "path", "status", "error", "requestId"}
