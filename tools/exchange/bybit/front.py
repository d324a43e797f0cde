"""The Bybit v5 front: REST, public, private and trade sockets over one venue core.

Owns connections and their logins; what is said on them is in the modules beside this one. Faithful to the venue's
three different pongs and logins, to `conn_id` against `connId`, and to acknowledgements that promise nothing.
Source: bybit-exchange/docs, "Connect" and "WebSocket Trade", snapshot 2026-07-24.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from engine.types import Market
from tools.exchange.bybit.auth import authenticate, authenticate_ws, check_window
from tools.exchange.bybit.codes import BAD_KEY, PARAMS, Refusal, envelope
from tools.exchange.bybit.history import History
from tools.exchange.bybit.limits import Limits
from tools.exchange.bybit.private import DCP_TOPICS, PrivateConn, PrivateStreams
from tools.exchange.bybit.public import PublicStreams
from tools.exchange.bybit.requests import VERBS, Reply, Requests, Result
from tools.exchange.bybit.rest import Call, Rest, Route
from tools.exchange.bybit.trading import Trading
from tools.exchange.core import ApiKey, VenueCore
from tools.exchange.front import HttpAnswer, Outbox, Payload, Sink
from tools.exchange.model import Event, Listing, Reason

MS: Final = 1_000_000
SECOND: Final = 1000 * MS
FOREVER: Final = 2**63 - 1
IDLE_NS: Final = 600 * SECOND
SCAN_NS: Final = 1 * SECOND
EVENTS_AFTER_NS: Final = 2 * MS
"""How much later than an HTTP answer its private frames leave, when the seed says that the answer is first."""
PUBLIC_PREFIX: Final = "/v5/public/"
SPOT_ARGS_MAX: Final = 10
REQ_IDS_KEPT: Final = 10_000
DCP_PRODUCTS: Final = {"dcp.future": "DERIVATIVES", "dcp.spot": "SPOT"}


@dataclass(slots=True, eq=False)
class Conn:
    conn_id: int
    kind: str  # public, private, trade
    category: str  # of a public one
    peer_ip: str
    idle_ns: int
    seen_ns: int
    key: ApiKey | None = None
    req_ids: dict[str, None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"c{self.conn_id}"


class BybitFront:
    name = "bybit"

    def __init__(self, core: VenueCore, sink: Sink, *, seed: int = 1, double_filled: float = 0.02) -> None:
        self.core = core
        self.limits = Limits()
        self._sink = sink
        self._outbox = Outbox(sink)
        self._now_ns = 0
        self._conns: dict[int, Conn] = {}
        self.private = PrivateStreams(core, self._send_private, seed, double_filled)
        self.trading = Trading(core, self.private.late_cancel)
        self.public = {
            name: PublicStreams(core, [each for each in core.listings if each.market is market], self._send)
            for name, market in (("spot", Market.SPOT), ("linear", Market.LINEAR))
        }
        self.history = History(core.listings)
        self.requests = Requests(core, self.trading, self.private, self.limits)
        self.rest = Rest(core, self.trading, self.public, self.private, self.history)
        self._gone: dict[tuple[int, str], int] = {}  # dead man's switches running: (account, topic) -> deadline
        self._scan_due_ns = 0
        self._trace = 0
        core.subscribe(self._on_events)

    def _on_events(self, events: list[Event]) -> None:
        for streams in self.public.values():
            streams.on_events(events)
        self.history.on_events(events)
        self.private.on_events(events)

    def restart_books(self, listing: Listing, now_ns: int) -> None:
        """What subscribers see when the service is restarted."""
        self._now_ns = now_ns
        self.public["spot" if listing.is_spot else "linear"].restart_service(listing, now_ns)

    def _clock_ns(self, now_ns: int) -> int:
        return now_ns + self.core.hooks.clock_skew_ns

    def _send(self, conn_id: int, payload: bytes) -> None:
        self._outbox.send(conn_id, payload, self._now_ns)

    def _send_private(self, conn_id: int, payload: bytes, delay_ns: int) -> None:
        self._outbox.send(conn_id, payload, self._now_ns, delay_ns)

    def _say(self, conn: Conn, message: Mapping[str, Any], delay_ns: int = 0) -> None:
        self._outbox.send(conn.conn_id, orjson.dumps(message), self._now_ns, delay_ns)

    # --- REST -------------------------------------------------------------------------------------------------------

    def owns(self, path: str) -> bool:
        return path.startswith("/v5/")

    def http(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
        peer_ip: str,
        now_ns: int,
    ) -> HttpAnswer:
        self._now_ns = now_ns
        if not self.limits.ip_allows(peer_ip, now_ns):
            return HttpAnswer(403, b"access too frequent", {"Content-Type": "text/plain"})
        verb = path.removeprefix("/v5/order/") if method == "POST" else ""
        route = self.rest.routes.get((method, path))
        if route is None and verb not in VERBS:
            return HttpAnswer(404, b"404 page not found", {"Content-Type": "text/plain"})
        try:
            key = None
            if route is None or not route.is_public:
                payload = query.encode() if method == "GET" else body
                key = authenticate(self.core.keys, headers, payload, self._clock_ns(now_ns))
            args = dict(parse_qsl(query)) if method == "GET" else json_object(body)
        except Refusal as refused:
            return self._http_answer(Reply(refused.code, refused.msg), now_ns)
        if route is None:
            assert key is not None
            reply, events_first = self.requests.order(verb, key, args, now_ns)
        else:
            reply, events_first = self._query(route, Call(args, key, now_ns, self._clock_ns(now_ns)))
        self._release(events_first, EVENTS_AFTER_NS)
        return self._http_answer(reply, now_ns)

    def _query(self, route: Route, call: Call) -> tuple[Reply, bool]:
        def act() -> Result:
            return route.handler(call), {}

        if route.is_public:
            try:
                return Reply(result=route.handler(call)), True
            except Refusal as refused:
                return Reply(refused.code, refused.msg), True
        return self.requests.perform(route.op, act, lambda: self.limits.take(call.account_id, route.group, call.now_ns))

    def _release(self, events_first: bool, after_ns: int) -> None:
        """Let the held private frames go: now, or `after_ns` later than the answer."""
        if events_first or after_ns == 0:
            self.private.release()
            return
        hooks = self.core.hooks
        hooks.event_delay_ns += after_ns
        try:
            self.private.release()
        finally:
            hooks.event_delay_ns -= after_ns

    def _http_answer(self, reply: Reply, now_ns: int) -> HttpAnswer:
        clock_ms = self._clock_ns(now_ns) // MS
        self._trace += 1
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Timenow": str(clock_ms),
            "Traceid": f"{self._trace:032x}",
        }
        if reply.grant is not None:
            headers |= reply.grant.headers()
        body = orjson.dumps(envelope(reply.code, reply.msg, reply.result, reply.ext, clock_ms))
        return HttpAnswer(200, body, headers, reply.delay_ns, reply.is_dropped)

    # --- sockets ----------------------------------------------------------------------------------------------------

    def ws_open(
        self, conn_id: int, path: str, query: str, headers: Mapping[str, str], peer_ip: str, now_ns: int
    ) -> int:
        kind, category = "", ""
        if path.startswith(PUBLIC_PREFIX):
            kind, category = "public", path.removeprefix(PUBLIC_PREFIX)
            if category not in self.public:
                return 404
        elif path in ("/v5/private", "/v5/trade"):
            kind = path.removeprefix("/v5/")
        else:
            return 404
        idle_ns = active_time_ns(dict(parse_qsl(query)).get("max_active_time", ""))
        conn = self._conns[conn_id] = Conn(conn_id, kind, category, peer_ip, idle_ns, now_ns)
        if kind == "private":
            self.private.conns[conn_id] = PrivateConn(conn.conn_id)
        return 0

    def ws_close(self, conn_id: int, now_ns: int) -> None:
        self._now_ns = now_ns
        conn = self._conns.pop(conn_id, None)
        if conn is None:
            return
        if conn.kind == "public":
            self.public[conn.category].forget(conn_id)
        gone = self.private.conns.pop(conn_id, None)
        if gone is not None:
            self._start_switches(gone, now_ns)

    def ws_message(self, conn_id: int, text: Payload, now_ns: int) -> None:
        conn = self._conns.get(conn_id)
        if conn is None:
            return
        self._now_ns = conn.seen_ns = now_ns
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict):
            self._say(conn, {"success": False, "ret_msg": "error:invalid json", "conn_id": conn.name, "op": ""})
            return
        handler = {"public": self._on_public, "private": self._on_private, "trade": self._on_trade}[conn.kind]
        handler(conn, message, str(message.get("op", "")), now_ns)

    # --- public socket ----------------------------------------------------------------------------------------------

    def _on_public(self, conn: Conn, message: dict[str, Any], op: str, now_ns: int) -> None:
        if op == "ping":
            self._say(conn, stamped({"success": True, "ret_msg": "pong", "conn_id": conn.name}, message, "ping"))
        elif op == "subscribe":
            self._subscribe_public(conn, message, now_ns)
        elif op == "unsubscribe":
            for topic in topics_of(message):
                self.public[conn.category].unsubscribe(conn.conn_id, topic)
            self._say(conn, stamped(self._done(conn, op), message, op))
        else:
            self._fail(conn, message, op, f"error:unknown op:{op}")

    def _done(self, conn: Conn, op: str) -> dict[str, Any]:
        return {"success": True, "ret_msg": op if conn.category == "spot" else "", "conn_id": conn.name}

    def _fail(self, conn: Conn, message: dict[str, Any], op: str, why: str) -> None:
        self._say(conn, stamped({"success": False, "ret_msg": why, "conn_id": conn.name}, message, op))

    def _subscribe_public(self, conn: Conn, message: dict[str, Any], now_ns: int) -> None:
        streams, topics = self.public[conn.category], topics_of(message)
        if not topics or (conn.category == "spot" and len(topics) > SPOT_ARGS_MAX):
            self._fail(conn, message, "subscribe", "error:args size must be in 1..10")
            return
        for topic in topics:
            problem = streams.problem(conn.conn_id, topic)
            if problem:
                self._fail(conn, message, "subscribe", problem)
                return
        self._say(conn, stamped(self._done(conn, "subscribe"), message, "subscribe"))
        for topic in dict.fromkeys(topics):
            streams.subscribe(conn.conn_id, topic, now_ns)

    # --- private socket ---------------------------------------------------------------------------------------------

    def _on_private(self, conn: Conn, message: dict[str, Any], op: str, now_ns: int) -> None:
        private = self.private.conns[conn.conn_id]
        private.seen_ns = now_ns
        if op == "ping":
            pong = {"op": "pong", "args": [str(self._clock_ns(now_ns) // MS)], "conn_id": conn.name}
            if "req_id" in message:
                pong = {"req_id": message["req_id"]} | pong
            self._say(conn, pong)
        elif op == "auth":
            self._log_in_private(conn, private, message, now_ns)
        elif conn.key is None:
            self._fail(conn, message, op, "Request not authorized")
        elif op == "subscribe":
            self._subscribe_private(conn, private, message)
        elif op == "unsubscribe":
            for topic in topics_of(message):
                private.topics.pop(topic, None)
            self._say(conn, stamped({"success": True, "ret_msg": "", "conn_id": conn.name}, message, op))
        else:
            self._fail(conn, message, op, f"error:unknown op:{op}")

    def _log_in_private(self, conn: Conn, private: PrivateConn, message: dict[str, Any], now_ns: int) -> None:
        try:
            conn.key = authenticate_ws(self.core.keys, message.get("args"), self._clock_ns(now_ns))
        except Refusal as refused:
            self._fail(conn, message, "auth", refused.msg)
            self._sink.close(conn.conn_id, 1000)
            return
        private.account_id = conn.key.account_id
        self._say(conn, stamped({"success": True, "ret_msg": "", "conn_id": conn.name}, message, "auth"))

    def _subscribe_private(self, conn: Conn, private: PrivateConn, message: dict[str, Any]) -> None:
        topics = topics_of(message)
        problem = self.private.problem(topics) if topics else "error:args are empty"
        if problem:
            self._fail(conn, message, "subscribe", problem)
            return
        private.topics.update(dict.fromkeys(topics))
        for topic in topics:
            self._gone.pop((private.account_id, topic), None)
        self._say(conn, stamped({"success": True, "ret_msg": "", "conn_id": conn.name}, message, "subscribe"))

    # --- order socket -----------------------------------------------------------------------------------------------

    def _on_trade(self, conn: Conn, message: dict[str, Any], op: str, now_ns: int) -> None:
        clock_ms = self._clock_ns(now_ns) // MS
        if op == "ping":
            pong = {"retCode": 0, "retMsg": "OK", "op": "pong", "data": [str(clock_ms)], "connId": conn.name}
            self._say(conn, pong)
        elif op == "auth":
            self._log_in_trade(conn, message, now_ns)
        elif not op.startswith("order.") or op.removeprefix("order.") not in VERBS or op == "order.cancel-all":
            self._answer_trade(conn, message, op, Reply(10404, f"op type is not found: {op}"), now_ns)
        elif not self.limits.ws_allows(conn.peer_ip, now_ns):
            self._answer_trade(conn, message, op, Reply(10403, "Exceed the request limit of the IP"), now_ns)
        else:
            self._trade(conn, message, op, now_ns)

    def _log_in_trade(self, conn: Conn, message: dict[str, Any], now_ns: int) -> None:
        answer: dict[str, Any] = {"retCode": 0, "retMsg": "OK", "op": "auth", "connId": conn.name}
        if conn.key is not None:
            answer |= {"retCode": 20001, "retMsg": "Repeat auth"}
        else:
            try:
                conn.key = authenticate_ws(self.core.keys, message.get("args"), self._clock_ns(now_ns))
            except Refusal as refused:
                answer |= {"retCode": refused.code, "retMsg": refused.msg}
        for name in ("reqId", "req_id"):
            if name in message:
                answer[name] = message[name]
        self._say(conn, answer)

    def _trade(self, conn: Conn, message: dict[str, Any], op: str, now_ns: int) -> None:
        try:
            args = self._check_trade(conn, message, now_ns)
        except Refusal as refused:
            self._answer_trade(conn, message, op, Reply(refused.code, refused.msg), now_ns)
            return
        assert conn.key is not None
        reply, events_first = self.requests.order(op.removeprefix("order."), conn.key, args, now_ns)
        if events_first:
            self.private.release()
        if not reply.is_dropped:
            self._answer_trade(conn, message, op, reply, now_ns)
        if not events_first:
            self.private.release()
        if reply.closes:
            self._sink.close(conn.conn_id, 1006)

    def _check_trade(self, conn: Conn, message: dict[str, Any], now_ns: int) -> dict[str, Any]:
        if conn.key is None:
            raise Refusal(BAD_KEY, "The request is not logged in.")
        header, args = message.get("header"), message.get("args")
        if not isinstance(header, dict):
            raise Refusal(PARAMS, "params error: header is required")
        check_window(header.get("X-BAPI-TIMESTAMP"), header.get("X-BAPI-RECV-WINDOW"), self._clock_ns(now_ns))
        if not isinstance(args, list) or len(args) != 1 or not isinstance(args[0], dict):
            raise Refusal(PARAMS, "params error: args must hold one object")
        req_id = message.get("reqId")
        if req_id is not None:
            if len(str(req_id)) > 36:
                raise Refusal(PARAMS, "params error: reqId is longer than 36 characters")
            if str(req_id) in conn.req_ids:
                raise Refusal(20006, "reqId is duplicated")
            conn.req_ids[str(req_id)] = None
            if len(conn.req_ids) > REQ_IDS_KEPT:
                del conn.req_ids[next(iter(conn.req_ids))]
        return args[0]

    def _answer_trade(self, conn: Conn, message: dict[str, Any], op: str, reply: Reply, now_ns: int) -> None:
        self._trace += 1
        header = dict(reply.grant.headers()) if reply.grant is not None else {}
        header |= {"Traceid": f"{self._trace:032x}", "Timenow": str(self._clock_ns(now_ns) // MS)}
        answer: dict[str, Any] = {} if "reqId" not in message else {"reqId": message["reqId"]}
        answer |= {"retCode": reply.code, "retMsg": reply.msg, "op": op, "data": reply.result}
        answer |= {"retExtInfo": reply.ext, "header": header, "connId": conn.name}
        self._say(conn, answer, reply.delay_ns)

    # --- time -------------------------------------------------------------------------------------------------------

    def next_timer_ns(self) -> int:
        due = min(self._outbox.next_due_ns(), *(streams.next_due_ns() for streams in self.public.values()))
        due = min(due, *self._gone.values()) if self._gone else due
        return min(due, self._scan_due_ns) if self._conns else due

    def on_timer(self, now_ns: int) -> None:
        self._now_ns = now_ns
        for streams in self.public.values():
            if now_ns >= streams.next_due_ns():
                streams.on_timer(now_ns)
        self._outbox.flush(now_ns)
        if now_ns >= self._scan_due_ns:
            self._scan_due_ns = now_ns + SCAN_NS
            self._scan(now_ns)
        for switch, deadline_ns in list(self._gone.items()):
            if now_ns >= deadline_ns:
                del self._gone[switch]
                account_id, topic = switch
                self.core.cancel_all(account_id, None, now_ns, market=DCP_TOPICS[topic], reason=Reason.COUNTDOWN)

    def _scan(self, now_ns: int) -> None:
        for conn in list(self._conns.values()):
            if now_ns - conn.seen_ns >= conn.idle_ns:
                conn.idle_ns = FOREVER
                self._sink.close(conn.conn_id, 1000)
        # A private socket that is open but silent protects nobody.
        for private in self.private.conns.values():
            for topic in private.topics:
                window_ns = self._window_ns(private.account_id, topic)
                if window_ns and now_ns - private.seen_ns > 20 * SECOND + window_ns:
                    self._gone.setdefault((private.account_id, topic), now_ns)

    def _start_switches(self, gone: PrivateConn, now_ns: int) -> None:
        """DCP: the clock runs from when the last socket that was subscribed to a product is gone."""
        for topic in gone.topics:
            window_ns = self._window_ns(gone.account_id, topic)
            guarded = any(
                topic in other.topics and other.account_id == gone.account_id for other in self.private.conns.values()
            )
            if window_ns and not guarded:
                self._gone[gone.account_id, topic] = now_ns + window_ns

    def _window_ns(self, account_id: int, topic: str) -> int:
        product = DCP_PRODUCTS.get(topic)
        if product is None:
            return 0
        windows = self.core.accounts[account_id].settings.get("dcp", {})
        assert isinstance(windows, dict)
        return int(windows.get(product, 0)) * SECOND


def stamped(answer: dict[str, Any], message: Mapping[str, Any], op: str) -> dict[str, Any]:
    """Add what a control answer ends with: the request's own id, if it had one, and the op."""
    if "req_id" in message:
        answer["req_id"] = message["req_id"]
    answer["op"] = op
    return answer


def topics_of(message: Mapping[str, Any]) -> list[str]:
    args = message.get("args")
    return [str(topic) for topic in args] if isinstance(args, list) else []


def active_time_ns(text: str) -> int:
    """`max_active_time=30s` or `10m`, within 30 s and 10 min; 10 min when absent or wrong."""
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in ("s", "m"):
        return IDLE_NS
    return max(30 * SECOND, min(IDLE_NS, int(number) * (SECOND if unit == "s" else 60 * SECOND)))


def json_object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(PARAMS, "params error: body is not JSON") from None
    if not isinstance(message, dict):
        raise Refusal(PARAMS, "params error: body is not an object")
    return message
