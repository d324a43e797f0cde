"""Binance's face of a venue core: owns connections, events on their way out, timers. Implements `front.Front`.

Private events of a request are held until its answer is on its way, unless a fault asks for the opposite order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from engine.types import Market
from tools.exchange.binance import conns as connections
from tools.exchange.binance import routes
from tools.exchange.binance.dispatch import BinanceLimits, Dispatcher, Outcome, Route
from tools.exchange.binance.market_data import MarketData
from tools.exchange.binance.params import Params
from tools.exchange.binance.private import UserData
from tools.exchange.binance.request import NS_PER_MS, Ids, Request
from tools.exchange.binance.spot_orders import SpotOrders
from tools.exchange.binance.streams import Streams
from tools.exchange.binance.tape import Tape
from tools.exchange.binance.usdm_account import UsdmAccount
from tools.exchange.binance.usdm_orders import UsdmOrders
from tools.exchange.binance.ws_api import WsApi
from tools.exchange.core import VenueCore
from tools.exchange.front import HttpAnswer, Outbox, Payload, Sink
from tools.exchange.model import Event, OrderChange, OrderEvent

HTTP_PREFIXES = ("/api/", "/fapi/", "/sapi/", "/dapi/")
WS_PREFIXES = ("/ws", "/stream", "/public", "/market", "/private", "/ws-api/", "/ws-fapi/")


class BinanceFront:
    name = "binance"

    def __init__(self, core: VenueCore, sink: Sink, *, seed: str = "binance") -> None:
        self.core = core
        self.sink = sink
        self.outbox = Outbox(sink)
        self.limits = BinanceLimits()
        self.dispatcher = Dispatcher(core, self.limits)
        ids = Ids(seed)
        self.tapes = [Tape(listing) for listing in core.listings]
        self.desks = {market: MarketData(core, market, self.tapes) for market in (Market.SPOT, Market.LINEAR)}
        self.spot_orders = SpotOrders(core, ids)
        self.usdm_orders = UsdmOrders(core, ids)
        self.usdm_account = UsdmAccount(core)
        self.users = UserData(core, self.outbox, ids)
        self.streams = Streams(core, self.tapes, self.outbox, self.desks)
        self.stream_conns = connections.StreamConns(self.streams, self.users, self.outbox)
        self.ws_api = WsApi(self, {Market.SPOT: routes.spot_methods(self), Market.LINEAR: routes.usdm_methods(self)})
        self.routes = routes.spot_rest(self) | routes.usdm_rest(self)
        self.conns: dict[int, connections.Conn] = {}
        self._held: list[Event] = []
        self._is_holding = False
        core.subscribe(self._on_events)

    @property
    def skew_ns(self) -> int:
        return self.core.hooks.clock_skew_ns

    def now_ms(self, now_ns: int) -> int:
        """The venue's clock."""
        return (now_ns + self.skew_ns) // NS_PER_MS

    def owns(self, path: str) -> bool:
        return path.startswith(HTTP_PREFIXES) or path.startswith(WS_PREFIXES)

    # --- HTTP -------------------------------------------------------------------------------------------------------

    def http(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, peer_ip: str, now_ns: int
    ) -> HttpAnswer:
        route = self.routes.get((method, path))
        market = Market.LINEAR if path.startswith("/fapi") else Market.SPOT
        if route is None:
            return _answer(404, {"code": -5000, "msg": f"Path {path}, Method {method} is invalid"}, {})
        params = Params.from_rest(query, body.decode("utf-8", "replace"))
        params.values["apiKey"] = headers.get("x-mbx-apikey", "")
        request = Request(params, now_ns, self.now_ms(now_ns), peer_ip, market)
        self.hold_events()
        outcome = self.dispatcher.run(route, request)
        self.release_events(now_ns)
        return self._http_answer(route, request, outcome)

    def _http_answer(self, route: Route, request: Request, outcome: Outcome) -> HttpAnswer:
        error = outcome.error
        headers = self.dispatcher.headers(request, has_orders=route.is_order and error is None)
        if error is None:
            answer = _answer(200, outcome.result, headers)
        else:
            if error.retry_after_ns:
                headers["retry-after"] = str(max(1, -(-error.retry_after_ns // 10**9)))
            row: dict[str, Any] = {"code": error.code, "msg": error.msg}
            if error.payload is not None and error.status == 409:
                row["data"] = error.payload
            answer = _answer(error.status, row, headers)
        answer.delay_ns, answer.is_dropped = outcome.delay_ns, outcome.is_dropped
        return answer

    # --- WebSocket --------------------------------------------------------------------------------------------------

    def ws_open(
        self, conn_id: int, path: str, query: str, headers: Mapping[str, str], peer_ip: str, now_ns: int
    ) -> int:
        conn, names, events = connections.parse_path(conn_id, path, query, peer_ip, now_ns)
        weight = {"api": 2 if conn.market is Market.SPOT else 5}.get(conn.route, 0)
        status = self.dispatcher.connect(conn.market, peer_ip, weight, now_ns)
        if status:
            return status
        self.conns[conn_id] = conn
        self.stream_conns.subscribe(conn, names, now_ns, events)
        return 0

    def ws_message(self, conn_id: int, text: Payload, now_ns: int) -> None:
        conn = self.conns.get(conn_id)
        if conn is None:
            return
        if conn.route == "api":
            self.ws_api.on_message(conn, text, now_ns)
        else:
            self.stream_conns.on_message(conn, text, now_ns)

    def ws_close(self, conn_id: int, now_ns: int) -> None:
        conn = self.conns.pop(conn_id, None)
        if conn is not None:
            self.stream_conns.unsubscribe(conn, list(conn.names))
            self.users.drop_conn(conn_id)

    # --- events and time --------------------------------------------------------------------------------------------

    def hold_events(self) -> None:
        self._is_holding = True

    def release_events(self, now_ns: int) -> None:
        self._is_holding = False
        if self._held:
            held, self._held = self._held, []
            self.users.on_events(held, now_ns, self.skew_ns)

    def _on_events(self, batch: list[Event]) -> None:
        now_ns = self.core.now_ns
        for event in batch:
            if isinstance(event, OrderEvent) and event.change is OrderChange.TRADE:
                self._count_first_fill(event, now_ns)
        self.streams.on_events(batch, now_ns, self.skew_ns)
        if self._is_holding:
            self._held.extend(batch)
        else:
            self.users.on_events(batch, now_ns, self.skew_ns)

    def _count_first_fill(self, event: OrderEvent, now_ns: int) -> None:
        # The spot order count is one of unfilled orders: the first fill gives it back.
        fill = event.fill
        if fill is not None and fill.listing.is_spot and event.cum_lots == fill.qty_lots:
            self.limits.spot.add(f"account:{fill.account_id}", "ORDERS", -1, now_ns)

    def on_timer(self, now_ns: int) -> None:
        self.core.expire_due(now_ns)
        self.usdm_orders.run_countdowns(now_ns)
        if now_ns >= self.users.next_expiry_ns():
            self.users.expire(now_ns, self.skew_ns)
        self.streams.on_timer(now_ns, self.skew_ns)
        self.outbox.flush(now_ns)

    def next_timer_ns(self) -> int:
        return min(
            self.outbox.next_due_ns(),
            self.streams.next_due_ns(),
            self.users.next_expiry_ns(),
            self.usdm_orders.next_countdown_ns(),
            self.core.next_expiry_ns,
        )

    # --- operations that need the front -----------------------------------------------------------------------------

    def order_counts(self, request: Request) -> list[dict[str, Any]]:
        return self.dispatcher.order_counts(request)

    def api_restrictions(self, request: Request) -> dict[str, Any]:
        key = request.key
        assert key is not None, "apiRestrictions is signed"
        return {
            "ipRestrict": bool(key.ips),
            "createTime": key.created_ns // NS_PER_MS,
            "enableReading": True,
            "enableSpotAndMarginTrading": key.can_trade,
            "enableFutures": key.can_trade,
            "enableWithdrawals": key.can_withdraw,
            "enableInternalTransfer": False,
            "enableMargin": False,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableFixApiTrade": False,
            "enableFixReadOnly": False,
            "enablePortfolioMarginTrading": False,
        }

    def listen_key_start(self, request: Request) -> dict[str, Any]:
        return {"listenKey": self.users.start_listen_key(request.account_id, request.now_ns)}

    def listen_key_renew(self, request: Request) -> dict[str, Any]:
        return {"listenKey": self.users.renew_listen_key(request.account_id, request.now_ns)}

    def listen_key_close(self, request: Request) -> dict[str, Any]:
        self.users.close_listen_key(request.account_id)
        return {}

    def expire_listen_keys(self, now_ns: int) -> int:
        """Fault injection: every listen key ends now; returns how many."""
        return self.users.expire(now_ns, self.skew_ns, all_keys=True)


def _answer(status: int, row: Any, headers: dict[str, str]) -> HttpAnswer:
    return HttpAnswer(status, orjson.dumps(row), headers | {"content-type": "application/json"})
