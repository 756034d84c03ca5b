"""``python -m benchmarks profile TOPIC``: what a call or an upload spends its CPU on, by layer.

Each client runs in a process of its own, beside the one that its goal is set against. Two runs of
each: one interrupted by a timer of CPU time, one with every handle of the event loop timed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
import ssl
import subprocess
import sys
import time
from asyncio import base_events, events, selector_events
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import attrs

from benchmarks import report
from benchmarks.clients import CLIENTS, Target
from benchmarks.process import MEBIBYTE, Job, percentile, rush, small_calls
from benchmarks.rounds import ROOT, files, running_sink, warm

INTERVAL = 0.001
"""Seconds of CPU between two samples; the system's own tick may make it 4 ms."""

LITTLE = 0.03
"""The share of the CPU below which a layer has no row of its own."""

UPLOADS = {"one": 1, "eight": 8}
CALLS = {"calls": ("embed", "embed"), "images": ("image", "image_from_bytes")}

LEAVES = {
    ("selectors.py", "select"): "system: waiting for sockets",
    ("selector_events.py", "write"): "system: send",
    ("selector_events.py", "_write_ready"): "system: send",
    ("selector_events.py", "_write_send"): "system: send",
    ("selector_events.py", "_write_sendmsg"): "system: send",
    ("selector_events.py", "_read_ready__data_received"): "system: receive",
    ("selector_events.py", "_read_ready__get_buffer"): "system: receive",
    ("ssl.py", "write"): "OpenSSL: encrypt",
    ("ssl.py", "read"): "OpenSSL: decrypt",
    ("readers.py", "fill"): "system: read the file",
    ("threads.py", "_enqueue"): "hop to a thread",
    ("clients.py", "_post"): "JSON",
}
"""What is called from these functions takes their time, and has no frame of its own."""


def layer(frame: FrameType) -> str:
    """Name what a function belongs to."""
    path = Path(frame.f_code.co_filename)
    if found := LEAVES.get((path.name, frame.f_code.co_name)):
        return found
    parts = path.parts
    if "memories_async" in parts:
        inside = parts[len(parts) - parts[::-1].index("memories_async") :]
        # orjson is called there, and in the peer's own code.
        return "JSON" if inside[0] == "decoding.py" else f"memories_async/{inside[0]}"
    if "attrs generated" in frame.f_code.co_filename:
        return "values made (attrs)"
    for name in ("aiohttp", "asyncio", "benchmarks"):
        if name in parts:
            return name
    return "the standard library and others"


class Samples:
    """Asks now and then, by CPU time, which function runs."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._seen = (0.0, 0.0)

    def __enter__(self) -> Samples:
        self._seen = (time.process_time(), time.thread_time())
        signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
        return self

    def __exit__(self, *ended: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _take(self, _number: int, frame: FrameType | None) -> None:
        now = (time.process_time(), time.thread_time())
        whole, here = (after - before for after, before in zip(now, self._seen, strict=True))
        self._seen = now
        mine = frame is not None and here >= whole / 2
        self.found[layer(frame) if mine and frame else "worker threads"] += 1


@attrs.define
class Round:
    """One round of the event loop, in seconds of its thread's CPU."""

    cpu: float = 0.0
    uploads: int = 0
    """How many uploads wrote."""
    spent: defaultdict[str, float] = attrs.field(factory=lambda: defaultdict(float))


class Rounds:
    """Times every handle of every round, and what within it is encryption, system or collection."""

    def __init__(self) -> None:
        self.found: list[Round] = []
        self._now = Round()
        self._leaves = 0.0

    def watch(self) -> None:
        """Time from here on; the process holds nothing else."""
        for owner, name, label in (
            (ssl.SSLObject, "write", "encrypt"),
            (ssl.SSLObject, "read", "decrypt"),
            (selector_events._SelectorSocketTransport, "write", "send"),  # type: ignore[attr-defined]  # private
            (selector_events._SelectorSocketTransport, "_write_ready", "send"),  # type: ignore[attr-defined]  # private
        ):
            setattr(owner, name, self._leaf(getattr(owner, name), label))
        if readers := sys.modules.get("memories_async.media.readers"):
            fill = readers.FileReader.fill
            readers.FileReader.fill = self._leaf(fill, "read the file")
        began = 0.0

        def collected(phase: str, _info: object) -> None:
            nonlocal began
            if phase == "start":
                began = time.thread_time()
            else:
                self._count("garbage collection", time.thread_time() - began)

        gc.callbacks.append(collected)
        run, run_once = events.Handle._run, base_events.BaseEventLoop._run_once  # type: ignore[attr-defined]  # private

        def timed(handle: Any) -> None:
            task = getattr(handle._callback, "__self__", None)
            coroutine = task.get_coro() if isinstance(task, asyncio.Task) else None
            name = getattr(coroutine, "__qualname__", "")
            began, before, wrote = time.thread_time(), self._leaves, self._now.spent["encrypt"]
            run(handle)
            rest = time.thread_time() - began - (self._leaves - before)
            own = "an upload's own code" if "write_bytes" in name else "a small call"
            self._now.spent[own if name else "protocols and timers"] += rest
            self._now.uploads += "write_bytes" in name and self._now.spent["encrypt"] > wrote

        def timed_round(loop: Any) -> None:
            self._now, began = Round(), time.thread_time()
            run_once(loop)
            self._now.cpu = time.thread_time() - began
            self.found.append(self._now)

        setattr(events.Handle, "_run", timed)  # noqa: B010  # it is private
        base_events.BaseEventLoop._run_once = timed_round  # type: ignore[attr-defined]  # private

    def _count(self, label: str, seconds: float) -> None:
        self._now.spent[label] += seconds
        self._leaves += seconds

    def _leaf(self, inner: Callable[..., Any], label: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began, before = time.thread_time(), self._leaves
            try:
                return inner(*arguments, **named)
            finally:
                self._count(label, time.thread_time() - began - (self._leaves - before))

        return timed

    def shown(self) -> dict[str, float]:
        """Give the rounds in milliseconds, and what the latest hundredth of them is made of."""
        cpu = [each.cpu * 1000 for each in self.found]
        latest = sorted(self.found, key=lambda each: -each.cpu)[: max(len(self.found) // 100, 1)]
        sums = defaultdict[str, float](float)
        for each in latest:
            for name, seconds in each.spent.items():
                sums[name] += seconds
        rows = {
            "rounds of the loop": len(cpu),
            "a round's CPU, p50, ms": percentile(cpu, 0.5),
            "a round's CPU, p99, ms": percentile(cpu, 0.99),
            "the longest round's CPU, ms": max(cpu),
            "uploads that write in a round, most": max(each.uploads for each in self.found),
            "of the latest 1 %: uploads that write": sum(each.uploads for each in latest)
            / len(latest),
        }
        named = {f"of the latest 1 %: {name}, ms": sums[name] * 1000 / len(latest) for name in sums}
        return rows | named


async def measure(job: Job, target: Target, *, rounds: bool) -> dict[str, float]:
    """Do a job as the benchmarks do; return its profile."""
    client = CLIENTS[job.client](target)
    method = getattr(client, job.call)
    await rush(lambda: method(job.small) if job.small else method(), job.at_once, job.at_once)
    beside = asyncio.create_task(small_calls(client.embed, [])) if job.beside else None
    gc.collect()
    samples, watched = Samples(), Rounds()
    if rounds:
        watched.watch()
        await asyncio.sleep(0.05)
        watched.found.clear()
        await rush(lambda: method(job.path), job.count, job.at_once)
        found = watched.shown()
    else:
        cpu = time.process_time()
        with samples:
            await rush(lambda: method(job.path) if job.path else method(), job.count, job.at_once)
        cpu = time.process_time() - cpu
        total = sum(samples.found.values())
        found = {"CPU": cpu} | {name: cpu * n / total for name, n in samples.found.items()}
    if beside:
        beside.cancel()
    return found


def run(job: Job, target: Target, *, rounds: bool) -> dict[str, float]:
    """Profile a job in a process of its own."""
    given = [json.dumps(attrs.asdict(value)) for value in (target, job)]
    command = [sys.executable, "-m", "benchmarks.profile", "run", *given, str(int(rounds))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def by_layer(profiles: list[dict[str, float]], scale: float) -> str:
    """Lay profiles out beside each other, the largest layer first; what is little is one row."""
    most = {
        name: max(each.get(name, 0.0) for each in profiles) for each in profiles for name in each
    }
    shown = [
        name
        for name in sorted(most, key=lambda name: -most[name])
        if most[name] >= LITTLE * most["CPU"]
    ]
    rest = [sum(value for name, value in each.items() if name not in shown) for each in profiles]
    rows = [(name, [each.get(name, 0.0) for each in profiles]) for name in shown]
    return table([*rows, ("all else", rest)], scale, 0)


def table(rows: list[tuple[str, list[float]]], scale: float, digits: int) -> str:
    """Write rows as Markdown."""
    lines = ["|  | memories-async | aiohttp |", "|---|--:|--:|"]
    for name, values in rows:
        cells = (f"{value * scale:,.{digits}f}" for value in values)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(given: list[str]) -> None:
    """Profile the topics that the arguments name, or be the process in which one client runs."""
    if given[:1] == ["run"]:
        target, job = (json.loads(argument) for argument in given[1:3])
        measured = measure(Job(**job), Target(**target), rounds=given[3] == "1")
        print(json.dumps(asyncio.run(measured)))
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks profile", description=__doc__)
    topics = (*UPLOADS, *CALLS)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {' '.join(topics)}; all")
    parser.add_argument("--size", type=int, default=256, help="MiB of an uploaded file (256)")
    parser.add_argument("--calls", type=int, default=10_000, help="small calls (10,000)")
    options = parser.parse_args(given)
    if unknown := set(options.topics) - set(topics):
        parser.error(f"no such topic: {' '.join(sorted(unknown))}")
    clients = ("MemoriesAsync", "Aiohttp")
    with running_sink() as sink, files() as test_files:
        for topic in options.topics or topics:
            if topic in UPLOADS:
                at_once, size = UPLOADS[topic], options.size * MEBIBYTE
                path, small = test_files.video(size), test_files.video(64 * 1024)
                warm(path)
                jobs = [
                    Job(
                        client=client,
                        path=path,
                        small=small,
                        count=8,
                        at_once=at_once,
                        beside=True,
                    )
                    for client in clients
                ]
                print(f"**{topic}: uploads over https, small calls beside; CPU ms a GiB**\n")
                per = 1000 / (8 * size / (1 << 30))
                print(by_layer([run(job, sink.https, rounds=False) for job in jobs], per))
                print(f"\n**{topic}: rounds of the loop, in its thread's CPU**\n")
                found = [run(job, sink.https, rounds=True) for job in jobs]
                names = dict.fromkeys([*found[0], *found[1]])
                rows = [(name, [each.get(name, 0.0) for each in found]) for name in names]
                print(table(rows, 1, 2), end="\n\n")
            else:
                path = test_files.image(200 * 1024) if topic == "images" else ""
                jobs = [
                    Job(
                        client=client,
                        call=call,
                        path=path,
                        small=path,
                        count=options.calls,
                        at_once=64,
                    )
                    for client, call in zip(clients, CALLS[topic], strict=True)
                ]
                print(f"**{topic}: over http, 64 at once; CPU µs a call**\n")
                per = 1e6 / options.calls
                print(by_layer([run(job, sink.http, rounds=False) for job in jobs], per), "\n")
    print(report.machine_line(report.machine()))


if __name__ == "__main__":
    main(sys.argv[1:])
