"""Positions against a plain model with fractions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from engine.instrument import Instrument
from engine.portfolio import PortfolioManager, Position, base_value_atoms
from engine.types import InstrumentKind, Market, Side, Venue

FILLS = st.lists(st.tuples(st.sampled_from([1, -1]), st.integers(1, 1_000_000), st.integers(1, 10_000)), max_size=40)


def instrument(index: int, kind: InstrumentKind, venue: Venue = Venue.BINANCE) -> Instrument:
    return Instrument(
        index=index, venue=venue, market=Market.SPOT if kind is InstrumentKind.SPOT else Market.LINEAR, kind=kind,
        symbol="BTCUSDT", base="BTC", quote="USDT", settle="USDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"),
    )  # fmt: skip


@given(FILLS)
def test_total_result_is_cash_plus_value_whatever_the_order(fills: list[tuple[int, int, int]]) -> None:
    position, cash, held = Position(0), 0, 0
    for side, px, qty in fills:
        position.apply_fill(side, px, qty)
        cash -= side * px * qty
        held += side * qty
        assert position.qty_lots == held
        # Realised plus open at any mark equals cash plus value at that mark: money is neither made nor lost.
        mark = px
        assert position.realised + held * mark - position.cost == cash + held * mark


@given(FILLS)
def test_average_cost_follows_the_textbook(fills: list[tuple[int, int, int]]) -> None:
    position, held, average = Position(0), 0, Fraction(0)
    for side, px, qty in fills:
        position.apply_fill(side, px, qty)
        signed = side * qty
        if held * signed >= 0:
            average = (average * abs(held) + px * qty) / (abs(held) + qty)
        elif abs(signed) > abs(held):
            average = Fraction(px)
        held += signed
        if held:
            # Each partial close rounds the cost it takes by less than one tick x lot.
            assert abs(Fraction(position.cost, held) - average) * abs(held) <= len(fills) * abs(held)


def test_net_position_is_over_all_venues_and_kinds() -> None:
    portfolio = PortfolioManager()
    for made in (
        instrument(0, InstrumentKind.SPOT),
        instrument(1, InstrumentKind.PERPETUAL),
        instrument(2, InstrumentKind.PERPETUAL, Venue.BYBIT),
    ):
        portfolio.instruments[made.index] = made
    portfolio.apply_fill(0, Side.BUY, 640_000, 2_000, 0, "USDT")
    portfolio.apply_fill(2, Side.BUY, 640_000, 1_000, 0, "USDT")
    assert portfolio.net_atoms("BTC") == 3 * 10**8
    portfolio.apply_fill(1, Side.SELL, 640_000, 500, 0, "USDT")
    assert portfolio.net_atoms("BTC") == 25 * 10**7
    assert portfolio.position_atoms(1) == -5 * 10**7


def test_fee_in_base_counts_at_the_price_of_the_fill_and_leaves_the_holding() -> None:
    portfolio = PortfolioManager()
    portfolio.instruments[0] = instrument(0, InstrumentKind.SPOT)
    portfolio.apply_balance(Venue.BINANCE, "BTC", 10**8, 10**8)
    portfolio.agree_holding(Venue.BINANCE, "BTC", 10**8)
    portfolio.apply_fill(0, Side.BUY, 640_000, 1_000, 20_000, "BTC")
    assert portfolio.holdings[Venue.BINANCE, "BTC"].expected_atoms == 2 * 10**8 - 20_000
    assert portfolio.fees_atoms() == 20_000 * 64_000
    assert portfolio.positions[0].fees == {"BTC": 20_000}


def test_corrected_position_makes_no_result() -> None:
    portfolio = PortfolioManager()
    portfolio.instruments[1] = instrument(1, InstrumentKind.PERPETUAL)
    portfolio.apply_fill(1, Side.BUY, 100, 10, 0, "USDT")
    portfolio.correct_position(1, 6)
    assert portfolio.positions[1].cost == 600
    assert portfolio.realised_atoms() == 0
    portfolio.correct_position(1, 0)
    assert portfolio.positions[1].cost == 0


def test_lot_and_value_in_atoms() -> None:
    made = instrument(0, InstrumentKind.SPOT)
    assert made.base_atoms_per_lot == 100_000
    assert base_value_atoms(made, 640_001, 3) == 192_001, "rounded up: it values costs"
