"""Processes for the stories of story.py: each does one thing with a job or a store, or listens.

A server that imports once and forks for each order: ``python -m tests.simulation.real.program``
reads orders as JSON lines, and answers with lines that name the worker they are about.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

import memories_async._engine.pipeline  # noqa: F401  # loaded once, before it forks
from memories_async import CaptionTask, Memories, MemoriesError
from memories_async.bulk import Job
from memories_async.bulk.journal.database import Journal
from memories_async.callbacks import CallbackInbox, SqliteStore, aiohttp_app
from memories_async.callbacks.stores.protocol import DeliveryStatus
from memories_async.cli import main as command_line

Order = dict[str, Any]
ADDRESS = "http://127.0.0.1:9/memories"
"""Where the service believes the listeners to be; the story itself carries the callbacks."""
HURRY = 100.0


class HurriedClock:
    """Waits a hundredth of what it is asked to: a minute's patience is half a second."""

    def monotonic(self) -> float:
        return time.monotonic() * HURRY

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / HURRY)

    def random(self) -> float:
        return 0.5


def inbox_of(order: Order) -> CallbackInbox:
    return CallbackInbox(ADDRESS, store=SqliteStore(order["store"]), clock=HurriedClock())


# --- jobs ---------------------------------------------------------------------------------------


async def create(order: Order) -> object:
    async with await Job.create(
        order["job"], "embed_images", order["inputs"], price=order["price"]
    ):
        return None


async def run(order: Order) -> object:
    async with (
        Memories("key", base_url=order["url"]) as client,
        await Job.open(order["job"]) as job,
    ):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, job.stop)
        report = await job.run(client, **order["run"])
        cost = str((report.cost or 0) + (report.possible_cost or 0))
        return {"stopped": report.stopped and report.stopped.reason.value, "cost": cost}


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


# --- callbacks ----------------------------------------------------------------------------------


async def listen(order: Order) -> object:
    """Take callbacks until somebody ends this process."""
    application = web.Application()
    application.add_subapp("/memories", aiohttp_app(inbox_of(order)))
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tell(order, {"port": runner.addresses[0][1]})
    await asyncio.Event().wait()
    return None


async def submit(order: Order) -> object:
    """Hand a video in; its address is told before anything is sent."""
    inbox = inbox_of(order)
    async with Memories("key", caption_key="caption", base_url=order["url"]) as client, inbox:

        async def send(url: str) -> CaptionTask:
            tell(order, {"address": url.rpartition("/")[2]})
            content = bytes.fromhex(order["content"])
            return await client.captions.submit_video(content, order["prompt"], callback=url)

        return (await inbox.submit(send, key=order["key"])).task_id


async def wait(order: Order) -> object:
    """Return the captions of some tasks, whichever process took them."""
    async with inbox_of(order) as inbox:
        return {
            task: (await inbox.result(task, timeout=order["patience"])).text
            for task in order["tasks"]
        }


ACTIONS: dict[str, Callable[[Order], Coroutine[Any, Any, object]]] = {
    action.__name__: action
    for action in (create, run, add, export, plan, remove, listen, submit, wait)
}


def list_jobs(order: Order) -> object:
    """``memories-async jobs list``."""
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(1, 2)
    os.environ.update(order["environment"])
    return command_line(["jobs", "list", "--json"])


# --- faults put in on purpose -------------------------------------------------------------------


async def _nothing(*_: object) -> None:
    return None


async def _acknowledged_and_dropped(*_: object) -> DeliveryStatus:
    return DeliveryStatus.FIRST


async def _not_expected(self: CallbackInbox, token: str) -> None:
    await self._store.open(token, None, self._clock.wall())


PLANTED: dict[str, tuple[type, str, object]] = {
    "a job sends what is not written down": (Journal, "start", _nothing),
    "a callback is acknowledged and dropped": (SqliteStore, "deliver", _acknowledged_and_dropped),
    "a second click is a second task": (CallbackInbox, "_expect", _not_expected),
}

# --- processes ----------------------------------------------------------------------------------


def tell(order: Order, said: dict[str, object]) -> None:
    os.write(order["pipe"], json.dumps({"worker": order["worker"], **said}).encode() + b"\n")


def act(order: Order) -> None:
    """Do what is ordered, in a child of its own."""
    tell(order, {"process": os.getpid()})
    try:
        if order["do"] == "list":
            result = list_jobs(order)
        else:
            result = asyncio.run(ACTIONS[order["do"]](order))
        said: dict[str, object] = {"result": result}
    except MemoriesError as error:
        said = {"refused": type(error).__name__, "message": str(error)}
    except BaseException as error:
        said = {"broken": repr(error)}
    tell(order, said)
    os._exit(0)


def main() -> None:
    """Obey, with a fault if one is named."""
    logging.getLogger("memories_async").setLevel(logging.ERROR)
    for planted in sys.argv[1:]:
        setattr(*PLANTED[planted])
    receiver, sender = os.pipe()
    children: dict[int, int] = {}

    def pass_on() -> None:
        # Past sys.stdout, whose lock a child would have for ever that is forked meanwhile.
        for line in os.fdopen(receiver, "rb"):
            os.write(1, line)

    threading.Thread(target=pass_on, daemon=True).start()
    for line in sys.stdin:
        order = {**json.loads(line), "pipe": sender}
        if order["do"] == "reap":
            _, status = os.waitpid(children.pop(order["worker"]), 0)
            # By the way that all it said has gone, and so after it.
            tell(order, {"ended": os.waitstatus_to_exitcode(status)})
            continue
        child = os.fork()
        if child == 0:
            act(order)
        children[order["worker"]] = child


if __name__ == "__main__":
    main()
