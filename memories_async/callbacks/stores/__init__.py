"""Where tasks and their results are kept: in this process, in a file, or in Redis."""

from memories_async.callbacks.stores.memory import MemoryStore
from memories_async.callbacks.stores.protocol import Delivery, DeliveryStatus, Store
from memories_async.callbacks.stores.redis import RedisStore
from memories_async.callbacks.stores.sqlite import SqliteStore

__all__ = ["Delivery", "DeliveryStatus", "MemoryStore", "RedisStore", "SqliteStore", "Store"]
