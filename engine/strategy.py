"""The interface of strategies. They see a portfolio, books and a router; never a connector, never the journal.

A strategy is a pure state machine: the same calls in the same order must ask for the same orders. It may be written
in Python or Cython; the face is the same.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from engine.events import BookUpdate, MarkPrice, TradePrint
from engine.instrument import Instrument
from engine.types import Side, TimeInForce

if TYPE_CHECKING:
    from engine.legs import LegPlan
    from engine.orders import Order
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


class Strategy(ABC):  # noqa: B024 - every handler is optional
    """Base of strategies. `params` is the strategy's own table of the configuration."""

    def __init__(self, context: StrategyContext, params: Mapping[str, Any]) -> None:
        self.context = context
        self.params = params

    def wants(self) -> Sequence[int]:
        """Instruments whose events this strategy is called for; asked once all instruments are defined."""
        return list(self.context.instruments)

    def on_start(self) -> None: ...

    def on_book(self, update: BookUpdate) -> None: ...

    def on_trade(self, trade: TradePrint) -> None: ...

    def on_mark(self, mark: MarkPrice) -> None: ...

    def on_order(self, order: Order) -> None: ...

    def on_plan(self, plan: LegPlan) -> None: ...

    def on_timer(self, now_ns: int) -> None: ...
