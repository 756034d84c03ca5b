"""Where the counts of calls are kept: in this process, in a file, or in Redis."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import sqlite3
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import attrs
from pyrate_limiter import InMemoryBucket, RateItem, SQLiteBucket, SQLiteQueries
from pyrate_limiter import Rate as PyrateRate

from memories_async.clock import Clock
from memories_async.config import Rate
from memories_async.errors import LimiterUnavailable

if TYPE_CHECKING:
    from redis import Redis

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
        return _turn(bucket, item)

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take back from memory."""
        items = self._buckets[lane, rate].items
        for position, item in enumerate(items):
            if item.timestamp == turn.stamp:
                del items[position]
                return

    def forget(self) -> None:
        """Count anew."""
        self._buckets = {}


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
            # Asked only when the file is ours, so nobody can have counted a later call; what is
            # later nevertheless was counted before the clock was set back.
            item = RateItem(lane, round(clock.wall() * 1000))
            bucket.conn.execute(
                f'DELETE FROM "{bucket.table}" WHERE item_timestamp > ?',  # noqa: S608  # our name
                (item.timestamp + _milliseconds(rate),),
            )
            bucket.leak(item.timestamp)
            return _turn(bucket, item)

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
            with self._transaction(_name(lane, rate)) as (connection, table):
                return work(SQLiteBucket([_pyrate(rate)], connection, table))

        try:
            return await asyncio.to_thread(work_in_a_transaction)
        except sqlite3.Error as error:
            raise LimiterUnavailable(f"the limiter's file {self._path}: {error}") from None

    @contextlib.contextmanager
    def _transaction(self, table: str) -> Generator[tuple[sqlite3.Connection, str], None, None]:
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
    """Counts in Redis or Valkey, for many hosts whose clocks agree to within a rate's period.

    Each count has a connection of its own, as a lane counts a few times a second at most: the
    object may be used from any event loop or thread and carried through a fork, and needs no
    closing.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with user, password and database.
        prefix: What the keys in Redis begin with.
        patience: Seconds after which the server counts as lost (default 2).

    Raises:
        ImportError: The extra ``[redis]`` is not installed.
    """

    def __init__(self, url: str, *, prefix: str = "memories-async", patience: float = 2.0) -> None:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._prefix = prefix
        self._patience = patience
        self._connect: Callable[[], Redis] = functools.partial(
            Redis.from_url,  # pyright: ignore[reportUnknownMemberType]  # not annotated
            url,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=Retry(NoBackoff(), 0),
        )

    def __repr__(self) -> str:
        return f"RedisLimiter(prefix={self._prefix!r})"  # the address may hold a password

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count in Redis, from a worker thread."""

        def count(redis: Redis, key: str) -> Turn:
            now, member = round(clock.wall() * 1000), secrets.token_hex(8)
            reply = redis.eval(  # pyright: ignore[reportUnknownMemberType]  # not annotated
                _COUNT, 1, key, now, _milliseconds(rate), rate.calls, member
            )
            wait, stamp = cast("tuple[int, int]", reply)
            return Turn(wait / 1000, stamp)

        return await self._run(lane, rate, count)

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take back from Redis, from a worker thread."""

        def discount(redis: Redis, key: str) -> None:
            counted = redis.zrangebyscore(  # pyright: ignore[reportUnknownMemberType]  # not annotated
                key, turn.stamp, turn.stamp, start=0, num=1
            )
            if counted:
                redis.zrem(key, cast("bytes", counted[0]))

        await self._run(lane, rate, discount)

    async def _run(self, lane: str, rate: Rate, work: Callable[[Redis, str], T]) -> T:
        from redis.exceptions import RedisError

        def connect_and_work() -> T:
            with self._connect() as redis:
                return work(redis, f"{self._prefix}:{_name(lane, rate)}")

        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.to_thread(connect_and_work)
        except (RedisError, OSError) as error:
            reason = str(error) or f"no answer within {self._patience:g} s"
            raise LimiterUnavailable(f"the limiter's Redis: {reason}") from None


# pyrate-limiter's own script leaves out what is stamped later than the caller's clock says, and so
# lets two hosts through together whose clocks, or whose packets, are a millisecond apart.
_COUNT = """
local key, period, limit = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', key, '(' .. (ARGV[1] + period), '+inf')
local newest = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
local now = math.max(tonumber(ARGV[1]), tonumber(newest or 0))
redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. (now - period))
if redis.call('ZCARD', key) < limit then
    redis.call('ZADD', key, now, ARGV[4])
    redis.call('PEXPIRE', key, 2 * period + 1)
    return {0, now}
end
local blocking = redis.call('ZRANGE', key, -limit, -limit, 'WITHSCORES')[2]
return {blocking + period + 1 - ARGV[1], 0}
"""


def _turn(bucket: InMemoryBucket | SQLiteBucket, item: RateItem) -> Turn:
    if bucket.put(item):
        return Turn(0.0, item.timestamp)
    return Turn(max(cast("int", bucket.waiting(item)), 1) / 1000)


def _name(lane: str, rate: Rate) -> str:
    return f"{lane}:{rate.calls}/{rate.seconds:g}s"


def _pyrate(rate: Rate) -> PyrateRate:
    """Say a rate in pyrate-limiter's terms."""
    return PyrateRate(rate.calls, _milliseconds(rate))


def _milliseconds(rate: Rate) -> int:
    return max(round(rate.seconds * 1000), 1)


SHARED = MemoryLimiter()
"""What clients of one process use together unless told otherwise: limits are per account."""

if hasattr(os, "register_at_fork"):
    # A forked child counts for itself; a bucket's lock may be held by a thread it does not have.
    os.register_at_fork(after_in_child=SHARED.forget)
