"""Budget scopes: never a cent over, refused before the socket."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, localcontext
from typing import Any

import pytest

from memories_async import (
    BudgetExceeded,
    CallOptions,
    ConfigurationError,
    Memories,
    OutcomeUnknown,
)
from memories_async.config import Replaying
from memories_async.emulator import Cut, Emulator, InjectedFault, Reason, gateway
from memories_async.emulator.engines.hashing import HashEngine
from memories_async.operations import EMBED_IMAGE_FILE
from memories_async.sync import Memories as BlockingMemories
from tests.faults.conftest import FILM_SIZE, MP4, PNG, Stage, caption, embed

pytestmark = pytest.mark.anyio


async def test_fifty_tasks_and_not_a_cent_over(stage: Stage) -> None:
    client = stage.client(base_url=stage.emulator.url)
    async with client.budget(dollars=0.0023) as budget:
        outcomes = await asyncio.gather(*[embed(client) for _ in range(50)], return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BudgetExceeded)]
    assert len(outcomes) - len(refused) == 23
    assert budget.spent == Decimal("0.0023")
    assert budget.left == 0
    assert "embeddings.image" in str(refused[0])
    assert "of the budget of $0.0023 $0.0000 are left" in str(refused[0])
    assert refused[0].attempts == 0
    await stage.saw(requests=23, billed=23)
    await embed(client)
    assert stage.emulator.ledger.billed() == 24, "the scope is closed"


async def test_not_a_cent_over_where_the_application_rounds(stage: Stage) -> None:
    """To two digits ten calls more would seem to cost nothing."""
    client = stage.client(base_url=stage.emulator.url)
    with localcontext(prec=2), client.budget(dollars=0.0102) as budget:
        for _ in range(102):
            budget.reserve(EMBED_IMAGE_FILE)
        with pytest.raises(BudgetExceeded):
            await embed(client)
        budget.free(EMBED_IMAGE_FILE)
        assert (budget.spent, budget.left) == (Decimal("0.0101"), Decimal("0.0001"))


def test_threads_of_the_blocking_twin() -> None:
    with (
        Emulator(HashEngine()) as emulator,
        BlockingMemories("k", base_url=emulator.url) as client,
        ThreadPoolExecutor(10) as threads,
        client.budget(dollars=Decimal("0.0017")) as budget,
    ):

        def one(_: int) -> bool:
            try:
                client.embeddings.image(PNG)
            except BudgetExceeded:
                return False
            return True

        assert sum(threads.map(one, range(50))) == 17
        assert emulator.ledger.billed() == len(emulator.ledger) == 17
        assert budget.spent == Decimal("0.0017")


async def test_what_was_not_billed_is_free_again(stage: Stage, closed_port: int) -> None:
    client, away = stage.client(), stage.client(base_url=f"http://127.0.0.1:{closed_port}")
    async with client.budget(dollars=0.0002) as budget:
        stage.emulator.faults.add(InjectedFault(None, Reason.NO_CREDITS))
        await asyncio.gather(embed(client), return_exceptions=True)
        assert budget.spent == 0
        await asyncio.gather(
            client.embeddings.image(b"no picture"),
            embed(away, CallOptions(attempts=1)),
            return_exceptions=True,
        )
        assert budget.spent == 0
        stage.emulator.faults.add(InjectedFault(None, Reason.THROTTLED))
        await embed(client)
        assert budget.left == Decimal("0.0001")


async def test_what_may_have_been_billed_counts(stage: Stage) -> None:
    client = stage.client()
    stage.emulator.faults.add(InjectedFault(None, Cut(), moment="processed"))
    async with client.budget(dollars=0.0001) as budget:
        await asyncio.gather(embed(client), return_exceptions=True)
        assert budget.spent == Decimal("0.0001")
        with pytest.raises(BudgetExceeded):
            await embed(client)
    assert len(stage.emulator.ledger) == 1


@pytest.mark.parametrize("replay", ["safe", "accept_double_billing"])
async def test_what_may_have_been_billed_counts_whatever_is_accepted(
    stage: Stage, replay: Replaying
) -> None:
    """A server that fails before the body is whole: the call says so, and so does the bill."""
    answer = gateway(500)
    stage.emulator.faults.add(InjectedFault("captions.video", answer, moment="headers"))
    client = stage.client()
    async with client.budget(dollars=1, prices={"captions.video": 1}) as budget:
        with pytest.raises(OutcomeUnknown):
            await client.captions.video(
                io.BytesIO(MP4 + bytes(FILM_SIZE)),
                "what",
                options=CallOptions(replay=replay, attempts=1),
            )
        assert budget.spent == 1
    assert "PARTIAL 500" in str(stage.recorded.summary())
    assert stage.recorded.charged("perhaps billed") == 1


async def test_a_second_billing_by_choice_needs_its_own_price(stage: Stage) -> None:
    client = stage.client()
    stage.emulator.faults.add(InjectedFault(None, Cut(), moment="processed"))
    async with client.budget(dollars=0.0001):
        with pytest.raises(OutcomeUnknown) as caught:  # of the first, which may have been billed
            await embed(client, CallOptions(replay="accept_double_billing"))
    assert isinstance(caught.value.__cause__, BudgetExceeded)
    assert caught.value.attempts == 1
    await stage.saw(requests=1, billed=1)


async def test_scopes_within_scopes(stage: Stage) -> None:
    client = stage.client()
    async with client.budget(dollars=1) as outer, client.budget(dollars=0.0001) as inner:
        await embed(client)
        with pytest.raises(BudgetExceeded):
            await embed(client)
        assert outer.spent == inner.spent == Decimal("0.0001"), (
            "what is refused is set aside nowhere"
        )
    assert outer.spent == Decimal("0.0001")


async def test_a_price_that_is_not_documented_must_be_said(stage: Stage) -> None:
    client = stage.client()
    async with client.budget(dollars=5):
        with pytest.raises(ConfigurationError, match=r"no price for captions\.image; give one"):
            await caption(client)
    assert len(stage.emulator.ledger) == 0
    async with client.budget(dollars=5, prices={"captions.image": 0.1}) as budget:
        await caption(client)
        assert budget.spent == Decimal("0.1")
        await asyncio.gather(client.library.video("VI1"), return_exceptions=True)
        assert budget.spent == Decimal("0.1"), "free reads are free"


@pytest.mark.parametrize("dollars", [-1, float("nan"), float("inf"), "much", None, True, b"5", [5]])
def test_an_amount_that_is_none(dollars: float) -> None:
    with pytest.raises(
        ConfigurationError, match=r"budget: dollars is .*; a number of dollars from 0"
    ):
        Memories("k").budget(dollars=dollars)


def test_a_price_of_no_call() -> None:
    with pytest.raises(ConfigurationError, match="prices names 'captions', which is no call"):
        Memories("k").budget(dollars=1, prices={"captions": 1})
    with pytest.raises(ConfigurationError, match=r"prices\['captions.image'\] is -1"):
        Memories("k").budget(dollars=1, prices={"captions.image": -1})


@pytest.mark.parametrize("prices", [5, "captions.image", ["captions.image"], [("a", 1)]])
def test_prices_are_a_mapping(prices: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"budget: prices is .*; a mapping of calls"):
        Memories("k").budget(dollars=1, prices=prices)


async def test_a_budget_entered_twice_counts_a_call_once(stage: Stage) -> None:
    client = stage.client(base_url=stage.emulator.url)
    budget = client.budget(dollars=0.0001)
    with budget:
        async with budget:
            await embed(client)
        with pytest.raises(BudgetExceeded):  # still open
            await embed(client)
    assert budget.spent == Decimal("0.0001")
    await stage.saw(requests=1, billed=1)
    with pytest.raises(ConfigurationError, match="left more often than it was entered"):
        budget.__exit__(None, None, None)
