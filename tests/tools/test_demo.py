"""The whole system: exchange, engine, faults, SIGKILL and restart, judged by the exchange's own books."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.journal import read_records
from engine.ledger import OrderPlaced, decode_ledger
from engine.records import RecordKind
from tools.demo import Exchange, engine_command, prepare
from tools.recovery import recover
from tools.replay import replay
from tools.settings import load_config
from tools.truth import differences, exchange_state, orders_without_intent

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("TICKWRIGHT_DEMO_SECONDS", "60"))
KILLS = int(os.environ.get("TICKWRIGHT_KILLS", "40"))
FAULTS = "disconnects,duplicates,late-fills"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The demonstration's configuration with a state folder of its own."""
    path = tmp_path / "demo.toml"
    text = (ROOT / "config" / "demo.toml").read_text()
    text = text.replace('state_dir = "var/demo"', f'state_dir = "{tmp_path}/state"')
    # Restarts every two seconds use up a venue's weight of the minute: a question may have to wait for the next one.
    path.write_text(text.replace("stop_timeout_ms = 12_000", "stop_timeout_ms = 75_000"))
    (tmp_path / "state").mkdir()
    return path


@pytest.fixture
def exchange(tmp_path: Path, config: Path) -> Iterator[Exchange]:
    made = Exchange(tmp_path, seed=7, faults=FAULTS)
    yield made
    made.stop()


def run_engine(config: Path, seconds: float) -> None:
    done = subprocess.run(
        engine_command(config, seconds), cwd=ROOT, capture_output=True, text=True, timeout=seconds + 120, check=False
    )
    assert done.returncode == 0, done.stderr[-4_000:]


def assert_same_books(config: Path, port: int) -> None:
    """Positions, holdings and fills of the folded ledger equal the exchange's, and nothing of ours is open."""
    recovered = recover(config.parent / "state" / "journal")
    assert recovered.ended_cleanly
    assert differences(recovered.state, exchange_state(port)) == []


def assert_replays_equal(config: Path) -> None:
    recorded = 0
    for report in replay(config.parent / "state" / "journal"):
        assert report.different == 0, report.first_difference
        recorded += report.recorded  # a run that is killed at once has decided nothing
    assert recorded > 0


def intents(journal: Path) -> set[int]:
    placed = (r for r in read_records(journal, stream="ledger", tail=True) if r.kind == RecordKind.ORDER_PLACED)
    found = set()
    for record in placed:
        order = decode_ledger(record.kind, record.payload)
        assert isinstance(order, OrderPlaced)
        found.add(order.cl_ord_id)
    return found


def test_short_demonstration_agrees_with_the_exchange(exchange: Exchange, config: Path) -> None:
    effective = prepare(load_config(config), exchange.port)
    run_engine(effective, 5)
    assert_same_books(effective.parent.parent / "demo.toml", exchange.port)
    assert_replays_equal(config)


def test_engine_that_does_not_start_says_why_and_gives_its_code(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import argparse

    from tools import demo

    (config.parent / "state").rmdir()
    line = "import sys; sys.exit(sys.stderr.write('tickwright run: no space left') and 65)"
    monkeypatch.setattr(demo, "engine_command", lambda config, seconds: [sys.executable, "-c", line])
    asked = argparse.Namespace(config=config, seed=1, faults="", for_s=1.0, json=False)
    assert demo.run_demo(asked) == 65
    assert "no space left" in capsys.readouterr().err


@pytest.mark.slow
def test_demonstration_with_faults_agrees_with_the_exchange(tmp_path: Path, config: Path) -> None:
    command = [
        sys.executable, "-m", "tools.cli", "run", "--demo", "--config", str(config), "--for", str(SECONDS),
        "--faults", FAULTS, "--json",
    ]  # fmt: skip
    (config.parent / "state").rmdir()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS + 120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4_000:]
    report = json.loads(done.stdout)
    assert report["differences"] == [] and report["limits_exceeded"] == []
    assert report["decisions_different"] == 0 and report["decisions_recorded"] > 100
    assert report["open_orders_at_exchange"] == 0
    assert report["orders"] > 10 and report["fills"] > 10
    assert report["faults"].get("duplicate.fill", 0) > 0 and report["faults"].get("delay.fill", 0) > 0


@pytest.mark.slow
def test_killed_engine_recovers_the_exchange_s_truth(exchange: Exchange, config: Path) -> None:
    effective = prepare(load_config(config), exchange.port)
    journal = config.parent / "state" / "journal"
    chance = random.Random(20261122)
    for kill in range(1, KILLS + 1):
        log = (config.parent / "engine.log").open("wb")
        engine = subprocess.Popen(engine_command(effective, 60), cwd=ROOT, stdout=log, stderr=log)
        wait_for_page(config.parent / "state", engine)
        time.sleep(chance.uniform(0.0, 2.0))
        engine.send_signal(signal.SIGKILL)
        engine.wait()
        log.close()
        assert engine.returncode == -signal.SIGKILL, (config.parent / "engine.log").read_text()[-4_000:]
        assert orders_without_intent(intents(journal), exchange_state(exchange.port)) == [], f"kill {kill}"
        if kill % 10 == 0:
            run_engine(effective, 2)
            assert_same_books(config, exchange.port)
    run_engine(effective, 2)
    assert_same_books(config, exchange.port)
    assert_replays_equal(config)


def wait_for_page(folder: Path, engine: subprocess.Popen[Any]) -> None:
    """Until this engine, not the one before it, has made its statistics page: it is then about to connect."""
    page = folder / "stats"
    before = page.stat().st_ino if page.exists() else 0
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and engine.poll() is None:
        if page.exists() and page.stat().st_ino != before:
            return
        time.sleep(0.01)
