"""Time one pre-trade check and the bookkeeping of one order; both stand between every decision and the wire.

Units: ns a call from Python (the call itself is about 60 ns), least and median of repeats. All checks are passed, which
is the longest way. Run: python bench/bench_gate.py. Must: check <= 300 ns, aim 120.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

from ext.book import Book
from ext.gate import Gate

MUST_NS, AIM_NS = 300, 120
CALLS = 20_000
SECOND = 1_000_000_000


def busy_gate(instruments: int) -> Gate:
    """A gate in the middle of its day: positions, open orders, full windows of past orders."""
    gate = Gate(instruments, 4, 8)
    for index in range(instruments):
        gate.define(
            index, underlying=index % 4, base_atoms_per_lot=1000, value_num=1000, value_den=1, min_qty_lots=1,
            max_qty_lots=2**40, min_notional_atoms=10**6, max_order_notional_atoms=10**14, collar_ppm=20_000,
            max_position_lots=10**9, max_open_orders=1000,
        )  # fmt: skip
        gate.set_venue(index, 1 + index % 2 * 2)
        gate.set_state(index, 1)
        book = Book()
        book.apply([(6_180_000, 50)], [(6_180_001, 50)], True)
        book.stamp(0, SECOND, 1)
        gate.bind_book(index, book)
        gate.set_mark(index, 6_180_000, SECOND)
        gate.set_own(index, 6_179_000, 6_181_000)
        gate.set_position(index, 1000)
        for strategy in range(8):
            gate.reserve(index, strategy, 1, 6_179_000, 100)
            gate.reserve(index, strategy, -1, 6_181_000, 100)
    gate.set_rates(
        max_orders=1000, window_ns=1, duplicate_count=3, duplicate_window_ns=1, stale_ns=10**15,
        max_gross_notional_atoms=2**62, loss_limit_atoms=10**12,
    )  # fmt: skip
    for underlying in range(4):
        gate.set_underlying_limit(underlying, 2**60, 2**60)
    for strategy in range(8):
        for venue in (1, 3):
            gate.set_allotment(strategy, venue, 2**60)
    return gate


def nanoseconds(loop: Callable[[int], None], repeat: int = 11) -> tuple[float, float]:
    times = []
    for number in range(repeat + 2):
        start = time.perf_counter_ns()
        loop(2 * SECOND + number * CALLS * 10)
        times.append((time.perf_counter_ns() - start) / CALLS)
    return min(times[2:]), statistics.median(times[2:])


def bench_check(instruments: int) -> tuple[float, float]:
    gate = busy_gate(instruments)
    check = gate.check

    def loop(now_ns: int) -> None:
        for number in range(CALLS):
            check(number % instruments, number % 8, 1, 6_180_000, 10, False, now_ns + number * 10)

    assert gate.check(0, 0, 1, 6_180_000, 10, False, 2 * SECOND) == 0
    return nanoseconds(loop)


def bench_order_life(instruments: int) -> tuple[float, float]:
    gate = busy_gate(instruments)
    reserve, on_fill = gate.reserve, gate.on_fill

    def loop(now_ns: int) -> None:
        for number in range(CALLS):
            side = 1 if number % 2 else -1
            reserve(0, 0, side, 6_180_000, 10)
            on_fill(0, 0, side, 6_180_000, 10, True)

    return nanoseconds(loop)


def bench_empty_loop() -> tuple[float, float]:
    def nothing(index: int, strategy: int, side: int, px: int, qty: int, reduce_only: bool, now_ns: int) -> None:
        pass

    def loop(now_ns: int) -> None:
        for number in range(CALLS):
            nothing(number % 2, number % 8, 1, 6_180_000, 10, False, now_ns + number * 10)

    return nanoseconds(loop)


def main() -> None:
    print(f"python {platform.python_version()}, {platform.machine()}; check must {MUST_NS}, aim {AIM_NS} ns")
    for name, (least, median) in {
        "Python function of the same shape": bench_empty_loop(),
        "check, 2 instruments": bench_check(2),
        "check, 64 instruments": bench_check(64),
        "reserve and on_fill": bench_order_life(2),
    }.items():
        print(f"{name:36} min {least:7.1f}  p50 {median:7.1f} ns")


if __name__ == "__main__":
    main()
