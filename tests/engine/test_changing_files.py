"""Files that change, fail or are left alone by a cancelled call while they are sent."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from memories_async import MediaChanged, MediaError
from memories_async._engine.body import writer
from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.writer import PIECE, Transfer
from memories_async._engine.request import State
from memories_async.media import readers as sources
from memories_async.media.readers import READ_SIZE
from tests.engine.uploads import Sink, body_of, checked, film, send

pytestmark = pytest.mark.anyio

# Files that change: never the last byte of a body that is not what was checked.


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(0, 0))


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)


def vanish(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [truncate, grow, rewrite, replace, vanish])
@pytest.mark.parametrize("size", [1000, 3 * READ_SIZE])
@pytest.mark.parametrize("moment", ["before", "during"])
async def test_a_file_that_changes(
    change: Callable[[Path], None], size: int, moment: str, budget: UploadBudget, tmp_path: Path
) -> None:
    """Row 53 of the fault matrix; a small file's first attempt sends what was checked."""
    path = tmp_path / "a.mp4"
    path.write_bytes(film(size))
    attachment = checked(path)
    recipe = body_of(bytes(1000), attachment, b"-- end")
    sink = Sink()
    transfer = Transfer(recipe.length, attempt=2 if size == 1000 else 1)
    if moment == "before":
        change(path)
    else:
        # A small file is read in one hop, so the change falls before that; a large one is changed
        # with its last piece on the way.
        last = 1 if size == 1000 else 1 + size // PIECE
        sink.before_write = lambda number: change(path) if number == last else None
    with pytest.raises(MediaChanged, match=r"a\.mp4"):
        await writer.write(recipe, sink, transfer, budget)
    assert transfer.state is State.PARTIAL
    assert transfer.total is not None
    assert len(sink.data) < transfer.total
    assert not sink.data.endswith(b"-- end")
    assert budget.active == 0


@pytest.mark.parametrize("size", [1000, 3 * READ_SIZE])
async def test_a_caller_s_file_that_changes(
    size: int, budget: UploadBudget, tmp_path: Path
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(film(size))
    with path.open("rb") as file:
        recipe = body_of(checked(file), b"end")
        grow(path)
        with pytest.raises(MediaChanged, match="changed while it was being sent"):
            await send(recipe, budget)
        assert not file.closed


@pytest.mark.parametrize("size", [1000, 3 * READ_SIZE])
@pytest.mark.parametrize("change", ["shorter", "longer"])
async def test_a_memory_file_that_changes(size: int, change: str, budget: UploadBudget) -> None:
    file = io.BytesIO(film(size))
    recipe = body_of(checked(file), b"end")
    if change == "shorter":
        file.truncate(size - 1)
    else:
        file.seek(0, io.SEEK_END)
        file.write(b"more")
    with pytest.raises(MediaChanged, match="while it was being sent"):
        await send(recipe, budget)


async def test_a_file_object_that_cannot_be_read(budget: UploadBudget) -> None:
    class Unreadable(io.BytesIO):
        broken = False

        def read(self, size: int | None = -1) -> bytes:
            if self.broken:
                raise OSError(5, "Input/output error")
            return super().read(size)

    for size in (1000, 3 * READ_SIZE):
        file = Unreadable(film(size))
        recipe = body_of(checked(file), b"end")
        file.broken = True
        with pytest.raises(MediaError, match="cannot be read: Input/output error"):
            await send(recipe, budget)


# Cancellation.


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def the_end_of(name: str) -> None:
    """Wait until no thread of that name is left."""
    for thread in [thread for thread in threading.enumerate() if thread.name == name]:
        await asyncio.to_thread(thread.join)


async def test_cancelled_while_a_thread_reads(
    budget: UploadBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is closed when the thread comes back, not under its hands."""
    path = tmp_path / "a.mp4"
    path.write_bytes(film(3 * READ_SIZE))
    recipe = body_of(checked(path))
    reading, may_go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    real_pread = sources.pread

    def slow_pread(descriptor: int, size: int, position: int) -> bytes:
        loop.call_soon_threadsafe(reading.set)
        may_go_on.wait(60)
        return real_pread(descriptor, size, position)

    monkeypatch.setattr(sources, "_NOWAIT", None)
    monkeypatch.setattr(sources, "pread", slow_pread)
    before = open_files()
    task = asyncio.create_task(send(recipe, budget))
    await reading.wait()
    assert open_files() == before + 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert budget.active == 0
    may_go_on.set()
    budget.close()
    await the_end_of("memories-async-reader")
    assert open_files() <= before


async def test_cancelled_while_the_connection_is_full(budget: UploadBudget, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(film(3 * READ_SIZE))

    class FullSink(Sink):
        async def write(self, data: bytes | memoryview) -> None:
            await super().write(data)
            await asyncio.Event().wait()

    before = open_files()
    task = asyncio.create_task(send(body_of(checked(path)), budget, sink := FullSink()))
    while not sink.pieces:  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_files() == before
