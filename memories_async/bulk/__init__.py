"""Bulk jobs: thousands of images or videos, sent once each, over any number of interrupted runs."""

from memories_async.bulk.job import Job
from memories_async.bulk.kinds import KINDS, Kind
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
    "Plan",
    "Report",
    "Status",
    "Stop",
    "StopReason",
]
