"""REST routes of Bybit v5: which path needs a key, which limit it counts against, and what it answers.

Handlers return the `result` of the envelope, or raise Refusal. Source: bybit-exchange/docs, snapshot 2026-07-24.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from engine.types import OrdStatus
from tools.exchange.account import Account
from tools.exchange.bybit.codes import PARAMS, Refusal
from tools.exchange.bybit.history import INTERVALS_MS, History
from tools.exchange.bybit.private import PrivateStreams
from tools.exchange.bybit.public import PublicStreams, next_funding_ms
from tools.exchange.bybit.rows import execution_row, instrument_row, order_row, position_row, rate_text, wallet_row
from tools.exchange.bybit.trading import MARKETS, Trading, category_of
from tools.exchange.core import ApiKey, VenueCore
from tools.exchange.model import Listing, Order, Refused

MS: Final = 1_000_000
DAY_NS: Final = 86_400_000 * MS
CLOSED_KEPT: Final = 500
"""Closed orders that `realtime` still shows with openOnly=1."""

Args = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, authenticated where its route asks for it."""

    args: Args
    key: ApiKey | None
    now_ns: int
    clock_ns: int

    @property
    def account_id(self) -> int:
        assert self.key is not None, "route without authentication asked for the account"
        return self.key.account_id


Handler = Callable[[Call], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """`group` names the limit (with the category where limits differ by it); empty means public."""

    handler: Handler
    group: str = ""
    by_category: bool = False
    op: str = "query"  # what faults call it
    verb: str = ""  # order routes: the verb of a batch

    @property
    def is_public(self) -> bool:
        return not self.group


class Rest:
    def __init__(
        self,
        core: VenueCore,
        trading: Trading,
        public: Mapping[str, PublicStreams],
        private: PrivateStreams,
        history: History,
    ) -> None:
        self.core = core
        self.trading = trading
        self.public = public
        self.private = private
        self.history = history
        self.routes: dict[tuple[str, str], Route] = self._market_routes() | self._private_routes()

    def _market_routes(self) -> dict[tuple[str, str], Route]:
        return {
            ("GET", "/v5/market/time"): Route(self._time),
            ("GET", "/v5/market/instruments-info"): Route(self._instruments),
            ("GET", "/v5/market/orderbook"): Route(self._orderbook),
            ("GET", "/v5/market/tickers"): Route(self._tickers),
            ("GET", "/v5/market/recent-trade"): Route(self._recent_trades),
            ("GET", "/v5/market/kline"): Route(self._kline),
            ("GET", "/v5/market/funding/history"): Route(self._funding_history),
        }

    def _private_routes(self) -> dict[tuple[str, str], Route]:
        return {
            ("GET", "/v5/order/realtime"): Route(self._open_orders, "realtime"),
            ("GET", "/v5/order/history"): Route(self._order_history, "order-history"),
            ("GET", "/v5/execution/list"): Route(self._executions, "executions"),
            ("GET", "/v5/position/list"): Route(self._positions, "positions"),
            ("GET", "/v5/account/wallet-balance"): Route(self._wallet, "wallet"),
            ("GET", "/v5/account/fee-rate"): Route(self._fee_rate, "fee-rate"),
            ("GET", "/v5/account/info"): Route(self._account_info, "account"),
            ("GET", "/v5/user/query-api"): Route(self._query_api, "account"),
            ("GET", "/v5/account/query-dcp-info"): Route(self._dcp_info, "dcp"),
            ("POST", "/v5/order/disconnected-cancel-all"): Route(self._set_dcp, "dcp", op="other"),
            ("POST", "/v5/position/set-leverage"): Route(self._set_leverage, "config", op="other"),
            ("POST", "/v5/position/switch-mode"): Route(self._switch_mode, "config", op="other"),
            ("POST", "/v5/account/set-margin-mode"): Route(self._margin_mode, "config", op="other"),
        }

    # --- market -----------------------------------------------------------------------------------------------------

    def _listings(self, name: str, symbol: str) -> list[Listing]:
        found = [listing for listing in self.core.listings if listing.market is MARKETS.get(name)]
        if not symbol:
            return found
        return [self.trading.listing({"symbol": symbol}, name)] if name in MARKETS else []

    def _time(self, call: Call) -> dict[str, Any]:
        return {"timeSecond": str(call.clock_ns // 10**9), "timeNano": str(call.clock_ns)}

    def _instruments(self, call: Call) -> dict[str, Any]:
        name = str(call.args.get("category", ""))
        if name not in ("spot", "linear", "inverse", "option"):
            raise Refusal(PARAMS, f"params error: category invalid: {name}")
        rows = [instrument_row(listing) for listing in self._listings(name, str(call.args.get("symbol", "")))]
        if status := call.args.get("status"):
            rows = [row for row in rows if row["status"] == status]
        if base := call.args.get("baseCoin"):
            rows = [row for row in rows if row["baseCoin"] == base]
        result: dict[str, Any] = {"category": name, "list": rows}
        return result if name == "spot" else result | {"nextPageCursor": ""}

    def _orderbook(self, call: Call) -> dict[str, Any]:
        name = category_of(call.args)
        listing = self.trading.listing(call.args, name)
        limit = whole(call.args, "limit", 1 if name == "spot" else 25, 1, 1000)
        return self.public[name].depth_answer(listing, limit, call.clock_ns)

    def _tickers(self, call: Call) -> dict[str, Any]:
        name = category_of(call.args)
        listings = self._listings(name, str(call.args.get("symbol", "")))
        return {"category": name, "list": [self.public[name].ticker_row(each, call.clock_ns) for each in listings]}

    def _recent_trades(self, call: Call) -> dict[str, Any]:
        name = category_of(call.args)
        listing = self.trading.listing(call.args, name)
        limit = whole(call.args, "limit", 60 if name == "spot" else 500, 1, 1000)
        return {"category": name, "list": self.history.recent_trades(listing, limit)}

    def _kline(self, call: Call) -> dict[str, Any]:
        name = category_of(call.args)
        listing = self.trading.listing(call.args, name)
        interval = str(call.args.get("interval", "1"))
        if interval not in INTERVALS_MS:
            raise Refusal(PARAMS, "params error: interval invalid")
        rows = self.history.bars(listing, interval, whole(call.args, "limit", 200, 1, 1000))
        return {"category": name, "symbol": listing.symbol, "list": rows}

    def _funding_history(self, call: Call) -> dict[str, Any]:
        listing = self.trading.listing(call.args, "linear")
        last_ms = next_funding_ms(call.clock_ns) - 8 * 3_600_000
        row = {"symbol": listing.symbol, "fundingRate": rate_text(listing.funding_rate_e8)}
        return {"category": "linear", "list": [row | {"fundingRateTimestamp": str(last_ms)}]}

    # --- orders and executions --------------------------------------------------------------------------------------

    def _wanted(self, call: Call, orders: list[Order], now_ns: int) -> list[Order]:
        """Filter by what the request names; newest first."""
        args = call.args
        symbol, link, number = str(args.get("symbol") or ""), args.get("orderLinkId"), args.get("orderId")
        coin = str(args.get("settleCoin") or "")
        base = str(args.get("baseCoin") or "")
        return [
            order
            for order in reversed(orders)
            if (not symbol or order.listing.symbol == symbol)
            and (not link or order.client_id == link)
            and (not number or str(order.order_id) == number)
            and (not coin or order.listing.instrument.settle == coin)
            and (not base or order.listing.instrument.base == base)
            and self.core.is_visible(order, now_ns)
        ]

    def _open_orders(self, call: Call) -> dict[str, Any]:
        name = category_of(call.args)
        args = call.args
        named = bool(args.get("orderId") or args.get("orderLinkId"))
        if name == "linear" and not named and not any(args.get(key) for key in ("symbol", "baseCoin", "settleCoin")):
            raise Refusal(PARAMS, "params error: symbol, settleCoin or baseCoin is required")
        orders = self.core.orders(call.account_id, MARKETS[name])
        closed = [order for order in orders if not order.is_open][-CLOSED_KEPT:]
        if named:
            orders = sorted([order for order in orders if order.is_open] + closed, key=lambda order: order.order_id)
        else:
            orders = closed if str(args.get("openOnly") or "0") == "1" else [each for each in orders if each.is_open]
        wanted = self._wanted(call, orders, call.now_ns)
        return self._page(name, call, [(order.order_id, order_row(order)) for order in wanted], 20, 50)

    def _order_history(self, call: Call) -> dict[str, Any]:
        name = category_of(call.args)
        orders = [
            order
            for order in self.core.orders(call.account_id, MARKETS[name])
            if not order.is_open and not is_forgotten(order, call.now_ns)
        ]
        wanted = self._wanted(call, orders, call.now_ns)
        if status := call.args.get("orderStatus"):
            wanted = [order for order in wanted if order_row(order)["orderStatus"] == status]
        wanted = [order for order in wanted if in_times(call.args, order.created_ns)]
        return self._page(name, call, [(order.order_id, order_row(order)) for order in wanted], 20, 50)

    def _executions(self, call: Call) -> dict[str, Any]:
        name = category_of(call.args)
        args = call.args
        rows = []
        for number, (fill, left) in enumerate(self.private.executions(call.account_id), 1):
            if fill.listing.market is not MARKETS[name] or not self.core.is_visible(fill, call.now_ns):
                continue
            row = execution_row(fill, left)
            named = all(not args.get(key) or row[key] == args[key] for key in ("symbol", "orderId", "orderLinkId"))
            if named and in_times(args, fill.ts_ns) and str(args.get("execType") or "Trade") == "Trade":
                rows.append((number, row))
        if name == "linear" and not args.get("orderId") and not args.get("orderLinkId"):
            for number, row in enumerate(self.private.funding.get(call.account_id, []), 10**9):
                if args.get("symbol") in (None, "", row["symbol"]) and args.get("execType") in (None, "", "Funding"):
                    rows.append((number, row))
        rows.sort(key=lambda item: (int(item[1]["execTime"]), item[0]), reverse=True)
        return self._page(name, call, rows, 50, 100)

    def _page(
        self, name: str, call: Call, rows: list[tuple[int, dict[str, Any]]], default: int, most: int
    ) -> dict[str, Any]:
        """One page of rows that are newest first; the cursor names the last row that was given."""
        limit = whole(call.args, "limit", default, 1, most)
        cursor = unquote(str(call.args.get("cursor") or "")).partition(":")[0]
        if cursor.isdigit():
            ids = [number for number, _ in rows]
            rows = rows[ids.index(int(cursor)) + 1 :] if int(cursor) in ids else []
        page = rows[:limit]
        following = f"{page[-1][0]}%3A{page[-1][0]}" if len(rows) > limit else ""
        return {"category": name, "list": [row for _, row in page], "nextPageCursor": following}

    # --- account ----------------------------------------------------------------------------------------------------

    def _account(self, call: Call) -> Account:
        return self.core.accounts[call.account_id]

    def _positions(self, call: Call) -> dict[str, Any]:
        name = category_of(call.args)
        if name != "linear":
            raise Refusal(PARAMS, f"params error: category invalid: {name}")
        symbol, coin = str(call.args.get("symbol") or ""), str(call.args.get("settleCoin") or "")
        if not symbol and not coin:
            raise Refusal(PARAMS, "params error: symbol or settleCoin is required")
        account = self._account(call)
        # A symbol that is named is always answered; without one only open positions are.
        listings = self._listings(name, symbol)
        rows = [
            position_row(account, account.position(listing), "avgPrice")
            for listing in listings
            if symbol or (listing.instrument.settle == coin and account.position(listing).qty_lots)
        ]
        return {"category": name, "list": rows, "nextPageCursor": ""}

    def _wallet(self, call: Call) -> dict[str, Any]:
        if call.args.get("accountType", "UNIFIED") != "UNIFIED":
            raise Refusal(PARAMS, "accountType only support UNIFIED.")
        coins = {coin for coin in str(call.args.get("coin") or "").split(",") if coin}
        return {"list": [wallet_row(self.core, self._account(call), coins or None)]}

    def _fee_rate(self, call: Call) -> dict[str, Any]:
        name = category_of(call.args)
        return {
            "category": name,
            "list": [
                {
                    "symbol": listing.symbol,
                    "baseCoin": "",
                    "takerFeeRate": rate_text(listing.taker_fee_e8),
                    "makerFeeRate": rate_text(listing.maker_fee_e8),
                }
                for listing in self._listings(name, str(call.args.get("symbol") or ""))
            ],
        }

    def _account_info(self, call: Call) -> dict[str, Any]:
        account = self._account(call)
        windows = account.settings.get("dcp")
        return {
            "marginMode": account.settings.get("margin_mode", "REGULAR_MARGIN"),
            "updatedTime": str(account.updated_ns // MS),
            "unifiedMarginStatus": 5,
            "dcpStatus": "ON" if windows else "OFF",
            "timeWindow": 10,
            "smpGroup": 0,
            "isMasterTrader": False,
            "spotHedgingStatus": "OFF",
        }

    def _query_api(self, call: Call) -> dict[str, Any]:
        key = call.key
        assert key is not None
        trade = ["Order", "Position"] if key.can_trade else []
        return {
            "id": str(key.account_id),
            "note": "local",
            "apiKey": key.key,
            "readOnly": 0 if key.can_trade else 1,
            "secret": "",
            "permissions": {
                "ContractTrade": trade,
                "Spot": ["SpotTrade"] if key.can_trade else [],
                "Wallet": ["AccountTransfer", "Withdraw"] if key.can_withdraw else [],
                "Options": [],
                "Derivatives": ["DerivativesTrade"] if key.can_trade else [],
                "Exchange": [],
                "Earn": [],
            },
            "ips": list(key.ips) or ["*"],
            "type": 1,
            "deadlineDay": -1,
            "expiredAt": "1970-01-01T00:00:00Z",
            "createdAt": "2026-01-01T00:00:00Z",
            "unified": 0,
            "uta": 1,
            "userID": 100_000 + key.account_id,
            "inviterID": 0,
            "vipLevel": "No VIP",
            "mktMakerLevel": "0",
            "affiliateID": 0,
            "rsaPublicKey": "",
            "isMaster": True,
            "parentUid": "0",
            "kycLevel": "LEVEL_DEFAULT",
            "kycRegion": "",
        }

    # --- configuration ----------------------------------------------------------------------------------------------

    def _dcp(self, account: Account) -> dict[str, int]:
        windows = account.settings.setdefault("dcp", {})
        assert isinstance(windows, dict)
        return windows

    def _dcp_info(self, call: Call) -> dict[str, Any]:
        windows = self._dcp(self._account(call))
        return {
            "dcpInfos": [
                {"product": product, "dcpStatus": "ON", "timeWindow": str(seconds)}
                for product, seconds in windows.items()
            ]
        }

    def _set_dcp(self, call: Call) -> dict[str, Any]:
        product = str(call.args.get("product") or "OPTIONS")
        seconds = whole(call.args, "timeWindow", 10, 3, 300)
        if product not in ("DERIVATIVES", "SPOT", "OPTIONS"):
            raise Refusal(PARAMS, "params error: product invalid")
        self._dcp(self._account(call))[product] = seconds
        return {}

    def _set_leverage(self, call: Call) -> dict[str, Any]:
        listing = self.trading.listing(call.args)
        try:
            leverage = int(float(str(call.args.get("buyLeverage"))))
        except ValueError:
            raise Refusal(PARAMS, "params error: buyLeverage invalid") from None
        if not 1 <= leverage <= listing.max_leverage:
            raise Refusal(110013, "cannot set leverage due to risk limit")
        if self._account(call).position(listing).leverage == leverage:
            raise Refusal(110043, "leverage not modified")
        try:
            self.core.set_leverage(call.account_id, listing, leverage, call.now_ns)
        except Refused:
            raise Refusal(110007, "ab not enough for new order") from None
        return {}

    def _switch_mode(self, call: Call) -> dict[str, Any]:
        if str(call.args.get("mode")) == "0":
            raise Refusal(110025, "Position mode is not modified")
        raise Refusal(PARAMS, "params error: hedge mode is not served here")

    def _margin_mode(self, call: Call) -> dict[str, Any]:
        mode = str(call.args.get("setMarginMode") or "")
        if mode != "REGULAR_MARGIN":
            raise Refusal(PARAMS, f"params error: margin mode {mode} is not served here")
        return {"reasons": []}


def is_forgotten(order: Order, now_ns: int) -> bool:
    """Canceled orders without a fill are kept for 24 hours."""
    ended_empty = order.status is not OrdStatus.FILLED and order.cum_lots == 0
    return ended_empty and now_ns - order.updated_ns > DAY_NS


def in_times(args: Args, ts_ns: int) -> bool:
    start, end = args.get("startTime"), args.get("endTime")
    ts_ms = ts_ns // MS
    return (not start or ts_ms >= int(start)) and (not end or ts_ms <= int(end))


def whole(args: Args, name: str, default: int, low: int, high: int) -> int:
    """An integer parameter; beyond its range it is cut to it, as Bybit does with `limit`."""
    text = args.get(name)
    if text in (None, ""):
        return default
    try:
        return max(low, min(high, int(str(text))))
    except ValueError:
        raise Refusal(PARAMS, f"params error: {name} invalid") from None
