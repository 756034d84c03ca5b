"""Scopes within which a client's calls together cost at most so much."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

from memories_async.errors import BudgetExceeded, ConfigurationError
from memories_async.observe.prices import ARITHMETIC, amount, prices_with
from memories_async.operations import Operation, Replay


class Budget:
    """A scope within which a client's calls together cost at most so much.

    Every call of the client is counted while the scope is open, from whatever task or thread: its
    price is set aside before it is sent, and is free again if it turns out not to have been billed.
    What may have been billed counts as billed. Use it in a ``with`` or an ``async with`` block.

    Attributes:
        dollars: The most that it may cost.
    """

    def __init__(
        self,
        dollars: float | Decimal,
        prices: Mapping[str, float | Decimal] | None,
        open_scope: Callable[[Budget], None],
        close_scope: Callable[[Budget], None],
    ) -> None:
        self.dollars = amount(dollars, "budget: dollars")
        self._prices = prices_with(prices, "budget")
        self._lock = threading.Lock()
        self._spent = Decimal(0)
        self._open_scope = open_scope
        self._close_scope = close_scope
        self._entered = 0

    def __repr__(self) -> str:
        return f"Budget(dollars={self.dollars}, spent={self._spent})"

    @property
    def spent(self) -> Decimal:
        """Dollars that were billed, may have been billed, or are set aside for calls under way."""
        return self._spent

    @property
    def left(self) -> Decimal:
        """Dollars that are left."""
        return ARITHMETIC.subtract(self.dollars, self._spent)

    def reserve(self, operation: Operation[Any]) -> None:
        """Set the price of a call aside.

        Raises:
            BudgetExceeded: It would cost more than is left.
            ConfigurationError: Nobody has said what it costs.
        """
        if operation.replay is Replay.FREE_READ:
            return
        price = self._prices.get(operation.call)
        if price is None:
            raise ConfigurationError(
                f"budget: the service documents no price for {operation.call}; "
                f"give one: budget(..., prices={{{operation.call!r}: dollars}})"
            )
        with self._lock:
            spent = ARITHMETIC.add(self._spent, price)
            if spent > self.dollars:
                raise BudgetExceeded(
                    f"it costs ${price}, and of the budget of ${self.dollars} ${self.left} are left"
                )
            self._spent = spent

    def free(self, operation: Operation[Any]) -> None:
        """Take back what was set aside for a call that was not billed."""
        if operation.replay is not Replay.FREE_READ:
            with self._lock:
                self._spent = ARITHMETIC.subtract(self._spent, self._prices[operation.call])

    def __enter__(self) -> Self:
        with self._lock:
            self._entered += 1
            if self._entered == 1:  # entered twice, it still counts a call once
                self._open_scope(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            if not self._entered:
                raise ConfigurationError("budget: it is left more often than it was entered")
            self._entered -= 1
            if not self._entered:
                self._close_scope(self)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)


def reserve(budgets: Sequence[Budget], operation: Operation[Any]) -> Sequence[Budget]:
    """Set the price of a call aside in every open scope; returns those scopes.

    Raises:
        BudgetExceeded: It would cost more than is left in one.
        ConfigurationError: Nobody has said what it costs.
    """
    reserved: list[Budget] = []
    if not budgets:
        return reserved
    try:
        for budget in tuple(budgets):
            budget.reserve(operation)
            reserved.append(budget)
    except BaseException:
        free(reserved, operation)
        raise
    return reserved


def free(budgets: Sequence[Budget], operation: Operation[Any]) -> None:
    """Take back in those scopes what was set aside for a call that was not billed."""
    for budget in budgets:
        budget.free(operation)
