"""S4 to S10: what goes to whom.

S5 and S10 are rows 45, 25, 29, 30 and 34; S16 to S20, the emulator's own, are in
tests/emulator/test_access.py, test_outbound.py, test_server.py and test_engine_bounds.py.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp.connector
import attrs
import pytest
import trustme
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from memories_async import ConfigurationError, Media, Memories, Person
from tests.faults.conftest import CAPTION_SENTINEL, MP4, PNG, SENTINEL, Stage, caption, embed

pytestmark = pytest.mark.anyio

HOSTS = ("security.memories.ai", "api.memories.ai", "mavi-backend.memories.ai")


@attrs.define
class Site:
    """The three hosts, all on one port of loopback: what each was told."""

    port: int
    trust: ssl.SSLContext
    requests: list[web.Request] = attrs.field(factory=list)

    def told(self, header: str) -> list[tuple[str, str | None]]:
        return [(request.host, request.headers.get(header)) for request in self.requests]


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    authority = trustme.CA()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*HOSTS).configure_cert(server)
    site = Site(0, trust)

    async def answer(request: web.Request) -> web.Response:
        site.requests.append(request)
        await request.read()
        body = {"code": 0, "data": {"text": "t", "embedding": [1.0], "video_no": "VI1"}}
        return web.json_response(body, headers={"Set-Cookie": "session=1; Path=/"})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server).start()
    site.port = runner.addresses[0][1]

    class Resolver(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            where = site.port if host in HOSTS else port
            return [
                ResolveResult(
                    hostname=host, host="127.0.0.1", port=where, family=family, proto=0, flags=0
                )
            ]

        async def close(self) -> None: ...

    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", lambda *_, **__: Resolver())
    yield site
    await runner.cleanup()


def real_client(site: Site, **changes: str) -> Memories:
    """Return a client of the real hosts, as far as it knows."""
    keys = {"api_key": SENTINEL, "caption_key": CAPTION_SENTINEL} | changes
    return Memories(keys["api_key"], caption_key=keys["caption_key"], ssl_context=site.trust)


async def test_s04_each_key_goes_to_its_own_host(site: Site) -> None:
    async with real_client(site) as client:
        await caption(client)
        await embed(client)
        await client.library.video("VI1")
    assert site.told("Authorization") == [
        ("security.memories.ai", CAPTION_SENTINEL),
        ("mavi-backend.memories.ai", SENTINEL),
        ("api.memories.ai", SENTINEL),
    ]


async def test_s04_no_key_stands_in_for_the_other(site: Site) -> None:
    async with Memories(SENTINEL, ssl_context=site.trust) as client:
        with pytest.raises(ConfigurationError, match="caption_key"):
            await caption(client)
    async with Memories(caption_key=CAPTION_SENTINEL, ssl_context=site.trust) as client:
        with pytest.raises(ConfigurationError, match="api_key"):
            await embed(client)
    assert site.requests == []


@pytest.mark.parametrize("address", ["http://127.0.0.1", "http://[::1]:80", "http://localhost:1"])
def test_s06_plain_http_on_loopback(address: str) -> None:
    Memories("k", base_url=address)


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.5",
        "http://127.0.0.1.example.com",
        "http://localhost@example.com",
        "https://user@memories.ai",
        "https://",
        "memories.ai",
        "https://memories.ai?key=1",
    ],
)
def test_s06_no_other_plain_http(address: str) -> None:
    with pytest.raises(ConfigurationError):
        Memories("k", base_url=address)


def test_s06_there_is_no_switch_to_trust_anybody() -> None:
    arguments = inspect.signature(Memories).parameters
    assert not {"verify", "verify_ssl", "insecure", "trust_env"} & set(arguments)


async def test_s07_netrc_does_not_replace_the_key(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("\n".join(f"machine {host} login me password no" for host in HOSTS))
    monkeypatch.setenv("NETRC", str(netrc))
    async with real_client(site) as client:
        await caption(client)
    assert site.told("Authorization") == [("security.memories.ai", CAPTION_SENTINEL)]


async def test_s07_no_cookie_is_kept(site: Site) -> None:
    async with real_client(site) as client:
        await caption(client)
        await caption(client)
    assert [cookie for _, cookie in site.told("Cookie")] == [None, None]


async def test_s07_a_proxy_of_the_environment_never_sees_the_key(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        there, to_there = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                heard.append(data)
                sink.write(data)
            sink.close()

        await asyncio.gather(pass_on(reader, to_there), pass_on(there, writer))

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with real_client(site) as client:
        await caption(client)
    assert heard[0].startswith(b"CONNECT security.memories.ai:443 ")
    assert CAPTION_SENTINEL.encode() not in b"".join(heard)
    assert site.told("Authorization") == [("security.memories.ai", CAPTION_SENTINEL)]
    proxy.close()


async def test_s07_no_proxy_for_loopback(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    await caption(stage.client())
    await stage.saw(requests=1, billed=1)


EVIL_NAMES = [
    'a"; filename="b.png',
    "a\r\nContent-Type: text/html\r\n\r\nx.png",
    "a\0b.png",
    "a;b.png",
    "../../etc/a.png",
    "C:\\temp\\a.png",
    "a\u202egnp.exe.png",
    "日本.png",
    "x" * 4000 + ".png",
    "--boundary--.png",
    "a\udcff.png",
]


@pytest.mark.parametrize("name", EVIL_NAMES, ids=range(len(EVIL_NAMES)))
async def test_s08_a_file_name_stays_a_file_name(stage: Stage, name: str) -> None:
    await stage.client().library.add_images(Media(PNG, name=name), tags=["a", "b\r\nc"])
    [entry] = stage.emulator.ledger
    [file] = entry.files
    assert (file.part, file.content_type, file.size) == ("files", "image/png", len(PNG))
    assert file.name.endswith(".png")
    assert len(file.name) <= 200
    assert not set(file.name) & set("\r\n\0/\\\u202e")
    assert entry.fields == {"tags": ["a", "b\r\nc"]}
    await stage.saw(requests=1, billed=1)


@pytest.mark.parametrize(
    "text", ['{"a":1}', 'a"\r\n--x', "\0", "日本", "x\u202e", "--memories-async-"], ids=range(6)
)
async def test_s08_a_field_stays_a_field(stage: Stage, text: str) -> None:
    await stage.client().library.add_images(PNG, tags=[text])
    await stage.client().captions.image(PNG, text)
    added, captioned = stage.emulator.ledger
    assert added.fields == {"tags": [text]}
    assert captioned.fields["user_prompt"] == text
    await stage.saw(requests=2, billed=2)


EVIL_URLS = [
    "http://user@example.com/a.png",
    "http://user:password@example.com/a.png",
    "http://example.com/a.png\r\nX: y",
    "http://example.com/a\0.png",
    "http://example.com/a b.png",
    "http:///a.png",
    "http://[::1/a.png",
]


@pytest.mark.parametrize("url", EVIL_URLS, ids=range(len(EVIL_URLS)))
async def test_s09_addresses_that_are_not_handed_on(stage: Stage, url: str) -> None:
    client = stage.client()
    with pytest.raises(ConfigurationError) as caught:
        await client.captions.image(url, "what")
    assert "password" not in str(caught.value).replace("user name or password", "")
    with pytest.raises(ConfigurationError):
        await client.captions.video(url, "what")
    with pytest.raises(ConfigurationError):
        await client.captions.video(MP4, "what", persons=[Person("a", url)])
    with pytest.raises(ConfigurationError):
        await client.captions.submit_video(MP4, "what", callback=url)
    await stage.saw(requests=0, billed=0)


@pytest.mark.parametrize("url", ["ftp://example.com/a", "file:///etc/passwd", "javascript:x", "x"])
async def test_s09_callbacks_and_persons_are_http_addresses(stage: Stage, url: str) -> None:
    client = stage.client()
    with pytest.raises(ConfigurationError):
        await client.captions.submit_video(MP4, "what", callback=url)
    with pytest.raises(ConfigurationError):
        await client.captions.video(MP4, "what", persons=[Person("a", url)])
    await stage.saw(requests=0, billed=0)
