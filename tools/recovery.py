"""Rebuild what a run starts from: the last run's starting state, and the fold of the ledger since."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.errors import JournalError
from engine.journal import read_records
from engine.ledger import RECORDS, decode_ledger
from engine.records import RecordKind, RunStart, decode_run_start
from engine.state import State, load


class Recovered(msgspec.Struct):
    state: State
    run_count: int = 0
    record_count: int = 0
    ended_cleanly: bool = True
    last_run: RunStart | None = None


def recover(path: Path) -> Recovered:
    """Fold the ledger of `path`, the ring's tail included. An absent journal is an empty state.

    Raises JournalError when a record cannot be read.
    """
    found = Recovered(State())
    if not path.exists():
        return found
    for record in read_records(path, stream="ledger", tail=True):
        found.record_count += 1
        try:
            if record.kind == RecordKind.RUN_START:
                found.last_run = decode_run_start(record.payload)
                found.run_count += 1
                found.ended_cleanly = False
                found.state = load(found.last_run.restored) if found.last_run.restored else State()
            elif record.kind == RecordKind.RUN_STOP:
                found.ended_cleanly = True
            elif record.kind in RECORDS:
                found.state.apply(decode_ledger(record.kind, record.payload))
        except (msgspec.DecodeError, KeyError, AssertionError) as error:
            raise JournalError(f"{path}: ledger record {record.seq} cannot be folded: {error}") from error
    return found
