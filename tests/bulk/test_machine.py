"""Several processes that plan, run, kill, copy, export and delete, against one emulator.

Held at every step at which nobody is at work: what was billed is done or unknown, costs are at
least what was billed, and no callback that was acknowledged is lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from memories_async import Memories
from memories_async.bulk import Item, Job, Status
from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.emulator.faults import Cut, InjectedFault
from memories_async.emulator.http.envelopes import Reason
from tests.bulk.ledgers import PNG

PRICE = Decimal("0.0001")


class Loop:
    """An event loop in a thread, with an emulator on it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.emulator = Emulator(HashEngine())
        self.do(self.emulator.__aenter__())

    def do(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop).result(60)

    def end(self) -> None:
        self.do(self.emulator.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Actors:
    """The processes: each order is done by one of its own."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.bulk.machine_actors"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._number = 0
        self.seen: Counter[str] = Counter()
        self._said: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self.at_work: dict[int, str] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            with self._news:
                self._said.append(json.loads(line))
                self._news.notify_all()

    def _send(self, order: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()

    def start(self, do: str, **order: Any) -> int:
        self._number += 1
        self.seen[do] += 1
        self._send({"do": do, "actor": self._number, **order})
        self.at_work[self._number] = do
        return self._number

    def signal(self, actor: int, number: signal.Signals) -> None:
        self.seen[number.name] += 1
        self._send({"do": "signal", "actor": actor, "number": int(number)})

    def wait(self, actor: int) -> list[dict[str, Any]]:
        """Return all that a process has said, once it has ended."""
        self._send({"do": "reap", "actor": actor})
        end = time.monotonic() + 60
        with self._news:
            while not any(said["actor"] == actor and "ended" in said for said in self._said):
                assert self._news.wait(max(end - time.monotonic(), 0)), self.at_work
            mine = [said for said in self._said if said["actor"] == actor]
            self._said = [said for said in self._said if said["actor"] != actor]
        del self.at_work[actor]
        self.seen.update(f"refused: {said['refused']}" for said in mine if "refused" in said)
        return mine

    def end(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()


class Machine(RuleBasedStateMachine):
    """A folder of images with the job's own file in it, and a store of callbacks beside."""

    shared: tuple[Loop, Actors]

    @initialize()
    def set_the_stage(self) -> None:
        self.world, self.actors = self.shared
        self.world.emulator.ledger.clear()
        self.world.emulator.faults.clear()
        self.folder = Path(tempfile.mkdtemp(prefix="machine"))
        self.job = self.folder / "images.job"
        self.store = self.folder / "callbacks.db"
        self.rows = self.folder / "rows.jsonl"
        self.images = 0
        self.copies = 0
        self.tasks: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self.delivering: dict[int, str] = {}
        for _ in range(12):
            self._image()
        (self.folder / "no picture.png").write_bytes(b"nothing")
        self.plan_the_job()
        self._wait_for_all()

    def _image(self) -> None:
        self.images += 1
        content = PNG + b"%d" % (self.images // 5 * 5 if self.images % 5 == 1 else self.images)
        (self.folder / f"{self.images:03}.png").write_bytes(content)

    # --- jobs ---------------------------------------------------------------------------------

    @rule()
    def plan_the_job(self) -> None:
        self.actors.start("create", job=str(self.job), inputs=f"{self.folder}/*.png")

    @rule(concurrency=st.integers(1, 4), retry=st.booleans())
    def run_the_job(self, concurrency: int, retry: bool) -> None:
        run: dict[str, Any] = {"concurrency": concurrency, "failed": "retry" if retry else "keep"}
        order = {"job": str(self.job), "url": self.world.emulator.url, "run": run}
        self.actors.start("run", **order)

    @rule(kind=st.sampled_from(["slow", "lost", "refused", "throttled"]), nth=st.integers(1, 6))
    def have_the_service_misbehave(self, kind: str, nth: int) -> None:
        faults = self.world.emulator.faults
        nth += len(self.world.emulator.ledger)
        if kind == "slow":
            faults.add(InjectedFault(None, latency=0.02, times=None))
        elif kind == "lost":
            faults.add(InjectedFault(None, Cut(), moment="processed", nth=nth))
        elif kind == "refused":
            faults.add(InjectedFault(None, Reason.BAD_REQUEST, nth=nth))
        else:
            faults.add(InjectedFault(None, Reason.THROTTLED, nth=nth))

    @rule()
    def add_an_image(self) -> None:
        self._image()
        self.actors.start("add", job=str(self.job), inputs=f"{self.folder}/*")

    @rule(number=st.integers(1, 12))
    def edit_an_image(self, number: int) -> None:
        path = self.folder / f"{number:03}.png"
        billed = {file.sha256 for entry in self.world.emulator.ledger for file in entry.files}
        if hashlib.sha256(path.read_bytes()).hexdigest() not in billed:
            path.write_bytes(PNG + b"edited %d" % number)

    @rule()
    def export_and_look(self) -> None:
        self.actors.start("export", job=str(self.job), to=str(self.rows))
        self.actors.start("plan", job=str(self.job), inputs=f"{self.folder}/*")

    @rule(
        concurrency=st.integers(1, 4),
        requests=st.integers(0, 4),
        wait=st.floats(0, 0.01),
        number=st.sampled_from([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]),
        copied=st.booleans(),
    )
    def run_the_job_and_end_it(
        self, concurrency: int, requests: int, wait: float, number: signal.Signals, copied: bool
    ) -> None:
        """Once so many requests have come; beside whatever else is at work."""
        ledger = self.world.emulator.ledger
        wanted, end = len(ledger) + requests, time.monotonic() + 0.7
        self.run_the_job(concurrency, retry=False)
        actor = max(self.actors.at_work)
        while len(ledger) < wanted and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(wait)
        self.actors.signal(actor, number)
        self._wait_for(actor)
        if copied:
            self.copy_the_one_file_and_try_to_run_the_copy()

    @rule(wait=st.floats(0, 0.15), number=st.integers(0, 9))
    def kill_one(self, wait: float, number: int) -> None:
        if not (self.actors.at_work):
            return
        time.sleep(wait)
        chosen = sorted(self.actors.at_work)[number % len(self.actors.at_work)]
        self.actors.signal(chosen, signal.SIGKILL)
        self._wait_for(chosen)

    @rule(wait=st.floats(0, 0.15))
    def terminate_the_runs(self, wait: float) -> None:
        if "run" not in self.actors.at_work.values():
            return
        time.sleep(wait)
        for actor, do in list(self.actors.at_work.items()):
            if do == "run":
                self.actors.signal(actor, signal.SIGTERM)

    @rule()
    def copy_the_one_file_and_try_to_run_the_copy(self) -> None:
        """Refused, or nothing that was billed is missing from it."""
        if not (self.job.exists()):
            return
        self.copies += 1
        before = self._billed()
        copy = self.folder / f"copy {self.copies}"
        subprocess.run(["cp", str(self.job), str(copy)], check=True)
        run: dict[str, Any] = {"max_items": 0}
        actor = self.actors.start("run", job=str(copy), url=self.world.emulator.url, run=run)
        (said, _) = self.actors.wait(actor)
        if "result" in said:
            self._assert_accounted(self._items(copy), before)
        else:
            assert said.get("refused") in ("JournalError", "ConfigurationError"), said

    @rule()
    def delete_the_job(self) -> None:
        """Refused while it is run; else what it knew is gone, and so is what it was billed."""
        if not (self.job.exists()):
            return
        self._wait_for_all_but_runs()
        actor = self.actors.start("remove", job=str(self.job))
        (said, _) = self.actors.wait(actor)
        if "refused" in said:
            assert said["refused"] in ("JobBusy", "ConfigurationError"), said
            return
        self._wait_for_all()
        if not self.job.exists():
            self.world.emulator.ledger.clear()

    # --- callbacks ----------------------------------------------------------------------------

    @rule()
    def submit_a_task(self) -> None:
        name = f"task {len(self.tasks)}"
        actor = self.actors.start("submit", store=str(self.store), token=f"token-{name}", name=name)
        (said, _) = self.actors.wait(actor)
        assert "result" in said, said
        self.tasks[name] = f"token-{name}"

    @rule(number=st.integers(0, 9))
    def deliver_a_result(self, number: int) -> None:
        if not (self.tasks):
            return
        name = sorted(self.tasks)[number % len(self.tasks)]
        actor = self.actors.start(
            "deliver", store=str(self.store), token=self.tasks[name], name=name
        )
        self.delivering[actor] = name

    @rule(number=st.integers(0, 9))
    def wait_for_a_result(self, number: int) -> None:
        if not (self.tasks):
            return
        name = sorted(self.tasks)[number % len(self.tasks)]
        self.actors.start("wait", store=str(self.store), name=name)

    # --- what holds ---------------------------------------------------------------------------

    @rule()
    def let_all_end(self) -> None:
        self._wait_for_all()

    @invariant()
    def what_was_billed_is_known(self) -> None:
        if self.actors.at_work:
            return
        self._let_the_service_end()
        if self.job.exists():
            self._assert_accounted(self._items(self.job), self._billed())

    @invariant()
    def what_was_acknowledged_is_there(self) -> None:
        if self.actors.at_work:
            return
        for name in sorted(self.acknowledged):
            actor = self.actors.start("wait", store=str(self.store), name=name)
            (said, _) = self.actors.wait(actor)
            assert said.get("result") == name, said

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        self._wait_for_all()
        self.what_was_billed_is_known()
        self.what_was_acknowledged_is_there()
        if self.job.exists():
            self.world.do(self._finish())
        shutil.rmtree(self.folder)

    async def _finish(self) -> None:
        emulator = self.world.emulator
        async with (
            Memories("key", base_url=emulator.url) as client,
            await Job.open(self.job) as job,
        ):
            report = await job.run(client)
            items = [item async for item in job.items()]
        assert report.counts.planned == report.counts.sending == 0
        assert report.cost is not None
        assert report.possible_cost is not None
        billed = self._billed()
        assert report.cost + report.possible_cost >= sum(billed.values()) * PRICE
        self._assert_accounted(items, billed)
        self.actors.seen["billed"] += len(billed)

    def _assert_accounted(self, items: list[Item], billed: Counter[str]) -> None:
        assert not [digest for digest, times in billed.items() if times > 1], "billed twice"
        known = Counter(item.sha256 for item in items)
        maybe = {
            item.sha256
            for item in items
            if item.status in (Status.DONE, Status.UNKNOWN, Status.SENDING)
        }
        assert known
        assert set(billed) <= maybe, "billed, and neither done nor unknown"

    def _billed(self) -> Counter[str]:
        ledger = self.world.emulator.ledger
        return Counter(file.sha256 for entry in ledger if entry.billed for file in entry.files)

    def _items(self, path: Path) -> list[Item]:
        async def read() -> list[Item]:
            async with await Job.open(path) as job:
                return [item async for item in job.items()]

        found = self.world.do(read())
        assert isinstance(found, list)
        return found

    def _let_the_service_end(self) -> None:
        end = time.monotonic() + 30
        while any(not entry.finished_at for entry in self.world.emulator.ledger):
            assert time.monotonic() < end
            time.sleep(0.005)

    def _wait_for(self, actor: int) -> None:
        delivered = self.delivering.pop(actor, None)
        for said in self.actors.wait(actor):
            assert "broken" not in said, said
            if said.get("acknowledged") in ("FIRST", "REPEAT") and delivered is not None:
                self.acknowledged.add(delivered)

    def _wait_for_all(self) -> None:
        for actor in sorted(self.actors.at_work):
            self._wait_for(actor)

    def _wait_for_all_but_runs(self) -> None:
        for actor, do in sorted(self.actors.at_work.items()):
            if do != "run":
                self._wait_for(actor)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_several_processes_in_any_order() -> None:
    world, actors = Loop(), Actors()
    Machine.shared = world, actors
    examples = int(os.environ.get("MACHINE_EXAMPLES", "5"))
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
    finally:
        actors.end()
        world.end()
    print(dict(sorted(actors.seen.items())))
    assert actors.seen["billed"] > examples
