"""Pre-trade risk around the gate: reservations follow orders, spot orders need funds, own quotes are known."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from engine import events
from engine import ledger as records
from engine.instrument import Instrument
from engine.risk import funds_needed
from engine.types import ExecType, InstrumentKind, Market, OrdStatus, Side, Venue

COIN = 10**8
SPOT = Instrument(
    index=0, venue=Venue.BINANCE, market=Market.SPOT, kind=InstrumentKind.SPOT, symbol="BTCUSDT", base="BTC",
    quote="USDT", settle="USDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"),
)  # fmt: skip


def refusal(desk: Any) -> records.RiskRefused:
    record: records.RiskRefused = desk.records(records.RiskRefused)[-1]
    return record


@pytest.fixture
def spot(desk: Any) -> Any:
    """The first instrument is a spot one, with 1000 USDT and a tenth of a coin."""
    desk.say(events.InstrumentDefined(desk.now, SPOT))
    desk.say(events.Balance(desk.now, Venue.BINANCE, "USDT", 1_000 * COIN, 1_000 * COIN))
    desk.say(events.Balance(desk.now, Venue.BINANCE, "BTC", COIN // 10, COIN // 10))
    return desk


def test_funds_are_quote_to_buy_and_base_to_sell() -> None:
    assert funds_needed(SPOT, Side.BUY, 640_000, 10) == ("USDT", 640 * COIN)
    assert funds_needed(SPOT, Side.SELL, 640_000, 10) == ("BTC", COIN // 100)


def test_buy_needs_quote_that_no_other_order_has_bound(spot: Any) -> None:
    first = spot.place(qty=10)
    assert first, "640 of 1000"
    assert spot.place(qty=10, px=639_999) == 0
    assert (refusal(spot).reason, refusal(spot).limit) == ("NO_FUNDS", 360 * COIN)
    spot.report(first, ExecType.CANCELED, OrdStatus.CANCELED, 0)
    assert spot.place(qty=10, px=639_999)


def test_sell_needs_base(spot: Any) -> None:
    assert spot.place(side=Side.SELL, px=640_001, qty=101) == 0
    assert (refusal(spot).reason, refusal(spot).value) == ("NO_FUNDS", COIN // 1000 * 101)
    assert spot.place(side=Side.SELL, px=640_001, qty=100)


def test_fill_frees_what_it_had_bound(spot: Any) -> None:
    ident = spot.place(qty=10)
    spot.fill(ident, 4)
    assert spot.core.risk.reserved[Venue.BINANCE, "USDT"] == 384 * COIN
    spot.report(ident, ExecType.CANCELED, OrdStatus.CANCELED, 4)
    assert spot.core.risk.reserved[Venue.BINANCE, "USDT"] == 0


def test_perpetual_binds_no_funds(desk: Any) -> None:
    desk.place(qty=10)
    assert desk.core.risk.reserved == {}


def test_own_quotes_are_not_traded_against(desk: Any) -> None:
    ident = desk.place(px=640_000)
    desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    assert desk.place(side=Side.SELL, px=640_000) == 0
    assert refusal(desk).reason == "SELF_MATCH"
    assert desk.place(side=Side.SELL, px=640_001), "above it is fine"


def test_own_quote_that_is_gone_may_be_traded_through(desk: Any) -> None:
    """The best of the orders that are left decides."""
    high, low = desk.place(px=640_000), desk.place(px=639_990)
    for ident in (high, low):
        desk.report(ident, ExecType.NEW, OrdStatus.NEW, 0)
    desk.report(high, ExecType.CANCELED, OrdStatus.CANCELED, 0)
    assert desk.place(side=Side.SELL, px=639_995)
    assert desk.place(side=Side.SELL, px=639_990) == 0


def test_limit_of_the_underlying_counts_over_venues_and_open_orders(desk: Any) -> None:
    """One coin over both venues; half a coin an instrument."""
    for index in (0, 1):
        assert desk.place(index=index, qty=500)
        assert desk.place(index=index, qty=1, px=639_999) == 0
        assert refusal(desk).reason == "POSITION_LIMIT"


def test_refusal_keeps_its_numbers(desk: Any) -> None:
    assert desk.place(qty=600) == 0
    record = refusal(desk)
    assert (record.reason, record.value, record.limit) == ("POSITION_LIMIT", 600, 500)
    assert (record.strategy, record.instrument, record.side, record.qty_lots) == (0, 0, Side.BUY, 600)


def test_refused_order_reserves_nothing(desk: Any) -> None:
    desk.place(qty=600)
    gate = desk.core.risk.gate
    assert (gate.position(0), gate.open_buy(0), gate.open_sell(0)) == (0, 0, 0)


def test_price_far_from_the_market_is_refused(desk: Any) -> None:
    assert desk.place(px=640_001 * 111 // 100, qty=1) == 0
    assert refusal(desk).reason == "PRICE_COLLAR"


def test_invalid_and_old_books_are_not_traded_on(desk: Any) -> None:
    desk.venues[Venue.BINANCE].books[0].invalidate()
    assert desk.place(qty=1) == 0 and refusal(desk).reason == "INVALID_BOOK"
    desk.quote(0, 640_000, 640_001)
    desk.pass_time(61 * COIN * 10)
    assert desk.place(index=1, qty=1) == 0 and refusal(desk).reason == "STALE_BOOK"


def test_instrument_that_changes_its_limits_is_held_to_the_new_ones(desk: Any) -> None:
    changed = msgspec.structs.replace(desk.core.instruments[0], min_qty_lots=5)
    assert desk.place(qty=4)
    desk.say(events.InstrumentDefined(desk.now, changed))
    assert desk.place(qty=4, px=639_999) == 0
    assert refusal(desk).reason == "BAD_QTY"
