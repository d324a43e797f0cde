"""The Binance front, sans-IO: signatures, order entry, private events, market streams, request limits, faults.

Signing vectors are those of the venue's pages and of OpenSSL-made ones (venues/binance.md, section 4).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import quote

import pytest

from engine.types import InstrumentState, Market, Side
from tools.exchange.assemble import build_cores
from tools.exchange.binance import BinanceFront
from tools.exchange.binance.auth import check_signature
from tools.exchange.binance.errors import ApiError
from tools.exchange.binance.params import Params
from tools.exchange.core import ApiKey
from tools.exchange.front import HttpAnswer, Payload
from tools.exchange.model import Fault, FaultKind, Listing
from tools.exchange.settings import load

KEY, SECRET = "demo-key-binance-0001", "demo-secret-binance-0001"
ED_KEY = "second-key-binance-ed25519"
ED_SEED = bytes(range(32))
START_NS = 1_763_800_000_000_000_000
MS = 1_000_000
SECOND = 1000 * MS
PX = {"BTCUSDT": "64000", "ETHUSDT": "3200"}


class Wire:
    """What left, by connection, as parsed JSON."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, Any]] = []
        self.closed: list[tuple[int, int]] = []

    def send(self, conn_id: int, payload: Payload) -> None:
        self.frames.append((conn_id, json.loads(payload)))

    def close(self, conn_id: int, code: int = 1000) -> None:
        self.closed.append((conn_id, code))


class Rig:
    def __init__(self) -> None:
        self.now_ns = START_NS
        self.wire = Wire()
        self.core = build_cores(load(None), START_NS)["binance"]
        self.front = BinanceFront(self.core, self.wire)
        self.account_id = self.core.keys[KEY].account_id
        self._conns = 0
        for listing in self.core.listings:
            mid = listing.ticks(PX[listing.symbol])
            self.core.set_mark(listing, mid, START_NS)
            for step in range(1, 11):
                self.core.house_level(listing, Side.BUY, mid - step, 1000, START_NS)
                self.core.house_level(listing, Side.SELL, mid + step, 1000, START_NS)

    def listing(self, market: Market, symbol: str = "BTCUSDT") -> Listing:
        listing = self.core.listing(market, symbol)
        assert listing is not None
        return listing

    def stamp(self) -> int:
        return self.now_ns // MS

    def rest(self, method: str, path: str, query: str = "", *, key: str = KEY, signs: bool = True) -> HttpAnswer:
        if signs:
            query += ("&" if query else "") + f"timestamp={self.stamp()}"
            query += "&signature=" + hmac.new(SECRET.encode(), query.encode(), hashlib.sha256).hexdigest()
        return self.front.http(method, path, query, {"x-mbx-apikey": key}, b"", "10.0.0.1", self.now_ns)

    def ok(self, method: str, path: str, query: str = "", *, signs: bool = True) -> Any:
        answer = self.rest(method, path, query, signs=signs)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def code(self, method: str, path: str, query: str = "") -> int:
        answer = self.rest(method, path, query)
        assert answer.status >= 400, answer.body
        return int(json.loads(answer.body)["code"])

    def open(self, path: str, query: str = "") -> int:
        self._conns += 1
        assert self.front.ws_open(self._conns, path, query, {}, "10.0.0.1", self.now_ns) == 0
        return self._conns

    def send(self, conn_id: int, **message: Any) -> list[Any]:
        """Send one frame; returns what this connection got at once."""
        before = len(self.wire.frames)
        self.front.ws_message(conn_id, json.dumps(message), self.now_ns)
        return [frame for conn, frame in self.wire.frames[before:] if conn == conn_id]

    def call(self, conn_id: int, method: str, **params: Any) -> list[Any]:
        params |= {"apiKey": KEY, "timestamp": self.stamp()}
        text = "&".join(f"{name}={params[name]}" for name in sorted(params))
        params["signature"] = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        return self.send(conn_id, id="7", method=method, params=params)

    def got(self, conn_id: int) -> list[Any]:
        return [frame for conn, frame in self.wire.frames if conn == conn_id]

    def pass_time(self, ns: int) -> None:
        self.now_ns += ns
        self.front.on_timer(self.now_ns)


@pytest.fixture
def rig() -> Rig:
    return Rig()


LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}

# --- signatures -------------------------------------------------------------------------------------------------------

V1 = (
    "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price=25000.00&newClientOrderId=eng-000001"
    "&recvWindow=5000&timestamp=1763800000000"
)
V3 = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "25000.00",
    "newClientOrderId": "eng-000001",
    "recvWindow": 5000,
    "returnRateLimits": False,
    "apiKey": KEY,
    "timestamp": 1763800000000,
}
V4 = {"apiKey": KEY, "timestamp": 1763800000000}


@pytest.mark.parametrize(
    ("params", "signature"),
    [
        (Params.from_rest(V1 + "&signature=x", ""), "bba31c6d54d502e2089041e158140ff2f71d92c71f88abef0134efed06089ab9"),
        (Params.from_rest("", V1 + "&signature=x"), "bba31c6d54d502e2089041e158140ff2f71d92c71f88abef0134efed06089ab9"),
        (
            Params.from_rest(
                "symbol=BTCUSDT&recvWindow=5000",
                "side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price=25000.00&timestamp=1763800000000&signature=x",
            ),
            "8c00ef9a437a2189793891ed92a5705743a6c720ff899f628e449b8b11ad9538",
        ),
        (Params.from_ws(V3), "6c3ba6d2b8e77163b446deb80497591af106aed0af1bf961806cb515d3b68146"),
        (Params.from_ws(V4), "998b163bf4247375badbd990b11a94e0511df13bae32cdb26d994d04803358c2"),
    ],
    ids=["query", "body", "mixed", "ws-api", "subscribe"],
)
def test_published_hmac_vectors_are_accepted_and_any_other_is_not(params: Params, signature: str) -> None:
    key = ApiKey(KEY, 1, SECRET)
    params.values["signature"] = signature
    check_signature(key, params)
    params.values["signature"] = signature.upper()
    check_signature(key, params)
    params.values["signature"] = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    with pytest.raises(ApiError) as caught:
        check_signature(key, params)
    assert caught.value.code == -1022


@pytest.mark.parametrize(
    ("params", "signature"),
    [
        (
            Params.from_ws(V4),
            "Q31q00l8Itq+DD24v8ojFpf0B4/GhHzWK+dKcG/BUoZGZ7nOlYeNgg3Zhe7vFIrclbnzDBjAuRtzjyH5Tmc3BA==",
        ),
        (
            Params.from_rest(V1, ""),
            "UfdiSXR+7e9vAOxD+jCan8vHegBDIzyeGo2GWKEyonRieo4WUov8uwoM6gJAMkDTwgoTLwBg1oDFtpe4cBuWDw==",
        ),
    ],
    ids=["logon", "query"],
)
def test_published_ed25519_vectors_are_accepted(params: Params, signature: str) -> None:
    public = bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")
    key = ApiKey("k", 1, ed25519_public=public)
    params.values["signature"] = signature
    check_signature(key, params)
    params.values["signature"] = signature.replace("Q", "R", 1).replace("U", "V", 1)
    with pytest.raises(ApiError):
        check_signature(key, params)


def test_official_documentation_example_is_reproduced() -> None:
    secret = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
    text = (
        "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
    )
    signature = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
    check_signature(ApiKey("k", 1, secret), Params.from_rest(f"{text}&signature={signature}", ""))


def test_numbers_are_signed_by_their_own_text(rig: Rig) -> None:
    conn = rig.open("/ws-api/v3")
    text = f"apiKey={KEY}&price=60000.10&quantity=0.0100&side=BUY&symbol=BTCUSDT&timeInForce=GTC"
    text += f"&timestamp={rig.stamp()}&type=LIMIT"
    signature = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
    frame = (
        f'{{"id":5,"method":"order.place","params":{{"apiKey":"{KEY}","price":60000.10,"quantity":0.0100,"side":"BUY",'
        f'"symbol":"BTCUSDT","timeInForce":"GTC","timestamp":{rig.stamp()},"type":"LIMIT","signature":"{signature}"}}}}'
    )
    rig.front.ws_message(conn, frame, rig.now_ns)
    answer = rig.got(conn)[0]
    assert (answer["id"], answer["status"]) == (5, 200), answer


def test_keys_and_times_are_checked(rig: Rig) -> None:
    path = "/api/v3/account"
    assert json.loads(rig.rest("GET", path, key="").body)["code"] == -2014
    unknown = rig.rest("GET", path, key="nobody")
    assert (unknown.status, json.loads(unknown.body)["code"]) == (401, -2015)
    assert json.loads(rig.rest("GET", path, "symbol=X", signs=False).body)["code"] == -1102
    for shift_ms, code in ((-5001, -1021), (1000, -1021)):
        query = f"timestamp={rig.stamp() + shift_ms}"
        query += "&signature=" + hmac.new(SECRET.encode(), query.encode(), hashlib.sha256).hexdigest()
        assert json.loads(rig.rest("GET", path, query, signs=False).body)["code"] == code
    assert rig.code("GET", path, "recvWindow=60001") == -1131
    rig.core.hooks.clock_skew_ns = -2 * SECOND
    assert rig.code("GET", path) == -1021


def test_only_ed25519_keys_log_on_and_then_need_no_signature(rig: Rig) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    conn = rig.open("/ws-api/v3")
    assert rig.call(conn, "session.logon")[0]["error"]["code"] == -4056
    text = f"apiKey={ED_KEY}&timestamp={rig.stamp()}"
    signature = base64.b64encode(Ed25519PrivateKey.from_private_bytes(ED_SEED).sign(text.encode())).decode()
    params = {"apiKey": ED_KEY, "timestamp": rig.stamp(), "signature": signature}
    assert rig.send(conn, id=1, method="session.logon", params=params)[0]["result"]["apiKey"] == ED_KEY
    unsigned = {"timestamp": rig.stamp()}
    assert rig.send(conn, id=2, method="account.status", params=unsigned)[0]["status"] == 200
    assert rig.send(conn, id=3, method="account.status", params={})[0]["error"]["code"] == -1102
    assert rig.send(conn, id=4, method="userDataStream.subscribe")[0]["result"] == {"subscriptionId": 0}
    rig.send(conn, id=5, method="session.logout")
    assert rig.got(conn)[-2]["event"]["e"] == "eventStreamTerminated"
    assert rig.send(conn, id=6, method="account.status", params=unsigned)[0]["status"] == 401


# --- order entry ------------------------------------------------------------------------------------------------------


def query_of(**params: str) -> str:
    return "&".join(f"{name}={quote(value)}" for name, value in params.items())


def test_spot_answer_comes_first_then_report_and_balances(rig: Rig) -> None:
    conn = rig.open("/ws-api/v3")
    rig.call(conn, "userDataStream.subscribe.signature")
    frames = rig.call(conn, "order.place", **LIMIT, price="60000.00", newClientOrderId="e1")
    assert [frame.get("status") or frame["event"]["e"] for frame in frames] == [
        200,
        "executionReport",
        "outboundAccountPosition",
    ]
    assert [row["rateLimitType"] for row in frames[0]["rateLimits"]] == ["ORDERS", "ORDERS", "REQUEST_WEIGHT"]
    report = frames[1]["event"]
    assert (report["c"], report["C"], report["x"], report["X"], report["t"]) == ("e1", "", "NEW", "NEW", -1)
    assert frames[2]["event"]["B"] == [{"a": "USDT", "f": "4999400.00000000", "l": "600.00000000"}]


def test_spot_cancel_names_the_cancel_request_in_c_and_the_order_in_capital_c(rig: Rig) -> None:
    conn = rig.open("/ws-api/v3")
    rig.call(conn, "userDataStream.subscribe.signature")
    rig.call(conn, "order.place", **LIMIT, price="60000.00", newClientOrderId="e1")
    answer, report, _ = rig.call(conn, "order.cancel", symbol="BTCUSDT", origClientOrderId="e1")
    assert answer["result"]["origClientOrderId"] == "e1" and answer["result"]["clientOrderId"] != "e1"
    assert report["event"]["c"] == answer["result"]["clientOrderId"] and report["event"]["C"] == "e1"
    again = rig.call(conn, "order.cancel", symbol="BTCUSDT", origClientOrderId="e1")[0]
    assert (again["status"], again["error"]["code"]) == (400, -2011)


def test_spot_fills_report_trade_by_trade_and_sum_up(rig: Rig) -> None:
    conn = rig.open("/ws-api/v3")
    rig.call(conn, "userDataStream.subscribe.signature")
    market = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.025"}
    frames = rig.call(conn, "order.place", **market)
    result = frames[0]["result"]
    reports = [frame["event"] for frame in frames[1:] if frame["event"]["e"] == "executionReport"]
    assert [report["x"] for report in reports] == ["NEW", "TRADE", "TRADE", "TRADE"]
    assert [report["t"] for report in reports[1:]] == [fill["tradeId"] for fill in result["fills"]]
    assert reports[-1]["z"] == "0.02500000" and reports[-1]["X"] == "FILLED"
    assert sum(float(report["l"]) for report in reports) == 0.025
    trades = rig.ok("GET", "/api/v3/myTrades", f"symbol=BTCUSDT&orderId={result['orderId']}")
    assert [trade["commission"] for trade in trades] == [report["n"] for report in reports[1:]]


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"symbol": "NOPE"}, -1121, "Invalid symbol"),
        ({"side": "HOLD"}, -1117, "side"),
        ({"type": "STOP"}, -1116, "orderType"),
        ({"timeInForce": "GTX"}, -1115, "timeInForce"),
        ({"quantity": ""}, -1102, "quantity"),
        ({"quantity": "1e-3"}, -1100, "quantity"),
        ({"quantity": "0.000000001"}, -1111, "precision"),
        ({"quantity": "0.000001"}, -1013, "LOT_SIZE"),
        ({"quantity": "0.00001"}, -1013, "NOTIONAL"),
        ({"price": "60000.001"}, -1013, "PRICE_FILTER"),
        ({"price": "50000.00"}, -1013, "PERCENT_PRICE_BY_SIDE"),
        ({"quantity": "90"}, -2010, "insufficient balance"),
        ({"type": "LIMIT_MAKER"}, -1106, "timeInForce"),
        ({"type": "LIMIT_MAKER", "timeInForce": "", "price": "64001"}, -2010, "immediately match"),
        ({"newClientOrderId": "ä"}, -1100, "newClientOrderId"),
    ],
)
def test_spot_refusals_have_the_venues_code_and_leave_nothing(
    rig: Rig, change: dict[str, str], code: int, text: str
) -> None:
    answer = rig.rest("POST", "/api/v3/order", query_of(**({**LIMIT, "price": "60000.00"} | change)))
    row = json.loads(answer.body)
    assert row["code"] == code and text.lower() in row["msg"].lower(), row
    assert rig.ok("GET", "/api/v3/openOrders", "symbol=BTCUSDT") == []
    assert rig.core.accounts[rig.account_id].balance(Market.SPOT, "USDT").locked == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"type": "STOP_MARKET"}, -4120),
        ({"positionSide": "LONG"}, -4061),
        ({"quantity": "0.0001"}, -1111),
        ({"quantity": "0"}, -4003),
        ({"quantity": "0.001"}, -4164),
        ({"price": "60000.05"}, -4014),
        ({"price": "60000.001"}, -1111),
        ({"price": "80000"}, -4016),
        ({"price": "40000"}, -4024),
        ({"timeInForce": "GTX", "price": "64001"}, -5022),
        ({"timeInForce": "FOK", "price": "64000.1", "quantity": "2"}, -5021),
        ({"reduceOnly": "true"}, -2022),
        ({"quantity": "1000", "price": "64000"}, -2019),
        ({"timeInForce": "GTD"}, -1102),
    ],
)
def test_usdm_refusals_have_the_venues_code_and_leave_nothing(rig: Rig, change: dict[str, str], code: int) -> None:
    order = {**LIMIT, "price": "60000.0"} | {"quantity": "0.010"} | change
    rig.ok("POST", "/fapi/v1/leverage", "symbol=BTCUSDT&leverage=5")
    assert rig.code("POST", "/fapi/v1/order", query_of(**order)) == code
    assert rig.ok("GET", "/fapi/v1/openOrders") == []


def test_duplicate_client_ids_are_refused_while_the_first_is_open(rig: Rig) -> None:
    for path, code in (("/api/v3/order", -2010), ("/fapi/v1/order", -4116)):
        order = query_of(**LIMIT, price="60000", newClientOrderId="same")
        rig.ok("POST", path, order)
        assert rig.code("POST", path, order) == code
        rig.ok("DELETE", path, "symbol=BTCUSDT&origClientOrderId=same")
        rig.ok("POST", path, order)


def test_cancel_replace_tells_both_halves(rig: Rig) -> None:
    path = "/api/v3/order/cancelReplace"
    order = {k: v for k, v in LIMIT.items() if k != "timeInForce"} | {"type": "LIMIT_MAKER"}
    rig.ok("POST", "/api/v3/order", query_of(**LIMIT, price="60000", newClientOrderId="a"))
    crossing = query_of(**order, price="64001", cancelReplaceMode="STOP_ON_FAILURE", cancelOrigClientOrderId="a")
    answer = rig.rest("POST", path, crossing)
    row = json.loads(answer.body)
    assert (answer.status, row["code"]) == (409, -2021)
    assert (row["data"]["cancelResult"], row["data"]["newOrderResponse"]["code"]) == ("SUCCESS", -2010)
    answer = rig.rest("POST", path, crossing)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, -2022)


def test_amend_keeps_priority_down_only(rig: Rig) -> None:
    conn = rig.open("/ws-api/v3")
    rig.call(conn, "userDataStream.subscribe.signature")
    rig.call(conn, "order.place", **LIMIT, price="60000.00", newClientOrderId="a")
    amend = {"symbol": "BTCUSDT", "origClientOrderId": "a", "newClientOrderId": "a"}
    answer, report, _ = rig.call(conn, "order.amend.keepPriority", **amend, newQty="0.005")
    assert answer["result"]["amendedOrder"]["qty"] == "0.00500000"
    assert answer["result"]["executionId"] == report["event"]["I"]
    assert (report["event"]["x"], report["event"]["X"], report["event"]["q"]) == ("REPLACED", "NEW", "0.00500000")
    assert rig.call(conn, "order.amend.keepPriority", **amend, newQty="0.006")[0]["error"]["code"] == -2038


def test_usdm_modify_keeps_ids_and_refuses_what_changes_nothing(rig: Rig) -> None:
    rig.ok("POST", "/fapi/v1/order", query_of(**LIMIT, price="60000", newClientOrderId="a"))
    change = {"symbol": "BTCUSDT", "side": "BUY", "origClientOrderId": "a", "quantity": "0.020", "price": "60001"}
    row = rig.ok("PUT", "/fapi/v1/order", query_of(**change))
    assert (row["clientOrderId"], row["origQty"], row["price"]) == ("a", "0.020", "60001.0")
    assert rig.code("PUT", "/fapi/v1/order", query_of(**change)) == -5027
    assert rig.code("PUT", "/fapi/v1/order", query_of(**change, reduceOnly="true")) == -5047
    assert rig.code("PUT", "/fapi/v1/order", query_of(**(change | {"side": "SELL"}))) == -5024


def test_usdm_fill_tells_lite_then_update_then_account(rig: Rig) -> None:
    key = rig.ok("POST", "/fapi/v1/listenKey", signs=False)["listenKey"]
    assert rig.ok("POST", "/fapi/v1/listenKey", signs=False)["listenKey"] == key
    raw, wrapped = rig.open("/private/ws", f"listenKey={key}"), rig.open("/private/stream", f"streams={key}")
    only = rig.open("/private/ws", f"listenKey={key}&events=ORDER_TRADE_UPDATE")
    order = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.010"}
    rig.ok("POST", "/fapi/v1/order", query_of(**order, newClientOrderId="m"))
    events = rig.got(raw)
    names = ["ORDER_TRADE_UPDATE", "TRADE_LITE", "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE"]
    assert [event["e"] for event in events] == names
    assert events[1]["t"] == events[2]["o"]["t"] and events[2]["T"] == events[3]["T"]
    assert events[2]["o"]["X"] == "FILLED" and events[2]["o"]["N"] == "USDT"
    assert events[3]["a"]["P"][0]["pa"] == "-0.010"
    assert [frame["data"] for frame in rig.got(wrapped)] == events and rig.got(wrapped)[0]["stream"] == key
    assert [event["e"] for event in rig.got(only)] == ["ORDER_TRADE_UPDATE", "ORDER_TRADE_UPDATE"]
    position = rig.ok("GET", "/fapi/v3/positionRisk", "symbol=BTCUSDT")[0]
    assert (position["positionAmt"], position["entryPrice"]) == ("-0.010", "63999.90000000")


def test_listen_key_expires_after_an_hour_without_renewal(rig: Rig) -> None:
    key = rig.ok("POST", "/fapi/v1/listenKey", signs=False)["listenKey"]
    conn = rig.open(f"/private/ws/{key}")
    rig.pass_time(3500 * SECOND)
    rig.ok("PUT", "/fapi/v1/listenKey", signs=False)
    rig.pass_time(3500 * SECOND)
    assert rig.got(conn) == []
    rig.pass_time(101 * SECOND)
    assert (rig.got(conn)[0]["e"], rig.got(conn)[0]["listenKey"]) == ("listenKeyExpired", key)
    assert rig.code("PUT", "/fapi/v1/listenKey") == -1125


def test_countdown_cancels_the_symbols_orders_when_it_is_not_renewed(rig: Rig) -> None:
    rig.ok("POST", "/fapi/v1/order", query_of(**LIMIT, price="60000"))
    rig.ok("POST", "/fapi/v1/countdownCancelAll", "symbol=BTCUSDT&countdownTime=5000")
    rig.pass_time(4 * SECOND)
    rig.ok("POST", "/fapi/v1/countdownCancelAll", "symbol=BTCUSDT&countdownTime=5000")
    rig.pass_time(4 * SECOND)
    assert len(rig.ok("GET", "/fapi/v1/openOrders")) == 1
    assert rig.front.next_timer_ns() <= rig.now_ns + SECOND
    rig.pass_time(SECOND)
    assert rig.ok("GET", "/fapi/v1/openOrders") == []


def test_batch_answers_each_order(rig: Rig) -> None:
    common = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "60000"}
    rows = json.dumps([common | {"quantity": "0.010"}, common | {"quantity": "0"}])
    placed = rig.ok("POST", "/fapi/v1/batchOrders", "batchOrders=" + quote(rows))
    assert placed[0]["status"] == "NEW" and placed[1]["code"] == -4003
    ids = quote(json.dumps([placed[0]["orderId"], 1]))
    gone = rig.ok("DELETE", "/fapi/v1/batchOrders", f"symbol=BTCUSDT&orderIdList={ids}")
    assert gone[0]["status"] == "CANCELED" and gone[1]["code"] == -2011


def test_halted_symbol_expires_its_orders_with_a_reason(rig: Rig) -> None:
    conn = rig.open("/ws-api/v3")
    rig.call(conn, "userDataStream.subscribe.signature")
    rig.call(conn, "order.place", **LIMIT, price="60000.00")
    rig.core.set_state(rig.listing(Market.SPOT), InstrumentState.HALTED, rig.now_ns, cancel_orders=True)
    report = rig.got(conn)[-2]["event"]
    assert (report["x"], report["X"], report["eR"]) == ("EXPIRED", "EXPIRED", "EXCHANGE_CANCELED")
    symbols = {row["symbol"]: row["status"] for row in rig.ok("GET", "/api/v3/exchangeInfo", signs=False)["symbols"]}
    assert symbols == {"BTCUSDT": "HALT", "ETHUSDT": "TRADING"}


# --- market streams ---------------------------------------------------------------------------------------------------


def shake(rig: Rig, market: Market, steps: int) -> None:
    listing = rig.listing(market)
    mid = listing.ticks("64000")
    for step in range(steps):
        rig.core.house_level(listing, Side.BUY, mid - 2 - step % 5, 500 + step, rig.now_ns)
        rig.core.house_level(listing, Side.SELL, mid + 2 + step % 4, 700 + step, rig.now_ns)
        if step % 10 == 0:
            rig.core.house_trade(listing, Side.BUY, 3, rig.now_ns)
        rig.pass_time(7 * MS)


def rebuilt(snapshot: dict[str, Any], events: list[dict[str, Any]], *, is_usdm: bool) -> dict[str, dict[str, str]]:
    """The client's procedure of the venue's pages, in plain dictionaries."""
    sides = {"b": dict(map(tuple, snapshot["bids"])), "a": dict(map(tuple, snapshot["asks"]))}
    last = snapshot["lastUpdateId"]
    is_first = True
    for event in events:
        if event["u"] < last or (not is_usdm and event["u"] <= last):
            continue
        if is_first:
            assert event["U"] <= last + (0 if is_usdm else 1) <= event["u"]
        else:
            assert event["pu"] == last if is_usdm else event["U"] == last + 1
        is_first = False
        last = event["u"]
        for side in "ba":
            for px, qty in event[side]:
                sides[side].pop(px, None)
                if float(qty):
                    sides[side][px] = qty
    return sides


@pytest.mark.parametrize("speed", ["@100ms", ""])
@pytest.mark.parametrize("is_usdm", [False, True])
def test_book_rebuilt_from_snapshot_and_diffs_is_the_venues(rig: Rig, speed: str, is_usdm: bool) -> None:
    market = Market.LINEAR if is_usdm else Market.SPOT
    path = "/public/ws" if is_usdm else "/ws"
    conn = rig.open(f"{path}/btcusdt@depth{speed}")
    shake(rig, market, 200)
    where = "/fapi/v1/depth" if is_usdm else "/api/v3/depth"
    snapshot = rig.ok("GET", where, "symbol=BTCUSDT&limit=1000", signs=False)
    shake(rig, market, 400)
    rig.pass_time(2 * SECOND)
    final = rig.ok("GET", where, "symbol=BTCUSDT&limit=1000", signs=False)
    sides = rebuilt(snapshot, rig.got(conn), is_usdm=is_usdm)
    assert sides["b"] == dict(map(tuple, final["bids"])) and sides["a"] == dict(map(tuple, final["asks"]))


def test_best_bid_and_ask_is_sent_when_it_changes_only(rig: Rig) -> None:
    conn = rig.open("/ws/btcusdt@bookTicker")
    listing = rig.listing(Market.SPOT)
    mid = listing.ticks("64000")
    rig.core.house_level(listing, Side.BUY, mid - 7, 5, rig.now_ns)
    assert rig.got(conn)[0]["b"] == "63999.99000000"
    rig.core.house_level(listing, Side.BUY, mid - 7, 6, rig.now_ns)
    assert len(rig.got(conn)) == 1
    rig.core.house_level(listing, Side.SELL, mid + 1, 0, rig.now_ns)
    assert rig.got(conn)[-1] == {
        "u": listing.update_id,
        "s": "BTCUSDT",
        "b": "63999.99000000",
        "B": "0.01000000",
        "a": "64000.02000000",
        "A": "0.01000000",
    }


def test_aggregate_trade_joins_the_fills_of_one_taker_at_one_price(rig: Rig) -> None:
    trades, aggs = rig.open("/ws/btcusdt@trade"), rig.open("/stream", "streams=btcusdt@aggTrade")
    listing = rig.listing(Market.SPOT)
    rig.ok("POST", "/api/v3/order", query_of(**(LIMIT | {"side": "SELL"}), price="64000.01"))
    rig.core.house_trade(listing, Side.BUY, 2500, rig.now_ns)
    assert [frame["q"] for frame in rig.got(trades)] == ["0.01000000", "0.01000000", "0.00500000"]
    first, second = (frame["data"] for frame in rig.got(aggs))
    assert (first["q"], first["l"] - first["f"], second["q"]) == ("0.02000000", 1, "0.00500000")
    assert first["m"] is False
    assert rig.ok("GET", "/api/v3/aggTrades", "symbol=BTCUSDT", signs=False)[0]["f"] == first["f"]


@pytest.mark.parametrize(
    ("path", "query", "streams", "wraps"),
    [
        ("/ws", "", ["btcusdt@trade"], False),
        ("/stream", "", ["btcusdt@trade"], True),
        ("/stream/ws/0", "", ["btcusdt@trade"], False),
        ("/ws/btcusdt@trade", "", [], False),
        ("/stream", "streams=btcusdt@trade/ethusdt@trade", [], True),
    ],
)
def test_paths_and_subscriptions_reach_the_same_stream(
    rig: Rig, path: str, query: str, streams: list[str], wraps: bool
) -> None:
    conn = rig.open(path, query)
    if streams:
        assert rig.send(conn, method="SUBSCRIBE", params=streams, id=1) == [{"result": None, "id": 1}]
    rig.core.house_trade(rig.listing(Market.SPOT), Side.BUY, 1, rig.now_ns)
    frame = rig.got(conn)[-1]
    assert (frame["data"] if wraps else frame)["e"] == "trade"
    rig.front.ws_close(conn, rig.now_ns)
    assert rig.front.streams.topics == {}


def test_usdm_stream_on_the_wrong_path_is_acked_and_silent(rig: Rig) -> None:
    conn = rig.open("/market/ws/1")
    assert rig.send(conn, method="SUBSCRIBE", params=["btcusdt@bookTicker", "nope@depth"], id="x")[0]["id"] == "x"
    shake(rig, Market.LINEAR, 20)
    assert len(rig.got(conn)) == 1


def test_control_frames_echo_the_id_and_name_what_is_wrong(rig: Rig) -> None:
    conn = rig.open("/ws/btcusdt@trade")
    assert rig.send(conn, method="LIST_SUBSCRIPTIONS", id="a-1") == [{"result": ["btcusdt@trade"], "id": "a-1"}]
    assert rig.send(conn, method="GET_PROPERTY", params=["combined"], id=None) == [{"result": False, "id": None}]
    assert rig.send(conn, method="SUBSCRIBE", params="x", id=3)[0]["error"]["code"] == 2
    rig.front.ws_message(conn, "{", rig.now_ns)
    assert rig.got(conn)[-1]["error"]["code"] == 3
    rig.pass_time(2 * SECOND)
    for _ in range(6):
        rig.send(conn, method="LIST_SUBSCRIPTIONS", id=1)
    assert rig.wire.closed == [(conn, 1008)]


def test_mark_price_comes_every_second(rig: Rig) -> None:
    conn = rig.open("/market/ws/btcusdt@markPrice@1s")
    for _ in range(30):
        rig.pass_time(100 * MS)
    assert [frame["p"] for frame in rig.got(conn)] == ["64000.00000000"] * 3


def test_microseconds_on_request(rig: Rig) -> None:
    conn = rig.open("/ws/btcusdt@trade", "timeUnit=MICROSECOND")
    rig.core.house_trade(rig.listing(Market.SPOT), Side.BUY, 1, rig.now_ns)
    assert rig.got(conn)[0]["T"] == START_NS // 1000


# --- limits and faults ------------------------------------------------------------------------------------------------


def test_weight_is_told_and_its_breach_answers_429_then_418(rig: Rig) -> None:
    answer = rig.rest("GET", "/api/v3/depth", "symbol=BTCUSDT&limit=5000", signs=False)
    assert answer.headers["x-mbx-used-weight-1m"] == "250"
    statuses = [rig.rest("GET", "/api/v3/depth", "symbol=BTCUSDT&limit=5000", signs=False) for _ in range(40)]
    refused = [answer for answer in statuses if answer.status != 200]
    assert len(refused) == 40 - 23 and refused[0].status == 429
    assert int(refused[0].headers["retry-after"]) == 60 - START_NS // SECOND % 60
    assert refused[-1].status == 418 and json.loads(refused[-1].body)["code"] == -1003
    assert rig.rest("GET", "/fapi/v1/ping", signs=False).status == 200  # the other market counts by itself
    rig.pass_time(61 * SECOND)
    assert rig.rest("GET", "/api/v3/ping", signs=False).status == 418
    rig.pass_time(120 * SECOND)
    assert rig.rest("GET", "/api/v3/ping", signs=False).status == 200


def test_spot_order_entry_weighs_nothing_when_it_succeeds(rig: Rig) -> None:
    answer = rig.rest("POST", "/api/v3/order", query_of(**LIMIT, price="60000"))
    assert answer.headers["x-mbx-used-weight-1m"] == "0" and answer.headers["x-mbx-order-count-10s"] == "1"
    answer = rig.rest("POST", "/api/v3/order", query_of(**LIMIT, price="60000.001"))
    assert answer.headers["x-mbx-used-weight-1m"] == "1" and "x-mbx-order-count-10s" not in answer.headers


def test_fifty_unfilled_orders_in_ten_seconds_are_the_limit_and_fills_do_not_count(rig: Rig) -> None:
    market = query_of(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.001")
    for _ in range(5):
        rig.ok("POST", "/api/v3/order", market)
    for step in range(50):
        rig.ok("POST", "/api/v3/order", query_of(**LIMIT, price=str(60000 + step)))
    answer = rig.rest("POST", "/api/v3/order", market)
    assert (answer.status, json.loads(answer.body)["code"]) == (429, -1015)
    rig.pass_time(10 * SECOND)
    rig.ok("POST", "/api/v3/order", market)


def test_unknown_outcome_executes_and_says_so(rig: Rig) -> None:
    rig.core.hooks.push("place", Fault(FaultKind.UNKNOWN_DONE))
    answer = rig.rest("POST", "/api/v3/order", query_of(**LIMIT, price="60000", newClientOrderId="u"))
    assert (answer.status, json.loads(answer.body)["code"]) == (504, -1007)
    assert rig.ok("GET", "/api/v3/order", "symbol=BTCUSDT&origClientOrderId=u")["status"] == "NEW"
    rig.core.hooks.push("place", Fault(FaultKind.UNKNOWN_NOT_DONE))
    assert rig.code("POST", "/api/v3/order", query_of(**LIMIT, price="60000", newClientOrderId="v")) == -1007
    assert rig.code("GET", "/api/v3/order", "symbol=BTCUSDT&origClientOrderId=v") == -2013


@pytest.mark.parametrize(
    ("kind", "statuses", "closes"),
    [
        (FaultKind.DROP_ANSWER, ["executionReport", "outboundAccountPosition"], False),
        (FaultKind.DROP_REQUEST, [], False),
        (FaultKind.EVENTS_FIRST, ["executionReport", "outboundAccountPosition", 200], False),
        (FaultKind.REJECT, [400], False),
        (FaultKind.DISCONNECT, ["executionReport", "outboundAccountPosition"], True),
    ],
)
def test_faults_of_one_request(rig: Rig, kind: FaultKind, statuses: list[Any], closes: bool) -> None:
    conn, user = rig.open("/ws-api/v3"), rig.open("/ws-api/v3")
    rig.call(user, "userDataStream.subscribe.signature")
    before = len(rig.wire.frames)
    rig.core.hooks.push("place", Fault(kind))
    rig.call(conn, "order.place", **LIMIT, price="60000.00")
    frames = [frame for _, frame in rig.wire.frames[before:]]
    assert [frame.get("status") or frame["event"]["e"] for frame in frames] == statuses
    assert bool(rig.wire.closed) == closes


def test_delayed_answer_comes_after_its_events_and_in_time(rig: Rig) -> None:
    conn = rig.open("/ws-api/v3")
    rig.call(conn, "userDataStream.subscribe.signature")
    rig.core.hooks.push("place", Fault(FaultKind.DELAY_ANSWER, delay_ns=300 * MS))
    frames = rig.call(conn, "order.place", **LIMIT, price="60000.00")
    assert [frame["event"]["e"] for frame in frames] == ["executionReport", "outboundAccountPosition"]
    assert rig.front.next_timer_ns() == rig.now_ns + 300 * MS
    rig.pass_time(300 * MS)
    assert rig.got(conn)[-1]["status"] == 200


def test_private_event_hooks_drop_double_and_delay(rig: Rig) -> None:
    key = rig.ok("POST", "/fapi/v1/listenKey", signs=False)["listenKey"]
    conn = rig.open(f"/private/ws/{key}")
    order = query_of(symbol="BTCUSDT", side="SELL", type="MARKET", quantity="0.010")
    hooks = rig.core.hooks
    hooks.drop_private, hooks.duplicate_fills, hooks.late_fill_ns = 1, 1, 50 * MS
    rig.ok("POST", "/fapi/v1/order", order)  # NEW is lost
    assert [event["e"] for event in rig.got(conn)] == ["TRADE_LITE", "ACCOUNT_UPDATE"]
    rig.pass_time(50 * MS)
    assert [event["e"] for event in rig.got(conn)[2:]] == ["ORDER_TRADE_UPDATE"] * 2
    assert rig.got(conn)[2] == rig.got(conn)[3]
    hooks.private_stalled = True
    rig.ok("POST", "/fapi/v1/order", order)
    rig.pass_time(SECOND)
    assert len(rig.got(conn)) == 4


def test_public_event_hooks_make_gaps_repeats_and_silence(rig: Rig) -> None:
    conn, listing = rig.open("/ws/btcusdt@depth@100ms"), rig.listing(Market.SPOT)
    mid = listing.ticks("64000")

    def change(qty: int) -> None:
        rig.core.house_level(listing, Side.BUY, mid - 3, qty, rig.now_ns)
        rig.pass_time(100 * MS)

    change(1)
    rig.core.hooks.drop_book_events = 1
    change(2)
    rig.core.hooks.duplicate_book_events = 1
    change(3)
    first, second, third = rig.got(conn)
    assert second == third and second["U"] == first["u"] + 2
    rig.core.hooks.stalled_streams.add("BTCUSDT")
    change(4)
    assert len(rig.got(conn)) == 3


def test_good_till_date_ends_by_the_timer_alone(rig: Rig) -> None:
    till = rig.stamp() + 700_000
    order = {**LIMIT, "timeInForce": "GTD", "price": "60000", "goodTillDate": str(till)}
    rig.ok("POST", "/fapi/v1/order", query_of(**order))
    assert rig.front.next_timer_ns() == till * MS
    rig.pass_time(700 * SECOND)
    assert rig.ok("GET", "/fapi/v1/openOrders") == []
    assert rig.front.next_timer_ns() == 2**63 - 1


def test_queries_lag_behind_the_engine_when_told_to(rig: Rig) -> None:
    rig.core.hooks.query_lag_ns = 2 * SECOND
    rig.ok("POST", "/api/v3/order", query_of(**LIMIT, price="60000", newClientOrderId="q"))
    assert rig.code("GET", "/api/v3/order", "symbol=BTCUSDT&origClientOrderId=q") == -2013
    assert rig.ok("GET", "/api/v3/openOrders", "symbol=BTCUSDT") == []
    rig.pass_time(2 * SECOND)
    assert len(rig.ok("GET", "/api/v3/openOrders", "symbol=BTCUSDT")) == 1


def test_garbage_is_answered_and_never_raises(rig: Rig) -> None:
    conn = rig.open("/ws-api/v3")
    for text in ("", "[]", "nul", '{"id":1}', '{"params":3}', '{"id":{},"method":7,"params":{"a":[1,{}]}}', "\x00"):
        rig.front.ws_message(conn, text, rig.now_ns)
    assert len(rig.got(conn)) == 7 and all(frame["status"] == 400 for frame in rig.got(conn))
    for path in ("/api/v3/nothing", "/fapi/v1", "/sapi/v1/x"):
        assert rig.rest("GET", path).status == 404
    for query in ("symbol=BTCUSDT&limit=x", "symbol=%FF", "limit=5", "symbol=BTCUSDT&limit=-1", "&&&=&"):
        assert rig.rest("GET", "/api/v3/depth", query, signs=False).status == 400
