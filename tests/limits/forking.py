"""Forks while other threads count, and looks whether parent and children still share the file."""

from __future__ import annotations

import os
import sys
import threading

from memories_async import Rate
from memories_async.clock import SystemClock
from memories_async.limiters import Spacing, SqliteLimiter

CHILDREN = 10


def count(limiter: SqliteLimiter, lane: str, calls: int) -> int:
    """Take so many permits of a lane that has room for one; return how many were granted.

    Not through an executor: CPython's own locks around those do not survive forks beside them.
    """
    spacing, clock = Spacing.of(Rate(1, 600)), SystemClock()
    turns = [limiter._change(lane, clock, lambda kept: kept.take(spacing)) for _ in range(calls)]
    return sum(not turn.wait for turn in turns)


def main() -> None:
    limiter = SqliteLimiter(sys.argv[1])
    busy = threading.Event()
    busy.set()

    def keep_counting() -> None:
        while busy.is_set():
            count(limiter, "busy", 5)

    threads = [threading.Thread(target=keep_counting) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        fork_and_look(limiter)
    finally:
        busy.clear()
        for thread in threads:
            thread.join()


def fork_and_look(limiter: SqliteLimiter) -> None:
    children = []
    for number in range(CHILDREN):
        child = os.fork()
        if child == 0:
            granted = -1
            try:
                granted = count(limiter, f"lane {number}", 3) + count(limiter, "busy", 1)
            finally:
                os._exit(0 if granted == 1 else 1)
        children.append((number, child))
    for number, child in children:
        _, status = os.waitpid(child, 0)
        # What the child counted, the parent sees.
        print("ok" if status == 0 and count(limiter, f"lane {number}", 1) == 0 else "lost")


if __name__ == "__main__":
    main()
