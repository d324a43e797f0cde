"""Judge of the local exchange: pybit, Bybit's own client, unchanged but for the addresses.

Runs in a virtual environment of its own: `python judge_pybit.py PORT CONTROL_TOKEN`. Prints one line a check and
exits 1 when one failed. Imports nothing of this project.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import sys
import time
import traceback
import urllib.request
import uuid
from decimal import Decimal

import pybit._websocket_trading as websocket_trading
import pybit.unified_trading as unified
from pybit.exceptions import InvalidRequestError

KEY, SECRET = "second-key-bybit-0002", "second-secret-bybit-0002"
PORT, TOKEN = int(sys.argv[1]), sys.argv[2]
unified.PUBLIC_WSS = f"ws://127.0.0.1:{PORT}/v5/public/{{CHANNEL_TYPE}}"
unified.PRIVATE_WSS = f"ws://127.0.0.1:{PORT}/v5/private"
websocket_trading.TRADE_WSS = f"ws://127.0.0.1:{PORT}/v5/trade"


def session(key: str = KEY, secret: str = SECRET) -> unified.HTTP:
    client = unified.HTTP(api_key=key, api_secret=secret)
    client.endpoint = f"http://127.0.0.1:{PORT}"
    return client


logging.disable(logging.CRITICAL)
HTTP = session()


def link() -> str:
    return f"judge-{uuid.uuid4().hex[:24]}"


def wait_for(what, seconds: float = 5.0):
    """The first true value of `what()`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = what()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"nothing after {seconds} s")


def refused(code: int, act) -> None:
    try:
        act()
    except InvalidRequestError as error:
        assert error.status_code == code, f"code {code} was expected, was {error.status_code}: {error.message}"
        return
    raise AssertionError(f"code {code} was expected, was success")


def best(category: str, symbol: str = "BTCUSDT") -> tuple[Decimal, Decimal]:
    book = HTTP.get_orderbook(category=category, symbol=symbol, limit=1)["result"]
    return Decimal(book["b"][0][0]), Decimal(book["a"][0][0])


def control(path: str, body: object = None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/control/{path}", data=data, headers={"X-Control-Token": TOKEN}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def position(symbol: str = "BTCUSDT") -> Decimal:
    row = HTTP.get_positions(category="linear", symbol=symbol)["result"]["list"][0]
    return Decimal(row["size"]) * (-1 if row["side"] == "Sell" else 1)


# --- checks ---------------------------------------------------------------------------------------------------------


def check_server_time() -> None:
    seconds = int(HTTP.get_server_time()["result"]["timeSecond"])
    assert abs(seconds - time.time()) < 5


def check_instruments_of_both_categories() -> None:
    for category in ("spot", "linear"):
        rows = HTTP.get_instruments_info(category=category)["result"]["list"]
        assert {"BTCUSDT", "ETHUSDT"} <= {row["symbol"] for row in rows}
        assert all(row["status"] == "Trading" for row in rows)


def check_tickers_trades_and_klines() -> None:
    for category in ("spot", "linear"):
        ticker = HTTP.get_tickers(category=category, symbol="BTCUSDT")["result"]["list"][0]
        assert Decimal(ticker["bid1Price"]) < Decimal(ticker["ask1Price"])
        wait_for(lambda c=category: HTTP.get_public_trade_history(category=c, symbol="BTCUSDT")["result"]["list"])
        assert HTTP.get_kline(category=category, symbol="BTCUSDT", interval=1)["result"]["list"]


def check_wrong_signature_is_refused() -> None:
    refused(10004, lambda: session(KEY, "wrong").get_wallet_balance(accountType="UNIFIED"))
    refused(10003, lambda: session("nobody", "wrong").get_wallet_balance(accountType="UNIFIED"))


def check_wallet_and_account() -> None:
    wallet = HTTP.get_wallet_balance(accountType="UNIFIED")["result"]["list"][0]
    coins = {row["coin"]: row for row in wallet["coin"]}
    assert Decimal(coins["USDT"]["walletBalance"]) > 0
    assert HTTP.get_account_info()["result"]["marginMode"] == "REGULAR_MARGIN"
    assert HTTP.get_api_key_information()["result"]["uta"] == 1
    assert HTTP.get_fee_rates(category="linear", symbol="BTCUSDT")["result"]["list"][0]["takerFeeRate"]


def check_resting_order_life() -> None:
    for category, qty in (("linear", "0.010"), ("spot", "0.010000")):
        bid, _ = best(category)
        price = str((bid * Decimal("0.97")).quantize(Decimal("0.1")))
        name = link()
        placed = HTTP.place_order(
            category=category,
            symbol="BTCUSDT",
            side="Buy",
            orderType="Limit",
            qty=qty,
            price=price,
            timeInForce="PostOnly",
            orderLinkId=name,
        )["result"]
        assert placed["orderLinkId"] == name
        row = HTTP.get_open_orders(category=category, symbol="BTCUSDT", orderLinkId=name)["result"]["list"][0]
        assert row["orderStatus"] == "New" and row["orderId"] == placed["orderId"]
        assert ("tpslMode" in row) == (category == "linear")
        lower = str(Decimal(price) - Decimal("10.0"))
        HTTP.amend_order(category=category, symbol="BTCUSDT", orderId=placed["orderId"], price=lower)
        row = HTTP.get_open_orders(category=category, symbol="BTCUSDT", orderLinkId=name)["result"]["list"][0]
        assert Decimal(row["price"]) == Decimal(lower)
        HTTP.cancel_order(category=category, symbol="BTCUSDT", orderLinkId=name)
        rows = HTTP.get_order_history(category=category, symbol="BTCUSDT", orderLinkId=name)["result"]["list"]
        assert rows[0]["orderStatus"] == "Cancelled" and rows[0]["cancelType"] == "CancelByUser"


def check_codes_of_the_two_markets() -> None:
    bid, _ = best("linear")
    far = str((bid * Decimal("0.97")).quantize(Decimal("0.1")))
    order = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "price": far}
    name = link()
    for category, duplicate, missing, small in (("linear", 110072, 110001, 110094), ("spot", 170141, 170213, 170140)):
        HTTP.place_order(category=category, qty="0.01", orderLinkId=name, **order)
        refused(duplicate, lambda c=category: HTTP.place_order(category=c, qty="0.01", orderLinkId=name, **order))
        HTTP.cancel_order(category=category, symbol="BTCUSDT", orderLinkId=name)
        refused(duplicate, lambda c=category: HTTP.place_order(category=c, qty="0.01", orderLinkId=name, **order))
        refused(missing, lambda c=category: HTTP.cancel_order(category=c, symbol="BTCUSDT", orderLinkId="nobody"))
        tiny = order | {"price": "20.0"} if category == "spot" else order
        if category == "spot":
            refused(small, lambda: HTTP.place_order(category="spot", qty="0.00002", **order))
        else:
            refused(10001, lambda t=tiny: HTTP.place_order(category="linear", qty="0.0001", **t))
    HTTP.set_leverage(category="linear", symbol="BTCUSDT", buyLeverage="1", sellLeverage="1")
    refused(110007, lambda: HTTP.place_order(category="linear", qty="100", **order))
    HTTP.set_leverage(category="linear", symbol="BTCUSDT", buyLeverage="20", sellLeverage="20")
    refused(170131, lambda: HTTP.place_order(category="spot", qty="83", **order))
    refused(10001, lambda: HTTP.place_order(category="linear", qty="0.01", **order | {"price": "60000.05"}))
    refused(110017, lambda: HTTP.place_order(category="linear", qty="0.01", reduceOnly=True, **order))


def check_taker_fills_position_and_executions() -> None:
    before = position()
    name = link()
    HTTP.place_order(category="linear", symbol="BTCUSDT", side="Buy", orderType="Market", qty="0.020", orderLinkId=name)
    rows = wait_for(
        lambda: HTTP.get_executions(category="linear", symbol="BTCUSDT", orderLinkId=name)["result"]["list"]
    )
    assert sum(Decimal(row["execQty"]) for row in rows) == Decimal("0.020")
    assert all(row["isMaker"] is False and Decimal(row["execFee"]) > 0 for row in rows)
    assert position() - before == Decimal("0.020")
    HTTP.place_order(category="linear", symbol="BTCUSDT", side="Sell", orderType="Market", qty="0.020", reduceOnly=True)
    assert position() == before


def check_spot_market_order_by_quote_amount() -> None:
    name = link()
    HTTP.place_order(category="spot", symbol="ETHUSDT", side="Buy", orderType="Market", qty="100", orderLinkId=name)
    rows = HTTP.get_executions(category="spot", symbol="ETHUSDT", orderLinkId=name)["result"]["list"]
    assert 95 < sum(Decimal(row["execValue"]) for row in rows) <= 100
    assert {row["feeCurrency"] for row in rows} == {"ETH"}


def check_post_only_that_crosses_is_acknowledged_and_canceled() -> None:
    _, ask = best("linear")
    name = link()
    HTTP.place_order(
        category="linear",
        symbol="BTCUSDT",
        side="Buy",
        orderType="Limit",
        qty="0.01",
        price=str((ask * Decimal("1.02")).quantize(Decimal("0.1"))),
        timeInForce="PostOnly",
        orderLinkId=name,
    )
    row = HTTP.get_order_history(category="linear", orderLinkId=name)["result"]["list"][0]
    assert (row["orderStatus"], row["rejectReason"]) == ("Cancelled", "EC_PostOnlyWillTakeLiquidity"), row


def check_batch_tells_items_apart_by_position() -> None:
    bid, _ = best("linear")
    far = str((bid * Decimal("0.97")).quantize(Decimal("0.1")))
    good = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": far}
    answer = HTTP.place_batch_order(category="linear", request=[good, good | {"qty": "0.0001"}])
    assert [row["code"] for row in answer["retExtInfo"]["list"]] == [0, 10001]
    assert answer["result"]["list"][0]["orderId"] and not answer["result"]["list"][1]["orderId"]
    assert HTTP.cancel_all_orders(category="linear", symbol="BTCUSDT")["result"]["success"] == "1"
    assert not HTTP.get_open_orders(category="linear", symbol="BTCUSDT")["result"]["list"]


def check_leverage_unchanged_is_named() -> None:
    current = HTTP.get_positions(category="linear", symbol="ETHUSDT")["result"]["list"][0]["leverage"]
    refused(
        110043,
        lambda: HTTP.set_leverage(category="linear", symbol="ETHUSDT", buyLeverage=current, sellLeverage=current),
    )


def check_rate_limit_is_signaled_and_waited_for() -> None:
    # pybit sleeps until the reset of a 10006 and tries again, so every call succeeds.
    bid, _ = best("linear")
    far = str((bid * Decimal("0.96")).quantize(Decimal("0.1")))
    for _ in range(14):
        HTTP.place_order(category="linear", symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.01", price=far)
    HTTP.cancel_all_orders(category="linear", symbol="BTCUSDT")


def watch_public(category: str) -> None:
    stream = unified.WebSocket(channel_type=category, testnet=False)
    books: dict[int, dict] = {}
    trades: list[dict] = []
    tickers: list[dict] = []
    for depth in (1, 50, 200, 1000):
        stream.orderbook_stream(depth, "BTCUSDT", lambda m, d=depth: books.__setitem__(d, m))
    stream.trade_stream("BTCUSDT", trades.append)
    stream.ticker_stream("BTCUSDT", tickers.append)
    wait_for(lambda: len(books) == 4 and trades and tickers)
    start = books[50]["data"]["u"]
    wait_for(lambda: books[50]["data"]["u"] > start + 20)
    # pybit applies the deltas and raises in its thread on a level that it does not know.
    for depth in (50, 200, 1000):
        bids, asks = books[depth]["data"]["b"], books[depth]["data"]["a"]
        assert len(bids) <= depth and len(asks) <= depth
        assert max(Decimal(px) for px, _ in bids) < min(Decimal(px) for px, _ in asks)
    stream.exit()


def check_public_books_and_trades() -> None:
    for category in ("spot", "linear"):
        watch_public(category)


def check_private_stream_and_order_socket() -> None:
    stream = unified.WebSocket(channel_type="private", testnet=False, api_key=KEY, api_secret=SECRET)
    seen: dict[str, list[dict]] = {"order": [], "execution": [], "position": [], "wallet": []}
    stream.order_stream(lambda m: seen["order"].extend(m["data"]))
    stream.execution_stream(lambda m: seen["execution"].extend(m["data"]))
    stream.position_stream(lambda m: seen["position"].extend(m["data"]))
    stream.wallet_stream(lambda m: seen["wallet"].extend(m["data"]))
    trade = unified.WebSocketTrading(testnet=False, api_key=KEY, api_secret=SECRET, recv_window=5000)
    answers: list[dict] = []
    time.sleep(0.3)
    bid, _ = best("linear")
    far = str((bid * Decimal("0.97")).quantize(Decimal("0.1")))
    name = link()
    trade.place_order(
        answers.append,
        category="linear",
        symbol="BTCUSDT",
        side="Buy",
        orderType="Limit",
        qty="0.01",
        price=far,
        orderLinkId=name,
    )
    wait_for(lambda: [row for row in seen["order"] if row["orderLinkId"] == name and row["orderStatus"] == "New"])
    trade.amend_order(answers.append, category="linear", symbol="BTCUSDT", orderLinkId=name, qty="0.02")
    wait_for(lambda: [row for row in seen["order"] if row["orderLinkId"] == name and row["qty"] == "0.020"])
    trade.cancel_order(answers.append, category="linear", symbol="BTCUSDT", orderLinkId=name)
    wait_for(lambda: [row for row in seen["order"] if row["orderLinkId"] == name and row["orderStatus"] == "Cancelled"])
    taker = link()
    trade.place_order(
        answers.append,
        category="linear",
        symbol="BTCUSDT",
        side="Buy",
        orderType="Market",
        qty="0.01",
        orderLinkId=taker,
    )
    wait_for(lambda: [row for row in seen["execution"] if row["orderLinkId"] == taker])
    wait_for(lambda: [row for row in seen["order"] if row["orderLinkId"] == taker and row["orderStatus"] == "Filled"])
    wait_for(lambda: seen["position"] and seen["wallet"])
    trade.place_order(
        answers.append,
        category="linear",
        symbol="BTCUSDT",
        side="Sell",
        orderType="Market",
        qty="0.01",
        reduceOnly=True,
    )
    wait_for(lambda: len(answers) == 5)
    assert answers[0]["retCode"] == 0 and "X-Bapi-Limit-Status" in answers[0]["header"], answers
    stream.exit()
    trade.exit()


def check_ip_limit_answers_403() -> None:
    control("fault", {"kind": "squeeze", "venue": "bybit", "value": 0.01})
    try:
        codes = set()
        for _ in range(12):
            try:
                HTTP.get_server_time()
            except Exception as error:
                codes.add(getattr(error, "status_code", None))
        assert 403 in codes, codes
    finally:
        control("clear", {})
    HTTP.get_server_time()


def main() -> int:
    faulthandler.dump_traceback_later(120, exit=True)
    # pybit registers subscriptions and callbacks after it has sent them: a frame within microseconds, which no
    # network gives, finds nothing registered and ends its reader thread. So every frame takes 10 ms here.
    control("fault", {"kind": "delay", "delay_ms": 10, "count": 0})
    failed = 0
    for name, check in [(name, each) for name, each in globals().items() if name.startswith("check_")]:
        try:
            check()
            print(f"ok      pybit {name[6:]}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  pybit {name[6:]}", flush=True)
            traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
