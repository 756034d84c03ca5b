"""The blocking twin: the same client, without ``await``."""

from memories_async.sync._client import Memories

__all__ = ["Memories"]
