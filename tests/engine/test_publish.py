"""What other processes see of the engine: gauges are the core's numbers, counters only grow by what happened."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine import events
from engine.publish import INSTRUMENT_GAUGES, Publisher
from engine.types import ExecType, OrdStatus, Side, Venue

JOURNAL = SimpleNamespace(lag_records=17, free_fraction=0.25)


class Page:
    """Numbers by name."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def gauge(self, name: str, label: str = "") -> Any:
        key = f"{name}.{label}" if label else name
        return SimpleNamespace(set=lambda value: self.numbers.__setitem__(key, value))

    def counter(self, name: str, label: str = "") -> Any:
        key = f"{name}.{label}" if label else name
        return SimpleNamespace(add=lambda more: self.numbers.__setitem__(key, self.numbers.get(key, 0) + more))


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def publisher(desk: Any, page: Page) -> Publisher:
    return Publisher(desk.pipeline, page, 9)


def test_epoch_is_there_from_the_start(publisher: Publisher, page: Page) -> None:
    assert page.numbers == {"epoch": 9}


def test_instruments_books_and_venues(desk: Any, publisher: Publisher, page: Page) -> None:
    desk.fill(desk.place(qty=10), 10)
    publisher.publish(desk.now + 7_000_000, JOURNAL)
    shown = page.numbers
    assert {f"{name}.0" for name in INSTRUMENT_GAUGES} <= set(shown)
    assert (shown["bid_px_ticks.0"], shown["ask_px_ticks.0"], shown["bid_qty_lots.0"]) == (640_000, 640_001, 1_000)
    assert (shown["book_valid.0"], shown["book_age_ms.0"], shown["position_lots.0"]) == (1, 7, 10)
    assert (shown["venue_health.bybit"], shown["venue_gate_open.bybit"]) == (2, 1)
    assert (shown["net_atoms.BTC"], shown["fees_atoms"]) == (1_000_000, 100)
    assert (shown["journal_lag_records"], shown["journal_free_ppm"]) == (17, 250_000)


def test_profit_is_realised_and_unrealised_less_fees(desk: Any, publisher: Publisher, page: Page) -> None:
    desk.fill(desk.place(qty=10), 10, px=640_000)
    desk.fill(desk.place(side=Side.SELL, px=640_100, qty=4), 4, px=640_100)
    desk.quote(0, 640_200, 640_200)
    publisher.publish(desk.now, JOURNAL)
    tick_lot = 10**4  # 0.1 * 0.001 of a quote unit, in atoms
    shown = page.numbers
    assert shown["realized_pnl_atoms"] == 4 * 100 * tick_lot
    assert shown["unrealized_pnl_atoms"] == 6 * 200 * tick_lot
    assert shown["pnl_atoms"] == (400 + 1_200) * tick_lot - 200


def test_counters_count_once_however_often_they_are_published(desk: Any, publisher: Publisher, page: Page) -> None:
    desk.fill(desk.place(qty=1), 1)
    for _ in range(3):
        publisher.publish(desk.now, JOURNAL)
    assert (page.numbers["orders"], page.numbers["fills"]) == (1, 1)
    desk.fill(desk.place(qty=1), 1)
    publisher.publish(desk.now, JOURNAL)
    assert (page.numbers["orders"], page.numbers["fills"]) == (2, 2)


def test_trouble_has_numbers_of_its_own(desk: Any, publisher: Publisher, page: Page) -> None:
    ident = desk.place(qty=1)
    desk.report(ident, ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN, order_id="")
    desk.place(qty=600)
    desk.say(events.BookInvalid(desk.now, 0, "gap"))
    desk.say(events.VenueNotice(desk.now, Venue.BYBIT, "shutdown"))
    publisher.publish(desk.now, JOURNAL)
    shown = page.numbers
    assert (shown["unknown_orders"], shown["unknown_orders_now"], shown["open_orders"]) == (1, 1, 1)
    assert (shown["refusals.position_limit"], shown["sequence_gaps"], shown["anomalies.venue_notice"]) == (1, 1, 1)
    assert (shown["venue_health.binance"], shown["venue_health.bybit"]) == (1, 1)


def test_kill_and_stop_are_shown(desk: Any, publisher: Publisher, page: Page) -> None:
    publisher.publish(desk.now, JOURNAL)
    assert (page.numbers["halted"], page.numbers["stopping"]) == (0, 0)
    desk.pipeline.on_command("halt", {}, "uid 0", desk.now)
    publisher.publish(desk.now, JOURNAL)
    assert (page.numbers["halted"], page.numbers["stopping"]) == (1, 1)


def test_number_beyond_64_bits_is_cut_and_ends_nothing(publisher: Publisher, page: Page) -> None:
    publisher._set("x", 2**70)
    publisher._set("y", -(2**70))
    assert (page.numbers["x"], page.numbers["y"]) == (2**63 - 1, -(2**63))
