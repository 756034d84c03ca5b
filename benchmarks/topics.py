"""What is compared with what: a function per topic, each giving its tables."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable

import attrs

from benchmarks.clients import Target
from benchmarks.lost_answers import PEERS as ASKING
from benchmarks.lost_answers import run_peer
from benchmarks.process import MEBIBYTE, Job, Sample
from benchmarks.report import Column, Goal, Table
from benchmarks.rounds import (
    Files,
    Sink,
    alternate,
    encrypted,
    evict,
    run_client,
    run_curl,
    run_import,
    warm,
)

GIBIBYTE = 1 << 30
OURS = "memories-async"
CURL = "curl -F"
CPU_OF_CURL = "CPU ÷ curl"
WALL_OF_CURL = "wall ÷ curl"
MEMORY = "memory over idle, MB"
LATE = "loop late p99, ms"

Run = Callable[[], Sample]


@attrs.frozen
class Bench:
    """What every topic needs.

    Attributes:
        size: Bytes of the file to upload.
        calls: How many small calls one run makes.
        rounds: How often each row runs.
    """

    sink: Sink
    files: Files
    size: int
    calls: int
    rounds: int

    def table(
        self,
        name: str,
        title: str,
        note: str,
        columns: tuple[Column, ...],
        rows: dict[str, Run],
        goals: tuple[Goal, ...] = (),
    ) -> Table:
        """Run the rows in turn."""
        samples = alternate(rows, self.rounds, name)
        return Table(name, f"{title}, {self.rounds} rounds.", note, columns, samples, goals)

    def upload(self, target: Target, job: Job, size: int, prepare: Callable[[str], None]) -> Run:
        """Return a run of an upload, its figures per GiB sent."""
        path, small = self.files.video(size), self.files.video(64 * 1024)

        def run() -> Sample:
            prepare(path)
            return per_unit(
                run_client(attrs.evolve(job, path=path, small=small), target),
                size * job.count / GIBIBYTE,
            )

        return run

    def curl(self, target: Target, size: int, prepare: Callable[[str], None]) -> Run:
        """Return a run of curl over the same file."""
        path = self.files.video(size)

        def run() -> Sample:
            prepare(path)
            return per_unit(run_curl(path, target), size / GIBIBYTE)

        return run


def per_unit(sample: Sample, units: float) -> Sample:
    """Say a sample's times per unit of work."""
    return {**sample, "cpu": sample["cpu"] / units, "wall": sample["wall"] / units}


UPLOAD_COLUMNS = (
    Column("CPU s/GiB", "cpu"),
    Column(CPU_OF_CURL, "cpu", per=CURL),
    Column(WALL_OF_CURL, "wall", per=CURL),
    Column(MEMORY, "memory", digits=1),
    Column("loop late p50, ms", "late_p50", digits=1),
    Column(LATE, "late_p99", digits=1),
)
PEERS = {
    OURS: Job(client="MemoriesAsync"),
    "aiohttp FormData": Job(client="Aiohttp"),
    "httpx": Job(client="Httpx"),
    "httpx async": Job(client="HttpxAsync"),
    "openai": Job(client="OpenAI"),
    "openai async": Job(client="OpenAIAsync"),
}
SLOW_PEERS = {
    "openai async, by path": Job(client="OpenAIAsync", call="upload_path"),
    "requests": Job(client="Requests"),
    "requests-toolbelt": Job(client="RequestsToolbelt"),
}


def upload(bench: Bench) -> list[Table]:
    """One file in the page cache, over https and over http."""
    smaller = max(bench.size // 8, MEBIBYTE)
    note = (
        f"One file of {readable(bench.size)} in the page cache; the last {len(SLOW_PEERS)} rows "
        f"send {readable(smaller)}. Median (least-most); ratios are of the same round. curl's "
        "time includes its start, some 10 ms. Blocking clients have no loop."
    )
    tables: list[Table] = []
    for target, most in ((bench.sink.https, 0.80), (bench.sink.http, 1.0)):
        rows: dict[str, Run] = {}
        if shutil.which("curl"):
            rows[CURL] = bench.curl(target, bench.size, warm)
        rows |= {name: bench.upload(target, job, bench.size, warm) for name, job in PEERS.items()}
        rows |= {name: bench.upload(target, job, smaller, warm) for name, job in SLOW_PEERS.items()}
        scheme = encrypted(target)
        goals = [Goal(OURS, CPU_OF_CURL, most), Goal(OURS, MEMORY, 4), Goal(OURS, LATE, 4)]
        if scheme == "https":
            goals.append(Goal(OURS, WALL_OF_CURL, 0.95))
        name, title = f"upload-{scheme}", f"Upload over {scheme}"
        tables.append(bench.table(name, title, note, UPLOAD_COLUMNS, rows, tuple(goals)))
    return tables


def cold(bench: Bench) -> list[Table]:
    """The same where the page cache, or asking it, is no help."""
    target = bench.sink.https
    job, in_threads = Job(client="MemoriesAsync"), Job(client="MemoriesAsyncInThreads")
    formdata = Job(client="Aiohttp")
    uncached = "memories-async, no RWF_NOWAIT"
    file = f"One file of {readable(bench.size)}"
    return [
        bench.table(
            "cold",
            "Upload over https from a cold cache",
            f"{file}, dropped from the page cache before each run.",
            UPLOAD_COLUMNS,
            {
                CURL: bench.curl(target, bench.size, evict),
                OURS: bench.upload(target, job, bench.size, evict),
                "aiohttp FormData": bench.upload(target, formdata, bench.size, evict),
            },
            (Goal(OURS, CPU_OF_CURL, 0.92), Goal(OURS, MEMORY, 8)),
        ),
        bench.table(
            "threads",
            "Upload over https with every read in a worker thread",
            f"{file} in the page cache, as where preadv knows no RWF_NOWAIT.",
            UPLOAD_COLUMNS,
            {
                CURL: bench.curl(target, bench.size, warm),
                uncached: bench.upload(target, in_threads, bench.size, warm),
                "aiohttp FormData": bench.upload(target, formdata, bench.size, warm),
            },
            (Goal(uncached, CPU_OF_CURL, 0.92), Goal(uncached, MEMORY, 8)),
        ),
    ]


def memory(bench: Bench) -> list[Table]:
    """Memory by file size, over https."""
    sizes = [
        MEBIBYTE << power for power in (0, 4, 8, 10, 13) if MEBIBYTE << power <= 4 * bench.size
    ]
    loading = min(bench.size, GIBIBYTE // 4)
    peers = {
        OURS: (Job(client="MemoriesAsync"), sizes[-1]),
        "aiohttp FormData": (Job(client="Aiohttp"), sizes[-1]),
        "httpx async": (Job(client="HttpxAsync"), sizes[-1]),
        "openai async, by path": (Job(client="OpenAIAsync", call="upload_path"), loading),
        "requests": (Job(client="Requests"), loading),
    }

    def run_sizes(job: Job, most: int) -> Run:
        def run() -> Sample:
            sample: Sample = {}
            for size in sizes:
                if size <= most:
                    path, small = bench.files.video(size, sparse=True), bench.files.video(64 * 1024)
                    warm(path)
                    done = run_client(attrs.evolve(job, path=path, small=small), bench.sink.https)
                    sample[readable(size)] = done["memory"]
            return sample

        return run

    return [
        bench.table(
            "memory",
            "Memory over idle by file size, MB",
            f"Sparse files over https. Clients that load the file stop at {readable(loading)}.",
            tuple(Column(readable(size), readable(size), digits=1) for size in sizes),
            {name: run_sizes(job, most) for name, (job, most) in peers.items()},
            tuple(Goal(OURS, readable(size), 4) for size in sizes),
        )
    ]


def at_once(bench: Bench) -> list[Table]:
    """One and eight uploads at once, with small calls beside them."""
    size = max(bench.size // 4, MEBIBYTE)
    raw = "aiohttp FormData"
    clients = {
        OURS: Job(client="MemoriesAsync"),
        raw: Job(client="Aiohttp"),
        "httpx async": Job(client="HttpxAsync"),
        f"{OURS}, uvloop": Job(client="MemoriesAsync", uvloop=True),
        f"{raw}, uvloop": Job(client="Aiohttp", uvloop=True),
    }
    cpu, small, late = f"CPU ÷ {raw}", f"small call p50 ÷ {raw}", f"late p99 ÷ {raw}"
    columns = (
        Column("CPU s/GiB", "cpu"),
        Column(cpu, "cpu", per=raw),
        *UPLOAD_COLUMNS[3:],
        Column(late, "late_p99", per=raw),
        Column("small call p50, ms", "small_p50", digits=1),
        Column(small, "small_p50", per=raw),
        Column("small call p99, ms", "small_p99", digits=1),
    )

    def table(count: int, title: str, goals: tuple[Goal, ...]) -> Table:
        return bench.table(
            f"at-once-{count}",
            title,
            f"Files of {readable(size)} in the page cache; a small call every 5 ms beside them, "
            "by the same client.",
            columns,
            {
                name: bench.upload(
                    bench.sink.https,
                    attrs.evolve(job, count=count, at_once=count, beside=True),
                    size,
                    warm,
                )
                for name, job in clients.items()
            },
            (Goal(OURS, cpu, 0.75), Goal(OURS, small, 1.0), *goals),
        )

    return [
        table(1, "One upload over https", ()),
        table(
            8, "Eight uploads at once, over https", (Goal(OURS, MEMORY, 16), Goal(OURS, late, 1.0))
        ),
    ]


def call_columns(*peers: str) -> tuple[Column, ...]:
    """Give the columns of small calls: each beside the peers that goals are about."""
    return (
        Column("CPU, µs a call", "cpu", digits=0),
        *(Column(f"÷ {peer}", "cpu", per=peer, digits=3) for peer in peers),
        Column("calls/s", "rate", digits=0),
    )


def small_run(bench: Bench, job: Job, path: str) -> Run:
    """Return a run of small calls, 64 at once; its figures are microseconds a call."""
    whole = attrs.evolve(job, path=path, small=path, count=bench.calls, at_once=64)

    def run() -> Sample:
        sample = run_client(whole, bench.sink.http)
        return {**per_unit(sample, bench.calls / 1e6), "rate": bench.calls / sample["wall"]}

    return run


def calls(bench: Bench) -> list[Table]:
    """Small calls, 64 at once."""
    raw, openai, floats = "aiohttp + orjson", "openai async", "openai async, floats"
    peers = {
        raw: Job(client="Aiohttp", call="embed"),
        OURS: Job(client="MemoriesAsync", call="embed"),
        "httpx async": Job(client="HttpxAsync", call="embed"),
        openai: Job(client="OpenAIAsync", call="embed"),
        floats: Job(client="OpenAIAsync", call="embed_floats"),
    }
    return [
        bench.table(
            "calls",
            "Embedding by asset id over http, 64 at once",
            f"{bench.calls:,} calls a run, answers of 1,408 floats. openai asks for base64 unless "
            "told otherwise; with floats its answer is the same as everybody's.",
            call_columns(raw, openai, floats),
            {name: small_run(bench, job, "") for name, job in peers.items()},
            (Goal(OURS, f"÷ {raw}", 1.5), Goal(OURS, f"÷ {floats}", 0.125)),
        )
    ]


def images(bench: Bench) -> list[Table]:
    """A picture as multipart, 64 at once."""
    from_bytes = "aiohttp FormData, bytes"
    path = bench.files.image(200 * 1024)
    peers = {
        from_bytes: Job(client="Aiohttp", call="image_from_bytes"),
        "aiohttp FormData, file": Job(client="Aiohttp", call="image"),
        OURS: Job(client="MemoriesAsync", call="image"),
    }
    return [
        bench.table(
            "images",
            "A 200 KB image by file over http, 64 at once",
            f"{bench.calls:,} calls a run; bytes are read on the loop before each call.",
            call_columns(from_bytes),
            {name: small_run(bench, job, path) for name, job in peers.items()},
            (Goal(OURS, f"÷ {from_bytes}", 1.2),),
        )
    ]


def many_images(bench: Bench) -> list[Table]:
    """A folder of pictures, as many as come, so many at once."""
    count = bench.calls * 5 // 2
    folder, small = bench.files.images(200 * 1024, count), bench.files.images(200 * 1024, 64)
    raw = "aiohttp, a semaphore"

    def run_of(client: str) -> Run:
        job = Job(client=client, call="many_images", path=folder, small=small)

        def run() -> Sample:
            sample = run_client(job, bench.sink.http)
            return {**per_unit(sample, count / 1e6), "rate": count / sample["wall"]}

        return run

    return [
        bench.table(
            "many-images",
            "A folder of 200 KB images over http, 64 at once",
            f"{count:,} files a run: one file under as many names, so no disk has a part in it.",
            (
                Column("CPU, µs an image", "cpu", digits=0),
                Column(f"÷ {raw}", "cpu", per=raw, digits=3),
                Column("images/s", "rate", digits=0),
                Column(MEMORY, "memory", digits=1),
            ),
            {raw: run_of("Aiohttp"), OURS: run_of("MemoriesAsync")},
            (Goal(OURS, f"÷ {raw}", 1.15),),
        )
    ]


def imports(bench: Bench) -> list[Table]:
    """Import time, each in a fresh interpreter."""
    modules = {
        "openai": "openai",
        "memories_async": "memories_async",
        "memories_async, with its engine": "memories_async._engine.pipeline",
        "httpx": "httpx",
        "aiohttp": "aiohttp",
        "nothing": "",
    }
    often = attrs.evolve(bench, rounds=3 * bench.rounds)
    for module in modules.values():
        run_import(module)  # writes the byte code that the rounds read
    return [
        often.table(
            "imports",
            "Import",
            "Each in a fresh interpreter; the first call of a client loads its engine.",
            (
                Column("import, ms", "import", digits=1),
                Column("÷ openai", "import", per="openai", digits=3),
                Column("whole process, ms", "wall", digits=0),
            ),
            {name: functools.partial(run_import, module) for name, module in modules.items()},
            (Goal("memories_async", "÷ openai", 1 / 6),),
        )
    ]


def lost_answers(bench: Bench) -> list[Table]:
    """Asked 100, paid N."""
    asked = max(bench.calls // 8, 16)
    rows: dict[str, Run] = {}
    missing: list[str] = []
    for name in ASKING:
        try:
            run_peer(name, 1)
        except ImportError:
            missing.append(name)
        else:
            rows[name] = functools.partial(run_peer, name, asked)
    note = (
        f"{asked:,} requests of 1 MiB a run against a server that resets 3 % of them midway and "
        "loses 3 % of its answers after the work was done; every whole request is billed. "
        "Default settings of every client; figures are per 100 asked."
    )
    if missing:
        note += f" Not installed: {', '.join(missing)}."
    return [
        bench.table(
            "lost-answers",
            "Asked 100, paid N",
            note,
            (
                Column("paid", "paid", digits=1),
                Column("paid twice, unasked", "twice", digits=1),
                Column("results", "results", digits=1),
                Column("failed", "failed", digits=1),
                Column("of them said to be possibly billed", "warned", digits=1),
            ),
            rows,
            (Goal(OURS, "paid twice, unasked", 0.0),),
        )
    ]


def readable(size: int) -> str:
    return f"{size // GIBIBYTE} GiB" if size >= GIBIBYTE else f"{size // MEBIBYTE} MiB"


TOPICS: dict[str, Callable[[Bench], list[Table]]] = {
    "upload": upload,
    "cold": cold,
    "memory": memory,
    "at-once": at_once,
    "calls": calls,
    "images": images,
    "many_images": many_images,
    "imports": imports,
    "lost_answers": lost_answers,
}
