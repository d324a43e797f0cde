"""What a run starts from: nothing, the fold of the last run, or a clear refusal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine import ledger
from engine.errors import JournalError
from engine.journal import Journal
from engine.ledger import encode_ledger
from engine.records import RecordKind, RunStart, encode_run_start
from engine.state import State, save
from engine.types import Venue
from tools.recovery import recover

ROOT = Path(__file__).resolve().parents[2]


def run_start(restored: bytes = b"") -> bytes:
    return encode_run_start(RunStart("0.1.0", "", "hash", 1, 1, 0, [], restored))


def write(path: Path, *records: tuple[int, bytes]) -> None:
    journal = Journal.open(path, ring_mib=1, segment_mib=8)
    for kind, payload in records:
        journal.append(kind, 0, 0, payload)
    journal.close()


def killed(is_on: bool = True) -> tuple[int, bytes]:
    return RecordKind.KILL_SWITCH, encode_ledger(ledger.KillSwitch(is_on, "drill", "uid 0"))


def balance(total: int) -> tuple[int, bytes]:
    return RecordKind.BALANCE_CHANGED, encode_ledger(ledger.BalanceChanged(Venue.BYBIT, "USDT", total, total))


def total(state: State) -> int:
    return state.portfolio.total_atoms("USDT")


def test_no_journal_is_an_empty_state(tmp_path: Path) -> None:
    found = recover(tmp_path / "none")
    assert (found.run_count, found.record_count, found.ended_cleanly, found.last_run) == (0, 0, True, None)
    assert save(found.state) == save(State())


def test_ledger_is_folded_and_the_tape_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "j", (RecordKind.RUN_START, run_start()), (RecordKind.FRAME, b"{"), balance(7), killed())
    found = recover(tmp_path / "j")
    assert (found.run_count, found.ended_cleanly) == (1, False)
    assert total(found.state) == 7 and found.state.is_killed


def test_run_stop_says_that_the_run_ended_in_order(tmp_path: Path) -> None:
    write(tmp_path / "j", (RecordKind.RUN_START, run_start()), (RecordKind.RUN_STOP, b""))
    assert recover(tmp_path / "j").ended_cleanly


def test_later_run_starts_from_its_own_restored_state(tmp_path: Path) -> None:
    """Its RUN_START is the truth about what it began with, whatever an earlier ledger folds to."""
    restored = State()
    restored.apply(ledger.BalanceChanged(Venue.BYBIT, "USDT", 50, 50))
    write(
        tmp_path / "j",
        (RecordKind.RUN_START, run_start()), balance(7), killed(),
        (RecordKind.RUN_START, run_start(save(restored))), killed(False),
    )  # fmt: skip
    found = recover(tmp_path / "j")
    assert (found.run_count, total(found.state), found.state.is_killed) == (2, 50, False)


KILLED_WRITER = """
import os, sys
from engine.journal import Journal
journal = Journal.open(sys.argv[1], ring_mib=1, segment_mib=8, sync_interval_ms=10_000)
for kind, payload in zip(sys.argv[2::2], sys.argv[3::2]):
    journal.append(int(kind), 0, 0, bytes.fromhex(payload))
os._exit(0)
"""


def test_records_of_a_killed_engine_that_are_still_in_the_ring_count(tmp_path: Path) -> None:
    rows = ((RecordKind.RUN_START, run_start()), balance(7), killed())
    words = [word for kind, payload in rows for word in (str(int(kind)), payload.hex())]
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path / "j"), *words], cwd=ROOT, check=True)
    found = recover(tmp_path / "j")
    assert found.state.is_killed and total(found.state) == 7 and not found.ended_cleanly


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (RecordKind.KILL_SWITCH, b"\xc1"),
        (RecordKind.RUN_START, b"\x90"),
        (RecordKind.ORDER_CANCELED, encode_ledger(ledger.OrderCanceled(0xABC, 0, 0, ""))),
    ],
    ids=["not a record", "not a run", "an order that nobody placed"],
)
def test_record_that_cannot_be_folded_is_named(tmp_path: Path, kind: int, payload: bytes) -> None:
    write(tmp_path / "j", (RecordKind.RUN_START, run_start()), (kind, payload))
    with pytest.raises(JournalError, match="ledger record 2 cannot be folded"):
        recover(tmp_path / "j")
