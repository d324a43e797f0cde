"""The border between decimal text and integers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.instrument import (
    Instrument,
    atoms_from_text,
    decimals_and_mantissa,
    exact_units,
    plain,
    text_from_atoms,
)
from engine.types import InstrumentKind, Market, Venue


@pytest.mark.parametrize(
    ("size", "expected"),
    [("0.01", (2, 1)), ("0.05", (2, 5)), ("1", (0, 1)), ("0.00001000", (5, 1)), ("10", (0, 10)), ("2.5", (1, 25))],
)
def test_scale_of_a_size(size: str, expected: tuple[int, int]) -> None:
    assert decimals_and_mantissa(Decimal(size)) == expected


@given(st.integers(0, 10**12), st.sampled_from(["0.01", "0.5", "0.00000001", "1", "0.1"]))
def test_units_come_back_from_text(units: int, size: str) -> None:
    assert exact_units(plain(Decimal(size) * units), Decimal(size)) == units


def test_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0.015 is not a multiple of 0.01"):
        exact_units("0.015", Decimal("0.01"))


def test_money_rounds_down_and_costs_up() -> None:
    assert atoms_from_text("0.123456789") == 12_345_678
    assert atoms_from_text("0.123456789", round_up=True) == 12_345_679
    assert text_from_atoms(-150_000_000) == "-1.5"


def test_value_of_one_tick_and_lot() -> None:
    made = Instrument(
        index=0, venue=Venue.BYBIT, market=Market.LINEAR, kind=InstrumentKind.PERPETUAL, symbol="XUSDT", base="X",
        quote="USDT", settle="USDT", tick_size=Decimal("0.00000001"), lot_size=Decimal("0.5"),
    )  # fmt: skip
    assert made.value_ratio == (1, 2)
    assert made.notional_atoms(3, 1) == 1
    assert made.name == "BYBIT:X-USDT:PERPETUAL"
