"""Many calls at once, one Outcome per item, never more in flight or in memory than asked for."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from typing import Any, Generic, TypeVar, cast

from memories_async.checks import unchecked
from memories_async.errors import (
    ConfigurationError,
    DecodeError,
    MemoriesError,
    OutcomeUnknown,
)
from memories_async.models import Failed, Outcome, Succeeded

logger = logging.getLogger(__name__)

LONGEST_ANSWER = 10_000
"""Characters of an answer that comes too late to be returned, in the note that says so."""
MOST_NOTES = 100
"""Notes about the items of one batch."""

S = TypeVar("S")
T = TypeVar("T")


async def run(
    items: Iterable[S] | AsyncIterable[S],
    call: Callable[[S], Awaitable[T]],
    *,
    concurrency: int,
    ordered: bool,
) -> AsyncIterator[Outcome[T]]:
    """Call for every item and yield what became of each.

    Items are taken only as places become free. Ending the iteration early cancels what is in
    flight and waits until it has unwound.

    Args:
        items: What to call for; taken lazily, once.
        call: The call.
        concurrency: How many items may be in flight, or finished and not yet yielded.
        ordered: Yield in the order of the items instead of as they finish.

    Raises:
        ConfigurationError: ``concurrency`` is below 1.
    """
    if concurrency < 1:
        raise ConfigurationError(f"concurrency must be at least 1, not {concurrency}")

    async def outcome(index: int, item: S) -> Outcome[T]:
        try:
            make = cast("type[Succeeded[T]]", Succeeded)
            return unchecked(make, index, item, await call(item))
        except Exception as error:
            return unchecked(Failed, index, item, error=error)

    source = _Source(items)
    running: dict[asyncio.Task[Outcome[T]], None] = {}  # in the order of the items
    finished: deque[asyncio.Task[Outcome[T]]] = deque()  # in the order in which they end
    changed = asyncio.Event()

    def ended(task: asyncio.Task[Outcome[T]]) -> None:
        if not ordered:
            finished.append(task)
        changed.set()

    taken = 0
    try:
        while True:
            if ordered:
                ready = next((task for task in itertools.islice(running, 1) if task.done()), None)
            else:
                ready = finished.popleft() if finished else None
            if ready is not None:
                del running[ready]
                yield ready.result()
                continue
            if len(running) < concurrency and (item := source.take(changed.set)) is not None:
                task = asyncio.create_task(outcome(taken, item[0]), name=f"item {taken}")
                task.add_done_callback(ended)
                running[task] = None
                taken += 1
                if len(running) < concurrency:
                    await asyncio.sleep(0)  # a slow source holds up no call that has been taken
                continue
            if source.exhausted and not running:
                return
            changed.clear()
            await changed.wait()
    except BaseException as error:
        await _cancelled([*running, *source.fetching])
        # Whatever of these was paid for, nobody will be given it any more.
        notes = [f"{task.get_name()}: {note}" for task in running for note in left_behind(task)]
        if len(notes) > MOST_NOTES:
            notes[MOST_NOTES:] = [f"and {len(notes) - MOST_NOTES} more"]
        if isinstance(error, GeneratorExit):  # nobody sees that one
            for note in notes:
                logger.warning("A batch was ended early; %s", note)
        else:
            for note in notes:
                error.add_note(note)
        raise


def left_behind(task: asyncio.Task[Any]) -> list[str]:
    """Say what became of a call whose answer nobody will be given, as it may have been paid for.

    Args:
        task: The call, ended or cancelled. What a batch answered is its outcome.
    """
    if task.cancelled():
        try:
            task.exception()
        except asyncio.CancelledError as cancelled:
            return list(getattr(cancelled, "__notes__", ()))
    error: BaseException | None = task.exception()
    value: object = None
    if error is None:
        value = task.result()
        if isinstance(value, Succeeded):
            value = cast("Succeeded[object]", value).value
        elif isinstance(value, Failed):
            error, value = value.error, None
    if isinstance(error, MemoriesError) and not isinstance(error, OutcomeUnknown | DecodeError):
        return []  # surely nothing was paid
    if error is not None:
        failed = f"the call had failed meanwhile: {type(error).__name__}: {error}"
        return [failed, *getattr(error, "__notes__", ())]
    return [] if value is None else [f"the call had succeeded: {shown(value)}"]


def shown(value: object) -> str:
    """Return what an answer looks like, whole unless it is enormous."""
    text = repr(value)
    return text if len(text) <= LONGEST_ANSWER else f"{text[:LONGEST_ANSWER]}…"


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have unwound."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Source(Generic[S]):
    """Items, taken one by one as there is room for them.

    Args:
        items: A plain iterable is asked at once. What is awaited is awaited in a task of its own,
            and results go on being yielded while it thinks.
    """

    def __init__(self, items: Iterable[S] | AsyncIterable[S]) -> None:
        self._items = items
        self._iterator: Iterator[S] | None = None
        self._async_iterator: AsyncIterator[S] | None = None
        self._fetching: asyncio.Task[tuple[S] | None] | None = None
        self.exhausted = False

    @property
    def fetching(self) -> list[asyncio.Task[tuple[S] | None]]:
        """The task that awaits the next item, if one does."""
        return [] if self._fetching is None else [self._fetching]

    def take(self, tell: Callable[[], object]) -> tuple[S] | None:
        """Return the next item; None if there is none, or none yet.

        Args:
            tell: Called when one that had to be awaited has come.
        """
        if self.exhausted:
            return None
        if isinstance(self._items, AsyncIterable):
            return self._awaited(self._items, tell)
        return self._at_hand(self._items)

    def _at_hand(self, items: Iterable[S]) -> tuple[S] | None:
        if self._iterator is None:
            self._iterator = iter(items)
        for item in self._iterator:
            return (item,)
        self.exhausted = True
        return None

    def _awaited(self, items: AsyncIterable[S], tell: Callable[[], object]) -> tuple[S] | None:
        if self._fetching is None:
            if self._async_iterator is None:
                self._async_iterator = aiter(items)
            self._fetching = asyncio.create_task(_next(self._async_iterator))
            self._fetching.add_done_callback(lambda _: tell())
        if not self._fetching.done():
            return None
        fetched, self._fetching = self._fetching.result(), None
        self.exhausted = fetched is None
        return fetched


async def _next(iterator: AsyncIterator[S]) -> tuple[S] | None:
    async for item in iterator:
        return (item,)
    return None
