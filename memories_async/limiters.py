"""Where calls are counted, so that processes and hosts can share an account's limits."""

from memories_async._engine.limiters import (
    Limiter,
    MemoryLimiter,
    RedisLimiter,
    SqliteLimiter,
    Turn,
)

__all__ = ["Limiter", "MemoryLimiter", "RedisLimiter", "SqliteLimiter", "Turn"]
