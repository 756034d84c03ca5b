"""A client asks the resolver for the hosts of its services, and for nothing else."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: whatever asks, by whatever way, goes through these functions.
WATCHED = """
import asyncio, socket, sys
asked = set()
def refuse(host, *arguments, **named):
    asked.add(host.decode() if isinstance(host, bytes) else host)
    raise socket.gaierror(socket.EAI_NONAME, "nothing is resolved here")
socket.getaddrinfo = socket.gethostbyname = refuse
import memories_async
from memories_async import CallOptions, Memories, MemoriesError
async def main():
    once = CallOptions(attempts=1)
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
print(*sorted(asked))
"""


def test_nothing_but_the_services_hosts_is_resolved() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True, env={}
    )
    hosts = ["api.memories.ai", "mavi-backend.memories.ai", "security.memories.ai"]
    assert done.stdout.split() == hosts
