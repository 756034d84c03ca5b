"""Ctrl-C and other signals while a call is under way: cancelled, unwound, then raised."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import FrameType

import pytest

from memories_async import Media
from memories_async.emulator import Emulator
from memories_async.sync import Memories, _portal
from memories_async.sync._loop_thread import UNWINDING
from tests.sync.conftest import (
    IMAGE_URL,
    MP4,
    PNG,
    SilentServer,
    client_for,
    open_files,
    signal_when,
    until,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are sent by number")


@pytest.fixture(autouse=True)
def python_s_own_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_has_closed_the_connection_before_it_is_raised(silent: SilentServer) -> None:
    with client_for(silent.url) as client:
        silent.read_on.set()
        signal_when(silent.received, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) as caught:
            client.captions.image(IMAGE_URL, "what")
        assert not [name for name in open_files() if _is_client_s(name, silent)]
        assert silent.closed.wait(1)
    # The whole request had left: the one thing that the user must know.
    assert any("may have been billed" in note for note in caught.value.__notes__)


def _is_client_s(name: str, silent: SilentServer) -> bool:
    """Tell whether a descriptor is a connection to the server, by the kernel's own list."""
    port = int(silent.url.rpartition(":")[2])
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        established, remote = fields[3] == "01", int(fields[2].rpartition(":")[2], 16)
        if established and remote == port and name == f"socket:[{fields[9]}]":
            return True
    return False


def test_ctrl_c_in_the_middle_of_an_upload(silent: SilentServer, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    with film.open("wb") as file:
        file.write(MP4)
        file.truncate(200_000_000)
    with client_for(silent.url) as client:
        signal_when(silent.received, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) as caught:
            client.captions.video(film, "what")
        until(lambda: str(film) not in open_files())
    silent.read_on.set()
    assert silent.closed.wait(1)
    assert silent.count < 100_000_000
    assert not hasattr(caught.value, "__notes__")  # it never became whole: nothing is billed


def test_ctrl_c_that_does_not_wake_the_main_thread(silent: SilentServer) -> None:
    """It may come just before the wait begins, or be delivered to another thread, as here."""

    def send() -> None:
        assert silent.received.wait(20)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    silent.read_on.set()
    with client_for(silent.url) as client:
        threading.Thread(target=send, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            client.captions.image(IMAGE_URL, "what")
        assert silent.closed.wait(1)


class PatienceError(Exception):
    """What a worker's time limit raises."""


def test_any_exception_of_a_signal_s_handler(silent: SilentServer) -> None:
    error = PatienceError()

    def handler(number: int, frame: FrameType | None) -> None:
        raise error

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with client_for(silent.url) as client:
            silent.read_on.set()
            signal_when(silent.received, signal.SIGUSR1)
            with pytest.raises(PatienceError) as caught:
                client.captions.image(IMAGE_URL, "what")
            assert silent.closed.wait(1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught.value is error


def test_a_handler_that_does_not_raise_disturbs_nothing(client: Memories) -> None:
    heard: list[str] = []

    def handler(number: int, frame: FrameType | None) -> None:
        heard.append(client.captions.image(PNG, "from the handler").text)

    uploading = threading.Event()
    go_on = threading.Event()

    async def film() -> AsyncIterator[bytes]:
        yield MP4
        uploading.set()
        await asyncio.to_thread(go_on.wait)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        signal_when(uploading, signal.SIGUSR1)
        threading.Thread(target=_set_when, args=(heard, go_on), daemon=True).start()
        assert client.captions.video(Media(film(), name="film.mp4"), "what").text
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(heard) == 1


def _set_when(heard: list[str], event: threading.Event) -> None:
    while not heard:
        time.sleep(0.001)
    event.set()


def test_the_client_serves_on_after_ctrl_c(client: Memories, emulator: Emulator) -> None:
    uploading = threading.Event()

    async def film() -> AsyncIterator[bytes]:
        yield MP4
        uploading.set()
        await asyncio.Event().wait()

    signal_when(uploading, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        client.captions.video(Media(film(), name="film.mp4"), "what")
    assert client.captions.image(PNG, "what").text
    assert emulator.ledger.billed() == 1


class Stubborn:
    """A stream that does not let itself be cancelled until it is let go."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.unwinding = threading.Event()
        self._go = threading.Event()

    async def film(self) -> AsyncIterator[bytes]:
        yield MP4
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.unwinding.set()
            while not self._go.is_set():  # noqa: ASYNC110  # set from another thread
                await asyncio.sleep(0.001)

    def let_go(self) -> None:
        self._go.set()


def test_a_second_ctrl_c_leaves_at_once(client: Memories) -> None:
    stubborn = Stubborn()
    signal_when(stubborn.started, signal.SIGINT)
    signal_when(stubborn.unwinding, signal.SIGINT)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught:
        client.captions.video(Media(stubborn.film(), name="film.mp4"), "what")
    assert time.monotonic() - began < UNWINDING
    assert isinstance(caught.value.__context__, KeyboardInterrupt)
    stubborn.let_go()


def test_unwinding_takes_five_seconds_at_most(
    client: Memories, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert UNWINDING == 5.0
    monkeypatch.setattr(_portal, "UNWINDING", 0.05)
    stubborn = Stubborn()
    signal_when(stubborn.started, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        client.captions.video(Media(stubborn.film(), name="film.mp4"), "what")
    assert caught.value.__context__ is None
    stubborn.let_go()
    monkeypatch.undo()  # closing waits for the stream to end
