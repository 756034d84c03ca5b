"""Bulk jobs: thousands of images or videos, sent once each, over any number of interrupted runs."""

from memories_async.bulk.job import Job
from memories_async.bulk.kinds import KINDS, Kind
from memories_async.bulk.ledger import Ledger, RedisLedger, SqliteLedger
from memories_async.bulk.models import (
    Counts,
    Event,
    Input,
    Inputs,
    Item,
    JobBusy,
    JournalError,
    Plan,
    Report,
    Status,
    Stop,
    StopReason,
)
from memories_async.bulk.once import Once, Record

__all__ = [
    "KINDS",
    "Counts",
    "Event",
    "Input",
    "Inputs",
    "Item",
    "Job",
    "JobBusy",
    "JournalError",
    "Kind",
    "Ledger",
    "Once",
    "Plan",
    "Record",
    "RedisLedger",
    "Report",
    "SqliteLedger",
    "Status",
    "Stop",
    "StopReason",
]
