"""An offline memories.ai service: every operation of the table, without an account.

May import operations, checks, _json and _version.
"""

from memories_async.emulator.answers import Answers, ChosenAnswer
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
from memories_async.emulator.clock import AdjustableClock
from memories_async.emulator.engines.protocol import (
    Engine,
    Hit,
    Line,
    ReferencePerson,
    UnreadableMediaError,
    VideoFacts,
)
from memories_async.emulator.faults import Cut, Drip, Faults, Hang, InjectedFault, Raw
from memories_async.emulator.http.auth import RateLimit
from memories_async.emulator.http.envelopes import HttpResponse, Reason, gateway
from memories_async.emulator.ledger import FileEntry, LedgerEntry, RequestLedger
from memories_async.emulator.server import Emulator

__all__ = [
    "AdjustableClock",
    "Answers",
    "CallbackFault",
    "Callbacks",
    "ChosenAnswer",
    "Cut",
    "Drip",
    "Dropped",
    "Early",
    "Emulator",
    "Engine",
    "Faults",
    "FileEntry",
    "Forged",
    "Hang",
    "Held",
    "Hit",
    "HttpResponse",
    "InjectedFault",
    "Late",
    "LedgerEntry",
    "Line",
    "Overtaken",
    "Posted",
    "RateLimit",
    "Raw",
    "Reason",
    "ReferencePerson",
    "Repeated",
    "RequestLedger",
    "Rewritten",
    "UnreadableMediaError",
    "VideoFacts",
    "gateway",
]
