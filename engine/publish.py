"""Copy what the core knows into the statistics page, from a timer and never from the hot path.

Reads the core, writes numbers; every other process (view, exporter, latency) sees the engine through them.
"""

from __future__ import annotations

from typing import Any, Protocol

from engine.pipeline import Pipeline

INSTRUMENT_GAUGES = (
    "bid_px_ticks", "bid_qty_lots", "ask_px_ticks", "ask_qty_lots", "position_lots", "book_valid", "book_age_ms",
)  # fmt: skip


class Number(Protocol):
    def set(self, value: int, /) -> None: ...


class Page(Protocol):
    def gauge(self, name: str, label: str = "") -> Any: ...
    def counter(self, name: str, label: str = "") -> Any: ...


class JournalGauges(Protocol):
    @property
    def lag_records(self) -> int: ...
    @property
    def free_fraction(self) -> float: ...


class Publisher:
    """`publish` costs tens of microseconds; the shell calls it some times a second."""

    def __init__(self, pipeline: Pipeline, metrics: Page, epoch: int) -> None:
        self.pipeline = pipeline
        self.metrics = metrics
        self.gauges: dict[str, Any] = {}
        self.counted: dict[str, int] = {}
        self.counters: dict[str, Any] = {}
        self._set("epoch", epoch)

    def publish(self, now_ns: int, journal: JournalGauges) -> None:
        core = self.pipeline.core
        for index in core.instruments:
            self._instrument(index, now_ns)
        for venue, health in core.health.items():
            self._set("venue_health", int(health.state(now_ns)), venue.name.lower())
            self._set("venue_gate_open", int(health.is_gate_open), venue.name.lower())
        portfolio = core.state.portfolio
        mids = core.mid_ticks()
        for base in core.config.risk.underlyings:
            self._set("net_atoms", portfolio.net_atoms(base), base)
        self._set("realized_pnl_atoms", portfolio.realised_atoms())
        self._set("unrealized_pnl_atoms", portfolio.unrealised_atoms(mids))
        self._set("fees_atoms", portfolio.fees_atoms())
        self._set("pnl_atoms", portfolio.pnl_atoms(mids))
        orders = core.state.open_orders.values()
        self._set("open_orders", len(orders))
        self._set("unknown_orders_now", sum(1 for order in orders if order.status.name == "UNKNOWN"))
        self._set("active_plans", len(core.legs.plans))
        self._set("halted", int(core.risk.gate.is_killed))
        self._set("stopping", int(bool(core.stop_deadline_ns)))
        self._set("journal_lag_records", journal.lag_records)
        self._set("journal_free_ppm", int(journal.free_fraction * 1_000_000))
        self._set("heartbeat_ns", now_ns)
        self._totals()

    def _instrument(self, index: int, now_ns: int) -> None:
        core, label = self.pipeline.core, str(index)
        self._set("position_lots", core.state.portfolio.position_lots(index), label)
        book = core.books.get(index)
        if book is None:
            self._set("book_valid", 0, label)
            return
        self._set("bid_px_ticks", book.best_bid_px, label)
        self._set("bid_qty_lots", book.best_bid_qty, label)
        self._set("ask_px_ticks", book.best_ask_px, label)
        self._set("ask_qty_lots", book.best_ask_qty, label)
        self._set("book_valid", int(book.is_valid), label)
        self._set("book_age_ms", (now_ns - book.recv_ts_ns) // 1_000_000, label)

    def _totals(self) -> None:
        core = self.pipeline.core
        self._count("events", self.pipeline.event_count)
        self._count("orders", core.flow.placed_count)
        self._count("fills", core.state.fill_count)
        self._count("rejects", core.flow.reject_count)
        self._count("duplicate_fills", core.flow.duplicate_fill_count)
        self._count("sequence_gaps", core.gap_count)
        self._count("unknown_orders", sum(health.unknown_count for health in core.health.values()))
        self._count("journal_refused", self.pipeline.journal_lost)
        self._count("plans_done", core.legs.done_count)
        self._count("plans_failed", core.legs.failed_count)
        self._count("hedges", core.legs.hedge_count)
        self._count("corrections", sum(r.correction_count for r in core.reconcilers.values()))
        for reason, count in core.flow.refusal_counts.items():
            self._count("refusals", count, reason.lower())
        for what, count in core.anomaly_counts.items():
            self._count("anomalies", count, what.replace(" ", "_"))

    def _set(self, name: str, value: int, label: str = "") -> None:
        key = f"{name}.{label}"
        gauge = self.gauges.get(key)
        if gauge is None:
            gauge = self.gauges[key] = self.metrics.gauge(name, label)
        gauge.set(max(-(2**63), min(2**63 - 1, value)))

    def _count(self, name: str, total: int, label: str = "") -> None:
        key = f"{name}.{label}"
        counter = self.counters.get(key)
        if counter is None:
            counter = self.counters[key] = self.metrics.counter(name, label)
        counter.add(total - self.counted.get(key, 0))
        self.counted[key] = total
