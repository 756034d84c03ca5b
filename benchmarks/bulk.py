"""``python -m benchmarks.bulk``: a bulk job beside a plain ``asyncio.gather`` over one emulator.

The emulator has a process of its own; the two rows take turns, and every round makes a new job.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.process import Sample, cpu_seconds
from benchmarks.report import Column, Goal, Table, as_markdown, as_text, machine, machine_line
from memories_async import Bucket, Memories, Rate
from memories_async.bulk import Job
from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine

PNG = b"\x89PNG\r\n\x1a\n"
PROMPT = "What is it?"
LIMIT = 200
"""Calls per second of the paced table."""
CONCURRENCY = 32
GATHER, JOB = "asyncio.gather", "bulk job"

COLUMNS = (
    Column("items per second", "rate", digits=0),
    Column("time, gather = 1", "seconds", per=GATHER),
    Column("CPU ms per item", "cpu"),
)

_numbers = itertools.count()


def serve(pipe: Connection) -> None:
    async def until_told() -> None:
        async with Emulator(HashEngine()) as emulator:
            pipe.send(emulator.url)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(until_told())


@contextlib.contextmanager
def running_emulator() -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


async def gather(client: Memories, paths: list[Path], folder: Path) -> None:
    places = asyncio.Semaphore(CONCURRENCY)

    async def caption(path: Path) -> None:
        async with places:
            await client.captions.image(path, PROMPT)

    await asyncio.gather(*(caption(path) for path in paths))


async def job(client: Memories, paths: list[Path], folder: Path) -> None:
    name = folder / f"job {next(_numbers)}"
    options = {"prompt": PROMPT}
    async with await Job.create(name, "caption_images", paths, options=options) as job:
        report = await job.run(client, concurrency=CONCURRENCY)
    assert report.counts.done == len(paths), report


ROWS: dict[str, Callable[[Memories, list[Path], Path], Awaitable[None]]] = {
    GATHER: gather,
    JOB: job,
}


async def measure(row: str, url: str, paths: list[Path], folder: Path, rate: Rate | None) -> Sample:
    rates = {Bucket.CAPTION_IMAGE: rate} if rate else {}
    # A key for each measurement: accounts that share a limit would wait for each other.
    key = f"key {next(_numbers)}".replace(" ", "-")
    async with Memories(key, caption_key=key, base_url=url, rates=rates) as client:
        await client.captions.image(paths[0], PROMPT)  # imports and the first connection
        started, cpu = time.perf_counter(), cpu_seconds()
        await ROWS[row](client, paths, folder)
        seconds = time.perf_counter() - started
    return {
        "rate": len(paths) / seconds,
        "seconds": seconds,
        "cpu": (cpu_seconds() - cpu) / len(paths) * 1000,
    }


def table(
    name: str, title: str, rounds: int, count: int, rate: Rate | None, goals: tuple[Goal, ...]
) -> Table:
    samples: dict[str, list[Sample]] = {row: [] for row in ROWS}
    with running_emulator() as url, tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number:06}.png" for number in range(count)]
        for number, path in enumerate(paths):
            path.write_bytes(PNG + b"%d" % number)
        for _ in range(rounds):
            for row in ROWS:
                measured = asyncio.run(measure(row, url, paths, Path(folder), rate))
                samples[row].append(measured)
    note = (
        f"{count} image captions, {CONCURRENCY} at once, medians of {rounds} rounds. "
        "A job checks and hashes each file, and writes to disk before and after each call."
    )
    return Table(name, title, note, COLUMNS, samples, goals)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (5)")
    parser.add_argument("--items", type=int, default=1000, help="items of a job (1000)")
    parser.add_argument("--markdown", action="store_true", help="print as the README has it")
    given = parser.parse_args()
    goals = (Goal(JOB, "time, gather = 1", 1.1),)
    rounds, items = given.rounds, given.items
    tables = [
        table("bulk-paced", f"Bulk at {LIMIT} calls/s.", rounds, items, Rate(LIMIT), goals),
        table("bulk-unpaced", "Bulk without a limit.", rounds, items, None, ()),
    ]
    if given.markdown:
        print(as_markdown(tables, machine()), end="")
    else:
        print(as_text(tables), machine_line(machine()), sep="\n\n")


if __name__ == "__main__":
    main()
