"""The Bybit front, message by message: shapes, codes, sequences and limits that bybit's documentation names.

A front is driven without sockets: `Desk` is its sink and its clock.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from engine.types import Market, Side
from tools.exchange.assemble import add_account, build_listing
from tools.exchange.bybit.auth import authenticate, authenticate_ws, sign
from tools.exchange.bybit.codes import Refusal
from tools.exchange.bybit.front import BybitFront
from tools.exchange.bybit.limits import Limits
from tools.exchange.core import ApiKey, VenueCore
from tools.exchange.front import HttpAnswer
from tools.exchange.model import Fault, FaultKind, Listing, Policy
from tools.exchange.settings import demo_accounts, demo_listings

MS = 1_000_000
SECOND = 1000 * MS
START_NS = 1_763_800_000_000 * MS
KEY, SECRET = "demo-key-bybit-0001", "demo-secret-bybit-0001"
MID = 640_000  # ticks of BTCUSDT linear: 64,000


class Desk:
    """A core with two books around 64,000, a front, and everything that the front has sent."""

    def __init__(self, *, seed: int = 1, double_filled: float = 0.0) -> None:
        self.now_ns = START_NS
        self.sent: dict[int, list[dict[str, Any]]] = {}
        self.closed: list[tuple[int, int]] = []
        policy = Policy(
            post_only_refuses=False, client_id_forever=True, unified_wallet=True, qty_down_keeps_priority=True
        )
        rows = [row for row in demo_listings() if row.venue == "bybit"]
        listings = [build_listing(index, row) for index, row in enumerate(rows)]
        self.core = VenueCore("bybit", listings, {Market.SPOT: policy, Market.LINEAR: policy})
        for account in demo_accounts():
            add_account(self.core, account, self.now_ns)
        self.front = BybitFront(self.core, self, seed=seed, double_filled=double_filled)
        for listing in listings:
            if listing.symbol == "BTCUSDT":
                self.core.set_mark(listing, MID, self.now_ns)
                for step in range(1, 61):
                    self.level(listing, Side.BUY, MID - step, 1000)
                    self.level(listing, Side.SELL, MID + step, 1000)

    # the sink
    def send(self, conn_id: int, payload: str | bytes) -> None:
        self.sent.setdefault(conn_id, []).append(json.loads(payload))

    def close(self, conn_id: int, code: int = 1000) -> None:
        self.closed.append((conn_id, code))

    # the world
    def listing(self, market: Market = Market.LINEAR) -> Listing:
        listing = self.core.listing(market, "BTCUSDT")
        assert listing is not None
        return listing

    def level(self, listing: Listing, side: Side, px: int, qty: int) -> None:
        self.core.house_level(listing, side, px, qty, self.now_ns)

    def run(self, ms: int) -> None:
        """Let time pass, timer by timer."""
        end_ns = self.now_ns + ms * MS
        while (due_ns := self.front.next_timer_ns()) <= end_ns:
            self.now_ns = max(self.now_ns, due_ns)
            self.front.on_timer(self.now_ns)
        self.now_ns = end_ns

    def open(self, path: str, conn_id: int) -> int:
        status = self.front.ws_open(conn_id, path, "", {}, "127.0.0.1", self.now_ns)
        assert status == 0
        return conn_id

    def say(self, conn_id: int, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Send one message; what came back at once on that socket."""
        before = len(self.sent.get(conn_id, []))
        self.front.ws_message(conn_id, json.dumps(message), self.now_ns)
        return self.sent.get(conn_id, [])[before:]

    def auth_message(self, expires: Any = None) -> dict[str, Any]:
        expires = self.now_ns // MS + 10_000 if expires is None else expires
        return {"req_id": "a", "op": "auth", "args": [KEY, expires, sign(SECRET, f"GET/realtime{expires}".encode())]}

    def private(self, *topics: str, conn_id: int = 50) -> int:
        self.open("/v5/private", conn_id)
        self.say(conn_id, self.auth_message())
        assert self.say(conn_id, {"op": "subscribe", "args": list(topics)})[0]["success"] is True
        return conn_id

    def trade(self, conn_id: int = 60) -> int:
        self.open("/v5/trade", conn_id)
        assert self.say(conn_id, self.auth_message())[0]["retCode"] == 0
        return conn_id

    def order(self, conn_id: int, op: str, **args: Any) -> dict[str, Any]:
        """One request on the order socket; the answer."""
        fields = {"category": "linear", "symbol": "BTCUSDT"} | args
        self.number = getattr(self, "number", 0) + 1
        message = {"reqId": f"r{self.number}", "header": self.header(), "op": f"order.{op}", "args": [fields]}
        return [each for each in self.say(conn_id, message) if each.get("op") == f"order.{op}"][-1]

    def header(self) -> dict[str, str]:
        return {"X-BAPI-TIMESTAMP": str(self.now_ns // MS), "X-BAPI-RECV-WINDOW": "5000"}

    def http(self, method: str, path: str, query: str = "", body: str = "", **headers: str) -> HttpAnswer:
        stamp = str(self.now_ns // MS)
        text = f"{stamp}{KEY}5000{query or body}".encode()
        signed = {
            "x-bapi-api-key": KEY,
            "x-bapi-timestamp": stamp,
            "x-bapi-recv-window": "5000",
            "x-bapi-sign": sign(SECRET, text),
        }
        return self.front.http(method, path, query, signed | headers, body.encode(), "127.0.0.1", self.now_ns)

    def get(self, path: str, query: str = "") -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.http("GET", path, query).body)
        return answer

    def topics(self, conn_id: int, topic: str) -> list[dict[str, Any]]:
        """Rows of one topic, in the order in which they came."""
        frames = [each for each in self.sent.get(conn_id, []) if each.get("topic") == topic]
        return [row for frame in frames for row in frame["data"]]

    def spend(self) -> None:
        """Let the one-second windows pass."""
        self.run(1001)


@pytest.fixture
def desk() -> Desk:
    return Desk()


LIMIT = {"side": "Buy", "orderType": "Limit", "qty": "0.010", "price": "63000"}


# --- authentication -------------------------------------------------------------------------------------------------

VECTOR_KEYS = {KEY: ApiKey(KEY, 2, secret=SECRET)}
VECTOR_NS = 1_763_800_000_000 * MS
VECTORS = [
    (b"category=linear&symbol=BTCUSDT", "80cf9665cc912383b950c1adecd12fb570e3c6da385e4b408c69d6c17ebfcf26"),
    (
        b'{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.01","price":"25000",'
        b'"timeInForce":"PostOnly","orderLinkId":"eng-000001"}',
        "3d772ade8d9fb71fb36f399c334f9abb352c934ee033a8dd2d589e8b6b0be931",
    ),
]


def rest_headers(signature: str, stamp: str = "1763800000000") -> dict[str, str]:
    return {
        "x-bapi-api-key": KEY,
        "x-bapi-timestamp": stamp,
        "x-bapi-recv-window": "5000",
        "x-bapi-sign": signature,
    }


@pytest.mark.parametrize(("payload", "signature"), VECTORS)
def test_signature_vectors_are_accepted(payload: bytes, signature: str) -> None:
    assert authenticate(VECTOR_KEYS, rest_headers(signature), payload, VECTOR_NS).account_id == 2


@pytest.mark.parametrize(("payload", "signature"), VECTORS)
def test_changed_byte_of_the_payload_is_a_wrong_signature(payload: bytes, signature: str) -> None:
    with pytest.raises(Refusal) as refused:
        authenticate(VECTOR_KEYS, rest_headers(signature), payload + b" ", VECTOR_NS)
    assert refused.value.code == 10004


@pytest.mark.parametrize("expires", [1763800010000, "1763800010000"])
def test_socket_login_vector_is_accepted_as_number_and_as_text(expires: object) -> None:
    signature = "b0dfb8cb398d2a03b2418593ab9a6ab7608b1f9886cfc67ad645b5f9d8503bf2"
    assert authenticate_ws(VECTOR_KEYS, [KEY, expires, signature], VECTOR_NS).key == KEY


@pytest.mark.parametrize(
    ("clock_ms", "is_inside"),
    [
        (1763800005000, True),
        (1763800005001, False),
        (1763799999001, True),
        (1763799999000, False),
    ],
)
def test_window_has_the_documented_edges(clock_ms: int, is_inside: bool) -> None:
    payload, signature = VECTORS[0]
    if is_inside:
        authenticate(VECTOR_KEYS, rest_headers(signature), payload, clock_ms * MS)
        return
    with pytest.raises(Refusal) as refused:
        authenticate(VECTOR_KEYS, rest_headers(signature), payload, clock_ms * MS)
    assert refused.value.code == 10002


def test_pretty_printed_body_is_verified_as_it_was_sent(desk: Desk) -> None:
    body = json.dumps({"category": "linear", "symbol": "BTCUSDT"} | LIMIT, indent=1)
    answer = json.loads(desk.http("POST", "/v5/order/create", body=body).body)
    assert answer["retCode"] == 0
    assert answer["result"].keys() == {"orderId", "orderLinkId"}


def test_skewed_clock_refuses_requests_of_a_right_one(desk: Desk) -> None:
    desk.core.hooks.clock_skew_ns = 6 * SECOND
    assert desk.get("/v5/account/info")["retCode"] == 10002


def test_three_sockets_have_three_kinds_of_pong_and_login(desk: Desk) -> None:
    public = desk.open("/v5/public/linear", 1)
    pong = desk.say(public, {"req_id": 7, "op": "ping"})[0]
    assert pong == {"success": True, "ret_msg": "pong", "conn_id": "c1", "req_id": 7, "op": "ping"}
    private = desk.open("/v5/private", 2)
    assert desk.say(private, desk.auth_message())[0] == {
        "success": True,
        "ret_msg": "",
        "conn_id": "c2",
        "req_id": "a",
        "op": "auth",
    }
    assert desk.say(private, {"req_id": "3", "op": "ping"})[0] == {
        "req_id": "3",
        "op": "pong",
        "args": [str(START_NS // MS)],
        "conn_id": "c2",
    }
    trade = desk.open("/v5/trade", 3)
    login = desk.say(trade, desk.auth_message())[0]
    assert (login["retCode"], login["connId"]) == (0, "c3")
    pong = desk.say(trade, {"op": "ping"})[0]
    assert pong["data"] == [str(START_NS // MS)]
    assert desk.say(trade, desk.auth_message())[0]["retCode"] == 20001


def test_failed_login_of_a_private_socket_is_told_and_closed(desk: Desk) -> None:
    conn = desk.open("/v5/private", 2)
    message = desk.auth_message()
    message["args"][2] = "0" * 64
    assert desk.say(conn, message)[0]["success"] is False
    assert desk.closed == [(2, 1000)]


# --- public streams -------------------------------------------------------------------------------------------------


class Mirror:
    """A client's book, made from frames alone: raises on a gap in `u`, as a client must notice it."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.u = 0

    def apply(self, frame: dict[str, Any]) -> None:
        rows = frame["data"]
        if frame["type"] == "snapshot":
            self.bids, self.asks = {}, {}
        else:
            assert rows["u"] == self.u + 1, f"u {rows['u']} after {self.u}"
        self.u = rows["u"]
        for side, changes in ((self.bids, rows["b"]), (self.asks, rows["a"])):
            for px, qty in changes:
                if qty == "0":
                    del side[px]
                else:
                    side[px] = qty
        assert len(self.bids) <= self.depth and len(self.asks) <= self.depth


@pytest.mark.parametrize("depth", [1, 50, 200, 1000])
def test_client_that_follows_the_rules_holds_the_top_of_the_book(desk: Desk, depth: int) -> None:
    conn = desk.open("/v5/public/linear", 1)
    desk.say(conn, {"op": "subscribe", "args": [f"orderbook.{depth}.BTCUSDT"]})
    listing = desk.listing()
    for step in range(40):
        # The best bid moves through the ladder and levels slide in and out of the window.
        desk.level(listing, Side.BUY, MID - 1 - step % 7, 0 if step % 3 else 500 + step)
        desk.level(listing, Side.SELL, MID + 1 + step % 60, 100 + step)
        desk.run(70)
    desk.run(400)
    mirror = Mirror(depth)
    for frame in desk.sent[conn][1:]:
        mirror.apply(frame)
    for side, levels in ((Side.BUY, mirror.bids), (Side.SELL, mirror.asks)):
        expected = {f"{px / 10:.2f}": f"{qty / 1000:.3f}" for px, qty in desk.core.depth(listing, side, depth)}
        assert levels == expected


def test_depth_window_deletes_what_is_pushed_out_of_it(desk: Desk) -> None:
    conn = desk.open("/v5/public/linear", 1)
    desk.say(conn, {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
    desk.level(desk.listing(), Side.BUY, MID, 0)
    desk.core.house_level(desk.listing(), Side.SELL, MID + 1, 0, desk.now_ns)
    desk.run(25)
    delta = desk.sent[conn][-1]
    assert delta["type"] == "delta"
    # One level gone at the top, one slid in at the bottom.
    assert delta["data"]["a"] == [["64005.10", "1.000"], ["64000.10", "0"]]


def test_new_subscriber_gets_a_snapshot_that_its_deltas_continue(desk: Desk) -> None:
    first, second = desk.open("/v5/public/linear", 1), desk.open("/v5/public/linear", 2)
    desk.say(first, {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
    desk.level(desk.listing(), Side.BUY, MID - 1, 77)
    # Between two flushes: what the second is told must be what the first already has.
    desk.say(second, {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
    desk.run(25)
    mirrors = {conn: Mirror(50) for conn in (first, second)}
    for conn, mirror in mirrors.items():
        for frame in desk.sent[conn][1:]:
            mirror.apply(frame)
    assert mirrors[first].bids == mirrors[second].bids
    assert mirrors[first].bids["63999.90"] == "0.077"


def test_one_level_book_is_repeated_after_three_seconds_with_the_same_u(desk: Desk) -> None:
    conn = desk.open("/v5/public/linear", 1)
    desk.say(conn, {"op": "subscribe", "args": ["orderbook.1.BTCUSDT"]})
    desk.run(2_990)
    assert len(desk.sent[conn]) == 2
    desk.run(3_200)
    frames = desk.sent[conn][1:]
    assert len(frames) == 3
    assert {frame["type"] for frame in frames} == {"snapshot"}
    assert len({frame["data"]["u"] for frame in frames}) == 1


def test_key_order_of_book_frames_differs_between_markets(desk: Desk) -> None:
    linear, spot = desk.open("/v5/public/linear", 1), desk.open("/v5/public/spot", 2)
    for conn in (linear, spot):
        desk.say(conn, {"op": "subscribe", "args": ["orderbook.50.BTCUSDT", "orderbook.1.BTCUSDT"]})
    order = {(conn, frame["topic"]): list(frame)[1:3] for conn in (linear, spot) for frame in desk.sent[conn][1:]}
    assert order[linear, "orderbook.50.BTCUSDT"] == ["type", "ts"]
    assert order[linear, "orderbook.1.BTCUSDT"] == ["ts", "type"]
    assert order[spot, "orderbook.50.BTCUSDT"] == ["ts", "type"]


def test_subscription_answers_differ_between_markets(desk: Desk) -> None:
    linear, spot = desk.open("/v5/public/linear", 1), desk.open("/v5/public/spot", 2)
    message = {"req_id": "1", "op": "subscribe", "args": ["publicTrade.BTCUSDT"]}
    assert desk.say(linear, message)[0]["ret_msg"] == ""
    assert desk.say(spot, message)[0]["ret_msg"] == "subscribe"
    again = desk.say(spot, message)[0]
    assert again["success"] is False and "already subscribed" in again["ret_msg"]
    wrong = desk.say(linear, {"op": "subscribe", "args": ["orderbook.500.BTCUSDT"]})[0]
    assert wrong["success"] is False and "handler not found" in wrong["ret_msg"]
    assert desk.say(spot, {"op": "subscribe", "args": [f"t{n}" for n in range(11)]})[0]["success"] is False


def test_trade_says_the_taker_and_the_id_of_its_execution(desk: Desk) -> None:
    public, private, trade = desk.open("/v5/public/linear", 1), desk.private("execution"), desk.trade()
    desk.say(public, {"op": "subscribe", "args": ["publicTrade.BTCUSDT"]})
    desk.order(trade, "create", **LIMIT | {"price": "64010", "side": "Buy", "timeInForce": "IOC"})
    (printed,) = desk.topics(public, "publicTrade.BTCUSDT")
    (execution,) = desk.topics(private, "execution")
    assert (printed["S"], printed["p"], printed["v"]) == ("Buy", "64000.10", "0.010")
    assert printed["i"] == execution["execId"]
    assert "L" in printed and "BT" in printed


def test_linear_ticker_sends_only_what_changed_after_the_first(desk: Desk) -> None:
    conn = desk.open("/v5/public/linear", 1)
    desk.say(conn, {"op": "subscribe", "args": ["tickers.BTCUSDT"]})
    desk.run(300)
    assert [frame["type"] for frame in desk.sent[conn][1:]] == ["snapshot"]
    desk.level(desk.listing(), Side.BUY, MID, 5)
    desk.run(300)
    delta = desk.sent[conn][-1]
    assert delta["type"] == "delta"
    assert delta["data"] == {"symbol": "BTCUSDT", "bid1Price": "64000.00", "bid1Size": "0.005"}


def test_service_restart_is_a_snapshot_with_u_one(desk: Desk) -> None:
    conn = desk.open("/v5/public/linear", 1)
    desk.say(conn, {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
    desk.front.restart_books(desk.listing(), desk.now_ns)
    frame = desk.sent[conn][-1]
    assert (frame["type"], frame["data"]["u"], len(frame["data"]["b"])) == ("snapshot", 1, 50)


def test_dropped_book_event_leaves_a_gap_in_u(desk: Desk) -> None:
    conn = desk.open("/v5/public/linear", 1)
    desk.say(conn, {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
    desk.core.hooks.drop_book_events = 1
    for qty in (5, 6):
        desk.level(desk.listing(), Side.BUY, MID - 1, qty)
        desk.run(25)
    before, after = (frame["data"]["u"] for frame in desk.sent[conn][1:])
    assert after == before + 2


def test_rest_depth_agrees_with_the_1000_level_stream(desk: Desk) -> None:
    conn = desk.open("/v5/public/linear", 1)
    desk.say(conn, {"op": "subscribe", "args": ["orderbook.1000.BTCUSDT"]})
    desk.level(desk.listing(), Side.BUY, MID - 1, 9)
    before = desk.get("/v5/market/orderbook", "category=linear&symbol=BTCUSDT&limit=3")["result"]
    assert before["u"] == desk.sent[conn][-1]["data"]["u"]
    assert before["b"][0] == ["63999.90", "1.000"], "the answer shows the state that `u` names"
    desk.run(250)
    after = desk.get("/v5/market/orderbook", "category=linear&symbol=BTCUSDT&limit=3")["result"]
    assert after["u"] == before["u"] + 1 and after["b"][0] == ["63999.90", "0.009"]
    assert after["seq"] > before["seq"]


# --- orders ---------------------------------------------------------------------------------------------------------


def test_acknowledgement_promises_nothing_but_the_ids(desk: Desk) -> None:
    answer = desk.order(desk.trade(), "create", orderLinkId="eng-1", **LIMIT)
    assert answer["retCode"] == 0 and answer["reqId"] == "r1"
    assert answer["data"].keys() == {"orderId", "orderLinkId"}
    assert (answer["header"]["X-Bapi-Limit"], answer["header"]["X-Bapi-Limit-Status"]) == ("10", "9")
    assert "connId" in answer and "conn_id" not in answer


def test_post_only_that_crosses_is_acknowledged_then_canceled(desk: Desk) -> None:
    private, trade = desk.private("order"), desk.trade()
    answer = desk.order(trade, "create", **LIMIT | {"price": "64010", "timeInForce": "PostOnly"})
    assert answer["retCode"] == 0
    (row,) = desk.topics(private, "order")
    assert (row["orderStatus"], row["rejectReason"]) == ("Cancelled", "EC_PostOnlyWillTakeLiquidity")
    assert (row["cumExecQty"], row["leavesQty"], row["avgPrice"]) == ("0", "0", "")


@pytest.mark.parametrize(("category", "status"), [("linear", "Cancelled"), ("spot", "PartiallyFilledCanceled")])
def test_ioc_remainder_ends_with_the_word_of_its_market(desk: Desk, category: str, status: str) -> None:
    private, trade = desk.private("order", "execution"), desk.trade()
    expected = "1.000" if category == "linear" else "0.001000"
    order = {"side": "Buy", "orderType": "Limit", "price": "64000.1", "timeInForce": "IOC", "category": category}
    desk.order(trade, "create", qty="1.5", **order)
    row = desk.topics(private, "order")[-1]
    assert (row["orderStatus"], row["cumExecQty"]) == (status, expected)
    assert row["rejectReason"] == "EC_NoImmediateQtyToFill"
    assert ("tpslMode" in row, "createType" in row) == ((category == "linear"),) * 2


def test_fill_or_kill_that_cannot_is_canceled_whole(desk: Desk) -> None:
    private, trade = desk.private("order"), desk.trade()
    desk.order(trade, "create", **LIMIT | {"price": "64000.1", "qty": "2", "timeInForce": "FOK"})
    (row,) = desk.topics(private, "order")
    assert (row["orderStatus"], row["rejectReason"]) == ("Cancelled", "EC_CancelForNoFullFill")


def test_fee_currency_of_spot_is_what_is_received(desk: Desk) -> None:
    private, trade = desk.private("execution"), desk.trade()
    order = {"category": "spot", "orderType": "Limit", "qty": "0.0005", "timeInForce": "IOC"}
    desk.order(trade, "create", side="Buy", price="64010", **order)
    desk.order(trade, "create", side="Sell", price="63990", **order)
    buy, sell = desk.topics(private, "execution")
    assert (buy["feeCurrency"], buy["execFee"]) == ("BTC", "0.0000001")
    assert sell["feeCurrency"] == "USDT"


@pytest.mark.parametrize(
    ("category", "codes"),
    [
        ("linear", {"duplicate": 110072, "unknown": 110001, "canceled": 110001, "filled": 110001}),
        ("spot", {"duplicate": 170141, "unknown": 170213, "canceled": 170142, "filled": 170139}),
    ],
)
def test_two_markets_have_two_sets_of_codes(category: str, codes: dict[str, int]) -> None:
    desk = Desk()
    trade = desk.trade()
    order = LIMIT | {"category": category}
    assert desk.order(trade, "create", orderLinkId="one", **order)["retCode"] == 0
    assert desk.order(trade, "create", orderLinkId="one", **order)["retCode"] == codes["duplicate"]
    assert desk.order(trade, "cancel", category=category, orderLinkId="nobody")["retCode"] == codes["unknown"]
    assert desk.order(trade, "cancel", category=category, orderLinkId="one")["retCode"] == 0
    assert desk.order(trade, "cancel", category=category, orderLinkId="one")["retCode"] == codes["canceled"]
    # A client id outlives its order.
    assert desk.order(trade, "create", orderLinkId="one", **order)["retCode"] == codes["duplicate"]
    filled = {**order, "qty": "0.0005" if category == "spot" else "0.010", "price": "64010"}
    assert desk.order(trade, "create", orderLinkId="two", **filled)["retCode"] == 0
    assert desk.order(trade, "cancel", category=category, orderLinkId="two")["retCode"] == codes["filled"]


REFUSED = [
    ({"category": "linear", "qty": "0.0001"}, 10001),
    ({"category": "linear", "price": "63000.05"}, 10001),
    ({"category": "linear", "price": "32000"}, 110003),
    ({"category": "linear", "reduceOnly": True}, 110017),
    ({"category": "linear", "qty": "1190.001"}, 10001),
    ({"category": "linear", "timeInForce": "RPI"}, 110119),
    ({"category": "linear", "triggerPrice": "64000"}, 10001),
    ({"category": "linear", "orderLinkId": "with space"}, 10001),
    ({"category": "linear", "symbol": "NOPE"}, 10001),
    ({"category": "spot", "symbol": "NOPE"}, 170121),
    ({"category": "spot", "qty": "0.0000001"}, 170137),
    ({"category": "spot", "price": "63000.05"}, 170134),
    ({"category": "spot", "qty": "0.00002"}, 170140),
    ({"category": "spot", "qty": "83"}, 170131),
    ({"category": "spot", "price": "80000"}, 170193),
    ({"category": "spot", "side": "Sell", "price": "40000"}, 170194),
    ({"category": "option"}, 10001),
]


@pytest.mark.parametrize(("changes", "code"), REFUSED)
def test_refused_order_has_its_code_and_changes_nothing(desk: Desk, changes: dict[str, Any], code: int) -> None:
    answer = desk.order(desk.trade(), "create", **LIMIT | changes)
    assert answer["retCode"] == code, answer
    assert answer["data"] == {}
    assert not desk.core.accounts[2].orders
    desk.core.check()


def test_amend_changes_total_quantity_and_refuses_no_change(desk: Desk) -> None:
    private, trade = desk.private("order"), desk.trade()
    order_id = desk.order(trade, "create", **LIMIT)["data"]["orderId"]
    assert desk.order(trade, "amend", orderId=order_id, price="63000")["retCode"] == 34040
    assert desk.order(trade, "amend", orderId=order_id, price="63010", qty="0.02")["retCode"] == 0
    row = desk.topics(private, "order")[-1]
    assert (row["orderId"], row["price"], row["qty"], row["orderStatus"]) == (order_id, "63010.00", "0.020", "New")


def test_batch_fails_item_by_item_and_costs_one_per_order(desk: Desk) -> None:
    trade = desk.trade()
    items = [{"symbol": "BTCUSDT"} | LIMIT, {"symbol": "BTCUSDT"} | LIMIT | {"qty": "0.0001"}]
    answer = desk.order(trade, "create-batch", request=items)
    assert answer["retCode"] == 0
    assert [row["code"] for row in answer["retExtInfo"]["list"]] == [0, 10001]
    assert [bool(row["orderId"]) for row in answer["data"]["list"]] == [True, False]
    assert answer["header"]["X-Bapi-Limit-Status"] == "8"


def test_every_position_and_wallet_frame_follows_an_order(desk: Desk) -> None:
    private, trade = desk.private("position", "wallet"), desk.trade()
    desk.order(trade, "create", **LIMIT)
    (position,) = desk.topics(private, "position")
    assert (position["size"], position["side"], "entryPrice" in position) == ("0", "", True)
    (wallet,) = desk.topics(private, "wallet")
    coin = {row["coin"]: row for row in wallet["coin"]}["USDT"]
    assert float(coin["totalOrderIM"]) == pytest.approx(63000 * 0.01 / 20)


def test_position_average_price_has_two_names(desk: Desk) -> None:
    private, trade = desk.private("position"), desk.trade()
    desk.order(trade, "create", **LIMIT | {"price": "64010", "qty": "1.5"})
    row = desk.topics(private, "position")[-1]
    rest = desk.get("/v5/position/list", "category=linear&symbol=BTCUSDT")["result"]["list"][0]
    # 1.0 at 64000.1 and 0.5 at 64000.2.
    assert float(row["entryPrice"]) == pytest.approx((64000.1 + 0.5 * 64000.2) / 1.5)
    assert rest["avgPrice"] == row["entryPrice"]
    assert (rest["side"], rest["size"]) == ("Buy", "1.500")


def test_topics_come_in_an_order_that_the_seed_draws() -> None:
    orders = set()
    firsts = set()
    for seed in range(12):
        desk = Desk(seed=seed)
        private, trade = desk.private("order", "execution", "position", "wallet"), desk.trade()
        desk.sent[private].clear()
        desk.order(trade, "create", **LIMIT | {"price": "64010"})
        orders.add(tuple(frame["topic"] for frame in desk.sent[private]))
        again = Desk(seed=seed)
        private, trade = again.private("order", "execution", "position", "wallet"), again.trade()
        again.sent[private].clear()
        again.order(trade, "create", **LIMIT | {"price": "64010"})
        assert again.sent[private] == desk.sent[private], "the same seed must say the same"
        firsts.add(desk.sent[private][0]["topic"])
    assert len(orders) > 3 and len(firsts) > 1


def test_events_leave_before_some_answers_and_after_others() -> None:
    seen = set()
    for seed in range(12):
        desk = Desk(seed=seed)
        order: list[str] = []
        send = desk.send
        desk.front._outbox.sink.send = lambda conn, payload, s=send, o=order: (o.append(str(conn)), s(conn, payload))
        desk.private("order")
        trade = desk.trade()
        order.clear()
        desk.order(trade, "create", **LIMIT)
        seen.add(tuple(order))
    assert seen == {("50", "60"), ("60", "50")}


def test_filled_order_may_say_so_twice() -> None:
    desk = Desk(double_filled=1.0)
    private, trade = desk.private("order"), desk.trade()
    desk.order(trade, "create", **LIMIT | {"price": "64010"})
    rows = [row for row in desk.topics(private, "order") if row["orderStatus"] == "Filled"]
    assert [(row["cancelType"], row["rejectReason"]) for row in rows] == [
        ("UNKNOWN", "EC_NoError"),
        ("CancelByUser", "EC_OrigClOrdIDDoesNotExist"),
    ]


def test_cancel_after_the_fill_may_be_accepted_and_say_filled_again() -> None:
    desk = Desk()
    private, trade = desk.private("order"), desk.trade()
    desk.order(trade, "create", orderLinkId="one", **LIMIT | {"price": "64010"})
    assert desk.order(trade, "cancel", orderLinkId="one")["retCode"] == 110001
    desk.front.private._double_filled = 1.0
    assert desk.order(trade, "cancel", orderLinkId="one")["retCode"] == 0
    last = desk.topics(private, "order")[-1]
    assert (last["orderStatus"], last["rejectReason"]) == ("Filled", "EC_OrigClOrdIDDoesNotExist")


def test_fast_executions_name_no_client_id_of_a_maker(desk: Desk) -> None:
    private, trade = desk.private("execution.fast"), desk.trade()
    desk.order(trade, "create", orderLinkId="rests", **LIMIT | {"price": "64000.0"})
    desk.core.house_trade(desk.listing(), Side.SELL, 10, desk.now_ns, px_ticks=MID)
    (row,) = desk.topics(private, "execution.fast")
    assert (row["isMaker"], row["orderLinkId"]) == (True, "")
    assert "execFee" not in row
    assert all("id" not in frame for frame in desk.sent[private] if frame.get("topic") == "execution.fast")


def test_funding_is_an_execution_that_moves_no_size(desk: Desk) -> None:
    private, trade = desk.private("execution", "wallet"), desk.trade()
    desk.order(trade, "create", **LIMIT | {"price": "64010"})
    desk.core.apply_funding(desk.listing(), 10_000, desk.now_ns)
    funding = [row for row in desk.topics(private, "execution") if row["execType"] == "Funding"]
    assert [(row["orderType"], row["execQty"]) for row in funding] == [("UNKNOWN", "0.010")]
    assert float(funding[0]["execFee"]) == pytest.approx(640 * 0.0001)
    assert desk.get("/v5/position/list", "category=linear&symbol=BTCUSDT")["result"]["list"][0]["size"] == "0.010"


def test_categorised_topic_holds_its_category_only(desk: Desk) -> None:
    private, trade = desk.private("order.spot"), desk.trade()
    desk.order(trade, "create", **LIMIT)
    desk.order(trade, "create", **LIMIT | {"category": "spot"})
    assert [row["category"] for row in desk.topics(private, "order.spot")] == ["spot"]
    mixed = desk.say(private, {"op": "subscribe", "args": ["execution", "execution.linear"]})[0]
    assert mixed["success"] is False


def test_order_socket_refuses_what_it_must(desk: Desk) -> None:
    trade = desk.open("/v5/trade", 60)
    assert desk.order(trade, "create", **LIMIT)["retCode"] == 10003
    desk.say(trade, desk.auth_message())
    assert desk.say(trade, {"op": "order.nonsense", "reqId": "x"})[0]["retCode"] == 10404
    late = {"X-BAPI-TIMESTAMP": str(desk.now_ns // MS - 6000)}
    message = {"reqId": "y", "header": late, "op": "order.create", "args": [{"category": "linear"} | LIMIT]}
    assert desk.say(trade, message)[0]["retCode"] == 10002
    good = message | {"header": {"X-BAPI-TIMESTAMP": desk.now_ns // MS}, "reqId": "z"}
    good["args"] = [{"category": "linear", "symbol": "BTCUSDT"} | LIMIT]
    assert desk.say(trade, good)[0]["retCode"] == 0, "header values may be numbers"
    assert desk.say(trade, good)[0]["retCode"] == 20006
    del good["reqId"]
    assert "reqId" not in desk.say(trade, good)[0]


# --- queries --------------------------------------------------------------------------------------------------------


def test_realtime_shows_open_orders_and_by_id_the_closed_too(desk: Desk) -> None:
    trade = desk.trade()
    desk.order(trade, "create", orderLinkId="open", **LIMIT)
    desk.order(trade, "create", orderLinkId="gone", **LIMIT)
    desk.order(trade, "cancel", orderLinkId="gone")
    base = "category=linear&symbol=BTCUSDT"
    links = [row["orderLinkId"] for row in desk.get("/v5/order/realtime", base)["result"]["list"]]
    assert links == ["open"]
    closed = desk.get("/v5/order/realtime", base + "&openOnly=1")["result"]["list"]
    assert [row["orderLinkId"] for row in closed] == ["gone"]
    named = desk.get("/v5/order/realtime", base + "&orderLinkId=gone")["result"]["list"]
    assert [row["orderStatus"] for row in named] == ["Cancelled"]
    assert desk.get("/v5/order/realtime", "category=linear")["retCode"] == 10001


def test_history_forgets_unfilled_cancels_after_a_day_but_not_fills(desk: Desk) -> None:
    trade = desk.trade()
    desk.order(trade, "create", orderLinkId="gone", **LIMIT)
    desk.order(trade, "cancel", orderLinkId="gone")
    desk.order(trade, "create", orderLinkId="filled", **LIMIT | {"price": "64010"})
    query = "category=linear&symbol=BTCUSDT"
    assert len(desk.get("/v5/order/history", query)["result"]["list"]) == 2
    desk.now_ns += 86_401 * SECOND
    rows = desk.get("/v5/order/history", query)["result"]["list"]
    assert [row["orderLinkId"] for row in rows] == ["filled"]


def test_pages_join_without_gap_or_overlap(desk: Desk) -> None:
    trade = desk.trade()
    for number in range(7):
        desk.order(trade, "create", orderLinkId=f"n{number}", **LIMIT)
    seen, cursor = [], ""
    while True:
        result = desk.get("/v5/order/realtime", f"category=linear&symbol=BTCUSDT&limit=3&cursor={cursor}")["result"]
        seen += [row["orderLinkId"] for row in result["list"]]
        cursor = result["nextPageCursor"]
        if not cursor:
            break
    assert seen == [f"n{number}" for number in reversed(range(7))]


def test_queries_lag_behind_the_engine_when_told_to(desk: Desk) -> None:
    trade = desk.trade()
    desk.core.hooks.query_lag_ns = 300 * MS
    desk.order(trade, "create", orderLinkId="fresh", **LIMIT)
    query = "category=linear&symbol=BTCUSDT&orderLinkId=fresh"
    assert not desk.get("/v5/order/realtime", query)["result"]["list"]
    assert desk.order(trade, "cancel", orderLinkId="fresh")["retCode"] == 110001
    desk.run(301)
    assert desk.get("/v5/order/realtime", query)["result"]["list"]
    assert desk.order(trade, "cancel", orderLinkId="fresh")["retCode"] == 0


def test_executions_keep_what_each_left(desk: Desk) -> None:
    trade = desk.trade()
    order_id = desk.order(trade, "create", **LIMIT | {"price": "64010", "qty": "1.5"})["data"]["orderId"]
    rows = desk.get("/v5/execution/list", f"category=linear&orderId={order_id}")["result"]["list"]
    assert [(row["execQty"], row["leavesQty"]) for row in rows] == [("0.500", "0"), ("1.000", "0.500")]


def test_cancel_all_needs_a_scope_on_linear(desk: Desk) -> None:
    trade = desk.trade()
    desk.order(trade, "create", **LIMIT)
    post = json.loads(desk.http("POST", "/v5/order/cancel-all", body='{"category":"linear"}').body)
    assert post["retCode"] == 10001
    body = '{"category":"linear","settleCoin":"USDT"}'
    post = json.loads(desk.http("POST", "/v5/order/cancel-all", body=body).body)
    assert post["result"]["success"] == "1" and len(post["result"]["list"]) == 1


def test_every_answer_is_in_the_envelope(desk: Desk) -> None:
    for path, query in (("/v5/market/time", ""), ("/v5/account/info", ""), ("/v5/order/realtime", "category=x")):
        answer = desk.http("GET", path, query)
        assert answer.status == 200
        assert json.loads(answer.body).keys() == {"retCode", "retMsg", "result", "retExtInfo", "time"}
    assert desk.http("GET", "/v5/nowhere").status == 404


# --- limits ---------------------------------------------------------------------------------------------------------


def test_eleventh_order_of_a_second_is_refused_and_the_window_rolls(desk: Desk) -> None:
    trade = desk.trade()
    left = []
    for _ in range(10):
        left.append(desk.order(trade, "create", **LIMIT)["header"]["X-Bapi-Limit-Status"])
        desk.run(50)
    assert left == [str(number) for number in range(9, -1, -1)]
    refused = desk.order(trade, "create", **LIMIT)
    assert (refused["retCode"], refused["retMsg"]) == (10006, "Too many visits!")
    reset_ms = int(refused["header"]["X-Bapi-Limit-Reset-Timestamp"])
    assert reset_ms == START_NS // MS + 1000, "the oldest request of the window leaves it then"
    desk.run(501)
    assert desk.order(trade, "create", **LIMIT)["retCode"] == 0
    # Cancels have a window of their own.
    assert desk.order(trade, "cancel", orderLinkId="nobody")["retCode"] == 110001


def test_rest_and_socket_share_one_window(desk: Desk) -> None:
    trade = desk.trade()
    for _ in range(10):
        desk.order(trade, "create", **LIMIT)
    body = json.dumps({"category": "linear", "symbol": "BTCUSDT"} | LIMIT)
    answer = desk.http("POST", "/v5/order/create", body=body)
    assert json.loads(answer.body)["retCode"] == 10006
    assert answer.headers["X-Bapi-Limit-Status"] == "0"


def test_squeeze_scales_the_limits() -> None:
    limits = Limits()
    limits.squeeze = 0.2
    grants = [limits.take(1, "create.linear", START_NS) for _ in range(3)]
    assert [(grant.ok, grant.limit) for grant in grants] == [(True, 2), (True, 2), (False, 2)]


def test_address_over_its_limit_is_shut_out_for_ten_minutes() -> None:
    limits = Limits()
    for number in range(600):
        assert limits.ip_allows("a", START_NS + number)
    assert not limits.ip_allows("a", START_NS + 700)
    assert limits.ip_allows("b", START_NS + 700)
    assert not limits.ip_allows("a", START_NS + 599 * SECOND)
    assert limits.ip_allows("a", START_NS + 601 * SECOND)


# --- faults and switches --------------------------------------------------------------------------------------------


def test_unknown_outcome_leaves_a_live_order_behind(desk: Desk) -> None:
    trade = desk.trade()
    desk.core.hooks.push("place", Fault(FaultKind.UNKNOWN_DONE))
    answer = desk.order(trade, "create", orderLinkId="maybe", **LIMIT)
    assert answer["retCode"] == 10016
    query = "category=linear&symbol=BTCUSDT&orderLinkId=maybe"
    assert len(desk.get("/v5/order/realtime", query)["result"]["list"]) == 1


def test_unknown_outcome_may_also_mean_not_done(desk: Desk) -> None:
    trade = desk.trade()
    desk.core.hooks.push("place", Fault(FaultKind.UNKNOWN_NOT_DONE))
    assert desk.order(trade, "create", orderLinkId="maybe", **LIMIT)["retCode"] == 10016
    assert not desk.core.accounts[2].orders


def test_lost_answer_is_silent_but_its_events_are_not(desk: Desk) -> None:
    private, trade = desk.private("order"), desk.trade()
    desk.core.hooks.push("place", Fault(FaultKind.DROP_ANSWER))
    message = {"reqId": "1", "header": desk.header(), "op": "order.create"}
    assert desk.say(trade, message | {"args": [{"category": "linear", "symbol": "BTCUSDT"} | LIMIT]}) == []
    assert len(desk.topics(private, "order")) == 1


def test_delayed_answer_comes_later_than_its_events(desk: Desk) -> None:
    private, trade = desk.private("order"), desk.trade()
    desk.core.hooks.push("place", Fault(FaultKind.DELAY_ANSWER, delay_ns=50 * MS))
    message = {"reqId": "1", "header": desk.header(), "op": "order.create"}
    assert desk.say(trade, message | {"args": [{"category": "linear", "symbol": "BTCUSDT"} | LIMIT]}) == []
    assert len(desk.topics(private, "order")) == 1
    desk.run(51)
    assert desk.sent[trade][-1]["retCode"] == 0


def test_injected_rejection_executes_nothing(desk: Desk) -> None:
    trade = desk.trade()
    desk.core.hooks.push("place", Fault(FaultKind.REJECT, code=110003, text="Order price exceeds."))
    assert desk.order(trade, "create", **LIMIT)["retCode"] == 110003
    assert not desk.core.accounts[2].orders


def test_dead_mans_switch_cancels_when_the_last_socket_is_gone(desk: Desk) -> None:
    body = '{"product":"DERIVATIVES","timeWindow":10}'
    assert json.loads(desk.http("POST", "/v5/order/disconnected-cancel-all", body=body).body)["retCode"] == 0
    private, other = desk.private("dcp.future", "order"), desk.private("order", conn_id=51)
    desk.order(desk.trade(), "create", **LIMIT)
    desk.front.ws_close(private, desk.now_ns)
    desk.run(9_000)
    assert desk.core.accounts[2].open
    desk.run(1_100)
    assert not desk.core.accounts[2].open
    assert desk.topics(other, "order")[-1]["cancelType"] == "CancelByDCP"


def test_reconnected_socket_stops_the_dead_mans_switch(desk: Desk) -> None:
    desk.http("POST", "/v5/order/disconnected-cancel-all", body='{"product":"DERIVATIVES","timeWindow":10}')
    private = desk.private("dcp.future")
    desk.order(desk.trade(), "create", **LIMIT)
    desk.front.ws_close(private, desk.now_ns)
    desk.run(5_000)
    desk.private("dcp.future", conn_id=52)
    desk.run(20_000)
    assert desk.core.accounts[2].open


def test_idle_socket_is_closed_after_ten_minutes(desk: Desk) -> None:
    desk.open("/v5/private", 2)
    desk.front.ws_open(3, "/v5/private", "max_active_time=30s", {}, "127.0.0.1", desk.now_ns)
    desk.run(32_000)
    assert desk.closed == [(3, 1000)]
    desk.front.ws_close(3, desk.now_ns)
    desk.run(600_000)
    assert desk.closed[-1] == (2, 1000)


def test_hmac_of_this_module_is_the_standard_one() -> None:
    assert sign("k", b"t") == hmac.new(b"k", b"t", hashlib.sha256).hexdigest()
