"""A signed upload asks for an address and sends the file there, and the key stays home."""

from __future__ import annotations

from pathlib import Path

import pytest

from memories_async import ApiError, MediaError, Memories, Progress, UnexpectedShape
from tests.cases import GENERAL_KEY as KEY
from tests.cases import v2
from tests.recorder import Answer, Part, Recorder, parts_of
from tests.service import FILM

pytestmark = pytest.mark.anyio


def permission(address: str) -> str:
    return v2(f'{{"asset_id":"re_1","signed_url":"{address}","expires_in":93600}}')


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "фильм.mp4"
    path.write_bytes(FILM)
    return path


async def test_the_key_does_not_go_to_the_signed_address(
    recorder: Recorder, client: Memories, film: Path
) -> None:
    async with Recorder() as storage:
        storage.answers = [Answer("", status=204)]
        query = "X-Goog-Signature=a%2Fb%2Bc%3D&q=1%2B1&=;"
        recorder.answer(permission(f"{storage.url}/bucket/re_1?{query}"))
        told: list[Progress] = []
        asset = await client.assets.upload(film, signed=True, on_progress=told.append)
        [asked], [sent] = recorder.requests, storage.requests
    assert (asked.method, asked.target) == ("POST", "/serve/api/v2/upload/signed-url")
    assert asked.headers["Authorization"] == KEY
    assert asked.body.decode() == '{"original_filename":"фильм.mp4"}'
    assert (sent.method, sent.target) == ("POST", f"/bucket/re_1?{query}")
    assert KEY not in f"{sent.headers} {sent.target} {sent.body!r}"
    assert "Authorization" not in sent.headers
    parts = parts_of(sent.headers["Content-Type"], sent.body)
    assert parts == [Part("file", FILM, "фильм.mp4", "video/mp4")]
    assert sent.headers["Content-Length"] == str(len(sent.body))
    assert asset.asset_id == "re_1"
    assert asset.extra == {}
    assert told[-1].fraction == 1.0
    assert "X-Goog" not in repr(asset)


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_any_success_of_the_storage_will_do(
    status: int, recorder: Recorder, client: Memories, film: Path
) -> None:
    recorder.answers = [
        Answer(permission(f"{recorder.url}/x?s=1")),
        Answer(b"<html>thank you</html>" if status != 204 else b"", status=status),
    ]
    assert (await client.assets.upload(film, signed=True)).asset_id == "re_1"


async def test_the_storage_refuses(recorder: Recorder, client: Memories, film: Path) -> None:
    recorder.answers = [
        Answer(permission(f"{recorder.url}/x?s=secret-signature")),
        Answer("<Error><Code>ExpiredToken</Code></Error>", status=403),
    ]
    with pytest.raises(ApiError, match="ExpiredToken") as caught:
        await client.assets.upload(film, signed=True)
    assert "secret-signature" not in str(caught.value)
    assert len(recorder.requests) == 2


async def test_the_storage_is_tried_again(recorder: Recorder, client: Memories, film: Path) -> None:
    recorder.answers = [
        Answer(permission(f"{recorder.url}/x?s=1")),
        Answer("", status=503),
        Answer("", status=204),
    ]
    assert (await client.assets.upload(film, signed=True)).asset_id == "re_1"
    _, first, second = recorder.requests
    assert first.target == second.target == "/x?s=1"


async def test_a_redirect_of_the_storage_is_refused(
    recorder: Recorder, client: Memories, film: Path
) -> None:
    recorder.answers = [
        Answer(permission(f"{recorder.url}/x?s=1")),
        Answer("", status=307, headers={"Location": "https://elsewhere.example/"}),
    ]
    with pytest.raises(ApiError, match="redirect refused"):
        await client.assets.upload(film, signed=True)
    assert len(recorder.requests) == 2


@pytest.mark.parametrize(
    "address", ["http://storage.example/x?s=1", "ftp://127.0.0.1/x", "file:///etc/passwd", "x"]
)
async def test_no_file_goes_out_in_the_clear(
    address: str, recorder: Recorder, client: Memories, film: Path
) -> None:
    recorder.answer(permission(address))
    with pytest.raises(UnexpectedShape, match="neither https nor on this machine"):
        await client.assets.upload(film, signed=True)
    assert len(recorder.requests) == 1


async def test_a_bad_file_asks_for_no_address(
    recorder: Recorder, client: Memories, tmp_path: Path
) -> None:
    with pytest.raises(MediaError, match="no such file") as caught:
        await client.assets.upload(tmp_path / "none.mp4", signed=True)
    assert "assets.upload" in str(caught.value)
    assert recorder.requests == []
