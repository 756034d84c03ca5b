"""Where the emulator is held to what was recorded or printed, each with its evidence.

Evidence: the pages of api-tools.memories.ai; its OpenAPI document as copied on 2026-07-20; and the
recorded answers in the notebook ``python/API_showcase.ipynb`` of OpenInterX-Products/
memories-ai-sdk (the official SDK of 2025).
"""

from __future__ import annotations

import aiohttp
import pytest

from memories_async.emulator import Emulator, Line
from tests.emulator.conftest import (
    JPEG,
    KEY,
    MP4,
    PNG,
    KnownEngine,
    Site,
    add_video,
    fields_and_files,
    post,
    post_any,
    session_for,
)

pytestmark = pytest.mark.anyio

V1 = "/serve/api/v1"
V2 = "/serve/api/v2"


async def get(client: aiohttp.ClientSession, path: str, **query: str) -> dict[str, object]:
    async with client.get(path, params=query) as response:
        assert response.status == 200
        answer: dict[str, object] = await response.json()
        return answer


# --- lists and names --------------------------------------------------------------------------


async def test_a_list_begins_with_the_newest_video(client: aiohttp.ClientSession) -> None:
    """Recorded: the 31 ``create_time`` of three pages of list_videos fall from first to last."""
    numbers = [await add_video(client) for _ in range(3)]
    answer = await post(client, f"{V1}/list_videos", {})
    assert [video["video_no"] for video in answer["data"]["videos"]] == numbers[::-1]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [("film.mp4", "film"), ("my.cat.MOV", "my.cat"), ("日本.mkv", "日本"), ("a b.avi", "a b")],
)
async def test_a_video_s_stored_name_has_no_extension(
    client: aiohttp.ClientSession, sent: str, stored: str
) -> None:
    """Recorded: all 40 ``video_name`` come without the extension that was sent."""
    body = fields_and_files({}, ("file", sent, MP4, "video/mp4"))
    answer = await post(client, f"{V1}/upload", body)
    assert answer["data"]["videoName"] == stored
    number = answer["data"]["videoNo"]
    record = (await get(client, f"{V1}/get_metadata", video_no=number))["data"]
    assert record["video_name"] == stored
    async with client.post(f"{V1}/download", json={"video_no": number}) as response:
        assert response.headers["Content-Disposition"].endswith(f'{sent[-4:]}"')


@pytest.mark.parametrize("status", ["FAIL", "FAILED"])
async def test_both_spellings_of_a_failed_status_filter(
    client: aiohttp.ClientSession, status: str
) -> None:
    """The OpenAPI document lists FAILED; recorded answers and guides of 2025 say FAIL."""
    await add_video(client)
    broken = await add_video(client, content=b"BROKEN")
    answer = await post(client, f"{V1}/list_videos", {"status": status})
    assert [video["video_no"] for video in answer["data"]["videos"]] == [broken]


# --- search -----------------------------------------------------------------------------------


async def test_without_a_filtering_level_nothing_is_filtered(
    client: aiohttp.ClientSession,
) -> None:
    """OpenAPI, filtering_level: "When omitted no level filter is applied"."""
    await add_video(client)
    search = {"search_param": "rabbit carpet window lamp table chair curtain door floor"}
    found = await post(client, f"{V1}/search", search)
    assert [hit["score"] for hit in found["data"]] == [0.1111]
    assert (await post(client, f"{V1}/search", {**search, "filtering_level": "low"}))["data"] == []


@pytest.mark.parametrize(("search_type", "most"), [("BY_CLIP", 100), ("BY_CAPTION", 10)])
async def test_top_k_when_none_is_given(
    client: aiohttp.ClientSession, engine: KnownEngine, search_type: str, most: int
) -> None:
    """OpenAPI, top_k: default 100; for BY_CAPTION default 10, at most 200."""
    engine.describe_shots = lambda video: [  # type: ignore[method-assign]
        Line(float(at), at + 1.0, "A meadow.") for at in range(150)
    ]
    await add_video(client)
    body = {"search_param": "meadow", "search_type": search_type}
    assert len((await post(client, f"{V1}/search", body))["data"]) == most
    assert len((await post(client, f"{V1}/search", {**body, "top_k": 120}))["data"]) == 120


async def test_an_image_that_is_found_has_an_address(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """search-by-text, BY_IMAGE: items have id, name, img_url, datetime_taken, …"""
    body = fields_and_files({}, ("files", "meadow.png", PNG, "image/png"))
    await post(client, f"{V1}/upload_img", body)
    search = {"search_param": "meadow", "search_type": "BY_IMAGE"}
    [item] = (await post(client, f"{V1}/search", search))["data"]["item"]
    async with aiohttp.ClientSession() as anybody:
        async with anybody.get(item["img_url"]) as response:
            assert await response.read() == PNG
            assert response.content_type == "image/png"
        forged = item["img_url"][:-1] + ("0" if item["img_url"][-1] != "0" else "1")
        for wrong in forged, item["img_url"].partition("?")[0]:
            async with anybody.get(wrong) as response:
                assert response.status == 403


async def test_a_search_takes_its_time_as_text(client: aiohttp.ClientSession) -> None:
    """OpenAPI and the official examples: ``"datetime_taken": "2025-10-20 11:00:00"``."""
    taken = await add_video(client, datetime_taken="2025-10-20 11:00:00")
    await add_video(client, datetime_taken="2025-10-20 10:59:59")
    search = {"search_param": "rabbit", "datetime_taken": "2025-10-20 11:00:00"}
    answer = await post(client, f"{V1}/search", search)
    assert {hit["videoNo"] for hit in answer["data"]} == {taken}
    answer = await post(client, f"{V1}/search", {**search, "datetime_taken": "1760958000000"})
    assert answer["code"] == "0001"


@pytest.mark.parametrize("path", ["search_clips_by_image", "search_similar_images", "upload_img"])
async def test_a_form_without_its_file_is_refused_in_the_envelope(
    client: aiohttp.ClientSession, path: str
) -> None:
    """search-clips-by-image: "rejected immediately with an error identifying the offending
    filename"; visual search says so with code 0001 at HTTP 200. ``requests`` sends a form without
    files urlencoded, and so does curl.
    """
    fields = {"video_no": await add_video(client), "prompt": "p"}
    part = "files" if path == "upload_img" else "file"
    for body in aiohttp.FormData(fields), fields_and_files(fields):
        answer = await post(client, f"{V1}/{path}", body)
        assert (answer["code"], answer["msg"]) == (
            "0001",
            f"Required part '{part}' is not present.",
        )


async def test_lines_of_all_videos_are_searched_by_their_words(
    client: aiohttp.ClientSession,
) -> None:
    """OpenAPI, GET /search_audio_transcripts: {videos: [{videoNo, videoName, startTime,
    audio_ts}], current_page, page_size, total_count}; six public projects call it.
    """
    number = await add_video(client)
    answer = await get(client, f"{V1}/search_audio_transcripts", query="the RABBIT")
    assert answer["data"] == {
        "videos": [
            {
                "videoNo": number,
                "videoName": "film",
                "startTime": "0",
                "audio_ts": "Nobody catches the rabbit.",
            }
        ],
        "current_page": 1,
        "page_size": 100,
        "total_count": "1",
    }
    nothing = await get(client, f"{V1}/search_audio_transcripts", query="fox", page="2")
    assert nothing["data"]["videos"] == []


# --- transcripts and older names --------------------------------------------------------------


async def test_a_silent_video_s_transcript_is_null(
    client: aiohttp.ClientSession, engine: KnownEngine
) -> None:
    """Recorded: ``{"code": "0000", "msg": "success", "data": null}`` for a video that exists."""
    engine.transcribe = lambda video: []  # type: ignore[method-assign]
    number = await add_video(client)
    answer = await get(client, f"{V1}/get_audio_transcription", video_no=number)
    assert (answer["code"], answer["data"]) == ("0000", None)
    record = await get(client, f"{V1}/get_metadata", video_no=number)
    assert record["data"]["video_no"] == number


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("get_video_transcription", "get_audio_transcription"),
        ("get_private_video_details", "get_metadata"),
    ],
)
async def test_older_names_still_answer(
    client: aiohttp.ClientSession, emulator: Emulator, older: str, newer: str
) -> None:
    """The documentation of 2025 (v1.2) has these names, and public clients still use them."""
    number = await add_video(client)
    answers = [await get(client, f"{V1}/{path}", video_no=number) for path in (older, newer)]
    assert answers[0] == answers[1]
    assert emulator.ledger[-1].operation == emulator.ledger[-2].operation


# --- uploads by address -----------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["form", "multipart", "json"])
async def test_an_upload_by_address_comes_in_three_ways(
    client: aiohttp.ClientSession, site: Site, layout: str
) -> None:
    """upload-video-from-url asks for a form; five public clients send JSON or multipart. What the
    service makes of that is not known: the emulator takes it.
    """
    fields = {"url": site.file("film.mp4", "video/mp4", MP4), "unique_id": "mine"}
    bodies = {
        "form": aiohttp.FormData(fields),
        "multipart": fields_and_files(fields),
        "json": fields,
    }
    answer = await post(client, f"{V1}/upload_url", bodies[layout])
    assert answer["data"]["videoStatus"] == "UNPARSE"
    listed = await post(client, f"{V1}/list_videos", {"unique_id": "mine"})
    assert [video["video_name"] for video in listed["data"]["videos"]] == ["film"]


async def test_bytes_may_be_put_to_a_signed_address(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    """The index lists "Upload File Using Signed URL" as a PUT; the sample posts a form."""
    answer = await post(client, f"{V2}/upload/signed-url", {"original_filename": "film.mp4"})
    asset_id, target = answer["data"]["asset_id"], answer["data"]["signed_url"]
    async with aiohttp.ClientSession() as stranger:
        async with stranger.put(target, data=MP4) as response:
            assert response.status in (200, 204)
        async with stranger.put(target.partition("?")[0] + "?signature=x", data=MP4) as response:
            assert response.status == 403
    answer = await get(client, f"{V2}/{asset_id}/metadata")
    assert answer["data"]["resource"][0]["upload_status"] == "SUCCESS"
    async with client.get(f"{V2}/{asset_id}/download") as response:
        assert await response.read() == MP4
    assert emulator.ledger.of("send_signed")[0].files[0].size == len(MP4)


# --- captions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effort", "accepted"),
    [
        ("2", True),
        (10, True),
        ("-1", True),
        ("", True),
        ("99", False),
        (0, False),
        ("high", False),
        ("1.5", False),
    ],
)
async def test_the_effort_is_a_level_from_one_to_ten(
    client: aiohttp.ClientSession, site: Site, effort: object, accepted: bool
) -> None:
    """video-caption, reasoning_effort: "Level 1-10 for thinking effort"; -1 is the default."""
    url = site.file("a.png", "image/png", PNG)
    body = {"user_prompt": "u", "url": url, "thinking": True, "reasoning_effort": effort}
    answer = await post(client, "/v1/understand/uploadImg", body)
    assert answer["code"] == (0 if accepted else -1)


# --- embeddings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content_type", "accepted"),
    [
        ("a.jpg", "image/jpeg", True),
        ("a.jpg", "image/jpg", True),
        ("a.png", "image/png", True),
        ("a.gif", "image/gif", True),
        ("a.webp", "image/webp", True),
        ("a.bmp", "image/bmp", True),
        ("a.tiff", "image/tiff", True),
        ("blob", "image/png", True),
        ("a.tif", "application/octet-stream", True),
        ("a.svg", "image/svg+xml", False),
        ("a.svg", "application/octet-stream", False),
        ("a.heic", "image/heic", False),
        ("a.avif", "image/avif", False),
        ("a.pdf", "application/pdf", False),
    ],
)
async def test_embeddings_take_six_formats(
    client: aiohttp.ClientSession, name: str, content_type: str, accepted: bool
) -> None:
    """image-embedding: "Supported image formats: JPEG, PNG, GIF, WebP, BMP, TIFF"."""
    body = fields_and_files({"model": "mobileclip"}, ("file", name, JPEG, content_type))
    status, answer = await post_any(client, f"{V2}/embeddings/image", body)
    assert (status, answer["code"]) == ((200, 200) if accepted else (400, 400))


async def test_an_image_is_embedded_by_its_address(
    client: aiohttp.ClientSession, site: Site
) -> None:
    """No page has ``image_url``; a skill's log of live calls of February 2026 shows it working."""
    body = {"image_url": site.file("a.png", "image/png", PNG), "model": "mobileclip"}
    answer = await post(client, f"{V2}/embeddings/image", body)
    assert len(answer["data"]["embedding"]) == 5
    status, answer = await post_any(client, f"{V2}/embeddings/image", {"model": "mobileclip"})
    assert (status, answer["code"]) == (400, 400)


# --- what no operation takes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "content_type", "status"),
    [
        ("GET", f"{V2}/embeddings/text", "application/json", 405),
        ("DELETE", f"{V2}/upload", "application/json", 405),
        ("POST", f"{V2}/re_1/metadata", "application/json", 405),
        ("POST", f"{V2}/embeddings/text", "text/plain", 415),
        ("POST", f"{V2}/upload", "application/json", 415),
        ("POST", f"{V2}/embeddings/image", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_visual_intelligence_names_method_and_type_by_code(
    client: aiohttp.ClientSession, method: str, path: str, content_type: str, status: int
) -> None:
    """error-codes: 405 and 415, and the HTTP status is the body's code."""
    headers = {"Content-Type": content_type}
    async with client.request(method, path, data=b"{}", headers=headers) as response:
        answer = await response.json()
    assert (response.status, answer["code"]) == (status, status)
    assert (answer["success"], answer["failed"]) == (False, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/upload_image"), ("GET", "/search"), ("POST", "/get_metadata")],
)
async def test_visual_search_refuses_with_0001_at_http_200(
    client: aiohttp.ClientSession, method: str, path: str
) -> None:
    """Recorded on 2026-09-19: code 0001, "No static resource api/v1/upload_img." at HTTP 200."""
    async with client.request(method, V1 + path, json={}) as response:
        answer = await response.json()
    assert (response.status, answer["code"], answer["failed"]) == (200, "0001", True)
    if path == "/upload_image":
        assert answer["msg"] == "No static resource api/v1/upload_image."


async def test_captions_leave_it_to_the_gateway(client: aiohttp.ClientSession) -> None:
    """Probed: a Spring error body without a code, of the status that it names."""
    for method, path, status in (
        ("GET", "/v1/understand/uploadImg", 405),
        ("POST", "/v1/understand/nothing", 404),
    ):
        async with client.request(method, path) as response:
            answer = await response.json()
        assert (response.status, answer["status"], "code" in answer) == (status, status, False)


async def test_busy_is_not_done_already(engine: KnownEngine) -> None:
    """A fixture of the official client's tests: 0409 "Service is busy, try later"."""
    from memories_async.emulator import InjectedFault, Reason

    async with Emulator(engine) as emulator, session_for(emulator, KEY) as client:
        emulator.faults.add(InjectedFault("library.search", Reason.BUSY))
        answer = await post(client, f"{V1}/search", {"search_param": "rabbit"})
    assert (answer["code"], answer["msg"]) == ("0409", "Service is busy, try later")
