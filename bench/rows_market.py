"""Rows of the table about market data: decoding, books, and both together."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import orjson

from bench import bench_book, bench_decode
from bench.contest import OURS, Row, Timed
from bench.peers import DictBook, SortedBook, decode_into_dicts
from ext.book import Book
from ext.sequence import OUT_APPLIED, OUT_SNAPSHOT, RULE_BINANCE_USDM, RULE_BYBIT, Feed

USDM_STREAM = "hftbacktest/usdm/btcusdt_20240808.gz"


def timed(work: Callable[[], object], units: int) -> Timed:
    """ns a unit of one call of `work`, which does `units` of them."""

    def take() -> float:
        start = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - start) / units

    return take


def exhaust(items: Iterable[object]) -> None:
    deque(items, maxlen=0)


def market_rows(captures: Path, scale: int) -> Iterator[Row]:
    """`scale`: messages a turn; 2,000 for a true run."""
    rng = random.Random(1)
    frames = [bench_decode.bybit_depth(rng, 20) for _ in range(min(200, scale))]
    rounds = max(1, scale // len(frames))
    yield decode_row("decode bybit orderbook.50, 20 levels", frames, bench_decode.bybit(), rounds, bench_decode.Wrapped)
    usdm = [bench_decode.usdm_depth(rng, 20) for _ in range(min(200, scale))]
    yield decode_row("decode usdm depth, 20 levels", usdm, bench_decode.usdm(), rounds, bench_decode.Depth)
    tickers = [bench_decode.usdm_ticker(rng, 2) for _ in range(min(200, scale))]
    yield decode_row("decode usdm bookTicker", tickers, bench_decode.usdm(), rounds * 5, None, must=70, aim=35)
    spot = [bench_decode.spot_ticker(rng, 2) for _ in range(min(200, scale))]
    yield decode_row("decode spot bookTicker", spot, bench_decode.spot(), rounds * 5, None, must=70, aim=35)
    yield apply_row("book apply, near-touch walk, a level", bench_book.walk_messages(scale, 20, 20))
    yield both_row(scale)
    stream = captures / USDM_STREAM
    if stream.is_file() and scale >= 1000:
        yield apply_row("book apply, recorded usdm stream, a level", list(bench_book.usdm_messages(stream)))
        yield from recorded_rows(stream)


def decode_row(
    name: str, frames: list[bytes], decoder: Any, rounds: int, shape: type | None, must: float | None = None,
    aim: float | None = None,
) -> Row:  # fmt: skip
    contestants: dict[str, Timed] = {
        OURS: timed(lambda: decoder.decode_all(frames, rounds), rounds * len(frames)),
        "orjson": timed(lambda: exhaust(map(orjson.loads, frames)), len(frames)),
    }
    if shape is not None:
        typed: Callable[[bytes], Any] = msgspec.json.Decoder(shape).decode
        contestants["msgspec typed"] = timed(lambda: exhaust(map(typed, frames)), len(frames))
    return Row(name, "ns", contestants, must, aim)


def apply_row(name: str, messages: list[bench_book.Message]) -> Row:
    levels, shape = bench_book.pack(messages)
    count = len(levels) // 16
    few = messages[: max(2, len(messages) // 10)]  # peers are fifty times slower
    few_count = sum(len(bids) + len(asks) for bids, asks, _ in few)
    book = Book()

    def peer(make: type[DictBook] | type[SortedBook]) -> Timed:
        def work() -> None:
            apply = make().apply
            for bids, asks, is_snapshot in few:
                apply(bids, asks, is_snapshot)

        return timed(work, few_count)

    contestants = {
        OURS: timed(lambda: book.apply_packed(levels, shape), count),
        "dict": peer(DictBook),
        "SortedDict": peer(SortedBook),
    }
    return Row(name, "ns/level", contestants, must=12, aim=8)


def bybit_stream(count: int) -> list[bytes]:
    """A snapshot and deltas in sequence."""
    rng = random.Random(2)
    rows = [[[f"{61800 + sign * (1 + i)}.00", "5.000"] for i in range(50)] for sign in (-1, 1)]
    fields = {"s": "BTCUSDT", "b": rows[0], "a": rows[1], "u": 1000, "seq": 1000}
    first = {"topic": "orderbook.50.BTCUSDT", "type": "snapshot", "ts": 1, "data": fields, "cts": 1}
    frames = [orjson.dumps(first)]
    while len(frames) <= count:
        frame = bench_decode.bybit_depth(rng, 20)
        if b'"61800.00"' not in frame:  # a price on both sides would cross
            frames.append(frame.replace(b"18521289", b"%d" % (1000 + len(frames))))
    return frames


def both_row(scale: int) -> Row:
    frames = bybit_stream(scale)
    feed = Feed(bench_decode.bybit())
    feed.add(0, RULE_BYBIT, Book(), 50)
    outcomes = [feed.on_frame(frame, 0) for frame in frames]
    assert outcomes == [OUT_SNAPSHOT] + [OUT_APPLIED] * scale, outcomes
    few = frames[: max(2, scale // 10)]

    def peer() -> None:
        book = DictBook()
        for frame in few:
            decode_into_dicts(frame, book)

    contestants = {
        OURS: timed(lambda: exhaust(map(feed.on_frame, frames, repeat(0))), len(frames)),
        "orjson + int ticks + dict": timed(peer, len(few)),
    }
    return Row("decode + check + apply, 20 levels", "ns", contestants, 450, 300, note="called from Python")


def recorded_rows(stream: Path) -> Iterator[Row]:
    """The USD-M stream of a busy day: what a replay does."""
    from tools.recording import Session

    decoder = bench_decode.usdm()
    wanted = [record.payload for record in Session([stream]).records()]
    frames = [frame for frame in wanted if b"depthUpdate" in frame[:64]]
    snapshot = next(frame for frame in wanted if frame.startswith(b'{"lastUpdateId"'))
    levels = decoder.decode_all(frames)

    def replayed() -> float:
        feed = Feed(decoder)  # anew: the second pass over one feed would find every frame stale
        feed.add(0, RULE_BINANCE_USDM, Book())
        feed.on_snapshot(0, snapshot, 0)
        took = timed(lambda: exhaust(map(feed.on_frame, frames, repeat(0))), levels)()
        counters = feed.counters(0)
        assert counters["gaps"] == 0 and counters["applied"] > 0.99 * len(frames), counters
        return took

    def peer() -> None:
        for frame in frames[:600]:
            orjson.loads(frame)

    few = decoder.decode_all(frames[:600])
    row = Row(
        "decode + check + apply, recorded, a level", "ns/level",
        {OURS: replayed, "orjson alone": timed(peer, few)}, 18, 10,
    )  # fmt: skip
    yield row
    rate = {OURS: lambda: 1e9 / row.taken[OURS][-1]}
    yield Row("replay: decode + book, levels/s", "/s", rate, 50e6, 100e6, is_rate=True)
