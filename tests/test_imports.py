"""Importing the package is quick: nothing of the network is loaded before the first call."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def loaded_by(statement: str) -> set[str]:
    """Return what a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return set(json.loads(done.stdout))


LATE = ("aiohttp", "asyncio", "anyio", "cattrs", "tenacity", "ssl", "numpy", "PIL", "av")


def test_import_loads_neither_aiohttp_nor_asyncio() -> None:
    before = loaded_by("pass")
    loaded = loaded_by("import memories_async; memories_async.Memories")
    assert not loaded & set(LATE)
    assert len(loaded | before) < 150, sorted(loaded - before)


def test_constructing_a_client_loads_no_more() -> None:
    loaded = loaded_by("import memories_async; memories_async.Memories('key')")
    assert not loaded & set(LATE)


def test_the_first_call_loads_the_engine() -> None:
    loaded = loaded_by(
        "import asyncio, socket, memories_async as m\n"
        "taken = socket.socket()\n"  # and nobody listens
        "taken.bind(('127.0.0.1', 0))\n"
        "nowhere = f'http://127.0.0.1:{taken.getsockname()[1]}'\n"
        "async def main():\n"
        "    async with m.Memories('key', base_url=nowhere) as client:\n"
        "        try:\n"
        "            await client.library.video('VI1', options=m.CallOptions(attempts=1))\n"
        "        except m.ConnectError:\n"
        "            pass\n"
        "asyncio.run(main())\n"
        "taken.close()"
    )
    assert "aiohttp" in loaded
    assert not loaded & {"numpy", "PIL", "av", "aiohttp.web"}


@pytest.mark.parametrize("module", ["memories_async.emulator", "memories_async.cli"])
def test_other_entrances(module: str) -> None:
    assert not loaded_by(f"import {module}") & {"numpy", "PIL", "av"}


def test_the_package_alone_loads_nothing_of_its_own() -> None:
    """So that the command line reaches its own first line before anything can be interrupted."""
    loaded = loaded_by("import memories_async")
    ours = {name for name in loaded if name.partition(".")[0] in ("memories_async", "attrs")}
    assert ours == {"memories_async", "memories_async._version"}
