"""What must be known before anything is sent: instruments, the venue's clock, the key's permissions, modes, fees.

All of it is asked again from time to time: definitions change, clocks drift, keys are edited.
The clock: offset = server time minus the middle of the round trip, the sample of the shortest trip of the last few;
half its trip is the largest error it can have. Requests are signed with the venue's time, so an offset is not an
error by itself: it is told (ClockOffset), and refused only beyond the receive window, where one of the two clocks
cannot be believed. A sample that contradicts the earlier ones means that a clock was stepped: those are forgotten.
Source: binance-spot-api-docs rest-api.md "General endpoints"; wallet "Get API Key Permission"; USD-M "Get Current
Position Mode", "Symbol Configuration", "User Commission Rate"; read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

import orjson

from connectors.binance.context import Context, MarketSide
from connectors.binance.endpoints import (
    HAS_KEY_CHECK,
    WEIGHT_KEY_CHECK,
    WEIGHT_POSITION_MODE,
    WEIGHT_SYMBOL_CONFIG,
)
from connectors.binance.errors import NOT_UNDERSTOOD, failure_of_body
from connectors.binance.queries import Gather, parsed
from connectors.binance.symbols import Symbol, UnknownSymbol, instrument_from_symbol
from connectors.rest import RestAnswer, RestCall
from connectors.session import MINUTE, MS, SECOND
from engine.events import ClockOffset, FeeTier, VenueRefused
from engine.types import Market, Venue
from engine.venue import InstrumentSpec

CLOCK_SAMPLES: Final = 5
CLOCK_EVERY_NS: Final = 30 * SECOND
STEP_NS: Final = 50 * MS
DEFINITIONS_EVERY_NS: Final = 5 * MINUTE
KEY_EVERY_NS: Final = 10 * MINUTE
RETRY_NS: Final = 5 * SECOND

_MUST_NOT: Final = ("enableWithdrawals", "enableInternalTransfer", "permitsUniversalTransfer")


class VenueClock:
    """Clock of one market."""

    def __init__(
        self,
        ctx: Context,
        side: MarketSide,
        on_measured: Callable[[int], None],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._ctx = ctx
        self._side = side
        self._on_measured = on_measured
        self._on_lost = on_lost
        self._samples: list[tuple[int, int]] = []  # rtt, offset; the newest last
        self._left = CLOCK_SAMPLES
        self._is_asked = False
        self._next_ns = 0
        self.is_measured = False

    def measure(self, now_ns: int) -> None:
        """Take fresh samples and forget the old ones."""
        self._samples.clear()
        self._left = CLOCK_SAMPLES
        self._ask(now_ns)

    def on_timer(self, now_ns: int) -> None:
        if self._next_ns and now_ns >= self._next_ns:
            self._ask(now_ns)

    def _ask(self, now_ns: int) -> None:
        if self._is_asked or self._ctx.is_stopping:
            return
        self._is_asked = True
        self._next_ns = now_ns + CLOCK_EVERY_NS
        asked: list[RestCall] = []

        def on_answer(answer: RestAnswer, now_ns: int) -> None:
            self._is_asked = False
            body = parsed(answer)
            if isinstance(body, dict) and isinstance(body.get("serverTime"), int):
                self._sample(body["serverTime"], asked[0].sent_ns, now_ns)
            else:
                self._next_ns = now_ns + RETRY_NS

        asked.append(self._ctx.get(self._side, self._side.paths.time, "", self._side.weights.time, on_answer, now_ns))

    def _sample(self, server_ms: int, sent_ns: int, now_ns: int) -> None:
        rtt_ns = now_ns - sent_ns
        server_ns = server_ms * MS + MS // 2  # whole milliseconds, cut off
        ours_ns = (sent_ns + now_ns) // 2 + self._ctx.utc_offset_ns
        sample = (rtt_ns, server_ns - ours_ns)
        if self._samples:
            best_rtt_ns, best_ns = min(self._samples)
            if abs(sample[1] - best_ns) > (rtt_ns + best_rtt_ns) // 2 + STEP_NS:
                self._samples.clear()
                self._left = CLOCK_SAMPLES
        self._samples.append(sample)
        del self._samples[:-CLOCK_SAMPLES]
        self._left -= 1
        if self._left > 0:
            self._ask(now_ns)
        else:
            self._use(*min(self._samples), now_ns)

    def _use(self, rtt_ns: int, offset_ns: int, now_ns: int) -> None:
        self._side.offset_ns = offset_ns
        self._side.set_server_offset(self._ctx.utc_offset_ns + offset_ns)
        self._ctx.emit(ClockOffset(now_ns, Venue.BINANCE, offset_ns, rtt_ns))
        limit_ms = self._ctx.settings.recv_window_ms
        if abs(offset_ns) - rtt_ns // 2 > limit_ms * MS:
            self.is_measured = False
            self._on_lost()
            self._next_ns = now_ns + RETRY_NS
            reason = f"{self._side.market.name}: venue clock minus ours is {offset_ns // MS} ms, limit {limit_ms}"
            self._ctx.emit(VenueRefused(now_ns, Venue.BINANCE, "clock", reason))
            return
        was_measured, self.is_measured = self.is_measured, True
        if not was_measured:
            self._on_measured(now_ns)


class Definitions:
    """exchangeInfo of one market, at start and again."""

    def __init__(
        self,
        ctx: Context,
        side: MarketSide,
        specs: list[InstrumentSpec],
        on_symbol: Callable[[Symbol, int], None],
        on_complete: Callable[[int], None],
    ) -> None:
        self._ctx = ctx
        self._side = side
        self._specs = specs
        self._on_symbol = on_symbol
        self._on_complete = on_complete
        self._next_ns = 0
        self.is_complete = False

    def ask(self, now_ns: int) -> None:
        self._next_ns = now_ns + DEFINITIONS_EVERY_NS
        params = ""
        if self._side.market is Market.SPOT:
            names = [spec.symbol for spec in self._specs]
            params = f"symbols={quote(orjson.dumps(names), safe='')}"
        weight = self._side.weights.exchange_info
        self._ctx.get(self._side, self._side.paths.exchange_info, params, weight, self._on_answer, now_ns)

    def on_timer(self, now_ns: int) -> None:
        if self._next_ns and now_ns >= self._next_ns and not self._ctx.is_stopping:
            self.ask(now_ns)

    def _on_answer(self, answer: RestAnswer, now_ns: int) -> None:
        body = parsed(answer)
        if not isinstance(body, dict) or "symbols" not in body:
            failure = failure_of_body(answer.status, answer.body)
            if failure.code == -1121:
                self._refuse(f"{failure.text}: one of {[spec.symbol for spec in self._specs]}", now_ns)
            self._next_ns = now_ns + (DEFINITIONS_EVERY_NS if self.is_complete else RETRY_NS)
            return
        try:
            self._side.learn_limits(body.get("rateLimits", ()))
            rows: dict[str, Mapping[str, Any]] = {row["symbol"]: row for row in body["symbols"]}
            for spec in self._specs:
                self._take(spec, rows.get(spec.symbol), now_ns)
        except UnknownSymbol as error:
            self._refuse(str(error), now_ns)
            return
        if not self.is_complete:
            self.is_complete = True
            self._on_complete(now_ns)

    def _take(self, spec: InstrumentSpec, row: Mapping[str, Any] | None, now_ns: int) -> None:
        if row is None:
            raise UnknownSymbol(f"{spec.symbol} ({spec.market.name}) is not listed")
        instrument = instrument_from_symbol(spec, row)
        known = self._ctx.instruments.get(spec.index)
        if known != instrument:
            self._on_symbol(Symbol(instrument, row), now_ns)

    def _refuse(self, reason: str, now_ns: int) -> None:
        self._ctx.emit(VenueRefused(now_ns, Venue.BINANCE, "instruments", reason))


class KeyCheck:
    """May the key trade, and nothing else?"""

    def __init__(self, ctx: Context, on_passed: Callable[[int], None]) -> None:
        self._ctx = ctx
        self._on_passed = on_passed
        self._side = next(iter(ctx.sides.values()))
        self._next_ns = 0
        self.is_passed = False

    def ask(self, now_ns: int) -> None:
        if self._ctx.settings.environment not in HAS_KEY_CHECK:
            self.is_passed = True
            self._on_passed(now_ns)
            return
        # /sapi is on the spot hosts, whichever markets are traded.
        self._next_ns = now_ns + KEY_EVERY_NS
        side = self._side
        path = "/sapi/v1/account/apiRestrictions"
        self._ctx.get(
            side, path, "", WEIGHT_KEY_CHECK, self._on_answer, now_ns, is_signed=True, base=self._ctx.urls.spot_rest
        )

    def on_timer(self, now_ns: int) -> None:
        if self._next_ns and now_ns >= self._next_ns and not self._ctx.is_stopping:
            self.ask(now_ns)

    def _on_answer(self, answer: RestAnswer, now_ns: int) -> None:
        rights = parsed(answer)
        if not isinstance(rights, dict):
            failure = failure_of_body(answer.status, answer.body)
            if failure.is_auth:
                self._refuse(f"{failure.code}: {failure.text}", now_ns)
            else:
                self._next_ns = now_ns + RETRY_NS
            return
        reason = self._objection(rights)
        if reason:
            self._refuse(reason, now_ns)
        elif not self.is_passed:
            self.is_passed = True
            self._on_passed(now_ns)

    def _objection(self, rights: Mapping[str, Any]) -> str:
        for name in _MUST_NOT:
            if rights.get(name):
                return f"the key has {name}; use one that may only read and trade"
        settings = self._ctx.settings
        if not (rights.get("ipRestrict") or settings.allow_no_ip_restriction or settings.environment == "local"):
            return "the key is not restricted to addresses (allow_no_ip_restriction would accept it)"
        needed = {Market.SPOT: "enableSpotAndMarginTrading", Market.LINEAR: "enableFutures"}
        for market in self._ctx.sides:
            if not rights.get(needed[market]):
                return f"the key lacks {needed[market]}"
        return ""

    def _refuse(self, reason: str, now_ns: int) -> None:
        self.is_passed = False
        self._ctx.emit(VenueRefused(now_ns, Venue.BINANCE, "key", reason))


class ModeCheck:
    """USD-M must be in one-way mode; margin mode and leverage are read, never set."""

    def __init__(self, ctx: Context, side: MarketSide, on_passed: Callable[[int], None]) -> None:
        self._ctx = ctx
        self._side = side
        self._on_passed = on_passed
        self._next_ns = 0
        self.is_passed = False
        self.margin: dict[int, tuple[str, int]] = {}  # instrument -> margin mode, leverage

    def ask(self, now_ns: int) -> None:
        self._next_ns = 0
        path = "/fapi/v1/positionSide/dual"
        self._ctx.get(self._side, path, "", WEIGHT_POSITION_MODE, self._on_answer, now_ns, is_signed=True)
        for symbol in self._side.symbols.values():
            self._ask_margin(symbol, now_ns)

    def on_timer(self, now_ns: int) -> None:
        if self._next_ns and now_ns >= self._next_ns:
            self.ask(now_ns)

    def _on_answer(self, answer: RestAnswer, now_ns: int) -> None:
        body = parsed(answer)
        if not isinstance(body, dict) or "dualSidePosition" not in body:
            self._next_ns = now_ns + RETRY_NS
        elif body["dualSidePosition"] in (True, "true"):
            reason = "the account is in hedge mode; switch it to one-way"
            self._ctx.emit(VenueRefused(now_ns, Venue.BINANCE, "mode", reason))
        else:
            self.is_passed = True
            self._on_passed(now_ns)

    def _ask_margin(self, symbol: Symbol, now_ns: int) -> None:
        def on_answer(answer: RestAnswer, now_ns: int) -> None:
            rows = parsed(answer)
            if isinstance(rows, list) and rows:
                row = rows[0]
                self.margin[symbol.instrument.index] = (str(row.get("marginType", "")), int(row.get("leverage", 0)))

        path = "/fapi/v1/symbolConfig"
        params = f"symbol={symbol.instrument.symbol}"
        self._ctx.get(self._side, path, params, WEIGHT_SYMBOL_CONFIG, on_answer, now_ns, is_signed=True)


def ask_fees(ctx: Context, on_complete: Callable[[bool, int], None], now_ns: int) -> None:
    """The account's real fees, one FeeTier an instrument. Where the venue does not tell, settings stay in force."""
    wanted = [(side, symbol) for side in ctx.sides.values() for symbol in side.symbols.values()]
    gather = Gather(len(wanted), on_complete)
    for side, symbol in wanted:
        _ask_fee(ctx, side, symbol, gather, now_ns)


def _ask_fee(ctx: Context, side: MarketSide, symbol: Symbol, gather: Gather, now_ns: int) -> None:
    def on_answer(answer: RestAnswer, now_ns: int) -> None:
        body = parsed(answer)
        try:
            maker_ppm, taker_ppm = fees_ppm(body)
            ctx.emit(FeeTier(now_ns, symbol.instrument.index, maker_ppm, taker_ppm))
            gather.add(True, now_ns)
        except NOT_UNDERSTOOD:
            gather.add(False, now_ns)

    params = f"symbol={symbol.instrument.symbol}"
    ctx.get(side, side.paths.commission, params, side.weights.commission, on_answer, now_ns, is_signed=True)


def fees_ppm(body: Mapping[str, Any]) -> tuple[int, int]:
    """(maker, taker). Spot fees are sums of parts; the BNB discount is left out: it depends on a balance."""
    if "makerCommissionRate" in body:
        return _ppm(Decimal(body["makerCommissionRate"])), _ppm(Decimal(body["takerCommissionRate"]))
    parts = [body["standardCommission"], body.get("taxCommission") or {}, body.get("specialCommission") or {}]
    maker = sum((Decimal(part.get("maker", 0)) for part in parts), Decimal(0))
    taker = sum((Decimal(part.get("taker", 0)) for part in parts), Decimal(0))
    return _ppm(maker), _ppm(taker)


def _ppm(rate: Decimal) -> int:
    return int((rate * 1_000_000).to_integral_value())
