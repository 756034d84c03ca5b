"""Each image embedded once, by a pool of processes: ``python pool.py FOLDER``."""

import asyncio
import os
import sys
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

from memories_async import Memories
from memories_async.bulk import Once, SqliteLedger


async def embed_all(paths: list[str]) -> list[str]:
    ledger = SqliteLedger(os.environ.get("LEDGER", "once.ledger"))
    async with Memories() as client:
        once = Once(client, ledger, max_cost=1)
        records = await asyncio.gather(*(once.embed_image(path) for path in paths))
    await ledger.aclose()
    return [record.status.value for record in records]


def embed(paths: list[str]) -> list[str]:
    return asyncio.run(embed_all(paths))


if __name__ == "__main__":
    paths = [str(path) for name in sys.argv[1:2] for path in sorted(Path(name).glob("*.png"))]
    if not paths or "MEMORIES_API_KEY" not in os.environ:
        sys.exit("Usage: MEMORIES_API_KEY=… python pool.py FOLDER (the images are its *.png)")
    with get_context("spawn").Pool(2) as pool:
        statuses = Counter[str]()
        for answered in pool.map(embed, [paths[0::2], paths[1::2]]):
            statuses.update(answered)
    print(", ".join(f"{count} {status}" for status, count in statuses.items()))
