"""Pre-trade risk: configures the Cython gate, keeps its reservations in step with orders, names each refusal.

Limits count an order from the moment before it is sent until the venue proves that it is gone; an UNKNOWN order
counts in full. Position limits are aggregated over all venues per underlying (base atoms).
Source: RTS 6 Art. 15, SEC 15c3-5; rows C01-C10, C16, C17 of the controls.
"""

from __future__ import annotations

from engine.config import EngineConfig
from engine.instrument import Instrument, atoms_from_text
from engine.orders import Order
from engine.portfolio import PortfolioManager
from engine.types import NO_PX, InstrumentKind, Side, Venue
from ext import Book, Gate
from ext.gate import REASONS

NO_FUNDS = "NO_FUNDS"
ALLOTMENT = "ALLOTMENT"
SPOT = InstrumentKind.SPOT  # bound once: a look-up on an enum class costs 55 ns


class Risk:
    def __init__(self, config: EngineConfig, portfolio: PortfolioManager) -> None:
        self.portfolio = portfolio
        self.settings = config.instruments
        self.underlyings = list(config.risk.underlyings)
        self.gate = Gate(len(config.instruments), max(1, len(self.underlyings)), max(1, len(config.strategies)))
        self.last_value = 0
        self.last_limit = 0
        self.reserved: dict[tuple[Venue, str], int] = {}
        self.own: list[dict[int, Order]] = [{} for _ in config.instruments]
        self.own_best: list[tuple[int, int]] = [(NO_PX, NO_PX) for _ in config.instruments]
        for at, limit in enumerate(config.risk.underlyings.values()):
            self.gate.set_underlying_limit(at, atoms_from_text(limit.max_long), atoms_from_text(limit.max_short))
        risk = config.risk
        self.gate.set_rates(
            max_orders=risk.max_orders,
            window_ns=risk.window_ms * 1_000_000,
            duplicate_count=risk.duplicate_count,
            duplicate_window_ns=risk.duplicate_window_ms * 1_000_000,
            stale_ns=risk.stale_ms * 1_000_000,
            max_gross_notional_atoms=atoms_from_text(risk.max_gross_notional),
            loss_limit_atoms=atoms_from_text(risk.loss_limit),
        )

    def define(self, instrument: Instrument) -> str:
        """Take over a definition; returns why the instrument cannot be traded, or ""."""
        if instrument.base not in self.underlyings:
            return f"no [risk.underlyings.{instrument.base}] limit"
        row = self.settings[instrument.index]
        num, den = instrument.value_ratio
        per_lot = instrument.base_atoms_per_lot
        self.gate.define(
            instrument.index,
            underlying=self.underlyings.index(instrument.base),
            base_atoms_per_lot=per_lot,
            value_num=num,
            value_den=den,
            min_qty_lots=instrument.min_qty_lots,
            max_qty_lots=instrument.max_qty_lots,
            min_notional_atoms=instrument.min_notional_atoms,
            max_order_notional_atoms=atoms_from_text(row.max_order_notional),
            collar_ppm=row.collar_ppm,
            max_position_lots=atoms_from_text(row.max_position) // per_lot,
            max_open_orders=row.max_open_orders,
        )
        self.gate.set_venue(instrument.index, instrument.venue)
        self.gate.set_state(instrument.index, instrument.state)
        return ""

    def bind(self, index: int, book: Book) -> None:
        self.gate.bind_book(index, book)

    def check(
        self, instrument: Instrument, strategy: int, side: Side, px_ticks: int, qty_lots: int, reduce: bool, now_ns: int
    ) -> str:
        """ "" or the name of the limit; `last_value` and `last_limit` are the numbers behind it."""
        code = self.gate.check(instrument.index, strategy, side, px_ticks, qty_lots, reduce, now_ns)
        if code:
            self.last_value, self.last_limit = self.gate.last_value, self.gate.last_limit
            return REASONS[code]
        if instrument.kind is SPOT:
            return self._check_funds(instrument, side, px_ticks, qty_lots)
        return ""

    def _check_funds(self, instrument: Instrument, side: Side, px_ticks: int, qty_lots: int) -> str:
        asset, need = funds_needed(instrument, side, px_ticks, qty_lots)
        holding = self.portfolio.holdings.get((instrument.venue, asset))
        free = (holding.total_atoms if holding else 0) - self.reserved.get((instrument.venue, asset), 0)
        if need > free:
            self.last_value, self.last_limit = need, free
            return NO_FUNDS
        return ""

    def reserve(self, order: Order, instrument: Instrument) -> None:
        """Count an order in full, from the moment before it is sent."""
        index, px_ticks = order.instrument, order.reserved_px_ticks
        self.gate.reserve(index, order.strategy, order.side, px_ticks, order.reserved_lots)
        if instrument.kind is SPOT:
            self._reserve_funds(order, instrument, order.reserved_lots)
        self.own[index][order.cl_ord_id] = order
        bid, ask = self.own_best[index]
        if order.side > 0:
            if px_ticks > bid:
                self._tell_own(index, px_ticks, ask)
        elif ask == NO_PX or px_ticks < ask:
            self._tell_own(index, bid, px_ticks)

    def on_fill(self, order: Order, instrument: Instrument, qty_lots: int) -> None:
        """Move reserved quantity into the position; what was not reserved (late fills) only moves the position."""
        covered = min(qty_lots, order.reserved_lots)
        index, px_ticks = order.instrument, order.reserved_px_ticks
        if covered:
            self.gate.on_fill(index, order.strategy, order.side, px_ticks, covered, False)
            self._reserve_funds(order, instrument, -covered)
            order.reserved_lots -= covered
        if qty_lots > covered:
            self.gate.on_late_fill(index, order.strategy, order.side, px_ticks, qty_lots - covered)
        self.gate.set_position(index, self.portfolio.position_lots(index))

    def shrink(self, order: Order, instrument: Instrument, qty_lots: int) -> None:
        """Less of the order is open, and the position has it already."""
        covered = min(qty_lots, order.reserved_lots)
        if covered:
            self.gate.release(order.instrument, order.strategy, order.side, order.reserved_px_ticks, covered, False)
            self._reserve_funds(order, instrument, -covered)
            order.reserved_lots -= covered

    def close(self, order: Order, instrument: Instrument) -> None:
        """The venue has proved that nothing of it is open any more."""
        index = order.instrument
        if self.own[index].pop(order.cl_ord_id, None) is None:
            return
        self.gate.release(index, order.strategy, order.side, order.reserved_px_ticks, order.reserved_lots, True)
        self._reserve_funds(order, instrument, -order.reserved_lots)
        order.reserved_lots = 0
        if order.reserved_px_ticks in self.own_best[index]:
            self._tell_own(index, *best_of(self.own[index]))

    def resize(self, order: Order, instrument: Instrument, px_ticks: int, leaves_lots: int) -> None:
        """An amend changed price or quantity: reserve the new remainder instead of the old one."""
        self.close(order, instrument)
        order.reserved_px_ticks, order.reserved_lots = px_ticks, leaves_lots
        self.reserve(order, instrument)

    def set_position(self, index: int) -> None:
        self.gate.set_position(index, self.portfolio.position_lots(index))

    def _reserve_funds(self, order: Order, instrument: Instrument, qty_lots: int) -> None:
        if instrument.kind is SPOT and qty_lots:
            asset, atoms = funds_needed(instrument, order.side, order.reserved_px_ticks, abs(qty_lots))
            key = (order.venue, asset)
            self.reserved[key] = self.reserved.get(key, 0) + (atoms if qty_lots > 0 else -atoms)

    def _tell_own(self, index: int, bid: int, ask: int) -> None:
        self.own_best[index] = (bid, ask)
        self.gate.set_own(index, bid, ask)


def best_of(orders: dict[int, Order]) -> tuple[int, int]:
    """Our own best bid and offer on one instrument; NO_PX where there is none."""
    bid, ask = NO_PX, NO_PX
    for order in orders.values():
        px_ticks = order.reserved_px_ticks
        if order.side > 0:
            bid = max(bid, px_ticks)
        elif ask == NO_PX or px_ticks < ask:
            ask = px_ticks
    return bid, ask


def funds_needed(instrument: Instrument, side: Side, px_ticks: int, qty_lots: int) -> tuple[str, int]:
    """Asset and atoms that a spot order binds at its limit price."""
    if side is Side.BUY:
        return instrument.quote, instrument.notional_atoms(px_ticks, qty_lots)
    return instrument.base, qty_lots * instrument.base_atoms_per_lot
