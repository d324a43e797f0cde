"""Time from a tick on the wire to the whole order on the wire, against the shortest C client and a Python one.

This is what the engine is for. A venue in C spins on one CPU and sends a Bybit orderbook.50 delta of 20 levels; the
client on the other CPU answers each with an order on its trade socket. Latency is taken by the venue, from before its
send until the last byte of the order was read, in rounds one after the other (closed) and with 300 us between ticks
(paced: caches go cold). All clients take turns. The engine also gets its order's answer and report between ticks,
outside the timed part, and waits in nobody's favour: the next tick goes out when it has taken them in.
Run: python -m bench.bench_tick_to_trade [--quick] [--clients limit,engine,python]. Ratios of one run count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.loopback import BUILD, ROOT, VenueProcess, client_cpu, compiled, end
from engine.metrics import PAGE_NAME
from ext.stats import StatsReader
from tools.latency import stage_rows

LEVELS = 20
CLIENTS = ("limit", "engine", "python")
PHASES = ("closed", "paced")
Found = dict[str, list[dict[str, Any]]]  # client -> its runs
POINTS = ("p50", "p90", "p99", "p999", "max")


@contextlib.contextmanager
def rest_stub() -> Iterator[int]:
    command = [sys.executable, "-m", "bench.rest_stub"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as stub:
        assert stub.stdout is not None
        try:
            yield int(stub.stdout.readline())
        finally:
            stub.terminate()


def client_command(kind: str, ws_port: int, rest_port: int, folder: Path) -> list[str]:
    if kind == "limit":
        return [str(compiled("limit")), str(ws_port), str(client_cpu())]
    return [sys.executable, "-m", "bench.tick_clients", kind, str(ws_port), str(rest_port), str(folder)]


def run_once(kind: str, rest_port: int, folder: Path, warm_up: int, closed: int, paced: int) -> dict[str, Any]:
    """One client against one venue: latencies in ns by phase; for the engine also its own stages."""
    venue = VenueProcess(LEVELS, warm_up, closed, paced)
    log = folder / f"{kind}.log"
    with log.open("wb") as errors:
        client = subprocess.Popen(client_command(kind, venue.port, rest_port, folder), cwd=ROOT, stderr=errors)
        try:
            found = venue.result()
        except RuntimeError as error:
            end(client)
            raise RuntimeError(f"{kind}: {error}; the client said: {log.read_text()[-2000:]}") from None
        finally:
            end(client)
            venue.close()
    if kind == "engine":
        found["stages"] = stage_rows(StatsReader(folder / "state" / PAGE_NAME))
    return found


def measure(kinds: Sequence[str], repeats: int, warm_up: int, closed: int, paced: int) -> Found:
    """Every client `repeats` times, in turn."""
    found: Found = {kind: [] for kind in kinds}
    BUILD.mkdir(parents=True, exist_ok=True)
    for _ in range(repeats):
        for kind in kinds:
            folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=BUILD))
            try:
                with rest_stub() as rest_port:
                    found[kind].append(run_once(kind, rest_port, folder, warm_up, closed, paced))
            finally:
                shutil.rmtree(folder)
    return found


def median_of(runs: Sequence[dict[str, Any]], phase: str, point: str) -> float:
    return float(statistics.median(run[phase][point] for run in runs if run[phase]["count"]))


def show(found: Found) -> None:
    limit = found.get("limit")
    for phase in PHASES:
        for kind, runs in found.items():
            figures = {point: median_of(runs, phase, point) for point in POINTS}
            ratio = f"  x{figures['p50'] / median_of(limit, phase, 'p50'):.2f} the limit" if limit else ""
            columns = "  ".join(f"{point} {value / 1000:8.1f}" for point, value in figures.items())
            lost = sum(run[phase]["lost"] for run in runs)
            print(f"{phase:7} {kind:8} {columns} us{ratio}  lost {lost}")
    for row in found["engine"][-1]["stages"] if "engine" in found else ():
        print(f"engine, {row['stage']:14} p50 {row['p50'] / 1000:8.2f}  p99 {row['p99'] / 1000:8.2f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short turn of each")
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    counts = (200, 1_000, 500) if args.quick else (2_000, 15_000, 5_000)
    found = measure(args.clients.split(","), 1 if args.quick else args.repeats, *counts)
    if args.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
