"""The emulator's life: starting, stopping, persistence, engines, the program."""

from __future__ import annotations

import ast
import asyncio
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from aiohttp import web

from memories_async import emulator
from memories_async.emulator import Emulator
from memories_async.emulator.__main__ import main
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.emulator.engines.installed import default_engine
from tests import sources
from tests.emulator.conftest import (
    MP4,
    PNG,
    KnownEngine,
    add_video,
    fields_and_files,
    files_in,
    post,
    session_for,
)
from tests.for_each import for_each

pytestmark = pytest.mark.anyio

CLIENT_ROOMS = {
    "_engine",
    "assets",
    "batches",
    "bulk",
    "callbacks",
    "captions",
    "cli",
    "client",
    "config",
    "embeddings",
    "errors",
    "fields",
    "formats",
    "library",
    "media",
    "polling",
    "sync",
}
ROOMS = sorted(Path(emulator.__file__).parent.rglob("*.py"))


async def test_start_and_stop(engine: KnownEngine) -> None:
    emulator = Emulator(engine)
    assert repr(emulator) == "<Emulator: stopped>"
    with pytest.raises(RuntimeError, match="not running"):
        _ = emulator.url
    await emulator.start()
    assert emulator.url.startswith("http://127.0.0.1:")
    assert repr(emulator) == f"<Emulator: {emulator.url}>"
    with pytest.raises(RuntimeError, match="running already"):
        await emulator.start()
    await emulator.stop()
    await emulator.stop()
    with pytest.raises(RuntimeError, match="not running"):
        emulator.add_asset("picture.png")
    await emulator.start()
    await emulator.stop()


async def test_a_port_that_is_taken(engine: KnownEngine, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        emulator = Emulator(engine, port=taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            await emulator.start()
    await emulator.start()
    await emulator.stop()


async def test_the_next_emulator_builds_no_routes(
    engine: KnownEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Emulator(engine):
        pass
    monkeypatch.setattr(web.UrlDispatcher, "add_route", None)
    async with Emulator(engine) as one, Emulator(engine) as other:
        for emulator in (one, other):
            async with session_for(emulator) as session:
                await add_video(session)
    assert [len(one.ledger), len(other.ledger)] == [1, 1]  # each has its own requests


async def test_ipv6(engine: KnownEngine) -> None:
    async with Emulator(engine, host="::1") as emulator, session_for(emulator) as client:
        assert emulator.url.startswith("http://[::1]:")
        await add_video(client)


async def test_a_temporary_folder_goes_with_the_emulator(
    engine: KnownEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with Emulator(engine) as emulator, session_for(emulator) as client:
        await add_video(client)
        assert files_in(tmp_path)
    assert not files_in(tmp_path)


async def test_a_given_folder_persists(engine: KnownEngine, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    left_over = folder / "incoming" / ("0a" * 16)
    picture = tmp_path / "picture.png"
    picture.write_bytes(PNG)
    async with Emulator(engine, folder=folder) as emulator, session_for(emulator) as client:
        video_no = await add_video(client)
        asset_id = emulator.add_asset(picture)
        query = {"video_no": video_no}
        async with client.get("/serve/api/v1/get_metadata", params=query) as response:
            before = await response.json()
        assert before["data"]["status"] == "PARSE"
    left_over.touch()
    async with Emulator(engine, folder=folder) as emulator, session_for(emulator) as client:
        async with client.get("/serve/api/v1/get_metadata", params=query) as response:
            assert await response.json() == before
        fields = {**query, "prompt": "p"}
        body = fields_and_files(fields, ("file", "q.png", PNG, "image/png"))
        answer = await post(client, "/serve/api/v1/search_clips_by_image", body)
        assert len(answer["data"]) == 2
        body = {"asset_id": asset_id, "model": "mobileclip"}
        assert (await post(client, "/serve/api/v2/embeddings/image", body))["code"] == 200
        assert not files_in(left_over.parent)


async def test_hostile_names_are_never_paths(engine: KnownEngine, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    async with Emulator(engine, folder=folder) as emulator, session_for(emulator) as client:
        names = ["../../evil.mp4", "/etc/evil.mp4", "CON.mp4", "x" * 4000 + ".mp4", "\u202ee.mp4"]
        for name in names:
            body = fields_and_files({}, ("file", name, MP4, "video/mp4"))
            assert (await post(client, "/serve/api/v1/upload", body))["code"] == "0000"
        # No client of ours can send a NUL, but somebody else's may.
        form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="e\0.mp4"\r\n'
        form += b"Content-Type: video/mp4\r\n\r\n" + MP4 + b"\r\n--x--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        async with client.post("/serve/api/v1/upload", data=form, headers=headers) as response:
            assert "Failed to parse multipart" in (await response.json())["msg"]
    assert len(files_in(tmp_path)) == 10
    assert all(re.fullmatch(r"VI\d{18}(\.json)?", path.name) for path in files_in(tmp_path))


def test_the_default_engine_depends_on_what_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert type(default_engine()).__name__ == "PixelEngine"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert type(default_engine()).__name__ == "HashEngine"


def test_importing_needs_only_the_core_dependencies() -> None:
    code = (
        "import sys\n"
        "for name in 'PIL', 'numpy', 'av', 'pytest': sys.modules[name] = None\n"
        "import memories_async.emulator"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@for_each({str(path): path for path in ROOMS})
def test_the_emulator_knows_nothing_of_the_client(path: Path) -> None:
    for node in ast.walk(sources.parsed(path)):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module == "memories_async":
                modules = {f"memories_async.{alias.name}" for alias in names}
            case ast.ImportFrom(module=str(module)):
                modules = {module}
            case ast.Import(names=names):
                modules = {alias.name for alias in names}
            case _:
                continue
        assert not modules & {f"memories_async.{room}" for room in CLIENT_ROOMS}


def test_the_program_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "memories_async.emulator", "--port", "0"]
    with subprocess.Popen(
        [*command, "--folder", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job inherits a SIGINT that is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = next(word for word in line.split() if word.startswith("http://"))
        request = urllib.request.Request(
            f"{url}/serve/api/v1/get_metadata?video_no=VI1", headers={"Authorization": "sk-x"}
        )
        with urllib.request.urlopen(request) as response:
            assert b'"code":"0000"' in response.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_the_program_refuses_to_be_reached_from_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMORIES_EMULATOR_KEY", raising=False)
    assert main(["--host", "0.0.0.0", "--allow-remote"]) == 2
    assert "0.0.0.0 is not loopback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/understand/uploadImg HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nforged\nlines: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: sk-mavi-" + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: sk-mavi-1\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization sk-mavi-1: 1\r\n\r\n",
        b"GET /?key=sk-mavi-1 HTTP/9.9\r\nHost: x\r\n\r\n",
        b"CONNECT [sk-mavi-1]x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT sk-mavi-1@x:99999 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_a_request_that_is_no_http_is_one_line(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with Emulator(HashEngine()) as emulator:
        host, port = emulator.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(sent)
            assert b" 400 " in await reader.read(4096)
        finally:
            writer.transport.abort()
    [record] = [record for record in caplog.records if record.name.startswith("memories_async")]
    assert record.getMessage().startswith("A request that is no HTTP was refused (400): ")
    assert record.exc_info is None
    assert "mavi" not in record.getMessage()
    assert len(record.getMessage().splitlines()) == 1
    assert len(record.getMessage()) < 300
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("option", "value", "parameter"),
    [("--port", "99999", "port"), ("--index-seconds", "-1", "index_seconds")],
)
def test_the_program_says_in_one_line_what_is_beyond_a_limit(
    capsys: pytest.CaptureFixture[str], option: str, value: str, parameter: str
) -> None:
    assert main([option, value]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"memories-async emulator: Emulator: {parameter} is {value}")
