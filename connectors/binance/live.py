"""Our orders as Binance sees them, and every message about an order -> OrderReport.

Spot has no amend that changes the price: it cancels and places a new order with a new number. `Live` keeps the legs of
such an order together: base lots are what earlier legs executed, and every quantity told to the core is the whole
order's. Each leg has a client id of its own, ours with `-1`, `-2`, ... behind it, so that a question for one leg is
never answered with another, and the legs are found again after a restart. Order numbers are unique within a symbol
only.
Source: binance-spot-api-docs enums.md, user-data-stream.md "Order Update"; USD-M "Event: Order Update"; read
2026-11-22.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from connectors.binance.symbols import Symbol
from connectors.session import MS
from engine.actions import PlaceOrder
from engine.events import OrderReport
from engine.ids import cl_ord_id_from_text, text_from_cl_ord_id
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

_LIMIT: Final = OrdType.LIMIT
_RESTING: Final = (TimeInForce.GTC, TimeInForce.GTD)
_OPEN: Final = (OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED)

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


def leg_text(cl_ord_id: int, leg: int) -> str:
    """Client id of one leg of an order of ours."""
    text = text_from_cl_ord_id(cl_ord_id)
    return f"{text}-{leg}" if leg else text


def our_id(text: str) -> tuple[int, int]:
    """(our id, leg) of a client id; (0, 0) when it is not one of ours."""
    head, _, tail = text.partition("-")
    cl_ord_id = cl_ord_id_from_text(head)
    leg = int(tail) if tail.isdecimal() and len(tail) < 6 else 0
    return (cl_ord_id, leg) if cl_ord_id and leg_text(cl_ord_id, leg) == text else (0, 0)


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


class LiveOrder(msgspec.Struct, eq=False):
    """One order of ours that may be open. A struct, because one is made for every order."""

    cl_ord_id: int
    instrument: int
    side: Side
    px_ticks: int
    qty_lots: int  # of the whole order
    post_only: bool
    can_rest: bool
    order_id: str = ""  # of the newest leg
    leg: int = 0
    is_replacing: bool = False  # a cancel-replace is under way: the end of this leg is not the end of the order
    replaced_ns: int = 0  # when it was asked for


class Live:
    """Our open orders, whose each order number is, and what each leg executed."""

    def __init__(self) -> None:
        self.orders: dict[int, LiveOrder] = {}
        self.resting: dict[int, int] = {}  # instrument -> how many of our orders may rest there
        self._numbers: dict[tuple[int, str], tuple[int, int]] = {}  # (instrument, order_id) -> our id, leg
        self._legs: dict[int, list[int]] = {}  # our id -> lots executed by each leg

    # --- open orders ---

    def add(self, action: PlaceOrder) -> LiveOrder:
        can_rest = action.ord_type is _LIMIT and action.time_in_force in _RESTING
        return self._keep(
            LiveOrder(
                action.cl_ord_id, action.instrument, action.side, action.px_ticks, action.qty_lots, action.post_only,
                can_rest,
            )
        )  # fmt: skip

    def adopt(self, row: Mapping[str, Any], report: OrderReport) -> None:
        """Take in an open order of ours from an earlier run; one that ended in this run has a known number and is
        not taken in again, however old the answer is."""
        if report.ord_status not in _OPEN or report.cl_ord_id in self.orders:
            return
        post_only = row["type"] == "LIMIT_MAKER" or row.get("timeInForce") == "GTX"
        can_rest = report.ord_type is _LIMIT and report.time_in_force in _RESTING
        order = LiveOrder(
            report.cl_ord_id, report.instrument, report.side, report.px_ticks, report.order_qty_lots, post_only,
            can_rest, report.order_id, self.owner(report.instrument, report.order_id)[1],
        )  # fmt: skip
        self._keep(order)

    def _keep(self, order: LiveOrder) -> LiveOrder:
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

    # --- numbers and legs ---

    def learn_number(self, instrument: int, order_id: str, cl_ord_id: int, leg: int) -> None:
        """Bind an order number to our id; the number of a later leg makes that the newest."""
        key = (instrument, order_id)
        if key in self._numbers:
            return
        _remember(self._numbers, key, (cl_ord_id, leg))
        self.count(cl_ord_id, leg, 0)
        order = self.orders.get(cl_ord_id)
        if order is not None and leg > order.leg:
            order.leg = leg
            order.order_id = order_id
            order.is_replacing = False
        elif order is not None and not order.order_id:
            order.order_id = order_id

    def owner(self, instrument: int, order_id: str) -> tuple[int, int]:
        """(our id, leg) of an order number; (0, 0) when it is not known as ours."""
        return self._numbers.get((instrument, order_id), (0, 0))

    def is_known(self, instrument: int, order_id: str) -> bool:
        return (instrument, order_id) in self._numbers

    def count(self, cl_ord_id: int, leg: int, cum_lots: int) -> None:
        """A leg is known to have executed so much, or more."""
        legs = self._legs.get(cl_ord_id)
        if legs is None:
            legs = []
            _remember(self._legs, cl_ord_id, legs)
        legs.extend([0] * (leg + 1 - len(legs)))
        legs[leg] = max(legs[leg], cum_lots)

    def base_lots(self, cl_ord_id: int, leg: int) -> int:
        """What the legs before this one executed."""
        return sum(self._legs.get(cl_ord_id, ())[:leg])

    def leg_cum_lots(self, cl_ord_id: int, leg: int) -> int:
        return sum(self._legs.get(cl_ord_id, ())[leg : leg + 1])

    def see(self, report: OrderReport, leg_cum_lots: int) -> bool:
        """Take note of a report before it is sent on. False when it must not be: it is about a leg that was or is
        being replaced, and says nothing about where the order stands. (Fills are told on their own.)"""
        cl_ord_id, leg = self.owner(report.instrument, report.order_id)
        if not cl_ord_id:
            return True
        self.count(cl_ord_id, leg, leg_cum_lots)
        if leg < len(self._legs[cl_ord_id]) - 1:
            return False
        order = self.orders.get(cl_ord_id)
        if report.ord_status is OrdStatus.CANCELED and order is not None and order.is_replacing:
            return False
        if report.ord_status.is_terminal:
            self.remove(cl_ord_id)
        return True


def _remember(table: dict[Any, Any], key: Any, value: Any) -> None:
    # Bounded: the oldest goes. Late words about an order that old are told without our id.
    table[key] = value
    if len(table) > NUMBERS_KEPT:
        del table[next(iter(table))]


def report_from_row(
    live: Live, symbol: Symbol, row: Mapping[str, Any], exec_type: ExecType | None, now_ns: int
) -> tuple[OrderReport, int]:
    """(report, lots executed by this leg) of an order as requests answer it; `exec_type` None: as its status says."""
    index = symbol.instrument.index
    order_id = str(row["orderId"])
    cl_ord_id, leg = our_id(row.get("origClientOrderId") or row.get("clientOrderId", ""))
    if cl_ord_id:
        live.learn_number(index, order_id, cl_ord_id, leg)
    cl_ord_id, leg = live.owner(index, order_id)
    base_lots = live.base_lots(cl_ord_id, leg)
    status = status_of(row["status"])
    leg_cum_lots = symbol.lots(row["executedQty"])
    report = OrderReport(
        recv_ts_ns=now_ns,
        venue=Venue.BINANCE,
        instrument=index,
        cl_ord_id=cl_ord_id,
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
