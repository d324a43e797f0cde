"""Spot orders: place, cancel, replace, amend, and the queries about them. The same for REST and WebSocket API."""

from __future__ import annotations

from typing import Any, Final

from engine.types import Market, OrdStatus, OrdType, Side, TimeInForce
from tools.exchange.binance import render
from tools.exchange.binance.errors import ApiError, spot_error
from tools.exchange.binance.filters import spot_lots, spot_ticks
from tools.exchange.binance.params import Params
from tools.exchange.binance.request import NS_PER_MS, Ids, Request, need_listing, some_listing
from tools.exchange.core import VenueCore
from tools.exchange.model import ATOMS, Fill, Listing, NewOrder, Order, Reason, Refused, Stp

TIFS: Final = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}
STPS: Final = {name: stp for stp, name in render.STP.items()}
DAY_MS: Final = 86_400_000
Json = dict[str, Any]


class SpotOrders:
    def __init__(self, core: VenueCore, ids: Ids) -> None:
        self.core = core
        self.ids = ids

    # --- entry ------------------------------------------------------------------------------------------------------

    def place(self, request: Request) -> Json:
        new = self._parse(request)
        request.count_order()
        return self._place(request, new)

    def test(self, request: Request) -> Json:
        self._parse(request)
        return {}

    def _place(self, request: Request, new: NewOrder) -> Json:
        account = self.core.accounts[request.account_id]
        first_fill = len(account.fills)
        try:
            order = self.core.place(request.account_id, new, request.now_ns)
        except Refused as refused:
            raise spot_error(refused) from None
        match new.wire["response"]:
            case "ACK":
                return render.spot_ack(order, request.now_ms)
            case "RESULT":
                return render.spot_result(order, request.now_ms)
        fills = [fill for fill in account.fills[first_fill:] if fill.order is order]
        return render.spot_full(order, fills, request.now_ms)

    def _parse(self, request: Request) -> NewOrder:
        params, listing = request.params, need_listing(self.core, request)
        side = parse_side(params)
        kind = params.need("type")
        if kind not in ("LIMIT", "LIMIT_MAKER", "MARKET"):
            raise ApiError(-1116, "Invalid orderType.")
        is_market = kind == "MARKET"
        new = NewOrder(listing, side, OrdType.MARKET if is_market else OrdType.LIMIT, 0)
        new.post_only = kind == "LIMIT_MAKER"
        new.client_id = params.client_id("newClientOrderId") or self.ids.text()
        new.stp = parse_stp(params)
        default = "FULL" if kind in ("LIMIT", "MARKET") else "ACK"
        bad_type = ApiError(-1128, "Combination of optional parameters invalid.")
        new.wire = {"response": params.choice("newOrderRespType", ("ACK", "RESULT", "FULL"), bad_type, default)}
        self._parse_amounts(params, listing, new, kind)
        return new

    def _parse_amounts(self, params: Params, listing: Listing, new: NewOrder, kind: str) -> None:
        if kind == "LIMIT":
            tif = params.need("timeInForce")
            if tif not in TIFS:
                raise ApiError(-1115, "Invalid timeInForce.")
            new.tif = TIFS[tif]
        elif params.get("timeInForce"):
            raise ApiError(-1106, "Parameter 'timeInForce' sent when not required.")
        quote = params.decimal("quoteOrderQty")
        if quote is not None:
            if kind != "MARKET" or params.get("quantity"):
                raise ApiError(-1106, "Parameter 'quoteOrderQty' sent when not required.")
            atoms = quote * ATOMS
            if atoms != int(atoms):
                raise ApiError(-1111, "Parameter 'quoteOrderQty' has too much precision.")
            new.quote_atoms = int(atoms)
        else:
            new.qty_lots = spot_lots(listing, params.need_decimal("quantity"), is_market=kind == "MARKET")
        if kind == "MARKET":
            if params.get("price"):
                raise ApiError(-1106, "Parameter 'price' sent when not required.")
        else:
            new.px_ticks = spot_ticks(listing, params.need_decimal("price"))

    def cancel(self, request: Request) -> Json:
        params = request.params
        order = self._target(request, "orderId", "origClientOrderId")
        cancel_id = params.client_id("newClientOrderId") or self.ids.text()
        restriction = params.get("cancelRestrictions")
        expected = {"ONLY_NEW": OrdStatus.NEW, "ONLY_PARTIALLY_FILLED": OrdStatus.PARTIALLY_FILLED}.get(restriction)
        if expected is not None and order.is_open and order.status is not expected:
            raise spot_error(Refused(Reason.CANCEL_RESTRICTION))
        return self._cancel(request, order, cancel_id)

    def _cancel(self, request: Request, order: Order, cancel_id: str) -> Json:
        try:
            self.core.cancel(request.account_id, order, request.now_ns, note={"cancel_id": cancel_id})
        except Refused as refused:
            raise spot_error(refused) from None
        order.wire["shown_id"] = cancel_id
        return render.spot_canceled(order, cancel_id, request.now_ms)

    def cancel_replace(self, request: Request) -> Json:
        """Cancel, then place: not atomic, each half answers for itself."""
        params = request.params
        mode = params.need("cancelReplaceMode")
        if mode not in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
            raise ApiError(-1100, "Illegal characters found in parameter 'cancelReplaceMode'.")
        new = self._parse(request)
        request.count_order()
        answers: Json = {"cancelResult": "SUCCESS", "newOrderResult": "NOT_ATTEMPTED"}
        answers |= {"cancelResponse": None, "newOrderResponse": None}
        try:
            order = self._target(request, "cancelOrderId", "cancelOrigClientOrderId")
            cancel_id = params.client_id("cancelNewClientOrderId") or self.ids.text()
            answers["cancelResponse"] = self._cancel(request, order, cancel_id)
        except ApiError as error:
            answers |= {"cancelResult": "FAILURE", "cancelResponse": {"code": error.code, "msg": error.msg}}
        if answers["cancelResult"] == "SUCCESS" or mode == "ALLOW_FAILURE":
            try:
                answers |= {"newOrderResponse": self._place(request, new), "newOrderResult": "SUCCESS"}
            except ApiError as error:
                answers |= {"newOrderResult": "FAILURE", "newOrderResponse": {"code": error.code, "msg": error.msg}}
        results = (answers["cancelResult"], answers["newOrderResult"])
        if results == ("SUCCESS", "SUCCESS"):
            return answers
        if "SUCCESS" in results:
            raise ApiError(-2021, "Order cancel-replace partially failed.", 409, answers)
        raise ApiError(-2022, "Order cancel-replace failed.", 400, answers)

    def amend(self, request: Request) -> Json:
        """Keep priority: the quantity only goes down."""
        params = request.params
        order = self._target(request, "orderId", "origClientOrderId")
        lots = spot_lots(order.listing, params.need_decimal("newQty"))
        new_id = params.client_id("newClientOrderId") or self.ids.text()
        if order.is_open and not order.cum_lots < lots < order.qty_lots:
            raise spot_error(Refused(Reason.AMEND_SAME if lots == order.qty_lots else Reason.AMEND_QTY))
        account = self.core.accounts[request.account_id]
        holder = account.by_client_id.get((order.listing.index, new_id))
        if new_id != order.client_id and holder is not None and holder.is_open:
            raise spot_error(Refused(Reason.DUPLICATE_ID))
        original_id = order.client_id
        try:
            note: Json = {"shown_id": new_id, "original_id": original_id}
            self.core.amend(request.account_id, order, request.now_ns, qty_lots=lots, note=note)
        except Refused as refused:
            raise spot_error(refused) from None
        order.client_id = new_id
        account.by_client_id[order.listing.index, new_id] = order
        return render.spot_amended(order, original_id, order.last_exec_id, request.now_ms)

    def cancel_open(self, request: Request) -> list[Json]:
        """All open orders of a symbol; none open is an error here."""
        listing = need_listing(self.core, request)
        orders = self.core.open_orders(request.account_id, Market.SPOT, listing)
        if not orders:
            raise spot_error(Refused(Reason.UNKNOWN_ORDER))
        self.core.begin(request.now_ns)
        rows = [self._cancel(request, order, self.ids.text()) for order in orders]
        self.core.commit()
        return rows

    def _target(self, request: Request, id_name: str, client_name: str) -> Order:
        params, listing = request.params, need_listing(self.core, request)
        order_id = params.integer(id_name, 0)
        client_id = params.client_id(client_name)
        if not order_id and not client_id:
            raise ApiError(-1102, f"Param '{client_name}' or '{id_name}' must be sent, but both were empty/null!")
        try:
            order = self.core.find(request.account_id, listing, order_id=order_id, client_id=client_id)
        except Refused as refused:
            raise spot_error(refused) from None
        if order is None:
            raise spot_error(Refused(Reason.UNKNOWN_ORDER))
        return order

    # --- queries ----------------------------------------------------------------------------------------------------

    def query(self, request: Request) -> Json:
        try:
            order = self._target(request, "orderId", "origClientOrderId")
        except ApiError as error:
            raise ApiError(-2013, "Order does not exist.") if error.code == -2011 else error from None
        if not self.core.is_visible(order, request.now_ns):
            raise ApiError(-2013, "Order does not exist.")
        return render.spot_query(order)

    def open_orders(self, request: Request) -> list[Json]:
        listing = some_listing(self.core, request)
        orders = self.core.open_orders(request.account_id, Market.SPOT, listing)
        return [render.spot_query(order) for order in orders if self.core.is_visible(order, request.now_ns)]

    def all_orders(self, request: Request) -> list[Json]:
        params, listing = request.params, need_listing(self.core, request)
        first, limit = params.integer("orderId", 0), limit_of(params)
        start_ns, end_ns = time_range(params, DAY_MS)
        orders = [
            order
            for order in self.core.orders(request.account_id, Market.SPOT, listing)
            if order.order_id >= first
            and start_ns <= order.created_ns <= end_ns
            and self.core.is_visible(order, request.now_ns)
        ]
        chosen = orders[:limit] if first or params.get("startTime") else orders[-limit:]
        return [render.spot_query(order) for order in chosen]

    def my_trades(self, request: Request) -> list[Json]:
        listing = need_listing(self.core, request)
        fills = self.core.fills(request.account_id, Market.SPOT, listing)
        return [render.spot_trade(fill) for fill in choose_fills(self.core, request, fills, DAY_MS)]

    def account(self, request: Request) -> Json:
        account = self.core.accounts[request.account_id]
        omits_zero = request.params.flag("omitZeroBalances")
        listing = next((each for each in self.core.listings if each.is_spot), None)
        maker, taker = (listing.maker_fee_e8, listing.taker_fee_e8) if listing else (0, 0)
        return {
            "makerCommission": maker // 10_000,
            "takerCommission": taker // 10_000,
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": {
                "maker": render.money(maker),
                "taker": render.money(taker),
                "buyer": render.SPOT_ZERO,
                "seller": render.SPOT_ZERO,
            },
            "canTrade": True,
            "canWithdraw": False,
            "canDeposit": False,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": account.updated_ns // NS_PER_MS,
            "accountType": "SPOT",
            "balances": [
                {"asset": asset, "free": render.money(balance.free), "locked": render.money(balance.locked)}
                for asset, balance in account.spot.items()
                if not omits_zero or balance.total
            ],
            "permissions": ["SPOT"],
            "uid": request.account_id,
        }

    def commission(self, request: Request) -> Json:
        listing = need_listing(self.core, request)
        zero = {
            "maker": render.SPOT_ZERO,
            "taker": render.SPOT_ZERO,
            "buyer": render.SPOT_ZERO,
            "seller": render.SPOT_ZERO,
        }
        rates = zero | {"maker": render.money(listing.maker_fee_e8), "taker": render.money(listing.taker_fee_e8)}
        discount = {"enabledForAccount": False, "enabledForSymbol": False, "discountAsset": "BNB", "discount": "0.75"}
        return {
            "symbol": listing.symbol,
            "standardCommission": rates,
            "specialCommission": zero,
            "taxCommission": zero,
            "discount": discount,
        }


def parse_side(params: Params) -> Side:
    text = params.need("side")
    if text not in ("BUY", "SELL"):
        raise ApiError(-1117, "Invalid side.")
    return Side.BUY if text == "BUY" else Side.SELL


def parse_stp(params: Params) -> Stp:
    text = params.get("selfTradePreventionMode", "EXPIRE_MAKER")
    if text not in STPS:
        raise ApiError(-1013, "This symbol does not allow the specified self-trade prevention mode.")
    return STPS[text]


def limit_of(params: Params, default: int = 500, most: int = 1000) -> int:
    limit = params.integer("limit", default)
    if not 1 <= limit <= most:
        raise ApiError(-1130, "Data sent for parameter 'limit' is not valid.")
    return limit


def time_range(params: Params, longest_ms: int) -> tuple[int, int]:
    """(from, to) in ns, both included."""
    start, end = params.integer("startTime", 0), params.integer("endTime", 2**43)
    if start > end:
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    if params.get("startTime") and params.get("endTime") and end - start > longest_ms:
        raise ApiError(-1127, f"More than {longest_ms // 3_600_000} hours between startTime and endTime.")
    return start * NS_PER_MS, end * NS_PER_MS + NS_PER_MS - 1


def choose_fills(core: VenueCore, request: Request, fills: list[Fill], longest_ms: int) -> list[Fill]:
    """myTrades' rules: by order, from an id upwards, or by time; without any of these the newest."""
    params = request.params
    if params.get("fromId") and (params.get("startTime") or params.get("endTime")):
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    order_id, limit = params.integer("orderId", 0), limit_of(params)
    from_id = params.integer("fromId", -1)
    start_ns, end_ns = time_range(params, longest_ms)
    chosen = [
        fill
        for fill in fills
        if (not order_id or fill.order.order_id == order_id)
        and fill.trade_id >= from_id
        and start_ns <= fill.ts_ns <= end_ns
        and core.is_visible(fill, request.now_ns)
    ]
    return chosen[:limit] if from_id >= 0 or params.get("startTime") else chosen[-limit:]
