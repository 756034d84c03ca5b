"""Group commit: what many tasks ask for at once is done in one transaction, or in one call."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

AnswerAll: TypeAlias = Callable[[Sequence[Asked]], Awaitable[Sequence[Answered | Exception]]]

Change: TypeAlias = Callable[[sqlite3.Connection], Answered]
"""A change of a database, within a transaction."""


class GroupCommit(Generic[Asked, Answered]):
    """Answers one group at a time; what is asked meanwhile is the next group.

    Args:
        answer_all: Answers a group in its order: each with its value, or with its own error. What
            it raises is everybody's answer.
    """

    def __init__(self, answer_all: AnswerAll[Asked, Answered]) -> None:
        self._answer_all = answer_all
        self._waiting: list[tuple[Asked, asyncio.Future[Answered]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def ask(self, asked: Asked) -> Answered:
        """Wait for the answer; who is cancelled meanwhile has asked all the same."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answered] = loop.create_future()
        self._waiting.append((asked, future))
        if self._answering is None or self._answering.done():
            self._answering = loop.create_task(self._answer_groups())
        return await future

    async def settled(self) -> None:
        """Wait until all that was asked has been answered."""
        while self._answering is not None and not self._answering.done():
            await asyncio.wait([self._answering])

    async def _answer_groups(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            answers: Sequence[Answered | Exception]
            try:
                answers = await self._answer_all([asked for asked, _ in group])
            except Exception as error:  # whatever it is: nobody may wait for ever
                answers = [error] * len(group)
            for (_, future), answer in zip(group, answers, strict=True):
                if future.cancelled():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)


def change_each(
    db: sqlite3.Connection, changes: Sequence[Change[Answered]]
) -> list[Answered | Exception]:
    """Make changes within a transaction; what one of them raises undoes that one alone."""
    return [_change(db, change) for change in changes]


def _change(db: sqlite3.Connection, change: Change[Answered]) -> Answered | Exception:
    db.execute("SAVEPOINT change")
    result: Answered | Exception
    try:
        result = change(db)
    except Exception as error:
        if not db.in_transaction:
            raise  # SQLite has given the whole transaction up: the disk is full
        db.execute("ROLLBACK TO change")
        result = error
    db.execute("RELEASE change")
    return result
