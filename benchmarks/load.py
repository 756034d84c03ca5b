"""``python -m benchmarks.load``: what a client holds and keeps under load, each with its bound.

The engine of every row is the real one; where time is virtual, tests/faults/soak.py says how. Run
from the root of a clone, as the scenarios are the tests' own at full size.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from benchmarks.process import MEBIBYTE, forget_peak, memory
from benchmarks.report import machine, machine_line
from benchmarks.rounds import running_sink
from memories_async import Memories, Rate
from tests.faults.soak import HOUR, soak
from tests.faults.test_leaks import LARGE, cancelled_at_random
from tests.limits.homes import SERVER, redis_server
from tests.limits.processes import seen_by_a_server

CALLS_AT_ONCE = 10_000
CONNECTIONS = 100


@attrs.frozen
class Finding:
    """One figure, and the most or the least that it may be."""

    scenario: str
    figure: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool:
        return (self.most is None or self.value <= self.most) and (
            self.least is None or self.value >= self.least
        )

    @property
    def bound(self) -> str:
        if self.most is not None:
            return f"≤ {self.most:,g} {self.unit}".rstrip()
        return f"≥ {self.least:,g} {self.unit}".rstrip() if self.least is not None else ""

    def cells(self) -> list[str]:
        measured = f"{self.value:,.0f}" if self.value >= 1000 else f"{self.value:.3g}"
        verdict = ("met" if self.met else "missed") if self.bound else ""
        return [self.scenario, self.figure, f"{measured} {self.unit}".rstrip(), self.bound, verdict]


async def _calls_at_once(url: str) -> list[Finding]:
    async with Memories(caption_key="key", base_url=url, max_connections=CONNECTIONS) as client:
        await _call(client)
        forget_peak()
        idle, began, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
        results = await asyncio.gather(
            *[_call(client) for _ in range(CALLS_AT_ONCE)], return_exceptions=True
        )
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        added = (memory("VmHWM") - idle) / MEBIBYTE
    errors = sum(isinstance(result, BaseException) for result in results)
    name = f"{CALLS_AT_ONCE:,} calls at once, {CONNECTIONS} connections"
    return [
        Finding(name, "memory added", added, "MB", most=150),
        Finding(name, "time", seconds, "s", most=30),
        Finding(name, "CPU time", cpu, "s"),
        Finding(name, "errors", errors, "", most=0),
    ]


async def _call(client: Memories) -> object:
    return await client.captions.image("http://localhost/a.png", "What?")


def calls_at_once() -> list[Finding]:
    """10,000 light calls at once over 100 connections."""
    with running_sink() as sink:
        return asyncio.run(_calls_at_once(sink.http.url))


def many_calls() -> list[Finding]:
    """100,000 calls under a limit of one a second, in virtual time."""
    forget_peak()
    idle, began = memory("VmRSS"), time.perf_counter()
    result = asyncio.run(soak(100_000, faults=lambda second: 0.0, workers=8))
    real = time.perf_counter() - began
    name = "100,000 calls at 1 a second, virtual time"
    return [
        Finding(name, "real time", real, "s", most=120),
        Finding(name, "virtual time", result.seconds, "s", most=100_000 * 1.02),
        Finding(name, "memory added", (memory("VmHWM") - idle) / MEBIBYTE, "MB", most=100),
        Finding(name, "most in a second", result.fullest, "", most=1),
    ]


def day() -> list[Finding]:
    """24 hours at one call a second, 5 % of the exchanges failing."""
    began = time.perf_counter()
    result = asyncio.run(soak(int(24 * HOUR), measure=lambda: memory("VmRSS") / MEBIBYTE))
    hours = len(result.memory)
    growth = (result.memory[-1] - result.memory[3]) / (hours - 4)
    name = "24 h at 1 a second, 5 % faults, virtual time"
    return [
        Finding(name, "real time", time.perf_counter() - began, "s", most=300),
        Finding(name, "memory growth", growth * 1024, "KB/h", most=50),
        Finding(name, "calls that ended well", result.ended["ok"] / 864, "%", least=97),
        Finding(name, "calls in the slowest hour", min(result.hourly), "", least=3060),
        Finding(name, "most in a second", result.fullest, "", most=1),
    ]


def four_processes(url: str, store: str) -> list[Finding]:
    """Four processes that share one limit for a minute, as a server counts them."""
    rate = Rate(100, 20)
    seen = asyncio.run(seen_by_a_server(url, rate, processes=4, seconds=60))
    name = f"4 processes, {rate.calls} in {rate.seconds:g} s over {store}, the server's clock"
    return [
        Finding(name, "most in a window", seen.most, "", most=rate.calls),
        Finding(name, "of the rate", 100 * seen.share, "%", least=98),
        Finding(name, "of an even share, the least", 100 * seen.fewest, "%", least=50),
    ]


def shared_limits() -> list[Finding]:
    """The same over SQLite and over a real Redis."""
    with tempfile.TemporaryDirectory() as folder:
        findings = four_processes(str(Path(folder) / "counts.sqlite"), "SQLite")
        if SERVER is None:
            print("no redis-server or valkey-server here: nothing was measured over Redis")
            return findings
        with redis_server(Path(folder)) as url:
            findings += four_processes(url, "Redis")
    return findings


def cancelled() -> list[Finding]:
    """1,000 uploads cancelled at random: the scenario itself asserts that nothing is left."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        film.write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(LARGE))
        cancelled_at_random(film, 1000, seed=1)
    name = "1,000 uploads cancelled at random"
    return [
        Finding(name, "files, sockets and tasks left", 0, "", most=0),
        Finding(name, "time", time.perf_counter() - began, "s", most=60),
    ]


SCENARIOS: dict[str, Callable[[], list[Finding]]] = {
    "calls": calls_at_once,
    "paced": many_calls,
    "shared": shared_limits,
    "cancelled": cancelled,
    "day": day,
}


def _in_a_process(name: str) -> list[Finding]:
    """Run a scenario where no other has left memory behind."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (name,))


def _run(name: str) -> list[Finding]:
    return SCENARIOS[name]()


def as_markdown(findings: list[Finding]) -> str:
    rows = [["scenario", "figure", "measured", "bound", ""], ["---"] * 5]
    rows += [finding.cells() for finding in findings]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=f"of {' '.join(SCENARIOS)}; all")
    chosen = parser.parse_args().scenarios or list(SCENARIOS)
    findings: list[Finding] = []
    for name in chosen:
        # What starts processes of its own cannot be in one of a pool.
        findings += _run(name) if name == "shared" else _in_a_process(name)
    print(as_markdown(findings), machine_line(machine()), sep="\n\n")
    sys.exit(not all(finding.met for finding in findings))


if __name__ == "__main__":
    main()
