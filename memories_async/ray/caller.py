"""The actor on a worker that makes a cluster's calls, each once its driver permits it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Mapping
from typing import Final, TypeAlias, cast

import attrs

from memories_async.client import Memories
from memories_async.config import (
    API_KEY_VARIABLE,
    BASE_URL_VARIABLE,
    CAPTION_KEY_VARIABLE,
    CallOptions,
    Rate,
)
from memories_async.errors import MemoriesError
from memories_async.models import Progress
from memories_async.observe import Event
from memories_async.operations import Bucket
from memories_async.ray.actors import RayLimiter

ACCOUNT_VARIABLES: Final = (API_KEY_VARIABLE, CAPTION_KEY_VARIABLE, BASE_URL_VARIABLE)
Environment: TypeAlias = Mapping[str, str]


def digest_of(account: Environment) -> str:
    """Return a digest by which two accounts are compared; it tells no key."""
    said = "\n".join(account.get(name, "") for name in ACCOUNT_VARIABLES)
    return hashlib.sha256(said.encode()).hexdigest()


@attrs.frozen
class RemoteCall:
    """One call, as plain values that Ray can carry."""

    place: tuple[str, str]
    arguments: tuple[object, ...]
    fields: Mapping[str, object]
    options: CallOptions


@attrs.frozen
class CallResult:
    """What came of a call: a value, an error, or that it was cancelled; and whether it had left."""

    value: object = None
    error: Exception | None = None
    cancelled: bool = False
    left: bool = False
    sent: int = 0


class PermissionRequest:
    """A call wants to send its first byte."""


class CallEnd:
    """A call has come to its end: there are no more messages of it."""


CallMessage: TypeAlias = Event | PermissionRequest | CallEnd


class _Call:
    """A call on the worker: an observer of itself; it asks for permission to send."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[CallMessage] = asyncio.Queue()
        self.permission: asyncio.Queue[bool] = asyncio.Queue()
        self.task: asyncio.Future[object] | None = None

    def observe(self, event: Event, /) -> None:
        """Pass an event on."""
        self.messages.put_nowait(event)


class _RefusedError(Exception):
    """The other side does not let a request leave."""


class CallerActor:
    """The actor that sends; it keeps one client."""

    def __init__(self, rates: Mapping[Bucket, Rate] | None) -> None:
        self._rates = rates
        self._client: Memories | None = None
        self._calls: dict[str, _Call] = {}

    async def account(self) -> str:
        """Return a digest of whose account this worker uses; never the key."""
        return digest_of({name: os.environ.get(name, "") for name in ACCOUNT_VARIABLES})

    async def call(self, id: str, called: RemoteCall) -> CallResult:
        """Make a call, once permission is given; raises nothing."""
        call = self._calls.setdefault(id, _Call())
        sent = 0

        async def before_sending() -> None:
            call.messages.put_nowait(PermissionRequest())
            if not await call.permission.get():
                raise _RefusedError

        def on_progress(progress: Progress) -> None:
            nonlocal sent
            sent = progress.sent

        options = attrs.evolve(called.options, before_sending=before_sending, observers=[call])
        namespace, method = called.place
        try:
            if self._client is None:
                self._client = Memories(limiter=RayLimiter(), rates=self._rates)
            make = getattr(getattr(self._client, namespace), method)
            making = make(
                *called.arguments, **called.fields, options=options, on_progress=on_progress
            )
            call.task = task = asyncio.ensure_future(cast("Awaitable[object]", making))
            return CallResult(value=await task, sent=sent)
        except asyncio.CancelledError as error:
            return CallResult(cancelled=True, left=bool(getattr(error, "__notes__", None)))
        except MemoriesError as error:
            return CallResult(error=error, sent=sent)
        except Exception as error:
            # Its class may be unknown on the other side, and Ray would take that for its own fault.
            return CallResult(
                error=RuntimeError(f"{type(error).__name__}: {error}"),
                left=bool(getattr(error, "__notes__", None)),
                sent=sent,
            )
        finally:
            call.messages.put_nowait(CallEnd())

    async def messages(self, id: str) -> list[CallMessage]:
        """Wait for messages about a call; the last is that it is over."""
        messages = self._calls.setdefault(id, _Call()).messages
        found = [await messages.get()]
        while not messages.empty():
            found.append(messages.get_nowait())
        if isinstance(found[-1], CallEnd):
            del self._calls[id]
        return found

    async def permit(self, id: str, *, granted: bool) -> None:
        """Let a call send its first byte, or not, unless it has come to its end meanwhile."""
        call = self._calls.get(id)
        if call is not None:
            call.permission.put_nowait(granted)

    async def cancel(self, id: str) -> None:
        """Cancel a call, if it is under way."""
        call = self._calls.get(id)
        if call is not None and call.task is not None:
            call.task.cancel()
