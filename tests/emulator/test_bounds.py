"""What a stranger, a broken client or a broken receiver can cost the emulator: a bounded lot."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from memories_async.emulator import Emulator, ledger
from tests.emulator.conftest import (
    JPEG,
    KEY,
    MP4,
    PNG,
    KnownEngine,
    Site,
    fields_and_files,
    files_in,
    post,
    req_and_files,
    session_for,
    until,
)

pytestmark = pytest.mark.anyio

PIECE = bytes(64 << 10)


class Sent:
    """A multipart body with one file, that counts what is taken of it."""

    def __init__(self, pieces: int, part: str = "file", name: str = "film.mp4") -> None:
        self.pieces = pieces
        self.taken = 0
        self.head = (
            f'--x\r\nContent-Disposition: form-data; name="{part}"; filename="{name}"\r\n'
            "Content-Type: video/mp4\r\n\r\n"
        ).encode()
        self.headers = {"Content-Type": "multipart/form-data; boundary=x"}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.head
        for _ in range(self.pieces):
            self.taken += len(PIECE)
            yield PIECE
        yield b"\r\n--x--\r\n"


def connect(emulator: Emulator) -> tuple[str, int]:
    address = urlsplit(emulator.url)
    assert address.hostname is not None
    assert address.port is not None
    return address.hostname, address.port


async def raw_request(emulator: Emulator, request: bytes) -> bytes:
    """Send bytes, and return the first bytes of the answer."""
    reader, writer = await asyncio.open_connection(*connect(emulator))
    writer.write(request)
    answer = await reader.read(4096)
    writer.close()
    return answer


# --- signed addresses -------------------------------------------------------------------------


async def test_a_signed_address_is_checked_before_the_body_is_read(
    engine: KnownEngine, tmp_path: Path
) -> None:
    """With ``allow_remote`` these are the only requests that come without a key."""
    async with Emulator(
        engine, allow_remote=True, api_key=KEY, caption_key=KEY, host="0.0.0.0", folder=tmp_path
    ) as emulator:
        port = urlsplit(emulator.url).port
        head = (
            f"POST /storage/re_123456789012345678?signature=x HTTP/1.1\r\nHost: {port}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 399000000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        ).encode()
        answer = await raw_request(emulator, head + bytes(100_000))  # and nothing more comes
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"SignatureDoesNotMatch" in answer
        assert files_in(tmp_path) == []
        [entry] = emulator.ledger
        assert (entry.status, entry.complete) == (403, False)


async def test_an_expired_or_stolen_signature_is_refused_before_the_body(
    engine: KnownEngine,
) -> None:
    now = [1_000.0]
    async with Emulator(engine, clock=lambda: now[0]) as emulator, session_for(emulator) as client:
        body = {"original_filename": "film.mp4"}
        answer = await post(client, "/serve/api/v2/upload/signed-url", body)
        target = urlsplit(str(answer["data"]["signed_url"]))
        request = (
            f"POST {target.path}?{target.query} HTTP/1.1\r\nHost: 127.0.0.1\r\n{{}}"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 399000000\r\n\r\n"
        )
        leaked = await raw_request(emulator, request.format(f"Authorization: {KEY}\r\n").encode())
        assert leaked.startswith(b"HTTP/1.1 401 ")
        now[0] += 93_601
        assert b"ExpiredToken" in await raw_request(emulator, request.format("").encode())


async def test_an_asset_s_bytes_have_a_limit(engine: KnownEngine, tmp_path: Path) -> None:
    async with (
        Emulator(engine, upload_limit=1 << 20, folder=tmp_path) as emulator,
        session_for(emulator) as client,
    ):
        body = {"original_filename": "a.mp4"}
        answer = await post(client, "/serve/api/v2/upload/signed-url", body)
        sent = Sent(400)
        async with aiohttp.ClientSession() as stranger:
            target = str(answer["data"]["signed_url"])
            with contextlib.suppress(aiohttp.ClientError):  # it is cut off when it does not stop
                async with stranger.post(target, data=aiter(sent), headers=sent.headers):
                    pass
        await until(lambda: not files_in(tmp_path / "incoming"))
        assert emulator.ledger[-1].status == 413


@pytest.mark.parametrize("path", ["/serve/api/v1/upload", "/serve/api/v2/upload"])
async def test_a_length_beyond_the_limit_is_refused_at_once(engine: KnownEngine, path: str) -> None:
    async with Emulator(engine, upload_limit=1 << 20) as emulator:
        answer = await raw_request(
            emulator,
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {KEY}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n"
            "Content-Length: 399000000\r\n\r\n".encode(),
        )
        assert answer.startswith(b"HTTP/1.1 413 ")


async def test_what_exceeds_a_documented_size_is_counted_but_not_kept(
    engine: KnownEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    async with (
        Emulator(engine, folder=tmp_path) as emulator,
        session_for(emulator) as client,
    ):
        discard = emulator.ledger.received

        def look(*args: object) -> None:
            kept.extend(path.stat().st_size for path in files_in(tmp_path / "incoming"))
            discard(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(emulator.ledger, "received", look)
        sent = Sent(640, part="files", name="huge.png")  # 40 MiB, of 20 that are allowed
        path = "/serve/api/v1/upload_img"
        async with client.post(path, data=aiter(sent), headers=sent.headers) as response:
            answer = await response.json()
    assert answer["msg"] == "The content type of the file huge.png must start with image/"
    [entry] = emulator.ledger
    assert entry.files[0].size == 640 * len(PIECE)
    assert kept
    assert max(kept) <= 22 << 20


async def test_a_form_of_countless_parts_is_refused(engine: KnownEngine, tmp_path: Path) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
    file = b'--x\r\nContent-Disposition: form-data; name="f"; filename="c"\r\n\r\nd\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with Emulator(engine, folder=tmp_path) as emulator, session_for(emulator) as client:
        for body in part * 2001, file * 1001:
            data = body + b"--x--\r\n"
            async with client.post("/serve/api/v1/upload", data=data, headers=headers) as response:
                assert response.status == 413
        assert files_in(tmp_path) == []


# --- compressed bodies ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compressed() -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    return gzip.compress(head + bytes(30 << 20) + b"\r\n--x--\r\n", 1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_a_compressed_body_is_not_unpacked(
    engine: KnownEngine, tmp_path: Path, compressed: bytes, encoding: str
) -> None:
    """A megabyte of it put a gigabyte on the disk."""
    headers = {
        "Content-Type": "multipart/form-data; boundary=x",
        "Content-Encoding": encoding,
    }
    async with Emulator(engine, folder=tmp_path) as emulator, session_for(emulator) as client:
        async with client.post(
            "/serve/api/v2/upload", data=compressed, headers=headers
        ) as response:
            assert response.status == 415
        assert files_in(tmp_path) == []


# --- the ledger -------------------------------------------------------------------------------


async def test_the_ledger_does_not_keep_long_lists(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    body = {
        "search_param": "meadow",
        "video_nos": [f"VI{number:018}" for number in range(200_000)],
        "nested": {str(number): [{"deep": "x" * 100}] * 100 for number in range(1000)},
    }
    data = io.BytesIO(json.dumps(body).encode())
    headers = {"Content-Type": "application/json"}
    async with client.post("/serve/api/v1/search", data=data, headers=headers) as response:
        assert (await response.json())["msg"] == "video_nos exceed the limit of 100"
    [entry] = emulator.ledger
    assert entry.fields["search_param"] == "meadow"
    numbers = entry.fields["video_nos"]
    assert isinstance(numbers, list)
    assert numbers[0] == "VI000000000000000000"
    assert numbers[-1] == "… (200000 items)"
    assert len(json.dumps(entry.fields)) < 40_000


async def test_short_fields_are_kept_as_they_came(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    body = {"search_param": "x", "video_nos": ["VI1"] * 100, "a": {"b": [1, None, True, 0.5]}}
    await post(client, "/serve/api/v1/search", body)
    assert emulator.ledger[0].fields == body


async def test_the_ledger_forgets_the_oldest_and_counts_them(
    client: aiohttp.ClientSession, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_MOST_ENTRIES", 3)
    for _ in range(5):
        body = req_and_files({"user_prompt": "u"}, ("file", "a.png", PNG, "image/png"))
        await post(client, "/v1/understand/uploadImgFile", body)
    assert [entry.number for entry in emulator.ledger] == [3, 4, 5]
    assert emulator.ledger.billed() == emulator.ledger.billed("captions.image") == 5
    assert emulator.ledger.billed("captions.video") == 0


# --- callbacks --------------------------------------------------------------------------------


async def test_a_receiver_that_never_stops_answering_costs_no_memory(engine: KnownEngine) -> None:
    asked = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        asked.set()
        while True:
            await response.write(PIECE)

    application = web.Application()
    application.router.add_post("/", endless)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with Emulator(engine) as emulator, session_for(emulator) as client:
            tracemalloc.start()
            req = {
                "user_prompt": "u",
                "system_prompt": "s",
                "callback": f"http://127.0.0.1:{runner.addresses[0][1]}/",
            }
            body = req_and_files(req, ("files", "v.mp4", MP4, "video/mp4"))
            await post(client, "/v1/understand/uploadFile", body)
            await asked.wait()
            await until(lambda: emulator.callbacks.posted)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert emulator.callbacks.posted[0].status == 200
        assert peak < 16 << 20
    finally:
        await runner.cleanup()


async def test_a_callback_address_cannot_forge_the_log(
    client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, closed_port: int
) -> None:
    url = f"http://127.0.0.1:{closed_port}/\x1b[2J\r\n2026-11-21 ERROR all is lost" + "x" * 5000
    body = {"user_prompt": "u", "system_prompt": "s", "callback": url}
    form = req_and_files(body, ("files", "v.mp4", MP4, "video/mp4"))
    with caplog.at_level(logging.INFO):
        answer = await post(client, "/v1/understand/uploadFile", form)
        assert answer["code"] == 0
        await until(lambda: "was not delivered" in caplog.text)
    [line] = [record.getMessage() for record in caplog.records if "delivered" in record.msg]
    assert line.isprintable()
    assert len(line) < 1000


# --- clients that leave -----------------------------------------------------------------------


async def test_a_client_that_leaves_in_the_middle_of_a_part_is_no_error(
    engine: KnownEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where it goes between two reads, aiohttp's stream raises a bare ``RuntimeError``."""
    real = aiohttp.BodyPartReader.read_chunk

    async def read_chunk(self: aiohttp.BodyPartReader, size: int = 8192) -> bytes:
        try:
            return await real(self, size)
        except ConnectionError:
            raise RuntimeError("Connection closed.") from None

    monkeypatch.setattr(aiohttp.BodyPartReader, "read_chunk", read_chunk)
    async with Emulator(engine) as emulator:
        _, writer = await asyncio.open_connection(*connect(emulator))
        writer.write(
            f"POST /serve/api/v1/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {KEY}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'.encode()
        )
        await until(lambda: len(emulator.ledger))
        writer.transport.abort()
        await until(lambda: emulator.ledger[0].finished_at)
    [entry] = emulator.ledger
    assert (entry.status, entry.complete) == (None, False)
    assert caplog.text == ""


async def test_an_error_of_the_emulator_s_own_is_still_logged(
    engine: KnownEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(engine, "describe_images", broken)
    async with Emulator(engine) as emulator, session_for(emulator) as client:
        body = req_and_files({"user_prompt": "u"}, ("file", "a.jpg", JPEG, "image/jpeg"))
        async with client.post("/v1/understand/uploadImgFile", data=body) as response:
            assert response.status == 500
    assert "a mistake of ours" in caplog.text


async def test_what_is_fetched_stops_at_its_limit(
    engine: KnownEngine, site: Site, tmp_path: Path
) -> None:
    url = site.file("film.mp4", "video/mp4", MP4 * 1000)
    async with (
        Emulator(engine, fetch_limit=10_000, folder=tmp_path) as emulator,
        session_for(emulator) as client,
    ):
        body = {"user_prompt": "u", "system_prompt": "s", "video_url": url}
        answer = await post(client, "/v1/understand/uploadSync", body)
        assert "more than 10000 bytes" in str(answer["msg"])
        assert files_in(tmp_path) == []
        form = fields_and_files({}, ("file", "film.mp4", MP4, "video/mp4"))
        assert (await post(client, "/serve/api/v1/upload", form))["code"] == "0000"
