"""Bulk jobs: thousands of images or videos, sent once each, over any number of interrupted runs.

May import client and below.
"""

from memories_async.bulk.job import Job
from memories_async.bulk.kinds import KINDS, JobKind
from memories_async.bulk.ledger import Ledger, RedisLedger, SqliteLedger
from memories_async.bulk.models import (
    Counts,
    Event,
    Input,
    Inputs,
    Item,
    Plan,
    PlannedInput,
    Report,
    SingleInput,
    Status,
    Stop,
    StopReason,
    UnsentReason,
)
from memories_async.bulk.once import Once, Record
from memories_async.errors import JobBusy, JournalError

__all__ = [
    "KINDS",
    "Counts",
    "Event",
    "Input",
    "Inputs",
    "Item",
    "Job",
    "JobBusy",
    "JobKind",
    "JournalError",
    "Ledger",
    "Once",
    "Plan",
    "PlannedInput",
    "Record",
    "RedisLedger",
    "Report",
    "SingleInput",
    "SqliteLedger",
    "Status",
    "Stop",
    "StopReason",
    "UnsentReason",
]
