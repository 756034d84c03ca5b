"""An emulator in a thread beside the test, a home of its own, and the command line in both ways."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cyclopts import App, ArgumentCollection, Parameter

from memories_async.cli import main, profiles
from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine
from tests.cli.terminal import Process, Terminal, clean_environment
from tests.limits.conftest import redis_url as redis_url  # a fixture

KEY = "sk-mavi-SENTINEL-0123456789abcdef"
CAPTION_KEY = "sk-caption-SENTINEL-fedcba9876543210"

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(300_000)

Run = Callable[..., int]


@pytest.fixture(scope="session")
def served() -> Iterator[Emulator]:
    """An emulator that runs on a loop of its own, as the command line brings its own too."""
    emulator = Emulator(HashEngine())
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(emulator.start(), loop).result(60)
        yield emulator
        asyncio.run_coroutine_threadsafe(emulator.stop(), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def emulator(served: Emulator) -> Emulator:
    """The same, with nothing in it of what the tests before left there."""
    served.reset()
    return served


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home and a working folder of the test's own, and nothing of the caller's environment.

    Whatever a command writes there, a key is only in the file of profiles.
    """
    folder = tmp_path / "home"
    folder.mkdir()
    for name, value in clean_environment(folder).items():
        monkeypatch.setenv(name, value)
    for name in ("API_KEY", "CAPTION_KEY", "BASE_URL", "PROFILE"):
        monkeypatch.delenv(f"MEMORIES_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    yield folder
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(b"SENTINEL" not in path.read_bytes() for path in written if path != profiles.path())


@pytest.fixture
def account(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The emulator, and the environment that leads to it."""
    monkeypatch.setenv("MEMORIES_API_KEY", KEY)
    monkeypatch.setenv("MEMORIES_CAPTION_KEY", CAPTION_KEY)
    monkeypatch.setenv("MEMORIES_BASE_URL", emulator.url)
    return emulator


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with five images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(PNG + bytes([number]))
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "one.png"
    path.write_bytes(PNG)
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "one.mp4"
    path.write_bytes(MP4)
    return path


@pytest.fixture(scope="session", autouse=True)
def options_assembled_once() -> Iterator[None]:
    """Find out the options of each command once, not on each line: that took a third of the time.

    A line gets arguments of its own, to which nothing was given. Processes find out anew.
    """
    assemble, known = App.assemble_argument_collection, dict[object, ArgumentCollection]()

    def assembled(
        app: App, *, default_parameter: Parameter | None = None, parse_docstring: bool = False
    ) -> ArgumentCollection:
        key = app.default_command, default_parameter, parse_docstring
        if not inspect.isfunction(app.default_command):  # --help and --version are each line's own
            return assemble(
                app, default_parameter=default_parameter, parse_docstring=parse_docstring
            )
        if key not in known:
            known[key] = assemble(
                app, default_parameter=default_parameter, parse_docstring=parse_docstring
            )
        return unused(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(App, "assemble_argument_collection", assembled)
        yield


def unused(arguments: ArgumentCollection) -> ArgumentCollection:
    """Return copies of arguments, as they were before a line was parsed."""
    copies = {id(argument): copy.copy(argument) for argument in arguments}
    for one in copies.values():
        one.tokens = []
        one.children = ArgumentCollection(copies[id(child)] for child in one.children)
    return ArgumentCollection(copies.values())


@pytest.fixture
def run() -> Run:
    """The command line within this process."""
    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture
def process() -> Iterator[Callable[..., Process]]:
    """The command line as a process with pipes."""
    started: list[Process] = []

    def start(*arguments: object, stdin: int | None = None, **environment: str) -> Process:
        started.append(Process.start(arguments, environment, stdin))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """The command line as a process at a terminal."""
    started: list[Terminal] = []

    def start(*arguments: object, columns: int = 0, **environment: str) -> Terminal:
        started.append(Terminal.start(arguments, environment, columns))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take back what ``--debug`` does to the process's logging."""
    root, ours = logging.getLogger(), logging.getLogger("memories_async")
    before = root.level, ours.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    ours.setLevel(before[1])
    root.handlers[:] = before[2]
