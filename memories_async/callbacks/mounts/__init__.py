"""The inbox in other people's applications."""

from memories_async.callbacks.mounts.aiohttp import aiohttp_app
from memories_async.callbacks.mounts.asgi import asgi_app
from memories_async.callbacks.mounts.wsgi import wsgi_app

__all__ = ["aiohttp_app", "asgi_app", "wsgi_app"]
