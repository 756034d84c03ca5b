"""Many calls at once, one Outcome per item, never more in flight or in memory than asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

from memories_async.errors import ConfigurationError
from memories_async.models import Failed, Outcome, Succeeded

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
            return Succeeded(index, item, await call(item))
        except Exception as error:
            return Failed(index, item, error=error)

    supply = _iterate(items)
    running: list[asyncio.Task[Outcome[T]]] = []  # in the order of the items
    fetching: asyncio.Task[tuple[S] | None] | None = None
    exhausted = False
    taken = 0
    try:
        while True:
            if fetching is None and not exhausted and len(running) < concurrency:
                # A task of its own: results go on being yielded while a slow source thinks.
                fetching = asyncio.create_task(_fetch(supply))
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
                    running.append(asyncio.create_task(outcome(taken, fetched[0])))
                    taken += 1
                continue
            if fetching is None and not running:
                return
            watched = [*running[: 1 if ordered else None], *([fetching] if fetching else [])]
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    finally:
        unfinished: list[asyncio.Task[Any]] = [*running, *([fetching] if fetching else [])]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        if (close := getattr(supply, "aclose", None)) is not None:
            await close()


async def _fetch(supply: AsyncIterator[S]) -> tuple[S] | None:
    async for item in supply:
        return (item,)
    return None


async def _iterate(items: Iterable[S] | AsyncIterable[S]) -> AsyncIterator[S]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
