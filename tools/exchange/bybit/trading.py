"""Order requests of Bybit v5, the same for REST and the order socket: parameters in, core called, result out.

A request is refused with Bybit's own code (`Refusal`). An accepted one answers only with the ids: what became of the
order is told by the private stream. Source: bybit-exchange/docs, "Place/Amend/Cancel Order", snapshot 2026-07-24.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from engine.instrument import atoms_from_text
from engine.types import Market, OrdType, Side, TimeInForce
from tools.exchange.bybit.codes import (
    PARAMS,
    Refusal,
    closed_refusal,
    refusal,
    unknown_symbol,
)
from tools.exchange.bybit.rows import px_text
from tools.exchange.core import VenueCore
from tools.exchange.model import Listing, NewOrder, Order, Reason, Refused, Stp

MARKETS: Final = {"spot": Market.SPOT, "linear": Market.LINEAR}
SIDES: Final = {"Buy": Side.BUY, "Sell": Side.SELL}
TIFS: Final = {
    "GTC": TimeInForce.GTC,
    "IOC": TimeInForce.IOC,
    "FOK": TimeInForce.FOK,
    "PostOnly": TimeInForce.GTC,
}
STPS: Final = {
    "": Stp.NONE,
    "None": Stp.NONE,
    "CancelMaker": Stp.EXPIRE_MAKER,
    "CancelTaker": Stp.EXPIRE_TAKER,
    "CancelBoth": Stp.EXPIRE_BOTH,
}
LINK_ID: Final = re.compile(r"^[A-Za-z0-9_-]{1,36}$")
BATCH_MAX: Final = {"linear": 20, "spot": 10}
SLIPPAGE_E4: Final = 500
UNSUPPORTED: Final = ("triggerPrice", "takeProfit", "stopLoss", "bboSideType", "slippageTolerance")
"""Conditional and TP/SL orders: this exchange refuses them rather than pretend."""


def category_of(args: Mapping[str, Any]) -> str:
    name = str(args.get("category", ""))
    if name not in MARKETS:
        raise Refusal(PARAMS, f"params error: category invalid: {name}")
    return name


class Trading:
    def __init__(self, core: VenueCore, late_cancel: Callable[[Order, int], bool]) -> None:
        """`late_cancel(order, now_ns)`: whether a cancel that came after the fill is accepted all the same."""
        self.core = core
        self._late_cancel = late_cancel

    def listing(self, args: Mapping[str, Any], name: str = "") -> Listing:
        name = name or category_of(args)
        listing = self.core.listing(MARKETS[name], str(args.get("symbol", "")))
        if listing is None:
            raise unknown_symbol(name)
        return listing

    # --- create -----------------------------------------------------------------------------------------------------

    def create(self, account_id: int, args: Mapping[str, Any], now_ns: int, name: str = "") -> dict[str, str]:
        listing = self.listing(args, name)
        new = self._new_order(listing, args)
        try:
            order = self.core.place(account_id, new, now_ns)
        except Refused as refused:
            raise refusal(listing, refused.reason, new.side) from None
        return ids(order)

    def _new_order(self, listing: Listing, args: Mapping[str, Any]) -> NewOrder:
        self._check_supported(args)
        side = SIDES.get(str(args.get("side")))
        kind, tif = str(args.get("orderType", "")), str(args.get("timeInForce") or "GTC")
        if side is None:
            raise Refusal(PARAMS, "params error: side invalid")
        if kind not in ("Limit", "Market"):
            raise Refusal(PARAMS, "params error: orderType invalid")
        if tif == "RPI":
            raise Refusal(110119, "RPI orders are restricted")
        if tif not in TIFS:
            raise Refusal(PARAMS, "params error: timeInForce invalid")
        client_id = str(args.get("orderLinkId") or "")
        if client_id and not LINK_ID.match(client_id):
            raise Refusal(PARAMS, "params error: orderLinkId invalid")
        stp = STPS.get(str(args.get("smpType") or ""))
        if stp is None:
            raise Refusal(PARAMS, "params error: smpType invalid")
        new = NewOrder(
            listing=listing,
            side=side,
            ord_type=OrdType.LIMIT,
            qty_lots=0,
            tif=TIFS[tif],
            client_id=client_id,
            post_only=tif == "PostOnly",
            reduce_only=is_true(args.get("reduceOnly")) and not listing.is_spot,
            stp=stp,
            wire={"type": kind, "tif": tif, "smp": str(args.get("smpType") or "None"), "fees": {}},
        )
        new.wire["last_px"] = px_text(listing, listing.last_px_ticks or listing.mark_px_ticks)
        if kind == "Limit":
            new.px_ticks = self.ticks(listing, args.get("price"))
            new.qty_lots = self.lots(listing, args.get("qty"))
        else:
            self._make_market(listing, args, new)
        return new

    def _check_supported(self, args: Mapping[str, Any]) -> None:
        for name in UNSUPPORTED:
            if str(args.get(name) or "0") not in ("0", ""):
                raise Refusal(PARAMS, f"params error: {name} is not served here")
        if int(args.get("positionIdx") or 0) != 0:
            raise Refusal(PARAMS, "position idx not match position mode")

    def _make_market(self, listing: Listing, args: Mapping[str, Any], new: NewOrder) -> None:
        """A market order is an IOC one with a bound that clients see as its price."""
        new.ord_type, new.tif, new.wire["tif"] = OrdType.MARKET, TimeInForce.IOC, "IOC"
        reference = listing.mark_px_ticks or listing.last_px_ticks
        bound = reference * (10_000 + new.side * SLIPPAGE_E4) // 10_000
        new.wire["band_px"] = px_text(listing, bound)
        unit = str(args.get("marketUnit") or "")
        if listing.is_spot and new.side is Side.BUY and unit != "baseCoin":
            amount = decimal(args.get("qty"), "qty")
            new.quote_atoms = atoms_from_text(str(amount))
            new.wire |= {"unit": "quoteCoin", "qty_text": str(args.get("qty"))}
            if new.quote_atoms <= 0:
                raise refusal(listing, Reason.QTY_FILTER)
        elif listing.is_spot and unit == "quoteCoin":
            raise Refusal(PARAMS, "params error: marketUnit quoteCoin of a sell order is not served here")
        else:
            new.wire["unit"] = "baseCoin" if listing.is_spot else ""
            new.qty_lots = self.lots(listing, args.get("qty"))

    def ticks(self, listing: Listing, text: Any) -> int:
        price = decimal(text, "price")
        try:
            return listing.ticks(price)
        except ValueError:
            raise refusal(listing, Reason.PX_FILTER) from None

    def lots(self, listing: Listing, text: Any) -> int:
        qty = decimal(text, "qty")
        try:
            lots = listing.lots(qty)
        except ValueError:
            if listing.is_spot:
                raise Refusal(170137, "Order quantity has too many decimals.") from None
            raise refusal(listing, Reason.QTY_FILTER) from None
        if lots <= 0:
            raise refusal(listing, Reason.QTY_FILTER)
        return lots

    # --- amend, cancel ----------------------------------------------------------------------------------------------

    def target(self, account_id: int, listing: Listing, args: Mapping[str, Any], now_ns: int) -> Order:
        """The order that a request names, open or closed; orderId wins over orderLinkId."""
        order_id, client_id = str(args.get("orderId") or ""), str(args.get("orderLinkId") or "")
        if not order_id and not client_id:
            raise Refusal(PARAMS, "params error: orderId or orderLinkId is required")
        number = int(order_id) if order_id.isdigit() else -1 if order_id else 0
        order = self.core.find(account_id, listing, order_id=number, client_id="" if order_id else client_id)
        # A venue that lags does not know an order it has just acknowledged.
        if order is None or not self.core.is_visible(order, now_ns):
            raise refusal(listing, Reason.UNKNOWN_ORDER)
        return order

    def amend(self, account_id: int, args: Mapping[str, Any], now_ns: int, name: str = "") -> dict[str, str]:
        listing = self.listing(args, name)
        self._check_supported(args)
        order = self.target(account_id, listing, args, now_ns)
        if not order.is_open:
            raise closed_refusal(order)
        px = self.ticks(listing, args["price"]) if args.get("price") not in (None, "") else None
        qty = self.lots(listing, args["qty"]) if args.get("qty") not in (None, "") else None
        if px is None and qty is None:
            raise refusal(listing, Reason.AMEND_SAME)
        if qty is not None and qty < order.cum_lots:
            raise refusal(listing, Reason.AMEND_QTY)
        try:
            self.core.amend(account_id, order, now_ns, px_ticks=px, qty_lots=qty)
        except Refused as refused:
            raise refusal(listing, refused.reason, order.side) from None
        return ids(order)

    def cancel(self, account_id: int, args: Mapping[str, Any], now_ns: int, name: str = "") -> dict[str, str]:
        listing = self.listing(args, name)
        order = self.target(account_id, listing, args, now_ns)
        if order.is_open:
            self.core.cancel(account_id, order, now_ns)
        elif not self._late_cancel(order, now_ns):
            raise closed_refusal(order)
        return ids(order)

    def cancel_all(self, account_id: int, args: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
        name = category_of(args)
        symbol = str(args.get("symbol") or "")
        coin = str(args.get("settleCoin") or args.get("baseCoin") or "")
        if name == "linear" and not symbol and not coin:
            raise Refusal(PARAMS, "params error: symbol, settleCoin or baseCoin is required")
        listing = self.listing(args, name) if symbol else None
        canceled: list[Order] = []
        for order in self.core.open_orders(account_id, MARKETS[name], listing):
            instrument = order.listing.instrument
            if coin and listing is None and coin not in (instrument.settle, instrument.base):
                continue
            canceled.append(self.core.cancel(account_id, order, now_ns))
        return {"list": [ids(order) for order in canceled], "success": "1"}

    # --- batches ----------------------------------------------------------------------------------------------------

    def batch(
        self, verb: str, account_id: int, args: Mapping[str, Any], now_ns: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Result and retExtInfo; items succeed and fail each for itself and are told apart by position."""
        name = category_of(args)
        requests = args.get("request")
        if not isinstance(requests, list) or not requests:
            raise Refusal(PARAMS, "params error: request is empty")
        if len(requests) > BATCH_MAX[name]:
            raise Refusal(PARAMS, f"params error: more than {BATCH_MAX[name]} orders in a batch")
        act = {"create": self.create, "amend": self.amend, "cancel": self.cancel}[verb]
        rows, codes = [], []
        for request in requests:
            row: dict[str, str] = {"category": name, "symbol": str(request.get("symbol", ""))}
            try:
                row |= act(account_id, request, now_ns, name)
                codes.append({"code": 0, "msg": "OK"})
            except Refusal as refused:
                row |= {"orderId": "", "orderLinkId": str(request.get("orderLinkId") or "")}
                codes.append({"code": refused.code, "msg": refused.msg})
            if verb == "create":
                row["createAt"] = str(now_ns // 1_000_000) if row["orderId"] else ""
            rows.append(row)
        return {"list": rows}, {"list": codes}


def ids(order: Order) -> dict[str, str]:
    return {"orderId": str(order.order_id), "orderLinkId": order.client_id}


def batch_size(args: Mapping[str, Any]) -> int:
    requests = args.get("request")
    return len(requests) if isinstance(requests, list) else 1


def is_true(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


def decimal(text: Any, name: str) -> Decimal:
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        raise Refusal(PARAMS, f"params error: {name} invalid") from None
    if not value.is_finite() or value < 0:
        raise Refusal(PARAMS, f"params error: {name} invalid")
    return value
