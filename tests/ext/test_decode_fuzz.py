"""Damaged frames: every prefix and every changed byte ends in a named refusal, in MSG_OTHER, or in a message that
Python's strict parser accepts too and that says exactly what json and Decimal say about it.

Runs on all three digit paths of the decoders, which must agree; matters most on the checked build, where a read outside
a bound or an overflow raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.decode_binance import BinanceDecoder
from ext.decode_bybit import BybitDecoder
from ext.scan import REFUSALS, validate

OTHER = 0
STRUCTURAL = b'{}[]":,\\-+.eE0 \x00\n\x1f\x7f\x80\xc3\xff'
# (venue, answer to a REST request, frame): one of every kind, from the venues' pages, to run without recordings.
WRITTEN = {
    "spot_depth": b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT",'
    b'"U":50093239189,"u":50093239202,"b":[["61737.63000000","0.00000000"],["56854.58000000","0.50000000"]],'
    b'"a":[["61837.64000000","1.54698000"]]}}',
    "usdm_depth": b'{"e":"depthUpdate","E":1763800000101,"T":1763800000100,"s":"BTCUSDT","U":1027020,"u":1027031,'
    b'"pu":1027018,"b":[["25000.0","0"]],"a":[["25000.1","0.900"]],"ps":"BTCUSDT","st":1}',
    "partial": b'{"stream":"btcusdt@depth5","data":{"lastUpdateId":160,"bids":[["0.01","10"]],"asks":[["0.02","1"]]}}',
    "spot_ticker": b'{"u":400900217,"s":"BTCUSDT","b":"25.35","B":"31.21","a":"25.36","A":"40.66"}',
    "usdm_ticker": b'{"e":"bookTicker","u":40,"E":15,"T":14,"s":"BTCUSDT","b":"25.35","B":"1","a":"25.36","A":"4"}',
    "usdm_ticker_combined": b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT",'
    b'"b":"61800.20","B":"2.9","a":"61800.3","A":"0.5","T":1723161256313,"E":1723161256314}}',
    "usdm_ticker_pair": b'{"e":"bookTicker","u":9007199254740993,"E":1763800000101,"T":1763800000100,"s":"BTCUSDT",'
    b'"b":"25.35","B":"1","a":"25.36","A":"4","ps":"BTCUSDT","st":1}',
    "trade": b'{"e":"trade","E":16,"s":"BTCUSDT","t":5,"p":"0.01","q":"100","T":15,"m":true,"M":true}',
    "agg_trade": b'{"e":"aggTrade","E":16,"s":"BTCUSDT","a":5,"p":"0.01","q":"10","f":1,"l":2,"T":15,"m":false,"st":1}',
    "rest_book": b'{"lastUpdateId":27,"E":15,"T":14,"bids":[["4.00","431.00"]],"asks":[["4.01","12.00"],["5","1"]]}',
    "other": b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1763800000101}}',
    "bybit_depth": b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1763800000070,"data":{"s":"BTCUSDT",'
    b'"b":[["24999.90","0"]],"a":[["25000.20","2.000"]],"u":18521289,"seq":7961638730},"cts":1763800000069}',
    "bybit_trades": b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":17638,"data":[{"T":17,"s":"BTCUSDT",'
    b'"S":"Buy","v":"0.001","p":"25000.10","L":"PlusTick","i":"u","BT":false,"seq":1},{"T":18,"s":"BTCUSDT",'
    b'"S":"Sell","v":"1","p":"25000.20","i":"u","BT":false}]}',
    "bybit_rest_book": b'{"retCode":0,"retMsg":"OK","result":{"s":"BTCUSDT","b":[["25000.00","1"]],"a":[],"ts":17,'
    b'"u":5,"seq":6,"cts":16},"retExtInfo":{},"time":18}',
    "bybit_other": b'{"topic":"tickers.BTCUSDT","ts":673,"type":"delta","cs":24,"data":{"symbol":"BTCUSDT","u":"x"}}',
}
# Recorded source -> marks of the kinds to take the first frame of.
RECORDED = {
    "binance_spot": [b"@depth", b"@bookTicker", b"@trade"],
    "binance_usdm": [b"@depth", b"@bookTicker", b"@trade"],
    "binance_spot_2021": [b"@kline", b"@aggTrade"],
    "bybit_linear": [b"orderbook.200", b"publicTrade", b"tickers", b'"op"'],
    "bybit_spot": [b"orderbook.200", b"publicTrade"],
    "bybit_l1_spot": [b"orderbook.1"],
}
LONGEST = 1500


def refuse_constant(text: str) -> Any:
    raise ValueError(text)


def strict(payload: bytes) -> Any:
    """The value of a payload, by Python's parser without NaN, Infinity, wrong UTF-8 or half surrogates."""
    value = json.loads(payload.decode("utf-8", "strict"), parse_constant=refuse_constant)
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def damaged(frame: bytes) -> Iterator[bytes]:
    for size in range(len(frame)):
        yield frame[:size]
    for at, byte in enumerate(frame):
        others = {byte ^ (1 << bit) for bit in range(8)} | set(STRUCTURAL)
        for other in sorted(others - {byte}):
            yield frame[:at] + bytes((other,)) + frame[at + 1 :]
        yield frame[:at] + frame[at + 1 :]
        yield frame[:at] + frame[at : at + 1] + frame[at:]


class Judge:
    """Decodes with all three digit paths and holds the answer against the oracle."""

    def __init__(self, name: str, grids: Any, oracle: Any, told: Any) -> None:
        known = grids(BTCUSDT=("0.00000001", "0.00000001"))
        self.venue = "bybit" if name.startswith("bybit") else "binance"
        self.is_answer = name.endswith("rest_book")
        make = BybitDecoder if self.venue == "bybit" else BinanceDecoder
        self.decoders = [known.register(make(max_levels=300)) for _ in range(3)]
        for way, decoder in enumerate(self.decoders):
            decoder.use_fast_path(way)
        self.expect = getattr(oracle(known), self.venue)
        self.told = told

    def check(self, payload: bytes) -> int:
        codes = [d.decode_snapshot(0, payload) if self.is_answer else d.decode(payload) for d in self.decoders]
        code: int = codes[0]
        assert codes[1] == code and codes[2] == code, payload
        answers = [self.told(decoder) for decoder in self.decoders]
        assert answers[0] == answers[1] == answers[2], payload
        if code < 0:
            assert code in REFUSALS
            assert not answers[0]["bids"] and not answers[0]["asks"] and not answers[0]["trades"]
        else:
            strict(payload)
            assert validate(payload) == 0
        if code > 0:
            assert answers[0] == self.expect(payload, "BTCUSDT" if self.is_answer else None), payload
        return code


@pytest.mark.parametrize("name", WRITTEN)
def test_every_damage_to_a_frame_ends_in_a_code_or_in_the_truth(name: str, grids: Any, oracle: Any, told: Any) -> None:
    judge = Judge(name, grids, oracle, told)
    assert (judge.check(WRITTEN[name]) == OTHER) == name.endswith("other")
    codes = {judge.check(payload) for payload in damaged(WRITTEN[name])}
    assert {"truncated", "syntax", "control_character", "utf8", "trailing"} <= {REFUSALS.get(code) for code in codes}


@pytest.mark.parametrize("source", RECORDED)
def test_every_damage_to_a_recorded_frame_ends_so_too(
    source: str, recorded: Any, grids: Any, oracle: Any, told: Any
) -> None:
    judge = Judge(source, grids, oracle, told)
    for mark in RECORDED[source]:
        frame = next(frame for frame in recorded(source) if mark in frame and len(frame) < LONGEST)
        assert judge.check(frame) >= OTHER
        for at, payload in enumerate(damaged(frame)):
            # A long book repeats itself; every seventh damage still meets each place of a level.
            if at % 7 == 0 or len(frame) < 300:
                judge.check(payload)


@pytest.mark.slow
@pytest.mark.parametrize("source", RECORDED)
def test_every_damage_to_many_recorded_frames_ends_so_too(
    source: str, recorded: Any, grids: Any, oracle: Any, told: Any
) -> None:
    judge = Judge(source, grids, oracle, told)
    frames = [frame for frame in recorded(source) if len(frame) < LONGEST]
    for frame in frames[:: max(1, len(frames) // 12)]:
        for payload in damaged(frame):
            judge.check(payload)


# A REST answer is decoded from bytes only.
@pytest.mark.parametrize("name", [name for name in WRITTEN if not name.endswith("rest_book")])
def test_no_byte_behind_the_frame_is_read(name: str, grids: Any, oracle: Any, told: Any) -> None:
    """The same prefix followed by anything at all gives the same answer."""
    judge = Judge(name, grids, oracle, told)
    frame = WRITTEN[name]
    for size in range(len(frame) + 1):
        codes = set()
        for behind in (frame[size:], b"\x00" * 64, b'"' * 64, b"9" * 64, b"]" * 64):
            room = memoryview(frame[:size] + behind)[:size]
            codes |= {decoder.decode(room) for decoder in judge.decoders}
        assert len(codes) == 1, frame[:size]


@given(data=st.data())
def test_frames_cut_and_joined_at_random_end_so_too(data: st.DataObject, grids: Any, oracle: Any, told: Any) -> None:
    name = data.draw(st.sampled_from(sorted(WRITTEN)))
    judge = Judge(name, grids, oracle, told)
    frames = list(WRITTEN.values())
    pieces = []
    for _ in range(data.draw(st.integers(1, 4))):
        frame = data.draw(st.sampled_from(frames))
        start = data.draw(st.integers(0, len(frame)))
        pieces.append(frame[start : data.draw(st.integers(start, len(frame)))])
    judge.check(b"".join(pieces))


@given(data=st.data())
def test_fields_shuffled_and_retyped_end_so_too(data: st.DataObject, grids: Any, oracle: Any, told: Any) -> None:
    """Valid JSON with wrong content: the kinds of damage that single bytes do not reach."""
    name = data.draw(st.sampled_from(sorted(WRITTEN)))
    judge = Judge(name, grids, oracle, told)
    odd = st.sampled_from(
        [None, True, 0, -1, 1.5, 10**30, "", "0", "1e5", "-1", "BTCUSDT", "ETHUSDT", [], {}, [[]], [["1", "2"]],
         [["1", "2", "3"]], [[1, 2]], [{}], "depthUpdate", "trade", "snapshot"]
    )  # fmt: skip

    def bent(value: Any) -> Any:
        if data.draw(st.integers(0, 9)) == 0:
            return data.draw(odd)
        if isinstance(value, dict):
            keys = data.draw(st.permutations(sorted(value)))
            return {key: bent(value[key]) for key in keys if data.draw(st.integers(0, 11))}
        return [bent(inner) for inner in value] if isinstance(value, list) else value

    judge.check(json.dumps(bent(json.loads(WRITTEN[name])), ensure_ascii=data.draw(st.booleans())).encode())


NUMBERS = st.one_of(
    st.from_regex(r"[0-9]{1,17}", fullmatch=True),
    st.from_regex(r"[0-9]{1,9}\.[0-9]{1,9}", fullmatch=True),
    st.from_regex(r"[0-9]{1,5}\.[0-9]{0,3}0{0,8}", fullmatch=True),
    st.from_regex(r"0{0,9}[0-9]{0,3}\.?[0-9.]{0,17}", fullmatch=True),
    st.text(alphabet="0123456789.-e:/ ,[]", max_size=18),
)


@given(
    rows=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12),
    decimals=st.tuples(st.integers(0, 18), st.integers(0, 18)),
    mantissas=st.tuples(st.sampled_from([1, 1, 5, 25]), st.sampled_from([1, 1, 10])),
    tail=st.sampled_from(["", " " * 40]),
)
def test_levels_on_any_grid_are_read_alike_by_all_paths(
    rows: list[tuple[str, str]], decimals: tuple[int, int], mantissas: tuple[int, int], tail: str
) -> None:
    level = ",".join(f'["{px}","{qty}"]' for px, qty in rows)
    ticker = f'{{"u":1,"s":"ANY","b":"{rows[0][0]}","B":"{rows[0][1]}","a":"{rows[-1][0]}","A":"{rows[-1][1]}"}}'
    book = f'{{"lastUpdateId":7,"bids":[{level}],"asks":[{level}]}}'
    answers = []
    for way in range(3):
        decoder = BinanceDecoder()
        decoder.use_fast_path(way)
        decoder.add_symbol("ANY", 0, decimals[0], mantissas[0], decimals[1], mantissas[1])
        answers.append(
            [
                (decoder.decode_snapshot(0, (book + tail).encode()), decoder.bids, decoder.asks, decoder.qty_rounded),
                (decoder.decode((ticker + tail).encode()), decoder.bids, decoder.asks, decoder.qty_rounded),
            ]
        )
    assert answers[0] == answers[1] == answers[2]
