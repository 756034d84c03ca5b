"""One job of several, such as the shards of ten machines; refused where it would bill twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import attrs

from memories_async import sqlite
from memories_async.bulk.journal import job_table, merging
from memories_async.bulk.journal.database import Journal
from memories_async.bulk.journal.lock import JobLock
from memories_async.bulk.journal.rows import JobHeader
from memories_async.errors import ConfigurationError, JournalError

PAGE = 500


async def merge(
    paths: Sequence[str | os.PathLike[str]], into: str | os.PathLike[str]
) -> tuple[Journal, JobHeader]:
    """Write a journal with the items of others, which are marked so that nobody runs them again.

    All of them are held while it is written. They are marked before the new file comes to its
    place: cut short in between, the same merge can be repeated, and nothing else can be run.

    Raises:
        ConfigurationError: The jobs do not belong together, one is named twice, or the file exists.
        JobBusy: One of them is being run.
        JournalError: One was merged into another job, is not whole, or cannot be written.
    """
    if isinstance(paths, str | os.PathLike) or not paths:
        raise ConfigurationError("paths is a list of jobs' files")
    await asyncio.to_thread(_refuse_twice, paths)
    target = Journal(into)
    async with AsyncExitStack() as stack:
        sources = [await _held(stack, path, target.path) for path in paths]
        headers = [await source.execute(job_table.read_header) for source in sources]
        header = _common(headers, paths)
        await _refuse_copies(sources, headers)
        try:
            await target.create()
            await target.execute(job_table.write_header, header)
            requests = 0
            for source in sources:
                await _copy(source, target, requests)
                requests += await source.execute(merging.requests_of)
            await target.execute(merging.set_requests, requests)
            for source in sources:
                await source.write(job_table.set_merged, target.path)
            await target.complete()
        except BaseException:
            await target.abandon()
            raise
    return target, header


def _refuse_twice(paths: Sequence[str | os.PathLike[str]]) -> None:
    seen: set[tuple[int, int]] = set()
    for path in paths:
        name = sqlite.check_name(path)
        if os.path.exists(name):
            status = os.stat(name)
            if (status.st_dev, status.st_ino) in seen:
                raise ConfigurationError(f"{os.fspath(path)} is named twice")
            seen.add((status.st_dev, status.st_ino))


async def _refuse_copies(sources: Sequence[Journal], headers: Sequence[JobHeader]) -> None:
    """Refuse a job's file beside its copy: nothing tells which of their answers are one bill."""
    made: dict[tuple[object, object], str] = {}
    for source, header in zip(sources, headers, strict=True):
        # Shards that ten machines planned at one instant have no input in common.
        first = header.created_at, await source.execute(merging.first_input)
        other = made.setdefault(first, source.path)
        if other != source.path:
            raise ConfigurationError(
                f"{source.path} and {other} are copies of one job, and what is in both would count "
                "twice: merge the one that was run last, and export the other's results"
            )


async def _held(stack: AsyncExitStack, path: str | os.PathLike[str], into: str) -> Journal:
    """Open a job and keep everybody else from running it."""
    journal = Journal(path)
    stack.push_async_callback(journal.aclose)
    await journal.open()
    header = await journal.execute(job_table.read_header)
    if header.merged_into == into and await asyncio.to_thread(os.path.exists, into):
        raise JournalError(f"{journal.path} was merged into {into} already")
    held = await journal.lock(f"merging into {into}", merging_into=into)
    stack.push_async_callback(_release, journal, held)
    return journal


async def _release(journal: Journal, held: JobLock) -> None:
    await journal.unlock(held)


def _common(headers: Sequence[JobHeader], paths: Sequence[str | os.PathLike[str]]) -> JobHeader:
    """Return what holds for all of the jobs."""
    first = headers[0]
    for header, path in zip(headers, paths, strict=True):
        if (header.kind, header.options) != (first.kind, first.options):
            raise ConfigurationError(
                f"{os.fspath(path)} is a job for something else than {os.fspath(paths[0])}"
            )
    prices = {header.price for header in headers} - {None}
    if len(prices) > 1:
        raise ConfigurationError(
            f"the jobs have different prices, {', '.join(sorted(map(str, prices)))}: "
            "set the same price for all of them first"
        )
    sizes = [header.batch_size for header in headers if header.batch_size is not None]
    return attrs.evolve(
        first,
        price=next(iter(prices), None),
        created_at=datetime.now(UTC),
        batch_size=min(sizes, default=None),
        merged_into=None,
    )


async def _copy(source: Journal, target: Journal, requests: int) -> None:
    """Copy all items, and have duplicates point to where their originals are now."""
    numbers: dict[int, int] = {}
    duplicates: list[tuple[int, int]] = []
    place = 0
    while page := await source.execute(merging.page_of, place, PAGE):
        place = page[-1].id
        numbers |= dict(await target.execute(merging.take_over, page, requests))
        duplicates += [
            (item.id, item.values["duplicate_of"])
            for item in page
            if item.values["duplicate_of"] is not None
        ]
    renumbered = [
        (numbers[id], numbers[original]) for id, original in duplicates if original in numbers
    ]
    await target.execute(merging.point_to_originals, renumbered)
