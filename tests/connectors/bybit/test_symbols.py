"""Instrument rows and decimal text."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.bybit.symbols import fee_ppm, instrument_from_row
from engine.types import InstrumentKind, InstrumentState, Market, Venue
from engine.venue import InstrumentSpec

FRAMES = "nautilus_trader/HEAD/crates/adapters/bybit/test_data"


def rows(captures: Path, name: str) -> list[dict[str, Any]]:
    return orjson.loads((captures / FRAMES / name).read_bytes())["result"]["list"]


def test_recorded_linear_row_becomes_an_instrument(captures: Path) -> None:
    row = rows(captures, "http_get_instruments_linear.json")[0]
    instrument = instrument_from_row(row, InstrumentSpec(4, Market.LINEAR, "BTCUSDT"))
    assert (instrument.index, instrument.venue, instrument.kind) == (4, Venue.BYBIT, InstrumentKind.PERPETUAL)
    assert (instrument.base, instrument.quote, instrument.settle) == ("BTC", "USDT", "USDT")
    assert (instrument.tick_size, instrument.lot_size) == (Decimal("0.5"), Decimal("0.001"))
    assert (instrument.min_qty_lots, instrument.max_qty_lots) == (1, 100_000)
    assert instrument.min_notional_atoms == 5 * 10**8
    assert instrument.state is InstrumentState.TRADING


def test_recorded_spot_row_uses_base_precision_and_min_amount(captures: Path) -> None:
    row = rows(captures, "http_get_instruments_spot.json")[0]
    instrument = instrument_from_row(row, InstrumentSpec(1, Market.SPOT, "BTCUSDT"))
    assert instrument.kind is InstrumentKind.SPOT
    assert (instrument.tick_size, instrument.lot_size) == (Decimal("0.1"), Decimal("0.0001"))
    assert instrument.min_qty_lots == 1  # minOrderQty of spot is deprecated
    assert instrument.min_notional_atoms == 10 * 10**8
    assert instrument.settle == "USDT"


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("PreLaunch", InstrumentState.HALTED),
        ("Delivering", InstrumentState.HALTED),
        ("Closed", InstrumentState.CLOSED),
        ("SomethingNew", InstrumentState.UNKNOWN),
    ],
)
def test_status_words_that_are_not_trading(captures: Path, word: str, state: InstrumentState) -> None:
    row = {**rows(captures, "http_get_instruments_linear.json")[0], "status": word}
    assert instrument_from_row(row, InstrumentSpec(0, Market.LINEAR, "BTCUSDT")).state is state


def test_fee_rate_in_parts_per_million_is_never_too_small() -> None:
    assert fee_ppm("0.00055") == 550
    assert fee_ppm("-0.00005") == -50
    assert fee_ppm("0.0000001") == 1
    assert fee_ppm("-0.0000001") == 0
