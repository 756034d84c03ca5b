"""For every fault of the matrix: what an observer is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from memories_async import CallOptions
from tests.faults.conftest import Stage, caption, late_failure_of
from tests.faults.proxy import Plan
from tests.faults.scenarios import SCENARIOS

pytestmark = pytest.mark.anyio

TWICE = CallOptions(attempts=2)
LATE: Mapping[str, Callable[[Stage], object]] = {
    "stalled": lambda stage: stage.proxy.received,
    "no answer": lambda stage: stage.proxy.received,
    "dripping answer": lambda stage: stage.emulator.ledger.billed(),
}
"""From when on time passes until the answer is late; the clocks of all else are real."""

UNKNOWN = ["attempt 1", "leaving", "perhaps billed", "unknown SENT OutcomeUnknown"]

TOLD: Mapping[str, list[str]] = {
    "nothing": ["attempt 1", "leaving", "billed", "ok SENT 200", "ended ok 1"],
    "reset at once": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "reset in the headers": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "reset after the headers": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "reset in the body": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "reset after the body": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "closed after the body": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "answer lost": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "stalled": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT AnswerTimeout",
        "ended AnswerTimeout 1",
    ],
    "processed and reset": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "cut after the status": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "cut in the answer": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT 200 OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "no answer": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT AnswerTimeout",
        "ended AnswerTimeout 1",
    ],
    "dripping answer": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT 200 AnswerTimeout",
        "ended AnswerTimeout 1",
    ],
    "not HTTP": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "echo that is not HTTP": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "long header": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "endless answer": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "raise SENT 200 AnswerTooLarge",
        "ended AnswerTooLarge 1",
    ],
    "captive portal": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "raise SENT 200 NotJson",
        "ended NotJson 1",
    ],
    "echoing portal": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "raise SENT 200 NotJson",
        "ended NotJson 1",
    ],
    "echoing refusal": [
        "attempt 1",
        "leaving",
        "raise SENT 200 0401 AuthenticationError",
        "ended AuthenticationError 1",
    ],
    "echoing gateway": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT 502 502 OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "echoing gateway with JSON": [
        "attempt 1",
        "leaving",
        "raise SENT 401 401 AuthenticationError",
        "ended AuthenticationError 1",
    ],
    "echoing data": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "raise SENT 200 UnexpectedShape",
        "ended UnexpectedShape 1",
    ],
    "echoing list": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "raise SENT 200 UnexpectedShape",
        "ended UnexpectedShape 1",
    ],
    "echoing type": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "raise SENT 200 NotJson",
        "ended NotJson 1",
    ],
    "empty": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "raise SENT 200 UnexpectedShape",
        "ended UnexpectedShape 1",
    ],
    "nested": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "raise SENT 200 NotJson",
        "ended NotJson 1",
    ],
    "unknown code": ["attempt 1", "leaving", "raise SENT 200 0777 ApiError", "ended ApiError 1"],
    "throttled": [
        "attempt 1",
        "leaving",
        "throttled",
        "throttled SENT 200 -1 RateLimited",
        "attempt 2",
        "leaving",
        "throttled",
        "throttled SENT 200 -1 RateLimited",
        "ended RateLimited 2",
    ],
    "throttled for long": [
        "attempt 1",
        "leaving",
        "throttled",
        "raise SENT 429 429 RateLimited",
        "ended RateLimited 1",
    ],
    "key refused": ["attempt 1", "leaving", "raise SENT 200 -1 ApiError", "ended ApiError 1"],
    "no credits": ["attempt 1", "leaving", "raise SENT 200 -1 ApiError", "ended ApiError 1"],
    "network abnormal": ["attempt 1", "leaving", "raise SENT 200 -1 ApiError", "ended ApiError 1"],
    "bad gateway": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT 502 502 OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "unavailable": [
        "attempt 1",
        "leaving",
        "perhaps billed",
        "unknown SENT 503 503 OutcomeUnknown",
        "ended OutcomeUnknown 1",
    ],
    "too large": ["attempt 1", "leaving", "raise SENT 413 413 BadRequest", "ended BadRequest 1"],
    "redirect": ["attempt 1", "leaving", "raise SENT 307 307 ApiError", "ended ApiError 1"],
    "redirect with the key": [
        "attempt 1",
        "leaving",
        "raise SENT 302 302 ApiError",
        "ended ApiError 1",
    ],
}
"""After "started": what is told of one billed call that meets the fault at every attempt."""


def test_every_fault_has_its_line() -> None:
    assert TOLD.keys() == SCENARIOS.keys()


@pytest.mark.parametrize("fault", SCENARIOS)
async def test_what_is_told_of_a_billed_call(fault: str, stage: Stage) -> None:
    SCENARIOS[fault](stage)
    if once := LATE.get(fault):
        options = CallOptions(answer_timeout=30, attempts=2)
        call = caption(stage.client(), options)
        outcome: object = await late_failure_of(call, once=lambda: once(stage))
    else:
        call = caption(stage.client(), TWICE)
        [outcome] = await asyncio.gather(call, return_exceptions=True)
    assert stage.recorded.summary() == ["started", *TOLD[fault]]
    assert stage.recorded.summary()[-1].split()[1] in ("ok", type(outcome).__name__)
    stage.check_recorded()


@pytest.mark.parametrize("fault", ["answer lost", "bad gateway", "throttled", "captive portal"])
async def test_a_free_read_is_never_charged(fault: str, stage: Stage) -> None:
    SCENARIOS[fault](stage)
    await asyncio.gather(stage.client().library.video("VI1"), return_exceptions=True)
    assert stage.recorded.summary()[:3] == ["started", "attempt 1", "leaving"]
    assert not stage.recorded.charged("billed") + stage.recorded.charged("perhaps billed")


async def test_an_upload_that_breaks_off_is_repeated_and_billed_once(
    stage: Stage, film: Path
) -> None:
    stage.proxy.plans.append(Plan(body=0.5))
    await stage.client().captions.video(film, "what")
    assert stage.recorded.summary() == [
        "started",
        "attempt 1",
        "leaving",
        "retry PARTIAL ConnectError",
        "attempt 2",
        "leaving",
        "billed",
        "ok SENT 200",
        "ended ok 2",
    ]


async def test_what_was_sent_twice_by_choice_may_be_billed_twice(stage: Stage) -> None:
    stage.proxy.plans.append(Plan(answer=0))
    await caption(stage.client(), CallOptions(replay="accept_double_billing"))
    assert stage.recorded.summary() == [
        "started",
        *UNKNOWN[:3],
        "retry SENT OutcomeUnknown",
        "attempt 2",
        "leaving",
        "billed",
        "ok SENT 200",
        "ended ok 2",
    ]


async def test_nobody_listens_there(stage: Stage, closed_port: int) -> None:
    nowhere = f"http://127.0.0.1:{closed_port}"
    client = stage.client(base_url=nowhere, options=CallOptions(attempts=2))
    await asyncio.gather(caption(client), return_exceptions=True)
    assert stage.recorded.summary() == [
        "started",
        "attempt 1",
        "retry NOT_SENT ConnectError",
        "attempt 2",
        "retry NOT_SENT ConnectError",
        "ended ConnectError 2",
    ]


async def test_a_file_that_is_none(stage: Stage) -> None:
    client = stage.client()
    await asyncio.gather(client.captions.image(b"no picture", "what"), return_exceptions=True)
    assert stage.recorded.summary() == ["started", "ended UnsupportedMedia 0"]
