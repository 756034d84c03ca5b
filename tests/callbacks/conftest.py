"""The three stores, a Redis server of one's own, and inboxes with a time that tests set."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest

from memories_async import CaptionTask, Memories
from memories_async.callbacks import CallbackInbox, MemoryStore, RedisStore, SqliteStore, Store
from memories_async.clock import SystemClock
from tests.emulator.conftest import MP4

ADDRESS = "https://app.example.com/memories"
NOW = 1_790_000_000.0
SOON = 60.0
"""Seconds after which what should have happened never will: on a busy machine, seldom reached."""


@attrs.define
class StoppedClock(SystemClock):
    """A clock that tests set."""

    now: float = NOW

    def wall(self) -> float:
        return self.now


@attrs.define
class StorePlace:
    """Where stores of one kind meet, as those of several processes do."""

    kind: str
    folder: Path
    redis_url: str
    opened: list[Store] = attrs.field(factory=list)

    def store(self, kept: float = 10_000.0) -> Store:
        """Return a store as another process would make it; memory has no other process."""
        match self.kind:
            case "sqlite":
                store: Store = SqliteStore(self.folder / "callbacks.db", kept=kept)
            case "redis":
                store = RedisStore(self.redis_url, prefix=f"{{{self.folder}}}:", kept=kept)
            case _:
                store = self.opened[0] if self.opened else MemoryStore(kept=kept)
        self.opened.append(store)
        return store


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Start a Redis server for this session."""
    # Not by the first store that needs it: that would be on an event loop, for a third of a second.
    importlib.import_module("redis.asyncio")
    with tempfile.TemporaryDirectory() as folder, redis_server(free_port(), folder) as url:
        yield url


@contextlib.contextmanager
def redis_server(port: int, folder: str, *, kept: bool = False) -> Iterator[str]:
    """Run a Redis server until the context ends; skip the test where none is installed.

    Args:
        port: Where it listens.
        folder: Its own.
        kept: Whether the next one in the folder knows what this one was told.
    """
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no redis-server or valkey-server is installed")
    options = [
        "--save",
        "",
        "--appendonly",
        "yes" if kept else "no",
        "--bind",
        "127.0.0.1",
        "--dir",
        folder,
    ]
    process = subprocess.Popen(
        [program, "--port", str(port), *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "eady to accept connections" in line:
                break
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.communicate()


def free_port() -> int:
    """Return a port that is free, below those that systems give to whoever asks for any.

    One of those would now and then be another test's before the server that it is for has it.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("a hundred ports are all taken")


IN_EVERY_STORE = pytest.mark.parametrize(
    "empty_place", ["memory", "sqlite", "redis"], indirect=True
)
"""Marks tests that run with each store; the others run with SQLite."""


@pytest.fixture
def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> StorePlace:
    """Start Redis, where it is wanted, outside the event loop, which it would hold up."""
    kind: str = getattr(request, "param", "sqlite")
    url = request.getfixturevalue("redis_url") if kind == "redis" else ""
    return StorePlace(kind, tmp_path, url)


@pytest.fixture
async def place(empty_place: StorePlace) -> AsyncIterator[StorePlace]:
    place = empty_place
    yield place
    await asyncio.gather(*(store.aclose() for store in place.opened))


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def inbox(place: StorePlace, clock: StoppedClock) -> CallbackInbox:
    return CallbackInbox(ADDRESS, store=place.store(), clock=clock)


async def submit(
    inbox: CallbackInbox, client: Memories, prompt: str, *, qa: bool = False
) -> CaptionTask:
    """Hand in a small film."""
    return await inbox.submit(
        lambda url: client.captions.submit_video(MP4, prompt, callback=url, qa=qa)
    )
