"""Where Binance answers: channels, hosts, paths and what each request weighs.

Keys of `VenueSettings.urls`, each overriding one base address: `spot_rest`, `spot_stream`, `spot_api`, `usdm_rest`,
`usdm_stream`, `usdm_api`; in environment "local": `base_http` and `base_ws` for all of them.
Source: binance-spot-api-docs (rest-api.md, web-socket-streams.md, web-socket-api.md), USD-M "General Info", both read
2026-11-22.
"""

from __future__ import annotations

from typing import Final

import msgspec

from engine.types import Market, Venue
from engine.venue import VenueSettings


def _channel(n: int) -> int:
    return Venue.BINANCE << 8 | n


# Each role has two channels: one serves, the other replaces it before the venue's 24 h limit.
SPOT_STREAM: Final = _channel(1)
SPOT_STREAM_SPARE: Final = _channel(2)
SPOT_API: Final = _channel(3)  # order entry and user data
SPOT_API_SPARE: Final = _channel(4)
USDM_PUBLIC: Final = _channel(5)  # depth, bookTicker
USDM_PUBLIC_SPARE: Final = _channel(6)
USDM_MARKET: Final = _channel(7)  # aggTrade, markPrice, contractInfo
USDM_MARKET_SPARE: Final = _channel(8)
USDM_API: Final = _channel(9)  # order entry
USDM_API_SPARE: Final = _channel(10)
USDM_PRIVATE: Final = _channel(11)  # user data
USDM_PRIVATE_SPARE: Final = _channel(12)

CHANNEL_NAMES: dict[int, str] = {
    SPOT_STREAM: "spot stream",
    SPOT_STREAM_SPARE: "spot stream (spare)",
    SPOT_API: "spot api",
    SPOT_API_SPARE: "spot api (spare)",
    USDM_PUBLIC: "usdm public",
    USDM_PUBLIC_SPARE: "usdm public (spare)",
    USDM_MARKET: "usdm market",
    USDM_MARKET_SPARE: "usdm market (spare)",
    USDM_API: "usdm api",
    USDM_API_SPARE: "usdm api (spare)",
    USDM_PRIVATE: "usdm private",
    USDM_PRIVATE_SPARE: "usdm private (spare)",
}

SECRET_CHANNELS: Final = (SPOT_API, SPOT_API_SPARE, USDM_API, USDM_API_SPARE, USDM_PRIVATE, USDM_PRIVATE_SPARE)
"""Channels that carry a log-in or a signed request: the venue may echo the key on them."""

_HOSTS: dict[str, dict[str, str]] = {
    "live": {
        "spot_rest": "https://api.binance.com",
        "spot_stream": "wss://stream.binance.com:443",
        "spot_api": "wss://ws-api.binance.com:443",
        "usdm_rest": "https://fapi.binance.com",
        "usdm_stream": "wss://fstream.binance.com",
        "usdm_api": "wss://ws-fapi.binance.com",
    },
    "testnet": {
        "spot_rest": "https://testnet.binance.vision",
        "spot_stream": "wss://stream.testnet.binance.vision",
        "spot_api": "wss://ws-api.testnet.binance.vision",
        "usdm_rest": "https://testnet.binancefuture.com",
        "usdm_stream": "wss://fstream.binancefuture.com",
        "usdm_api": "wss://testnet.binancefuture.com",
    },
    "demo": {
        "spot_rest": "https://demo-api.binance.com",
        "spot_stream": "wss://demo-stream.binance.com",
        "spot_api": "wss://demo-ws-api.binance.com",
        "usdm_rest": "https://demo-fapi.binance.com",
        "usdm_stream": "wss://fstream.binancefuture.com",
        "usdm_api": "wss://testnet.binancefuture.com",
    },
}

HAS_KEY_CHECK: Final = ("live", "local")
"""Environments that serve /sapi; testnet and demo keys cannot withdraw anything real."""


class Urls(msgspec.Struct, frozen=True):
    """Base addresses of one environment, without a path."""

    spot_rest: str
    spot_stream: str
    spot_api: str
    usdm_rest: str
    usdm_stream: str
    usdm_api: str


def urls_of(settings: VenueSettings) -> Urls:
    """Raises ValueError when the environment is unknown or its addresses are not complete."""
    given = settings.urls
    if settings.environment == "local":
        if "base_http" not in given or "base_ws" not in given:
            raise ValueError("binance: environment local needs urls.base_http and urls.base_ws")
        http, ws = given["base_http"].rstrip("/"), given["base_ws"].rstrip("/")
        hosts = {name: http if name.endswith("_rest") else ws for name in _HOSTS["live"]}
    elif settings.environment in _HOSTS:
        hosts = dict(_HOSTS[settings.environment])
    else:
        raise ValueError(f"binance: unknown environment {settings.environment!r}")
    hosts.update({key: value.rstrip("/") for key, value in given.items() if key in hosts})
    return Urls(**hosts)


class Paths(msgspec.Struct, frozen=True):
    """REST paths of one market."""

    time: str
    exchange_info: str
    depth: str
    order: str
    open_orders: str
    cancel_all: str
    trades: str
    commission: str


PATHS: dict[Market, Paths] = {
    Market.SPOT: Paths(
        time="/api/v3/time",
        exchange_info="/api/v3/exchangeInfo",
        depth="/api/v3/depth",
        order="/api/v3/order",
        open_orders="/api/v3/openOrders",
        cancel_all="/api/v3/openOrders",
        trades="/api/v3/myTrades",
        commission="/api/v3/account/commission",
    ),
    Market.LINEAR: Paths(
        time="/fapi/v1/time",
        exchange_info="/fapi/v1/exchangeInfo",
        depth="/fapi/v1/depth",
        order="/fapi/v1/order",
        open_orders="/fapi/v1/openOrders",
        cancel_all="/fapi/v1/allOpenOrders",
        trades="/fapi/v1/userTrades",
        commission="/fapi/v1/commissionRate",
    ),
}


class Weights(msgspec.Struct, frozen=True):
    """Request weight of one market's endpoints (a minute's budget per address)."""

    time: int
    exchange_info: int
    place: int
    cancel: int
    amend: int
    cancel_all: int
    query_order: int
    open_orders: int
    trades: int
    commission: int


WEIGHTS: dict[Market, Weights] = {
    # Successful spot order requests weigh 0 since 2026-04-02; failed ones 1. Counted as failed, never short.
    Market.SPOT: Weights(1, 20, 1, 1, 4, 1, 4, 6, 20, 20),
    Market.LINEAR: Weights(1, 1, 0, 1, 0, 1, 1, 1, 5, 20),
}
WEIGHT_KEY_CHECK: Final = 1
WEIGHT_ACCOUNT: dict[Market, int] = {Market.SPOT: 20, Market.LINEAR: 5}
WEIGHT_POSITIONS: Final = 5
WEIGHT_DEAD_MAN: Final = 10
WEIGHT_LISTEN_KEY: Final = 1
WEIGHT_POSITION_MODE: Final = 30
WEIGHT_SYMBOL_CONFIG: Final = 5

_DEPTH_WEIGHT: dict[Market, tuple[tuple[int, int], ...]] = {
    Market.SPOT: ((100, 5), (500, 25), (1000, 50), (5000, 250)),
    Market.LINEAR: ((50, 2), (100, 5), (500, 10), (1000, 20)),
}


def depth_limit(market: Market, depth: int) -> tuple[int, int]:
    """(limit, weight) of the cheapest snapshot that holds at least `depth` levels, or of the largest."""
    for limit, weight in _DEPTH_WEIGHT[market]:
        if limit >= depth:
            return limit, weight
    return _DEPTH_WEIGHT[market][-1]


API_PATH: dict[Market, str] = {Market.SPOT: "/ws-api/v3", Market.LINEAR: "/ws-fapi/v1"}


def time_url(settings: VenueSettings) -> str:
    """Public address that answers with the venue's time, for `tickwright check --online`."""
    return urls_of(settings).spot_rest + PATHS[Market.SPOT].time
