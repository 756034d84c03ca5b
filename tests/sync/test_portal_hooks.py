"""Hooks and lazy sources run in the thread that made the call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memories_async import Progress
from memories_async.emulator import Emulator
from memories_async.sync import Memories
from tests.sync.conftest import LONG, MP4, PNG, SilentServer, client_for, open_files, until


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    with path.open("wb") as file:
        file.write(MP4)
        file.truncate(5_000_000)
    return path


def test_on_progress_runs_in_the_calling_thread(client: Memories, film: Path) -> None:
    def call(_: int) -> tuple[str, set[str], list[Progress]]:
        told: list[Progress] = []
        threads: set[str] = set()

        def hook(progress: Progress) -> None:
            threads.add(threading.current_thread().name)
            told.append(progress)

        client.captions.video(film, "what", on_progress=hook)
        return threading.current_thread().name, threads, told

    with ThreadPoolExecutor(2, thread_name_prefix="caller") as callers:
        for name, threads, told in callers.map(call, range(2)):
            assert threads == {name}
            assert told[-1].sent == told[-1].total  # none is lost, although the call has returned
            assert [progress.sent for progress in told] == sorted(
                progress.sent for progress in told
            )


def test_a_hook_that_raises_cancels_the_upload(silent: SilentServer, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    with film.open("wb") as file:
        file.write(MP4)
        file.truncate(200_000_000)
    error = ZeroDivisionError("in the hook")

    def hook(progress: Progress) -> None:
        raise error

    with client_for(silent.url) as client:
        with pytest.raises(ZeroDivisionError) as caught:
            client.captions.video(film, "what", on_progress=hook)
        assert caught.value is error
        until(lambda: str(film) not in open_files())
    silent.read_on.set()
    assert silent.closed.wait(LONG)
    assert silent.count < 100_000_000


def test_a_hook_may_call_the_client(client: Memories, film: Path, emulator: Emulator) -> None:
    texts: list[str] = []

    def hook(progress: Progress) -> None:
        if not texts:
            texts.append(client.captions.image(PNG, "what").text)

    client.captions.video(film, "what", on_progress=hook)
    assert len(texts) == 1
    assert emulator.ledger.billed() == 2


def test_a_slow_hook_does_not_hold_up_others(client: Memories, film: Path) -> None:
    held = threading.Event()
    let_go = threading.Event()

    def hook(progress: Progress) -> None:
        held.set()
        let_go.wait()

    with ThreadPoolExecutor(1) as callers:
        slow = callers.submit(client.captions.video, film, "what", on_progress=hook)
        held.wait()
        assert client.captions.image(PNG, "what").text
        let_go.set()
        assert slow.result().text


def test_lazy_sources_are_advanced_in_the_calling_thread(client: Memories) -> None:
    threads: list[threading.Thread] = []

    def pictures() -> Iterator[bytes]:
        for _ in range(3):
            threads.append(threading.current_thread())
            client.library.video(client.library.add_video(MP4).video_no)  # it may call the client
            yield PNG

    outcomes = list(client.captions.images(pictures(), "what", concurrency=2))
    assert [outcome.unwrap().text for outcome in outcomes]
    client.library.add_images(pictures())
    assert set(threads) == {threading.current_thread()}
    assert len(threads) == 6


def test_a_source_that_raises_ends_the_batch(client: Memories) -> None:
    error = ZeroDivisionError("in the source")

    def pictures() -> Iterator[bytes]:
        yield PNG
        raise error

    with pytest.raises(ZeroDivisionError) as caught:
        list(client.captions.images(pictures(), "what", concurrency=1, ordered=True))
    assert caught.value is error
