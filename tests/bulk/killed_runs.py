"""Runs jobs in processes of their own, to be killed at a given step of the journal or at any time.

A server that imports once and forks for each run: ``python -m tests.bulk.killed_runs`` reads an
order per line, as JSON, and answers with how the run ended and how many commits it saw. An order
says when to kill: ``before`` or ``after`` a commit, after so many ``seconds``, or once the file
``flag`` exists.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from memories_async import Memories
from memories_async.bulk import Job
from memories_async.bulk.journal.file import JobFile

Order = dict[str, Any]


def die_at(order: Order) -> None:
    """Make the journal kill the process before or after its nth commit, once it has written it."""
    real = JobFile.commit
    commits = 0

    def commit(file: JobFile, changes: Sequence[Callable[[sqlite3.Connection], Any]]) -> Any:
        nonlocal commits
        commits += 1
        if commits == order.get("before"):
            os.kill(os.getpid(), signal.SIGKILL)
        results = real(file, changes)
        os.write(order["pipe"], b".")
        if commits == order.get("after"):
            os.kill(os.getpid(), signal.SIGKILL)
        return results

    JobFile.commit = commit  # type: ignore[method-assign]  # the step that is to be the last


async def run(order: Order) -> None:
    async with (
        Memories("key", caption_key="caption", base_url=order["url"]) as client,
        await Job.open(order["job"]) as job,
    ):
        await job.run(client, **order["run"])


async def create(order: Order) -> None:
    async with await Job.create(order["job"], *order["create"]):
        pass


def obey(order: Order) -> dict[str, int]:
    receiver, order["pipe"] = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        # A test run in the background of a shell has inherited that Ctrl-C is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        die_at(order)
        try:
            asyncio.run(create(order) if "create" in order else run(order))
        except KeyboardInterrupt:
            os._exit(130)
        os._exit(0)
    os.close(order["pipe"])
    if "seconds" in order or "flag" in order:
        time.sleep(order.get("seconds", 0))
        while "flag" in order and not os.path.exists(order["flag"]):
            time.sleep(0.005)
        os.kill(child, order.get("signal", signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    commits = 0
    while data := os.read(receiver, 4096):
        commits += len(data)
    os.close(receiver)
    return {"status": os.waitstatus_to_exitcode(status), "commits": commits}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line))), flush=True)
