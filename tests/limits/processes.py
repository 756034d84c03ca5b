"""Clients in processes of their own, and a server with its own clock that counts them."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from multiprocessing.synchronize import Barrier

import attrs

from memories_async import Bucket, Memories, Rate
from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.limiters import Limiter, MemoryLimiter, RedisLimiter, SqliteLimiter
from tests.limits.homes import most_in_a_window

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(1000)
AT_ONCE = 8


@attrs.frozen
class Seen:
    """What the server saw.

    Attributes:
        most: Calls in the fullest period, less the most by which the server was late itself.
        share: Calls over what the rate allows.
        fewest: Calls of the process that got fewest, over an even share.
        late: Seconds by which the server came late to look at its sockets, at worst.
    """

    most: int
    share: float
    fewest: float
    late: float


def limiter_at(url: str) -> Limiter:
    """Return the limiter that a text names, which another process can be told."""
    if url.startswith(("unix:", "redis:")):
        return RedisLimiter(url)
    return SqliteLimiter(url) if url else MemoryLimiter()


async def _call_until(client: Memories, prompt: str, end: float) -> None:
    async def one_after_the_other() -> None:
        while time.monotonic() < end:
            await client.captions.image(PICTURE, prompt)

    await asyncio.gather(*[one_after_the_other() for _ in range(AT_ONCE)])


def work(server: str, store: str, rate: Rate, number: int, seconds: float, start: Barrier) -> None:
    """Call as fast as the limiter lets one."""

    async def call() -> None:
        rates = {Bucket.CAPTION_IMAGE: rate}
        async with Memories(
            "key", caption_key="key", base_url=server, rates=rates, limiter=limiter_at(store)
        ) as client:
            await asyncio.to_thread(start.wait)
            await _call_until(client, f"process {number}", time.monotonic() + seconds)

    asyncio.run(call())


async def _worst_lateness(found: list[float]) -> None:
    """Keep how late the loop was at worst: by so much may a call be seen after it arrived."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.005)
        found[0] = max(found[0], time.monotonic() - began - 0.005)


async def seen_by_a_server(store: str, rate: Rate, processes: int, seconds: float) -> Seen:
    """Let processes that share a store call one server, and count there."""
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(processes)
    async with Emulator(HashEngine()) as emulator:
        clients = [
            spawn.Process(target=work, args=(emulator.url, store, rate, number, seconds, start))
            for number in range(processes)
        ]
        for client in clients:
            client.start()
        late = [0.0]
        watching = asyncio.create_task(_worst_lateness(late))
        for client in clients:
            await asyncio.to_thread(client.join)
            assert client.exitcode == 0
        watching.cancel()
        entries = list(emulator.ledger)
    times = sorted(entry.started_at for entry in entries)
    each = [
        sum(entry.fields["user_prompt"] == f"process {number}" for entry in entries)
        for number in range(processes)
    ]
    allowed = (times[-1] - times[0]) * rate.calls / rate.seconds
    return Seen(
        most_in_a_window(times, rate.seconds - late[0]),
        (len(times) - 1) / allowed,
        min(each) * processes / len(times),
        late[0],
    )
