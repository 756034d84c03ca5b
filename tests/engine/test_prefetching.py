"""Small files are read when they are checked: once, within a budget, for the first attempt only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from memories_async import MediaChanged
from memories_async._engine.body import writer
from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.layout import Recipe
from memories_async._engine.body.writer import Transfer
from memories_async.media.inspect import inspect_all, inspect_source
from memories_async.media.readers import PREFETCH_SIZE, Attachment
from memories_async.media.rules import EMBEDDED_IMAGE

pytestmark = pytest.mark.anyio

HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


@pytest.fixture
def budget() -> Iterator[UploadBudget]:
    budget = UploadBudget()
    yield budget
    budget.close()


class Sink:
    waited = 0.0

    def __init__(self) -> None:
        self.data = b""

    async def write(self, data: bytes | memoryview) -> None:
        self.data += data


def picture(folder: Path, size: int = 1000) -> Path:
    path = folder / "a.png"
    path.write_bytes(HEAD.ljust(size, b"."))
    return path


async def sent(attachment: Attachment, budget: UploadBudget, attempt: int = 1) -> bytes:
    sink, recipe = Sink(), Recipe("multipart/form-data", (attachment,))
    await writer.write(recipe, sink, Transfer(recipe.length, attempt), budget)
    return sink.data


async def test_a_first_attempt_needs_no_file(budget: UploadBudget, tmp_path: Path) -> None:
    path = picture(tmp_path)
    attachment = await budget.check(lambda: inspect_source(str(path), EMBEDDED_IMAGE))
    content = path.read_bytes()
    path.unlink()

    assert await sent(attachment, budget) == content


async def test_a_second_attempt_reads_the_file_again(budget: UploadBudget, tmp_path: Path) -> None:
    path = picture(tmp_path)
    attachment = inspect_source(str(path), EMBEDDED_IMAGE)
    assert await sent(attachment, budget, attempt=2) == path.read_bytes()
    picture(tmp_path, 1001)

    with pytest.raises(MediaChanged, match=r"a\.png"):
        await sent(attachment, budget, attempt=2)


def test_only_one_small_file_of_a_request_is_prefetched(tmp_path: Path) -> None:
    small = str(picture(tmp_path, PREFETCH_SIZE))
    assert inspect_source(small, EMBEDDED_IMAGE).prefetched is not None
    assert [file.prefetched for file in inspect_all([small, small], EMBEDDED_IMAGE)] == [None, None]
    assert (
        inspect_source(str(picture(tmp_path, PREFETCH_SIZE + 1)), EMBEDDED_IMAGE).prefetched is None
    )


def test_what_the_budget_does_not_hold_is_let_go(tmp_path: Path) -> None:
    budget = UploadBudget(memory=750)
    file = inspect_source(str(picture(tmp_path)), EMBEDDED_IMAGE)
    with budget.reserve_prefetched([file]) as first:
        with budget.reserve_prefetched([file]) as second:
            assert first[0].prefetched is not None
            assert second[0].prefetched is None
            assert second[0].size == file.size
        with budget.reserve_prefetched(()) as none:
            assert not none
    with budget.reserve_prefetched([file]) as third:
        assert third[0].prefetched is not None
    budget.close()


async def test_a_hung_check_leaves_uploads_alone(budget: UploadBudget, tmp_path: Path) -> None:
    path = picture(tmp_path, 2 * PREFETCH_SIZE)
    attachment = inspect_source(str(path), EMBEDDED_IMAGE)
    loop, hung = asyncio.get_running_loop(), asyncio.Event()
    check = asyncio.ensure_future(
        budget.check(lambda: asyncio.run_coroutine_threadsafe(hung.wait(), loop).result())
    )

    assert await sent(attachment, budget) == path.read_bytes()

    hung.set()
    await check
