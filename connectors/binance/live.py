"""Our orders as Binance sees them, and every message about an order -> OrderReport.

Spot has no amend that changes the price: it cancels and places a new order with a new number under the same client
id. `Live` keeps the legs of such an order together: `base_lots` is what earlier legs executed, and every quantity
told to the core is the whole order's. Order numbers are unique within a symbol only.
Source: binance-spot-api-docs enums.md, user-data-stream.md "Order Update"; USD-M "Event: Order Update"; read
2026-11-22.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connectors.binance.symbols import Symbol
from connectors.session import MS
from engine.actions import PlaceOrder
from engine.events import OrderReport
from engine.ids import cl_ord_id_from_text
from engine.types import ExecType, OrdStatus, OrdType, Side, TimeInForce, Venue

NUMBERS_KEPT: Final = 20_000  # order number -> our id, for late fills and for fills from history

STATUSES: dict[str, OrdStatus] = {
    "NEW": OrdStatus.NEW,
    "PENDING_NEW": OrdStatus.PENDING_NEW,
    "PARTIALLY_FILLED": OrdStatus.PARTIALLY_FILLED,
    "FILLED": OrdStatus.FILLED,
    "CANCELED": OrdStatus.CANCELED,
    "PENDING_CANCEL": OrdStatus.PENDING_CANCEL,
    "REJECTED": OrdStatus.REJECTED,
    "EXPIRED": OrdStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrdStatus.EXPIRED,
    "NEW_INSURANCE": OrdStatus.NEW,  # the venue's own: liquidation taken over
    "NEW_ADL": OrdStatus.NEW,
}
"""A status that is not here is UNKNOWN: never a guess."""

EXECS: dict[str, ExecType] = {
    "NEW": ExecType.NEW,
    "CANCELED": ExecType.CANCELED,
    "REPLACED": ExecType.REPLACED,
    "AMENDMENT": ExecType.REPLACED,
    "REJECTED": ExecType.REJECTED,
    "TRADE": ExecType.TRADE,
    "CALCULATED": ExecType.TRADE,  # liquidation, auto-deleveraging
    "EXPIRED": ExecType.EXPIRED,
    "TRADE_PREVENTION": ExecType.EXPIRED,
}

_ANSWERS: dict[OrdStatus, ExecType] = {
    OrdStatus.PENDING_NEW: ExecType.PENDING_NEW,
    OrdStatus.CANCELED: ExecType.CANCELED,
    OrdStatus.REJECTED: ExecType.REJECTED,
    OrdStatus.EXPIRED: ExecType.EXPIRED,
}

_TIFS: dict[str, TimeInForce] = {
    "GTC": TimeInForce.GTC,
    "GTX": TimeInForce.GTC,
    "RPI": TimeInForce.GTC,
    "IOC": TimeInForce.IOC,
    "FOK": TimeInForce.FOK,
    "GTD": TimeInForce.GTD,
}


def side_of(text: str) -> Side:
    return Side.BUY if text == "BUY" else Side.SELL


def ord_type_of(text: str) -> OrdType:
    return OrdType.MARKET if text.endswith("MARKET") else OrdType.LIMIT


def tif_of(text: str) -> TimeInForce:
    return _TIFS.get(text, TimeInForce.GTC)


def status_of(text: str) -> OrdStatus:
    return STATUSES.get(text, OrdStatus.UNKNOWN)


def exec_of_answer(status: OrdStatus) -> ExecType:
    """What the answer to our request says has happened; fills are told by the user data stream alone."""
    return _ANSWERS.get(status, ExecType.NEW)


class LiveOrder:
    """One order of ours that may be open."""

    __slots__ = (
        "base_lots",
        "cl_ord_id",
        "instrument",
        "is_replacing",
        "leg_cum_lots",
        "ord_type",
        "order_id",
        "post_only",
        "px_ticks",
        "qty_lots",
        "side",
        "tif",
    )

    def __init__(self, action: PlaceOrder) -> None:
        self.cl_ord_id = action.cl_ord_id
        self.instrument = action.instrument
        self.side = action.side
        self.ord_type = action.ord_type
        self.tif = action.time_in_force
        self.post_only = action.post_only
        self.px_ticks = action.px_ticks
        self.qty_lots = action.qty_lots  # of the whole order
        self.order_id = ""  # of the leg that is open now
        self.base_lots = 0
        self.leg_cum_lots = 0
        self.is_replacing = False  # a cancel-replace is under way: the end of this leg is not the end of the order

    @property
    def can_rest(self) -> bool:
        return self.ord_type is OrdType.LIMIT and self.tif in (TimeInForce.GTC, TimeInForce.GTD)


class Live:
    """Our open orders, and whose each order number is."""

    def __init__(self) -> None:
        self.orders: dict[int, LiveOrder] = {}
        self.resting: dict[int, int] = {}  # instrument -> how many of our orders may rest there
        self._numbers: dict[tuple[int, str], tuple[int, int]] = {}  # (instrument, order_id) -> (our id, base lots)

    def add(self, action: PlaceOrder) -> LiveOrder:
        order = LiveOrder(action)
        self.orders[order.cl_ord_id] = order
        if order.can_rest:
            self.resting[order.instrument] = self.resting.get(order.instrument, 0) + 1
        return order

    def remove(self, cl_ord_id: int) -> None:
        order = self.orders.pop(cl_ord_id, None)
        if order is not None and order.can_rest:
            left = self.resting[order.instrument] - 1
            if left:
                self.resting[order.instrument] = left
            else:
                del self.resting[order.instrument]

    def learn_number(self, instrument: int, order_id: str, cl_ord_id: int) -> None:
        """Bind an order number to our id; a new number of a known order is its next leg."""
        key = (instrument, order_id)
        if key in self._numbers:
            return
        order = self.orders.get(cl_ord_id)
        base_lots = 0
        if order is not None:
            if order.order_id and order.order_id != order_id:
                order.base_lots += order.leg_cum_lots
                order.leg_cum_lots = 0
            order.order_id = order_id
            base_lots = order.base_lots
        self._numbers[key] = (cl_ord_id, base_lots)
        if len(self._numbers) > NUMBERS_KEPT:
            del self._numbers[next(iter(self._numbers))]

    def set_base(self, instrument: int, order_id: str, base_lots: int) -> None:
        """What the earlier legs executed is known better now."""
        cl_ord_id, _ = self._numbers[instrument, order_id]
        self._numbers[instrument, order_id] = (cl_ord_id, base_lots)
        order = self.orders.get(cl_ord_id)
        if order is not None and order.order_id == order_id:
            order.base_lots = base_lots

    def owner(self, instrument: int, order_id: str) -> tuple[int, int]:
        """(our id, lots executed by earlier legs) of an order number; (0, 0) when it is not known as ours."""
        return self._numbers.get((instrument, order_id), (0, 0))

    def see(self, report: OrderReport, leg_cum_lots: int) -> bool:
        """Take note of a report before it is sent on. False when it must not be: the end of a leg that is being
        replaced."""
        order = self.orders.get(report.cl_ord_id)
        if order is None:
            return True
        is_current = order.order_id == report.order_id
        if is_current:
            order.leg_cum_lots = max(order.leg_cum_lots, leg_cum_lots)
        if not report.ord_status.is_terminal:
            return True
        is_old_leg = not is_current and bool(order.order_id)
        if report.ord_status is OrdStatus.CANCELED and (order.is_replacing or is_old_leg):
            return False
        self.remove(report.cl_ord_id)
        return True


def report_from_row(
    live: Live, symbol: Symbol, row: Mapping[str, Any], exec_type: ExecType | None, now_ns: int
) -> tuple[OrderReport, int]:
    """(report, lots executed by this leg) of an order as requests answer it; `exec_type` None: as its status says."""
    index = symbol.instrument.index
    order_id = str(row["orderId"])
    cl_ord_id = cl_ord_id_from_text(row.get("origClientOrderId") or row.get("clientOrderId", ""))
    if cl_ord_id:
        live.learn_number(index, order_id, cl_ord_id)
    known, base_lots = live.owner(index, order_id)
    status = status_of(row["status"])
    leg_cum_lots = symbol.lots(row["executedQty"])
    report = OrderReport(
        recv_ts_ns=now_ns,
        venue=Venue.BINANCE,
        instrument=index,
        cl_ord_id=cl_ord_id or known,
        order_id=order_id,
        exec_type=exec_of_answer(status) if exec_type is None else exec_type,
        ord_status=status,
        side=side_of(row["side"]),
        ord_type=ord_type_of(row["type"]),
        time_in_force=tif_of(row.get("timeInForce", "GTC")),
        px_ticks=symbol.order_px(row["price"]),
        order_qty_lots=base_lots + symbol.lots(row.get("origQty") or row["qty"]),
        cum_qty_lots=base_lots + leg_cum_lots,
        exch_ts_ns=int(row.get("transactTime") or row.get("updateTime") or 0) * MS,
        text=str(row.get("expiryReason", "")),
    )
    return report, leg_cum_lots
