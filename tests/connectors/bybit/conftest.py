"""A world for the Bybit connector: a wire that records, and a venue that answers what the test tells it to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from connectors.bybit import endpoints
from connectors.bybit.connector import BybitConnector
from engine.events import BookUpdate, VenueReady
from engine.types import Market
from engine.venue import Credentials, InstrumentSpec, VenueSettings
from tests.connectors.bybit.bybit_rows import fine_row

MS = 1_000_000
SECOND = 1_000_000_000
UTC_MS = 1_763_800_000_000
START_NS = 5_000 * SECOND
KEY, SECRET = "demo-key-bybit-0001", "demo-secret-bybit-0001"

LINEAR_ROW = {
    "symbol": "BTCUSDT", "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": "BTC",
    "quoteCoin": "USDT", "settleCoin": "USDT", "priceFilter": {"tickSize": "0.10"},
    "lotSizeFilter": {"maxOrderQty": "1190.000", "minOrderQty": "0.001", "qtyStep": "0.001", "minNotionalValue": "5"},
}  # fmt: skip
SPOT_ROW = {
    "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading",
    "priceFilter": {"tickSize": "0.1"},
    "lotSizeFilter": {"basePrecision": "0.000001", "minOrderAmt": "5", "maxOrderQty": "83", "maxLimitOrderQty": "83"},
}  # fmt: skip
KEY_RESULT = {
    "readOnly": 0, "permissions": {"ContractTrade": ["Order", "Position"], "Spot": ["SpotTrade"], "Wallet": []},
    "ips": ["203.0.113.7"], "deadlineDay": -1, "userID": 1, "uta": 1,
}  # fmt: skip
ACCOUNT_RESULT = {"marginMode": "REGULAR_MARGIN", "unifiedMarginStatus": 5, "dcpStatus": "OFF", "timeWindow": 10}
LINEAR, SPOT = 0, 1


class RecordingWire:
    """Everything that a connector asked of the world, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.up: set[int] = set()
        self.requests: list[tuple[int, str, str, Mapping[str, str], bytes]] = []
        self.timers: list[int] = []

    def connect(self, channel: int, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.log.append(("connect", channel, url))

    def send(self, channel: int, payload: bytes | bytearray | memoryview) -> bool:
        if channel not in self.up:
            return False
        self.log.append(("send", channel, bytes(payload)))
        return True

    def close(self, channel: int) -> None:
        self.up.discard(channel)
        self.log.append(("close", channel))

    def request(
        self, request_id: int, method: str, base_url: str, target: str, headers: Mapping[str, str],
        body: bytes = b"", *, is_secret: bool = False, timeout_ns: int = 0,
    ) -> None:  # fmt: skip
        self.requests.append((request_id, method, target, headers, body))
        self.log.append(("request", request_id, method, base_url, target, tuple(headers.items()), body))

    def set_timer(self, at_ns: int) -> None:
        self.timers.append(at_ns)


class World:
    """One connector with a scripted venue. `answers` maps a path to the result of its REST answer, or to a full
    envelope, or to a status; `now_ns` only moves when a test moves it."""

    linear_row = LINEAR_ROW
    spot_row = SPOT_ROW

    def __init__(self, *, credentials: Credentials | None = None, specs: list[InstrumentSpec] | None = None,
                 **settings: Any) -> None:  # fmt: skip
        self.now_ns = START_NS
        self.events: list[Any] = []
        self.wire = RecordingWire()
        urls = {"base_http": "http://127.0.0.1:1", "base_ws": "ws://127.0.0.1:1"}
        options = {"environment": "local", "urls": urls, "book_depth": 50, **settings}
        self.connector = BybitConnector(
            VenueSettings(**options),
            credentials,
            specs or [InstrumentSpec(LINEAR, Market.LINEAR, "BTCUSDT"), InstrumentSpec(SPOT, Market.SPOT, "BTCUSDT")],
            self.wire,
            self._emit,
            UTC_MS * MS - START_NS,
        )
        self.book_updates = 0
        self.answers: dict[str, Any] = {
            endpoints.SERVER_TIME: {"timeNano": ""},
            endpoints.KEY_INFO: KEY_RESULT,
            endpoints.ACCOUNT_INFO: ACCOUNT_RESULT,
            endpoints.POSITIONS: {"list": [{"symbol": "BTCUSDT", "positionIdx": 0, "side": "", "size": "0"}]},
            endpoints.FEE_RATE: {
                "list": [{"symbol": "BTCUSDT", "makerFeeRate": "-0.00005", "takerFeeRate": "0.00055"}]
            },
        }

    def _emit(self, event: Any) -> None:
        if isinstance(event, BookUpdate):  # reused by the connector: keep what it says
            self.book_updates += 1
            book = event.book
            self.events.append(("book", event.instrument, book.best_bid_px, book.best_ask_px, event.recv_ts_ns))
        else:
            self.events.append(event)

    # --- what happened ---

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def take(self) -> list[Any]:
        events, self.events = self.events, []
        return events

    def sent(self, channel: int) -> list[dict[str, Any]]:
        return [orjson.loads(one[2]) for one in self.wire.log if one[0] == "send" and one[1] == channel]

    def last_sent(self, channel: int) -> dict[str, Any]:
        return self.sent(channel)[-1]

    # --- what the venue does ---

    def frame(self, channel: int, message: Any) -> None:
        payload = message if isinstance(message, bytes) else orjson.dumps(message)
        self.connector.on_frame(channel, payload, self.now_ns)

    def respond(self, request_id: int, body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.connector.on_response(request_id, status, headers or {}, orjson.dumps(body), self.now_ns)

    def answer_requests(self) -> int:
        """Answer what waits and is scripted; gives back how many were."""
        waiting, self.wire.requests = self.wire.requests, []
        count = 0
        for entry in waiting:
            request_id, _, target, _, _ = entry
            path = target.split("?")[0]
            if path == endpoints.INSTRUMENTS:
                row = SPOT_ROW if "category=spot" in target else LINEAR_ROW
                answer: Any = self.answers.get(path, {"list": [row]})
            elif path in self.answers:
                answer = self.answers[path]
            else:
                self.wire.requests.append(entry)
                continue
            count += 1
            if path == endpoints.SERVER_TIME and answer == {"timeNano": ""}:
                answer = {"timeNano": str(UTC_MS * MS + self.now_ns - START_NS)}
            if callable(answer):
                answer = answer(target)
            if isinstance(answer, int):
                self.respond(request_id, {}, answer)
            elif "retCode" in answer:
                self.respond(request_id, answer)
            else:
                self.respond(request_id, {"retCode": 0, "retMsg": "OK", "result": answer, "time": UTC_MS})
        return count

    def only_request(self, method: str = "POST") -> tuple[int, str, str, Mapping[str, str], bytes]:
        (found,) = [one for one in self.wire.requests if one[1] == method]
        self.wire.requests.remove(found)
        return found

    def answer_control(self, channel: int) -> None:
        """Acknowledge every log-in and subscription of a socket that has none yet."""
        for at, entry in enumerate(list(self.wire.log)):
            if entry[0] != "send" or entry[1] != channel or entry[-1] == "answered":
                continue
            message = orjson.loads(entry[2])
            op = message.get("op")
            if op not in ("auth", "subscribe", "unsubscribe"):
                continue
            self.wire.log[at] = (*entry, "answered")
            if op == "auth" and channel == endpoints.TRADE:
                self.frame(channel, {"retCode": 0, "retMsg": "OK", "op": "auth", "connId": "c3"})
            else:
                reply = {"success": True, "ret_msg": "", "conn_id": "c1", "op": op, "req_id": message["req_id"]}
                self.frame(channel, reply)

    def connect(self, channel: int) -> None:
        self.wire.up.add(channel)
        self.connector.on_connected(channel, self.now_ns)
        for _ in range(3):  # a log-in is followed by subscriptions
            self.answer_control(channel)

    def disconnect(self, channel: int, reason: str = "reset by peer") -> None:
        self.wire.up.discard(channel)
        self.connector.on_disconnected(channel, reason, self.now_ns)

    def tick(self, ns: int = 100 * MS) -> None:
        self.now_ns += ns
        self.connector.on_timer(self.now_ns)

    def run(self, ns: int) -> None:
        """Let time pass in steps of the loop."""
        until = self.now_ns + ns
        while self.now_ns < until:
            self.tick(min(100 * MS, until - self.now_ns))

    def start(self) -> None:
        self.connector.start(self.now_ns)
        for _ in range(100):
            if not self.answer_requests():
                if not self.connector.context.outbox.waiting:
                    break
                self.tick()  # requests wait for their limit

    def snapshot(self, channel: int = endpoints.PUBLIC_LINEAR, u: int = 100, depth: int = 50) -> None:
        self.frame(channel, book_frame("snapshot", u, [["25000.0", "1"]], [["25000.1", "2"]], depth))

    def delta(self, u: int, bids: Any = (), asks: Any = (), channel: int = endpoints.PUBLIC_LINEAR) -> None:
        self.frame(channel, book_frame("delta", u, bids, asks))

    def go_live(self) -> World:
        self.start()
        for channel in list(endpoints.CHANNEL_NAMES):
            if ("connect", channel) in [entry[:2] for entry in self.wire.log]:
                self.connect(channel)
        for channel in (endpoints.PUBLIC_LINEAR, endpoints.PUBLIC_SPOT):
            if channel in self.wire.up:
                self.snapshot(channel)
        assert len(self.of(VenueReady)) == 1, self.events
        self.take()
        return self


def book_frame(kind: str, u: int, bids: Any, asks: Any, depth: int = 50, symbol: str = "BTCUSDT") -> dict[str, Any]:
    data = {"s": symbol, "b": list(bids), "a": list(asks), "u": u, "seq": u * 10}
    return {"topic": f"orderbook.{depth}.{symbol}", "type": kind, "ts": UTC_MS, "data": data, "cts": UTC_MS - 1}


CREDENTIALS = Credentials(KEY, SECRET, "hmac", "local")


@pytest.fixture
def world() -> World:
    """Not started."""
    return World(credentials=CREDENTIALS)


@pytest.fixture
def live() -> World:
    """Ready to trade, both books valid."""
    return World(credentials=CREDENTIALS).go_live()


@pytest.fixture
def make_world() -> type[World]:
    return World


@pytest.fixture
def credentials() -> Credentials:
    return CREDENTIALS


@pytest.fixture
def wide() -> World:
    """Live on many instruments whose grids hold every recorded number."""
    symbols = ("BTCUSDT", "ETHUSDT", "APEXUSDT", "ICPUSDT", "XRPUSDT", "SOLUSDT")
    specs = [InstrumentSpec(at, Market.LINEAR, name) for at, name in enumerate(symbols)]
    specs += [InstrumentSpec(10 + at, Market.SPOT, name) for at, name in enumerate(symbols)]
    world = World(credentials=CREDENTIALS, specs=specs)
    world.answers["/v5/market/instruments-info"] = lambda target: {"list": [fine_row(target.rpartition("=")[2])]}
    return world.go_live()
