"""One life's world: its clock, its chance, its threads and its descriptors, put back at the end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import hashlib
import os
import random
import secrets
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread

import memories_async._engine.pipeline  # noqa: F401  # a process's first call would draw for it
from memories_async import ClosedError
from memories_async._engine.body import budget, writer
from memories_async._engine.transport import payload
from memories_async.bulk.events import EventReporter
from memories_async.bulk.journal.file import JobFile
from tests.simulation.encryption import encryption
from tests.simulation.invariants import BrokenInvariantError
from tests.simulation.loop import LONGEST_THREAD, SimulatedLoop, StuckError

REAL_TIME = time.monotonic
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where a life has its files, if there is such a place: the disk was a fifth of its cost."""


class World:
    """What a life happens in.

    Attributes:
        seed: Everything that is drawn comes from it.
        without: Parts of the life that are left out; see shrinking.py.
        loop: The virtual time.
        folder: The life's own files.
        story: What happened, line by line; the same for the same seed.
        complaints: Exceptions that ended nowhere but in the loop.
        longest_check: Virtual seconds that looking at a source may take: a disk may be slow.
        asset: The identifier of what can be downloaded, and its content.
        full: Whether the disk is, for jobs' journals.
    """

    def __init__(self, seed: int, folder: Path, without: frozenset[str] = frozenset()) -> None:
        self.seed = seed
        self.without = without
        self.longest_check = LONGEST_THREAD
        self.asset = "", b""
        self.full = False
        self.folder = folder
        self.story: list[str] = []
        self.complaints: list[str] = []
        self.loop = SimulatedLoop(random.Random(seed + 1), self.tell)
        self.loop.set_exception_handler(self._complain)

    def _complain(self, loop: object, context: dict[str, Any]) -> None:
        self.complaints.append(f"{context.get('message')} {context.get('exception')!r}")
        self.tell(f"the loop complains: {self.complaints[-1]}")

    def draw(self, part: str) -> random.Random:
        """Return the chance of one part of the life: without another part, it draws the same."""
        return random.Random(f"{self.seed} {part}")

    def tell(self, event: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.loop.now:12.4f} {event}")

    def digest(self) -> str:
        """Return a fingerprint of the story."""
        return hashlib.sha256("\n".join(self.story).encode()).hexdigest()[:16]

    def check(self, holds: bool, what: str) -> None:
        """Note that something must be so.

        Raises:
            BrokenInvariantError: It is not.
        """
        if not holds:
            self.broke(what)
            raise BrokenInvariantError(what)

    def broke(self, what: str) -> None:
        """End the life before its next step, wherever this is said: it might be swallowed there."""
        self.tell(f"BROKEN: {what}")
        self.loop.broken = self.loop.broken or what


class Clock:
    """Time and chance for the client."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = random.Random(world.seed + 2)

    def monotonic(self) -> float:
        return self._world.loop.now

    def wall(self) -> float:
        return self._world.loop.wall()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def random(self) -> float:
        return self._chance.random()


class _Executor(concurrent.futures.Executor):
    """In place of a thread pool: the loop does the work at a drawn moment."""

    loop: SimulatedLoop

    def __init__(self, *_: Any, **__: Any) -> None:
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return self.loop.work(lambda: fn(*args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True


class _Threads(_Executor):
    """In place of the upload's worker threads."""

    checking: Callable[[], float]
    """How long looking at a source may take."""

    def __init__(self, count: int = 1, name: str = "") -> None:
        super().__init__()
        self._checks = name.endswith("-checker")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self._closed:
            raise ClosedError("the client was closed while the call was under way")
        longest = self.checking() if self._checks else LONGEST_THREAD
        return self.loop.work(lambda: fn(*args, **kwargs), longest=longest)

    async def run(self, function: Callable[[], Any]) -> Any:
        return await asyncio.wrap_future(self.submit(function))

    def close(self) -> None:
        self.shutdown()


async def _run_sync(
    function: Callable[..., Any],
    *args: Any,
    abandon_on_cancel: bool = False,
    cancellable: bool | None = None,
    limiter: anyio.CapacityLimiter | None = None,
) -> Any:
    async with limiter or contextlib.nullcontext():
        with anyio.CancelScope(shield=not (abandon_on_cancel or cancellable)):
            return await _Executor.loop.run_in_executor(None, function, *args)


def _committing(world: World) -> Callable[[JobFile, Sequence[Any]], list[Any]]:
    commit = JobFile.commit

    def committing(self: JobFile, changes: Sequence[Any]) -> list[Any]:
        if world.full:
            raise sqlite3.OperationalError("database or disk is full")
        return commit(self, changes)

    return committing


def _in_virtual_time(function: Any, loop: SimulatedLoop) -> tuple[Any, ...]:
    return tuple(
        loop.time if default is REAL_TIME else default for default in function.__defaults__
    )


def _patches(world: World) -> Generator[tuple[Any, str, Any], None, None]:
    loop, entropy = world.loop, random.Random(world.seed + 3)
    yield time, "monotonic", loop.time
    yield time, "perf_counter", loop.time
    yield time, "sleep", loop.oversleep
    yield time, "monotonic_ns", lambda: int(loop.time() * 1e9)
    yield time, "time", loop.wall
    yield time, "time_ns", lambda: int(loop.wall() * 1e9)
    yield os, "urandom", entropy.randbytes
    yield random, "_urandom", entropy.randbytes
    yield secrets, "token_bytes", lambda size=32: entropy.randbytes(size or 32)
    yield secrets, "token_hex", lambda size=32: entropy.randbytes(size or 32).hex()
    yield anyio.to_thread, "run_sync", _run_sync
    # The one default that was looked up when its module was loaded.
    yield EventReporter.__init__, "__defaults__", _in_virtual_time(EventReporter.__init__, loop)
    yield JobFile, "commit", _committing(world)
    yield tempfile, "tempdir", str(world.folder / "temporary")
    for module in (budget, writer, payload):
        yield module, "loop_seconds", loop.time
    for name, module in list(sys.modules.items()):
        if name.startswith("memories_async") and hasattr(module, "ThreadPoolExecutor"):
            yield module, "ThreadPoolExecutor", _Executor
        if name.startswith("memories_async") and hasattr(module, "Threads"):
            yield module, "Threads", _Threads


@contextlib.contextmanager
def _patched(world: World) -> Generator[None, None, None]:
    _Executor.loop = world.loop
    _Threads.checking = staticmethod(lambda: world.longest_check)
    before: list[tuple[Any, str, Any]] = []
    state = random.getstate()
    random.seed(world.seed)
    try:
        for place, name, value in _patches(world):
            before.append((place, name, getattr(place, name)))
            setattr(place, name, value)
        yield
    finally:
        for place, name, value in reversed(before):
            setattr(place, name, value)
        random.setstate(state)


def descriptors() -> int:
    """Count the process's open files and sockets."""
    return len(os.listdir("/proc/self/fd"))


def _end(loop: SimulatedLoop) -> None:
    """Close the loop; after a broken life, with all that is left of it."""
    loop.set_exception_handler(lambda *_: None)
    loop.broken, loop.watch = "", None
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        with contextlib.suppress(StuckError):
            loop.run_until_complete(asyncio.wait(left, timeout=1e5))
    loop.close()


@contextlib.contextmanager
def _collected_in_time() -> Generator[None, None, None]:
    """Collect no garbage but at the loop's bidding: a generator that is left is closed by it."""
    gc.collect()
    gc.freeze()  # for good: what was there before a life is not looked through again and again
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def live(
    seed: int,
    life: Callable[[World], Coroutine[Any, Any, None]],
    without: frozenset[str] = frozenset(),
) -> World:
    """Run one life from beginning to end.

    Args:
        seed: What decides everything in it.
        life: What is lived.
        without: Parts that are left out.

    Raises:
        BrokenInvariantError: Something happened that must never happen; the story is its note.
    """
    with _collected_in_time(), tempfile.TemporaryDirectory(prefix="life-", dir=IN_MEMORY) as name:
        encryption()  # once in a process: no life's chance is to be drawn for it
        threads, files = set(threading.enumerate()), descriptors()
        world = World(seed, Path(name), without)
        temporary = world.folder / "temporary"
        temporary.mkdir()
        try:
            with _patched(world):
                try:
                    world.loop.run_until_complete(life(world))
                    gc.collect()
                    world.loop.run_until_complete(world.loop.shutdown_asyncgens())
                finally:
                    _end(world.loop)
            left = [thread.name for thread in threading.enumerate() if thread not in threads]
            world.check(not left, f"threads are left: {left}")
            world.check(descriptors() <= files, "a descriptor was left open")
            parts = [*temporary.iterdir(), *world.folder.glob("*.part")]
            world.check(not parts, f"temporary files are left: {[part.name for part in parts]}")
        except BaseException as error:
            error.add_note(f"seed {seed}, {len(world.story)} steps:\n" + "\n".join(world.story))
            raise
        return world
