"""Judge of the local exchange: ccxt and ccxt.pro for Bybit, unchanged but for the addresses.

Runs in a virtual environment of its own: `python judge_ccxt_bybit.py PORT CONTROL_TOKEN`. Prints one line a check and
exits 1 when one failed. Imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
import uuid

import ccxt.pro

KEY, SECRET = "second-key-bybit-0002", "second-secret-bybit-0002"
PORT = int(sys.argv[1])
HTTP, WS = f"http://127.0.0.1:{PORT}", f"ws://127.0.0.1:{PORT}"
SPOT, SWAP = "BTC/USDT", "BTC/USDT:USDT"


def client(**options: object) -> ccxt.pro.bybit:
    bybit = ccxt.pro.bybit(
        {"apiKey": KEY, "secret": SECRET, "options": {"fetchMarkets": {"types": ["spot", "linear"]}} | options}
    )
    bybit.has["fetchCurrencies"] = False
    for name in ("spot", "futures", "v2", "public", "private"):
        bybit.urls["api"][name] = HTTP
    sockets = bybit.urls["api"]["ws"]
    for category in ("spot", "linear", "inverse", "option"):
        sockets["public"][category] = f"{WS}/v5/public/{category}"
    private = f"{WS}/v5/private"
    sockets["private"] = {
        "spot": {"unified": private, "nonUnified": private},
        "contract": private,
        "usdc": private,
        "trade": f"{WS}/v5/trade",
    }
    return bybit


async def within(awaitable, seconds: float = 8.0):
    return await asyncio.wait_for(awaitable, seconds)


def link() -> str:
    return f"ccxt-{uuid.uuid4().hex[:24]}"


async def check_load_markets(bybit) -> None:
    markets = await bybit.load_markets()
    assert SPOT in markets and SWAP in markets and "ETH/USDT:USDT" in markets
    assert markets[SWAP]["contractSize"] == 1 and markets[SWAP]["precision"]["price"] == 0.1
    assert markets[SPOT]["limits"]["cost"]["min"] == 5


async def check_order_book_and_trades(bybit) -> None:
    for symbol in (SPOT, SWAP):
        book = await bybit.fetch_order_book(symbol, 50)
        assert len(book["bids"]) == 50 and book["bids"][0][0] < book["asks"][0][0]
        deadline = time.monotonic() + 5
        while not (trades := await bybit.fetch_trades(symbol)) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        assert trades and trades[0]["side"] in ("buy", "sell")
        ticker = await bybit.fetch_ticker(symbol)
        assert ticker["bid"] < ticker["ask"]
        assert await bybit.fetch_ohlcv(symbol, "1m")


async def check_balance(bybit) -> None:
    balance = await bybit.fetch_balance()
    assert balance["USDT"]["total"] > 0 and balance["BTC"]["total"] > 0


async def check_create_edit_cancel_fetch(bybit) -> None:
    for symbol in (SPOT, SWAP):
        bid = (await bybit.fetch_order_book(symbol, 1))["bids"][0][0]
        price = float(bybit.price_to_precision(symbol, bid * 0.97))
        name = link()
        order = await bybit.create_order(symbol, "limit", "buy", 0.01, price, {"clientOrderId": name})
        opened = await bybit.fetch_open_orders(symbol)
        row = next(each for each in opened if each["id"] == order["id"])
        assert row["status"] == "open" and row["clientOrderId"] == name and row["price"] == price
        lower = float(bybit.price_to_precision(symbol, price - 50))
        await bybit.edit_order(order["id"], symbol, "limit", "buy", 0.02, lower)
        row = await bybit.fetch_open_order(order["id"], symbol)
        assert row["amount"] == 0.02 and row["price"] == lower
        await bybit.cancel_order(order["id"], symbol)
        row = await canceled_order(bybit, order["id"], symbol)
        assert row["status"] == "canceled" and row["filled"] == 0


async def canceled_order(bybit, order_id: str, symbol: str):
    return next(each for each in await bybit.fetch_canceled_orders(symbol) if each["id"] == order_id)


async def check_fills_positions_my_trades(bybit) -> None:
    order = await bybit.create_order(SWAP, "market", "sell", 0.02)
    trades = await bybit.fetch_my_trades(SWAP, params={"orderId": order["id"]})
    assert abs(sum(trade["amount"] for trade in trades) - 0.02) < 1e-9
    assert all(trade["takerOrMaker"] == "taker" and trade["fee"]["cost"] > 0 for trade in trades)
    position = next(each for each in await bybit.fetch_positions([SWAP]) if each["symbol"] == SWAP)
    assert position["side"] == "short" and position["contracts"] >= 0.02
    closing = await bybit.create_order(SWAP, "market", "buy", 0.02, params={"reduceOnly": True})
    row = await bybit.fetch_closed_order(closing["id"], SWAP)
    assert row["status"] == "closed" and abs(row["filled"] - 0.02) < 1e-9
    bought = await bybit.create_order(SPOT, "limit", "buy", 0.01, await far_above(bybit, SPOT), {"timeInForce": "IOC"})
    trades = await bybit.fetch_my_trades(SPOT, params={"orderId": bought["id"]})
    assert abs(sum(trade["amount"] for trade in trades) - 0.01) < 1e-9
    assert trades[0]["fee"]["currency"] == "BTC"


async def far_above(bybit, symbol: str) -> float:
    ask = (await bybit.fetch_order_book(symbol, 1))["asks"][0][0]
    return float(bybit.price_to_precision(symbol, ask * 1.01))


async def check_errors_have_their_classes(bybit) -> None:
    try:
        await bybit.create_order(SPOT, "limit", "buy", 80, await far_above(bybit, SPOT) * 0.99)
    except ccxt.InsufficientFunds:
        pass
    else:
        raise AssertionError("InsufficientFunds was expected")
    try:
        await bybit.cancel_order("999999999999", SWAP)
    except ccxt.OrderNotFound:
        pass
    else:
        raise AssertionError("OrderNotFound was expected")
    stranger = client()
    stranger.secret = "wrong"
    try:
        await stranger.fetch_balance()
    except ccxt.AuthenticationError:
        pass
    else:
        raise AssertionError("AuthenticationError was expected")
    finally:
        await stranger.close()


async def check_batch_and_cancel_all(bybit) -> None:
    bid = (await bybit.fetch_order_book(SWAP, 1))["bids"][0][0]
    price = float(bybit.price_to_precision(SWAP, bid * 0.97))
    wanted = [{"symbol": SWAP, "type": "limit", "side": "buy", "amount": 0.01, "price": price} for _ in range(3)]
    orders = await bybit.create_orders(wanted)
    assert len([order for order in orders if order["id"]]) == 3
    await bybit.cancel_all_orders(SWAP)
    assert not await bybit.fetch_open_orders(SWAP)


async def check_rate_limit_class(bybit) -> None:
    bid = (await bybit.fetch_order_book(SWAP, 1))["bids"][0][0]
    price = float(bybit.price_to_precision(SWAP, bid * 0.96))
    fast = client()
    fast.enableRateLimit = False
    await fast.load_markets()
    try:
        answers = await asyncio.gather(
            *(fast.create_order(SWAP, "limit", "buy", 0.01, price) for _ in range(16)), return_exceptions=True
        )
        limited = [each for each in answers if isinstance(each, ccxt.RateLimitExceeded)]
        assert 1 <= len(limited) <= 6, answers
        await asyncio.sleep(1.1)
        await fast.cancel_all_orders(SWAP)
    finally:
        await fast.close()


async def check_leverage_and_fees(bybit) -> None:
    try:
        await bybit.set_leverage(10, SWAP)
        await bybit.set_leverage(20, SWAP)
    except ccxt.NotModified:
        pass
    fee = await bybit.fetch_trading_fee(SWAP)
    assert fee["taker"] > 0
    rate = await bybit.fetch_funding_rate(SWAP)
    assert rate["fundingRate"] is not None


async def check_watch_public(bybit) -> None:
    for symbol in (SPOT, SWAP):
        book = await within(bybit.watch_order_book(symbol, 50))
        first_ms = book["timestamp"]
        for _ in range(20):
            book = await within(bybit.watch_order_book(symbol, 50))
            assert book["bids"][0][0] < book["asks"][0][0]
        assert book["timestamp"] > first_ms
        assert await within(bybit.watch_trades(symbol))
        ticker = await within(bybit.watch_ticker(symbol))
        assert ticker["last"] > 0


async def check_watch_private(bybit) -> None:
    for symbol in (SWAP, SPOT):
        price = float(bybit.price_to_precision(symbol, (await bybit.fetch_order_book(symbol, 1))["bids"][0][0] * 0.97))
        orders = asyncio.create_task(within(bybit.watch_orders(symbol)))
        await asyncio.sleep(0.4)
        name = link()
        order = await bybit.create_order(symbol, "limit", "buy", 0.01, price, {"clientOrderId": name})
        seen = await orders
        assert any(each["clientOrderId"] == name and each["status"] == "open" for each in seen), seen
        await bybit.cancel_order(order["id"], symbol)
        trades = asyncio.create_task(within(bybit.watch_my_trades(symbol)))
        await asyncio.sleep(0.3)
        await bybit.create_order(symbol, "limit", "sell", 0.01, round(price / 0.98, 1), {"timeInForce": "IOC"})
        assert (await trades)[-1]["amount"] > 0
    await bybit.create_order(SWAP, "market", "buy", 0.01, params={"reduceOnly": True})


async def check_order_socket(bybit) -> None:
    price = float(bybit.price_to_precision(SWAP, (await bybit.fetch_order_book(SWAP, 1))["bids"][0][0] * 0.97))
    order = await within(bybit.create_order_ws(SWAP, "limit", "buy", 0.01, price))
    edited = await within(bybit.edit_order_ws(order["id"], SWAP, "limit", "buy", 0.02, price))
    assert edited["id"] == order["id"]
    await within(bybit.cancel_order_ws(order["id"], SWAP))
    row = await canceled_order(bybit, order["id"], SWAP)
    assert row["status"] == "canceled" and row["amount"] == 0.02


async def judge() -> int:
    failed = 0
    bybit = client()
    try:
        for name, check in [(name, each) for name, each in globals().items() if name.startswith("check_")]:
            try:
                await check(bybit)
                print(f"ok      ccxt.bybit {name[6:]}", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED  ccxt.bybit {name[6:]}", flush=True)
                traceback.print_exc()
    finally:
        await bybit.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(judge()))
