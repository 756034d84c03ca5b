"""Days of calls in seconds: the real engine on virtual time, its exchanges played by a script."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Callable

import attrs

from memories_async import Bucket, Memories, MemoriesError, Rate
from memories_async._engine.body.writer import Transfer
from memories_async._engine.request import Request
from memories_async._engine.transport.answers import Reply
from memories_async._engine.transport.failures import Failure, Fault
from memories_async._engine.transport.http import Departure
from memories_async.limiters import MemoryLimiter
from tests.faults.conftest import LeapingClock

GOOD = Reply(200, {}, b'{"code":200,"data":{"embedding":[0.5]}}')
HOUR = 3600.0
ONE_A_SECOND = Rate(1)


@attrs.frozen
class _Fault:
    """What one exchange may come to, and what fraction of the body has left by then."""

    fraction: float
    outcome: Reply | Failure


FAULTS = (
    _Fault(0.0, Failure(Fault.DNS)),
    _Fault(0.0, Failure(Fault.CONNECT)),
    _Fault(0.5, Failure(Fault.LOST)),
    _Fault(0.5, Failure(Fault.STALLED)),
    _Fault(1.0, Failure(Fault.LOST)),
    _Fault(1.0, Failure(Fault.TIMED_OUT)),
    _Fault(1.0, Reply(502, {}, b"<html>")),
    _Fault(1.0, Reply(429, {}, b"")),
    _Fault(1.0, Reply(429, {"retry-after": "7"}, b"")),
    _Fault(1.0, Reply(200, {}, b'{"code":"0429","msg":"Request has exceeded the limit."}')),
)


class ScriptedHttp:
    """Stands where the connections are: good answers, and faults at random."""

    def __init__(self, share: Callable[[float], float], seed: int, clock: LeapingClock) -> None:
        self._share = share
        self._began = clock.now
        self._chance = random.Random(seed)
        self._clock = clock
        self.times: list[float] = []
        """When requests began to leave; only of the last minutes, as memory is watched."""

    async def exchange(
        self,
        request: Request[object],
        transfer: Transfer,
        *,
        within: float | None,
        departure: Departure,
    ) -> Reply | Failure:
        assert request.body is not None
        assert request.body.length is not None
        await departure.confirm()
        fault = None
        if self._chance.random() < self._share(self._clock.now - self._began):
            fault = self._chance.choice(FAULTS)
        if fault is None or fault.fraction:
            self.times.append(self._clock.now)
            del self.times[:-100]
            transfer.handing_over(int(request.body.length * (fault.fraction if fault else 1.0)))
        await asyncio.sleep(0)
        return fault.outcome if fault else GOOD

    async def aclose(self) -> None: ...


@attrs.define
class Soaked:
    """What became of the calls.

    Attributes:
        ended: How many ended in which way.
        requests: How many calls ended in each hour.
        memory: What ``measure`` said at the end of each hour.
        fullest: Most requests that left within one period of the rate.
        seconds: Virtual seconds in all.
    """

    ended: Counter[str] = attrs.field(factory=Counter[str])
    hourly: list[int] = attrs.field(factory=list[int])
    memory: list[float] = attrs.field(factory=list[float])
    fullest: int = 0
    seconds: float = 0.0


async def soak(
    calls: int,
    *,
    faults: Callable[[float], float] = lambda second: 0.05,
    workers: int = 4,
    rate: Rate = ONE_A_SECOND,
    seed: int = 0,
    hour: float = HOUR,
    measure: Callable[[], float] = lambda: 0.0,
) -> Soaked:
    """Make so many calls, one after the other in each worker, as fast as the rate allows.

    Args:
        calls: How many.
        faults: The share of exchanges that fail, by the second.
        workers: How many calls are under way at once.
        rate: What the lane allows.
        seed: Of the chance.
        hour: Seconds after which is looked, again and again.
        measure: Called at the end of each hour.
    """
    clock = LeapingClock(moment=0.0)
    result = Soaked()
    async with Memories(
        "key",
        base_url="http://localhost:1",
        rates={Bucket.EMBEDDING: rate},
        limiter=MemoryLimiter(),
        clock=clock,
    ) as client:
        http = ScriptedHttp(faults, seed, clock)
        (await client._dispatcher.engine()).http.exchange = http.exchange  # type: ignore[method-assign]
        began = clock.now
        left = iter(range(calls))
        ended_before = 0

        async def work() -> None:
            nonlocal ended_before
            for _ in left:
                try:
                    await client.embeddings.image(asset_id="re_1")
                    result.ended["ok"] += 1
                except MemoriesError as error:
                    result.ended[type(error).__name__] += 1
                del clock.slept[:]
                recent = [at for at in http.times if at > http.times[-1] - rate.seconds]
                result.fullest = max(result.fullest, len(recent))
                if clock.now - began >= (len(result.memory) + 1) * hour:
                    gc.collect()
                    result.memory.append(measure())
                    result.hourly.append(result.ended.total() - ended_before)
                    ended_before = result.ended.total()

        await asyncio.gather(*[work() for _ in range(workers)])
        result.seconds = clock.now - began
    return result
