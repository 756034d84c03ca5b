"""What all uploads of a client share: worker threads, memory and time on the loop."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar
from weakref import WeakKeyDictionary

import attrs

from memories_async._engine.body.threads import Threads
from memories_async.media.readers import READ_SIZE, Attachment

T = TypeVar("T")

SMALLEST_PIECE = 16 * 1024
SMALL_PIECE = 96 * 1024
"""One write of one upload where others want the loop: they wait for no more than this takes to
encrypt. Where several uploads share the loop, each writes as much more as its turn comes rarer."""
TIME_SLICE = 0.00025
"""Seconds of the loop that uploads may take between two rounds of other work."""
SHORT_TIME_SLICE = 0.00005
"""The same where others want the loop: more than a head or a tail takes, less than a piece."""
OTHERS = 0.00012
"""Seconds of the loop that others must take in one round to be given way to: more than an idle
round and a heartbeat cost."""
YIELD_SECONDS = 0.004
"""Seconds for which they are given way to: a small call's next step comes within them."""


loop_seconds = time.thread_time if sys.platform == "linux" else time.perf_counter
"""What the loop's thread has run so far: seconds in which the system ran somebody else do not count
(elsewhere that clock is too coarse)."""


class UploadTurn:
    """What one upload takes of the loop between two rounds in which others have theirs.

    The thread's clock is a system call (2 microseconds on a virtual machine, where writing a piece
    takes 100), the wall's is none, and never shows less: only where that says that a turn may be
    over is the thread's asked, too.

    Attributes:
        waited: Seconds of it that the loop gave to others, while this upload waited.
        seen: What the thread's clock said when it was last asked.
    """

    __slots__ = ("_began", "_started", "seen", "waited")

    def __init__(self) -> None:
        self.begin(loop_seconds())

    def begin(self, now: float) -> None:
        """Begin anew, where the thread's clock says ``now``."""
        self._began = time.perf_counter()
        self._started = self.seen = now
        self.waited = 0.0

    def is_over(self, time_slice: float) -> bool:
        """Return whether the loop's thread has run for so many seconds since it began."""
        if time.perf_counter() - self._began < time_slice:
            return False
        self.seen = loop_seconds()
        return self.seen - self._started >= time_slice

    @property
    def taken(self) -> float:
        """Seconds of the loop that the upload itself took, up to when the clock was last asked."""
        return self.seen - self._started - self.waited


@attrs.define(eq=False)
class _RoundRobin:
    """Whose turn it is on one event loop: one upload's in each round, in the order of asking.

    Were it all uploads' in the same round, whatever else comes due would wait for a piece of each,
    and for as many again where its timer or answer comes behind them in the next round.
    """

    _waiting: deque[asyncio.Future[None]] = attrs.field(factory=deque[asyncio.Future[None]])
    _due: bool = False
    """Whether an upload has its turn in the next round."""
    began: float = 0.0
    """When the latest turn began, or was asked for where none was due."""
    _taken: float = 0.0
    """Seconds of the loop that uploads took since the last turn began."""

    @property
    def in_line(self) -> int:
        """How many uploads wait for a turn."""
        return len(self._waiting) + self._due

    async def next(self, last: UploadTurn) -> float:
        """Wait for the next turn; return the seconds that others took of the round before it.

        Args:
            last: This upload's turn that is over.
        """
        called: asyncio.Future[None] | None = None
        try:
            if self._due:
                self._taken += last.taken
                called = asyncio.get_running_loop().create_future()
                self._waiting.append(called)
                await called
            else:
                self._due, self.began, self._taken = True, last.seen, 0.0
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            if called is None or not called.cancelled():  # its turn had come, and is another's now
                self._call_next()
            raise
        began, taken = self.began, self._taken
        self.began, self._taken = loop_seconds(), 0.0
        self._call_next()
        return self.began - began - taken

    def _call_next(self) -> None:
        while self._waiting:
            if not (called := self._waiting.popleft()).done():
                called.set_result(None)
                return
        self._due = False


class UploadBudget:
    """What all uploads in flight share: worker threads, memory and time on the loop.

    Memory is shared by making the pieces smaller, never by waiting: nobody holds a piece that
    another needs, so a stalled peer starves nobody.
    """

    def __init__(self, memory: int = 8 * READ_SIZE, threads: int = 4) -> None:
        self._memory = memory
        self._prefetch_left = 2 * memory
        self.active = 0
        self._yields_until = 0.0
        self._in_line = 1
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _RoundRobin] = WeakKeyDictionary()
        # The loop's default executor costs eight uploads 1.4 to 2 times as much CPU. Checks have a
        # thread of their own: reading a picture in one of several costs its call a fifth more CPU.
        self.readers = Threads(threads, "memories-async-reader")
        self._checker = Threads(1, "memories-async-checker")

    def chunk_size(self, most: int) -> int:
        """Return how many bytes one upload may hold now, at most ``most``."""
        return max(SMALLEST_PIECE, min(most, self._memory // max(self.active, 1)))

    def piece(self, most: int) -> int:
        """Return how many bytes one write may have now, at most ``most``."""
        if time.perf_counter() >= self._yields_until:
            return most
        return min(most, SMALL_PIECE * self._in_line)

    @property
    def time_slice(self) -> float:
        """Seconds that one upload may take of the loop before it lets others run."""
        return SHORT_TIME_SLICE if time.perf_counter() < self._yields_until else TIME_SLICE

    async def give_way(self, turn: UploadTurn) -> None:
        """Let others run until the next turn, and see whether they have more to do than uploads.

        Large pieces cost the least, and beside them a small call waits three times as long as it
        takes. So pieces are large while nobody else wants the loop, and small as soon as somebody
        does, whatever the processor makes of either.

        Args:
            turn: That of the upload; it begins anew.
        """
        loop = asyncio.get_running_loop()
        if (turns := self._turns.get(loop)) is None:
            turns = self._turns.setdefault(loop, _RoundRobin())
        if await turns.next(turn) > OTHERS:
            self._yields_until = time.perf_counter() + YIELD_SECONDS
        self._in_line = turns.in_line + 1
        turn.begin(turns.began)

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
