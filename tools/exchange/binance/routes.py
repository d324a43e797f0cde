"""Which operation a REST path or a WebSocket API method is, with its security and weight.

Source: venues/binance.md sections 2 and 5.1, read 2026-11-22.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from engine.types import Market
from tools.exchange.binance.dispatch import Route, Security
from tools.exchange.binance.params import Params

if TYPE_CHECKING:
    from tools.exchange.binance.front import BinanceFront

NONE, KEY, SIGNED, TRADE = Security.NONE, Security.KEY, Security.SIGNED, Security.TRADE
SPOT: Final = Market.SPOT
USDM: Final = Market.LINEAR
Table = dict[Any, Route]


def by_limit(steps: tuple[tuple[int, int], ...], default: int) -> Any:
    """Weight by the `limit` parameter: the first step that is not below it."""

    def weight(params: Params) -> int:
        text = params.get("limit")
        limit = int(text) if text.isdigit() else default
        return next((cost for most, cost in steps if limit <= most), steps[-1][1])

    return weight


def with_symbol(one: int, every: int) -> Any:
    return lambda params: one if params.get("symbol") else every


def trades_weight(params: Params) -> int:
    return 5 if params.get("orderId") else 20


SPOT_DEPTH: Final = by_limit(((100, 5), (500, 25), (1000, 50), (5000, 250)), 100)
USDM_DEPTH: Final = by_limit(((50, 2), (100, 5), (500, 10), (1000, 20)), 500)


def spot_rest(front: BinanceFront) -> Table:
    orders, desk = front.spot_orders, front.desks[SPOT]

    def public(op: Any, weight: Any) -> Route:
        return Route(op, SPOT, NONE, weight)

    def query(op: Any, weight: Any) -> Route:
        return Route(op, SPOT, SIGNED, weight, "query")

    def entry(op: Any, fault_op: str, weight: int = 1) -> Route:
        return Route(op, SPOT, TRADE, weight, fault_op, is_free=True)

    v3 = "/api/v3"
    return {
        ("GET", f"{v3}/ping"): public(desk.ping, 1),
        ("GET", f"{v3}/time"): public(desk.time, 1),
        ("GET", f"{v3}/exchangeInfo"): public(desk.exchange_info, 20),
        ("GET", f"{v3}/depth"): public(desk.depth, SPOT_DEPTH),
        ("GET", f"{v3}/trades"): public(desk.trades, 25),
        ("GET", f"{v3}/aggTrades"): public(desk.agg_trades, 4),
        ("GET", f"{v3}/klines"): public(desk.klines, 2),
        ("GET", f"{v3}/ticker/bookTicker"): public(desk.book_ticker, with_symbol(2, 4)),
        ("GET", f"{v3}/ticker/price"): public(desk.price_ticker, with_symbol(2, 4)),
        ("GET", f"{v3}/ticker/24hr"): public(desk.day_ticker, with_symbol(2, 80)),
        ("POST", f"{v3}/order"): entry(orders.place, "place"),
        ("POST", f"{v3}/order/test"): Route(orders.test, SPOT, TRADE, 1),
        ("DELETE", f"{v3}/order"): entry(orders.cancel, "cancel"),
        ("POST", f"{v3}/order/cancelReplace"): entry(orders.cancel_replace, "place"),
        ("PUT", f"{v3}/order/amend/keepPriority"): entry(orders.amend, "amend", 4),
        ("DELETE", f"{v3}/openOrders"): entry(orders.cancel_open, "cancel"),
        ("GET", f"{v3}/order"): query(orders.query, 4),
        ("GET", f"{v3}/openOrders"): query(orders.open_orders, with_symbol(6, 80)),
        ("GET", f"{v3}/allOrders"): query(orders.all_orders, 20),
        ("GET", f"{v3}/myTrades"): query(orders.my_trades, trades_weight),
        ("GET", f"{v3}/account"): query(orders.account, 20),
        ("GET", f"{v3}/account/commission"): query(orders.commission, 20),
        ("GET", f"{v3}/rateLimit/order"): query(front.order_counts, 40),
        ("GET", "/sapi/v1/account/apiRestrictions"): query(front.api_restrictions, 1),
        ("GET", "/sapi/v1/account/status"): query(lambda request: {"data": "Normal"}, 1),
        ("GET", "/sapi/v1/system/status"): public(lambda request: {"status": 0, "msg": "normal"}, 1),
    }


def usdm_rest(front: BinanceFront) -> Table:
    return _usdm_public(front) | _usdm_orders(front) | _usdm_account(front)


def _usdm_public(front: BinanceFront) -> Table:
    desk = front.desks[USDM]

    def public(op: Any, weight: Any) -> Route:
        return Route(op, USDM, NONE, weight)

    v1 = "/fapi/v1"
    return {
        ("GET", f"{v1}/ping"): public(desk.ping, 1),
        ("GET", f"{v1}/time"): public(desk.time, 1),
        ("GET", f"{v1}/exchangeInfo"): public(desk.exchange_info, 1),
        ("GET", f"{v1}/depth"): public(desk.depth, USDM_DEPTH),
        ("GET", f"{v1}/trades"): public(desk.trades, 5),
        ("GET", f"{v1}/aggTrades"): public(desk.agg_trades, 20),
        ("GET", f"{v1}/klines"): public(desk.klines, 5),
        ("GET", f"{v1}/ticker/bookTicker"): public(desk.book_ticker, with_symbol(2, 5)),
        ("GET", f"{v1}/ticker/price"): public(desk.price_ticker, with_symbol(1, 2)),
        ("GET", "/fapi/v2/ticker/price"): public(desk.price_ticker, with_symbol(1, 2)),
        ("GET", f"{v1}/ticker/24hr"): public(desk.day_ticker, with_symbol(1, 40)),
        ("GET", f"{v1}/premiumIndex"): public(desk.premium_index, with_symbol(1, 10)),
        ("GET", f"{v1}/fundingRate"): public(desk.funding_rate, 1),
        ("GET", f"{v1}/fundingInfo"): public(desk.funding_info, 1),
        ("GET", f"{v1}/openInterest"): public(desk.open_interest, 1),
    }


def _usdm_orders(front: BinanceFront) -> Table:
    orders = front.usdm_orders

    def query(op: Any, weight: Any) -> Route:
        return Route(op, USDM, SIGNED, weight, "query")

    def entry(op: Any, fault_op: str, weight: int = 1) -> Route:
        return Route(op, USDM, TRADE, weight, fault_op)

    v1 = "/fapi/v1"
    return {
        ("POST", f"{v1}/order"): entry(orders.place, "place", 0),
        ("POST", f"{v1}/order/test"): Route(orders.test, USDM, TRADE, 1),
        ("PUT", f"{v1}/order"): entry(orders.modify, "amend", 0),
        ("DELETE", f"{v1}/order"): entry(orders.cancel, "cancel"),
        ("POST", f"{v1}/batchOrders"): entry(orders.batch_place, "place", 5),
        ("PUT", f"{v1}/batchOrders"): entry(orders.batch_modify, "amend", 5),
        ("DELETE", f"{v1}/batchOrders"): entry(orders.batch_cancel, "cancel"),
        ("DELETE", f"{v1}/allOpenOrders"): entry(orders.cancel_all, "cancel"),
        ("POST", f"{v1}/countdownCancelAll"): entry(orders.countdown, "other", 10),
        ("GET", f"{v1}/order"): query(orders.query, 1),
        ("GET", f"{v1}/openOrder"): query(orders.open_order, 1),
        ("GET", f"{v1}/openOrders"): query(orders.open_orders, with_symbol(1, 40)),
        ("GET", f"{v1}/allOrders"): query(orders.all_orders, 5),
        ("GET", f"{v1}/userTrades"): query(orders.user_trades, 5),
        ("GET", f"{v1}/rateLimit/order"): query(front.order_counts, 1),
        ("GET", f"{v1}/openAlgoOrders"): query(lambda request: [], 1),
    }


def _usdm_account(front: BinanceFront) -> Table:
    account = front.usdm_account

    def query(op: Any, weight: Any = 5) -> Route:
        return Route(op, USDM, SIGNED, weight, "query")

    def setting(op: Any) -> Route:
        return Route(op, USDM, TRADE, 1)

    def stream(op: Any) -> Route:
        return Route(op, USDM, KEY, 1)

    v1 = "/fapi/v1"
    return {
        ("GET", "/fapi/v3/account"): query(account.account),
        ("GET", "/fapi/v2/account"): query(account.account_v2),
        ("GET", "/fapi/v3/balance"): query(account.balance),
        ("GET", "/fapi/v2/balance"): query(account.balance),
        ("GET", "/fapi/v3/positionRisk"): query(account.position_risk),
        ("GET", "/fapi/v2/positionRisk"): query(account.position_risk_v2),
        ("GET", f"{v1}/accountConfig"): query(account.account_config),
        ("GET", f"{v1}/symbolConfig"): query(account.symbol_config),
        ("GET", f"{v1}/leverageBracket"): query(account.leverage_bracket, 1),
        ("GET", f"{v1}/commissionRate"): query(account.commission_rate, 20),
        ("GET", f"{v1}/positionSide/dual"): query(account.position_mode, 30),
        ("POST", f"{v1}/positionSide/dual"): setting(account.set_position_mode),
        ("GET", f"{v1}/multiAssetsMargin"): query(account.multi_assets, 30),
        ("POST", f"{v1}/multiAssetsMargin"): setting(account.set_multi_assets),
        ("POST", f"{v1}/leverage"): setting(account.set_leverage),
        ("POST", f"{v1}/marginType"): setting(account.set_margin_type),
        ("POST", f"{v1}/listenKey"): stream(front.listen_key_start),
        ("PUT", f"{v1}/listenKey"): stream(front.listen_key_renew),
        ("DELETE", f"{v1}/listenKey"): stream(front.listen_key_close),
    }


def spot_methods(front: BinanceFront) -> Table:
    orders, desk = front.spot_orders, front.desks[SPOT]

    def query(op: Any, weight: Any) -> Route:
        return Route(op, SPOT, SIGNED, weight, "query")

    def entry(op: Any, fault_op: str, weight: int = 1) -> Route:
        return Route(op, SPOT, TRADE, weight, fault_op, is_free=True)

    return {
        "ping": Route(desk.ping, SPOT),
        "time": Route(desk.time, SPOT),
        "exchangeInfo": Route(desk.exchange_info, SPOT, weight=20),
        "depth": Route(desk.depth, SPOT, weight=SPOT_DEPTH),
        "trades.recent": Route(desk.trades, SPOT, weight=25),
        "trades.aggregate": Route(desk.agg_trades, SPOT, weight=4),
        "klines": Route(desk.klines, SPOT, weight=2),
        "ticker.book": Route(desk.book_ticker, SPOT, weight=with_symbol(2, 4)),
        "ticker.price": Route(desk.price_ticker, SPOT, weight=with_symbol(2, 4)),
        "ticker.24hr": Route(desk.day_ticker, SPOT, weight=with_symbol(2, 80)),
        "order.place": entry(orders.place, "place"),
        "order.test": Route(orders.test, SPOT, TRADE, 1),
        "order.status": query(orders.query, 4),
        "order.cancel": entry(orders.cancel, "cancel"),
        "order.cancelReplace": entry(orders.cancel_replace, "place"),
        "order.amend.keepPriority": entry(orders.amend, "amend", 4),
        "openOrders.status": query(orders.open_orders, with_symbol(6, 80)),
        "openOrders.cancelAll": entry(orders.cancel_open, "cancel"),
        "allOrders": query(orders.all_orders, 20),
        "myTrades": query(orders.my_trades, trades_weight),
        "account.status": query(orders.account, 20),
        "account.commission": query(orders.commission, 20),
        "account.rateLimits.orders": query(front.order_counts, 40),
    }


def usdm_methods(front: BinanceFront) -> Table:
    orders, account, desk = front.usdm_orders, front.usdm_account, front.desks[USDM]

    def query(op: Any, weight: int = 5) -> Route:
        return Route(op, USDM, SIGNED, weight, "query")

    def entry(op: Any, fault_op: str, weight: int) -> Route:
        return Route(op, USDM, TRADE, weight, fault_op)

    return {
        "ping": Route(desk.ping, USDM),
        "time": Route(desk.time, USDM),
        "depth": Route(desk.depth, USDM, weight=USDM_DEPTH),
        "ticker.price": Route(desk.price_ticker, USDM, weight=with_symbol(1, 2)),
        "ticker.book": Route(desk.book_ticker, USDM, weight=with_symbol(2, 5)),
        "order.place": entry(orders.place, "place", 0),
        "order.modify": entry(orders.modify, "amend", 0),
        "order.cancel": entry(orders.cancel, "cancel", 1),
        "order.status": query(orders.query, 1),
        "account.balance": query(account.balance),
        "v2/account.balance": query(account.balance),
        "account.position": query(account.position_risk_v2),
        "v2/account.position": query(account.position_risk),
        "account.status": query(account.account_v2),
        "v2/account.status": query(account.account),
        "userDataStream.start": Route(front.listen_key_start, USDM, KEY),
        "userDataStream.ping": Route(front.listen_key_renew, USDM, KEY),
        "userDataStream.stop": Route(front.listen_key_close, USDM, KEY),
    }
