"""Group commit: what many tasks ask for at once is done in one transaction, or in one call."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

Request = TypeVar("Request")
Result = TypeVar("Result")

GroupHandler: TypeAlias = Callable[[Sequence[Request]], Awaitable[Sequence[Result | Exception]]]

Change: TypeAlias = Callable[[sqlite3.Connection], Result]
"""A change of a database, within a transaction."""


class GroupCommit(Generic[Request, Result]):
    """Handles one group at a time; what is submitted meanwhile is the next group.

    Args:
        handle_group: Handles a group in its order: each with its value, or with its own error. What
            it raises is everybody's result.
    """

    def __init__(self, handle_group: GroupHandler[Request, Result]) -> None:
        self._handle_group = handle_group
        self._waiting: list[tuple[Request, asyncio.Future[Result]]] = []
        self._handling: asyncio.Task[None] | None = None

    async def submit(self, request: Request) -> Result:
        """Wait for the result; who is cancelled meanwhile has submitted all the same."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((request, future))
        if self._handling is None or self._handling.done():
            self._handling = loop.create_task(self._handle_groups())
        return await future

    async def settled(self) -> None:
        """Wait until all that was submitted has been handled."""
        while self._handling is not None and not self._handling.done():
            await asyncio.wait([self._handling])

    async def _handle_groups(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            results: Sequence[Result | Exception]
            try:
                results = await self._handle_group([request for request, _ in group])
            except Exception as error:  # whatever it is: nobody may wait for ever
                results = [error] * len(group)
            for (_, future), result in zip(group, results, strict=True):
                if future.cancelled():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)


def change_each(
    db: sqlite3.Connection, changes: Sequence[Change[Result]]
) -> list[Result | Exception]:
    """Make changes within a transaction; what one of them raises undoes that one alone."""
    return [_change(db, change) for change in changes]


def _change(db: sqlite3.Connection, change: Change[Result]) -> Result | Exception:
    db.execute("SAVEPOINT change")
    result: Result | Exception
    try:
        result = change(db)
    except Exception as error:
        if not db.in_transaction:
            raise  # SQLite has given the whole transaction up: the disk is full
        db.execute("ROLLBACK TO change")
        result = error
    db.execute("RELEASE change")
    return result
