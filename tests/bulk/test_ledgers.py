"""One contract for every home of a ledger: atomic, idempotent by token, lost means nothing sent."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from memories_async import ConfigurationError, LedgerUnavailable
from memories_async.bulk import Ledger, RedisLedger, SqliteLedger, Status
from memories_async.bulk.ledger import Begun, Entry, Totals
from memories_async.bulk.ledger import entries as rules
from memories_async.bulk.ledger import redis as redis_ledger
from tests import forks
from tests.bulk.ledgers import ledger_at
from tests.callbacks.conftest import free_port, redis_server

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, redis_server(free_port(), folder) as url:
        yield url


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Start Ray, and return its address."""
    import ray

    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.getcwd(),
        "PYTHONBREAKPOINT": "",  # Ray sets it, and would leave it set
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield ray.init(num_cpus=2, **options).address_info["address"]
        ray.shutdown()


# Ray starts processes for seconds, and what it brings warns of itself.
ON_RAY = pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")])

MakeLedger = Callable[[], Ledger]


@pytest.fixture(params=["sqlite", "redis", ON_RAY])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Return where a ledger is kept, as arguments of a command."""
    if request.param == "sqlite":
        return ["sqlite", str(tmp_path / "ledger.sqlite")]
    where = request.getfixturevalue("server" if request.param == "redis" else "cluster")
    return [request.param, where, str(tmp_path)]


@pytest.fixture
def make(home: list[str]) -> MakeLedger:
    """Return what opens the same ledger, as often as it is asked."""
    return lambda: ledger_at(*home)


@pytest.fixture
async def ledger(make: MakeLedger) -> AsyncIterator[Ledger]:
    ledger = make()
    yield ledger
    await ledger.aclose()


def outcome(token: str, status: Status, result: str | None = None) -> Entry:
    return Entry(status=status, token=token, sent_at=1.0, result=result, vector=b"\0\1\xff")


async def test_an_attempt_from_beginning_to_end(ledger: Ledger) -> None:
    assert await ledger.find("a") is None
    said, entry = await ledger.begin("a", "one")
    assert said is Begun.SEND
    assert entry is not None
    assert entry.status is Status.SENDING
    assert await ledger.totals() == Totals(sending=1)
    await ledger.settle("a", outcome("one", Status.DONE, '{"text":"…"}'))
    found = await ledger.find("a")
    assert found == outcome("one", Status.DONE, '{"text":"…"}')
    assert await ledger.begin("a", "two") == (Begun.DONE, found)
    assert await ledger.totals() == Totals(done=1)


async def test_the_same_attempt_may_ask_and_report_again(ledger: Ledger) -> None:
    for _ in range(3):
        assert (await ledger.begin("a", "one"))[0] is Begun.SEND
    for _ in range(3):
        await ledger.settle("a", outcome("one", Status.DONE))
    assert await ledger.totals() == Totals(done=1)


async def test_of_two_attempts_one_may_send(make: MakeLedger) -> None:
    ledgers = [make() for _ in range(8)]
    said = await asyncio.gather(
        *(ledger.begin("a", f"token {index}") for index, ledger in enumerate(ledgers))
    )
    assert [word for word, _ in said].count(Begun.SEND) == 1
    assert [word for word, _ in said].count(Begun.UNKNOWN) == 7
    for ledger in ledgers:
        await ledger.aclose()


async def test_what_was_lost_stays_unknown_until_somebody_risks_it(ledger: Ledger) -> None:
    await ledger.begin("a", "killed")
    assert (await ledger.begin("a", "next"))[0] is Begun.UNKNOWN
    assert await ledger.totals() == Totals(unknown=1)
    assert (await ledger.begin("a", "third", unknown="retry"))[0] is Begun.SEND
    assert await ledger.totals() == Totals(sending=1, doubtful=1)
    assert (await ledger.totals()).billable == 2


async def test_a_late_answer_is_an_answer(ledger: Ledger) -> None:
    await ledger.begin("a", "thought dead")
    await ledger.begin("a", "next")
    await ledger.settle("a", outcome("thought dead", Status.DONE, "{}"))
    found = await ledger.find("a")
    assert found is not None
    assert found.status is Status.DONE
    await ledger.settle("a", outcome("next", Status.FAILED))
    assert await ledger.find("a") == found


async def test_an_attempt_that_never_left_leaves_nothing(ledger: Ledger) -> None:
    await ledger.begin("a", "one")
    await ledger.settle("a", outcome("one", Status.PLANNED))
    assert await ledger.find("a") is None
    assert await ledger.totals() == Totals()


async def test_a_retry_that_never_left_leaves_what_was_unknown(ledger: Ledger) -> None:
    await ledger.begin("a", "killed")
    await ledger.begin("a", "retry", unknown="retry")
    await ledger.settle("a", outcome("retry", Status.PLANNED))
    assert (await ledger.begin("a", "next"))[0] is Begun.UNKNOWN
    assert (await ledger.totals()).billable == 1


async def test_the_budget_holds_however_many_ask_at_once(make: MakeLedger) -> None:
    ledgers = [make() for _ in range(4)]
    said = await asyncio.gather(
        *(
            ledger.begin(f"key {index} {number}", "token", limit=5)
            for index, ledger in enumerate(ledgers)
            for number in range(5)
        )
    )
    words = [word for word, _ in said]
    assert words.count(Begun.SEND) == 5
    assert words.count(Begun.OVER_BUDGET) == 15
    for ledger in ledgers:
        await ledger.aclose()


async def test_all_entries_can_be_read(ledger: Ledger) -> None:
    for number in range(30):
        await ledger.begin(f"key {number}", "token")
    assert {key async for key, _ in ledger.entries()} == {f"key {number}" for number in range(30)}


async def test_a_pickle_opens_the_same_ledger(ledger: Ledger) -> None:
    await ledger.begin("a", "one")
    again = pickle.loads(pickle.dumps(ledger))
    assert await again.find("a") == await ledger.find("a")
    await again.aclose()


async def test_a_file_that_is_gone_sends_nothing(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    await ledger.begin("a", "one")
    os.unlink(tmp_path / "ledger.sqlite")
    with pytest.raises(LedgerUnavailable):
        await ledger.begin("b", "one")
    await ledger.aclose()


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "missing" / "ledger")
    with pytest.raises(LedgerUnavailable):
        await ledger.begin("a", "one")
    await ledger.aclose()


async def test_a_server_that_forgot_sends_nothing(server: str) -> None:
    ledger = RedisLedger(server, job="forgotten")
    await ledger.begin("a", "one")
    with Redis.from_url(server) as client:
        client.flushall()
    with pytest.raises(LedgerUnavailable, match="lost"):
        await ledger.begin("b", "one")
    await ledger.aclose()


async def test_a_server_that_is_not_there(closed_port: int) -> None:
    ledger = RedisLedger(f"redis://127.0.0.1:{closed_port}", job="a")
    with pytest.raises(LedgerUnavailable):
        await ledger.begin("a", "one")
    await ledger.aclose()


async def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_ledger, "ANSWER_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        ledger = RedisLedger(f"redis://127.0.0.1:{silent.getsockname()[1]}", job="a")
        with pytest.raises(LedgerUnavailable, match="does not answer"):
            await ledger.begin("a", "one")
        await ledger.aclose()


@pytest.mark.parametrize(("url", "job"), [("http://x", "a"), ("redis://x", "")])
async def test_addresses_that_are_none(url: str, job: str) -> None:
    with pytest.raises(ConfigurationError):
        RedisLedger(url, job=job)


KILLED = """
import asyncio, sys
from tests.bulk.ledgers import ledger_at
async def main():
    ledger = ledger_at(*sys.argv[1:])
    said, _ = await ledger.begin("a", "killed")
    print(said.name, flush=True)
    await asyncio.sleep(3600)
if sys.argv[1] == "ray":
    import ray
    ray.init(address=sys.argv[2], log_to_driver=False, logging_level="ERROR")
asyncio.run(main())
"""


def _begun_and_killed(home: list[str]) -> None:
    process = forks.start(["-c", KILLED, *home], cwd=forks.ROOT, stderr=2)
    assert process.stdout is not None
    assert process.stdout.readline() == b"SEND\n"
    process.kill()
    process.communicate()


async def test_killed_between_begin_and_settle(home: list[str], ledger: Ledger) -> None:
    await asyncio.to_thread(_begun_and_killed, home)
    assert (await ledger.begin("a", "next"))[0] is Begun.UNKNOWN
    assert await ledger.totals() == Totals(unknown=1)


async def test_one_call_that_raises_is_nobody_else_s_error(ledger: Ledger) -> None:
    wrong = ledger.settle("b", "no entry")  # type: ignore[arg-type]  # wrong on purpose
    said = await asyncio.gather(
        ledger.begin("a", "one"), wrong, ledger.begin("c", "one"), return_exceptions=True
    )
    assert [type(one) for one in said[::2]] == [tuple, tuple]
    assert isinstance(said[1], Exception)
    assert await ledger.totals() == Totals(sending=2)


@pytest.mark.slow
async def test_all_pages_can_be_read(ledger: Ledger) -> None:
    for first in range(0, 1200, 50):  # at once, Redis would be asked over 1,200 new connections
        keys = (f"key {number}" for number in range(first, first + 50))
        await asyncio.gather(*(ledger.begin(key, "token") for key in keys))
    assert len({key async for key, _ in ledger.entries()}) == 1200


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_job_is_read_a_page_at_a_time_by_blocking_code(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from memories_async.ray import report, results

    where = request.getfixturevalue("server") if kind == "redis" else str(tmp_path / "ledger")
    asked = 0

    async def fill(ledger: Ledger) -> None:
        await asyncio.gather(*(ledger.begin(f"key {number}", "one") for number in range(1200)))
        await ledger.aclose()

    class Counting:
        """Counts what was taken out of a ledger."""

        def __init__(self, ledger: Ledger) -> None:
            self.ledger = ledger

        def __getattr__(self, name: str) -> object:
            return getattr(self.ledger, name)

        async def entries(self) -> AsyncIterator[tuple[str, Entry]]:
            nonlocal asked
            async for found in self.ledger.entries():
                asked += 1
                yield found

    asyncio.run(fill(ledger_at(kind, where, str(tmp_path))))
    found = results("any", ledger=Counting(ledger_at(kind, where, str(tmp_path))))  # type: ignore[arg-type]  # it has all of a ledger
    next(found)
    assert asked <= 500
    assert len({key for key, _ in found}) == asked - 1 == 1199

    async def in_a_notebook() -> int:
        return report("any", ledger=ledger_at(kind, where, str(tmp_path))).sending

    assert asyncio.run(in_a_notebook()) == 1200


# --- the rules, without any home ----------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "retry", "done", "failed", "unknown", "planned"]),
        st.sampled_from(["one", "two", "three"]),
    )
)


@given(EVENTS)
def test_what_may_be_billed_is_never_forgotten(events: list[tuple[str, str]]) -> None:
    """Whatever happens: totals cover what was sent, and only what was asked is sent again."""
    entry: Entry | None = None
    totals = Totals()
    may_be_billed: set[str] = set()
    for event, token in events:
        before = entry
        if event in ("begin", "retry"):
            unknown: rules.UnknownPolicy = "retry" if event == "retry" else "keep"
            said, entry = rules.begin(entry, totals, token, 0.0, unknown, None)
            if said is Begun.SEND:
                assert event == "retry" or not may_be_billed or token in may_be_billed
                may_be_billed.add(token)
        else:
            entry = rules.settle(entry, outcome(token, Status(event)))
            if event in ("failed", "planned"):  # only an attempt that was let go says so
                may_be_billed.discard(token)
        totals = totals.moved(before, entry)
        assert min(attrs_values(totals)) >= 0
    known = entry is not None and entry.status in (Status.DONE, Status.UNKNOWN, Status.SENDING)
    assert known or not may_be_billed


def attrs_values(totals: Totals) -> list[int]:
    return [totals.sending, totals.done, totals.failed, totals.unknown, totals.doubtful]
