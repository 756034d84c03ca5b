"""The folder of an emulator: nobody else's file is touched, and what a killed one left is."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from memories_async.emulator import Emulator
from memories_async.emulator.folder import MARKER
from tests import forks
from tests.emulator.conftest import KnownEngine, add_video, files_in, post, session_for

pytestmark = pytest.mark.anyio

SPOOLED = "0123456789abcdef" * 2


async def test_a_folder_with_other_files_is_refused_and_left_as_it_is(
    engine: KnownEngine, tmp_path: Path
) -> None:
    theirs = tmp_path / "incoming" / "holidays.jpg"
    theirs.parent.mkdir()
    theirs.write_bytes(b"the only copy")
    with pytest.raises(FileExistsError, match="choose an empty folder"):
        await Emulator(engine, folder=tmp_path).start()
    assert theirs.read_bytes() == b"the only copy"
    assert sorted(os.listdir(tmp_path)) == ["incoming"]


async def test_only_what_an_emulator_wrote_itself_is_deleted(
    engine: KnownEngine, tmp_path: Path
) -> None:
    async with Emulator(engine, folder=tmp_path):
        pass
    theirs = [
        tmp_path / "incoming" / "holidays.jpg",
        tmp_path / "videos" / "notes.txt",
        tmp_path / "videos" / "strange.json",
        tmp_path / "images" / "package.json",
    ]
    for path in theirs:
        path.write_bytes(b"[1, 2")
    (tmp_path / "incoming" / "sub").mkdir()
    (tmp_path / "incoming" / SPOOLED).write_bytes(b"half an upload")
    async with Emulator(engine, folder=tmp_path) as emulator, session_for(emulator) as client:
        answer = await post(client, "/serve/api/v1/list_videos", {})
        assert answer["data"]["videos"] == []
    assert sorted(files_in(tmp_path)) == sorted(theirs)


async def test_a_second_emulator_on_the_folder_is_refused(
    engine: KnownEngine, tmp_path: Path
) -> None:
    async with Emulator(engine, folder=tmp_path):
        upload = tmp_path / "incoming" / SPOOLED
        upload.write_bytes(b"on its way")
        with pytest.raises(BlockingIOError, match="in use by another emulator"):
            await Emulator(engine, folder=tmp_path).start()
        assert upload.exists()
    async with Emulator(engine, folder=tmp_path):
        pass


async def test_a_folder_kept_by_an_older_version_is_taken_over(
    engine: KnownEngine, tmp_path: Path
) -> None:
    async with Emulator(engine, folder=tmp_path) as emulator, session_for(emulator) as client:
        video_no = await add_video(client)
    (tmp_path / MARKER).unlink()
    async with Emulator(engine, folder=tmp_path) as emulator, session_for(emulator) as client:
        answer = await post(client, "/serve/api/v1/list_videos", {})
    assert [video["video_no"] for video in answer["data"]["videos"]] == [video_no]


async def test_what_a_killed_emulator_left_half_done_goes_at_the_next_start(
    engine: KnownEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Emulator(engine, folder=tmp_path) as emulator, session_for(emulator) as client:
        whole = await add_video(client)
        without_content = await add_video(client)
        damaged = await add_video(client)
    videos = tmp_path / "videos"
    (videos / without_content).unlink()
    (videos / f"{damaged}.json").write_bytes(b'{"id": "VI')
    (videos / "VI000000000000000001").write_bytes(b"content without a record")
    (videos / "VI000000000000000002.new").write_bytes(b'{"id"')
    async with Emulator(engine, folder=tmp_path) as emulator, session_for(emulator) as client:
        answer = await post(client, "/serve/api/v1/list_videos", {})
    assert [video["video_no"] for video in answer["data"]["videos"]] == [whole]
    assert "has lost its content" in caplog.text
    assert {path.name for path in files_in(videos)} == {whole, f"{whole}.json", f"{damaged}.json"}


@contextlib.contextmanager
def emulator_process(temporary: Path) -> Iterator[forks.Started]:
    process = forks.start(
        ["-m", "memories_async.emulator", "--port", "0"],
        options=("-W", "error"),
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        assert process.stdout is not None
        assert b"listens at" in process.stdout.readline()
        yield process
        process.wait(timeout=60)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_program_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    with emulator_process(tmp_path) as process:
        assert os.listdir(tmp_path)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, b"", b"")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_program_left_goes_with_the_next_start(tmp_path: Path) -> None:
    elsewhere = tmp_path / "memories-emulator-notes"
    elsewhere.mkdir()
    (elsewhere / "todo.txt").touch()
    with emulator_process(tmp_path) as alive, emulator_process(tmp_path) as killed:
        killed.kill()
        killed.wait()
        assert len(os.listdir(tmp_path)) == 3
        with emulator_process(tmp_path) as another:
            assert len(os.listdir(tmp_path)) == 3  # its own, that of the one alive, and the notes
            another.send_signal(signal.SIGTERM)
        alive.send_signal(signal.SIGTERM)
    assert os.listdir(tmp_path) == [elsewhere.name]
