"""An emulator with an engine of known answers, a client for it, and a site beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import aiohttp
import attrs
import pytest
from aiohttp import web

from memories_async.emulator import (
    Emulator,
    Hit,
    Line,
    ReferencePerson,
    UnreadableMediaError,
    VideoFacts,
)
from memories_async.emulator.folder import MARKER

KEY = "sk-mavi-0123456789"

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
JPEG = b"\xff\xd8\xff\xe0" + bytes(100)
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(1000)


class KnownEngine:
    """Answers what a test expects; content that begins with BROKEN cannot be read."""

    def __init__(self) -> None:
        self.duration = 5.28

    def describe_images(self, pictures: Sequence[Path], prompt: str) -> str:
        sizes = ", ".join(str(len(self._read(picture))) for picture in pictures)
        return f"{prompt} [{sizes}]"

    def describe_video(self, video: Path, prompt: str, persons: Sequence[ReferencePerson]) -> str:
        names = ", ".join(
            f"{person.name}:{len(self._read(person.picture))}"
            for person in persons
            if person.picture is not None
        )
        return f"{prompt} [{len(self._read(video))}] {names}".strip()

    def embed_image(self, picture: Path, model: str) -> list[float]:
        return [0.5] * (4 if model == "mobileclip" else 8) + [len(self._read(picture))]

    def describe_shots(self, video: Path) -> list[Line]:
        self._read(video)
        return [Line(0.0, 2.4, "A green meadow."), Line(2.4, 5.28, "A rabbit, on the meadow.")]

    def transcribe(self, video: Path) -> list[Line]:
        self._read(video)
        return [Line(0.4, 5.6, "Nobody catches the rabbit.")]

    def embed_video(self, video: Path, model: str) -> list[float]:
        return [0.25] * 4 + [len(self._read(video))]

    def embed_text(self, text: str, length: int) -> list[float]:
        return [float(len(text)), float(length)]

    def probe_video(self, video: Path) -> VideoFacts:
        self._read(video)
        return VideoFacts(duration=self.duration, width=640, height=360, fps=25.0)

    def find_clips(self, video: Path, picture: Path, prompt: str) -> list[Hit]:
        return [Hit(12.5, 18.2, 0.8631), Hit(42.0, 47.8, len(prompt) / 100)]

    def _read(self, path: Path) -> bytes:
        content = path.read_bytes()
        if content.startswith(b"BROKEN"):
            raise UnreadableMediaError(f"{path.name} is broken")
        return content


@attrs.define
class Site:
    """A web site on loopback: serves files, redirects, and takes callbacks."""

    url: str = ""
    files: dict[str, tuple[str, bytes]] = attrs.field(factory=dict)
    requests: list[str] = attrs.field(factory=list)
    callbacks: asyncio.Queue[tuple[str, object]] = attrs.field(factory=asyncio.Queue)

    def file(self, name: str, content_type: str, content: bytes) -> str:
        """Serve a file; return its address."""
        self.files[f"/{name}"] = (content_type, content)
        return f"{self.url}/{name}"

    async def start(self) -> web.AppRunner:
        """Serve; whoever calls cleans up what is returned."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path_qs}")
        if request.method == "POST":
            await self.callbacks.put((request.path_qs, await request.json()))
            return web.json_response({"code": 0, "msg": "success", "data": None})
        if request.path == "/redirect":
            return web.Response(status=302, headers={"Location": "/elsewhere.png"})
        if request.path not in self.files:
            return web.Response(status=404)
        content_type, content = self.files[request.path]
        return web.Response(body=content, headers={"Content-Type": content_type})


@pytest.fixture
def engine() -> KnownEngine:
    return KnownEngine()


@pytest.fixture
async def emulator(engine: KnownEngine) -> AsyncIterator[Emulator]:
    async with Emulator(engine) as emulator:
        yield emulator


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with session_for(emulator) as session:
        yield session


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    runner = await site.start()
    yield site
    await runner.cleanup()


FILM_METADATA = {
    "video_name": "film",
    "duration": "5",
    "size": "1012",
    "status": "PARSE",
    "cause": "null",
    "width": 640,
    "height": 360,
    "fps": 25.0,
    "resolution_label": "360p",
}
"""What the library knows of MP4, sent as film.mp4, by itself."""


def session_for(emulator: Emulator, key: str = KEY) -> aiohttp.ClientSession:
    """Return a client that sends nothing of its own but the key."""
    return aiohttp.ClientSession(
        emulator.url,
        headers={"Authorization": key},
        connector=aiohttp.TCPConnector(force_close=True),
    )


Part = tuple[str, str, bytes, str]
"""Name of the part, name of the file, content, content type."""


def req_and_files(req: Mapping[str, object], *parts: Part) -> aiohttp.FormData:
    """Lay out a body as the caption pages do: the part ``req``, then the files."""
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("req", json.dumps(req), filename="req.json", content_type="application/json")
    return _add(form, parts)


def fields_and_files(fields: Mapping[str, str | Sequence[str]], *parts: Part) -> aiohttp.FormData:
    """Lay out a body as ``requests`` does: form fields, lists repeated, then the files."""
    form = aiohttp.FormData(quote_fields=False, default_to_multipart=True)
    for name, value in fields.items():
        for item in [value] if isinstance(value, str) else value:
            form.add_field(name, item)
    return _add(form, parts)


def _add(form: aiohttp.FormData, parts: Sequence[Part]) -> aiohttp.FormData:
    for part, name, content, content_type in parts:
        form.add_field(part, content, filename=name, content_type=content_type)
    return form


async def post(
    client: aiohttp.ClientSession, path: str, body: aiohttp.FormData | Mapping[str, object]
) -> dict[str, object]:
    """Post a form, or a mapping as JSON; return the JSON answer, which must have HTTP 200."""
    status, answer = await post_any(client, path, body)
    assert status == 200, answer
    return answer


async def post_any(
    client: aiohttp.ClientSession, path: str, body: aiohttp.FormData | Mapping[str, object]
) -> tuple[int, dict[str, object]]:
    """Post a form, or a mapping as JSON; return status and JSON answer."""
    how = {"data": body} if isinstance(body, aiohttp.FormData) else {"json": body}
    async with client.post(path, **how) as response:
        return response.status, await response.json()


async def add_video(client: aiohttp.ClientSession, content: bytes = MP4, **fields: str) -> str:
    """Upload a video to the library; return its number."""
    body = fields_and_files(fields, ("file", "film.mp4", content, "video/mp4"))
    answer = await post(client, "/serve/api/v1/upload", body)
    assert answer["code"] == "0000", answer
    return str(answer["data"]["videoNo"])


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another task does without telling."""
    while not condition():  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0.001)


def files_in(folder: Path) -> list[Path]:
    """Return every file in a folder and in the folders within, but for the emulator's mark."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]


@pytest.fixture
def seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a process go through the tests' film once for all that is asked about it.

    That each question goes through every frame is seen where this is not asked for.
    """
    from tests.emulator import films  # it needs the engine's extra packages

    for name in "clip_search", "pixels":
        monkeypatch.setattr(f"memories_async.emulator.engines.{name}.frames", films.seen_once)
