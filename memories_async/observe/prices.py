"""What the service says that a call costs."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Final, cast

from memories_async.checks.kinds import shown
from memories_async.errors import ConfigurationError
from memories_async.operations import OPERATIONS

PRICES: Final[Mapping[str, Decimal]] = {
    "embeddings.image": Decimal("0.0001"),
    "library.search": Decimal("0.0001"),
}
"""Dollars per success by public method, where a page says so
(https://api-tools.memories.ai/platform/pricing); of captions and uploads none does."""

ARITHMETIC: Final = Context(prec=60)
"""How dollars are summed: to the last cent, however the application's own context rounds."""
_MOST_DIGITS: Final = 18


def prices_with(given: Mapping[str, float | Decimal] | None, asking: str) -> Mapping[str, Decimal]:
    """Return the documented prices, and before and beside them those that are given.

    Args:
        given: Dollars per success by public method.
        asking: The call that they are given to.

    Raises:
        ConfigurationError: They are no mapping of calls to dollars.
    """
    own: Mapping[str, float | Decimal] = {} if given is None else given
    if not isinstance(own, Mapping):
        raise ConfigurationError(
            f"{asking}: prices is {shown(own)}; a mapping of calls to dollars is wanted"
        )
    if unknown := set(own) - {operation.call for operation in OPERATIONS}:
        raise ConfigurationError(f"{asking}: prices names {unknown.pop()!r}, which is no call")
    named = {name: amount(price, f"{asking}: prices[{name!r}]") for name, price in own.items()}
    return {**PRICES, **named}


def amount(value: object, name: str) -> Decimal:
    """Return dollars exactly as they are written: 0.1 is a tenth, not 0.1000000000000000055.

    Raises:
        ConfigurationError: They are none.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        dollars = Decimal(str(value)) if isinstance(value, float) else Decimal(cast("int", value))
    except (TypeError, ValueError, InvalidOperation):
        dollars = Decimal("NaN")
    if not dollars.is_finite() or dollars < 0:
        raise ConfigurationError(f"{name} is {shown(value)}; a number of dollars from 0 is wanted")
    return dollars


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
