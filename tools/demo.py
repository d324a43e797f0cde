"""`tickwright run --demo`: local exchange and engine as two processes, watched, stopped, judged and replayed."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import VenueUnreachable
from engine.instrument import text_from_atoms
from engine.journal import read_records
from engine.ledger import RECORDS, LedgerRecord, decode_ledger
from engine.metrics import PAGE_NAME
from engine.state import State
from ext.stats import StatsReader
from tools.latency import stage_rows
from tools.recovery import recover
from tools.replay import replay
from tools.settings import LoadedConfig, load_config, state_dir
from tools.top import LATENCY_HEAD, Painter, View, latency_lines
from tools.truth import control, differences, exchange_state, limits_exceeded

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 30.0
MARKER = "demo.json"
ACCOUNT = "demo"
EXIT_USAGE = 64  # the first of sysexits: see tools/cli.py


class DemoReport(msgspec.Struct):
    """What the demonstration ends with; `--json` prints it."""

    seconds: float
    orders: int
    fills: int
    fees: str
    pnl: str
    positions: dict[str, str]
    open_orders_at_exchange: int
    differences: list[str]
    decisions_recorded: int
    decisions_recomputed: int
    decisions_different: int
    latency: list[dict[str, Any]]
    faults: dict[str, int]
    limits_exceeded: list[str]
    engine_exit: int

    @property
    def is_good(self) -> bool:
        return not (
            self.differences or self.decisions_different or self.open_orders_at_exchange or self.limits_exceeded
            or self.engine_exit
        )  # fmt: skip


class Exchange:
    """The local exchange as a process of its own."""

    def __init__(self, folder: Path, seed: int, faults: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "tools.exchange", "--port", "0", "--seed", str(seed)]
        if faults:
            command += ["--faults", faults]
        self.log = (folder / "exchange.log").open("wb")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise VenueUnreachable(f"the local exchange did not start; see {folder / 'exchange.log'}")
        self.port = int(json.loads(line)["port"])

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def prepare(loaded: LoadedConfig, port: int) -> Path:
    """Configuration and keys of the demonstration, complete with the addresses of the exchange."""
    folder = state_dir(loaded)
    keys = folder / "credentials.toml"
    descriptor = os.open(keys, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        for name in loaded.config.venues:
            file.write(f'[{name}]\napi_key = "demo-key-{name}-0001"\nsecret = "demo-secret-{name}-0001"\n\n')
    urls = {"base_http": f"http://127.0.0.1:{port}", "base_ws": f"ws://127.0.0.1:{port}"}
    text = loaded.path.read_text().replace("[engine]\n", f'[engine]\ncredentials = "{keys.resolve()}"\n', 1)
    for name in loaded.config.venues:
        text += f"\n[venues.{name}.urls]\n" + "".join(f'{key} = "{value}"\n' for key, value in urls.items())
    path = folder / "engine.toml"
    path.write_text(text)
    load_config(path)
    return path


def fresh_folder(folder: Path) -> None:
    """The exchange starts from nothing, so the engine must: an earlier demonstration is set aside, never a real run."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise VenueUnreachable(f"{folder}: holds something else than a demonstration; choose another state_dir")
        previous = folder.with_name(folder.name + ".previous")
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("{}\n")


def engine_command(config: Path, seconds: float) -> list[str]:
    return [sys.executable, "-m", "tools.cli", "run", "--config", str(config), "--for", str(seconds)]


def watch(engine: subprocess.Popen[bytes], folder: Path, seconds: float, quiet: bool) -> None:
    """Show the engine until it ends; end it when it does not end by itself."""
    painter = Painter(View(folder), sys.stdout)
    deadline = time.monotonic() + seconds + STOP_TIMEOUT_S
    if not quiet:
        painter.open()
    try:
        while engine.poll() is None and time.monotonic() < deadline:
            if not quiet:
                painter.paint()
            time.sleep(0.2)
    except KeyboardInterrupt:
        engine.send_signal(signal.SIGTERM)
    finally:
        painter.close()
    try:
        engine.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        engine.kill()
        engine.wait()


def judge(folder: Path, port: int, engine_exit: int, seconds: float) -> DemoReport:
    """Fold the journal, ask the exchange, replay everything."""
    recovered = recover(folder / "journal")
    state = recovered.state
    truth = exchange_state(port, ACCOUNT)
    reports = list(replay(folder / "journal"))
    portfolio = state.portfolio
    config = load_config(folder / "engine.toml").config
    # Flat valuation at cost: the closing mid is on the page that the engine left behind.
    view = View(folder)
    gauges = view.snapshot()["gauges"] if view.poll() else {}
    return DemoReport(
        seconds=seconds,
        orders=sum(len(known["orders"]) for known in truth.values()),
        fills=state.fill_count,
        fees=text_from_atoms(portfolio.fees_atoms()),
        pnl=text_from_atoms(gauges.get("pnl_atoms", 0)),
        positions={
            portfolio.instruments[i].name: portfolio.instruments[i].qty_text(position.qty_lots)
            for i, position in sorted(portfolio.positions.items())
        },
        open_orders_at_exchange=sum(len(known["open_orders"]) for known in truth.values()),
        differences=differences(state, truth),
        decisions_recorded=sum(report.recorded for report in reports),
        decisions_recomputed=sum(report.recomputed for report in reports),
        decisions_different=sum(report.different for report in reports),
        latency=stage_rows(StatsReader(folder / PAGE_NAME)),
        faults=fault_counts(port),
        limits_exceeded=limits_exceeded(ledger_of(folder / "journal"), config, State()),
        engine_exit=engine_exit,
    )


def ledger_of(journal: Path) -> Iterator[LedgerRecord]:
    for record in read_records(journal, stream="ledger"):
        if record.kind in RECORDS:
            yield decode_ledger(record.kind, record.payload)


def fault_counts(port: int) -> dict[str, int]:
    return dict(control(port, "faults")["counts"])


def show(report: DemoReport) -> None:
    print(f"\nengine ended with {report.engine_exit} after {report.seconds:.0f} s")
    print(
        f"decisions recorded {report.decisions_recorded}, recomputed {report.decisions_recomputed}, "
        f"different {report.decisions_different}"
    )
    print(LATENCY_HEAD)
    for line in latency_lines(report.latency):
        print(line)
    print(f"orders {report.orders}, fills {report.fills}, fees {report.fees} USDT, P&L {report.pnl} USDT")
    for name, qty in report.positions.items():
        print(f"  {name:28} {qty:>12}")
    if report.faults:
        print("faults injected: " + ", ".join(f"{kind} {count}" for kind, count in sorted(report.faults.items())))
    print(f"orders open at the exchange: {report.open_orders_at_exchange}")
    for line in report.limits_exceeded:
        print(f"limit EXCEEDED: {line}")
    if report.differences:
        print("positions DIFFER from the exchange's:\n  " + "\n  ".join(report.differences))
    else:
        print("positions, holdings and fills equal the exchange's")


def run_demo(args: argparse.Namespace) -> int:
    """The whole demonstration; 0 when everything agrees, 1 when something does not."""
    loaded = load_config(args.config)
    folder = state_dir(loaded)
    fresh_folder(folder)
    exchange = Exchange(folder, args.seed, args.faults)
    started = time.monotonic()
    try:
        config = prepare(loaded, exchange.port)
        with (folder / "engine.log").open("wb") as log:
            engine = subprocess.Popen(engine_command(config, args.for_s or 60.0), stderr=log, stdout=log)
            watch(engine, folder, args.for_s or 60.0, quiet=args.json)
        if engine.returncode >= EXIT_USAGE:
            # It did not start, or may not go on: its own line says why, and there is nothing to judge.
            sys.stderr.write((folder / "engine.log").read_text()[-4_000:])
            return engine.returncode
        report = judge(folder, exchange.port, engine.returncode, time.monotonic() - started)
    finally:
        exchange.stop()
    if args.json:
        rows: dict[str, Any] = msgspec.to_builtins(report)
        print(json.dumps(rows | {"ok": report.is_good}))
    else:
        show(report)
        if engine.returncode:
            sys.stderr.write((folder / "engine.log").read_text()[-4_000:])
    return 0 if report.is_good else 1
