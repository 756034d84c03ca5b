"""The blocking twins: ``Memories``, ``CallbackInbox`` and ``Job`` without ``await``."""

from typing import TYPE_CHECKING

from memories_async.sync._client import Memories

if TYPE_CHECKING:
    from memories_async.sync._inbox import CallbackInbox
    from memories_async.sync._job import Job

__all__ = ["CallbackInbox", "Job", "Memories"]


def __getattr__(name: str) -> object:
    """Import what few programs need only for those that do."""
    if name == "CallbackInbox":
        from memories_async.sync._inbox import CallbackInbox

        return CallbackInbox
    if name == "Job":
        from memories_async.sync._job import Job

        return Job
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
