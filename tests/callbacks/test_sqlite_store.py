"""The store in a file: what several processes of one host keep there is never lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import sqlite3
import stat
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import pytest

from memories_async.callbacks import DeliveryStatus, SqliteStore
from memories_async.callbacks.stores import sqlite as sqlite_module
from memories_async.errors import ConfigurationError, StoreUnavailable
from tests import forks
from tests.callbacks.conftest import NOW, SOON
from tests.callbacks.test_stores import delivery
from tests.emulator.conftest import until
from tests.locks import locks_held

pytestmark = pytest.mark.anyio

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


async def in_another_process(path: Path, program: str) -> str:
    """Run a program on the store in a process of its own; return what it prints."""
    arguments = ["-c", HEAD + textwrap.dedent(program), str(path)]
    done = await asyncio.to_thread(forks.completed, arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAD = """
import asyncio, sys
from memories_async.callbacks import Delivery, SqliteStore
store = SqliteStore(sys.argv[1])
"""

LOOK_AND_CLOSE = """
async def look():
    print((await store.find("task-1")).body if await store.find("task-1") else None)
    await store.aclose()
asyncio.run(look())
"""


def deleted_files() -> list[str]:
    """Return what this process has open that has no name any more."""
    folder = Path("/proc/self/fd")
    names = [os.readlink(path) for path in folder.iterdir() if os.path.lexists(path)]
    return [name for name in names if name.endswith(" (deleted)") and "callbacks.db" in name]


@LINUX
async def test_what_is_acknowledged_outlives_workers_that_come_and_go(tmp_path: Path) -> None:
    """One worker waits, another looks and closes: the first one's write-ahead log must stay."""
    path = tmp_path / "callbacks.db"
    store = SqliteStore(path)
    await store.open("a", None, NOW)
    await store.bind("a", "task-1", NOW)
    async with store.watch("task-1"):
        assert len(locks_held(path)) >= 2
        assert await in_another_process(path, LOOK_AND_CLOSE) == "None"
        assert deleted_files() == []
        assert await store.deliver("a", delivery(body=b"paid")) is DeliveryStatus.FIRST
        assert await in_another_process(path, LOOK_AND_CLOSE) == "b'paid'"
    await store.aclose()


@LINUX
async def test_a_second_store_of_the_process_leaves_the_first_one_s_locks(tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    first, second = SqliteStore(path), SqliteStore(path)
    await first.open("a", "a", NOW)
    locks = locks_held(path)
    assert len(locks) >= 2
    async with second.watch("a"):
        pass
    await second.aclose()
    assert locks_held(path) == locks
    await first.aclose()


@LINUX
async def test_what_a_forked_worker_acknowledges_is_kept(tmp_path: Path) -> None:
    """A connection that is open across a fork leaves the child without any locks (preload)."""
    path = tmp_path / "callbacks.db"
    store = SqliteStore(path)
    await store.open("a", "a", NOW)
    go, answer = os.pipe()

    async def work() -> bool:
        await store.find("a")  # the child has opened the file
        os.read(go, 1)  # the parent has closed it, and another process has come and gone
        assert deleted_files() == []
        return await store.deliver("a", delivery("a")) is DeliveryStatus.FIRST

    def fork() -> int:
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if asyncio.run(work()) else 1)
            finally:
                os._exit(2)
        return child

    with warnings.catch_warnings(action="ignore"):  # Python 3.12 warns of threads and forks
        child = await asyncio.to_thread(fork)
    await asyncio.sleep(0)
    await in_another_process(path, LOOK_AND_CLOSE)
    await store.aclose()
    await in_another_process(path, LOOK_AND_CLOSE)
    os.write(answer, b"!")
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    os.close(go)
    os.close(answer)
    assert os.waitstatus_to_exitcode(status) == 0
    assert await store.find("a") is not None
    await store.aclose()


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "callbacks.db")
    await store.open("a", None, NOW)
    async with store.watch("task-1"):
        assert modes(tmp_path) == {
            "callbacks.db": 0o600,
            "callbacks.db-shm": 0o600,
            "callbacks.db-wal": 0o600,
        }
    await store.aclose()


async def test_a_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    """It holds the secret that addresses are signed with."""
    path = tmp_path / "callbacks.db"
    store = SqliteStore(path)
    await store.secret("the secret")
    await store.aclose()
    path.chmod(0o644)
    await store.secret("another")
    await store.aclose()
    assert modes(tmp_path) == {"callbacks.db": 0o600}


@pytest.mark.parametrize("target", ["existing", "missing"])
async def test_a_symbolic_link_in_the_file_s_place_is_refused(tmp_path: Path, target: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    if target == "existing":
        elsewhere.write_text("somebody else's")
    (tmp_path / "callbacks.db").symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match="symbolic link"):
        await SqliteStore(tmp_path / "callbacks.db").secret("the secret")
    assert elsewhere.exists() is (target == "existing")


async def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    path.write_text("a diary, and a long one. " * 100)
    with pytest.raises(ConfigurationError, match="SQLite"):
        await SqliteStore(path).secret("the secret")
    assert path.read_text() == "a diary, and a long one. " * 100


async def test_a_file_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "no such folder" / "callbacks.db")
    with pytest.raises(StoreUnavailable, match="no such folder"):
        await store.find("a")


@pytest.mark.parametrize("replaced", [False, True])
async def test_nothing_is_acknowledged_into_a_file_that_has_no_name_any_more(
    tmp_path: Path, replaced: bool
) -> None:
    path = tmp_path / "callbacks.db"
    store, other = SqliteStore(path), SqliteStore(path)
    await store.open("a", "task-1", NOW)
    for suffix in ("", "-wal", "-shm"):
        os.unlink(f"{path}{suffix}")
    if replaced:
        await other.open("b", "task-2", NOW)
    # It was for somebody whom this file does not know: nobody would ever have found it.
    assert await store.deliver("a", delivery("task-1")) is DeliveryStatus.UNKNOWN
    async with other.watch("task-2") as came:
        await store.open("b", "task-2", NOW)
        assert await store.deliver("b", delivery("task-2")) is DeliveryStatus.FIRST
        async with asyncio.timeout(SOON):
            await came.wait()
    found = await other.find("task-2")
    assert found is not None
    await store.aclose()
    await other.aclose()


async def test_who_waits_learns_of_what_comes_into_the_file_that_took_the_place(
    tmp_path: Path,
) -> None:
    path = tmp_path / "callbacks.db"
    store, other = SqliteStore(path), SqliteStore(path)
    for token in ("a", "b"):
        await store.open(token, f"task-{token}", NOW)
        await store.deliver(token, delivery(f"task-{token}"))
    async with store.watch("task-1") as came:
        for suffix in ("", "-wal", "-shm"):
            os.unlink(f"{path}{suffix}")
        await other.open("c", "task-1", NOW)
        await other.deliver("c", delivery("task-1"))
        async with asyncio.timeout(SOON):
            await came.wait()  # its number there is lower than the last one was here
    await store.aclose()
    await other.aclose()


async def test_a_file_of_the_first_version_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.executescript(FIRST_VERSION)
        old.execute("INSERT INTO tasks VALUES ('a', 'task-1', ?)", (NOW,))
        old.execute(
            "INSERT INTO arrivals VALUES (1, 'a', 'task-1', x'6f6c64', 'digest', ?)", (NOW,)
        )
        old.execute("INSERT INTO secret VALUES ('the secret')")
    store = SqliteStore(path)
    assert await store.secret("another") == "the secret"
    found = await store.find("task-1")
    assert found is not None
    assert found.body == b"old"
    await store.aclose()


FIRST_VERSION = """
CREATE TABLE IF NOT EXISTS tasks (
    token TEXT PRIMARY KEY, name TEXT, opened REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_by_name ON tasks (name);
CREATE INDEX IF NOT EXISTS tasks_by_age ON tasks (opened);
CREATE TABLE IF NOT EXISTS arrivals (
    number INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL, body BLOB NOT NULL, digest TEXT NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS secret (value TEXT NOT NULL);
"""


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def test_nothing_is_polled_while_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: list[object] = []
    poll = sqlite_module._Worker._poll
    monkeypatch.setattr(sqlite_module._Worker, "_poll", lambda self: (polls.append(1), poll(self)))
    store = SqliteStore(tmp_path / "callbacks.db")
    await store.open("a", "a", NOW)
    await store.find("a")
    assert polls == []
    async with store.watch("a"):
        await until(lambda: len(polls) > 2)
    await store.find("a")
    count = len(polls)
    for _ in range(5):
        await store.find("a")
    assert len(polls) <= count + 1
    await store.aclose()


async def test_who_waits_is_woken_while_the_store_is_busy(tmp_path: Path) -> None:
    """Work that never pauses must not keep the worker from looking at what others wrote."""
    here, there = SqliteStore(tmp_path / "callbacks.db"), SqliteStore(tmp_path / "callbacks.db")
    await here.open("a", "a", NOW)
    async with here.watch("a") as event:
        await there.deliver("a", delivery("a"))
        async with asyncio.timeout(SOON):
            while not event.is_set():
                await asyncio.gather(*(here.find("nobody") for _ in range(20)))
    await here.aclose()
    await there.aclose()


@LINUX
async def test_no_thread_and_no_file_is_left_of_a_store_that_was_dropped(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "callbacks.db")
    await store.open("a", "a", NOW)
    assert worker_threads()
    del store
    gc.collect()
    await until(lambda: not worker_threads())
    assert not open_files_in(tmp_path)


def worker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "callbacks" in thread.name]


def open_files_in(folder: Path) -> list[Path]:
    descriptors = Path("/proc/self/fd").iterdir()
    return [
        path for path in descriptors if os.path.lexists(path) and str(folder) in os.readlink(path)
    ]


def _wait_in_child(path: str, ready: object, done: object) -> None:
    async def wait() -> None:
        store = SqliteStore(path)
        async with store.watch("task-1") as event:
            ready.put(True)
            await event.wait()
        arrived = await store.find("task-1")
        assert arrived is not None
        done.put(arrived.body)
        await store.aclose()

    asyncio.run(wait())


async def test_another_process_is_woken(tmp_path: Path) -> None:
    path = str(tmp_path / "callbacks.db")
    store = SqliteStore(path)
    await store.open("a", None, NOW)
    await store.bind("a", "task-1", NOW)
    context = multiprocessing.get_context("spawn")
    ready, done = context.Queue(), context.Queue()
    child = context.Process(target=_wait_in_child, args=(path, ready, done))
    await asyncio.to_thread(child.start)
    await asyncio.to_thread(ready.get, timeout=SOON)
    await store.deliver("a", delivery(body=b"for the child"))
    assert await asyncio.to_thread(done.get, timeout=SOON) == b"for the child"
    await asyncio.to_thread(child.join)
    await store.aclose()


def _open_many(path: str, number: int) -> None:
    async def work() -> None:
        store = SqliteStore(path)
        for task in range(20):
            await store.open(f"{number}-{task}", f"{number}-{task}", NOW)
            assert await store.deliver(f"{number}-{task}", delivery(f"{number}-{task}"))
        await store.aclose()

    asyncio.run(work())


@pytest.mark.slow
async def test_processes_that_all_start_at_once_share_a_new_file(tmp_path: Path) -> None:
    path = str(tmp_path / "callbacks.db")
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_open_many, args=(path, n)) for n in range(4)]
    for child in children:
        await asyncio.to_thread(child.start)
    for child in children:
        await asyncio.to_thread(child.join)
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    store = SqliteStore(path)
    for number in range(4):
        for task in range(20):
            assert await store.find(f"{number}-{task}") is not None
    await store.aclose()


async def test_a_store_that_was_used_before_a_fork_works_after_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "callbacks.db")
    await store.open("a", "a", NOW)

    def fork() -> int:
        child = os.fork()
        if child == 0:
            try:
                status = asyncio.run(store.deliver("a", delivery("a")))
                os._exit(0 if status is DeliveryStatus.FIRST else 1)
            finally:
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    with warnings.catch_warnings(action="ignore"):  # Python 3.12 warns of threads and forks
        assert await asyncio.to_thread(fork) == 0
    assert await store.find("a") is not None
    await store.aclose()
