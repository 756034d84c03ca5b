"""Each image embedded once, by the workers of a Dask cluster: ``python dask_cluster.py FOLDER``."""

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path

from distributed import Client, LocalCluster

from memories_async import Memories
from memories_async.bulk import Once, SqliteLedger


def embed(path: str) -> str:
    async def once() -> str:
        ledger = SqliteLedger(os.environ.get("LEDGER", "once.ledger"))  # many hosts: RedisLedger
        async with Memories() as client:
            record = await Once(client, ledger, max_cost=1).embed_image(path)
        await ledger.aclose()
        return record.status.value

    return asyncio.run(once())


if __name__ == "__main__":
    paths = [str(path) for name in sys.argv[1:2] for path in sorted(Path(name).glob("*.png"))]
    if not paths or "MEMORIES_API_KEY" not in os.environ:
        sys.exit(
            "Usage: MEMORIES_API_KEY=… python dask_cluster.py FOLDER (the images are its *.png)"
        )
    with LocalCluster(n_workers=2, dashboard_address=None) as cluster, Client(cluster) as client:
        # Dask may run a task again, and twice at once: the ledger is what makes that harmless.
        statuses = client.gather(client.map(embed, paths, retries=2))
    print(", ".join(f"{count} {status}" for status, count in Counter(statuses).items()))
