"""Judge of the local exchange: python-binance (the community's client), unchanged but for the addresses.

Runs in a virtual environment of its own: `python judge_python_binance.py PORT CONTROL_TOKEN`. Prints one line a check
and exits 1 when one failed. Imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
import uuid

from binance import AsyncClient, BinanceSocketManager
from binance.exceptions import BinanceAPIException
from binance.ws.depthcache import DepthCacheManager

KEY, SECRET = "second-key-binance-0002", "second-secret-binance-0002"
PORT = int(sys.argv[1])
HTTP, WS = f"http://127.0.0.1:{PORT}", f"ws://127.0.0.1:{PORT}"
SYMBOL = "BTCUSDT"
logging.disable(logging.CRITICAL)


class Client(AsyncClient):
    API_URL = f"{HTTP}/api"
    MARGIN_API_URL = f"{HTTP}/sapi"
    FUTURES_URL = f"{HTTP}/fapi"
    FUTURES_DATA_URL = f"{HTTP}/futures/data"
    FUTURES_COIN_URL = f"{HTTP}/dapi"
    WS_API_URL = f"{WS}/ws-api/v3"
    WS_FUTURES_URL = f"{WS}/ws-fapi/v1"


class Sockets(BinanceSocketManager):
    STREAM_URL = f"{WS}/"
    FSTREAM_URL = f"{WS}/"
    DSTREAM_URL = f"{WS}/"


def link() -> str:
    return f"x-judge-{uuid.uuid4().hex[:20]}"


async def refused(code: int, awaitable) -> None:
    try:
        await awaitable
    except BinanceAPIException as error:
        assert error.code == code, f"{code} was expected, was {error.code} {error.message}"
        return
    raise AssertionError(f"{code} was expected, was success")


async def next_event(socket, is_wanted, seconds: float = 8.0):
    async def loop():
        while True:
            message = await socket.recv()
            if message is not None and is_wanted(message):
                return message

    return await asyncio.wait_for(loop(), seconds)


async def far_bid(client, *, futures: bool = False) -> str:
    read = client.futures_order_book if futures else client.get_order_book
    return f"{float((await read(symbol=SYMBOL, limit=5))['bids'][0][0]) * 0.97:.1f}"


async def check_spot_market_data(client) -> None:
    assert SYMBOL in [row["symbol"] for row in (await client.get_exchange_info())["symbols"]]
    assert (await client.get_server_time())["serverTime"] > 0
    book = await client.get_order_book(symbol=SYMBOL, limit=100)
    assert len(book["bids"]) > 20 and float(book["bids"][0][0]) < float(book["asks"][0][0])
    assert float((await client.get_orderbook_ticker(symbol=SYMBOL))["bidPrice"]) > 0
    await asyncio.sleep(1)
    assert (await client.get_recent_trades(symbol=SYMBOL))[-1]["id"] > 0
    assert (await client.get_aggregate_trades(symbol=SYMBOL))[-1]["l"] > 0


async def check_spot_orders(client) -> None:
    own_id = link()
    order = await client.order_limit_buy(
        symbol=SYMBOL, quantity=0.002, price=await far_bid(client), newClientOrderId=own_id
    )
    assert order["status"] == "NEW" and order["clientOrderId"] == own_id
    await refused(
        -2010,
        client.order_limit_buy(symbol=SYMBOL, quantity=0.002, price=await far_bid(client), newClientOrderId=own_id),
    )
    assert (await client.get_order(symbol=SYMBOL, origClientOrderId=own_id))["status"] == "NEW"
    assert [row["orderId"] for row in await client.get_open_orders(symbol=SYMBOL)] == [order["orderId"]]
    canceled = await client.cancel_order(symbol=SYMBOL, orderId=order["orderId"])
    assert canceled["status"] == "CANCELED" and canceled["origClientOrderId"] == own_id
    assert canceled["clientOrderId"] != own_id
    await refused(-2011, client.cancel_order(symbol=SYMBOL, orderId=order["orderId"]))
    await refused(-2013, client.get_order(symbol=SYMBOL, orderId=1))
    assert await client.create_test_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.002) == {}


async def check_spot_account(client) -> None:
    bought = await client.order_market_buy(symbol=SYMBOL, quantity=0.002)
    trades = await client.get_my_trades(symbol=SYMBOL, orderId=bought["orderId"])
    assert sum(float(trade["qty"]) for trade in trades) == 0.002
    assert float((await client.get_asset_balance(asset="BTC"))["free"]) > 0
    await client.order_market_sell(symbol=SYMBOL, quantity=0.002)
    assert (await client.get_all_orders(symbol=SYMBOL))[-1]["status"] == "FILLED"
    assert (await client.get_account_api_permissions())["enableWithdrawals"] is False


async def check_futures(client) -> None:
    assert SYMBOL in [row["symbol"] for row in (await client.futures_exchange_info())["symbols"]]
    assert (await client.futures_change_leverage(symbol=SYMBOL, leverage=5))["leverage"] == 5
    price, own_id = await far_bid(client, futures=True), link()
    order = await client.futures_create_order(
        symbol=SYMBOL, side="BUY", type="LIMIT", timeInForce="GTC", quantity=0.01, price=price, newClientOrderId=own_id
    )
    assert order["status"] == "NEW"
    modified = await client.futures_modify_order(
        symbol=SYMBOL, side="BUY", quantity=0.02, price=price, orderId=order["orderId"]
    )
    assert modified["origQty"] == "0.020"
    await refused(
        -5027,
        client.futures_modify_order(symbol=SYMBOL, side="BUY", quantity=0.02, price=price, orderId=order["orderId"]),
    )
    assert (await client.futures_get_order(symbol=SYMBOL, orderId=order["orderId"]))["origQty"] == "0.020"
    assert (await client.futures_cancel_order(symbol=SYMBOL, orderId=order["orderId"]))["status"] == "CANCELED"
    await client.futures_create_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.01)
    position = (await client.futures_position_information(symbol=SYMBOL))[0]
    assert position["positionAmt"] == "0.010"
    await client.futures_create_order(symbol=SYMBOL, side="SELL", type="MARKET", quantity=0.01, reduceOnly="true")
    assert await client.futures_position_information(symbol=SYMBOL) == []
    trades = await client.futures_account_trades(symbol=SYMBOL)
    assert trades[-1]["commissionAsset"] == "USDT" and "realizedPnl" in trades[-1]
    assert float((await client.futures_account())["availableBalance"]) > 0
    common = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": price}
    orders = [common | {"quantity": "0.01"}, common | {"quantity": "0"}]
    batch = await client.futures_place_batch_order(batchOrders=orders)
    assert batch[0]["status"] == "NEW" and batch[1]["code"] == -4003
    assert (await client.futures_cancel_all_open_orders(symbol=SYMBOL))["code"] == 200


async def check_orders_over_websocket(client) -> None:
    order = await client.ws_create_order(
        symbol=SYMBOL, side="BUY", type="LIMIT", timeInForce="GTC", quantity=0.002, price=await far_bid(client)
    )
    assert order["status"] == "NEW"
    canceled = await client.ws_cancel_order(symbol=SYMBOL, orderId=order["orderId"])
    assert canceled["status"] == "CANCELED"
    price = await far_bid(client, futures=True)
    order = await client.ws_futures_create_order(
        symbol=SYMBOL, side="BUY", type="LIMIT", timeInForce="GTC", quantity=0.01, price=price
    )
    assert order["status"] == "NEW"
    canceled = await client.ws_futures_cancel_order(symbol=SYMBOL, orderId=order["orderId"])
    assert canceled["status"] == "CANCELED"
    assert (await client.ws_futures_v2_account_balance())[0]["asset"] == "USDT"


async def check_streams(client) -> None:
    sockets = Sockets(client)
    async with sockets.depth_socket(SYMBOL, interval=100) as depth:
        first = await next_event(depth, lambda message: message.get("e") == "depthUpdate")
        second = await next_event(depth, lambda message: message.get("e") == "depthUpdate")
        assert first["u"] + 1 == second["U"]
    async with sockets.trade_socket(SYMBOL) as trades:
        assert float((await next_event(trades, lambda message: message.get("e") == "trade"))["p"]) > 0
    async with sockets.multiplex_socket(["btcusdt@bookTicker", "ethusdt@bookTicker"]) as best:
        assert (await next_event(best, lambda message: "stream" in message))["data"]["b"]
    async with sockets.futures_depth_socket(SYMBOL, depth="10") as depth:
        message = await next_event(depth, lambda message: "data" in message or "b" in message)
        assert len(message.get("data", message)["b"]) == 10


async def check_local_order_book_keeps_in_step(client) -> None:
    manager = DepthCacheManager(client, SYMBOL, bm=Sockets(client), ws_interval=100)
    async with manager as cache:
        for _ in range(15):
            book = await asyncio.wait_for(cache.recv(), 8)
            assert book.get_bids()[0][0] < book.get_asks()[0][0]


async def check_user_data(client) -> None:
    sockets = Sockets(client)
    async with sockets.user_socket() as user:
        await asyncio.sleep(0.5)
        order = await client.order_market_buy(symbol=SYMBOL, quantity=0.002)

        def is_fill(message: dict) -> bool:
            return message.get("e") == "executionReport" and message["X"] == "FILLED"

        assert (await next_event(user, is_fill))["i"] == order["orderId"]
        await client.order_market_sell(symbol=SYMBOL, quantity=0.002)


async def check_futures_user_data(client) -> None:
    sockets = Sockets(client)
    async with sockets.futures_user_socket() as user:
        await asyncio.sleep(0.5)
        order = await client.futures_create_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.01)

        def is_fill(message: dict) -> bool:
            detail = message.get("data", message).get("o", {})
            return isinstance(detail, dict) and detail.get("X") == "FILLED"

        message = await next_event(user, is_fill)
        assert message.get("data", message)["o"]["i"] == order["orderId"]
        await client.futures_create_order(symbol=SYMBOL, side="SELL", type="MARKET", quantity=0.01)


async def check_bad_secret_is_refused(client) -> None:
    stranger = Client(KEY, "wrong-secret")
    try:
        await refused(-1022, stranger.get_account())
        unknown = Client("no-such-key", SECRET)
        await refused(-2015, unknown.get_account())
        await unknown.close_connection()
    finally:
        await stranger.close_connection()


async def main() -> int:
    failed = 0
    client = await Client.create(KEY, SECRET)
    for name, check in [(name, each) for name, each in globals().items() if name.startswith("check_")]:
        try:
            await asyncio.wait_for(check(client), 40)
            print(f"ok      python-binance {name[6:]}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  python-binance {name[6:]}", flush=True)
            traceback.print_exc()
    await client.close_connection()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
