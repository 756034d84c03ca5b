"""A seed's story of real processes: what one loop cannot show, SQLite's locks and ``kill -9``.

One emulator, one job whose own file lies in its folder of pictures, and one store of callbacks;
processes plan, run, list, copy, export, delete, listen, submit and wait, and are killed as the
service takes the n-th request. What is drawn is the same each time; when the kernel lets which
process go on is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from memories_async import ConfigurationError
from memories_async.bulk import Item, Job, JournalError, Status
from memories_async.emulator.callbacks import caption_done
from memories_async.emulator.faults import Cut, InjectedFault
from memories_async.emulator.http.envelopes import Reason
from tests.simulation.calls import MP4, PNG
from tests.simulation.invariants import BrokenInvariantError
from tests.simulation.real.service import PATIENCE, Service, check
from tests.simulation.real.workers import Workers

STEPS = 20
PRICE = Decimal("0.0001")
MAY_BE_BILLED = (Status.DONE, Status.UNKNOWN, Status.SENDING)


@attrs.define(eq=False)
class Submission:
    """A video that was handed in for a callback.

    Attributes:
        prompt: What it is told apart by.
        digest: Its video's.
        key: What stands for it, if anything does.
        workers: Those that hand it in.
        address: The last part of where its callback goes.
        task: Its identifier, once somebody knows it.
        doubtful: Whether whoever handed it in was killed or told that it may have been billed.
        texts: What its result may be.
        acknowledged: Whether a true callback was.
    """

    prompt: str
    digest: str
    key: str | None
    workers: list[int]
    address: str = ""
    task: str = ""
    doubtful: bool = False
    texts: set[str] = attrs.field(factory=set)
    acknowledged: bool = False


class Story:
    """What a seed has processes do, and what must hold after each step."""

    def __init__(
        self, seed: int, service: Service, workers: Workers, tell: Callable[[str], None]
    ) -> None:
        self._chance = random.Random(f"{seed} processes")
        self._service, self._workers, self._tell = service, workers, tell
        self._folder = Path(tempfile.mkdtemp(prefix="processes-"))
        self._job = self._folder / "state" / "memories-async" / "jobs" / "images.sqlite"
        self._store = str(self._folder / "callbacks.db")
        self._images = self._copies = 0
        self._latest_run = 0
        self._listeners: dict[int, int] = {}
        self._submissions: list[Submission] = []
        self.seen: Counter[str] = Counter()

    def live(self) -> None:
        """Take every step, look after each, and let all end."""
        steps: tuple[Callable[[], str], ...] = (
            *(self.plan, self.plan_twice, self.run, self.run_and_end, self.run_and_end),
            *(self.run_and_end, self.misbehave, self.add, self.edit, self.look, self.list),
            *(self.kill_one, self.copy, self.delete, self.rest, self.listen, self.submit),
            *(self.submit, self.deliver, self.deliver, self.deliver, self.wait_for_results),
        )
        emulator = self._service.emulator
        emulator.ledger.clear()
        emulator.faults.clear()
        self._job.parent.mkdir(parents=True)
        try:
            for _ in range(12):
                self._image()
            (self._job.parent / "no picture.png").write_bytes(b"nothing")
            first: Sequence[Callable[[], str]] = (self.plan, self.rest, self.listen)
            for step in [*first, *(self._chance.choice(steps) for _ in range(STEPS)), self.rest]:
                self._take(step)
            self._end()
        finally:
            self._service.endings.spare()
            for worker in list(self._workers.at_work):
                self._workers.signal(worker, signal.SIGKILL)
                with contextlib.suppress(BrokenInvariantError):
                    self._workers.wait(worker)
            shutil.rmtree(self._folder)

    def _take(self, step: Callable[[], str]) -> None:
        name = step.__name__.replace("_", " ")
        self.seen[name] += 1
        told = step()
        self._tell(f"{name}{': ' if told else ''}{told}")
        self._check_the_job()
        self._check_the_callbacks()

    def _image(self) -> None:
        self._images += 1
        number = self._images // 5 * 5 if self._images % 5 == 1 else self._images
        (self._job.parent / f"{self._images:03}.png").write_bytes(PNG + b"%d" % number)

    # --- jobs ---------------------------------------------------------------------------------

    def _order(self, do: str, **more: Any) -> int:
        worker = self._workers.start(do, job=str(self._job), url=self._service.emulator.url, **more)
        self._latest_run = worker if do == "run" else self._latest_run
        return worker

    def plan(self) -> str:
        self._order("create", inputs=f"{self._job.parent}/*.png", price=str(PRICE))
        return ""

    def plan_twice(self) -> str:
        """At once, in two processes."""
        return self.plan() + self.plan()

    def _planned(self) -> None:
        """Have a job: most of what can be done with none is nothing."""
        if not self._job.exists():
            self.plan()
            self._wait_for(lambda do: do == "create")

    def run(self) -> str:
        self._planned()
        self._run(retry=(retry := self._chance.random() < 0.5))
        return "retrying" if retry else ""

    def _run(self, *, retry: bool = False) -> int:
        concurrency = self._chance.randint(1, 4)
        run = {"concurrency": concurrency, "failed": "retry" if retry else "keep"}
        return self._order("run", run=run)

    def run_and_end(self) -> str:
        """Killed or stopped as the service takes a request, or a moment later."""
        nth, later = self._chance.randint(1, 5), self._chance.choice([0.0, 0.0, 0.002, 0.01])
        number = self._chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        self._planned()
        worker = self._run()
        process = self._workers.heard(worker, "process")
        self._service.endings.end_at(nth, process, number, later)
        said = self._wait(worker)
        self._service.endings.spare()
        stopped = (said.get("result") or {}).get("stopped")
        self.seen[f"{number.name} at a request"] += bool(said["ended"] or stopped)
        how = said.get("refused") or said["ended"]
        return f"{number.name} at request {nth}, {later * 1000:g} ms later: {how}"

    def misbehave(self) -> str:
        """Have the service do something wrong at one of the next requests."""
        nth = len(self._service.emulator.ledger) + self._chance.randint(1, 6)
        kind, fault = self._chance.choice(
            [
                ("slow", InjectedFault(None, latency=0.02, times=None)),
                ("lost", InjectedFault(None, Cut(), moment="processed", nth=nth)),
                ("refused", InjectedFault(None, Reason.BAD_REQUEST, nth=nth)),
                ("throttled", InjectedFault(None, Reason.THROTTLED, nth=nth)),
            ]
        )
        self._service.emulator.faults.add(fault)
        return kind

    def add(self) -> str:
        self._image()
        self._order("add", inputs=f"{self._job.parent}/*")
        return ""

    def edit(self) -> str:
        """Change a picture that was not paid for yet."""
        number = self._chance.randint(1, 12)
        path = self._job.parent / f"{number:03}.png"
        if "run" in self._workers.at_work.values():
            return "not beside a run"
        if hashlib.sha256(path.read_bytes()).hexdigest() not in self._service.billed():
            path.write_bytes(PNG + b"edited %d" % number)
        return f"{number}"

    def look(self) -> str:
        """Export, and look at the folder in which the job itself lies."""
        self._order("export", to=str(self._folder / "rows.jsonl"))
        self._order("plan", inputs=f"{self._job.parent}/*")
        return ""

    def list(self) -> str:
        self._workers.start("list", environment={"XDG_STATE_HOME": str(self._folder / "state")})
        return ""

    def kill_one(self) -> str:
        """Kill one that is at work, whatever it is at, after a drawn time."""
        wait, chosen = self._chance.random() * 0.1, self._chance.randrange(1000)
        at_work = sorted(self._workers.at_work)
        if not at_work:
            return "nobody"
        time.sleep(wait)
        worker = at_work[chosen % len(at_work)]
        name = self._workers.at_work[worker]
        self._workers.signal(worker, signal.SIGKILL)
        said = self._wait(worker)
        self._listeners.pop(worker, None)
        return f"{name} after {wait:.3f} s: {said['ended']}"

    def copy(self) -> str:
        """Copy the one file, and run the copy: refused, or nothing that was billed is missing."""
        if not self._job.exists():
            return "nothing"
        self._copies += 1
        before = self._service.billed()
        copy = self._folder / f"copy {self._copies}"
        subprocess.run(["cp", str(self._job), str(copy)], check=True)
        url = self._service.emulator.url
        worker = self._workers.start("run", job=str(copy), url=url, run={"max_items": 0})
        said = self._wait(worker)
        if "refused" not in said:
            self._check_billed(self._items(copy) or [], before)
        else:
            known = said["refused"] in ("JournalError", "ConfigurationError")
            check(known, f"a copy was refused by {said}")
        return str(said.get("refused", "run"))

    def delete(self) -> str:
        """Refused while it is run; else what it knew is gone, and so is what it was billed."""
        if not self._job.exists():
            return "nothing"
        self._wait_for(lambda do: do not in ("run", "listen"))
        said = self._wait(self._order("remove"))
        if "refused" in said:
            check(said["refused"] in ("JobBusy", "ConfigurationError"), f"{said}")
            return str(said["refused"])
        self._wait_for(lambda do: do != "listen")
        if not self._job.exists():
            self._service.come_to_rest()
            self._forget_what_was_billed()
        return "done"

    def _forget_what_was_billed(self) -> None:
        """The job's bills are gone with it; the submissions' were looked at before."""
        self._check_the_callbacks()
        self._submissions = [one for one in self._submissions if one.task]
        for submission in self._submissions:
            submission.digest = ""
        self._service.emulator.ledger.clear()

    def rest(self) -> str:
        """Let all end that end by themselves."""
        self._wait_for(lambda do: do != "listen")
        return ""

    # --- callbacks ----------------------------------------------------------------------------

    def listen(self) -> str:
        """Have one more process take callbacks, of three at most."""
        if len(self._listeners) < 3:
            worker = self._workers.start("listen", store=self._store)
            self._listeners[worker] = self._workers.heard(worker, "port")
        return f"{len(self._listeners)} listen"

    def submit(self) -> str:
        """Hand a video in, in one process, or with one key in two at once; one may be killed."""
        prompt = f"submission {len(self._submissions)} {self._chance.randrange(10**9)}"
        content = MP4 + self._chance.randbytes(16)
        key = prompt if self._chance.random() < 0.5 else None
        killed, wait = self._chance.random() < 0.3, self._chance.random() * 0.05
        order = {"store": self._store, "prompt": prompt, "key": key, "content": content.hex()}
        workers = [self._order("submit", **order) for _ in range(1 if key is None else 2)]
        digest = hashlib.sha256(content).hexdigest()
        submission = Submission(prompt, digest, key, workers)
        self._submissions.append(submission)
        if killed:
            self._workers.heard(workers[0], "process")
            time.sleep(wait)
            self._workers.signal(workers[0], signal.SIGKILL)
        for worker in workers:
            self._submitted(submission, self._wait(worker))
        told = (submission.task and "handed in") or "in doubt"
        return f"{len(workers)} processes{', one killed' if killed else ''}: {told}"

    def _submitted(self, submission: Submission, said: dict[str, Any]) -> None:
        submission.address = said.get("address", submission.address)
        if "result" in said:
            same = submission.task in ("", said["result"])
            check(same, f"{submission.prompt} is two tasks")
            submission.task = said["result"]
        else:
            # A lost answer, or a refusal that was put in for whoever asks next.
            known = said.get("refused", "OutcomeUnknown") in ("OutcomeUnknown", "ApiError")
            check(known, f"{said}")
            submission.doubtful = True

    def deliver(self) -> str:
        """Carry a callback to one who listens: true, again with another text, or forged."""
        known = [one for one in self._submissions if one.task and one.address]
        chosen, port = self._chance.randrange(1000), self._chance.randrange(1000)
        kind = self._chance.choice(["true", "true", "true", "forged", "guessed", "broken"])
        killed, wait = self._chance.random() < 0.3, self._chance.random() * 0.005
        if not (known and self._listeners):
            return "nothing"
        one = known[chosen % len(known)]
        worker, where = sorted(self._listeners.items())[port % len(self._listeners)]
        text = f"{one.prompt}, told {chosen}"
        task = "another" if kind == "forged" else one.task
        body = b"{" if kind == "broken" else json.dumps(caption_done(task, text, {})).encode()
        address = one.address[::-1] if kind == "guessed" else one.address
        if kind == "true" and not one.acknowledged:
            one.texts.add(text)
        beside = killed and chosen % 2
        if beside:  # or else once it has acknowledged
            timer = threading.Timer(wait, self._workers.signal, (worker, signal.SIGKILL))
            timer.start()
        status = _post(where, f"/memories/{address}", body)
        if beside:
            timer.join()
        elif killed:
            self._workers.signal(worker, signal.SIGKILL)
        if killed:
            del self._listeners[worker]
            self._wait(worker)
        if kind == "true":
            one.acknowledged |= status == 200
            check(killed or status == 200, f"a true callback was answered by {status}")
        else:
            check(status != 200, f"a {kind} callback was acknowledged")
        return f"{kind}{', and the listener killed' if killed else ''}: {status or 'no answer'}"

    def wait_for_results(self) -> str:
        """Wait for what comes later, or never, beside all that happens."""
        tasks = [one.task for one in self._submissions if one.task]
        if tasks:
            self._workers.start("wait", store=self._store, tasks=tasks[-2:], patience=0.3)
        return f"{len(tasks)}"

    # --- what holds ---------------------------------------------------------------------------

    def _check_the_job(self) -> None:
        """Ledger ≤ done + unknown, whoever is at work: what is sent is written down before."""
        planning = {"create", "remove"} & set(self._workers.at_work.values())
        billed = self._service.billed()
        submitted = {one.digest for one in self._submissions}
        of_the_job = Counter({one: n for one, n in billed.items() if one not in submitted})
        if not self._job.exists():
            check(planning or not of_the_job, f"billed, and no job: {of_the_job}")
            return
        items = self._items(self._job, refused=bool(planning))
        if items is not None:
            self._check_billed(items, of_the_job)

    def _check_billed(self, items: Sequence[Item], billed: Counter[str]) -> None:
        check(not billed or max(billed.values()) == 1, f"billed twice: {billed}")
        maybe = {item.sha256 for item in items if item.status in MAY_BE_BILLED}
        submitted = {one.digest for one in self._submissions}
        missing = set(billed) - maybe - submitted
        check(not missing, f"billed, and neither done nor unknown: {missing}")

    def _check_the_callbacks(self) -> None:
        """Billed once is handed in; acknowledged is handed over, to any process."""
        billed = self._service.billed()
        for one in self._submissions:
            times = billed[one.digest]
            check(times <= 1, f"{one.prompt} was billed {times} times")
            check(not times or one.task or one.doubtful, f"{one.prompt}: billed, nobody told")
        acknowledged = {one.task: one for one in self._submissions if one.acknowledged}
        if not acknowledged:
            return
        order = {"store": self._store, "tasks": list(acknowledged), "patience": 5.0}
        said = self._wait(self._workers.start("wait", **order))
        for task, one in acknowledged.items():
            found = said.get("result", {}).get(task)
            check(found in one.texts, f"{one.prompt} was acknowledged, and is {found}: {said}")

    def _items(self, path: Path, *, refused: bool = False) -> list[Item] | None:
        async def read() -> list[Item]:
            async with await Job.open(path) as job:
                return [item async for item in job.items()]

        try:
            found: list[Item] = self._service.do(read())
        except (ConfigurationError, JournalError) as error:
            check(refused, f"the job cannot be read: {error}")
            return None
        return found

    def _wait(self, worker: int) -> dict[str, Any]:
        do = self._workers.at_work[worker]
        said = self._workers.wait(worker)
        if "refused" in said:
            self.seen[f"refused: {do} by {said['refused']}"] += 1
        if isinstance(said.get("result"), dict) and "cost" in said["result"]:
            cost, billed = Decimal(said["result"]["cost"]), self._service.billed()
            # What is billed by now may be of another run, under way or begun since.
            if worker >= self._latest_run and "run" not in self._workers.at_work.values():
                submitted = {one.digest for one in self._submissions}
                least = sum(n for one, n in billed.items() if one not in submitted) * PRICE
                check(cost >= least, f"the job cost {cost}, and {least} were billed")
        return said

    def _wait_for(self, kinds: Callable[[str], bool]) -> None:
        for worker, do in sorted(self._workers.at_work.items()):
            if kinds(do):
                self._wait(worker)

    def _end(self) -> None:
        """Run what is left, with a service that does nothing wrong."""
        self._service.emulator.faults.clear()
        self._service.come_to_rest()
        if self._job.exists():
            said = self._wait(self._order("run", run={}))
            check("cost" in (said.get("result") or {}), f"the last run: {said}")
            items = self._items(self._job) or []
            left = [item for item in items if item.status in (Status.PLANNED, Status.SENDING)]
            check(not left, f"left over: {left}")
        self._tell("at the end")
        self._check_the_job()
        self._check_the_callbacks()
        self.seen["billed"] += sum(self._service.billed().values())


def _post(port: int, path: str, body: bytes) -> int | None:
    """Return the status of what is posted; None if there was no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@contextlib.contextmanager
def stage(planted: str = "") -> Iterator[tuple[Service, Workers]]:
    """Hold one emulator and one server of processes for several stories.

    Args:
        planted: A fault that is put into the processes on purpose; see program.py.
    """
    service, workers = Service(), Workers(planted)
    try:
        yield service, workers
    finally:
        workers.close()
        service.close()


def stories(seeds: Sequence[int], *, told: bool = False) -> tuple[int, Counter[str]]:
    """Live the stories of some seeds; return 1 if one broke, and what was seen.

    Args:
        seeds: Which.
        told: Whether to print each step.
    """
    status, seen, steps, began = 0, Counter[str](), 0, time.monotonic()
    with stage() as (service, workers):
        for seed in seeds:
            told_so_far: list[str] = []
            story = Story(seed, service, workers, told_so_far.append)
            try:
                story.live()
            except BrokenInvariantError as error:
                status = 1
                print("\n".join(told_so_far))
                print(f"seed {seed}, step {len(told_so_far)}: {error}", flush=True)
                print(f"    python -m tests.simulation --real --seed {seed}", flush=True)
            else:
                if told:
                    print("\n".join(told_so_far))
            steps += len(told_so_far)
            seen.update(story.seen)
    seconds = time.monotonic() - began
    print(f"{len(seeds)} stories, {steps} steps in {seconds:.1f} s: {dict(sorted(seen.items()))}")
    return status, seen
