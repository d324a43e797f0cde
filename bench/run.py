"""Run every benchmark in one process, contestants in turn, and print one table of ratios and limits.

Says whether this version is as fast as it must be, and against what. `make bench` builds the extensions for release
and runs this; bounded to five minutes. Run: python -m bench.run [--quick] [--only NAME] [--json].
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from bench import bench_tick_to_trade as tick
from bench.contest import OURS, Row, lines, run_rows
from bench.loopback import ROOT
from bench.rows_market import market_rows
from bench.rows_order import journal_rows, order_rows, statistics_rows
from engine.journal import file_system
from ext.sign import HmacSha256

RESULTS = ROOT / "bench" / "results"
PACKAGES = ("uvloop", "picows", "orjson", "lmdb", "msgspec", "cython", "sortedcontainers")
SCALE, QUICK_SCALE = 2_000, 200
TURNS, QUICK_TURNS = 25, 1
TICKS, QUICK_TICKS = (2_000, 10_000, 4_000), (100, 400, 200)  # warm-up, closed, paced
TICK_REPEATS, QUICK_TICK_REPEATS = 5, 1


def captures_folder() -> Path:
    return Path(os.environ.get("TICKWRIGHT_CAPTURES", ROOT.parent / "shared" / "captures"))


def output_of(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def environment() -> dict[str, object]:
    """What a figure depends on."""
    cpu = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition(": ")[2].partition("\n")[0]
    return {
        "commit": output_of("git", "rev-parse", "--short=12", "HEAD") or "unknown",
        "is_dirty": bool(output_of("git", "status", "--porcelain", "-uno")),
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "compiler": output_of("cc", "--version").partition("\n")[0],
        "ext_profile": os.environ.get("EXT_PROFILE", "as built"),
        "is_sha_accelerated": HmacSha256(b"x").is_accelerated,
        "gc": "frozen and disabled while timing",
        "file_system": file_system(ROOT),
        "load_before": os.getloadavg()[0],
    }


def tick_rows(found: tick.Found) -> Iterator[Row]:
    """Rows from finished runs of the clients; a run each is a turn."""

    def taken(phase: str, point: str, *kinds: str) -> dict[str, list[float]]:
        names = {"engine": OURS, "limit": "C limit", "python": "picows + orjson + dict"}
        return {names[kind]: [run[phase][point] / 1000 for run in found[kind] if run[phase]["count"]] for kind in kinds}

    def row(name: str, figures: dict[str, list[float]], peer: str, must: float | None, aim: float | None) -> Row:
        return Row(f"tick to trade, {name}", "us", {}, must, aim, judged_peer=peer, taken=figures)

    limit, python = "C limit", "picows + orjson + dict"
    yield row("Python strategy, p50", taken("closed", "p50", "engine", "limit", "python"), limit, 1.6, 1.3)
    yield row("Python strategy, p99", taken("closed", "p99", "engine", "limit"), limit, 1.7, 1.2)
    yield row("Python strategy, p99.9", taken("closed", "p999", "engine", "limit"), limit, None, None)
    yield row("paced 300 us, p50", taken("paced", "p50", "engine", "limit", "python"), limit, 1.6, 1.25)
    yield row("against pure Python, p50", taken("closed", "p50", "engine", "python"), python, 1 / 2.5, 1 / 3)


def collect(root: Path, only: str, quick: bool) -> list[Row]:
    scale, turns = (QUICK_SCALE, QUICK_TURNS) if quick else (SCALE, TURNS)
    rows = [
        row
        for rows in (
            market_rows(captures_folder(), scale),
            order_rows(scale),
            journal_rows(root, scale),
            statistics_rows(root, scale),
        )
        for row in rows
        if only in row.name
    ]
    gc.collect()
    gc.freeze()
    gc.disable()
    run_rows(rows, turns)
    gc.enable()
    if only in "tick to trade":
        counts, repeats = (QUICK_TICKS, QUICK_TICK_REPEATS) if quick else (TICKS, TICK_REPEATS)
        rows += tick_rows(tick.measure(tick.CLIENTS, repeats, *counts))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short turn: shows that all of it runs")
    parser.add_argument("--only", default="", metavar="NAME", help="rows whose name holds this")
    parser.add_argument("--json", action="store_true", help="also write bench/results/COMMIT.json")
    args = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "build"))
    start, about = time.monotonic(), environment()
    try:
        rows = collect(root, args.only, args.quick)
    finally:
        shutil.rmtree(root)
    if not rows:
        print(f"no row holds {args.only!r}", file=sys.stderr)
        return 64
    print(", ".join(f"{name} {value}" for name, value in about.items() if not isinstance(value, dict)))
    print("\n".join(lines(rows)))
    print(f"{time.monotonic() - start:.0f} s; ratios of one run count, absolute figures depend on the machine's mood")
    if args.json:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{about['commit']}.json"
        path.write_text(json.dumps({"environment": about, "rows": [row.as_dict() for row in rows]}, indent=1) + "\n")
        print(f"written: {path.relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
