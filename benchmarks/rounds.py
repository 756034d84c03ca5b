"""Runs every row of a table in turn, round after round, so that all meet the same machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from benchmarks.clients import Target
from benchmarks.process import MEBIBYTE, Job, Sample

ROOT = Path(__file__).resolve().parent.parent


@attrs.frozen
class Sink:
    """The two addresses of a running null server."""

    http: Target
    https: Target


@contextmanager
def running_sink() -> Generator[Sink, None, None]:
    """Run a sink on the last core and keep this process, with all it starts, on the first."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sink", str(cores[-1])],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        http, https, certificate = process.stdout.readline().split()
        try:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, {cores[0]})
            yield Sink(
                Target(f"http://127.0.0.1:{http}", certificate),
                Target(f"https://127.0.0.1:{https}", certificate),
            )
        finally:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, cores)
            process.stdin.close()


def run_client(job: Job, target: Target) -> Sample:
    """Do a job in a process of its own."""
    arguments = [json.dumps(attrs.asdict(value)) for value in (target, job)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.process", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{job} failed:\n{done.stderr}")
    sample: Sample = json.loads(done.stdout)
    return sample


def run_curl(path: str, target: Target) -> Sample:
    """Upload with ``curl -F``; its process starts within what is counted, some 10 ms."""
    form = ["-F", "req={};type=application/json", "-F", f"files=@{path};type=video/mp4"]
    command = ["curl", "-sS", "-f", "-o", os.devnull, "--cacert", target.certificate, *form]
    return run_command([*command, f"{target.url}/upload"])


def run_command(command: list[str]) -> Sample:
    """Run a process from start to end, and count what the kernel says that it took."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} failed with {process.returncode}")
    # Its peak of memory would be ours, which a child has until it becomes another program.
    return {"cpu": usage.ru_utime + usage.ru_stime, "wall": time.perf_counter() - started}


def run_import(module: str) -> Sample:
    """Import a module in a fresh interpreter."""
    timed = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", timed.format(f"import {module}" if module else "pass")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    wall = time.perf_counter() - started
    return {"import": float(done.stdout) * 1000, "wall": wall * 1000}


def alternate(
    rows: Mapping[str, Callable[[], Sample]], rounds: int, title: str
) -> dict[str, list[Sample]]:
    """Run each row once per round; tell a terminal how far it got."""
    samples: dict[str, list[Sample]] = {name: [] for name in rows}
    for number in range(1, rounds + 1):
        for name, run in rows.items():
            _tell(f"{title}: {number}/{rounds} {name}")
            samples[name].append(run())
    _tell("")
    return samples


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


class Files:
    """Test files, made when first asked for, gone at the end."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def video(self, size: int, *, sparse: bool = False) -> str:
        """Return a file with an MP4 head: random bytes, or a hole that takes no disk."""
        path = self._folder / f"{'sparse' if sparse else 'full'}-{size}.mp4"
        if not path.exists():
            head = b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2" + b"\0\0\0\x01mdat"
            head += (size - 24).to_bytes(8, "big")
            block = os.urandom(MEBIBYTE)
            with path.open("wb") as file:
                file.write(head)
                while not sparse and (left := size - file.tell()) > 0:
                    file.write(block[:left])
                file.truncate(size)
                file.flush()
                os.fsync(file.fileno())  # dirty pages cannot be evicted
        return str(path)

    def image(self, size: int) -> str:
        """Return a file that begins as a PNG."""
        path = self._folder / f"{size}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + os.urandom(size - 16))
        return str(path)

    def images(self, size: int, count: int) -> str:
        """Return a folder of so many files that begin as PNGs: names of one and the same."""
        folder = self._folder / f"{count}-of-{size}"
        if not folder.exists():
            folder.mkdir()
            first = folder / "0.png"
            os.rename(self.image(size), first)
            for number in range(1, count):
                os.link(first, folder / f"{number}.png")
        return str(folder)


@contextmanager
def files() -> Generator[Files, None, None]:
    """Give test files a place on a disk: /tmp is memory on some systems."""
    with tempfile.TemporaryDirectory(dir="/var/tmp" if Path("/var/tmp").is_dir() else None) as name:
        yield Files(name)


def warm(path: str) -> None:
    """Bring a file into the page cache."""
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(MEBIBYTE)
        while file.readinto(buffer):
            pass


def evict(path: str) -> None:
    """Drop a file from the page cache, where the system lets us."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def encrypted(target: Target) -> str:
    """Name the scheme of a target for a title."""
    return urlsplit(target.url).scheme
