"""Bybit frames to ticks and lots: recorded frames against json and Decimal, and the rules one by one."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from ext.decode_bybit import BybitDecoder
from ext.scan import REFUSALS

OTHER, DELTA, SNAPSHOT, BBO, TRADE = range(5)
LINEAR = {"BTCUSDT": ("0.10", "0.001"), "DOGEUSDT": ("0.00001", "1")}
SPOT = {"BTCUSDT": ("0.1", "0.000001")}
FINEST = ("0.00000001", "0.00000001")
L1_LINEAR = dict.fromkeys(("BANDUSDT", "RADUSDT", "SNTUSDT", "AIOZUSDT", "CTSIUSDT"), FINEST)
L1_SPOT = dict.fromkeys(("OPUSDC", "TUSDUSDT", "KCSUSDT", "CPOOLUSDT"), FINEST)
SOURCES = [
    ("bybit_linear", LINEAR, {"depth_delta": 792, "depth_snapshot": 2, "trade": 33}),
    ("bybit_spot", SPOT, {"depth_delta": 299, "depth_snapshot": 1, "trade": 11}),
    ("bybit_l1_linear", L1_LINEAR, {}),
    ("bybit_l1_spot", L1_SPOT, {}),
    ("bybit_l500", {"XRPUSDT": ("0.0001", "1")}, {"depth_delta": 49, "depth_snapshot": 1}),
]

DEPTH = (
    b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1763800000070,"data":{"s":"BTCUSDT",'
    b'"b":[["24999.90","0"],["24999.80","1.5"]],"a":[["25000.20","2.000"]],"u":18521289,"seq":7961638730},'
    b'"cts":1763800000069}'
)
DEPTH_TOLD = {
    "kind": DELTA, "slot": 0, "first_seq": 18521289, "last_seq": 18521289, "prev_seq": -1, "cross_seq": 7961638730,
    "exch_ts_ns": 1763800000069 * 10**6, "send_ts_ns": 1763800000070 * 10**6,
    "bids": [(249999, 0), (249998, 1500)], "asks": [(250002, 2000)], "trades": [],
}  # fmt: skip
TRADES = (
    b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":9,"data":['
    b'{"T":7,"s":"BTCUSDT","S":"Buy","v":"0.001","p":"25000.10","L":"PlusTick","i":"uuid","BT":false,"seq":1},'
    b'{"T":8,"s":"BTCUSDT","S":"Sell","v":"0.002","p":"25000.00","L":"PlusTick","i":"uuid","BT":false,"seq":2}]}'
)
BOOK = (
    b'{"retCode":0,"retMsg":"OK","result":{"s":"BTCUSDT","b":[["25000.0","1.250"]],"a":[["25000.1","0.900"]],'
    b'"ts":2,"u":5,"seq":6,"cts":1},"retExtInfo":{},"time":3}'
)


def reordered(payload: bytes) -> bytes:
    """The same message with its keys backwards, in the inner objects too."""

    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: backwards(inner) for key, inner in reversed(value.items())}
        return [backwards(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(backwards(json.loads(payload))).encode()


def named(code: int) -> str:
    return REFUSALS[code] if code < 0 else str(code)


@pytest.fixture(params=[2, 1, 0], ids=["pairs", "16-bytes", "scalar"])
def decoder(request: pytest.FixtureRequest, grids: Any) -> Any:
    made = grids(BTCUSDT=("0.10", "0.001")).register(BybitDecoder(max_levels=100, max_trades=10))
    if made.use_fast_path(request.param) != request.param:
        pytest.skip("this processor has no AVX2 or no SSSE3")
    return made


def compare(decoder: Any, frames: list[bytes], judge: Any, told: Any) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for frame in frames:
        code = decoder.decode(frame)
        expected = judge.bybit(frame)
        assert code == (expected["kind"] if expected else OTHER), f"{named(code)} for {frame[:200]!r}"
        assert not expected or told(decoder) == expected, frame[:200]
        kinds[named(code)] += 1
    return kinds


@pytest.mark.parametrize("way", [2, 1, 0])
@pytest.mark.parametrize(("source", "symbols", "counts"), SOURCES, ids=[source for source, _, _ in SOURCES])
def test_every_recorded_frame_is_decoded_as_json_and_decimal_say(
    source: str, symbols: Any, counts: dict[str, int], way: int, recorded: Any, grids: Any, oracle: Any, told: Any
) -> None:
    known = grids(**symbols)
    decoder = known.register(BybitDecoder())
    decoder.use_fast_path(way)
    kinds = compare(decoder, recorded(source), oracle(known), told)
    assert kinds[str(DELTA)] + kinds[str(SNAPSHOT)] > 20
    assert {name: decoder.counters.get(name, 0) for name in counts} == counts
    assert not set(decoder.counters) & set(REFUSALS.values())


def test_recorded_rest_and_private_bodies_are_other_or_understood(recorded: Any, grids: Any, oracle: Any) -> None:
    known = grids(BTCUSDT=FINEST)
    decoder = known.register(BybitDecoder())
    books = 0
    for body in recorded("bybit_adapter"):
        expected = oracle(known).bybit(body)
        assert decoder.decode(body) == (expected["kind"] if expected else OTHER), body[:200]
        books += b'"result"' in body and b'"b":' in body and decoder.decode_snapshot(0, body) == SNAPSHOT
    assert books == 1


def test_depth_message_gives_every_field_in_any_order(decoder: Any, told: Any) -> None:
    spot_order = DEPTH.replace(b'"type":"delta","ts":1763800000070', b'"ts":1763800000070,"type":"delta"')
    for frame in (DEPTH, spot_order, reordered(DEPTH), json.dumps(json.loads(DEPTH), indent=2).encode()):
        assert decoder.decode(frame) == DELTA
        assert told(decoder) == DEPTH_TOLD


@pytest.mark.parametrize("depth", [1, 25, 50, 200, 500, 1000])
def test_snapshot_of_every_depth_is_told(depth: int, decoder: Any, told: Any) -> None:
    frame = DEPTH.replace(b"orderbook.50", b"orderbook.%d" % depth).replace(b'"delta"', b'"snapshot"')
    assert decoder.decode(frame) == SNAPSHOT
    assert told(decoder) == DEPTH_TOLD | {"kind": SNAPSHOT}


def test_trades_of_a_message_are_all_kept(decoder: Any, told: Any) -> None:
    for frame in (TRADES, reordered(TRADES)):
        assert decoder.decode(frame) == TRADE
        assert decoder.trades == [(1, 250001, 1, 7 * 10**6), (-1, 250000, 2, 8 * 10**6)]
        assert (decoder.slot, decoder.cross_seq) == (0, 2)
        assert (decoder.exch_ts_ns, decoder.send_ts_ns) == (8 * 10**6, 9 * 10**6)


def test_rest_book_takes_the_slot_of_its_request(decoder: Any) -> None:
    for body in (BOOK, reordered(BOOK)):
        assert decoder.decode_snapshot(0, body) == SNAPSHOT
        assert (decoder.slot, decoder.last_seq, decoder.cross_seq) == (0, 5, 6)
        assert (decoder.bids, decoder.asks) == ([(250000, 1250)], [(250001, 900)])
        assert (decoder.exch_ts_ns, decoder.send_ts_ns) == (10**6, 2 * 10**6)
        assert decoder.decode(body) == OTHER
    assert named(decoder.decode_snapshot(0, BOOK.replace(b"BTCUSDT", b"ETHUSDT"))) == "mixed_symbols"
    assert named(decoder.decode_snapshot(1, BOOK)) == "slot"


def test_rest_answer_that_is_no_book_is_other(decoder: Any) -> None:
    for body in (b'{"retCode":10001,"retMsg":"params error","result":{},"retExtInfo":{},"time":1}', DEPTH, b"[]"):
        assert decoder.decode_snapshot(0, body) == OTHER
    assert named(decoder.decode_snapshot(0, b'{"retCode":0,"result":{}}')) == "missing_field"
    assert named(decoder.decode_snapshot(0, b'{"retCode":0,"result":[]}')) == "missing_field"


@pytest.mark.parametrize(
    "frame",
    [
        b"{}",
        b"[]",
        b'{"success":true,"ret_msg":"","conn_id":"c","op":"subscribe"}',
        b'{"op":"pong","args":["1763800000123"],"conn_id":"c"}',
        b'{"topic":5,"data":{}}',
        b'{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT"},"cs":1,"ts":2}',
        b'{"topic":"tickers.BTCUSDT","type":"delta","data":{"s":"BTCUSDT","b":[["x"]],"u":"x"},"cs":1,"ts":2}',
        b'{"topic":"kline.1.BTCUSDT","data":[{"start":1,"T":"x"}],"ts":"1","type":5}',
        b'{"topic":"order","id":"x","creationTime":1,"data":[{"symbol":"BTCUSDT"}]}',
        DEPTH.replace(b"orderbook.50", b"orderbook.rpi"),
        DEPTH.replace(b"orderbook.50", b"orderbook.full"),
        DEPTH.replace(b"orderbook.50.", b"orderbook."),
        DEPTH.replace(b"orderbook.50.BTCUSDT", b"orderbook.50."),
        TRADES.replace(b"publicTrade.BTCUSDT", b"publicTrade."),
    ],
)
def test_valid_message_of_another_kind_is_other(frame: bytes, decoder: Any) -> None:
    for form in (frame, b" " + frame + b"\n"):
        assert named(decoder.decode(form)) == str(OTHER)
        assert (decoder.bids, decoder.asks, decoder.trades) == ([], [], [])


def test_unknown_symbol_has_its_kind_and_no_levels(decoder: Any) -> None:
    for frame, kind in ((DEPTH, DELTA), (TRADES, TRADE), (reordered(DEPTH), DELTA), (reordered(TRADES), TRADE)):
        assert decoder.decode(frame.replace(b"BTCUSDT", b"ETHUSDT").replace(b"25000", b"x")) == kind
        assert (decoder.slot, decoder.bids, decoder.asks, decoder.trades) == (-1, [], [], [])


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (b'"24999.80"', b'"24999.85"', "off_grid"),
        (b'"24999.80"', b'"2e4"', "exponent"),
        (b'"24999.80"', b'"-1"', "negative"),
        (b'"24999.80"', b'"x"', "not_number"),
        (b'["24999.80","1.5"]', b'["24999.80","1.5","0"]', "level_shape"),
        (b'"s":"BTCUSDT"', b'"s":"ETHUSDT"', "mixed_symbols"),
        (b'"s":"BTCUSDT",', b"", "missing_field"),
        (b'"u":18521289,', b"", "missing_field"),
        (b'"type":"delta",', b"", "missing_field"),
        (b'"type":"delta"', b'"type":"update"', "wrong_type"),
        (b'"ts":1763800000070', b'"ts":"1763800000070"', "wrong_type"),
        (b'"u":18521289', b'"u":1.5', "wrong_type"),
        (b'"seq":7961638730', b'"seq":null', "wrong_type"),
        (b'"a":[["25000.20","2.000"]]', b'"a":{}', "wrong_type"),
        (b'"seq":7961638730', b'"u":18521289', "duplicate_key"),
        (b'"cts":1763800000069', b'"type":"delta"', "duplicate_key"),
        (b'"cts":1763800000069', b'"topic":"tickers.BTCUSDT"', "duplicate_key"),
        (b'"cts":1763800000069', b'"data":{}', "duplicate_key"),
        (b'"cts":1763800000069', b'"\\u0063ts":1', "escaped_key"),
        (b'"cts":1763800000069}', b'"cts":1763800000069', "truncated"),
        (b'"cts":1763800000069}', b'"cts":1763800000069}x', "trailing"),
    ],
)
def test_refusal_of_a_book_names_what_is_wrong(old: bytes, new: bytes, name: str, decoder: Any) -> None:
    assert old in DEPTH
    assert named(decoder.decode(DEPTH.replace(old, new, 1))) == name
    assert (decoder.bids, decoder.asks, decoder.trades) == ([], [], [])
    assert decoder.counters == {name: 1}


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (b'"p":"25000.10"', b'"p":"25000.15"', "off_grid"),
        (b'"v":"0.001"', b'"v":"-0.001"', "negative"),
        (b'"v":"0.001"', b'"v":0.001', "wrong_type"),
        (b'"S":"Buy"', b'"S":"buy"', "trade_side"),
        (b'"S":"Buy",', b"", "missing_field"),
        (b'"L":"PlusTick"', b'"p":"1"', "duplicate_key"),
        (b'"L":"PlusTick"', b'"\\u0070":"1"', "escaped_key"),
        (b'"s":"BTCUSDT"', b'"s":"ETHUSDT"', "mixed_symbols"),
        (b'"T":7', b'"T":"7"', "wrong_type"),
        (b'"data":[', b'"data":[{},', "missing_field"),
        (b'"data":[', b'"data":[5,', "wrong_type"),
        (b'"data":[', b'"data":5,"x":[', "wrong_type"),
        (b'"data":[', b'"data":{},"x":[', "wrong_type"),
        (b'"data":[', b'"x":[', "missing_field"),
        (b'"data":[', b'"data":[],"data":[', "duplicate_key"),
        (b'"seq":2}]', b'"seq":2},]', "syntax"),
    ],
)
def test_refusal_of_trades_names_what_is_wrong(old: bytes, new: bytes, name: str, decoder: Any) -> None:
    assert old in TRADES
    assert named(decoder.decode(TRADES.replace(old, new, 1))) == name
    assert decoder.trades == []


def test_more_than_the_scratch_holds_is_refused(decoder: Any) -> None:
    one = TRADES[TRADES.index(b'{"T"') : TRADES.index(b',{"T":8')]
    head, tail = TRADES[: TRADES.index(b'{"T"')], b"]}"
    assert decoder.decode(head + b",".join([one] * 10) + tail) == TRADE
    assert len(decoder.trades) == 10
    assert named(decoder.decode(head + b",".join([one] * 11) + tail)) == "too_many_trades"
    levels = b",".join(b'["%d","1"]' % i for i in range(101))
    assert named(decoder.decode(DEPTH.replace(b'["25000.20","2.000"]', levels))) == "too_many_levels"


def test_quantity_off_the_lot_grid_is_rounded_down_and_counted(decoder: Any) -> None:
    for frame in (DEPTH.replace(b'"1.5"', b'"1.5009"'), TRADES.replace(b'"0.001"', b'"0.0019"')):
        decoder.strict_qty = False
        assert decoder.decode(frame) in (DELTA, TRADE)
        decoder.strict_qty = True
        assert named(decoder.decode(frame)) == "off_grid"
    assert decoder.qty_rounded == 2
