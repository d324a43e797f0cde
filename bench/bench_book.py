"""Time book updates a level and depth walks; every depth message of every venue passes here before any decision.

Units: ns a level (ns a call for the walk), least and median of repeats; the loop over messages is in C. Levels come
from a seeded near-touch walk and, where recordings are at hand, from the USD-M stream.
Run: python bench/bench_book.py [--captures DIR]. Must: apply <= 12 ns a level, aim 8.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ext.book import Book

MUST_NS, AIM_NS = 12, 8
DEPTH_DELTA = 1  # msg_kind_t
Message = tuple[list[tuple[int, int]], list[tuple[int, int]], bool]


def pack(messages: list[Message]) -> tuple[bytes, bytes]:
    levels = b"".join(struct.pack("<qq", *level) for bids, asks, _ in messages for level in (*bids, *asks))
    return levels, b"".join(struct.pack("<iii", len(bids), len(asks), snap) for bids, asks, snap in messages)


def walk_messages(count: int, levels: int, seed: int = 1) -> list[Message]:
    """A mid that walks by single ticks; nine of ten updates within 20 ticks of it, a third of them deletions."""
    rng, mid = random.Random(seed), 6_180_000
    messages: list[Message] = [([(mid - 1 - i, 5) for i in range(500)], [(mid + i, 5) for i in range(500)], True)]
    for _ in range(count):
        mid += rng.choice((-1, 0, 0, 1))
        bids, asks = [], []
        for _ in range(levels // 2):
            distance = min(int(rng.expovariate(1 / 9)), 5000) if rng.random() < 0.9 else rng.randint(0, 5000)
            bids.append((mid - 1 - distance, rng.choice((0, 3, 7))))
            asks.append((mid + distance, rng.choice((0, 3, 7))))
        bids += [(px, 0) for px in range(mid, mid + 2)]
        asks += [(px, 0) for px in range(mid - 2, mid)]
        messages.append((bids, asks, False))
    return messages


def usdm_messages(path: Path) -> Iterator[Message]:
    from ext.decode_binance import BinanceDecoder
    from tools.recording import Session

    decoder = BinanceDecoder(max_levels=20_000)
    decoder.add_symbol("BTCUSDT", 0, 1, 1, 3, 1)
    for record in Session([path]).records():
        is_snapshot = record.payload.startswith(b'{"lastUpdateId"')
        if is_snapshot:
            decoder.decode_snapshot(0, record.payload)
        elif decoder.decode(record.payload) != DEPTH_DELTA:
            continue
        yield decoder.bids, decoder.asks, is_snapshot


def nanoseconds(operation: Callable[[], int], repeat: int) -> tuple[float, float]:
    """(least, median) of ns a unit; the operation returns how many units it did."""
    times = []
    for _ in range(repeat + 2):
        start = time.perf_counter_ns()
        count = operation()
        times.append((time.perf_counter_ns() - start) / count)
    return min(times[2:]), statistics.median(times[2:])


def bench_apply(name: str, messages: list[Message], window_bits: int = 16) -> float:
    levels, shape = pack(messages)
    book = Book(window_bits)
    least, median = nanoseconds(lambda: book.apply_packed(levels, shape), 9)
    updates = len(levels) // 16
    outside = book.far_hits / (updates * 11) * 100
    print(f"{name:34} {updates / len(messages):6.1f} levels a message  {outside:5.1f} % outside  "
          f"min {least:6.2f}  p50 {median:6.2f} ns a level")  # fmt: skip
    return median


def bench_walk(depth: int) -> None:
    book = Book()
    book.apply([(1000 - i, 5) for i in range(200)], [(1001 + i, 5) for i in range(200)], True)
    calls = 20_000

    def walk() -> int:
        for _ in range(calls):
            book.walk(-1, depth * 5)
        return calls

    least, median = nanoseconds(walk, 9)
    print(f"{f'walk {depth} levels, from Python':34} min {least:6.1f}  p50 {median:6.1f} ns a call")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captures", default=os.environ.get("TICKWRIGHT_CAPTURES", "../shared/captures"))
    captures = Path(parser.parse_args().captures)
    print(f"python {platform.python_version()}, {platform.machine()}; must {MUST_NS}, aim {AIM_NS} ns a level")
    for levels in (4, 20, 200):
        bench_apply(f"near-touch walk, {levels} levels", walk_messages(200_000 // levels, levels))
    stream = captures / "hftbacktest/usdm/btcusdt_20240808.gz"
    if stream.is_file():
        messages = list(usdm_messages(stream))
        for bits in (14, 16, 18):
            bench_apply(f"USD-M BTCUSDT stream, 2**{bits} ticks", messages, bits)
    for depth in (1, 20, 100):
        bench_walk(depth)


if __name__ == "__main__":
    main()
