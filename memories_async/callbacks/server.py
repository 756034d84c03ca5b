"""A server for an inbox that is in no web application: for scripts behind a tunnel."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memories_async.callbacks.inbox import CallbackInbox

DEFAULT_PORT = 8766


@contextlib.asynccontextmanager
async def serve(
    inbox: CallbackInbox, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT
) -> AsyncGenerator[str]:
    """Within the context, receive for an inbox.

    ``async with serve(inbox): ...``, with a tunnel from the inbox's address to this port.

    Args:
        inbox: The inbox; closing it stays with you.
        host: The address to listen on (default loopback, where a tunnel ends).
        port: The port to listen on (default 8766); 0 is a free one.

    Yields:
        Where it listens, e.g. ``http://127.0.0.1:8766``.

    Raises:
        OSError: The port is taken.
    """
    from aiohttp import web

    from memories_async.callbacks.adapters.aiohttp import aiohttp_app

    runner = web.AppRunner(aiohttp_app(inbox), access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        name, bound, *_ = runner.addresses[0]
        yield f"http://[{name}]:{bound}" if ":" in name else f"http://{name}:{bound}"
    finally:
        await runner.cleanup()
