"""The flat book against a plain dictionary."""

from __future__ import annotations

import random
import struct

import pytest

from engine.types import NO_PX
from ext.book import Book

Levels = list[tuple[int, int]]


class DictBook:
    """The oracle: two dictionaries, sorted at every question."""

    def __init__(self) -> None:
        self.sides: dict[int, dict[int, int]] = {1: {}, -1: {}}

    def apply(self, bids: Levels, asks: Levels, is_snapshot: bool, max_depth: int = 0) -> None:
        for side, levels in ((1, bids), (-1, asks)):
            book = self.sides[side]
            if is_snapshot:
                book.clear()
            for px, qty in levels:
                if qty:
                    book[px] = qty
                else:
                    book.pop(px, None)
            if max_depth:
                self.sides[side] = dict(self.levels(side)[:max_depth])

    def levels(self, side: int) -> Levels:
        return sorted(self.sides[side].items(), key=lambda level: -side * level[0])

    def walk(self, side: int, qty: int) -> tuple[int, int, int]:
        filled, worst, value = 0, NO_PX, 0
        for px, lots in self.levels(side):
            take = min(lots, qty - filled)
            if take <= 0:
                break
            filled, worst, value = filled + take, px, value + px * take
        return filled, worst, value

    def depth_within(self, side: int, px_ticks: int) -> int:
        return sum(qty for px, qty in self.sides[side].items() if side * (px - px_ticks) >= 0)


def assert_equal(book: Book, oracle: DictBook) -> None:
    book._check()
    bids, asks = oracle.levels(1), oracle.levels(-1)
    assert book.levels(1) == bids
    assert book.levels(-1) == asks
    assert (book.best_bid_px, book.best_bid_qty) == (bids[0] if bids else (NO_PX, 0))
    assert (book.best_ask_px, book.best_ask_qty) == (asks[0] if asks else (NO_PX, 0))
    assert (book.level_count(1), book.level_count(-1)) == (len(bids), len(asks))


def random_levels(rng: random.Random, centre: int, side: int, spread: int, count: int) -> Levels:
    return [
        (centre - side * int(rng.paretovariate(0.7) * spread) % 2**40, rng.choice((0, 0, rng.randint(1, 10**12))))
        for _ in range(count)
    ]


def test_empty_book_has_no_price_and_is_not_valid() -> None:
    book = Book()
    assert (book.best_bid_px, book.best_bid_qty, book.best_ask_px, book.best_ask_qty) == (NO_PX, 0, NO_PX, 0)
    assert not book.is_valid
    assert book.walk(1, 5) == (0, NO_PX, 0)
    assert book.levels(1) == []
    book._check()


def test_snapshot_makes_the_book_valid_and_replaces_what_was_there() -> None:
    book = Book()
    book.apply([(100, 5)], [(101, 6)], True)
    book.apply([(200, 1)], [(201, 2)], True)
    assert book.is_valid
    assert book.levels(1) == [(200, 1)]
    assert book.levels(-1) == [(201, 2)]


def test_invalidated_book_keeps_its_levels_and_cleared_book_does_not() -> None:
    book = Book()
    book.apply([(100, 5)], [(101, 6)], True)
    book.invalidate()
    assert not book.is_valid
    assert book.best_bid_px == 100
    book.clear()
    assert book.best_bid_px == NO_PX
    book._check()


def test_deleting_an_absent_level_changes_nothing() -> None:
    book = Book()
    book.apply([(100, 5)], [(101, 6)], True)
    book.apply([(99, 0), (10**9, 0)], [(102, 0), (-(10**9), 0)], False)
    assert book.levels(1) == [(100, 5)]
    assert book.levels(-1) == [(101, 6)]
    book._check()


def test_negative_quantity_and_absurd_price_are_refused_and_counted() -> None:
    book = Book()
    book.apply([(100, 5), (99, -1)], [(101, 6), (2**62 + 1, 1)], True)
    assert book.bad_level_count == 2
    assert book.levels(1) == [(100, 5)]
    assert book.levels(-1) == [(101, 6)]
    book._check()


def test_walk_sums_beyond_64_bits() -> None:
    book = Book(6)
    book.apply([], [(2**50, 2**50), (2**50 + 1, 2**50)], True)
    assert book.walk(-1, 2**51) == (2**51, 2**50 + 1, 2**100 + 2**100 + 2**50)
    book.apply([(-(2**50), 2**50)], [], True)
    assert book.walk(1, 2**51) == (2**50, -(2**50), -(2**100))


def test_depth_within_counts_levels_at_the_price_or_better() -> None:
    book = Book()
    book.apply([(100, 1), (99, 2), (1, 4)], [(101, 8), (103, 16)], True)
    assert [book.depth_within(1, px) for px in (101, 100, 99, 2, 1)] == [0, 1, 3, 3, 7]
    assert [book.depth_within(-1, px) for px in (100, 101, 102, 103)] == [0, 8, 8, 24]


def test_trim_keeps_the_best_levels_in_and_out_of_the_window() -> None:
    book = Book(6)
    book.apply([(100 - i * 10, 1) for i in range(20)], [(101 + i * 10, 1) for i in range(20)], True, max_depth=7)
    book._check()
    assert book.levels(1) == [(100 - i * 10, 1) for i in range(7)]
    assert book.levels(-1) == [(101 + i * 10, 1) for i in range(7)]


def test_window_follows_the_mid_and_keeps_every_level() -> None:
    book, oracle = Book(8), DictBook()
    for step in range(400):
        mid = 10_000 + step * 7
        bids: Levels = [(mid - 1 - i, 1 + i) for i in range(3)]
        asks: Levels = [(px, 0) for px, _ in oracle.levels(-1) if px < mid] + [(mid + i, 2 + i) for i in range(3)]
        for target in (book, oracle):
            target.apply(bids, asks, False)
        assert_equal(book, oracle)
    assert book.recentred_count > 10
    assert book.far_count(1) > 256


def test_jump_of_many_windows_keeps_both_sides() -> None:
    book = Book(8)
    book.apply([(1000, 1), (999, 2)], [(1001, 3)], True)
    book.apply([(10**9, 4)], [(1001, 0), (10**9 + 1, 5)], False)
    book._check()
    assert book.levels(1) == [(10**9, 4), (1000, 1), (999, 2)]
    assert book.levels(-1) == [(10**9 + 1, 5)]
    assert book.far_count(1) == 2


def test_spread_wider_than_the_window_is_served_from_the_overflow() -> None:
    book = Book(6)
    book.apply([(1, 7)], [(10**9, 8)], True)
    book._check()
    assert (book.best_bid_px, book.best_bid_qty, book.best_ask_px, book.best_ask_qty) == (1, 7, 10**9, 8)


def test_overflow_grows_by_doubling_and_counts_it() -> None:
    book = Book(6)
    asks = [(1000 + i * 1000, 1) for i in range(3000)]
    book.apply([(999, 1)], asks, True)
    book._check()
    assert book.levels(-1) == asks
    assert book.far_grow_count == 2


def pack(messages: list[tuple[Levels, Levels, bool]]) -> tuple[bytes, bytes]:
    levels = b"".join(struct.pack("<qq", *level) for bids, asks, _ in messages for level in (*bids, *asks))
    return levels, b"".join(struct.pack("<iii", len(bids), len(asks), snap) for bids, asks, snap in messages)


def test_packed_messages_are_the_same_messages() -> None:
    messages: list[tuple[Levels, Levels, bool]] = [
        ([(100, 5), (99, 4)], [(101, 6)], True),
        ([], [(101, 0), (103, 1)], False),
        ([(100, 0)], [], False),
    ]
    book = Book(8)
    assert book.apply_packed(*pack(messages)) == 6
    assert book.levels(1) == [(99, 4)]
    assert book.levels(-1) == [(103, 1)]
    assert book.is_valid
    book._check()


def test_packed_messages_with_too_few_levels_are_refused() -> None:
    levels, shape = pack([([(100, 5)], [(101, 6)], True)])
    for wrong in (levels[:-1], levels[:16], b""):
        with pytest.raises(ValueError, match="message 0 has more levels"):
            Book(8).apply_packed(wrong, shape)
    with pytest.raises(ValueError, match="message 0 has more levels"):
        Book(8).apply_packed(levels, struct.pack("<iii", -1, 1, 0))


def test_window_bits_out_of_range_are_refused() -> None:
    for bits in (5, 25):
        with pytest.raises(ValueError, match=r"window_bits must be 6\.\.24"):
            Book(bits)


@pytest.mark.parametrize("window_bits", [6, 8, 13])
@pytest.mark.parametrize("seed", range(4))
def test_random_messages_leave_the_same_book_as_a_dictionary(window_bits: int, seed: int) -> None:
    rng = random.Random(seed * 100 + window_bits)
    book, oracle = Book(window_bits), DictBook()
    mid = 50_000
    for step in range(120):
        mid += rng.randint(-20, 20) if rng.random() < 0.95 else rng.randint(-40_000, 40_000)
        bids = random_levels(rng, mid, 1, 3, rng.randint(0, 12))
        asks = random_levels(rng, mid, -1, 3, rng.randint(0, 12))
        is_snapshot = step == 0 or rng.random() < 0.03
        max_depth = rng.choice((0, 0, 0, 5, 20))
        for target in (book, oracle):
            target.apply(bids, asks, is_snapshot, max_depth)
        assert_equal(book, oracle)
        for side in (1, -1):
            lots, px = rng.randint(0, 10**13), mid + rng.randint(-50, 50)
            assert book.walk(side, lots) == oracle.walk(side, lots)
            assert book.depth_within(side, px) == min(oracle.depth_within(side, px), 2**62)
