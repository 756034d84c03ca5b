"""Counts in Redis or Valkey, for many hosts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import TYPE_CHECKING, TypeVar, cast

import attrs

from memories_async.checks import checked
from memories_async.checks.kinds import ANY_TEXT, SECONDS, SECRET
from memories_async.clock import Clock
from memories_async.config import Rate
from memories_async.errors import ConfigurationError, LimiterUnavailable
from memories_async.limiters.rule import Spacing, Turn
from memories_async.limiters.threads import Take

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")

_ADDRESS = "redis://[user:password@]host[:port][/database], rediss:// or unix://"

_URL = attrs.evolve(SECRET, wanted=_ADDRESS)


class RedisLimiter:
    """Counts in Redis or Valkey, for many hosts; time is the server's own clock.

    The object may be used from any event loop or thread and carried through a fork, and needs no
    closing. If the server's clock is set forward, or the server forgets, one call may come early;
    set back, a lane waits once for its next permit. A database that evicts keys forgets.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with user, password and database.
        prefix: What the keys in Redis begin with.
        patience: Seconds after which the server counts as lost (default 2).

    Raises:
        ConfigurationError: The address is none, or the patience no positive number of seconds.
        ImportError: The extra ``[redis]`` is not installed.
    """

    @checked({"url": _URL, "prefix": ANY_TEXT, "patience": SECONDS})
    def __init__(self, url: str, *, prefix: str = "memories-async", patience: float = 2.0) -> None:
        self._url = url
        self._prefix = prefix
        self._patience = patience
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
                f"RedisLimiter: url is no address of a Redis server; {_ADDRESS} is wanted"
            ) from None
        return client

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count in Redis, from a worker thread."""

        def count() -> Turn:
            wait, stamp = cast("tuple[int, bytes]", self._run(_TAKE, lane, rate))
            return Turn(wait / 1e6) if wait else Turn(0.0, int(stamp))

        def give_back(turn: Turn) -> None:
            self._run(_GIVE_BACK, lane, rate, turn.stamp)

        take = Take(count, give_back, clock, rate)
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
due = math.max(due + 1, now + argument + tolerance)
{_AFTER}"""
