"""Every README's examples run as they stand: each in its own process, against the emulator."""

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
READMES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in (ROOT, *(ROOT / name for name in ("memories_async", "examples", "benchmarks")))
    for path in (folder.glob("README.md") if folder == ROOT else folder.rglob("README.md"))
}
MEDIA = ROOT / "examples" / "media"

# What the text around an example says that there is: a client, and something to send.
SETTING = """
import asyncio
import memories_async as package
async def example():
    async with package.Memories() as client:
{film}{example}

asyncio.run(example())
"""
FILM = """\
        video = await client.library.add_video("holiday.mp4")
        await client.library.wait_until_searchable(video.video_no)
"""
BLOCKING_SETTING = "paths = ['photo.jpg', 'two.jpg']\n{example}"

# These need what is not here: public addresses, a Redis server, a job that was interrupted.
ONLY_COMPILED = ("example.com", "s3://", "inbox.", "redis://", "possible_cost")


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for name, text in READMES.items():
        for found in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield name, found[1]


EXAMPLES = {
    f"{name}: {block.strip().splitlines()[-1][:60]}": block for name, block in blocks("python")
}


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
    film = FILM if "video." in block else ""  # looking at it takes most of an example's time
    return SETTING.format(film=film, example=textwrap.indent(block, "        "))


@pytest.mark.parametrize("block", EXAMPLES.values(), ids=EXAMPLES)
async def test_an_example_runs(block: str, folder: Path) -> None:
    if any(needed in block for needed in ONLY_COMPILED):
        compile(block, "README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
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


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name: str) -> None:
    text, folder = READMES[name], (ROOT / name).parent
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^##+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("http"):
            assert (folder / target).exists(), target
