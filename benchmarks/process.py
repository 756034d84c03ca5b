"""One job of one client, measured from inside a process of its own.

``python -m benchmarks.process`` reads the job as JSON and prints a sample as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from benchmarks.clients import BLOCKING, CLIENTS, Target

BEAT = 0.005
"""Seconds between two beats of the heart that shows how late the event loop is."""
BESIDE = 0.005
"""Seconds between two small calls made beside the uploads."""
MEBIBYTE = 1 << 20

Sample = dict[str, float]


@attrs.frozen(kw_only=True)
class Job:
    """What one process is to do.

    Attributes:
        client: Which of the clients.
        call: The method of it that is called.
        path: The file to send; empty where the call takes none.
        small: A small file of the same kind, to warm up with.
        count: How many calls.
        at_once: How many of them at once.
        beside: Whether small calls are made beside them.
        uvloop: Whether uvloop's event loop runs them.
    """

    client: str
    call: str = "upload"
    path: str = ""
    small: str = ""
    count: int = 1
    at_once: int = 1
    beside: bool = False
    uvloop: bool = False


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory(field: str) -> int:
    """Return a field of /proc/self/status in bytes; 0 where there is no such file."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    (line,) = [line for line in status.read_text().splitlines() if line.startswith(field + ":")]
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Make the kernel count the peak of memory from here on."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


async def heartbeat(lateness: list[float]) -> None:
    """Note by how many milliseconds the loop comes back later than asked."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + BEAT
        await asyncio.sleep(BEAT)
        lateness.append(max(loop.time() - due, 0.0) * 1000)


async def small_calls(call: Callable[[], Awaitable[object]], latency: list[float]) -> None:
    """Make one small call after the other and note how long each took."""
    while True:
        started = time.perf_counter()
        await call()
        latency.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(BESIDE)


async def rush(call: Callable[[], Awaitable[object]], count: int, at_once: int) -> None:
    """Make so many calls, so many at once."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def measure(job: Job, target: Target) -> Sample:
    """Warm up, then do the job: imports, handshakes and first connections are not counted."""
    client = CLIENTS[job.client](target)
    method = getattr(client, job.call)
    await rush(lambda: method(job.small) if job.small else method(), job.at_once, job.at_once)
    lateness: list[float] = []
    latency: list[float] = []
    tasks: list[asyncio.Task[None]] = []
    if job.client not in BLOCKING:
        tasks.append(asyncio.create_task(heartbeat(lateness)))
    if job.beside:
        await client.embed()
        tasks.append(asyncio.create_task(small_calls(client.embed, latency)))
    gc.collect()
    forget_peak()
    idle = memory("VmRSS")
    await asyncio.sleep(10 * BEAT)
    lateness.clear()
    latency.clear()
    cpu, wall = cpu_seconds(), time.perf_counter()
    await rush(lambda: method(job.path) if job.path else method(), job.count, job.at_once)
    wall, cpu, peak = time.perf_counter() - wall, cpu_seconds() - cpu, memory("VmHWM")
    for task in tasks:
        task.cancel()
    sample = {"cpu": cpu, "wall": wall, "memory": max(peak - idle, 0) / MEBIBYTE}
    for name, values in (("late", lateness), ("small", latency)):
        if values:
            sample[f"{name}_p50"] = percentile(values, 0.5)
            sample[f"{name}_p99"] = percentile(values, 0.99)
    return sample


def main() -> None:
    """Run the job that the arguments give."""
    target, job = (json.loads(argument) for argument in sys.argv[1:3])
    factory = None
    if job["uvloop"]:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(measure(Job(**job), Target(**target)))), flush=True)
    os._exit(0)  # the peers' sessions are not ours to close


if __name__ == "__main__":
    main()
