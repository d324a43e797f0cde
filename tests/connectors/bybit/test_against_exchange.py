"""The connector against the local exchange, both without sockets, in virtual time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from connectors.bybit.connector import BybitConnector
from connectors.bybit.endpoints import PRIVATE, TRADE
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
    Balances,
    BookInvalid,
    BookUpdate,
    Fill,
    Fills,
    OpenOrders,
    OrderReport,
    PositionReport,
    Positions,
    TradePrint,
    VenueReady,
    VenueRefused,
)
from engine.ids import cl_ord_id
from engine.types import ExecType, Market, OrdStatus, OrdType, Side, TimeInForce, Venue
from engine.venue import Credentials, InstrumentSpec, VenueSettings
from tools.exchange.exchange import Exchange
from tools.exchange.settings import ExchangeSettings, complete

MS, SECOND = 1_000_000, 1_000_000_000
OFFSET_NS = 1_763_800_000_000 * MS
LATENCY_NS = MS // 5
LINEAR, SPOT = 0, 1


class VirtualNet:
    """A network of one connector and one exchange: everything takes LATENCY_NS, in order. Is the connector's
    wire."""

    def __init__(self, **settings: Any) -> None:
        self.now_ns = 1_000 * SECOND
        self.events: list[Any] = []
        self.updates = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._seq = itertools.count()
        self._conn_ids = itertools.count(1)
        self._conn_of: dict[int, int] = {}  # channel -> connection
        self._channel_of: dict[int, int] = {}
        options = complete(ExchangeSettings(**{"seed": 3, "double_filled": 0.3, **settings}))
        self.exchange = Exchange(options, Shell(self), self.utc_ns)
        urls = {"base_http": "http://exchange", "base_ws": "ws://exchange"}
        self.connector = BybitConnector(
            VenueSettings(environment="local", urls=urls, book_depth=50, allow_no_ip_restriction=True),
            Credentials("demo-key-bybit-0001", "demo-secret-bybit-0001", "hmac", "local"),
            [InstrumentSpec(LINEAR, Market.LINEAR, "BTCUSDT"), InstrumentSpec(SPOT, Market.SPOT, "BTCUSDT")],
            self,
            self._emit,
            OFFSET_NS,
        )

    @property
    def utc_ns(self) -> int:
        return self.now_ns + OFFSET_NS

    def _emit(self, event: Any) -> None:
        if isinstance(event, BookUpdate):
            self.updates += 1
        else:
            self.events.append(event)

    def _later(self, call: Callable[[], None], delay_ns: int = LATENCY_NS) -> None:
        heapq.heappush(self._due, (self.now_ns + delay_ns, next(self._seq), call))

    # --- wire of the connector ---

    def connect(self, channel: int, url: str, headers: Mapping[str, str] | None = None) -> None:
        path = url.removeprefix("ws://exchange")

        def open_() -> None:
            conn = next(self._conn_ids)
            status = self.exchange.ws_open(conn, path, "", {}, "127.0.0.1", self.utc_ns)
            if status:
                self._later(lambda: self.connector.on_disconnected(channel, f"HTTP {status}", self.now_ns))
                return
            self._conn_of[channel], self._channel_of[conn] = conn, channel
            self._later(lambda: self.connector.on_connected(channel, self.now_ns))

        self._later(open_)

    def send(self, channel: int, payload: bytes | bytearray | memoryview) -> bool:
        conn = self._conn_of.get(channel)
        if conn is None:
            return False
        text = bytes(payload)
        self._later(lambda: self.exchange.ws_message(conn, text, self.utc_ns))
        return True

    def close(self, channel: int) -> None:
        self.cut(channel, "closed")

    def cut(self, channel: int, reason: str = "reset by peer") -> None:
        conn = self._conn_of.pop(channel, None)
        if conn is not None:
            del self._channel_of[conn]
            self._later(lambda: self.exchange.ws_close(conn, self.utc_ns))
            self._later(lambda: self.connector.on_disconnected(channel, reason, self.now_ns))

    def request(
        self, request_id: int, method: str, base_url: str, target: str, headers: Mapping[str, str],
        body: bytes = b"", *, is_secret: bool = False, timeout_ns: int = 0,
    ) -> None:  # fmt: skip
        path, _, query = target.partition("?")
        low = {name.lower(): value for name, value in headers.items()}

        def ask() -> None:
            answer = self.exchange.http(method, path, query, low, body, "127.0.0.1", self.utc_ns)
            names = {name.lower(): value for name, value in answer.headers.items()}
            status = 0 if answer.is_dropped else answer.status
            self._later(
                lambda: self.connector.on_response(request_id, status, names, answer.body, self.now_ns),
                LATENCY_NS + answer.delay_ns,
            )

        self._later(ask)

    def set_timer(self, at_ns: int) -> None:
        self._later(lambda: self.connector.on_timer(self.now_ns), max(0, at_ns - self.now_ns))

    # --- time ---

    def run(self, ns: int) -> None:
        until = self.now_ns + ns
        while self.now_ns < until:
            steps = [until, self.now_ns + 20 * MS, self.exchange.next_timer_ns() - OFFSET_NS]
            if self._due:
                steps.append(self._due[0][0])
            self.now_ns = max(self.now_ns, min(steps))
            while self._due and self._due[0][0] <= self.now_ns:
                heapq.heappop(self._due)[2]()
            if self.now_ns >= self.exchange.next_timer_ns() - OFFSET_NS:
                self.exchange.on_timer(self.utc_ns)
            if self.now_ns % (20 * MS) < MS:
                self.connector.on_timer(self.now_ns)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def reports(self, ident: int) -> list[tuple[ExecType, OrdStatus]]:
        return [(one.exec_type, one.ord_status) for one in self.of(OrderReport) if one.cl_ord_id == ident]


class Shell:
    """The side of the net that the exchange sees: connections, not channels."""

    def __init__(self, net: VirtualNet) -> None:
        self.net = net

    def send(self, conn_id: int, payload: bytes) -> None:
        net = self.net

        def deliver() -> None:
            channel = net._channel_of.get(conn_id)
            if channel is not None:
                net.connector.on_frame(channel, payload, net.now_ns)

        net._later(deliver)

    def close(self, conn_id: int, code: int) -> None:
        self.net._later(lambda: self.net.cut(self.net._channel_of.get(conn_id, 0), f"code {code}"))

    def act(self, act: Any) -> None: ...

    def restore(self) -> None: ...


ID = cl_ord_id(1, 2, 3, 4)


class Market1:
    """A still market of one book, as the house sets it."""

    def __init__(self, net: VirtualNet, market: Market) -> None:
        self.net = net
        self.core = net.exchange.cores["bybit"]
        listing = self.core.listing(market, "BTCUSDT")
        assert listing is not None
        self.listing = listing

    def level(self, side: Side, px_ticks: int, qty_lots: int) -> None:
        self.core.house_level(self.listing, side, px_ticks, qty_lots, self.net.utc_ns)

    def trade(self, side: Side, qty_lots: int) -> None:
        self.core.house_trade(self.listing, side, qty_lots, self.net.utc_ns)


@pytest.fixture
def net() -> VirtualNet:
    """Live on a still market: 640000/640010 ticks, ten levels a side of one BTC."""
    made = VirtualNet(market="none")
    for market, lots in ((Market.LINEAR, 1_000), (Market.SPOT, 1_000_000)):
        book = Market1(made, market)
        book.core.set_mark(book.listing, 640_005, made.utc_ns)
        for at in range(10):
            book.level(Side.BUY, 640_000 - at, lots)
            book.level(Side.SELL, 640_010 + at, lots)
    made.connector.start(made.now_ns)
    made.run(SECOND)
    assert len(made.of(VenueReady)) == 1, made.events
    made.events.clear()
    return made


def order(net: VirtualNet, px_ticks: int, ident: int = ID, instrument: int = LINEAR, **fields: Any) -> None:
    values = {
        "side": Side.BUY, "ord_type": OrdType.LIMIT, "qty_lots": 10, "time_in_force": TimeInForce.GTC, **fields,
    }  # fmt: skip
    net.connector.place_order(PlaceOrder(Venue.BYBIT, instrument, ident, px_ticks=px_ticks, **values), net.now_ns)
    net.run(100 * MS)


def test_books_equal_the_exchange_s(net: VirtualNet) -> None:
    for index, market in ((LINEAR, Market.LINEAR), (SPOT, Market.SPOT)):
        book, still = net.connector.books[index], Market1(net, market)
        assert book.is_valid
        for side in (Side.BUY, Side.SELL):
            assert book.levels(side) == still.core.depth(still.listing, side)


def test_life_of_a_resting_order(net: VirtualNet) -> None:
    order(net, 639_000)
    assert (ExecType.NEW, OrdStatus.NEW) in net.reports(ID)
    assert (ExecType.PENDING_NEW, OrdStatus.PENDING_NEW) in net.reports(ID)
    order_id = next(one.order_id for one in net.of(OrderReport) if one.exec_type is ExecType.NEW)
    net.events.clear()
    net.connector.amend_order(AmendOrder(Venue.BYBIT, LINEAR, ID, order_id, Side.BUY, 639_100, 12), net.now_ns)
    net.run(100 * MS)
    (replaced,) = [one for one in net.of(OrderReport) if one.exec_type is ExecType.REPLACED]
    assert (replaced.px_ticks, replaced.order_qty_lots) == (639_100, 12)
    net.connector.get_open_orders(QueryOpenOrders(Venue.BYBIT, 1), net.now_ns)
    net.run(100 * MS)
    (answer,) = net.of(OpenOrders)
    assert [(one.cl_ord_id, one.px_ticks, one.order_qty_lots) for one in answer.orders] == [(ID, 639_100, 12)]
    net.events.clear()
    net.connector.cancel_order(CancelOrder(Venue.BYBIT, LINEAR, ID, order_id), net.now_ns)
    net.run(100 * MS)
    assert net.reports(ID) == [(ExecType.CANCELED, OrdStatus.CANCELED)]
    net.run(3 * SECOND)
    assert (ExecType.OUTCOME_UNKNOWN, OrdStatus.UNKNOWN) not in net.reports(ID)


@pytest.mark.parametrize("instrument", [LINEAR, SPOT])
def test_crossing_order_fills_and_both_sources_agree(net: VirtualNet, instrument: int) -> None:
    lots = 1_500 if instrument == LINEAR else 1_500_000
    order(net, 640_020, instrument=instrument, qty_lots=lots, time_in_force=TimeInForce.IOC)
    fills = net.of(Fill)
    assert [(one.px_ticks, one.qty_lots) for one in fills] == [(640_010, lots * 2 // 3), (640_011, lots // 3)]
    assert {one.cl_ord_id for one in fills} == {ID}
    assert {one.fee_asset for one in fills} == {"USDT" if instrument == LINEAR else "BTC"}
    assert all(one.fee_atoms > 0 and not one.is_maker for one in fills)
    assert (ExecType.TRADE, OrdStatus.FILLED) in net.reports(ID)
    net.connector.get_fills(QueryFills(Venue.BYBIT, 7, instrument, net.utc_ns - SECOND), net.now_ns)
    net.connector.get_positions(QueryPositions(Venue.BYBIT, 8), net.now_ns)
    net.connector.get_balance(QueryBalances(Venue.BYBIT, 9), net.now_ns)
    net.run(100 * MS)
    (answer,) = net.of(Fills)
    streamed = {one.exec_id: one for one in fills}
    for one in answer.fills:
        one.recv_ts_ns = streamed[one.exec_id].recv_ts_ns
        assert one == streamed[one.exec_id]
    assert len(answer.fills) == 2
    (positions,) = net.of(Positions)
    expected = lots if instrument == LINEAR else 0
    assert [one.qty_lots for one in positions.positions if one.instrument == LINEAR] in ([expected], [])
    if instrument == LINEAR:
        assert net.of(PositionReport)[-1].qty_lots == lots
    (balances,) = net.of(Balances)
    held = {one.asset: one for one in balances.balances}
    fees = sum(one.fee_atoms for one in fills)
    if instrument == SPOT:
        assert held["BTC"].total_atoms == 50 * 10**8 + lots * 100 - fees
    else:
        assert held["USDT"].total_atoms == 5_000_000 * 10**8 - fees
    assert held["USDT"].available_atoms < held["USDT"].total_atoms or instrument == SPOT


def test_post_only_that_would_cross_is_rejected(net: VirtualNet) -> None:
    order(net, 640_010, post_only=True)
    assert (ExecType.REJECTED, OrdStatus.REJECTED) in net.reports(ID)
    assert not net.of(Fill)


def test_fill_or_kill_that_cannot_fill_expires(net: VirtualNet) -> None:
    order(net, 640_010, qty_lots=1_001, time_in_force=TimeInForce.FOK)
    assert (ExecType.EXPIRED, OrdStatus.EXPIRED) in net.reports(ID)
    assert not net.of(Fill)


def test_rest_of_an_ioc_expires_with_what_it_filled(net: VirtualNet) -> None:
    order(net, 640_010, qty_lots=1_200, time_in_force=TimeInForce.IOC)
    (closed,) = [one for one in net.of(OrderReport) if one.ord_status.is_terminal]
    assert (closed.ord_status, closed.cum_qty_lots) == (OrdStatus.EXPIRED, 1_000)


def test_market_order(net: VirtualNet) -> None:
    order(net, 0, instrument=SPOT, ord_type=OrdType.MARKET, qty_lots=1_000, time_in_force=TimeInForce.IOC)
    assert [one.qty_lots for one in net.of(Fill)] == [1_000]


def test_same_identifier_twice_is_refused_by_the_venue_and_unknown_to_us(net: VirtualNet) -> None:
    order(net, 639_000)
    net.events.clear()
    order(net, 639_000)
    (event,) = net.of(OrderReport)
    assert (event.exec_type, event.code) == (ExecType.OUTCOME_UNKNOWN, 110072)
    net.connector.get_order(QueryOrder(Venue.BYBIT, LINEAR, ID, ""), net.now_ns)
    net.run(100 * MS)
    assert net.reports(ID)[-1] == (ExecType.STATUS, OrdStatus.NEW)


def test_order_that_never_was_is_not_found(net: VirtualNet) -> None:
    net.connector.get_order(QueryOrder(Venue.BYBIT, SPOT, ID + 5, ""), net.now_ns)
    net.run(100 * MS)
    assert net.reports(ID + 5) == [(ExecType.NOT_FOUND, OrdStatus.UNKNOWN)]


def test_batches_and_cancel_all(net: VirtualNet) -> None:
    orders = [
        PlaceOrder(Venue.BYBIT, LINEAR, ID + at, Side.BUY, OrdType.LIMIT, 638_000 - at, 10, TimeInForce.GTC)
        for at in range(6)
    ]
    net.connector.place_orders(orders, net.now_ns)
    net.run(200 * MS)
    ids = {one.cl_ord_id: one.order_id for one in net.of(OrderReport) if one.exec_type is ExecType.NEW}
    assert set(ids) == {ID + at for at in range(6)}
    cancels = [CancelOrder(Venue.BYBIT, LINEAR, ident, ids[ident]) for ident in (ID, ID + 1)]
    net.connector.cancel_orders(cancels, net.now_ns)
    net.run(200 * MS)
    net.connector.cancel_all(CancelAll(Venue.BYBIT, LINEAR), net.now_ns)
    net.run(200 * MS)
    assert all((ExecType.CANCELED, OrdStatus.CANCELED) in net.reports(ID + at) for at in range(6))


def test_orders_by_rest_while_the_trade_socket_is_down(net: VirtualNet) -> None:
    net.cut(TRADE)
    net.run(MS)
    order(net, 639_000)
    assert (ExecType.NEW, OrdStatus.NEW) in net.reports(ID)
    net.run(SECOND)
    order(net, 639_000, ID + 1)
    assert (ExecType.NEW, OrdStatus.NEW) in net.reports(ID + 1)


def test_lost_book_message_is_found_and_made_good(net: VirtualNet) -> None:
    still = Market1(net, Market.LINEAR)
    still.core.hooks.drop_book_events = 1
    for at in range(4):
        still.level(Side.BUY, 639_990, 500 + at)
        net.run(50 * MS)
    assert [one.reason for one in net.of(BookInvalid)] == ["GAP"]
    net.run(SECOND)
    book = net.connector.books[LINEAR]
    assert book.is_valid
    assert book.levels(Side.BUY) == still.core.depth(still.listing, Side.BUY)


def test_stalled_book_is_found_by_its_probe(net: VirtualNet) -> None:
    still = Market1(net, Market.LINEAR)
    still.core.hooks.stalled_streams.add("orderbook.50.BTCUSDT")
    still.level(Side.BUY, 640_005, 700)
    net.run(1_500 * MS)
    assert net.of(BookInvalid)[0].reason.startswith("frozen")


def test_fills_missed_while_the_private_stream_was_down_are_found_by_rest(net: VirtualNet) -> None:
    order(net, 640_005)
    net.cut(PRIVATE)
    net.run(MS)
    Market1(net, Market.LINEAR).trade(Side.SELL, 10)
    net.events.clear()
    net.run(2 * SECOND)
    assert len(net.of(VenueReady)) == 1
    assert not net.of(Fill)
    net.connector.get_fills(QueryFills(Venue.BYBIT, 1, LINEAR, net.utc_ns - 10 * SECOND), net.now_ns)
    net.run(100 * MS)
    (answer,) = net.of(Fills)
    assert [(one.cl_ord_id, one.qty_lots, one.is_maker) for one in answer.fills] == [(ID, 10, True)]


def test_public_trades_and_marks_arrive(net: VirtualNet) -> None:
    net.connector.subscribe_trades(LINEAR, net.now_ns)
    net.run(100 * MS)
    Market1(net, Market.LINEAR).trade(Side.SELL, 7)
    net.run(100 * MS)
    (trade,) = net.of(TradePrint)
    assert (trade.side, trade.px_ticks, trade.qty_lots) == (Side.SELL, 640_000, 7)


def test_skewed_clock_of_the_venue_is_signed_with(net: VirtualNet) -> None:
    net.exchange.cores["bybit"].hooks.clock_skew_ns = 90 * SECOND
    order(net, 639_000)  # refused for its timestamp: the clock is measured anew
    assert net.reports(ID) == [(ExecType.REJECTED, OrdStatus.REJECTED)]
    net.run(SECOND)
    order(net, 639_000, ID + 1)
    assert (ExecType.NEW, OrdStatus.NEW) in net.reports(ID + 1)
    assert not net.of(VenueRefused)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_moving_market_with_losses_ends_in_equal_books_and_positions(seed: int) -> None:
    faults = ["disconnects", "gaps", "duplicates", "late-fills"]
    net = VirtualNet(seed=seed, market="synthetic", faults=faults, double_filled=0.3)
    net.connector.start(net.now_ns)
    net.run(SECOND)
    seen: dict[str, Fill] = {}
    for at in range(30):
        net.run(200 * MS)
        book = net.connector.books[LINEAR]
        if book.is_valid and net.connector._is_ready:
            side = Side.BUY if at % 2 else Side.SELL
            px = book.best_ask_px + 5 if side is Side.BUY else book.best_bid_px - 5
            action = PlaceOrder(Venue.BYBIT, LINEAR, ID + at, side, OrdType.LIMIT, px, 3 + at, TimeInForce.IOC)
            net.connector.place_order(action, net.now_ns)
    net.exchange.plan.clear(net.utc_ns)
    net.run(8 * SECOND)
    core = net.exchange.cores["bybit"]
    listing = core.listing(Market.LINEAR, "BTCUSDT")
    net.exchange.source.is_paused = True  # type: ignore[union-attr]
    net.run(3 * SECOND)
    book = net.connector.books[LINEAR]
    assert book.is_valid
    assert book.levels(Side.BUY) == core.depth(listing, Side.BUY, 50)
    assert book.levels(Side.SELL) == core.depth(listing, Side.SELL, 50)
    net.connector.get_fills(QueryFills(Venue.BYBIT, 1, LINEAR, OFFSET_NS), net.now_ns)
    net.connector.get_positions(QueryPositions(Venue.BYBIT, 2), net.now_ns)
    net.run(SECOND)
    (answer,) = net.of(Fills)
    assert answer.is_ok
    for fill in [*net.of(Fill), *answer.fills]:
        seen[fill.exec_id] = fill
    (positions,) = net.of(Positions)
    position = {one.instrument: one.qty_lots for one in positions.positions}.get(LINEAR, 0)
    assert seen
    assert sum(one.side * one.qty_lots for one in seen.values()) == position
    assert net.connector.account.misread == 0
    assert net.connector.market.refused == 0
