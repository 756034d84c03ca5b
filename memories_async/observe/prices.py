"""What the service says that a call costs."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Final

PRICES: Final[Mapping[str, Decimal]] = {
    "embeddings.image": Decimal("0.0001"),
    "library.search": Decimal("0.0001"),
}
"""Dollars per success by public method, where a page says so
(https://api-tools.memories.ai/platform/pricing); of captions and uploads none does."""

ARITHMETIC: Final = Context(prec=60)
"""How dollars are summed: to the last cent, however the application's own context rounds."""
_MOST_DIGITS: Final = 18


def dollars_for(count: int, price: Decimal) -> Decimal:
    """Return what so many calls of a price cost."""
    return ARITHMETIC.multiply(price, Decimal(count))


def calls_within(budget: Decimal, price: Decimal) -> int:
    """Return how many calls a budget pays for, rounded down; at most some 10**18.

    Args:
        budget: Dollars.
        price: Dollars of each, more than 0.
    """
    if budget and budget.adjusted() - price.adjusted() > _MOST_DIGITS:
        return 10**_MOST_DIGITS
    return int(ARITHMETIC.divide_int(budget, price))


DOWNLOAD_PER_GB: Final = 0.12
"""Dollars: https://api-tools.memories.ai/visual-search/download-video."""
