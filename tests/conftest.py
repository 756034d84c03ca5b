"""Fixtures that every test may use, and the watch over the event loop that every test has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

LONGEST_CALLBACK = 0.25
"""Seconds that one callback may hold the loop. The bound that matters is lower and is measured by
the benchmarks; here a machine that others use as well must not fail a test by itself."""


def _watched_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.slow_callback_duration = LONGEST_CALLBACK
    return loop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"debug": True, "loop_factory": _watched_loop}


class _Complaints(logging.Handler):
    """What asyncio complained of: a callback that held the loop, an error that nobody took."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.ERROR or message.startswith("Executing "):
            self.messages.append(message)


@pytest.fixture(autouse=True)
def no_complaints_of_asyncio() -> Iterator[None]:
    """Fail a test in which the loop was blocked, or in which an error or a task was lost."""
    complaints = _Complaints()
    logger = logging.getLogger("asyncio")
    logger.addHandler(complaints)
    try:
        yield
    finally:
        logger.removeHandler(complaints)
    assert not complaints.messages, "\n".join(complaints.messages)
