"""Calls as fast as it can, with receipts, until it is killed: ``URL FILE``."""

from __future__ import annotations

import asyncio
import sys

from memories_async import CallOptions, Memories
from memories_async.observe import Receipts
from tests.faults.conftest import PNG


async def main(url: str, path: str) -> None:
    async with Memories(
        "key", caption_key="key", base_url=url, observers=[Receipts(path)]
    ) as client:

        async def calls() -> None:
            while True:
                await client.captions.image(PNG, "what", options=CallOptions(attempts=1))

        print("calling", flush=True)
        await asyncio.gather(*[calls() for _ in range(10)])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
