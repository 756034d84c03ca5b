"""A ledger in Redis or Valkey: for workers of many hosts, outliving any cluster of them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs

from memories_async._extras import to_install
from memories_async.bulk.ledger import entries
from memories_async.bulk.ledger.entries import Begun, Entry, Totals, UnknownPolicy
from memories_async.bulk.models import Status
from memories_async.checks import checked
from memories_async.checks.kinds import SECRET
from memories_async.errors import ConfigurationError, LedgerUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

T = TypeVar("T")

ANSWER_SECONDS: Final = 5.0
"""How long a server may be silent before it counts as lost; redis-py before 8 would wait for ever.
``socket_timeout`` in the URL goes before it."""


class RedisLedger:
    """Keeps what was sent in Redis or Valkey (extra ``[redis]``).

    The server has to keep what it is told: ``maxmemory-policy noeviction`` and ``appendonly yes``.

    Args:
        url: The server, e.g. ``redis://ledger.internal``.
        job: What the entries belong to; every worker of it says the same.

    Raises:
        ConfigurationError: The address is none, or ``job`` is empty.
    """

    @checked({"url": attrs.evolve(SECRET, wanted="redis://, rediss:// or unix://")})
    def __init__(self, url: str, *, job: str) -> None:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigurationError("RedisLedger: url must begin with redis:// or rediss://")
        self.job = job
        self._url = url
        self._name = f"memories-async:ledger:{job}"
        # Apart, as the workers of earlier versions read the first whole.
        self._totals_names = f"{self._name}:totals", f"{self._name}:priced"
        self._redis: Redis | None = None
        self._identity = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(job={self.job!r})"  # the address may hold a password

    def __reduce__(self) -> tuple[object, ...]:
        return _loaded, (self._url, self.job)

    async def find(self, key: str) -> Entry | None:
        """Return what is known of a key; None if nothing is.

        Raises:
            LedgerUnavailable: The server does not answer, or has lost the ledger.
        """

        async def read(redis: Redis) -> Entry | None:
            return _entry(await _hash(redis, self._key(key)))

        return await self._ask(read)

    async def begin(
        self,
        key: str,
        token: str,
        *,
        unknown: UnknownPolicy = "keep",
        price: Decimal | None = None,
        max_cost: Decimal | None = None,
    ) -> tuple[Begun, Entry | None]:
        """Ask whether an attempt may send.

        Args:
            key: What is to be sent, as a digest.
            token: The attempt.
            unknown: Whether to send what may have been billed.
            price: Dollars of the call; None if nobody knows.
            max_cost: Dollars that all calls may cost, those without a price at this one's; None
                is any number.

        Raises:
            LedgerUnavailable: The server does not answer, or has lost the ledger.
        """

        def change(before: Entry | None, totals: Totals, now: float) -> _Changed[Begun]:
            said, after = entries.begin(before, totals, token, now, unknown, price, max_cost)
            return after, said

        # Who has a budget must see every other call; who has none need not wait for them.
        return _swapped(await self._change(key, change, watch_totals=max_cost is not None))

    async def settle(self, key: str, outcome: Entry) -> Entry | None:
        """Report what became of an attempt.

        Args:
            key: What was to be sent.
            outcome: What came of it, with the attempt's token.

        Raises:
            LedgerUnavailable: The server does not answer, or has lost the ledger.
        """

        def change(before: Entry | None, totals: Totals, now: float) -> _Changed[None]:
            return entries.settle(before, outcome), None

        return (await self._change(key, change, watch_totals=False))[0]

    async def totals(self) -> Totals:
        """Count the calls by what became of them.

        Raises:
            LedgerUnavailable: The server does not answer, or has lost the ledger.
        """

        async def read(redis: Redis) -> Totals:
            # Together: what is written in one transaction is read in one.
            async with redis.pipeline(transaction=True) as pipeline:
                for name in self._totals_names:
                    pipeline.hgetall(name)
                return _totals(*await pipeline.execute())

        return await self._ask(read)

    async def entries(self) -> AsyncIterator[tuple[str, Entry]]:
        """Yield all keys with what is known of them, in no order.

        Raises:
            LedgerUnavailable: The server does not answer, or has lost the ledger.
        """
        prefix = self._key("")

        async def page(redis: Redis, cursor: int) -> tuple[int, list[bytes]]:
            return await cast(
                "Awaitable[tuple[int, list[bytes]]]",
                redis.scan(  # pyright: ignore[reportUnknownMemberType]  # not annotated
                    cursor, match=f"{_escaped(prefix)}*", count=500
                ),
            )

        cursor, seen = 0, set[str]()
        while True:
            cursor, names = await self._ask(partial(page, cursor=cursor))
            for name in names:
                key = name.decode().removeprefix(prefix)
                if key not in seen and (entry := await self.find(key)) is not None:
                    seen.add(key)
                    yield key, entry
            if not cursor:
                return

    async def aclose(self) -> None:
        """Close the connections. May be repeated."""
        redis, self._redis = self._redis, None
        if redis is not None:
            await redis.aclose()

    # --- optimistic transactions ----------------------------------------------------------------

    def _key(self, key: str) -> str:
        return f"{self._name}:entry:{key}"

    async def _change(
        self,
        key: str,
        change: Callable[[Entry | None, Totals, float], _Changed[T]],
        *,
        watch_totals: bool,
    ) -> _Changed[T]:
        from redis.exceptions import WatchError

        name = self._key(key)
        watched = [self._name, name, *(self._totals_names if watch_totals else ())]

        async def attempt(redis: Redis) -> _Changed[T]:
            async with redis.pipeline(transaction=True) as pipeline:
                await pipeline.watch(*watched)
                await self._check(pipeline)
                before = _entry(await _hash(pipeline, name))
                # Who does not watch them moves them by as much, wherever they stand.
                totals = Totals()
                if watch_totals:
                    hashes = [await _hash(pipeline, each) for each in self._totals_names]
                    totals = _totals(*hashes)
                seconds, microseconds = await pipeline.time()  # pyright: ignore[reportUnknownMemberType]  # not annotated
                after, said = change(before, totals, seconds + microseconds / 1e6)
                if after != before:
                    pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py has it untyped
                    pipeline.delete(name)
                    if after is not None:
                        pipeline.hset(name, mapping=_fields(after))
                    moved = Totals().moved(before, after)
                    changes = moved.counts, {str(each): by for each, by in moved.priced.items()}
                    for hash_name, fields in zip(self._totals_names, changes, strict=True):
                        for field, by in fields.items():
                            if by:
                                pipeline.hincrby(hash_name, field, by)
                    await pipeline.execute()
                return after, said

        async def until_undisturbed(redis: Redis) -> _Changed[T]:
            while True:
                try:
                    return await attempt(redis)
                except WatchError:
                    continue

        return await self._ask(until_undisturbed)

    async def _check(self, redis: Redis | Pipeline) -> None:
        """Refuse to go on with a ledger that is not the one that it was."""
        if await _text(redis, self._name) != self._identity:
            raise LedgerUnavailable(
                f"the server has lost the ledger of {self.job}: nothing is sent"
            )

    async def _ask(self, work: Callable[[Redis], Awaitable[T]]) -> T:
        if self._redis is None:
            client = await asyncio.to_thread(self._client)
            self._redis = self._redis or client  # another task may be as far; it has no connection
        from redis.exceptions import RedisError

        try:
            if not self._identity:
                await self._redis.set(self._name, secrets.token_hex(16), nx=True)
                self._identity = await _text(self._redis, self._name) or ""
            return await work(self._redis)
        except (RedisError, OSError) as error:
            raise LedgerUnavailable(f"the ledger's server does not answer: {error}") from None

    def _client(self) -> Redis:
        """Make a client: in a thread, as importing its package takes a third of a second."""
        try:
            from redis.asyncio import BlockingConnectionPool, Redis
        except ImportError:
            raise ConfigurationError(
                f"RedisLedger needs the package redis: {to_install('redis')}"
            ) from None
        try:
            # However many ask at once, each gets a connection: the usual pool refuses the 101st.
            pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]  # not annotated
                self._url,
                timeout=None,
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=ANSWER_SECONDS,
            )
            return Redis.from_pool(pool)
        except ValueError as error:
            raise ConfigurationError(f"RedisLedger: url: {error}") from None


_Changed = tuple[Entry | None, T]


async def _hash(redis: Redis | Pipeline, name: str) -> Mapping[bytes, bytes]:
    return await cast("Awaitable[Mapping[bytes, bytes]]", redis.hgetall(name))


async def _text(redis: Redis | Pipeline, name: str) -> str | None:
    found = await cast("Awaitable[bytes | None]", redis.get(name))
    return None if found is None else found.decode()


def _loaded(url: str, job: str) -> RedisLedger:
    return RedisLedger(url, job=job)


def _swapped(changed: _Changed[Begun]) -> tuple[Begun, Entry | None]:
    after, said = changed
    return said, after


def _escaped(pattern: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in pattern)


def _fields(entry: Entry) -> dict[bytes | bytearray | memoryview | str | int | float, Any]:
    price = None if entry.price is None else str(entry.price)
    values = attrs.asdict(entry) | {"status": entry.status.value, "price": price}
    return {name: value for name, value in values.items() if value is not None}


def _entry(fields: Mapping[bytes, bytes]) -> Entry | None:
    if not fields:
        return None

    def text(name: bytes) -> str | None:
        value = fields.get(name)
        return None if value is None else value.decode()

    return Entry(
        status=Status(fields[b"status"].decode()),
        token=fields[b"token"].decode(),
        sent_at=float(fields[b"sent_at"]),
        result=text(b"result"),
        vector=fields.get(b"vector"),
        error=text(b"error"),
        doubtful=int(fields[b"doubtful"]),
        price=None if (price := text(b"price")) is None else Decimal(price),
    )


def _totals(counts: Mapping[bytes, bytes], priced: Mapping[bytes, bytes]) -> Totals:
    by_price = {Decimal(price.decode()): int(calls) for price, calls in priced.items()}
    return Totals(
        **{name.decode(): int(count) for name, count in counts.items()},
        priced={price: calls for price, calls in by_price.items() if calls},
    )
