"""The documentation's examples of the library, sent by ``requests``: a client of somebody else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import requests
from anyio import create_task_group, to_thread

from memories_async.emulator import Cut, Emulator, InjectedFault
from tests.emulator.conftest import FILM_METADATA, KEY, MP4, PNG, KnownEngine, Site, files_in

pytestmark = pytest.mark.anyio

HEADERS = {"Authorization": KEY}
VIDEO = ("film.mp4", MP4, "video/mp4")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


async def in_thread(
    function: Callable[..., requests.Response], url: str, **options: object
) -> requests.Response:
    """Let ``requests`` wait in a thread, as it knows no other way."""
    return await to_thread.run_sync(partial(function, url, headers=HEADERS, timeout=60, **options))


async def post(emulator: Emulator, path: str, **options: object) -> Mapping[str, object]:
    """Post to the library; return ``data`` of the success that must come."""
    url = f"{emulator.url}/serve/api/v1/{path}"
    return unwrapped(await in_thread(requests.post, url, **options))


async def get(emulator: Emulator, path: str, **params: object) -> Mapping[str, object]:
    """Get from the library; return ``data`` of the success that must come."""
    url = f"{emulator.url}/serve/api/v1/{path}"
    return unwrapped(await in_thread(requests.get, url, params=params))


def unwrapped(response: requests.Response) -> Mapping[str, object]:
    answer = response.json()
    data = answer.pop("data")
    assert (response.status_code, answer) == (
        200,
        {"code": "0000", "msg": "success", "success": True, "failed": False},
    )
    return data


async def refusal(emulator: Emulator, path: str, **options: object) -> str:
    """Post to the library; return the message of the refusal that must come."""
    response = await in_thread(requests.post, f"{emulator.url}/serve/api/v1/{path}", **options)
    answer = response.json()
    assert (response.status_code, answer["code"], answer["data"]) == (200, "0001", None)
    return answer["msg"]


async def upload(emulator: Emulator, name: str = "film.mp4", **fields: object) -> str:
    """Upload a video; return its number."""
    data = await post(emulator, "upload", files={"file": (name, MP4, "video/mp4")}, data=fields)
    return data["videoNo"]


# --- coming in --------------------------------------------------------------------------------


async def test_upload_from_a_file(emulator: Emulator, site: Site, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(MP4)
    data = {
        "callback": f"{site.url}/callback?job=7",
        "unique_id": "mine",
        "datetime_taken": "2025-09-07 22:52:00",
        "camera_model": "Canon EOS 5D",
        "latitude": "39.9042",
        "longitude": "116.4074",
        "tags": ["outdoor", "2025"],
        "retain_original_video": "true",
        "video_transcription_prompt": "Name the animals",
    }
    with path.open("rb") as file:
        files = {"file": ("film.mp4", file, "video/mp4")}
        added = await post(emulator, "upload", files=files, data=data)
    assert set(added) == {"videoNo", "videoName", "videoStatus", "uploadTime"}
    assert added["videoStatus"] == "UNPARSE"
    assert await site.callbacks.get() == (
        "/callback?job=7",
        {"videoNo": added["videoNo"], "status": "PARSE"},
    )
    found = await get(emulator, "get_metadata", video_no=added["videoNo"], unique_id="mine")
    assert found == {
        **FILM_METADATA,
        "video_no": added["videoNo"],
        "create_time": added["uploadTime"],
        "camera_model": "Canon EOS 5D",
        "latitude": 39.9042,
        "longitude": 116.4074,
        "datetime_taken": "1757285520000",
        "tags": ["outdoor", "2025", "api"],
    }
    assert emulator.ledger.billed("library.add_video") == 1


async def test_upload_from_a_url(emulator: Emulator, site: Site) -> None:
    url = site.file("videos/film.mp4", "video/mp4", MP4) + "?signature=a%2Fb"
    site.files["/videos/film.mp4"] = ("video/mp4", MP4)
    data = {"url": url, "unique_id": "default", "tags": ["a", "b"]}
    added = await post(emulator, "upload_url", data=data)
    assert added["videoName"] == "film"
    assert emulator.ledger[0].operation == "add_video_url"
    found = await get(emulator, "get_metadata", video_no=added["videoNo"])
    assert (found["size"], found["tags"]) == ("1012", ["a", "b", "api"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"url": " "}, "The url parameter cannot be empty!"),
        ({"url": "http://10.0.0.5/film.mp4"}, "10.0.0.5 is not loopback"),
        ({"url": "{site}/missing.mp4"}, "HTTP 404"),
        ({"url": "{site}/film.m3u8"}, "The file film.m3u8 has an unsupported extension"),
        ({"url": "{site}/film.mp4", "callback": "http://10.0.0.5/"}, "is not loopback"),
        ({"url": "{site}/film.mp4", "folder_id": "x"}, "folder_id must be an integer"),
    ],
)
async def test_urls_that_are_refused(
    emulator: Emulator, site: Site, data: dict[str, str], message: str
) -> None:
    site.file("film.mp4", "video/mp4", MP4)
    site.file("film.m3u8", "application/vnd.apple.mpegurl", b"#EXTM3U")
    data = {name: value.replace("{site}", site.url) for name, value in data.items()}
    assert message in await refusal(emulator, "upload_url", data=data)
    assert not emulator.ledger.billed()


# --- listing, deleting, downloading -----------------------------------------------------------


async def test_list_videos(emulator: Emulator) -> None:
    numbers = [await upload(emulator, f"{name}.mp4") for name in "abc"]
    first = await post(emulator, "list_videos", json={"page": 1, "size": 2})
    assert [video["video_no"] for video in first["videos"]] == [numbers[2], numbers[1]]
    assert first["videos"][0] == {
        "video_no": numbers[2],
        "video_name": "c",
        "duration": "5",
        "size": "1012",
        "create_time": first["videos"][0]["create_time"],
        "status": "PARSE",
        "cause": "null",
        "tags": ["api"],
    }
    assert {name: first[name] for name in ("current_page", "page_size", "total_count")} == {
        "current_page": 1,
        "page_size": 2,
        "total_count": "3",
    }
    second = await post(emulator, "list_videos", json={"page": 2, "size": 2})
    assert [video["video_no"] for video in second["videos"]] == numbers[:1]
    assert (await post(emulator, "list_videos", json={"page": 3, "size": 2}))["videos"] == []
    assert not emulator.ledger.billed("library.videos")


FILTERS = {
    "video_name": "b",
    "status": "PARSE",
    "camera_model": "Leica",
    "tag": "zoo",
    "datetime_taken": 1757285520000,
    "folder_id": 7,
}


async def test_list_videos_by_filters(emulator: Emulator) -> None:
    plain = await upload(emulator, "a.mp4")
    full = await upload(
        emulator,
        "b.mp4",
        camera_model="Leica",
        tags=["zoo", "bear"],
        datetime_taken="2025-09-07 22:52:00",
        latitude="52.50",
        longitude="13.40",
        folder_id="7",
    )

    async def listed(**filters: object) -> list[str]:
        page = await post(emulator, "list_videos", json=filters)
        return [video["video_no"] for video in page["videos"]]

    assert await listed() == [full, plain]
    for name, value in FILTERS.items():
        assert await listed(**{name: value}) == ([full, plain] if name == "status" else [full])
    assert await listed(**FILTERS) == [full]
    assert await listed(datetime_taken=1757285520001) == []
    assert await listed(latitude=52.6, longitude=13.5) == [full]  # 13 km
    assert await listed(latitude=52.7, longitude=13.7) == []  # 30 km
    assert await listed(video_no=plain) == [plain]
    assert await listed(video_nos=[full, "VI1"]) == [full]
    assert await listed(status="FAILED") == []
    assert await listed(folder_id=-1) == [plain]
    assert await listed(unique_id="theirs") == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"page": 0}, "page must be an integer between 1"),
        ({"size": "many"}, "size must be an integer"),
        ({"size": 1.5}, "size must be an integer"),
        ({"page": True}, "page must be an integer"),
        ({"status": "DONE"}, "status must be PARSE or UNPARSE or FAILED or FAIL"),
        ({"latitude": 1}, "latitude and longitude must be given together"),
        ({"latitude": 91, "longitude": 1}, "latitude must be a decimal between -90 and 90"),
        ({"video_nos": [{}]}, "video_nos must be a list of texts"),
        ({"tag": {}}, "tag must be text"),
    ],
)
async def test_lists_that_are_refused(
    emulator: Emulator, body: dict[str, object], message: str
) -> None:
    await upload(emulator, latitude="1", longitude="1")
    assert message in await refusal(emulator, "list_videos", json=body)


async def test_delete_videos(engine: KnownEngine, tmp_path: Path) -> None:
    async with Emulator(engine, folder=tmp_path) as emulator:
        numbers = [await upload(emulator) for _ in range(3)]
        theirs = await upload(emulator, unique_id="theirs")
        url_params = {"unique_id": "default"}
        gone = [numbers[0], "VI1", numbers[2], theirs]
        assert await post(emulator, "delete_videos", params=url_params, json=gone) is None
        assert await post(emulator, "delete_videos", json=gone) is None
        left = await post(emulator, "list_videos", json={})
        assert [video["video_no"] for video in left["videos"]] == [numbers[1]]
        assert await get(emulator, "get_metadata", video_no=theirs, unique_id="theirs")
        assert len(files_in(tmp_path)) == 4
    async with Emulator(engine, folder=tmp_path) as emulator:
        assert await get(emulator, "get_metadata", video_no=numbers[0]) is None
        assert await get(emulator, "get_metadata", video_no=numbers[1])


async def test_deletions_that_are_refused(emulator: Emulator) -> None:
    message = await refusal(emulator, "delete_videos", json=["VI1"] * 101)
    assert message == "video_nos exceed the limit of 100"
    message = await refusal(emulator, "delete_videos", json={"video_nos": ["VI1"]})
    assert "not a JSON array" in message


async def test_a_video_that_is_deleted_while_it_is_indexed_stays_deleted(
    emulator: Emulator, engine: KnownEngine
) -> None:
    video_no = await upload(emulator)

    def describe_shots(video: Path) -> list[object]:
        [stored] = emulator._store.videos.all()
        emulator._store.videos.remove(stored)
        return []

    engine.describe_shots = describe_shots
    assert await get(emulator, "get_metadata", video_no=video_no)
    assert await get(emulator, "get_metadata", video_no=video_no) is None
    assert (await post(emulator, "list_videos", json={}))["total_count"] == "0"


async def test_download(emulator: Emulator) -> None:
    video_no = await upload(emulator, 'a "film" (2)\r\n.mp4')
    url = f"{emulator.url}/serve/api/v1/download"
    response = await in_thread(requests.post, url, json={"video_no": video_no})
    assert response.content == MP4
    assert response.headers["Content-Type"] == "video/mp4"
    assert response.headers["Content-Length"] == str(len(MP4))
    disposition = response.headers["Content-Disposition"]
    assert re.fullmatch(r'attachment; filename="[\w.%-]+\.mp4"', disposition)
    assert emulator.ledger[-1].status == 200
    body = {"video_no": "VI1"}
    assert await refusal(emulator, "download", json=body) == "video not found"
    kept_not = await upload(emulator, retain_original_video="false")
    assert await refusal(emulator, "download", json={"video_no": kept_not}) == "video not found"
    assert await get(emulator, "get_metadata", video_no=kept_not)


async def test_a_download_can_be_cut(emulator: Emulator) -> None:
    video_no = await upload(emulator)
    emulator.faults.add(InjectedFault("library.download", Cut("half"), moment="processed"))
    url = f"{emulator.url}/serve/api/v1/download"
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="506 bytes read, 506 more"):
        await in_thread(requests.post, url, json={"video_no": video_no})


# --- searching --------------------------------------------------------------------------------


async def test_search_by_clip(emulator: Emulator) -> None:
    video_no = await upload(emulator, tags=["spring"])
    body = {"search_param": "a rabbit on green meadows", "search_type": "BY_CLIP", "top_k": 5}
    hits = await post(emulator, "search", json=body)
    rabbit = {"videoNo": video_no, "videoName": "film", "startTime": "2", "endTime": "6"}
    meadow = {**rabbit, "startTime": "0", "endTime": "3"}
    assert hits == [{**meadow, "score": 0.6667}, {**rabbit, "score": 0.6667}]
    assert emulator.ledger.billed("library.search") == 1
    assert await post(emulator, "search", json={**body, "top_k": 1}) == hits[:1]
    assert await post(emulator, "search", json={**body, "search_type": "BY_VIDEO"}) == hits
    assert await post(emulator, "search", json={"search_param": "winter"}) == []
    spring = await post(emulator, "search", json={"search_param": "Spring?"})
    assert [hit["score"] for hit in spring] == [1.0, 1.0]


async def test_search_by_audio(emulator: Emulator) -> None:
    video_no = await upload(emulator)
    body = {"search_param": "Who catches it?", "search_type": "BY_AUDIO"}
    assert await post(emulator, "search", json=body) == [
        {
            "videoNo": video_no,
            "videoName": "film",
            "startTime": "0",
            "endTime": "6",
            "audio_ts": "Nobody catches the rabbit.",
            "score": 1.0,
        }
    ]


async def test_search_by_caption(emulator: Emulator) -> None:
    video_no = await upload(emulator)
    body = {"search_param": "rabbit", "search_type": "BY_CAPTION"}
    assert await post(emulator, "search", json=body) == [
        {
            "video_no": video_no,
            "text": "A rabbit, on the meadow.",
            "start_time": 2.4,
            "end_time": 5.28,
            "score": 1.0,
        }
    ]


async def test_search_by_image(emulator: Emulator) -> None:
    files = [("files", ("zoo.png", PNG, "image/png")), ("files", ("b.png", PNG, "image/png"))]
    data = {"tags": ["bear"], "camera_model": "Leica", "datetime_taken": "2025-09-07 22:52:00"}
    [image, other] = await post(emulator, "upload_img", files=files, data=data)
    body = {"search_param": "a bear in the zoo", "search_type": "BY_IMAGE", "top_k": 10}
    found = await post(emulator, "search", json=body)
    details = {
        "camera_model": "Leica",
        "datetime_taken": "1757285520000",
        "tags": ["bear", "api"],
    }
    addresses = [item.pop("img_url") for item in found["item"]]
    assert len(set(addresses)) == 2
    assert found == {
        "item": [
            {"id": str(image["id"]), "name": "zoo.png", **details, "score": 1.0},
            {"id": str(other["id"]), "name": "b.png", **details, "score": 0.5},
        ],
        "current_page": 0,
        "page_size": 10,
        "total_count": "2",
    }


async def test_an_image_that_cannot_be_read_is_found_by_its_tags(emulator: Emulator) -> None:
    files = [("files", ("a.png", b"BROKEN", "image/png"))]
    await post(emulator, "upload_img", files=files, data={"tags": ["bear"]})
    body = {"search_param": "bear", "search_type": "BY_IMAGE"}
    assert len((await post(emulator, "search", json=body))["item"]) == 1


async def test_searches_have_filters_and_levels(emulator: Emulator) -> None:
    first = await upload(emulator, tags=["zoo"], camera_model="Leica")
    second = await upload(emulator)

    async def found(**body: object) -> set[str]:
        body = {"search_param": "rabbit hare hunter fox", "search_type": "BY_CLIP", **body}
        return {hit["videoNo"] for hit in await post(emulator, "search", json=body)}

    assert await found() == {first, second}
    assert await found(video_nos=[second]) == {second}
    assert await found(tag="zoo") == {first}
    assert await found(camera_tag="Leica") == {first}
    assert await found(unique_id="theirs") == set()
    # The page's own sample; only the list's filter is a number.
    assert await found(datetime_taken="2025-10-20 11:00:00") == set()
    assert await found(filtering_level="medium") == {first, second}  # one word of four
    assert await found(filtering_level="high") == set()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "The search_param parameter cannot be empty!"),
        ({"search_param": "x", "search_type": "BY_TASTE"}, "search_type must be BY_CLIP or"),
        ({"search_param": "x", "top_k": 1001}, "top_k must be an integer between 1 and 1000"),
        (
            {"search_param": "x", "top_k": 201, "search_type": "BY_CAPTION"},
            "top_k must be an integer between 1 and 200",
        ),
        ({"search_param": "x", "video_nos": ["VI1"] * 101}, "video_nos exceed the limit of 100"),
        ({"search_param": "x", "filtering_level": "all"}, "must be low or medium or high"),
    ],
)
async def test_searches_that_are_refused(
    emulator: Emulator, body: dict[str, object], message: str
) -> None:
    assert message in await refusal(emulator, "search", json=body)


async def test_search_by_a_similar_image(emulator: Emulator) -> None:
    video_no = await upload(emulator)
    files = {"file": ("query.png", PNG, "image/png")}
    hit = {"videoNo": video_no, "videoName": "film", "startTime": "12", "endTime": "19"}
    assert await post(emulator, "search_similar_images", files=files) == [{**hit, "score": 0.8631}]
    data = {"similarity": "0", "unique_id": "default"}
    hits = await post(emulator, "search_similar_images", files=files, data=data)
    assert [hit["score"] for hit in hits] == [0.8631, 0.0]
    data = {"similarity": "1.1"}
    message = await refusal(emulator, "search_similar_images", files=files, data=data)
    assert message == "similarity must be a decimal between 0 and 1"


# --- what was read of a video -----------------------------------------------------------------


async def test_transcript_and_captions(emulator: Emulator) -> None:
    video_no = await upload(emulator)
    line = {"index": 0, "content": "Nobody catches the rabbit.", "startTime": "0", "endTime": "6"}
    assert await get(emulator, "get_audio_transcription", video_no=video_no) == {
        "videoNo": video_no,
        "transcriptions": [line],
    }
    captions = await get(emulator, "get_video_caption", video_no=video_no)
    assert captions["transcriptions"] == [
        {"index": 0, "content": "A green meadow.", "startTime": "0", "endTime": "3"},
        {"index": 1, "content": "A rabbit, on the meadow.", "startTime": "2", "endTime": "6"},
    ]
    assert await get(emulator, "get_video_caption", video_no="VI1") is None


@pytest.fixture
async def slow(engine: KnownEngine) -> AsyncIterator[tuple[Emulator, list[float]]]:
    """An emulator that indexes in an hour of a time that stands still, and that time."""
    now = [1_000_000.0]
    async with Emulator(engine, index_seconds=3600, clock=lambda: now[0]) as emulator:
        yield emulator, now


async def test_nothing_is_found_before_it_is_indexed(slow: tuple[Emulator, list[float]]) -> None:
    emulator, now = slow
    video_no = await upload(emulator)
    unparsed = await post(emulator, "list_videos", json={"status": "UNPARSE"})
    assert [video["duration"] for video in unparsed["videos"]] == ["0"]
    assert await post(emulator, "search", json={"search_param": "rabbit"}) == []
    files = {"file": ("query.png", PNG, "image/png")}
    assert await post(emulator, "search_similar_images", files=files) == []
    url = f"{emulator.url}/serve/api/v1/get_video_caption"
    answer = await in_thread(requests.get, url, params={"video_no": video_no})
    assert answer.json()["msg"] == f"Video is not parsed: {video_no}"
    now[0] += 3600
    assert len(await post(emulator, "search", json={"search_param": "rabbit"})) == 1
    assert (await post(emulator, "list_videos", json={"status": "UNPARSE"}))["videos"] == []


async def test_a_video_is_indexed_once(emulator: Emulator, engine: KnownEngine) -> None:
    asked: list[Path] = []
    engine.transcribe = lambda video: asked.append(video) or []
    video_no = await upload(emulator)
    reads: list[object] = []

    async def read() -> None:
        reads.append(await get(emulator, "get_metadata", video_no=video_no))

    async with create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(read)
    assert reads[0] == reads[1] == reads[2]
    assert len(asked) == 1


async def test_what_was_read_persists(engine: KnownEngine, tmp_path: Path) -> None:
    async with Emulator(engine, folder=tmp_path) as emulator:
        numbers = [await upload(emulator, f"{name}.mp4", folder_id="3") for name in "abc"]
        before = await get(emulator, "get_video_caption", video_no=numbers[1])
    engine.describe_shots = lambda video: []
    async with Emulator(engine, folder=tmp_path) as emulator:
        assert await get(emulator, "get_video_caption", video_no=numbers[1]) == before
        page = await post(emulator, "list_videos", json={"folder_id": 3})
        assert {video["video_no"] for video in page["videos"]} == set(numbers)
