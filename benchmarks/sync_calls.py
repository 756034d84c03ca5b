"""What one call costs in each colour, and with other libraries, against a null server.

``python -m benchmarks.sync_calls`` runs every client in turn, round after round, one call after
the other, in one process on the first core; the server has the last core for itself.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import httpx
import requests

from benchmarks.process import Sample
from benchmarks.report import Column, Goal, Table, as_text
from benchmarks.rounds import running_sink
from memories_async import Memories as AsyncMemories
from memories_async.sync import Memories

PATH = "/v1/understand/uploadImg"
FIELDS: dict[str, str | bool] = {
    "url": "https://example.com/a.png",
    "user_prompt": "what",
    "thinking": False,
    "qa": False,
}
IMAGE, PROMPT = "https://example.com/a.png", "what"

ASYNCIO, TWIN = "asyncio client", "blocking client"

Rush = Callable[[int], list[float]]
"""Makes so many calls, one after the other, and returns the seconds that each took."""


def clients(address: str, stack: ExitStack) -> Mapping[str, Rush]:
    """Return every way to make the same call; each checks the answer as its users would."""
    asyncio_client = AsyncMemories("key", caption_key="key", base_url=address)
    another = AsyncMemories("key", caption_key="key", base_url=address)
    runner = stack.enter_context(asyncio.Runner())
    twin = stack.enter_context(Memories("key", caption_key="key", base_url=address))
    session = stack.enter_context(requests.Session())
    httpx_client = stack.enter_context(httpx.Client())
    for headers in (session.headers, httpx_client.headers):
        headers["Authorization"] = "key"

    async def timed_on_the_loop(count: int) -> list[float]:
        times = [time.perf_counter()]
        for _ in range(count):
            await asyncio_client.captions.image(IMAGE, PROMPT)
            times.append(time.perf_counter())
        return differences(times)

    def by_asyncio_run() -> None:
        asyncio.run(another.captions.image(IMAGE, PROMPT))

    def by_requests() -> None:
        assert session.post(address + PATH, json=FIELDS, timeout=300).json()["data"]["text"]

    def by_httpx() -> None:
        answer = httpx_client.post(address + PATH, json=FIELDS, timeout=300)
        assert answer.json()["data"]["text"]

    return {
        ASYNCIO: lambda count: runner.run(timed_on_the_loop(count)),
        TWIN: timed(lambda: twin.captions.image(IMAGE, PROMPT)),
        "asyncio.run per call": timed(by_asyncio_run),
        "requests": timed(by_requests),
        "httpx": timed(by_httpx),
    }


def timed(call: Callable[[], object]) -> Rush:
    """Return a rush of blocking calls."""

    def rush(count: int) -> list[float]:
        times = [time.perf_counter()]
        for _ in range(count):
            call()
            times.append(time.perf_counter())
        return differences(times)

    return rush


def differences(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def sample(rush: Rush, calls: int) -> Sample:
    """Return the microseconds of the median call, and CPU seconds per 1,000 calls."""
    gc.collect()
    cpu = time.process_time()
    times = rush(calls)
    cpu = time.process_time() - cpu
    return {"wall": statistics.median(times) * 1e6, "cpu": cpu / calls * 1000}


def measure(address: str, rounds: int, calls: int) -> Table:
    """Measure every client in every round; what a round adds is against its own asyncio client."""
    with ExitStack() as stack:
        rushes = clients(address, stack)
        for rush in rushes.values():
            rush(20)
        samples: dict[str, list[Sample]] = {name: [] for name in rushes}
        for number in range(rounds):
            names = list(rushes) if number % 2 == 0 else list(rushes)[::-1]
            for name in names:
                samples[name].append(sample(rushes[name], calls))
            alone = samples[ASYNCIO][-1]["wall"]
            for name in names:
                samples[name][-1]["added"] = samples[name][-1]["wall"] - alone
    added = Column("µs added to the asyncio call", "added", digits=0)
    cpu = Column("CPU s per 1,000 calls", "cpu", digits=3)
    most = float(sorted(each["cpu"] for each in samples["requests"])[rounds // 2])
    return Table(
        name="sync_calls",
        title="One call after the other",
        note=f"median (least-most) of {rounds} alternating rounds of {calls} calls",
        columns=(Column("µs of the median call", "wall", digits=0), added, cpu),
        samples=samples,
        goals=(Goal(TWIN, added.heading, 80), Goal(TWIN, cpu.heading, round(most, 3))),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync_calls", description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--calls", type=int, default=300, help="per client and round")
    arguments = parser.parse_args()
    with running_sink() as sink:
        print(as_text([measure(sink.http.url, arguments.rounds, arguments.calls)]))


if __name__ == "__main__":
    main()
