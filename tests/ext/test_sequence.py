"""The venues' rules, table by table: what applies, what is old, what proves a loss."""

from __future__ import annotations

import pytest

from engine.types import NO_PX
from ext import sequence
from ext.book import Book
from ext.sequence import (
    OUT_APPLIED,
    OUT_CROSSED,
    OUT_GAP,
    OUT_REPEAT,
    OUT_SNAPSHOT,
    OUT_STALE,
    OUT_UNSYNCED,
    RULE_BINANCE_SPOT,
    RULE_BINANCE_USDM,
    RULE_BYBIT,
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
