"""Each invariant can fail: what it is there for is put before it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from memories_async import OutcomeUnknown, Rate, TlsError
from memories_async.emulator.ledger import FileEntry, LedgerEntry
from tests.simulation.invariants import (
    Accounts,
    BrokenInvariantError,
    Departures,
    Fate,
    KeyWatch,
    Request,
    bucket_of,
    check_lateness,
    fate_of,
)
from tests.simulation.shrinking import kind_of, shrunk
from tests.simulation.world import World, live


def entry(*digests: str, **changes: Any) -> LedgerEntry:
    files = tuple(FileEntry("file", "a.png", "image/png", 1, digest) for digest in digests)
    given: dict[str, Any] = {
        "number": 1,
        "operation": "embed_image_file",
        "method": "POST",
        "path": "/",
        "started_at": 0.0,
        "files": files,
        "complete": True,
        "billed": True,
        "status": 200,
    }
    return LedgerEntry(**(given | changes))


def accounts(fate: Fate) -> Accounts:
    asked = Accounts()
    asked.ask(Request("a call", frozenset(["digest", "tag"]), fate=fate))
    return asked


@pytest.mark.parametrize(
    ("fate", "ledger", "why"),
    [
        (Fate.ANSWERED, [entry("digest"), entry("digest", billed=False)], "2 whole requests"),
        (Fate.TOLD, [entry("digest"), entry("digest", status=402)], "billed 2 times"),
        (Fate.ANSWERED, [], "answered, and not billed"),
        (Fate.REFUSED, [entry("digest")], "nobody was told"),
        (Fate.UNDER_WAY, [entry("another")], "what nobody sent"),
        (Fate.UNDER_WAY, [entry("digest", "another")], "what nobody sent"),
    ],
)
def test_the_bill_is_accounted_for(fate: Fate, ledger: list[LedgerEntry], why: str) -> None:
    with pytest.raises(BrokenInvariantError, match=why):
        accounts(fate).check(ledger)


@pytest.mark.parametrize(
    ("fate", "ledger"),
    [
        (Fate.ANSWERED, [entry("digest")]),
        (Fate.ANSWERED, [entry("digest", status=429, billed=False), entry("digest")]),
        (Fate.TOLD, [entry("digest")]),
        (Fate.TOLD, []),
        (Fate.UNDER_WAY, [entry("digest")]),
        (Fate.REFUSED, [entry("digest", billed=False)]),
        (Fate.UNDER_WAY, [entry("another", complete=False, billed=False)]),
        (Fate.ANSWERED, [entry(fields={"user_prompt": "tag"})]),
        (Fate.ANSWERED, [entry(fields={"input": ["tag"]})]),
    ],
)
def test_what_is_as_it_should_be_passes(fate: Fate, ledger: list[LedgerEntry]) -> None:
    accounts(fate).check(ledger)


def test_what_an_error_says_of_the_bill() -> None:
    noted = asyncio.CancelledError()
    noted.add_note("it may have been billed")
    assert fate_of(noted) is fate_of(OutcomeUnknown("lost")) is Fate.TOLD
    assert fate_of(TlsError("no")) is fate_of(asyncio.CancelledError()) is Fate.REFUSED
    assert fate_of(None) is Fate.ANSWERED


LINE = "POST /serve/api/v2/embeddings/image HTTP/1.1"


def test_requests_leave_at_their_rate() -> None:
    departures = Departures(Rate(2, 1.0))
    for moment, host in ((0.0, "a"), (0.1, "a"), (0.2, "b"), (1.0, "a")):
        departures.saw(moment, host, LINE)
    with pytest.raises(BrokenInvariantError, match="3 requests within"):
        departures.saw(1.05, "a", LINE)


def test_turns_are_used_or_given_back() -> None:
    departures = Departures(Rate(2, 1.0))
    departures.saw(0.0, "a", LINE)
    departures.check_turns(Counter({"embedding": 1}))
    with pytest.raises(BrokenInvariantError, match="2 turns were taken"):
        departures.check_turns(Counter({"embedding": 2}))


def test_every_path_has_its_bucket() -> None:
    assert bucket_of(LINE) == "embedding"
    assert bucket_of("GET /serve/api/v2/re_1/download HTTP/1.1") == "download"
    assert bucket_of("POST /v1/understand/uploadImgFile HTTP/1.1") == "caption_image"


def test_calls_end_by_their_deadline() -> None:
    check_lateness("a call", 1.0, 6.5, 5.0)
    check_lateness("a call", 1.0, 1e6, None)
    with pytest.raises(BrokenInvariantError, match=r"2\.00 s after"):
        check_lateness("a call", 1.0, 8.0, 5.0)


def test_a_key_is_seen_wherever_it_is_said() -> None:
    seen: list[str] = []
    watch = KeyWatch(seen.append)
    watch.look(None, ValueError("fine"))
    assert not seen
    noted = ValueError("fine")
    noted.add_note("sk-sentinel-1")
    watch.look(noted)
    record = logging.makeLogRecord({"msg": "fine", "request": {"key": "sk-sentinel-1"}})
    watch.emit(record)
    assert len(seen) == 2


async def a_task_that_stays(world: World) -> None:
    asyncio.get_running_loop().call_soon(world.broke, "said where nobody listens")
    await asyncio.sleep(10)


async def a_file_that_stays(world: World) -> None:
    (world.folder / "temporary" / "something").touch()


async def a_descriptor_that_stays(world: World) -> None:
    LEFT_OPEN.append(Path("/dev/null").open())  # noqa: ASYNC230, SIM115  # on purpose


LEFT_OPEN: list[Any] = []


@pytest.mark.parametrize(
    ("life", "why"),
    [
        (a_task_that_stays, "where nobody listens"),
        (a_file_that_stays, "temporary files"),
        (a_descriptor_that_stays, "descriptor"),
    ],
)
def test_what_is_left_is_seen(life: Any, why: str) -> None:
    try:
        with pytest.raises(BrokenInvariantError, match=why):
            live(1, life)
    finally:
        while LEFT_OPEN:
            LEFT_OPEN.pop().close()


def test_a_life_that_breaks_is_made_smaller() -> None:
    error = BrokenInvariantError("call-7: 2 whole requests")

    def breaks(seed: int, without: frozenset[str]) -> str:
        return "" if {"call-7", "resets"} & without else kind_of(error)

    left_out = shrunk(1, error, breaks)
    assert {"job", "callbacks", "stalls"} <= left_out
    assert not {"call-7", "resets"} & left_out
    assert len([part for part in left_out if part.startswith("call-")]) >= 30
