"""The documentation's examples of assets and embeddings, sent by ``requests``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import requests
from anyio import to_thread

from memories_async.emulator import Cut, Emulator, InjectedFault
from tests.emulator.conftest import JPEG, KEY, MP4, PNG, KnownEngine, files_in

pytestmark = pytest.mark.anyio

HEADERS = {"Authorization": KEY}
NOW = 1_000_000.0


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def now() -> list[float]:
    return [NOW]


@pytest.fixture
async def emulator(engine: KnownEngine, now: list[float]) -> AsyncIterator[Emulator]:
    async with Emulator(engine, index_seconds=10, clock=lambda: now[0]) as emulator:
        yield emulator


async def in_thread(
    function: Callable[..., requests.Response],
    url: str,
    headers: dict[str, str] = HEADERS,
    **options: object,
) -> requests.Response:
    """Let ``requests`` wait in a thread, as it knows no other way."""
    return await to_thread.run_sync(partial(function, url, headers=headers, timeout=60, **options))


def data_of(response: requests.Response) -> object:
    answer = response.json()
    data = answer.pop("data")
    assert (response.status_code, answer) == (
        200,
        {"code": 200, "msg": "success", "success": True, "failed": False},
    )
    return data


async def post(emulator: Emulator, path: str, **options: object) -> requests.Response:
    return await in_thread(requests.post, f"{emulator.url}/serve/api/v2/{path}", **options)


async def get(emulator: Emulator, path: str) -> requests.Response:
    return await in_thread(requests.get, f"{emulator.url}/serve/api/v2/{path}")


async def status(emulator: Emulator, asset_id: str) -> str:
    """Ask about an asset; return its status."""
    data = data_of(await get(emulator, f"{asset_id}/metadata"))
    [record] = data["resource"]
    assert set(record) == {"upload_status"}
    return record["upload_status"]


async def refused(response: requests.Response, message: str) -> None:
    answer = response.json()
    assert (response.status_code, answer["code"], answer["data"]) == (400, 400, None)
    assert message in answer["msg"]


# --- assets -----------------------------------------------------------------------------------


async def test_upload(emulator: Emulator, now: list[float], tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(MP4)
    with path.open("rb") as file:  # without a content type, as the page has it
        asset_id = data_of(await post(emulator, "upload", files={"file": file}))["asset_id"]
    assert asset_id.startswith("re_")
    assert await status(emulator, asset_id) == "UPLOADING"
    await refused(await get(emulator, f"{asset_id}/download"), "Asset is not uploaded")
    now[0] += 10
    assert await status(emulator, asset_id) == "SUCCESS"
    response = await get(emulator, f"{asset_id}/download")
    assert response.content == MP4
    assert response.headers["Content-Type"] == "video/mp4"
    assert response.headers["Content-Disposition"] == 'attachment; filename="film.mp4"'


@pytest.mark.parametrize("name", ["notes.txt", "notes"])
async def test_an_asset_is_a_picture_a_video_or_a_sound(emulator: Emulator, name: str) -> None:
    for content_type in "text/html", "application/json", "application/octet-stream":
        files = {"file": (name, b"{}", content_type)}
        await refused(await post(emulator, "upload", files=files), "is not a supported file")
    files = {"file": ("empty.mp4", b"", "video/mp4")}
    await refused(await post(emulator, "upload", files=files), "is not a supported file")


@pytest.mark.parametrize("path", ["re_1/metadata", "re_1/download"])
async def test_an_unknown_asset(emulator: Emulator, path: str) -> None:
    await refused(await get(emulator, path), "Asset not found")


async def test_upload_by_a_signed_address(
    engine: KnownEngine, emulator: Emulator, now: list[float]
) -> None:
    body = {"original_filename": "film.mov"}
    permission = data_of(await post(emulator, "upload/signed-url", json=body))
    assert set(permission) == {"asset_id", "signed_url", "expires_in"}
    asset_id, address = permission["asset_id"], permission["signed_url"]
    assert address.startswith(f"{emulator.url}/storage/{asset_id}?signature=")
    assert "%" in address  # which a client must not take apart and write anew
    now[0] += 1000
    assert await status(emulator, asset_id) == "WAITING"
    files = {"file": ("film.mov", MP4, "video/quicktime")}
    sent = await in_thread(requests.post, address, headers={}, files=files)
    assert (sent.status_code, sent.content) == (204, b"")
    assert await status(emulator, asset_id) == "UPLOADING"
    now[0] += 10
    assert await status(emulator, asset_id) == "SUCCESS"
    response = await get(emulator, f"{asset_id}/download")
    assert response.content == MP4
    assert response.headers["Content-Disposition"] == 'attachment; filename="film.mov"'


async def test_a_signed_address_is_the_only_permission(
    emulator: Emulator, now: list[float]
) -> None:
    body = {"original_filename": "film.mp4"}
    permission = data_of(await post(emulator, "upload/signed-url", json=body))
    address, files = permission["signed_url"], {"file": VIDEO}

    async def answer(address: str, **options: object) -> tuple[int, str]:
        sent = await in_thread(requests.post, address, **options)
        return sent.status_code, sent.text

    unsigned = address.partition("?")[0]
    forbidden = (403, "<Error><Code>SignatureDoesNotMatch</Code></Error>")
    assert await answer(address, files=files) == (401, "<Error><Code>Unauthorized</Code></Error>")
    assert await answer(f"{address}x", headers={}, files=files) == forbidden
    assert (await answer(unsigned, headers={}, files=files))[0] == 400
    other = address.replace(permission["asset_id"], "re_1")
    assert await answer(other, headers={}, files=files) == forbidden
    notes = {"file": ("<notes>", b"x", "text/plain")}
    assert (await answer(address, headers={}, files=notes)) == (204, "")  # the signed name counts
    now[0] += permission["expires_in"] + 1
    expired = (403, "<Error><Code>ExpiredToken</Code></Error>")
    assert await answer(address, headers={}, files=files) == expired


async def test_an_asset_without_a_signed_address_has_none(emulator: Emulator) -> None:
    asset_id = data_of(await post(emulator, "upload", files={"file": VIDEO}))["asset_id"]
    address = f"{emulator.url}/storage/{asset_id}"
    for signature in "?signature=", "":
        sent = await in_thread(
            requests.post, f"{address}{signature}", headers={}, files={"file": VIDEO}
        )
        assert sent.status_code == 400


async def test_assets_persist(engine: KnownEngine, now: list[float], tmp_path: Path) -> None:
    def start() -> Emulator:
        return Emulator(engine, folder=tmp_path, clock=lambda: now[0])

    body = {"original_filename": "film.mp4"}
    async with start() as emulator:
        sent = data_of(await post(emulator, "upload", files={"file": VIDEO}))["asset_id"]
        signed = data_of(await post(emulator, "upload/signed-url", json=body))
    async with start() as emulator:
        assert await status(emulator, sent) == "SUCCESS"
        assert await status(emulator, signed["asset_id"]) == "WAITING"
        path = signed["signed_url"].partition("/storage/")[2]
        address = f"{emulator.url}/storage/{path}"
        await in_thread(requests.post, address, headers={}, files={"file": VIDEO})
        assert await status(emulator, signed["asset_id"]) == "SUCCESS"
    assert len(files_in(tmp_path)) == 4


async def test_who_comes_from_elsewhere_by_a_signed_address_needs_no_key(
    engine: KnownEngine,
) -> None:
    keys = {"api_key": KEY, "caption_key": "sk-caption"}
    async with Emulator(engine, host="0.0.0.0", allow_remote=True, **keys) as emulator:
        emulator._url = emulator.url.replace("0.0.0.0", "127.0.0.1")
        body = {"original_filename": "film.mp4"}
        permission = data_of(await post(emulator, "upload/signed-url", json=body))
        sent = await in_thread(
            requests.post, permission["signed_url"], headers={}, files={"file": VIDEO}
        )
        assert sent.status_code == 204
        url = f"{emulator.url}/openapi.json"
        assert (await in_thread(requests.get, url, headers={})).status_code == 403
        assert (await in_thread(requests.get, url)).status_code == 200


async def test_faults_of_the_storage(emulator: Emulator) -> None:
    body = {"original_filename": "film.mp4"}
    permission = data_of(await post(emulator, "upload/signed-url", json=body))
    emulator.faults.add(InjectedFault("send_signed", Cut()))
    with pytest.raises(requests.exceptions.ConnectionError):
        await in_thread(requests.post, permission["signed_url"], headers={}, files={"file": VIDEO})
    assert emulator.ledger[-1].operation == "send_signed"
    assert await status(emulator, permission["asset_id"]) == "WAITING"


VIDEO = ("film.mp4", MP4, "video/mp4")


# --- embeddings -------------------------------------------------------------------------------


async def test_embed_texts(emulator: Emulator) -> None:
    texts = ["one", "another", "one"]
    body = {"input": texts, "model": "gemini-embedding-001"}
    data = data_of(await post(emulator, "embeddings/text", json=body))
    assert data == [{"embedding": [float(len(text)), 3072.0]} for text in texts]
    body["dimensionality"] = 256
    data = data_of(await post(emulator, "embeddings/text", json=body))
    assert data[0] == {"embedding": [3.0, 256.0]}
    assert emulator.ledger.billed("embeddings.text") == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": "gemini-embedding-001"}, "input is required"),
        ({"model": "gemini-embedding-001", "input": []}, "input is required"),
        ({"model": "gemini-embedding-001", "input": [{}]}, "input must be a list of texts"),
        ({"model": "gemini-embedding-001", "input": ["x"] * 251}, "input exceed the limit of 250"),
        ({"input": ["x"]}, "model must be gemini-embedding-001"),
        ({"input": ["x"], "model": "mobileclip"}, "model must be gemini-embedding-001"),
        (
            {"input": ["x"], "model": "gemini-embedding-001", "dimensionality": 4000},
            "dimensionality must be an integer between 1 and 3072",
        ),
    ],
)
async def test_texts_that_are_refused(
    emulator: Emulator, body: dict[str, object], message: str
) -> None:
    await refused(await post(emulator, "embeddings/text", json=body), message)


async def test_embed_video(emulator: Emulator, now: list[float]) -> None:
    asset_id = data_of(await post(emulator, "upload", files={"file": VIDEO}))["asset_id"]
    body = {"asset_id": asset_id, "model": "multimodalembedding@001"}
    await refused(await post(emulator, "embeddings/video", json=body), "Asset is not uploaded")
    now[0] += 10
    data = data_of(await post(emulator, "embeddings/video", json=body))
    assert data == {"embedding": [0.25, 0.25, 0.25, 0.25, 1012]}
    for wrong in {**body, "model": "mobileclip"}, {**body, "asset_id": "re_1"}:
        assert (await post(emulator, "embeddings/video", json=wrong)).status_code == 400


async def test_embed_an_image_that_was_uploaded(emulator: Emulator, now: list[float]) -> None:
    for name, content in ("a.jpg", JPEG), ("b.png", PNG):
        asset_id = data_of(await post(emulator, "upload", files={"file": (name, content)}))
        now[0] += 10
        body = {**asset_id, "model": "mobileclip"}
        data = data_of(await post(emulator, "embeddings/image", json=body))
        assert data == {"embedding": [0.5] * 4 + [len(content)]}
