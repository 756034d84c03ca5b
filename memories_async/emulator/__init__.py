"""An offline memories.ai service: every operation of the table, without an account."""

from memories_async.emulator.auth import RateLimit
from memories_async.emulator.callbacks import (
    CallbackFault,
    Callbacks,
    Dropped,
    Early,
    Forged,
    Held,
    Late,
    Overtaken,
    Posted,
    Repeated,
    Rewritten,
)
from memories_async.emulator.engines.protocol import (
    Engine,
    Hit,
    Line,
    Person,
    UnreadableMediaError,
    VideoFacts,
)
from memories_async.emulator.envelopes import Answer, Reason, gateway
from memories_async.emulator.faults import Cut, Drip, Fault, Faults, Hang, Raw
from memories_async.emulator.ledger import Entry, FileEntry, Ledger
from memories_async.emulator.server import Emulator

__all__ = [
    "Answer",
    "CallbackFault",
    "Callbacks",
    "Cut",
    "Drip",
    "Dropped",
    "Early",
    "Emulator",
    "Engine",
    "Entry",
    "Fault",
    "Faults",
    "FileEntry",
    "Forged",
    "Hang",
    "Held",
    "Hit",
    "Late",
    "Ledger",
    "Line",
    "Overtaken",
    "Person",
    "Posted",
    "RateLimit",
    "Raw",
    "Reason",
    "Repeated",
    "Rewritten",
    "UnreadableMediaError",
    "VideoFacts",
    "gateway",
]
