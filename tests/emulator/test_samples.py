"""Every request sample of the service's pages, as it stands there, and other people's clients.

Only what must differ differs: the host, the key, and the addresses and numbers that have to exist.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
import requests
from anyio.from_thread import start_blocking_portal

from memories_async.emulator import Emulator
from tests.emulator.conftest import JPEG, KEY, MP4, PNG, KnownEngine, Site

HEADERS = {"Authorization": KEY}
CAPTION = {"thinking": False, "qa": False}
IMAGE_SYSTEM = "You are an image understanding system."
VIDEO_SYSTEM = "You are a video understanding system that summarizes video content."


class Live:
    """An emulator and a web site in a thread of their own, for clients that block."""

    def __init__(self, url: str, site: Site, emulator: Emulator) -> None:
        self.url = url
        self.site = site
        self.emulator = emulator
        self.v1 = f"{url}/serve/api/v1"
        self.v2 = f"{url}/serve/api/v2"
        self.security = f"{url}/v1/understand"
        self.image = site.file("test_image.png", "image/png", PNG)
        self.video = site.file("test_video.mp4", "video/mp4", MP4)
        self.callback = f"{site.url}/callback"

    def post(self, address: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = requests.post(address, headers=HEADERS, **options).json()
        return answer

    def get(self, address: str, **query: str) -> dict[str, Any]:
        answer: dict[str, Any] = requests.get(address, headers=HEADERS, params=query).json()
        return answer

    def add_video(self) -> str:
        files = {"file": ("film.mp4", MP4, "video/mp4")}
        return str(self.post(f"{self.v1}/upload", files=files)["data"]["videoNo"])


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with pytest.MonkeyPatch.context() as patch, start_blocking_portal() as portal:
        patch.setenv("NO_PROXY", "*")
        emulator = Emulator(KnownEngine())
        with portal.wrap_async_context_manager(emulator):
            site = Site()
            runner = portal.call(site.start)
            yield Live(emulator.url, site, emulator)
            portal.call(runner.cleanup)


def req(data: Mapping[str, object]) -> tuple[str, tuple[str, str, str]]:
    return ("req", ("req.json", json.dumps(data), "application/json"))


# --- the pages' own samples -------------------------------------------------------------------


def image_by_url(live: Live) -> dict[str, Any]:
    body = {
        "url": live.image,
        "user_prompt": "What's happening in this picture?",
        "system_prompt": IMAGE_SYSTEM,
        **CAPTION,
        "reasoning_effort": "2",
    }
    return live.post(f"{live.security}/uploadImg", json=body)


def images_by_url(live: Live) -> dict[str, Any]:
    body = {
        "urls": [live.image, live.site.file("test_image2.jpg", "image/jpeg", JPEG), live.image],
        "user_prompt": "What's happening in these pictures?",
        "system_prompt": IMAGE_SYSTEM,
        **CAPTION,
    }
    return live.post(f"{live.security}/uploadImg", json=body)


def image_panel(live: Live) -> dict[str, Any]:
    """The generated panel fills in both fields."""
    body = {
        "user_prompt": "What's happening in this picture?",
        "url": live.image,
        "urls": ["<string>"],
        "system_prompt": IMAGE_SYSTEM,
        **CAPTION,
        "reasoning_effort": "2",
    }
    return live.post(f"{live.security}/uploadImg", json=body)


def image_file(live: Live) -> dict[str, Any]:
    data = {
        "user_prompt": "What's happening in this picture?",
        "system_prompt": IMAGE_SYSTEM,
        **CAPTION,
        "reasoning_effort": "2",
    }
    files = [req(data), ("file", ("test.png", PNG, "image/png"))]
    return live.post(f"{live.security}/uploadImgFile", files=files)


def image_files(live: Live) -> dict[str, Any]:
    data = {"user_prompt": "What's happening in these pictures?", "system_prompt": IMAGE_SYSTEM}
    files = [
        req({**data, **CAPTION}),
        ("file", ("test1.png", PNG, "image/png")),
        ("file", ("test2.jpg", JPEG, "image/jpeg")),
        ("file", ("test3.png", PNG, "image/png")),
    ]
    return live.post(f"{live.security}/uploadImgFile", files=files)


def image_base64(live: Live) -> dict[str, Any]:
    data = {
        "user_prompt": "Describe the image within 10 words.",
        "image_base64": base64.b64encode(PNG).decode("utf-8"),
        "img_type": "image/png",
        **CAPTION,
        "reasoning_effort": "2",
    }
    return live.post(f"{live.security}/uploadImgFileBase64", json=data)


def _video_req(live: Live) -> dict[str, object]:
    return {
        "user_prompt": "Summarize the video content and identify key persons",
        "system_prompt": VIDEO_SYSTEM,
        "callback": live.callback,
        **CAPTION,
        "reasoning_effort": "2",
    }


def video_by_url(live: Live, *, path: str) -> dict[str, Any]:
    body = {"video_url": live.video, **_video_req(live)}
    return live.post(f"{live.security}/{path}", json=body)


def video_panel(live: Live) -> dict[str, Any]:
    alice = {"name": "Alice", "url": live.site.file("alice.jpg", "image/jpeg", JPEG)}
    body = {"video_url": live.video, **_video_req(live), "persons": [alice]}
    return live.post(f"{live.security}/upload", json=body)


def video_file(live: Live, *, path: str) -> dict[str, Any]:
    files = [req(_video_req(live)), ("files", ("video.mp4", MP4, "video/mp4"))]
    return live.post(f"{live.security}/{path}", files=files)


def library_images(live: Live) -> dict[str, Any]:
    files = [
        ("files", ("photo1.jpg", JPEG, "image/jpeg")),
        ("files", ("photo2.png", PNG, "image/png")),
    ]
    data = {
        "unique_id": "my-project",
        "datetime_taken": "2025-09-07 22:52:00",
        "camera_model": "Canon EOS 5D",
        "latitude": "39.9042",
        "longitude": "116.4074",
        "tags": ["outdoor", "2025"],
    }
    return live.post(f"{live.v1}/upload_img", files=files, data=data)


def clips(live: Live) -> dict[str, Any]:
    payload = {
        "video_no": live.add_video(),
        "prompt": "focus on the red shirt, ignore background color",
        "unique_id": "default",
    }
    files = [("file", ("query.png", PNG, "image/png"))]
    return live.post(f"{live.v1}/search_clips_by_image", data=payload, files=files)


def embedding_by_browser(live: Live) -> dict[str, Any]:
    """``FormData`` of a browser: the file first, then the model."""
    files = [
        ("file", ("image.webp", PNG, "image/webp")),
        ("model", (None, "multimodalembedding@001")),
    ]
    return live.post(f"{live.v2}/embeddings/image", files=files)


def embedding_by_asset(live: Live) -> dict[str, Any]:
    asset = live.post(f"{live.v2}/upload", files={"file": ("a.png", PNG, "image/png")})
    body = {"asset_id": asset["data"]["asset_id"], "model": "mobileclip"}
    return live.post(f"{live.v2}/embeddings/image", json=body)


def upload_with_metadata(live: Live) -> dict[str, Any]:
    """upload-video-from-file."""
    files = {"file": ("video.mp4", MP4, "video/mp4")}
    data = {
        "unique_id": "default",
        "datetime_taken": "2025-10-20 11:00:00",
        "camera_model": "iPhone 15",
        "latitude": "39.9042",
        "longitude": "116.4074",
        "tags": ["meeting"],
        "callback": live.callback,
        "retain_original_video": "true",
    }
    return live.post(f"{live.v1}/upload", files=files, data=data)


def search_with_filters(live: Live) -> dict[str, Any]:
    """search-by-text."""
    body = {
        "search_param": "a rabbit on the meadow",
        "search_type": "BY_CLIP",
        "unique_id": "default",
        "top_k": 5,
        "filtering_level": "low",
        "video_nos": [live.add_video()],
        "datetime_taken": "2025-10-20 11:00:00",
    }
    return live.post(f"{live.v1}/search", json=body)


def deletion(live: Live) -> dict[str, Any]:
    """delete-videos: a bare array, the namespace in the query."""
    address = f"{live.v1}/delete_videos"
    return live.post(address, params={"unique_id": "default"}, json=[live.add_video()])


SAMPLES: Mapping[str, Callable[[Live], dict[str, Any]]] = {
    "platform/image-caption: panel": image_panel,
    "platform/image-caption: 1a, one address": image_by_url,
    "platform/image-caption: 1b, several addresses": images_by_url,
    "platform/image-caption: 2a, one file": image_file,
    "platform/image-caption: 2b, several files": image_files,
    "platform/image-caption: 3a, base64": image_base64,
    "platform/video-caption: panel": video_panel,
    "platform/video-caption: address": functools.partial(video_by_url, path="upload"),
    "platform/video-caption: address, at once": functools.partial(video_by_url, path="uploadSync"),
    "platform/video-caption: file": functools.partial(video_file, path="uploadFile"),
    "platform/video-caption: file, at once": functools.partial(video_file, path="uploadFileSync"),
    "visual-search/upload-image-from-file": library_images,
    "platform/search-clips-by-image": clips,
    "api-reference/embeddings/image-embedding: file": embedding_by_browser,
    "api-reference/embeddings/image-embedding: asset": embedding_by_asset,
    "visual-search/upload-video-from-file": upload_with_metadata,
    "visual-search/search-by-text": search_with_filters,
    "visual-search/delete-videos": deletion,
}


@pytest.mark.parametrize("page", SAMPLES)
def test_a_page_s_request_sample_is_accepted(live: Live, page: str) -> None:
    answer = SAMPLES[page](live)
    assert answer["code"] in (0, 200, "0000"), answer
    assert answer["msg"] == "success"


CURLS = {
    "platform/image-caption": (
        "--request POST --url {security}/uploadImg --header 'Authorization: {key}' "
        "--header 'Content-Type: application/json' --data @-",
        '{{"user_prompt": "What\'s happening in this picture?", "url": "{image}", '
        '"urls": ["<string>"], "system_prompt": "You are an image understanding system.", '
        '"thinking": false, "qa": false, "reasoning_effort": "2"}}',
    ),
    "api-reference/embeddings/image-embedding": (
        "--request POST --url {v2}/embeddings/image --header 'Authorization: {key}' "
        "--header 'Content-Type: multipart/form-data' --form model=multimodalembedding@001 "
        "--form 'file=@{folder}/example-file.png'",
        "",
    ),
    "platform/search-clips-by-image": (
        "--request POST --url {v1}/search_clips_by_image --header 'Authorization: {key}' "
        "--header 'Content-Type: multipart/form-data' --form 'file=@{folder}/example-file.png' "
        "--form video_no={video_no} "
        "--form 'prompt=focus on the red shirt, ignore background color' --form unique_id=default",
        "",
    ),
    "visual-search/upload-image-from-file": (
        "--request POST --url {v1}/upload_img --header 'Authorization: {key}' "
        "--form 'files=@{folder}/example-file.png;type=image/png' "
        "--form 'tags[0]=outdoor' --form 'tags[1]=2025'",
        "",
    ),
}


@pytest.mark.parametrize("page", CURLS)
def test_a_page_s_curl_sample_is_accepted(live: Live, tmp_path: Path, page: str) -> None:
    (tmp_path / "example-file.png").write_bytes(PNG)
    command, data = (
        text.format(
            security=live.security,
            v1=live.v1,
            v2=live.v2,
            key=KEY,
            image=live.image,
            folder=tmp_path,
            video_no=live.add_video(),
        )
        for text in CURLS[page]
    )
    done = subprocess.run(
        ["sh", "-c", f"curl --silent --noproxy '*' {command}"],
        input=data.encode(),
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["code"] in (0, 200, "0000"), done.stdout


# --- other people's clients, rebuilt from the shapes that they send and read ------------------


def test_a_notebook_s_walk_through_the_library(live: Live) -> None:
    """The official notebooks: upload, poll the list, search, transcript, delete; the older names.

    They read ``envelope.get("data") or []`` and take numbers as text.
    """
    files = {"file": ("walk.mp4", MP4, "video/mp4")}
    data = {"unique_id": "notebook"}
    number = live.post(f"{live.v1}/upload", files=files, data=data)["data"]["videoNo"]
    listed = live.post(f"{live.v1}/list_videos", json={"unique_id": "notebook", "page": 1})
    [video] = listed["data"]["videos"]
    assert (video["video_no"], video["status"], video["cause"]) == (number, "PARSE", "null")
    assert int(video["size"]) == len(MP4)
    body = {"search_param": "rabbit", "unique_id": "notebook", "search_type": "BY_VIDEO"}
    hits = live.post(f"{live.v1}/search", json=body).get("data") or []
    assert {hit["videoNo"] for hit in hits} == {number}
    assert all(isinstance(hit["startTime"], str) for hit in hits)
    query = {"video_no": number, "unique_id": "notebook"}
    spoken = live.get(f"{live.v1}/get_video_transcription", **query)["data"]
    assert spoken["transcriptions"][0]["content"] == "Nobody catches the rabbit."
    assert live.get(f"{live.v1}/get_private_video_details", **query)["data"]["fps"] == 25.0
    address = f"{live.v1}/delete_videos"
    assert live.post(address, params={"unique_id": "notebook"}, json=[number])["data"] is None
    listed = live.post(f"{live.v1}/list_videos", json={"unique_id": "notebook"})
    assert listed["data"]["videos"] == []


def test_a_browser_assistant_that_waits_for_parse_or_fail(live: Live) -> None:
    """A screen agent's client: uploads, lists by its number until PARSE, FAIL ends the wait."""
    number = live.add_video()
    deadline = time.monotonic() + 120
    while True:
        body = {"video_no": number, "page": 1, "size": 20}
        [video] = live.post(f"{live.v1}/list_videos", json=body)["data"]["videos"]
        assert video["status"] in ("UNPARSE", "PARSE", "FAIL", "FAILED")
        if video["status"] == "PARSE":
            break
        assert time.monotonic() < deadline
    failed = live.post(f"{live.v1}/list_videos", json={"status": "FAIL"})
    assert number not in {video["video_no"] for video in failed["data"]["videos"]}


@pytest.mark.parametrize("layout", ["data", "json", "files"])
def test_an_agent_suite_s_upload_by_address(live: Live, layout: str) -> None:
    """One sends ``data=``, one ``json=``, one ``files=`` with names of None."""
    fields: dict[str, Any] = {"url": live.video, "unique_id": "suite"}
    if layout == "files":
        fields = {name: (None, value) for name, value in fields.items()}
    answer = live.post(f"{live.v1}/upload_url", **{layout: fields})
    assert (answer.get("data") or {}).get("videoNo", "").startswith("VI")


def test_an_editor_s_captions_by_callback(live: Live) -> None:
    """An open-source video editor: aiohttp's FormData, ``req`` then ``files``; its receiver reads
    ``data.response or data.text`` and asks for ``status == 0``.
    """

    async def submit() -> dict[str, Any]:
        form = aiohttp.FormData()
        data = {"user_prompt": "u", "system_prompt": "s", "callback": f"{live.site.url}/editor"}
        form.add_field(
            "req", json.dumps(data), filename="req.json", content_type="application/json"
        )
        form.add_field("files", MP4, filename="clip.mp4", content_type="video/mp4")
        async with (
            aiohttp.ClientSession(headers=HEADERS) as session,
            session.post(f"{live.security}/uploadFile", data=form) as response,
        ):
            answer: dict[str, Any] = await response.json()
            return answer

    task_id = asyncio.run(submit())["data"]["task_id"]
    deadline = time.monotonic() + 120
    while not (found := [one for one in live.emulator.callbacks.posted if "editor" in one.url]):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    body: Any = found[0].body
    assert (body["status"], body["task_id"]) == (0, task_id)
    assert body["data"].get("response") or body["data"].get("text")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_media_service_s_signed_upload(live: Live, method: str) -> None:
    """A Node media service: the form field ``file`` to the signed address, then it polls
    ``data.resource[0].upload_status``.
    """
    address = f"{live.v2}/upload/signed-url"
    signed = live.post(address, json={"original_filename": "clip.mp4"})["data"]
    assert signed["expires_in"] == 93600
    how = {"data": MP4} if method == "PUT" else {"files": {"file": ("clip.mp4", MP4, "video/mp4")}}
    assert requests.request(method, signed["signed_url"], **how).ok  # type: ignore[arg-type]
    metadata = live.get(f"{live.v2}/{signed['asset_id']}/metadata")
    assert metadata["data"]["resource"][0]["upload_status"] == "SUCCESS"


def test_a_phone_s_captions_by_base64(live: Live) -> None:
    """An Android assistant sends five fields, no system prompt, and reads ``data.text``."""
    body = {
        "image_base64": base64.b64encode(JPEG).decode(),
        "img_type": "image/jpeg",
        "user_prompt": "What do you see?",
        **CAPTION,
    }
    answer = live.post(f"{live.security}/uploadImgFileBase64", json=body)
    assert answer["data"]["text"]


def test_a_skill_s_embeddings(live: Live) -> None:
    """A skill's script: ``image_url`` as JSON, and texts whose answer is a list."""
    body = {"image_url": live.image, "model": "multimodalembedding@001"}
    answer = live.post(f"{live.v2}/embeddings/image", json=body)
    assert answer["code"] == 200
    assert answer["data"]["embedding"]
    body = {"input": ["a", "b"], "model": "gemini-embedding-001"}
    assert len(live.post(f"{live.v2}/embeddings/text", json=body)["data"]) == 2


def test_an_examples_client_s_metadata_of_an_unknown_video(live: Live) -> None:
    """The official examples' live test: code 0000, ``data`` null for a number that nobody has."""
    answer = live.get(f"{live.v1}/get_metadata", video_no="VI000000000000000000")
    assert (answer["code"], answer["data"]) == ("0000", None)


def test_a_download_s_failure_is_json(live: Live) -> None:
    """Command-line clients tell a file from a failure by its content type."""
    number = live.add_video()
    response = requests.post(f"{live.v1}/download", headers=HEADERS, json={"video_no": number})
    assert "json" not in response.headers["Content-Type"]
    assert response.content == MP4
    response = requests.post(f"{live.v1}/download", headers=HEADERS, json={"video_no": "VI1"})
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.json()["msg"] == "video not found"


@attrs.frozen
class Reader:
    """How each public client decides that a call went well."""

    name: str
    ok: Callable[[Mapping[str, Any]], bool]


READERS = (
    Reader("code is 0000", lambda answer: answer["code"] in ("0000", 0, 200)),
    Reader("success flag", lambda answer: answer.get("success", True)),
    Reader("not failed", lambda answer: not answer.get("failed", False)),
    Reader("msg", lambda answer: answer["msg"] == "success"),
    Reader("text of the code", lambda answer: str(answer["code"]) in {"0000", "0", "200"}),
)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_every_way_of_reading_an_envelope_agrees(live: Live, reader: Reader) -> None:
    good = [
        live.post(f"{live.v1}/list_videos", json={}),
        image_base64(live),
        embedding_by_browser(live),
    ]
    bad = [
        live.post(f"{live.v1}/list_videos", json={"page": 0}),
        live.post(f"{live.v2}/embeddings/text", json={}),
    ]
    assert all(map(reader.ok, good))
    assert not any(map(reader.ok, bad))
