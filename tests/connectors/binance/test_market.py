"""Books over snapshot and diffs: every way in which the two can miss each other."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from connectors.binance.endpoints import SPOT_STREAM, SPOT_STREAM_SPARE, USDM_MARKET, USDM_PUBLIC
from engine.events import (
    BookInvalid,
    ChannelState,
    InstrumentStateChanged,
    MarkPrice,
    TradePrint,
    VenueNotice,
)
from engine.types import ConnState, InstrumentState, Market, Side
from tests.connectors.binance.binance_world import PERP_INDEX, SPECS, SPOT_INDEX, Binance, depth_event
from tests.connectors.fake_wire import MS, SECOND


def spot_only(**settings: Any) -> Binance:
    return Binance((SPECS[0],), None, **settings).start(books=True)


def usdm_only() -> Binance:
    return Binance((SPECS[1],), None).start(books=True)


def test_snapshot_that_nothing_preceded_makes_the_book_valid() -> None:
    venue = spot_only()
    book = venue.connector.books[SPOT_INDEX]
    assert book.is_valid
    assert (book.best_bid_px, book.best_bid_qty, book.best_ask_px) == (2_500_000, 125_000, 2_500_010)
    assert venue.book_updates == [(SPOT_INDEX, True)]


def test_event_that_joins_the_snapshot_is_applied_with_one_update() -> None:
    venue = spot_only()
    venue.world.frame(SPOT_STREAM, depth_event(99, 103, bids=[["25000.05", "2"]]))
    assert venue.book_updates == [(SPOT_INDEX, True)] * 2
    assert venue.connector.books[SPOT_INDEX].best_bid_px == 2_500_005


def test_gap_drops_the_book_at_once_and_fetches_one_snapshot() -> None:
    venue = spot_only()
    venue.asked.clear()
    venue.world.frame(SPOT_STREAM, depth_event(101, 103))
    venue.depth_id["/api/v3/depth"] = 110
    venue.world.frame(SPOT_STREAM, depth_event(105, 108))
    assert [event.reason for event in venue.take(BookInvalid)] == ["gap"]
    assert not venue.connector.books[SPOT_INDEX].is_valid
    venue.world.frame(SPOT_STREAM, depth_event(109, 112, asks=[["25000.09", "1"]]))
    venue.world.settle()
    assert len(venue.requests_to("/api/v3/depth")) == 1
    book = venue.connector.books[SPOT_INDEX]
    assert book.is_valid
    assert (book.last_seq, book.best_ask_px) == (112, 2_500_009)
    assert venue.book_updates[-1] == (SPOT_INDEX, True)


def test_snapshot_older_than_the_stream_is_asked_for_again() -> None:
    venue = spot_only()
    venue.world.frame(SPOT_STREAM, depth_event(101, 103))
    venue.world.frame(SPOT_STREAM, depth_event(120, 121))
    venue.world.settle()
    assert not venue.connector.books[SPOT_INDEX].is_valid
    venue.depth_id["/api/v3/depth"] = 121
    venue.world.run(2 * SECOND)
    assert venue.connector.books[SPOT_INDEX].is_valid
    assert venue.connector.books[SPOT_INDEX].last_seq == 121


def test_stream_that_no_snapshot_joins_is_reconnected() -> None:
    venue = spot_only()
    venue.world.frame(SPOT_STREAM, depth_event(120, 121))
    venue.events.clear()
    venue.world.run(20 * SECOND)
    downs = [event for event in venue.of(ChannelState) if event.state is ConnState.DOWN]
    assert downs and "no snapshot joins" in downs[0].reason
    assert venue.connector.books[SPOT_INDEX].is_valid


def test_usdm_ids_may_skip_but_the_predecessor_may_not() -> None:
    venue = usdm_only()
    venue.world.frame(USDM_PUBLIC, depth_event(95, 105, prev=90))
    venue.world.frame(USDM_PUBLIC, depth_event(120, 125, prev=105))
    assert venue.connector.books[PERP_INDEX].last_seq == 125
    venue.world.frame(USDM_PUBLIC, depth_event(126, 130, prev=124))
    assert [event.reason for event in venue.of(BookInvalid)] == ["gap"]


def test_lost_stream_makes_its_books_invalid_until_the_next_snapshot() -> None:
    venue = spot_only()
    venue.events.clear()
    venue.world.drop(SPOT_STREAM)
    assert [event.reason for event in venue.of(BookInvalid)] == ["disconnected"]
    venue.depth_id["/api/v3/depth"] = 500
    venue.world.run(2 * SECOND)
    assert venue.connector.books[SPOT_INDEX].is_valid
    assert venue.connector.books[SPOT_INDEX].last_seq == 500


def test_announced_shutdown_brings_a_replacement_up_without_a_break() -> None:
    venue = spot_only()
    venue.events.clear()
    venue.world.frame(SPOT_STREAM, b'{"e":"serverShutdown","E":1763800000000}')
    venue.world.run(3_500 * MS)
    assert [event.kind for event in venue.of(VenueNotice)] == ["shutdown"]
    assert venue.of(BookInvalid) == [] and venue.of(ChannelState) == []
    assert SPOT_STREAM not in venue.wire.connected and SPOT_STREAM_SPARE in venue.wire.connected
    venue.world.frame(SPOT_STREAM_SPARE, depth_event(101, 103))
    assert venue.connector.books[SPOT_INDEX].last_seq == 103


def test_book_is_stale_when_its_stream_is_silent_though_the_socket_answers() -> None:
    venue = spot_only()
    venue.asked.clear()
    venue.events.clear()
    venue.world.run(12 * SECOND)
    assert [event.reason for event in venue.of(BookInvalid)] == ["stale"]
    assert venue.of(ChannelState) == []
    assert len(venue.requests_to("/api/v3/depth")) == 1
    assert venue.connector.books[SPOT_INDEX].is_valid
    venue.world.run(60 * SECOND)
    assert len(venue.requests_to("/api/v3/depth")) <= 4


def test_book_that_is_crossed_twice_in_a_row_is_invalid() -> None:
    venue = spot_only()
    venue.world.frame(SPOT_STREAM, depth_event(101, 101, bids=[["25001.00", "1"]]))
    assert venue.of(BookInvalid) == []
    venue.world.frame(SPOT_STREAM, depth_event(102, 102, bids=[["25002.00", "1"]]))
    assert [event.reason for event in venue.of(BookInvalid)] == ["crossed"]


def test_trades_are_told_with_the_aggressors_side() -> None:
    venue = spot_only()
    venue.connector.subscribe_trades(SPOT_INDEX, venue.world.now_ns)
    venue.world.settle()
    venue.world.frame(
        SPOT_STREAM,
        b'{"e":"trade","E":1763800000101,"s":"BTCUSDT","t":5,"p":"25000.10","q":"0.00100000","T":1763800000100,'
        b'"m":true,"M":true}',
    )
    (trade,) = venue.of(TradePrint)
    assert (trade.side, trade.px_ticks, trade.qty_lots) == (Side.SELL, 2_500_010, 100)
    assert trade.exch_ts_ns == 1763800000100 * MS


def test_mark_price_tells_funding() -> None:
    venue = usdm_only()
    venue.world.frame(
        USDM_MARKET,
        b'{"e":"markPriceUpdate","E":1562305380000,"s":"BTCUSDT","p":"11794.15000000","i":"11784.62659091",'
        b'"P":"11784.25641265","r":"0.00038167","T":1562306400000,"st":1}',
    )
    (mark,) = venue.of(MarkPrice)
    assert (mark.instrument, mark.px_ticks, mark.funding_rate_e9) == (PERP_INDEX, 117_942, 381_670)
    assert mark.next_funding_ts_ns == 1562306400000 * MS


def test_coin_m_events_on_the_same_address_are_ignored() -> None:
    venue = usdm_only()
    before = len(venue.book_updates)
    frame = orjson.loads(depth_event(95, 105, prev=90))
    venue.world.frame(USDM_PUBLIC, orjson.dumps({**frame, "st": 2}))
    assert len(venue.book_updates) == before


def test_contract_that_stops_trading_is_told_once() -> None:
    venue = usdm_only()
    frame = b'{"e":"contractInfo","E":1,"s":"BTCUSDT","ps":"BTCUSDT","ct":"PERPETUAL","cs":"SETTLING","st":1}'
    venue.world.frame(USDM_MARKET, frame)
    venue.world.frame(USDM_MARKET, frame)
    assert [(event.instrument, event.state) for event in venue.of(InstrumentStateChanged)] == [
        (PERP_INDEX, InstrumentState.CLOSED)
    ]


def test_unsubscribed_book_is_invalid_and_stays_so() -> None:
    venue = spot_only()
    venue.connector.unsubscribe(SPOT_INDEX, venue.world.now_ns)
    venue.world.frame(SPOT_STREAM, depth_event(101, 103))
    venue.world.run(3 * SECOND)
    assert not venue.connector.books[SPOT_INDEX].is_valid
    assert [event.reason for event in venue.of(BookInvalid)] == ["unsubscribed"]


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"[]", b"null", b'{"id":1}', b'{"e":5}', b"\xff\xfe", b'{"e":"depthUpdate"}']
)
def test_garbage_on_the_stream_is_counted_and_survived(garbage: bytes) -> None:
    venue = spot_only()
    venue.world.frame(SPOT_STREAM, garbage)
    data = venue.connector.market_data[Market.SPOT]
    assert venue.connector.books[SPOT_INDEX].is_valid
    assert data.garbled + sum(data.refused.values()) <= 1
