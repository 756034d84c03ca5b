"""Where calls are counted: in this process, in a file, or in Redis; one rule over three stores.

May import config and below.
"""

from memories_async.limiters.memory import SHARED, MemoryLimiter
from memories_async.limiters.redis import RedisLimiter
from memories_async.limiters.rule import Limiter, PausableLimiter, Spacing, Turn
from memories_async.limiters.sqlite import SqliteLimiter

__all__ = [
    "SHARED",
    "Limiter",
    "MemoryLimiter",
    "PausableLimiter",
    "RedisLimiter",
    "Spacing",
    "SqliteLimiter",
    "Turn",
]
