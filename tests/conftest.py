"""Fixtures that every test may use, and the watch over the event loop that every test has."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

# A shell's background job ignores Ctrl-C, and what nohup starts SIGHUP: the processes that tests
# start would inherit that, and the command line leaves ignored what was.
if threading.current_thread() is threading.main_thread():
    for name, action in {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}.items():
        if (number := getattr(signal, name, None)) and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, action)

# Debug mode notes where each coroutine was made, in ten frames: only a complaint shows them.
asyncio.constants.DEBUG_STACK_DEPTH = 1

# Each worker loads some 700 modules, and processes are started by the hundred: where the
# environment forbids to keep bytecode, each of them would compile anew what it imports.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

LONGEST_CALLBACK = 3.0
"""Seconds that one callback may hold the loop: less than a wait for a lock or a peer takes, more
than anything here computes on a machine ten times as slow, or while the thread that holds the
interpreter's lock waits for a processor (1.0 and 1.3 were seen at a load of 14). How long uploads
hold the loop is measured by tests/test_upload_bounds.py and counted by
tests/engine/test_upload_costs.py."""

SCHEDULER_STATISTICS = "/proc/thread-self/schedstat"


class Collections:
    """Seconds that collecting garbage has taken: more, the more tests have run before."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        """Be told by the collector that it begins or has ended."""
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._began


COLLECTIONS = Collections()
gc.callbacks.append(COLLECTIONS)


class PatientLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still while its thread waits for a processor that others use.

    Nor does it pass while garbage is collected, which goes through all that the tests before left.
    So what debug mode calls slow is what the callback did, whatever else the machine does.
    """

    def __init__(self) -> None:
        self._statistics = -1
        if os.path.exists(SCHEDULER_STATISTICS):
            self._statistics = os.open(SCHEDULER_STATISTICS, os.O_RDONLY)
        self._looked_at = float("-inf")
        self._waited = self._leapt = self._time = 0.0
        super().__init__()
        self.slow_callback_duration = LONGEST_CALLBACK

    def time(self) -> float:
        """Return the monotonic clock's time less what the run queue and the collector took.

        The statistics are read ten times in what a slow callback takes, not at each look at the
        clock, of which there are several in each turn of the loop: that took a fourteenth of the
        time. What they say comes late, and so the clock may stand; it never goes back.
        """
        now = time.monotonic()
        if self._statistics >= 0 and now - self._looked_at > self.slow_callback_duration / 10:
            self._waited = int(os.pread(self._statistics, 100, 0).split()[1]) / 1e9
            self._looked_at = now
        now += self._leapt - self._waited - COLLECTIONS.seconds
        if now > self._time:
            self._time = now
        return self._time

    def leap(self, seconds: float) -> None:
        """Let so much time have passed at once, for a limit that a test would have to wait for."""
        self._leapt += seconds

    def _check_callback(self, callback: object, method: str) -> None:
        """Take each callback as it is: debug mode's look, by inspect, took a twelfth of the time.

        A coroutine function in its place would be told of all the same, as never awaited.
        """

    def get_debug(self) -> bool:
        """Say no to handles, futures and tasks, which ask whether to keep the stack that made them.

        The whole stacks, which only a complaint shows, took half of the suite's time. The loop
        itself looks at its own attribute: slow callbacks and calls from other threads are told as
        ever. ``python -X dev -m pytest`` shows the stacks.
        """
        return sys.flags.dev_mode

    def close(self) -> None:
        """Close the loop and the file of statistics."""
        super().close()
        if self._statistics >= 0:
            os.close(self._statistics)
            self._statistics = -1


def pytest_collection() -> None:
    """Let examples take their time: that says more of the machine's load than of what is tested.

    And draw a fifth as many as usual: HYPOTHESIS_PROFILE=thorough draws the usual number.
    Here, as the process that hands tests out to others collects none and need not load hypothesis.
    """
    import hypothesis

    hypothesis.settings.register_profile("thorough", deadline=None)
    hypothesis.settings.register_profile("quick", deadline=None, max_examples=20)
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_finish() -> None:
    """Take what collecting tests left behind out of the collector's sight: it all stays anyway."""
    gc.collect()
    gc.freeze()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Do the same after each file: what it imported stays as well."""
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def closed_port() -> Iterator[int]:
    """A port that refuses every connection: it is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"debug": True, "loop_factory": PatientLoop}


class Complaints(logging.Handler):
    """What asyncio complained of: a callback that held the loop, an error that nobody took."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        # At a loop's end asyncio itself waits until a thread has begun, on a busy machine for long.
        slow = message.startswith("Executing ") and "shutdown_default_executor" not in message
        if record.levelno >= logging.ERROR or slow:
            self.messages.append(message)


@pytest.fixture(autouse=True)
def no_complaints_of_asyncio() -> Iterator[None]:
    """Fail a test in which the loop was blocked, or in which an error or a task was lost."""
    complaints = Complaints()
    logger = logging.getLogger("asyncio")
    logger.addHandler(complaints)
    try:
        yield
    finally:
        logger.removeHandler(complaints)
    assert not complaints.messages, "\n".join(complaints.messages)
