"""Each image embedded once, by a Celery worker: ``python celery_worker.py FOLDER``.

Tasks are acknowledged late, so that one whose worker dies runs again: the ledger is what makes that
harmless. Without ``BROKER``, a broker's address, a worker runs in a thread of this very process.
"""

import asyncio
import contextlib
import os
import sys
from collections import Counter
from pathlib import Path

from celery import Celery
from celery.contrib.testing.worker import start_worker

from memories_async import Embedding, Memories
from memories_async.bulk import Once, SqliteLedger

BROKER = os.environ.get("BROKER")
app = Celery(broker=BROKER or "memory://", backend=BROKER or "cache+memory://")
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)


@app.task(name="embed")
def embed(path: str) -> dict[str, object]:
    async def once() -> dict[str, object]:
        ledger = SqliteLedger(os.environ.get("LEDGER", "once.ledger"))
        async with Memories() as client:
            record = await Once(client, ledger, max_cost=1).embed_image(path)
        await ledger.aclose()
        # A result goes through Celery as it is, as JSON.
        return {"status": record.status.value, "embedding": record.value, "error": record.error}

    return asyncio.run(once())


if __name__ == "__main__":
    paths = [str(path) for name in sys.argv[1:2] for path in sorted(Path(name).glob("*.png"))]
    if not paths or "MEMORIES_API_KEY" not in os.environ:
        sys.exit(
            "Usage: MEMORIES_API_KEY=… python celery_worker.py FOLDER (the images are its *.png)"
        )
    here = start_worker(app, perform_ping_check=False, shutdown_timeout=60)
    with contextlib.nullcontext() if BROKER else here:
        results = [embed.delay(path).get(timeout=60) for path in paths]
    statuses = Counter(result["status"] for result in results)
    print(", ".join(f"{count} {status}" for status, count in statuses.items()))
    found = [Embedding.from_dict(one["embedding"]) for one in results if one["embedding"]]
    print(f"{len(found)} embeddings, {sum(len(one.vector) for one in found)} numbers")
