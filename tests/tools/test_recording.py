"""Every format by a few lines written here; the real recordings are in test_book.py."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest
import zstandard

from engine.types import Market, Venue
from tools.recording import HTTP_CONN, RecordingError, Session

DEPTH = (
    b'{"stream":"btcusdt@depth","data":{"e":"depthUpdate","E":1700000000001,"s":"BTCUSDT","U":2,"u":3,"b":[],"a":[]}}'
)
FUTURES_DEPTH = DEPTH.replace(b'"u":3', b'"u":3,"pu":1')
BOOK_LINEAR = b'{"topic":"orderbook.50.BTCUSDT","type":"snapshot","ts":1700000000001,"data":{"s":"BTCUSDT"}}'
BOOK_SPOT = b'{"topic":"orderbook.50.BTCUSDT","ts":1700000000001,"type":"snapshot","data":{"s":"BTCUSDT"}}'
LOCAL_NS = b"1700000000000000001 " + DEPTH + b"\n1700000000000000002 " + DEPTH + b"\n\n"


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd", "zip"])
def test_packing_is_told_by_content_and_not_by_name(tmp_path: Path, packed: str) -> None:
    path = tmp_path / "recording"
    if packed == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inner.data", LOCAL_NS)
    else:
        pack = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[packed]
        path.write_bytes(pack(LOCAL_NS))
    session = Session([path])
    assert [(record.ts_ns, record.payload) for record in session.records()] == [
        (1700000000000000001, DEPTH),
        (1700000000000000002, DEPTH),
    ]
    assert session.venue is Venue.BINANCE


def test_files_of_a_session_are_merged_by_time_and_keep_their_order_at_equal_times(tmp_path: Path) -> None:
    stream = write(
        tmp_path / "X.ws.1.0", b"wss://stream.binance.com:9443/stream <-> 0.5\n1.5: " + DEPTH + b"\n3.25: {}\n"
    )
    answers = write(
        tmp_path / "X.http.0.0", b'https://api.binance.com/api/v3/depth?symbol=A -> 2.0: {"lastUpdateId":1}\n'
    )
    records = list(Session([stream, answers]).records())
    assert [record.ts_ns for record in records] == [1_500_000_000, 2_000_000_000, 3_250_000_000]
    assert [record.is_http for record in records] == [False, True, False]
    assert records[0].url == "wss://stream.binance.com:9443/stream"
    assert records[1].url == "https://api.binance.com/api/v3/depth?symbol=A"
    first, second = write(tmp_path / "one", b"5.0: {}\n"), write(tmp_path / "two", b"5.0: []\n")
    assert [r.payload for r in Session([second, first], venue=Venue.BYBIT).records()] == [b"[]", b"{}"]


def test_seconds_become_nanoseconds_without_a_float(tmp_path: Path) -> None:
    path = write(tmp_path / "x", b"1626992742.334986123: {}\n1626992743.1: {}\n1626992744: {}\n")
    assert [record.ts_ns for record in Session([path], venue=Venue.BYBIT).records()] == [
        1626992742334986123,
        1626992743100000000,
        1626992744000000000,
    ]


def test_objects_name_their_connection_and_answers_their_address(tmp_path: Path) -> None:
    lines = (
        b'{"t":"header","format":2}\n'
        b'{"t":"http","conn":"h","ts":1.5,"url":"https://api.bybit.com/v5/x?category=spot","data":"{}"}\n'
        b'{"t":"connect","conn":"w","ts":1.6,"addr":"wss://stream.bybit.com/v5/public/linear"}\n'
        b'{"t":"send","conn":"w","ts":1.7,"addr":"wss://stream.bybit.com/v5/public/linear","data":"{}"}\n'
        b'{"t":"recv","conn":"w","ts":1.8,"data":"{\\"a\\":1}"}\n'
    )
    session = Session([write(tmp_path / "x", lines)])
    answer, frame = session.records()
    assert (answer.conn, session.market_of(answer)) == (HTTP_CONN, Market.SPOT)
    assert (frame.payload, session.market_of(frame)) == (b'{"a":1}', Market.LINEAR)
    assert session.venue is Venue.BYBIT


def test_bare_frames_take_their_time_from_the_venue(tmp_path: Path) -> None:
    (record,) = Session([write(tmp_path / "x", BOOK_LINEAR + b"\n")]).records()
    assert record.ts_ns == 1700000000001 * 10**6


@pytest.mark.parametrize(
    ("frame", "venue", "market"),
    [
        (DEPTH, Venue.BINANCE, Market.SPOT),
        (FUTURES_DEPTH, Venue.BINANCE, Market.LINEAR),
        (BOOK_LINEAR, Venue.BYBIT, Market.LINEAR),
        (BOOK_SPOT, Venue.BYBIT, Market.SPOT),
        (BOOK_SPOT.replace(b".50.", b".1."), Venue.BYBIT, None),
    ],
)
def test_venue_and_market_are_told_by_a_frame(tmp_path: Path, frame: bytes, venue: Venue, market: Market) -> None:
    session = Session([write(tmp_path / "x", frame + b"\n")])
    (record,) = session.records()
    assert session.venue is venue
    assert session.market_of(record) is market


def test_market_given_overrides_what_the_frame_tells(tmp_path: Path) -> None:
    session = Session([write(tmp_path / "x", BOOK_LINEAR + b"\n")], market=Market.SPOT)
    (record,) = session.records()
    assert session.market_of(record) is Market.SPOT


def test_folder_stands_for_its_files(tmp_path: Path) -> None:
    write(tmp_path / "b", b"2.0: {}\n")
    write(tmp_path / "a", b"1.0: {}\n")
    assert [path.name for path in Session([tmp_path], venue=Venue.BYBIT).paths] == ["a", "b"]


def test_empty_file_holds_no_record(tmp_path: Path) -> None:
    assert list(Session([write(tmp_path / "x", b"\n\n")], venue=Venue.BYBIT).records()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"exchange,symbol\n", "not a recording in a known format, it begins with 'exchange,symbol'"),
        (LOCAL_NS + b"nonsense\n", "line 3 should be `local_ns json`, was 'nonsense'"),
        (b"1.5: {}\nnonsense\n", "line 2 should be `ts: frame`, was 'nonsense'"),
        (b'{"t":"header"}\n{"t":"recv"}\n', "line 2 should be an object with"),
        (DEPTH + b"\n[]\n", "line 2 should be one JSON frame a line"),
        (gzip.compress(LOCAL_NS * 100)[:-30], "cannot be read: "),
        (zstandard.ZstdCompressor().compress(LOCAL_NS)[:-8] + b"????????", "cannot be read: "),
        (b"PK\x03\x04 not an archive", "cannot be read: "),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "x", content)
    with pytest.raises(RecordingError) as caught:
        list(Session([path], venue=Venue.BINANCE).records())
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_unknown_venue_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"cannot be read: No such file or directory"):
        Session([tmp_path / "none"])
    with pytest.raises(RecordingError, match=r"no frame of a known venue found; name it with --venue"):
        Session([write(tmp_path / "x", b"1.0: {}\n")])
