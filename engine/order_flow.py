"""Orders from intent to the venue's last word: places, cancels, amends, and books every report and fill.

Calls the table of engine/orders.py for each step and writes what follows from it into the ledger. An input that the
table does not know is a counted anomaly and starts a query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import ledger as records
from engine.actions import AmendOrder, CancelOrder, PlaceOrder, QueryOrder
from engine.events import Fill, OrderReport
from engine.ids import cl_ord_id, epoch_of, instance_of, strategy_of
from engine.orders import EXEC_INPUT, STATUS_INPUT, WORKING, Order, OrderInput, next_status
from engine.types import ExecType, OrdStatus, OrdType, Side, TimeInForce

if TYPE_CHECKING:
    from engine.core import Core

QUIET_NS = 2_000_000_000
"""A pending order with no word for so long is asked about."""
QUERY_BACKOFF_NS = (200_000_000, 400_000_000, 800_000_000, 1_600_000_000, 3_000_000_000)
REFUSAL_QUIET_NS = 1_000_000_000

# In Python 3.11 a look-up on an enum class costs 55 ns; names used on the way to the wire are bound once.
LIMIT = OrdType.LIMIT

CLOSERS = {
    OrdStatus.CANCELED: records.OrderCanceled,
    OrdStatus.REJECTED: records.OrderRejected,
    OrdStatus.EXPIRED: records.OrderExpired,
}


class OrderFlow:
    def __init__(self, core: Core, instance: int, epoch: int, unknown_window_ns: int) -> None:
        self.core = core
        self.instance = instance
        self.epoch = epoch
        self.unknown_window_ns = unknown_window_ns
        self.counter = 0
        self.placed_count = 0
        self.reject_count = 0
        self.duplicate_fill_count = 0
        self.foreign_count = 0
        self.refused: dict[tuple[int, int, str], int] = {}
        self.refusal_counts: dict[str, int] = {}

    def may_place(
        self, strategy: int, index: int, side: Side, px_ticks: int, qty_lots: int, reduce: bool, *,
        is_hedge: bool = False,
    ) -> bool:  # fmt: skip
        """Every check of the gate, with capital moved between venues where that helps. Refusals are recorded."""
        core = self.core
        instrument = core.instruments[index]
        reason = "" if core.is_open(index, is_hedge=is_hedge) else "VENUE_CLOSED"
        if not reason:
            reason = core.risk.check(instrument, strategy, side, px_ticks, qty_lots, reduce, core.now_ns)
        if reason == "ALLOTMENT":
            need = instrument.notional_atoms(px_ticks, qty_lots)
            move = core.capital.plan_move(strategy, instrument.venue, need)
            if move is not None:
                core.capital.move(strategy, move[0], instrument.venue, move[1])
                core.book(records.CapitalMoved(strategy, move[0], instrument.venue, move[1]))
                reason = core.risk.check(instrument, strategy, side, px_ticks, qty_lots, reduce, core.now_ns)
        if not reason:
            return True
        self._note_refusal(strategy, index, side, px_ticks, qty_lots, reason)
        return False

    def _note_refusal(self, strategy: int, index: int, side: Side, px_ticks: int, qty_lots: int, reason: str) -> None:
        """The first of a kind in a while goes into the ledger, the rest are counted."""
        self.refusal_counts[reason] = self.refusal_counts.get(reason, 0) + 1
        key, now_ns = (strategy, index, reason), self.core.now_ns
        if now_ns < self.refused.get(key, 0):
            return
        self.refused[key] = now_ns + REFUSAL_QUIET_NS
        risk = self.core.risk
        self.core.book(
            records.RiskRefused(strategy, index, side, px_ticks, qty_lots, reason, risk.last_value, risk.last_limit)
        )

    def send(
        self, strategy: int, index: int, side: Side, px_ticks: int, qty_lots: int, tif: TimeInForce, *,
        post_only: bool = False, reduce_only: bool = False, is_hedge: bool = False, plan_id: int = 0,
    ) -> int:  # fmt: skip
        """Book the intent, reserve its exposure, queue the action. The gate has been asked before."""
        core = self.core
        instrument = core.instruments[index]
        self.counter += 1
        self.placed_count += 1
        ident = cl_ord_id(self.instance, strategy, self.epoch, self.counter)
        core.book(
            records.OrderPlaced(
                instrument.venue, index, ident, strategy, side, LIMIT, px_ticks, qty_lots, tif, post_only,
                reduce_only, is_hedge, plan_id, core.now_ns,
            )
        )  # fmt: skip
        core.risk.reserve(core.state.orders[ident], instrument)
        core.act(
            PlaceOrder(
                instrument.venue, index, ident, side, LIMIT, px_ticks, qty_lots, tif, post_only, reduce_only,
                is_hedge,
            )
        )  # fmt: skip
        return ident

    def cancel(self, order: Order) -> bool:
        if not order.is_open or order.status is OrdStatus.PENDING_CANCEL:
            return False
        self.core.book(records.CancelRequested(order.cl_ord_id, self.core.now_ns))
        self.core.act(CancelOrder(order.venue, order.instrument, order.cl_ord_id, order.order_id))
        return True

    def amend(self, order: Order, px_ticks: int, qty_lots: int) -> bool:
        if order.status not in WORKING or qty_lots <= order.cum_qty_lots:
            return False
        leaves = qty_lots - order.cum_qty_lots
        if not self.may_place(order.strategy, order.instrument, order.side, px_ticks, leaves, order.reduce_only):
            return False
        self.core.book(records.AmendRequested(order.cl_ord_id, px_ticks, qty_lots, self.core.now_ns))
        # Until the venue answers either version may be live: the larger one is reserved.
        instrument = self.core.instruments[order.instrument]
        worst_px = max(px_ticks, order.px_ticks)
        self.core.risk.resize(order, instrument, worst_px, max(leaves, order.leaves_qty_lots))
        self.core.act(
            AmendOrder(order.venue, order.instrument, order.cl_ord_id, order.order_id, order.side, px_ticks, qty_lots)
        )
        return True

    def on_report(self, report: OrderReport) -> None:
        core = self.core
        order = core.state.find(report.venue, report.cl_ord_id, report.order_id)
        if order is None:
            self._on_stranger(report)
            return
        if report.exec_type is ExecType.NOT_FOUND:
            self._on_not_found(order)
            return
        if report.cum_qty_lots >= 0:
            order.venue_cum_lots = max(order.venue_cum_lots, report.cum_qty_lots)
        if report.exec_type is ExecType.STATUS:
            happened = STATUS_INPUT[report.ord_status]
            order.not_found_count = 0
        elif report.exec_type is ExecType.TRADE:
            happened = OrderInput.FILLED if report.ord_status is OrdStatus.FILLED else OrderInput.ACCEPTED
        else:
            happened = EXEC_INPUT[report.exec_type]
        if happened is OrderInput.CANCEL_REFUSED and order.status.is_terminal:
            return
        self.advance(order, happened, report)

    def advance(self, order: Order, happened: OrderInput, report: OrderReport) -> None:
        """One step of the table; terminal states wait for the fills that the venue has counted."""
        core = self.core
        target = next_status(order.status, happened, order.cum_qty_lots)
        if target is None:
            core.note_anomaly("transition", order.cl_ord_id, f"{order.status.name} + {happened.name}: {report.text}")
            if order.is_open:
                self.query(order, "transition not in the table")
            return
        if target.is_terminal and not order.status.is_terminal:
            if target is OrdStatus.FILLED:
                order.venue_cum_lots = max(order.venue_cum_lots, order.qty_lots)
            if self._learn_id(order, report) and order.status.is_terminal:
                return
            if order.is_missing_fills:
                order.final = target
                order.text = report.text
                return
            self._close(order, target, report.code, report.text)
            return
        if order.status.is_terminal and not target.is_terminal:
            self._reopen(order)
        if self._learn_id(order, report, target):
            # Fills were waiting under this id: look again from where the order stands now.
            if order.is_open:
                self.advance(order, happened, report)
            return
        if target is OrdStatus.UNKNOWN and order.status is not OrdStatus.UNKNOWN:
            core.health[order.venue].on_outcome_unknown(core.now_ns)
            core.book(records.OrderUnknown(order.cl_ord_id, report.text))
            self.query(order, report.text)
        elif happened in (OrderInput.AMENDED, OrderInput.AMEND_REFUSED) and not target.is_terminal:
            self._amended(order, target, report if happened is OrderInput.AMENDED else None)
        elif target is not order.status:
            core.book(records.OrderAccepted(order.cl_ord_id, order.order_id, target, report.exch_ts_ns))
            if target in WORKING:
                order.query_count = 0
        core.tell_order(order)

    def _reopen(self, order: Order) -> None:
        """It was called rejected and it lives: its exposure counts again before anything else happens."""
        order.reserved_lots = order.qty_lots - order.cum_qty_lots
        order.reserved_px_ticks = order.px_ticks
        order.final = None
        self.core.risk.reserve(order, self.core.instruments[order.instrument])
        self.core.note_anomaly("reopened", order.cl_ord_id, order.text)

    def _learn_id(self, order: Order, report: OrderReport, target: OrdStatus | None = None) -> bool:
        """The venue's id is evidence by itself: it goes into the ledger even when the status stays. True when fills
        that had come under this id were given to the order."""
        if report.order_id and report.order_id != order.order_id:
            status = order.status if target is None or target.is_terminal else target
            if status is OrdStatus.UNKNOWN and order.status is not OrdStatus.UNKNOWN:
                status = order.status
            before = order.cum_qty_lots
            self.core.book(records.OrderAccepted(order.cl_ord_id, report.order_id, status, report.exch_ts_ns))
            if order.cum_qty_lots > before:
                self._attribute(order, order.cum_qty_lots - before)
                return True
        return False

    def _attribute(self, order: Order, qty_lots: int) -> None:
        """Fills that were booked before their order was known are in the position: only the order catches up."""
        core = self.core
        core.risk.shrink(order, core.instruments[order.instrument], qty_lots)
        core.legs.on_fill(order, qty_lots)
        if not order.is_open:
            return
        happened = OrderInput.FILLED if order.cum_qty_lots >= order.qty_lots else OrderInput.PARTIAL
        target = next_status(order.status, happened, order.cum_qty_lots)
        if target is OrdStatus.FILLED:
            self._close(order, target, 0, "")
        elif target is not None and target is not order.status:
            core.book(records.OrderAccepted(order.cl_ord_id, order.order_id, target, 0))

    def _amended(self, order: Order, target: OrdStatus, report: OrderReport | None) -> None:
        px_ticks, qty_lots = order.px_ticks, order.qty_lots
        if report is not None:
            px_ticks = report.px_ticks or px_ticks
            qty_lots = report.order_qty_lots if report.order_qty_lots > 0 else qty_lots
        self.core.book(records.OrderAmended(order.cl_ord_id, px_ticks, qty_lots, target))
        instrument = self.core.instruments[order.instrument]
        self.core.risk.resize(order, instrument, px_ticks, order.leaves_qty_lots)

    def _close(self, order: Order, target: OrdStatus, code: int, text: str) -> None:
        core = self.core
        if target is OrdStatus.FILLED:
            core.book(records.OrderAccepted(order.cl_ord_id, order.order_id, OrdStatus.FILLED, 0))
        else:
            core.book(CLOSERS[target](order.cl_ord_id, order.cum_qty_lots, code, text))
        if target is OrdStatus.REJECTED:
            self.reject_count += 1
        core.risk.close(order, core.instruments[order.instrument])
        core.tell_order(order)
        core.legs.on_closed(order)

    def on_fill(self, fill: Fill) -> None:
        """Book one execution exactly once, whenever and however often it arrives."""
        core = self.core
        if core.state.is_known_fill(fill.instrument, fill.exec_id):
            self.duplicate_fill_count += 1
            return
        order = core.state.find(fill.venue, fill.cl_ord_id, fill.order_id)
        status = OrdStatus.NEW
        was_open = False
        if order is not None:
            was_open = order.is_open
            status = self._status_after_fill(order, fill)
        core.book(
            records.OrderFilled(
                fill.venue, fill.instrument, order.cl_ord_id if order else fill.cl_ord_id, fill.order_id, fill.exec_id,
                fill.side, fill.px_ticks, fill.qty_lots, fill.fee_atoms, fill.fee_asset, fill.is_maker,
                fill.exch_ts_ns, status,
            )
        )  # fmt: skip
        if order is None:
            self.foreign_count += 1
            core.risk.set_position(fill.instrument)
            return
        core.risk.on_fill(order, core.instruments[fill.instrument], fill.qty_lots)
        core.legs.on_fill(order, fill.qty_lots)
        self._after_fill(order, was_open)

    def _status_after_fill(self, order: Order, fill: Fill) -> OrdStatus:
        cum = order.cum_qty_lots + fill.qty_lots
        if cum > order.qty_lots:
            self.core.note_anomaly("overfill", order.cl_ord_id, f"{cum} of {order.qty_lots} lots")
        happened = OrderInput.FILLED if cum >= order.qty_lots else OrderInput.PARTIAL
        target = next_status(order.status, happened, cum)
        if target is None:
            self.core.note_anomaly("transition", order.cl_ord_id, f"{order.status.name} + {happened.name}")
            return order.status
        return target

    def _after_fill(self, order: Order, was_open: bool) -> None:
        core = self.core
        if order.status.is_terminal:
            core.risk.close(order, core.instruments[order.instrument])
            core.tell_order(order)
            if was_open:
                core.legs.on_closed(order)
        elif order.final is not None and not order.is_missing_fills:
            self._close(order, order.final, 0, order.text)
        else:
            core.tell_order(order)

    def _on_not_found(self, order: Order) -> None:
        if not order.is_open:
            return
        order.not_found_count += 1
        if order.is_proved_absent(self.core.now_ns, self.unknown_window_ns):
            text = f"not placed: {order.not_found_count} queries found nothing"
            assert next_status(order.status, OrderInput.NOT_PLACED, 0) is OrdStatus.REJECTED
            self._close(order, OrdStatus.REJECTED, 0, text)
        elif order.status is not OrdStatus.UNKNOWN:
            self.core.book(records.OrderUnknown(order.cl_ord_id, "query did not find it"))
            self.core.tell_order(order)

    def _on_stranger(self, report: OrderReport) -> None:
        """Not in the ledger: ours from a lost tail is adopted, anybody else's is only counted."""
        core = self.core
        if not core.is_ours(report.cl_ord_id):
            self.foreign_count += 1
            return
        if report.order_qty_lots <= 0 or report.exec_type is ExecType.NOT_FOUND or report.ord_status.is_terminal:
            core.note_anomaly("stranger", report.cl_ord_id, f"{report.exec_type.name} for an order not in the ledger")
            return
        placed = records.OrderPlaced(
            report.venue, report.instrument, report.cl_ord_id, strategy_of(report.cl_ord_id), report.side,
            report.ord_type, report.px_ticks, report.order_qty_lots, report.time_in_force, False, False, False, 0,
            core.now_ns,
        )  # fmt: skip
        core.book(records.OrderAdopted(placed, report.order_id, max(0, report.cum_qty_lots)))
        order = core.state.orders[report.cl_ord_id]
        order.reserved_lots = max(0, order.qty_lots - order.cum_qty_lots)
        core.risk.reserve(order, core.instruments[order.instrument])
        core.note_anomaly("adopted", order.cl_ord_id, f"epoch {epoch_of(order.cl_ord_id)}")
        self.advance(order, STATUS_INPUT[report.ord_status], report)

    def query(self, order: Order, why: str) -> None:
        core = self.core
        order.last_query_ns = core.now_ns
        order.query_count += 1
        core.send_query(
            QueryOrder(order.venue, order.instrument, order.cl_ord_id, order.order_id),
            f"order: {why}"[:80], 0, order.instrument, order.cl_ord_id,
        )  # fmt: skip

    def on_timer(self) -> None:
        """Ask about every order that has no proved state: unknown, pending for too long, or missing fills."""
        core = self.core
        for order in list(core.state.open_orders.values()):
            if order.instrument not in core.instruments:
                continue  # restored, and its venue has not defined the instrument yet
            is_quiet = order.status not in WORKING and core.now_ns - order.touched_ns > QUIET_NS
            if not (is_quiet or order.status is OrdStatus.UNKNOWN or order.is_missing_fills):
                continue
            backoff = QUERY_BACKOFF_NS[min(order.query_count, len(QUERY_BACKOFF_NS) - 1)]
            if core.now_ns - order.last_query_ns < backoff:
                continue
            if order.is_missing_fills:
                order.last_query_ns = core.now_ns
                order.query_count += 1
                core.ask_fills(order)
            else:
                self.query(order, order.text or "no word")

    def is_ours(self, ident: int) -> bool:
        return ident != 0 and instance_of(ident) == self.instance
