"""The statistics page, read by another mapping and another process; the stage clock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ext.stats import StageClock, StatsPage, StatsReader, clock_ns

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def page(tmp_path: Path) -> StatsPage:
    return StatsPage(tmp_path / "stats", 1 << 20)


def test_reader_sees_every_number_by_name(page: StatsPage) -> None:
    frames, position = page.counter("frames"), page.gauge("position_lots.BTCUSDT")
    reader = StatsReader(page.path)
    frames.add()
    frames.add(41)
    position.set(-7)
    page.histogram("late").record(5)
    assert reader.counters() == {"frames": 42} and reader.gauges() == {"position_lots.BTCUSDT": -7}
    assert reader.histograms()["late"].percentile(50) == 5
    assert reader.pid == os.getpid() and frames.value == 42 and position.value == -7


def test_same_name_is_the_same_number_and_another_kind_is_refused(page: StatsPage) -> None:
    page.counter("orders").add(2)
    page.counter("orders").add(3)
    assert page.counter("orders").value == 5
    with pytest.raises(ValueError, match="another kind"):
        page.gauge("orders")


@pytest.mark.parametrize("name", ["", "x" * 105])
def test_name_that_does_not_fit_is_refused(page: StatsPage, name: str) -> None:
    with pytest.raises(ValueError, match=r"must be 1\.\.104"):
        page.counter(name)


def test_longest_name_survives(page: StatsPage) -> None:
    page.counter("x" * 104).add()
    assert StatsReader(page.path).counters() == {"x" * 104: 1}


def test_full_page_is_refused_and_stays_usable(page: StatsPage) -> None:
    with pytest.raises(ValueError, match="no room"):
        for number in range(1000):
            page.histogram(f"h{number}")
    before = len(StatsReader(page.path).histograms())
    page.histogram("h0").record(1)
    assert before > 10 and StatsReader(page.path).histograms()["h0"].count == 1


def test_directory_holds_a_thousand_names(page: StatsPage) -> None:
    with pytest.raises(ValueError, match="1024 entries"):
        for number in range(1100):
            page.counter(f"c{number}").add(number)
    assert StatsReader(page.path).counters() == {f"c{number}": number for number in range(1024)}


def test_other_process_reads_what_this_one_counts(page: StatsPage) -> None:
    page.counter("orders").add(3)
    code = f"from ext.stats import StatsReader; r = StatsReader({page.path!r}); print(r.counters(), r.pid)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split("}")[0] == "{'orders': 3" and str(os.getpid()) in ran.stdout


def test_new_page_replaces_the_old_one_and_readers_are_told(page: StatsPage) -> None:
    page.counter("orders").add(3)
    reader = StatsReader(page.path)
    assert not reader.is_replaced
    StatsPage(page.path, 1 << 20)
    assert reader.is_replaced and reader.counters() == {"orders": 3}
    assert StatsReader(page.path).counters() == {}


def test_page_is_for_its_owner_only(page: StatsPage) -> None:
    assert Path(page.path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("offset", "content", "words"),
    [(0, b"x", "magic"), (8, b"\x07", "format 7"), (16, b"\xff\xff\xff\xff", "truncated"), (None, b"", "10 bytes")],
)
def test_file_that_is_no_page_of_ours_is_refused(
    page: StatsPage, offset: int | None, content: bytes, words: str
) -> None:
    with open(page.path, "r+b") as file:
        if offset is None:
            file.truncate(10)
        else:
            file.seek(offset)
            file.write(content)
    with pytest.raises(ValueError, match=words):
        StatsReader(page.path)


def test_stages_add_up_to_tick_to_trade(page: StatsPage) -> None:
    clock = StageClock(page, ["binance", "bybit"], ["decoded", "decided", "written"])
    for _ in range(100):
        clock.begin(clock_ns())
        for stage in range(3):
            clock.mark(stage)
        clock.commit(1)
    found = StatsReader(page.path).histograms()
    assert found["latency_ns.binance.tick_to_trade"].count == 0
    stages = [found[f"latency_ns.bybit.{name}"] for name in ("decoded", "decided", "written")]
    assert [stage.count for stage in stages] == [100] * 3
    assert sum(stage.sum for stage in stages) == found["latency_ns.bybit.tick_to_trade"].sum


def test_stage_that_was_not_marked_is_left_out_and_the_next_one_carries_the_time(page: StatsPage) -> None:
    clock = StageClock(page, ["binance"], ["decoded", "decided", "written"])
    clock.begin(clock_ns() - 1_000_000)
    clock.mark(2)
    clock.commit(0)
    found = StatsReader(page.path).histograms()
    assert found["latency_ns.binance.decoded"].count == found["latency_ns.binance.decided"].count == 0
    assert found["latency_ns.binance.written"].min >= 1_000_000


def test_second_order_of_a_frame_counts_from_the_same_begin(page: StatsPage) -> None:
    clock = StageClock(page, ["binance", "bybit"], ["decoded", "written"])
    clock.begin(clock_ns())
    clock.mark(0)
    for venue in (0, 1):
        clock.mark(1)
        clock.commit(venue)
    found = StatsReader(page.path).histograms()
    assert found["latency_ns.bybit.tick_to_trade"].max >= found["latency_ns.binance.tick_to_trade"].max


def test_commit_before_any_begin_and_unknown_indexes_record_nothing(page: StatsPage) -> None:
    clock = StageClock(page, ["binance"], ["decoded"])
    clock.commit(0)
    clock.begin(clock_ns())
    clock.mark(7)
    clock.mark(-1)
    clock.commit(3)
    clock.commit(-1)
    assert all(found.count == 0 for found in StatsReader(page.path).histograms().values())


def test_too_many_stages_are_refused(page: StatsPage) -> None:
    with pytest.raises(ValueError, match="at most"):
        StageClock(page, ["binance"], [f"s{number}" for number in range(13)])
