"""The actors that a Ray cluster shares: one counts calls, one for each job remembers them."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, cast

from memories_async._extras import to_install
from memories_async._folders import xdg_state_folder
from memories_async.bulk.group_commit import GroupCommit
from memories_async.bulk.ledger import Begun, Entry, SqliteLedger, Totals, UnknownPolicy
from memories_async.checks import checked
from memories_async.clock import Clock, SystemClock
from memories_async.config import Rate
from memories_async.errors import ConfigurationError, LedgerUnavailable, LimiterUnavailable
from memories_async.limiters import MemoryLimiter, Turn

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")

NAMESPACE: Final = "memories-async"
"""Ray's namespace of the actors that all workers share."""

_LIMITER: Final = "limiter"
_HEAD: Final = {"node:__internal_head__": 0.001}


def installed() -> Any:
    """Return Ray, untyped as most of it is.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ConfigurationError(
            f"memories_async.ray needs the package ray: {to_install('ray')}"
        ) from None


class _SharedActor(Generic[A]):
    """An actor that the whole cluster knows by its name; made where there is none yet."""

    def __init__(self, name: str, kind: type[A], *arguments: object) -> None:
        self._name, self._kind, self._arguments = name, kind, arguments
        self._handle: Any = None

    async def call(
        self,
        method: Callable[Concatenate[A, P], Awaitable[T]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> T:
        """Call a method; an actor that has died for good is found, or made, anew by the next call.

        Raises:
            RayError: It cannot be reached.
        """
        ray = installed()
        if self._handle is None:
            # To ask for it by name each time would cost a call to the head node.
            self._handle = await asyncio.to_thread(self._found, ray)
        try:
            answer: T = await getattr(self._handle, method.__name__).remote(*arguments, **options)
        except ray.exceptions.RayError:
            self._handle = None
            raise
        return answer

    def _found(self, ray: Any) -> Any:
        actor = ray.remote(self._kind).options(
            name=self._name,
            namespace=NAMESPACE,
            get_if_exists=True,
            max_concurrency=1000,
            resources=_HEAD,
            num_cpus=0,
            lifetime="detached",
            # What they are asked twice is done once, so Ray may ask as often as it likes.
            max_restarts=-1,
            max_task_retries=-1,
        )
        return actor.remote(*self._arguments)


class RayLimiter:
    """Counts for all clients of a Ray cluster, in an actor; behind the public ``Limiter``."""

    def __init__(self) -> None:
        self._actor = _SharedActor(_LIMITER, _LimiterActor)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), ()

    async def take(self, lane: str, rate: Rate, clock: Clock) -> Turn:
        """Count one call now if the rate allows it.

        Raises:
            LimiterUnavailable: The actor cannot be reached.
        """
        return await self._call(_LimiterActor.take, lane, rate)

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        """Take the count of a call back that was never made.

        Raises:
            LimiterUnavailable: The actor cannot be reached.
        """
        await self._call(_LimiterActor.give_back, lane, rate, turn)

    async def pause(self, lane: str, rate: Rate, seconds: float, clock: Clock) -> None:
        """Grant nothing for so many seconds.

        Raises:
            LimiterUnavailable: The actor cannot be reached.
        """
        await self._call(_LimiterActor.pause, lane, rate, seconds)

    async def _call(
        self,
        method: Callable[Concatenate[_LimiterActor, P], Awaitable[T]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> T:
        try:
            return await self._actor.call(method, *arguments, **options)
        except installed().exceptions.RayError as error:
            raise LimiterUnavailable(f"the cluster's limiter: {error}") from None


class _LimiterActor:
    """What counts: one for the cluster."""

    def __init__(self) -> None:
        self._limiter = MemoryLimiter()
        self._clock = SystemClock()
        # What the one before it counted is gone: each lane stays shut for a period.
        context = installed().get_runtime_context()
        self._forgot = bool(context.was_current_actor_reconstructed)
        self._seen: set[str] = set()

    async def take(self, lane: str, rate: Rate) -> Turn:
        if self._forgot and lane not in self._seen:
            await self._limiter.pause(lane, rate, rate.seconds, self._clock)
        self._seen.add(lane)
        return await self._limiter.take(lane, rate, self._clock)

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        await self._limiter.give_back(lane, rate, turn)

    async def pause(self, lane: str, rate: Rate, seconds: float) -> None:
        await self._limiter.pause(lane, rate, seconds, self._clock)


class RayLedger:
    """A ledger in an actor on the head node, around an SQLite file: outlives workers and drivers.

    Args:
        job: What the entries belong to.
        path: The file on the head node; by default one of the job's name under
            ``~/.local/state/memories-async/ray``.
    """

    @checked
    def __init__(self, job: str, path: str | os.PathLike[str] | None = None) -> None:
        if not job or not job.isprintable() or "/" in job:
            raise ConfigurationError(f"RayLedger: job is {job!r}; a name without / is wanted")
        self.job = job
        self._path = None if path is None else os.path.abspath(path)
        where = "" if self._path is None else f" {self._path}"  # another file is another ledger
        self._actor = _SharedActor(f"ledger {job}{where}", _LedgerActor, job, self._path)
        self._groups = GroupCommit[_LedgerCall, object](self._submit_group)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.job, self._path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.job!r})"

    async def find(self, key: str) -> Entry | None:
        """Return what is known of a key; None if nothing is.

        Raises:
            LedgerUnavailable: The actor cannot be reached.
        """
        return await self._call(SqliteLedger.find, key)

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
            LedgerUnavailable: The actor cannot be reached.
        """
        return await self._call(
            SqliteLedger.begin, key, token, unknown=unknown, price=price, max_cost=max_cost
        )

    async def settle(self, key: str, outcome: Entry) -> Entry | None:
        """Report what became of an attempt.

        Args:
            key: What was to be sent.
            outcome: What came of it, with the attempt's token.

        Raises:
            LedgerUnavailable: The actor cannot be reached.
        """
        return await self._call(SqliteLedger.settle, key, outcome)

    async def totals(self) -> Totals:
        """Count the calls by what became of them.

        Raises:
            LedgerUnavailable: The actor cannot be reached.
        """
        return await self._call(SqliteLedger.totals)

    async def entries(self) -> AsyncIterator[tuple[str, Entry]]:
        """Yield all keys with what is known of them.

        Raises:
            LedgerUnavailable: The actor cannot be reached.
        """
        after = ""
        while page := await self._call(SqliteLedger.page, after):
            for found in page:
                yield found
            after = page[-1][0]

    async def aclose(self) -> None:
        """Let go of the actor, which lives on."""

    async def _call(
        self,
        method: Callable[Concatenate[SqliteLedger, P], Awaitable[T]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> T:
        return cast("T", await self._groups.submit((method.__name__, arguments, options)))

    async def _submit_group(self, group: Sequence[_LedgerCall]) -> Sequence[object]:
        # One call for all who wait: a call costs the actor a hundred times what the entry does.
        try:
            return await self._actor.call(_LedgerActor.answer_all, group)
        except installed().exceptions.RayError as error:
            raise LedgerUnavailable(f"the ledger of {self.job}: {error}") from None


_LedgerCall = tuple[str, tuple[object, ...], Mapping[str, object]]
"""A method of a ledger and its arguments."""


class _LedgerActor:
    """What remembers: one for each job, on the head node."""

    def __init__(self, job: str, path: str | None) -> None:
        if path is None:
            folder = xdg_state_folder() / "ray"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = str(folder / f"{job}.ledger")
        self._ledger = SqliteLedger(path)

    async def answer_all(self, group: Sequence[_LedgerCall]) -> list[object]:
        """Answer all in one commit, each with its value or its own error."""
        answers: Iterator[Awaitable[object]] = (
            getattr(self._ledger, method)(*arguments, **options)
            for method, arguments, options in group
        )
        return await asyncio.gather(*answers, return_exceptions=True)
