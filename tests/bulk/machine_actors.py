"""Processes for the state machine: each does one thing with a job or a store, and says what came.

A server that imports once and forks for each order, as ``killed_runs`` does, but that goes on while
its children are at work: ``python -m tests.bulk.machine_actors`` reads orders as JSON lines, and
answers with lines that name the child they are about.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from memories_async import Memories, MemoriesError
from memories_async.bulk import Job
from memories_async.callbacks import SqliteStore
from memories_async.callbacks.stores.protocol import Delivery

Order = dict[str, Any]


async def create(order: Order) -> object:
    async with await Job.create(order["job"], "embed_images", order["inputs"]):
        return None


async def run(order: Order) -> object:
    async with (
        Memories("key", base_url=order["url"]) as client,
        await Job.open(order["job"]) as job,
    ):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, job.stop)
        report = await job.run(client, **order["run"])
        stopped = report.stopped.reason.value if report.stopped else None
        return {"stopped": stopped, "failed": report.counts.failed}


async def add(order: Order) -> object:
    async with await Job.open(order["job"]) as job:
        return await job.add(order["inputs"])


async def export(order: Order) -> object:
    async with await Job.open(order["job"]) as job:
        await job.running()
        return await job.export(order["to"])


async def plan(order: Order) -> object:
    async with await Job.open(order["job"]) as job:
        return len((await job.plan(order["inputs"])).inputs)


async def remove(order: Order) -> object:
    await Job.remove(order["job"])
    return None


async def submit(order: Order) -> object:
    store = SqliteStore(order["store"])
    await store.open(order["token"], order["name"], time.time())
    await store.aclose()
    return None


async def deliver(order: Order) -> object:
    store = SqliteStore(order["store"])
    delivery = Delivery(order["name"], order["name"].encode(), "digest", time.time())
    status = await store.deliver(order["token"], delivery)
    # What has been said is acknowledged: from here on it may not be lost.
    tell(order, {"acknowledged": status.name})
    await store.aclose()
    return None


async def wait(order: Order) -> object:
    """Look for a while at one result, as a worker that waits does, beside all that happens."""
    store = SqliteStore(order["store"])
    async with store.watch(order["name"]) as news:
        for _ in range(3):
            found = await store.find(order["name"])
            if found is not None:
                break
            try:
                async with asyncio.timeout(0.1):
                    await news.wait()
            except TimeoutError:
                pass
            news.clear()
    await store.aclose()
    return None if found is None else found.body.decode()


ACTIONS: dict[str, Callable[[Order], Coroutine[Any, Any, object]]] = {
    action.__name__: action
    for action in (create, run, add, export, plan, remove, submit, deliver, wait)
}


def tell(order: Order, said: dict[str, object]) -> None:
    os.write(order["pipe"], json.dumps({"actor": order["actor"], **said}).encode() + b"\n")


def act(order: Order) -> None:
    """Do what is ordered, in a child of its own."""
    try:
        said: dict[str, object] = {"result": asyncio.run(ACTIONS[order["do"]](order))}
    except MemoriesError as error:
        said = {"refused": type(error).__name__, "message": str(error)}
    except BaseException as error:
        said = {"broken": repr(error)}
    tell(order, said)
    os._exit(0)


def main() -> None:
    receiver, sender = os.pipe()
    children: dict[int, int] = {}

    def pass_on() -> None:
        for line in os.fdopen(receiver):
            print(line.strip(), flush=True)

    threading.Thread(target=pass_on, daemon=True).start()
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "signal":
            os.kill(children[order["actor"]], order["number"])
        elif order["do"] == "reap":
            _, status = os.waitpid(children.pop(order["actor"]), 0)
            # By the way that all it said has gone, and so after it.
            tell({**order, "pipe": sender}, {"ended": os.waitstatus_to_exitcode(status)})
        else:
            child = os.fork()
            if child == 0:
                act({**order, "pipe": sender})
            children[order["actor"]] = child


if __name__ == "__main__":
    main()
