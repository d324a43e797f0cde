"""Figures of the statistics page are those of the stamps, a row a venue and stage, in the order of the stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.metrics import PAGE_NAME, TICK_TO_TRADE
from engine.stages import STAGE_NAMES
from ext.histogram import Histogram
from ext.stats import StatsPage, StatsReader
from tools.cli import main
from tools.latency import figures_of, stage_rows


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Two venues whose rows were made in no particular order, and a histogram that is no latency."""
    made = StatsPage(tmp_path / PAGE_NAME)
    for stage in (TICK_TO_TRADE, *reversed(STAGE_NAMES)):
        for venue in ("bybit", "binance"):
            made.histogram(f"latency_ns.{venue}.{stage}").record(1_000)
    made.histogram("queue_length").record(3)
    return tmp_path / PAGE_NAME


def test_rows_are_sorted_by_venue_and_stage(page: Path) -> None:
    rows = [(row["venue"], row["stage"]) for row in stage_rows(StatsReader(page))]
    assert rows == [(venue, stage) for venue in ("binance", "bybit") for stage in (*STAGE_NAMES, TICK_TO_TRADE)]


def test_figures_are_percentiles_within_the_histogram_s_width() -> None:
    histogram = Histogram()
    for value in range(1, 1_001):
        histogram.record(value * 1_000)
    figures = figures_of(histogram)
    assert figures["count"] == 1_000 and figures["max"] == 1_000_000
    for name, exact in (("p50", 500_000), ("p90", 900_000), ("p99", 990_000), ("p99.9", 999_000)):
        assert figures[name] == pytest.approx(exact, rel=0.02), name


def test_page_and_its_folder_are_both_taken(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for path in (page, page.parent):
        assert main(["latency", "--json", str(path)]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1] and told[0]["unit"] == "ns"
    assert main(["latency", str(page)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(told[0]["stages"]) and "p99.9" in lines[0]


def test_file_that_is_no_page_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / PAGE_NAME).write_bytes(b"no page" * 1_000)
    assert main(["latency", str(tmp_path)]) == 64
    assert len(capsys.readouterr().err.splitlines()) == 1
