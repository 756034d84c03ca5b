"""Worker threads for what blocks: none waits for one that hangs, nor does the interpreter's end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

import attrs

from memories_async.errors import ClosedError

T = TypeVar("T")

PATIENCE = 0.05
"""Seconds that one function may keep a thread while others wait for it, before it is replaced."""

MOST_REPLACED = 64
"""Threads that may hang at once; beyond, a call waits, and its deadline ends that."""


async def in_thread(function: Callable[..., T], *args: object) -> T:
    """Run what calls the caller's code in a thread of the loop's own.

    Args:
        function: It may raise StopIteration, as one that reads by ``next`` does.
        args: What it is called with.
    """
    return await asyncio.to_thread(_called, function, args)


class Threads:
    """Daemon threads that run functions in the order in which they come.

    A pool of the standard library joins its threads when the interpreter ends, and so waits for a
    read that never returns.

    Args:
        count: How many functions run at once, as long as none hangs.
        name: What the threads are called.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._jobs: SimpleQueue[_Job | _AwaitedJob | None] = SimpleQueue()
        self._results: dict[asyncio.AbstractEventLoop, list[_Result]] = {}
        self._lock = threading.Lock()
        self._threads: list[_Thread] = []
        self._unfinished = 0
        self._replaced = 0
        self._watched_until = 0.0
        self._closed = False

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run a function in one of the threads; called on an event loop.

        Raises:
            ClosedError: The threads were told to end.
        """
        future: Future[T] = Future()
        self._enqueue(_Job(function, future))
        return future

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function in one of the threads and wait for what it returns.

        Raises:
            ClosedError: The threads were told to end.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._enqueue(_AwaitedJob(function, loop, future, self._deliver))
        return await future

    def _enqueue(self, job: _Job | _AwaitedJob) -> None:
        with self._lock:
            if self._closed:
                raise ClosedError("the client was closed while the call was under way")
            self._jobs.put(job)
            self._unfinished += 1
            behind = self._unfinished > len(self._threads)
            if behind and len(self._threads) < self._count:
                self._start()
                behind = False
        if behind:
            self._watch()

    def _deliver(self, loop: asyncio.AbstractEventLoop, result: _Result) -> None:
        """Hand a result to its loop, which a thread wakes once for all that it finds there.

        A future of the standard library for each, with its lock and its own call to the loop,
        would cost a small picture a twentieth of its CPU.
        """
        with self._lock:
            waiting = self._results.get(loop)
            if waiting is not None:
                waiting.append(result)
                return
            self._results[loop] = [result]
        try:
            loop.call_soon_threadsafe(self._set_results, loop)
        except RuntimeError:  # it has ended, and nobody waits
            with self._lock:
                del self._results[loop]

    def _set_results(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            results = self._results.pop(loop)
        for future, value, error in results:
            if future.done():
                continue  # its caller was cancelled
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

    def close(self) -> None:
        """Let the threads end once they are idle."""
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)

    def _start(self) -> None:
        thread = _Thread()
        self._threads.append(thread)
        threading.Thread(target=self._work, args=(thread,), name=self._name, daemon=True).start()

    def _work(self, thread: _Thread) -> None:
        while (job := self._jobs.get()) is not None:
            thread.busy_since = time.monotonic()
            job.run()
            del job  # what a function holds is not held until the next one
            with self._lock:
                thread.busy_since = None
                if thread.replaced:
                    self._replaced -= 1
                    return
                self._unfinished -= 1

    def _watch(self) -> None:
        """Look in a moment whether what waits now still waits for threads that hang."""
        now = time.monotonic()
        if now >= self._watched_until:
            self._watched_until = now + PATIENCE
            asyncio.get_running_loop().call_later(PATIENCE, self._replace)

    def _replace(self) -> None:
        """Start a thread in the place of each that hangs while something waits."""
        patient = time.monotonic() - PATIENCE
        with self._lock:
            self._watched_until = 0.0
            if self._closed or self._unfinished <= len(self._threads):
                return
            for thread in list(self._threads):
                since = thread.busy_since
                if since is not None and since <= patient and self._replaced < MOST_REPLACED:
                    thread.replaced = True
                    self._threads.remove(thread)
                    self._replaced += 1
                    self._unfinished -= 1
                    self._start()
        self._watch()


@attrs.define(eq=False)
class _Thread:
    busy_since: float | None = None
    replaced: bool = False


_Result: TypeAlias = tuple["asyncio.Future[Any]", Any, BaseException | None]


@attrs.frozen(eq=False)
class _AwaitedJob:
    """A function that a task of a loop waits for."""

    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    deliver: Callable[[asyncio.AbstractEventLoop, _Result], None]

    def run(self) -> None:
        if self.future.done():
            return  # cancelled before its turn came
        try:
            result = self.function()
        except BaseException as error:
            self.deliver(self.loop, (self.future, None, _holdable(error)))
        else:
            self.deliver(self.loop, (self.future, result, None))


@attrs.frozen(eq=False)
class _Job:
    function: Callable[[], Any]
    future: Future[Any]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.function()
        except BaseException as error:
            self.future.set_exception(_holdable(error))
        else:
            self.future.set_result(result)


def _called(function: Callable[..., T], args: tuple[object, ...]) -> T:
    try:
        return function(*args)
    except StopIteration as error:
        raise _holdable(error) from error


def _holdable(error: BaseException) -> BaseException:
    """Return what a loop's future can hold: with a StopIteration it would never be done.

    An object of the caller's may read by ``next``. As of a generator, it is a RuntimeError then.
    """
    if not isinstance(error, StopIteration):
        return error
    ended = RuntimeError("StopIteration was raised")
    ended.__cause__ = error
    return ended
