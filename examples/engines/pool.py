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
    paths = sorted(map(str, Path(sys.argv[1]).glob("*.png")))
    with get_context("spawn").Pool(2) as pool:
        statuses = Counter[str]()
        for answered in pool.map(embed, [paths[0::2], paths[1::2]]):
            statuses.update(answered)
    print(", ".join(f"{count} {status}" for status, count in statuses.items()))
