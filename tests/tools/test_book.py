"""Books of the captured sessions, field by field against a plain dictionary's; and what one lost message does."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from engine.types import Venue
from tools.book import EXIT_DATA, EXIT_FOUND, EXIT_OK, add_parser, rebuild, run
from tools.recording import Record, Session

CRYPTOFEED = "cryptofeed/"
SESSIONS = {
    "cf-20210722-usdm": [CRYPTOFEED + "2021-07-22_f60e8395"],
    "cf-20211011-spot": [CRYPTOFEED + "2021-10-11_b90fa9b8"],
    "cf-20250613-bybit-v5-linear-l1": [
        CRYPTOFEED + "2025-08-16_28655106/BYBIT.0",
        CRYPTOFEED + "2025-08-16_28655106/BYBIT.ws.1.0",
    ],
    "cf-20250613-bybit-v5-spot-l1": [CRYPTOFEED + "2025-08-16_28655106/BYBIT.ws.2.0"],
    "cf-20260809-bybit-v5-half-BTC-DOGE": ["bybit_halves/BYBIT_dev_BTC_DOGE.jsonl.zst"],
    "nautilus-20241201-xrpusdt-ob500": ["nautilus_trader/HEAD/tests/test_data/bybit/xrpusdt-ob500.data.zip"],
    "hft-20240808-spot-btcusdt": ["hftbacktest/spot/btcusdt_20240808.gz", "hftbacktest/spot/btcusdt_20240809.gz"],
    "hft-20240808-usdm-btcusdt": ["hftbacktest/usdm/btcusdt_20240808.gz"],
}


def reference(captures: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((captures / "reference.json").read_bytes())
    return loaded


def paths_of(captures: Path, name: str) -> list[Path]:
    return [captures / path for path in SESSIONS[name]]


def arguments(*words: str | Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(dest="verb"))
    return parser.parse_args(["book", *map(str, words)])


def test_every_binance_and_bybit_session_is_covered(captures: Path) -> None:
    wanted = {name for name, session in reference(captures).items() if session.get("venue") in ("binance", "bybit")}
    assert wanted == set(SESSIONS)


@pytest.mark.parametrize("name", SESSIONS)
def test_books_equal_the_reference_in_every_field(captures: Path, name: str) -> None:
    wanted = reference(captures)[name]["books"]
    books = rebuild(Session(paths_of(captures, name)))
    assert books.keys() == wanted.keys()
    for key, fields in wanted.items():
        assert {field: books[key].get(field) for field in fields} == fields, key
        assert books[key]["is_valid"]
        assert books[key]["refused"] == {}
        assert books[key]["levels"] == {"bids": fields["bid_levels"], "asks": fields["ask_levels"]}


class Edited(Session):
    """A session of which one book message is left out, and that may go on behind the end."""

    def __init__(self, paths: list[Path], marks: tuple[bytes, ...], lost: int | None, more: Iterable[Record]) -> None:
        super().__init__(paths)
        self.marks, self.lost, self.more = marks, lost, more

    def records(self) -> Any:
        number = 0
        for record in super().records():
            if all(mark in record.payload[:200] for mark in self.marks):
                number += 1
                if number == self.lost:
                    continue
            yield record
        yield from self.more


LOSSES = [
    ("cf-20211011-spot", (b'"depthUpdate"', b'"NKNUSDT"'), "NKNUSDT"),
    ("cf-20210722-usdm", (b'"depthUpdate"', b'"SUSHIUSDT"'), "SUSHIUSDT"),
    ("cf-20260809-bybit-v5-half-BTC-DOGE", (b'orderbook.200.DOGEUSDT"',), "linear:orderbook.200.DOGEUSDT"),
]


@pytest.mark.parametrize(("name", "marks", "key"), LOSSES)
@pytest.mark.parametrize("lost", [10, 60, 119])
def test_one_lost_message_is_one_gap_and_the_book_stays_invalid(
    captures: Path, name: str, marks: tuple[bytes, ...], key: str, lost: int
) -> None:
    whole = rebuild(Session(paths_of(captures, name)))[key]
    book = rebuild(Edited(paths_of(captures, name), marks, lost, ()))[key]
    assert book["gaps"] == len(book["gap_at"]) == 1
    assert not book["is_valid"]
    assert book["applied"] == lost - 1 - whole["dropped_stale"]  # nothing after the gap touched the book
    assert book["unsynced"] > 0


@pytest.mark.parametrize(("name", "marks", "key"), LOSSES)
def test_next_snapshot_heals_the_gap(captures: Path, name: str, marks: tuple[bytes, ...], key: str) -> None:
    paths = paths_of(captures, name)
    records = [r for r in Session(paths).records() if all(mark in r.payload[:200] for mark in marks)]
    snapshot = snapshot_of(Session(paths).venue, records, key)
    book = rebuild(Edited(paths, marks, 60, [snapshot]))[key]
    assert book["gaps"] == 1
    assert book["is_valid"]
    assert book["final_bbo"] == ["0.0001", "2", "100000", "4"]


def snapshot_of(venue: Venue, records: list[Record], key: str) -> Record:
    """A small snapshot that stands behind the session's last message."""
    last = records[-1]
    message = json.loads(last.payload)
    levels = {"b": [["0.0001", "2"]], "a": [["100000", "4"]]}  # far out: nothing crosses it
    if venue is Venue.BYBIT:
        message["type"] = "snapshot"
        message["data"] |= levels
        return last._replace(payload=json.dumps(message, separators=(",", ":")).encode())
    host = "api.binance.com/api/v3" if "pu" not in message["data"] else "fapi.binance.com/fapi/v1"
    body = {"lastUpdateId": message["data"]["u"] + 1, "bids": levels["b"], "asks": levels["a"]}
    url = f"https://{host}/depth?symbol={key}&limit=1000"
    return Record(last.ts_ns + 1, "http", url, json.dumps(body, separators=(",", ":")).encode())


def test_message_that_follows_the_snapshot_heals_from_what_was_buffered(captures: Path) -> None:
    """The snapshot is of an update in the middle; the messages behind it were buffered and apply."""
    name, marks, key = LOSSES[0]
    paths = paths_of(captures, name)
    records = [r for r in Session(paths).records() if all(mark in r.payload[:200] for mark in marks)]
    snapshot = snapshot_of(Venue.BINANCE, records[:100], key)._replace(ts_ns=records[-1].ts_ns + 1)
    book = rebuild(Edited(paths, marks, 60, [snapshot]))[key]
    assert book["gaps"] == 1
    assert book["is_valid"]
    assert book["applied"] == 58 + (len(records) - 100)  # the first was stale, the 60th is lost


def test_json_face_is_one_object_with_the_books(captures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "nautilus-20241201-xrpusdt-ob500"
    assert run(arguments(*paths_of(captures, name), "--json")) == EXIT_OK
    printed = json.loads(capsys.readouterr().out)
    assert printed.keys() == {"books"}
    assert printed["books"].keys() == {*reference(captures)[name]["books"], "linear XRPUSDT"}
    assert printed["books"]["linear XRPUSDT"] == printed["books"]["linear:orderbook.500.XRPUSDT"]


def test_table_names_every_book(captures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "cf-20260809-bybit-v5-half-BTC-DOGE"
    assert run(arguments(*paths_of(captures, name))) == EXIT_OK
    printed = capsys.readouterr().out
    for key in reference(captures)[name]["books"]:
        assert key in printed
    assert printed.count("valid") == 3


def test_unreadable_recording_is_one_line_and_a_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(tmp_path / "none", "--json")) == EXIT_DATA
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "none: cannot be read: No such file or directory" in captured.err


def test_book_that_never_saw_a_snapshot_is_a_problem_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x"
    path.write_bytes(b'1.0: {"e":"depthUpdate","E":1,"s":"AB","U":2,"u":3,"b":[["1.50","2"]],"a":[]}\n')
    assert run(arguments(path, "--json")) == EXIT_FOUND
    book = json.loads(capsys.readouterr().out)["books"]["AB"]
    assert not book["is_valid"]
    assert book["final_bbo"] == [None, None, None, None]


def test_two_markets_of_binance_are_told_apart_by_name(tmp_path: Path) -> None:
    spot, linear = tmp_path / "spot", tmp_path / "linear"
    spot.write_bytes(b'1.0: {"e":"depthUpdate","E":1,"s":"AB","U":2,"u":3,"b":[["1.5","2"]],"a":[]}\n')
    linear.write_bytes(b'1.0: {"e":"depthUpdate","E":1,"T":1,"s":"AB","U":2,"u":3,"pu":1,"b":[["1.5","2"]],"a":[]}\n')
    assert set(rebuild(Session([spot, linear]))) == {"spot AB", "linear AB"}


def test_definition_that_does_not_fit_the_frames_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(
        b'https://api.binance.com/api/v3/exchangeInfo -> 0.5: {"symbols":[{"symbol":"AB","filters":['
        b'{"filterType":"PRICE_FILTER","tickSize":"0.5"},{"filterType":"LOT_SIZE","stepSize":"1"}]}]}\n'
        b'https://api.binance.com/api/v3/depth?symbol=AB -> 0.6: {"lastUpdateId":1,"bids":[["1.2","3"]],"asks":[]}\n'
        b'1.0: {"e":"depthUpdate","E":1,"s":"AB","U":2,"u":3,"b":[["1.25","2.5"]],"a":[]}\n'
    )
    book = rebuild(Session([path], venue=Venue.BINANCE))["AB"]
    assert book["refused"] == {}
    assert book["final_bbo"] == ["1.25", "2.5", None, None]


def test_books_of_one_depth_have_a_short_name_too() -> None:
    from tools.book import short_names

    made = {key: {"applied": at} for at, key in enumerate(("linear:orderbook.200.BTCUSDT", "BTCUSDT"))}
    assert short_names(made) == {"linear BTCUSDT": {"applied": 0}}
    two_depths = {"spot:orderbook.1.BTCUSDT": {}, "spot:orderbook.50.BTCUSDT": {}}
    assert short_names(two_depths) == {}
