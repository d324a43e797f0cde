"""The first pass: which books, on which market, with which tick and lot."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from engine.types import Market
from tools.recording import RecordingError, Session
from tools.survey import BookId, survey_of

SPOT_INFO = (
    b'https://api.binance.com/api/v3/exchangeInfo -> 0.5: {"symbols":[{"symbol":"AB","filters":['
    b'{"filterType":"PRICE_FILTER","tickSize":"0.01000000"},{"filterType":"LOT_SIZE","stepSize":"0.10000000"}]}]}\n'
)
BYBIT_INFO = (
    b'https://api.bybit.com/v5/market/instruments-info?category=spot -> 0.5: {"result":{"category":"spot","list":['
    b'{"symbol":"AB","priceFilter":{"tickSize":"0.5"},"lotSizeFilter":{"basePrecision":"0.001"}}]}}\n'
    b'https://api.bybit.com/v5/market/instruments-info?category=linear -> 0.6: {"result":{"category":"linear","list":['
    b'{"symbol":"AB","priceFilter":{"tickSize":"0.1"},"lotSizeFilter":{"qtyStep":"0.01"}}]}}\n'
)
DEPTH = b'1.0: {"e":"depthUpdate","E":1,"s":"AB","U":2,"u":3,"b":[["1.500","2.10"]],"a":[["7","0.00"]]}\n'
TICKER = b'1.1: {"u":4,"s":"AB","b":"1.2500","B":"2","a":"1.3","A":"0.125"}\n'


def scales(tmp_path: Path, content: bytes, *, use_definitions: bool = True) -> dict[BookId, tuple[str, str]]:
    path = tmp_path / "recording"
    path.write_bytes(content)
    survey = survey_of(Session([path]), use_definitions=use_definitions)
    return {book_id: (str(tick), str(lot)) for book_id, (tick, lot) in survey.scales.items()}


def test_frames_give_the_scale_where_nothing_defines_it(tmp_path: Path) -> None:
    assert scales(tmp_path, DEPTH) == {BookId(Market.SPOT, "AB", 0): ("0.1", "0.1")}
    assert scales(tmp_path, DEPTH + TICKER) == {BookId(Market.SPOT, "AB", 0): ("0.01", "0.001")}


def test_definition_gives_the_scale_unless_it_is_not_wanted(tmp_path: Path) -> None:
    (scale,) = scales(tmp_path, SPOT_INFO + DEPTH).values()
    assert tuple(map(Decimal, scale)) == (Decimal("0.01"), Decimal("0.1"))
    assert scales(tmp_path, SPOT_INFO + DEPTH, use_definitions=False) == {BookId(Market.SPOT, "AB", 0): ("0.1", "0.1")}


def test_symbol_without_depth_has_no_book(tmp_path: Path) -> None:
    assert scales(tmp_path, b"1.0: " + DEPTH[5:].replace(b'"AB"', b'"CD"') + TICKER).keys() == {
        BookId(Market.SPOT, "CD", 0)
    }


def test_one_symbol_on_two_markets_of_bybit_is_two_books(tmp_path: Path) -> None:
    frames = (
        b'1.0: {"topic":"orderbook.50.AB","type":"snapshot","ts":1,"data":{"s":"AB","b":[["1.5","2"]],"a":[],"u":1}}\n'
    )
    spot = b"wss://stream.bybit.com/v5/public/spot <-> 0.9\n" + frames.replace(b".50.", b".1.")
    for name, content in (("info", BYBIT_INFO), ("linear", frames), ("spot", spot)):
        (tmp_path / name).write_bytes(content)
    survey = survey_of(Session([tmp_path]), use_definitions=True)
    assert {survey.key_of(book_id): scale for book_id, scale in survey.scales.items()} == {
        "linear:orderbook.50.AB": (Decimal("0.1"), Decimal("0.01")),
        "spot:orderbook.1.AB": (Decimal("0.5"), Decimal("0.001")),
    }


def test_malformed_frames_are_left_to_the_decoder(tmp_path: Path) -> None:
    broken = b'1.2: {"e":"depthUpdate","E":1,"s":"AB","U":2,"u":3,"b":[["1.50001"\n'
    assert scales(tmp_path, DEPTH + broken) == {BookId(Market.SPOT, "AB", 0): ("0.1", "0.1")}


def test_instrument_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"exchangeInfo: instrument list cannot be read"):
        scales(tmp_path, SPOT_INFO.replace(b'"tickSize"', b'"size"') + DEPTH)
