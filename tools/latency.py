"""`tickwright latency`: the stage histograms of a running or finished engine, from its statistics page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from engine.metrics import PAGE_NAME, TICK_TO_TRADE
from engine.stages import STAGE_NAMES
from ext.histogram import Histogram
from ext.stats import StatsReader

EXIT_OK: Final = 0
EXIT_USAGE: Final = 64
PERCENTILES: Final = ((50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9"))
_PREFIX = "latency_ns."


def add_parser(subparsers: Any) -> None:
    """Register the verb with argparse."""
    parser = subparsers.add_parser("latency", help="latency of each stage", description=__doc__)
    parser.add_argument(
        "path", type=Path, metavar="RUN", help=f"statistics page, or the run directory with `{PAGE_NAME}`"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, nanoseconds")


def run(args: argparse.Namespace) -> int:
    """Exit code: 0 ok, 64 no such page."""
    path = args.path / PAGE_NAME if args.path.is_dir() else args.path
    try:
        found = stage_rows(StatsReader(path))
    except (OSError, ValueError) as problem:
        print(f"tickwright latency: {problem}", file=sys.stderr)
        return EXIT_USAGE
    if args.json:
        print(json.dumps({"page": str(path), "unit": "ns", "stages": found}))
        return EXIT_OK
    print(f"{'venue':10} {'stage':14} {'p50 us':>9} {'p90':>9} {'p99':>9} {'p99.9':>9} {'max':>9} {'orders':>9}")
    for row in found:
        figures = " ".join(f"{row[name] / 1000:>9.2f}" for name in ("p50", "p90", "p99", "p99.9", "max"))
        print(f"{row['venue']:10} {row['stage']:14} {figures} {row['count']:>9}")
    return EXIT_OK


def stage_rows(reader: StatsReader) -> list[dict[str, Any]]:
    """One row a venue and stage, in the order of the stages, tick-to-trade last; nanoseconds."""
    order = {name: index for index, name in enumerate([*STAGE_NAMES, TICK_TO_TRADE])}
    rows = []
    for name, histogram in reader.histograms().items():
        if name.startswith(_PREFIX):
            venue, _, stage = name[len(_PREFIX) :].partition(".")
            rows.append({"venue": venue, "stage": stage, **figures_of(histogram)})
    rows.sort(key=lambda row: (str(row["venue"]), order.get(str(row["stage"]), len(order))))
    return rows


def figures_of(histogram: Histogram) -> dict[str, int]:
    """Percentiles, largest value and count; nanoseconds."""
    figures = {name: histogram.percentile(percent) for percent, name in PERCENTILES}
    return {**figures, "max": histogram.max, "count": histogram.count}
