"""WebSocket connections of the front: what a path opens, and the control frames of the stream connections."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from engine.types import Market
from tools.exchange.binance.params import echo_id, loads
from tools.exchange.binance.private import UserData
from tools.exchange.binance.streams import Streams
from tools.exchange.front import Outbox, Payload

SECOND: Final = 1_000_000_000
STREAMS_MAX: Final = 1024
MESSAGES_PER_S: Final = {Market.SPOT: 5, Market.LINEAR: 10}
POLICY_VIOLATION: Final = 1008


@dataclass(slots=True, eq=False)
class Conn:
    conn_id: int
    market: Market
    route: str  # api; spot, public, market, private
    ip: str
    opened_ns: int
    wraps: bool = False
    is_micro: bool = False
    returns_limits: bool = True
    names: dict[str, None] = field(default_factory=dict)  # streams, in order of subscription
    session_key: str = ""
    session_ms: int = 0
    stamps: deque[int] = field(default_factory=deque)


def parse_path(conn_id: int, path: str, query: str, ip: str, now_ns: int) -> tuple[Conn, list[str], frozenset[str]]:
    """The connection a path opens, the streams it names, and the event names it filters user data by."""
    parts = [part for part in path.split("/") if part]
    options = parse_qs(query.replace("%2F", "/").replace("%40", "@"))

    def option(name: str) -> str:
        return options.get(name, [""])[0]

    is_micro = option("timeUnit").upper() == "MICROSECOND"
    if parts[0] in ("ws-api", "ws-fapi"):
        market = Market.SPOT if parts[0] == "ws-api" else Market.LINEAR
        conn = Conn(conn_id, market, "api", ip, now_ns, is_micro=is_micro)
        conn.returns_limits = option("returnRateLimits").lower() != "false"
        return conn, [], frozenset()
    route = parts.pop(0) if parts[0] in ("public", "market", "private") else "spot"
    market = Market.SPOT if route == "spot" else Market.LINEAR
    conn = Conn(conn_id, market, route, ip, now_ns, is_micro=is_micro and market is Market.SPOT)
    conn.wraps = "ws" not in parts
    names = [part for part in parts if part not in ("ws", "stream") and not part.isdigit()]
    names += [name for name in option("streams").split("/") if name]
    names += [name for name in (option("listenKey"),) if name]
    return conn, names, frozenset(name for name in option("events").split("/") if name)


class StreamConns:
    """Control frames: SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS, SET_PROPERTY, GET_PROPERTY."""

    def __init__(self, streams: Streams, users: UserData, outbox: Outbox) -> None:
        self.streams = streams
        self.users = users
        self.outbox = outbox

    def subscribe(self, conn: Conn, names: list[str], now_ns: int, events: frozenset[str] = frozenset()) -> None:
        for name in names:
            conn.names[name] = None
            if conn.route == "private":
                self.users.attach(conn.conn_id, name, wraps=conn.wraps, events=events)
            else:
                self.streams.add(
                    conn.conn_id, conn.route, name, wraps=conn.wraps, is_micro=conn.is_micro, now_ns=now_ns
                )

    def unsubscribe(self, conn: Conn, names: list[str]) -> None:
        for name in names:
            conn.names.pop(name, None)
            if conn.route == "private":
                self.users.detach(conn.conn_id, name)
            else:
                self.streams.remove(conn.conn_id, conn.route, name, is_micro=conn.is_micro)

    def on_message(self, conn: Conn, text: Payload, now_ns: int) -> None:
        conn.stamps.append(now_ns)
        while conn.stamps[0] <= now_ns - SECOND:
            conn.stamps.popleft()
        if len(conn.stamps) > MESSAGES_PER_S[conn.market]:
            self.outbox.sink.close(conn.conn_id, POLICY_VIOLATION)
            return
        self._answer(conn, self._handle(conn, text, now_ns), now_ns)

    def _answer(self, conn: Conn, answer: dict[str, Any], now_ns: int) -> None:
        self.outbox.send(conn.conn_id, orjson.dumps(answer), now_ns)

    def _handle(self, conn: Conn, text: Payload, now_ns: int) -> dict[str, Any]:
        try:
            request = loads(text)
        except ValueError as error:
            return {"error": {"code": 3, "msg": f"Invalid JSON: {error}"}}
        if not isinstance(request, dict):
            return {"error": {"code": 2, "msg": "Invalid request: expected an object"}}
        request_id = echo_id(request.get("id"))
        params = request.get("params", [])
        method = request.get("method")
        if not isinstance(params, list):
            return {"error": {"code": 2, "msg": "Invalid request: params must be a list"}, "id": request_id}
        is_named = method in ("SUBSCRIBE", "UNSUBSCRIBE")
        if is_named and not all(isinstance(name, str) for name in params):
            return {"error": {"code": 2, "msg": "Invalid request: params must be stream names"}, "id": request_id}
        result: Any = None
        if method == "SUBSCRIBE":
            if len(conn.names.keys() | set(params)) > STREAMS_MAX:
                return {"error": {"code": 2, "msg": "Invalid request: too many streams"}, "id": request_id}
            self.subscribe(conn, params, now_ns)
        elif method == "UNSUBSCRIBE":
            self.unsubscribe(conn, params)
        elif method == "LIST_SUBSCRIPTIONS":
            result = list(conn.names)
        elif method == "SET_PROPERTY" and len(params) == 2 and params[0] == "combined":
            conn.wraps = bool(params[1])
            self.streams.rewrap(conn.conn_id, wraps=conn.wraps)
        elif method == "GET_PROPERTY" and params == ["combined"]:
            result = conn.wraps
        else:
            return {"error": {"code": 2, "msg": f"Invalid request: unknown method {method!r}"}, "id": request_id}
        return {"result": result, "id": request_id}
