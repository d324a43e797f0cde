"""The view of a running engine: plain lines without a terminal, a picture with one, colors only where wanted."""

from __future__ import annotations

import io
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from engine import ledger
from engine.instrument import Instrument
from engine.journal import Journal
from engine.metrics import PAGE_NAME, Metrics
from engine.types import InstrumentKind, Market, OrdStatus, Side, Venue
from ext.stats import clock_ns
from tools.cli import main
from tools.top import Painter, View, line_of

INSTRUMENT = Instrument(
    index=0, venue=Venue.BINANCE, market=Market.LINEAR, kind=InstrumentKind.PERPETUAL, symbol="BTCUSDT", base="BTC",
    quote="USDT", settle="USDT", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"),
)  # fmt: skip
FILL = ledger.OrderFilled(
    Venue.BINANCE, 0, 1, "V1", "E1", Side.BUY, 640_005, 12, 0, "USDT", False, 0, OrdStatus.FILLED
)  # fmt: skip
GAUGES = {
    ("epoch", ""): 3, ("venue_health", "binance"): 2, ("venue_health", "bybit"): 1, ("bid_px_ticks", "0"): 640_000,
    ("ask_px_ticks", "0"): 640_010, ("position_lots", "0"): -7, ("book_valid", "0"): 1, ("book_age_ms", "0"): 4,
    ("net_atoms", "BTC"): 1_500_000, ("pnl_atoms", ""): -12_34000000, ("open_orders", ""): 2,
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def write_page(folder: Path) -> Metrics:
    metrics = Metrics(folder / PAGE_NAME, ["binance"])
    for (name, label), value in GAUGES.items():
        metrics.gauge(name, label).set(value)
    metrics.counter("orders").add(41)
    for _ in range(3):
        metrics.stages.begin(clock_ns())
        for stage in range(5):
            metrics.stages.mark(stage)
        metrics.stages.commit(0)
    return metrics


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What an engine leaves behind: its page and its journal."""
    write_page(tmp_path)
    journal = Journal.open(tmp_path / "journal", ring_mib=1, segment_mib=8)
    for record in (ledger.InstrumentNoted(INSTRUMENT), FILL, ledger.VenueGate(Venue.BYBIT, False, "reconciling")):
        journal.append(record.kind, 0, 0, ledger.encode_ledger(record))
    journal.close()
    return tmp_path


def painted(folder: Path, out: io.StringIO) -> str:
    painter = Painter(View(folder), out)
    painter.open()
    painter.paint()
    painter.close()
    return out.getvalue()


def test_without_a_terminal_it_is_one_plain_line_a_second(folder: Path) -> None:
    out = io.StringIO()
    painter = Painter(View(folder), out)
    painter.open()
    painter.paint()
    painter.paint()
    painter.close()
    (line,) = out.getvalue().splitlines()
    assert "\x1b" not in line
    assert "orders 41" in line and "open 2" in line and "P&L -12.34" in line and "tick-to-trade p50" in line


def test_on_a_terminal_it_is_a_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("LINES", "60")
    monkeypatch.setenv("COLUMNS", "140")
    text = painted(folder, Terminal())
    assert text.startswith("\x1b[?25l") and text.endswith("\x1b[?25h\n"), "the cursor comes back"
    bare = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "BINANCE UP" in bare and "BYBIT DEGRADED" in bare and "epoch 3" in bare
    row = next(line for line in bare.splitlines() if line.startswith(INSTRUMENT.name))
    assert row.split()[1:] == ["64000", "64001", "0.16", "bp", "-0.007", "4", "ms"]
    assert "net BTC 0.015" in bare
    assert f"fill BUY  0.012 @ 64000.5 {INSTRUMENT.name} taker" in bare
    assert "BYBIT gate closed: reconciling" in bare
    assert "\x1b[31m-12.34" in text, "a loss is red"


def test_no_color_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    text = painted(folder, Terminal())
    assert "\x1b[H" in text and not re.search(r"\x1b\[\d*m", text)


def test_dumb_terminal_gets_lines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in painted(folder, Terminal())


def test_picture_is_not_taller_than_the_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LINES", "6")
    monkeypatch.setenv("COLUMNS", "80")
    assert painted(folder, Terminal()).count("\x1b[2K") == 5


def test_invalid_book_is_shown_as_invalid(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LINES", "60")
    metrics = write_page(folder)
    metrics.gauge("book_valid", "0").set(0)
    assert "invalid" in painted(folder, Terminal())


def test_page_of_the_next_engine_is_taken_up(folder: Path) -> None:
    view = View(folder)
    assert view.poll() and view.snapshot()["gauges"]["epoch"] == 3
    (folder / PAGE_NAME).unlink()
    write_page(folder).gauge("epoch").set(4)
    assert view.poll() and view.snapshot()["gauges"]["epoch"] == 4


def test_ledger_is_read_once(folder: Path) -> None:
    view = View(folder)
    for _ in range(3):
        view.poll()
    assert len(view.recent) == 2


def test_no_engine_yet_paints_nothing(tmp_path: Path) -> None:
    assert View(tmp_path).poll() is False
    assert painted(tmp_path, io.StringIO()) == ""


def test_folder_without_an_engine_is_a_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", str(tmp_path)]) == 78
    assert "no statistics page" in capsys.readouterr().err


def test_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--json", str(folder)]) == 0
    shot = json.loads(capsys.readouterr().out)
    assert shot["gauges"]["venue_health.bybit"] == 1 and shot["counters"]["orders"] == 41
    assert [row["stage"] for row in shot["latency"]][-1] == "tick_to_trade"


def test_every_kind_of_record_that_is_shown_has_a_line() -> None:
    assert line_of(ledger.Anomaly("overfill", 1, "12 of 10"), {}) == "anomaly overfill: 12 of 10"
    assert line_of(ledger.LegChanged(3, "hedging", -1_000_000, "cross"), {}) == "plan 3 hedging residual -0.01 cross"
    refused = ledger.RiskRefused(0, 0, Side.BUY, 1, 2, "COLLAR", 9, 8)
    assert line_of(refused, {}) == "refused COLLAR: would be 9, limit 8"
    assert line_of(ledger.OrderUnknown(7, "no answer"), {}) == "OrderUnknown cl_ord_id=7 text=no answer"
    assert line_of(FILL, {}).startswith("OrderFilled "), "an instrument that is not known yet"
