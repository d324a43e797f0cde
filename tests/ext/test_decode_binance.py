"""Binance frames to ticks and lots: recorded frames against json and Decimal, and the rules one by one."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from ext.decode_binance import BinanceDecoder
from ext.scan import REFUSALS

OTHER, DELTA, SNAPSHOT, BBO, TRADE = range(5)
SPOT = {"BTCUSDT": ("0.01", "0.00001")}
USDM = {"BTCUSDT": ("0.10", "0.001")}
FINEST = ("0.00000001", "0.00000001")
SPOT_2021 = dict.fromkeys(("BLZETH", "LRCBTC", "NKNUSDT", "RUNEEUR"), FINEST)
USDM_2021 = dict.fromkeys(("AKROUSDT", "CTKUSDT", "KEEPUSDT", "SUSHIUSDT"), FINEST)
SOURCES = [
    ("binance_spot", SPOT, {"depth_delta": 6495, "depth_snapshot": 1, "bbo": 73174, "trade": 19904}),
    ("binance_usdm", USDM, {"depth_delta": 6551, "depth_snapshot": 1, "bbo": 66089, "trade": 21313}),
    ("binance_spot_2021", SPOT_2021, {"depth_delta": 177, "bbo": 84}),
    ("binance_usdm_2021", USDM_2021, {"depth_delta": 764, "bbo": 613}),
]

DEPTH = (
    b'{"e":"depthUpdate","E":1763800000101,"T":1763800000100,"s":"BTCUSDT","U":1027020,"u":1027031,"pu":1027018,'
    b'"b":[["25000.0","0"],["24999.90","1.250"]],"a":[["25000.1","0.900"]],"ps":"BTCUSDT","st":1}'
)
DEPTH_TOLD = {
    "kind": DELTA, "slot": 0, "first_seq": 1027020, "last_seq": 1027031, "prev_seq": 1027018, "cross_seq": -1,
    "exch_ts_ns": 1763800000100 * 10**6, "send_ts_ns": 1763800000101 * 10**6,
    "bids": [(250000, 0), (249999, 1250)], "asks": [(250001, 900)], "trades": [],
}  # fmt: skip
TICKER = b'{"u":7,"s":"BTCUSDT","b":"25000.0","B":"1.5","a":"25000.10","A":"2"}'
TRADE_FRAME = b'{"e":"trade","E":2,"s":"BTCUSDT","t":5,"p":"25000.1","q":"0.004","T":1,"m":true,"M":true}'
BOOK = b'{"lastUpdateId":9,"E":2,"T":1,"bids":[["25000.0","1.250"]],"asks":[["25000.1","0.900"],["25000.2","1"]]}'


def wrapped(stream: bytes, payload: bytes) -> bytes:
    return b'{"stream":"' + stream + b'","data":' + payload + b"}"


def reordered(payload: bytes) -> bytes:
    """The same message with its keys backwards: every array comes before the symbol."""
    return json.dumps(dict(reversed(json.loads(payload).items()))).encode()


def named(code: int) -> str:
    return REFUSALS[code] if code < 0 else str(code)


@pytest.fixture(params=[2, 1, 0], ids=["pairs", "16-bytes", "scalar"])
def decoder(request: pytest.FixtureRequest, grids: Any) -> Any:
    made = grids(**USDM).register(BinanceDecoder(max_levels=100))
    if made.use_fast_path(request.param) != request.param:
        pytest.skip("this processor has no AVX2 or no SSSE3")
    return made


def compare(decoder: Any, frames: list[bytes], judge: Any, told: Any) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for frame in frames:
        code = decoder.decode(frame)
        expected = judge.binance(frame)
        assert code == (expected["kind"] if expected else OTHER), f"{named(code)} for {frame[:200]!r}"
        assert not expected or told(decoder) == expected, frame[:200]
        kinds[named(code)] += 1
    return kinds


@pytest.mark.parametrize("source", ["binance_spot", "binance_usdm", "binance_spot_2021", "binance_usdm_2021"])
def test_recorded_sample_is_decoded_as_json_and_decimal_say(
    source: str, recorded: Any, grids: Any, oracle: Any, told: Any
) -> None:
    symbols = next(sizes for name, sizes, _ in SOURCES if name == source)
    known = grids(**symbols)
    frames = recorded(source)
    sample = [frame for frame in frames[:: max(1, len(frames) // 500)] if b'"lastUpdateId"' not in frame[:20]]
    assert compare(known.register(BinanceDecoder()), sample, oracle(known), told).total() == len(sample)


@pytest.mark.slow
@pytest.mark.parametrize("way", [2, 1, 0])
@pytest.mark.parametrize(("source", "symbols", "counts"), SOURCES, ids=[source for source, _, _ in SOURCES])
def test_every_recorded_frame_is_decoded_as_json_and_decimal_say(
    source: str, symbols: Any, counts: dict[str, int], way: int, recorded: Any, grids: Any, oracle: Any, told: Any
) -> None:
    known = grids(**symbols)
    decoder = known.register(BinanceDecoder())
    decoder.use_fast_path(way)
    books = [frame for frame in recorded(source) if frame.startswith(b'{"lastUpdateId"')]
    compare(decoder, [frame for frame in recorded(source) if frame not in books], oracle(known), told)
    for frame in books:
        assert decoder.decode_snapshot(0, frame) == SNAPSHOT
        assert told(decoder) == oracle(known).binance(frame, next(iter(symbols)))
    assert {name: decoder.counters.get(name, 0) for name in counts} == counts
    assert not set(decoder.counters) & set(REFUSALS.values())


@pytest.mark.parametrize("source", ["binance_spot_2021_http", "binance_usdm_2021_http"])
def test_recorded_rest_books_are_decoded(source: str, recorded: Any, grids: Any, oracle: Any, told: Any) -> None:
    known = grids(ANY=FINEST)
    decoder = known.register(BinanceDecoder())
    books = [frame for frame in recorded(source) if b'"lastUpdateId"' in frame[:20]]
    assert len(books) == 4
    for book in books:
        assert decoder.decode_snapshot(0, book) == SNAPSHOT
        assert told(decoder) == oracle(known).binance(book, "ANY")
        assert min(len(decoder.bids), len(decoder.asks)) > 100


def test_recorded_rest_and_private_bodies_are_other_or_understood(recorded: Any, grids: Any, oracle: Any) -> None:
    known = grids(BTCUSDT=FINEST)
    decoder = known.register(BinanceDecoder())
    for body in recorded("binance_adapter"):
        expected = oracle(known).binance(body)
        code = decoder.decode(body)
        assert code in (OTHER, expected["kind"] if expected else OTHER) or REFUSALS[code] == "too_deep", body[:200]


def test_depth_event_gives_every_field(decoder: Any, told: Any) -> None:
    for frame in (DEPTH, reordered(DEPTH), wrapped(b"btcusdt@depth@100ms", DEPTH), memoryview(DEPTH)):
        assert decoder.decode(frame) == DELTA
        assert told(decoder) == DEPTH_TOLD


def test_wrapper_may_put_its_stream_name_last(decoder: Any, told: Any) -> None:
    assert decoder.decode(b'{"data":' + DEPTH + b',"stream":"btcusdt@depth"}') == DELTA
    assert told(decoder) == DEPTH_TOLD


def test_rpi_book_is_not_the_book(decoder: Any) -> None:
    assert decoder.decode(wrapped(b"btcusdt@rpiDepth@500ms", DEPTH)) == OTHER


@pytest.mark.parametrize("stream", [b"btcusdt@depth5", b"btcusdt@depth10@100ms", b"btcusdt@depth20@500ms"])
def test_partial_book_is_told_by_its_stream_name(stream: bytes, decoder: Any, told: Any) -> None:
    assert decoder.decode(wrapped(stream, DEPTH)) == SNAPSHOT
    assert told(decoder) == DEPTH_TOLD | {"kind": SNAPSHOT}
    assert decoder.decode(wrapped(stream, BOOK)) == SNAPSHOT
    assert (decoder.slot, decoder.last_seq, decoder.asks) == (0, 9, [(250001, 900), (250002, 1000)])


def test_partial_book_without_its_stream_name_has_no_slot(decoder: Any) -> None:
    assert decoder.decode(BOOK) == SNAPSHOT
    assert (decoder.slot, decoder.bids, decoder.last_seq) == (-1, [], 9)


def test_rest_book_takes_the_slot_of_its_request(decoder: Any) -> None:
    for body in (BOOK, reordered(BOOK), json.dumps(json.loads(BOOK), indent=1).encode()):
        assert decoder.decode_snapshot(0, body) == SNAPSHOT
        assert (decoder.slot, decoder.first_seq, decoder.last_seq) == (0, 9, 9)
        assert (decoder.bids, decoder.asks) == ([(250000, 1250)], [(250001, 900), (250002, 1000)])
        assert (decoder.exch_ts_ns, decoder.send_ts_ns) == (10**6, 2 * 10**6)


def test_rest_answer_that_is_no_book_is_other(decoder: Any) -> None:
    for body in (b'{"code":-1121,"msg":"Invalid symbol."}', DEPTH, TICKER, b"[]", wrapped(b"btcusdt@depth5", BOOK)):
        assert decoder.decode_snapshot(0, body) == OTHER
    assert named(decoder.decode_snapshot(1, BOOK)) == "slot"


def test_book_ticker_of_both_markets(decoder: Any) -> None:
    usdm = b'{"e":"bookTicker","E":2,"T":1,"ps":"BTCUSDT","st":1,' + TICKER[1:]
    for frame in (TICKER, reordered(TICKER), wrapped(b"btcusdt@bookTicker", TICKER), usdm, reordered(usdm)):
        assert decoder.decode(frame) == BBO
        assert (decoder.slot, decoder.first_seq, decoder.last_seq) == (0, 7, 7)
        assert (decoder.bids, decoder.asks) == ([(250000, 1500)], [(250001, 2000)])
    assert (decoder.exch_ts_ns, decoder.send_ts_ns) == (10**6, 2 * 10**6)


def test_trade_side_is_the_aggressors(decoder: Any) -> None:
    aggregate = TRADE_FRAME.replace(b'"trade"', b'"aggTrade"').replace(b'"t":5', b'"a":5,"nq":"0.004","f":1,"l":2')
    for frame in (TRADE_FRAME, aggregate, reordered(aggregate), wrapped(b"btcusdt@aggTrade", aggregate)):
        assert decoder.decode(frame) == TRADE
        assert decoder.trades == [(-1, 250001, 4, 10**6)]
        assert decoder.decode(frame.replace(b'"m":true', b'"m":false').replace(b'"m": true', b'"m":false')) == TRADE
        assert decoder.trades == [(1, 250001, 4, 10**6)]


@pytest.mark.parametrize(
    "frame",
    [
        b"{}",
        b"[]",
        b"1",
        b'{"result":null,"id":1}',
        b'{"code":2,"msg":"Invalid request"}',
        b'{"e":"serverShutdown","E":1}',
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}',
        b'{"e":"24hrTicker","E":1,"s":"BTCUSDT","p":"off grid","b":"x","B":1,"a":null,"A":[]}',
        b'{"e":"kline","s":"BTCUSDT","b":[["not","levels"]],"a":[1]}',
        b'{"e":"listStatus","e2":1,"E":{"e":"depthUpdate"}}',
        b'{"e":5,"s":"BTCUSDT"}',
        b'{"data":{"e":"depthUpdate"}}',
        b'{"subscriptionId":0,"event":{"e":"executionReport","s":"BTCUSDT"}}',
        b'[{"e":"24hrMiniTicker","s":"BTCUSDT"}]',
        DEPTH.replace(b'"st":1', b'"st":2'),
        TICKER.replace(b'"u":7', b'"u":7,"st":2'),
    ],
)
def test_valid_message_of_another_kind_is_other(frame: bytes, decoder: Any) -> None:
    for form in (frame, b" " + frame + b"\n"):
        assert named(decoder.decode(form)) == str(OTHER)
    assert (decoder.slot, decoder.bids, decoder.asks, decoder.trades) == (-1, [], [], [])


def test_unknown_symbol_has_its_kind_and_no_levels(decoder: Any) -> None:
    for frame, kind in ((DEPTH, DELTA), (TICKER, BBO), (TRADE_FRAME, TRADE), (reordered(DEPTH), DELTA)):
        other = frame.replace(b'"BTCUSDT"', b'"ETHUSDT"').replace(b"25000.1", b"25000.123")
        assert decoder.decode(other) == kind
        assert (decoder.slot, decoder.bids, decoder.asks, decoder.trades) == (-1, [], [], [])


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (b'"24999.90"', b'"24999.95"', "off_grid"),
        (b'"24999.90"', b'"2499995e-2"', "exponent"),
        (b'"24999.90"', b'"-24999.90"', "negative"),
        (b'"24999.90"', b'"24999.9O"', "not_number"),
        (b'"24999.90"', b'""', "not_number"),
        (b'"24999.90"', b'"24999."', "not_number"),
        (b'"24999.90"', b'".9"', "not_number"),
        (b'"24999.90"', b'"24999\\u002e90"', "not_number"),
        (b'"24999.90"', b'"9223372036854775807.0"', "overflow"),
        (b'"24999.90"', b'"' + b"1" * 49 + b'"', "too_many_digits"),
        (b'"24999.90"', b"24999.90", "level_shape"),
        (b'["24999.90","1.250"]', b'["24999.90"]', "level_shape"),
        (b'["24999.90","1.250"]', b'["24999.90","1.250","0"]', "level_shape"),
        (b'["24999.90","1.250"]', b"[]", "level_shape"),
        (b'["24999.90","1.250"]', b'{"24999.90":"1.250"}', "level_shape"),
        (b'["24999.90","1.250"]', b"null", "level_shape"),
        (b'"1.250"]]', b'"1.250"],]', "syntax"),
        (b'["24999.90","1.250"]', b'["24999.90","1.250",]', "syntax"),
        (b'["24999.90","1.250"]', b'["24999.90" "1.250"]', "syntax"),
        (b'"U":1027020', b'"U":"1027020"', "wrong_type"),
        (b'"U":1027020', b'"U":1027020.5', "wrong_type"),
        (b'"U":1027020', b'"U":-1', "wrong_type"),
        (b'"U":1027020', b'"U":9223372036854775808', "wrong_type"),
        (b'"U":1027020', b'"U":01', "json_number"),
        (b'"E":1763800000101', b'"E":9000000000001', "wrong_type"),
        (b'"s":"BTCUSDT"', b'"s":5', "wrong_type"),
        (b'"s":"BTCUSDT"', b'"s":"BTC\\u0055SDT"', "wrong_type"),
        (b'"a":[["25000.1","0.900"]]', b'"a":"25000.1"', "wrong_type"),
        (b'"a":[["25000.1","0.900"]]', b'"a":null', "wrong_type"),
        (b'"u":1027031,', b"", "missing_field"),
        (b'"a":[["25000.1","0.900"]],', b"", "missing_field"),
        (b'"pu":1027018', b'"u":1027031', "duplicate_key"),
        (b'"pu":1027018', b'"e":"depthUpdate"', "duplicate_key"),
        (b'"pu":1027018', b'"e":"trade"', "duplicate_key"),
        (b'"pu":1027018', b'"b":[]', "duplicate_key"),
        (b'"pu":1027018', b'"p\\u0075":1', "escaped_key"),
        (b'"pu":1027018', b'"x":[1,]', "syntax"),
        (b'"pu":1027018', b'"x":"\xff"', "utf8"),
        (b'"st":1}', b'"st":1}}', "trailing"),
        (b'"st":1}', b'"st":1', "truncated"),
    ],
)
def test_refusal_names_what_is_wrong(old: bytes, new: bytes, name: str, decoder: Any) -> None:
    assert old in DEPTH
    frame = DEPTH.replace(old, new, 1)
    for form in (frame, wrapped(b"btcusdt@depth", frame)):
        assert named(decoder.decode(form)) == name
        assert (decoder.bids, decoder.asks, decoder.trades) == ([], [], [])
    assert decoder.counters == {name: 2}


def test_refused_book_still_names_its_slot(decoder: Any) -> None:
    assert named(decoder.decode(DEPTH.replace(b"24999.90", b"24999.95"))) == "off_grid"
    assert decoder.slot == 0
    assert named(decoder.decode(b'{"e":"depthUpdate",')) == "truncated"
    assert decoder.slot == -1


def test_damage_in_a_book_is_named_as_damage_not_as_a_price(decoder: Any) -> None:
    assert named(decoder.decode(DEPTH.replace(b'"24999.90"', b'"24999.\xff"'))) == "utf8"
    assert named(decoder.decode(DEPTH.replace(b'"24999.90"', b'"24999.\n"'))) == "control_character"


def test_quantity_off_the_lot_grid_is_rounded_down_and_counted(decoder: Any) -> None:
    frame = DEPTH.replace(b"1.250", b"25.42618900")
    assert decoder.decode(frame) == DELTA
    assert decoder.bids == [(250000, 0), (249999, 25426)]
    assert decoder.qty_rounded == 1
    decoder.strict_qty = True
    assert named(decoder.decode(frame)) == "off_grid"
    assert decoder.decode(DEPTH) == DELTA


def test_more_levels_than_scratch_is_refused(decoder: Any) -> None:
    for count, name in ((100, str(DELTA)), (101, "too_many_levels")):
        levels = b",".join(b'["%d.0","1.000"]' % (20000 + i) for i in range(count))
        for side in (b'"b":[', b'"a":['):
            frame = DEPTH.replace(b'["25000.0","0"],["24999.90","1.250"]', b"").replace(b'["25000.1","0.900"]', b"")
            assert named(decoder.decode(frame.replace(side, side + levels))) == name


def test_empty_sides_are_no_refusal(decoder: Any) -> None:
    frame = b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[ ]}'
    assert decoder.decode(frame) == DELTA
    assert (decoder.bids, decoder.asks, decoder.prev_seq) == ([], [], -1)


def test_many_symbols_are_found_each() -> None:
    decoder = BinanceDecoder(max_levels=10)
    names = [f"{'ABCDEFGH'[i % 8]}{i}USDT" for i in range(3000)] + ["X", "AB", "A" * 32]
    for slot, name in enumerate(names):
        decoder.add_symbol(name, slot, 2, 1, 3, 1)
    for slot, name in enumerate(names):
        assert decoder.decode(TICKER.replace(b"BTCUSDT", name.encode())) == BBO
        assert decoder.slot == slot
    assert decoder.decode(TICKER.replace(b"BTCUSDT", b"A" * 40)) == BBO
    assert decoder.slot == -1


def test_impossible_symbol_is_an_error() -> None:
    decoder = BinanceDecoder()
    decoder.add_symbol("BTCUSDT", 0, 2, 1, 3, 1)
    for arguments in (
        ("BTCUSDT", 1, 2, 1, 3, 1),
        ("ETHUSDT", 0, 2, 1, 3, 1),
        ("ETHUSDT", -1, 2, 1, 3, 1),
        ("", 1, 2, 1, 3, 1),
        ("E" * 33, 1, 2, 1, 3, 1),
        ("ETHUSDT", 1, 19, 1, 3, 1),
        ("ETHUSDT", 1, 2, 0, 3, 1),
        ("ETHUSDT", 1, 2, 1, -1, 1),
    ):
        with pytest.raises(ValueError):
            decoder.add_symbol(*arguments)
    with pytest.raises(ValueError):
        BinanceDecoder(max_levels=0)
