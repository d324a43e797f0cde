"""Judge of the local exchange: ccxt and ccxt.pro for Binance spot and USD-M, unchanged but for the addresses.

Runs in a virtual environment of its own: `python judge_ccxt_binance.py PORT CONTROL_TOKEN`. Prints one line a check
and exits 1 when one failed. Imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
import urllib.request
import uuid

import ccxt.pro
from ccxt.base.errors import (
    BadRequest,
    DDoSProtection,
    ExchangeError,
    InsufficientFunds,
    InvalidOrder,
    OrderImmediatelyFillable,
    OrderNotFound,
    RateLimitExceeded,
)

KEY, SECRET = "second-key-binance-0002", "second-secret-binance-0002"
PORT, TOKEN = int(sys.argv[1]), sys.argv[2]
HTTP, WS = f"http://127.0.0.1:{PORT}", f"ws://127.0.0.1:{PORT}"
SPOT, SWAP = "BTC/USDT", "BTC/USDT:USDT"


def client(**config: object) -> ccxt.pro.binance:
    options = {"fetchCurrencies": False, "fetchMargins": False, "fetchMarkets": {"types": ["spot", "linear"]}}
    binance = ccxt.pro.binance({"apiKey": KEY, "secret": SECRET, "options": options} | config)
    for name, url in list(binance.urls["api"].items()):
        if isinstance(url, str):
            binance.urls["api"][name] = f"{HTTP}/{url.split('/', 3)[3]}"
    # ccxt files spot frames by "/stream" in the address, and turns a linear one that ends in "/ws" into /public/ws...
    sockets = binance.urls["api"]["ws"]
    sockets.update(spot=f"{WS}/stream/ws", margin=f"{WS}/stream/ws", linear=f"{WS}/ws")
    sockets["ws-api"] = {"spot": f"{WS}/ws-api/v3", "linear": f"{WS}/ws-fapi/v1", "inverse": f"{WS}/ws-dapi/v1"}
    return binance


async def within(awaitable, seconds: float = 8.0):
    return await asyncio.wait_for(awaitable, seconds)


async def until(read, is_good, seconds: float = 8.0):
    """Read again until the value is good."""

    async def loop():
        while True:
            value = await read()
            if is_good(value):
                return value
            await asyncio.sleep(0.05)

    return await within(loop(), seconds)


def link() -> str:
    return f"x-judge-{uuid.uuid4().hex[:20]}"


async def control(path: str, body: object) -> object:
    def call() -> object:
        headers = {"X-Control-Token": TOKEN}
        request = urllib.request.Request(f"{HTTP}/control/{path}", data=json.dumps(body).encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    return await asyncio.to_thread(call)


async def refused(kind: type[Exception], awaitable) -> Exception:
    try:
        await awaitable
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected, was success")


async def far_bid(binance, symbol: str) -> float:
    book = await binance.fetch_order_book(symbol, 5)
    return float(binance.price_to_precision(symbol, book["bids"][0][0] * 0.97))


async def check_load_markets(binance) -> None:
    markets = await binance.load_markets(True)
    assert SPOT in markets and SWAP in markets and "ETH/USDT:USDT" in markets, list(markets)
    assert markets[SPOT]["precision"]["price"] == 0.01 and markets[SPOT]["precision"]["amount"] == 0.00001
    assert markets[SWAP]["precision"]["price"] == 0.1 and markets[SWAP]["precision"]["amount"] == 0.001
    assert markets[SPOT]["limits"]["cost"]["min"] == 5 and markets[SWAP]["limits"]["cost"]["min"] == 100
    assert markets[SWAP]["linear"] and markets[SWAP]["contractSize"] == 1


async def check_clock(binance) -> None:
    assert abs(await binance.fetch_time() - binance.milliseconds()) < 2000
    assert (await binance.fetch_status())["status"] == "ok"


async def check_order_book_and_trades(binance) -> None:
    for symbol in (SPOT, SWAP):
        book = await binance.fetch_order_book(symbol, 50)
        assert len(book["bids"]) == len(book["asks"]) == 50 and book["nonce"] > 0
        assert book["bids"][0][0] < book["asks"][0][0]
        trades = await until(lambda symbol=symbol: binance.fetch_trades(symbol, limit=10), lambda rows: len(rows) > 1)
        assert trades[-1]["price"] > 0 and trades[-1]["side"] in ("buy", "sell")
        ticker = await binance.fetch_ticker(symbol)
        assert ticker["last"] > 0 and ticker["high"] >= ticker["low"]
        assert (await binance.fetch_bids_asks([symbol]))[symbol]["bid"] > 0
        candles = await binance.fetch_ohlcv(symbol, "1m", limit=2)
        assert candles[-1][2] >= candles[-1][3]


async def check_funding(binance) -> None:
    rate = await binance.fetch_funding_rate(SWAP)
    assert rate["markPrice"] > 0 and rate["fundingRate"] is not None and rate["fundingTimestamp"] > 0


async def check_spot_order_life(binance) -> None:
    price = await far_bid(binance, SPOT)
    before = (await binance.fetch_balance())["USDT"]
    order = await binance.create_order(SPOT, "limit", "buy", 0.002, price, {"newClientOrderId": link()})
    assert order["status"] == "open" and order["amount"] == 0.002 and order["price"] == price
    held = (await binance.fetch_balance())["USDT"]
    assert abs(held["used"] - before["used"] - 0.002 * price) < 1e-6
    assert order["id"] in [row["id"] for row in await binance.fetch_open_orders(SPOT)]
    edited = await binance.edit_order(order["id"], SPOT, "limit", "buy", 0.003, price)
    assert edited["amount"] == 0.003 and edited["id"] != order["id"]
    assert (await binance.fetch_order(order["id"], SPOT))["status"] == "canceled"
    canceled = await binance.cancel_order(edited["id"], SPOT)
    assert canceled["status"] == "canceled"
    assert (await binance.fetch_balance())["USDT"]["used"] == before["used"]
    await refused(OrderNotFound, binance.cancel_order(edited["id"], SPOT))
    await refused(OrderNotFound, binance.fetch_order("1", SPOT))


async def check_spot_fill(binance) -> None:
    before = (await binance.fetch_balance())["BTC"]["total"]
    order = await binance.create_order(SPOT, "market", "buy", 0.002)
    assert order["status"] == "closed" and order["filled"] == 0.002 and order["average"] > 0
    trades = await binance.fetch_my_trades(SPOT, params={"orderId": order["id"]})
    assert abs(sum(trade["amount"] for trade in trades) - 0.002) < 1e-12
    fee = sum(trade["fee"]["cost"] for trade in trades)
    assert trades[0]["fee"]["currency"] == "BTC" and trades[0]["takerOrMaker"] == "taker"
    after = (await binance.fetch_balance())["BTC"]["total"]
    assert abs(after - before - 0.002 + fee) < 1e-9
    by_cost = await binance.create_market_buy_order_with_cost(SPOT, 50)
    assert by_cost["cost"] <= 50
    await binance.create_order(SPOT, "market", "sell", 0.002)


async def check_spot_refusals(binance) -> None:
    book = await binance.fetch_order_book(SPOT, 5)
    ask = book["asks"][0][0]
    await refused(
        OrderImmediatelyFillable, binance.create_order(SPOT, "limit", "buy", 0.001, ask * 1.01, {"postOnly": True})
    )
    await refused(InsufficientFunds, binance.create_order(SPOT, "limit", "sell", 9000, ask * 1.01))
    too_small = binance.create_order(SPOT, "limit", "buy", 0.00001, ask * 0.99)
    assert "NOTIONAL" in str(await refused(BadRequest, too_small))
    expired = await binance.create_order(
        SPOT, "limit", "buy", 0.001, await far_bid(binance, SPOT), {"timeInForce": "IOC"}
    )
    assert expired["status"] == "expired" and expired["filled"] == 0
    for _ in range(2):
        await binance.create_order(SPOT, "limit", "buy", 0.001, await far_bid(binance, SPOT))
    assert len(await binance.cancel_all_orders(SPOT)) == 2
    await refused(OrderNotFound, binance.cancel_all_orders(SPOT))


async def check_swap_order_life(binance) -> None:
    price = await far_bid(binance, SWAP)
    order = await binance.create_order(SWAP, "limit", "buy", 0.01, price, {"clientOrderId": link()})
    assert order["status"] == "open" and order["clientOrderId"]
    edited = await binance.edit_order(order["id"], SWAP, "limit", "buy", 0.02, price)
    assert edited["id"] == order["id"]
    found = await binance.fetch_order(order["id"], SWAP)
    assert found["amount"] == 0.02 and found["status"] == "open"
    assert order["id"] in [row["id"] for row in await binance.fetch_open_orders(SWAP)]
    await binance.cancel_order(order["id"], SWAP)
    assert (await binance.fetch_order(order["id"], SWAP))["status"] == "canceled"
    await refused(OrderNotFound, binance.cancel_order(order["id"], SWAP))
    orders = await binance.create_orders(
        [{"symbol": SWAP, "type": "limit", "side": "buy", "amount": 0.01, "price": price} for _ in range(2)]
    )
    assert [row["status"] for row in orders] == ["open", "open"]
    canceled = await binance.cancel_orders([row["id"] for row in orders], SWAP)
    assert [row["status"] for row in canceled] == ["canceled", "canceled"]
    await binance.cancel_all_orders(SWAP)
    assert order["id"] in [row["id"] for row in await binance.fetch_orders(SWAP)]


async def check_swap_position(binance) -> None:
    await binance.set_leverage(10, SWAP)
    order = await binance.create_order(SWAP, "market", "buy", 0.02)
    order = await binance.fetch_order(order["id"], SWAP)
    assert order["status"] == "closed" and order["filled"] == 0.02 and order["average"] > 0
    position = (await binance.fetch_positions([SWAP]))[0]
    assert position["contracts"] == 0.02 and position["side"] == "long", position
    assert abs(position["entryPrice"] - order["average"]) < 0.01, (position, order)
    assert (await binance.fetch_leverage(SWAP))["longLeverage"] == 10
    assert abs(position["initialMargin"] - position["notional"] / 10) < 1e-6
    balance = await binance.fetch_balance({"type": "future"})
    assert balance["USDT"]["used"] > 0
    wrong_side = binance.create_order(SWAP, "market", "buy", 0.02, None, {"reduceOnly": True})
    assert "-2022" in str(await refused(ExchangeError, wrong_side))
    await binance.create_order(SWAP, "market", "sell", 0.05, None, {"reduceOnly": True})
    assert not await binance.fetch_positions([SWAP])
    trades = await binance.fetch_my_trades(SWAP, limit=20)
    amounts = [trade["amount"] * (1 if trade["side"] == "buy" else -1) for trade in trades]
    assert abs(sum(amounts)) < 1e-9 and trades[-1]["fee"]["currency"] == "USDT"
    assert (await binance.fetch_trading_fee(SWAP))["taker"] == 0.0002


async def check_public_streams(binance) -> None:
    for symbol in (SPOT, SWAP):
        first = await within(binance.watch_order_book(symbol))
        nonce = first["nonce"]
        for _ in range(20):
            book = await within(binance.watch_order_book(symbol))
            assert book["bids"][0][0] < book["asks"][0][0]
        assert book["nonce"] > nonce
        trades = await within(binance.watch_trades(symbol))
        assert trades[-1]["amount"] > 0
        best = await within(binance.watch_bids_asks([symbol]))
        assert best[symbol]["bid"] > 0
        ticker = await within(binance.watch_ticker(symbol))
        assert ticker["symbol"] == symbol and ticker["last"] > 0
    mark = await within(binance.watch_mark_price(SWAP))
    assert mark["markPrice"] > 0


async def next_order(binance, symbol: str, status: str) -> dict:
    while True:
        for order in await binance.watch_orders(symbol):
            if order["status"] == status:
                return order


async def check_private_streams(binance) -> None:
    for symbol, amount in ((SPOT, 0.002), (SWAP, 0.01)):
        updates = asyncio.ensure_future(next_order(binance, symbol, "canceled"))
        fills = asyncio.ensure_future(binance.watch_my_trades(symbol))
        await asyncio.sleep(0.8)
        order = await binance.create_order(symbol, "limit", "buy", amount, await far_bid(binance, symbol))
        await binance.cancel_order(order["id"], symbol)
        assert (await within(updates))["id"] == order["id"]
        filled = await binance.create_order(symbol, "market", "buy", amount)
        fill = (await within(fills))[-1]
        assert fill["order"] == filled["id"] and fill["amount"] > 0
        await binance.create_order(symbol, "market", "sell", amount)


async def check_balance_stream(binance) -> None:
    for symbol, kind in ((SPOT, "spot"), (SWAP, "future")):
        watching = asyncio.ensure_future(binance.watch_balance({"type": kind}))
        await asyncio.sleep(0.8)
        for side in ("buy", "sell"):
            await binance.create_order(symbol, "market", side, 0.002)
        balance = await within(watching)
        assert balance["USDT"]["total"] > 0


async def check_orders_over_websocket(binance) -> None:
    for symbol, amount in ((SPOT, 0.002), (SWAP, 0.01)):
        price = await far_bid(binance, symbol)
        order = await within(binance.create_order_ws(symbol, "limit", "buy", amount, price))
        assert order["status"] == "open", order
        found = await within(binance.fetch_order_ws(order["id"], symbol))
        assert found["id"] == order["id"]
        edited = await within(binance.edit_order_ws(order["id"], symbol, "limit", "buy", amount * 2, price))
        assert edited["amount"] == amount * 2
        canceled = await within(binance.cancel_order_ws(edited["id"], symbol))
        assert canceled["status"] == "canceled"
    # ccxt 4.5.90 parses this answer as one of futures and finds no asset: look at what it got.
    balances = (await within(binance.fetch_balance_ws()))["info"]["balances"]
    assert {"asset": "USDT"}.items() <= balances[0].items(), balances
    positions = await within(binance.fetch_positions_ws([SWAP]))
    assert isinstance(positions, list)


async def check_unknown_outcome_leaves_a_live_order(binance) -> None:
    own_id = link()
    await control("fault", {"kind": "unknown_done", "venue": "binance", "op": "place"})
    price = await far_bid(binance, SPOT)
    await refused(
        ccxt.pro.NetworkError, binance.create_order(SPOT, "limit", "buy", 0.002, price, {"newClientOrderId": own_id})
    )
    orders = await binance.fetch_open_orders(SPOT)
    live = [order for order in orders if order["clientOrderId"] == own_id]
    assert len(live) == 1, orders
    await refused(InvalidOrder, binance.create_order(SPOT, "limit", "buy", 0.002, price, {"newClientOrderId": own_id}))
    await binance.cancel_order(live[0]["id"], SPOT)


async def check_weight_limit_answers_429_then_418(binance) -> None:
    await control("fault", {"kind": "squeeze", "venue": "binance", "value": 0.001})
    hasty = client(enableRateLimit=False)
    texts = []
    try:
        for _ in range(30):
            try:
                await hasty.fetch_time()
            except (DDoSProtection, RateLimitExceeded) as error:
                texts.append(str(error))
    finally:
        await control("clear", {})
        await hasty.close()
    assert any("429" in text for text in texts) and any("418" in text for text in texts), texts[:2] + texts[-1:]


async def main() -> int:
    failed = 0
    binance = client()
    checks = [(name, each) for name, each in globals().items() if name.startswith("check_")]
    for name, check in checks:
        try:
            await within(check(binance), 60)
            print(f"ok      ccxt binance {name[6:]}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  ccxt binance {name[6:]}", flush=True)
            traceback.print_exc()
    await binance.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
