"""The inbox in other people's applications."""

from memories_async.callbacks.adapters.aiohttp import aiohttp_app
from memories_async.callbacks.adapters.asgi import asgi_app
from memories_async.callbacks.adapters.wsgi import wsgi_app

__all__ = ["aiohttp_app", "asgi_app", "wsgi_app"]
