"""USD-M orders: place, modify, cancel, batches, countdown, and the queries about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from engine.types import Market, OrdStatus, OrdType, TimeInForce
from tools.exchange.binance import render
from tools.exchange.binance.errors import ApiError, missing, usdm_error
from tools.exchange.binance.filters import usdm_lots, usdm_ticks
from tools.exchange.binance.info import min_notional_text
from tools.exchange.binance.params import Params
from tools.exchange.binance.request import NS_PER_MS, Ids, Request, need_listing, some_listing
from tools.exchange.binance.spot_orders import choose_fills, limit_of, parse_side, parse_stp, time_range
from tools.exchange.core import VenueCore
from tools.exchange.model import Listing, NewOrder, Order, Reason, Refused

Json = dict[str, Any]
WEEK_MS: Final = 7 * 86_400_000
GTD_LEAST_MS: Final = 600_000
MISS_KEEP_NS: Final = 3 * 86_400 * 1_000_000_000
"""Canceled and expired orders without a fill vanish from queries after three days."""
TIFS: Final = {
    "GTC": TimeInForce.GTC,
    "IOC": TimeInForce.IOC,
    "FOK": TimeInForce.FOK,
    "GTX": TimeInForce.GTC,
    "GTD": TimeInForce.GTD,
}
CONDITIONAL: Final = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")


class UsdmOrders:
    def __init__(self, core: VenueCore, ids: Ids) -> None:
        self.core = core
        self.ids = ids
        self.countdowns: dict[tuple[int, int], int] = {}  # (account, listing): due

    # --- entry ------------------------------------------------------------------------------------------------------

    def place(self, request: Request) -> Json:
        new = self._parse(request, request.params)
        request.count_order()
        return render.usdm_order(self._place(request, new))

    def test(self, request: Request) -> Json:
        self._parse(request, request.params)
        return {}

    def batch_place(self, request: Request) -> list[Json]:
        def one(params: Params) -> Json:
            new = self._parse(request, params)
            request.count_order()
            return render.usdm_order(self._place(request, new))

        return self._batch(request, "batchOrders", 5, one)

    def _batch(self, request: Request, name: str, most: int, one: Callable[[Params], Json]) -> list[Json]:
        rows = request.params.rows(name)
        if not rows:
            raise missing(name)
        if len(rows) > most or not all(isinstance(row, dict) for row in rows):
            raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
        answers: list[Json] = []
        for row in rows:
            try:
                answers.append(one(request.params.sub(row)))
            except ApiError as error:
                answers.append({"code": error.code, "msg": error.msg})
        return answers

    def _place(self, request: Request, new: NewOrder) -> Order:
        try:
            return self.core.place(request.account_id, new, request.now_ns)
        except Refused as refused:
            raise self._error(refused, new.listing) from None

    def _error(self, refused: Refused, listing: Listing) -> ApiError:
        return usdm_error(refused, min_notional_text(listing))

    def _parse(self, request: Request, params: Params) -> NewOrder:
        listing = self._listing(params)
        kind = params.need("type")
        if kind in CONDITIONAL:
            raise ApiError(
                -4120, "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
            )
        if kind not in ("LIMIT", "MARKET"):
            raise ApiError(-1116, "Invalid orderType.")
        is_market = kind == "MARKET"
        new = NewOrder(listing, parse_side(params), OrdType.MARKET if is_market else OrdType.LIMIT, 0)
        new.client_id = params.client_id("newClientOrderId") or self.ids.text()
        new.stp = parse_stp(params)
        new.reduce_only = params.flag("reduceOnly")
        self._check_position_side(request, params, new)
        if params.get("closePosition", "false").lower() == "true":
            raise ApiError(-4136, "Target strategy invalid for orderType MARKET,closePosition true")
        new.qty_lots = usdm_lots(listing, params.need_decimal("quantity"))
        if is_market:
            for name in ("price", "timeInForce"):
                if params.get(name) and name == "price":
                    raise ApiError(-1106, "Parameter 'price' sent when not required.")
            return new
        self._parse_limit(request, params, new)
        return new

    def _parse_limit(self, request: Request, params: Params, new: NewOrder) -> None:
        tif = params.need("timeInForce")
        if tif not in TIFS:
            raise ApiError(-1115, "Invalid timeInForce.")
        new.tif = TIFS[tif]
        new.post_only = tif == "GTX"
        if tif == "GTD":
            till = params.integer("goodTillDate")
            if till < request.now_ms + GTD_LEAST_MS:
                raise ApiError(
                    -4211, "timeInForce GTD must have goodTillDate larger than current time plus 600 seconds."
                )
            new.expire_ns = till * NS_PER_MS
        match_mode = params.get("priceMatch")
        if match_mode and match_mode != "NONE":
            if params.get("price"):
                raise ApiError(-5037, "Invalid price match: price and priceMatch may not both be sent.")
            new.px_ticks = self._matched_px(new, match_mode)
            new.wire["price_match"] = match_mode
        else:
            new.px_ticks = usdm_ticks(new.listing, params.need_decimal("price"))

    def _matched_px(self, new: NewOrder, mode: str) -> int:
        name, _, depth = mode.partition("_")
        if name not in ("OPPONENT", "QUEUE") or depth not in ("", "5", "10", "20"):
            raise ApiError(-5037, "Invalid price match.")
        side = new.side.opposite if name == "OPPONENT" else new.side
        wanted = int(depth or 1)
        levels = self.core.depth(new.listing, side, wanted)
        if len(levels) < wanted:
            raise ApiError(-5038, "The priceMatch mode is not available: the book is too thin.")
        return levels[-1][0]

    def _check_position_side(self, request: Request, params: Params, new: NewOrder) -> None:
        # One-way mode only: hedge mode is refused where it is switched on.
        if params.get("positionSide", "BOTH") != "BOTH":
            raise ApiError(-4061, "Order's position side does not match user's setting.")

    def _listing(self, params: Params) -> Listing:
        listing = self.core.listing(Market.LINEAR, params.need("symbol"))
        if listing is None:
            raise ApiError(-1121, "Invalid symbol.")
        return listing

    def modify(self, request: Request) -> Json:
        request.count_order()
        return self._modify(request, request.params)

    def batch_modify(self, request: Request) -> list[Json]:
        def one(params: Params) -> Json:
            request.count_order()
            return self._modify(request, params)

        return self._batch(request, "batchOrders", 5, one)

    def _modify(self, request: Request, params: Params) -> Json:
        listing = self._listing(params)
        order = self._find(request, params, listing, -2013, "Order does not exist.")
        if params.get("reduceOnly"):
            raise ApiError(-5047, "reduceOnly is not supported in modify.")
        if parse_side(params) is not order.side:
            raise ApiError(-5024, "Symbol or side does not match the order.")
        if order.ord_type is not OrdType.LIMIT:
            raise ApiError(-5025, "Only limit order is supported.")
        lots = usdm_lots(listing, params.need_decimal("quantity"))
        if params.get("priceMatch", "NONE") != "NONE":
            new = NewOrder(listing, order.side, OrdType.LIMIT, lots)
            ticks = self._matched_px(new, params.get("priceMatch"))
        else:
            ticks = usdm_ticks(listing, params.need_decimal("price"))
        modify_id = params.integer("modifyId", 0)
        try:
            note: Json = {"modify_id": modify_id}
            self.core.amend(request.account_id, order, request.now_ns, px_ticks=ticks, qty_lots=lots, note=note)
        except Refused as refused:
            if refused.reason is Reason.UNKNOWN_ORDER:
                raise ApiError(-2013, "Order does not exist.") from None
            raise self._error(refused, listing) from None
        row = render.usdm_order(order)
        if modify_id:
            row["modifyId"] = modify_id
        return row

    def cancel(self, request: Request) -> Json:
        return self._cancel(request, request.params)

    def batch_cancel(self, request: Request) -> list[Json]:
        params = request.params
        symbol = params.need("symbol")
        # The lower-case names are older and still taken: clients send them.
        ids = params.rows("orderIdList") or params.rows("orderidlist")
        clients = params.rows("origClientOrderIdList") or params.rows("origclientorderidlist")
        if bool(ids) == bool(clients) or len(ids) + len(clients) > 10:
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        rows = [{"symbol": symbol, "orderId": value} for value in ids]
        rows += [{"symbol": symbol, "origClientOrderId": value} for value in clients]
        answers: list[Json] = []
        for row in rows:
            try:
                answers.append(self._cancel(request, params.sub(row)))
            except ApiError as error:
                answers.append({"code": error.code, "msg": error.msg})
        return answers

    def _cancel(self, request: Request, params: Params) -> Json:
        order = self._find(request, params, self._listing(params), -2011, "Unknown order sent.")
        try:
            self.core.cancel(request.account_id, order, request.now_ns)
        except Refused:
            raise ApiError(-2011, "Unknown order sent.") from None
        return render.usdm_order(order)

    def _find(self, request: Request, params: Params, listing: Listing, code: int, text: str) -> Order:
        order_id, client_id = params.integer("orderId", 0), params.client_id("origClientOrderId")
        if not order_id and not client_id:
            raise ApiError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
        # Where both are sent the order id wins on this market.
        order = self.core.find(request.account_id, listing, order_id=order_id, client_id="" if order_id else client_id)
        if order is None:
            raise ApiError(code, text)
        return order

    def cancel_all(self, request: Request) -> Json:
        listing = need_listing(self.core, request)
        self.core.cancel_all(request.account_id, listing, request.now_ns)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    # --- dead man's switch ------------------------------------------------------------------------------------------

    def countdown(self, request: Request) -> Json:
        listing = need_listing(self.core, request)
        after_ms = request.params.integer("countdownTime")
        key = (request.account_id, listing.index)
        if after_ms > 0:
            self.countdowns[key] = request.now_ns + after_ms * NS_PER_MS
        else:
            self.countdowns.pop(key, None)
        return {"symbol": listing.symbol, "countdownTime": str(after_ms)}

    def next_countdown_ns(self) -> int:
        return min(self.countdowns.values(), default=2**63 - 1)

    def run_countdowns(self, now_ns: int) -> None:
        for key in [key for key, due_ns in self.countdowns.items() if due_ns <= now_ns]:
            del self.countdowns[key]
            account_id, index = key
            self.core.cancel_all(account_id, self.core.listings[index], now_ns, reason=Reason.COUNTDOWN)

    # --- queries ----------------------------------------------------------------------------------------------------

    def _is_kept(self, order: Order, now_ns: int) -> bool:
        is_gone = order.status in (OrdStatus.CANCELED, OrdStatus.EXPIRED) and order.cum_lots == 0
        return self.core.is_visible(order, now_ns) and not (is_gone and now_ns - order.updated_ns > MISS_KEEP_NS)

    def query(self, request: Request) -> Json:
        order = self._find(request, request.params, need_listing(self.core, request), -2013, "Order does not exist.")
        if not self._is_kept(order, request.now_ns):
            raise ApiError(-2013, "Order does not exist.")
        return render.usdm_query(order)

    def open_order(self, request: Request) -> Json:
        order = self._find(request, request.params, need_listing(self.core, request), -2013, "Order does not exist.")
        if not order.is_open or not self.core.is_visible(order, request.now_ns):
            raise ApiError(-2013, "Order does not exist.")
        return render.usdm_query(order)

    def open_orders(self, request: Request) -> list[Json]:
        listing = some_listing(self.core, request)
        orders = self.core.open_orders(request.account_id, Market.LINEAR, listing)
        return [render.usdm_query(order) for order in orders if self.core.is_visible(order, request.now_ns)]

    def all_orders(self, request: Request) -> list[Json]:
        params, listing = request.params, need_listing(self.core, request)
        first, limit = params.integer("orderId", 0), limit_of(params)
        start_ns, end_ns = time_range(params, WEEK_MS)
        orders = [
            order
            for order in self.core.orders(request.account_id, Market.LINEAR, listing)
            if order.order_id >= first
            and start_ns <= order.created_ns <= end_ns
            and self._is_kept(order, request.now_ns)
        ]
        chosen = orders[:limit] if first or params.get("startTime") else orders[-limit:]
        return [render.usdm_query(order) for order in chosen]

    def user_trades(self, request: Request) -> list[Json]:
        listing = some_listing(self.core, request)
        fills = self.core.fills(request.account_id, Market.LINEAR, listing)
        return [render.usdm_trade(fill) for fill in choose_fills(self.core, request, fills, WEEK_MS)]
