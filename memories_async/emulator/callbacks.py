"""What the service posts to callback addresses, and what goes wrong with that on request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import attrs

from memories_async import _json, operations
from memories_async.checks import checked
from memories_async.checks.kinds import COUNT, instance_of, seconds_from
from memories_async.checks.parameters import between
from memories_async.emulator import deliveries
from memories_async.emulator.deliveries import AsgiApplication, Deliver, WsgiApplication
from memories_async.emulator.faults import Faults
from memories_async.emulator.ledger import named

if TYPE_CHECKING:
    from memories_async.emulator.http.outbound import OutboundClient


def caption_done(task_id: str, text: str, token: Mapping[str, int]) -> dict[str, object]:
    """Return the documented body of a finished caption."""
    return {"status": 0, "task_id": task_id, "data": {"text": text, "token": token}}


def caption_failed(task_id: str) -> dict[str, object]:
    """Return the body of a failed caption: the service sends no reason."""
    return {"status": -1, "task_id": task_id, "data": None, "token": None}


def video_indexed(video_no: str, status: str) -> dict[str, object]:
    """Return the body that follows the indexing of a library video."""
    return {"videoNo": video_no, "status": status}


# --- what goes wrong --------------------------------------------------------------------------


_MOST_POSTED = 10_000


@attrs.frozen
class Early:
    """It comes before the answer to the request that asked for it."""


@checked({"seconds": seconds_from(0)})
@attrs.frozen
class Late:
    """It comes later.

    Attributes:
        seconds: By so much.
    """

    seconds: float = 1.0


@attrs.frozen
class Overtaken:
    """It comes after the next callback that has no such fault."""


@checked({"times": COUNT})
@attrs.frozen
class Repeated:
    """It comes more than once.

    Attributes:
        times: How many more times.
        body: What comes these times; None is the same.
    """

    times: int = 1
    body: object = None


@checked
@attrs.frozen
class Rewritten:
    """It comes with another body.

    Attributes:
        rewrite: Returns what is posted in place of the real body: JSON, or bytes as they are.
    """

    rewrite: Callable[[dict[str, object]], object]


@checked
@attrs.frozen
class Forged:
    """Somebody else posts first.

    Attributes:
        body: What is posted; None is what the service will post.
        guessed: Whether the address is guessed, one character being wrong; else it has leaked.
    """

    body: object = None
    guessed: bool = True


@attrs.frozen
class Held:
    """It comes when ``emulator.callbacks.release`` is called."""


@attrs.frozen
class Dropped:
    """It never comes."""


CallbackEffect: TypeAlias = (
    Early | Late | Overtaken | Repeated | Rewritten | Forged | Held | Dropped
)


_EFFECTS = (Early, Late, Overtaken, Repeated, Rewritten, Forged, Held, Dropped)
CALLING_BACK = (
    operations.SUBMIT_VIDEO_URL,
    operations.SUBMIT_VIDEO_FILE,
    operations.ADD_VIDEO_URL,
    operations.ADD_VIDEO_FILE,
)
"""The rows that take a callback's address."""


@checked(
    {
        "operation": named(*CALLING_BACK, what="operation with a callback"),
        "effect": instance_of(*_EFFECTS),
        "nth": COUNT,
        "times": COUNT,
    }
)
@attrs.frozen
class CallbackFault:
    """What goes wrong with which callbacks.

    ``CallbackFault(None, Dropped(), nth=2)`` loses the second; they are counted in the order in
    which the requests that ask for them are accepted.

    Attributes:
        operation: A row of the table (``submit_video_file``), a call (``captions.submit_video``,
            ``library.add_video``), or None for any callback.
        effect: What goes wrong.
        nth: The first callback that is hit, counting from 1 when the fault is added.
        times: How many callbacks are hit from there on; None is all of them.

    Raises:
        ConfigurationError: It is none of these.
    """

    operation: str | None
    effect: CallbackEffect
    nth: int = attrs.field(default=1, kw_only=True)
    times: int | None = attrs.field(default=1, kw_only=True)


@attrs.frozen
class Posted:
    """A callback that was posted.

    Attributes:
        url: Where to.
        body: What.
        status: The HTTP status of the answer; None if there was none.
    """

    url: str
    body: object
    status: int | None


class Callbacks(Faults[CallbackFault]):
    """The faults of callbacks that are switched on, and everything that was posted.

    Attributes:
        posted: Every POST (the last 10,000), in the order of their answers.
        held: Addresses and bodies that wait to be released, in that order; reorder them at will.
    """

    _wanted: ClassVar[type] = CallbackFault

    def __init__(
        self, outbound: OutboundClient, sleep: Callable[[float], Awaitable[object]]
    ) -> None:
        super().__init__()
        self.posted: list[Posted] = []
        self.held: list[tuple[str, dict[str, object]]] = []
        self._overtaken: list[tuple[str, dict[str, object]]] = []
        self._outbound = outbound
        self._sleep = sleep
        self._deliver: Deliver | None = None

    def check(self, url: str) -> None:
        """Raise ``Refusal`` for an address that would be refused without resolving its name."""
        if self._deliver is None:
            self._outbound.check(url)

    @checked
    def deliver_to_asgi(self, application: AsgiApplication) -> None:
        """Hand all callbacks to an ASGI application in this process, whatever their host.

        It runs on the loop from which this is called; without one, on the emulator's.
        """
        try:
            loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        self._deliver = deliveries.to_asgi(application, loop)

    @checked
    def deliver_to_wsgi(self, application: WsgiApplication) -> None:
        """Hand all callbacks to a WSGI application in this process, whatever their host."""
        self._deliver = deliveries.to_wsgi(application)

    @checked
    def deliver_to(self, function: Callable[[str, bytes], int]) -> None:
        """Hand all callbacks to a function that takes address and body and returns the status.

        For a web framework's test client: ``lambda url, body: client.post(url, content=body)
        .status_code``. It is called in a thread.
        """
        self._deliver = deliveries.to_function(function)

    def reset(self) -> None:
        """Switch all faults off, and forget what was posted and what is held."""
        self.clear()
        self.posted.clear()
        self.held.clear()
        self._overtaken.clear()
        self._deliver = None

    @checked({"count": between(0, math.inf)})
    async def release(self, count: int | None = None) -> None:
        """Post what is held, or so many from the front; return when all are answered."""
        while self.held and (count is None or count > 0):
            await self._post(*self.held.pop(0))
            count = None if count is None else count - 1

    async def send(self, url: str, body: dict[str, object], fault: CallbackFault | None) -> None:
        """Post a callback, or do what the fault says."""
        match fault and fault.effect:
            case Dropped():
                return
            case Held():
                self.held.append((url, body))
                return
            case Overtaken():
                self._overtaken.append((url, body))
                return
            case Late(seconds):
                await self._sleep(seconds)
                await self._post(url, body)
            case Repeated(times, other):
                await self._post(url, body)
                for _ in range(times):
                    await self._post(url, body if other is None else other)
            case Rewritten(rewrite):
                await self._post(url, rewrite(body))
            case Forged(forged, guessed):
                address = url[:-1] + ("A" if url[-1] != "A" else "B") if guessed else url
                await self._post(address, body if forged is None else forged)
                await self._post(url, body)
            case _:
                await self._post(url, body)
        while self._overtaken:
            await self._post(*self._overtaken.pop(0))

    async def _post(self, url: str, body: object) -> None:
        if self._deliver is None:
            status = await self._outbound.post(url, body)
        else:
            content = body if isinstance(body, bytes) else _json.dumps(body)
            status = await self._deliver(url, content)
        self.posted.append(Posted(url, body, status))
        del self.posted[:-_MOST_POSTED]
