"""What the ledger records, and when."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from memories_async import ConfigurationError
from memories_async.emulator import Emulator, FileEntry, ledger
from memories_async.operations import CAPTION_IMAGE_BASE64, EMBED_IMAGE_FILE, Operation
from tests.emulator.conftest import (
    JPEG,
    KEY,
    PNG,
    KnownEngine,
    add_video,
    fields_and_files,
    files_in,
    post,
    req_and_files,
    session_for,
    until,
)

pytestmark = pytest.mark.anyio

CAPTION = "/v1/understand/uploadImgFile"


async def test_an_entry_has_everything_but_the_key(engine: KnownEngine) -> None:
    times = itertools.count(100)
    body = req_and_files(
        {"user_prompt": "u", "thinking": True},
        ("file", '日本 "1".png', PNG, "image/png"),
        ("file", "../../b.jpg", JPEG, "image/jpeg"),
    )
    async with Emulator(engine, clock=times.__next__) as emulator, session_for(emulator) as client:
        await post(client, f"{CAPTION}?page=1", body)
    [entry] = emulator.ledger
    assert (entry.number, entry.operation, entry.method) == (1, "caption_image_file", "POST")
    assert entry.path == CAPTION
    assert entry.fields == {"user_prompt": "u", "thinking": True}
    assert [file.name.replace('\\"', '"').replace("%22", '"') for file in entry.files] == [
        '日本 "1".png',
        "../../b.jpg",
    ]
    assert entry.files[1] == FileEntry(
        part="file",
        name="../../b.jpg",
        content_type="image/jpeg",
        size=len(JPEG),
        sha256=hashlib.sha256(JPEG).hexdigest(),
    )
    assert (entry.status, entry.code, entry.billed, entry.complete) == (200, 0, True, True)
    assert entry.finished_at > entry.started_at >= 100
    assert KEY not in repr(entry)


async def test_only_successes_are_billed_and_no_free_reads(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    video_no = await add_video(client)
    for query in {"video_no": video_no}, {"video_no": "VI1"}, {}:
        async with client.get("/serve/api/v1/get_metadata", params=query):
            pass
    await post(client, CAPTION, req_and_files({"user_prompt": "u"}))
    body = {
        "user_prompt": "u",
        "image_base64": base64.b64encode(PNG).decode(),
        "img_type": "image/png",
    }
    await post(client, "/v1/understand/uploadImgFileBase64", body)
    assert [(entry.operation, entry.code, entry.billed) for entry in emulator.ledger] == [
        ("add_video_file", "0000", True),
        ("get_video", "0000", False),
        ("get_video", "0000", False),
        ("get_video", "0001", False),
        ("caption_image_file", -1, False),
        ("caption_image_base64", 0, True),
    ]


async def test_views(client: aiohttp.ClientSession, emulator: Emulator) -> None:
    await add_video(client)
    for _ in range(2):
        body = req_and_files({"user_prompt": "u"}, ("file", "a.png", PNG, "image/png"))
        await post(client, CAPTION, body)
    ledger = emulator.ledger
    assert repr(ledger) == "<Ledger: 3 requests, 3 billed>"
    assert [entry.number for entry in ledger] == [1, 2, 3]
    assert ledger[-1].number == 3
    assert [entry.number for entry in ledger[:2]] == [1, 2]
    assert [entry.number for entry in ledger.of("captions.image")] == [2, 3]
    assert [entry.number for entry in ledger.of("caption_image_file")] == [2, 3]
    assert ledger.of("caption_image_url") == []
    assert (ledger.billed(), ledger.billed("library.add_video")) == (3, 1)
    ledger.clear()
    assert (len(ledger), ledger.billed()) == (0, 0)
    await add_video(client)
    assert [(entry.number, entry.complete) for entry in ledger] == [(4, True)]


@pytest.mark.parametrize("operation", ["embeddings.imgae", "", "captions", 3])
def test_a_misspelt_operation_is_refused(operation: Any) -> None:
    """Else "nothing was sent" is found of every application."""
    for ask in ledger.RequestLedger().of, ledger.RequestLedger().billed:
        with pytest.raises(
            ConfigurationError, match=r"No operation is called|the name of an operation is wanted"
        ):
            ask(operation)


async def test_long_texts_are_shortened(client: aiohttp.ClientSession, emulator: Emulator) -> None:
    body = {
        "user_prompt": "u",
        "image_base64": base64.b64encode(bytes(30_000)).decode(),
        "img_type": "image/png",
    }
    await post(client, "/v1/understand/uploadImgFileBase64", body)
    encoded = str(emulator.ledger[0].fields["image_base64"])
    assert encoded.endswith("… (40000 characters)")
    assert len(encoded) < 200


async def test_a_request_cut_on_its_way_is_recorded_and_leaves_no_file(
    engine: KnownEngine, tmp_path: Path
) -> None:
    async with Emulator(engine, folder=tmp_path) as emulator:
        host, port = emulator.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST {CAPTION} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {KEY}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 10000000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        )
        writer.write(head.encode() + bytes(3_000_000))
        await writer.drain()
        await until(lambda: files_in(tmp_path))
        [entry] = emulator.ledger
        assert entry.finished_at is None
        writer.transport.abort()
        await until(lambda: emulator.ledger[0].finished_at and not files_in(tmp_path))
        [entry] = emulator.ledger
        assert entry.operation == "caption_image_file"
        assert (entry.status, entry.complete, entry.billed) == (None, False, False)


async def test_an_unknown_request_is_recorded(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    async with client.put("/anything", data=fields_and_files({"a": "b"})):
        pass
    [entry] = emulator.ledger
    assert (entry.operation, entry.method, entry.path) == (None, "PUT", "/anything")
    assert entry.status == 404


def _bill(requests: ledger.RequestLedger, operation: Operation[object]) -> None:
    requests.bill(requests.begin(operation, "POST", "/", 0.0), operation)


def test_bills_are_counted_while_another_operation_is_first_billed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A test's thread asks, the emulator's own thread writes."""
    requests = ledger.RequestLedger()
    _bill(requests, CAPTION_IMAGE_BASE64)

    def matches(pattern: str | None, operation: str | None) -> bool:
        _bill(requests, EMBED_IMAGE_FILE)  # as the other thread may at any moment
        return True

    monkeypatch.setattr(ledger, "matches", matches)
    assert requests.billed() == 1
    monkeypatch.undo()
    assert requests.billed() == 2
