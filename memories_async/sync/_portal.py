"""From the caller's thread to an event loop in a thread of its own, and back."""

from __future__ import annotations

import asyncio
import functools
import os
import time
import weakref
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

from memories_async.batches import left_behind, shown
from memories_async.checks.kinds import HOOK
from memories_async.errors import ClosedError, MemoriesError
from memories_async.media.source import MANY
from memories_async.sync._loop_thread import CANCEL_TIMEOUT, LoopThread

A = TypeVar("A")
P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class Closable(Protocol):
    """What is closed on its loop."""

    async def aclose(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=Closable)

LISTENING = 0.2
"""Seconds until a waiting thread looks up: a signal that comes just before the wait begins does not
end it, and on Windows none does."""


class Portal:
    """A client's way to its own event loop.

    The loop's thread starts with the first call and ends with ``close``, with the last reference
    to the portal, or with the interpreter. A forked child starts one of its own.

    Args:
        aclose: Closes the asyncio client; awaited on the loop when it ends.
    """

    def __init__(self, aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._aclose = aclose
        self._closed = False
        # By process: a forked child has its parent's memory, but not its threads.
        self._threads: dict[int, LoopThread] = {}
        weakref.finalize(self, _stop, self._threads).atexit = False

    def __reduce__(self) -> tuple[object, ...]:
        return Portal, (self._aclose,)

    @classmethod
    def opening(cls, begin: Callable[[Caller], Coroutine[Any, Any, C]]) -> tuple[C, Portal]:
        """Return what a coroutine makes, and the portal on whose loop it was made.

        Args:
            begin: Returns the coroutine; what that returns is closed with the portal.
        """
        opened: list[C] = []

        async def aclose() -> None:
            for closable in opened:
                await closable.aclose()

        portal = cls(aclose)
        try:
            opened.append(portal.run(begin))
        except BaseException:
            portal.close()
            raise
        return opened[0], portal

    @classmethod
    def once(cls, begin: Callable[[Caller], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on a loop that ends with it."""

        async def nothing() -> None:
            pass

        portal = cls(nothing)
        try:
            return portal.run(begin)
        finally:
            portal.close()

    def tell(self, function: Callable[[], object]) -> None:
        """Run a function on the loop, without waiting for it: from any thread or signal handler."""
        self._thread().submit(function)

    def run(
        self,
        begin: Callable[[Caller], Coroutine[Any, Any, T]],
        *,
        stop: Callable[[], object] | None = None,
    ) -> T:
        """Run a coroutine on the loop and wait for what it returns.

        Whatever interrupts the wait (Ctrl-C, another signal's exception, a hook that raises)
        cancels the coroutine and goes on once that has unwound. If the coroutine has ended all
        the same, a note says how: an answer may have been paid for.

        Args:
            begin: Returns the coroutine; called here, in the caller's thread.
            stop: Has the coroutine end early, by itself. The first interruption then calls it on
                the loop and waits, and only the second one cancels.
        """
        call = _PortalCall[T](self._thread())
        try:
            try:
                call.start(begin(call.caller))
                call.caller.wait()
            except BaseException as error:
                if stop is None or not call.started or not call.thread.reachable:
                    raise
                call.thread.submit(functools.partial(call.end_early, stop))
                # A hook that has raised would do so again.
                call.caller.wait(deaf=isinstance(error, Exception))
                raise
            return call.result()
        except BaseException as error:
            call.unwind(error)
            raise

    def iterate(self, begin: Callable[[Caller], AsyncIterator[T]]) -> Iterator[T]:
        """Yield what an async iterator yields, which runs on only while the next item is awaited.

        Args:
            begin: Returns the iterator; called in the thread that asks for the first item.
        """
        call = _PortalCall[None](self._thread())
        handed_over: deque[T] = deque()
        asked = asyncio.Event()
        interrupted = False

        async def advance(items: AsyncIterator[T]) -> None:
            # One task from the first item to the last: whatever the iterator holds open, and
            # the context it runs in, stay with it.
            try:
                async for item in items:
                    handed_over.append(item)
                    asked.clear()
                    call.caller.wake()
                    await asked.wait()
            except asyncio.CancelledError as cancelled:
                # Raised where the iterator stands, so that it says what it leaves behind: to one
                # that is only closed, nobody listens.
                if interrupted and (throw := getattr(items, "athrow", None)) is not None:
                    await throw(cancelled)
                raise
            finally:
                if (close := getattr(items, "aclose", None)) is not None:
                    await close()

        try:
            call.start(advance(begin(call.caller)))
            while True:
                call.caller.wait()
                if not handed_over:
                    break
                yield handed_over[0]
                handed_over.popleft()
                call.thread.submit(asked.set)
            call.result()
        except BaseException as error:
            interrupted = not isinstance(error, GeneratorExit)
            call.unwind(error)
            # What was yielded is the caller's; what was not is lost but for this. Only now: the
            # next one may have come while this thread was on its way here.
            for item in handed_over if interrupted else ():
                error.add_note(f"an item had come: {shown(item)}")
            raise

    def close(self) -> None:
        """Cancel what is under way, close the client and end the thread."""
        self._closed = True
        thread = self._of_this_process()
        thread.stop()
        thread.join(CANCEL_TIMEOUT)

    def reopen(self) -> bool:
        """Let calls be made again after ``close``, on a new loop; returns whether it was closed."""
        was_closed, self._closed = self._closed, False
        if was_closed:
            self._threads.pop(os.getpid(), None)
        return was_closed

    def shared(self) -> Portal:
        """Return a way to the same loop, whose closing ends nothing but itself."""
        return _SharedPortal(self)

    def _thread(self) -> LoopThread:
        if self._closed:
            raise ClosedError("the client has been closed")
        return self._of_this_process()

    def _of_this_process(self) -> LoopThread:
        process = os.getpid()
        # setdefault is atomic: threads that come here at once agree on one of theirs.
        return self._threads.get(process) or self._threads.setdefault(
            process, LoopThread(self._aclose)
        )


class _SharedPortal(Portal):
    """Another client's way to the loop of the one that it was made from."""

    def __init__(self, owner: Portal) -> None:
        self._owner = owner
        self._closed = False

    def __reduce__(self) -> tuple[object, ...]:
        return _SharedPortal, (self._owner,)

    def close(self) -> None:
        self._closed = True

    def reopen(self) -> bool:
        was_closed, self._closed = self._closed, False
        return was_closed

    def _thread(self) -> LoopThread:
        if self._closed:
            raise ClosedError("the client has been closed")
        return self._owner._thread()


class Caller:
    """The thread that waits for a call, as the loop sees it: what shall run there is mailed."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self._mail: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

    def hook(self, hook: Callable[[A], object] | None) -> Callable[[A], object] | None:
        """Return what the loop may call in the hook's place; the hook runs in this thread.

        The loop does not wait for it; the call returns after all of them have run.
        """
        if hook is None or not HOOK.fits(hook) or HOOK.problem("hook", hook):
            return hook  # none, or one that the call will refuse by its name
        return lambda value: self._mail.put(functools.partial(hook, value))

    def items(self, items: Iterable[S] | AsyncIterable[S]) -> AsyncIterable[S]:
        """Return the items for the loop; a plain iterable is advanced in this thread."""
        if isinstance(items, AsyncIterable) or not MANY.fits(items):
            return cast("AsyncIterable[S]", items)  # what is none the call will refuse by its name
        return _Items(iter(items), self)

    def lazy(self, inputs: S) -> S:
        """Return inputs for the loop; what is no sequence or mapping is advanced in this thread."""
        given = cast("object", inputs)
        taken_whole = isinstance(given, str | bytes | os.PathLike | Mapping | Sequence)
        if taken_whole or not isinstance(given, Iterable):
            return inputs
        return cast("S", _Items(iter(cast("Iterable[object]", given)), self))

    def awaited(self, function: Callable[P, T] | S) -> Callable[P, Coroutine[Any, Any, T]] | S:
        """Return what the loop may await in a function's place; the function runs in this thread.

        What is no function is returned as it is.
        """
        if not callable(function):
            return function
        called = cast("Callable[..., T]", function)

        async def ask(*args: P.args, **kwargs: P.kwargs) -> T:
            found: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self.ask(lambda: self.answer(found, called(*args, **kwargs)))
            return await found

        return ask

    def ask(self, function: Callable[[], object]) -> None:
        """Have a function run in the waiting thread; what it raises ends the call."""
        self._mail.put(function)

    def answer(self, future: asyncio.Future[T], value: T) -> None:
        """Set a future of the loop from the waiting thread."""
        self._thread.submit(lambda: None if future.done() else future.set_result(value))

    def wake(self) -> None:
        """Have the waiting thread see what has become of its call."""
        self._mail.put(None)

    def wait(self, *, deaf: bool = False) -> None:
        """Run what arrives, until woken; deaf, run nothing."""
        while True:
            self._thread.check_process()
            try:
                function = self._mail.get(timeout=LISTENING)
            except Empty:
                continue
            if function is None:
                return
            if not deaf:
                function()

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until woken by what was waited for, at most so long; run nothing any more."""
        until = time.monotonic() + seconds
        while not condition() and (left := until - time.monotonic()) > 0:
            with suppress(Empty):
                self._mail.get(timeout=min(left, LISTENING))


class _Items(AsyncIterator[S]):
    """A plain iterator on the loop: asked for its items one by one, in the caller's thread.

    There it may block, or use what belongs to that thread, such as a database connection.
    """

    def __init__(self, iterator: Iterator[S], caller: Caller) -> None:
        self._iterator = iterator
        self._caller = caller

    async def __anext__(self) -> S:
        found: asyncio.Future[tuple[S] | None] = asyncio.get_running_loop().create_future()
        self._caller.ask(lambda: self._caller.answer(found, self._next()))
        item = await found
        if item is None:
            raise StopAsyncIteration
        return item[0]

    def _next(self) -> tuple[S] | None:
        for item in self._iterator:
            return (item,)
        return None


class _PortalCall(Generic[T]):
    """One coroutine on the loop, and the thread that waits for it."""

    def __init__(self, thread: LoopThread) -> None:
        self.thread = thread
        self.caller = Caller(thread)
        self._coroutine: Coroutine[Any, Any, T] | None = None
        self._task: asyncio.Task[T] | None = None
        self._over = False
        self._delivered = False

    def start(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """Begin on the loop, in the caller's context.

        Raises:
            ClosedError: The client is being closed.
            RuntimeError: This is the loop's own thread.
        """
        self._coroutine = coroutine
        try:
            self.thread.check_not_current()
            self.thread.submit(self._begin)
        except (ClosedError, RuntimeError):
            self._coroutine = None
            coroutine.close()
            raise

    def _begin(self) -> None:
        assert self._coroutine is not None
        self._task = asyncio.get_running_loop().create_task(self._coroutine)
        self._task.add_done_callback(self._ended)
        # A loop keeps tasks by weak references only: one that is garbage together with whoever
        # waits for it would be forgotten, and the wait for its end would be in vain.
        self.thread.calls.add(self._task)

    def _ended(self, task: asyncio.Task[T]) -> None:
        self.thread.calls.discard(task)
        if not task.cancelled():
            task.exception()  # seen, although a caller that was interrupted will not look
        self._over = True
        if not self.thread.silent:
            self.caller.wake()

    def unwind(self, error: BaseException) -> None:
        """Cancel the call and wait until it has unwound, but not for ever.

        Args:
            error: What the caller will see; told what the call left behind.
        """
        if self._coroutine is None or not self.thread.reachable or self._delivered:
            return
        if not self._over:
            with suppress(ClosedError):  # then the loop is ending, and cancels the call by itself
                self.thread.submit(self._cancel)
            if not self.thread.current:
                try:
                    self.caller.wait_until(lambda: self._over, CANCEL_TIMEOUT)
                except BaseException as second:
                    second.add_note(NOT_WAITED_FOR)
                    raise
        for note in self._left_behind():
            error.add_note(note)

    def _left_behind(self) -> list[str]:
        """Return what the call says of itself although nobody takes its answer."""
        if self._task is None:
            return []
        if not self._task.done():
            return [] if self.thread.current else [NOT_WAITED_FOR]
        return left_behind(self._task)

    @property
    def started(self) -> bool:
        """Whether there is something to end: it may not have begun on the loop yet."""
        return self._coroutine is not None

    def end_early(self, stop: Callable[[], object]) -> None:
        """Have it end by itself, on the loop; what was interrupted before it began ends now."""
        if self._task is None:
            self._cancel()
        else:
            stop()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif self._coroutine is not None:  # interrupted before it could begin
            self._coroutine.close()
            self._over = True
            self.caller.wake()

    def result(self) -> T:
        """Return or raise what became of the call."""
        task = self._task
        assert task is not None
        if not task.cancelled() and task.exception() is None:
            return task.result()
        # Not kept: the exception's traceback will hold this frame, and so this object.
        self._task, self._delivered = None, True
        if task.cancelled() and task.cancelling():
            closed = ClosedError("the client was closed while the call was under way")
            for note in left_behind(task):
                closed.add_note(note)
            raise closed
        error = _raised_by(task)
        try:
            # The frames on the loop's side are ours; of an error that is none of ours, they
            # are all there is to go by.
            raise error.with_traceback(None) if isinstance(error, MemoriesError) else error
        finally:
            del error, task


def _raised_by(task: asyncio.Task[Any]) -> BaseException:
    """Return what a task has ended with; a cancellation is the caller's own code's."""
    try:
        error = task.exception()
    except asyncio.CancelledError as cancelled:
        return cancelled
    assert error is not None
    return error


NOT_WAITED_FOR = "the call was not waited for: it may have been billed"


def asyncio_client(client: Any) -> Any:
    """Return the asyncio object behind a blocking one, for calls on another loop."""
    return getattr(client, "_asyncio", client)


def _stop(threads: Mapping[int, LoopThread]) -> None:
    """Stop without waiting: the garbage collector may have come from anywhere."""
    for thread in threads.values():
        thread.stop()
