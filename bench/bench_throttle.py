"""Time one throttle decision; every request of the engine passes two or three of them.

Units: ns an operation, minimum and median of repeats, called from Python (about 20 ns of each).
Run: python bench/bench_throttle.py
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable

from ext.throttle import CALENDAR, NEW, ROLLING, Throttle, acquire_all

MUST_NS = 100
SECOND = 1_000_000_000


def nanoseconds(operation: Callable[[int], object], step_ns: int, repeat: int = 15) -> tuple[float, float]:
    times = []
    for index in range(repeat):
        clock = iter(range(index * 10**14 + SECOND, 10**18, step_ns))
        times.append(timeit.timeit(lambda: operation(next(clock)), number=20_000) / 20_000 * 1e9)  # noqa: B023
    return min(times), statistics.median(times)


def bench_acquire(kind: int, capacity: int, step_ns: int) -> tuple[float, float]:
    throttle = Throttle(capacity, 10 * SECOND, kind)
    return nanoseconds(lambda now_ns: throttle.acquire(1, NEW, now_ns), step_ns)


def bench_acquire_all(count: int) -> tuple[float, float]:
    throttles = [Throttle(2**39, 10 * SECOND, CALENDAR) for _ in range(count)]
    weights = [1] * count
    return nanoseconds(lambda now_ns: acquire_all(throttles, weights, NEW, now_ns), 1000)


def main() -> None:
    print(f"must {MUST_NS} ns a decision")
    results = {"nothing (clock and lambda)": nanoseconds(lambda _: None, 1000)}
    for name, kind in (("calendar", CALENDAR), ("rolling", ROLLING)):
        results[f"acquire {name}, granted"] = bench_acquire(kind, 2**39, 1_000)
        results[f"acquire {name}, refused"] = bench_acquire(kind, 1, 1_000)
        results[f"acquire {name}, new slice each time"] = bench_acquire(kind, 2**39, SECOND // 2)
    results["acquire_all of 3"] = bench_acquire_all(3)
    for name, (least, median) in results.items():
        print(f"{name:40} min {least:7.1f}  p50 {median:7.1f} ns")


if __name__ == "__main__":
    main()
