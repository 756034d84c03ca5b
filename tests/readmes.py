"""The READMEs' Python, each block made into a program that runs and that type-checkers can read."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[1]
READMES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in (
        "README.md",
        "CHANGELOG.md",
        ".github/*.md",
        *(
            f"{folder}/**/README.md"
            for folder in ("benchmarks", "examples", "memories_async", "tests")
        ),
    )
    for path in sorted(ROOT.glob(pattern))
}
README = READMES["README.md"]

ADDRESS = "https://app.example.com/memories"
"""What stands in the READMEs for an application's public address."""

BUCKET = "s3://pictures/"
"""What stands in the READMEs for a place in the cloud."""

PICTURE = "https://example.com/alice.jpg"
"""What stands in the READMEs for a picture at a public address."""


@attrs.frozen
class Setting:
    """What the text around a block says that there is.

    Attributes:
        marks: A block that has one of these texts is such a block.
        parameters: The names that it uses and does not make, as a function's parameters.
        before: Code at the top of the program.
        run: Code that runs the block, which is the body of ``example``; none if it runs by itself.
        tests: Whether it is a file of tests, for pytest.
    """

    marks: tuple[str, ...]
    parameters: str = ""
    before: str = ""
    run: str = ""
    tests: bool = False

    def program(self, block: str) -> str:
        """Return the whole program."""
        if not self.parameters:
            return f"{self.before}\n{block}\n{self.run}"
        body = textwrap.indent(block, "    ")
        start = "async def" if "await example(" in self.run else "def"
        return f"{self.before}\n{start} example({self.parameters}) -> None:\n{body}\n\n{self.run}"


PROGRAM = Setting(("asyncio.run(",))

TESTS = Setting(("def test_",), tests=True)

RECORDED = Setting(
    ('replay="recordings"',),
    before="""
import asyncio
from pathlib import Path

from memories_async import Memories
""",
    run="""
async def recorded() -> None:
    async with (
        Emulator() as real,
        Emulator(record="recordings", upstream=real.url) as recorder,
        Memories("key", base_url=recorder.url) as client,
    ):
        await client.embeddings.image(Path("photo.jpg"))


asyncio.run(recorded())


async def test_what_was_recorded(memories: Memories, memories_emulator: Emulator) -> None:
    assert (await memories.embeddings.image("photo.jpg")).vector
    memories_emulator.assert_billed(0)
""",
    tests=True,
)

BROWSER = Setting(
    ("def callbacks_to(",),
    before="""
import time

from fastapi import FastAPI

from memories_async.sync import Memories
""",
    run=f"""
app = FastAPI()
arrived: list[str] = []


@app.post("/{{path:path}}")
async def take(path: str) -> None:
    arrived.append(path)


def test_a_callback_arrives(blocking_memories: Memories, memories_emulator: Emulator) -> None:
    callbacks_to(TestClient(app), memories_emulator)
    blocking_memories.captions.submit_video("holiday.mp4", "What happens?", callback="{ADDRESS}")
    while not arrived:
        time.sleep(0.01)
    assert arrived == ["memories"]
""",
    tests=True,
)

APPLICATION = Setting(
    ("FastAPI(",),
    run="""
async def visited() -> None:
    port = int(os.environ["PORT"])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as browser:
        submitted = await browser.post(
            "/captions",
            params={"name": "film.mp4", "prompt": "What happens?", "key": "1"},
            headers={"Content-Type": "video/mp4"},
            content=Path("holiday.mp4").read_bytes(),
        )
        shown = await browser.get(f"/captions/{submitted.json()['task_id']}")
        assert shown.json()["text"], shown.text
    server.should_exit = True
    await serving


import asyncio
import os
from pathlib import Path

import httpx
import uvicorn

asyncio.run(visited())
""",
)

INBOX = Setting(
    ("inbox.",),
    "client: Memories, inbox: CallbackInbox",
    """
import asyncio
import os

from memories_async import Memories
from memories_async.callbacks import CallbackInbox, MemoryStore, serve
""",
    f"""
async def main() -> None:
    inbox = CallbackInbox("{ADDRESS}", store=MemoryStore())
    async with Memories() as client, inbox, serve(inbox, port=int(os.environ["PORT"])):
        await example(client, inbox)


asyncio.run(main())
""",
)

RAY = Setting(
    ("import ray",),
    before="# pyright: reportUnknownMemberType=false\n",
    run="""
assert report("photos-2026").done == 1
""",
)
"""It finds a list of one picture. Ray's own annotations have gaps."""

JOB = Setting(
    ("print(report.possible_cost)",),
    "client: Memories, job: Job, report: Report",
    """
import asyncio

from memories_async import Memories
from memories_async.bulk import Job, Report
""",
    """
async def main() -> None:
    async with await Job.create("some.job", "embed_images", "photos/") as job:
        async with Memories() as client:
            await example(client, job, await job.run(client))


asyncio.run(main())
""",
)

BLOCKING = Setting(
    ("memories_async.sync",),
    "paths: list[str]",
    run="""
example(["photo.jpg", "two.jpg"])
""",
)

FILM = Setting(
    ("video.",),
    "client: Memories, video: Video",
    """
import asyncio

from memories_async import Memories, Video
""",
    """
async def main() -> None:
    async with Memories() as client:
        video = await client.library.add_video("holiday.mp4")
        await example(client, await client.library.wait_until_searchable(video.video_no))


asyncio.run(main())
""",
)
"""It goes on with a film that is in the library."""

CLIENT = Setting(
    ("",),
    "client: Memories",
    """
import asyncio

from memories_async import Memories
""",
    """
async def main() -> None:
    async with Memories() as client:
        await example(client)


asyncio.run(main())
""",
)

# The first that fits.
SETTINGS = (PROGRAM, RECORDED, BROWSER, TESTS, APPLICATION, INBOX, RAY, JOB, BLOCKING, FILM, CLIENT)


@attrs.frozen
class Example:
    """One block of Python of one README.

    Attributes:
        name: The README and the block's last line.
        block: The block.
        setting: What it needs.
    """

    name: str
    block: str
    setting: Setting

    @property
    def program(self) -> str:
        """The whole program."""
        return self.setting.program(self.block)


def setting_of(block: str) -> Setting:
    """Return what a block needs."""
    return next(s for s in SETTINGS if any(mark in block for mark in s.marks))


EXAMPLES = [
    Example(f"{name}: {block.strip().splitlines()[-1][:60]}", block, setting_of(block))
    for name, text in READMES.items()
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
