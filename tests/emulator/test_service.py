"""The emulator as a service: ready at once, asked for its health, gone without a trace."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import aiohttp
import pytest

import memories_async
from memories_async.emulator import Emulator
from tests.emulator.conftest import KEY, KnownEngine

pytestmark = pytest.mark.anyio

PROJECT = Path(memories_async.__file__).parent.parent
DOCKERFILE = PROJECT / "memories_async" / "emulator" / "Dockerfile"


async def test_health_needs_no_key(engine: KnownEngine) -> None:
    async with Emulator(
        engine, host="0.0.0.0", allow_remote=True, api_key=KEY, caption_key=KEY
    ) as emulator:
        port = emulator.url.rpartition(":")[2]
        async with aiohttp.ClientSession() as anybody:
            async with anybody.get(f"http://127.0.0.1:{port}/health") as response:
                assert response.status == 200
                assert await response.json() == {
                    "status": "ok",
                    "version": memories_async.__version__,
                }
            async with anybody.get(f"http://127.0.0.1:{port}/openapi.json") as response:
                assert response.status == 403
        assert len(emulator.ledger) == 0


def test_it_listens_before_its_engine_is_loaded(tmp_path: Path) -> None:
    """Ready in under a second of its own: nothing that decodes media is imported first."""
    code = """
import asyncio, sys
from memories_async.emulator import Emulator, server

def slow():
    loaded = {"numpy", "av", "PIL"} & set(sys.modules)
    assert not loaded, loaded
    from memories_async.emulator.engines.hashing import HashEngine
    return HashEngine()

server.default_engine = slow

async def main():
    async with Emulator() as emulator:
        print(emulator.url)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


HEAVY = ("/PIL/", "/av/", "/av.libs/")
"""What only an engine needs, and what takes longer to load than all the rest."""


def test_the_program_is_ready_before_it_loads_an_engine(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "memories_async.emulator", "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        url = next(word for word in process.stdout.readline().split() if "http" in word)
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
        with urllib.request.urlopen(f"{url}/health") as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert process.returncode == 0
    assert os.listdir(tmp_path) == []
    assert not [package for package in HEAVY if package in loaded]


# --- the Dockerfile, without a daemon ---------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, comments left out."""
    lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
    return [
        (name, rest.strip())
        for name, _, rest in (line.partition(" ") for line in lines if line[:1].isupper())
    ]


def test_the_dockerfile_names_what_there_is() -> None:
    steps = dict(instructions())
    assert re.fullmatch(r"python:3\.\d+-slim", steps["FROM"])
    assert steps["USER"] != "root"
    for name, rest in instructions():
        if name == "COPY":
            *sources, _ = shlex.split(rest)
            assert all((PROJECT / source).exists() for source in sources)
    assert "127.0.0.1:8765/health" in steps["HEALTHCHECK"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_dockerfile_s_steps_make_a_service(tmp_path: Path) -> None:
    """Copied, installed and started as the file says, into an environment of its own.

    What pip would fetch is taken from this environment, as there may be no network.
    """
    root = tmp_path / "app"
    root.mkdir()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    here = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {
        "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": here,
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "MEMORIES_EMULATOR_KEY": KEY,
    }
    commands: dict[str, list[str]] = {}
    for name, rest in instructions():
        match name:
            case "COPY":
                *sources, target = shlex.split(rest)
                for source in sources:
                    if (PROJECT / source).is_dir():
                        ignored = shutil.ignore_patterns("__pycache__")
                        shutil.copytree(PROJECT / source, root / target, ignore=ignored)
                    else:
                        (root / target).mkdir(parents=True, exist_ok=True)
                        shutil.copy(PROJECT / source, root / target)
            case "RUN" if rest.startswith("pip "):
                subprocess.run(["sh", "-ec", rest], cwd=root, env=environment, check=True)
            case "ENTRYPOINT" | "CMD":
                commands[name] = json.loads(rest)
    shutil.rmtree(root / "memories_async")  # what was installed must do
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = tmp_path / "venv" / "bin" / commands["ENTRYPOINT"][0]
    command = [str(program), *commands["ENTRYPOINT"][1:], *commands["CMD"], "--port", str(port)]
    with subprocess.Popen(command, cwd=root, env=environment) as process:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as found:
                    assert json.load(found)["status"] == "ok"
                break
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert not list(tmp_path.glob("memories-emulator-*"))
