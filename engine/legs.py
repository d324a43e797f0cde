"""Two-leg plans: buy here, sell there, and never be left with more than one leg's quantity in the air.

Legs are limit IOC orders with a bound, never naked market orders. Simultaneous: both are sent in one turn.
Sequential: the second is sized to what the first filled. What is left over is the residual; it is worked off by a
hedge ladder (cross further, another venue, unwind) and its time to flat is measured. A leg that is UNKNOWN is waited
for: its exposure stays reserved in the gate, and no hedge guesses at it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from math import gcd
from typing import TYPE_CHECKING

from engine.orders import Order
from engine.types import NO_PX, Side, TimeInForce

if TYPE_CHECKING:
    from engine.core import Core

RETRY_NS = 100_000_000
MAX_HEDGES = 12
WIDEN_PPM = 300
BUY, SELL, IOC = Side.BUY, Side.SELL, TimeInForce.IOC


class PlanState(Enum):
    FIRST_LEG = "first_leg"
    WORKING = "working"
    HEDGING = "hedging"
    DONE = "done"
    FAILED = "failed"


class LegPlan:
    """One plan. `residual_atoms` > 0: more was bought than sold, in base atoms."""

    __slots__ = (
        "bought_atoms",
        "bound_ppm",
        "buy",
        "flat_ns",
        "hedge_count",
        "is_sequential",
        "next_try_ns",
        "orders",
        "plan_id",
        "qty_atoms",
        "sell",
        "sold_atoms",
        "started_ns",
        "state",
        "strategy",
        "text",
    )  # fmt: skip

    def __init__(
        self,
        plan_id: int,
        strategy: int,
        buy: int,
        sell: int,
        qty_atoms: int,
        bound_ppm: int,
        sequential: bool,
        now: int,
    ) -> None:
        self.plan_id = plan_id
        self.strategy = strategy
        self.buy = buy
        self.sell = sell
        self.qty_atoms = qty_atoms
        self.bound_ppm = bound_ppm
        self.is_sequential = sequential
        self.started_ns = now
        self.flat_ns = 0
        self.state = PlanState.WORKING
        self.orders: list[int] = []
        self.bought_atoms = 0
        self.sold_atoms = 0
        self.hedge_count = 0
        self.next_try_ns = 0
        self.text = ""

    @property
    def residual_atoms(self) -> int:
        return self.bought_atoms - self.sold_atoms

    @property
    def is_active(self) -> bool:
        return self.state not in (PlanState.DONE, PlanState.FAILED)


class LegExecutor:
    """Runs every active plan. Talks to the core for orders; has no state of its own outside the plans."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.plans: dict[int, LegPlan] = {}
        self.done_count = 0
        self.failed_count = 0
        self.hedge_count = 0
        self.flat_ns_max = 0
        self.dust_atoms: dict[str, int] = {}

    def start(self, strategy: int, buy: int, sell: int, qty_atoms: int, bound_ppm: int, *, is_sequential: bool) -> int:
        """Send the legs of a new plan; 0 when the gate refuses one of them, and then none is sent."""
        core = self.core
        qty = self._common_qty(buy, sell, qty_atoms)
        legs = [(buy, BUY), (sell, SELL)]
        prices = [core.router.bound_ticks(index, side, bound_ppm) for index, side in legs]
        if qty <= 0 or NO_PX in prices:
            return 0
        for (index, side), px in zip(legs, prices, strict=True):
            if not core.may_place(strategy, index, side, px, qty // core.router.lot_atoms[index]):
                return 0
        plan = LegPlan(core.next_plan_id(), strategy, buy, sell, qty, bound_ppm, is_sequential, core.now_ns)
        self.plans[plan.plan_id] = plan
        # Scoring every candidate for the audit costs more than the order: the legs go first, the same books are read.
        core.defer(lambda: core.book_route(plan))
        if is_sequential:
            plan.state = PlanState.FIRST_LEG
            first = 0 if self._depth(buy, Side.BUY) <= self._depth(sell, Side.SELL) else 1
            self._send(plan, *legs[first], prices[first], qty)
        else:
            for (index, side), px in zip(legs, prices, strict=True):
                self._send(plan, index, side, px, qty)
        return plan.plan_id

    def on_fill(self, order: Order, qty_lots: int) -> None:
        plan = self.plans.get(order.plan_id)
        if plan is None:
            return
        atoms = qty_lots * self.core.router.lot_atoms[order.instrument]
        if order.side is Side.BUY:
            plan.bought_atoms += atoms
        else:
            plan.sold_atoms += atoms

    def on_closed(self, order: Order) -> None:
        plan = self.plans.get(order.plan_id)
        if plan is not None and plan.is_active:
            self._advance(plan)

    def on_timer(self) -> None:
        for plan in list(self.plans.values()):
            if plan.state is PlanState.HEDGING and self.core.now_ns >= plan.next_try_ns:
                self._advance(plan)

    def active_count(self, strategy: int) -> int:
        return sum(1 for plan in self.plans.values() if plan.strategy == strategy)

    def _advance(self, plan: LegPlan) -> None:
        if any(self.core.state.orders[cl_ord_id].is_open for cl_ord_id in plan.orders):
            return
        if plan.state is PlanState.FIRST_LEG:
            plan.state = PlanState.WORKING
            if plan.residual_atoms:
                self._send_second(plan)
                return
        if self._is_flat(plan):
            self._finish(plan, PlanState.DONE, "")
        elif plan.hedge_count >= MAX_HEDGES:
            self._finish(plan, PlanState.FAILED, "hedge ladder exhausted")
        else:
            self._hedge(plan)

    def _send_second(self, plan: LegPlan) -> None:
        bought = plan.residual_atoms > 0
        index, side = (plan.sell, Side.SELL) if bought else (plan.buy, Side.BUY)
        px = self.core.router.bound_ticks(index, side, plan.bound_ppm)
        if px == NO_PX or not self._send(plan, index, side, px, abs(plan.residual_atoms)):
            self._hedge(plan)

    def _hedge(self, plan: LegPlan) -> None:
        """One rung: the short leg again and further through the book, then any other venue, then unwind."""
        plan.state = PlanState.HEDGING
        plan.next_try_ns = self.core.now_ns + RETRY_NS
        plan.hedge_count += 1
        self.hedge_count += 1
        side = Side.SELL if plan.residual_atoms > 0 else Side.BUY
        rungs: list[Callable[[], int]] = [
            lambda: plan.sell if side is Side.SELL else plan.buy,
            lambda: self._other_venue(plan, side),
            lambda: plan.buy if side is Side.SELL else plan.sell,
        ]
        index = rungs[(plan.hedge_count - 1) % len(rungs)]()
        if index < 0:
            return
        px = self.core.router.bound_ticks(index, side, plan.bound_ppm + WIDEN_PPM * plan.hedge_count)
        if px != NO_PX:
            self._send(plan, index, side, px, abs(plan.residual_atoms), is_hedge=True)
        self.core.book_leg(plan, "hedge")

    def _other_venue(self, plan: LegPlan, side: Side) -> int:
        core = self.core
        base = core.instruments[plan.buy].base
        others = [i for i, x in core.instruments.items() if x.base == base and i not in (plan.buy, plan.sell)]
        scored = core.router.score(others, side, abs(plan.residual_atoms), core.now_ns)
        return scored[0].instrument if scored and not scored[0].refusal else -1

    def _send(self, plan: LegPlan, index: int, side: Side, px: int, qty_atoms: int, *, is_hedge: bool = False) -> bool:
        lots = qty_atoms // self.core.router.lot_atoms[index]
        cl_ord_id = self.core.place_leg(plan, index, side, px, lots, IOC, is_hedge=is_hedge)
        if cl_ord_id:
            plan.orders.append(cl_ord_id)
        return bool(cl_ord_id)

    def _is_flat(self, plan: LegPlan) -> bool:
        """Flat, or less left than any leg could trade: the rest is dust and stays in the position limits."""
        left = abs(plan.residual_atoms)
        if left == 0:
            return True
        smallest = min(self._least_atoms(plan.buy), self._least_atoms(plan.sell))
        if left < smallest:
            base = self.core.instruments[plan.buy].base
            self.dust_atoms[base] = self.dust_atoms.get(base, 0) + plan.residual_atoms
            return True
        return False

    def _least_atoms(self, index: int) -> int:
        """Least quantity that the venue lets through: minimum lots, and minimum notional at the touch."""
        instrument, book = self.core.instruments[index], self.core.books[index]
        lots = instrument.min_qty_lots
        px = book.best_bid_px
        if instrument.min_notional_atoms and px != NO_PX and px > 0:
            num, den = instrument.value_ratio
            lots = max(lots, -(-instrument.min_notional_atoms * den // (px * num)))
        return lots * self.core.router.lot_atoms[index]

    def _finish(self, plan: LegPlan, state: PlanState, text: str) -> None:
        plan.state, plan.text = state, text
        plan.flat_ns = self.core.now_ns - plan.started_ns
        if state is PlanState.DONE:
            self.done_count += 1
            self.flat_ns_max = max(self.flat_ns_max, plan.flat_ns)
        else:
            self.failed_count += 1
        del self.plans[plan.plan_id]
        self.core.book_leg(plan, text)
        self.core.tell_plan(plan)

    def _common_qty(self, buy: int, sell: int, qty_atoms: int) -> int:
        """The largest quantity not above `qty_atoms` that is whole lots on both legs."""
        a, b = self.core.router.lot_atoms[buy], self.core.router.lot_atoms[sell]
        step = a * b // gcd(a, b)
        return qty_atoms // step * step

    def _depth(self, index: int, side: Side) -> int:
        book = self.core.books[index]
        lots = book.best_ask_qty if side is Side.BUY else book.best_bid_qty
        return lots * self.core.router.lot_atoms[index]
