"""What the parts of the connector share: wire, clock offsets, budgets, symbols, REST.

Budgets are the venue's: one REQUEST_WEIGHT a market and address, and the order counts of the account, all calendar
windows of server time, fed back by the headers of each answer and by `rateLimits` of the WebSocket API.
Source: binance-spot-api-docs rest-api.md "LIMITS", USD-M "General Info: LIMITS"; read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from connectors.binance.auth import Auth
from connectors.binance.endpoints import PATHS, WEIGHTS, Paths, Urls, Weights
from connectors.binance.errors import TOO_MANY_ORDERS, Failure, failure_of_body
from connectors.binance.symbols import Symbol
from connectors.rest import OnAnswer, RestCall, RestClient, RestRequest, Verdict, retry_after_ns
from connectors.session import MINUTE, MS, SECOND, Outbox, Priority
from engine.events import InstrumentStateChanged, VenueNotice
from engine.instrument import Instrument
from engine.types import InstrumentState, Market, Venue
from engine.venue import Emit, VenueSettings, Wire
from ext import Throttle
from ext.throttle import CALENDAR

_DAY: Final = 24 * 60 * MINUTE
_UNITS: dict[str, int] = {"SECOND": SECOND, "MINUTE": MINUTE, "HOUR": 60 * MINUTE, "DAY": _DAY}
_RESERVE_PPM: Final = 200_000
_FREEZE_DEFAULT_NS: Final = 10 * SECOND
_BAN_DEFAULT_NS: Final = 2 * MINUTE


class MarketSide:
    """One of the two markets: where it answers, what it allows, which symbols of it we serve."""

    def __init__(self, market: Market, rest_url: str, wire: Wire) -> None:
        self.market = market
        self.rest_url = rest_url
        self.paths: Paths = PATHS[market]
        self.weights: Weights = WEIGHTS[market]
        self.outbox = Outbox(wire)
        self.symbols: dict[str, Symbol] = {}
        self.by_index: dict[int, Symbol] = {}
        self.offset_ns = 0  # venue clock minus our UTC
        is_spot = market is Market.SPOT
        # Documented limits until exchangeInfo tells this account's.
        self.weight = Throttle(6_000 if is_spot else 2_400, MINUTE, CALENDAR, _RESERVE_PPM)
        self.orders_10s = Throttle(50 if is_spot else 300, 10 * SECOND, CALENDAR, _RESERVE_PPM)
        self.orders_long = Throttle(160_000 if is_spot else 1_200, _DAY if is_spot else MINUTE, CALENDAR, _RESERVE_PPM)
        self.order_throttles = (self.weight, self.orders_10s, self.orders_long)
        self._long_header = "x-mbx-order-count-1d" if is_spot else "x-mbx-order-count-1m"

    def add(self, symbol: Symbol) -> None:
        self.symbols[symbol.instrument.symbol] = symbol
        self.by_index[symbol.instrument.index] = symbol

    def learn_limits(self, rate_limits: Sequence[Mapping[str, Any]]) -> None:
        """Capacities from `rateLimits` of exchangeInfo."""
        for row in rate_limits:
            throttle = self._throttle_of(row)
            if throttle is not None and int(row["limit"]) > 0:
                throttle.set_capacity(int(row["limit"]))

    def learn_counts(self, rate_limits: Sequence[Mapping[str, Any]], now_ns: int, sent_ns: int) -> None:
        """Counts from `rateLimits` of a WebSocket API answer."""
        for row in rate_limits:
            throttle = self._throttle_of(row)
            if throttle is not None and "count" in row:
                throttle.on_used(int(row["count"]), now_ns, sent_ns)

    def learn_headers(self, headers: Mapping[str, str], now_ns: int, sent_ns: int) -> None:
        for name, throttle in (
            ("x-mbx-used-weight-1m", self.weight),
            ("x-mbx-order-count-10s", self.orders_10s),
            (self._long_header, self.orders_long),
        ):
            text = headers.get(name)
            if text is not None and text.isdecimal():
                throttle.on_used(int(text), now_ns, sent_ns)

    def set_server_offset(self, offset_ns: int) -> None:
        for throttle in self.order_throttles:
            throttle.set_server_offset(offset_ns)

    def _throttle_of(self, row: Mapping[str, Any]) -> Throttle | None:
        window_ns = _UNITS.get(row.get("interval", ""), 0) * int(row.get("intervalNum", 0))
        kind = row.get("rateLimitType")
        if kind == "REQUEST_WEIGHT":
            return self.weight if window_ns == self.weight.window_ns else None
        if kind == "ORDERS":
            if window_ns == self.orders_10s.window_ns:
                return self.orders_10s
            return self.orders_long if window_ns == self.orders_long.window_ns else None
        return None


class Context:
    """Shared state of one connector."""

    def __init__(
        self, settings: VenueSettings, urls: Urls, auth: Auth | None, wire: Wire, emit: Emit, utc_offset_ns: int
    ) -> None:
        self.settings = settings
        self.urls = urls
        self.auth = auth
        self.wire = wire
        self.emit = emit
        self.utc_offset_ns = utc_offset_ns
        self.rest = RestClient(Venue.BINANCE, wire, self)
        self.sides: dict[Market, MarketSide] = {}
        self.instruments: dict[int, Instrument] = {}
        self.is_stopping = False
        self.clock_suspects: list[Market] = []  # sides whose last request was refused for its time
        self._counter = 0

    def next_id(self) -> int:
        """Identifier of a WebSocket request, unique in this run and over all channels."""
        self._counter += 1
        return self._counter

    def utc_ns(self, side: MarketSide, now_ns: int) -> int:
        """The venue's clock, as far as we know it."""
        return now_ns + self.utc_offset_ns + side.offset_ns

    def utc_ms(self, side: MarketSide, now_ns: int) -> int:
        return self.utc_ns(side, now_ns) // MS

    def side_of(self, instrument: int) -> MarketSide:
        return self.sides[self.instruments[instrument].market]

    def set_state(self, symbol: Symbol, state: InstrumentState, now_ns: int) -> None:
        """The venue opened, halted or closed an instrument."""
        if state is symbol.instrument.state:
            return
        index = symbol.instrument.index
        symbol.instrument = self.instruments[index] = replace(symbol.instrument, state=state)
        self.emit(InstrumentStateChanged(now_ns, index, state))

    # --- REST ---

    def get(
        self,
        side: MarketSide,
        path: str,
        params: str,
        weight: int,
        on_answer: OnAnswer,
        now_ns: int,
        *,
        is_signed: bool = False,
        priority: Priority = Priority.QUERY,
        base: str = "",
    ) -> RestCall:
        """Ask a question; it is repeated until it is answered or has failed a few times."""
        return self.call(
            side, "GET", path, params, weight, on_answer, now_ns, is_signed=is_signed, priority=priority, base=base
        )

    def call(
        self,
        side: MarketSide,
        method: str,
        path: str,
        params: str,
        weight: int,
        on_answer: OnAnswer,
        now_ns: int,
        *,
        is_signed: bool = True,
        is_keyed: bool = False,
        is_secret: bool = False,
        priority: Priority = Priority.QUERY,
        base: str = "",
    ) -> RestCall:
        """Any request that may be repeated without harm."""
        headers = self.auth.headers if self.auth is not None and (is_signed or is_keyed) else {}

        def build(now_ns: int) -> RestRequest:
            query = params.encode()
            if is_signed:
                assert self.auth is not None, f"{method} {path} needs credentials"
                query = self.auth.query(query, self.utc_ms(side, now_ns))
            target = f"{path}?{query.decode()}" if query else path
            return RestRequest(method, base or side.rest_url, target, headers)

        call = RestCall(
            f"{method} {path}",
            build,
            on_answer,
            is_read=True,
            is_secret=is_secret,
            timeout_ns=self.settings.request_timeout_ms * MS,
        )
        self.rest.submit(call, side.outbox, priority, (side.weight,), (weight,), now_ns)
        return call

    def judge(self, request: RestCall, status: int, headers: Mapping[str, str], body: bytes, now_ns: int) -> Verdict:
        side = self._side_of_call(request)
        side.learn_headers(headers, now_ns, request.sent_ns)
        if 200 <= status < 300:
            return Verdict.DONE
        if status in (418, 429):
            self.on_limited(side, status, failure_of_body(status, body), retry_after_ns(headers, 0), now_ns)
            return Verdict.WAIT
        if status == 0 or status >= 500:
            return Verdict.RETRY
        self.note_failure(side, failure_of_body(status, body))
        return Verdict.DONE

    def _side_of_call(self, request: RestCall) -> MarketSide:
        for side in self.sides.values():
            if request.outgoing is not None and side.weight in request.outgoing.throttles:
                return side
        raise AssertionError(f"{request.name}: no market has its budget")

    # --- limits ---

    def on_limited(self, side: MarketSide, status: int, failure: Failure, wait_ns: int, now_ns: int) -> None:
        """429: nothing but cancels until the venue's time. 418: nothing at all; market data is not touched."""
        is_ban = status == 418
        wait_ns = wait_ns or (_BAN_DEFAULT_NS if is_ban else _FREEZE_DEFAULT_NS)
        until_ns = now_ns + wait_ns
        if failure.code == TOO_MANY_ORDERS:
            side.orders_10s.freeze(until_ns, Priority.HEDGE)
        else:
            side.weight.freeze(until_ns, Priority.CANCEL if is_ban else Priority.HEDGE)
        self.wire.set_timer(until_ns)
        kind = "banned" if is_ban else "rate_limited"
        self.emit(VenueNotice(now_ns, Venue.BINANCE, kind, until_ns))

    def note_failure(self, side: MarketSide, failure: Failure) -> None:
        if failure.is_clock and side.market not in self.clock_suspects:
            self.clock_suspects.append(side.market)
