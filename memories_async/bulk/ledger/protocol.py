"""What ``Once`` asks of a ledger, wherever it is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Protocol

from memories_async.bulk.ledger.entries import Begun, Entry, Totals, UnknownPolicy


class Ledger(Protocol):
    """Keeps one entry for each key; every change is atomic and may be asked for again.

    Every method raises ``LedgerUnavailable`` when the ledger cannot be reached or is not the one
    that it was: then nothing is sent.
    """

    async def find(self, key: str) -> Entry | None:
        """Return what is known of a key; None if nothing is."""
        ...

    async def begin(
        self,
        key: str,
        token: str,
        *,
        unknown: UnknownPolicy = "keep",
        price: Decimal | None = None,
        max_cost: Decimal | None = None,
    ) -> tuple[Begun, Entry | None]:
        """Ask whether an attempt may send; see ``entries.begin``."""
        ...

    async def settle(self, key: str, outcome: Entry) -> Entry | None:
        """Report what became of an attempt; see ``entries.settle``."""
        ...

    async def totals(self) -> Totals:
        """Count the calls by what became of them."""
        ...

    def entries(self) -> AsyncIterator[tuple[str, Entry]]:
        """Yield all keys with what is known of them."""
        ...

    async def aclose(self) -> None:
        """Let go of the ledger; it keeps what it knows."""
        ...
