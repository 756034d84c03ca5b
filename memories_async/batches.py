"""Many calls at once, one Outcome per item, never more in flight or in memory than asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from memories_async.errors import (
    ConfigurationError,
    DecodeError,
    MemoriesError,
    OutcomeUnknown,
)
from memories_async.models import Failed, Outcome, Succeeded
from memories_async.parameters import unchecked

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
            return unchecked(Succeeded, index, item, await call(item))
        except Exception as error:
            return unchecked(Failed, index, item, error=error)

    iterator = _iterate(items)
    running: list[asyncio.Task[Outcome[T]]] = []  # in the order of the items
    fetching: asyncio.Task[tuple[S] | None] | None = None
    exhausted = False
    taken = 0
    try:
        while True:
            if fetching is None and not exhausted and len(running) < concurrency:
                # A task of its own: results go on being yielded while a slow source thinks.
                fetching = asyncio.create_task(_fetch(iterator))
            ready = next((task for task in running[: 1 if ordered else None] if task.done()), None)
            if ready is not None and (fetching is None or not fetching.done()):
                running.remove(ready)
                yield ready.result()
                continue
            if fetching is not None and fetching.done():
                fetched, fetching = fetching.result(), None
                if fetched is None:
                    exhausted = True
                else:
                    call_of_item = outcome(taken, fetched[0])
                    running.append(asyncio.create_task(call_of_item, name=f"item {taken}"))
                    taken += 1
                continue
            if fetching is None and not running:
                return
            watched = [*running[: 1 if ordered else None], *([fetching] if fetching else [])]
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    except BaseException as error:
        await _cancelled([*running, *([fetching] if fetching else [])])
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
    finally:
        if (close := getattr(iterator, "aclose", None)) is not None:
            await close()


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


async def _fetch(iterator: AsyncIterator[S]) -> tuple[S] | None:
    async for item in iterator:
        return (item,)
    return None


async def _iterate(items: Iterable[S] | AsyncIterable[S]) -> AsyncIterator[S]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
