"""Routing: prices net of fees for the whole size, compared across venues whose ticks and lots differ."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.health import VenueHealth
from engine.instrument import Instrument
from engine.portfolio import PortfolioManager
from engine.router import DEGRADED_PPM, OrderRouter
from engine.types import NO_PX, InstrumentKind, Market, Side, Venue
from ext import Book

NOW = 1_000_000_000_000
COIN = 10**8


def instrument(index: int, venue: Venue, tick: str, lot: str) -> Instrument:
    return Instrument(
        index=index, venue=venue, market=Market.LINEAR, kind=InstrumentKind.PERPETUAL, symbol="BTCUSDT", base="BTC",
        quote="USDT", settle="USDT", tick_size=Decimal(tick), lot_size=Decimal(lot), min_qty_lots=2,
    )  # fmt: skip


def router_of() -> OrderRouter:
    """Index 0: ticks of 0.1, lots of 0.001, fee 200 ppm; index 1: ticks of 0.5, lots of 0.01, fee 400 ppm."""
    health = {venue: VenueHealth(venue) for venue in (Venue.BINANCE, Venue.BYBIT)}
    for each in health.values():
        each.is_gate_open = True
    made = OrderRouter(health)
    made.define(instrument(0, Venue.BINANCE, "0.1", "0.001"), 200)
    made.define(instrument(1, Venue.BYBIT, "0.5", "0.01"), 400)
    return made


@pytest.fixture
def router() -> OrderRouter:
    made = router_of()
    show(made, 0, [(639_990, 500)], [(640_000, 100), (640_010, 400)])
    show(made, 1, [(127_998, 50)], [(128_000, 50)])
    return made


def show(router: OrderRouter, index: int, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
    router.books[index] = book = Book()
    book.apply(bids, asks, True)


def test_touch_is_net_of_the_taker_s_fee_in_quote_atoms(router: OrderRouter) -> None:
    assert router.touch(0, Side.BUY) == 64_000 * COIN * 1_000_200 // 1_000_000
    assert router.touch(0, Side.SELL) == 63_999 * COIN * 999_800 // 1_000_000
    assert router.touch(1, Side.BUY) == 64_000 * COIN * 1_000_400 // 1_000_000


def test_touch_of_no_book_an_invalid_book_and_an_empty_side_is_no_price(router: OrderRouter) -> None:
    assert router.touch(7, Side.BUY) == NO_PX
    router.books[0].invalidate()
    assert router.touch(0, Side.BUY) == NO_PX
    show(router, 1, [(127_998, 50)], [])
    assert router.touch(1, Side.BUY) == NO_PX and router.touch(1, Side.SELL) != NO_PX


def test_cheaper_fee_wins_at_the_same_price(router: OrderRouter) -> None:
    assert [c.instrument for c in router.score([1, 0], Side.BUY, COIN // 10, NOW)] == [0, 1]


def test_depth_decides_for_a_larger_size(router: OrderRouter) -> None:
    """0.5 coins walk into the second level of the first book, and 400 ppm against 200 is more than one tick."""
    show(router, 0, [(639_990, 500)], [(640_000, 100), (641_000, 400)])
    best, other = router.score([0, 1], Side.BUY, COIN // 2, NOW)
    assert best.instrument == 1
    assert other.net_px == (100 * 640_000 + 400 * 641_000) * 10**7 * 1_000_200 // (500 * 1_000_000)


def test_seller_gets_the_highest_price(router: OrderRouter) -> None:
    show(router, 1, [(128_200, 50)], [(128_300, 50)])
    assert [c.instrument for c in router.score([0, 1], Side.SELL, COIN // 10, NOW)] == [1, 0]


def test_what_may_not_be_used_is_last_with_its_reason(router: OrderRouter) -> None:
    router.books[0].invalidate()
    rows = router.score([0, 7, 1], Side.BUY, COIN // 10, NOW)
    assert [(c.instrument, c.refusal) for c in rows] == [(1, ""), (0, "book invalid"), (7, "no book")]


@pytest.mark.parametrize(
    ("atoms", "refusal"),
    [(COIN // 1000, "below minimum quantity"), (COIN * 2, "depth"), (0, "below minimum quantity")],
)
def test_size_that_does_not_fit_is_refused(router: OrderRouter, atoms: int, refusal: str) -> None:
    (candidate,) = router.score([0], Side.BUY, atoms, NOW)
    assert candidate.refusal == refusal


def test_venue_that_is_down_is_not_used(router: OrderRouter) -> None:
    router.health[Venue.BINANCE].is_gate_open = False
    best, other = router.score([0, 1], Side.BUY, COIN // 10, NOW)
    assert best.instrument == 1 and other.refusal == "venue down"


def test_degraded_venue_must_be_better_by_its_surcharge(router: OrderRouter) -> None:
    router.health[Venue.BINANCE].on_outcome_unknown(NOW)
    best, other = router.score([0, 1], Side.BUY, COIN // 10, NOW)
    assert (best.instrument, other.refusal) == (1, "")
    assert other.net_px == 64_000 * COIN * (1_000_200 + DEGRADED_PPM) // 1_000_000


def test_bound_worsens_the_touch_on_the_right_side(router: OrderRouter) -> None:
    assert router.bound_ticks(0, Side.BUY, 1_000) == 640_640
    assert router.bound_ticks(0, Side.SELL, 1_000) == 639_990 - 639
    show(router, 0, [], [(640_000, 1)])
    assert router.bound_ticks(0, Side.SELL, 1_000) == NO_PX


@given(
    side=st.sampled_from([Side.BUY, Side.SELL]),
    levels=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 40)), min_size=1, max_size=6),
    lots=st.integers(2, 120),
)
def test_net_price_is_the_exact_average_with_the_fee(side: Side, levels: list[tuple[int, int]], lots: int) -> None:
    """Against plain fractions: take level by level, add or take off the fee, round down."""
    router, px, rows = router_of(), 640_000, []
    for step, qty in levels:
        px += side * step
        rows.append((px, qty))
    quiet = [(px + side * 1_000 - side * 100_000, 1)]
    show(router, 0, rows if side is Side.SELL else quiet, rows if side is Side.BUY else quiet)
    (candidate,) = router.score([0], side, lots * 100_000, NOW)
    left, value = lots, Fraction(0)
    for level_px, qty in rows:
        take = min(left, qty)
        value += Fraction(level_px, 10) * take
        left -= take
    if left:
        assert candidate.refusal == "depth"
    else:
        exact = value / lots * COIN * (1 + side * Fraction(200, 1_000_000))
        assert candidate.net_px == exact.numerator // exact.denominator


def test_fuller_position_costs_and_a_full_one_is_out(router: OrderRouter) -> None:
    portfolio = PortfolioManager()
    router.portfolio = portfolio
    for index, lot, fee in ((0, "0.001", 200), (1, "0.01", 200)):
        made = instrument(index, Venue.BINANCE if index == 0 else Venue.BYBIT, "0.1" if index == 0 else "0.5", lot)
        router.taker_ppm[index] = fee
        router.define(made, fee, max_position_lots=1_000 if index == 0 else 100)
        portfolio.instruments[index] = made
    show(router, 0, [(639_990, 500)], [(640_000, 500)])
    flat = router.score([0, 1], Side.BUY, COIN // 10, NOW)
    assert [c.refusal for c in flat] == ["", ""] and flat[0].net_px == flat[1].net_px
    portfolio.correct_position(0, 500)
    assert [c.instrument for c in router.score([0, 1], Side.BUY, COIN // 10, NOW)] == [1, 0]
    assert router.score([0], Side.SELL, COIN // 10, NOW)[0].net_px == 63_999 * COIN * 999_800 // 1_000_000
    portfolio.correct_position(0, 950)
    assert router.score([0], Side.BUY, COIN // 10, NOW)[0].refusal == "position limit"
    assert router.score([0], Side.SELL, COIN // 10, NOW)[0].refusal == ""
