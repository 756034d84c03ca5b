"""What was sent and what came of it, outside of whatever may run a task twice."""

from memories_async.bulk.ledger.entries import Begun, Entry, Totals, UnknownPolicy
from memories_async.bulk.ledger.protocol import Ledger
from memories_async.bulk.ledger.redis import RedisLedger
from memories_async.bulk.ledger.sqlite import SqliteLedger

__all__ = [
    "Begun",
    "Entry",
    "Ledger",
    "RedisLedger",
    "SqliteLedger",
    "Totals",
    "UnknownPolicy",
]
