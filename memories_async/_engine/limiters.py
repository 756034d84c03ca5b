"""Where the counts of calls are kept: in this process, in a file, or in Redis."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs
from pyrate_limiter import InMemoryBucket, RateItem, RedisBucket, SQLiteBucket, SQLiteQueries
from pyrate_limiter import Rate as PyrateRate

from memories_async._engine.clock import Clock
from memories_async.config import Rate
from memories_async.errors import LimiterUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")


@attrs.frozen
class Turn:
    """A call's turn, or how long to wait for one.

    Attributes:
        wait: 0 if the call was counted and may go; otherwise seconds until it is worth asking
            again.
        stamp: When it was counted, in milliseconds of the store's clock.
    """

    wait: float = 0.0
    stamp: int = 0


class Limiter(Protocol):
    """Counts calls per lane within the sliding window of a rate."""

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count one call now if the rate allows it.

        Args:
            lane: The account and bucket; it holds a digest of the key, never the key.
            rate: What the lane allows.
            clock: The time to go by.

        Raises:
            LimiterUnavailable: The counts cannot be reached.
        """
        ...

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take the count of a call back that was never made.

        Raises:
            LimiterUnavailable: The counts cannot be reached.
        """
        ...


class MemoryLimiter:
    """Counts for the clients of one process that share this object."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, Rate], InMemoryBucket] = {}

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count in memory."""
        bucket = self._buckets.get((lane, rate))
        if bucket is None:
            bucket = self._buckets[lane, rate] = InMemoryBucket([_pyrate(rate)])
        item = RateItem(lane, round(clock.monotonic() * 1000))
        bucket.leak(item.timestamp)
        return _turn(bucket.put(item), bucket.waiting(item), item)

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take back from memory."""
        items = self._buckets[lane, rate].items
        for position, item in enumerate(items):
            if item.timestamp == turn.stamp:
                del items[position]
                return


class SqliteLimiter:
    """Counts in an SQLite file for the processes of one host.

    Nothing is kept open between two counts: the object may be used from any event loop or thread
    and carried through a fork, and needs no closing.

    Args:
        path: The file; it is made if it does not exist. Not on a network file system.
        patience: Seconds to wait for other processes before the file counts as lost (default 5).
    """

    def __init__(self, path: str | os.PathLike[str], *, patience: float = 5.0) -> None:
        self._path = os.fspath(path)
        self._patience = patience

    def __repr__(self) -> str:
        return f"SqliteLimiter({self._path!r})"

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count in the file, in a worker thread."""

        def count(bucket: SQLiteBucket) -> Turn:
            # Asked only now that the file is ours: nobody can have counted a later call.
            item = RateItem(lane, round(clock.wall() * 1000))
            bucket.leak(item.timestamp)
            return _turn(bucket.put(item), bucket.waiting(item), item)

        return await self._run(lane, rate, count)

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take back from the file, in a worker thread."""

        def discount(bucket: SQLiteBucket) -> None:
            bucket.conn.execute(
                f'DELETE FROM "{bucket.table}" WHERE rowid IN '  # noqa: S608  # our own name
                f'(SELECT rowid FROM "{bucket.table}" WHERE item_timestamp = ? LIMIT 1)',
                (turn.stamp,),
            )

        await self._run(lane, rate, discount)

    async def _run(self, lane: str, rate: Rate, work: Callable[[SQLiteBucket], T]) -> T:
        def work_in_a_transaction() -> T:
            with self._transaction(f"{lane} {rate.calls}/{rate.seconds:g}s") as (connection, table):
                return work(SQLiteBucket([_pyrate(rate)], connection, table))

        try:
            return await asyncio.to_thread(work_in_a_transaction)
        except sqlite3.Error as error:
            raise LimiterUnavailable(f"the limiter's file {self._path}: {error}") from None

    @contextlib.contextmanager
    def _transaction(self, table: str) -> Iterator[tuple[sqlite3.Connection, str]]:
        """Hold the file's write lock, which SQLite shares out among threads and processes."""
        connection = sqlite3.connect(self._path, timeout=self._patience, factory=_OneTransaction)
        with contextlib.closing(connection):
            # What a power cut may lose are the calls of the last period.
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(SQLiteQueries.CREATE_BUCKET_TABLE.format(table=table))
            yield connection, table
            sqlite3.Connection.commit(connection)


class _OneTransaction(sqlite3.Connection):
    """A connection on which pyrate-limiter's commits wait for ours: check and count are one."""

    def commit(self) -> None:
        """Leave it to the end."""


class RedisLimiter:
    """Counts in Redis or Valkey, for many hosts; their clocks should agree (NTP).

    Each count has a connection of its own: a lane counts a few times a second at most, and so the
    object may be used from any event loop, carried through a fork, and needs no closing.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with user, password and database.
        prefix: What the keys in Redis begin with.
        patience: Seconds after which the server counts as lost (default 2).

    Raises:
        ImportError: The extra ``[redis]`` is not installed.
    """

    def __init__(
        self, url: str, *, prefix: str = "memories-async", patience: float = 2.0
    ) -> None:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._prefix = prefix
        self._patience = patience
        self._connect: Callable[[], Redis] = functools.partial(
            Redis.from_url, url, single_connection_client=True, retry=Retry(NoBackoff(), 0)
        )

    def __repr__(self) -> str:
        return f"RedisLimiter(prefix={self._prefix!r})"  # the address may hold a password

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count in Redis."""
        async with self._bucket(lane, rate) as (redis, key):
            bucket = await RedisBucket.init([_pyrate(rate)], redis, key)
            item = RateItem(lane, round(clock.wall() * 1000))
            turn = _turn(await bucket.put(item), await bucket.waiting(item), item)
            await bucket.leak(item.timestamp)
            await redis.pexpire(key, _milliseconds(rate) + 1)
            return turn

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take back from Redis."""
        async with self._bucket(lane, rate) as (redis, key):
            counted = await redis.zrange(key, turn.stamp, turn.stamp, byscore=True, offset=0, num=1)
            if counted:
                await redis.zrem(key, *counted)

    @contextlib.asynccontextmanager
    async def _bucket(self, lane: str, rate: Rate) -> AsyncIterator[tuple[Redis, str]]:
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(self._patience), self._connect() as redis:
                yield redis, f"{self._prefix}:{lane}:{rate.calls}/{rate.seconds:g}s"
        except (RedisError, OSError) as error:
            name = type(error).__name__
            raise LimiterUnavailable(f"the limiter's Redis: {name}: {error}") from None


def _turn(taken: object, waiting: object, item: RateItem) -> Turn:
    """Read what a bucket said."""
    if taken:
        return Turn(0.0, item.timestamp)
    assert isinstance(waiting, int)
    return Turn(max(waiting, 1) / 1000)


def _pyrate(rate: Rate) -> PyrateRate:
    """Say a rate in pyrate-limiter's terms."""
    return PyrateRate(rate.calls, _milliseconds(rate))


def _milliseconds(rate: Rate) -> int:
    return max(round(rate.seconds * 1000), 1)


SHARED = MemoryLimiter()
"""What clients of one process use together unless told otherwise: limits are per account."""
