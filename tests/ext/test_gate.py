"""The pre-trade gate: each reason by a table, all of it against a plain Python model with seeded random orders."""

from __future__ import annotations

import random
from typing import Any

import pytest

from engine.types import NO_PX
from ext import gate as gate_module
from ext.book import Book
from ext.gate import REASONS, Gate

NOW = 10**12
DEFINITION = {
    "underlying": 0,
    "base_atoms_per_lot": 1000,
    "value_num": 10,
    "value_den": 1,
    "min_qty_lots": 2,
    "max_qty_lots": 1000,
    "min_notional_atoms": 50_000,
    "max_order_notional_atoms": 5_000_000,
    "collar_ppm": 50_000,
    "max_position_lots": 800,
    "max_open_orders": 5,
}
RATES = {
    "max_orders": 10,
    "window_ns": 1000,
    "duplicate_count": 3,
    "duplicate_window_ns": 500,
    "stale_ns": 10_000,
    "max_gross_notional_atoms": 10**9,
    "loss_limit_atoms": 100,
}


def open_book(bid: int = 999, ask: int = 1001, recv_ts_ns: int = NOW) -> Book:
    book = Book(8)
    book.apply([(bid, 50)], [(ask, 50)], True)
    book.stamp(0, recv_ts_ns, 1)
    return book


def ready_gate(*, instruments: int = 1, book: Book | None = None, **changes: int) -> Gate:
    """A gate whose limits let an order of 10 lots at 1000 ticks pass; `changes` go to definitions and rates."""
    gate = Gate(instruments, 1, 2)
    definition = {name: changes.get(name, value) for name, value in DEFINITION.items()}
    for index in range(instruments):
        gate.define(index, **definition)
        gate.set_venue(index, 1 + index % 2)
        gate.set_state(index, 1)
        gate.bind_book(index, book if book is not None else open_book())
    gate.set_rates(**{name: changes.get(name, value) for name, value in RATES.items()})
    gate.set_underlying_limit(0, 900_000, 900_000)
    for strategy in range(2):
        for venue in (1, 2):
            gate.set_allotment(strategy, venue, 10**8)
    return gate


def check(gate: Gate, **changes: Any) -> str:
    order = {"index": 0, "strategy": 0, "side": 1, "px_ticks": 1000, "qty_lots": 10, "reduce_only": False}
    code = gate.check(**{**order, "now_ns": NOW, **changes})
    return REASONS[code] if code else "OK"


def test_every_reason_has_a_name_and_its_own_negative_code() -> None:
    assert len(REASONS) == 21
    for code, name in REASONS.items():
        assert code < 0
        assert getattr(gate_module, name) == code


def test_fresh_gate_allows_nothing() -> None:
    gate = Gate(1, 1, 1)
    assert check(gate) == "MAX_ORDER_QTY"
    gate.define(0, **DEFINITION)
    assert check(gate) == "NOT_TRADING"


@pytest.mark.parametrize(
    ("changes", "reason", "numbers"),
    [
        ({}, "OK", None),
        ({"px_ticks": 0}, "BAD_PX", (0, 1)),
        ({"px_ticks": -5}, "BAD_PX", (-5, 1)),
        ({"px_ticks": NO_PX}, "BAD_PX", (NO_PX, 1)),
        ({"qty_lots": 0}, "BAD_QTY", (0, 2)),
        ({"qty_lots": -10}, "BAD_QTY", (-10, 2)),
        ({"qty_lots": 1}, "BAD_QTY", (1, 2)),
        ({"qty_lots": 1001}, "MAX_ORDER_QTY", (1001, 1000)),
        ({"qty_lots": 4}, "MIN_NOTIONAL", (40_000, 50_000)),
        ({"qty_lots": 5}, "OK", None),
        ({"qty_lots": 500}, "OK", None),
        ({"qty_lots": 501}, "MAX_ORDER_NOTIONAL", (5_010_000, 5_000_000)),
        ({"px_ticks": 1050}, "OK", None),
        ({"px_ticks": 1051}, "PRICE_COLLAR", (1051, 1050)),
        ({"px_ticks": 950, "side": -1}, "OK", None),
        ({"px_ticks": 949, "side": -1}, "PRICE_COLLAR", (949, 950)),
        ({"now_ns": NOW + 10_000}, "OK", None),
        ({"now_ns": NOW + 10_001}, "STALE_BOOK", (10_001, 10_000)),
    ],
)
def test_one_order_by_itself(changes: dict[str, Any], reason: str, numbers: tuple[int, int] | None) -> None:
    gate = ready_gate()
    assert check(gate, **changes) == reason
    if numbers is not None:
        assert (gate.last_value, gate.last_limit) == numbers


def test_multiplier_counts_in_the_notional() -> None:
    gate = ready_gate(value_num=1000)
    assert check(gate, qty_lots=5) == "OK"
    assert check(gate, qty_lots=6) == "MAX_ORDER_NOTIONAL"


def test_notional_beyond_64_bits_is_refused_and_not_wrapped() -> None:
    gate = ready_gate(value_num=2**62, max_qty_lots=2**62, max_order_notional_atoms=2**62)
    assert check(gate, qty_lots=2**59) == "MAX_ORDER_NOTIONAL"
    assert gate.last_value == 2**63 - 1


@pytest.mark.parametrize("state", [0, 2, 3, 4])
def test_only_trading_instruments_may_open_and_closing_stays_possible(state: int) -> None:
    gate = ready_gate()
    gate.set_state(0, state)
    assert check(gate) == "NOT_TRADING"
    gate.set_position(0, -10)
    assert check(gate) == "OK"


def test_kill_refuses_even_closing_orders() -> None:
    gate = ready_gate()
    gate.set_position(0, -50)
    gate.is_killed = True
    assert check(gate, reduce_only=True) == "KILLED"
    gate.is_killed = False
    assert check(gate, reduce_only=True) == "OK"


@pytest.mark.parametrize("mode", ["REDUCE_ONLY_MODE", "LOSS_LIMIT"])
def test_reduce_only_mode_and_loss_limit_pass_only_what_closes_at_worst_case(mode: str) -> None:
    gate = ready_gate()
    gate.set_position(0, -25)
    if mode == "LOSS_LIMIT":
        gate.loss_atoms = 100
        assert check(gate, side=-1) == "OK"
        gate.loss_atoms = 101
    else:
        gate.is_reduce_only = True
    assert check(gate, side=-1, reduce_only=True) == mode
    assert check(gate, qty_lots=26) == mode
    gate.reserve(0, 0, 1, 1000, 10)
    assert check(gate, qty_lots=16) == mode  # with the 10 lots before it, it could turn the position
    assert check(gate, qty_lots=15) == "OK"


def test_min_notional_exempts_only_reduce_only_orders_that_reduce() -> None:
    gate = ready_gate()
    gate.set_position(0, 100)
    assert check(gate, side=-1, qty_lots=4) == "MIN_NOTIONAL"
    assert check(gate, side=-1, qty_lots=4, reduce_only=True) == "OK"
    assert check(gate, side=1, qty_lots=4, reduce_only=True) == "MIN_NOTIONAL"


def test_invalid_book_stops_opening_and_closing_is_held_against_a_fresh_mark() -> None:
    book = open_book()
    gate = ready_gate(book=book)
    book.invalidate()
    assert check(gate) == "INVALID_BOOK"
    gate.set_mark(0, 1000, NOW)
    assert check(gate) == "INVALID_BOOK"
    gate.set_position(0, -50)
    assert check(gate) == "OK"
    assert check(gate, px_ticks=1051) == "PRICE_COLLAR"
    assert check(gate, now_ns=NOW + 10_001) == "INVALID_BOOK"


def test_one_sided_book_and_no_book_take_the_mark() -> None:
    book = Book(8)
    book.apply([(999, 1)], [], True)
    book.stamp(0, NOW, 1)
    gate = ready_gate(book=book)
    assert check(gate) == "NO_REFERENCE"
    gate.set_mark(0, 1000, NOW)
    assert check(gate) == "OK"
    gate.set_mark(0, NO_PX, NOW)
    assert check(gate) == "NO_REFERENCE"


def test_market_px_is_the_last_price_inside_the_collar() -> None:
    gate = ready_gate(book=open_book(999, 1002))
    for side in (1, -1):
        px = gate.market_px(0, side, NOW)
        assert check(gate, side=side, px_ticks=px) == "OK"
        assert check(gate, side=side, px_ticks=px + side) == "PRICE_COLLAR"
    assert gate.market_px(0, 1, NOW + 10_001) == NO_PX


@pytest.mark.parametrize(("side", "own"), [(1, (NO_PX, 1002)), (-1, (998, NO_PX))])
def test_order_that_would_meet_our_own_is_refused(side: int, own: tuple[int, int]) -> None:
    gate = ready_gate()
    gate.set_own(0, *own)
    assert check(gate, side=side, px_ticks=1000) == "OK"
    assert check(gate, side=side, px_ticks=1000 + side * 2) == "SELF_MATCH"
    assert check(gate, side=-side, px_ticks=1000) == "OK"


@pytest.mark.parametrize("side", [1, -1])
def test_position_limit_counts_what_is_open_on_that_side(side: int) -> None:
    gate = ready_gate()
    gate.set_position(0, side * 500)
    gate.reserve(0, 0, side, 1000, 290)
    gate.reserve(0, 0, -side, 1000, 700)
    assert check(gate, side=side, qty_lots=10) == "OK"
    assert check(gate, side=side, qty_lots=11) == "POSITION_LIMIT"
    assert (gate.last_value, gate.last_limit) == (801, 800)


def test_underlying_limit_adds_up_over_the_venues() -> None:
    gate = ready_gate(instruments=2)
    gate.set_position(0, 600)
    gate.reserve(1, 0, 1, 1000, 290)
    assert (gate.worst_long(0), gate.worst_short(0)) == (890_000, -600_000)
    assert check(gate, index=0, qty_lots=10) == "OK"
    assert check(gate, index=0, qty_lots=11) == "UNDERLYING_LIMIT"
    assert check(gate, index=1, qty_lots=11) == "UNDERLYING_LIMIT"
    assert check(gate, index=1, qty_lots=500, side=-1) == "OK"
    gate.set_position(1, -600)
    assert check(gate, index=0, qty_lots=200) == "OK"


def test_gross_limit_lets_orders_pass_that_add_nothing() -> None:
    gate = ready_gate(instruments=2, max_gross_notional_atoms=6_000_000)
    gate.set_mark(0, 1000, NOW)
    gate.set_mark(1, 1000, NOW)
    gate.set_position(0, 400)
    gate.set_position(1, -150)
    assert gate.gross_atoms == 5_500_000
    assert check(gate, index=0, qty_lots=50) == "OK"
    assert check(gate, index=0, qty_lots=51) == "GROSS_LIMIT"
    assert check(gate, index=0, qty_lots=400, side=-1) == "OK"
    gate.set_position(0, 700)
    assert check(gate, index=0, qty_lots=100, side=-1) == "OK"


def test_allotment_is_per_strategy_and_venue_and_follows_an_order_to_its_end() -> None:
    gate = ready_gate(instruments=2)
    gate.set_allotment(0, 1, 1_000_000)
    assert check(gate, qty_lots=101) == "ALLOTMENT"
    assert check(gate, qty_lots=101, index=1) == "OK"
    assert check(gate, qty_lots=101, strategy=1) == "OK"
    assert check(gate, qty_lots=100) == "OK"
    gate.reserve(0, 0, 1, 1000, 100)
    assert gate.used(0, 1) == 1_000_000
    assert check(gate) == "ALLOTMENT"
    gate.on_fill(0, 0, 1, 1000, 60, False)
    assert gate.used(0, 1) == 1_000_000
    gate.release(0, 0, 1, 1000, 40, True)
    assert gate.used(0, 1) == 600_000
    assert check(gate, side=-1, qty_lots=60) == "OK"  # closing asks for nothing
    gate.reserve(0, 0, -1, 990, 60)
    assert gate.used(0, 1) == 600_000
    gate.on_fill(0, 0, -1, 990, 60, True)
    assert gate.used(0, 1) == 0
    assert (gate.position(0), gate.open_orders(0)) == (0, 0)


def test_turning_a_position_costs_what_is_opened() -> None:
    gate = ready_gate()
    gate.reserve(0, 0, 1, 1000, 30)
    gate.on_fill(0, 0, 1, 1000, 30, True)
    gate.reserve(0, 0, -1, 1100, 50)
    gate.on_fill(0, 0, -1, 1100, 50, True)
    assert gate.position(0) == -20
    assert gate.used(0, 1) == 20 * 1100 * 10


def test_late_fill_counts_for_its_strategy_though_nothing_was_reserved() -> None:
    gate = ready_gate()
    gate.reserve(0, 0, 1, 1000, 30)
    gate.release(0, 0, 1, 1000, 30, True)
    gate.on_late_fill(0, 0, 1, 1000, 30)
    assert (gate.position(0), gate.open_buy(0), gate.open_orders(0)) == (30, 0, 0)
    assert gate.used(0, 1) == 30 * 1000 * 10
    gate.reserve(0, 0, -1, 1100, 30)
    gate.on_fill(0, 0, -1, 1100, 30, True)
    assert (gate.position(0), gate.used(0, 1)) == (0, 0)


def test_definition_may_be_told_again_and_the_venue_may_not_change_once_used() -> None:
    gate = ready_gate()
    gate.reserve(0, 0, 1, 1000, 30)
    gate.define(0, **{**DEFINITION, "max_open_orders": 1})
    gate.set_venue(0, 1)
    assert check(gate) == "OPEN_ORDERS"
    with pytest.raises(ValueError, match="venue cannot change"):
        gate.set_venue(0, 2)


@pytest.mark.parametrize("px_ticks", [0, -5, 2**60])
def test_mark_that_is_no_price_is_no_mark(px_ticks: int) -> None:
    gate = ready_gate(book=Book(8))
    gate.set_position(0, -50)
    gate.set_mark(0, 1000, NOW)
    assert check(gate) == "OK"
    gate.set_mark(0, px_ticks, NOW)
    assert check(gate) == "INVALID_BOOK"


def test_open_orders_are_counted_until_they_close() -> None:
    gate = ready_gate()
    for _ in range(5):
        gate.reserve(0, 0, 1, 1000, 10)
    assert check(gate) == "OPEN_ORDERS"
    gate.release(0, 0, 1, 1000, 10, False)
    assert check(gate) == "OPEN_ORDERS"
    gate.on_fill(0, 0, 1, 1000, 10, True)
    assert check(gate) == "OK"


def test_order_rate_is_a_sliding_window_of_each_strategy() -> None:
    gate = ready_gate()
    for step in range(10):
        assert check(gate, px_ticks=1000 + step, now_ns=NOW + step * 50) == "OK"
    assert check(gate, now_ns=NOW + 999) == "ORDER_RATE"
    assert check(gate, now_ns=NOW + 999, strategy=1) == "OK"
    assert check(gate, now_ns=NOW + 1000) == "OK"
    assert check(gate, now_ns=NOW + 1049) == "ORDER_RATE"
    assert check(gate, now_ns=NOW + 1050) == "OK"


def test_duplicate_needs_every_field_equal_and_the_window() -> None:
    gate = ready_gate()
    for _ in range(3):
        assert check(gate) == "OK"
    assert check(gate) == "DUPLICATE"
    assert (gate.last_value, gate.last_limit) == (4, 3)
    for other in ({"px_ticks": 1001}, {"qty_lots": 11}, {"side": -1}, {"strategy": 1}):
        assert check(gate, **other) == "OK"
    assert check(gate, now_ns=NOW + 499) == "DUPLICATE"
    assert check(gate, now_ns=NOW + 500) == "OK"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda gate: gate.release(0, 0, 1, 1000, 1, False),
        lambda gate: gate.on_fill(0, 0, 1, 1000, 1, False),
        lambda gate: gate.release(0, 0, 1, 1000, 0, True),
        lambda gate: gate.reserve(0, 0, 1, NO_PX, 1),
        lambda gate: gate.reserve(0, 0, 0, 1000, 1),
        lambda gate: gate.reserve(0, 0, 1, 1000, -1),
        lambda gate: gate.set_position(0, 2**60),
        lambda gate: gate.define(0, **{**DEFINITION, "value_num": 11}),
        lambda gate: gate.set_venue(0, 0),
    ],
)
def test_bookkeeping_that_cannot_be_is_refused_aloud(wrong: Any) -> None:
    with pytest.raises(ValueError, match="gate:"):
        wrong(ready_gate())


@pytest.mark.parametrize("index", [-1, 1])
def test_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=r"index must be 0\.\.0"):
        check(ready_gate(), index=index)


# --- the model -----------------------------------------------------------------------------------------------------


class Model:
    """The gate in plain Python: lists, big integers, sums taken anew at every question."""

    def __init__(self, gate: Gate, definitions: list[dict[str, int]], rates: dict[str, int], books: list[Book]) -> None:
        self.gate, self.defs, self.rates, self.books = gate, definitions, rates, books
        self.state = [1] * len(definitions)
        self.marks: list[tuple[int, int]] = [(NO_PX, 0)] * len(definitions)
        self.value_px = [NO_PX] * len(definitions)
        self.own = [(NO_PX, NO_PX)] * len(definitions)
        self.pos = [0] * len(definitions)
        self.orders: list[list[int]] = []  # index, strategy, side, px, leaves
        self.costs: dict[tuple[int, int], tuple[int, int]] = {}  # (strategy, index) -> lots, signed cost
        self.limits: dict[int, tuple[int, int]] = {}
        self.allotments: dict[tuple[int, int], int] = {}
        self.passed: list[tuple[int, tuple[int, ...]]] = []
        self.is_reduce_only = False
        self.loss = 0

    def open_lots(self, index: int, side: int, strategy: int | None = None) -> int:
        return sum(o[4] for o in self.orders if o[0] == index and o[2] == side and strategy in (None, o[1]))

    def value(self, index: int, px: int, qty: int) -> int:
        return px * qty * self.defs[index]["value_num"] // self.defs[index]["value_den"]

    def worst(self, underlying: int, side: int) -> int:
        return sum(
            (side * self.pos[i] + self.open_lots(i, side)) * d["base_atoms_per_lot"]
            for i, d in enumerate(self.defs)
            if d["underlying"] == underlying
        )

    def gross(self, extra: tuple[int, int, int] = (-1, 1, 0)) -> int:
        total = 0
        for i in range(len(self.defs)):
            if self.value_px[i] == NO_PX:
                continue
            buy = self.open_lots(i, 1) + (extra[2] if extra[:2] == (i, 1) else 0)
            sell = self.open_lots(i, -1) + (extra[2] if extra[:2] == (i, -1) else 0)
            total += self.value(i, self.value_px[i], max(abs(self.pos[i] + buy), abs(self.pos[i] - sell)))
        return total

    def used(self, strategy: int, venue: int, extra: tuple[int, int, int, int] = (-1, 1, 0, 0)) -> int:
        total = 0
        for i, d in enumerate(self.defs):
            if d["venue"] != venue:
                continue
            raw = {side: sum(o[3] * o[4] for o in self.orders if o[:3] == [i, strategy, side]) for side in (1, -1)}
            if extra[0] == i:
                raw[extra[1]] += extra[2] * extra[3]
            held = self.costs.get((strategy, i), (0, 0))[1]
            total += max(0, held + raw[1], raw[-1] - held) * d["value_num"] // d["value_den"]
        return total

    def reference(self, index: int, now: int, closing: bool) -> tuple[int, str]:
        book, stale = self.books[index], self.rates["stale_ns"]
        reason = "NO_REFERENCE"
        if not book.is_valid:
            reason = "INVALID_BOOK"
        elif now - book.recv_ts_ns > stale:
            reason = "STALE_BOOK"
        elif book.best_bid_px != NO_PX and book.best_ask_px != NO_PX:
            return book.best_bid_px + book.best_ask_px, ""
        mark, at = self.marks[index]
        if (closing or reason == "NO_REFERENCE") and mark != NO_PX and now - at <= stale:
            return 2 * mark, ""
        return 0, reason

    def check(self, index: int, strategy: int, side: int, px: int, qty: int, reduce_only: bool, now: int) -> str:
        d, rates = self.defs[index], self.rates
        if px <= 0:
            return "BAD_PX"
        if qty < max(1, d["min_qty_lots"]):
            return "BAD_QTY"
        if qty > d["max_qty_lots"]:
            return "MAX_ORDER_QTY"
        closing = side * self.pos[index] < 0 and side * self.pos[index] + self.open_lots(index, side) + qty <= 0
        if self.state[index] != 1 and not closing:
            return "NOT_TRADING"
        if self.is_reduce_only and not closing:
            return "REDUCE_ONLY_MODE"
        if self.loss > rates["loss_limit_atoms"] and not closing:
            return "LOSS_LIMIT"
        value = self.value(index, px, qty)
        if value < d["min_notional_atoms"] and not (reduce_only and closing):
            return "MIN_NOTIONAL"
        if value > d["max_order_notional_atoms"]:
            return "MAX_ORDER_NOTIONAL"
        ref2, reason = self.reference(index, now, closing)
        if ref2 == 0:
            return reason
        if abs(2 * px - ref2) * 10**6 > ref2 * d["collar_ppm"]:
            return "PRICE_COLLAR"
        own_bid, own_ask = self.own[index]
        if (side > 0 and own_ask != NO_PX and px >= own_ask) or (side < 0 and own_bid != NO_PX and px <= own_bid):
            return "SELF_MATCH"
        self.value_px[index] = ref2 // 2
        return self.check_exposure(index, strategy, side, px, qty) or self.check_pace(
            index, strategy, side, px, qty, now
        )

    def check_exposure(self, index: int, strategy: int, side: int, px: int, qty: int) -> str:
        d = self.defs[index]
        if side * self.pos[index] + self.open_lots(index, side) + qty > d["max_position_lots"]:
            return "POSITION_LIMIT"
        limit = self.limits[d["underlying"]][0 if side > 0 else 1]
        if self.worst(d["underlying"], side) + qty * d["base_atoms_per_lot"] > limit:
            return "UNDERLYING_LIMIT"
        gross = self.gross((index, side, qty))
        if gross > self.gross() and gross > self.rates["max_gross_notional_atoms"]:
            return "GROSS_LIMIT"
        used = self.used(strategy, d["venue"], (index, side, px, qty))
        if used > self.used(strategy, d["venue"]) and used > self.allotments[strategy, d["venue"]]:
            return "ALLOTMENT"
        if sum(1 for o in self.orders if o[0] == index) >= d["max_open_orders"]:
            return "OPEN_ORDERS"
        return ""

    def check_pace(self, index: int, strategy: int, side: int, px: int, qty: int, now: int) -> str:
        rates, key = self.rates, (strategy, index, side, px, qty)
        in_window = [k for at, k in self.passed if now - at < rates["window_ns"] and k[0] == strategy]
        if len(in_window) >= rates["max_orders"]:
            return "ORDER_RATE"
        equal = [k for at, k in self.passed if now - at < rates["duplicate_window_ns"] and k == key]
        if len(equal) >= rates["duplicate_count"]:
            return "DUPLICATE"
        self.passed.append((now, key))
        return "OK"

    def fill(self, order: list[int], qty: int) -> None:
        index, strategy, side, px, _ = order
        lots, cost = self.costs.get((strategy, index), (0, 0))
        closed = min(qty, abs(lots)) if lots * side < 0 else 0
        if closed:
            kept = abs(lots) - closed
            quotient, rest = divmod(abs(cost), abs(lots))
            size = quotient * kept + rest * kept // abs(lots)
            cost = size if cost >= 0 else -size
        self.costs[strategy, index] = (lots + side * qty, cost + side * px * (qty - closed))
        self.pos[index] += side * qty
        order[4] -= qty


def random_setup(rng: random.Random) -> Model:
    count = 3
    gate = Gate(count, 2, 2)
    definitions, books = [], []
    for index in range(count):
        definition = {
            "underlying": rng.randrange(2),
            "base_atoms_per_lot": rng.choice((1, 1000)),
            "value_num": rng.choice((1, 10, 7)),
            "value_den": rng.choice((1, 3)),
            "min_qty_lots": rng.choice((1, 3)),
            "max_qty_lots": rng.choice((60, 2**62)),
            "min_notional_atoms": rng.choice((0, 5000)),
            "max_order_notional_atoms": rng.choice((300_000, 2**62)),
            "collar_ppm": rng.choice((5000, 100_000)),
            "max_position_lots": rng.choice((100, 400)),
            "max_open_orders": rng.choice((4, 20)),
        }
        gate.define(index, **definition)
        gate.set_venue(index, 1 + index)
        gate.set_state(index, 1)
        books.append(open_book())
        gate.bind_book(index, books[-1])
        definitions.append({**definition, "venue": 1 + index})
    rates = {**RATES, "max_orders": 8, "max_gross_notional_atoms": 4_000_000, "stale_ns": 2000}
    gate.set_rates(**rates)
    model = Model(gate, definitions, rates, books)
    for underlying in range(2):
        model.limits[underlying] = (rng.choice((200, 300_000)), rng.choice((200, 300_000)))
        gate.set_underlying_limit(underlying, *model.limits[underlying])
    for strategy in range(2):
        for venue in range(1, 4):
            model.allotments[strategy, venue] = rng.choice((200_000, 3_000_000))
            gate.set_allotment(strategy, venue, model.allotments[strategy, venue])
    return model


def step_market(model: Model, rng: random.Random, now: int) -> None:
    gate, index = model.gate, rng.randrange(3)
    kind = rng.randrange(8)
    if kind < 4:
        mid = rng.randint(960, 1040)
        book = model.books[index]
        asks = [(mid + 1, 5)] if rng.random() < 0.95 else []
        book.apply([(mid - rng.randint(0, 1), 5)], asks, True)
        book.stamp(0, now, 1)
        if rng.random() < 0.1:
            book.invalidate()
    elif kind == 4:
        model.marks[index] = (rng.choice((NO_PX, 1000, 1010)), now)
        gate.set_mark(index, *model.marks[index])
        if model.marks[index][0] != NO_PX:
            model.value_px[index] = model.marks[index][0]
    elif kind == 5:
        model.own[index] = (rng.choice((NO_PX, 990)), rng.choice((NO_PX, 1015)))
        gate.set_own(index, *model.own[index])
    elif kind == 6:
        model.state[index] = rng.choice((1, 1, 1, 3))
        gate.set_state(index, model.state[index])
    else:
        model.is_reduce_only = gate.is_reduce_only = rng.random() < 0.2
        model.loss = gate.loss_atoms = rng.choice((0, 0, 0, 101))


def step_orders(model: Model, rng: random.Random) -> None:
    order = rng.choice(model.orders)
    index, strategy, side, px, leaves = order
    qty = rng.randint(0, leaves) if rng.random() < 0.5 else leaves
    is_closed = qty == leaves
    late = rng.randint(1, 5) if rng.random() < 0.1 else 0
    if late:
        model.gate.on_late_fill(index, strategy, side, px, late)
        order[4] += late  # the model's fill takes it away again
        model.fill(order, late)
    if rng.random() < 0.6:
        model.gate.on_fill(index, strategy, side, px, qty, is_closed)
        model.fill(order, qty)
    else:
        model.gate.release(index, strategy, side, px, qty, is_closed)
        order[4] -= qty
    if is_closed:
        model.orders.remove(order)


def assert_same_sums(model: Model) -> None:
    gate = model.gate
    for index in range(3):
        assert gate.position(index) == model.pos[index]
        assert gate.open_buy(index) == model.open_lots(index, 1)
        assert gate.open_sell(index) == model.open_lots(index, -1)
        assert gate.open_orders(index) == sum(1 for o in model.orders if o[0] == index)
    for underlying in range(2):
        assert gate.worst_long(underlying) == model.worst(underlying, 1)
        assert gate.worst_short(underlying) == model.worst(underlying, -1)
    for strategy in range(2):
        for venue in range(1, 4):
            assert gate.used(strategy, venue) == model.used(strategy, venue)
    assert gate.gross_atoms == model.gross()


@pytest.mark.parametrize("seed", range(12))
def test_random_orders_get_the_same_answers_as_the_model(seed: int) -> None:
    rng = random.Random(seed)
    model, now = random_setup(rng), NOW
    seen = set()
    for _ in range(400):
        now += rng.randint(0, 300)
        step_market(model, rng, now)
        if model.orders and rng.random() < 0.5:
            step_orders(model, rng)
        if rng.random() < 0.02:
            index, lots = rng.randrange(3), rng.randint(-100, 100)
            model.pos[index] = lots
            model.gate.set_position(index, lots)
        order = (rng.randrange(3), rng.randrange(2), rng.choice((1, -1)), rng.choice((0, 900, 995, 1000, 1005, 1020)))
        qty, reduce_only = rng.choice((0, 1, 5, 10, 20, 50, 61)), rng.random() < 0.3
        want = model.check(*order, qty, reduce_only, now)
        code = model.gate.check(*order, qty, reduce_only, now)
        assert (REASONS[code] if code else "OK") == want
        seen.add(want)
        if want == "OK":
            model.gate.reserve(*order, qty)
            model.orders.append([*order, qty])
        assert_same_sums(model)
    assert len(seen) > 8
