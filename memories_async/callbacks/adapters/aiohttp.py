"""The inbox in an aiohttp application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memories_async.callbacks.responses import MOST_BYTES, CallbackResponse, refuse

if TYPE_CHECKING:
    from aiohttp import web

    from memories_async.callbacks.inbox import CallbackInbox


def aiohttp_app(inbox: CallbackInbox) -> web.Application:
    """Return an application that receives for an inbox.

    ``app.add_subapp("/memories", aiohttp_app(inbox))``

    Args:
        inbox: The inbox; closing it stays with you.
    """
    from aiohttp import web

    async def receive(request: web.Request) -> web.Response:
        answer = refuse(request.method, request.content_length)
        if answer is None:
            body = await _read(request)
            answer = await inbox.receive(request.path, body, peer=request.remote)
        return _response(answer)

    async def _read(request: web.Request) -> bytes:
        body = bytearray()
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > MOST_BYTES:
                break
        return bytes(body)

    def _response(answer: CallbackResponse) -> web.Response:
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receive)
    return application
