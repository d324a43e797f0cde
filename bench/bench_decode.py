"""Time the market data decoders against orjson and msgspec on the same frames, in one run.

Every book update passes here: at 5,000 frames a second of 68 levels, 10 ns a level are 3.4 ms of each second of the hot
thread. Build with `EXT_PROFILE=release`; run `python bench/bench_decode.py [--fast|--scalar]`. Prints the median of
rounds taken in turn (so that a slow phase of the machine meets all of them), ns a message, and the ratio to the
decoder. Recorded frames are added when `TICKWRIGHT_CAPTURES` has them.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson

import ext.decode
from ext.decode_binance import BinanceDecoder
from ext.decode_bybit import BybitDecoder

CAPTURES = Path(os.environ.get("TICKWRIGHT_CAPTURES", Path(__file__).resolve().parents[2] / "shared" / "captures"))
ROUNDS = 15


class Depth(msgspec.Struct):
    s: str
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class Wrapped(msgspec.Struct):
    data: Depth


def sides(rng: random.Random, levels: int, px_form: str, qty_form: str) -> tuple[str, str]:
    """Levels near 61,800, half a side each; one in four deletes."""
    texts = []
    for sign in (-1, 1):
        rows = []
        for i in range(levels // 2):
            qty = 0.0 if rng.random() < 0.25 else rng.expovariate(2)
            rows.append(f'["{px_form % (61800 + sign * (i + rng.random()))}","{qty_form % qty}"]')
        texts.append("[" + ",".join(rows) + "]")
    return texts[0], texts[1]


def usdm_depth(rng: random.Random, levels: int) -> bytes:
    b, a = sides(rng, levels, "%.1f0", "%.3f")
    return (
        f'{{"e":"depthUpdate","E":1763800000101,"T":1763800000100,"s":"BTCUSDT","U":5123107832006,"u":5123107837557,'
        f'"pu":5123107831937,"b":{b},"a":{a},"ps":"BTCUSDT","st":1}}'
    ).encode()


def spot_depth(rng: random.Random, levels: int) -> bytes:
    b, a = sides(rng, levels, "%.2f000000", "%.5f000")
    return (
        f'{{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,"b":{b},"a":{a}}}'
    ).encode()


def bybit_depth(rng: random.Random, levels: int) -> bytes:
    b, a = sides(rng, levels, "%.1f0", "%.3f")
    return (
        f'{{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1763800000070,"data":{{"s":"BTCUSDT","b":{b},"a":{a},'
        f'"u":18521289,"seq":7961638730}},"cts":1763800000069}}'
    ).encode()


def usdm_ticker(rng: random.Random, levels: int) -> bytes:
    px, qty = 61800 + rng.random(), rng.random()
    return (
        f'{{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"{px:.1f}0","B":"{qty:.3f}","a":"{px + 1:.1f}0",'
        f'"A":"{qty:.3f}","T":1723161256313,"E":1723161256313}}'
    ).encode()


def spot_ticker(rng: random.Random, levels: int) -> bytes:
    px, qty = 61800 + rng.random(), rng.random()
    return (
        f'{{"u":50093239212,"s":"BTCUSDT","b":"{px:.2f}000000","B":"{qty:.5f}000","a":"{px + 1:.2f}000000",'
        f'"A":"{qty:.5f}000"}}'
    ).encode()


def usdm() -> Any:
    decoder = BinanceDecoder()
    decoder.add_symbol("BTCUSDT", 0, 1, 1, 3, 1)
    return decoder


def spot() -> Any:
    decoder = BinanceDecoder()
    decoder.add_symbol("BTCUSDT", 0, 2, 1, 5, 1)
    return decoder


def bybit() -> Any:
    decoder = BybitDecoder()
    decoder.add_symbol("BTCUSDT", 0, 1, 1, 3, 1)
    return decoder


MADE: list[tuple[str, Callable[[random.Random, int], bytes], int, Callable[[], Any], type | None]] = [
    ("usdm depth", usdm_depth, 20, usdm, Depth),
    ("usdm depth", usdm_depth, 200, usdm, Depth),
    ("spot depth", spot_depth, 20, spot, Depth),
    ("spot depth", spot_depth, 200, spot, Depth),
    ("bybit depth", bybit_depth, 20, bybit, Wrapped),
    ("bybit depth", bybit_depth, 200, bybit, Wrapped),
    ("usdm bookTicker", usdm_ticker, 2, usdm, None),
    ("spot bookTicker", spot_ticker, 2, spot, None),
]


def recorded(path: str, mark: bytes, limit: int) -> list[bytes]:
    frames: list[bytes] = []
    if not (CAPTURES / path).is_file():
        return frames
    with gzip.open(CAPTURES / path) as lines:
        for line in lines:
            frame = line.partition(b" ")[2].strip()
            if mark in frame:
                frames.append(frame)
                if len(frames) == limit:
                    break
    return frames


def timed(run: Callable[[], object], messages: int) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / messages


def decode_each(decode: Callable[[bytes], object], frames: list[bytes]) -> None:
    for frame in frames:
        decode(frame)


def bench(name: str, frames: list[bytes], decoder: Any, shape: type | None, how: argparse.Namespace) -> None:
    """All contestants take turns over the same frames."""
    if how.scalar:
        decoder.use_fast_path(False)
    rounds = max(1, 200_000 // max(1, sum(map(len, frames)) // 100))
    levels = decoder.decode_all(frames)
    bad = {key: n for key, n in decoder.counters.items() if key not in ext.decode.KINDS.values()}
    assert not bad, bad
    contestants: dict[str, tuple[Callable[[], object], int]] = {
        "ours": (lambda: decoder.decode_all(frames, rounds), rounds * len(frames)),
        "orjson": (lambda: decode_each(orjson.loads, frames), len(frames)),
    }
    if shape is not None:
        typed = msgspec.json.Decoder(shape).decode
        contestants["msgspec"] = (lambda: decode_each(typed, frames), len(frames))
    taken: dict[str, list[float]] = {key: [] for key in contestants}
    for _ in range(ROUNDS):
        for key, (run, messages) in contestants.items():
            taken[key].append(timed(run, messages))
    median = {key: statistics.median(values[2:]) for key, values in taken.items()}
    ours = median.pop("ours")
    others = "  ".join(f"{key} {value:9.0f} ({value / ours:5.1f}x)" for key, value in median.items())
    size = sum(map(len, frames)) / len(frames)
    print(f"{name:34} {size:7.0f} B {ours:8.1f} ns {ours * len(frames) / levels:6.2f} ns/level  {others}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scalar", action="store_true", help="digit by digit, without SSSE3")
    how = parser.parse_args()
    gc.disable()
    cpu = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition(": ")[2].partition("\n")[0]
    print(f"{cpu}, Linux {platform.release()}, Python {platform.python_version()}, gc off, {ext.__file__}")
    rng = random.Random(1)
    for name, make, levels, decoder, shape in MADE:
        frames = [make(rng, levels) for _ in range(200)]
        bench(f"{name} ({levels})", frames, decoder(), shape, how)
    for name, path, mark, decoder, shape in (
        ("usdm depth, recorded", "hftbacktest/usdm/btcusdt_20240808.gz", b"depthUpdate", usdm, Wrapped),
        ("spot depth, recorded", "hftbacktest/spot/btcusdt_20240808.gz", b"depthUpdate", spot, Wrapped),
        ("usdm bookTicker, recorded", "hftbacktest/usdm/btcusdt_20240808.gz", b"@bookTicker", usdm, None),
        ("usdm trade, recorded", "hftbacktest/usdm/btcusdt_20240808.gz", b"@trade", usdm, None),
    ):
        frames = recorded(path, mark, 7000)
        if frames:
            bench(name, frames, decoder(), shape, how)


if __name__ == "__main__":
    main()
