"""Who is let in: keys, host names, rate limits."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from memories_async import ConfigurationError
from memories_async.emulator import Emulator, RateLimit
from memories_async.emulator.http.auth import is_loopback, names_loopback
from memories_async.operations import Bucket
from tests.emulator.conftest import (
    KEY,
    PNG,
    KnownEngine,
    fields_and_files,
    post,
    post_any,
    req_and_files,
    session_for,
)

pytestmark = pytest.mark.anyio

CAPTION = "/v1/understand/uploadImgFile"
LIBRARY = "/serve/api/v1/upload_img"
EMBEDDING = "/serve/api/v2/embeddings/image"


def body_for(path: str) -> aiohttp.FormData:
    if path == CAPTION:
        return req_and_files({"user_prompt": "u"}, ("file", "a.png", PNG, "image/png"))
    if path == LIBRARY:
        return fields_and_files({}, ("files", "a.png", PNG, "image/png"))
    return fields_and_files({"model": "mobileclip"}, ("file", "a.png", PNG, "image/png"))


REFUSED_KEY = {
    CAPTION: (200, -1, "failure: Unauthorized"),
    LIBRARY: (200, "0401", "Unauthorized"),
    EMBEDDING: (401, 401, "Unauthorized"),
}


@pytest.mark.parametrize("path", [CAPTION, LIBRARY, EMBEDDING])
@pytest.mark.parametrize("headers", [{}, {"Authorization": f"Bearer {KEY}"}])
async def test_a_missing_or_dressed_up_key_is_refused(
    emulator: Emulator, path: str, headers: dict[str, str]
) -> None:
    async with aiohttp.ClientSession(emulator.url, headers=headers) as client:
        status, answer = await post_any(client, path, body_for(path))
    assert (status, answer["code"], answer["msg"]) == REFUSED_KEY[path]
    assert emulator.ledger[0].complete
    assert not emulator.ledger[0].billed


@pytest.mark.parametrize("path", [CAPTION, LIBRARY, EMBEDDING])
async def test_each_service_wants_its_own_key(engine: KnownEngine, path: str) -> None:
    async with Emulator(engine, api_key="sk-general", caption_key="sk-caption") as emulator:
        right, wrong = ("sk-caption", "sk-general")[:: 1 if path == CAPTION else -1]
        async with session_for(emulator, wrong) as client:
            status, answer = await post_any(client, path, body_for(path))
            assert (status, answer["code"], answer["msg"]) == REFUSED_KEY[path]
        async with session_for(emulator, right) as client:
            assert (await post(client, path, body_for(path)))["code"] in {0, "0000", 200}


async def test_no_key_is_kept(engine: KnownEngine) -> None:
    async with Emulator(engine, api_key=KEY, caption_key=KEY) as emulator:
        async with session_for(emulator) as client:
            await post(client, CAPTION, body_for(CAPTION))
        seen = f"{emulator!r} {emulator.ledger!r} {list(emulator.ledger)} {vars(emulator)}"
        assert KEY not in seen
        assert KEY not in str(vars(emulator._keys))


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("127.0.0.1:8765", True),
        ("localhost:8765", True),
        ("LOCALHOST", True),
        ("[::1]:8765", True),
        ("127.8.9.1", True),
        ("evil.example:8765", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_loopback_names(header: str, expected: bool) -> None:
    assert names_loopback(header) is expected


async def test_a_foreign_host_header_is_refused(
    client: aiohttp.ClientSession, emulator: Emulator
) -> None:
    headers = {"Host": "evil.example"}
    async with client.post(LIBRARY, data=body_for(LIBRARY), headers=headers) as response:
        assert response.status == 403
    assert len(emulator.ledger) == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"allow_remote": True}, {"api_key": "a", "caption_key": "b"}],
)
def test_other_hosts_need_permission_and_keys(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="is not loopback"):
        Emulator(KnownEngine(), host="0.0.0.0", **options)


async def test_remote_callers_are_let_in_by_their_key(engine: KnownEngine) -> None:
    options = {"allow_remote": True, "api_key": "sk-general", "caption_key": "sk-caption"}
    async with Emulator(engine, host="0.0.0.0", **options) as emulator:
        async with (
            session_for(emulator, "sk-guessed") as client,
            client.post(LIBRARY, data=body_for(LIBRARY)) as response,
        ):
            assert response.status == 403
        async with session_for(emulator, "sk-general") as client:
            headers = {"Host": "emulator.example"}
            async with client.post(LIBRARY, data=body_for(LIBRARY), headers=headers) as response:
                assert (await response.json())["code"] == "0000"
        assert len(emulator.ledger) == 1


def test_loopback_hosts() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert not is_loopback("example.com")


# --- rate limits ------------------------------------------------------------------------------

THROTTLED = {
    CAPTION: (200, {"code": -1, "msg": "failure: Request has exceeded the limit.", "data": None}),
    LIBRARY: (
        200,
        {
            "code": "0429",
            "msg": "Request has exceeded the limit.",
            "data": None,
            "success": False,
            "failed": True,
        },
    ),
    EMBEDDING: (
        429,
        {
            "code": 429,
            "msg": "Rate limit exceeded",
            "data": None,
            "success": False,
            "failed": True,
        },
    ),
}


@pytest.mark.parametrize("path", [CAPTION, LIBRARY, EMBEDDING])
async def test_rate_limits_are_per_account_and_slide(engine: KnownEngine, path: str) -> None:
    now = 1000.0
    limits = dict.fromkeys(Bucket, RateLimit(2, seconds=10))
    async with Emulator(engine, limits=limits, clock=lambda: now) as emulator:
        async with session_for(emulator) as client, session_for(emulator, "sk-other") as other:

            async def throttled(session: aiohttp.ClientSession) -> bool:
                status, answer = await post_any(session, path, body_for(path))
                return (status, answer) == THROTTLED[path]

            assert not await throttled(client)
            now += 6
            assert not await throttled(client)
            assert await throttled(client)
            assert not await throttled(other)
            now += 4.1
            assert not await throttled(client)
            assert await throttled(client)
            emulator.limits.clear()
            assert not await throttled(client)
        assert emulator.ledger.billed() == 5


async def test_no_limit_by_default(client: aiohttp.ClientSession, emulator: Emulator) -> None:
    for _ in range(5):
        await post(client, LIBRARY, body_for(LIBRARY))
    assert emulator.ledger.billed("library.add_images") == 5
    emulator.limits[Bucket.IMAGE_UPLOAD] = RateLimit(1)
    await post(client, LIBRARY, body_for(LIBRARY))
    assert (await post(client, LIBRARY, body_for(LIBRARY)))["code"] == "0429"


@pytest.mark.parametrize(
    ("bucket", "limit"), [("search", RateLimit(1)), (Bucket.SEARCH, 3), (Bucket.SEARCH, RateLimit)]
)
def test_a_limit_that_would_limit_nothing_is_refused(
    engine: KnownEngine, bucket: Any, limit: Any
) -> None:
    limits = Emulator(engine).limits
    with pytest.raises(ConfigurationError, match="a RateLimit of a Bucket is wanted"):
        limits[bucket] = limit
    with pytest.raises(ConfigurationError, match="a RateLimit of a Bucket is wanted"):
        limits.update({bucket: limit})
    with pytest.raises(ConfigurationError, match="a RateLimit of a Bucket is wanted"):
        Emulator(engine, limits={bucket: limit})
    assert not limits


@pytest.mark.parametrize(("count", "seconds"), [(-1, 1), (1.5, 1), (1, 0), (1, "1")])
def test_a_limit_of_wrong_numbers_is_refused(count: Any, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="RateLimit: "):
        RateLimit(count, seconds)


@pytest.mark.parametrize("option", ["fetch_hosts", "callback_hosts"])
@pytest.mark.parametrize("host", ["a b", "https://example.com", "me@example.com", "example.com:80"])
def test_a_host_that_would_allow_nothing_is_refused(option: str, host: str) -> None:
    options: dict[str, Any] = {option: [host]}
    with pytest.raises(ConfigurationError, match=f"{option} names .* a host's name or address"):
        Emulator(KnownEngine(), **options)


@pytest.mark.parametrize("upstream", ["notaurl", "", "ftp://example.com", "http://[::1"])
def test_an_upstream_that_is_no_address_is_refused(upstream: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no http\(s\) address|is empty"):
        Emulator(KnownEngine(), record="recordings", upstream=upstream)
