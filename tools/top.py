"""`tickwright top`: the engine's state in a terminal, read from its statistics page and its ledger.

A process of its own: it may be started, stopped and killed while the engine trades. Without a terminal it prints a
line a second.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec

from engine import ledger
from engine.errors import ConfigError, JournalError
from engine.instrument import Instrument, text_from_atoms
from engine.journal import read_records
from engine.metrics import PAGE_NAME, TICK_TO_TRADE
from engine.records import RecordKind
from engine.types import NO_PX
from ext.stats import StatsReader
from tools.latency import stage_rows

BOLD, DIM, GREEN, RED, YELLOW, RESET = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
HEALTH = ("DOWN", "DEGRADED", "UP")
SHOWN = {
    RecordKind.ORDER_FILLED, RecordKind.LEG_CHANGED, RecordKind.VENUE_GATE, RecordKind.ANOMALY, RecordKind.CORRECTION,
    RecordKind.ORDER_REJECTED, RecordKind.ORDER_UNKNOWN, RecordKind.KILL_SWITCH, RecordKind.RISK_REFUSED,
}  # fmt: skip


class View:
    """What the engine shows of itself right now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reader: StatsReader | None = None
        self.instruments: dict[int, Instrument] = {}
        self.recent: deque[str] = deque(maxlen=8)
        self.next_seq = 0
        self.strategies: list[str] = []

    def poll(self) -> bool:
        """Read the page and the new part of the ledger. False while there is no engine yet."""
        page = self.folder / PAGE_NAME
        if self.reader is None or self.reader.is_replaced:
            if not page.exists():
                return False
            try:
                self.reader = StatsReader(page)
            except (OSError, ValueError):
                return False
        try:
            for record in read_records(self.folder / "journal", self.next_seq, stream="ledger"):
                self.next_seq = record.seq + 1
                self._note(record.kind, record.payload)
        except JournalError:
            return True  # the journal is being made, or a block is on its way: the page is still true
        return True

    def _note(self, kind: int, payload: bytes) -> None:
        if kind == RecordKind.INSTRUMENT_DEFINED:
            noted = ledger.decode_ledger(kind, payload)
            assert isinstance(noted, ledger.InstrumentNoted)
            self.instruments[noted.instrument.index] = noted.instrument
        elif kind in SHOWN:
            self.recent.append(line_of(ledger.decode_ledger(kind, payload), self.instruments))

    def snapshot(self) -> dict[str, Any]:
        assert self.reader is not None
        return {"gauges": self.reader.gauges(), "counters": self.reader.counters(), "latency": stage_rows(self.reader)}


def line_of(record: ledger.LedgerRecord, instruments: dict[int, Instrument]) -> str:
    """One ledger record as a person reads it."""
    fields = msgspec.structs.asdict(record)
    instrument = instruments.get(fields.get("instrument", -1))
    if isinstance(record, ledger.OrderFilled) and instrument is not None:
        role = "maker" if record.is_maker else "taker"
        return (
            f"fill {record.side.name:4} {instrument.qty_text(record.qty_lots)} @ {instrument.px_text(record.px_ticks)} "
            f"{instrument.name} {role}"
        )
    if isinstance(record, ledger.LegChanged):
        return f"plan {record.plan_id} {record.state} residual {text_from_atoms(record.residual_atoms)} {record.text}"
    if isinstance(record, ledger.VenueGate):
        return f"{record.venue.name} gate {'open' if record.is_open else 'closed'}: {record.text}"
    if isinstance(record, ledger.Anomaly):
        return f"anomaly {record.what}: {record.text}"
    if isinstance(record, ledger.RiskRefused):
        return f"refused {record.reason}: would be {record.value}, limit {record.limit}"
    kept = {key: value for key, value in fields.items() if value not in ("", 0)}
    return f"{type(record).__name__} " + " ".join(f"{key}={value}" for key, value in kept.items())


def screen_lines(view: View, now: float, started: float) -> Iterator[str]:
    """The whole picture, a line at a time."""
    shot = view.snapshot()
    gauges, counters = shot["gauges"], shot["counters"]
    venues = "  ".join(
        f"{name[13:].upper()} {HEALTH[value]}" for name, value in gauges.items() if name.startswith("venue_health.")
    )
    yield f"{BOLD}tickwright{RESET}  epoch {gauges.get('epoch', 0)}  {now - started:5.1f} s  {venues}"
    yield ""
    yield f"{DIM}{'instrument':28} {'bid':>12} {'ask':>12} {'spread':>8} {'position':>12} {'book':>9}{RESET}"
    for index, instrument in sorted(view.instruments.items()):
        yield book_line(instrument, gauges, str(index))
    yield ""
    nets = "  ".join(f"{n[10:]} {text_from_atoms(v)}" for n, v in gauges.items() if n.startswith("net_atoms."))
    yield f"net {nets}   open orders {gauges.get('open_orders', 0)}   unknown {gauges.get('unknown_orders_now', 0)}"
    yield (
        f"orders {counters.get('orders', 0)}  fills {counters.get('fills', 0)}  rejects {counters.get('rejects', 0)}  "
        f"plans {counters.get('plans_done', 0)}  hedges {counters.get('hedges', 0)}  "
        f"duplicates {counters.get('duplicate_fills', 0)}  gaps {counters.get('sequence_gaps', 0)}"
    )
    pnl = gauges.get("pnl_atoms", 0)
    color = GREEN if pnl >= 0 else RED
    yield (
        f"P&L {color}{money(pnl)}{RESET}  realised {money(gauges.get('realized_pnl_atoms', 0))}  "
        f"unrealised {money(gauges.get('unrealized_pnl_atoms', 0))}  fees {money(gauges.get('fees_atoms', 0))}"
    )
    yield ""
    yield f"{DIM}{LATENCY_HEAD}{RESET}"
    yield from latency_lines(shot["latency"])
    yield ""
    yield (
        f"journal lag {gauges.get('journal_lag_records', 0)} records  "
        f"free {gauges.get('journal_free_ppm', 0) / 10_000:.0f} %"
    )
    yield ""
    for line in view.recent:
        yield f"{DIM}{line}{RESET}"


def latency_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        figures = " ".join(f"{row[name] / 1e3:>9.1f}" for name in ("p50", "p99", "p99.9", "max"))
        yield f"{row['venue']:8} {row['stage']:14} {row['count']:>9} {figures}"


LATENCY_HEAD = f"{'latency us':23} {'count':>9} {'p50':>9} {'p99':>9} {'p99.9':>9} {'max':>9}"


def book_line(instrument: Instrument, gauges: dict[str, int], label: str) -> str:
    bid, ask = gauges.get(f"bid_px_ticks.{label}", NO_PX), gauges.get(f"ask_px_ticks.{label}", NO_PX)
    if NO_PX in (bid, ask):
        return f"{instrument.name:28} {'-':>12} {'-':>12}"
    spread = (ask - bid) * 10_000 / max(1, bid)
    is_valid = gauges.get(f"book_valid.{label}", 0)
    age = f"{gauges.get(f'book_age_ms.{label}', 0)} ms"
    state = f"{age:>9}" if is_valid else f"{YELLOW}{'invalid':>9}{RESET}"
    held = instrument.qty_text(gauges.get(f"position_lots.{label}", 0))
    return (
        f"{instrument.name:28} {instrument.px_text(bid):>12} {instrument.px_text(ask):>12} {spread:>5.2f} bp "
        f"{held:>12} {state}"
    )


def money(atoms: int) -> str:
    return f"{atoms / 1e8:,.2f}"


def plain_line(view: View, elapsed: float) -> str:
    shot = view.snapshot()
    gauges, counters = shot["gauges"], shot["counters"]
    trades = [row for row in shot["latency"] if row["stage"] == TICK_TO_TRADE and row["count"]]
    trade: dict[str, Any] = max(trades, key=lambda row: int(row["count"]), default={})
    return (
        f"{elapsed:5.1f} s  orders {counters.get('orders', 0)}  fills {counters.get('fills', 0)}  "
        f"open {gauges.get('open_orders', 0)}  unknown {gauges.get('unknown_orders_now', 0)}  "
        f"P&L {money(gauges.get('pnl_atoms', 0))}  "
        f"tick-to-trade p50 {trade.get('p50', 0) / 1e3:.0f} us p99 {trade.get('p99', 0) / 1e3:.0f} us  "
        f"journal lag {gauges.get('journal_lag_records', 0)}"
    )


class Painter:
    """Draws on a terminal, or prints a line a second where there is none."""

    def __init__(self, view: View, out: TextIO) -> None:
        self.view = view
        self.out = out
        self.is_terminal = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.use_color = self.is_terminal and "NO_COLOR" not in os.environ
        self.started = time.monotonic()
        self.next_line = 0.0

    def paint(self) -> None:
        if not self.view.poll():
            return
        now = time.monotonic()
        if not self.is_terminal:
            if now >= self.next_line:
                self.next_line = now + 1.0
                self.out.write(plain_line(self.view, now - self.started) + "\n")
                self.out.flush()
            return
        size = shutil.get_terminal_size()
        lines = list(screen_lines(self.view, now, self.started))[: size.lines - 1]
        text = "".join(f"\x1b[2K{line}\r\n" for line in lines)
        if not self.use_color:
            for code in (BOLD, DIM, GREEN, RED, YELLOW, RESET):
                text = text.replace(code, "")
        self.out.write(f"\x1b[H{text}\x1b[J")
        self.out.flush()

    def open(self) -> None:
        if self.is_terminal:
            self.out.write("\x1b[?25l\x1b[2J")

    def close(self) -> None:
        if self.is_terminal:
            self.out.write("\x1b[?25h\n")
            self.out.flush()


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("top", help="watch a running engine", epilog="example: tickwright top var/demo")
    parser.add_argument("folder", type=Path, help="state folder of the engine (engine.state_dir)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and end")


def run(args: argparse.Namespace) -> int:
    view = View(args.folder)
    if not view.poll():
        raise ConfigError([f"{args.folder}: no statistics page of an engine there"])
    if args.json:
        print(json.dumps(view.snapshot()))
        return 0
    painter = Painter(view, sys.stdout)
    painter.open()
    try:
        while True:
            painter.paint()
            time.sleep(0.25)
    finally:
        painter.close()
