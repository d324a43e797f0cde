"""The connector against the local exchange's Binance front, in virtual time, with and without faults.

The exchange's own books, orders and fills are the oracle. What the stream lost must be found by the queries; nothing
may be invented, counted twice, or left undecided.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from connectors.binance.connector import BinanceConnector
from engine.actions import (
    AmendOrder,
    CancelAll,
    CancelOrder,
    PlaceOrder,
    QueryBalances,
    QueryFills,
    QueryOpenOrders,
    QueryOrder,
    QueryPositions,
)
from engine.events import (
    AnyEvent,
    Balances,
    BookInvalid,
    BookUpdate,
    Event,
    Fill,
    Fills,
    OpenOrders,
    OrderReport,
    Positions,
    VenueReady,
)
from engine.ids import cl_ord_id, text_from_cl_ord_id
from engine.types import NO_PX, ExecType, Market, OrdStatus, OrdType, Side, TimeInForce, Venue
from engine.venue import Credentials, InstrumentSpec, VenueSettings
from tests.connectors.exchange_world import MS, SECOND, ExchangeWorld
from tools.exchange.settings import load

SPECS = (InstrumentSpec(0, Market.SPOT, "BTCUSDT"), InstrumentSpec(1, Market.LINEAR, "BTCUSDT"))
KEY = Credentials("demo-key-binance-0001", "demo-secret-binance-0001")
URLS = {"base_http": "http://127.0.0.1:1", "base_ws": "ws://127.0.0.1:1"}
LOTS = {0: 1_000, 1: 10}  # 0.01 BTC each


class Trader:
    """One connector that trades on the exchange, and all that it was told."""

    def __init__(self, *, seed: int = 1, faults: tuple[str, ...] = ()) -> None:
        settings = msgspec.structs.replace(load(None), seed=seed, faults=list(faults))
        self.world = ExchangeWorld(settings)
        self.events: list[Event] = []
        self.updates = 0
        self.status: dict[int, OrdStatus] = {}
        self.fills: dict[tuple[int, str], Fill] = {}
        self.instrument_of: dict[int, int] = {}
        self.counter = 0
        self.connector = BinanceConnector(
            VenueSettings(environment="local", urls=URLS), KEY, SPECS, self.world, self.emit, self.world.utc_offset_ns
        )
        self.world.connector = self.connector
        self.connector.start(self.world.now_ns)
        for spec in SPECS:
            self.connector.subscribe_order_book(spec.index, self.world.now_ns)
            self.connector.subscribe_trades(spec.index, self.world.now_ns)
        self.world.run(2 * SECOND)

    def emit(self, event: AnyEvent) -> None:
        if isinstance(event, BookUpdate):
            self.updates += 1
            assert event.book.is_valid
            return
        self.events.append(event)
        if isinstance(event, Fill):
            self.take_fill(event)
        elif isinstance(event, OrderReport) and event.cl_ord_id:
            self.take_report(event)

    def take_fill(self, fill: Fill) -> None:
        known = self.fills.setdefault((fill.instrument, fill.exec_id), fill)
        assert (known.side, known.px_ticks, known.qty_lots) == (fill.side, fill.px_ticks, fill.qty_lots)

    def take_report(self, report: OrderReport) -> None:
        was = self.status.get(report.cl_ord_id)
        if report.ord_status.is_terminal:
            # One end an order: late words may repeat it, and a filled one may be told of as cancelled by nobody.
            assert was is None or not was.is_terminal or was is report.ord_status, (was, report)
            self.status[report.cl_ord_id] = report.ord_status
        elif was is None or not was.is_terminal:
            self.status[report.cl_ord_id] = report.ord_status

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type) -> Any:
        return self.of(kind)[-1]

    def place(self, instrument: int, side: Side, offset_ticks: int, **changes: Any) -> int:
        """A limit order `offset_ticks` into the market from our side's best price; negative is behind it."""
        book = self.connector.books[instrument]
        best = book.best_bid_px if side is Side.BUY else book.best_ask_px
        self.counter += 1
        our_id = cl_ord_id(1, 1, 1, self.counter)
        self.instrument_of[our_id] = instrument
        self.status[our_id] = OrdStatus.PENDING_NEW
        fields: dict[str, Any] = {
            "ord_type": OrdType.LIMIT,
            "px_ticks": best + side * offset_ticks,
            "qty_lots": LOTS[instrument],
            "time_in_force": TimeInForce.GTC,
        }
        action = PlaceOrder(
            venue=Venue.BINANCE, instrument=instrument, cl_ord_id=our_id, side=side, **{**fields, **changes}
        )
        self.connector.place_order(action, self.world.now_ns)
        return our_id

    def run(self, duration_ns: int = 100 * MS) -> None:
        self.world.run(duration_ns)

    def cancel(self, our_id: int) -> None:
        action = CancelOrder(Venue.BINANCE, self.instrument_of[our_id], our_id, "")
        self.connector.cancel_order(action, self.world.now_ns)

    def amend(self, our_id: int, px_ticks: int, qty_lots: int) -> None:
        order = self.connector.live.orders[our_id]
        action = AmendOrder(Venue.BINANCE, order.instrument, our_id, "", order.side, px_ticks, qty_lots)
        self.connector.amend_order(action, self.world.now_ns)

    # --- the exchange's truth ---

    @property
    def account(self) -> Any:
        (account,) = (a for a in self.world.exchange.cores["binance"].accounts.values() if a.name == "demo")
        return account

    def venue_fills(self) -> dict[tuple[int, str], tuple[Side, int, int]]:
        return {
            (0 if fill.listing.market is Market.SPOT else 1, str(fill.trade_id)): (
                fill.side,
                fill.px_ticks,
                fill.qty_lots,
            )
            for fill in self.account.fills
        }

    def our_fills(self) -> dict[tuple[int, str], tuple[Side, int, int]]:
        return {key: (fill.side, fill.px_ticks, fill.qty_lots) for key, fill in self.fills.items()}


@pytest.fixture(scope="module")
def calm() -> Trader:
    return Trader()


def test_start_leads_to_valid_books_and_one_ready(calm: Trader) -> None:
    assert len(calm.of(VenueReady)) == 1
    assert calm.updates > 20
    assert all(book.is_valid for book in calm.connector.books.values())
    assert [answer for answer in calm.world.answers if answer[1] != 200] == []


def test_books_equal_the_exchanges_when_the_market_stands_still(calm: Trader) -> None:
    source = calm.world.exchange.source
    assert source is not None
    source.is_paused = True
    calm.run(SECOND)
    core = calm.world.exchange.cores["binance"]
    for spec in SPECS:
        listing = core.listing(spec.market, spec.symbol)
        assert listing is not None
        book = calm.connector.books[spec.index]
        for side in (Side.BUY, Side.SELL):
            assert book.levels(side, 20) == core.depth(listing, side, 20)
    source.is_paused = False
    calm.run(SECOND)


@pytest.mark.parametrize("instrument", [0, 1])
def test_resting_order_is_amended_twice_and_cancelled(calm: Trader, instrument: int) -> None:
    our_id = calm.place(instrument, Side.BUY, -20_000, post_only=True)
    calm.run()
    assert calm.status[our_id] is OrdStatus.NEW
    px_ticks = calm.connector.live.orders[our_id].px_ticks
    calm.amend(our_id, px_ticks, LOTS[instrument] * 3 // 4)
    calm.run()
    calm.amend(our_id, px_ticks - 100, LOTS[instrument])
    calm.run()
    reports = [report for report in calm.of(OrderReport) if report.cl_ord_id == our_id]
    assert (reports[-1].px_ticks, reports[-1].order_qty_lots) == (px_ticks - 100, LOTS[instrument])
    assert calm.status[our_id] is OrdStatus.NEW
    calm.connector.get_order(QueryOrder(Venue.BINANCE, instrument, our_id, ""), calm.world.now_ns)
    calm.cancel(our_id)
    calm.run()
    assert calm.status[our_id] is OrdStatus.CANCELED
    calm.cancel(our_id)
    calm.run()
    assert calm.last(OrderReport).exec_type is ExecType.CANCEL_REJECTED


@pytest.mark.parametrize("instrument", [0, 1])
@pytest.mark.parametrize(
    ("offset", "changes", "status"),
    [
        (5_000, {"time_in_force": TimeInForce.IOC}, OrdStatus.FILLED),
        (-5_000, {"time_in_force": TimeInForce.IOC}, OrdStatus.EXPIRED),
        (0, {"ord_type": OrdType.MARKET, "px_ticks": NO_PX, "time_in_force": TimeInForce.IOC}, OrdStatus.FILLED),
        (5_000, {"post_only": True}, OrdStatus.REJECTED),
    ],
)
def test_order_ends_as_its_kind_says(
    calm: Trader, instrument: int, offset: int, changes: dict[str, Any], status: OrdStatus
) -> None:
    for side in (Side.BUY, Side.SELL):
        our_id = calm.place(instrument, side, offset, **changes)
        calm.run(200 * MS)
        assert calm.status[our_id] is status
    assert calm.our_fills() == calm.venue_fills()


def test_queries_of_both_markets_come_in_one_answer_each(calm: Trader) -> None:
    ids = [calm.place(instrument, Side.BUY, -20_000) for instrument in (0, 1)]
    calm.run()
    now_ns = calm.world.now_ns
    calm.connector.get_open_orders(QueryOpenOrders(Venue.BINANCE, 5), now_ns)
    calm.connector.get_balance(QueryBalances(Venue.BINANCE, 7), now_ns)
    calm.connector.get_positions(QueryPositions(Venue.BINANCE, 8), now_ns)
    for instrument in (0, 1):
        calm.connector.get_fills(QueryFills(Venue.BINANCE, 9, instrument, 0), now_ns)
    calm.run(500 * MS)
    opened = calm.last(OpenOrders)
    assert (opened.is_ok, sorted(order.cl_ord_id for order in opened.orders)) == (True, ids)
    account = calm.account
    (usdt,) = (row for row in calm.last(Balances).balances if row.asset == "USDT")
    spot, linear = account.spot["USDT"], account.linear["USDT"]
    assert usdt.total_atoms == spot.free + spot.locked + linear.free + linear.locked
    assert sum(row.qty_lots for row in calm.last(Positions).positions) == 0
    queried = {(fills.instrument, fill.exec_id) for fills in calm.of(Fills) for fill in fills.fills}
    assert queried == set(calm.venue_fills())
    for instrument in (0, 1):
        calm.connector.cancel_all(CancelAll(Venue.BINANCE, instrument), calm.world.now_ns)
    calm.run()
    assert [calm.status[our_id] for our_id in ids] == [OrdStatus.CANCELED] * 2


def test_dead_mans_switch_ends_what_rests_when_we_fall_silent() -> None:
    trader = Trader()
    our_id = trader.place(1, Side.BUY, -20_000)
    trader.run(SECOND)
    assert trader.status[our_id] is OrdStatus.NEW
    trader.run(15 * SECOND)
    assert trader.status[our_id] is OrdStatus.NEW
    trader.connector.on_timer = lambda now_ns: None  # type: ignore[method-assign]
    trader.run(15 * SECOND)
    assert [row for row in trader.account.orders.values() if row.is_open] == []


# --- with faults ------------------------------------------------------------------------------------------------------

DAYS = [
    ("disconnects", "stalls"),
    ("gaps", "duplicates", "late-fills", "late-acks"),
    ("rejects", "unknowns", "lost-acks"),
    ("lost-fills", "query-lag"),
    ("skew", "squeeze"),
    ("disconnects", "duplicates", "late-fills", "late-acks", "lost-fills", "unknowns", "gaps", "half-open"),
]


def trade_at_random(trader: Trader, seed: int, steps: int) -> None:
    rng = random.Random(seed)
    for _ in range(steps):
        trader.run(rng.randrange(20, 200) * MS)
        if not all(book.is_valid for book in trader.connector.books.values()):
            continue
        instrument, side = rng.randrange(2), rng.choice((Side.BUY, Side.SELL))
        live = [order for order in trader.connector.live.orders.values() if order.instrument == instrument]
        what = rng.random()
        if what < 0.25:
            trader.place(instrument, side, 2_000, time_in_force=TimeInForce.IOC)
        elif what < 0.5 or not live:
            trader.place(instrument, side, -rng.choice((1, 20, 20_000)), post_only=rng.random() < 0.5)
        elif what < 0.75:
            trader.cancel(rng.choice(live).cl_ord_id)
        else:
            order = rng.choice(live)
            qty_lots = max(LOTS[instrument] // 2, order.qty_lots - rng.choice((0, LOTS[instrument] // 4)))
            trader.amend(order.cl_ord_id, order.px_ticks - side * rng.choice((0, 10)), qty_lots)


def settle(trader: Trader) -> None:
    """What a core does: cancel all, ask for what is not proved, fetch fills."""
    exchange = trader.world.exchange
    exchange.plan.clear(trader.world.utc_ns, 0)
    exchange.shell.restore()
    trader.run(8 * SECOND)
    for spec in SPECS:
        trader.connector.cancel_all(CancelAll(Venue.BINANCE, spec.index), trader.world.now_ns)
    trader.run(3 * SECOND)
    for our_id, status in trader.status.items():
        if not status.is_terminal:
            action = QueryOrder(Venue.BINANCE, trader.instrument_of[our_id], our_id, "")
            trader.connector.get_order(action, trader.world.now_ns)
    for spec in SPECS:
        trader.connector.get_fills(QueryFills(Venue.BINANCE, 1, spec.index, 0), trader.world.now_ns)
    trader.connector.get_open_orders(QueryOpenOrders(Venue.BINANCE, 2), trader.world.now_ns)
    trader.run(20 * SECOND)
    for answer in trader.of(Fills):
        assert answer.is_ok
        for fill in answer.fills:
            trader.take_fill(fill)


@pytest.mark.slow
@pytest.mark.parametrize("faults", DAYS, ids="+".join)
@pytest.mark.parametrize("seed", range(1, 3))
def test_bad_day_ends_with_the_exchanges_truth(seed: int, faults: tuple[str, ...]) -> None:
    trader = Trader(seed=seed, faults=faults)
    trade_at_random(trader, seed, 250)
    settle(trader)
    opened = trader.last(OpenOrders)
    assert (opened.is_ok, opened.orders) == (True, ())
    assert trader.our_fills() == trader.venue_fills()
    # Legs of one order bear its id with a number behind it; the last one made tells how the order ended.
    by_text = {order.client_id.partition("-")[0]: order for order in trader.account.orders.values()}
    not_found = {report.cl_ord_id for report in trader.of(OrderReport) if report.exec_type is ExecType.NOT_FOUND}
    for our_id, status in trader.status.items():
        order = by_text.get(text_from_cl_ord_id(our_id))
        if order is None:
            assert status is OrdStatus.REJECTED or our_id in not_found, (hex(our_id), status)
        else:
            assert status.name == order.status.name, (hex(our_id), status, order)
    assert all(book.is_valid for book in trader.connector.books.values())
    assert all(not role.garbled for role in trader.connector._roles)


@pytest.mark.slow
def test_two_runs_of_one_bad_day_are_equal_byte_for_byte() -> None:
    def once() -> list[tuple[object, ...]]:
        trader = Trader(seed=5, faults=DAYS[-1])
        trade_at_random(trader, 5, 60)
        assert trader.of(BookInvalid) is not None
        return trader.world.log

    assert once() == once()
