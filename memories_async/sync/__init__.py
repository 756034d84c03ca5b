"""The blocking client: ``Memories``, ``CallbackInbox`` and ``Job`` without ``await``.

May import bulk, callbacks, client and below.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from memories_async.sync._client import Memories

if TYPE_CHECKING:
    from memories_async.sync._inbox import CallbackInbox
    from memories_async.sync._job import Job

__all__ = ["CallbackInbox", "Job", "Memories"]


_LATE = {"CallbackInbox": "_inbox", "Job": "_job"}
"""What few programs need is imported for those alone."""


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"memories_async.sync.{_LATE[name]}"), name)
    globals()[name] = found
    return found
