"""One call for each content, kind and options, whatever engine runs a task how often."""

from memories_async.bulk.once.calls import LEDGER, Once
from memories_async.bulk.once.identity import OnceSource, Openable
from memories_async.bulk.once.records import Record

__all__ = ["LEDGER", "Once", "OnceSource", "Openable", "Record"]
