"""Every client that is measured, used as its own documentation shows.

Each imports its library when it is made, so that a process holds only the one it measures.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Any, BinaryIO

import attrs


@attrs.frozen
class Target:
    """Where requests go.

    Attributes:
        url: The sink's address.
        certificate: A file with the authority that signed the sink's certificate.
    """

    url: str
    certificate: str

    @property
    def tls(self) -> ssl.SSLContext | None:
        if not self.url.startswith("https"):
            return None
        return ssl.create_default_context(cafile=self.certificate)

    @property
    def verify(self) -> Any:
        return self.tls or True


AT_ONCE = 64
"""How many pictures of many are sent at once."""

KEY = "sk-mavi-0123456789abcdef0123456789abcdef"
"""As long as real ones: no answer is searched for a key of fewer than nine letters."""

EMBED = "/serve/api/v2/embeddings/image"
EMBED_FIELDS = {"asset_id": "re_1", "model": "multimodalembedding@001"}


class MemoriesAsync:
    def __init__(self, target: Target) -> None:
        from memories_async import Memories

        self.client = Memories(KEY, caption_key=KEY, base_url=target.url, ssl_context=target.tls)

    async def upload(self, path: str) -> object:
        return await self.client.captions.video(path, "What happens?")

    async def embed(self) -> object:
        return await self.client.embeddings.image(asset_id="re_1")

    async def image(self, path: str) -> object:
        return await self.client.embeddings.image(path)

    async def many_images(self, folder: str) -> object:
        files = (entry.path for entry in os.scandir(folder))
        async for outcome in self.client.embeddings.images(files, concurrency=AT_ONCE):
            outcome.unwrap()
        return None


class MemoriesAsyncInThreads(MemoriesAsync):
    """As where ``RWF_NOWAIT`` does not exist: every read is a worker thread's."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        from memories_async.media import readers

        readers._NOWAIT = None


class Aiohttp:
    def __init__(self, target: Target) -> None:
        import aiohttp
        import orjson

        self.aiohttp, self.orjson, self.url = aiohttp, orjson, target.url
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=target.verify),
            headers={"Authorization": KEY},
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def _post(self, path: str, data: object, headers: dict[str, str] | None = None) -> object:
        async with self.session.post(self.url + path, data=data, headers=headers) as response:
            return self.orjson.loads(await response.read())

    async def _send(self, path: str, part: str, content: BinaryIO | bytes, kind: str) -> object:
        form = self.aiohttp.FormData()
        form.add_field(part, content, filename="name", content_type=kind)
        return await self._post(path, form)

    async def upload(self, path: str) -> object:
        with open(path, "rb") as file:
            return await self._send("/upload", "files", file, "video/mp4")

    async def embed(self) -> object:
        body = self.orjson.dumps(EMBED_FIELDS)
        return await self._post(EMBED, body, {"Content-Type": "application/json"})

    async def image(self, path: str) -> object:
        with open(path, "rb") as file:
            return await self._send(EMBED, "file", file, "image/png")

    async def image_from_bytes(self, path: str) -> object:
        with open(path, "rb") as file:
            content = file.read()
        return await self._send(EMBED, "file", content, "image/png")

    async def many_images(self, folder: str) -> object:
        import asyncio

        places = asyncio.Semaphore(AT_ONCE)

        async def one(path: str) -> None:
            async with places:
                await self.image_from_bytes(path)

        return await asyncio.gather(*(one(entry.path) for entry in os.scandir(folder)))


class HttpxAsync:
    def __init__(self, target: Target) -> None:
        import httpx

        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        self.client = httpx.AsyncClient(
            base_url=target.url, verify=target.verify, timeout=None, limits=limits
        )

    async def upload(self, path: str) -> object:
        with open(path, "rb") as file:
            return await self.client.post("/upload", files={"files": ("f", file, "video/mp4")})

    async def embed(self) -> object:
        return (await self.client.post(EMBED, json=EMBED_FIELDS)).json()


class Httpx:
    def __init__(self, target: Target) -> None:
        import httpx

        self.client = httpx.Client(base_url=target.url, verify=target.verify, timeout=None)

    async def upload(self, path: str) -> object:
        with open(path, "rb") as file:
            return self.client.post("/upload", files={"files": ("f", file, "video/mp4")})


class OpenAIAsync:
    def __init__(self, target: Target) -> None:
        import openai

        self.client = openai.AsyncOpenAI(
            api_key=KEY,
            base_url=f"{target.url}/openai/base64",
            http_client=openai.DefaultAsyncHttpxClient(verify=target.verify, timeout=None),
        )
        self.floats = self.client.with_options(base_url=f"{target.url}/openai/floats")

    async def upload(self, path: str) -> object:
        with open(path, "rb") as file:
            return await self.client.files.create(file=file, purpose="user_data")

    async def upload_path(self, path: str) -> object:
        from pathlib import Path

        return await self.client.files.create(file=Path(path), purpose="user_data")

    async def embed(self) -> object:
        return await self.client.embeddings.create(model="m", input="re_1")

    async def embed_floats(self) -> object:
        return await self.floats.embeddings.create(model="m", input="re_1", encoding_format="float")


class OpenAI:
    def __init__(self, target: Target) -> None:
        import openai

        self.client = openai.OpenAI(
            api_key=KEY,
            base_url=f"{target.url}/openai/base64",
            http_client=openai.DefaultHttpxClient(verify=target.verify, timeout=None),
        )

    async def upload(self, path: str) -> object:
        with open(path, "rb") as file:
            return self.client.files.create(file=file, purpose="user_data")


class Requests:
    def __init__(self, target: Target) -> None:
        import requests

        self.url, self.verify = target.url, target.certificate
        self.session = requests.Session()

    async def upload(self, path: str) -> object:
        with open(path, "rb") as file:
            files = {"files": ("f", file, "video/mp4")}
            return self.session.post(f"{self.url}/upload", files=files, verify=self.verify)


class RequestsToolbelt(Requests):
    async def upload(self, path: str) -> object:
        from requests_toolbelt import MultipartEncoder  # type: ignore[import-untyped]  # has none

        with open(path, "rb") as file:
            body = MultipartEncoder({"files": ("f", file, "video/mp4")})
            headers = {"Content-Type": body.content_type}
            return self.session.post(
                f"{self.url}/upload", data=body, headers=headers, verify=self.verify
            )


CLIENTS: dict[str, Callable[[Target], Any]] = {
    client.__name__: client
    for client in (
        MemoriesAsync,
        MemoriesAsyncInThreads,
        Aiohttp,
        HttpxAsync,
        Httpx,
        OpenAIAsync,
        OpenAI,
        Requests,
        RequestsToolbelt,
    )
}
BLOCKING = frozenset({"Httpx", "OpenAI", "Requests", "RequestsToolbelt"})
"""Clients without an event loop, whose heartbeat would say nothing."""
