"""What all uploads of a client share: worker threads, memory and time on the loop."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import attrs

from memories_async._engine.body.threads import Threads
from memories_async.media.readers import READ_SIZE, Attachment

T = TypeVar("T")

SMALLEST_PIECE = 16 * 1024
SMALL_PIECE = 96 * 1024
"""One write where others want the loop: they wait for no more than this takes to encrypt."""
TIME_SLICE = 0.00025
"""Seconds of the loop that all uploads in flight may take between two rounds of other work."""
SHORT_TIME_SLICE = 0.00005
"""The same where others want the loop: more than a head or a tail takes, less than a piece."""
OTHERS = 0.00012
"""Seconds of the loop that others must take in one round to be given way to: more than an idle
round and a heartbeat cost."""
COURTESY = 0.004
"""Seconds for which they are given way to: a small call's next step comes within them."""


loop_seconds = time.thread_time if sys.platform == "linux" else time.perf_counter
"""What the loop's thread has run so far: seconds in which the system ran somebody else do not count
(elsewhere that clock is too coarse)."""


class UploadBudget:
    """What all uploads in flight share: worker threads, memory and time on the loop.

    Memory is shared by making the pieces smaller, never by waiting: nobody holds a piece that
    another needs, so a stalled peer starves nobody.
    """

    def __init__(self, memory: int = 8 * READ_SIZE, threads: int = 4) -> None:
        self._memory = memory
        self._prefetch_left = 2 * memory
        self.active = 0
        self._taken = 0.0
        self._courteous_until = 0.0
        # The loop's default executor costs eight uploads 1.4 to 2 times as much CPU. Checks have a
        # thread of their own: reading a picture in one of several costs its call a fifth more CPU.
        self.readers = Threads(threads, "memories-async-reader")
        self._checker = Threads(1, "memories-async-checker")

    def chunk_size(self, most: int) -> int:
        """Return how many bytes one upload may hold now, at most ``most``."""
        return max(SMALLEST_PIECE, min(most, self._memory // max(self.active, 1)))

    def piece(self, most: int) -> int:
        """Return how many bytes one write may have now, at most ``most``."""
        return min(most, SMALL_PIECE) if time.perf_counter() < self._courteous_until else most

    @property
    def time_slice(self) -> float:
        """Seconds that one upload may take of the loop before it lets others run."""
        courteous = time.perf_counter() < self._courteous_until
        return SHORT_TIME_SLICE if courteous else TIME_SLICE / max(self.active, 1)

    async def give_way(self, taken: float) -> None:
        """Let others run, and see whether they have more to do than uploads.

        Large pieces cost the least, and beside them a small call waits three times as long as it
        takes. So pieces are large while nobody else wants the loop, and small as soon as somebody
        does, whatever the processor makes of either.

        Args:
            taken: Seconds of the loop that this upload took since it last gave way.
        """
        self._taken += taken
        taken_before, began = self._taken, loop_seconds()
        await asyncio.sleep(0)
        if loop_seconds() - began - (self._taken - taken_before) > OTHERS:
            self._courteous_until = time.perf_counter() + COURTESY

    async def run(self, function: Callable[[], T]) -> T:
        """Run a blocking function in a worker thread and wait for what it returns."""
        return await self.readers.run(function)

    async def check(self, function: Callable[[], T], *, waits: bool = False) -> T:
        """Look at sources in the checking thread and wait for what that returns.

        Args:
            function: What looks at them.
            waits: Whether it may wait for more than a disk, and so gets a thread of its own.
        """
        if not waits:
            return await self._checker.run(function)
        own = Threads(1, "memories-async-checker")
        try:
            return await own.run(function)
        finally:
            own.close()

    def reserve_prefetched(
        self, files: Sequence[Attachment]
    ) -> AbstractContextManager[Sequence[Attachment]]:
        """Hold on to what has been prefetched while the memory for it lasts; else let go of it."""
        if not files:
            return nullcontext(files)
        size = sum(file.size or 0 for file in files if file.prefetched is not None)
        if size > self._prefetch_left:
            return nullcontext([attrs.evolve(file, prefetched=None) for file in files])
        return self._held(files, size)

    @contextmanager
    def _held(
        self, files: Sequence[Attachment], size: int
    ) -> Generator[Sequence[Attachment], None, None]:
        self._prefetch_left -= size
        try:
            yield files
        finally:
            self._prefetch_left += size

    def close(self) -> None:
        """Let the threads end once they are idle."""
        self.readers.close()
        self._checker.close()
