"""An event loop in a thread of its own: how it starts, and all the ways in which it ends."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from typing import Any

from memories_async.errors import ClosedError

CANCEL_TIMEOUT = 5.0
"""Seconds that cancelled calls may take to close their connections and files."""
EXIT_TIMEOUT = 0.8
"""Seconds that the interpreter waits at its exit for all loops together."""


class LoopThread:
    """An event loop in a thread of its own, for one client in one process."""

    def __init__(self, aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._aclose = aclose
        self._process = os.getpid()
        self._lock = threading.RLock()  # a signal's handler may come here while its thread is here
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = asyncio.Event()
        self._stopped = False
        self.calls: set[asyncio.Task[Any]] = set()
        """What is under way on the loop."""
        self.silent = False
        """Whether the interpreter ends, and waiting threads shall be left waiting."""

    @property
    def inherited(self) -> bool:
        """Whether this is a forked child's copy, without the thread."""
        return self._process != os.getpid()

    @property
    def current(self) -> bool:
        """Whether the caller is in this thread."""
        return self._thread is threading.current_thread()

    @property
    def reachable(self) -> bool:
        """Whether what runs on the loop can still be told anything, and waited for."""
        return not self.silent and not self.inherited

    def check_process(self) -> None:
        """Refuse to wait for a thread that a fork left behind."""
        if self.inherited:
            raise RuntimeError("this call or iteration was begun in the parent process")

    def check_not_current(self) -> None:
        """Refuse to wait for oneself."""
        if self.current:
            raise RuntimeError(
                "a blocking call on the client's own event loop would wait for itself: "
                "await the asyncio client there"
            )

    def submit(self, function: Callable[[], object]) -> None:
        """Run a function on the loop, which starts at the first.

        Raises:
            ClosedError: The loop is ending.
        """
        with self._lock:
            if self._stopped:
                raise ClosedError("the client has been closed")
            (self._loop or self._start()).call_soon_threadsafe(function)

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(
            target=self._serve, args=(loop,), name="memories-async", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, or has too many
            loop.close()
            raise
        self._loop, self._thread = loop, thread
        _RUNNING.add(self)
        return loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not by asyncio.Runner, which at the interpreter's exit would start a thread to join the
        # idle ones: too late for that.
        with closing(loop):
            try:
                _run(loop, self._stopping.wait())
            finally:
                self._stopped = True
                _run(loop, self._end())
        _RUNNING.discard(self)

    async def _end(self) -> None:
        await asyncio.sleep(0)  # what was submitted before has begun after this
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls, timeout=CANCEL_TIMEOUT)
        try:
            await self._aclose()
        except RuntimeError:
            # At the interpreter's exit thread pools are closed before anybody is told of it. What
            # was to be closed in one is left as a killed process would leave it.
            if not self.silent:
                raise
        finally:
            await asyncio.get_running_loop().shutdown_asyncgens()

    def stop(self) -> None:
        """Take no more calls, cancel those under way, and let the thread end. May be repeated."""
        if self.inherited:
            return
        with self._lock:
            if not self._stopped and self._loop is not None:
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._stopped = True

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, at most so long."""
        if self._thread is not None and not self.current:
            self._thread.join(seconds)


def _run(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, object]) -> None:
    """Run a loop until a coroutine ends, whatever else ends on it meanwhile.

    A SystemExit or KeyboardInterrupt of a caller's own code (an observer, a hook, a file object)
    ends the task that runs it, and asyncio then lets it end the loop, too. But the task holds it
    for the one who waits, and the loop is not that one's alone.
    """
    task = loop.create_task(coroutine)
    while not task.done():
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_until_complete(task)
    task.result()


_RUNNING: set[LoopThread] = set()


@atexit.register
def _stop_at_exit() -> None:
    """End every loop while the interpreter is still whole; daemon threads' calls end untold."""
    running = [thread for thread in list(_RUNNING) if not thread.inherited]
    for thread in running:
        thread.silent = True
        thread.stop()
    until = time.monotonic() + EXIT_TIMEOUT
    for thread in running:
        thread.join(max(until - time.monotonic(), 0.0))
