"""What a frame is, seen from outside: the kind of socket it is on and the class of what it says.

The fault layer sits between the fronts and the sockets and knows a venue only through this module: it reads the
bytes that are about to be sent, as a client would. Sources: venues' protocol pages, sections on the streams.
"""

from __future__ import annotations

import re
from typing import Final

BINANCE: Final = "binance"
BYBIT: Final = "bybit"

PUBLIC: Final = "public"
PRIVATE: Final = "private"
TRADE: Final = "trade"
REST: Final = "rest"

BOOK: Final = "book"
BBO: Final = "bbo"
TRADES: Final = "trade"
TICKER: Final = "ticker"
FILL: Final = "fill"
ORDER: Final = "order"
POSITION: Final = "position"
BALANCE: Final = "balance"
ACK: Final = "ack"
OTHER: Final = "other"

MARKET_DATA: Final = frozenset((BOOK, BBO, TRADES, TICKER))
FRAME_CLASSES: Final = frozenset((BOOK, BBO, TRADES, TICKER, FILL, ORDER, POSITION, BALANCE, ACK, OTHER))

_BYBIT_TOPIC = re.compile(rb'"topic":"([a-zA-Z]+)(\.1\.)?')
_BYBIT_CLASSES = {
    b"orderbook": BOOK,
    b"publicTrade": TRADES,
    b"tickers": TICKER,
    b"order": ORDER,
    b"execution": FILL,
    b"position": POSITION,
    b"wallet": BALANCE,
}
_BINANCE_EVENT = re.compile(rb'"e":"([a-zA-Z_]+)"')
_BINANCE_CLASSES = {
    b"depthUpdate": BOOK,
    b"bookTicker": BBO,
    b"trade": TRADES,
    b"aggTrade": TRADES,
    b"markPriceUpdate": TICKER,
    b"executionReport": ORDER,
    b"ORDER_TRADE_UPDATE": ORDER,
    b"TRADE_LITE": FILL,
    b"outboundAccountPosition": BALANCE,
    b"balanceUpdate": BALANCE,
    b"ACCOUNT_UPDATE": POSITION,
}


def venue_of_path(path: str) -> str:
    return BYBIT if path.startswith("/v5/") else BINANCE


def channel_of_path(path: str) -> str:
    """Which kind of socket a WebSocket path opens."""
    if path.startswith(("/v5/trade", "/ws-api", "/ws-fapi")):
        return TRADE
    if path.startswith(("/v5/private", "/private")):
        return PRIVATE
    return PUBLIC


def frame_class(venue: str, payload: bytes) -> str:
    """The class of an outgoing frame, from its first few hundred bytes."""
    return _bybit_class(payload) if venue == BYBIT else _binance_class(payload)


def _bybit_class(payload: bytes) -> str:
    match = _BYBIT_TOPIC.search(payload, 0, 200)
    if match is None:
        return ACK if b'"op":"order.' in payload else OTHER
    kind = _BYBIT_CLASSES.get(match[1], OTHER)
    return BBO if kind == BOOK and match[2] else kind


def _binance_class(payload: bytes) -> str:
    match = _BINANCE_EVENT.search(payload, 0, 200)
    if match is not None:
        kind = _BINANCE_CLASSES.get(match[1], OTHER)
        # One event type says everything about an order; x (what happened) tells the fills apart.
        return FILL if kind == ORDER and b'"x":"TRADE"' in payload else kind
    if b'"lastUpdateId"' in payload[:120]:
        return BOOK
    if b'"bidPrice"' not in payload and b'"B":"' in payload[:200]:
        return BBO  # spot's bookTicker has no event name
    # Answers of the order socket all look alike; the caller knows which request ids were orders.
    return ACK if b'"status":' in payload[:80] else OTHER
