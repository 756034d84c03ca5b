"""Servers beside a test that itself blocks, and signals at the right moment."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from anyio.from_thread import start_blocking_portal

from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.sync import Memories
from tests import forks

ROOT = Path(__file__).parents[2]
KEY = "sk-mavi-0123456789abcdef"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(1000)
IMAGE_URL = "https://example.com/a.png"
LONG = 60.0
"""Seconds after which something that should have happened will not happen any more."""


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Emulator(HashEngine())) as emulator,
    ):
        yield emulator


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Memories]:
    with client_for(emulator.url) as client:
        yield client


def client_for(url: str) -> Memories:
    return Memories(KEY, caption_key=KEY, base_url=url)


class SilentServer:
    """Takes one connection and never answers.

    Attributes:
        received: Set once the first bytes have come; from then on nothing is read ...
        read_on: ... until this is set.
        closed: Set once the peer has closed the connection.
        count: How many bytes came.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.received = threading.Event()
        self.read_on = threading.Event()
        self.closed = threading.Event()
        self.count = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with connection:
            self.count += len(connection.recv(65536))
            self.received.set()
            self.read_on.wait(LONG)
            try:
                while data := connection.recv(65536):
                    self.count += len(data)
            except ConnectionError:
                pass
            self.closed.set()

    def close(self) -> None:
        self.read_on.set()
        self._listener.close()


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    server = SilentServer()
    yield server
    server.close()


class Child:
    """A program of children.py in a process of its own, in which every warning is an error."""

    def __init__(self, program: str, url: str) -> None:
        # Python 3.12 warns of every fork beside threads; here that is what is tested.
        warnings = ["-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
        self.process = forks.start(
            ["-m", "tests.sync.children", program, url],
            options=warnings,
            cwd=ROOT,
            stdin=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def listen(self) -> str:
        """Return the next line it says; nothing once it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip().decode()

    def end(self, seconds: float) -> tuple[int, str]:
        """Wait for its end, at most so long; return its status and what it complained of."""
        _, complaints = self.process.communicate(timeout=seconds)
        return self.process.wait(), complaints.decode()


def signal_when(event: threading.Event, number: int) -> None:
    """Send this process a signal once something has happened elsewhere."""

    def send() -> None:
        if event.wait(LONG):
            os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does without telling."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.001)


def loop_threads() -> list[threading.Thread]:
    """Return the threads of blocking clients."""
    return [thread for thread in threading.enumerate() if thread.name == "memories-async"]


def open_files() -> set[str]:
    """Return what this process has open."""
    found: set[str] = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return found


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Fail a test that leaves a client's loop running."""
    yield
    until(lambda: not loop_threads())
