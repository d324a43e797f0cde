from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.binance.symbols import Symbol, UnknownSymbol, instrument_from_symbol, scaled
from engine.types import InstrumentKind, InstrumentState, Market
from engine.venue import InstrumentSpec
from tests.connectors.binance.binance_world import SPOT_INFO, USDM_INFO

SPOT_ROW = SPOT_INFO["symbols"][0]  # type: ignore[index]
USDM_ROW = USDM_INFO["symbols"][0]
SPOT = Symbol(instrument_from_symbol(InstrumentSpec(0, Market.SPOT, "BTCUSDT"), SPOT_ROW), SPOT_ROW)
USDM = Symbol(instrument_from_symbol(InstrumentSpec(1, Market.LINEAR, "BTCUSDT"), USDM_ROW), USDM_ROW)


def test_spot_symbol_becomes_an_instrument_by_its_filters() -> None:
    instrument = SPOT.instrument
    assert (instrument.kind, instrument.base, instrument.quote, instrument.settle) == (
        InstrumentKind.SPOT,
        "BTC",
        "USDT",
        "USDT",
    )
    assert (instrument.tick_size, instrument.lot_size) == (Decimal("0.01"), Decimal("0.00001"))
    assert (instrument.min_qty_lots, instrument.max_qty_lots) == (1, 900_000_000)
    assert instrument.min_notional_atoms == 500_000_000
    assert instrument.name == "BINANCE:BTC-USDT:SPOT"


def test_usdm_precision_fields_are_not_taken_for_tick_and_lot() -> None:
    instrument = USDM.instrument
    assert (instrument.tick_size, instrument.lot_size) == (Decimal("0.10"), Decimal("0.001"))
    assert instrument.min_notional_atoms == 100 * 10**8
    assert instrument.kind is InstrumentKind.PERPETUAL


@pytest.mark.parametrize(
    ("status", "state"),
    [("TRADING", InstrumentState.TRADING), ("CANCEL_ONLY", InstrumentState.CANCEL_ONLY),
     ("BREAK", InstrumentState.HALTED), ("SETTLING", InstrumentState.CLOSED), ("NEWEST", InstrumentState.UNKNOWN)],
)  # fmt: skip
def test_status_becomes_a_state_and_an_unknown_one_stays_unknown(status: str, state: InstrumentState) -> None:
    row = {**SPOT_ROW, "status": status}
    assert instrument_from_symbol(InstrumentSpec(0, Market.SPOT, "BTCUSDT"), row).state is state


def test_definition_without_a_needed_filter_is_refused_by_name() -> None:
    with pytest.raises(UnknownSymbol, match="BTCUSDT"):
        instrument_from_symbol(InstrumentSpec(0, Market.SPOT, "BTCUSDT"), {**SPOT_ROW, "filters": []})


@given(st.integers(min_value=0, max_value=10**15))
def test_texts_of_prices_and_quantities_are_read_exactly(units: int) -> None:
    for symbol in (SPOT, USDM):
        instrument = symbol.instrument
        assert symbol.px(format(instrument.tick_size * units, "f")) == units
        assert symbol.lots(format(instrument.lot_size * units, "f")) == units


@given(st.integers(min_value=-(10**12), max_value=10**12), st.integers(min_value=0, max_value=9))
def test_text_is_scaled_exactly(units: int, decimals: int) -> None:
    text = format(Decimal(units).scaleb(-decimals), "f")
    assert scaled(text, decimals) == (units, True)
    assert scaled(text, max(0, decimals - 1))[1] is (decimals == 0 or units % 10 == 0)


def test_quantity_off_the_lot_is_never_rounded_and_price_off_the_tick_is() -> None:
    with pytest.raises(ValueError, match=r"0\.000015"):
        SPOT.lots("0.000015")
    assert USDM.px("25000.06") == 250_001
    assert SPOT.lots("0.01000000") == 1_000
    assert USDM.lots("-0.010") == -10


def test_self_trade_prevention_falls_back_to_what_the_symbol_allows() -> None:
    row = {**SPOT_ROW, "allowedSelfTradePreventionModes": ["NONE"], "defaultSelfTradePreventionMode": "NONE"}
    assert Symbol(SPOT.instrument, row).stp == "NONE"
    assert SPOT.stp == "EXPIRE_MAKER"
