"""A local Ray cluster, an emulator that outlives event loops, and images for both."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine
from tests.bulk.ledgers import PNG

if importlib.util.find_spec("ray") is None:
    collect_ignore_glob = ["test_*.py"]  # .ci/run installs it for the slow tests


@contextlib.contextmanager
def running_emulator() -> Iterator[Emulator]:
    """Run an emulator on a thread of its own: Ray blocks the test's."""
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


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    with running_emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(service: Emulator) -> Emulator:
    """Return the emulator with nothing in its ledger."""
    service.ledger.clear()
    service.faults.clear()
    return service


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """Return where the head node keeps its ledgers."""
    folder = tempfile.mkdtemp(prefix="ray-state-")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(service: Emulator, state: Path) -> Iterator[Any]:
    """Return Ray with a cluster of one host whose workers find the emulator."""
    import ray

    environment = {
        "MEMORIES_API_KEY": "key",
        "MEMORIES_CAPTION_KEY": "caption",
        "MEMORIES_BASE_URL": service.url,
        "XDG_STATE_HOME": str(state),
        "PYTHONPATH": os.getcwd(),
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONBREAKPOINT": "",  # Ray sets it, and would leave it set
    }
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def processes(title: bytes) -> list[int]:
    """Return the processes of a title: Ray gives its workers such."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        try:
            read = Path(f"/proc/{name}/cmdline").read_bytes() if name.isdigit() else b""
        except OSError:
            continue
        if title in read:
            found.append(int(name))
    return found


MakeRows = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def rows(tmp_path: Path) -> MakeRows:
    """Return what makes rows with the paths of different images."""

    def make(count: int) -> list[dict[str, Any]]:
        made = []
        for number in range(count):
            path = tmp_path / f"{number:04}.png"
            path.write_bytes(PNG + f"{tmp_path.name} {number}".encode())
            made.append({"path": str(path), "number": number})
        return made

    return make
