"""Every benchmark runs, with counts so small that nothing is timed truly: what measures must not rot."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import bench_path, run
from bench.bench_tick_to_trade import measure
from bench.contest import OURS, Row, lines, run_rows
from bench.peers import DictBook, SortedBook, copied_hmac, decode_into_dicts
from bench.rows_market import bybit_stream, market_rows
from bench.rows_order import journal_rows, order_rows, statistics_rows
from bench.run import tick_rows

ROOT = Path(__file__).resolve().parents[2]
SMALL = 20


def row_of(ours: float, peer: float, **options: object) -> Row:
    return Row("r", "ns", {OURS: lambda: ours, "peer": lambda: peer}, **options)  # type: ignore[arg-type]


def test_row_is_judged_by_its_limits() -> None:
    for ours, word in ((9.0, "aim"), (10.0, "aim"), (11.0, "must"), (21.0, "NO")):
        row = row_of(ours, 100.0, must=20.0, aim=10.0)
        row.take_turn()
        assert row.reached == word
        assert row.ratio("peer") == pytest.approx(100.0 / ours)


def test_rate_is_better_when_higher() -> None:
    row = row_of(5e6, 1e6, must=1e6, aim=10e6, is_rate=True)
    row.take_turn()
    assert (row.reached, row.ratio("peer")) == ("must", 5.0)


def test_row_against_a_peer_is_judged_by_the_ratio() -> None:
    row = row_of(30.0, 20.0, must=1.6, aim=1.3, judged_peer="peer")
    row.take_turn()
    assert (row.judged, row.reached) == (1.5, "must")


def test_first_turn_warms_up_and_is_dropped() -> None:
    figures = iter((100.0, 1.0, 2.0, 3.0))
    row = Row("r", "ns", {OURS: lambda: next(figures)})
    run_rows([row], 3)
    assert row.taken == {OURS: [1.0, 2.0, 3.0]}


def test_peers_keep_the_same_book() -> None:
    plain = DictBook()
    for frame in bybit_stream(50):
        decode_into_dicts(frame, plain)
    messages = [([(10, 1), (9, 2)], [(12, 1), (11, 3)], True), ([(10, 0), (8, 1)], [(11, 0)], False)]
    first, second = DictBook(), SortedBook()
    for bids, asks, is_snapshot in messages:
        first.apply(bids, asks, is_snapshot)
        second.apply(bids, asks, is_snapshot)
    assert (first.best_bid, first.best_ask) == second.best == (9, 12)
    assert plain.best_bid < plain.best_ask


def test_peer_signs_alike() -> None:
    assert len(copied_hmac(b"key")(b"message")) == 64  # compared with hmac when it is made


def test_market_and_order_rows_run(tmp_path: Path) -> None:
    rows = [*market_rows(tmp_path, SMALL), *order_rows(SMALL), *statistics_rows(tmp_path, SMALL)]
    run_rows(rows, 1)
    assert all(row.figure() > 0 for row in rows)
    assert len(lines(rows)) > len(rows)
    json.dumps([row.as_dict() for row in rows])


def test_journal_rows_run(tmp_path: Path) -> None:
    rows = list(journal_rows(tmp_path, SMALL))
    run_rows(rows, 1)
    assert all(row.figure() > 0 for row in rows)


def test_path_leads_from_a_frame_to_an_order() -> None:
    was_enabled = gc.isenabled()
    times = bench_path.measure(40)
    assert len(times) == 40  # an order for every tick
    assert gc.isenabled() == was_enabled


@pytest.mark.slow
def test_every_client_trades_against_the_loopback_venue() -> None:
    found = measure(("limit", "engine", "python"), 1, 20, 100, 20)
    for runs in found.values():
        assert [run[phase]["count"] for run in runs for phase in ("closed", "paced")] == [100, 20]
        assert runs[0]["closed"]["p50"] > 0
    assert len(list(tick_rows(found))) == 5
    stages = {row["stage"]: row["count"] for row in found["engine"][0]["stages"]}
    assert stages["tick_to_trade"] >= 120


@pytest.mark.slow
@pytest.mark.parametrize("name", ["book", "decode", "gate", "journal", "sign", "throttle"])
def test_benchmark_runs_alone(name: str, tmp_path: Path) -> None:
    options = ["--quick", "--directory", str(tmp_path)] if name == "journal" else []
    environment = os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{ROOT}".lstrip(":")}
    command = [sys.executable, str(ROOT / "bench" / f"bench_{name}.py"), *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_unknown_row_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["run", "--quick", "--only", "no such row"])
    assert run.main() == 64
    assert "no row holds" in capsys.readouterr().err
