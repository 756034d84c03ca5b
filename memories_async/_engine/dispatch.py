"""Where the namespaces hand over: sources are checked off the loop, and the engine started late."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, Any, TypeVar

from memories_async.errors import ClosedError, ConfigurationError, MemoriesError
from memories_async.media.source import path_of

if TYPE_CHECKING:
    import ssl

    from memories_async._engine.pipeline import Pipeline
    from memories_async._engine.request import ProgressHook
    from memories_async.clock import Clock
    from memories_async.config import CallOptions, Policy, Settings
    from memories_async.limiters import Limiter
    from memories_async.media.readers import Attachment
    from memories_async.media.source import Source
    from memories_async.models import Outcome
    from memories_async.observe.budget import Budget
    from memories_async.observe.events import Observer
    from memories_async.operations import Operation

S = TypeVar("S")
T = TypeVar("T")

_PIPELINE = "memories_async._engine.pipeline"


class Dispatcher:
    """A client's way to the engine, with the options that its calls go by.

    Args:
        engine: What sends them; other clients may share it.
        policy: How to wait and retry.
        owner: Whether closing this client closes the engine.
    """

    def __init__(self, engine: SharedEngine, policy: Policy, *, owner: bool = True) -> None:
        self.settings = engine.settings
        self._engine = engine
        self.policy = policy
        self._owner = owner
        self._closed = False

    def with_options(self, options: CallOptions) -> Dispatcher:
        """Return another way to the same engine."""
        return Dispatcher(self._engine, self.policy.with_options(options), owner=False)

    @property
    def budgets(self) -> list[Budget]:
        """The open scopes in which the engine's calls are counted."""
        return self._engine.budgets

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_closed": False}

    async def send(
        self,
        operation: Operation[T],
        fields: Mapping[str, object],
        *,
        sources: Sequence[Source] = (),
        files: Sequence[Attachment] = (),
        known: Mapping[str, object] | None = None,
        options: CallOptions | None = None,
        on_progress: ProgressHook | None = None,
        destination: str | os.PathLike[str] | None = None,
    ) -> T:
        """Check the sources, make the request and send it.

        Args:
            operation: The row of the table.
            fields: Wire names to values.
            sources: What to send, as the caller gave it: checked against the operation's rule.
            files: What has been checked already, where no sources are given.
            known: Fields of the result that the answer does not repeat.
            options: What differs from the client's own settings.
            on_progress: Told of accepted bytes.
            destination: Where a downloaded file is to lie.
        """
        try:
            key = self.settings.key(operation.service)  # told before a file is touched
            pipeline = await self.engine()
            return await pipeline.call(
                operation,
                fields,
                origin=self.settings.origin(operation.service),
                key=key,
                policy=self.policy.with_options(options),
                sources=sources,
                files=files,
                known=known,
                on_progress=on_progress,
                destination=destination if destination is None else path_of(destination),
            )
        except MemoriesError as error:
            error.operation = error.operation or str(operation)
            raise

    async def inspect(
        self, operation: Operation[Any], sources: Sequence[Source]
    ) -> Sequence[Attachment]:
        """Check sources against what an operation takes, before any request is made.

        Raises:
            MediaError: At least one cannot be sent; each is named.
            ConfigurationError: One is not a kind of source, or the key is missing.
        """
        try:
            self.settings.key(operation.service)
            return await (await self.engine()).inspect(operation, sources, None)
        except MemoriesError as error:
            error.operation = str(operation)
            raise

    async def prepare(self, operation: Operation[Any], function: Callable[[], S]) -> S:
        """Run what blocks before an operation can be sent, in a worker thread.

        Args:
            operation: What it is for; its errors name it.
            function: What looks at files.
        """
        try:
            return await (await self.engine()).run(function)
        except MemoriesError as error:
            error.operation = str(operation)
            raise

    def batch(
        self,
        items: Iterable[S] | AsyncIterable[S],
        call: Callable[[S], Awaitable[T]],
        *,
        concurrency: int,
        ordered: bool,
    ) -> AsyncIterator[Outcome[T]]:
        """Call for every item, so many at once; see batches.py."""
        from memories_async import batches

        return batches.run(items, call, concurrency=concurrency, ordered=ordered)

    async def clock(self) -> Clock:
        """Return the clock that the client goes by."""
        return (await self.engine()).clock

    async def engine(self) -> Pipeline:
        """Return the engine, imported and made at the first call.

        Raises:
            ClosedError: The client was closed.
            ConfigurationError: No event loop of asyncio is running.
        """
        if self._closed:
            raise ClosedError("the client has been closed")
        return await self._engine.pipeline()

    def reopen(self) -> None:
        """Let calls be made again after ``aclose``; they connect anew."""
        self._closed = False
        if self._owner:
            self._engine.reopen()

    async def aclose(self) -> None:
        """End this client, and the engine if it is its own; calls raise ClosedError from now on."""
        self._closed = True
        if self._owner:
            await self._engine.aclose()


class SharedEngine:
    """What clients send through. Making one touches no event loop and no network."""

    def __init__(
        self,
        settings: Settings,
        *,
        limiter: Limiter | None,
        clock: Clock | None,
        ssl_context: ssl.SSLContext | None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.settings = settings
        self.budgets: list[Budget] = []
        self._observers = tuple(observers)
        self._limiter = limiter
        self._clock = clock
        self._ssl_context = ssl_context
        self._pipelines: dict[int, Pipeline] = {}
        """This process's one, by its number."""
        self._closed = False

    def __getstate__(self) -> dict[str, object]:
        # A pickle carries what the client was told; where it is loaded, it connects anew.
        return {**self.__dict__, "_pipelines": {}, "_closed": False, "budgets": []}

    async def pipeline(self) -> Pipeline:
        """Return the pipeline, imported and made at the first call.

        Importing aiohttp takes some 100 ms; a worker thread does it, so the loop goes on.
        """
        if self._closed:
            raise ClosedError("the client has been closed")
        process = os.getpid()
        pipeline = self._pipelines.get(process)
        if pipeline is None:
            import asyncio  # late like the rest: it is half of what importing us would cost

            try:
                asyncio.get_running_loop()
            except RuntimeError:
                raise ConfigurationError(
                    "no event loop of asyncio is running: this client is for asyncio only, not for "
                    "trio; blocking code takes memories_async.sync"
                ) from None
            # A module that another call is just importing is listed, but not yet whole.
            if not hasattr(sys.modules.get(_PIPELINE), "Pipeline"):
                await asyncio.to_thread(importlib.import_module, _PIPELINE)
                return await self.pipeline()
            # A forked child has none of its parent's threads, and no business with its sockets.
            for parent in self._pipelines.keys() - {process}:
                self._pipelines.pop(parent, None)
            # Threads may come at once: what the first of them has made is everybody's.
            pipeline = self._pipelines.setdefault(process, self._assemble())
        return pipeline

    def _assemble(self) -> Pipeline:
        from memories_async._engine.pipeline import Pipeline
        from memories_async.clock import SystemClock
        from memories_async.limiters import SHARED

        return Pipeline(
            self.settings,
            limiter=self._limiter or SHARED,
            clock=self._clock or SystemClock(),
            ssl_context=self._ssl_context,
            observers=self._observers,
            budgets=self.budgets,
        )

    def reopen(self) -> None:
        """Let calls be made again after ``aclose``."""
        self._closed = False

    async def aclose(self) -> None:
        """Close connections and threads; calls from now on raise ClosedError."""
        self._closed = True
        pipeline = self._pipelines.pop(os.getpid(), None)
        if pipeline is not None:
            await pipeline.aclose()
