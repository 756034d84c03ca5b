"""``python -m benchmarks.callbacks``: how fast callbacks are taken while 10,000 tasks are awaited.

The receiver, all its threads and 10,000 further waits included, has one core for itself; who posts
has another. A callback has been awaited when ``inbox.result`` has returned its caption.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import aiohttp
import attrs

from benchmarks.report import machine, machine_line
from memories_async.callbacks import (
    CallbackInbox,
    Delivery,
    MemoryStore,
    RedisStore,
    SqliteStore,
    Store,
    serve,
)
from memories_async.callbacks.tokens import CallbackKind, new_token, sign

PENDING = 10_000
AT_ONCE = 16
PACE = 500
"""Callbacks per second in the paced run."""
LEAST_RATE, MOST_DELAY = 500, 0.050
SECRET = "a secret for benchmarks"
STORES = ("memory", "sqlite", "redis")


# --- the receiver, in a process of its own ----------------------------------------------------


async def receive(store: Store, count: int) -> None:
    """Await so many tasks and 10,000 more; tell the addresses, then when each result was there."""
    async with CallbackInbox("http://127.0.0.1/cb", store=store, secret=SECRET) as inbox:
        tokens = [new_token(CallbackKind.CAPTION) for _ in range(count + PENDING)]
        for number, token in enumerate(tokens):
            await store.open(token, None, time.time())
            await store.bind(token, str(number), time.time())
        times = [0.0] * count
        all_looked = after_looks(store, len(tokens))

        async def wait(number: int) -> None:
            await inbox.result(str(number), timeout=None)
            times[number] = time.monotonic()

        waits = [asyncio.create_task(wait(number)) for number in range(count + PENDING)]
        async with serve(inbox, port=0) as url:
            await all_looked.wait()
            say([f"{url}/{sign(token, SECRET.encode())}" for token in tokens[:count]])
            await asyncio.wait_for(asyncio.gather(*waits[:count]), 120)
            say(times)
            await asyncio.to_thread(sys.stdin.readline)
        for waiting in waits:
            waiting.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def after_looks(store: Store, count: int) -> asyncio.Event:
    """Return what is set once a store has been looked into so many times."""
    done, left, find = asyncio.Event(), itertools.count(count - 1, -1), store.find

    async def counted(name: str) -> Delivery | None:
        found = await find(name)
        if next(left) == 0:
            done.set()
        return found

    store.find = counted  # type: ignore[method-assign]  # there is no other way to know
    return done


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


# --- who posts --------------------------------------------------------------------------------


@attrs.frozen
class Run:
    """Seconds of every callback, from its sending to its answer and to its awaited result."""

    seconds: float
    answered: Sequence[float]
    awaited: Sequence[float]

    @property
    def rate(self) -> float:
        return len(self.answered) / self.seconds


async def post_all(
    addresses: Sequence[str], number: int, pace: int | None
) -> tuple[float, list[float], list[float]]:
    """Post to the addresses, whose tasks are numbered from a number on.

    Returns:
        How long it took, when each was sent, and when each was answered.
    """
    sent, answered = [0.0] * len(addresses), [0.0] * len(addresses)
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post(position: int) -> None:
            body = {
                "status": 0,
                "task_id": str(number + position),
                "data": {"text": "x" * 500, "token": {"input": 1, "output": 2, "total": 3}},
            }
            sent[position] = time.monotonic()
            async with session.post(addresses[position], json=body) as response:
                assert response.status == 200, await response.text()
                await response.read()
            answered[position] = time.monotonic()

        started = time.monotonic()
        if pace is None:
            await as_fast_as_it_goes(len(addresses), post)
        else:
            await at_a_pace(len(addresses), pace, post)
        return time.monotonic() - started, sent, answered


async def as_fast_as_it_goes(count: int, post: Callable[[int], Awaitable[None]]) -> None:
    positions = iter(range(count))

    async def post_on() -> None:
        for position in positions:
            await post(position)

    await asyncio.gather(*(post_on() for _ in range(AT_ONCE)))


async def at_a_pace(count: int, pace: int, post: Callable[[int], Awaitable[None]]) -> None:
    """Post so many in a second, whether or not the earlier ones have been answered."""
    started = time.monotonic()
    async with asyncio.TaskGroup() as posts:
        for position in range(count):
            await asyncio.sleep(max(0.0, started + position / pace - time.monotonic()))
            posts.create_task(post(position))


def measure(store: str, place: str, count: int) -> tuple[Run, Run]:
    """Return one run as fast as it goes, and one at a pace."""
    command = [sys.executable, "-m", "benchmarks.callbacks", "--receive", store, place]
    with subprocess.Popen(
        [*command, "--count", str(2 * count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdin is not None
        addresses = json.loads(receiver.stdout.readline())
        fast = asyncio.run(post_all(addresses[:count], 0, None))
        paced = asyncio.run(post_all(addresses[count:], count, PACE))
        awaited = json.loads(receiver.stdout.readline())
        receiver.stdin.write("\n")
        receiver.stdin.flush()
    return run_of(fast, awaited[:count]), run_of(paced, awaited[count:])


def run_of(posted: tuple[float, list[float], list[float]], awaited: Sequence[float]) -> Run:
    seconds, sent, answered = posted
    return Run(
        seconds,
        [after - before for before, after in zip(sent, answered, strict=True)],
        [after - before for before, after in zip(sent, awaited, strict=True)],
    )


def p99(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


# --- the program ------------------------------------------------------------------------------


def store_at(kind: str, place: str) -> Store:
    match kind:
        case "sqlite":
            return SqliteStore(Path(place) / "callbacks.db")
        case "redis":
            return RedisStore(place)
        case _:
            return MemoryStore()


@contextlib.contextmanager
def place_for(kind: str) -> Iterator[str]:
    """Yield where a store is: a folder, or the address of a Redis server."""
    with tempfile.TemporaryDirectory() as folder:
        if kind != "redis":
            yield folder
            return
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = shutil.which("redis-server") or shutil.which("valkey-server") or ""
        options = ["--port", str(port), "--appendonly", "yes", "--save", "", "--dir", folder]
        with subprocess.Popen([server, *options], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "eady to accept connections" in line:
                    break
            yield f"redis://127.0.0.1:{port}/0"
            process.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.callbacks", description=__doc__)
    parser.add_argument("stores", nargs="*", default=STORES, help=f"of {' '.join(STORES)}; all")
    parser.add_argument("--count", type=int, default=5000, help="callbacks in each run (5000)")
    parser.add_argument("--receive", nargs=2, metavar=("STORE", "PLACE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if given.receive:
        os.sched_setaffinity(0, cores[:1])
        asyncio.run(receive(store_at(*given.receive), given.count))
        return 0
    print(f"{PENDING:,} tasks are awaited throughout; the receiver has one core\n")
    print("store    callbacks/s   p99 answered   p99 awaited   ", end="")
    print(f"at {PACE}/s: p99 answered   p99 awaited")
    met = True
    for kind in given.stores:
        with place_for(kind) as place:
            os.sched_setaffinity(0, cores[-1:])
            fast, paced = measure(kind, place, given.count)
            os.sched_setaffinity(0, cores)
        print(f"{kind:8} {fast.rate:11,.0f} {delay(fast.answered):>14} ", end="")
        print(f"{delay(fast.awaited):>13} {delay(paced.answered):>25} {delay(paced.awaited):>13}")
        met &= fast.rate >= LEAST_RATE and p99(paced.awaited) < MOST_DELAY
    print(f"\n{machine_line(machine())}")
    print(f"≥ {LEAST_RATE}/s and p99 < {MOST_DELAY * 1000:.0f} ms: {'met' if met else 'missed'}")
    return 0 if met else 1


def delay(seconds: Sequence[float]) -> str:
    return f"{p99(seconds) * 1000:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
