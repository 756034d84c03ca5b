"""What the handlers work with: the library, the engine and the network beyond."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar, TypeVarTuple, Unpack

import anyio
import attrs
from anyio import CapacityLimiter, to_thread

from memories_async.emulator.callbacks import Callbacks
from memories_async.emulator.engines.protocol import Engine, UnreadableMediaError
from memories_async.emulator.http.envelopes import Reason, Refusal
from memories_async.emulator.http.outbound import OutboundClient
from memories_async.emulator.ledger import matches
from memories_async.emulator.spool import Spool, SpooledFile
from memories_async.emulator.store import MediaStore

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_MOST_FILES = 1000


@attrs.define
class Timing:
    """How long things take; may be changed while the emulator runs.

    Attributes:
        index_seconds: What indexing a library video, or taking in an asset, takes.
        latency: Seconds that each answer takes longer, of all calls or by row or call.
    """

    index_seconds: float = 0.0
    latency: float | Mapping[str, float] = 0.0

    def latency_of(self, operation: str) -> float:
        """Return by how much the answer of a row takes longer."""
        if isinstance(self.latency, Mapping):
            fitting = (time for name, time in self.latency.items() if matches(name, operation))
            return next(fitting, 0.0)
        return self.latency


@attrs.frozen(kw_only=True)
class Context:
    """What the handlers work with.

    Attributes:
        store: The library.
        loading: Becomes the engine: what looks at pictures.
        fetching: Gets media by address.
        callbacks: Posts callbacks.
        engine_seconds: What one call of the engine may take.
        timing: How long things take.
        fetch_limit: Bytes that one address may deliver.
        upload_limit: Bytes that one request may bring.
        batch_limit: Files that one image upload may hold.
        clock: Seconds since the epoch.
        sleep: Waits.
        disk_threads: Bounds the threads that write uploads.
        engine_threads: Bounds the threads that ask the engine.
        secret: What signed addresses of this run are signed with.
        indexing: Lets one video be indexed at a time, and each only once.
    """

    store: MediaStore
    loading: asyncio.Future[Engine]
    fetching: OutboundClient
    callbacks: Callbacks
    engine_seconds: float
    timing: Timing
    fetch_limit: int
    upload_limit: int
    batch_limit: int
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]
    disk_threads: CapacityLimiter
    engine_threads: CapacityLimiter
    secret: bytes
    indexing: anyio.Lock

    @property
    def engine(self) -> Engine:
        """What looks at pictures; it is awaited before a handler is called."""
        return self.loading.result()

    def now(self) -> int:
        """Return milliseconds since the epoch."""
        return int(self.clock() * 1000)

    def signature(self, text: str) -> str:
        """Return what an address must hold to be one of ours."""
        return hashlib.blake2b(text.encode(), digest_size=16, key=self.secret).hexdigest()

    def spool(self) -> Spool:
        """Return an empty spool."""
        return Spool(
            self.store.incoming, self.disk_threads, limit=self.upload_limit, most_files=_MOST_FILES
        )

    async def write(self, function: Callable[[Unpack[Arguments]], T], *args: *Arguments) -> T:
        """Run something that writes to the library in a thread."""
        return await to_thread.run_sync(function, *args, limiter=self.disk_threads)

    async def run_engine(
        self,
        files: Sequence[SpooledFile],
        work: Callable[[Unpack[Arguments]], T],
        *args: *Arguments,
    ) -> T:
        """Run the engine in a thread, within the time it has.

        Raises:
            Refusal: It cannot read one of the files, which the message names as the client did, or
                it takes too long.
        """
        try:
            with anyio.fail_after(self.engine_seconds):
                return await to_thread.run_sync(
                    work, *args, limiter=self.engine_threads, abandon_on_cancel=True
                )
        except (UnreadableMediaError, FileNotFoundError) as error:  # or deleted in the meantime
            raise Refusal(Reason.BAD_REQUEST, named(str(error), files)) from error
        except TimeoutError as error:
            message = f"The engine took longer than {self.engine_seconds:g} s"
            raise Refusal(Reason.SERVER, named(message, files)) from error


def named(message: str, files: Sequence[SpooledFile]) -> str:
    """Say the client's names in a message about files on disk, adding them if it names none."""
    renamed = message
    for file in files:
        renamed = renamed.replace(str(file.path), file.name).replace(file.path.name, file.name)
    if files and not any(file.name in renamed for file in files):
        renamed = f"{', '.join(file.name for file in files)}: {renamed}"
    return renamed
