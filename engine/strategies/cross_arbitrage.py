"""Buy where an underlying is cheap net of fees, sell where it is dear, both at once.

Looks at the touch of every instrument of one underlying each time one of its books changes; knows no venue. A basis
between spot and perpetual that is always there would be traded for ever in one direction; the position limit of each
instrument ends that, and `skew_ppm` makes every step of inventory ask for more edge, so positions come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.events import BookUpdate
from engine.instrument import atoms_from_text
from engine.legs import LegPlan
from engine.strategy import Strategy, StrategyContext
from engine.types import NO_PX, Side

PPM = 1_000_000
BUY, SELL = Side.BUY, Side.SELL  # bound once: a look-up on an enum class costs 55 ns


class CrossArbitrage(Strategy):
    """Params: underlying, qty (base units), min_edge_ppm (net of fees), bound_ppm, cooldown_ms, skew_ppm (per full
    max_inventory), max_inventory (base units an instrument), pairs ("spot/perpetual", "perpetual/perpetual"),
    is_sequential."""

    def __init__(self, context: StrategyContext, params: Mapping[str, Any]) -> None:
        super().__init__(context, params)
        self.underlying = str(params["underlying"])
        self.qty_atoms = atoms_from_text(str(params["qty"]))
        self.min_edge_ppm = int(params["min_edge_ppm"])
        self.bound_ppm = int(params.get("bound_ppm", 200))
        self.cooldown_ns = int(params.get("cooldown_ms", 100)) * 1_000_000
        self.skew_ppm = int(params.get("skew_ppm", 0))
        self.max_inventory_atoms = atoms_from_text(str(params.get("max_inventory", params["qty"])))
        self.is_sequential = bool(params.get("is_sequential", False))
        self.indexes: list[int] = []
        self.pairs: dict[int, list[int]] = {}
        self.next_ns = 0
        self.active = 0
        self.plan_count = 0
        self.edge_ppm_last = 0

    def wants(self) -> Sequence[int]:
        instruments = self.context.instruments
        self.indexes = [i for i, x in instruments.items() if x.base == self.underlying]
        # Across venues only: two products of one venue share its trouble.
        self.pairs = {
            i: [j for j in self.indexes if instruments[j].venue is not instruments[i].venue] for i in self.indexes
        }
        return self.indexes

    def on_book(self, update: BookUpdate) -> None:
        context = self.context
        if self.active or context.now_ns < self.next_ns:
            return
        router, here = context.router, update.instrument
        bid, ask = router.touch(here, SELL), router.touch(here, BUY)
        if bid == NO_PX or ask == NO_PX:
            return
        best_edge, best_buy, best_sell = 0, -1, -1
        for other in self.pairs[here]:
            other_bid, other_ask = router.touch(other, SELL), router.touch(other, BUY)
            if other_bid == NO_PX or other_ask == NO_PX:
                continue
            edge = (other_bid - ask) * PPM // ask - self._inventory_ppm(here, other)
            if edge > best_edge:
                best_edge, best_buy, best_sell = edge, here, other
            edge = (bid - other_ask) * PPM // other_ask - self._inventory_ppm(other, here)
            if edge > best_edge:
                best_edge, best_buy, best_sell = edge, other, here
        if best_edge >= self.min_edge_ppm:
            self._open(best_edge, best_buy, best_sell)

    def _open(self, edge_ppm: int, buy: int, sell: int) -> None:
        context = self.context
        self.next_ns = context.now_ns + self.cooldown_ns
        if not (context.is_open(buy) and context.is_open(sell)):
            return
        self.edge_ppm_last = edge_ppm
        if context.execute(buy, sell, self.qty_atoms, self.bound_ppm, is_sequential=self.is_sequential):
            self.active += 1
            self.plan_count += 1

    def _inventory_ppm(self, buy: int, sell: int) -> int:
        """Extra edge asked for when the trade adds to positions that are already there; less when it reduces them."""
        if not self.skew_ppm:
            return 0
        portfolio = self.context.portfolio
        stretch: int = portfolio.position_atoms(buy) - portfolio.position_atoms(sell)
        return self.skew_ppm * stretch // (2 * self.max_inventory_atoms)

    def on_plan(self, plan: LegPlan) -> None:
        self.active -= 1
        self.next_ns = max(self.next_ns, self.context.now_ns + self.cooldown_ns)
