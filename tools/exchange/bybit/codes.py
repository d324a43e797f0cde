"""Bybit's codes and words for what the core says. Linear and spot have two different sets of codes.

Source: bybit-exchange/docs, "Error Codes" and "Enums Definitions", snapshot 2026-07-24.
"""

from __future__ import annotations

from typing import Any, Final

from engine.types import Market, OrdStatus, Side
from tools.exchange.model import Listing, Order, Reason

LINEAR: Final = "linear"
SPOT: Final = "spot"

PARAMS: Final = 10001
WINDOW: Final = 10002
BAD_KEY: Final = 10003
BAD_SIGN: Final = 10004
NO_PERMISSION: Final = 10005
RATE: Final = 10006
SERVER_ERROR: Final = 10016

POST_ONLY_REASON: Final = "EC_PostOnlyWillTakeLiquidity"


class Refusal(Exception):
    """A request that Bybit answers with a code. `result` goes into the answer beside it."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(f"{code} {msg}")
        self.code = code
        self.msg = msg


_LINEAR_PLACE: Final[dict[Reason, tuple[int, str]]] = {
    Reason.BALANCE: (110007, "ab not enough for new order"),
    Reason.MARGIN: (110007, "ab not enough for new order"),
    Reason.DUPLICATE_ID: (110072, "OrderLinkedID is duplicate"),
    Reason.HALTED: (110074, "This contract is not live"),
    Reason.PX_FILTER: (PARAMS, "Price invalid"),
    Reason.QTY_FILTER: (PARAMS, "Qty invalid"),
    Reason.NOTIONAL_FILTER: (110094, "Order does not meet minimum order value 5USDT"),
    Reason.PX_BAND: (110003, "Order price exceeds the allowable range."),
    Reason.MAX_ORDERS: (110020, "Not allowed to have more than 500 active orders"),
    Reason.REDUCE_ONLY: (110017, "current position is zero, cannot fix reduce-only order qty"),
    Reason.UNKNOWN_ORDER: (110001, "order not exists or too late to cancel"),
    Reason.AMEND_SAME: (34040, "not modified"),
    Reason.AMEND_QTY: (PARAMS, "Qty invalid"),
    Reason.ID_MISMATCH: (110001, "order not exists or too late to cancel"),
}
_SPOT_PLACE: Final[dict[Reason, tuple[int, str]]] = {
    Reason.BALANCE: (170131, "Insufficient balance."),
    Reason.MARGIN: (170131, "Insufficient balance."),
    Reason.DUPLICATE_ID: (170141, "Duplicate clientOrderId"),
    Reason.HALTED: (170210, "New order rejected."),
    Reason.PX_FILTER: (170134, "Order price has too many decimals."),
    Reason.QTY_FILTER: (170136, "Order quantity exceeded lower limit."),
    Reason.NOTIONAL_FILTER: (170140, "Order value exceeded lower limit."),
    Reason.PX_BAND: (170193, "Buy order price cannot be higher than the limit."),
    Reason.MAX_ORDERS: (170810, "Cannot exceed maximum of 500 conditional, TP/SL and active orders."),
    Reason.UNKNOWN_ORDER: (170213, "Order does not exist."),
    Reason.AMEND_SAME: (34040, "not modified"),
    Reason.AMEND_QTY: (170136, "Order quantity exceeded lower limit."),
    Reason.ID_MISMATCH: (170213, "Order does not exist."),
}


def category(listing: Listing) -> str:
    return SPOT if listing.market is Market.SPOT else LINEAR


def refusal(listing: Listing, reason: Reason, side: Side = Side.BUY) -> Refusal:
    """The code with which this market refuses for that reason."""
    if listing.is_spot and reason is Reason.PX_BAND and side is Side.SELL:
        return Refusal(170194, "Sell order price cannot be lower than the limit.")
    table = _SPOT_PLACE if listing.is_spot else _LINEAR_PLACE
    return Refusal(*table.get(reason, (SERVER_ERROR, f"server error: {reason.name}")))


def closed_refusal(order: Order) -> Refusal:
    """Canceling or amending an order that is closed: spot says how it ended, linear does not."""
    if not order.listing.is_spot:
        return refusal(order.listing, Reason.UNKNOWN_ORDER)
    if order.status is OrdStatus.FILLED:
        return Refusal(170139, "Order has been filled.")
    return Refusal(170142, "Order has been cancelled")


def unknown_symbol(name: str) -> Refusal:
    return Refusal(170121, "Invalid symbol.") if name == SPOT else Refusal(PARAMS, "params error: symbol invalid")


# Why an order ended: (cancelType, rejectReason).
_ENDED: Final[dict[Reason, tuple[str, str]]] = {
    Reason.USER: ("CancelByUser", "EC_PerCancelRequest"),
    Reason.IOC: ("UNKNOWN", "EC_NoImmediateQtyToFill"),
    Reason.NO_LIQUIDITY: ("UNKNOWN", "EC_NoImmediateQtyToFill"),
    Reason.FOK: ("UNKNOWN", "EC_CancelForNoFullFill"),
    Reason.POST_ONLY: ("UNKNOWN", POST_ONLY_REASON),
    Reason.SELF_TRADE: ("CancelBySmp", "EC_BySelfMatch"),
    Reason.REDUCE_ONLY: ("CancelByReduceOnly", "EC_NoError"),
    Reason.VENUE: ("CancelByAdmin", "EC_NoError"),
    Reason.COUNTDOWN: ("CancelByDCP", "EC_NoError"),
    Reason.AMENDED_AWAY: ("CancelByUser", "EC_PerCancelRequest"),
}


def ended_words(reason: Reason) -> tuple[str, str]:
    return _ENDED.get(reason, ("UNKNOWN", "EC_NoError"))


def status_word(status: OrdStatus, cum_lots: int, *, is_spot: bool) -> str:
    """There is no Expired; a spot order that ends with fills has a word of its own."""
    if status in (OrdStatus.NEW, OrdStatus.PENDING_NEW):
        return "New"
    if status is OrdStatus.PARTIALLY_FILLED:
        return "PartiallyFilled"
    if status is OrdStatus.FILLED:
        return "Filled"
    if status is OrdStatus.REJECTED:
        return "Rejected"
    return "PartiallyFilledCanceled" if is_spot and cum_lots else "Cancelled"


def envelope(code: int, msg: str, result: dict[str, Any], ext: dict[str, Any], utc_ms: int) -> dict[str, Any]:
    return {"retCode": code, "retMsg": msg, "result": result, "retExtInfo": ext, "time": utc_ms}
