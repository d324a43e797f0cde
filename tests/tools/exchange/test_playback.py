"""Recordings played through the matching engine end in the books that a plain dictionary ends in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from engine.errors import ConfigError
from engine.instrument import plain
from engine.types import Market, Side
from tools.exchange.assemble import build_cores, recorded
from tools.exchange.core import VenueCore
from tools.exchange.model import Listing
from tools.exchange.playback import LONGEST_GAP_NS, Playback, Recording, merged, split_symbol
from tools.exchange.settings import load
from tools.recording import Record

START_NS = 10**18
HALVES = "bybit_halves/BYBIT_dev_BTC_DOGE.jsonl.zst"
SESSIONS = {
    "cf-20260809-bybit-v5-half-BTC-DOGE": HALVES,
    "cf-20211011-spot": "cryptofeed/2021-10-11_b90fa9b8",
    "cf-20210722-usdm": "cryptofeed/2021-07-22_f60e8395",
    "nautilus-20241201-xrpusdt-ob500": "nautilus_trader/HEAD/tests/test_data/bybit/xrpusdt-ob500.data.zip",
}


def start(paths: list[str], *, speed: float = 1.0, trades: bool = True) -> tuple[Playback, dict[str, VenueCore]]:
    settings = msgspec.structs.replace(load(None), market="playback", recordings=paths)
    settings, recordings = recorded(settings)
    cores = build_cores(settings, START_NS)
    return Playback(recordings, cores, speed, trades=trades), cores


def play_to_end(playback: Playback, step_ns: int = 10**9) -> None:
    now_ns = START_NS
    while not playback.is_done:
        playback.step(now_ns)
        now_ns += step_ns


def hash_all(core: VenueCore, listing: Listing) -> str:
    """As reference.json defines `final_hash_all`."""
    tick, lot = listing.instrument.tick_size, listing.instrument.lot_size
    sides = (
        ";".join(f"{plain(tick * px)},{plain(lot * qty)}" for px, qty in core.depth(listing, side))
        for side in (Side.BUY, Side.SELL)
    )
    return hashlib.sha256("b:{}|a:{}".format(*sides).encode()).hexdigest()[:16]


def listing_of(cores: dict[str, VenueCore], venue: str, key: str, market: Market) -> Listing:
    """`linear:orderbook.200.BTCUSDT` or `AKROUSDT`, as reference.json names books."""
    name, _, topic = key.rpartition(":")
    listing = cores[venue].listing(Market[name.upper()] if name else market, topic.rpartition(".")[2])
    assert listing is not None, key
    return listing


@pytest.mark.parametrize("session", SESSIONS)
def test_books_end_as_the_reference_ends(captures: Path, session: str) -> None:
    reference = json.loads((captures / "reference.json").read_text())[session]
    playback, cores = start([str(captures / SESSIONS[session])], trades=False)
    play_to_end(playback)
    market = Market.LINEAR if "usdm" in session else Market.SPOT
    for key, book in reference["books"].items():
        listing = listing_of(cores, reference["venue"], key, market)
        assert hash_all(cores[reference["venue"]], listing) == book["final_hash_all"], key
    assert playback.counts["off_grid"] == 0
    for core in cores.values():
        core.check()


def test_trades_are_printed_by_the_engine(captures: Path) -> None:
    playback, cores = start([str(captures / HALVES)])
    play_to_end(playback)
    printed = sum(listing.last_trade_id - 2_290_000_000_000_000_000 for listing in cores["bybit"].listings)
    assert playback.counts["trades"] > 100
    assert printed >= playback.counts["trades"]


def test_speed_scales_the_time_between_records(captures: Path) -> None:
    playback, _ = start([str(captures / HALVES)], speed=10.0)
    playback.step(START_NS)
    playback.step(START_NS + 10**9)
    assert playback.counters()["played_ms"] == 10_000
    assert not playback.is_done


def test_pause_holds_the_recording(captures: Path) -> None:
    playback, _ = start([str(captures / HALVES)])
    playback.step(START_NS)
    playback.is_paused = True
    before = playback.counts["records"]
    playback.step(START_NS + 10**10)
    assert playback.counts["records"] == before
    assert playback.counters()["played_ms"] == 0


class FakeSession:
    def __init__(self, times: list[int]) -> None:
        self.times = times

    def records(self):
        return iter([Record(ts_ns, "conn", "", b"") for ts_ns in self.times])


def recording_at(times: list[int]) -> Recording:
    return Recording(FakeSession(times), None, times[0])  # type: ignore[arg-type]


def test_sessions_recorded_together_keep_their_distance() -> None:
    first, second = recording_at([1_000, 3_000]), recording_at([2_000])
    assert [at_ns for at_ns, _, _ in merged([first, second])] == [0, 1_000, 2_000]


def test_sessions_of_different_days_begin_together() -> None:
    first, second = recording_at([0, 5]), recording_at([10**15, 10**15 + 3])
    assert [at_ns for at_ns, _, _ in merged([first, second])] == [0, 0, 3, 5]


def test_long_silence_is_shortened() -> None:
    day_ns = 86_400 * 10**9
    assert [at_ns for at_ns, _, _ in merged([recording_at([0, day_ns, day_ns + 7])])] == [
        0,
        LONGEST_GAP_NS,
        LONGEST_GAP_NS + 7,
    ]


@pytest.mark.parametrize(("symbol", "parts"), [("BTCUSDT", ("BTC", "USDT")), ("BLZETH", ("BLZ", "ETH"))])
def test_symbol_is_split_at_a_known_quote(symbol: str, parts: tuple[str, str]) -> None:
    assert split_symbol(symbol) == parts


def test_recording_that_is_missing_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        start([str(tmp_path / "nowhere.gz")])
