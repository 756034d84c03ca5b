"""The inbox in an aiohttp application."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from memories_async.callbacks.responses import INBOX, MOST_BYTES, refuse
from memories_async.checks import checked

if TYPE_CHECKING:
    from aiohttp import web

    from memories_async.callbacks.inbox import CallbackInbox


@checked({"inbox": INBOX})
def aiohttp_app(inbox: CallbackInbox) -> web.Application:
    """Return an application that receives for an inbox.

    ``app.add_subapp("/memories", aiohttp_app(inbox))``

    Args:
        inbox: The inbox; closing it stays with you.

    Raises:
        ConfigurationError: The inbox is none.
    """
    from aiohttp import web

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", functools.partial(respond, inbox))
    return application


async def respond(inbox: CallbackInbox, request: web.BaseRequest) -> web.Response:
    """Have an inbox take in a request."""
    from aiohttp import web

    response = refuse(request.method, request.content_length)
    if response is None:
        read = functools.partial(_read, request)
        response = await inbox.receive(request.path, read, peer=request.remote)
    return web.Response(status=response.status, body=response.body, headers=response.headers)


async def _read(request: web.BaseRequest) -> bytes:
    from aiohttp import ClientError, web

    body = bytearray()
    # Whoever leaves in the middle has sent half a body, and that is not JSON.
    with contextlib.suppress(OSError, RuntimeError, ClientError, web.RequestPayloadError):
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > MOST_BYTES:
                break
    return bytes(body)
