"""Where Bybit lives: channels, hosts of each environment, paths of the v5 API.

Keys of `[venues.bybit.urls]`: `base_http` (scheme and host of REST), `base_ws` (of all WebSockets), `base_ws_public`
(of the public ones alone; default `base_ws`). The venue's own paths are appended. Source: https://bybit-exchange.github.io/docs/v5/guide
and /v5/ws/connect, read 2026-07-24.
"""

from __future__ import annotations

from typing import Final

import msgspec

from engine.errors import ConfigError
from engine.types import Market, Venue
from engine.venue import VenueSettings

PUBLIC_SPOT: Final = Venue.BYBIT << 8 | 1
PUBLIC_LINEAR: Final = Venue.BYBIT << 8 | 2
PRIVATE: Final = Venue.BYBIT << 8 | 3
TRADE: Final = Venue.BYBIT << 8 | 4
PROBE_SPOT: Final = Venue.BYBIT << 8 | 5  # orderbook.1 alone: proves that the books of the public sockets live
PROBE_LINEAR: Final = Venue.BYBIT << 8 | 6

SECRET_CHANNELS: Final = (PRIVATE, TRADE)
"""Channels that carry a log-in: the venue may echo the key on them."""

CHANNEL_NAMES: Final[dict[int, str]] = {
    PUBLIC_SPOT: "bybit public spot",
    PUBLIC_LINEAR: "bybit public linear",
    PRIVATE: "bybit private",
    TRADE: "bybit trade",
    PROBE_SPOT: "bybit probe spot",
    PROBE_LINEAR: "bybit probe linear",
}

CATEGORY: Final = {Market.SPOT: "spot", Market.LINEAR: "linear"}
MARKET: Final = {"spot": Market.SPOT, "linear": Market.LINEAR}
PUBLIC_CHANNEL: Final = {Market.SPOT: PUBLIC_SPOT, Market.LINEAR: PUBLIC_LINEAR}
PROBE_CHANNEL: Final = {Market.SPOT: PROBE_SPOT, Market.LINEAR: PROBE_LINEAR}
PROBES: Final = (PROBE_SPOT, PROBE_LINEAR)

SERVER_TIME: Final = "/v5/market/time"
INSTRUMENTS: Final = "/v5/market/instruments-info"
KEY_INFO: Final = "/v5/user/query-api"
ACCOUNT_INFO: Final = "/v5/account/info"
FEE_RATE: Final = "/v5/account/fee-rate"
WALLET: Final = "/v5/account/wallet-balance"
POSITIONS: Final = "/v5/position/list"
OPEN_ORDERS: Final = "/v5/order/realtime"
ORDER_HISTORY: Final = "/v5/order/history"
EXECUTIONS: Final = "/v5/execution/list"
CREATE: Final = "/v5/order/create"
AMEND: Final = "/v5/order/amend"
CANCEL: Final = "/v5/order/cancel"
CREATE_BATCH: Final = "/v5/order/create-batch"
CANCEL_BATCH: Final = "/v5/order/cancel-batch"
CANCEL_ALL: Final = "/v5/order/cancel-all"
DEAD_MAN: Final = "/v5/order/disconnected-cancel-all"


class Endpoints(msgspec.Struct, frozen=True):
    http: str
    ws_private: str
    ws_trade: str  # "" where the environment has no order entry over WebSocket
    ws_public: dict[int, str]  # channel -> address


_HTTP = {
    "live": "https://api.bybit.com",
    "testnet": "https://api-testnet.bybit.com",
    "demo": "https://api-demo.bybit.com",
}
_WS = {
    "live": "wss://stream.bybit.com",
    "testnet": "wss://stream-testnet.bybit.com",
    "demo": "wss://stream-demo.bybit.com",
}
# The demo environment has no public streams of its own: it trades on the prices of the live ones.
_WS_PUBLIC = {"demo": "wss://stream.bybit.com"}


def endpoints_of(settings: VenueSettings) -> Endpoints:
    """Raises ConfigError when the environment has no default and `urls` names no address."""
    environment = settings.environment
    http = settings.urls.get("base_http", _HTTP.get(environment, ""))
    ws = settings.urls.get("base_ws", _WS.get(environment, ""))
    public = settings.urls.get("base_ws_public", settings.urls.get("base_ws", _WS_PUBLIC.get(environment, ws)))
    missing = [key for key, value in (("base_http", http), ("base_ws", ws)) if not value]
    if missing:
        raise ConfigError([f"venues.bybit.urls.{key}: must be set for environment {environment!r}" for key in missing])
    http, ws, public = http.rstrip("/"), ws.rstrip("/"), public.rstrip("/")
    return Endpoints(
        http=http,
        ws_private=f"{ws}/v5/private",
        ws_trade="" if environment == "demo" else f"{ws}/v5/trade",
        ws_public={
            channels[market]: f"{public}/v5/public/{CATEGORY[market]}"
            for channels in (PUBLIC_CHANNEL, PROBE_CHANNEL)
            for market in CATEGORY
        },
    )


def time_url(settings: VenueSettings) -> str:
    """Public address that answers with the venue's time, for `tickwright check --online`."""
    return endpoints_of(settings).http + "/v5/market/time"
