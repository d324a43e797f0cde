"""The clients that bench_tick_to_trade compares, each a process that trades against the loopback venue until ended.

`engine` is the product: EngineLoop, LoopWire, Listener, BybitConnector, Pipeline, Core, gate, journal, put together by
tools.run as for live trading; only the strategy is made for the occasion. `python` is what one writes in an afternoon
with the same libraries: picows, uvloop, orjson and dictionaries. Neither signs an order: the venue's trade socket is
logged in once. Run: python -m bench.tick_clients engine|python WS_PORT REST_PORT FOLDER.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import picows
import uvloop
from picows import WSListener, WSMsgType, WSTransport

from bench.loopback import client_cpu
from engine import strategies
from engine.events import BookUpdate
from engine.strategy import Strategy
from engine.types import Side, TimeInForce

CONFIG = """
[engine]
instance = 1
state_dir = "{folder}/state"
trading = "test"
credentials = "{folder}/credentials.toml"
reconcile_ms = 600_000

[loop]
cpu = {cpu}
spin = true

[journal]
ring_mib = 64

[risk]
max_gross_notional = "1000000"
loss_limit = "100000"
max_orders = 10_000
window_ms = 100
duplicate_count = 1_000
duplicate_window_ms = 1
[risk.underlyings]
BTC = {{ max_long = "100", max_short = "100" }}

[venues.bybit]
environment = "local"
allow_no_ip_restriction = true
book_depth = 50
[venues.bybit.urls]
base_http = "http://127.0.0.1:{rest_port}"
base_ws = "ws://127.0.0.1:{ws_port}"

[[instruments]]
venue = "bybit"
market = "linear"
symbol = "BTCUSDT"
max_order_notional = "100000"
max_position = "100"

[[strategies]]
name = "taker"
kind = "tick_taker"
allotment = {{ bybit = "1000000" }}
"""


class TickTaker(Strategy):
    """An order for every change of the book: buy one lot at the offer, now or never."""

    def on_book(self, update: BookUpdate) -> None:
        context = self.context
        if context.is_open(update.instrument):
            context.place(update.instrument, Side.BUY, update.book.best_ask_px, 1, TimeInForce.IOC)


def run_engine(ws_port: int, rest_port: int, folder: Path) -> int:
    from tools.run import Engine
    from tools.settings import load_config

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    strategies.KINDS["tick_taker"] = TickTaker
    keys = folder / "credentials.toml"
    keys.touch(0o600)
    keys.write_text('[bybit]\napi_key = "bench-key"\nsecret = "bench-secret"\n')
    path = folder / "engine.toml"
    path.write_text(CONFIG.format(folder=folder, ws_port=ws_port, rest_port=rest_port, cpu=client_cpu()))
    return Engine(load_config(path)).run(0.0)


class Quotes(WSListener):
    """The market side of the Python peer: decode, keep the book in two dictionaries, decide, order."""

    def __init__(self, trade: WSTransport, secret: bytes | None) -> None:
        self.trade = trade
        self.secret = secret
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.seq = 0
        self.count = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, b'{"req_id":"1","op":"subscribe","args":["orderbook.50.BTCUSDT"]}')

    def on_ws_frame(self, transport: WSTransport, frame: Any) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        message = orjson.loads(frame.get_payload_as_memoryview())
        fields = message.get("data")
        if fields is None:
            return
        if message["type"] == "snapshot":
            self.bids.clear()
            self.asks.clear()
        elif fields["u"] != self.seq + 1:
            raise ValueError(f"gap: {fields['u']} after {self.seq}")
        self.seq = fields["u"]
        for side, rows in ((self.bids, fields["b"]), (self.asks, fields["a"])):
            for px, qty in rows:
                if qty == "0.000":
                    side.pop(float(px), None)
                else:
                    side[float(px)] = float(qty)
        if message["type"] == "delta":
            self.order(min(self.asks))

    def order(self, px: float) -> None:
        if px * 0.001 > 1_000_000 or self.count > 10**9:
            return
        self.count += 1
        args = (
            f'{{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.001","price":"{px:.1f}"'
            f',"timeInForce":"IOC","orderLinkId":"py{self.count:016x}","positionIdx":0,"smpType":"CancelMaker"}}'
        )
        if self.secret is not None:
            hmac.new(self.secret, args.encode(), "sha256").hexdigest()
        self.trade.send(
            WSMsgType.TEXT,
            f'{{"reqId":"py-{self.count}","header":{{"X-BAPI-TIMESTAMP":"{time.time_ns() // 10**6}",'
            f'"X-BAPI-RECV-WINDOW":"5000"}},"op":"order.create","args":[{args}]}}'.encode(),
        )


async def run_python(ws_port: int, secret: bytes | None) -> None:
    url = f"ws://127.0.0.1:{ws_port}/v5"
    loop = asyncio.get_running_loop()
    trade, _ = await picows.ws_connect(WSListener, f"{url}/trade")
    market, _ = await picows.ws_connect(lambda: Quotes(trade, secret), f"{url}/public/linear")

    def spin() -> None:
        loop.call_soon(spin)

    spin()
    gc.freeze()
    gc.disable()
    await market.wait_disconnected()


def main() -> int:
    kind, ws_port, rest_port, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    if kind == "engine":
        return run_engine(ws_port, rest_port, folder)
    os.sched_setaffinity(0, [client_cpu()])
    uvloop.run(run_python(ws_port, b"bench-secret" if kind == "python-hmac" else None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
