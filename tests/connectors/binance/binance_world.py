"""A small scripted Binance for the connector's tests: what it is asked, and answers written from the venue's pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from connectors.binance import endpoints
from connectors.binance.connector import BinanceConnector
from engine.actions import PlaceOrder
from engine.events import AnyEvent, BookUpdate, Event
from engine.ids import cl_ord_id, text_from_cl_ord_id
from engine.types import Market, OrdType, Side, TimeInForce, Venue
from engine.venue import Credentials, InstrumentSpec, VenueSettings
from tests.connectors.fake_wire import MS, SECOND, Asked, FakeWire, HttpAnswer, World

UTC_OFFSET_NS = 1_763_800_000 * SECOND - 1_000 * SECOND  # 2025-11-22; the world starts at 1000 s
KEY = Credentials("demo-key-binance-0001", "demo-secret-binance-0001", environment="local")
SPOT_INDEX, PERP_INDEX = 0, 1
SPECS = (
    InstrumentSpec(SPOT_INDEX, Market.SPOT, "BTCUSDT"),
    InstrumentSpec(PERP_INDEX, Market.LINEAR, "BTCUSDT"),
)
OUR_ID = cl_ord_id(1, 2, 3, 4)
OUR_TEXT = text_from_cl_ord_id(OUR_ID)

SPOT_INFO = {
    "timezone": "UTC",
    "serverTime": 1763800000000,
    "rateLimits": [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 50},
        {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 160000},
    ],
    "symbols": [
        {
            "symbol": "BTCUSDT",
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
            "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
                {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
                {"filterType": "NOTIONAL", "minNotional": "5.0", "applyMinToMarket": True},
            ],
        }
    ],
}
USDM_INFO = {
    "rateLimits": [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400},
        {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
    ],
    "symbols": [
        {
            "symbol": "BTCUSDT",
            "contractType": "PERPETUAL",
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "marginAsset": "USDT",
            "pricePrecision": 2,
            "quantityPrecision": 3,
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "556.80", "maxPrice": "4529764", "tickSize": "0.10"},
                {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
                {"filterType": "MIN_NOTIONAL", "notional": "100"},
            ],
        }
    ],
}
RIGHTS = {
    "ipRestrict": True,
    "enableReading": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "permitsUniversalTransfer": False,
    "enableSpotAndMarginTrading": True,
    "enableFutures": True,
}

Route = Callable[[Asked, int], Any]


class Binance:
    """Answers with what its tables hold; a test changes the tables."""

    def __init__(
        self, specs: tuple[InstrumentSpec, ...] = SPECS, credentials: Credentials | None = KEY, **settings: Any
    ) -> None:
        self.wire = FakeWire()
        self.events: list[Event] = []
        self.book_updates: list[tuple[int, bool]] = []
        self.world = World(self.wire, self.on_http, self.on_send)
        self.skew_ns = 0
        self.depth_id: dict[str, int] = {"/api/v3/depth": 100, "/fapi/v1/depth": 100}
        self.asked: list[Asked] = []
        self.api_requests: list[tuple[int, dict[str, Any]]] = []
        self.api_answers: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {}
        self.routes: dict[str, Any] = {
            "GET /api/v3/exchangeInfo": SPOT_INFO,
            "GET /fapi/v1/exchangeInfo": USDM_INFO,
            "GET /api/v3/time": lambda asked, now_ns: {"serverTime": self.utc_ms(now_ns - MS)},
            "GET /fapi/v1/time": lambda asked, now_ns: {"serverTime": self.utc_ms(now_ns - MS)},
            "GET /sapi/v1/account/apiRestrictions": RIGHTS,
            "GET /fapi/v1/positionSide/dual": {"dualSidePosition": False},
            "GET /fapi/v1/symbolConfig": [{"symbol": "BTCUSDT", "marginType": "CROSSED", "leverage": 20}],
            "GET /api/v3/account/commission": {
                "symbol": "BTCUSDT",
                "standardCommission": {"maker": "0.00100000", "taker": "0.00200000", "buyer": "0", "seller": "0"},
                "taxCommission": {"maker": "0.00001000", "taker": "0.00002000", "buyer": "0", "seller": "0"},
            },
            "GET /fapi/v1/commissionRate": {
                "symbol": "BTCUSDT",
                "makerCommissionRate": "0.0002",
                "takerCommissionRate": "0.0004",
            },
            "POST /fapi/v1/listenKey": {"listenKey": "LK1"},
            "PUT /fapi/v1/listenKey": {},
            "POST /fapi/v1/countdownCancelAll": {"symbol": "BTCUSDT", "countdownTime": "10000"},
            "GET /api/v3/depth": self.depth,
            "GET /fapi/v1/depth": self.depth,
        }
        urls = {"base_http": "http://127.0.0.1:9001", "base_ws": "ws://127.0.0.1:9001"}
        self.settings = VenueSettings(**{"environment": "local", "urls": urls, **settings})
        self.connector = BinanceConnector(
            self.settings, credentials, specs, self.wire, self.emit, utc_offset_ns=UTC_OFFSET_NS
        )
        self.world.connector = self.connector

    def emit(self, event: AnyEvent) -> None:
        if isinstance(event, BookUpdate):
            self.book_updates.append((event.instrument, event.book.is_valid))
        else:
            self.events.append(event)

    def utc_ms(self, now_ns: int) -> int:
        return (now_ns + UTC_OFFSET_NS + self.skew_ns) // MS

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def take(self, kind: type) -> list[Any]:
        """The events of one kind so far; forgets all events."""
        found = self.of(kind)
        self.events.clear()
        return found

    # --- answers ---

    def on_http(self, asked: Asked, now_ns: int) -> HttpAnswer | None:
        self.asked.append(asked)
        route = self.routes.get(f"{asked.method} {asked.path}")
        if callable(route):
            route = route(asked, now_ns)
        if route is None:
            return None
        if isinstance(route, tuple):
            return route
        return 200, {"content-type": "application/json"}, orjson.dumps(route)

    def depth(self, asked: Asked, now_ns: int) -> Any:
        last = self.depth_id[asked.path]
        return {"lastUpdateId": last, "bids": [["25000.00", "1.250"]], "asks": [["25000.10", "0.900"]]}

    def on_send(self, channel: int, payload: bytes, now_ns: int) -> list[bytes]:
        request = orjson.loads(payload)
        if channel in (endpoints.SPOT_API, endpoints.SPOT_API_SPARE, endpoints.USDM_API, endpoints.USDM_API_SPARE):
            return self.on_api(channel, request)
        return [orjson.dumps({"result": None, "id": request["id"]})]

    def on_api(self, channel: int, request: dict[str, Any]) -> list[bytes]:
        method = request["method"]
        if method in ("ping", "session.logon"):
            return [orjson.dumps({"id": request["id"], "status": 200, "result": {}})]
        if method.startswith("userDataStream.subscribe"):
            return [orjson.dumps({"id": request["id"], "status": 200, "result": {"subscriptionId": 0}})]
        self.api_requests.append((channel, request))
        answer = self.api_answers.get(method)
        made = None if answer is None else answer(request)
        return [] if made is None else [orjson.dumps({"id": request["id"], **made})]

    # --- wishes ---

    def start(self, *, books: bool = False) -> Binance:
        self.connector.start(self.world.now_ns)
        if books:
            for spec in SPECS:
                if spec.index in {s.index for s in self.connector._specs}:
                    self.connector.subscribe_order_book(spec.index, self.world.now_ns)
        self.world.run(SECOND)
        return self

    def requests_to(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    def place(self, instrument: int = SPOT_INDEX, **changes: Any) -> PlaceOrder:
        action = order(instrument, **changes)
        self.connector.place_order(action, self.world.now_ns)
        self.world.settle()
        return action


def order(instrument: int = SPOT_INDEX, **changes: Any) -> PlaceOrder:
    fields: dict[str, Any] = {
        "venue": Venue.BINANCE,
        "instrument": instrument,
        "cl_ord_id": OUR_ID,
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "px_ticks": 2_500_000 if instrument == SPOT_INDEX else 250_000,
        "qty_lots": 1_000 if instrument == SPOT_INDEX else 10,
        "time_in_force": TimeInForce.GTC,
    }
    return PlaceOrder(**{**fields, **changes})


def spot_result(request: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """RESULT answer of a spot order."""
    params = request["params"]
    row = {
        "symbol": "BTCUSDT",
        "orderId": 28,
        "orderListId": -1,
        "clientOrderId": params.get("newClientOrderId", OUR_TEXT),
        "transactTime": 1763800000010,
        "price": params.get("price", "0") + "000000",
        "origQty": params.get("quantity", "0.01"),
        "executedQty": "0.00000000",
        "cummulativeQuoteQty": "0.00000000",
        "status": "NEW",
        "timeInForce": "GTC",
        "type": params.get("type", "LIMIT"),
        "side": params.get("side", "BUY"),
        "workingTime": 1763800000010,
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }
    return {"status": 200, "result": {**row, **changes}}


def usdm_result(request: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    params = request["params"]
    row = {
        "orderId": 8886774,
        "symbol": "BTCUSDT",
        "status": "NEW",
        "clientOrderId": params.get("newClientOrderId", OUR_TEXT),
        "price": params.get("price", "0"),
        "origQty": params.get("quantity", "0.010"),
        "executedQty": "0",
        "cumQty": "0",
        "timeInForce": params.get("timeInForce", "GTC"),
        "type": params.get("type", "LIMIT"),
        "reduceOnly": False,
        "side": params.get("side", "BUY"),
        "positionSide": "BOTH",
        "updateTime": 1763800000010,
    }
    return {"status": 200, "result": {**row, **changes}}


def error(status: int, code: int, text: str, **details: Any) -> dict[str, Any]:
    failure: dict[str, Any] = {"code": code, "msg": text}
    if details:
        failure["data"] = details
    return {"status": status, "error": failure}


def execution(**changes: Any) -> bytes:
    """Spot executionReport as the user data stream sends it."""
    event = {
        "e": "executionReport", "E": 1763800000012, "s": "BTCUSDT", "c": OUR_TEXT, "S": "BUY", "o": "LIMIT",
        "f": "GTC", "q": "0.01000000", "p": "25000.00000000", "P": "0.00000000", "F": "0.00000000", "g": -1,
        "C": "", "x": "NEW", "X": "NEW", "r": "NONE", "i": 28, "l": "0.00000000", "z": "0.00000000",
        "L": "0.00000000", "n": "0", "N": None, "T": 1763800000011, "t": -1, "I": 901, "w": True, "m": False,
        "M": False, "O": 1763800000010, "Z": "0", "Y": "0", "Q": "0", "W": 1763800000010, "V": "EXPIRE_MAKER",
    }  # fmt: skip
    return orjson.dumps({"subscriptionId": 0, "event": {**event, **changes}})


def order_update(**changes: Any) -> bytes:
    """USD-M ORDER_TRADE_UPDATE."""
    fields = {
        "s": "BTCUSDT", "c": OUR_TEXT, "S": "BUY", "o": "LIMIT", "f": "GTC", "q": "0.010", "p": "25000", "ap": "0",
        "sp": "0", "x": "NEW", "X": "NEW", "i": 8886774, "l": "0", "z": "0", "L": "0", "T": 1763800000013, "t": 0,
        "b": "0", "a": "0", "m": False, "R": False, "wt": "CONTRACT_PRICE", "ot": "LIMIT", "ps": "BOTH", "cp": False,
        "rp": "0", "pP": False, "si": 0, "ss": 0, "V": "EXPIRE_MAKER", "pm": "NONE", "gtd": 0, "er": "0",
    }  # fmt: skip
    return orjson.dumps({"e": "ORDER_TRADE_UPDATE", "E": 1763800000015, "T": 1763800000013, "o": {**fields, **changes}})


def depth_event(first: int, last: int, *, prev: int | None = None, bids: Any = (), asks: Any = ()) -> bytes:
    event: dict[str, Any] = {
        "e": "depthUpdate", "E": 1763800000101, "s": "BTCUSDT", "U": first, "u": last, "b": list(bids),
        "a": list(asks),
    }  # fmt: skip
    if prev is not None:
        event.update({"T": 1763800000100, "pu": prev, "ps": "BTCUSDT", "st": 1})
    return orjson.dumps(event)
