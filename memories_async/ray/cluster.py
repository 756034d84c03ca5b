"""A client whose billed calls are made by the workers of a Ray cluster, each asked for once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import signal
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

import attrs

from memories_async.client import Memories
from memories_async.config import CallOptions, Rate
from memories_async.errors import ConfigurationError, OutcomeUnknown
from memories_async.models import Progress
from memories_async.observe import Observer
from memories_async.observe.logs import LOGGING, log
from memories_async.operations import Bucket
from memories_async.ray.actors import installed
from memories_async.ray.caller import (
    ACCOUNT_VARIABLES,
    CallEnd,
    CallerActor,
    CallMessage,
    CallResult,
    Environment,
    PermissionRequest,
    RemoteCall,
    digest_of,
)
from memories_async.ray.event_relay import EventRelay

LOCAL: Final = "local"
"""The address that stands for a cluster of this machine's own, for as long as it is used."""

_BILLED: Final[Mapping[str, frozenset[str]]] = {
    "captions": frozenset({"image", "video"}),
    "embeddings": frozenset({"image"}),
    "library": frozenset({"add_images", "add_video"}),
}
_MAX_WORKER_DEATHS: Final = 20
"""How often a call that certainly had not left goes to a worker that lives, when its own died."""
_CANCEL_TIMEOUT: Final = 5.0
"""Seconds that a worker has to say whether a cancelled call had left."""
_MAY_HAVE_LEFT: Final = "the request may have left the worker: it may have been billed"

T = TypeVar("T")


@contextlib.asynccontextmanager
async def cluster_of(
    client: Memories,
    account: Environment,
    *,
    address: str = LOCAL,
    workers: int = 4,
    rates: Mapping[Bucket, Rate] | None = None,
    observers: Sequence[Observer] = (),
) -> AsyncGenerator[Memories]:
    """Give a client for ``Job.run`` whose billed calls a cluster's workers make.

    The job's journal stays the record: what it has not noted is not sent, and Ray repeats nothing.
    Files are opened by the workers, under the paths that the job knows.

    Args:
        client: Makes the calls that cost nothing.
        account: The variables of the environment that say the account. A cluster that is started
            here is given them; elsewhere the nodes must have the same.
        address: ``local`` starts a cluster; ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT`` is one.
        workers: Processes that send.
        rates: The account's limits where they are not the documented ones.
        observers: Who is notified of what the workers' calls do, besides those of each call.

    Raises:
        ConfigurationError: Ray is not installed or cannot be reached, or its workers have another
            account's key or address.
    """
    ray = installed()
    # In a thread: it takes seconds, and in the main one Ray would take SIGTERM for itself.
    await asyncio.to_thread(_connect, ray, address, account)
    try:
        _take_back_sigterm()
        pool = [_Worker(ray, rates) for _ in range(workers)]
        await asyncio.gather(*(worker.check(digest_of(account)) for worker in pool))
        yield cast("Memories", _ClusterClient(client, pool, observers))
    finally:
        await asyncio.to_thread(ray.shutdown)
        _take_back_sigterm()


def _take_back_sigterm() -> None:
    """Put the handler of SIGTERM in place again that Python knows of.

    Ray's own, beneath it, calls that one too, but sets an alarm that aborts the process three
    seconds later, whatever is in flight (``alarm_on_failure_secs`` of Abseil's handler).
    """
    with contextlib.suppress(ValueError):  # only the main thread may, and only it is called
        if (handler := signal.getsignal(signal.SIGTERM)) is not None:
            signal.signal(signal.SIGTERM, handler)
            if hasattr(signal, "siginterrupt"):
                signal.siginterrupt(signal.SIGTERM, False)  # as asyncio has it


def _connect(ray: Any, address: str, account: Environment) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    with _environment(account if address == LOCAL else {}):
        try:
            if address == LOCAL:
                ray.init(address=LOCAL, include_dashboard=False, **quiet)
            else:
                ray.init(address=address, **quiet)
        except Exception as error:  # Ray, grpc and the system raise what they like
            first = str(error).strip().partition("\n")[0]
            raise ConfigurationError(f"no Ray cluster at {address}: {first}") from None


@contextlib.contextmanager
def _environment(account: Environment) -> Generator[None]:
    """Let what is started meanwhile inherit an account, and nothing of another one."""
    if not account:
        yield
        return
    names = (*ACCOUNT_VARIABLES, "RAY_USAGE_STATS_ENABLED")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", **before, **account})
    for name in set(ACCOUNT_VARIABLES) - account.keys():
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


class _ClusterClient:
    """Looks like a client; what it does not send to the cluster, the real one does."""

    def __init__(
        self, client: Memories, pool: list[_Worker], observers: Sequence[Observer]
    ) -> None:
        self._client = client
        self._pool = pool
        self._observers = tuple(observers)

    def __getattr__(self, name: str) -> object:
        found = getattr(self._client, name)
        return _Namespace(found, name, self._call) if name in _BILLED else found

    async def _call(
        self,
        place: tuple[str, str],
        *arguments: object,
        options: CallOptions,
        on_progress: Callable[[Progress], object],
        **fields: object,
    ) -> object:
        # What listens to the call is here, and not there.
        plain = attrs.evolve(options, before_sending=None, observers=None)
        called = RemoteCall(place, arguments, fields, plain)
        observers = (*self._observers, *(options.observers or ()))
        if log.isEnabledFor(logging.INFO):
            observers = (*observers, LOGGING)
        worker = min(self._pool, key=lambda worker: worker.calls)
        return await worker.call(called, options.before_sending, on_progress, observers)


@attrs.frozen
class _Namespace:
    """One namespace of a client."""

    _real: object
    _name: str
    _call: Callable[..., Awaitable[object]]

    def __getattr__(self, name: str) -> object:
        if name not in _BILLED[self._name]:
            return getattr(self._real, name)
        return functools.partial(self._call, (self._name, name))


class _Worker:
    """A worker as it is seen from here."""

    def __init__(self, ray: Any, rates: Mapping[Bucket, Rate] | None) -> None:
        self.calls = 0
        self._ray = ray
        # A worker that dies is started anew, but Ray asks for no call a second time.
        self._actor = (
            ray.remote(CallerActor)
            .options(
                num_cpus=0.1,
                max_concurrency=1000,
                max_restarts=-1,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
            )
            .remote(rates)
        )

    async def check(self, digest: str) -> None:
        """Wait until it lives, and look whether it has the same account.

        Raises:
            ConfigurationError: It has another, or cannot be started.
        """
        if await self._query("account") != digest:
            raise ConfigurationError(
                "the cluster's workers have another key or address than this machine: set "
                f"{', '.join(ACCOUNT_VARIABLES)} alike wherever Ray runs"
            )

    async def _query(self, method: str) -> object:
        """Call what costs nothing, as often as the worker has to be started for it."""
        bound = getattr(self._actor, method).options(max_task_retries=-1)
        try:
            return await bound.remote()
        except self._ray.exceptions.RayError as error:
            why = str(error).strip().partition("\n")[0]
            raise ConfigurationError(f"a worker of the cluster cannot be started: {why}") from None

    async def call(
        self,
        called: RemoteCall,
        before: Callable[[], Awaitable[object]] | None,
        on_progress: Callable[[Progress], object],
        observers: Sequence[Observer],
    ) -> object:
        """Have a call made.

        Raises:
            OutcomeUnknown: The worker died, and it may have left.
            MemoriesError: What came of it there, or what ``before`` raised here.
        """
        self.calls += 1
        try:
            for _ in range(_MAX_WORKER_DEATHS):
                relay = EventRelay(observers)
                sending = _Sending(self._actor, called, before, on_progress, relay)
                try:
                    result = await sending.run()
                except self._ray.exceptions.RayError as error:
                    left = sending.may_have_left
                    relay.abort((OutcomeUnknown if left else type(error)).__name__)
                    if sending.may_have_left:
                        raise OutcomeUnknown(f"the worker died: {_MAY_HAVE_LEFT}") from None
                    await self._query("account")  # until it lives again
                    continue
                if result.error is not None:
                    raise result.error
                on_progress(Progress(result.sent, result.sent))
                return result.value
        finally:
            self.calls -= 1
        raise ConfigurationError(
            f"workers of the cluster died {_MAX_WORKER_DEATHS} times before they sent"
        )


class _Sending:
    """One call under way on a worker."""

    def __init__(
        self,
        actor: Any,
        called: RemoteCall,
        before: Callable[[], Awaitable[object]] | None,
        on_progress: Callable[[Progress], object],
        relay: EventRelay,
    ) -> None:
        self.may_have_left = False
        self._actor, self._called = actor, called
        self._before, self._on_progress = before, on_progress
        self._relay = relay
        self._id = secrets.token_hex(8)
        self._answer: asyncio.Future[CallResult] | None = None
        self._messages: asyncio.Future[Sequence[CallMessage]] | None = None
        self._unread: deque[CallMessage] = deque()
        self._refused: Exception | None = None
        self._cancelled = False

    async def run(self) -> CallResult:
        """Wait for what comes of it, pass on what it does, and answer at its first byte."""
        answer: asyncio.Future[CallResult] = _future_of(
            self._actor.call.remote(self._id, self._called)
        )
        self._answer = answer
        try:
            await self._read_messages()
            result = await asyncio.shield(answer)
            if self._refused is not None:
                if result.left:
                    self._refused.add_note(_MAY_HAVE_LEFT)
                raise self._refused
            return result
        except asyncio.CancelledError as error:
            self._cancelled = True
            self._actor.cancel.remote(self._id)
            if await self._had_left(answer):
                error.add_note(_MAY_HAVE_LEFT)
            self._relay.abort(type(error).__name__)
            raise

    async def _read_messages(self) -> None:
        """Read the worker's messages about the call, to its end."""
        # Who reads may be cancelled and read on. What is awaited then is awaited again, what is
        # unread stays so; the end stays for good: of a call that is over no worker has messages.
        while True:
            while self._unread:
                one = self._unread[0]
                if isinstance(one, CallEnd):
                    return
                self._unread.popleft()
                if isinstance(one, PermissionRequest):
                    await self._answer_permission()
                else:
                    self._relay.forward(one)
            if self._messages is None:
                self._messages = _future_of(self._actor.messages.remote(self._id))
            self._unread.extend(await self._next_messages(self._messages))
            self._messages = None

    async def _next_messages(
        self, messages: asyncio.Future[Sequence[CallMessage]]
    ) -> Sequence[CallMessage]:
        """Wait for messages.

        Raises:
            RayError: The worker died. The one that Ray starts in its stead knows nothing of the
                call: one would wait for ever.
        """
        assert self._answer is not None
        either: set[asyncio.Future[Any]] = {messages, self._answer}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not messages.done():
            self._answer.result()
            await asyncio.wait({messages}, timeout=_CANCEL_TIMEOUT)
        if messages.done():
            return messages.result()
        self._relay.abort("WorkerDied")  # once it had answered
        return [CallEnd()]

    async def _answer_permission(self) -> None:
        granted = False
        try:
            if self._before is not None and not self._cancelled:
                await self._before()
            granted = not self._cancelled
        except Exception as error:
            self._refused = error
        finally:  # cancelled, it is not granted either
            if granted:
                self.may_have_left = True
                # From here on nobody may say that no byte has left: a receipt neither.
                self._relay.request_leaving()
                self._on_progress(Progress(1, None))
            self._actor.permit.remote(self._id, granted=granted)

    async def _had_left(self, answer: asyncio.Future[CallResult]) -> bool:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CANCEL_TIMEOUT):
                await self._read_messages()
                result = await asyncio.shield(answer)
                return self.may_have_left and (result.left or not result.cancelled)
        return self.may_have_left


def _future_of(reference: Awaitable[T]) -> asyncio.Future[T]:
    """Return what Ray will say as a future, of which no error is complained of if nobody asks."""
    future = asyncio.ensure_future(reference)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future
