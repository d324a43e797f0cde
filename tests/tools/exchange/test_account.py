"""Positions at average cost, margin of position and open orders, against figures worked out by hand or in fractions."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import pytest

from engine.instrument import Instrument
from engine.types import InstrumentKind, Market, Side, Venue
from tools.exchange.account import Account, Position
from tools.exchange.model import ATOMS, Listing

BUY, SELL = Side.BUY, Side.SELL


def make_listing() -> Listing:
    instrument = Instrument(
        index=0,
        venue=Venue.BINANCE,
        market=Market.LINEAR,
        kind=InstrumentKind.PERPETUAL,
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        settle="USDT",
        tick_size=Decimal("0.1"),
        lot_size=Decimal("0.001"),
    )
    return Listing(instrument)


def fill(position: Position, side: Side, px: int, qty: int) -> int:
    return position.apply_fill(side, qty, position.listing.value(px, qty))


def test_closing_half_realises_half() -> None:
    position = Position(make_listing())
    fill(position, BUY, 100_000, 20)  # 0.02 at 10000
    assert fill(position, SELL, 110_000, 10) == 10 * ATOMS  # 0.01 times 1000
    assert (position.qty_lots, position.cost_atoms) == (10, 100 * ATOMS)


def test_flip_closes_the_old_side_and_opens_the_new_at_the_new_price() -> None:
    position = Position(make_listing())
    fill(position, SELL, 100_000, 10)
    assert fill(position, BUY, 90_000, 30) == 10 * ATOMS
    assert (position.qty_lots, position.cost_atoms) == (20, 180 * ATOMS)


@pytest.mark.parametrize("seed", range(10))
def test_realised_result_equals_exact_average_cost_within_rounding(seed: int) -> None:
    draw = random.Random(seed)
    position = Position(make_listing())
    qty, average, realised = 0, Fraction(0), Fraction(0)
    for _ in range(300):
        side, px, lots = draw.choice((BUY, SELL)), draw.randint(90_000, 110_000), draw.randint(1, 50)
        fill(position, side, px, lots)
        closing = min(lots, abs(qty)) if qty * side < 0 else 0
        realised += closing * (px - average) * (1 if qty > 0 else -1)
        opening = lots - closing
        if opening:
            held = abs(qty) - closing
            average = (average * held + px * opening) / (held + opening)
        qty += side * lots
        if qty == 0:
            average = Fraction(0)
    atoms_per_unit = Fraction(position.listing.value_num, position.listing.value_den)
    assert position.qty_lots == qty
    # One atom of rounding for each close at most.
    assert abs(position.realized_atoms - realised * atoms_per_unit) <= 300


def test_flat_position_costs_nothing_whatever_the_way_there() -> None:
    position = Position(make_listing())
    for px, lots in ((100_001, 7), (100_003, 11), (99_997, 13)):
        fill(position, BUY, px, lots)
    for lots in (5, 9, 17):
        fill(position, SELL, 100_000, lots)
    assert (position.qty_lots, position.cost_atoms) == (0, 0)


def test_margin_of_orders_counts_the_worse_side_only() -> None:
    account, listing = Account(1, "a"), make_listing()
    listing.mark_px_ticks = 100_000
    account.balance(Market.LINEAR, "USDT").free = 1000 * ATOMS
    position = account.position(listing)
    position.leverage = 10
    fill(position, BUY, 100_000, 100)  # 1000 USDT
    assert account.initial_margin(listing) == 100 * ATOMS
    assert account.initial_margin(listing, extra_ask=2000 * ATOMS) == 100 * ATOMS  # would turn 1000 long to 1000 short
    assert account.initial_margin(listing, extra_ask=2500 * ATOMS) == 150 * ATOMS
    assert account.initial_margin(listing, extra_bid=500 * ATOMS) == 150 * ATOMS
    listing.mark_px_ticks = 99_000
    assert account.available("USDT") == 1000 * ATOMS - 10 * ATOMS - 99 * ATOMS
