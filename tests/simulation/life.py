"""A drawn life: calls over a bad network to a bad service, and what must hold after each step."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import re
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

from memories_async import (
    ApiError,
    Bucket,
    CallOptions,
    DecodeError,
    Memories,
    MemoriesError,
    OutcomeUnknown,
    Progress,
    Rate,
)
from memories_async.emulator import Cut, Drip, Emulator, Hang, InjectedFault, Raw, Reason
from memories_async.emulator.ledger import LedgerEntry
from memories_async.limiters import MemoryLimiter
from tests.simulation.bulk import BulkLife
from tests.simulation.callbacks import CallbackLife
from tests.simulation.calls import KINDS, Call, EchoEngine, Kind
from tests.simulation.network import Weather
from tests.simulation.world import Clock, World

KEY = "sk-sentinel-000000000000000000000000-general"
CAPTION_KEY = "sk-sentinel-000000000000000000000000-caption"

CALLS = 40
"""Calls of one life."""
SPAN = 60.0
"""Virtual seconds within which they begin."""
GRACE = 1.0
"""Virtual seconds that a call may take to clean up after its deadline."""
LONGEST = 4 * 3600.0
"""Virtual seconds after which every call must have ended, whatever happened."""


_TIME_OF_DAY = re.compile(r"\d\d:\d\d:\d\d UTC")


class HookError(Exception):
    """What a user's own hook raises."""


class _Records(logging.Handler):
    """Every log record's text, to search it for the key."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.getMessage()} {record.__dict__}")


def _weather(chance: random.Random) -> Weather:
    def rarely(most: float) -> float:
        return chance.random() * most if chance.random() < 0.5 else 0.0

    return Weather(
        latency=chance.choice([0.001, 0.02, 0.3]),
        resets=rarely(0.5),
        stalls=rarely(0.15),
        unasked=rarely(0.5),
        half_closes=rarely(0.5),
        refusals=rarely(0.3),
        black_holes=rarely(0.05),
        lost_names=rarely(0.2),
        splits=chance.choice([0.0, 0.5, 1.0]),
    )


def _faults(chance: random.Random) -> list[InjectedFault]:
    moments: list[Any] = ["headers", "body", "processed"]
    faults = []
    for _ in range(chance.randrange(8)):
        effect = chance.choice(
            [
                Reason.THROTTLED,
                Reason.THROTTLED,
                Cut(),
                Cut("half"),
                Cut("status"),
                Drip(0.01),
                Hang(),
                Raw(b"\x16\x03\x01 no HTTP at all\r\n\r\n"),
                None,
            ]
        )
        # A throttle answer is trusted to mean that nothing was done, so it comes before the work.
        before_the_work = chance.choice(moments[:2])
        needs_answer = effect in (Cut("half"), Cut("status")) or isinstance(effect, Drip)
        faults.append(
            InjectedFault(
                None,
                effect,
                nth=chance.randint(1, CALLS),
                times=chance.randint(1, 3),
                moment=(
                    "processed"
                    if needs_answer
                    else before_the_work
                    if effect is Reason.THROTTLED
                    else chance.choice(moments)
                ),
                latency=chance.choice([0.0, 0.0, 1.0, 400.0]),
            )
        )
    return faults


def _content(chance: random.Random, kind: Kind) -> bytes:
    size = chance.choice([0, 100, 5_000, 70_000, 300_000])
    return kind.head + chance.randbytes(16) + bytes(size)


class Life:
    """One client or several, one service, and what becomes of their calls."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = world.chance
        self.calls: list[Call] = []
        self.records = _Records()
        self.job: BulkLife | None = None
        self.callbacks: CallbackLife | None = None

    async def run(self) -> None:
        """Live, and check that nothing happened which must not."""
        world, chance = self.world, self.chance
        logger = logging.getLogger()
        logger.addHandler(self.records)
        level = logging.getLogger("memories_async").level
        logging.getLogger("memories_async").setLevel(logging.DEBUG)
        emulator = Emulator(
            EchoEngine(),
            folder=world.folder / "service",
            clock=world.loop.wall,
            sleep=asyncio.sleep,
            api_key=KEY,
            caption_key=CAPTION_KEY,
        )
        try:
            async with emulator:
                world.loop.network.names["localhost"] = ["127.0.0.1", "127.0.0.2"]
                world.loop.network.weather = _weather(chance)
                emulator.faults.add(*_faults(chance))
                await self._live(emulator)
                self._check_money(emulator)
                for part in (self.job, self.callbacks):
                    if part is not None:
                        await part.check()
            self._check_key()
        finally:
            logger.removeHandler(self.records)
            logging.getLogger("memories_async").setLevel(level)
        await asyncio.sleep(1e5)  # whatever is left would show by now
        left = asyncio.all_tasks() - {asyncio.current_task()}
        world.check(not left, f"tasks are left: {sorted(map(str, left))}")
        world.check(not world.loop.network.ends, "connections are left")
        world.check(not world.complaints, f"the loop complained: {world.complaints}")

    async def _live(self, emulator: Emulator) -> None:
        chance, world = self.chance, self.world
        rate = chance.choice([None, Rate(1, 0.3), Rate(2), Rate(20), Rate(1, 7)])
        limiter = MemoryLimiter()
        self.rates = dict.fromkeys(Bucket, rate) if rate else {}
        url = emulator.url.replace("127.0.0.1", "localhost")
        clients = [
            Memories(
                KEY,
                caption_key=CAPTION_KEY,
                base_url=url,
                clock=Clock(world),
                limiter=limiter,
                rates=self.rates,
                max_connections=chance.choice([1, 3, 100]),
            )
            for _ in range(chance.choice([1, 1, 2]))
        ]
        jump = world.loop.call_later(chance.random() * SPAN, self._jump_the_wall_clock)
        others: list[Coroutine[Any, Any, None]] = []
        if chance.random() < 0.4:
            self.job = BulkLife(world, clients[0], world.folder / "pictures")
            others.append(self.job.run())
        if chance.random() < 0.4:
            self.callbacks = CallbackLife(world, clients[-1], emulator)
            others.append(self.callbacks.run())
        tasks = [asyncio.create_task(other) for other in others] + [
            asyncio.create_task(self._one(chance.choice(clients), number))
            for number in range(CALLS)
        ]
        closed_early = chance.random() < 0.1
        if closed_early:
            await asyncio.sleep(chance.random() * SPAN)
            world.tell("a client is closed under its calls")
            await clients[0].aclose()
        async with asyncio.timeout(LONGEST):
            await asyncio.gather(*tasks)
        for client in clients:
            await client.aclose()
        jump.cancel()
        self._check_rates()
        await self._check_permits(limiter)

    def _jump_the_wall_clock(self) -> None:
        seconds = self.chance.choice([-3600.0, -1.5, 5.0, 86400.0])
        self.world.tell(f"the wall clock jumps by {seconds:g} s")
        self.world.loop.wall_offset += seconds

    def _draw(self, number: int) -> Call:
        chance = self.chance
        kind = chance.choice(KINDS)
        contents = [_content(chance, kind) for _ in range(kind.files)]
        options = CallOptions(
            deadline=chance.choice([None, None, None, 0.5, 5.0, 60.0]),
            attempts=chance.choice([None, 1, 3]),
            connect_timeout=chance.choice([None, 1.0]),
            stall_timeout=chance.choice([None, 5.0]),
            answer_timeout=chance.choice([None, 20.0]),
        )
        cancel_after = chance.choice([None, None, None, chance.expovariate(0.5)])
        raises = chance.random() < 0.05
        return Call(number, kind, contents, options, cancel_after, raises)

    async def _one(self, client: Memories, number: int) -> None:
        world, call = self.world, self._draw(number)
        self.calls.append(call)
        await asyncio.sleep(self.chance.random() * SPAN)
        call.started = world.loop.now
        world.tell(f"{call} begins")
        task = asyncio.create_task(self._send(client, call))
        if call.cancel_after is not None:
            world.loop.call_later(call.cancel_after, self._cancel, call, task)
        try:
            result = await task
        except (asyncio.CancelledError, HookError, MemoriesError) as error:
            call.error = error
            world.tell(f"{call} ends: {type(error).__name__}: {_TIME_OF_DAY.sub('…', str(error))}")
        except Exception as error:
            world.check(False, f"{call}: not an error of ours: {error!r}")
        else:
            world.tell(f"{call} ends well")
            seen, expected = call.kind.seen(result), call.kind.expected(call)
            world.check(seen == expected, f"{call} got another's answer: {seen}, not {expected}")
        call.ended = world.loop.now
        if call.options.deadline is not None:
            late = call.ended - call.started - call.options.deadline
            world.check(late <= GRACE, f"{call} ended {late:.2f} s after its deadline")

    def _cancel(self, call: Call, task: asyncio.Task[Any]) -> None:
        if not task.done():
            self.world.tell(f"{call} is cancelled")
            task.cancel()

    async def _send(self, client: Memories, call: Call) -> Any:
        def hook(progress: Progress) -> None:
            if call.raises_in_hook and progress.sent == progress.total:
                raise HookError

        return await call.kind.send(client, call, self.world, hook)

    # --- what must hold -----------------------------------------------------------------------

    def _check_money(self, emulator: Emulator) -> None:
        """Every request that the service saw is accounted for by a call, and so is every cent."""
        seen = defaultdict(list)
        by_content = {_digest(content): call for call in self.calls for content in call.contents}
        by_tag = {call.tag: call for call in self.calls}
        for entry in emulator.ledger:
            call = next(
                (by_content[file.sha256] for file in entry.files if file.sha256 in by_content), None
            )
            if call is None:
                asked = (
                    entry.fields.get(name) for name in ("user_prompt", "input", "search_param")
                )
                words = [word for value in asked for word in _texts(value)]
                call = next((by_tag[word] for word in words if word in by_tag), None)
            if call is not None:
                seen[call].append(entry)
            elif entry.complete and not self._others_sent(entry):
                self.world.check(False, f"a request holds what nobody sent: {entry.path}")
        for call in self.calls:
            entries = seen[call]
            complete = [entry for entry in entries if entry.complete]
            throttled = [entry for entry in complete if _throttled(entry)]
            billed = sum(entry.billed for entry in entries)
            limit = 1 + len(throttled)
            if not call.kind.billed:
                continue
            self.world.check(len(complete) <= limit, f"{call}: {len(complete)} whole requests")
            self.world.check(billed <= 1, f"{call} was billed {billed} times")
            if call.error is None:
                self.world.check(
                    billed == 1 or not entries, f"{call} ended well and was billed {billed} times"
                )
            elif billed:
                noted = any("billed" in note for note in getattr(call.error, "__notes__", []))
                known = isinstance(call.error, OutcomeUnknown) or noted or _was_answered(call.error)
                self.world.check(known, f"{call} was billed, and nobody was told: {call.error!r}")

    def _others_sent(self, entry: LedgerEntry) -> bool:
        """Tell whether a job or a submission sent this, and count it there."""
        parts = (self.job, self.callbacks)
        seen = [part.saw(entry) for part in parts if part is not None]  # each of them counts
        return any(seen)

    async def _check_permits(self, limiter: MemoryLimiter) -> None:
        """Whoever did not send has given back what was counted: the next call need not wait."""
        self.world.tell("everybody has left")
        for lane in list(limiter._counts):
            rate = next(iter(self.rates.values()))
            await asyncio.sleep(LONGEST)
            turn = await limiter.take(lane, rate, Clock(self.world))
            self.world.check(not turn.wait, f"{lane} is shut for {turn.wait:.1f} s for nobody")

    def _check_rates(self) -> None:
        """No window of the rate holds more requests than it allows, as they left."""
        rate = next(iter(self.rates.values()), None)
        if rate is None:
            return
        buckets = defaultdict(list)
        for moment, line in self.world.loop.network.first_bytes:
            buckets[_bucket_of(line)].append(moment)
        for bucket, moments in buckets.items():
            for first, last in zip(moments, moments[rate.calls :], strict=False):
                self.world.check(
                    last - first >= rate.seconds - 1e-6,
                    f"{bucket}: {rate.calls + 1} requests within {last - first:.4f} s",
                )

    def _check_key(self) -> None:
        texts = self.records.texts + [
            f"{call.error!r} {call.error} {getattr(call.error, '__notes__', '')}"
            for call in self.calls
        ]
        for text in texts:
            self.world.check("sentinel" not in text, f"the key is in: {text}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _texts(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]


def _throttled(entry: LedgerEntry) -> bool:
    # The captioning host has one code for every refusal; here nothing else is refused there.
    return entry.status == 429 or str(entry.code) in ("0429", "429", "-1")


def _was_answered(error: BaseException) -> bool:
    """Tell whether an error says that an answer came that could not be read."""
    return isinstance(error, DecodeError | ApiError)


def _bucket_of(line: str) -> str:
    path = line.split(" ")[1] if " " in line else line
    groups = {
        "uploadImg": "caption image",
        "upload_img": "image upload",
        "uploadFileSync": "caption video",
        "embeddings": "embedding",
        "search": "search",
    }
    return next((group for part, group in groups.items() if part in path), path)


async def a_life(world: World) -> None:
    """Live one drawn life."""
    await Life(world).run()
