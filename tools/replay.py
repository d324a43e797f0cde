"""`tickwright replay`: run the engine again from its journal and compare every decision.

The tape is fed through the same connectors and the same core; what they write to the ledger must equal, byte by byte
and in order, what was written live. The wire is a sink: nothing leaves this process. Keys are not needed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from connectors.registry import CONNECTORS
from engine import records as tape
from engine.config import parse_config
from engine.errors import JournalError
from engine.journal import Record, read_records
from engine.ledger import RECORDS, decode_ledger
from engine.pipeline import Pipeline
from engine.records import LEDGER_BASE, RecordKind
from engine.stages import NullStages
from engine.state import load
from engine.types import Venue
from engine.venue import Credentials

REDACTED = b'{"redacted":true}'
REDACTED_LISTEN_KEY = b'{"listenKey":"redacted"}'
SHELL_KINDS = (RecordKind.RUN_START, RecordKind.RUN_STOP, RecordKind.EPOCH_RAISED)
PROGRESS_EVERY = 250_000


class ReplayWire:
    """Takes everything, sends nothing, and counts it. Answers come from the tape; a channel is connected exactly when
    the tape has told the connector so (engine/loop_wire.py keeps the same rule)."""

    def __init__(self) -> None:
        self.sent = 0
        self.requests = 0
        self.connected: set[int] = set()

    def connect(self, channel: int, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.connected.discard(channel)

    def send(self, channel: int, payload: bytes | bytearray | memoryview) -> bool:
        self.sent += 1
        return channel in self.connected

    def close(self, channel: int) -> None:
        self.connected.discard(channel)

    def request(self, *args: Any, **kwargs: Any) -> None:
        self.requests += 1

    def set_timer(self, at_ns: int) -> None: ...


class Difference(msgspec.Struct):
    """The first place where a recomputed record is not the recorded one."""

    seq: int
    input_seq: int
    recorded: str
    recomputed: str


class ReplayReport(msgspec.Struct):
    run: int
    inputs: int = 0
    recorded: int = 0
    recomputed: int = 0
    different: int = 0
    unfinished: int = 0  # recomputed after the last input of a run that was killed: never written live
    seconds: float = 0.0
    span_ns: int = 0
    ended_cleanly: bool = False
    first_difference: Difference | None = None


class Replayer:
    """One run. `expected` holds recorded ledger records that the recomputation has not produced yet."""

    def __init__(self, run: int, start: Record) -> None:
        header = tape.decode_run_start(start.payload)
        config = parse_config(header.config_toml, "journal")
        self.report = ReplayReport(run)
        self.wire = ReplayWire()
        self.computed: deque[tuple[int, bytes]] = deque()
        self.input_seq = start.seq
        self.first_ts = self.last_ts = start.ts_ns
        self.pipeline = Pipeline(
            config,
            header.epoch,
            self._append,
            CONNECTORS,
            dict.fromkeys(config.venue_list(), self.wire),
            {Venue[name]: replay_key(name, config) for name in header.venues_with_keys},
            NullStages(),
            utc_offset_ns=header.utc_offset_ns,
            state=load(header.restored) if header.restored else None,
            is_replay=True,
        )
        self.pipeline.start(start.ts_ns)

    def _append(self, kind: int, source: int, ts_ns: int, payload: bytes) -> int:
        self.computed.append((kind, payload))
        self.report.recomputed += 1
        return 1

    def feed(self, record: Record) -> None:
        """One record of the journal: an input is run, a ledger record is compared."""
        self.last_ts = record.ts_ns
        if record.kind >= LEDGER_BASE:
            if record.kind not in SHELL_KINDS:
                self._compare(record)
            elif record.kind == RecordKind.RUN_STOP:
                self.report.ended_cleanly = True
            return
        self._drop_extra()
        self.report.inputs += 1
        self.input_seq = record.seq
        if record.kind == RecordKind.CONNECTED:
            self.wire.connected.add(record.source)
        elif record.kind == RecordKind.DISCONNECTED:
            self.wire.connected.discard(record.source)
        feed_input(self.pipeline, record)

    def finish(self) -> ReplayReport:
        if self.report.ended_cleanly:
            self._drop_extra()
        else:
            # Killed between an input and the end of what it led to: the rest was never written, nor sent.
            self.report.unfinished = len(self.computed)
        self.report.span_ns = self.last_ts - self.first_ts
        return self.report

    def _compare(self, record: Record) -> None:
        self.report.recorded += 1
        if not self.computed:
            self._differ(record.seq, shown(record.kind, record.payload), "nothing")
            return
        kind, payload = self.computed.popleft()
        if kind != record.kind or payload != record.payload:
            self._differ(record.seq, shown(record.kind, record.payload), shown(kind, payload))

    def _drop_extra(self) -> None:
        while self.computed:
            kind, payload = self.computed.popleft()
            self._differ(self.input_seq, "nothing", shown(kind, payload))

    def _differ(self, seq: int, recorded: str, recomputed: str) -> None:
        self.report.different += 1
        if self.report.first_difference is None:
            self.report.first_difference = Difference(seq, self.input_seq, recorded, recomputed)


def replay_key(name: str, config: Any) -> Credentials:
    """Stands for a key that this process does not have; signatures are constants in a replay."""
    return Credentials("replay", "replay", environment=config.venues[name.lower()].environment)


def feed_input(pipeline: Pipeline, record: Record) -> None:
    """Give one tape record to the pipeline as the live loop did."""
    kind, ts = record.kind, record.ts_ns
    if kind == RecordKind.FRAME:
        pipeline.on_frame(record.source, record.payload, ts)
    elif kind == RecordKind.TIMER:
        pipeline.on_timer(ts)
    elif kind == RecordKind.RESPONSE:
        answer = tape.decode_response(record.payload)
        body = REDACTED_LISTEN_KEY if answer.body == REDACTED else answer.body
        pipeline.on_response(answer.request_id, answer.status, answer.headers, body, ts)
    elif kind == RecordKind.CONNECTED:
        pipeline.on_connected(record.source, ts)
    elif kind == RecordKind.DISCONNECTED:
        pipeline.on_disconnected(record.source, record.payload.decode(), ts)
    elif kind == RecordKind.UTC_OFFSET:
        pipeline.on_utc_offset(tape.decode_int(record.payload), ts)
    elif kind == RecordKind.COMMAND:
        command = tape.decode_command(record.payload)
        pipeline.on_command(command.name, command.args, command.operator, ts)
    else:
        raise JournalError(f"record {record.seq}: kind {kind} is not known to this version")


def shown(kind: int, payload: bytes) -> str:
    if kind in RECORDS:
        return repr(decode_ledger(kind, payload))
    return f"kind {kind}, {len(payload)} bytes"


def replay(path: Path, run: int | None = None, *, progress: bool = False) -> Iterator[ReplayReport]:
    """Reports of the chosen run (1 is the first), or of all. Raises JournalError."""
    replayer: Replayer | None = None
    count, started, run_started = 0, time.perf_counter(), time.perf_counter()
    for at, record in enumerate(read_records(path, tail=True)):
        if record.kind == RecordKind.RUN_START:
            if replayer is not None:
                replayer.report.seconds = time.perf_counter() - run_started
                yield replayer.finish()
            count += 1
            run_started = time.perf_counter()
            replayer = Replayer(count, record) if run is None or count == run else None
        elif replayer is not None:
            replayer.feed(record)
        if progress and at and at % PROGRESS_EVERY == 0:
            sys.stderr.write(f"replay: {at} records, {at / (time.perf_counter() - started):.0f} a second\n")
    if replayer is not None:
        replayer.report.seconds = time.perf_counter() - run_started
        yield replayer.finish()
    if count == 0 or (run is not None and not 1 <= run <= count):
        raise JournalError(f"{path}: no run {run or ''} to replay, {count} runs found")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="run the engine again from its journal and compare every decision",
        epilog="example: tickwright replay var/demo/journal --json",
    )
    parser.add_argument("journal", type=Path, help="folder of the journal")
    parser.add_argument("--run", type=int, help="which run of the journal, 1 is the first (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    if not args.journal.is_dir():
        raise JournalError(f"{args.journal}: no journal there")
    reports = list(replay(args.journal, args.run, progress=not args.json))
    different = sum(report.different for report in reports)
    if args.json:
        rows = [msgspec.to_builtins(report) for report in reports]
        print(json.dumps({"runs": rows, "different": different}))
    else:
        for report in reports:
            print(text_of(report))
    return 1 if different else 0


def text_of(report: ReplayReport) -> str:
    speed = report.span_ns / 1e9 / report.seconds if report.seconds else 0.0
    lines = [
        f"run {report.run}: {report.inputs} inputs over {report.span_ns / 1e9:.1f} s "
        f"replayed in {report.seconds:.1f} s ({speed:.1f}x real time)",
        f"  decisions recorded {report.recorded}, recomputed {report.recomputed}, different {report.different}"
        + (f", unfinished at the kill {report.unfinished}" if report.unfinished else ""),
    ]
    first = report.first_difference
    if first is not None:
        lines.append(f"  first difference at record {first.seq}, after input {first.input_seq}:")
        lines.append(f"    recorded:   {first.recorded}\n    recomputed: {first.recomputed}")
    return "\n".join(lines)
