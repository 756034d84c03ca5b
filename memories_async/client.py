"""Memories: configuration in, namespaces out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Self

import attrs

from memories_async._engine.dispatch import Dispatcher, SharedEngine
from memories_async.assets import Assets
from memories_async.captions import Captions
from memories_async.checks import checked
from memories_async.checks.kinds import (
    AMOUNT,
    ANY_TEXT,
    CLOCK,
    COUNT,
    MAPPING,
    SECRET,
    with_methods,
)
from memories_async.config import OBSERVERS, CallOptions, Rate, Settings
from memories_async.embeddings import Embeddings
from memories_async.library import Library
from memories_async.operations import Bucket

if TYPE_CHECKING:
    import ssl

    from memories_async.clock import Clock
    from memories_async.limiters import Limiter
    from memories_async.observe.budget import Budget
    from memories_async.observe.events import Observer


@checked(
    {
        "api_key": SECRET,
        "caption_key": SECRET,
        "base_url": attrs.evolve(ANY_TEXT, wanted="an http(s) address"),
        "limiter": with_methods("take", "give_back", wanted="a limiter of memories_async.limiters"),
        "max_connections": COUNT,
        "proxy": SECRET,
        "ssl_context": with_methods("wrap_bio", "get_ca_certs", wanted="an ssl.SSLContext"),
        "clock": CLOCK,
        "observers": OBSERVERS,
        "dollars": AMOUNT,
        "prices": attrs.evolve(MAPPING, wanted="a mapping of calls to dollars"),
    }
)
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
        rates: Calls per period for each bucket, named by ``Bucket`` or by a text such as
            ``"embedding"``. By default the documented limits on the services' own hosts, and none
            where ``base_url`` is given.
        limiter: Where calls are counted; by default in this process, for all clients together.
        max_connections: Connections open at once; further calls wait (default 100). No more than
            half the process's limit on open files allows (``ulimit -n``).
        proxy: What all requests go through: ``http://host:port``, or
            ``http://user:password@host:port`` (which no pickle carries). By default what
            ``HTTPS_PROXY`` and ``NO_PROXY`` say.
        ssl_context: Trust other certificates than the system's.
        clock: Time and chance, for tests.
        observers: Who is told what every call does (``memories_async.observe``). Log lines are
            written to the logger ``memories_async`` without one; ``MEMORIES_LOG=debug`` in the
            environment shows them.

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
        rates: Mapping[Bucket, Rate] | Mapping[str, Rate] | None = None,
        limiter: Limiter | None = None,
        max_connections: int = 100,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        if os.environ.get("MEMORIES_LOG"):
            from memories_async.observe.logs import configure_from_environment

            configure_from_environment()
        self._settings = Settings.gather(
            api_key=api_key,
            caption_key=caption_key,
            base_url=base_url,
            options=options,
            rates=rates,
            max_connections=max_connections,
            proxy=proxy,
        )
        engine = SharedEngine(
            self._settings,
            limiter=limiter,
            clock=clock,
            ssl_context=ssl_context,
            observers=observers,
        )
        self._share(Dispatcher(engine, self._settings.policy))

    def _share(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.captions = Captions(dispatcher)
        self.library = Library(dispatcher)
        self.embeddings = Embeddings(dispatcher)
        self.assets = Assets(dispatcher)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._settings.base_url!r})"

    def with_options(self, options: CallOptions) -> Self:
        """Return a client whose calls go by other options, over the same connections and limits.

        Args:
            options: What differs from this client's own; headers, fields and observers are added to
                its, and its ``before_sending`` is awaited first.

        Returns:
            A client like this one. Closing it leaves this one open; closing this one ends both.

        Raises:
            ConfigurationError: The options are none.
        """
        client = object.__new__(type(self))
        client._settings = self._settings
        client._share(self._dispatcher.with_options(options))
        return client

    async def __aenter__(self) -> Self:
        self._dispatcher.reopen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def budget(
        self,
        *,
        dollars: float | Decimal,
        prices: Mapping[str, float | Decimal] | None = None,
    ) -> Budget:
        """Return a scope within which this client's calls together cost at most so much.

        Used in a ``with`` or ``async with`` block. While it is open every billable call of the
        client counts, from whatever task or thread: its price is set aside before anything is
        sent, and is free again if the call turns out not to have been billed. What may have been
        billed counts as billed. Scopes may be nested and overlap: a call counts in each.

        Args:
            dollars: The most that the calls may cost together.
            prices: Dollars per success by public method, such as ``{"captions.image": 0.002}``:
                the service documents a price for ``embeddings.image`` and ``library.search`` only.

        Raises:
            ConfigurationError: An amount is none, or ``prices`` names no call. Also from a call
                whose price nobody has said.
            BudgetExceeded: From a call that would cost more than is left; it is not sent.
        """
        from memories_async.observe.budget import Budget

        budgets = self._dispatcher.budgets
        return Budget(dollars, prices, budgets.append, budgets.remove)

    async def aclose(self) -> None:
        """Close the connections; calls from now on raise ClosedError. May be repeated.

        Entered once more with ``async with`` (blocking: ``with``), the client connects anew.
        """
        await self._dispatcher.aclose()
