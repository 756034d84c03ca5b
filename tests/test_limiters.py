"""What every store of counts promises: never a window over the limit, and no call unpaced."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from memories_async import Bucket, LimiterUnavailable, Memories, Rate
from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.limiters import Limiter, MemoryLimiter, RedisLimiter, SqliteLimiter, Turn
from tests.virtual_clock import HurriedClock, VirtualClock

pytestmark = pytest.mark.anyio

STORES = ["memory", "sqlite", "redis"]
SERVER = shutil.which("redis-server") or shutil.which("valkey-server")
TEN_MINUTES = 600.0


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if SERVER is None:
        pytest.skip("there is neither redis-server nor valkey-server on this machine")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "redis.sock"
    server = subprocess.Popen(
        [SERVER, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        while not path.exists():
            assert server.poll() is None
            time.sleep(0.01)
        yield f"unix://{path}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name the store of a test's parameter, so that another process can open it."""
    match request.param:
        case "redis":
            return str(request.getfixturevalue("redis_url"))
        case "sqlite":
            return str(tmp_path / "counts.sqlite")
        case _:
            return ""


def limiter_at(url: str) -> Limiter:
    if url.startswith(("unix:", "redis:")):
        return RedisLimiter(url)
    return SqliteLimiter(url) if url else MemoryLimiter()


def lane(url: str) -> str:
    """Return a lane of a test's own, as the Redis server outlives a test."""
    return os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]


async def turns_of(
    limiter: Limiter, lane: str, rate: Rate, clock: HurriedClock, until: float
) -> list[float]:
    """Take turns as fast as they come; return when each was counted."""
    taken: list[float] = []
    while clock.wall() < until:
        turn = await limiter.take(lane, rate, clock)
        if turn.wait:
            await clock.sleep(turn.wait)
        else:
            taken.append(turn.stamp / 1000)
    return taken


def most_in_a_window(times: list[float], seconds: float) -> int:
    """Count the calls in the fullest window."""
    times = sorted(times)
    most = first = 0
    for last, end in enumerate(times):
        while times[first] <= end - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize("url", STORES, indirect=True)
@pytest.mark.parametrize("rate", [Rate(1), Rate(5, 10), Rate(1, 60)], ids=str)
async def test_ten_minutes_as_fast_as_the_rate_allows(url: str, rate: Rate) -> None:
    clock = HurriedClock()
    began = clock.wall()
    times = await turns_of(limiter_at(url), lane(url), rate, clock, began + TEN_MINUTES)
    assert most_in_a_window(times, rate.seconds) <= rate.calls
    ideal = TEN_MINUTES * rate.calls / rate.seconds
    assert ideal * 0.95 <= len(times) <= ideal + rate.calls


@pytest.mark.parametrize("url", STORES, indirect=True)
async def test_a_lane_of_its_own_for_every_account_and_bucket(url: str) -> None:
    limiter, clock, rate = limiter_at(url), HurriedClock(), Rate(1, 60)
    assert not (await limiter.take(lane(url) + "a", rate, clock)).wait
    assert not (await limiter.take(lane(url) + "b", rate, clock)).wait
    assert (await limiter.take(lane(url) + "a", rate, clock)).wait == pytest.approx(60, abs=0.01)


@pytest.mark.parametrize("url", STORES, indirect=True)
async def test_a_turn_that_is_given_back_is_free_again(url: str) -> None:
    limiter, clock, rate = limiter_at(url), HurriedClock(), Rate(2, 60)
    first = await limiter.take(lane(url), rate, clock)
    clock.now += 10
    second = await limiter.take(lane(url), rate, clock)
    assert (first.wait, second.wait) == (0, 0)
    assert (await limiter.take(lane(url), rate, clock)).wait == pytest.approx(50, abs=0.01)
    await limiter.give_back(lane(url), rate, first)
    assert (await limiter.take(lane(url), rate, clock)).wait == 0
    # The second and the third are now the ones that count, not the first.
    assert (await limiter.take(lane(url), rate, clock)).wait == pytest.approx(60, abs=0.01)


@pytest.mark.parametrize("url", STORES, indirect=True)
async def test_giving_back_what_has_long_run_out_is_harmless(url: str) -> None:
    limiter, clock, rate = limiter_at(url), HurriedClock(), Rate(1)
    turn = await limiter.take(lane(url), rate, clock)
    clock.now += 10
    await limiter.take(lane(url), rate, clock)
    await limiter.give_back(lane(url), rate, turn)
    assert (await limiter.take(lane(url), rate, clock)).wait == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
async def test_hosts_whose_clocks_disagree_a_little(url: str) -> None:
    limiter, rate, ahead, behind = limiter_at(url), Rate(1), HurriedClock(), HurriedClock()
    ahead.now += 0.05
    assert not (await limiter.take(lane(url), rate, ahead)).wait
    assert (await limiter.take(lane(url), rate, behind)).wait == pytest.approx(1.05, abs=0.01)


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
async def test_a_clock_that_is_set_back_by_an_hour_stops_nobody(url: str) -> None:
    limiter, rate, clock = limiter_at(url), Rate(1), HurriedClock()
    assert not (await limiter.take(lane(url), rate, clock)).wait
    clock.now -= 3600
    assert not (await limiter.take(lane(url), rate, clock)).wait
    assert (await limiter.take(lane(url), rate, clock)).wait == pytest.approx(1, abs=0.01)


SPEED = 150.0
"""How much faster the clock of the processes runs."""


class FastClock(HurriedClock):
    """A clock that several processes agree on, and that runs faster than time."""

    def __init__(self, began: float) -> None:
        super().__init__()
        self._began = began

    def wall(self) -> float:
        return self._began + (time.time() - self._began) * SPEED

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / SPEED)


def _work(
    url: str,
    lane: str,
    rate: Rate,
    began: float,
    minutes: float,
    start: Barrier,
    taken: Queue[list[float]],
) -> None:
    """Take turns in a process of its own."""
    clock = FastClock(began)
    start.wait()
    until = clock.wall() + 60 * minutes
    taken.put(asyncio.run(turns_of(limiter_at(url), lane, rate, clock, until)))


def turns_of_processes(url: str, lane: str, rate: Rate, minutes: float) -> list[float]:
    """Return when each turn was counted that three processes took together."""
    spawn = multiprocessing.get_context("spawn")
    start, queue = spawn.Barrier(3), spawn.Queue()
    work = (url, lane, rate, time.time(), minutes, start, queue)
    processes = [spawn.Process(target=_work, args=work) for _ in range(3)]
    for process in processes:
        process.start()
    shares = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    return [turn for share in shares for turn in share]


@pytest.mark.parametrize("minutes", [3.0, pytest.param(10.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_three_processes_share_one_limit(url: str, minutes: float) -> None:
    rate = Rate(2, 10)
    taken = turns_of_processes(url, lane(url), rate, minutes)
    assert most_in_a_window(taken, rate.seconds) <= rate.calls
    ideal = (max(taken) - min(taken)) * rate.calls / rate.seconds
    assert ideal * 0.5 <= len(taken) <= ideal + rate.calls


# --- when the store is lost -------------------------------------------------------------------


async def lost(call: Awaitable[object]) -> LimiterUnavailable:
    began = time.monotonic()
    with pytest.raises(LimiterUnavailable) as caught:
        await call
    assert time.monotonic() - began < 2
    return caught.value


async def test_no_folder_for_the_file(tmp_path: Path) -> None:
    limiter = SqliteLimiter(tmp_path / "none" / "counts.sqlite")
    await lost(limiter.take("lane", Rate(1), HurriedClock()))
    await lost(limiter.give_back("lane", Rate(1), Turn()))


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite"
    path.write_bytes(b"something else" * 1000)
    error = await lost(SqliteLimiter(path).take("lane", Rate(1), HurriedClock()))
    assert "not a database" in str(error)


async def test_a_file_that_another_process_never_lets_go(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "counts.sqlite"
    limiter = SqliteLimiter(path, patience=0.05)
    await limiter.take("lane", Rate(1), HurriedClock())
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        error = await lost(limiter.take("lane", Rate(1), HurriedClock()))
        assert "locked" in str(error)
        other.execute("ROLLBACK")
    other.close()
    await limiter.take("lane", Rate(1), HurriedClock())


async def test_a_lost_redis() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        limiter = RedisLimiter(f"redis://user:hunter2@127.0.0.1:{port}")
        error = await lost(limiter.take("lane", Rate(1), HurriedClock()))
    assert "hunter2" not in f"{error} {error!r} {limiter!r}"
    await lost(limiter.give_back("lane", Rate(1), Turn()))


@pytest.mark.parametrize("listening", [False, True])
async def test_a_redis_that_never_answers(listening: bool) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5 if listening else 0)
        held = [socket.socket() for _ in range(0 if listening else 4)]
        for connection in held:
            connection.setblocking(False)
            connection.connect_ex(silent.getsockname())
        limiter = RedisLimiter(f"redis://127.0.0.1:{silent.getsockname()[1]}", patience=0.1)
        await lost(limiter.take("lane", Rate(1), HurriedClock()))
        for connection in held:
            connection.close()


async def test_a_redis_that_restarts_is_found_again(tmp_path: Path) -> None:
    if SERVER is None:
        pytest.skip("there is neither redis-server nor valkey-server on this machine")
    path = tmp_path / "r.sock"
    limiter = RedisLimiter(f"unix://{path}")
    clock = HurriedClock()
    for _ in range(2):
        server = await asyncio.create_subprocess_exec(
            *[SERVER, "--port", "0", "--unixsocket", str(path), "--save", ""],
            stdout=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        while not path.exists():  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.01)
        assert not (await limiter.take("lane", Rate(1), clock)).wait
        server.kill()
        await server.wait()
        await lost(limiter.take("lane", Rate(1), clock))
        path.unlink(missing_ok=True)


class LostLimiter:
    """A store that cannot be reached."""

    async def take(self, lane: str, rate: Rate, clock: object) -> Turn:
        raise LimiterUnavailable("the store is lost")

    async def give_back(self, lane: str, rate: Rate, turn: Turn) -> None:
        raise LimiterUnavailable("the store is lost")


async def test_nothing_is_sent_unpaced() -> None:
    async with Emulator(HashEngine()) as emulator:
        limits = {Bucket.CAPTION_IMAGE: Rate(5)}
        async with Memories(
            "k", caption_key="k", base_url=emulator.url, rates=limits, limiter=LostLimiter()
        ) as client:
            with pytest.raises(LimiterUnavailable) as caught:
                await client.captions.image(b"\x89PNG\r\n\x1a\n", "what")
            assert caught.value.attempts == 0
            assert "captions.image" in str(caught.value)
            # A bucket without a limit asks nobody.
            await client.embeddings.image(b"\x89PNG\r\n\x1a\n")
        assert len(emulator.ledger) == 1


async def test_a_blocked_store_does_not_block_the_loop(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "counts.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    limiter = SqliteLimiter(path, patience=0.2)
    waiting = asyncio.create_task(lost(limiter.take("lane", Rate(1), HurriedClock())))
    longest, last = 0.0, time.monotonic()
    while not waiting.done():
        await asyncio.sleep(0.001)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    await waiting
    other.close()
    assert longest < 0.15


# --- the client's queue in front of a store ---------------------------------------------------


async def test_many_calls_keep_their_order_and_the_rate() -> None:
    from memories_async._engine.pacing import Pacer
    from memories_async.config import Secret

    clock = VirtualClock()
    pacer = Pacer({Bucket.SEARCH: Rate(1)}, MemoryLimiter(), clock)
    times: list[tuple[int, float]] = []

    async def call(number: int) -> None:
        await pacer.lane(Secret("k", "V"), Bucket.SEARCH).enter(None)
        times.append((number, clock.wall()))

    async def all_calls() -> None:
        await asyncio.gather(*[call(number) for number in range(300)])

    await clock.run(all_calls())
    assert [number for number, _ in times] == list(range(300))
    assert most_in_a_window([at for _, at in times], 1.0) == 1
    assert times[-1][1] - times[0][1] < 299 * 1.01


async def test_the_store_of_two_clients_with_one_key_is_one(tmp_path: Path) -> None:
    clock = HurriedClock()
    async with Emulator(HashEngine()) as emulator:

        def client(key: str) -> Memories:
            return Memories(
                "k",
                caption_key=key,
                base_url=emulator.url,
                rates={Bucket.CAPTION_IMAGE: Rate(1, 60)},
                limiter=SqliteLimiter(tmp_path / "counts.sqlite"),
                clock=clock,
            )

        picture: Callable[[Memories], Awaitable[object]]
        picture = lambda one: one.captions.image(b"\x89PNG\r\n\x1a\n", "what")  # noqa: E731
        async with client("sk-one") as first, client("sk-one") as second, client("sk-two") as other:
            await picture(first)
            await picture(other)
            assert clock.slept == []
            await picture(second)
            assert sum(clock.slept) == pytest.approx(60, abs=0.1)
    stored = (tmp_path / "counts.sqlite").read_bytes()
    assert b"sk-one" not in stored
