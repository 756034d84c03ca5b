"""What a raw server sees of headers, fields, a proxy and other options, and a result says of it."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from memories_async import (
    CallOptions,
    ClosedError,
    ConfigurationError,
    ConnectError,
    Memories,
    MemoriesError,
)
from memories_async._engine.transport import http
from memories_async.addresses import Proxy
from memories_async.results import HttpExchange
from memories_async.sync import Memories as BlockingMemories
from tests.engine.raw_server import Conversation, RawServer, answer
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio

KEY = "sk-mavi-SENTINEL-0123456789"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)
HEADERS = {"Date": "Sat, 21 Nov 2026 18:00:00 GMT", "Set-Cookie": "a=SECRET", "X-Request-Id": "r1"}
EXTRA = CallOptions(headers={"X-Beta": "yes", "accept": "application/next"}, fields={"beta": [1]})

Call = Callable[[Any], Any]
"""A call, on a client of either colour."""


async def serve(conversation: Conversation) -> None:
    while True:
        request = await conversation.request()
        data: object = {"text": "A cat.", "embedding": [1.0], "video_no": "VI1", "id": 1}
        data = [data] if "upload_img" in request.line else data
        await conversation.send(answer(data, **HEADERS))


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with RawServer(serve) as server:
        yield server


@pytest.fixture(params=["asyncio", "blocking"])
def made(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return Memories if request.param == "asyncio" else BlockingMemories


async def result_of(client: Any, call: Call) -> Any:
    """Make a call in the client's own colour; the blocking one in a thread."""
    if isinstance(client, Memories):
        return await call(client)
    return await asyncio.to_thread(call, client)


async def close(client: Any) -> None:
    await (client.aclose() if isinstance(client, Memories) else asyncio.to_thread(client.close))


CALLS: dict[str, Call] = {
    "JSON": lambda client: client.captions.image("https://a.example/b.png", "What?", options=EXTRA),
    "JSON in a part": lambda client: client.captions.image(PNG, "What?", options=EXTRA),
    "parts": lambda client: client.library.add_images(PNG, options=EXTRA),
    "form": lambda client: client.library.add_video("https://a.example/b.mp4", options=EXTRA),
    "query": lambda client: client.library.video("VI1", options=EXTRA),
}


@pytest.mark.parametrize("kind", CALLS)
async def test_headers_and_fields_go_where_the_call_s_own_go(
    kind: str, server: RawServer, made: Callable[..., Any]
) -> None:
    client = made(KEY, caption_key=KEY, base_url=server.url)
    await result_of(client, CALLS[kind])
    await close(client)
    [request] = server.requests
    assert (request.headers["x-beta"], request.headers["accept"]) == ("yes", "application/next")
    assert request.headers["authorization"] == KEY
    if kind == "JSON":
        assert json.loads(request.body)["beta"] == [1]
    elif kind == "JSON in a part":
        assert b'"beta":[1]' in request.body
    elif kind == "parts":
        assert b'name="beta"\r\n\r\n1\r\n' in request.body
    elif kind == "form":
        assert b"&beta=1" in request.body
    else:
        assert request.line.startswith("GET /serve/api/v1/get_metadata?video_no=VI1&beta=")


async def test_a_field_that_the_call_sets_is_its_own(server: RawServer) -> None:
    async with Memories(KEY, caption_key=KEY, base_url=server.url) as client:
        for call, field in (
            (client.captions.image("https://a.example/b.png", "?", options=over("url")), "url"),
            (client.library.video("VI1", options=over("video_no")), "video_no"),
            (client.library.delete_videos(["VI1"], options=over("video_nos")), "video_nos"),
            (client.assets.metadata("re_1", options=over("asset_id")), "asset_id"),
            (client.embeddings.image(PNG, options=over("file")), "file"),
            (client.library.add_images(PNG, options=over("files")), "files"),
        ):
            with pytest.raises(ConfigurationError, match=f"'{field}', which .* sets itself"):
                await call
    assert server.requests == []


def over(field: str) -> CallOptions:
    return CallOptions(fields={field: "other"})


async def test_what_is_added_goes_to_the_service_and_not_to_a_signed_address() -> None:
    async def sign(conversation: Conversation) -> None:
        while True:
            request = await conversation.request()
            if "signed-url" in request.line:
                signed = {
                    "asset_id": "re_1",
                    "signed_url": f"{conversation.server.url}/put?X=1%2F2",
                }
                await conversation.send(answer(signed))
            else:
                await conversation.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with RawServer(sign) as server, Memories(KEY, base_url=server.url) as client:
        await client.assets.upload(PNG, signed=True, options=EXTRA)
        signing, sending = server.requests
    assert signing.headers["x-beta"] == "yes"
    assert json.loads(signing.body)["beta"] == [1]
    assert sending.line == "POST /put?X=1%2F2 HTTP/1.1"  # the signature is of these very bytes
    assert "x-beta" not in sending.headers
    assert "authorization" not in sending.headers
    assert b"beta" not in sending.body


# What a result says of the exchange.


async def test_a_result_says_how_it_came(server: RawServer, made: Callable[..., Any]) -> None:
    client = made(KEY, caption_key=KEY, base_url=server.url)
    caption = await result_of(client, lambda client: client.captions.image(PNG, "What?"))
    images = await result_of(client, lambda client: client.library.add_images([PNG]))
    await close(client)
    for result in (caption, images):
        assert isinstance(result.http, HttpExchange)
        assert result.http.status == 200
        assert result.http.headers["x-request-id"] == "r1"
        assert result.http.headers["content-type"] == "application/json"
        assert "set-cookie" not in result.http.headers
        assert 0 < result.http.seconds < 60
        assert len(result.http.digest) == 16
    assert caption.http.digest != images.http.digest
    assert "http" not in repr(caption)
    assert "http" not in caption.to_dict()
    assert len(pickle.dumps(caption)) < 1000


async def test_the_digest_is_that_of_what_was_asked(server: RawServer) -> None:
    async with Memories(KEY, caption_key=KEY, base_url=server.url) as client:

        async def digest(prompt: str = "What?", **options: Any) -> str:
            result = await client.captions.image(PNG, prompt, options=CallOptions(**options))
            assert result.http is not None
            return result.http.digest

        first = await digest()
        assert await digest() == first
        others = {
            await digest("Who?"),
            await digest(headers={"X-A": "1"}),
            await digest(headers={"X-A": "2"}),
            await digest(fields={"a": 1}),
        }
        assert len(others | {first}) == 5


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper case": str.upper,
    "from its end": lambda key: key[::-1],
    "base 16": lambda key: key.encode().hex(),
    "base 64": lambda key: base64.b64encode(key.encode()).decode(),
}


@pytest.mark.parametrize("spelled", SPELLINGS)
async def test_the_key_is_hidden_in_what_a_result_says(spelled: str) -> None:
    async def echo(conversation: Conversation) -> None:
        request = await conversation.request()
        said = {"X_Request_Id": SPELLINGS[spelled](request.headers["authorization"])}
        await conversation.send(answer({"text": "A cat."}, **said))

    async with RawServer(echo) as server, Memories(caption_key=KEY, base_url=server.url) as client:
        caption = await client.captions.image(PNG, "What?")
    assert caption.http is not None
    assert set(caption.http.headers["x-request-id"]) <= {"…", "="}  # base 64's padding stays


@pytest.mark.parametrize("name", ["Content_Type", "Retry_After", "X_Request_Id"])
async def test_an_odd_byte_in_a_header_loses_no_answer(name: str) -> None:
    async def speak(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(answer({"text": "A cat."}, **{name: "caf\xe9 \xff"}))

    async with RawServer(speak) as server, Memories(caption_key=KEY, base_url=server.url) as client:
        caption = await client.captions.image(PNG, "What?")
    assert caption.text == "A cat."
    pickle.dumps(caption)
    assert caption.http is not None
    str(caption.http.headers).encode()


# A proxy.


async def test_everything_goes_through_a_proxy_that_is_told(made: Callable[..., Any]) -> None:
    """In the clear the proxy reads the whole request: its line has the address, and the login."""
    async with RawServer(serve) as proxy:
        client = made(
            KEY,
            caption_key=KEY,
            base_url="http://127.0.0.1:1",
            proxy=f"http://user:p%40ss@127.0.0.1:{proxy.port}",
        )
        caption = await result_of(client, lambda client: client.captions.image(PNG, "What?"))
        await close(client)
    assert caption.text == "A cat."
    [request] = proxy.requests
    assert request.line == "POST http://127.0.0.1:1/v1/understand/uploadImgFile HTTP/1.1"
    login = base64.b64encode(b"user:p@ss").decode()
    assert request.headers["proxy-authorization"] == f"Basic {login}"


async def test_a_proxy_is_asked_for_a_tunnel_with_its_login_and_never_with_the_key(
    made: Callable[..., Any],
) -> None:
    async def refuse(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")

    async with RawServer(refuse) as proxy:
        address = f"http://user:SECRETWORD@127.0.0.1:{proxy.port}"
        client = made(KEY, proxy=address, rates={}, clock=HurriedClock())
        with pytest.raises(ConnectError) as caught:
            await result_of(
                client,
                lambda client: client.library.video("VI1", options=CallOptions(attempts=1)),
            )
        await close(client)
    [request] = proxy.requests
    assert request.line == "CONNECT api.memories.ai:443 HTTP/1.1"
    login = base64.b64encode(b"user:SECRETWORD").decode()
    assert request.headers["proxy-authorization"] == f"Basic {login}"
    assert "authorization" not in request.headers
    shown = [str(caught.value), repr(caught.value), repr(vars(caught.value)), repr(client)]
    shown += [repr(pickle.dumps(caught.value)), repr(pickle.dumps(client))]
    assert not [text for text in shown if "SECRETWORD" in text or login in text]


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
def test_a_proxy_s_login_does_not_go_through_its_tunnel(scheme: str) -> None:
    request: Any = SimpleNamespace(file=None, headers={}, key=None, url=f"{scheme}://a.example/b")
    assert http._headers(request, Proxy.parse("http://u:word@127.0.0.1:1", "proxy")) == {}


@pytest.mark.parametrize("tunnel", [True, False])
@pytest.mark.parametrize("where", ["reason", "body", "no HTTP"])
async def test_a_proxy_that_repeats_its_login_shows_it_to_nobody(where: str, tunnel: bool) -> None:
    login = base64.b64encode(b"user:SECRETWORD").decode()
    said = f"Basic {login} for user, SECRETWORD".encode()
    answers = {
        "reason": b"HTTP/1.1 407 " + said + b"\r\nContent-Length: 0\r\n\r\n",
        "body": b"HTTP/1.1 407 No\r\nContent-Length: %d\r\n\r\n" % len(said) + said,
        "no HTTP": said + b"\r\n\r\n",
    }

    async def refuse(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(answers[where])

    async with RawServer(refuse) as proxy:
        address = f"http://user:SECRETWORD@127.0.0.1:{proxy.port}"
        base_url = "https://gateway.example" if tunnel else "http://127.0.0.1:1"
        async with Memories(KEY, base_url=base_url, proxy=address, clock=HurriedClock()) as client:
            with pytest.raises(MemoriesError) as caught:
                await client.library.video("VI1", options=CallOptions(attempts=1))
    shown = f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert "SECRETWORD" not in shown
    assert login not in shown


@pytest.mark.parametrize("how", ["refused", "unknown", "garbage"])
async def test_a_proxy_s_password_is_in_no_message(
    how: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    closed_port: int,
) -> None:
    async def garbage(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.send(b"http://user:SECRETWORD@proxy\r\n\r\n")

    caplog.set_level("DEBUG")
    async with RawServer(garbage) as proxy:
        host = {
            "refused": f"127.0.0.1:{closed_port}",
            "unknown": "no-such-host.invalid",
            "garbage": f"127.0.0.1:{proxy.port}",
        }[how]
        for name in ("no_proxy", "NO_PROXY", "HTTPS_PROXY", "MEMORIES_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("https_proxy", f"http://user:SECRETWORD@{host}")
        async with Memories(KEY, rates={}, clock=HurriedClock()) as client:
            with pytest.raises(ConnectError) as caught:
                await client.library.video("VI1", options=CallOptions(attempts=1))
    assert "SECRETWORD" not in f"{caught.value!s}{caught.value!r}{vars(caught.value)}{caplog.text}"


# Other options over the same connections.


async def test_other_options_over_the_same_connections(
    server: RawServer, made: Callable[..., Any]
) -> None:
    client = made(
        KEY, caption_key=KEY, base_url=server.url, options=CallOptions(headers={"X-A": "1"})
    )
    other = client.with_options(CallOptions(headers={"X-B": "2"}))
    await result_of(client, lambda client: client.library.video("VI1"))
    await result_of(other, lambda client: client.library.video("VI1"))
    await close(other)
    with pytest.raises(ClosedError):
        await result_of(other, lambda client: client.library.video("VI1"))
    await result_of(client, lambda client: client.library.video("VI1"))
    again = client.with_options(CallOptions(deadline=1))
    await close(client)
    for one in (client, again):
        with pytest.raises(ClosedError):
            await result_of(one, lambda client: client.library.video("VI1"))
    seen = [(one.headers.get("x-a"), one.headers.get("x-b")) for one in server.requests]
    assert seen == [("1", None), ("1", "2"), ("1", None)]
    assert server.connections == 1


async def test_a_client_that_is_entered_again_connects_anew(server: RawServer) -> None:
    client = Memories(KEY, base_url=server.url)
    for _ in range(3):
        async with client:
            assert (await client.library.video("VI1")).video_no == "VI1"
        with pytest.raises(ClosedError):
            await client.library.video("VI1")
    assert server.connections == 3


async def test_a_blocking_client_that_is_entered_again_connects_anew(server: RawServer) -> None:
    def use() -> None:
        client = BlockingMemories(KEY, base_url=server.url)
        for _ in range(3):
            with client, client.with_options(CallOptions(attempts=1)) as other:
                assert client.library.video("VI1").video_no == "VI1"
                assert other.library.video("VI1").video_no == "VI1"
            with pytest.raises(ClosedError):
                client.library.video("VI1")

    threads = threading.active_count()
    await asyncio.to_thread(use)
    assert server.connections == 3
    assert len([one for one in threading.enumerate() if one.name == "memories-async"]) <= threads


def test_without_any_loop() -> None:
    call: Awaitable[object] = Memories(KEY).library.video("VI1")
    with pytest.raises(ConfigurationError, match="asyncio only"):
        call.__await__().send(None)  # type: ignore[attr-defined]  # a coroutine's iterator


def test_fields_are_as_they_were_checked() -> None:
    words: list[object] = ["a"]
    options = CallOptions(fields={"words": words})
    words.append(object())
    assert options.fields == {"words": ["a"]}


async def test_a_plain_function_before_sending_is_refused_by_name(server: RawServer) -> None:
    options = CallOptions(before_sending=lambda: 5)  # type: ignore[arg-type, return-value]  # that is the point
    async with Memories(KEY, caption_key=KEY, base_url=server.url) as client:
        with pytest.raises(ConfigurationError, match="before_sending gave 5; give an async"):
            await client.captions.image(PNG, "What?", options=options)
    assert server.requests == []
