"""Judge of the local exchange: binance-connector, Binance's earlier client, unchanged but for the addresses.

Runs in a virtual environment of its own: `python judge_binance_connector.py PORT CONTROL_TOKEN`. Prints one line a
check and exits 1 when one failed. Imports nothing of this project. It sends numbers as JSON numbers and signs them so.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import time
import traceback
import uuid

from binance.error import ClientError
from binance.spot import Spot
from binance.websocket.spot.websocket_api import SpotWebsocketAPIClient
from binance.websocket.spot.websocket_stream import SpotWebsocketStreamClient

KEY, SECRET = "second-key-binance-0002", "second-secret-binance-0002"
PORT = int(sys.argv[1])
HTTP, WS = f"http://127.0.0.1:{PORT}", f"ws://127.0.0.1:{PORT}"
SYMBOL = "BTCUSDT"
logging.disable(logging.CRITICAL)
REST = Spot(api_key=KEY, api_secret=SECRET, base_url=HTTP, show_limit_usage=False)


class Inbox:
    def __init__(self) -> None:
        self.queue: queue.Queue = queue.Queue()

    def put(self, _client: object, text: str) -> None:
        self.queue.put(json.loads(text))

    def next(self, is_wanted=lambda message: True, seconds: float = 8.0) -> dict:
        deadline = time.monotonic() + seconds
        while True:
            message = self.queue.get(timeout=max(0.01, deadline - time.monotonic()))
            if is_wanted(message):
                return message


def link() -> str:
    return f"connector-{uuid.uuid4().hex[:20]}"


def refused(code: int, call, **arguments: object) -> None:
    try:
        call(**arguments)
    except ClientError as error:
        assert error.error_code == code, f"{code} was expected, was {error.error_code}: {error.error_message}"
        return
    raise AssertionError(f"{code} was expected, was success")


def far_bid() -> float:
    return round(float(REST.depth(SYMBOL, limit=5)["bids"][0][0]) * 0.97, 2)


def check_market_data() -> None:
    assert REST.exchange_info(symbol=SYMBOL)["symbols"][0]["symbol"] == SYMBOL
    book = REST.depth(SYMBOL, limit=20)
    assert len(book["asks"]) == 20 and book["lastUpdateId"] > 0
    assert float(REST.book_ticker(SYMBOL)["askPrice"]) > float(REST.book_ticker(SYMBOL)["bidPrice"]) * 0.99
    assert abs(REST.time()["serverTime"] - time.time() * 1000) < 2000


def check_request_weight_headers() -> None:
    client = Spot(base_url=HTTP, show_limit_usage=True)
    usage = client.time()["limit_usage"]
    assert int(usage["x-mbx-used-weight-1m"]) > 0, usage


def check_orders() -> None:
    own_id, price = link(), far_bid()
    order = REST.new_order(
        SYMBOL, "BUY", "LIMIT", timeInForce="GTC", quantity=0.002, price=price, newClientOrderId=own_id
    )
    assert order["status"] == "NEW" and order["fills"] == []
    replaced = REST.cancel_and_replace(
        SYMBOL,
        "BUY",
        "LIMIT",
        "STOP_ON_FAILURE",
        cancelOrigClientOrderId=own_id,
        timeInForce="GTC",
        quantity=0.003,
        price=price,
    )
    assert replaced["newOrderResponse"]["origQty"] == "0.00300000"
    assert REST.get_order(SYMBOL, origClientOrderId=own_id)["status"] == "CANCELED"
    assert len(REST.get_open_orders(SYMBOL)) == 1
    assert len(REST.cancel_open_orders(SYMBOL)) == 1
    refused(-2011, REST.cancel_open_orders, symbol=SYMBOL)
    arguments = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT_MAKER"}
    refused(-2010, REST.new_order, **arguments, quantity=0.002, price=round(price * 1.06, 2))
    refused(-1106, REST.new_order, **arguments, quantity=0.002, price=price, timeInForce="GTC")
    refused(-1013, REST.new_order, **arguments, quantity=0.002, price=f"{price:.2f}1")
    refused(-1111, REST.new_order, **arguments, quantity="0.0020000001", price=price)


def check_account() -> None:
    bought = REST.new_order(SYMBOL, "BUY", "MARKET", quantity=0.002)
    trades = REST.my_trades(SYMBOL, orderId=bought["orderId"])
    assert [trade["id"] for trade in trades] == [fill["tradeId"] for fill in bought["fills"]]
    balances = {row["asset"]: row for row in REST.account()["balances"]}
    assert float(balances["USDT"]["locked"]) == 0
    REST.new_order(SYMBOL, "SELL", "MARKET", quantity=0.002)


def check_streams() -> None:
    for is_combined in (False, True):
        inbox = Inbox()
        client = SpotWebsocketStreamClient(stream_url=WS, on_message=inbox.put, is_combined=is_combined)
        client.diff_book_depth(SYMBOL, speed=100)
        client.book_ticker(SYMBOL)

        def is_depth(message: dict, wraps: bool = is_combined) -> bool:
            return message.get("data", {} if wraps else message).get("e") == "depthUpdate"

        first, second = inbox.next(is_depth), inbox.next(is_depth)
        assert first.get("data", first)["u"] + 1 == second.get("data", second)["U"]
        client.list_subscribe(id=7)
        listed = inbox.next(lambda message: message.get("id") == 7)
        assert listed["result"] == ["btcusdt@depth@100ms", "btcusdt@bookTicker"]
        client.stop()


def check_websocket_api() -> None:
    inbox = Inbox()
    client = SpotWebsocketAPIClient(stream_url=f"{WS}/ws-api/v3", api_key=KEY, api_secret=SECRET, on_message=inbox.put)
    own_id = link()
    client.new_order(
        id=own_id,
        symbol=SYMBOL,
        side="BUY",
        type="LIMIT",
        timeInForce="GTC",
        quantity=0.002,
        price=far_bid(),
        newClientOrderId=own_id,
    )
    answer = inbox.next(lambda message: message["id"] == own_id)
    assert answer["status"] == 200 and answer["result"]["status"] == "NEW", answer
    kinds = [row["rateLimitType"] for row in answer["rateLimits"]]
    assert kinds == ["ORDERS", "ORDERS", "REQUEST_WEIGHT"]
    client.cancel_order(id="c", symbol=SYMBOL, origClientOrderId=own_id)
    answer = inbox.next(lambda message: message["id"] == "c")
    assert answer["result"]["status"] == "CANCELED", answer
    client.cancel_order(id="d", symbol=SYMBOL, origClientOrderId=own_id)
    answer = inbox.next(lambda message: message["id"] == "d")
    assert (answer["status"], answer["error"]["code"]) == (400, -2011), answer
    client.account(id="a")
    assert inbox.next(lambda message: message["id"] == "a")["result"]["balances"]
    client.stop()


def main() -> int:
    failed = 0
    for name, check in [(name, each) for name, each in globals().items() if name.startswith("check_")]:
        try:
            check()
            print(f"ok      binance-connector {name[6:]}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  binance-connector {name[6:]}", flush=True)
            traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
