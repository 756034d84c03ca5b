"""A server for an inbox that is in no web application: for scripts behind a tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from memories_async.callbacks.responses import INBOX
from memories_async.checks import checked
from memories_async.checks.kinds import PORT
from memories_async.errors import ConfigurationError, quoted

if TYPE_CHECKING:
    from memories_async.callbacks.inbox import CallbackInbox

DEFAULT_PORT = 8766
BACKLOG = 128


@checked({"inbox": INBOX, "port": PORT})
@contextlib.asynccontextmanager
async def serve(
    inbox: CallbackInbox, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT
) -> AsyncGenerator[str]:
    """Within the context, receive for an inbox.

    ``async with serve(inbox): ...``, with a tunnel from the inbox's address to this port.
    A connection has 10 seconds for the head of its request and 30 for the body, and serves one
    request. Of more than 100 that are open, the one that has shown no head for longest gives way.

    Args:
        inbox: The inbox; closing it stays with you.
        host: The address to listen on (default loopback, where a tunnel ends).
        port: The port to listen on (default 8766); 0 is a free one.

    Yields:
        Where it listens, e.g. ``http://127.0.0.1:8766``.

    Raises:
        ConfigurationError: The host or the port is none.
        OSError: The port is taken.
    """
    from memories_async.callbacks.connections import accepting

    loop = asyncio.get_running_loop()
    try:
        family, *_ = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
    except UnicodeError as error:  # Python encodes it, and no server of names is asked
        raise ConfigurationError(f"host {quoted(host)} is no name of a host: {error}") from None
    with socket.create_server((host, port), family=family, backlog=BACKLOG) as listening:
        name, bound, *_ = listening.getsockname()
        async with accepting(inbox, listening):
            yield f"http://[{name}]:{bound}" if ":" in name else f"http://{name}:{bound}"
