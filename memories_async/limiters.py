"""Where calls are counted: in this process, in a file, or in Redis; one rule over three stores.

The rule is the generic cell rate algorithm: a lane keeps one time, that of the next call if all
came evenly spaced, and a call may go once that time, less a tolerance, has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast, runtime_checkable

import attrs

from memories_async import sqlite
from memories_async.clock import Clock
from memories_async.config import Rate
from memories_async.errors import ConfigurationError, LimiterUnavailable

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")

_GUARD: Final = 0.015
"""By how much of a period calls are farther apart than the rate says, and so still within it by a
server's clock, which sees each of them a little early or late. It is what the rate loses."""
_LONGEST_GUARD: Final = 0.12
"""Seconds beyond which the guard does not grow with the period."""
_CATCH_UP: Final = 1 / 3
"""The part of the guard by which a call may be early if the one before it was late: sleeps end
late, and lateness that is never made up for would add up. The rest is the network's."""
_RETAKES: Final = 3
"""How often a permit that has grown stale on its way from a thread is taken anew."""


@attrs.frozen
class Turn:
    """A permit for one call now, or how long to wait for one.

    Attributes:
        wait: 0 if the call was counted and may go; otherwise seconds until it is worth asking
            again.
        stamp: What tells this permit from others of its lane: the time to which it moved the next
            one, in microseconds of the store's clock.
    """

    wait: float = 0.0
    stamp: int = 0


@runtime_checkable
class Limiter(Protocol):
    """Counts the calls of each lane, so that no period holds more than the rate allows."""

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count one call now if the rate allows it.

        A cancelled take counts nothing.

        Args:
            lane: The account and bucket; it holds a digest of the key, never the key.
            rate: What the lane allows.
            clock: The time to go by, for stores that have no clock of their own.

        Raises:
            LimiterUnavailable: The counts cannot be reached.
        """
        ...

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take the count of a call back that was never made.

        Only a lane's latest permit can still be of use to anybody; any other is left to run out.

        Raises:
            LimiterUnavailable: The counts cannot be reached.
        """
        ...


@runtime_checkable
class PausableLimiter(Limiter, Protocol):
    """A limiter through which a service's demand to pause reaches all who share it."""

    async def pause(self, lane: str, rate: Rate, seconds: float, clock: Clock) -> None:
        """Grant nothing for so many seconds.

        Raises:
            LimiterUnavailable: The counts cannot be reached.
        """
        ...


@attrs.frozen
class Spacing:
    """A rate as the rule needs it, in microseconds.

    A server that counts over any period sees at most the rate: of ``calls + 1`` calls the last is
    at least ``calls * interval - tolerance`` after the first, which is the period and what is left
    of the guard. Hence a burst costs spacing: the calls that may come together cannot also come
    evenly spaced within the same period.

    Attributes:
        interval: Between two calls.
        tolerance: How much before its time a call may come.
        freshness: How long after it was granted a permit may still be used.
    """

    interval: int
    tolerance: int
    freshness: int

    @classmethod
    def of(cls, rate: Rate) -> Spacing:
        """Return the spacing that keeps a rate."""
        period = rate.seconds * 1e6
        guard = min(period * _GUARD, _LONGEST_GUARD * 1e6)
        interval = math.ceil((period + guard) / (rate.calls - rate.burst + 1))
        catch_up = int(guard * _CATCH_UP)
        return cls(interval, (rate.burst - 1) * interval + catch_up, int(guard) - catch_up)


@attrs.frozen
class _Count:
    """What a store keeps of a lane, in microseconds of its clock.

    Attributes:
        due: When the next call would come if all came evenly spaced.
        seen: The latest time at which anybody asked.
    """

    due: int
    seen: int

    def at(self, now: int) -> _Count:
        """Go on to a time. One before the latest is the clock's fault: no time has passed then.

        A restarted machine's monotonic clock is such a case, too, and never counts too much: what
        it shows is less than the time since the last call.
        """
        return _Count(self.due - max(self.seen - now, 0), now)

    def take(self, spacing: Spacing) -> tuple[Turn, _Count]:
        """Return a permit, or how long to wait for it, and what to keep."""
        wait = self.due - spacing.tolerance - self.seen
        if wait > 0:
            return Turn(wait / 1e6), self
        due = max(self.due, self.seen) + spacing.interval
        return Turn(0.0, due), _Count(due, self.seen)

    def give_back(self, spacing: Spacing, turn: Turn) -> _Count:
        """Return what to keep if a permit was not used."""
        return _Count(self.due - spacing.interval * (self.due == turn.stamp), self.seen)

    def pause(self, spacing: Spacing, seconds: float) -> _Count:
        """Return what to keep if nothing may go for so long."""
        until = self.seen + math.ceil(seconds * 1e6) + spacing.tolerance
        return _Count(max(self.due, until), self.seen)


# One lock for all, so that one hook can hold it across a fork: a child must not inherit it locked
# by a thread that it does not have.
_MEMORY = threading.Lock()


class MemoryLimiter:
    """Counts for the clients of one process that share this object.

    A forked child goes on from its parent's counts, but from then on counts for itself.
    """

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count in memory."""
        with _MEMORY:
            turn, self._counts[lane] = self._at(lane, clock).take(Spacing.of(rate))
        return turn

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take back from memory."""
        with _MEMORY:
            if (count := self._counts.get(lane)) is not None:
                self._counts[lane] = count.give_back(Spacing.of(rate), turn)

    async def pause(self, lane: str, rate: Rate, seconds: float, clock: Clock) -> None:
        """Pause for all who share this object."""
        with _MEMORY:
            self._counts[lane] = self._at(lane, clock).pause(Spacing.of(rate), seconds)

    def _at(self, lane: str, clock: Clock) -> _Count:
        now = _microseconds(clock)
        return self._counts.get(lane, _Count(now, now)).at(now)


# An SQLite connection that is open across a fork would cost the child its locks on the file.
_SQLITE = threading.Lock()

_SCHEMA = sqlite.Schema(
    application_id=0x4D61694C,  # "MaiL"
    version=1,
    statements=(
        "CREATE TABLE lanes (name TEXT PRIMARY KEY, due INTEGER NOT NULL, seen INTEGER NOT NULL)"
        " WITHOUT ROWID",
    ),
)


class SqliteLimiter:
    """Counts in an SQLite file for the processes of one host.

    Time is the system's monotonic clock, which all processes of a host share and which nobody
    sets; it starts anew with the machine, after which a lane waits once for its next turn.
    Nothing is kept open between two counts: the object may be used from any event loop or thread
    and carried through a fork, and needs no closing.

    Args:
        path: The file; it is made if it does not exist. Not on a network file system.
        patience: Seconds to wait for other processes before the file counts as lost (default 5).

    Raises:
        ConfigurationError: The path is none, or the patience no positive number of seconds. Also
            from the first call, if the file is something else.
    """

    def __init__(self, path: str | os.PathLike[str], *, patience: float = 5.0) -> None:
        given = cast("object", path)
        name = os.fspath(path) if isinstance(given, str | os.PathLike) else None
        if not isinstance(name, str) or name in ("", ":memory:") or "\0" in name:
            raise ConfigurationError(
                f"SqliteLimiter: path is {given!r}; the name of a file that processes share is "
                "wanted (within one process use MemoryLimiter)"
            )
        self._path = name
        self._patience = _checked_patience("SqliteLimiter", patience)

    def __repr__(self) -> str:
        return f"SqliteLimiter({self._path!r})"

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count in the file, in a worker thread."""
        spacing = Spacing.of(rate)

        def count() -> Turn:
            return self._change(lane, clock, lambda count: count.take(spacing))

        def give_back(turn: Turn) -> None:
            self._give_back(lane, spacing, turn)

        return await _Take(count, give_back, clock, rate).run()

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take back from the file, in a worker thread."""
        await asyncio.to_thread(self._give_back, lane, Spacing.of(rate), turn)

    async def pause(self, lane: str, rate: Rate, seconds: float, clock: Clock) -> None:
        """Pause for all who share the file, in a worker thread."""
        spacing = Spacing.of(rate)

        def pause() -> None:
            self._change(lane, clock, lambda count: (None, count.pause(spacing, seconds)))

        await asyncio.to_thread(pause)

    def _give_back(self, lane: str, spacing: Spacing, turn: Turn) -> None:
        self._change(lane, None, lambda count: (None, count.give_back(spacing, turn)))

    def _change(
        self, lane: str, clock: Clock | None, step: Callable[[_Count], tuple[T, _Count]]
    ) -> T:
        """Read, decide and write while the file's write lock is ours."""
        try:
            with _SQLITE, contextlib.closing(self._connect()) as db:
                db.execute("BEGIN IMMEDIATE")
                query = "SELECT due, seen FROM lanes WHERE name = ?"
                row = db.execute(query, (lane,)).fetchone()
                # Only now: what was waited for the lock has passed.
                now = _microseconds(clock) if clock else row[1] if row else 0
                result, kept = step((_Count(*row) if row else _Count(now, now)).at(now))
                db.execute(
                    "INSERT INTO lanes VALUES (?, ?, ?) ON CONFLICT (name) "
                    "DO UPDATE SET due = excluded.due, seen = excluded.seen",
                    (lane, kept.due, kept.seen),
                )
                db.execute("COMMIT")
                return result
        except (sqlite3.Error, OSError) as error:
            raise LimiterUnavailable(f"the limiter's file {self._path}: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        # What a power cut may lose are the calls of the last period.
        return sqlite.connect(
            self._path,
            _SCHEMA,
            create_missing=True,
            synchronous="OFF",
            busy_timeout=self._patience,
        )


class RedisLimiter:
    """Counts in Redis or Valkey, for many hosts; time is the server's own clock.

    The object may be used from any event loop or thread and carried through a fork, and needs no
    closing. If the server's clock is set forward, or the server forgets, one call may come early;
    set back, a lane waits once for its next turn. A database that evicts keys forgets.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with user, password and database.
        prefix: What the keys in Redis begin with.
        patience: Seconds after which the server counts as lost (default 2).

    Raises:
        ConfigurationError: The address is none, or the patience no positive number of seconds.
        ImportError: The extra ``[redis]`` is not installed.
    """

    def __init__(self, url: str, *, prefix: str = "memories-async", patience: float = 2.0) -> None:
        if not isinstance(cast("object", prefix), str):
            raise ConfigurationError(f"RedisLimiter: prefix is {prefix!r}; a text is wanted")
        self._url = url
        self._prefix = prefix
        self._patience = _checked_patience("RedisLimiter", patience)
        self._redis = self._client()

    def __repr__(self) -> str:
        return f"RedisLimiter(prefix={self._prefix!r})"  # the address may hold a password

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_redis"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._redis = self._client()

    def _client(self) -> Redis:
        """Return a client whose connections are looked at before they are used again.

        It connects when it is first used; redis-py leaves connections of a parent process alone.
        """
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
        from redis.retry import Retry

        try:
            client: Redis = Redis.from_url(  # pyright: ignore[reportUnknownMemberType]  # untyped
                self._url,
                socket_timeout=self._patience,
                socket_connect_timeout=self._patience,
                retry=Retry(NoBackoff(), 0),
            )
            client.connection_pool.make_connection()  # refuses options that there are not
        except (RedisError, ValueError, TypeError, AttributeError):
            # What it was is not quoted: a password may stand where a port was expected.
            raise ConfigurationError(
                "RedisLimiter: url is no address of a Redis server; "
                "redis://[user:password@]host[:port][/database], rediss:// or unix:// is wanted"
            ) from None
        return client

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count in Redis, from a worker thread."""

        def count() -> Turn:
            wait, stamp = cast("tuple[int, bytes]", self._run(_TAKE, lane, rate))
            return Turn(wait / 1e6) if wait else Turn(0.0, int(stamp))

        def give_back(turn: Turn) -> None:
            self._run(_GIVE_BACK, lane, rate, turn.stamp)

        take = _Take(count, give_back, clock, rate)
        return await self._in_time(take.run())

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take back from Redis, from a worker thread."""
        await self._in_time(asyncio.to_thread(self._run, _GIVE_BACK, lane, rate, turn.stamp))

    async def pause(self, lane: str, rate: Rate, seconds: float, clock: Clock) -> None:
        """Pause for all who share the server, from a worker thread."""
        length = math.ceil(seconds * 1e6)
        await self._in_time(asyncio.to_thread(self._run, _PAUSE, lane, rate, length))

    def _run(self, script: str, lane: str, rate: Rate, argument: int = 0) -> object:
        from redis.exceptions import RedisError

        spacing = Spacing.of(rate)
        key = f"{self._prefix}:{lane}"
        try:
            return self._redis.eval(  # pyright: ignore[reportUnknownMemberType]  # untyped
                script, 1, key, spacing.interval, spacing.tolerance, argument
            )
        except (RedisError, OSError, ValueError) as error:
            raise LimiterUnavailable(f"the limiter's Redis: {error}") from None

    async def _in_time(self, work: Coroutine[object, object, T]) -> T:
        try:
            async with asyncio.timeout(self._patience):
                return await work
        except TimeoutError:
            reason = f"no answer within {self._patience:g} s"
            raise LimiterUnavailable(f"the limiter's Redis: {reason}") from None


# The rule once more, where the count lies; numbers go as texts, which Lua would else round.
_BEFORE = """
local interval, tolerance, argument = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local kept = redis.call('HMGET', KEYS[1], 'due', 'seen')
local due = tonumber(kept[1] or now) - math.max(tonumber(kept[2] or now) - now, 0)
local wait = 0
"""
_AFTER = """
local text = string.format('%.0f', due)
redis.call('HSET', KEYS[1], 'due', text, 'seen', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(due - now, 0) / 1000) + 1000)
return {wait, text}
"""
_TAKE = f"""{_BEFORE}
wait = math.max(due - tolerance - now, 0)
if wait == 0 then due = math.max(due, now) + interval end
{_AFTER}"""
_GIVE_BACK = f"""{_BEFORE}
if due == argument then due = due - interval end
{_AFTER}"""
_PAUSE = f"""{_BEFORE}
due = math.max(due, now + argument + tolerance)
{_AFTER}"""


class _Take:
    """A take in a worker thread: one that nobody waits for any more is given back there."""

    def __init__(
        self,
        count: Callable[[], Turn],
        give_back: Callable[[Turn], None],
        clock: Clock,
        rate: Rate,
    ) -> None:
        self._count = count
        self._give_back = give_back
        self._clock = clock
        self._freshness = Spacing.of(rate).freshness / 1e6
        self._lock = threading.Lock()
        self._turn = Turn()
        self._counted_at = 0.0
        self._abandoned = False

    async def run(self) -> Turn:
        """Return a permit of just now: an event loop that was busy may come for it too late."""
        for _ in range(_RETAKES):
            await self._in_thread()
            if self._turn.wait or self._clock.monotonic() - self._counted_at <= self._freshness:
                break
        return self._turn

    async def _in_thread(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, self._work)
        except asyncio.CancelledError:
            with self._lock:
                self._abandoned, unused = True, self._turn
            if unused.stamp:
                # Not by the loop, which may be about to end.
                threading.Thread(
                    target=self._discard, args=(unused,), name="memories-async-give-back"
                ).start()
            raise

    def _work(self) -> None:
        if self._turn.stamp:
            self._discard(self._turn)
            self._turn = Turn()
        turn = self._count()
        with self._lock:
            self._counted_at = self._clock.monotonic()
            self._turn = Turn() if self._abandoned else turn
            unused = self._abandoned and turn.stamp
        if unused:
            self._discard(turn)

    def _discard(self, turn: Turn) -> None:
        with contextlib.suppress(LimiterUnavailable):
            self._give_back(turn)


def _checked_patience(limiter: str, seconds: object) -> float:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 < cast("float", seconds) < math.inf:
        raise ConfigurationError(
            f"{limiter}: patience is {seconds!r}; a positive number of seconds is wanted"
        )
    return cast("float", seconds)


def _microseconds(clock: Clock) -> int:
    return round(clock.monotonic() * 1e6)


SHARED = MemoryLimiter()
"""What clients of one process use together unless told otherwise: limits are per account."""

if hasattr(os, "register_at_fork"):
    for _lock in (_MEMORY, _SQLITE):
        os.register_at_fork(
            before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
        )
