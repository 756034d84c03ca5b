"""A source that does not come holds up its own call alone: no other, no deadline, no exit."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from memories_async import ClosedError, Media, MediaError, Memories
from memories_async._engine.body import threads
from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.threads import Threads
from memories_async.media.inspect import inspect_sources
from memories_async.media.readers import READ_SIZE
from memories_async.media.rules import CAPTION_VIDEO
from tests.engine.raw_server import RawServer
from tests.engine.uploads import body_of, film, send

pytestmark = pytest.mark.anyio


@pytest.fixture
def quiet_pipes() -> Iterator[list[io.BufferedReader]]:
    """Give eight pipes that nobody writes to."""
    ends = [os.pipe() for _ in range(8)]
    pipes = [os.fdopen(reading, "rb") for reading, _ in ends]
    yield pipes
    for file, (_, writing) in zip(pipes, ends, strict=True):
        os.close(writing)
        file.close()


class Hanging:
    """Something that blocks until it is let go, as a stat of a dead network mount does."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.let_go.wait(30)
        return "late"


async def ended(name: str, but: Collection[threading.Thread] = ()) -> None:
    """Wait for the end of all threads of that name, but for those that others left running."""
    for thread in threading.enumerate():
        if thread.name.startswith(name) and thread not in but:
            await asyncio.to_thread(thread.join)


# Pipes.


async def test_quiet_pipes_leave_other_checks_alone(
    quiet_pipes: list[io.BufferedReader], budget: UploadBudget, tmp_path: Path
) -> None:
    others = threading.enumerate()
    path = tmp_path / "a.mp4"
    path.write_bytes(film(1000))
    waiting = [
        asyncio.create_task(inspect_sources([pipe], CAPTION_VIDEO, budget)) for pipe in quiet_pipes
    ]
    await asyncio.sleep(0)
    (attachment,) = await inspect_sources([str(path)], CAPTION_VIDEO, budget)
    assert attachment.size == 1000
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    budget.close()
    # Nobody waits for them, so nothing reads them any more.
    await ended("memories-async-checker", but=others)


async def test_paused_pipes_leave_other_uploads_alone(
    budget: UploadBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than there are readers, in the middle of their uploads."""
    monkeypatch.setattr("memories_async.media.readers._NOWAIT", None)
    path = tmp_path / "a.mp4"
    path.write_bytes(film(2 * READ_SIZE))
    ends = [os.pipe() for _ in range(8)]
    for _, writing in ends:
        os.write(writing, film(1000))
    uploads: list[asyncio.Task[object]] = []
    pipes = [os.fdopen(reading, "rb") for reading, _ in ends]
    for pipe in pipes:
        attachments = await inspect_sources([pipe], CAPTION_VIDEO, budget)
        uploads.append(asyncio.create_task(send(body_of(*attachments, b"-- end"), budget)))
    attachments = await inspect_sources([path], CAPTION_VIDEO, budget)
    arrived, _ = await send(body_of(*attachments), budget)
    assert arrived == film(2 * READ_SIZE)
    for _, writing in ends:
        os.close(writing)
    for upload in uploads:
        arrived, _ = await upload  # type: ignore[misc]  # what send returns
        assert arrived == film(1000) + b"-- end"
    for pipe in pipes:
        pipe.close()


async def test_a_pipe_can_be_closed_while_its_upload_waits(
    quiet_pipes: list[io.BufferedReader], budget: UploadBudget
) -> None:
    """A thread that waits within a buffered reader would keep its caller from closing it."""
    (pipe, *_) = quiet_pipes
    check = asyncio.create_task(inspect_sources([pipe], CAPTION_VIDEO, budget))
    await asyncio.sleep(0)
    pipe.close()
    with pytest.raises(MediaError, match="closed"):
        await check


# Threads that hang.


async def test_a_thread_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 0.001)
    pool, hanging = Threads(2, "test-hanging"), [Hanging() for _ in range(5)]
    late = [asyncio.ensure_future(pool.run(function)) for function in hanging]
    assert await pool.run(lambda: "in time") == "in time"
    assert not any(task.done() for task in late)
    for function in hanging:
        function.let_go.set()
    assert await asyncio.gather(*late) == ["late"] * 5
    assert await asyncio.gather(*(pool.run(lambda: 1) for _ in range(20))) == [1] * 20
    pool.close()
    await ended("test-hanging")


async def test_only_so_many_threads_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 0.001)
    monkeypatch.setattr(threads, "MOST_REPLACED", 3)
    pool, hanging = Threads(1, "test-many"), [Hanging() for _ in range(6)]
    late = [asyncio.ensure_future(pool.run(function)) for function in hanging]
    for function in hanging[:4]:
        await asyncio.to_thread(function.begun.wait)
    assert not hanging[4].begun.is_set()
    for function in hanging:
        function.let_go.set()
    assert await asyncio.gather(*late) == ["late"] * 6
    pool.close()
    await ended("test-many")


async def test_few_threads_do_what_comes_in_time() -> None:
    """As many as were asked for, and no more, while none hangs."""
    pool, seen = Threads(1, "test-few"), set[int]()
    await asyncio.gather(*(pool.run(lambda: seen.add(threading.get_ident())) for _ in range(200)))
    assert len(seen) == 1
    pool.close()
    with pytest.raises(ClosedError):
        await pool.run(lambda: None)
    await ended("test-few")


async def test_what_was_cancelled_before_it_began_is_not_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, hanging, done = Threads(1, "test-cancelled"), Hanging(), list[int]()
    first = asyncio.ensure_future(pool.run(hanging))
    second = asyncio.ensure_future(pool.run(lambda: done.append(1)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    hanging.let_go.set()
    assert await first == "late"
    await pool.run(lambda: None)
    assert done == []
    pool.close()
    await ended("test-cancelled")


async def test_an_error_is_the_caller_s() -> None:
    def fail() -> None:
        raise KeyError("x")

    pool = Threads(1, "test-errors")
    with pytest.raises(KeyError):
        await pool.run(fail)
    assert await pool.run(lambda: 1) == 1
    pool.close()
    await ended("test-errors")


async def test_a_source_that_ends_by_stop_iteration_is_an_error(server: RawServer) -> None:
    """With a StopIteration a loop's future is never done: the call waited for ever."""

    class Chunks:
        def __init__(self) -> None:
            self.left = iter([b"\0\0\0\x18ftypmp42" + bytes(100_000), bytes(100_000)])

        def read(self, size: int = -1) -> bytes:
            return next(self.left)

    pool = Threads(1, "test-ended")
    for run in (pool.run, lambda function: asyncio.wrap_future(pool.submit(function))):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await run(lambda: next(iter(())))
    pool.close()
    async with Memories("k", caption_key="k", base_url=server.url) as client:
        with pytest.raises(MediaError, match=r"a\.mp4.* cannot be read: .*StopIteration"):
            await client.captions.video(Media(Chunks(), "a.mp4", "video/mp4"), "What?")
    assert server.requests == []


EXIT = """
import asyncio, os, sys, threading
from memories_async import Memories, MediaError, MemoriesError
from memories_async.emulator import Emulator

class Dead:
    def read(self, size):
        threading.Event().wait()

async def main():
    async with Emulator() as emulator:
        client = Memories("key", caption_key="key", base_url=emulator.url)
        sources = [os.fdopen(os.pipe()[0], "rb"), Dead(), sys.stdin.buffer]
        for source in sources:
            try:
                async with asyncio.timeout(0.2):
                    await client.captions.image(source, "What is it?")
            except TimeoutError:
                print("timed out", flush=True)

asyncio.run(main())
print("end", flush=True)
"""


def test_the_interpreter_ends_although_sources_hang() -> None:
    """A pool of the standard library would wait for them."""
    reading, writing = os.pipe()
    child = subprocess.run(
        [sys.executable, "-c", EXIT], stdin=reading, capture_output=True, text=True, timeout=60
    )
    os.close(reading)
    os.close(writing)
    assert child.stdout.split("\n") == ["timed out"] * 3 + ["end", ""], child.stderr
    assert child.returncode == 0, child.stderr
