"""The WebSocket API's envelope, its session and its user-data subscriptions. Operations are those of REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from engine.types import Market
from tools.exchange.binance import auth
from tools.exchange.binance.conns import Conn
from tools.exchange.binance.dispatch import Outcome, Route, Security
from tools.exchange.binance.errors import ApiError
from tools.exchange.binance.params import Params, echo_id, loads
from tools.exchange.binance.request import NS_PER_MS, Request
from tools.exchange.front import Payload

if TYPE_CHECKING:
    from tools.exchange.binance.front import BinanceFront


class WsApi:
    def __init__(self, front: BinanceFront, methods: dict[Market, dict[str, Route]]) -> None:
        self.front = front
        self.methods = methods

    def on_message(self, conn: Conn, text: Payload, now_ns: int) -> None:
        try:
            raw = loads(text)
            if not isinstance(raw, dict) or not isinstance(raw.get("params", {}), dict):
                raise ValueError("expected an object with params")
        except ValueError:
            error = ApiError(-1135, "Invalid JSON Request")
            self._send(conn, self._row(None, Outcome(error=error)), now_ns)
            return
        request_id = echo_id(raw.get("id"))
        params = Params.from_ws(raw.get("params") or {})
        request = Request(
            params,
            now_ns,
            self.front.now_ms(now_ns),
            conn.ip,
            conn.market,
            conn_id=conn.conn_id,
            is_micro=conn.is_micro,
        )
        method = str(raw.get("method", ""))
        route = self._route(conn, method.removeprefix("v3/"))
        self.front.hold_events()
        outcome = self.front.dispatcher.run(route, request, conn.session_key)
        if outcome.disconnects:
            self.front.sink.close(conn.conn_id, 1001)
        elif not outcome.is_dropped:
            row = self._row(request_id, outcome)
            if conn.returns_limits and params.get("returnRateLimits", "true").lower() != "false":
                has_orders = route.is_order and outcome.error is None
                row["rateLimits"] = self.front.dispatcher.rate_limits(request, has_orders=has_orders)
            if outcome.events_first:
                self.front.release_events(now_ns)
            self._send(conn, row, now_ns, outcome.delay_ns)
        self.front.release_events(now_ns)

    def _send(self, conn: Conn, row: dict[str, Any], now_ns: int, delay_ns: int = 0) -> None:
        self.front.outbox.send(conn.conn_id, orjson.dumps(row), now_ns, delay_ns)

    def _row(self, request_id: Any, outcome: Outcome) -> dict[str, Any]:
        error = outcome.error
        if error is None:
            return {"id": request_id, "status": 200, "result": outcome.result}
        detail: dict[str, Any] = {"code": error.code, "msg": error.msg}
        if error.payload is not None:
            detail["data"] = error.payload
        return {"id": request_id, "status": error.status, "error": detail}

    def _route(self, conn: Conn, method: str) -> Route:
        found = self.methods[conn.market].get(method)
        if found is not None:
            return found
        match method:
            case "session.logon":
                return Route(lambda request: self._logon(conn, request), conn.market, Security.SIGNED, 2)
            case "session.status":
                return Route(lambda request: self._session(conn, request), conn.market, weight=2)
            case "session.logout":
                return Route(lambda request: self._logout(conn, request), conn.market, weight=2)
        if conn.market is Market.SPOT:
            match method:
                case "userDataStream.subscribe":
                    return Route(lambda request: self._subscribe_session(conn, request), conn.market, weight=2)
                case "userDataStream.subscribe.signature":
                    return Route(lambda request: self._subscribe(conn, request), conn.market, Security.SIGNED, 2)
                case "userDataStream.unsubscribe":
                    return Route(lambda request: self._unsubscribe(conn, request), conn.market, weight=2)
                case "session.subscriptions":
                    return Route(lambda request: self._subscriptions(conn), conn.market, weight=2)
        return Route(lambda request: _unknown_method(method), conn.market)

    # --- session ----------------------------------------------------------------------------------------------------

    def _logon(self, conn: Conn, request: Request) -> dict[str, Any]:
        assert request.key is not None, "logon is signed"
        if not request.key.ed25519_public:
            raise ApiError(-4056, "HMAC_SHA256 API key is not supported.")
        request.params.need("signature")
        conn.session_key, conn.session_ms = request.key.key, request.now_ms
        return self._session(conn, request)

    def _logout(self, conn: Conn, request: Request) -> dict[str, Any]:
        conn.session_key, conn.session_ms = "", 0
        if conn.market is Market.SPOT:
            self.front.users.unsubscribe(conn.conn_id, None, request.now_ns, self.front.skew_ns)
        return self._session(conn, request)

    def _session(self, conn: Conn, request: Request) -> dict[str, Any]:
        row: dict[str, Any] = {
            "apiKey": conn.session_key or None,
            "authorizedSince": conn.session_ms or None,
            "connectedSince": conn.opened_ns // NS_PER_MS,
            "returnRateLimits": conn.returns_limits,
            "serverTime": request.now_ms,
        }
        if conn.market is Market.SPOT:
            row["userDataStream"] = bool(self.front.users.subscriptions_of(conn.conn_id))
        return row

    # --- user data --------------------------------------------------------------------------------------------------

    def _subscribe_session(self, conn: Conn, request: Request) -> dict[str, Any]:
        if not conn.session_key:
            raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        request.key = auth.find_key(self.front.core.keys, conn.session_key, conn.ip)
        return self._subscribe(conn, request)

    def _subscribe(self, conn: Conn, request: Request) -> dict[str, Any]:
        number = self.front.users.subscribe(conn.conn_id, request.account_id, is_micro=conn.is_micro)
        return {"subscriptionId": number}

    def _unsubscribe(self, conn: Conn, request: Request) -> dict[str, Any]:
        wanted = request.params.get("subscriptionId")
        number = int(wanted) if wanted.isdigit() else None
        self.front.users.unsubscribe(conn.conn_id, number, request.now_ns, self.front.skew_ns)
        return {}

    def _subscriptions(self, conn: Conn) -> list[dict[str, Any]]:
        return [{"subscriptionId": number} for number in self.front.users.subscriptions_of(conn.conn_id)]


def _unknown_method(method: str) -> None:
    raise ApiError(-1020, f"This operation is not supported: {method}")
