"""Results that the service posts to an address of yours: received, matched and awaited.

May import sync, _engine and below.
"""

from memories_async.callbacks.adapters import aiohttp_app, asgi_app, wsgi_app
from memories_async.callbacks.inbox import CallbackInbox
from memories_async.callbacks.responses import CallbackResponse
from memories_async.callbacks.server import serve
from memories_async.callbacks.stores import (
    Delivery,
    DeliveryStatus,
    MemoryStore,
    RedisStore,
    SqliteStore,
    Store,
)

__all__ = [
    "CallbackInbox",
    "CallbackResponse",
    "Delivery",
    "DeliveryStatus",
    "MemoryStore",
    "RedisStore",
    "SqliteStore",
    "Store",
    "aiohttp_app",
    "asgi_app",
    "serve",
    "wsgi_app",
]
