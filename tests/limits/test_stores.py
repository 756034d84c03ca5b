"""What every store of counts promises: one contract, three homes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memories_async import Bucket, ConfigurationError, LimiterUnavailable, Memories, Rate
from memories_async.emulator import Emulator
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.limiters import (
    Limiter,
    MemoryLimiter,
    PausableLimiter,
    RedisLimiter,
    Spacing,
    SqliteLimiter,
    Turn,
)
from tests.limits.homes import (
    SERVER,
    Home,
    Moment,
    assert_no_window_holds_more,
    cancelled_take,
)
from tests.virtual_clock import HurriedClock

pytestmark = pytest.mark.anyio


# --- the rule ---------------------------------------------------------------------------------


@given(calls=st.integers(1, 1000), seconds=st.floats(1e-3, 1e5), spare=st.integers(0, 1000))
def test_the_call_after_a_full_period_comes_after_it(
    calls: int, seconds: float, spare: int
) -> None:
    rate = Rate(calls, seconds, burst=max(1, calls - spare))
    spacing = Spacing.of(rate)
    assert calls * spacing.interval - spacing.tolerance >= seconds * 1e6


@pytest.mark.parametrize("rate", [Rate(1), Rate(5), Rate(20), Rate(100), Rate(12, 60), Rate(1, 60)])
def test_evenly_spaced_calls_are_at_least_98_percent_of_the_rate(rate: Rate) -> None:
    assert rate.seconds / rate.calls / (Spacing.of(rate).interval / 1e6) >= 0.98


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "calls is 0; a whole number from 1"),
        (("5",), "calls is '5'"),
        ((True,), "calls is True"),
        ((2.5,), "calls is 2.5"),
        ((1, 0), "seconds is 0; a positive number"),
        ((1, float("nan")), "seconds is nan"),
        ((1, float("inf")), "seconds is inf"),
        ((1, "60"), "seconds is '60'"),
        ((1, 60, 0), "burst is 0"),
        ((5, 60, 6), "burst is 6, more than the 5 calls"),
    ],
)
def test_a_rate_of_nothing_is_refused(arguments: tuple[int, float, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Rate(*arguments)


# --- one contract, three homes ----------------------------------------------------------------


@pytest.mark.parametrize("rate", [Rate(1), Rate(5, 10), Rate(1, 60), Rate(5, 10, burst=4)], ids=str)
async def test_two_minutes_as_fast_as_the_rate_allows(home: Home, rate: Rate) -> None:
    moved, times = 0.0, list[Moment]()
    while moved < 120:
        before = moved + home.elapsed
        turn = await home.take(rate)
        if not turn.wait:
            times.append((before, moved + home.elapsed))
        home.move(turn.wait)
        moved += turn.wait
    assert_no_window_holds_more(times, rate)
    evenly = 120 * (rate.calls - rate.burst + 1) / rate.seconds
    assert len(times) >= evenly * 0.98


async def test_a_lane_of_its_own_for_every_account_and_bucket(home: Home) -> None:
    rate = Rate(1, 60)
    for lane in ("a", "b"):
        assert not (await home.limiter.take(home.lane + lane, rate, home.clock)).wait
    turn = await home.limiter.take(home.lane + "a", rate, home.clock)
    assert turn.wait == pytest.approx(60, abs=5)


async def test_two_rates_of_one_lane_are_counted_together(home: Home) -> None:
    assert not (await home.take(Rate(1, 60))).wait
    assert (await home.take(Rate(5))).wait == pytest.approx(60, abs=5)


async def test_a_permit_that_is_given_back_is_free_again(home: Home) -> None:
    rate = Rate(1, 60)
    turn = await home.take(rate)
    await home.give_back(rate, turn)
    assert not (await home.take(rate)).wait
    assert (await home.take(rate)).wait == pytest.approx(60, abs=5)


async def test_a_permit_that_has_run_out_gives_nothing_back(home: Home) -> None:
    rate = Rate(1, 10)
    old = await home.take(rate)
    home.move(100)
    await home.take(rate)
    for _ in range(3):
        await home.give_back(rate, old)
    assert (await home.take(rate)).wait == pytest.approx(10, abs=0.2)


async def test_a_burst_is_given_back_in_the_order_it_is_undone(home: Home) -> None:
    rate = Rate(3, 60, burst=3)
    turns = [await home.take(rate) for _ in range(3)]
    for turn in reversed(turns):
        await home.give_back(rate, turn)
    assert [(await home.take(rate)).wait for _ in range(3)] == [0, 0, 0]
    assert (await home.take(rate)).wait == pytest.approx(60, abs=5)


async def test_giving_back_what_was_never_counted_is_harmless(home: Home) -> None:
    await home.give_back(Rate(1), Turn())
    assert not (await home.take(Rate(1))).wait


async def test_a_pause_is_for_everybody(home: Home) -> None:
    await home.limiter.pause(home.lane, Rate(5), 100, home.clock)
    assert (await home.take(Rate(5))).wait == pytest.approx(100, abs=0.1)
    await home.limiter.pause(home.lane, Rate(5), 10, home.clock)
    assert (await home.take(Rate(5))).wait == pytest.approx(100, abs=0.1), "never made shorter"
    home.move(100 + 1e-5)  # each pause adds a microsecond
    assert not (await home.take(Rate(5))).wait


async def test_no_burst_right_after_a_pause(home: Home) -> None:
    rate = Rate(3, 60, burst=3)
    await home.limiter.pause(home.lane, rate, 100, home.clock)
    home.move(100)
    assert not (await home.take(rate)).wait
    assert (await home.take(rate)).wait > 50


async def test_a_pause_within_a_permit_s_time_is_not_given_back_with_it(home: Home) -> None:
    rate = Rate(1, 60)
    turn = await home.take(rate)
    await home.limiter.pause(home.lane, rate, 30, home.clock)
    await home.give_back(rate, turn)
    assert (await home.take(rate)).wait >= 25


async def test_a_clock_that_is_set_back_stops_nobody(home: Home) -> None:
    rate = Rate(1, 60)
    await home.take(rate)
    home.move(-1e6)
    assert (await home.take(rate)).wait == pytest.approx(60, abs=5)
    home.move(61)
    assert not (await home.take(rate)).wait
    assert (await home.take(rate)).wait == pytest.approx(60, abs=5)


async def test_a_machine_that_restarts_goes_on_from_what_is_kept(home: Home) -> None:
    """Its monotonic clock begins anew; 20 s later not even those have passed for the lane."""
    rate = Rate(1, 60)
    await home.take(rate)
    home.move(-home.clock.now + 20)
    assert 0 < (await home.take(rate)).wait <= 60.3


@pytest.mark.usefixtures("one_worker")
async def test_cancelled_takes_lose_no_permit(home: Home) -> None:
    rate = Rate(1, 600)
    cancelled = 0
    for turns_of_the_loop in [*range(60), *range(60, 600, 30)]:
        cancelled += not await cancelled_take(home, rate, turns_of_the_loop)
        turn = await home.take(rate)
        assert not turn.wait, f"cancelled after {turns_of_the_loop} turns of the loop"
        await home.give_back(rate, turn)
    assert cancelled or isinstance(home.limiter, MemoryLimiter)


OPERATIONS = st.one_of(
    st.just(("take", 0.0)),
    st.tuples(st.just("give_back"), st.integers(0, 3).map(float)),
    st.tuples(st.just("cancel"), st.integers(0, 40).map(float)),
    st.tuples(st.just("pass"), st.floats(0, 30)),
    st.tuples(st.just("set_back"), st.floats(0, 1e5)),
    st.tuples(st.just("pause"), st.floats(0, 50)),
)


class History:
    """What happened to a lane, in the time that really passed."""

    def __init__(self, home: Home, rate: Rate) -> None:
        self.home = home
        self.rate = rate
        self.moved = 0.0
        self.paused_until = self.paused_until_at_most = 0.0
        self.looked = 0.0
        self.unseen = 0.0
        self.lost = 0.0
        self.used: list[tuple[Moment, Turn]] = []

    @property
    def now(self) -> float:
        return self.moved + self.home.elapsed

    async def run(self, operations: list[tuple[str, float]]) -> None:
        for operation, argument in operations:
            if operation in ("take", "cancel", "pause"):
                self.look()
            await getattr(self, operation)(argument)

    def look(self) -> None:
        """Let the store see the time: what it does not show to have passed is lost."""
        self.lost += self.moved - self.looked - max(self.unseen, 0.0)
        self.looked, self.unseen = self.moved, 0.0

    async def take(self, _: float) -> None:
        before = self.now
        turn = await self.home.take(self.rate)
        if turn.wait:
            interval = Spacing.of(self.rate).interval / 1e6
            pause = max(self.paused_until_at_most - before, 0)
            assert turn.wait <= pause + self.rate.calls * interval + self.lost + 1e-4
            await self.pass_(turn.wait)
            self.look()
            before = self.now
            turn = await self.home.take(self.rate)
            assert not turn.wait, "what was waited for did not come"
        assert self.now >= self.paused_until - 1e-4
        self.used.append(((before, self.now), turn))
        assert_no_window_holds_more([when for when, _ in self.used], self.rate)

    async def give_back(self, which: float) -> None:
        if int(which) < len(self.used):
            _, turn = self.used.pop(-1 - int(which))
            await self.home.give_back(self.rate, turn)

    async def cancel(self, turns_of_the_loop: float) -> None:
        before = await self.home.take(self.rate)
        if not before.wait:
            await self.home.give_back(self.rate, before)
        await cancelled_take(self.home, self.rate, int(turns_of_the_loop))
        after = await self.home.take(self.rate)
        if not after.wait:
            await self.home.give_back(self.rate, after)
        assert after.wait <= before.wait + 2e-6, "a cancelled take took something"

    async def pass_(self, seconds: float) -> None:
        self.home.move(seconds)
        self.moved += seconds
        self.unseen += seconds

    async def set_back(self, seconds: float) -> None:
        self.unseen -= seconds
        self.home.move(-seconds)

    async def pause(self, seconds: float) -> None:
        self.paused_until = max(self.paused_until, self.now + seconds)
        await self.home.limiter.pause(self.home.lane, self.rate, seconds, self.home.clock)
        until = self.now + seconds
        self.paused_until_at_most = max(self.paused_until_at_most, until)


setattr(History, "pass", History.pass_)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate=st.sampled_from([Rate(1, 10), Rate(3, 10), Rate(3, 10, burst=2), Rate(3, 10, burst=3)]),
    operations=st.lists(OPERATIONS, max_size=25),
)
def test_whatever_happens_no_window_holds_more_and_nobody_waits_for_nothing(
    home: Home, rate: Rate, operations: list[tuple[str, float]]
) -> None:
    async def run() -> None:
        with ThreadPoolExecutor(1) as executor:
            asyncio.get_running_loop().set_default_executor(executor)
            home.lane += "x"  # a lane of its own for each example
            await History(home, rate).run(operations)

    asyncio.run(run())


# --- each home's own --------------------------------------------------------------------------


def test_the_first_use_from_many_threads_is_one_lane() -> None:
    for _ in range(50):
        limiter, clock, start = MemoryLimiter(), HurriedClock(), threading.Barrier(8)
        granted: list[bool] = []

        def work(
            limiter: Limiter = limiter,
            clock: HurriedClock = clock,
            start: threading.Barrier = start,
            granted: list[bool] = granted,
        ) -> None:
            start.wait()
            granted.append(not asyncio.run(limiter.take("lane", Rate(1, 60), clock)).wait)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert granted.count(True) == 1


class SlowLoopClock(HurriedClock):
    """Its time runs on between a count in a thread and the loop's coming for it."""

    def __init__(self) -> None:
        super().__init__()
        self.late = [0.0, 0.0, 5.0]

    def monotonic(self) -> float:
        if threading.current_thread() is threading.main_thread() and self.late:
            self.now += self.late.pop()
        return self.now


async def test_a_permit_that_waited_for_a_busy_loop_is_taken_anew(tmp_path: Path) -> None:
    limiter, clock, rate = SqliteLimiter(tmp_path / "counts.sqlite"), SlowLoopClock(), Rate(1, 60)
    turn = await limiter.take("lane", rate, clock)
    assert not turn.wait
    assert (await limiter.take("lane", rate, clock)).wait == pytest.approx(60, abs=0.3)


async def test_a_permit_too_old_is_none_even_if_the_loop_is_always_late(tmp_path: Path) -> None:
    limiter, clock, rate = SqliteLimiter(tmp_path / "counts.sqlite"), SlowLoopClock(), Rate(1, 60)
    clock.late = [5.0] * 100
    turn = await limiter.take("lane", rate, clock)
    assert not turn.wait, "late, but not for ever"


@pytest.mark.parametrize("path", ["", ":memory:", "a\0b", None, 5, b"counts"])
def test_what_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="SqliteLimiter: path is"):
        SqliteLimiter(path)


@pytest.mark.parametrize("patience", [0, -1, float("inf"), float("nan"), "5", None, True])
def test_patience_is_a_number_of_seconds(patience: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="SqliteLimiter: patience is"):
        SqliteLimiter(tmp_path / "counts.sqlite", patience=patience)
    with pytest.raises(ConfigurationError, match="RedisLimiter: patience is"):
        RedisLimiter("redis://localhost", patience=patience)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://user:hunter2",
        "redis://localhost:hunter2",
        "redis://[::1",
        "redis://localhost?hunter2=1",
        "redis://localhost?db=hunter2",
        "rediss://localhost?ssl_cert_reqs=hunter2",
        None,
        5,
        b"redis://localhost",
    ],
)
def test_what_is_no_address_of_redis_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"RedisLimiter: url is .*redis://") as caught:
        RedisLimiter(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_limiters_travel(redis_url: str, tmp_path: Path) -> None:
    import pickle

    for limiter in (SqliteLimiter(tmp_path / "counts.sqlite"), RedisLimiter(redis_url)):
        copy = pickle.loads(pickle.dumps(limiter))
        lane, clock = f"{tmp_path}", HurriedClock()
        assert not (await limiter.take(lane, Rate(1, 60), clock)).wait
        assert (await copy.take(lane, Rate(1, 60), clock)).wait > 50


def test_who_can_be_a_limiter() -> None:
    for limiter in (MemoryLimiter(), SqliteLimiter("x"), RedisLimiter("redis://localhost")):
        assert isinstance(limiter, PausableLimiter)
    assert isinstance(LostLimiter(), Limiter)
    assert not isinstance(LostLimiter(), PausableLimiter)
    assert not isinstance("redis://localhost", Limiter)


async def test_a_fork_in_the_middle_of_counts_keeps_the_file_whole(tmp_path: Path) -> None:
    """A connection that is open across a fork would cost the child its locks on the file."""
    program = Path(__file__).with_name("forking.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        str(program),
        str(tmp_path / "counts.sqlite"),
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert output.split() == [b"ok"] * 10


# --- when the store is lost -------------------------------------------------------------------


async def lost(call: Awaitable[object]) -> LimiterUnavailable:
    async with asyncio.timeout(20):  # none of them waits for a store for minutes
        with pytest.raises(LimiterUnavailable) as caught:
            await call
    return caught.value


async def test_no_folder_for_the_file(tmp_path: Path) -> None:
    limiter = SqliteLimiter(tmp_path / "none" / "counts.sqlite")
    await lost(limiter.take("lane", Rate(1), HurriedClock()))
    await lost(limiter.give_back("lane", Rate(1), Turn()))


async def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite"
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(ConfigurationError, match=r"counts\.sqlite is no SQLite file"):
        await SqliteLimiter(path).take("lane", Rate(1), HurriedClock())
    assert path.read_bytes() == b"something else" * 1000


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
    limiter = SqliteLimiter(path, patience=20)
    waiting = asyncio.create_task(limiter.take("lane", Rate(1), HurriedClock()))
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert not waiting.done()
    other.close()  # only a loop that runs comes to this, and only this ends the wait
    assert not (await waiting).wait


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

        async def picture(one: Memories) -> None:
            await one.captions.image(b"\x89PNG\r\n\x1a\n", "what")

        async with client("sk-one") as first, client("sk-one") as second, client("sk-two") as other:
            await picture(first)
            await picture(other)
            assert clock.slept == []
            await picture(second)
            assert sum(clock.slept) == pytest.approx(60, abs=0.3)
    stored = (tmp_path / "counts.sqlite").read_bytes()
    assert b"sk-one" not in stored
