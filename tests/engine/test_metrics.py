"""The layout of the statistics page."""

from __future__ import annotations

from pathlib import Path

from engine.metrics import COUNTERS, GAUGES, PAGE_NAME, TICK_TO_TRADE, Metrics, NullMetrics
from engine.stages import STAGE_NAMES, Stage
from ext.stats import StatsReader, clock_ns


def test_every_name_is_on_the_page_from_the_start(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / PAGE_NAME, ["binance", "bybit"])
    reader = StatsReader(metrics.path)
    assert set(reader.counters()) == set(COUNTERS) and set(reader.gauges()) == set(GAUGES)
    expected = {f"latency_ns.{venue}.{stage}" for venue in metrics.venues for stage in [*STAGE_NAMES, TICK_TO_TRADE]}
    assert set(reader.histograms()) == expected


def test_labelled_numbers_stand_beside_the_whole(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / PAGE_NAME, ["binance"])
    metrics.counter("orders").add(3)
    metrics.counter("refusals", "max_position").add(2)
    metrics.gauge("position_lots", "BTCUSDT").set(-4)
    reader = StatsReader(metrics.path)
    assert reader.counters()["orders"] == 3 and reader.counters()["refusals.max_position"] == 2
    assert reader.gauges()["position_lots.BTCUSDT"] == -4


def test_stages_reach_the_page(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / PAGE_NAME, ["binance", "bybit"])
    metrics.stages.begin(clock_ns())
    for stage in Stage:
        metrics.stages.mark(stage)
    metrics.stages.commit(1)
    found = StatsReader(metrics.path).histograms()
    assert all(found[f"latency_ns.bybit.{name}"].count == 1 for name in [*STAGE_NAMES, TICK_TO_TRADE])


def test_null_metrics_take_everything_and_keep_nothing() -> None:
    metrics = NullMetrics()
    metrics.stages.begin(1)
    metrics.stages.mark(Stage.WRITTEN)
    metrics.stages.commit(0)
    metrics.counter("orders").add(3)
    metrics.gauge("open_orders", "x").set(3)
    assert metrics.counter("orders").value == 0
