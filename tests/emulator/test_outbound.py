"""The emulator's own requests stay on loopback unless their host is allowed."""

from __future__ import annotations

import logging
import socket
import threading

import aiohttp
import pytest

from memories_async.emulator import Emulator
from tests.emulator.conftest import (
    MP4,
    PNG,
    KnownEngine,
    Site,
    post,
    req_and_files,
    session_for,
    until,
)

pytestmark = pytest.mark.anyio

PROMPTS = {"user_prompt": "u", "system_prompt": "s"}


async def caption(client: aiohttp.ClientSession, url: str) -> str:
    """Caption what is at an address; return the message."""
    body = {"url": url, "user_prompt": "u"}
    return str((await post(client, "/v1/understand/uploadImg", body))["msg"])


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://10.0.0.5/a.png", "10.0.0.5 is not loopback; allow it with Emulator(fetch_hosts="),
        ("http://169.254.169.254/latest", "169.254.169.254 is not loopback"),
        ("http://[fe80::1]/a.png", "fe80::1 is not loopback"),
        ("http://[::ffff:10.0.0.5]/a.png", "is not loopback"),
        ("http://0.0.0.0/a.png", "0.0.0.0 is not loopback"),
        ("http://167772165/a.png", "is not loopback"),
        ("ftp://127.0.0.1/a.png", "only http and https addresses will do"),
        ("file:///etc/passwd", "only http and https addresses will do"),
        ("data:image/png;base64,AAAA", "only http and https addresses will do"),
        ("a.png", "only http and https addresses will do"),
        ("http://key@127.0.0.1/a.png", "an address must not hold a user name"),
        ("http://127.0.0.1:99999/a.png", ""),
        ("http://127.0.0.1:{closed_port}/a.png", ""),
    ],
)
async def test_addresses_that_are_not_fetched(
    client: aiohttp.ClientSession, url: str, why: str, closed_port: int
) -> None:
    url = url.replace("{closed_port}", str(closed_port))
    message = await caption(client, url)
    assert message.startswith(f"failure: Failed to fetch file size from URL: {url} (")
    assert why in message


async def test_a_name_is_judged_by_its_addresses(
    client: aiohttp.ClientSession, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = site.file("a.png", "image/png", PNG)
    port = url.split(":")[2].split("/")[0]
    names = {
        "inside.test": ["127.0.0.1"],
        "outbound.test": ["10.0.0.5"],
        "both.test": ["127.0.0.1", "10.0.0.5"],
    }
    looked_up: list[str] = []

    def resolve(host: str, port: int, *args: object, **options: object) -> list[object]:
        looked_up.append(host)
        kind = socket.AF_INET, socket.SOCK_STREAM, 6, ""
        return [(*kind, (address, port)) for address in names[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert await caption(client, f"http://inside.test:{port}/a.png") == "success"
    assert "outbound.test is not loopback" in await caption(
        client, f"http://outbound.test:{port}/a.png"
    )
    assert "both.test is not loopback" in await caption(client, f"http://both.test:{port}/a.png")
    assert looked_up == ["inside.test", "outbound.test", "both.test"]


async def test_an_allowed_host_is_fetched(
    engine: KnownEngine, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.file("a.png", "image/png", PNG)
    monkeypatch.setattr("memories_async.emulator.http.outbound.is_loopback", lambda address: False)
    async with Emulator(engine) as emulator, session_for(emulator) as client:
        assert "127.0.0.1 is not loopback" in await caption(client, f"{site.url}/a.png")
    allowed = {"127.0.0.1"}
    async with Emulator(engine, fetch_hosts=allowed) as emulator, session_for(emulator) as client:
        assert await caption(client, f"{site.url}/a.png") == "success"


async def test_redirects_are_not_followed(client: aiohttp.ClientSession, site: Site) -> None:
    site.file("elsewhere.png", "image/png", PNG)
    assert "(HTTP 302)" in await caption(client, f"{site.url}/redirect")
    assert "(HTTP 404)" in await caption(client, f"{site.url}/missing.png")
    assert site.requests == ["GET /redirect", "GET /missing.png"]


async def test_a_fetch_has_a_limit(engine: KnownEngine, site: Site) -> None:
    url = site.file("a.png", "image/png", PNG)
    limit = len(PNG) - 1
    async with Emulator(engine, fetch_limit=limit) as emulator, session_for(emulator) as client:
        assert f"(more than {limit} bytes)" in await caption(client, url)


# --- callbacks --------------------------------------------------------------------------------


async def submit(client: aiohttp.ClientSession, callback: str, content: bytes = MP4) -> object:
    req = {**PROMPTS, "callback": callback}
    body = req_and_files(req, ("files", "v.mp4", content, "video/mp4"))
    return await post(client, "/v1/understand/uploadFile", body)


async def test_a_callback_to_another_machine_is_refused(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    answer = await submit(client, "http://10.0.0.5/callback")
    assert answer["code"] == -1
    assert "allow it with Emulator(callback_hosts={'10.0.0.5'})" in answer["msg"]
    assert emulator.ledger.billed() == 0


async def test_a_callback_that_cannot_be_delivered_is_logged(
    client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, closed_port: int
) -> None:
    url = f"http://127.0.0.1:{closed_port}/callback"
    with caplog.at_level(logging.WARNING, "memories_async.emulator"):
        assert (await submit(client, url))["code"] == 0
        await until(lambda: caplog.records)
    assert f"The callback to {url} was not delivered" in caplog.text


async def test_a_caption_that_fails_calls_back_without_a_reason(
    client: aiohttp.ClientSession, emulator: Emulator, engine: KnownEngine, site: Site
) -> None:
    engine.describe_video = lambda video, prompt, persons: 1 / 0
    answer = await submit(client, f"{site.url}/callback")
    _, callback = await site.callbacks.get()
    task_id = answer["data"]["task_id"]
    assert callback == {"status": -1, "task_id": task_id, "data": None, "token": None}


async def test_the_callback_follows_the_answer(
    client: aiohttp.ClientSession, emulator: Emulator, engine: KnownEngine, site: Site
) -> None:
    go_on = threading.Event()

    def describe(video: object, prompt: str, persons: object) -> str:
        go_on.wait(60)
        return "done"

    engine.describe_video = describe
    assert (await submit(client, f"{site.url}/callback"))["code"] == 0
    assert site.callbacks.empty()
    go_on.set()
    _, callback = await site.callbacks.get()
    assert callback["data"]["text"] == "done"


async def test_a_restarted_emulator_fetches_again(engine: KnownEngine, site: Site) -> None:
    url = site.file("a.png", "image/png", PNG)
    emulator = Emulator(engine)
    for _ in range(2):
        async with emulator, session_for(emulator) as client:
            assert await caption(client, url) == "success"
