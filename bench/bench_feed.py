"""Time a frame from its bytes to the updated book through `Feed`: decode, sequence check and apply, in C.

This is the longest part of the hot path that is ours before a decision. Units: ns a frame and ns a level; least and
median of repeats; the loop over frames is in C. Every round starts from a snapshot, so that each frame really applies.
Recorded frames come from the USD-M stream where recordings are at hand.
Run: `EXT_PROFILE=release` build, then `python bench/bench_feed.py [--captures DIR] [--way 0|1|2]`.
Must: a 20-level frame <= 450 ns (aim 300), recorded stream <= 18 ns a level (aim 10).
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import random
import statistics
import time
from pathlib import Path

from ext.book import Book
from ext.decode_binance import BinanceDecoder
from ext.decode_bybit import BybitDecoder
from ext.sequence import OUT_APPLIED, RULE_BINANCE_SPOT, RULE_BINANCE_USDM, RULE_BYBIT, Feed

RULES = {"usdm": RULE_BINANCE_USDM, "spot": RULE_BINANCE_SPOT, "bybit": RULE_BYBIT}
FORMS = {"usdm": ("%.1f0", "%.3f"), "spot": ("%.2f000000", "%.5f000"), "bybit": ("%.1f0", "%.3f")}
GRIDS = {"usdm": (1, 3), "spot": (2, 5), "bybit": (1, 3)}
TICKS = {"usdm": 0.1, "spot": 0.01, "bybit": 0.1}
REPEATS = 15


def rows(levels: list[tuple[float, float]], form: tuple[str, str]) -> str:
    return "[" + ",".join(f'["{form[0] % px}","{form[1] % qty}"]' for px, qty in levels) + "]"


def frame(venue: str, seq: int, bids: str, asks: str) -> bytes:
    if venue == "usdm":
        text = (
            f'{{"e":"depthUpdate","E":1763800000101,"T":1763800000100,"s":"BTCUSDT","U":{seq * 9 - 5},"u":{seq * 9},'
            f'"pu":{seq * 9 - 9},"b":{bids},"a":{asks},"ps":"BTCUSDT","st":1}}'
        )
    elif venue == "spot":
        text = f'{{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":{seq},"u":{seq},"b":{bids},"a":{asks}}}'
    else:
        text = (
            f'{{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1763800000070,"data":{{"s":"BTCUSDT","b":{bids},'
            f'"a":{asks},"u":{seq},"seq":7961638730}},"cts":1763800000069}}'
        )
    return text.encode()


def snapshot(venue: str, seq: int, bids: str, asks: str) -> bytes:
    if venue == "bybit":
        text = (
            f'{{"retCode":0,"retMsg":"OK","result":{{"s":"BTCUSDT","b":{bids},"a":{asks},"ts":1763800000000,"u":{seq},'
            f'"seq":7961638000,"cts":1763800000000}}}}'
        )
    else:
        text = f'{{"lastUpdateId":{seq * (9 if venue == "usdm" else 1)},"bids":{bids},"asks":{asks}}}'
    return text.encode()


def made(venue: str, levels: int, count: int) -> list[bytes]:
    """A snapshot of 2 x 500 levels, then frames near the touch of a mid that walks; a third of the levels deletes."""
    rng, form, tick, mid, seq = random.Random(1), FORMS[venue], TICKS[venue], 61_800.0, 5_123_107_832
    start = [rows([(mid + side * (i + 1) * tick, 5.0) for i in range(500)], form) for side in (-1, 1)]
    frames = [snapshot(venue, seq, *start)]
    for _ in range(count):
        seq += 1
        mid += rng.choice((-tick, 0, 0, tick))
        sides = []
        for side in (-1, 1):
            # What the mid has left behind goes, so that the book never stays crossed.
            level = [(mid, 0.0), (mid - side * tick, 0.0)]
            while len(level) < levels // 2:
                distance = int(rng.expovariate(1 / 9)) if rng.random() < 0.9 else rng.randint(0, 5000)
                level.append((mid + side * (1 + min(5000, distance)) * tick, rng.choice((0.0, 0.25, 12.5))))
            sides.append(rows(level, form))
        frames.append(frame(venue, seq, *sides))
    return frames


def recorded(path: Path) -> list[bytes]:
    """The first snapshot of the recording, then every delta: those before it are found to be old."""
    from tools.recording import Session

    records = [record.payload for record in Session([path]).records()]
    start = next(payload for payload in records if payload.startswith(b'{"lastUpdateId"'))
    return [start, *(payload for payload in records if b'"depthUpdate"' in payload[:80])]


def bench(name: str, venue: str, frames: list[bytes], way: int) -> None:
    decoder = (BybitDecoder if venue == "bybit" else BinanceDecoder)(max_levels=20_000)
    decoder.add_symbol("BTCUSDT", 0, GRIDS[venue][0], 1, GRIDS[venue][1], 1)
    decoder.use_fast_path(way)
    feed, deltas = Feed(decoder), frames[1:]
    levels = decoder.decode_all(deltas)
    taken = []
    for _ in range(REPEATS):
        feed.add(0, RULES[venue], Book(), 0)
        feed.on_snapshot(0, frames[0], 0)
        start = time.perf_counter_ns()
        applied = feed.on_frames(deltas, 1)
        taken.append(time.perf_counter_ns() - start)
        assert applied.get(OUT_APPLIED, 0) > 0.95 * len(deltas), applied
    least, median = min(taken) / len(deltas), statistics.median(taken) / len(deltas)
    each = levels / len(deltas)
    print(f"{name:24} {each:6.1f} levels  min {least:7.1f}  p50 {median:7.1f} ns a frame  "
          f"min {least / each:6.2f}  p50 {median / each:6.2f} ns a level", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captures", default=os.environ.get("TICKWRIGHT_CAPTURES", "../shared/captures"))
    parser.add_argument("--way", type=int, default=2, help="0 digit by digit, 1 SSSE3, 2 AVX2")
    how = parser.parse_args()
    gc.disable()
    print(f"python {platform.python_version()}, {platform.machine()}; must: 20 levels 450 ns, recorded 18 ns a level")
    for venue in RULES:
        for levels in (20, 200):
            bench(f"{venue} depth", venue, made(venue, levels, 40_000 // levels), how.way)
    stream = Path(how.captures) / "hftbacktest/usdm/btcusdt_20240808.gz"
    if stream.is_file():
        bench("usdm depth, recorded", "usdm", recorded(stream), how.way)


if __name__ == "__main__":
    main()
