"""A drawn life: calls over a bad network to a bad service, and what must hold after each step."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from memories_async import Bucket, Memories, MemoriesError, Progress, Rate
from memories_async.emulator import Emulator
from tests.simulation import draws
from tests.simulation.bulk import BulkLife
from tests.simulation.callbacks import CallbackLife
from tests.simulation.calls import CURRENT, KINDS, PNG, Call, EchoEngine, counting_writers, digest
from tests.simulation.draws import CALLS, SPAN
from tests.simulation.encryption import encryption
from tests.simulation.invariants import (
    SENTINEL,
    Accounts,
    BrokenInvariantError,
    CountingLimiter,
    Departures,
    Fate,
    KeyWatch,
    Request,
    check_lateness,
    fate_of,
)
from tests.simulation.world import Clock, World

KEY = f"sk-{SENTINEL}-000000000000000000000000-general"
CAPTION_KEY = f"sk-{SENTINEL}-000000000000000000000000-caption"

LONGEST = 4 * 3600.0
"""Virtual seconds after which every call must have ended, whatever happened."""

_TIME_OF_DAY = re.compile(r"\d\d:\d\d:\d\d UTC")


class HookError(Exception):
    """What a user's own hook raises."""


class Life:
    """One client or several, one service, and what becomes of their calls."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.accounts = Accounts()
        self.watch = KeyWatch(world.broke)
        self._as_answered: dict[bytes, Callable[[], None]] = {}
        """What happens as the service is about to answer a content."""
        self.job: BulkLife | None = None
        self.callbacks: CallbackLife | None = None

    async def run(self) -> None:
        """Live, and check that nothing happened which must not."""
        world = self.world
        logger, ours = logging.getLogger(), logging.getLogger("memories_async")
        logger.addHandler(self.watch)
        level = ours.level
        ours.setLevel(logging.DEBUG)
        emulator = Emulator(
            EchoEngine(answers=self._answers),
            folder=world.folder / "service",
            clock=world.loop.wall,
            sleep=asyncio.sleep,
            api_key=KEY,
            caption_key=CAPTION_KEY,
        )
        try:
            async with emulator, counting_writers():
                world.loop.watch = functools.partial(self.accounts.watch, emulator.ledger)
                await self._live(emulator)
                for part in (self.job, self.callbacks):
                    if part is not None:
                        await part.check()
                self.accounts.check(emulator.ledger)
        finally:
            world.loop.watch = None
            logger.removeHandler(self.watch)
            ours.setLevel(level)
        await asyncio.sleep(1e5)  # whatever is left would show by now
        left = asyncio.all_tasks() - {asyncio.current_task()}
        world.check(not left, f"tasks are left: {sorted(map(str, left))}")
        world.check(not world.loop.network.ends, "connections are left")
        world.check(not world.complaints, f"the loop complained: {world.complaints}")

    async def _live(self, emulator: Emulator) -> None:
        world, chance = self.world, self.world.draw("clients")
        network = world.loop.network
        network.names["localhost"] = ["127.0.0.1", "127.0.0.2"]
        rate = chance.choice([None, Rate(1, 0.3), Rate(2), Rate(20), Rate(1, 7)])
        if "rate" in world.without:
            rate = None
        limiter, departures = CountingLimiter(), Departures(rate)
        port = int(emulator.url.rpartition(":")[2])
        encrypted = chance.random() < 0.3 and "encryption" not in world.without
        if encrypted:
            network.encrypt(port, encryption())

        most = chance.choice([1, 3, 100])

        def client(host: str = "localhost") -> Memories:
            return Memories(
                KEY,
                caption_key=CAPTION_KEY,
                base_url=f"{'https' if encrypted else 'http'}://{host}:{port}",
                ssl_context=encryption().trusted if encrypted else None,
                clock=Clock(world),
                limiter=limiter,
                rates=dict.fromkeys(Bucket, rate) if rate else {},
                max_connections=most,
            )

        clients = [client() for _ in range(chance.choice([1, 1, 2]))]
        network.on_request = self._departing(departures, port)
        await self._bring_in_an_asset(clients[0])
        network.weather = draws.calmer(draws.weather(world.draw("weather")), world.without)
        if "faults" not in world.without:
            emulator.faults.add(*draws.faults(world.draw("faults")))
        if "slow disk" not in world.without:
            world.longest_check = chance.choice([world.longest_check] * 3 + [1.0, 100.0])
        jump = world.loop.call_later(chance.random() * SPAN, self._jump_the_wall_clock)
        others: list[Coroutine[Any, Any, None]] = []
        if chance.random() < 0.4 and "job" not in world.without:
            self.job = BulkLife(world, client, self.accounts, emulator)
            others.append(self.job.run())
        if chance.random() < 0.4 and "callbacks" not in world.without:
            self.callbacks = CallbackLife(world, clients[-1], self.accounts, emulator)
            others.append(self.callbacks.run())
        calls = [(self._draw(number), chance.choice(clients)) for number in range(CALLS)]
        tasks = [asyncio.create_task(other) for other in others] + [
            asyncio.create_task(self._one(one, call, emulator))
            for call, one in calls
            if call.tag not in world.without
        ]
        if chance.random() < 0.1 and "early close" not in world.without:
            await asyncio.sleep(chance.random() * SPAN)
            world.tell("a client is closed under its calls")
            await clients[0].aclose()
        async with asyncio.timeout(LONGEST):
            await asyncio.gather(*tasks)
        for one in clients:
            await one.aclose()
        jump.cancel()
        world.tell("everybody has left")
        departures.check_turns(limiter.turns)

    async def _bring_in_an_asset(self, client: Memories) -> None:
        """Have something to download, before anything goes wrong."""
        content = PNG + self.world.draw("asset").randbytes(12_000)
        request = self.accounts.ask(Request("assets.upload", frozenset([digest(content)])))
        asset = await client.assets.upload(content)
        request.fate = Fate.ANSWERED
        self.world.asset = asset.asset_id, content

    def _departing(self, departures: Departures, service: int) -> Any:
        def saw(host: str, port: int, line: str) -> None:
            host = "localhost" if host in ("127.0.0.1", "127.0.0.2") else host
            try:
                if port == service:
                    departures.saw(self.world.loop.now, host, line)
            except BrokenInvariantError as error:
                self.world.broke(str(error))

        return saw

    def _jump_the_wall_clock(self) -> None:
        seconds = self.world.draw("wall clock").choice([-3600.0, -1.5, 5.0, 86400.0])
        self.world.tell(f"the wall clock jumps by {seconds:g} s")
        self.world.loop.wall_offset += seconds

    def _draw(self, number: int) -> Call:
        chance = self.world.draw(f"call-{number}")
        kind = chance.choice(KINDS)
        contents = [draws.content(chance, kind.head) for _ in range(kind.files)]
        call = Call(
            number,
            kind,
            contents,
            PNG + chance.randbytes(sum(map(len, contents)) - len(PNG)) if contents else b"",
            draws.options(chance),
            chance.choice([None, None, None, chance.expovariate(0.5)]),
            chance.choice([*[""] * 20, "raises at its end", "waits", "raises before"]),
        )
        call.started = chance.random() * SPAN
        if contents and chance.random() < 0.1:
            call.cancel_at = chance.choice(contents)
        if call.hook in ("waits", "raises before"):
            call.options = attrs.evolve(call.options, before_sending=self._before(call))
        return call

    def _before(self, call: Call) -> Any:
        async def before_sending() -> None:
            await asyncio.sleep(1.0)
            if call.hook == "raises before":
                raise HookError

        return before_sending

    async def _one(self, client: Memories, call: Call, emulator: Emulator) -> None:
        world = self.world
        await asyncio.sleep(call.started)
        for request in call.requests:
            self.accounts.ask(request)
        call.started = world.loop.now
        world.tell(f"{call} begins")
        CURRENT.set(call)
        task = asyncio.create_task(call.kind.send(client, call, world, self._hook(call)))
        if call.cancel_after is not None:
            world.loop.call_later(call.cancel_after, self._cancel, call, task)
        if call.cancel_at is not None:
            self._as_answered[call.cancel_at] = functools.partial(self._cancel, call, task)
        error: BaseException | None = None
        try:
            try:
                result = await task
            finally:
                call.ended = True
                world.check(not call.writing, f"{call}: its body is still being written")
        except (asyncio.CancelledError, HookError, MemoriesError) as raised:
            error = raised
            told = _TIME_OF_DAY.sub("…", str(error)).replace(str(world.folder), "")
            world.tell(f"{call} ends: {type(error).__name__}: {told}")
        except Exception as raised:
            world.check(False, f"{call}: not an error of ours: {raised!r}")
        else:
            world.tell(f"{call} ends well")
            self._check_answer(call, result)
        self.watch.look(error)
        if not call.kind.batch:  # each of a batch's calls has its own
            check_lateness(str(call), call.started, world.loop.now, call.options.deadline)
        self._settle(call, error)
        self.accounts.check(emulator.ledger)

    def _check_answer(self, call: Call, result: Any) -> None:
        seen, expected = call.kind.seen(result), call.kind.expected(call)
        if call.kind.batch:
            expected = [one for one in expected if one[0] in {number for number, _ in seen}]
        holds = seen == expected
        self.world.check(holds, f"{call} got another's answer: {seen}, not {expected}")

    def _settle(self, call: Call, error: BaseException | None) -> None:
        """Say what the caller knows of each request."""
        if not call.kind.batch:
            for request in call.requests:
                request.fate = fate_of(error)
            return
        for number, request in enumerate(call.requests):
            notes = getattr(error, "__notes__", ())
            noted = any(note.startswith(f"item {number}:") for note in notes)
            request.fate = Fate.TOLD if noted else Fate.REFUSED
        for outcome in call.outcomes:
            call.requests[outcome.index].fate = fate_of(outcome.error)
            self.watch.look(outcome.error)

    def _answers(self, content: bytes) -> None:
        if (then := self._as_answered.pop(content, None)) is not None:
            then()

    def _cancel(self, call: Call, task: asyncio.Task[Any]) -> None:
        if not task.done():
            self.world.tell(f"{call} is cancelled")
            task.cancel()

    def _hook(self, call: Call) -> Any:
        def hook(progress: Progress) -> None:
            if call.ended:
                self.world.broke(f"{call}: it tells of progress after its end")
            if call.hook == "raises at its end" and progress.sent == progress.total:
                raise HookError

        return hook


async def a_life(world: World) -> None:
    """Live one drawn life."""
    await Life(world).run()
