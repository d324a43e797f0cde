"""Judge of the local exchange: Binance's own SDKs for spot and USD-M futures, unchanged but for the addresses.

Runs in a virtual environment of its own: `python judge_binance_sdk.py PORT CONTROL_TOKEN`. Prints one line a check and
exits 1 when one failed. Imports nothing of this project. The SDK validates answers with its own models.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
import uuid

from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_common.errors import BadRequestError
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import DerivativesTradingUsdsFutures
from binance_sdk_spot.spot import Spot

KEY, SECRET = "second-key-binance-0002", "second-secret-binance-0002"
# The key pair of the published test vectors (private part 00 01 .. 1f).
ED_KEY = "second-key-binance-ed25519"
ED_PRIVATE = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
"""
PORT = int(sys.argv[1])
HTTP, WS = f"http://127.0.0.1:{PORT}", f"ws://127.0.0.1:{PORT}"
SYMBOL = "BTCUSDT"
logging.disable(logging.CRITICAL)


def spot(**keys: str) -> Spot:
    keys = keys or {"api_key": KEY, "api_secret": SECRET}
    return Spot(
        config_rest_api=ConfigurationRestAPI(**keys, base_path=HTTP),
        config_ws_api=ConfigurationWebSocketAPI(**keys, stream_url=f"{WS}/ws-api/v3"),
        config_ws_streams=ConfigurationWebSocketStreams(stream_url=WS),
    )


def usdm() -> DerivativesTradingUsdsFutures:
    keys = {"api_key": KEY, "api_secret": SECRET}
    return DerivativesTradingUsdsFutures(
        config_rest_api=ConfigurationRestAPI(**keys, base_path=HTTP),
        config_ws_api=ConfigurationWebSocketAPI(**keys, stream_url=f"{WS}/ws-fapi/v1"),
        config_ws_streams=ConfigurationWebSocketStreams(stream_url=WS),
    )


def link() -> str:
    return f"sdk-{uuid.uuid4().hex[:24]}"


def refused(code: int, call, **arguments: object) -> None:
    try:
        call(**arguments)
    except BadRequestError as error:
        assert str(code) in str(error) or getattr(error, "code", None) == code, repr(error)
        return
    raise AssertionError(f"{code} was expected, was success")


class Inbox:
    """Messages of one stream."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue = asyncio.Queue()

    def put(self, message: object) -> None:
        self.queue.put_nowait(message)

    async def next(self, is_wanted=lambda message: True, seconds: float = 8.0):
        async def loop():
            while True:
                message = await self.queue.get()
                if is_wanted(message):
                    return message

        return await asyncio.wait_for(loop(), seconds)


def event(message: object) -> object:
    """The SDK turns the event name into the model's class."""
    return getattr(message, "actual_instance", message)


def far_bid(bid: str) -> float:
    return round(float(bid) * 0.97, 1)


async def check_spot_rest_market_data() -> None:
    rest = spot().rest_api
    info = rest.exchange_info(symbol=SYMBOL).data()
    assert info.symbols[0].symbol == SYMBOL and len(info.symbols[0].filters) >= 4
    book = rest.depth(symbol=SYMBOL, limit=20).data()
    assert len(book.bids) == 20 and float(book.bids[0][0]) < float(book.asks[0][0])
    assert rest.time().data().server_time > 0
    assert float(rest.ticker_book_ticker(symbol=SYMBOL).data().actual_instance.bid_price) > 0


async def check_spot_rest_orders() -> None:
    rest = spot().rest_api
    bid = rest.depth(symbol=SYMBOL, limit=5).data().bids[0][0]
    own_id = link()
    order = rest.new_order(
        symbol=SYMBOL,
        side="BUY",
        type="LIMIT",
        time_in_force="GTC",
        quantity=0.002,
        price=far_bid(bid),
        new_client_order_id=own_id,
    )
    assert order.data().status == "NEW" and order.data().client_order_id == own_id
    assert order.rate_limits, "headers of the request limits are missing"
    assert rest.get_order(symbol=SYMBOL, orig_client_order_id=own_id).data().status == "NEW"
    amended = rest.order_amend_keep_priority(
        symbol=SYMBOL, new_qty=0.001, orig_client_order_id=own_id, new_client_order_id=own_id
    )
    assert amended.data().amended_order.qty == "0.00100000"
    replaced = rest.order_cancel_replace(
        symbol=SYMBOL,
        side="BUY",
        type="LIMIT",
        cancel_replace_mode="STOP_ON_FAILURE",
        time_in_force="GTC",
        quantity=0.002,
        price=far_bid(bid),
        cancel_orig_client_order_id=own_id,
    ).data()
    assert replaced.cancel_result == replaced.new_order_result == "SUCCESS"
    assert len(rest.get_open_orders(symbol=SYMBOL).data()) == 1
    assert len(rest.delete_open_orders(symbol=SYMBOL).data()) == 1
    refused(-2011, rest.delete_order, symbol=SYMBOL, orig_client_order_id=own_id)
    refused(-1121, rest.depth, symbol="NONESUCH")


async def check_spot_rest_account() -> None:
    rest = spot().rest_api
    bought = rest.new_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.002).data()
    assert bought.status == "FILLED" and bought.fills
    trades = rest.my_trades(symbol=SYMBOL, order_id=bought.order_id).data()
    assert sum(float(trade.qty) for trade in trades) == 0.002
    assert any(balance.asset == "BTC" for balance in rest.get_account(omit_zero_balances=True).data().balances)
    assert rest.account_commission(symbol=SYMBOL).data().standard_commission.taker
    assert {row.interval for row in rest.rate_limit_order().data()} == {"SECOND", "DAY"}
    assert rest.all_orders(symbol=SYMBOL).data()[-1].order_id == bought.order_id


async def check_ed25519_signatures_on_rest() -> None:
    rest = spot(api_key=ED_KEY, private_key=ED_PRIVATE).rest_api
    assert rest.get_account().data().balances


async def check_spot_websocket_api() -> None:
    client = spot(api_key=ED_KEY, private_key=ED_PRIVATE)
    api = await client.websocket_api.create_connection()
    logged = (await api.session_logon()).data()
    assert logged.result.api_key == ED_KEY
    book = (await api.depth(symbol=SYMBOL, limit=5)).data().result
    own_id = link()
    placed = (
        await api.order_place(
            symbol=SYMBOL,
            side="BUY",
            type="LIMIT",
            time_in_force="GTC",
            quantity=0.002,
            price=far_bid(book.bids[0][0]),
            new_client_order_id=own_id,
        )
    ).data()
    assert placed.result.status == "NEW" and placed.rate_limits
    assert (await api.order_status(symbol=SYMBOL, orig_client_order_id=own_id)).data().result.status == "NEW"
    canceled = (await api.order_cancel(symbol=SYMBOL, orig_client_order_id=own_id)).data()
    assert canceled.result.status == "CANCELED"
    assert (await api.account_status()).data().result.balances
    await api.close_connection()


async def check_spot_user_data() -> None:
    client = spot()
    api = await client.websocket_api.create_connection()
    inbox = Inbox()
    subscription = await api.user_data_stream_subscribe_signature()
    subscription.stream.on("message", inbox.put)
    await asyncio.to_thread(client.rest_api.new_order, symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.002)

    filled = await inbox.next(lambda message: getattr(event(message), "X", "") == "FILLED")
    assert type(event(filled)).__name__ == "ExecutionReport" and float(event(filled).z) == 0.002
    await inbox.next(lambda message: type(event(message)).__name__ == "OutboundAccountPosition")
    await api.close_connection()


async def check_spot_streams() -> None:
    streams = await spot().websocket_streams.create_connection()
    depth, best, trades = Inbox(), Inbox(), Inbox()
    (await streams.diff_book_depth(symbol="btcusdt", update_speed="100ms")).on("message", depth.put)
    (await streams.book_ticker(symbol="btcusdt")).on("message", best.put)
    (await streams.trade(symbol="btcusdt")).on("message", trades.put)
    first = await depth.next()
    second = await depth.next()
    assert first.u + 1 == second.U, (first, second)
    assert float((await best.next()).b) > 0 and float((await trades.next()).p) > 0
    await streams.close_connection()


async def check_usdm_rest() -> None:
    rest = usdm().rest_api
    assert SYMBOL in [row.symbol for row in rest.exchange_information().data().symbols]
    book = rest.order_book(symbol=SYMBOL, limit=50).data()
    own_id = link()
    order = rest.new_order(
        symbol=SYMBOL,
        side="BUY",
        type="LIMIT",
        time_in_force="GTX",
        quantity=0.02,
        price=far_bid(book.bids[0][0]),
        new_client_order_id=own_id,
    ).data()
    assert order.status == "NEW" and order.time_in_force == "GTX"
    modified = rest.modify_order(
        symbol=SYMBOL, side="BUY", quantity=0.03, price=far_bid(book.bids[0][0]), orig_client_order_id=own_id
    ).data()
    assert modified.orig_qty == "0.030" and modified.order_id == order.order_id
    assert rest.query_order(symbol=SYMBOL, orig_client_order_id=own_id).data().status == "NEW"
    assert len(rest.current_all_open_orders(symbol=SYMBOL).data()) == 1
    assert rest.auto_cancel_all_open_orders(symbol=SYMBOL, countdown_time=300).data().countdown_time == "300"
    await asyncio.sleep(1)
    assert rest.query_order(symbol=SYMBOL, orig_client_order_id=own_id).data().status == "CANCELED"
    refused(
        -5022,
        rest.new_order,
        symbol=SYMBOL,
        side="BUY",
        type="LIMIT",
        time_in_force="GTX",
        quantity=0.02,
        price=round(float(rest.order_book(symbol=SYMBOL, limit=5).data().asks[0][0]) * 1.01, 1),
    )


async def check_usdm_account() -> None:
    rest = usdm().rest_api
    assert rest.change_initial_leverage(symbol=SYMBOL, leverage=25).data().leverage == 25
    rest.new_order(symbol=SYMBOL, side="SELL", type="MARKET", quantity=0.02)
    position = rest.position_information_v3(symbol=SYMBOL).data()[0]
    assert position.position_amt == "-0.020" and float(position.entry_price) > 0
    account = rest.account_information_v3().data()
    assert float(account.total_initial_margin) > 0
    assert rest.futures_account_balance_v3().data()[0].asset == "USDT"
    rest.new_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.05, reduce_only="true")
    assert not rest.position_information_v3(symbol=SYMBOL).data()
    trades = rest.account_trade_list(symbol=SYMBOL).data()
    assert trades[-1].commission_asset == "USDT" and float(trades[-1].commission) > 0
    assert rest.user_commission_rate(symbol=SYMBOL).data().taker_commission_rate


async def check_usdm_websocket_api() -> None:
    api = await usdm().websocket_api.create_connection()
    # The model of this answer knows no levels (SDK 18.0.1); it keeps them among the properties it does not know.
    book = (await api.order_book(symbol=SYMBOL, limit=5)).data().result
    bid = float(book.additional_properties["bids"][0][0])
    own_id = link()
    placed = (
        await api.new_order(
            symbol=SYMBOL,
            side="BUY",
            type="LIMIT",
            time_in_force="GTC",
            quantity=0.02,
            price=round(bid * 0.97, 1),
            new_client_order_id=own_id,
        )
    ).data()
    assert placed.result.status == "NEW", placed
    modified = await api.modify_order(
        symbol=SYMBOL, side="BUY", quantity=0.03, price=round(bid * 0.97, 1), orig_client_order_id=own_id
    )
    assert modified.data().result.orig_qty == "0.030"
    canceled = (await api.cancel_order(symbol=SYMBOL, orig_client_order_id=own_id)).data()
    assert canceled.result.status == "CANCELED"
    assert (await api.futures_account_balance_v2()).data().result[0].asset == "USDT"
    assert (await api.position_information_v2()).data().result is not None
    await api.close_connection()


async def check_usdm_streams() -> None:
    streams = await usdm().websocket_streams.create_connection()
    depth, trades, mark = Inbox(), Inbox(), Inbox()
    (await streams.diff_book_depth_streams(symbol="btcusdt", update_speed="100ms")).on("message", depth.put)
    (await streams.aggregate_trade_streams(symbol="btcusdt")).on("message", trades.put)
    (await streams.mark_price_stream(symbol="btcusdt", update_speed="1s")).on("message", mark.put)
    first = await depth.next()
    second = await depth.next()
    assert second.pu == first.u, (first, second)
    assert float((await trades.next()).p) > 0 and float((await mark.next()).p) > 0
    await streams.close_connection()


async def check_usdm_user_data() -> None:
    client = usdm()
    listen_key = client.rest_api.start_user_data_stream().data().listen_key
    assert client.rest_api.keepalive_user_data_stream()
    streams = await client.websocket_streams.create_connection()
    inbox = Inbox()
    (await streams.user_data(listen_key)).on("message", inbox.put)
    await asyncio.to_thread(client.rest_api.new_order, symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.02)

    def is_fill(message: object) -> bool:
        detail = getattr(event(message), "o", None)
        return getattr(detail, "X", "") == "FILLED"

    assert float(event(await inbox.next(is_fill)).o.z) == 0.02
    update = await inbox.next(lambda message: type(event(message)).__name__ == "AccountUpdate")
    assert event(update).a.m == "ORDER"
    await asyncio.to_thread(client.rest_api.new_order, symbol=SYMBOL, side="SELL", type="MARKET", quantity=0.02)
    await streams.close_connection()


async def main() -> int:
    failed = 0
    for name, check in [(name, each) for name, each in globals().items() if name.startswith("check_")]:
        try:
            await asyncio.wait_for(check(), 40)
            print(f"ok      binance-sdk {name[6:]}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  binance-sdk {name[6:]}", flush=True)
            traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    code = asyncio.run(main())
    sys.stdout.flush()
    # The SDK leaves HTTP sessions open, whose destructors complain of the closed loop for pages.
    os._exit(code)
