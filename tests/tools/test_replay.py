"""A replay finds what was changed, shows both sides of it, and knows a kill from a difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.registry import CONNECTORS
from engine import ledger
from engine import records as tape
from engine.config import parse_config
from engine.errors import JournalError
from engine.journal import Journal
from engine.pipeline import Pipeline
from engine.records import LEDGER_BASE, RecordKind, RunStart
from engine.stages import NullStages
from tools.cli import main
from tools.replay import ReplayWire, feed_input, replay, replay_key

ROOT = Path(__file__).resolve().parents[2]
CONFIG = (ROOT / "config" / "demo.toml").read_text() + "".join(
    f'\n[venues.{name}.urls]\nbase_http = "http://127.0.0.1:1"\nbase_ws = "ws://127.0.0.1:1"\n'
    for name in ("binance", "bybit")
)
OFFSET = 1_700_000_000_000_000_000
MS = 1_000_000
Append = Callable[[int, bytes], tuple[int, bytes] | None]


class Line:
    """A record as the replay's own door takes it."""

    def __init__(self, kind: int, source: int, ts_ns: int, payload: bytes) -> None:
        self.kind, self.source, self.ts_ns, self.payload, self.seq = kind, source, ts_ns, payload, 0


def write_run(
    path: Path, commands: list[str], *, epoch: int = 1, change: Append | None = None, killed_after: int = -1,
) -> None:  # fmt: skip
    """One run as the engine records it: timers, and operators whose words lead to ledger records. `change` may alter
    a ledger record on its way into the journal, or leave it out; `killed_after` so many ledger records none is
    written any more, and the run has no end."""
    journal = Journal.open(path, ring_mib=1, segment_mib=8)
    written = 0

    def append(kind: int, source: int, ts_ns: int, payload: bytes) -> int:
        nonlocal written
        if kind >= LEDGER_BASE:
            written += 1
            changed = change(kind, payload) if change else (kind, payload)
            if changed is None or 0 <= killed_after < written:
                return 1
            kind, payload = changed
        return journal.append(kind, source, ts_ns, payload)

    start = RunStart("0.1.0", CONFIG, "hash", 1, epoch, OFFSET, ["BINANCE", "BYBIT"])
    now = 1_000_000 * MS
    journal.append(RecordKind.RUN_START, 0, now, tape.encode_run_start(start))
    config = parse_config(CONFIG)
    pipeline = Pipeline(
        config, epoch, append, CONNECTORS, dict.fromkeys(config.venue_list(), ReplayWire()),
        {venue: replay_key(venue.name, config) for venue in config.venue_list()}, NullStages(), utc_offset_ns=OFFSET,
        is_replay=True,
    )  # fmt: skip
    pipeline.start(now)
    for name in commands:
        now += 50 * MS
        for kind, payload in (
            (RecordKind.TIMER, b""),
            (RecordKind.COMMAND, tape.encode_command(name, {"reason": "drill"}, "uid 0")),
        ):
            journal.append(kind, 0, now, payload)
            feed_input(pipeline, Line(kind, 0, now, payload))  # type: ignore[arg-type]
    if killed_after < 0:
        journal.append(RecordKind.RUN_STOP, 0, now, b"")
    journal.close()


def with_operator(name: str) -> Append:
    def change(kind: int, payload: bytes) -> tuple[int, bytes]:
        record = ledger.decode_ledger(kind, payload)
        if isinstance(record, ledger.KillSwitch) and not record.is_on:
            return kind, ledger.encode_ledger(ledger.KillSwitch(False, record.reason, name))
        return kind, payload

    return change


def test_untouched_run_replays_without_a_difference(tmp_path: Path) -> None:
    write_run(tmp_path / "j", ["kill", "resume", "dance"])
    (report,) = replay(tmp_path / "j")
    assert (report.recorded, report.recomputed, report.different, report.unfinished) == (3, 3, 0, 0)
    assert report.inputs == 6 and report.ended_cleanly and report.span_ns == 150 * MS


def test_changed_record_is_found_and_shown_with_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "j", ["kill", "resume", "dance"], change=with_operator("mallory"))
    (report,) = replay(tmp_path / "j")
    assert (report.recorded, report.recomputed, report.different) == (3, 3, 1)
    first = report.first_difference
    assert first is not None and first.input_seq == first.seq - 1
    assert "mallory" in first.recorded and "uid 0" in first.recomputed
    assert main(["replay", str(tmp_path / "j")]) == 1
    shown = capsys.readouterr().out
    assert f"first difference at record {first.seq}, after input {first.input_seq}" in shown
    assert "recorded:   KillSwitch" in shown and "mallory" in shown and "recomputed: KillSwitch" in shown


def test_record_that_is_missing_is_a_difference(tmp_path: Path) -> None:
    def without_kill(kind: int, payload: bytes) -> tuple[int, bytes] | None:
        return None if kind == RecordKind.KILL_SWITCH else (kind, payload)

    write_run(tmp_path / "j", ["kill", "dance"], change=without_kill)
    (report,) = replay(tmp_path / "j")
    assert report.different == 1
    assert report.first_difference is not None
    assert report.first_difference.recorded == "nothing" and "KillSwitch" in report.first_difference.recomputed


def test_record_that_nothing_led_to_is_a_difference(tmp_path: Path) -> None:
    write_run(tmp_path / "j", ["kill"])
    journal = Journal.open(tmp_path / "j", ring_mib=1, segment_mib=8)
    invented = ledger.KillSwitch(False, "resume", "nobody")
    journal.append(RecordKind.KILL_SWITCH, 0, 0, ledger.encode_ledger(invented))
    journal.close()
    (report,) = replay(tmp_path / "j")
    assert report.different == 1 and report.first_difference is not None
    assert "nobody" in report.first_difference.recorded and report.first_difference.recomputed == "nothing"


def test_what_a_killed_run_did_not_write_is_unfinished_and_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "j", ["dance", "kill", "resume"], killed_after=2)
    (report,) = replay(tmp_path / "j")
    assert (report.recorded, report.recomputed, report.different, report.unfinished) == (2, 3, 0, 1)
    assert not report.ended_cleanly
    assert main(["replay", str(tmp_path / "j")]) == 0
    assert "unfinished at the kill 1" in capsys.readouterr().out


def test_what_is_missing_before_the_last_input_of_a_killed_run_is_a_difference(tmp_path: Path) -> None:
    write_run(tmp_path / "j", ["dance", "kill", "resume"], killed_after=1)
    (report,) = replay(tmp_path / "j")
    assert (report.different, report.unfinished) == (1, 1)


def test_every_run_is_replayed_and_one_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "j", ["kill"])
    write_run(tmp_path / "j", ["kill", "resume"], epoch=2, change=with_operator("mallory"))
    write_run(tmp_path / "j", ["dance"], epoch=3)
    reports = list(replay(tmp_path / "j"))
    assert [(r.run, r.recorded, r.different) for r in reports] == [(1, 1, 0), (2, 2, 1), (3, 1, 0)]
    assert main(["replay", "--json", "--run", "2", str(tmp_path / "j")]) == 1
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["different"] == 1 and [row["run"] for row in told["runs"]] == [2]
    assert main(["replay", "--json", "--run", "3", str(tmp_path / "j")]) == 0
    with pytest.raises(JournalError, match="3 runs found"):
        list(replay(tmp_path / "j", 4))


def test_record_of_a_kind_from_the_future_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "j", ["dance"])
    journal = Journal.open(tmp_path / "j", ring_mib=1, segment_mib=8)
    journal.append(40, 0, 0, b"")
    journal.close()
    with pytest.raises(JournalError, match="kind 40"):
        list(replay(tmp_path / "j"))
