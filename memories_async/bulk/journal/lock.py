"""One run of a job at a time: a lock of the operating system, on a file beside the journal.

The kernel frees it when the process that holds it ends, however it ends: there is no clock in it
and nothing to take over. It is never a lock on the journal itself, where SQLite has its own.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
import weakref
from datetime import UTC, datetime
from typing import Final

import attrs

from memories_async.errors import ConfigurationError, JobBusy, JournalError

SUFFIX: Final = ".lock"
PATIENCE: Final = 0.3
"""Seconds for which a lock is tried: whoever only asks who holds it has it for an instant."""
_TAKEN: Final = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})

if sys.platform == "win32":
    import msvcrt

    _BEYOND = 1 << 30  # a locked region cannot be read there, so it lies beyond what is written

    def _take(descriptor: int, *, shared: bool) -> None:
        os.lseek(descriptor, _BEYOND, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(descriptor: int, *, shared: bool) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


@attrs.frozen
class LockHolder:
    """Who holds a lock, as written down by itself.

    Attributes:
        pid: The process.
        host: Its host.
        purpose: What it does with the job, e.g. ``run``.
        since: When it took the lock, in UTC.
    """

    pid: int
    host: str
    purpose: str
    since: datetime

    def __str__(self) -> str:
        return (
            f"process {self.pid} on {self.host} "
            f"({self.purpose}, since {self.since:%Y-%m-%d %H:%M:%S} UTC)"
        )


class JobLock:
    """The lock of one job.

    Args:
        journal: The job's file.
    """

    def __init__(self, journal: str) -> None:
        self._journal = journal
        self._path = journal + SUFFIX
        self._descriptor: int | None = None

    def acquire(self, purpose: str) -> None:
        """Take the lock; blocks for no longer than ``PATIENCE``.

        Args:
            purpose: What for, told to those that are refused.

        Raises:
            JobBusy: Somebody holds it, be it this process.
            JournalError: Its file cannot be made, or the file system knows no locks.
        """
        end = time.monotonic() + PATIENCE
        while True:
            descriptor = self._opened()
            try:
                _take(descriptor, shared=False)
                if _same_file(descriptor, self._path):
                    _write_holder(descriptor, purpose)
                    self._descriptor = descriptor
                    _HELD.add(self)
                    return
            except OSError as error:
                if error.errno not in _TAKEN:
                    os.close(descriptor)
                    raise JournalError(f"{self._path} cannot be locked: {error}") from None
                if time.monotonic() > end:
                    other = _read_holder(descriptor)
                    os.close(descriptor)
                    who = f"by {other}" if other else "elsewhere"
                    raise JobBusy(f"{self._journal} is in use {who}") from None
                time.sleep(0.01)
            # Taken, but whoever held it before has deleted the file; or not taken yet.
            os.close(descriptor)

    def release(self) -> None:
        """Give the lock back; do nothing if it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _HELD.discard(self)
            # While it is held nobody else takes it for the file of that name.
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(descriptor)

    def forget(self) -> None:
        """Drop what a fork has copied: the lock is the parent's, and must end with it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            return os.open(self._path, flags, 0o600)
        except OSError as error:
            raise JournalError(f"{self._path} cannot be opened: {error.strerror}") from None


_HELD: weakref.WeakSet[JobLock] = weakref.WeakSet()


def holder(journal: str) -> LockHolder | None:
    """Return who has the job of this file in hand, or None.

    Raises:
        ConfigurationError: The lock's file is no regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(journal + SUFFIX, flags | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{journal}{SUFFIX}: {error.strerror}") from None
    try:
        _take(descriptor, shared=True)
    except OSError:
        return _read_holder(descriptor) or LockHolder(
            0, "an unknown host", "starting", datetime.now(UTC)
        )
    else:
        return None
    finally:
        os.close(descriptor)


def _write_holder(descriptor: int, purpose: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose, "since": now}
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(who).encode())


def _read_holder(descriptor: int) -> LockHolder | None:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        who = json.loads(os.read(descriptor, 4096))
        since = datetime.fromisoformat(who["since"])
        return LockHolder(int(who["pid"]), str(who["host"]), str(who["purpose"]), since)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _same_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _forget_all() -> None:
    for lock in list(_HELD):
        lock.forget()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    # A descriptor copied by a fork would hold the lock for as long as the child lives.
    os.register_at_fork(after_in_child=_forget_all)
