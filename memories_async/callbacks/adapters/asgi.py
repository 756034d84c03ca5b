"""The inbox as an ASGI application, for Starlette, FastAPI and every other one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from memories_async.callbacks.responses import (
    INBOX,
    MOST_BYTES,
    CallbackResponse,
    path_of,
    refuse,
)
from memories_async.checks import checked

if TYPE_CHECKING:
    from memories_async.callbacks.inbox import CallbackInbox

# As asgiref and Starlette spell them.
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Asgi: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


@checked({"inbox": INBOX})
def asgi_app(inbox: CallbackInbox, otherwise: Asgi | None = None) -> Asgi:
    """Return an ASGI application that receives for an inbox.

    ``app.mount("/memories", asgi_app(inbox))``; or, where there is nothing to mount on,
    ``app = asgi_app(inbox, otherwise=app)``.

    Args:
        inbox: The inbox; closing it stays with you.
        otherwise: The application for every path that is not below the inbox's address.

    Raises:
        ConfigurationError: The inbox is none, or the application no function.
    """
    below = path_of(inbox.address) + "/"

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["path"].startswith(below)
        if otherwise is not None and not ours:
            await otherwise(scope, receive, send)
        elif scope["type"] == "http":
            await _send(send, await _respond(inbox, scope, receive))
        elif scope["type"] == "lifespan":
            await _live(receive, send)

    return application


async def _respond(inbox: CallbackInbox, scope: Message, receive: Receive) -> CallbackResponse:
    headers = cast("list[tuple[bytes, bytes]]", scope["headers"])
    length = next((value for name, value in headers if name == b"content-length"), b"")
    refusal = refuse(scope["method"], int(length) if length.isdigit() else None)
    if refusal is not None:
        return refusal

    async def read() -> bytes:
        body = bytearray()
        while len(body) <= MOST_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                break  # half a body is not JSON
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        return bytes(body)

    client = cast("tuple[str, int] | None", scope.get("client"))
    return await inbox.receive(scope["path"], read, peer=client[0] if client else None)


async def _send(send: Send, response: CallbackResponse) -> None:
    headers = {**response.headers, "Content-Length": str(len(response.body))}
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": response.body})


async def _live(receive: Receive, send: Send) -> None:
    """Agree to start and to stop, where this is the whole application."""
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})
