"""The interface of strategies. They see a portfolio, books and a router; never a connector, never the journal.

A strategy is a pure state machine: the same calls in the same order must ask for the same orders. It subclasses
`Strategy(context, params)`, in Python or, with `from ext.strategy cimport Strategy`, in Cython; `params` is its own
table of the configuration. All handlers are optional:

`wants()` gives the instruments whose events it is called for (asked once all are defined), `on_start()`,
`on_book(BookUpdate)`, `on_trade(TradePrint)`, `on_mark(MarkPrice)`, `on_order(Order)` after each change of an order of
its own, `on_plan(LegPlan)` when a plan has ended, `on_timer(now_ns)` at least every 100 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from engine.instrument import Instrument
from engine.types import Side, TimeInForce
from ext.strategy import Strategy

__all__ = ["Strategy", "StrategyContext"]

if TYPE_CHECKING:
    from engine.portfolio import PortfolioManager
    from engine.router import OrderRouter
    from ext import Book


class StrategyContext(Protocol):
    """What a strategy may ask for. Every call is answered at once; outcomes come as on_order and on_plan."""

    portfolio: PortfolioManager
    router: OrderRouter
    instruments: Mapping[int, Instrument]
    books: Mapping[int, Book]

    @property
    def now_ns(self) -> int: ...

    def place(
        self,
        instrument: int,
        side: Side,
        px_ticks: int,
        qty_lots: int,
        time_in_force: TimeInForce = TimeInForce.GTC,
        *,
        post_only: bool = False,
        reduce_only: bool = False,
    ) -> int:
        """The order's cl_ord_id, or 0 when the gate refused it (the ledger says why)."""

    def cancel(self, cl_ord_id: int) -> bool:
        """False when the order is not open."""

    def amend(self, cl_ord_id: int, px_ticks: int, qty_lots: int) -> bool:
        """New price and total quantity; False when the order cannot be amended now or the gate refused it."""

    def execute(self, buy: int, sell: int, qty_atoms: int, bound_ppm: int, *, is_sequential: bool = False) -> int:
        """Buy on one instrument and sell on another; the plan's id, or 0 when refused."""

    def is_open(self, instrument: int) -> bool:
        """May new orders go to this instrument's venue now?"""
