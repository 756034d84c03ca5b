"""``python -m benchmarks scale``: asked N, paid M, with workers killed and answers lost.

Each way to embed or caption the same images over a cluster runs with the same seed of misfortunes:
so many workers killed, so many answers lost after the service had billed them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.report import machine, machine_line
from memories_async.bulk import RedisLedger, SqliteLedger
from memories_async.bulk.ledger import Entry, Ledger
from memories_async.bulk.models import Status
from memories_async.emulator import Cut, Emulator, InjectedFault
from memories_async.emulator.engines.hashing import HashEngine

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0" + b"\x90wS\xde"
LIMIT = 20
"""Calls a second of the comparison with one process."""

START = """
import json, os, sys
import ray, ray.data
ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
rows = json.load(open(sys.argv[1]))
dataset = ray.data.from_items(rows, override_num_blocks=max(len(rows) // 25, 1))
strategy = ray.data.ActorPoolStrategy(size=3)
"""

PLAIN = (
    START
    + """
import asyncio
from memories_async import Memories
class Embed:
    def __init__(self):
        self.runner = asyncio.Runner()
        self.client = Memories()
    def __call__(self, batch):
        async def all_of_them():
            calls = (self.client.embeddings.image(path) for path in batch["path"])
            return await asyncio.gather(*calls, return_exceptions=True)
        answers = self.runner.run(all_of_them())
        batch["status"] = ["failed" if isinstance(a, Exception) else "done" for a in answers]
        return batch
answered = dataset.map_batches(Embed, batch_size=32, compute=strategy).take_all()
print(json.dumps([row["status"] for row in answered]))
"""
)

OURS = (
    START
    + """
from memories_async.ray import embed_images
answered = embed_images(dataset, job=sys.argv[2], concurrency=3).take_all()
print(json.dumps([row["status"] for row in answered]))
"""
)

HTTP_STAGE = (
    START
    + """
import base64
from ray.data.llm import HttpRequestProcessorConfig, build_processor
url = os.environ["MEMORIES_BASE_URL"] + "/v1/understand/uploadImgFileBase64"
config = HttpRequestProcessorConfig(
    url=url, headers={"Authorization": "key"}, qps=50, concurrency=3, batch_size=32)
def body(row):
    content = base64.b64encode(open(row["path"], "rb").read()).decode()
    fields = {"image_base64": content, "img_type": "image/png", "user_prompt": "What?"}
    return {"payload": fields, "number": row["number"]}
def answer(row):
    return {"status": "done" if row["http_response"].get("code") == 0 else "failed"}
processor = build_processor(config, preprocess=body, postprocess=answer)
answered = processor(dataset).take_all()
print(json.dumps([row["status"] for row in answered]))
"""
)

DAFT = """
import json, os, sys
import daft
from memories_async import Memories
@daft.cls(max_concurrency=1, max_retries=2)
class Embed:
    def __init__(self):
        self.client = Memories()
    @daft.method(return_dtype=daft.DataType.string())
    async def __call__(self, path: str) -> str:
        await self.client.embeddings.image(path)
        return "done"
embed = Embed()
rows = daft.from_pylist(json.load(open(sys.argv[1])))
try:
    statuses = rows.with_column("status", embed(rows["path"])).to_pydict()["status"]
except Exception as error:
    print(repr(error)[:300], file=sys.stderr)
    statuses = []
print(json.dumps(statuses))
"""

ONE_PROCESS = """
import asyncio, json, os, sys
from memories_async import Memories
from memories_async.bulk import Once, SqliteLedger
async def main():
    places = asyncio.Semaphore(12)
    async with Memories() as client:
        once = Once(client, SqliteLedger(os.environ["XDG_STATE_HOME"] + "/once.ledger"))
        async def one(path):
            async with places:
                return (await once.embed_image(path)).status.value
        rows = json.load(open(sys.argv[1]))
        return await asyncio.gather(*(one(row["path"]) for row in rows))
print(json.dumps(asyncio.run(main())))
"""

WAYS = {
    "plain map_batches over our client": PLAIN,
    "Ray's HTTP stage": HTTP_STAGE,
    "Daft with two retries": DAFT,
    "memories_async.ray": OURS,
    "one process over `Once`, not killed": ONE_PROCESS,
}


@contextlib.contextmanager
def running_emulator() -> Iterator[Emulator]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    emulator = Emulator(HashEngine())
    asyncio.run_coroutine_threadsafe(emulator.start(), loop).result()
    try:
        yield emulator
    finally:
        asyncio.run_coroutine_threadsafe(emulator.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def workers(driver: int) -> list[int]:
    """Return the processes of a driver's cluster that run its stage."""
    found = []
    for name in os.listdir("/proc"):
        try:
            title = Path(f"/proc/{name}/cmdline").read_bytes() if name.isdigit() else b""
        except OSError:
            continue
        if b"MapWorker(" in title:
            found.append(int(name))
    return found


def run(way: str, items: int, kills: int, seed: int) -> dict[str, object]:
    """Run one way once; return what it cost."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, running_emulator() as emulator:
        folder = Path(name)
        rows = images(folder, items, seed)
        emulator.faults.add(
            *(
                InjectedFault(None, Cut(), nth=nth, moment="processed")
                for nth in chance.sample(range(1, items), items // 50)
            ),
            InjectedFault(None, None, times=None, latency=0.02, moment="processed"),
        )
        environment = os.environ | {
            "MEMORIES_API_KEY": "key",
            "MEMORIES_CAPTION_KEY": "key",
            "MEMORIES_BASE_URL": emulator.url,
            "XDG_STATE_HOME": str(folder),
            "PYTHONPATH": os.getcwd(),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        command = [sys.executable, "-c", WAYS[way], str(rows), "scale"]
        began = time.monotonic()
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as driver:
            killed = 0
            for count in sorted(chance.sample(range(items // 10, items * 9 // 10), kills)):
                while len(emulator.ledger) < count and driver.poll() is None:
                    time.sleep(0.01)
                if found := workers(driver.pid):
                    os.kill(chance.choice(found), signal.SIGKILL)
                    killed += 1
            output, errors = driver.communicate()
        seconds = time.monotonic() - began
        lines = [line for line in output.splitlines() if line.startswith('["')]
        statuses = Counter(json.loads(lines[-1]) if lines else [])
        if driver.returncode or not lines:
            print(errors[-2000:], file=sys.stderr)
        paid = Counter(
            str(entry.files[0].sha256 if entry.files else entry.fields.get("image_base64"))
            for entry in emulator.ledger
            if entry.billed
        )
        return {
            "way": way,
            "asked": items,
            "paid": sum(paid.values()),
            "paid twice or more": sum(1 for times in paid.values() if times > 1),
            "done": statuses["done"],
            "unknown": statuses["unknown"],
            "no answer": items - statuses["done"] - statuses["unknown"],
            "workers killed": killed,
            "seconds": round(seconds, 1),
        }


def summary(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Return for each way the median of its seeds, and in brackets the least and the most."""

    def spread(values: Sequence[object]) -> str:
        numbers = sorted(float(str(value)) for value in values)
        middle, least, most = statistics.median(numbers), numbers[0], numbers[-1]
        return f"{middle:g}" if least == most else f"{middle:g} ({least:g}-{most:g})"

    ways: dict[object, list[dict[str, object]]] = {}
    for row in rows:
        ways.setdefault(row["way"], []).append(row)
    counted = [name for name in rows[0] if name not in ("seed", "way")]
    return [
        {"way": way, **{name: spread([row[name] for row in runs]) for name in counted}}
        for way, runs in ways.items()
    ]


def as_table(rows: Sequence[dict[str, object]]) -> str:
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(str(row[name]) for name in names)} |" for row in rows]
    return "\n".join(lines)


async def entries_a_second(ledger: Ledger, count: int = 2000, at_once: int = 64) -> float:
    """Begin and settle so many entries; return how many a second."""
    began = time.monotonic()
    places = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with places:
            await ledger.begin(f"{began} {number}", "token")
            outcome = Entry(
                status=Status.DONE, token="token", sent_at=began, vector=bytes(5632), result="{}"
            )
            await ledger.settle(f"{began} {number}", outcome)

    await asyncio.gather(*(one(number) for number in range(count)))
    await ledger.aclose()
    return count / (time.monotonic() - began)


def ledgers(redis: str | None) -> Iterator[tuple[str, float]]:
    """Measure each home of a ledger."""
    with tempfile.TemporaryDirectory() as folder:
        yield "SQLite file", asyncio.run(entries_a_second(SqliteLedger(Path(folder) / "ledger")))
        if redis:
            yield "Redis", asyncio.run(entries_a_second(RedisLedger(redis, job=folder)))
        import ray

        from memories_async.ray import RayLedger

        os.environ["XDG_STATE_HOME"] = folder
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield "Ray actor", asyncio.run(entries_a_second(RayLedger("speed")))
        ray.shutdown()


def overhead(items: int, rounds: int) -> str:
    """Say how much longer a cluster takes than one process at the same limit.

    From the first request that the service saw to the last: what starting Ray takes is not in it.
    """
    limited = "from memories_async import Bucket, Rate\n" + OURS.replace(
        "concurrency=3", f"concurrency=3, rates={{Bucket.EMBEDDING: Rate({LIMIT})}}"
    )
    single = "from memories_async import Bucket, Rate\n" + ONE_PROCESS.replace(
        "Memories()", f"Memories(rates={{Bucket.EMBEDDING: Rate({LIMIT})}})"
    )
    ways = {"one process": single, "three Ray actors": limited}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way, script in ways.items():
            with tempfile.TemporaryDirectory() as name, running_emulator() as emulator:
                rows = images(Path(name), items, number)
                environment = os.environ | {
                    "MEMORIES_API_KEY": "key",
                    "MEMORIES_BASE_URL": emulator.url,
                    "XDG_STATE_HOME": name,
                    "PYTHONPATH": os.getcwd(),
                    "RAY_USAGE_STATS_ENABLED": "0",
                }
                command = [sys.executable, "-c", script, str(rows), "limit"]
                subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
                moments = [entry.started_at for entry in emulator.ledger]
                assert len(moments) == items
                seconds[way].append(max(moments) - min(moments))
    pairs = zip(*seconds.values(), strict=True)
    ratios = sorted(actors / process for process, actors in pairs)
    middles = {way: statistics.median(taken) for way, taken in seconds.items()}
    told = ", ".join(f"{way} {middle:.2f} s" for way, middle in middles.items())
    return (
        f"{items} calls at {LIMIT} a second, first request to last, medians of {rounds} rounds: "
        f"{told}; {statistics.median(ratios):.3f} times ({ratios[0]:.3f}-{ratios[-1]:.3f})"
    )


def images(folder: Path, count: int, seed: int) -> Path:
    """Write so many images; return a file that lists them."""
    rows = []
    for number in range(count):
        path = folder / f"{number}.png"
        path.write_bytes(PNG + f"{seed} {number}".encode())
        rows.append({"path": str(path), "number": number})
    listed = folder / "rows.json"
    listed.write_text(json.dumps(rows))
    return listed


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("--items", type=int, default=1000, help="images asked for (1000)")
    parser.add_argument("--kills", type=int, default=4, help="workers killed in a run (4)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison at a limit (3)")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--redis", help="an address, to measure its ledger too")
    parser.add_argument("--only", choices=("ways", "overhead", "ledgers"))
    given = parser.parse_args(arguments)
    if given.only in (None, "ways"):
        rows = []
        for seed in given.seeds:
            for way in given.ways:
                rows.append({"seed": seed, **run(way, given.items, given.kills, seed)})
                print(rows[-1], file=sys.stderr, flush=True)
        print(as_table(rows), as_table(summary(rows)), sep="\n\n", end="\n\n")
    if given.only in (None, "overhead"):
        print(overhead(given.items // 5, given.rounds), end="\n\n")
    if given.only in (None, "ledgers"):
        for home, speed in ledgers(given.redis):
            print(f"ledger, {home}: {speed:.0f} entries a second (begin and settle, 64 at once)")
    print(machine_line(machine()))


if __name__ == "__main__":
    main()
