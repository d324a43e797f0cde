"""Order books, trades and marks: sequence breaks, silence, freezing, refusals."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from connectors.bybit.endpoints import PROBE_LINEAR, PUBLIC_LINEAR, PUBLIC_SPOT
from connectors.bybit.market import depth_of
from engine.events import BookInvalid, ChannelState, MarkPrice, TradePrint
from engine.types import NO_PX, ConnState, Market, Side
from engine.venue import InstrumentSpec

MS, SECOND = 1_000_000, 1_000_000_000
LINEAR, SPOT = 0, 1
BOOK, PROBE = "orderbook.50.BTCUSDT", "orderbook.1.BTCUSDT"


def ops(world: Any, channel: int) -> list[tuple[str, list[str]]]:
    return [(one["op"], one["args"]) for one in world.sent(channel) if "args" in one]


def test_depth_is_the_smallest_that_holds_what_is_wanted() -> None:
    assert [depth_of(n) for n in (1, 50, 51, 200, 500, 5_000)] == [50, 50, 200, 200, 1_000, 1_000]


def test_start_subscribes_to_books_probes_and_tickers(live: Any) -> None:
    assert ops(live, PUBLIC_LINEAR) == [("subscribe", [BOOK, "tickers.BTCUSDT"])]
    assert ops(live, PUBLIC_SPOT) == [("subscribe", [BOOK])]
    assert ops(live, PROBE_LINEAR) == [("subscribe", [PROBE])]


def test_spot_takes_ten_topics_a_request(make_world: Any, credentials: Any) -> None:
    specs = [InstrumentSpec(index, Market.SPOT, f"S{index}USDT") for index in range(23)]
    world = make_world(specs=specs)
    rows = {
        spec.symbol: {
            "symbol": spec.symbol, "baseCoin": "S", "quoteCoin": "USDT", "status": "Trading",
            "priceFilter": {"tickSize": "0.1"},
            "lotSizeFilter": {"basePrecision": "0.1", "minOrderAmt": "5", "maxOrderQty": "83"},
        }
        for spec in specs
    }  # fmt: skip
    world.answers["/v5/market/instruments-info"] = lambda target: {
        "list": [rows[target.rpartition("symbol=")[2]]]
    }  # fmt: skip
    world.start()
    world.connect(PUBLIC_SPOT)
    assert [len(args) for _, args in ops(world, PUBLIC_SPOT)] == [10, 10, 3]


def test_valid_update_is_one_emit_of_the_same_object(live: Any) -> None:
    emitted: list[Any] = []
    live.connector.context.emit = emitted.append
    live.delta(101, [["24999.9", "3"]])
    live.delta(102, [["25000.0", "0"]])
    assert len(emitted) == 2
    assert emitted[0] is emitted[1]
    book = live.connector.books[LINEAR]
    assert (book.best_bid_px, book.best_bid_qty) == (249_999, 3_000)
    assert book.is_valid


def test_gap_invalidates_at_once_and_subscribes_that_topic_anew(live: Any) -> None:
    live.delta(102)
    assert live.take() == [BookInvalid(live.now_ns, LINEAR, "GAP")]
    assert not live.connector.books[LINEAR].is_valid
    assert live.connector.books[SPOT].is_valid
    assert ops(live, PUBLIC_LINEAR)[1:] == [("unsubscribe", [BOOK]), ("subscribe", [BOOK])]
    live.answer_control(PUBLIC_LINEAR)
    live.delta(103)  # still from the old subscription
    assert live.take() == []
    live.snapshot(u=500)
    assert live.take() == [("book", LINEAR, 250_000, 250_001, live.now_ns)]
    live.delta(501, [["25000.0", "4"]])
    assert live.take() == [("book", LINEAR, 250_000, 250_001, live.now_ns)]


def test_one_recovery_in_flight_however_many_messages_break(live: Any) -> None:
    for u in (105, 110, 120):
        live.delta(u)
    assert [op for op, _ in ops(live, PUBLIC_LINEAR)].count("unsubscribe") == 1
    assert len(live.of(BookInvalid)) == 1


def test_after_two_failed_recoveries_the_socket_is_replaced(live: Any) -> None:
    live.delta(102)
    live.answer_control(PUBLIC_LINEAR)
    for _ in range(2):
        assert ("close", PUBLIC_LINEAR) not in live.wire.log
        for _ in range(31):
            live.tick()
            live.answer_control(PUBLIC_LINEAR)
    assert ("close", PUBLIC_LINEAR) in live.wire.log
    states = [(one.state, one.reason) for one in live.of(ChannelState) if one.channel == PUBLIC_LINEAR]
    assert states[0] == (ConnState.DOWN, f"{BOOK}: no snapshot")


def test_snapshot_in_the_middle_of_the_stream_replaces_the_book(live: Any) -> None:
    live.frame(PUBLIC_LINEAR, snapshot_frame(900, "26000.0", "26000.1"))
    assert live.take() == [("book", LINEAR, 260_000, 260_001, live.now_ns)]
    live.delta(901, [["26000.0", "9"]])
    assert live.connector.books[LINEAR].best_bid_qty == 9_000


def test_u_of_one_is_a_restart_of_the_service_whatever_its_type(live: Any) -> None:
    frame = snapshot_frame(1, "27000.0", "27000.1")
    live.frame(PUBLIC_LINEAR, {**frame, "type": "delta"})
    assert live.take() == [("book", LINEAR, 270_000, 270_001, live.now_ns)]
    live.delta(2, [["27000.0", "2"]])
    assert live.connector.books[LINEAR].is_valid


def test_deletion_of_an_unknown_level_is_normal(live: Any) -> None:
    live.delta(101, [["1.0", "0"]], [["99999.0", "0"]])
    assert live.take() == [("book", LINEAR, 250_000, 250_001, live.now_ns)]


def test_crossed_book_is_tolerated_for_one_message(live: Any) -> None:
    live.delta(101, [["25001.0", "1"]])
    assert live.connector.books[LINEAR].is_valid
    live.delta(102, [["25001.1", "1"]])
    assert [event for event in live.take() if isinstance(event, BookInvalid)] == [
        BookInvalid(live.now_ns, LINEAR, "CROSSED")
    ]


def test_frame_that_the_decoder_refuses_makes_a_hole_in_its_book(live: Any) -> None:
    live.delta(101, [["25000.05", "1"]])  # between two ticks
    events = live.of(BookInvalid)
    assert [event.instrument for event in events] == [LINEAR]
    assert ops(live, PUBLIC_LINEAR)[-1] == ("subscribe", [BOOK])


def test_lost_socket_invalidates_its_books_only(live: Any) -> None:
    live.disconnect(PUBLIC_LINEAR)
    assert [(one.instrument, one.reason) for one in live.of(BookInvalid)] == [(LINEAR, "disconnected: reset by peer")]
    live.take()
    live.run(SECOND)
    live.connect(PUBLIC_LINEAR)
    assert ops(live, PUBLIC_LINEAR)[-1] == ("subscribe", [BOOK, "tickers.BTCUSDT"])
    live.snapshot(u=7)
    assert live.connector.books[LINEAR].is_valid


def test_subscription_that_is_acknowledged_but_silent_is_not_trusted(live: Any) -> None:
    live.disconnect(PUBLIC_LINEAR)
    live.run(SECOND)
    live.connect(PUBLIC_LINEAR)
    live.run(3 * SECOND)
    assert not live.connector.books[LINEAR].is_valid
    assert ("unsubscribe", [BOOK]) in ops(live, PUBLIC_LINEAR)


def test_refused_subscription_replaces_the_socket(live: Any) -> None:
    live.connector.subscribe_trades(LINEAR, live.now_ns)
    request = live.last_sent(PUBLIC_LINEAR)
    assert request["args"] == ["publicTrade.BTCUSDT"]
    text = "error:handler not found,topic:publicTrade.BTCUSDT"
    refusal = {"success": False, "ret_msg": text, "req_id": request["req_id"], "op": "subscribe"}
    live.frame(PUBLIC_LINEAR, refusal)
    down = live.of(ChannelState)[-1]
    assert (down.state, down.reason) == (ConnState.DOWN, f"subscription refused: {text}")


def test_silence_of_book_and_probe_is_stale(live: Any) -> None:
    for _ in range(20):
        live.tick()
        live.frame(PUBLIC_SPOT, snapshot_frame(100, "25000.0", "25000.1"))
    assert not live.of(BookInvalid)
    for _ in range(35):
        live.tick()
        live.frame(PUBLIC_SPOT, snapshot_frame(100, "25000.0", "25000.1"))
    (event,) = live.of(BookInvalid)
    assert event.instrument == LINEAR
    assert event.reason.startswith("stale: no frame for 5")


def test_probe_keeps_a_quiet_book_alive(live: Any) -> None:
    for _ in range(10):
        live.run(SECOND)
        live.frame(PROBE_LINEAR, snapshot_frame(55, "25000.0", "25000.1", depth=1))
    assert not [event for event in live.of(BookInvalid) if event.instrument == LINEAR]


def test_best_price_that_moves_on_the_probe_alone_means_a_frozen_book(live: Any) -> None:
    live.tick()
    live.frame(PROBE_LINEAR, snapshot_frame(56, "25100.0", "25100.1", depth=1))
    live.run(900 * MS)
    assert not live.of(BookInvalid)
    live.run(200 * MS)
    (event,) = live.of(BookInvalid)
    assert event.reason == "frozen: best prices moved 1100 ms after the last delta"


def test_probe_never_changes_the_book(live: Any) -> None:
    live.frame(PROBE_LINEAR, snapshot_frame(56, "25100.0", "25100.1", depth=1))
    assert live.take() == []
    assert live.connector.books[LINEAR].best_bid_px == 250_000


def test_trades_carry_the_side_of_the_aggressor(live: Any) -> None:
    live.frame(
        PUBLIC_LINEAR,
        {
            "topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 5,
            "data": [
                {"T": 7, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "25000.10", "i": "a", "BT": False, "seq": 1},
                {"T": 8, "s": "BTCUSDT", "S": "Sell", "v": "0.002", "p": "25000.00", "i": "b", "BT": False, "seq": 1},
            ],
        },
    )  # fmt: skip
    assert live.take() == [
        TradePrint(live.now_ns, LINEAR, Side.BUY, 250_001, 1, 7 * MS),
        TradePrint(live.now_ns, LINEAR, Side.SELL, 250_000, 2, 8 * MS),
    ]


def test_ticker_deltas_are_merged_into_mark_and_funding(live: Any) -> None:
    fields = {"symbol": "BTCUSDT", "markPrice": "25000.14", "fundingRate": "0.0001", "nextFundingTime": "1763827200000"}
    ticker(live, "snapshot", fields)
    ticker(live, "delta", {"symbol": "BTCUSDT", "lastPrice": "1"})
    ticker(live, "delta", {"symbol": "BTCUSDT", "fundingRate": "-0.00021"})
    at = 1_763_827_200_000 * MS
    assert live.take() == [
        MarkPrice(live.now_ns, LINEAR, 250_001, 100_000, at),
        MarkPrice(live.now_ns, LINEAR, 250_001, -210_000, at),
    ]


def test_ticker_without_mark_price_has_no_price(live: Any) -> None:
    ticker(live, "snapshot", {"symbol": "BTCUSDT", "markPrice": "", "fundingRate": ""})
    assert live.take() == [MarkPrice(live.now_ns, LINEAR, NO_PX, 0, 0)]


@pytest.mark.parametrize("payload", [b"", b"nonsense", b"[]", b'"x"', b'{"topic":5}', b'{"op":"else"}'])
def test_frames_of_no_known_shape_are_survived(live: Any, payload: bytes) -> None:
    live.frame(PUBLIC_LINEAR, payload)
    assert live.take() == []


def ticker(world: Any, kind: str, fields: dict[str, str]) -> None:
    world.frame(PUBLIC_LINEAR, {"topic": "tickers.BTCUSDT", "type": kind, "data": fields, "cs": 1, "ts": 2})


def snapshot_frame(u: int, bid: str, ask: str, depth: int = 50) -> dict[str, Any]:
    data = {"s": "BTCUSDT", "b": [[bid, "1"]], "a": [[ask, "2"]], "u": u, "seq": u * 10}
    return {"topic": f"orderbook.{depth}.BTCUSDT", "type": "snapshot", "ts": 2, "data": data, "cts": 1}


# --- recorded days ----------------------------------------------------------------------------------------------------


def recorded(captures: Path) -> list[tuple[str, bytes]]:
    """(socket, frame) of the recording of 2026-08-09, in order."""
    path = captures / "bybit_halves" / "BYBIT_dev_BTC_DOGE.jsonl.zst"
    reader = zstandard.ZstdDecompressor().stream_reader(path.open("rb"))
    lines = (orjson.loads(line) for line in io.TextIOWrapper(reader))
    return [(line["conn"], line["data"].encode()) for line in lines if line["t"] == "recv"]


def recorded_rows(captures: Path, category: str) -> list[dict[str, Any]]:
    path = captures / "bybit_halves" / "BYBIT_dev_BTC_DOGE.jsonl.zst"
    reader = zstandard.ZstdDecompressor().stream_reader(path.open("rb"))
    for line in map(orjson.loads, io.TextIOWrapper(reader)):
        if line["t"] == "http" and f"category={category}" in line["url"]:
            return orjson.loads(line["data"])["result"]["list"]
    raise AssertionError(category)


def test_recorded_session_gives_the_reference_books(captures: Path, make_world: Any) -> None:
    specs = [
        InstrumentSpec(0, Market.LINEAR, "BTCUSDT"),
        InstrumentSpec(1, Market.LINEAR, "DOGEUSDT"),
        InstrumentSpec(2, Market.SPOT, "BTCUSDT"),
    ]
    rows = {key: recorded_rows(captures, key) for key in ("linear", "spot")}
    world = make_world(specs=specs, book_depth=200)
    world.answers["/v5/market/instruments-info"] = lambda target: {
        "list": [row for row in rows["spot" if "=spot" in target else "linear"] if target.endswith("=" + row["symbol"])]
    }
    world.start()
    for channel in (PUBLIC_LINEAR, PUBLIC_SPOT):
        world.connect(channel)
    for conn, payload in recorded(captures):
        world.now_ns += MS
        channel = PUBLIC_SPOT if conn == "BYBIT.ws.3" else PUBLIC_LINEAR
        world.frame(channel, payload)
    reference = orjson.loads((captures / "reference.json").read_bytes())["cf-20260809-bybit-v5-half-BTC-DOGE"]["books"]
    for index, key in enumerate(
        ("linear:orderbook.200.BTCUSDT", "linear:orderbook.200.DOGEUSDT", "spot:orderbook.200.BTCUSDT")
    ):
        assert not [event for event in world.of(BookInvalid) if event.instrument == index]
        assert (
            hash_of(world.connector.books[index], world.connector.instruments[index])
            == reference[key]["final_hash_all"]
        )
    assert world.of(MarkPrice)
    assert world.of(TradePrint)
    assert world.connector.market.refused == 0


def hash_of(book: Any, instrument: Any) -> str:
    """As the recordings' README says: all levels, best first."""
    sides = [
        ";".join(f"{instrument.px_text(px)},{instrument.qty_text(qty)}" for px, qty in book.levels(side))
        for side in (Side.BUY, Side.SELL)
    ]
    return hashlib.sha256(f"b:{sides[0]}|a:{sides[1]}".encode()).hexdigest()[:16]
