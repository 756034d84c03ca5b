"""A download appears whole or not at all, and never through a link."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memories_async import (
    CallOptions,
    Download,
    MediaError,
    Memories,
    NotFound,
    NotJson,
    OutcomeUnknown,
    Progress,
    UnexpectedShape,
)
from memories_async._engine.body.budget import UploadBudget
from memories_async._engine.body.writer import Transfer
from memories_async._engine.transport import downloads as saving
from memories_async.emulator import Cut, Emulator
from memories_async.emulator import InjectedFault as Fault
from tests.cases import GENERAL_KEY as KEY
from tests.cases import v1
from tests.emulator.conftest import KnownEngine, until
from tests.recorder import Answer, Recorder
from tests.service import FILM
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio

MP4_ANSWER = Answer(
    FILM,
    headers={
        "Content-Type": "video/mp4",
        "Content-Disposition": 'attachment; filename="../../evil.mp4"',
    },
)
REFUSAL = '{"code":"0001","msg":"video not found","data":null,"success":false,"failed":true}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


async def test_a_video_is_downloaded(recorder: Recorder, client: Memories, folder: Path) -> None:
    recorder.answers = [MP4_ANSWER]
    told: list[Progress] = []
    target = folder / "a.mp4"
    target.write_bytes(b"what was here before")
    saved = await client.library.download("VI1", target, unique_id="mine", on_progress=told.append)
    assert saved == Download(str(target), len(FILM), "video/mp4")
    assert target.read_bytes() == FILM
    assert files(folder) == ["a.mp4"]  # and nothing that the service named
    [request] = recorder.requests
    assert f"{request.method} {request.target}" == "POST /serve/api/v1/download"
    assert request.body == b'{"video_no":"VI1","unique_id":"mine"}'
    assert request.headers["Accept-Encoding"] == "identity"
    assert told[-1] == Progress(len(FILM), len(FILM))


async def test_an_asset_is_downloaded(recorder: Recorder, client: Memories, folder: Path) -> None:
    recorder.answers = [MP4_ANSWER]
    saved = await client.assets.download("re_1", str(folder / "a.mp4"))
    assert (saved.size, files(folder)) == (len(FILM), ["a.mp4"])
    [request] = recorder.requests
    assert f"{request.method} {request.target}" == "GET /serve/api/v2/re_1/download"
    assert "a.mp4" not in str(request)


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (Answer(REFUSAL), NotFound, "video not found"),
        (Answer(v1("null")), UnexpectedShape, "JSON instead of a file"),
        (Answer("<p>Log in", headers={"Content-Type": "text/html"}), NotJson, "not JSON"),
        (Answer(FILM, status=404, headers=MP4_ANSWER.headers), NotFound, "404"),
    ],
)
async def test_what_is_no_file_is_an_error(
    answer: Answer,
    error: type[Exception],
    says: str,
    recorder: Recorder,
    client: Memories,
    folder: Path,
) -> None:
    recorder.answers = [answer]
    with pytest.raises(error, match=says):
        await client.library.download("VI1", folder / "a.mp4")
    assert files(folder) == []
    assert len(recorder.requests) == 1


async def test_a_link_at_the_part_is_refused(
    recorder: Recorder, client: Memories, folder: Path, tmp_path: Path
) -> None:
    recorder.answers = [MP4_ANSWER]
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    (folder / "a.mp4.part").symlink_to(precious)
    with pytest.raises(MediaError, match=r"a\.mp4\.part cannot be written"):
        await client.library.download("VI1", folder / "a.mp4")
    assert precious.read_bytes() == b"mine"
    assert (folder / "a.mp4.part").is_symlink()
    assert files(folder) == ["a.mp4.part"]


async def test_a_link_at_the_destination_is_replaced(
    recorder: Recorder, client: Memories, folder: Path, tmp_path: Path
) -> None:
    recorder.answers = [MP4_ANSWER]
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    (folder / "a.mp4").symlink_to(precious)
    await client.library.download("VI1", folder / "a.mp4")
    assert precious.read_bytes() == b"mine"
    assert not (folder / "a.mp4").is_symlink()


async def test_a_destination_that_cannot_be_is_told_before_anything_is_sent(
    recorder: Recorder, client: Memories, folder: Path
) -> None:
    for target, why in (
        (folder, "is a directory"),
        (folder / "none" / "a.mp4", "is no directory"),
        (Path("/proc/a.mp4"), r"nothing can be added to /proc|is no directory"),  # also for root
    ):
        with pytest.raises(MediaError, match=why) as caught:
            await client.library.download("VI1", target)
        assert "library.download" in str(caught.value)
    assert recorder.requests == []


async def test_a_destination_that_becomes_a_directory(
    recorder: Recorder, client: Memories, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.answers = [MP4_ANSWER]
    monkeypatch.setattr(saving, "check", lambda destination: (folder / "a.mp4").mkdir())
    with pytest.raises(MediaError, match="cannot be written"):
        await client.library.download("VI1", folder / "a.mp4")
    assert files(folder) == ["a.mp4"]


async def test_what_is_cut_short_leaves_nothing(folder: Path, clock: HurriedClock) -> None:
    (folder / "a.mp4").write_bytes(b"what was here before")
    async with (
        Emulator(KnownEngine()) as emulator,
        Memories(KEY, base_url=emulator.url, clock=clock) as client,
    ):
        video = await client.library.add_video(FILM)
        cut = Fault("library.download", Cut("half"), times=None, moment="processed")
        emulator.faults.add(cut)
        options = CallOptions(attempts=2)
        with pytest.raises(OutcomeUnknown, match=r"may bill them once more \(\$0\.12 per GB"):
            await client.library.download(video.video_no, folder / "a.mp4", options=options)
        assert len(emulator.ledger.of("library.download")) <= 2  # what was paid for is not repeated
        assert files(folder) == ["a.mp4"]
        assert (folder / "a.mp4").read_bytes() == b"what was here before"


async def test_what_is_cut_short_is_fetched_again_by_who_accepts_to_pay_twice(
    folder: Path, clock: HurriedClock
) -> None:
    async with (
        Emulator(KnownEngine()) as emulator,
        Memories(KEY, base_url=emulator.url, clock=clock) as client,
    ):
        video = await client.library.add_video(FILM)
        emulator.faults.add(Fault("library.download", Cut("half"), moment="processed"))
        twice = CallOptions(replay="accept_double_billing")
        saved = await client.library.download(video.video_no, folder / "a.mp4", options=twice)
        assert saved.attempts == 2
        assert (folder / "a.mp4").read_bytes() == FILM


# Saving by itself: what no server can bring about.


async def test_large_files_are_written_in_large_pieces(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(len(data)) or write(fd, data))

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield bytes(10_000)

    budget = UploadBudget()
    target = folder / "a.bin"
    file = saving.PartialFile(str(target), budget)
    await file.save(chunks(), Transfer(None))
    assert file.received == 3_000_000
    assert target.stat().st_size == 3_000_000
    assert len(written) < 10
    assert budget.active == 0
    budget.close()


async def test_a_full_disk_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    monkeypatch.setattr(os, "write", full)
    budget = UploadBudget()
    file = saving.PartialFile(str(folder / "a.bin"), budget)
    with pytest.raises(MediaError, match="No space left on device"):
        await file.save(chunks(), Transfer(None))
    file.abandon()
    assert files(folder) == []
    budget.close()


async def test_a_cancelled_write_closes_after_its_thread(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    closed: list[int] = []
    real_write, real_close = os.write, os.close

    def slow(descriptor: int, data: bytes) -> int:
        begun.set()
        go_on.wait(60)
        assert stat.S_ISREG(os.fstat(descriptor).st_mode), "closed under the thread's hands"
        return real_write(descriptor, data)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    monkeypatch.setattr(os, "write", slow)
    monkeypatch.setattr(os, "close", lambda fd: closed.append(fd) or real_close(fd))
    budget = UploadBudget()
    file = saving.PartialFile(str(folder / "a.bin"), budget)
    saving_it = asyncio.ensure_future(file.save(chunks(), Transfer(None)))
    await until(begun.is_set)
    saving_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving_it
    file.abandon()
    assert closed == []
    go_on.set()
    await until(lambda: closed and not files(folder))
    assert len(closed) == 1
    budget.close()


@pytest.mark.parametrize("name", ["a.mp4", "a.mp4.part"])
@pytest.mark.parametrize("kind", ["pipe", "directory", "link"])
async def test_what_is_no_file_is_told_before_anything_is_paid(
    recorder: Recorder, client: Memories, folder: Path, name: str, kind: str
) -> None:
    there = folder / name
    make = {
        "pipe": lambda: os.mkfifo(there),
        "directory": there.mkdir,
        "link": lambda: there.symlink_to("/dev/null"),
    }
    make[kind]()
    with pytest.raises(MediaError, match=r"is no regular file|is a directory"):
        await client.library.download("VI1", folder / "a.mp4")
    assert recorder.requests == []


async def test_a_name_that_is_too_long_is_told_before_anything_is_paid(
    recorder: Recorder, client: Memories, folder: Path
) -> None:
    with pytest.raises(MediaError, match="cannot be written: File name too long"):
        await client.library.download("VI1", folder / ("x" * 252))  # with .part it is 257
    assert recorder.requests == []
