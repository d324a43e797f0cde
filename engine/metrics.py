"""What the engine counts: the layout of its statistics page. A shell file: it opens the page's file.

The names below are the interface to every other process (exporter, terminal view, `tickwright latency`); they are
written once here. Units are the last word of a name. `NullMetrics` and `NullStages` have the same faces and do
nothing, for replay.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine.stages import STAGE_NAMES, NullStages, Stages
from ext.stats import Counter, Gauge, StatsPage
from ext.stats import StageClock as StageClock

PAGE_NAME: Final = "stats"
"""File name of the page in a run directory."""
TICK_TO_TRADE: Final = "tick_to_trade"


COUNTERS: Final = (
    "frames",
    "frame_bytes",
    "events",
    "decisions",
    "orders",
    "cancels",
    "amends",
    "fills",
    "rejects",
    "refusals",
    "sequence_gaps",
    "snapshots",
    "reconnects",
    "requests",
    "request_errors",
    "unknown_orders",
    "duplicate_fills",
    "anomalies",
    "journal_refused",
)
"""Counted for the engine as a whole, and by venue where `by_venue` is asked."""

GAUGES: Final = (
    "epoch",
    "open_orders",
    "unknown_orders_now",
    "journal_lag_records",
    "journal_free_ppm",
    "ring_high_water_bytes",
    "realized_pnl_atoms",
    "unrealized_pnl_atoms",
    "fees_atoms",
    "heartbeat_ns",
    "halted",
)


class _NullCounter:
    value = 0

    def add(self, amount: int = 1) -> None:
        pass

    def set(self, value: int) -> None:
        pass


class Metrics:
    """The engine's page. Counters and gauges are looked up by name once and then kept by whoever counts.

    `stages` takes the index of a venue in `venues` as the venue of an order.
    """

    def __init__(self, path: str | os.PathLike[str], venues: Sequence[str]) -> None:
        self.path = Path(path)
        self.page = StatsPage(self.path)
        self.venues = list(venues)
        self.stages: Stages = StageClock(self.page, self.venues, STAGE_NAMES)
        for name in COUNTERS:
            self.page.counter(name)
        for name in GAUGES:
            self.page.gauge(name)

    def counter(self, name: str, label: str = "") -> Counter:
        """A counter, made when it is not there: `orders`, or with a label (venue, reason, symbol) `orders.binance`."""
        return self.page.counter(_name(name, label))

    def gauge(self, name: str, label: str = "") -> Gauge:
        return self.page.gauge(_name(name, label))


class NullMetrics:
    """Counts nothing."""

    stages: Stages = NullStages()
    _number = _NullCounter()

    def counter(self, name: str, label: str = "") -> _NullCounter:
        return self._number

    def gauge(self, name: str, label: str = "") -> _NullCounter:
        return self._number


def _name(name: str, label: str) -> str:
    return f"{name}.{label}" if label else name
