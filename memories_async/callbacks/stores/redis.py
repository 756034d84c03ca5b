"""A store in Redis or Valkey, that the processes of many hosts share."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from memories_async._extras import to_install
from memories_async.callbacks.stores.notify import Subscribers
from memories_async.callbacks.stores.protocol import KEPT, Delivery, DeliveryStatus
from memories_async.checks import checked
from memories_async.checks.kinds import seconds_from
from memories_async.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub
    from redis.commands.core import AsyncScript

T = TypeVar("T")

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""How long a server may be silent before it counts as lost; redis-py before 8 would wait for ever.
``socket_timeout`` in the URL goes before it."""
LONGEST_KEPT = 100 * 365 * 24 * 60 * 60.0
"""Redis counts in whole numbers, and refuses those that lead beyond its calendar: a century."""
RECONNECT_SECONDS = 0.5
"""How long to wait before listening again after Redis has gone away."""

_PROPOSE = """
local proposed, prefix = unpack(ARGV)
redis.call('SET', prefix .. 'secret', proposed, 'NX')
return redis.call('GET', prefix .. 'secret')
"""

_OPEN = """
local token, name, now, kept, prefix = unpack(ARGV)
local task = prefix .. 'token:' .. token
if redis.call('HSETNX', task, 'opened', now) == 0 then
  return 0
end
redis.call('EXPIRE', task, kept)
if name ~= '' then
  redis.call('HSET', task, 'bound', name)
  redis.call('SET', prefix .. 'name:' .. name, token, 'EX', kept)
end
return 1
"""

_FORGET = """
local token, prefix = unpack(ARGV)
local task = prefix .. 'token:' .. token
if redis.call('HEXISTS', task, 'bound') == 0 then
  redis.call('DEL', task)
end
"""

_NAME_OF = """
local token, prefix = unpack(ARGV)
return redis.call('HGET', prefix .. 'token:' .. token, 'bound')
"""

_OPENED = """
local name, prefix = unpack(ARGV)
local token = redis.call('GET', prefix .. 'name:' .. name)
return token and redis.call('HGET', prefix .. 'token:' .. token, 'opened')
"""

_BIND = """
local token, name, now, kept, prefix = unpack(ARGV)
local task = prefix .. 'token:' .. token
redis.call('HSET', task, 'bound', name)
redis.call('EXPIRE', task, kept)
redis.call('SET', prefix .. 'name:' .. name, token, 'EX', kept)
local arrived = redis.call('HGET', task, 'name')
if arrived and arrived ~= name then
  redis.call('HDEL', task, 'name', 'body', 'digest', 'at')
  return 0
end
if arrived then
  redis.call('PUBLISH', prefix .. 'arrived', name)
end
return 1
"""

_FIND = """
local name, prefix = unpack(ARGV)
local token = redis.call('GET', prefix .. 'name:' .. name)
return token and redis.call('HMGET', prefix .. 'token:' .. token, 'name', 'body', 'digest', 'at')
"""

_DELIVER = """
local token, name, body, digest, at, prefix = unpack(ARGV)
local task = prefix .. 'token:' .. token
if redis.call('EXISTS', task) == 0 then
  return 'UNKNOWN'
end
local bound = redis.call('HGET', task, 'bound')
if bound and bound ~= name then
  return 'UNKNOWN'
end
local kept = redis.call('HGET', task, 'digest')
if kept then
  if redis.call('HGET', task, 'name') ~= name then
    return 'CONTESTED'
  end
  return kept == digest and 'REPEAT' or 'DIFFERENT'
end
redis.call('HSET', task, 'name', name, 'body', body, 'digest', digest, 'at', at)
redis.call('PUBLISH', prefix .. 'arrived', name)
return 'FIRST'
"""


class RedisStore:
    """Keeps everything in Redis or Valkey, for any number of processes on any number of hosts.

    Needs the extra ``[redis]``. A result is as safe as the server keeps it: for results to
    survive its restart, it needs ``appendonly yes``, and ``maxmemory-policy noeviction`` (the
    default), as every other policy drops results that nobody has read when memory is short.

    Args:
        url: The server, e.g. ``redis://127.0.0.1:6379/0``, ``rediss://…`` or ``unix://…``.
        prefix: What all keys begin with; the braces keep them together in a cluster.
        kept: Seconds that tasks and results are kept (default a week), a century at most.

    Raises:
        ConfigurationError: The package ``redis`` is not installed, or the URL is none of its.
    """

    @checked({"kept": seconds_from(1)})
    def __init__(
        self, url: str, *, prefix: str = "{memories-callbacks}:", kept: float = KEPT
    ) -> None:
        try:
            from redis.asyncio.connection import parse_url
        except ImportError:
            raise ConfigurationError(
                f"RedisStore needs the package redis: {to_install('redis')}"
            ) from None
        try:
            parse_url(url)
        except ValueError as error:
            raise ConfigurationError(f"the URL of the RedisStore: {error}") from None
        self._url = url
        self._prefix = prefix
        self._kept = round(min(kept, LONGEST_KEPT))
        self._subscribers = Subscribers()
        self._connections: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Connection] = (
            weakref.WeakKeyDictionary()
        )

    def __reduce__(self) -> tuple[object, ...]:
        made = functools.partial(type(self), prefix=self._prefix, kept=self._kept)
        return made, (self._url,)

    async def secret(self, proposed: str) -> str:
        """Keep a secret unless one is kept."""
        return (await self._run(self._here().secret, proposed, self._prefix)).decode()

    async def open(self, token: str, name: str | None, now: float) -> bool:
        """Expect a callback."""
        arguments = (token, name or "", now, self._kept, self._prefix)
        return await self._run(self._here().open, *arguments) == 1

    async def forget(self, token: str) -> None:
        """Expect nothing any more."""
        await self._run(self._here().forget, token, self._prefix)

    async def name_of(self, token: str) -> str | None:
        """Return the name that a token was bound to."""
        name = await self._run(self._here().name_of, token, self._prefix)
        return None if name is None else name.decode()

    async def opened(self, name: str) -> float | None:
        """Return when what is waited for by a name was opened."""
        opened = await self._run(self._here().opened, name, self._prefix)
        return None if opened is None else float(opened)

    async def bind(self, token: str, name: str, now: float) -> bool:
        """Say by which name a token is waited for."""
        arguments = (token, name, now, self._kept, self._prefix)
        return await self._run(self._here().bind, *arguments) == 1

    async def deliver(self, token: str, delivery: Delivery) -> DeliveryStatus:
        """Keep the first callback of a token."""
        arguments = (
            token,
            delivery.name,
            delivery.body,
            delivery.digest,
            delivery.at,
            self._prefix,
        )
        status = await self._run(self._here().deliver, *arguments)
        return DeliveryStatus[status.decode()]

    async def find(self, name: str) -> Delivery | None:
        """Return the callback of what is waited for by a name."""
        found = await self._run(self._here().find, name, self._prefix)
        if found is None:
            return None
        named, body, digest, at = found
        if named is None or body is None or digest is None or at is None:
            return None
        return Delivery(named.decode(), body, digest.decode(), float(at))

    @contextlib.asynccontextmanager
    async def watch(self, name: str) -> AsyncGenerator[asyncio.Event]:
        """Within the context, set the event when a callback for a name comes."""
        with self._subscribers.watch(name) as event:
            await self._here().listen(f"{self._prefix}arrived", self._subscribers)
            event.clear()  # whatever it was set for is there to be found
            yield event

    async def aclose(self) -> None:
        """Close this event loop's connections."""
        connection = self._connections.pop(asyncio.get_running_loop(), None)
        if connection is not None:
            await connection.close()

    async def _run(self, script: _Script[T], *arguments: str | bytes | float) -> T:
        # The key only says which server of a cluster has the others.
        return await self._here().run(script.call(self._prefix, arguments))

    def _here(self) -> _Connection:
        """Return this loop's connections: they serve no other."""
        loop = asyncio.get_running_loop()
        connection = self._connections.get(loop)
        if connection is None:
            connection = self._connections[loop] = _Connection(self._url)
        return connection


class _Script(Generic[T]):
    """A script that Redis keeps, and what it returns."""

    def __init__(self, redis: Redis, source: str) -> None:
        self._script: AsyncScript = redis.register_script(source)

    def call(self, key: str, arguments: Sequence[str | bytes | float]) -> Awaitable[T]:
        return cast("Awaitable[T]", self._script(keys=[key], args=arguments))


class _Connection:
    """What one event loop has open: connections, and a task that listens."""

    def __init__(self, url: str) -> None:
        from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
        from redis.asyncio.connection import parse_url

        options: dict[str, Any] = {
            "socket_timeout": ANSWER_SECONDS,
            "socket_connect_timeout": ANSWER_SECONDS,
            **parse_url(url),
        }
        # Further commands wait for a connection, however many callbacks come at once.
        pool = BlockingConnectionPool(max_connections=50, timeout=30, **options)
        # Who listens may hear nothing for hours: redis-py before 8 would take that for silence.
        del options["socket_timeout"]
        self._listening = ConnectionPool(**options)
        self.redis: Redis = Redis.from_pool(pool)
        self.secret = _Script[bytes](self.redis, _PROPOSE)
        self.open = _Script[int](self.redis, _OPEN)
        self.forget = _Script[object](self.redis, _FORGET)
        self.name_of = _Script[bytes | None](self.redis, _NAME_OF)
        self.opened = _Script[bytes | None](self.redis, _OPENED)
        self.bind = _Script[int](self.redis, _BIND)
        self.find = _Script[list[bytes | None] | None](self.redis, _FIND)
        self.deliver = _Script[bytes](self.redis, _DELIVER)
        self._commands: set[Awaitable[object]] = set()
        self._listener: asyncio.Task[None] | None = None
        self._subscribed = asyncio.Event()

    async def run(self, command: Awaitable[T]) -> T:
        """Run a command to its end, even if whoever wanted it is cancelled.

        Cut off, it would cost its connection; and redis-py 8 has been seen to lose the
        cancellation, so that the caller would wait for ever.
        """
        from redis.exceptions import RedisError

        running = asyncio.ensure_future(command)
        self._commands.add(running)
        running.add_done_callback(self._commands.discard)
        try:
            return await asyncio.shield(running)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the callbacks' Redis: {error}") from error

    async def listen(self, channel: str, subscribers: Subscribers) -> None:
        """Have subscribers woken by what is published; without Redis, once it is back."""
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(channel, subscribers))
        if not self._subscribed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONNECT_SECONDS):
                    await self._subscribed.wait()

    async def _listen(self, channel: str, subscribers: Subscribers) -> None:
        from redis.asyncio.client import PubSub
        from redis.exceptions import RedisError

        while True:
            try:
                async with PubSub(self._listening) as subscription:
                    await subscription.subscribe(channel)
                    await self._pass_on(subscription, subscribers)
            except (RedisError, OSError) as error:
                logger.warning("Waiting for callbacks without Redis: %s", error)
            self._subscribed.clear()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _pass_on(self, subscription: PubSub, subscribers: Subscribers) -> None:
        messages = cast(
            "AsyncIterator[dict[str, object]]",
            subscription.listen(),  # pyright: ignore[reportUnknownMemberType]  # not annotated
        )
        async for message in messages:
            if message["type"] == "subscribe":
                self._subscribed.set()
                subscribers.wake_all()  # something may have come while nobody listened
            elif message["type"] == "message":
                subscribers.wake([cast("bytes", message["data"]).decode()])

    async def close(self) -> None:
        """End the listener and close the connections."""
        while self._listener is not None and not self._listener.done():
            self._listener.cancel()
            await asyncio.wait([self._listener], timeout=RECONNECT_SECONDS)
        await asyncio.gather(*self._commands, return_exceptions=True)
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()
        await self._listening.disconnect()
