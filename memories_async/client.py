"""Memories: configuration in, namespaces out."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from memories_async._engine.dispatch import Dispatcher
from memories_async.assets import Assets
from memories_async.captions import Captions
from memories_async.config import CallOptions, Rate, Settings
from memories_async.embeddings import Embeddings
from memories_async.library import Library
from memories_async.operations import Bucket

if TYPE_CHECKING:
    import ssl

    from memories_async.clock import Clock
    from memories_async.limiters import Limiter


class Memories:
    """A client for memories.ai: asyncio in ``memories_async``, blocking in ``memories_async.sync``.

    Making one touches no event loop and no network. Use it in an ``async with`` block (blocking:
    ``with``), or close it when done. One client serves any number of concurrent calls. A pickle
    of it carries what it was told but never a key: where it is loaded, that comes from the
    environment again.

    Args:
        api_key: The account's key; by default ``MEMORIES_API_KEY`` of the environment.
        caption_key: The captioning host's own key; by default ``MEMORIES_CAPTION_KEY``. Its
            absence matters only when a caption is asked for.
        base_url: One address for all three services (the emulator, a gateway); by default
            ``MEMORIES_BASE_URL``, else the services' own hosts. https, or http on loopback.
        options: Deadline, attempts and timeouts of every call that brings none of its own.
        rates: Calls per period for each bucket. By default the documented limits on the
            services' own hosts, and none where ``base_url`` is given.
        limiter: Where calls are counted; by default in this process, for all clients together.
        max_connections: Connections open at once; further calls wait (default 100). No more than
            half the process's limit on open files allows (``ulimit -n``).
        ssl_context: Trust other certificates than the system's.
        clock: Time and chance, for tests.

    Raises:
        ConfigurationError: No key, or a malformed key, address or option.
    """

    captions: Captions
    """Captions of images and videos."""
    library: Library
    """The private image and video library."""
    embeddings: Embeddings
    """Pictures, texts and videos as vectors."""
    assets: Assets
    """Files uploaded once and used by their identifier."""

    def __init__(
        self,
        api_key: str | None = None,
        *,
        caption_key: str | None = None,
        base_url: str | None = None,
        options: CallOptions | None = None,
        rates: Mapping[Bucket, Rate] | None = None,
        limiter: Limiter | None = None,
        max_connections: int = 100,
        ssl_context: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = Settings.gather(
            api_key=api_key,
            caption_key=caption_key,
            base_url=base_url,
            options=options,
            rates=rates,
            max_connections=max_connections,
        )
        self._dispatcher = Dispatcher(
            self._settings, limiter=limiter, clock=clock, ssl_context=ssl_context
        )
        self.captions = Captions(self._dispatcher)
        self.library = Library(self._dispatcher)
        self.embeddings = Embeddings(self._dispatcher)
        self.assets = Assets(self._dispatcher)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._settings.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; calls from now on raise ClosedError. May be repeated."""
        await self._dispatcher.aclose()
