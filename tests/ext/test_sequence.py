"""The venues' rules, table by table: what applies, what is old, what proves a loss."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from engine.types import NO_PX
from ext import sequence
from ext.book import Book
from ext.decode_binance import BinanceDecoder
from ext.decode_bybit import BybitDecoder
from ext.scan import REFUSALS
from ext.sequence import (
    OUT_APPLIED,
    OUT_BBO,
    OUT_CROSSED,
    OUT_GAP,
    OUT_OTHER,
    OUT_REPEAT,
    OUT_SNAPSHOT,
    OUT_STALE,
    OUT_TRADE,
    OUT_UNSYNCED,
    RULE_BINANCE_SPOT,
    RULE_BINANCE_USDM,
    RULE_BYBIT,
    Feed,
    SequencedBook,
)

BIDS = [(100, 5), (99, 4)]
ASKS = [(101, 6), (102, 7)]


def rest_synced(rule: int, last_update_id: int = 1000) -> SequencedBook:
    seq = SequencedBook(rule, Book(8))
    assert seq.on_message(last_update_id, last_update_id, BIDS, ASKS, is_rest=True) == OUT_SNAPSHOT
    return seq


def bybit_synced(u: int = 50, max_depth: int = 0) -> SequencedBook:
    seq = SequencedBook(RULE_BYBIT, Book(8), max_depth)
    assert seq.on_message(u, u, BIDS, ASKS, is_snapshot=True) == OUT_SNAPSHOT
    return seq


@pytest.mark.parametrize("rule", [RULE_BINANCE_SPOT, RULE_BINANCE_USDM, RULE_BYBIT])
def test_delta_without_a_snapshot_is_unsynced_and_changes_nothing(rule: int) -> None:
    seq = SequencedBook(rule, Book(8))
    assert seq.on_message(5, 6, BIDS, ASKS, prev_seq=4) == OUT_UNSYNCED
    assert seq.book.levels(1) == []
    assert not seq.book.is_valid
    assert seq.counters["unsynced"] == 1


@pytest.mark.parametrize(
    ("first", "last", "outcome"),
    [
        (990, 999, OUT_STALE),
        (990, 1000, OUT_STALE),
        (995, 1001, OUT_APPLIED),
        (1000, 1005, OUT_APPLIED),
        (1001, 1001, OUT_APPLIED),  # U == lastUpdateId + 1: a seamless start
        (1002, 1002, OUT_GAP),
    ],
)
def test_spot_event_against_the_snapshot(first: int, last: int, outcome: int) -> None:
    seq = rest_synced(RULE_BINANCE_SPOT)
    assert seq.on_message(first, last, [(100, 9)], []) == outcome
    assert seq.book.is_valid == (outcome != OUT_GAP)
    assert seq.book.best_bid_qty == (9 if outcome == OUT_APPLIED else 5)
    assert seq.book.last_seq == (last if outcome == OUT_APPLIED else 1000)


def test_spot_gap_later_invalidates_at_once_and_the_next_snapshot_heals() -> None:
    seq = rest_synced(RULE_BINANCE_SPOT)
    assert seq.on_message(1001, 1005, [(100, 1)], []) == OUT_APPLIED
    assert seq.on_message(1006, 1006, [(100, 2)], []) == OUT_APPLIED
    assert seq.on_message(1008, 1009, [(100, 3)], []) == OUT_GAP
    assert not seq.book.is_valid
    assert seq.on_message(1010, 1011, [(100, 4)], []) == OUT_UNSYNCED
    assert seq.on_message(1010, 1010, BIDS, ASKS, is_rest=True) == OUT_SNAPSHOT
    assert seq.on_message(1010, 1011, [(100, 4)], []) == OUT_APPLIED
    assert seq.book.is_valid
    assert seq.counters["gaps"] == 1


@pytest.mark.parametrize(
    ("first", "last", "prev", "outcome"),
    [
        (980, 999, 970, OUT_STALE),
        (990, 1000, 985, OUT_APPLIED),  # U <= lastUpdateId <= u
        (990, 1010, 985, OUT_APPLIED),
        (1000, 1010, 985, OUT_APPLIED),
        (1003, 1010, 1000, OUT_APPLIED),  # names the snapshot as its predecessor
        (1001, 1010, 999, OUT_GAP),
        (1003, 1010, 1001, OUT_GAP),
    ],
)
def test_usdm_first_event_must_join_the_snapshot(first: int, last: int, prev: int, outcome: int) -> None:
    seq = rest_synced(RULE_BINANCE_USDM)
    assert seq.on_message(first, last, [(100, 9)], [], prev_seq=prev) == outcome
    assert seq.book.is_valid == (outcome != OUT_GAP)


def test_usdm_ids_may_skip_but_predecessors_may_not() -> None:
    seq = rest_synced(RULE_BINANCE_USDM)
    assert seq.on_message(990, 1010, [], [], prev_seq=985) == OUT_APPLIED
    assert seq.on_message(1500, 1600, [], [], prev_seq=1010) == OUT_APPLIED
    assert seq.on_message(1500, 1600, [], [], prev_seq=1010) == OUT_STALE
    assert seq.on_message(1601, 1700, [], [], prev_seq=1599) == OUT_GAP
    assert not seq.book.is_valid
    assert seq.on_message(1701, 1800, [], [], prev_seq=1700) == OUT_UNSYNCED


def test_bybit_updates_are_consecutive() -> None:
    seq = bybit_synced()
    assert seq.on_message(51, 51, [(100, 0), (98, 3)], []) == OUT_APPLIED
    assert seq.on_message(51, 51, [(98, 9)], []) == OUT_STALE
    assert seq.book.levels(1) == [(99, 4), (98, 3)]
    assert seq.on_message(53, 53, [(98, 9)], []) == OUT_GAP
    assert not seq.book.is_valid
    assert seq.on_message(54, 54, [(98, 9)], []) == OUT_UNSYNCED
    assert seq.on_message(7, 7, BIDS, ASKS, is_snapshot=True) == OUT_SNAPSHOT
    assert seq.book.is_valid
    assert seq.book.last_seq == 7


def test_bybit_snapshot_in_mid_stream_replaces_the_book_whatever_its_number() -> None:
    seq = bybit_synced()
    assert seq.on_message(20, 20, [(10, 1)], [(11, 2)], is_snapshot=True) == OUT_SNAPSHOT
    assert seq.book.levels(1) == [(10, 1)]
    assert seq.book.levels(-1) == [(11, 2)]
    assert seq.on_message(21, 21, [(10, 3)], []) == OUT_APPLIED


def test_bybit_restart_is_a_snapshot_even_when_called_a_delta() -> None:
    seq = bybit_synced()
    for qty in (1, 2):
        assert seq.on_message(1, 1, [(10, qty)], [(11, 2)]) == OUT_SNAPSHOT
        assert seq.book.levels(1) == [(10, qty)]
    assert seq.counters["repeats"] == 0


def test_bybit_same_snapshot_again_is_a_repeat_and_a_sign_of_life() -> None:
    seq = bybit_synced()
    assert seq.on_message(50, 50, BIDS, ASKS, is_snapshot=True, recv_ts_ns=77) == OUT_REPEAT
    assert seq.book.recv_ts_ns == 77
    assert seq.counters == {
        "applied": 2, "snapshots": 2, "stale": 0, "repeats": 1, "unsynced": 0, "gaps": 0, "crossed": 0,
    }  # fmt: skip


def test_depth_limited_feed_is_trimmed_after_each_message() -> None:
    seq = bybit_synced(max_depth=2)
    assert (
        seq.on_message(51, 51, [(103, 1), (97, 1)], [(101, 0), (102, 0), (104, 1), (105, 1), (106, 1)]) == OUT_APPLIED
    )
    assert seq.book.levels(1) == [(103, 1), (100, 5)]
    assert seq.book.levels(-1) == [(104, 1), (105, 1)]


def test_crossed_book_is_tolerated_once_and_invalid_at_the_second_message() -> None:
    seq = bybit_synced()
    assert seq.on_message(51, 51, [(101, 1)], []) == OUT_APPLIED
    assert seq.book.is_crossed
    assert seq.book.is_valid
    assert seq.on_message(52, 52, [(98, 1)], []) == OUT_CROSSED
    assert not seq.book.is_valid
    assert seq.counters["crossed"] == 2
    assert seq.counters["gaps"] == 0


def test_uncrossing_forgives() -> None:
    seq = bybit_synced()
    for u in range(51, 71, 2):
        assert seq.on_message(u, u, [(101, 1)], []) == OUT_APPLIED
        assert seq.on_message(u + 1, u + 1, [(101, 0)], []) == OUT_APPLIED
    assert seq.book.is_valid
    assert seq.counters["crossed"] == 10


def test_rest_snapshot_sets_the_horizon_and_an_older_one_is_dropped() -> None:
    seq = rest_synced(RULE_BINANCE_SPOT)
    assert (seq.book.horizon_bid_px, seq.book.horizon_ask_px) == (99, 102)
    assert seq.on_message(1001, 1003, [(100, 9)], []) == OUT_APPLIED
    assert seq.on_message(1002, 1002, BIDS, ASKS, is_rest=True) == OUT_STALE
    assert seq.book.best_bid_qty == 9


def test_stream_snapshot_has_no_horizon() -> None:
    seq = bybit_synced()
    assert (seq.book.horizon_bid_px, seq.book.horizon_ask_px) == (NO_PX, NO_PX)


def test_times_are_kept_with_the_book() -> None:
    seq = rest_synced(RULE_BINANCE_SPOT)
    seq.on_message(1001, 1003, [], [], exch_ts_ns=11, recv_ts_ns=22)
    assert (seq.book.exch_ts_ns, seq.book.recv_ts_ns, seq.book.last_seq) == (11, 22, 1003)


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="rule must be one of"):
        SequencedBook(9, Book(8))


def test_every_outcome_has_a_name() -> None:
    codes = {value for name, value in vars(sequence).items() if name.startswith("OUT_")}
    assert codes == set(sequence.OUTCOMES)


# --- the feed: bytes in, outcome out ---------------------------------------------------------------------------------


def compact(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def depth_update(first: int, last: int, bids: list[list[str]], symbol: str = "BTCUSDT") -> bytes:
    return compact({"e": "depthUpdate", "E": 1_700_000_000_000, "s": symbol, "U": first, "u": last, "b": bids, "a": []})


def rest_depth(last_update_id: int) -> bytes:
    return compact({"lastUpdateId": last_update_id, "bids": [["100.00", "5.000"]], "asks": [["101.00", "6.000"]]})


def bybit_book(kind: str, u: int, bids: list[list[str]], asks: list[list[str]], symbol: str = "BTCUSDT") -> bytes:
    levels = {"s": symbol, "b": bids, "a": asks, "u": u, "seq": u * 10}
    topic = f"orderbook.50.{symbol}"
    return compact({"topic": topic, "type": kind, "ts": 1_700_000_000_050, "data": levels, "cts": 1_700_000_000_048})


def binance_feed(rule: int = RULE_BINANCE_SPOT) -> Feed:
    decoder = BinanceDecoder()
    decoder.add_symbol("BTCUSDT", 3, 2, 1, 3, 1)
    feed = Feed(decoder)
    feed.add(3, rule, Book(8))
    return feed


def test_feed_buffers_nothing_and_heals_by_snapshot_and_replay() -> None:
    feed = binance_feed()
    book = feed.book(3)
    frames = [depth_update(8, 9, [["99.00", "1"]]), depth_update(10, 12, [["99.50", "2"]])]
    assert [feed.on_frame(frame, 1) for frame in frames] == [OUT_UNSYNCED, OUT_UNSYNCED]
    assert feed.slot == 3
    assert feed.on_snapshot(3, rest_depth(9), 2) == OUT_SNAPSHOT
    assert [feed.on_frame(frame, 3) for frame in frames] == [OUT_STALE, OUT_APPLIED]
    assert book.levels(1) == [(10_000, 5000), (9950, 2000)]
    assert (book.exch_ts_ns, book.recv_ts_ns, book.last_seq) == (1_700_000_000_000 * 10**6, 3, 12)
    assert feed.on_frame(depth_update(14, 15, []), 4) == OUT_GAP
    assert not book.is_valid
    assert feed.counters(3)["gaps"] == 1


def test_feed_gives_best_bid_and_ask_and_trades_of_the_last_message() -> None:
    feed = binance_feed()
    ticker = {"u": 400, "s": "BTCUSDT", "b": "100.00", "B": "5.000", "a": "101.50", "A": "6.100"}
    assert feed.on_frame(compact(ticker), 1) == OUT_BBO
    assert feed.bbo == (10_000, 5000, 10_150, 6100)
    assert feed.decoder.last_seq == 400
    trade = {"e": "trade", "E": 5, "s": "BTCUSDT", "t": 1, "p": "100.10", "q": "0.002", "T": 4, "m": True, "M": True}
    assert feed.on_frame(compact(trade), 1) == OUT_TRADE
    assert feed.trades == [(-1, 10_010, 2, 4_000_000)]


def test_feed_leaves_other_messages_to_the_cold_path() -> None:
    feed = binance_feed()
    assert feed.on_frame(b'{"result":null,"id":1}', 1) == OUT_OTHER
    assert feed.slot == -1
    assert feed.unknown_count == 0


def test_feed_counts_market_data_of_instruments_it_does_not_know() -> None:
    feed = binance_feed()
    feed.decoder.add_symbol("ETHUSDT", 7, 2, 1, 3, 1)
    for symbol in ("ETHUSDT", "XRPUSDT"):
        assert feed.on_frame(depth_update(1, 2, [], symbol), 1) == OUT_OTHER
    assert feed.slot == -1
    assert feed.unknown_count == 2


@pytest.mark.parametrize(
    "frame", [b"", b"{", b'{"e":"depthUpdate","s":"BTCUSDT"}', depth_update(1, 2, [["1.001", "1"]])]
)
def test_feed_hands_on_the_decoders_refusal_and_touches_no_book(frame: bytes) -> None:
    feed = binance_feed()
    feed.on_snapshot(3, rest_depth(1), 1)
    outcome = feed.on_frame(frame, 1)
    assert outcome in REFUSALS
    assert feed.book(3).is_valid
    assert feed.book(3).last_seq == 1


def test_feed_refuses_a_snapshot_that_cannot_be_read() -> None:
    feed = binance_feed()
    assert feed.on_snapshot(3, b'{"code":-1121,"msg":"Invalid symbol."}', 1) <= 0
    assert not feed.book(3).is_valid
    with pytest.raises(KeyError, match="slot 4 has no book"):
        feed.on_snapshot(4, rest_depth(1), 1)


def test_feed_keeps_the_slots_apart() -> None:
    decoder = BybitDecoder()
    feed = Feed(decoder)
    for slot, symbol in ((0, "BTCUSDT"), (40, "ETHUSDT")):
        decoder.add_symbol(symbol, slot, 1, 1, 3, 1)
        feed.add(slot, RULE_BYBIT, Book(8), 50)
        assert feed.on_frame(bybit_book("snapshot", 7, [["10.0", "1"]], [["11.0", "1"]], symbol), 1) == OUT_SNAPSHOT
        assert feed.slot == slot
    assert feed.on_frame(bybit_book("delta", 9, [], [], "ETHUSDT"), 2) == OUT_GAP
    assert feed.book(0).is_valid
    assert not feed.book(40).is_valid
    assert feed.sequenced(1) is None
    assert feed.sequenced(99) is None


def test_adding_a_slot_again_starts_its_book_anew() -> None:
    feed = binance_feed()
    feed.on_snapshot(3, rest_depth(9), 1)
    feed.add(3, RULE_BINANCE_SPOT, Book(8))
    assert feed.on_frame(depth_update(10, 11, []), 1) == OUT_UNSYNCED


def test_slot_out_of_range_is_refused() -> None:
    for slot in (-1, 65_536):
        with pytest.raises(ValueError, match=r"slot must be 0\.\.65535"):
            binance_feed().add(slot, RULE_BINANCE_SPOT, Book(8))


# --- any order of messages -------------------------------------------------------------------------------------------


class Exchange:
    """The venue's side: one true book, its updates numbered as the rule's venue numbers them."""

    def __init__(self, rule: int, rng: random.Random) -> None:
        self.rule, self.rng, self.last, self.prev = rule, rng, 1000, 1000
        self.sides: dict[int, dict[int, int]] = {1: {}, -1: {}}
        self.history: list[dict[int, dict[int, int]]] = []

    def update(self) -> dict[str, Any]:
        rng = self.rng
        skip = rng.choice((0, 0, 5)) if self.rule == RULE_BINANCE_USDM else 0
        span = 0 if self.rule == RULE_BYBIT else rng.randint(0, 4)
        first, last, prev = self.last + 1 + skip, self.last + 1 + skip + span, self.last
        changes = {side: [(100 - side * rng.randint(1, 40), rng.randint(0, 9)) for _ in range(3)] for side in (1, -1)}
        for side, levels in changes.items():
            self.sides[side].update(levels)
            self.sides[side] = {px: qty for px, qty in self.sides[side].items() if qty}
        self.last = last
        return {"first_seq": first, "last_seq": last, "prev_seq": prev, "bids": changes[1], "asks": changes[-1]}

    def snapshot(self) -> dict[str, Any]:
        bids, asks = (list(self.sides[side].items()) for side in (1, -1))
        is_rest = self.rule != RULE_BYBIT
        return {
            "first_seq": self.last, "last_seq": self.last, "bids": bids, "asks": asks,
            "is_rest": is_rest, "is_snapshot": True,
        }  # fmt: skip

    def levels(self, side: int) -> list[tuple[int, int]]:
        return sorted(self.sides[side].items(), key=lambda level: -side * level[0])


@pytest.mark.parametrize("rule", [RULE_BINANCE_SPOT, RULE_BINANCE_USDM, RULE_BYBIT])
@pytest.mark.parametrize("seed", range(6))
def test_a_valid_book_is_the_venues_book_whatever_the_network_does(rule: int, seed: int) -> None:
    """Messages are lost, repeated and swapped; a book that calls itself valid equals the true one at its sequence."""
    rng = random.Random(seed)
    exchange, seq = Exchange(rule, rng), SequencedBook(rule, Book(8))
    truth: dict[int, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}
    pending: list[dict[str, Any]] = []
    valid_count = gap_count = 0
    for _ in range(400):
        pending.append(exchange.update())
        truth[exchange.last] = (exchange.levels(1), exchange.levels(-1))
        fate = rng.random()
        if fate < 0.04:
            pending.pop()  # lost
        elif fate < 0.08:
            pending.append(pending[-1])  # twice
        elif fate < 0.12:
            continue  # late: goes after the next one
        while pending:
            was_valid = seq.book.is_valid
            outcome = seq.on_message(**pending.pop())
            gap_count += outcome == OUT_GAP
            assert seq.book.is_valid == (was_valid and outcome != OUT_GAP)
            if seq.book.is_valid:
                valid_count += 1
                assert (seq.book.levels(1), seq.book.levels(-1)) == truth[seq.book.last_seq]
        if not seq.book.is_valid and rng.random() < 0.5:
            assert seq.on_message(**exchange.snapshot()) == OUT_SNAPSHOT
        seq.book._check()
    assert valid_count > 100
    assert gap_count == seq.counters["gaps"] > 5
