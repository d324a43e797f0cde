"""Rows of the table about orders, statistics and the journal."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

from bench import bench_gate, bench_journal
from bench.contest import OURS, Row, Timed
from bench.peers import copied_hmac, order_by_orjson
from bench.rest_stub import INSTRUMENT
from bench.rows_market import exhaust, timed
from connectors.bybit.context import Context
from connectors.bybit.requests import Desk
from connectors.bybit.symbols import instrument_from_row
from engine.actions import PlaceOrder
from engine.loop_wire import LoopWire
from engine.types import Market, OrdType, Side, TimeInForce, Venue
from engine.venue import InstrumentSpec, VenueSettings
from ext.histogram import Histogram
from ext.sign import HmacSha256
from ext.stats import StageClock, StatsPage
from ext.throttle import NEW, ROLLING, Throttle, acquire_all

SECOND = 1_000_000_000
KEY = b"bench-secret-0123456789abcdef"


def order_rows(scale: int) -> Iterator[Row]:
    yield sign_row(scale)
    yield bytes_row(scale)
    yield gate_row(scale)
    yield from throttle_rows(scale)


def sign_row(scale: int) -> Row:
    message = b"x" * 197
    signer, copied = HmacSha256(KEY), copied_hmac(KEY)
    assert signer.hexdigest(message).decode() == copied(message)
    contestants = {
        OURS: timed(lambda: exhaust(map(signer.hexdigest, repeat(message, scale))), scale),
        "hashlib copies": timed(lambda: exhaust(map(copied, repeat(message, scale))), scale),
        "hmac": timed(lambda: exhaust(hmac.new(KEY, message, hashlib.sha256).hexdigest() for _ in range(scale)), scale),
    }
    return Row("HMAC-SHA256 hex, 197 B", "ns", contestants, 250, 150, note="called from Python")


def bytes_row(scale: int) -> Row:
    """The whole text of an order on Bybit's trade socket, from the template that the connector made for its kind.

    What orjson makes is the order alone, without the envelope of the socket: request identifier, time and operation.
    """
    instrument = instrument_from_row(INSTRUMENT, InstrumentSpec(0, Market.LINEAR, "BTCUSDT"))
    urls = {"base_http": "http://127.0.0.1:1", "base_ws": "ws://127.0.0.1:1"}
    context = Context(VenueSettings(environment="local", urls=urls), LoopWire(), lambda event: None)
    context.define(instrument)
    desk = Desk(context, instrument, b"19a3f0c1b2d")
    order = PlaceOrder(
        Venue.BYBIT, 0, 2**56, Side.BUY, OrdType.LIMIT, 618000, 1, TimeInForce.IOC, False, False, False
    )  # fmt: skip
    fill, start_ns = desk.form(order).frame.fill, 1_763_800_000 * SECOND
    # Lists: the integers are there before, as they are in an action.
    sizes, ids = list(range(1, scale + 1)), list(range(2**56, 2**56 + scale))
    times = list(range(start_ns, start_ns + 1000 * scale, 1000))
    prices = list(range(618000, 618000 + scale))
    contestants = {
        OURS: timed(lambda: exhaust(map(fill, sizes, times, ids, prices, sizes)), scale),
        "orjson of a dict": timed(lambda: exhaust(map(order_by_orjson, prices, sizes, ids)), scale),
    }
    return Row("order bytes (bybit create)", "ns", contestants, 200, 80, note="with the envelope; called from Python")


def gate_row(scale: int) -> Row:
    gate = bench_gate.busy_gate(2)
    clock = [2 * SECOND]
    assert gate.check(0, 0, 1, 6_180_000, 10, False, clock[0]) == 0

    def work() -> None:
        start = clock[0] + SECOND
        clock[0] = start + 10 * scale
        times = range(start, clock[0], 10)
        exhaust(
            map(gate.check, repeat(0), repeat(0), repeat(1), repeat(6_180_000), repeat(10), repeat(False), times)
        )  # fmt: skip

    return Row("gate, all checks", "ns", {OURS: timed(work, scale)}, 300, 120, note="called from Python")


def throttle_rows(scale: int) -> Iterator[Row]:
    one = Throttle(2**39, SECOND, ROLLING)
    three = [Throttle(2**39, SECOND, ROLLING) for _ in range(3)]
    clock = [SECOND]

    def times() -> range:
        start = clock[0] + SECOND
        clock[0] = start + 1000 * scale
        return range(start, clock[0], 1000)

    def work_one() -> None:
        exhaust(map(one.acquire, repeat(1), repeat(NEW), times()))

    def work_three() -> None:
        exhaust(map(acquire_all, repeat(three), repeat([1, 1, 1]), repeat(NEW), times()))

    note = "called from Python"
    yield Row("throttle decision", "ns", {OURS: timed(work_one, scale)}, 100, 40, note=note)
    yield Row("throttle decision over three", "ns", {OURS: timed(work_three, scale)}, note=note)


def statistics_rows(root: Path, scale: int) -> Iterator[Row]:
    histogram, page = Histogram(), StatsPage(root / "stats")
    clock = StageClock(page, ["binance"], ["decoded", "written"])
    clock.begin(1)
    count = 50 * scale
    yield Row("histogram record", "ns", {OURS: timed(lambda: histogram.record_many(4000, count), count)}, 2, 1)
    yield Row("stage mark (reads the clock)", "ns", {OURS: timed(lambda: clock.mark_many(1, scale), scale)})


def journal_rows(root: Path, scale: int) -> Iterator[Row]:
    """`scale` 2,000: 400,000 events drained and scanned a turn."""
    events = 200 * scale

    def append() -> float:
        return bench_journal.bench_append(scratch(root), bench_journal.EVENT, 3)["c_p50"]

    def sqlite(synchronous: str, batch: int) -> Timed:
        count = max(10, scale // 20) * (1 if batch == 1 else batch // 16)
        return lambda: 1e9 / bench_journal.bench_sqlite(scratch(root), count, batch, synchronous)

    def lmdb(batch: int) -> Timed:
        count = max(10, scale // 20) * (1 if batch == 1 else batch // 16)
        return lambda: 1e9 / bench_journal.bench_lmdb(scratch(root), count, batch)

    peers = {"sqlite WAL FULL, 1 a commit": sqlite("FULL", 1), "py-lmdb, 1 a commit": lmdb(1)}
    yield Row("journal append, 128 B, hot thread", "ns", {OURS: append, **peers}, 50, 30)
    scanned: list[float] = []

    def drain() -> float:
        folder = scratch(root)
        path, found = bench_journal.bench_drain(folder, events)
        scanned.append(bench_journal.bench_scan(path, events)["crc_in_memory_per_s"])
        shutil.rmtree(path)
        return found["events_per_s"]

    def rate(timed_ns: Timed) -> Timed:
        return lambda: 1e9 / timed_ns()

    others = {"sqlite WAL FULL, 256": rate(sqlite("FULL", 256)), "py-lmdb, 256": rate(lmdb(256))}
    yield Row("journal drain, group commit, events/s", "/s", {OURS: drain, **others}, 1e6, 3e6, is_rate=True, turns=3)
    yield Row("journal scan with CRC, events/s", "/s", {OURS: lambda: scanned[-1]}, 8e6, 20e6, is_rate=True, turns=3)


def scratch(root: Path) -> Path:
    """A folder that nothing was written to, so that every turn starts alike; gone with `root`."""
    return Path(tempfile.mkdtemp(prefix=f"{time.monotonic_ns()}-", dir=root))
