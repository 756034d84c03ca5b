"""An offline memories.ai service: every operation of the table, without an account."""

from memories_async.emulator.access import RateLimit
from memories_async.emulator.engine import (
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
    "Cut",
    "Drip",
    "Emulator",
    "Engine",
    "Entry",
    "Fault",
    "Faults",
    "FileEntry",
    "Hang",
    "Hit",
    "Ledger",
    "Line",
    "Person",
    "RateLimit",
    "Raw",
    "Reason",
    "UnreadableMediaError",
    "VideoFacts",
    "gateway",
]
