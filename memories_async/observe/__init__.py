"""What a call did: how often it was sent, for what it waited, what it cost, who throttled.

May import operations and below.
"""

from memories_async.observe.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    Charged,
    Event,
    ObservedCall,
    Observer,
    RequestLeaving,
    Throttled,
    Waited,
)
from memories_async.observe.receipts import Receipt, Receipts, Total, read_receipts, totals

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "CallEnded",
    "CallStarted",
    "Charged",
    "Event",
    "ObservedCall",
    "Observer",
    "Receipt",
    "Receipts",
    "RequestLeaving",
    "Throttled",
    "Total",
    "Waited",
    "read_receipts",
    "totals",
]
