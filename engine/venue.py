"""The one interface over every venue, and the wire that a connector talks through.

A connector is a state machine: it owns protocol, sequence checks, signing and throttling, and knows no clock, no
socket and no file. Time arrives with each call; everything it wants from the world goes through its `Wire`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.actions import (
    AmendOrder,
    CancelAll,
    CancelOrder,
    PlaceOrder,
    QueryBalances,
    QueryFills,
    QueryOpenOrders,
    QueryOrder,
    QueryPositions,
)
from engine.events import AnyEvent
from engine.instrument import Instrument
from engine.types import Market, Venue

if TYPE_CHECKING:
    from ext import Book


class Wire(Protocol):
    """What a connector may ask of the world. Calls return at once and never raise for the world's sake.

    Live, these reach picows and HTTP; in a simulation a virtual network; in a replay a checker.
    """

    def connect(self, channel: int, url: str, headers: Mapping[str, str] | None = None) -> None:
        """Open a WebSocket; on_connected or on_disconnected follows. Backoff is the connector's."""

    def send(self, channel: int, payload: bytes | bytearray | memoryview) -> bool:
        """Send one text message now. False when the channel is not connected: nothing was sent."""

    def close(self, channel: int) -> None:
        """Close a WebSocket; on_disconnected follows."""

    def request(
        self,
        request_id: int,
        method: str,
        base_url: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        is_secret: bool = False,
        timeout_ns: int = 5_000_000_000,
    ) -> None:
        """Send one HTTP request; exactly one on_response with the same id follows (status 0: transport failure or
        timeout). `is_secret` keeps the body of the answer out of the journal (listen keys)."""

    def set_timer(self, at_ns: int) -> None:
        """Ask for on_timer at this monotonic time or soon after. Calls add up; none is cancelled."""


class InstrumentSpec(msgspec.Struct, frozen=True):
    """An instrument that the configuration asks a connector to serve."""

    index: int
    market: Market
    symbol: str


class Credentials(msgspec.Struct, frozen=True):
    """Keys of one venue account. `repr` never shows them."""

    api_key: str
    secret: str  # HMAC secret, or PEM / base64 PKCS8 body of an Ed25519 key
    key_type: str = "hmac"  # "hmac" or "ed25519"
    environment: str = "local"  # must equal VenueSettings.environment

    def __repr__(self) -> str:
        return f"Credentials(key_type={self.key_type!r}, environment={self.environment!r})"


class VenueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[venues.NAME]` of the configuration. `urls` overrides single base addresses of the environment's defaults;
    the keys are listed in connectors/VENUE/endpoints.py."""

    environment: str  # "local", "testnet", "demo" or "live"
    urls: dict[str, str] = {}
    book_depth: int = 200
    recv_window_ms: int = 5_000
    dead_man_ms: int = 10_000  # 0 switches it off
    request_timeout_ms: int = 5_000
    order_timeout_ms: int = 1_500
    allow_no_ip_restriction: bool = False
    maker_fee_ppm: dict[str, int] = {}  # market name -> parts per million, until the venue tells the account's tier
    taker_fee_ppm: dict[str, int] = {}


Emit = Callable[[AnyEvent], None]


class ExchangeConnector(ABC):
    """Base of every connector.

    Constructor of every implementation:
    `Connector(settings, credentials, instruments, wire, emit, utc_offset_ns=0)` with `credentials` None for market
    data only, `utc_offset_ns` = wall clock minus monotonic clock (updated by `on_utc_offset`).
    `Connector.signer_off = True` (class or instance) makes signatures constant, for replay without keys.

    `books[index]` exists from the definition of an instrument on; a book is valid or it is not routed on.
    """

    venue: Venue
    books: dict[int, Book]
    instruments: dict[int, Instrument]

    @abstractmethod
    def start(self, now_ns: int) -> None:
        """Fetch instruments and clock, check the key, connect, subscribe; emit VenueReady when all is live."""

    @abstractmethod
    def stop(self, now_ns: int) -> None:
        """Disarm the dead man's switch where nothing rests, close every channel, never reconnect."""

    @abstractmethod
    def place_order(self, action: PlaceOrder, now_ns: int) -> None: ...

    @abstractmethod
    def cancel_order(self, action: CancelOrder, now_ns: int) -> None: ...

    @abstractmethod
    def amend_order(self, action: AmendOrder, now_ns: int) -> None: ...

    @abstractmethod
    def cancel_all(self, action: CancelAll, now_ns: int) -> None: ...

    def place_orders(self, actions: Sequence[PlaceOrder], now_ns: int) -> None:
        """Batch form; one by one where the venue has none."""
        for action in actions:
            self.place_order(action, now_ns)

    def cancel_orders(self, actions: Sequence[CancelOrder], now_ns: int) -> None:
        for action in actions:
            self.cancel_order(action, now_ns)

    @abstractmethod
    def get_order(self, action: QueryOrder, now_ns: int) -> None: ...

    @abstractmethod
    def get_open_orders(self, action: QueryOpenOrders, now_ns: int) -> None: ...

    @abstractmethod
    def get_fills(self, action: QueryFills, now_ns: int) -> None: ...

    @abstractmethod
    def get_balance(self, action: QueryBalances, now_ns: int) -> None: ...

    @abstractmethod
    def get_positions(self, action: QueryPositions, now_ns: int) -> None: ...

    @abstractmethod
    def subscribe_order_book(self, instrument: int, now_ns: int) -> None: ...

    @abstractmethod
    def subscribe_trades(self, instrument: int, now_ns: int) -> None: ...

    @abstractmethod
    def unsubscribe(self, instrument: int, now_ns: int) -> None: ...

    @abstractmethod
    def on_frame(self, channel: int, payload: bytes, recv_ts_ns: int) -> None:
        """One whole WebSocket message. Emits events before it returns."""

    @abstractmethod
    def on_response(
        self, request_id: int, status: int, headers: Mapping[str, str], body: bytes, recv_ts_ns: int
    ) -> None:
        """One HTTP answer; header names in lower case; status 0 with the reason as body for a transport failure."""

    @abstractmethod
    def on_connected(self, channel: int, recv_ts_ns: int) -> None: ...

    @abstractmethod
    def on_disconnected(self, channel: int, reason: str, recv_ts_ns: int) -> None: ...

    @abstractmethod
    def on_timer(self, now_ns: int) -> None:
        """Timeouts, backoff, keep-alives, queued orders, staleness. Called at least every 100 ms."""

    def on_utc_offset(self, utc_offset_ns: int, recv_ts_ns: int) -> None:
        """Wall clock minus monotonic clock; an input like any other, so that a replay signs the same times."""
        self.utc_offset_ns = utc_offset_ns

    utc_offset_ns: int = 0
    signer_off: bool = False
