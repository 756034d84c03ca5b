"""Uploads keep within their bounds: memory whatever the size, and no long turn of the loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from benchmarks.clients import MemoriesAsync, Target
from benchmarks.process import Job, heartbeat, percentile
from benchmarks.rounds import ROOT, Files, Sink, files, run_client, running_sink
from tests.conftest import PatientLoop

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

GIBIBYTE = 1 << 30
MOST_MEMORY = 16.0
"""MB over idle, whatever the size of the file: a loaded one would take thousands. Up to three reads
of a MiB are in flight, and each of the four reading threads has an arena of the allocator's where
one or two that are freed stay: 2 to 8.5 are seen, whichever threads come first."""
LONGEST_TURN = 0.1
"""Seconds of one callback. Reading on the loop without a budget takes 0.2 to 1.2 s."""


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with running_sink() as running:
        yield running


@pytest.fixture(scope="module")
def media() -> Iterator[Files]:
    with files() as made:
        yield made


def target(sink: Sink, scheme: str) -> Target:
    return sink.https if scheme == "https" else sink.http


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("client", ["MemoriesAsync", "MemoriesAsyncInThreads"])
def test_memory_does_not_grow_with_the_file(
    sink: Sink, media: Files, scheme: str, client: str
) -> None:
    job = Job(client=client, small=media.video(1 << 16))
    upload = attrs.evolve(job, path=media.video(4 * GIBIBYTE, sparse=True))

    sample = run_client(upload, target(sink, scheme))

    assert sample["memory"] <= MOST_MEMORY


def test_eight_uploads_share_their_memory(sink: Sink, media: Files) -> None:
    job = Job(client="MemoriesAsync", small=media.video(1 << 16), count=8, at_once=8)
    uploads = attrs.evolve(job, path=media.video(GIBIBYTE // 4, sparse=True))

    sample = run_client(uploads, sink.https)

    assert sample["memory"] <= 2 * MOST_MEMORY


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_callback_holds_the_loop(sink: Sink, media: Files, scheme: str) -> None:
    # In debug mode asyncio complains of every callback above the limit, and a complaint fails
    # any test of ours (conftest.py).
    loop = asyncio.get_running_loop()
    assert isinstance(loop, PatientLoop)
    loop.slow_callback_duration = LONGEST_TURN
    client = MemoriesAsync(target(sink, scheme))
    path = media.video(2 * GIBIBYTE, sparse=True)
    lateness: list[float] = []
    async with client.client:
        beat = asyncio.create_task(heartbeat(lateness))
        await client.upload(path)
        beat.cancel()

    assert percentile(lateness, 0.99) < LONGEST_TURN * 1000


def test_the_command_prints_every_table(tmp_path: Path) -> None:
    results, chart = f"{tmp_path}/results.json", f"{tmp_path}/uploads.svg"
    command = [sys.executable, "-m", "benchmarks", "--markdown"]
    tiny = ["--rounds", "1", "--size", "1", "--calls", "64", "--json", results, "--svg", chart]

    printed = subprocess.run([*command, *tiny], cwd=ROOT, capture_output=True, text=True)

    assert printed.returncode == 0, printed.stderr
    tables = ["https", "http", "cold", "thread", "Memory", "One upload", "Eight uploads"]
    tables += ["asset id", "image", "folder", "Import", "paid"]
    headings = [line for line in printed.stdout.splitlines() if line.startswith("**")]
    assert len(headings) == len(tables)
    for heading, word in zip(headings, tables, strict=True):
        assert word in heading
    again = subprocess.run(
        [*command, "--from", results], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert again.stdout == printed.stdout
    with open(chart) as file:
        assert file.read().startswith("<svg ")
