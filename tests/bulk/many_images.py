"""Embeds very many images at one call a second, in time that only the clock's owner has to wait.

Real: the files, the journal on disk, the bulk pipeline, the client with its pacing, its replay rule
and its decoder. Not real: the clock, which jumps instead of waiting, and the network: what would
have gone out is counted, and answered or not, in place of ``Http.exchange``.

``python -m tests.bulk.many_images FOLDER COUNT`` prints what happened as JSON; a process of its own
makes its memory measurable.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import heapq
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sized
from typing import Any
from unittest.mock import patch

from memories_async import Bucket, Memories, Rate, _json
from memories_async._engine.body.threads import Threads
from memories_async._engine.body.writer import Transfer
from memories_async._engine.request import Request
from memories_async._engine.transport.answers import Reply
from memories_async._engine.transport.failures import Failure, Fault
from memories_async._engine.transport.http import Departure
from memories_async.bulk import Job, Status
from tests.virtual_clock import HurriedClock

PNG = b"\x89PNG\r\n\x1a\n"
FAULTS = 0.01
FOLDERS = 100
VECTOR = [0.25, -0.5, 0.125, 1.0]


class Clock(HurriedClock):
    """Jumps to who wakes up next, once nobody has anything to do, in the loop or in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._passing: asyncio.Task[None] | None = None
        self._in_threads = 0
        self._back = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        waking = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), waking))
        if self._passing is None or self._passing.done():
            self._passing = asyncio.ensure_future(self._pass_time())
        await waking

    async def _pass_time(self) -> None:
        ready: Sized = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]  # asyncio's
        while self._sleepers:
            await asyncio.sleep(0)
            if self._in_threads:
                self._back.clear()
                await self._back.wait()
            elif not ready:
                due, _, waking = heapq.heappop(self._sleepers)
                if not waking.done():  # its sleeper was cancelled: that takes no time
                    self.now = max(self.now, due)
                    waking.set_result(None)

    def _returned(self) -> None:
        self._in_threads -= 1
        self._back.set()

    @contextlib.contextmanager
    def standing_still_for_threads(self) -> Iterator[None]:
        """Let no time pass while a thread works, and until the loop has heard of it."""
        loop = asyncio.get_running_loop()
        submit, run = loop.run_in_executor, Threads.run

        def submitting(pool: Any, function: Any, /, *given: Any) -> Any:
            self._in_threads += 1
            future = submit(pool, function, *given)
            # Of the loop's own future, not of the thread's: that is done a moment earlier.
            future.add_done_callback(lambda _: self._returned())
            return future

        async def running(threads: Any, function: Any) -> Any:
            self._in_threads += 1
            try:
                return await run(threads, function)
            finally:
                self._returned()

        with (
            patch.object(loop, "run_in_executor", submitting),
            patch.object(Threads, "run", running),
        ):
            yield


class Service:
    """Answers, and does not, with a ledger."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.chance = random.Random(7)
        self.requests = 0
        self.billed: collections.Counter[str] = collections.Counter()
        self.faults: collections.Counter[str] = collections.Counter()

    async def exchange(
        self,
        request: Request[Any],
        transfer: Transfer,
        *,
        within: float | None,
        departure: Departure,
    ) -> Reply | Failure:
        await departure.confirm()
        name = os.path.basename(request.files[0].label)
        if self.chance.random() >= FAULTS:
            return self.take(transfer, name)
        fault = self.chance.choice(["refused", "throttled", "not connected", "lost", "never came"])
        self.faults[fault] += 1
        if fault == "not connected":
            return Failure(Fault.CONNECT, "by the test")
        self.requests += 1
        transfer.whole()
        if fault == "refused":
            return answer(400, {"code": 400, "msg": "not an image", "data": None})
        if fault == "throttled":
            return answer(429, {"code": 429, "msg": "Rate limit exceeded", "data": None})
        if fault == "lost":
            self.billed[name] += 1
        return Failure(Fault.LOST, "by the test")

    def take(self, transfer: Transfer, name: str) -> Reply:
        self.requests += 1
        transfer.whole()
        self.billed[name] += 1
        return answer(200, {"code": 200, "msg": "success", "data": {"embedding": VECTOR}})


def answer(status: int, body: dict[str, object]) -> Reply:
    return Reply(status, {"content-type": "application/json"}, _json.dumps(body))


def make_images(folder: str, count: int) -> None:
    for number in range(count):
        parent = f"{folder}/{number % FOLDERS:02}"
        os.makedirs(parent, exist_ok=True)
        with open(f"{parent}/{number:06}.png", "wb") as file:
            file.write(PNG + b"%d" % number)


def size_of(path: str) -> int:
    return os.path.getsize(path)


def peak_memory() -> int:
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def embed(folder: str, concurrency: int) -> dict[str, object]:
    clock = Clock()
    service = Service(clock)
    started, virtual = time.monotonic(), clock.monotonic()
    client = Memories(
        "key", base_url="http://127.0.0.1:9", rates={Bucket.EMBEDDING: Rate(1)}, clock=clock
    )
    async with client, await Job.create(f"{folder}/job", "embed_images", f"{folder}/images") as job:
        planned = time.monotonic()
        (await client._dispatcher.engine()).http.exchange = service.exchange  # type: ignore[method-assign]  # the seam
        with clock.standing_still_for_threads():
            report = await job.run(client, concurrency=concurrency)
        differences = 0
        async for item in job.items():
            billed = service.billed[os.path.basename(item.source)]
            expected = {Status.DONE: (1,), Status.FAILED: (0,), Status.UNKNOWN: (0, 1)}
            differences += billed not in expected[item.status]
    return {
        "counts": {status.value: getattr(report.counts, status.value) for status in Status},
        "stopped": report.stopped and report.stopped.message,
        "differences": differences,
        "billed": sum(service.billed.values()),
        "requests": service.requests,
        "faults": dict(service.faults),
        "virtual_seconds": clock.monotonic() - virtual,
        "planning_seconds": planned - started,
        "seconds": time.monotonic() - started,
        "peak_memory": peak_memory(),
        "journal_bytes": size_of(f"{folder}/job"),
    }


def main(folder: str, count: int, concurrency: int) -> dict[str, object]:
    make_images(f"{folder}/images", count)
    return asyncio.run(embed(folder, concurrency))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), concurrency=32)))
