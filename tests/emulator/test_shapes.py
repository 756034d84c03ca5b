"""The emulator's answers have the fields, and the types of fields, of the recorded ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from memories_async.emulator import Emulator, InjectedFault, Reason, gateway
from tests.emulator.conftest import (
    MP4,
    PNG,
    KnownEngine,
    Site,
    add_video,
    fields_and_files,
    session_for,
)

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parent.parent / "wire" / "recorded"
RECORDED: Mapping[str, Any] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
V1, V2, SECURITY = "/serve/api/v1", "/serve/api/v2", "/v1/understand"
PLACE = {
    "datetime_taken": "2025-09-07 22:52:00",
    "camera_model": "Canon EOS 5D",
    "latitude": "39.9042",
    "longitude": "116.4074",
}


@attrs.frozen
class World:
    """An emulator with somebody to ask it."""

    emulator: Emulator
    client: aiohttp.ClientSession
    site: Site

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        async with self.client.get(path, params=query) as response:
            return response.status, await response.json()

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        how = {"data": body} if isinstance(body, aiohttp.FormData) else {"json": body}
        async with self.client.post(path, **how) as response:
            return response.status, await response.json()

    async def refused(self, reason: Any, path: str = f"{V1}/search") -> tuple[int, Any]:
        self.emulator.faults.add(InjectedFault(None, reason))
        return await self.post(path, {})

    def film(self) -> str:
        return self.site.file("talk.mp4", "video/mp4", MP4)


async def listed(world: World) -> tuple[int, Any]:
    await add_video(world.client)
    await add_video(world.client, content=b"BROKEN")
    return await world.post(f"{V1}/list_videos", {})


async def searched(world: World, **search: object) -> tuple[int, Any]:
    await add_video(world.client)
    return await world.post(f"{V1}/search", {"search_param": "rabbit", **search})


async def images_searched(world: World) -> tuple[int, Any]:
    body = fields_and_files(PLACE, ("files", "beach.jpg", PNG, "image/jpeg"))
    await world.post(f"{V1}/upload_img", body)
    search = {"search_param": "beach", "search_type": "BY_IMAGE"}
    return await world.post(f"{V1}/search", search)


async def clips(world: World, **fields: str) -> tuple[int, Any]:
    number = await add_video(world.client)
    picture = ("file", "a.png", PNG, "image/png")
    return await world.post(
        f"{V1}/search_clips_by_image", fields_and_files({"video_no": number, **fields}, picture)
    )


async def transcript(world: World) -> tuple[int, Any]:
    number = await add_video(world.client)
    return await world.get(f"{V1}/get_audio_transcription", video_no=number)


async def lines(world: World) -> tuple[int, Any]:
    await add_video(world.client)
    return await world.get(f"{V1}/search_audio_transcripts", query="rabbit")


async def asset(world: World) -> tuple[int, Any]:
    body = fields_and_files({}, ("file", "a.png", PNG, "image/png"))
    return await world.post(f"{V2}/upload", body)


async def asset_metadata(world: World) -> tuple[int, Any]:
    _, answer = await asset(world)
    return await world.get(f"{V2}/{answer['data']['asset_id']}/metadata")


async def embedding(world: World) -> tuple[int, Any]:
    _, answer = await asset(world)
    body = {"asset_id": answer["data"]["asset_id"], "model": "mobileclip"}
    return await world.post(f"{V2}/embeddings/image", body)


def caption(path: str) -> Callable[[World], Awaitable[tuple[int, Any]]]:
    async def ask(world: World) -> tuple[int, Any]:
        body: dict[str, object] = {"user_prompt": "u", "system_prompt": "s"}
        if "Img" in path:
            body |= {"image_base64": base64.b64encode(PNG).decode(), "img_type": "image/png"}
        else:
            body |= {"video_url": world.film(), "callback": f"{world.site.url}/done"}
        return await world.post(f"{SECURITY}/{path}", body)

    return ask


async def image_ids(world: World) -> tuple[int, Any]:
    body = fields_and_files({}, ("files", "a.png", PNG, "image/png"))
    return await world.post(f"{V1}/upload_img", body)


async def video_file(world: World) -> tuple[int, Any]:
    body = fields_and_files({}, ("file", "talk.mp4", MP4, "video/mp4"))
    return await world.post(f"{V1}/upload", body)


async def silent(world: World) -> tuple[int, Any]:
    world.emulator._engine.transcribe = lambda video: []  # type: ignore[union-attr, method-assign]
    return await transcript(world)


ASKED: Mapping[str, Callable[[World], Awaitable[tuple[int, Any]]]] = {
    "list_videos_page": listed,
    "search_by_clip": searched,
    "search_by_image": images_searched,
    "clips_with_bucket": lambda world: clips(world, prompt="p"),
    "clips_without_a_prompt": clips,
    "transcript": transcript,
    "transcripts_found": lines,
    "transcript_of_a_silent_video": silent,
    "caption_image": caption("uploadImgFileBase64"),
    "caption_sync": caption("uploadSync"),
    "caption_submitted": caption("upload"),
    "image_ids_as_text": image_ids,
    "upload_file": video_file,
    "upload_by_url": lambda world: world.post(
        f"{V1}/upload_url", aiohttp.FormData({"url": world.film()})
    ),
    "metadata_of_an_unknown_video": lambda world: world.get(f"{V1}/get_metadata", video_no="VI1"),
    "delete": lambda world: world.post(f"{V1}/delete_videos", ["VI1"]),
    "asset_uploaded": asset,
    "asset_metadata": asset_metadata,
    "asset_not_found": lambda world: world.get(f"{V2}/re_1/download"),
    "embedding": embedding,
    "text_embeddings": lambda world: world.post(
        f"{V2}/embeddings/text", {"input": ["a", "b"], "model": "gemini-embedding-001"}
    ),
    "unauthorized": lambda world: world.refused(Reason.KEY, f"{V2}/embeddings/text"),
    "throttled": lambda world: world.refused(Reason.THROTTLED),
    "caption_throttled": lambda world: world.refused(Reason.THROTTLED, f"{SECURITY}/uploadSync"),
    "network_abnormal": lambda world: world.refused(Reason.SERVER),
    "busy": lambda world: world.refused(Reason.BUSY),
    "gateway": lambda world: world.refused(gateway(503), f"{V2}/embeddings/text"),
    "gone_upload_img": lambda world: world.post(f"{V1}/nowhere", {}),
}

NOT_ASKED = {
    "caption_not_copied": "the service's own storage failed",
    "caption_too_large": "an older limit than the page's 8 GB",
    "clips_empty_object": "an older sample of the same page",
    "embedding_before_march_2026": "an older code",
    "gone_search": "as gone_upload_img",
    "limit_text_of_a_refused_file": "which files are refused so is not known",
    "list_videos_null": "an empty list says as much",
    "search_nothing": "an empty list says as much",
    "similar_wrapped": "an older layout of the same page",
    "success_without_a_code": "seen once, where is not known",
}

# What is not made up here, and what is sent besides where a page has it.
LEFT_OUT = {"bucket", "blob", "video_bucket", "video_blob", "mime_type"}
BESIDES = {"tags", "score", "videoStatus", "uploadTime", "success", "failed"}
EITHER = {"id": {"str", "int"}}  # one page prints a number, another text


def shape(value: object, at: str = "") -> dict[str, str]:
    """Return the type of everything in a JSON value by its place; lists count as one item."""
    match value:
        case dict():
            return {
                place: kind
                for name, one in value.items()
                for place, kind in shape(one, f"{at}.{name}").items()
            }
        case list():
            return {
                place: kind for one in value for place, kind in shape(one, f"{at}[]").items()
            } or {f"{at}[]": "nothing"}
        case float() | int() if not isinstance(value, bool) and not at.endswith((".id", "code")):
            return {at: "number"}
        case _:
            return {at: type(value).__name__}


@pytest.mark.parametrize("name", ASKED)
async def test_an_answer_has_the_recorded_shape(name: str, engine: KnownEngine, site: Site) -> None:
    recorded = RECORDED[name]
    async with Emulator(engine) as emulator, session_for(emulator) as client:
        status, answer = await ASKED[name](World(emulator, client, site))
    assert status == recorded["status"]
    assert answer.get("code") == recorded["body"].get("code")
    ours, theirs = shape(answer), shape(recorded["body"])
    for place, kind in theirs.items():
        field = place.rpartition(".")[2]
        if field not in LEFT_OUT:
            assert ours.get(place) in EITHER.get(field, {kind}), f"{place}: {ours.get(place)}"
    besides = {place.rpartition(".")[2].removesuffix("[]") for place in ours.keys() - theirs.keys()}
    assert besides <= BESIDES


def test_every_recorded_answer_is_asked_for_or_accounted_for() -> None:
    assert ASKED.keys() | NOT_ASKED.keys() == RECORDED.keys()
