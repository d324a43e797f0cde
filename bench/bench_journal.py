"""What the journal costs: append on the hot thread, drain with synchronous group commit, scan; beside other stores.

A slower append is paid by every frame and every order; a slower drain fills the ring. Events of 128 bytes unless
said. Run: python bench/bench_journal.py [--quick] [--directory DIR]; DIR should be on the disk that will hold journals.
Targets in brackets. Ratios within one run count, absolute figures depend on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lmdb

from engine import blocks
from engine.journal import Journal, file_system, read_records
from engine.journal_read import SegmentReader, segment_paths
from ext import ring as rings
from ext.histogram import Histogram
from ext.ring import Ring
from ext.stats import StageClock, StatsPage

EVENT = bytes(range(128))
FRAME = EVENT * 4 + bytes(48)  # 560 B: a depth frame of 20 levels


def elapsed_ns(operation: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    operation()
    return time.perf_counter_ns() - start


def bench_append(root: Path, payload: bytes, rounds: int) -> dict[str, float]:
    """ns an append, from C and from Python, into a ring that is never full."""
    ring = Ring(root / "append.ring", 64 << 20)
    from_c, from_python = [], []
    append = ring.append

    def in_python() -> None:
        for _ in range(5000):
            append(1, 257, 1, payload)

    for _ in range(rounds):
        from_c.append(elapsed_ns(lambda: ring.append_many(1, 257, 1, payload, 20_000)) / 20_000)
        ring.release(ring.head_position, ring.next_seq)
        from_python.append(elapsed_ns(in_python) / 5000)
        ring.release(ring.head_position, ring.next_seq)
    ring.close()
    return {"c_p50": statistics.median(from_c), "c_min": min(from_c), "python_p50": statistics.median(from_python)}


def bench_drain(root: Path, events: int, *, ring_mib: int = 64) -> tuple[Path, dict[str, float]]:
    """Events made durable a second while the producer is never waited for by anyone but itself."""
    path = root / "drain"
    journal = Journal.open(path, ring_mib=ring_mib, segment_mib=256, sync_interval_ms=5)
    start = time.perf_counter_ns()
    done = waits = 0
    while done < events:
        took = journal.ring.append_many(1 if done & 1 else 64, 257, done, EVENT, min(2000, events - done))
        done += took
        if not took:
            waits += 1
            time.sleep(0.0005)
    assert journal.wait_durable(done, 60.0), journal.failed
    seconds = (time.perf_counter_ns() - start) / 1e9
    journal.close()
    return path, {"events_per_s": events / seconds, "mb_per_s": events * 160 / seconds / 1e6, "producer_waits": waits}


def bench_wait(root: Path, rounds: int) -> dict[str, float]:
    """us from the append of one intent until it is on the disk (durability "strict")."""
    journal = Journal.open(root / "wait", ring_mib=1, segment_mib=64)
    times = sorted(
        elapsed_ns(lambda: journal.wait_durable(journal.append(64, 0, 0, EVENT), 10.0)) / 1e3 for _ in range(rounds)
    )
    journal.close()
    return {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100], "max": times[-1]}


def bench_stall(root: Path, seconds: float) -> dict[str, float]:
    """us of one append from Python while the writer commits what comes: the hot thread must not wait for it."""
    journal = Journal.open(root / "stall", ring_mib=64, segment_mib=64)
    histogram = Histogram()
    append, clock, record = journal.ring.append, time.perf_counter_ns, histogram.record
    until = clock() + int(seconds * 1e9)
    now = clock()
    while now < until:
        start = clock()
        append(1, 257, start, FRAME)
        now = clock()
        record(now - start)
        while clock() - start < 20_000:  # 50,000 frames a second
            pass
    journal.close()
    percentiles = {
        name: histogram.percentile(value) / 1e3 for value, name in ((50, "p50"), (99, "p99"), (99.9, "p99.9"))
    }
    return {**percentiles, "max": histogram.max / 1e3, "appends": histogram.count}


def bench_scan(path: Path, events: int) -> dict[str, float]:
    """Events read back a second: blocks with CRC checked in C, as tuples, and as Records in order."""
    bodies = []
    for segment in segment_paths(path):
        with SegmentReader(segment) as reader:
            bodies += [value for _, found in reader.batches(list(blocks.STREAMS), 0) for _, value in found]
    header = blocks.BLOCK_HEADER_BYTES
    checked = elapsed_ns(lambda: [rings.check(body, header) for body in bodies])
    parsed = elapsed_ns(lambda: [len(rings.parse(body, header)) for body in bodies])

    def store_scan() -> None:
        for segment in segment_paths(path):
            with SegmentReader(segment) as reader:
                for _, found in reader.batches(list(blocks.STREAMS), 0):
                    for _, value in found:
                        rings.check(value, header)

    stored = elapsed_ns(store_scan)
    records = elapsed_ns(lambda: sum(1 for _ in read_records(path, tail=False)))
    return {
        "crc_in_memory_per_s": events * 1e9 / checked,
        "store_with_crc_per_s": events * 1e9 / stored,
        "parse_per_s": events * 1e9 / parsed,
        "read_records_per_s": events * 1e9 / records,
    }


def bench_sqlite(root: Path, events: int, batch: int, synchronous: str) -> float:
    """Events a second into SQLite in WAL mode."""
    path = root / f"sqlite-{batch}-{synchronous}.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, payload BLOB)")

    def insert() -> None:
        for start in range(0, events, batch):
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO event VALUES (?, ?)", ((seq, EVENT) for seq in range(start, start + batch))
            )
            connection.execute("COMMIT")

    rate = events * 1e9 / elapsed_ns(insert)
    connection.close()
    return rate


def bench_lmdb(root: Path, events: int, batch: int) -> float:
    """Events a second with py-lmdb, one value an event, default sync."""
    path = root / f"lmdb-{batch}"
    path.mkdir()
    with lmdb.open(str(path), map_size=256 << 20, lib_version=0) as env:

        def insert() -> None:
            for start in range(0, events, batch):
                with env.begin(write=True) as txn:
                    for seq in range(start, start + batch):
                        assert txn.put(seq.to_bytes(8, "big"), EVENT, append=True)

        return events * 1e9 / elapsed_ns(insert)


def bench_statistics(root: Path) -> dict[str, float]:
    """ns a histogram record and a stage mark, from C."""
    histogram, page = Histogram(), StatsPage(root / "stats")
    clock = StageClock(page, ["binance"], ["decoded", "written"])
    clock.begin(1)
    records = min(elapsed_ns(lambda: histogram.record_many(4000, 200_000)) / 200_000 for _ in range(9))
    marks = min(elapsed_ns(lambda: clock.mark_many(1, 100_000)) / 100_000 for _ in range(9))
    return {"histogram_record_ns": records, "stage_mark_ns": marks}


def measure(root: Path, quick: bool) -> dict[str, object]:
    events = 400_000 if quick else 4_000_000
    small = 200 if quick else 1000
    found: dict[str, object] = {
        "append_128_ns": bench_append(root, EVENT, 15),
        "append_560_ns": bench_append(root, FRAME, 15),
    }
    path, found["drain"] = bench_drain(root, events)
    found["scan"] = bench_scan(path, events)
    shutil.rmtree(path)
    found["wait_durable_us"] = bench_wait(root, small)
    found["append_beside_writer_us"] = bench_stall(root, 0.5 if quick else 3.0)
    found["others_events_per_s"] = {
        "lmdb 1 a transaction": bench_lmdb(root, small, 1),
        "lmdb 256 a transaction": bench_lmdb(root, 100 * 256, 256),
        "sqlite WAL FULL 1": bench_sqlite(root, small, 1, "FULL"),
        "sqlite WAL NORMAL 1": bench_sqlite(root, 10 * small, 1, "NORMAL"),
        "sqlite WAL FULL 256": bench_sqlite(root, 100 * 256, 256, "FULL"),
    }
    found["statistics"] = bench_statistics(root)
    return found


TARGETS = {
    "append_128_ns": "<= 50, aim 30",
    "drain": ">= 1 M events/s, aim 3 M",
    "scan": ">= 8 M events/s, aim 20 M",
    "statistics": "record <= 2, mark <= 30",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--directory", type=Path, default=Path("build"))
    args = parser.parse_args()
    args.directory.mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="bench-journal-", dir=args.directory))
    try:
        found = measure(root, args.quick)
    finally:
        shutil.rmtree(root)
    if args.json:
        print(json.dumps(found))
        return
    print(f"python {platform.python_version()}, {file_system(args.directory)}, {os.cpu_count()} cpus")
    for name, figures in found.items():
        print(f"{name} [{TARGETS[name]}]" if name in TARGETS else name)
        assert isinstance(figures, dict)
        for label, value in figures.items():
            print(f"    {label:24} {value:>14,.1f}")


if __name__ == "__main__":
    main()
