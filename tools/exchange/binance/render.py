"""Core records as Binance's JSON objects: orders, fills, user-data events. Text only; decides nothing.

Spot prints 8 decimals everywhere; USD-M prints the tick's and the lot's own decimals. Source: the pages named in
venues/binance.md sections 5, 5.3b and 6, read 2026-11-22.
"""

from __future__ import annotations

from typing import Any, Final

from engine.types import OrdStatus, OrdType, Side, TimeInForce
from tools.exchange.model import Fill, Listing, Order, OrderChange, OrderEvent, Reason, Stp, fixed_text

MS: Final = 1_000_000
SPOT_ZERO: Final = "0.00000000"
STATUS: Final = {
    OrdStatus.NEW: "NEW",
    OrdStatus.PARTIALLY_FILLED: "PARTIALLY_FILLED",
    OrdStatus.FILLED: "FILLED",
    OrdStatus.CANCELED: "CANCELED",
    OrdStatus.REJECTED: "REJECTED",
    OrdStatus.EXPIRED: "EXPIRED",
}
TIF: Final = {TimeInForce.GTC: "GTC", TimeInForce.IOC: "IOC", TimeInForce.FOK: "FOK", TimeInForce.GTD: "GTD"}
STP: Final = {
    Stp.NONE: "NONE",
    Stp.EXPIRE_MAKER: "EXPIRE_MAKER",
    Stp.EXPIRE_TAKER: "EXPIRE_TAKER",
    Stp.EXPIRE_BOTH: "EXPIRE_BOTH",
}
EXPIRY: Final = {
    Reason.IOC: "UNFILLED_IOC_QUANTITY_EXPIRED",
    Reason.FOK: "UNFILLED_FOK_ORDER_EXPIRED",
    Reason.NO_LIQUIDITY: "INSUFFICIENT_LIQUIDITY",
    Reason.VENUE: "EXCHANGE_CANCELED",
}


def side_name(side: Side) -> str:
    return "BUY" if side is Side.BUY else "SELL"


def money(atoms: int) -> str:
    return fixed_text(atoms, 8)


def status_name(status: OrdStatus, reason: Reason) -> str:
    return "EXPIRED_IN_MATCH" if reason is Reason.SELF_TRADE else STATUS[status]


# --- spot -----------------------------------------------------------------------------------------------------------


def spot_type(order: Order) -> str:
    if order.ord_type is OrdType.MARKET:
        return "MARKET"
    return "LIMIT_MAKER" if order.post_only else "LIMIT"


def spot_ack(order: Order, ts_ms: int) -> dict[str, Any]:
    return {
        "symbol": order.listing.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_id,
        "transactTime": ts_ms,
    }


def spot_state(order: Order) -> dict[str, Any]:
    """The fields of an order that place, cancel and query answers share."""
    listing = order.listing
    return {
        "price": listing.px_text(order.px_ticks, 8),
        "origQty": listing.qty_text(order.qty_lots, 8),
        "executedQty": listing.qty_text(order.cum_lots, 8),
        "origQuoteOrderQty": money(order.quote_atoms),
        "cummulativeQuoteQty": money(order.cum_quote),
        "status": status_name(order.status, order.reason),
        "timeInForce": TIF[order.tif],
        "type": spot_type(order),
        "side": side_name(order.side),
    }


def spot_result(order: Order, ts_ms: int) -> dict[str, Any]:
    row = spot_ack(order, ts_ms) | spot_state(order)
    row["workingTime"] = ts_ms
    row["selfTradePreventionMode"] = STP[order.stp]
    if order.reason in EXPIRY:
        row["expiryReason"] = EXPIRY[order.reason]
    return row


def spot_full(order: Order, fills: list[Fill], ts_ms: int) -> dict[str, Any]:
    row = spot_result(order, ts_ms)
    row["fills"] = [
        {
            "price": fill.listing.px_text(fill.px_ticks, 8),
            "qty": fill.listing.qty_text(fill.qty_lots, 8),
            "commission": money(fill.fee_atoms),
            "commissionAsset": fill.fee_asset,
            "tradeId": fill.trade_id,
        }
        for fill in fills
    ]
    return row


def spot_canceled(order: Order, cancel_id: str, ts_ms: int) -> dict[str, Any]:
    row = {
        "symbol": order.listing.symbol,
        "origClientOrderId": order.client_id,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": cancel_id,
        "transactTime": ts_ms,
    }
    return row | spot_state(order) | {"selfTradePreventionMode": STP[order.stp]}


def spot_query(order: Order) -> dict[str, Any]:
    created, updated = order.created_ns // MS, order.updated_ns // MS
    row = {
        "symbol": order.listing.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.wire.get("shown_id", order.client_id),
    }
    row |= spot_state(order)
    row |= {
        "stopPrice": SPOT_ZERO,
        "icebergQty": SPOT_ZERO,
        "time": created,
        "updateTime": updated,
        "isWorking": True,
        "workingTime": created,
        "selfTradePreventionMode": STP[order.stp],
    }
    return row


def spot_amended(order: Order, original_id: str, exec_id: int, ts_ms: int) -> dict[str, Any]:
    listing = order.listing
    return {
        "transactTime": ts_ms,
        "executionId": exec_id,
        "amendedOrder": {
            "symbol": listing.symbol,
            "orderId": order.order_id,
            "orderListId": -1,
            "origClientOrderId": original_id,
            "clientOrderId": order.client_id,
            "price": listing.px_text(order.px_ticks, 8),
            "qty": listing.qty_text(order.qty_lots, 8),
            "executedQty": listing.qty_text(order.cum_lots, 8),
            "preventedQty": listing.qty_text(order.prevented_lots, 8),
            "quoteOrderQty": SPOT_ZERO,
            "cumulativeQuoteQty": money(order.cum_quote),
            "status": status_name(order.status, order.reason),
            "timeInForce": TIF[order.tif],
            "type": spot_type(order),
            "side": side_name(order.side),
            "workingTime": order.created_ns // MS,
            "selfTradePreventionMode": STP[order.stp],
        },
    }


def spot_trade(fill: Fill) -> dict[str, Any]:
    listing = fill.listing
    return {
        "symbol": listing.symbol,
        "id": fill.trade_id,
        "orderId": fill.order.order_id,
        "orderListId": -1,
        "price": listing.px_text(fill.px_ticks, 8),
        "qty": listing.qty_text(fill.qty_lots, 8),
        "quoteQty": money(fill.quote_atoms),
        "commission": money(fill.fee_atoms),
        "commissionAsset": fill.fee_asset,
        "time": fill.ts_ns // MS,
        "isBuyer": fill.side is Side.BUY,
        "isMaker": fill.is_maker,
        "isBestMatch": True,
    }


EXECUTION: Final = {
    OrderChange.NEW: "NEW",
    OrderChange.TRADE: "TRADE",
    OrderChange.CANCELED: "CANCELED",
    OrderChange.REPLACED: "REPLACED",
    OrderChange.EXPIRED: "EXPIRED",
    OrderChange.REJECTED: "REJECTED",
    OrderChange.SELF_TRADE: "TRADE_PREVENTION",
}


def spot_report(event: OrderEvent, cancel_id: str, unit_ns: int, skew_ns: int) -> dict[str, Any]:
    """executionReport. On CANCELED `c` is the cancel request's id and `C` the order's own."""
    order, fill, listing = event.order, event.fill, event.order.listing
    stamp = (event.ts_ns + skew_ns) // unit_ns
    created = (order.created_ns + skew_ns) // unit_ns
    is_trade = fill is not None
    row: dict[str, Any] = {
        "e": "executionReport",
        "E": stamp,
        "s": listing.symbol,
        "c": cancel_id or event.note.get("shown_id", order.client_id),
        "S": side_name(order.side),
        "o": spot_type(order),
        "f": TIF[order.tif],
        "q": listing.qty_text(event.qty_lots, 8),
        "p": listing.px_text(event.px_ticks, 8),
        "P": SPOT_ZERO,
        "F": SPOT_ZERO,
        "g": -1,
        "C": order.client_id if cancel_id else event.note.get("original_id", ""),
        "x": EXECUTION[event.change],
        "X": status_name(event.status, event.reason),
        "r": "NONE",
        "i": order.order_id,
        "l": listing.qty_text(fill.qty_lots, 8) if fill else SPOT_ZERO,
        "z": listing.qty_text(event.cum_lots, 8),
        "L": listing.px_text(fill.px_ticks, 8) if fill else SPOT_ZERO,
        "n": money(fill.fee_atoms) if fill else "0",
        "N": fill.fee_asset if fill else None,
        "T": stamp,
        "t": fill.trade_id if fill else -1,
        "I": event.exec_id,
        "w": event.status < OrdStatus.FILLED and order.ord_type is OrdType.LIMIT,
        "m": fill.is_maker if fill else False,
        "M": is_trade,
        "O": created,
        "Z": money(event.cum_quote),
        "Y": money(fill.quote_atoms) if fill else SPOT_ZERO,
        "Q": money(order.quote_atoms),
        "W": created,
        "V": STP[order.stp],
    }
    if event.change is OrderChange.EXPIRED and event.reason in EXPIRY:
        row["eR"] = EXPIRY[event.reason]
    if event.change is OrderChange.SELF_TRADE:
        row |= {"v": event.exec_id, "A": SPOT_ZERO, "B": SPOT_ZERO, "u": -1, "U": -1}
        row |= {"pl": listing.qty_text(order.prevented_lots, 8), "pL": listing.px_text(event.px_ticks, 8)}
    return row


# --- USD-M ----------------------------------------------------------------------------------------------------------


def usdm_tif(order: Order) -> str:
    return "GTX" if order.post_only else TIF[order.tif]


def usdm_type(order: Order) -> str:
    return "MARKET" if order.ord_type is OrdType.MARKET else "LIMIT"


def average_px(listing: Listing, cum_value: int, cum_lots: int) -> str:
    """Five decimals beyond the tick's, as far as the venue prints it."""
    if not cum_lots:
        return "0"
    decimals = listing.px_decimals + 5
    return fixed_text(cum_value * listing.px_mantissa * 10**5 // cum_lots, decimals)


def usdm_px(listing: Listing, px_ticks: int) -> str:
    return listing.px_text(px_ticks) if px_ticks else "0"


def usdm_qty(listing: Listing, lots: int) -> str:
    return listing.qty_text(lots) if lots else "0"


def usdm_order(order: Order) -> dict[str, Any]:
    """The answer of place, modify and cancel; the average price is in queries only since 2026-07."""
    listing = order.listing
    return {
        "orderId": order.order_id,
        "symbol": listing.symbol,
        "status": status_name(order.status, order.reason),
        "clientOrderId": order.client_id,
        "price": usdm_px(listing, order.px_ticks),
        "origQty": listing.qty_text(order.qty_lots),
        "executedQty": usdm_qty(listing, order.cum_lots),
        "cumQty": usdm_qty(listing, order.cum_lots),
        "timeInForce": usdm_tif(order),
        "type": usdm_type(order),
        "reduceOnly": order.reduce_only,
        "closePosition": False,
        "side": side_name(order.side),
        "positionSide": "BOTH",
        "stopPrice": "0",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": usdm_type(order),
        "priceMatch": order.wire.get("price_match", "NONE"),
        "selfTradePreventionMode": STP[order.stp],
        "goodTillDate": order.expire_ns // MS,
        "updateTime": order.updated_ns // MS,
    }


def usdm_query(order: Order) -> dict[str, Any]:
    row = usdm_order(order)
    del row["cumQty"]
    row["avgPrice"] = average_px(order.listing, order.cum_value, order.cum_lots)
    row["cumQuote"] = money(order.cum_quote)
    row["time"] = order.created_ns // MS
    return row


def usdm_trade(fill: Fill) -> dict[str, Any]:
    listing = fill.listing
    return {
        "symbol": listing.symbol,
        "id": fill.trade_id,
        "orderId": fill.order.order_id,
        "side": side_name(fill.side),
        "price": listing.px_text(fill.px_ticks),
        "qty": listing.qty_text(fill.qty_lots),
        "realizedPnl": money(fill.realized_atoms),
        "quoteQty": money(fill.quote_atoms),
        "commission": money(fill.fee_atoms),
        "commissionAsset": fill.fee_asset,
        "time": fill.ts_ns // MS,
        "positionSide": "BOTH",
        "buyer": fill.side is Side.BUY,
        "maker": fill.is_maker,
    }


def usdm_update(event: OrderEvent, skew_ns: int) -> dict[str, Any]:
    """ORDER_TRADE_UPDATE. `c` stays the order's own id, also on cancel."""
    order, fill, listing = event.order, event.fill, event.order.listing
    stamp = (event.ts_ns + skew_ns) // MS
    change = {OrderChange.REPLACED: "AMENDMENT", OrderChange.SELF_TRADE: "EXPIRED"}.get(event.change)
    detail: dict[str, Any] = {
        "s": listing.symbol,
        "c": order.client_id,
        "S": side_name(order.side),
        "o": usdm_type(order),
        "f": usdm_tif(order),
        "q": listing.qty_text(event.qty_lots),
        "p": usdm_px(listing, event.px_ticks),
        "ap": average_px(listing, event.cum_value, event.cum_lots),
        "sp": "0",
        "x": change or EXECUTION[event.change],
        "X": status_name(event.status, event.reason),
        "i": order.order_id,
        "l": usdm_qty(listing, fill.qty_lots) if fill else "0",
        "z": usdm_qty(listing, event.cum_lots),
        "L": listing.px_text(fill.px_ticks) if fill else "0",
        "T": stamp,
        "t": fill.trade_id if fill else 0,
        "b": "0",
        "a": "0",
        "m": fill.is_maker if fill else False,
        "R": order.reduce_only,
        "wt": "CONTRACT_PRICE",
        "ot": usdm_type(order),
        "ps": "BOTH",
        "cp": False,
        "rp": money(fill.realized_atoms) if fill else "0",
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": STP[order.stp],
        "pm": order.wire.get("price_match", "NONE"),
        "gtd": order.expire_ns // MS,
        "er": "0",
    }
    if fill:
        detail |= {"N": fill.fee_asset, "n": money(fill.fee_atoms)}
    if event.note.get("modify_id"):
        detail["M"] = event.note["modify_id"]
    return {"e": "ORDER_TRADE_UPDATE", "E": stamp, "T": stamp, "o": detail}


def usdm_trade_lite(event: OrderEvent, skew_ns: int) -> dict[str, Any]:
    order, fill, listing = event.order, event.fill, event.order.listing
    assert fill is not None, "TRADE_LITE tells of a fill"
    stamp = (event.ts_ns + skew_ns) // MS
    return {
        "e": "TRADE_LITE",
        "E": stamp,
        "T": stamp,
        "s": listing.symbol,
        "q": listing.qty_text(event.qty_lots),
        "p": usdm_px(listing, event.px_ticks),
        "m": fill.is_maker,
        "c": order.client_id,
        "S": side_name(order.side),
        "L": listing.px_text(fill.px_ticks),
        "l": listing.qty_text(fill.qty_lots),
        "t": fill.trade_id,
        "i": order.order_id,
    }
