"""The inbox for code that cannot await: the same calls, on the portal's event loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from memories_async.callbacks.inbox import CallbackInbox
from memories_async.sync._portal import Portal

if TYPE_CHECKING:
    from memories_async.callbacks.stores.protocol import Store

P = ParamSpec("P")
T = TypeVar("T")


class BlockingInbox:
    """A ``CallbackInbox`` for Flask, Django and other code without an event loop.

    ``submit``, ``result``, ``address_for_video``, ``video`` and ``receive`` are those of
    :class:`CallbackInbox`, and block. The client that is given to ``submit`` is the asyncio one,
    ``memories_async.Memories``, and its calls run on this inbox's event loop, in a thread of
    their own; so does ``on_progress``.

    Args:
        address: The public http(s) address under which this inbox is mounted.
        store: Where tasks and results are kept; all workers must share it.
        secret: As for ``CallbackInbox``.
        allow_from: As for ``CallbackInbox``.

    Raises:
        ConfigurationError: The address, the secret or a network is malformed.
    """

    def __init__(
        self,
        address: str,
        *,
        store: Store,
        secret: str | None = None,
        allow_from: Collection[str] = (),
    ) -> None:
        inbox = CallbackInbox(address, store=store, secret=secret, allow_from=allow_from)
        self._portal = Portal(inbox.aclose)
        self._inbox = inbox
        self.address = inbox.address
        self.submit = self._blocking(inbox.submit)
        self.result = self._blocking(inbox.result)
        self.address_for_video = self._blocking(inbox.address_for_video)
        self.video = self._blocking(inbox.video)
        self.receive = self._blocking(inbox.receive)

    def __repr__(self) -> str:
        return f"BlockingInbox({self._inbox!r})"

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run another coroutine on this inbox's event loop, e.g. ``client.aclose()``."""
        return self._portal.run(lambda _: coroutine)

    def close(self) -> None:
        """Close the store's connections and end the thread; what the store keeps stays."""
        self._portal.close()

    def _blocking(self, call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
        @functools.wraps(call)
        def block(*args: P.args, **kwargs: P.kwargs) -> T:
            return self._portal.run(lambda _: call(*args, **kwargs))

        return block
