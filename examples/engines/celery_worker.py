"""Each image embedded once, by Celery: ``python celery_worker.py FOLDER``.

The tasks are acknowledged late, so that one whose worker dies runs again: the ledger is what
makes that harmless. Here everything runs in one process; give a broker's address instead.
"""

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path

from celery import Celery

from memories_async import Memories
from memories_async.bulk import Once, SqliteLedger

app = Celery(broker=os.environ.get("BROKER", "memory://"), backend="cache+memory://")
app.conf.update(task_always_eager="BROKER" not in os.environ, task_acks_late=True)


@app.task
def embed(path: str) -> str:
    async def once() -> str:
        ledger = SqliteLedger(os.environ.get("LEDGER", "once.ledger"))
        async with Memories() as client:
            record = await Once(client, ledger, max_cost=1).embed_image(path)
        await ledger.aclose()
        return record.status.value

    return asyncio.run(once())


if __name__ == "__main__":
    paths = sorted(map(str, Path(sys.argv[1]).glob("*.png")))
    statuses = [embed.delay(path).get() for path in paths]
    print(", ".join(f"{count} {status}" for status, count in Counter(statuses).items()))
