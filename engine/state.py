"""Everything the ledger says, folded. `apply` is the only writer, live, after a crash and in an audit.

Holds orders, fill identities, the portfolio and the counters that identifiers come from. Knows no clock: times come
with the records.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from engine import ledger as records
from engine.ids import COUNTER_BITS
from engine.orders import Order
from engine.portfolio import Holding, PortfolioManager, Position
from engine.types import OrdStatus, Venue

UNATTRIBUTED_KEPT = 1_000
"""Order ids with fills whose order is not known: foreign ones, and ours whose acknowledgement is still to come."""
CLOSED_KEPT = 20_000
"""Closed orders kept for late words about them; memory is bounded by construction."""
FILL_IDS_KEPT = 50_000
"""Fill identities kept an instrument; far more than any venue's overlap of history can bring back."""


class State:
    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.open_orders: dict[int, Order] = {}
        self.closed: deque[int] = deque()
        self.by_order_id: dict[tuple[Venue, str], int] = {}
        self.fill_ids: dict[int, dict[str, None]] = {}
        self.unattributed: dict[tuple[Venue, str], int] = {}
        self.last_fill_exch_ns: dict[int, int] = {}
        self.portfolio = PortfolioManager()
        self.order_counter = 0
        self.plan_counter = 0
        self.fill_count = 0
        self.foreign_fill_count = 0
        self.executions: dict[int, int] = {}
        self.moved_atoms: dict[tuple[int, Venue], int] = {}
        self.is_killed = False
        self._appliers: dict[type, Any] = {
            records.OrderPlaced: self._placed,
            records.OrderAccepted: self._accepted,
            records.OrderFilled: self._filled,
            records.OrderCanceled: self._canceled,
            records.OrderRejected: self._rejected,
            records.OrderExpired: self._expired,
            records.OrderUnknown: self._unknown,
            records.CancelRequested: self._cancel_requested,
            records.AmendRequested: self._amend_requested,
            records.OrderAmended: self._amended,
            records.OrderAdopted: self._adopted,
            records.BalanceChanged: self._balance,
            records.FundingBooked: self._funding,
            records.CapitalMoved: self._capital,
            records.Correction: self._corrected,
            records.KillSwitch: self._killed,
            records.InstrumentNoted: self._instrument,
            records.RouteDecided: self._plan,
        }

    def apply(self, record: records.LedgerRecord) -> None:
        applier = self._appliers.get(type(record))
        if applier is not None:
            applier(record)

    def find(self, venue: Venue, cl_ord_id: int, order_id: str) -> Order | None:
        """An order of ours by our id, else by the venue's."""
        return self.orders.get(cl_ord_id or self.by_order_id.get((venue, order_id), 0))

    def is_known_fill(self, instrument: int, exec_id: str) -> bool:
        known = self.fill_ids.get(instrument)
        return known is not None and exec_id in known

    def _placed(self, r: records.OrderPlaced) -> None:
        order = Order(
            r.cl_ord_id, r.strategy, r.venue, r.instrument, r.side, r.ord_type, r.px_ticks, r.qty_lots,
            r.time_in_force, r.plan_id, r.ts_ns,
        )  # fmt: skip
        order.post_only, order.reduce_only, order.is_hedge = r.post_only, r.reduce_only, r.is_hedge
        assert r.cl_ord_id not in self.orders, f"cl_ord_id {r.cl_ord_id:#x} used twice"
        self.orders[r.cl_ord_id] = self.open_orders[r.cl_ord_id] = order
        self.order_counter = max(self.order_counter, r.cl_ord_id & (1 << COUNTER_BITS) - 1)
        self.plan_counter = max(self.plan_counter, r.plan_id)

    def _move(self, order: Order, status: OrdStatus) -> None:
        order.status = status
        if status.is_terminal:
            if self.open_orders.pop(order.cl_ord_id, None) is not None:
                self._forget_oldest(order.cl_ord_id)
        else:
            self.open_orders[order.cl_ord_id] = order

    def _forget_oldest(self, closed: int) -> None:
        self.closed.append(closed)
        if len(self.closed) > CLOSED_KEPT:
            oldest = self.orders.get(self.closed.popleft())
            if oldest is not None and not oldest.is_open:
                del self.orders[oldest.cl_ord_id]
                self.by_order_id.pop((oldest.venue, oldest.order_id), None)

    def _accepted(self, r: records.OrderAccepted) -> None:
        order = self.orders[r.cl_ord_id]
        if r.order_id:
            order.order_id = r.order_id
            self.by_order_id[order.venue, r.order_id] = r.cl_ord_id
            # Fills that came under this id before anybody knew whose it was.
            order.cum_qty_lots += self.unattributed.pop((order.venue, r.order_id), 0)
            order.venue_cum_lots = max(order.venue_cum_lots, order.cum_qty_lots)
        self._move(order, r.status)

    def _filled(self, r: records.OrderFilled) -> None:
        known = self.fill_ids.setdefault(r.instrument, {})
        known[r.exec_id] = None
        if len(known) > FILL_IDS_KEPT:
            del known[next(iter(known))]
        self.last_fill_exch_ns[r.instrument] = max(self.last_fill_exch_ns.get(r.instrument, 0), r.exch_ts_ns)
        self.portfolio.apply_fill(r.instrument, r.side, r.px_ticks, r.qty_lots, r.fee_atoms, r.fee_asset)
        self.fill_count += 1
        order = self.orders.get(r.cl_ord_id)
        if order is None:
            self.foreign_fill_count += 1
            key = (r.venue, r.order_id)
            self.unattributed[key] = self.unattributed.get(key, 0) + r.qty_lots
            if len(self.unattributed) > UNATTRIBUTED_KEPT:
                del self.unattributed[next(iter(self.unattributed))]
            return
        order.cum_qty_lots += r.qty_lots
        order.venue_cum_lots = max(order.venue_cum_lots, order.cum_qty_lots)
        self.executions[order.strategy] = self.executions.get(order.strategy, 0) + 1
        self._move(order, r.status)

    def _closed(self, r: records.OrderClosed, status: OrdStatus) -> None:
        order = self.orders[r.cl_ord_id]
        order.text = r.text
        self._move(order, status)

    def _canceled(self, r: records.OrderCanceled) -> None:
        self._closed(r, OrdStatus.CANCELED)

    def _rejected(self, r: records.OrderRejected) -> None:
        self._closed(r, OrdStatus.REJECTED)

    def _expired(self, r: records.OrderExpired) -> None:
        self._closed(r, OrdStatus.EXPIRED)

    def _unknown(self, r: records.OrderUnknown) -> None:
        order = self.orders[r.cl_ord_id]
        order.text = r.text
        self._move(order, OrdStatus.UNKNOWN)

    def _cancel_requested(self, r: records.CancelRequested) -> None:
        order = self.orders[r.cl_ord_id]
        order.touched_ns = r.ts_ns
        if order.status is not OrdStatus.UNKNOWN:
            self._move(order, OrdStatus.PENDING_CANCEL)

    def _amend_requested(self, r: records.AmendRequested) -> None:
        order = self.orders[r.cl_ord_id]
        order.touched_ns = r.ts_ns
        self._move(order, OrdStatus.PENDING_REPLACE)

    def _amended(self, r: records.OrderAmended) -> None:
        order = self.orders[r.cl_ord_id]
        order.px_ticks, order.qty_lots = r.px_ticks, r.qty_lots
        self._move(order, r.status)

    def _adopted(self, r: records.OrderAdopted) -> None:
        self._placed(r.placed)
        order = self.orders[r.placed.cl_ord_id]
        order.venue_cum_lots = r.cum_qty_lots
        self._accepted(records.OrderAccepted(order.cl_ord_id, r.order_id, OrdStatus.UNKNOWN, 0))

    def _balance(self, r: records.BalanceChanged) -> None:
        self.portfolio.apply_balance(r.venue, r.asset, r.total_atoms, r.available_atoms)

    def _funding(self, r: records.FundingBooked) -> None:
        known = self.fill_ids.setdefault(r.instrument, {})
        known[r.exec_id] = None
        self.portfolio.apply_funding(r.instrument, r.amount_atoms)

    def _capital(self, r: records.CapitalMoved) -> None:
        for venue, amount in ((r.from_venue, -r.amount_atoms), (r.to_venue, r.amount_atoms)):
            key = (r.strategy, venue)
            self.moved_atoms[key] = self.moved_atoms.get(key, 0) + amount

    def _corrected(self, r: records.Correction) -> None:
        if r.what == "position":
            self.portfolio.correct_position(r.instrument, r.theirs)
        elif r.what == "holding":
            asset = self.portfolio.instruments[r.instrument].base
            self.portfolio.agree_holding(r.venue, asset, r.theirs)

    def _killed(self, r: records.KillSwitch) -> None:
        self.is_killed = r.is_on
        if not r.is_on:
            self.executions.clear()  # a resume arms every strategy for max_executions more

    def _instrument(self, r: records.InstrumentNoted) -> None:
        self.portfolio.instruments[r.instrument.index] = r.instrument

    def _plan(self, r: records.RouteDecided) -> None:
        self.plan_counter = max(self.plan_counter, r.plan_id)


class SavedOrder(msgspec.Struct, array_like=True):
    placed: records.OrderPlaced
    order_id: str
    status: OrdStatus
    cum_qty_lots: int
    venue_cum_lots: int
    touched_ns: int


class SavedState(msgspec.Struct):
    """The fold as bytes: what a run starts from. Orders that are closed are kept only by their fills."""

    orders: list[SavedOrder]
    fill_ids: dict[int, list[str]]
    last_fill_exch_ns: dict[int, int]
    unattributed: list[tuple[Venue, str, int]]
    instruments: list[Any]
    positions: list[Position]
    holdings: list[tuple[Venue, str, Holding]]
    executions: dict[int, int]
    moved_atoms: list[tuple[int, Venue, int]]
    plan_counter: int
    fill_count: int
    is_killed: bool


def save(state: State) -> bytes:
    """Everything `load` needs. The order counter is not kept: every run has an epoch of its own."""
    return msgspec.msgpack.encode(
        SavedState(
            orders=[saved_order(order) for order in state.open_orders.values()],
            fill_ids={instrument: list(known) for instrument, known in state.fill_ids.items()},
            last_fill_exch_ns=state.last_fill_exch_ns,
            unattributed=[(venue, order_id, lots) for (venue, order_id), lots in state.unattributed.items()],
            instruments=[records.encode_ledger(i) for i in state.portfolio.instruments.values()],
            positions=list(state.portfolio.positions.values()),
            holdings=[(venue, asset, h) for (venue, asset), h in state.portfolio.holdings.items()],
            executions=state.executions,
            moved_atoms=[(strategy, venue, atoms) for (strategy, venue), atoms in state.moved_atoms.items()],
            plan_counter=state.plan_counter,
            fill_count=state.fill_count,
            is_killed=state.is_killed,
        )
    )


def saved_order(order: Order) -> SavedOrder:
    placed = records.OrderPlaced(
        order.venue, order.instrument, order.cl_ord_id, order.strategy, order.side, order.ord_type, order.px_ticks,
        order.qty_lots, order.time_in_force, order.post_only, order.reduce_only, order.is_hedge, order.plan_id,
        order.touched_ns,
    )  # fmt: skip
    return SavedOrder(placed, order.order_id, order.status, order.cum_qty_lots, order.venue_cum_lots, order.touched_ns)


def load(blob: bytes) -> State:
    from engine.instrument import Instrument

    saved = msgspec.msgpack.decode(blob, type=SavedState)
    state = State()
    for row in saved.instruments:
        instrument = msgspec.msgpack.decode(row, type=Instrument)
        state.portfolio.instruments[instrument.index] = instrument
    for item in saved.orders:
        state.apply(item.placed)
        order = state.orders[item.placed.cl_ord_id]
        order.order_id, order.cum_qty_lots, order.venue_cum_lots = item.order_id, item.cum_qty_lots, item.venue_cum_lots
        order.touched_ns = item.touched_ns
        if item.order_id:
            state.by_order_id[order.venue, item.order_id] = order.cl_ord_id
        state._move(order, item.status)
    state.fill_ids = {instrument: dict.fromkeys(known) for instrument, known in saved.fill_ids.items()}
    state.last_fill_exch_ns = saved.last_fill_exch_ns
    state.unattributed = {(venue, order_id): lots for venue, order_id, lots in saved.unattributed}
    state.portfolio.positions = {position.instrument: position for position in saved.positions}
    state.portfolio.holdings = {(venue, asset): holding for venue, asset, holding in saved.holdings}
    state.executions = saved.executions
    state.moved_atoms = {(strategy, venue): atoms for strategy, venue, atoms in saved.moved_atoms}
    state.plan_counter, state.fill_count, state.is_killed = saved.plan_counter, saved.fill_count, saved.is_killed
    state.order_counter = 0
    return state
