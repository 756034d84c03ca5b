"""The README's examples run as they stand: each in a process of its own, against the emulator."""

from __future__ import annotations

import ast
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import memories_async
from memories_async.emulator import Emulator

pytestmark = pytest.mark.anyio

ROOT = Path(memories_async.__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MEDIA = ROOT / "examples" / "media"

# What the text around an example says that there is: a client, and something to send.
SETTING = """
import asyncio
import memories_async as package
async def example():
    async with package.Memories() as client:
        video = await client.library.add_video("holiday.mp4")
        await client.library.wait_until_searchable(video.video_no)
{example}

asyncio.run(example())
"""
BLOCKING_SETTING = "paths = ['photo.jpg', 'two.jpg']\n{example}"

# These need what is not here: public addresses, a Redis server, a job that was interrupted.
ONLY_COMPILED = ("example.com", "inbox.", "redis://", "possible_cost")


def blocks(language: str) -> Iterator[str]:
    for found in re.finditer(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        yield found[1]


def first_line(block: str) -> str:
    return block.strip().splitlines()[-1][:60]


EXAMPLES = list(blocks("python"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    shutil.copy(MEDIA / "bigbuckbunny.mp4", tmp_path / "holiday.mp4")
    for name in ("photo.jpg", "one.jpg", "two.jpg", "photos/one.jpg"):
        shutil.copy(MEDIA / "frame-1.3s.jpg", tmp_path / name)
    return tmp_path


def script(block: str) -> str:
    if "asyncio.run(" in block:
        return block
    if "await" not in block and "async " not in block:
        return BLOCKING_SETTING.format(example=block)
    return SETTING.format(example=textwrap.indent(block, "        "))


@pytest.mark.parametrize("block", EXAMPLES, ids=first_line)
async def test_an_example_runs(block: str, folder: Path) -> None:
    if any(needed in block for needed in ONLY_COMPILED):
        compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return
    async with Emulator() as emulator:
        done = await anyio.run_process(
            [sys.executable, "-c", script(block)],
            cwd=folder,
            env={
                "MEMORIES_API_KEY": "any-key",
                "MEMORIES_CAPTION_KEY": "any-caption-key",
                "MEMORIES_BASE_URL": emulator.url,
                "PYTHONPATH": str(ROOT),
                "PATH": "",
            },
            check=False,
        )
    assert done.returncode == 0, f"{block}\n{done.stderr.decode()}"


def test_the_first_two_headings_have_one_command_each() -> None:
    for heading, command in (("Run it", "sh examples/run"), ("Test it", "sh tests/run")):
        section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
        assert re.findall(r"^```sh\n(.*?)\n```", section, re.MULTILINE | re.DOTALL) == [command]


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^##+ (.*)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("http"):
            assert (ROOT / target).exists(), target
