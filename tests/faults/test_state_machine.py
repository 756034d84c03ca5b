"""Random calls under random faults: what is billed is never more than what the caller was told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence

import attrs
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from memories_async import (
    ApiError,
    CallOptions,
    DecodeError,
    Memories,
    MemoriesError,
    OutcomeUnknown,
)
from memories_async.emulator import Cut, Drip, Hang, Raw, Reason, gateway
from memories_async.emulator import HttpResponse as Answer
from memories_async.emulator import InjectedFault as Fault
from tests.conftest import PatientLoop
from tests.faults.conftest import MP4, PNG, Stage, on_stage
from tests.faults.proxy import Plan

FILM = MP4 + bytes(6 << 20)

LOST = [Cut(), Cut("status"), Cut("half"), Drip(0.0), Hang(), Raw(b"garbage\r\n\r\n")]
"""What may happen on the connection once the work is done and billed."""
BROKEN = [gateway(500), gateway(502), gateway(503), gateway(504), Answer(body=b"<html>"), Answer()]
REFUSED = [
    *Reason,
    gateway(413),
    gateway(503),
    Answer(status=307, headers={"Location": "http://localhost:1"}),
    Answer(status=429, headers={"Retry-After": "3"}),
    Answer(status=429, headers={"Retry-After": "300"}),
]

plans = st.one_of(
    st.just(Plan()),
    st.builds(
        Plan,
        body=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
        withhold=st.sampled_from([0, 0, 1]),
        how=st.sampled_from(["reset", "close", "stall"]),
    ),
    st.builds(Plan, request=st.integers(1, 400), how=st.sampled_from(["reset", "close", "stall"])),
    st.builds(Plan, answer=st.integers(0, 300), how=st.sampled_from(["reset", "close", "stall"])),
    st.just(Plan(accept=True)),
)
faults = st.one_of(
    st.builds(
        Fault,
        st.none(),
        st.sampled_from([*LOST, *BROKEN]),
        nth=st.integers(1, 3),
        times=st.integers(1, 6),
        moment=st.just("processed"),
    ),
    st.builds(
        Fault,
        st.none(),
        st.sampled_from(REFUSED),
        nth=st.integers(1, 3),
        times=st.integers(1, 6),
        moment=st.sampled_from(["headers", "body"]),
    ),
)
kinds = st.sampled_from(["caption", "caption", "film", "add", "read"])


@attrs.define
class Tally:
    """What the callers were told."""

    fine: int = 0
    unknown: int = 0
    careful: list[str] = attrs.field(factory=list)


class BilledOnce(RuleBasedStateMachine):
    """A stage on which calls and faults follow each other at random."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=PatientLoop)
        self.cleanup = contextlib.AsyncExitStack()
        self.stage: Stage = self.runner.run(self.cleanup.enter_async_context(on_stage()))
        self.client: Memories = self.stage.client(
            options=CallOptions(stall_timeout=0.05, answer_timeout=0.05, attempts=4)
        )
        self.tally = Tally()
        self.number = 0

    def teardown(self) -> None:
        self.runner.run(self.cleanup.aclose())
        self.runner.close()

    @rule(upcoming=st.lists(plans, max_size=4))
    def plan(self, upcoming: list[Plan]) -> None:
        self.stage.proxy.plans.extend(upcoming)

    @rule(fault=faults)
    def fault(self, fault: Fault) -> None:
        self.stage.emulator.faults.add(fault)

    @rule()
    def mend(self) -> None:
        self.stage.proxy.plans.clear()
        self.stage.emulator.faults.clear()

    @rule(chosen=st.lists(kinds, min_size=1, max_size=4), accept=st.booleans())
    def call(self, chosen: Sequence[str], accept: bool) -> None:
        self.runner.run(self._together(chosen, accept, None))

    @rule(chosen=st.lists(kinds, min_size=1, max_size=3), after=st.floats(0, 0.02))
    def call_and_cancel(self, chosen: Sequence[str], after: float) -> None:
        self.runner.run(self._together(chosen, False, after))

    async def _together(
        self, chosen: Sequence[str], accept: bool, cancel_after: float | None
    ) -> None:
        names = [self._name() for _ in chosen]
        calls = [
            asyncio.ensure_future(self._call(kind, name, accept))
            for kind, name in zip(chosen, names, strict=True)
        ]
        if cancel_after is not None:
            await asyncio.sleep(cancel_after)
            for call in calls:
                call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        for kind, name, result in zip(chosen, names, results, strict=True):
            if not accept:
                self.tally.careful.append(name)
            if kind == "read":
                continue
            match result:
                case OutcomeUnknown() | DecodeError() | asyncio.CancelledError():
                    self.tally.unknown += 1
                case ApiError() | MemoriesError():
                    pass
                case BaseException():
                    raise result
                case _:
                    self.tally.fine += 1

    def _name(self) -> str:
        self.number += 1
        return f"call {self.number}"

    def _call(self, kind: str, name: str, accept: bool) -> Awaitable[object]:
        options = CallOptions(replay="accept_double_billing" if accept else "safe")
        match kind:
            case "caption":
                return self.client.captions.image(PNG, name, options=options)
            case "film":
                return self.client.captions.video(FILM, name, options=options)
            case "add":
                return self.client.library.add_images(PNG, unique_id=name, options=options)
            case _:
                return self.client.library.video("VI1", unique_id=name, options=options)

    @invariant()
    def nothing_billed_that_the_caller_does_not_know(self) -> None:
        self.runner.run(self._settled())
        ledger = self.stage.emulator.ledger
        told = self.tally.fine + self.tally.unknown
        doubled = sum(max(billed - 1, 0) for billed in self._billed().values())
        assert ledger.billed() - doubled <= told

    @invariant()
    def no_careful_call_billed_twice(self) -> None:
        billed = self._billed()
        assert all(billed.get(name, 0) <= 1 for name in self.tally.careful), billed

    async def _settled(self) -> None:
        """Let the emulator finish what it has: what is billed late is billed as well."""
        for _ in range(20):
            await asyncio.sleep(0.0005)
            if all(entry.finished_at is not None for entry in self.stage.emulator.ledger):
                return

    def _billed(self) -> dict[str, int]:
        billed: dict[str, int] = {}
        for entry in self.stage.emulator.ledger:
            if entry.billed:
                name = str(entry.fields.get("user_prompt") or entry.fields.get("unique_id"))
                billed[name] = billed.get(name, 0) + 1
        return billed


TestBilledOnce = BilledOnce.TestCase
TestBilledOnce.settings = settings(
    max_examples=settings().max_examples // 4,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    # The same examples in every run, and a failure is told as it was found: looking for a shorter
    # one takes minutes, as each step waits for real sockets.
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)
