"""Each example, started for real and driven over HTTP as a browser would."""

from __future__ import annotations

import asyncio
import html
import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest

from memories_async.emulator import CallbackFault, Emulator, Late, Rewritten, VideoFacts
from memories_async.emulator import ReferencePerson as Person
from tests.callbacks.conftest import free_port
from tests.callbacks.servers import EXAMPLES, GUNICORN, GUNICORN_AIOHTTP, UVICORN, application
from tests.emulator.conftest import KnownEngine

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FILM = EXAMPLES / "media" / "bigbuckbunny.mp4"
PROMPT = "Who <script>alert(1)</script> appears?"

APPLICATIONS = {
    "fastapi": (UVICORN, "fastapi_app:app"),
    "aiohttp": (GUNICORN_AIOHTTP, "aiohttp_app:application"),
    "flask": (GUNICORN, "flask_app:app"),
}


async def upload(session: aiohttp.ClientSession, kind: str, content: bytes) -> str:
    """Upload a video as the application's own form does; return the page of its caption."""
    if kind == "flask":
        form = aiohttp.FormData({"prompt": PROMPT})
        form.add_field("video", io.BytesIO(content), filename="film.mp4", content_type="video/mp4")
        async with session.post("/captions", data=form, allow_redirects=False) as response:
            assert response.status == 303, await response.text()
            return response.headers["Location"]
    query = {"name": "film.mp4", "prompt": PROMPT}
    headers = {"Content-Type": "video/mp4"}
    async with session.post(
        "/captions", params=query, data=io.BytesIO(content), headers=headers
    ) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["page"])


async def caption(session: aiohttp.ClientSession, page: str) -> str:
    """Look at a page as often as it asks for it; return what it shows in the end."""
    async with asyncio.timeout(20):
        while True:
            async with session.get(page) as response:
                assert response.status == 200
                assert response.content_type == "text/html"
                text = await response.text()
            if "refresh" not in text:
                return text
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", APPLICATIONS)
async def test_a_video_goes_in_and_its_caption_comes_out(kind: str, tmp_path: Path) -> None:
    command, name = APPLICATIONS[kind]
    port = free_port()
    content = FILM.read_bytes()  # 1 MB, once
    async with Emulator(KnownEngine()) as emulator:
        emulator.callbacks.add(
            CallbackFault(None, Late(0.3), times=2),
            CallbackFault(None, Rewritten(failed), nth=3),
        )
        async with (
            application(command, name, port, tmp_path, emulator),
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        ):
            async with session.get("/") as response:
                assert 'type="file"' in await response.text()
            pages = [await upload(session, kind, content) for _ in range(3)]
            shown = f"<p>{html.escape(PROMPT)} [{len(content)}]"
            assert await caption(session, pages[0]) == shown
            assert await caption(session, pages[1]) == shown
            assert "could not describe" in await caption(session, pages[2])
        assert [entry.files[0].name for entry in emulator.ledger] == ["film.mp4"] * 3
        assert [entry.files[0].size for entry in emulator.ledger] == [len(content)] * 3


def failed(body: dict[str, object]) -> dict[str, object]:
    return {"status": -1, "task_id": body["task_id"], "data": None, "token": None}


# --- 1 GB straight through --------------------------------------------------------------------

MIB = 1 << 20
SIZE = 1 << 30


class UnreadingEngine(KnownEngine):
    """Describes a video by its size, so that what memory is used is not the engine's."""

    def probe_video(self, video: Path) -> VideoFacts:
        return VideoFacts(duration=60.0, width=640, height=360, fps=25.0)

    def describe_video(self, video: Path, prompt: str, persons: Sequence[Person]) -> str:
        return f"{video.stat().st_size} bytes"


def memory_peak(process: int) -> int:
    """Return the most memory that a process has had so far, in bytes."""
    with open(f"/proc/{process}/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


async def test_a_gigabyte_is_forwarded_while_it_arrives(tmp_path: Path) -> None:
    port = free_port()
    piece = bytes(MIB)
    async with Emulator(UnreadingEngine()) as emulator:

        async def film() -> AsyncIterator[bytes]:
            for number in range(SIZE // MIB):
                if number == SIZE // MIB // 2:
                    # The service has had the request, while half of it is yet to come.
                    assert [entry.status for entry in emulator.ledger] == [None]
                yield piece

        async with (
            application(UVICORN, "fastapi_app:app", port, tmp_path, emulator) as server,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=None) as session,
        ):
            page = await upload(session, "fastapi", bytes(1000))
            assert await caption(session, page) == "<p>1000 bytes"
            emulator.ledger.clear()
            before = memory_peak(server.pid)
            query = {"name": "film.mp4", "prompt": PROMPT}
            headers = {"Content-Type": "video/mp4", "Content-Length": str(SIZE)}
            async with session.post(
                "/captions", params=query, data=film(), headers=headers
            ) as response:
                assert response.status == 200, await response.text()
                page = str((await response.json())["page"])
            assert await caption(session, page) == f"<p>{SIZE} bytes"
            assert memory_peak(server.pid) - before < 32 * MIB
        [entry] = emulator.ledger
        assert entry.files[0].size == SIZE
