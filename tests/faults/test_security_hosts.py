"""Every entrance asks the resolver for the hosts of the services, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import memories_async

ROOT = Path(memories_async.__file__).parent.parent
HOSTS = {"api.memories.ai", "mavi-backend.memories.ai", "security.memories.ai"}

# In a process of its own: whatever asks, by whatever way, goes through these functions.
WATCHED = """
import asyncio, socket, sys
asked = set()
def refuse(host, *arguments, **named):
    asked.add(host.decode() if isinstance(host, bytes) else host)
    raise socket.gaierror(socket.EAI_NONAME, "nothing is resolved here")
socket.getaddrinfo = socket.gethostbyname = socket.gethostbyname_ex = refuse
import memories_async
from memories_async import CallOptions, MemoriesError
once = CallOptions(attempts=1)
{entrance}
print(*sorted(str(host) for host in asked))
"""

ENTRANCES = {
    "asyncio": """
from memories_async import Memories
async def main():
    async with Memories("key", caption_key="key") as client:
        for call in (
            client.captions.image("https://pictures.example/a.png", "What?", options=once),
            client.library.video("VI1", options=once),
            client.embeddings.text("word", options=once),
        ):
            try:
                await call
            except MemoriesError:
                pass
asyncio.run(main())
""",
    "blocking": """
from memories_async.sync import Memories
with Memories("key", caption_key="key") as client:
    for call in (
        lambda: client.captions.image("https://pictures.example/a.png", "What?", options=once),
        lambda: client.library.video("VI1", options=once),
        lambda: client.embeddings.text("word", options=once),
    ):
        try:
            call()
        except MemoriesError:
            pass
""",
    "bulk": """
from memories_async import Memories
from memories_async.bulk import Job
async def main():
    for kind, source, options in (
        ("caption_images", "https://pictures.example/a.png", {"prompt": "What?"}),
        ("embed_images", "photo.png", {}),
        ("add_images", "photo.png", {}),
    ):
        before = set(asked)
        async with Memories("key", caption_key="key", options=once) as client:
            async with await Job.create(kind + ".job", kind, source, options=options) as job:
                run = asyncio.create_task(job.run(client))
                while asked == before and not run.done():  # offline, it would go on for minutes
                    await asyncio.sleep(0.01)
                run.cancel()
                await asyncio.wait([run])
asyncio.run(main())
""",
    "command line": """
from memories_async.cli import main
wait = asyncio.sleep
asyncio.sleep = lambda seconds, result=None: wait(0, result)  # offline, calls are tried for 28 s
for arguments in (
    ["caption", "https://pictures.example/a.png", "--prompt", "What?"],
    ["search", "a rabbit"],
    ["embed", "photo.png"],
    ["doctor"],
):
    try:
        main(arguments)
    except SystemExit:
        pass
print()
""",
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_nothing_but_the_services_hosts_is_resolved(entrance: str, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.replace("{entrance}", ENTRANCES[entrance])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={
            "HOME": str(tmp_path),
            "MEMORIES_API_KEY": "key",
            "MEMORIES_CAPTION_KEY": "key",
            "PATH": os.defpath,
            "PYTHONPATH": str(ROOT),
        },
    )
    asked = set(done.stdout.splitlines()[-1].split())
    assert asked
    assert asked <= HOSTS
