"""The matching book against a plain list of orders, and the rules a list cannot show."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from engine.instrument import Instrument
from engine.types import InstrumentKind, Market, OrdType, Side, TimeInForce, Venue
from tools.exchange.matching import MatchingBook
from tools.exchange.model import Listing, Order, Stp

BUY, SELL = Side.BUY, Side.SELL


def make_book() -> MatchingBook:
    instrument = Instrument(
        index=0,
        venue=Venue.BINANCE,
        market=Market.SPOT,
        kind=InstrumentKind.SPOT,
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        settle="USDT",
        tick_size=Decimal("0.01"),
        lot_size=Decimal("0.001"),
    )
    return MatchingBook(Listing(instrument))


def make_order(book: MatchingBook, number: int, side: Side, px: int, qty: int, account: int = 1) -> Order:
    return Order(
        order_id=number,
        account_id=account,
        listing=book.listing,
        client_id=str(number),
        side=side,
        ord_type=OrdType.LIMIT,
        tif=TimeInForce.GTC,
        px_ticks=px,
        qty_lots=qty,
        post_only=False,
        reduce_only=False,
        quote_atoms=0,
        stp=Stp.NONE,
        expire_ns=0,
        created_ns=0,
        updated_ns=0,
        wire={},
    )


@dataclass
class Settler:
    """Fills in the quantities, remembers what happened."""

    trades: list[tuple[int, int, int, int]] = field(default_factory=list)
    prevented: list[tuple[int, bool, bool]] = field(default_factory=list)
    levels: list[tuple[Side, int, int]] = field(default_factory=list)
    voided: list[int] = field(default_factory=list)
    caps: dict[int, int] = field(default_factory=dict)  # maker: lots it may trade

    def wanted(self, taker: Order, px_ticks: int) -> int:
        return taker.leaves

    def maker_lots(self, maker: Order) -> int:
        return min(maker.leaves, self.caps.get(maker.order_id, maker.leaves))

    def on_void(self, maker: Order) -> None:
        self.voided.append(maker.order_id)

    def on_match(self, maker: Order, taker: Order, px_ticks: int, qty_lots: int) -> None:
        maker.cum_lots += qty_lots
        taker.cum_lots += qty_lots
        if maker.order_id in self.caps:
            self.caps[maker.order_id] -= qty_lots
        self.trades.append((maker.order_id, taker.order_id, px_ticks, qty_lots))

    def on_prevented(self, maker: Order, taker: Order, *, ends_maker: bool, ends_taker: bool) -> None:
        self.prevented.append((maker.order_id, ends_maker, ends_taker))

    def on_level(self, side: Side, px_ticks: int, qty_lots: int) -> None:
        self.levels.append((side, px_ticks, qty_lots))


def naive_match(resting: list[Order], taker: Order, px: int | None) -> list[tuple[int, int, int, int]]:
    """Sort everything, walk it: best price first, then oldest."""
    trades = []
    left = taker.leaves
    others = [order for order in resting if order.side is not taker.side and order.leaves]
    for maker in sorted(others, key=lambda order: (taker.side * order.px_ticks, order.order_id)):
        if left == 0 or (px is not None and taker.side * maker.px_ticks > taker.side * px):
            break
        qty = min(left, maker.leaves)
        trades.append((maker.order_id, taker.order_id, maker.px_ticks, qty))
        left -= qty
    return trades


@pytest.mark.parametrize("seed", range(20))
def test_walk_equals_a_sorted_list(seed: int) -> None:
    draw = random.Random(seed)
    book, resting, settler = make_book(), [], Settler()
    for number in range(1, 400):
        side, px, qty = draw.choice((BUY, SELL)), draw.randint(95, 105), draw.randint(1, 9)
        order = make_order(book, number, side, px, qty)
        limit = None if draw.random() < 0.1 else px
        expected = naive_match(resting, order, limit)
        settler.trades.clear()
        book.match(order, limit, settler)
        assert settler.trades == expected
        if limit is not None and order.leaves:
            book.add(order)
            resting.append(order)
        if resting and draw.random() < 0.3:
            gone = draw.choice(resting)
            if gone.leaves:
                book.remove(gone)
            resting.remove(gone)
        resting[:] = [each for each in resting if each.leaves]
        book._check()


def test_reducing_keeps_the_place_in_the_queue() -> None:
    book, settler = make_book(), Settler()
    first, second = make_order(book, 1, SELL, 100, 5), make_order(book, 2, SELL, 100, 5)
    book.add(first)
    book.add(second)
    assert book.reduce(first, 2) == 7
    book.match(make_order(book, 3, BUY, 100, 3), 100, settler)
    assert settler.trades == [(1, 3, 100, 2), (2, 3, 100, 1)]
    assert settler.levels == [(SELL, 100, 4)]


def test_fillable_stops_at_the_limit_and_skips_own_orders() -> None:
    book = make_book()
    book.add(make_order(book, 1, SELL, 100, 5, account=1))
    book.add(make_order(book, 2, SELL, 101, 5, account=2))
    book.add(make_order(book, 3, SELL, 102, 5, account=2))
    assert book.fillable(BUY, 101, 20) == 10
    assert book.fillable(BUY, 101, 20, skip_account=1) == 5
    assert book.fillable(BUY, None, 12) == 12
    assert book.cost(BUY, 7) == (7, 5 * 100 + 2 * 101)


def test_reduce_only_maker_trades_no_more_than_it_may_and_then_leaves() -> None:
    book, settler = make_book(), Settler(caps={1: 3})
    book.add(make_order(book, 1, SELL, 100, 5))
    book.add(make_order(book, 2, SELL, 100, 5))
    book.match(make_order(book, 3, BUY, 100, 6), 100, settler)
    assert settler.trades == [(1, 3, 100, 3), (2, 3, 100, 3)]
    assert settler.voided == [1]
    book._check()


@pytest.mark.parametrize(
    ("stp", "ended", "traded"),
    [
        (Stp.EXPIRE_MAKER, [(1, True, False)], [(2, 3, 100, 5)]),
        (Stp.EXPIRE_TAKER, [(1, False, True)], []),
        (Stp.EXPIRE_BOTH, [(1, True, True)], []),
        (Stp.NONE, [], [(1, 3, 100, 5)]),
    ],
)
def test_self_trade_prevention_follows_the_takers_mode(
    stp: Stp, ended: list[tuple[int, bool, bool]], traded: list[tuple[int, int, int, int]]
) -> None:
    book, settler = make_book(), Settler()
    book.add(make_order(book, 1, SELL, 100, 5, account=7))
    book.add(make_order(book, 2, SELL, 100, 5, account=8))
    taker = make_order(book, 3, BUY, 100, 5, account=7)
    taker.stp = stp
    book.match(taker, 100, settler)
    assert (settler.prevented, settler.trades) == (ended, traded)
