"""Each example, started for real and driven over HTTP as a browser would."""

from __future__ import annotations

import asyncio
import contextlib
import html
import importlib
import io
import mimetypes
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from memories_async.emulator import (
    CallbackFault,
    Cut,
    Emulator,
    InjectedFault,
    Late,
    Reason,
    Rewritten,
    VideoFacts,
)
from memories_async.emulator import ReferencePerson as Person
from tests.callbacks.conftest import free_port
from tests.callbacks.servers import (
    EXAMPLES,
    GUNICORN,
    GUNICORN_AIOHTTP,
    UVICORN,
    application,
    environment_of,
)
from tests.callbacks.test_adapters import run_asgi
from tests.emulator.conftest import KnownEngine

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FILM = EXAMPLES / "media" / "bigbuckbunny.mp4"
PROMPT = "Who <script>alert(1)</script> appears?"

APPLICATIONS = {
    "fastapi": (UVICORN, "fastapi_app:app"),
    "aiohttp": (GUNICORN_AIOHTTP, "aiohttp_app:create"),
    "flask": (GUNICORN, "flask_app:app"),
    "django": (GUNICORN, "django_app:application"),
}
EACH = pytest.mark.parametrize("kind", APPLICATIONS)


@contextlib.asynccontextmanager
async def running(
    kind: str, folder: Path, emulator: Emulator
) -> AsyncIterator[aiohttp.ClientSession]:
    """Run an example; yield a browser that is at it."""
    command, name = APPLICATIONS[kind]
    port = free_port()
    async with (
        application(command, name, port, folder, emulator),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield session


async def post(
    session: aiohttp.ClientSession, content: bytes, *, name: str = "film.mp4", key: str
) -> tuple[int, dict[str, str]]:
    """Send a video as the page does; return the status and what is answered."""
    query = {"name": name, "prompt": PROMPT, "key": key}
    headers = {"Content-Type": mimetypes.guess_type(name)[0] or ""}
    async with session.post(
        "/captions", params=query, data=io.BytesIO(content), headers=headers
    ) as response:
        assert response.content_type == "application/json", await response.text()
        return response.status, await response.json()


async def upload(session: aiohttp.ClientSession, content: bytes) -> str:
    """Send a video; return the page of its caption."""
    status, answer = await post(session, content, key=secrets.token_hex())
    assert status == 200, answer
    return answer["page"]


async def caption(session: aiohttp.ClientSession, page: str) -> str:
    """Look at a page as often as it asks for it; return what it shows in the end."""
    async with asyncio.timeout(120):
        while True:
            async with session.get(page) as response:
                assert response.status == 200
                assert response.content_type == "text/html"
                text = await response.text()
            if "refresh" not in text:
                return text
            await asyncio.sleep(0.05)


@EACH
def test_without_a_key_it_says_so_in_one_line_and_is_not_started_again(
    kind: str, tmp_path: Path
) -> None:
    places = os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parent)])
    environment = {"PATH": "", "PYTHONPATH": places, "HOME": str(tmp_path)}
    command, name = APPLICATIONS[kind]
    port = str(free_port())
    where = port if command is UVICORN else f"127.0.0.1:{port}"
    # One worker: where several end at once, gunicorn itself may end in a traceback and status 1.
    alone = ["1" if word == "4" else word for word in command]
    ended = subprocess.run(
        [sys.executable, "-B", "-m", *alone, where, name],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 4, ended.stderr
    assert "no key: pass api_key or set MEMORIES_API_KEY" in ended.stderr.splitlines()
    assert "Traceback" not in ended.stderr


@EACH
async def test_a_video_goes_in_and_its_caption_comes_out(kind: str, tmp_path: Path) -> None:
    content = FILM.read_bytes()  # 1 MB, once
    async with Emulator(KnownEngine()) as emulator:
        emulator.callbacks.add(
            CallbackFault(None, Late(0.3), times=2),
            CallbackFault(None, Rewritten(failed), nth=3),
        )
        async with running(kind, tmp_path, emulator) as session:
            async with session.get("/") as response:
                home = await response.text()
            assert 'type="file"' in home
            assert "<title>Describe a video</title>" in home
            pages = [await upload(session, content) for _ in range(3)]
            shown = f"<p class=caption>{html.escape(PROMPT)} [{len(content)}]"
            assert shown in await caption(session, pages[0])
            assert shown in await caption(session, pages[1])
            assert "could not describe" in await caption(session, pages[2])
        assert [entry.files[0].name for entry in emulator.ledger] == ["film.mp4"] * 3
        assert [entry.files[0].size for entry in emulator.ledger] == [len(content)] * 3


@EACH
async def test_a_double_click_is_billed_once(kind: str, tmp_path: Path) -> None:
    content = FILM.read_bytes()
    async with Emulator(KnownEngine()) as emulator, running(kind, tmp_path, emulator) as session:
        clicks = [post(session, content, key="a click") for _ in range(3)]
        answers = await asyncio.gather(*clicks)
        assert answers[0][0] == 200
        assert answers[0] == answers[1] == answers[2]
        assert emulator.ledger.billed() == 1


@EACH
async def test_what_goes_wrong_is_said_in_words(kind: str, tmp_path: Path) -> None:
    async with Emulator(KnownEngine()) as emulator, running(kind, tmp_path, emulator) as session:
        content = FILM.read_bytes()
        status, answer = await post(session, b"a diary", name="diary.txt", key="1")
        assert (status, answer["error"]) == (
            415,
            "This is no video that can be described: please choose an MP4 file.",
        )
        emulator.faults.add(InjectedFault(None, Reason.NO_CREDITS))
        status, answer = await post(session, content, key="2")
        assert (status, "Please try again later" in answer["error"]) == (503, True)
        emulator.faults.add(InjectedFault(None, Cut()))
        status, answer = await post(session, content, key="3")
        assert (status, "may cost twice" in answer["error"]) == (502, True)
        # What was refused may be sent again, with the same key.
        status, answer = await post(session, content, key="2")
        assert status == 200


@EACH
async def test_a_video_that_nobody_has_handed_in_is_not_found(kind: str, tmp_path: Path) -> None:
    async with Emulator(KnownEngine()) as emulator, running(kind, tmp_path, emulator) as session:
        for stranger in ("nothing", "%00", "%ed%a0%80", "<script>"):
            async with session.get(URL(f"/captions/{stranger}", encoded=True)) as response:
                text = await response.text()
            assert (response.status, "refresh" in text) == (404, False)
            assert "<script>" not in text


def test_a_page_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    pages = importlib.import_module("pages")
    now = datetime.now(UTC)
    assert "refresh" in pages.waiting(now)
    assert "Handed in 5 min ago" in pages.waiting(now - timedelta(minutes=5))
    late = pages.waiting(now - timedelta(hours=2))
    assert "refresh" not in late
    assert "none is likely to come" in late


@pytest.mark.parametrize("name", ["fastapi_app", "aiohttp_app"])
async def test_an_application_starts_twice_in_one_process(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every test suite does with it: what the first start closed, the second one opens."""
    async with Emulator(KnownEngine()) as emulator:
        environment = environment_of(emulator, free_port(), tmp_path)
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.syspath_prepend(str(EXAMPLES))
        module = importlib.import_module(name)
        for _ in range(2):
            address = environment["PUBLIC_ADDRESS"]
            async with (
                in_process(module, int(address.rpartition(":")[2])),
                aiohttp.ClientSession(address) as session,
            ):
                page = await upload(session, FILM.read_bytes())
                assert "class=caption" in await caption(session, page)
        assert emulator.ledger.billed() == 2
    del sys.modules[name]


@contextlib.asynccontextmanager
async def in_process(module: ModuleType, port: int) -> AsyncIterator[None]:
    """Run an example within this process."""
    if hasattr(module, "create"):
        runner = web.AppRunner(await module.create(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
        await runner.cleanup()
    else:
        async with run_asgi(module.app, port):
            yield


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
            page = await upload(session, bytes(1000))
            assert "1000 bytes" in await caption(session, page)
            emulator.ledger.clear()
            before = memory_peak(server.pid)
            query = {"name": "film.mp4", "prompt": PROMPT, "key": "a click"}
            headers = {"Content-Type": "video/mp4", "Content-Length": str(SIZE)}
            async with session.post(
                "/captions", params=query, data=film(), headers=headers
            ) as response:
                assert response.status == 200, await response.text()
                page = str((await response.json())["page"])
            assert f"{SIZE} bytes" in await caption(session, page)
            assert memory_peak(server.pid) - before < 32 * MIB
        [entry] = emulator.ledger
        assert entry.files[0].size == SIZE
