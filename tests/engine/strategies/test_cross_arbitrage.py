"""Cross-venue arbitrage: trades an edge that is left after fees, in the right direction, once at a time."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from engine.events import BookUpdate
from engine.health import VenueHealth
from engine.instrument import Instrument
from engine.router import OrderRouter
from engine.strategies.cross_arbitrage import CrossArbitrage
from engine.types import InstrumentKind, Market, Side, Venue
from ext import Book

MS = 1_000_000
FEE_PPM = 200


def perpetual(index: int, venue: Venue, base: str = "BTC") -> Instrument:
    return Instrument(
        index=index, venue=venue, market=Market.LINEAR, kind=InstrumentKind.PERPETUAL, symbol=f"{base}USDT", base=base,
        quote="USDT", settle="USDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"),
    )  # fmt: skip


class World:
    """Three instruments of BTC on two venues, one of ETH; a context that writes down what it is asked."""

    def __init__(self) -> None:
        rows = (
            perpetual(0, Venue.BINANCE), perpetual(1, Venue.BYBIT), perpetual(2, Venue.BINANCE),
            perpetual(3, Venue.BYBIT, "ETH"),
        )  # fmt: skip
        self.instruments: Mapping[int, Instrument] = {row.index: row for row in rows}
        self.router = OrderRouter({venue: VenueHealth(venue) for venue in (Venue.BINANCE, Venue.BYBIT)})
        self.books: dict[int, Book] = self.router.books
        for row in rows:
            self.router.define(row, FEE_PPM)
        self.now_ns = 1_000 * MS
        self.asked: list[tuple[int, int, int, int, bool]] = []
        self.answer = 1
        self.closed: list[int] = []
        self.held: dict[int, int] = {}
        self.portfolio = SimpleNamespace(position_atoms=lambda index: self.held.get(index, 0))

    def execute(self, buy: int, sell: int, qty: int, bound: int, *, is_sequential: bool = False) -> int:
        self.asked.append((buy, sell, qty, bound, is_sequential))
        return self.answer

    def is_open(self, instrument: int) -> bool:
        return instrument not in self.closed

    def show(self, strategy: CrossArbitrage, index: int, bid: int, ask: int) -> None:
        book = self.books.setdefault(index, Book())
        book.apply([(bid, 100)], [(ask, 100)], True)
        strategy.on_book(BookUpdate(index, book))


@pytest.fixture
def world() -> World:
    return World()


def strategy_of(world: World, **params: Any) -> CrossArbitrage:
    made = CrossArbitrage(world, {"underlying": "BTC", "qty": "0.01", "min_edge_ppm": 100} | params)  # type: ignore[arg-type]
    made.wants()
    return made


def edged(world: World, strategy: CrossArbitrage, index: int = 1, bid: int = 641_000) -> None:
    """`index` bids 1000 ticks above the other venue's ask: 1560 ppm, 1160 after both fees."""
    world.show(strategy, 0, 639_990, 640_000)
    world.show(strategy, index, bid, bid + 10)


def test_wants_its_underlying_and_pairs_across_venues_only(world: World) -> None:
    strategy = strategy_of(world)
    assert strategy.wants() == [0, 1, 2]
    assert strategy.pairs == {0: [1], 1: [0, 2], 2: [1]}


def test_buys_where_it_is_cheap_and_sells_where_it_is_dear(world: World) -> None:
    strategy = strategy_of(world, bound_ppm=300, is_sequential=True)
    edged(world, strategy)
    assert world.asked == [(0, 1, 1_000_000, 300, True)]
    assert strategy.edge_ppm_last == (641_000 * 999_800 - 640_000 * 1_000_200) * 1_000_000 // (640_000 * 1_000_200)


def test_direction_does_not_depend_on_the_book_that_changed(world: World) -> None:
    strategy = strategy_of(world)
    world.show(strategy, 1, 641_000, 641_010)
    world.show(strategy, 0, 639_990, 640_000)
    assert [row[:2] for row in world.asked] == [(0, 1)]
    other = World()
    strategy = strategy_of(other)
    other.show(strategy, 0, 641_000, 641_010)
    other.show(strategy, 1, 639_990, 640_000)
    assert [row[:2] for row in other.asked] == [(1, 0)]


def test_edge_that_the_fees_eat_is_left(world: World) -> None:
    strategy = strategy_of(world, min_edge_ppm=1)
    edged(world, strategy, bid=640_255)  # 398 ppm gross, the fees are 400
    assert world.asked == []
    edged(world, strategy, bid=640_260)
    assert len(world.asked) == 1


def test_edge_below_the_minimum_is_left(world: World) -> None:
    strategy = strategy_of(world, min_edge_ppm=1_162)
    edged(world, strategy)
    assert world.asked == []
    edged(world, strategy_of(world, min_edge_ppm=1_161))
    assert len(world.asked) == 1


def test_two_products_of_one_venue_are_not_traded_against_each_other(world: World) -> None:
    edged(world, strategy_of(world), index=2)
    assert world.asked == []


def test_best_of_several_pairs_is_taken(world: World) -> None:
    strategy = strategy_of(world)
    world.show(strategy, 2, 639_890, 639_900)
    edged(world, strategy)
    assert [row[:2] for row in world.asked] == [(2, 1)]


def test_invalid_or_empty_book_is_not_traded_on(world: World) -> None:
    strategy = strategy_of(world)
    world.show(strategy, 0, 639_990, 640_000)
    world.books[0].invalidate()
    world.show(strategy, 1, 641_000, 641_010)
    assert world.asked == []
    world.books[1].invalidate()
    strategy.on_book(BookUpdate(1, world.books[1]))
    assert world.asked == []


def test_one_plan_at_a_time_and_a_pause_after_it(world: World) -> None:
    strategy = strategy_of(world, cooldown_ms=100)
    edged(world, strategy)
    world.now_ns += 500 * MS
    edged(world, strategy)
    assert len(world.asked) == 1, "a plan is under way"
    strategy.on_plan(SimpleNamespace())  # type: ignore[arg-type]
    world.now_ns += 99 * MS
    edged(world, strategy)
    assert len(world.asked) == 1, "it has just ended"
    world.now_ns += 1 * MS
    edged(world, strategy)
    assert len(world.asked) == 2


def test_refused_plan_is_tried_again_after_the_pause(world: World) -> None:
    strategy, world.answer = strategy_of(world), 0
    edged(world, strategy)
    edged(world, strategy)
    assert (len(world.asked), strategy.active, strategy.plan_count) == (1, 0, 0)
    world.now_ns += 100 * MS
    edged(world, strategy)
    assert len(world.asked) == 2


@pytest.mark.parametrize("closed", [0, 1])
def test_nothing_is_asked_of_a_closed_venue(world: World, closed: int) -> None:
    world.closed = [closed]
    edged(world, strategy_of(world))
    assert world.asked == []


def test_inventory_asks_for_more_edge_to_add_and_less_to_come_back(world: World) -> None:
    """Long and short a full 0.1 coin: the whole skew is asked for on top, or given back."""
    world.held = {0: 10_000_000, 1: -10_000_000}
    params = {"skew_ppm": 500, "max_inventory": "0.1"}
    adding = strategy_of(world, min_edge_ppm=662, **params)
    edged(world, adding)
    assert world.asked == []
    edged(world, strategy_of(world, min_edge_ppm=661, **params))
    assert len(world.asked) == 1
    world.held = {0: -10_000_000, 1: 10_000_000}
    edged(world, strategy_of(world, min_edge_ppm=1_661, **params))
    assert len(world.asked) == 2


def test_sides_of_touch_are_named_as_the_router_names_them(world: World) -> None:
    strategy = strategy_of(world)
    world.show(strategy, 0, 639_990, 640_000)
    assert world.router.touch(0, Side.SELL) < world.router.touch(0, Side.BUY)
