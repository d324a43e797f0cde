"""`tickwright journal`: list segments, show records, verify the chain. Reads only; works on a live journal."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.errors import JournalError
from engine.journal_read import Record, SegmentReader, last_block, read_records, segment_paths
from engine.journal_verify import verify
from engine.records import LEDGER_BASE, RecordKind, decode_response

EXIT_OK: Final = 0
EXIT_PROBLEM: Final = 1
EXIT_JOURNAL: Final = 65
EXIT_USAGE: Final = 64
_SHOWN_BYTES = 160


def add_parser(subparsers: Any) -> None:
    """Register the verb with argparse."""
    parser = subparsers.add_parser("journal", help="look into a journal: ls, show, verify", description=__doc__)
    verbs = parser.add_subparsers(dest="journal_verb", metavar="VERB", required=True)
    ls = verbs.add_parser("ls", help="list segments")
    show = verbs.add_parser("show", help="show records")
    show.add_argument("--kind", action="append", default=[], metavar="NAME", help="only records of this kind (repeat)")
    show.add_argument("--stream", choices=("tape", "ledger"), help="only one stream")
    show.add_argument("--from", dest="from_seq", type=int, default=0, metavar="SEQ")
    show.add_argument("--to", dest="to_seq", type=int, default=2**63 - 1, metavar="SEQ")
    show.add_argument("--limit", type=int, default=0, metavar="N", help="at most N records (0: all)")
    check = verbs.add_parser("verify", help="check every record and the chain; exit 1 when something was changed")
    check.add_argument("--head", metavar="SEQ:HASH", help="a head that was kept elsewhere must be in the chain")
    for verb in (ls, show, check):
        verb.add_argument("path", type=Path, metavar="JOURNAL")
        verb.add_argument("--json", action="store_true", help="one JSON object (show: one a line)")


def run(args: argparse.Namespace) -> int:
    """Exit code: 0 ok, 1 verify found something, 64 usage, 65 corrupt, newer or unreadable."""
    try:
        return {"ls": _ls, "show": _show, "verify": _verify}[args.journal_verb](args)
    except (JournalError, OSError) as problem:
        print(f"tickwright journal: {problem}", file=sys.stderr)
        return EXIT_JOURNAL


def _ls(args: argparse.Namespace) -> int:
    paths = segment_paths(args.path)
    if not paths:
        raise JournalError(f"{args.path}: no journal here")
    rows = [_segment_row(path) for path in paths]
    if args.json:
        print(json.dumps({"journal": str(args.path), "segments": rows}))
        return EXIT_OK
    print(f"{'segment':14} {'records':>23} {'blocks':>9} {'bytes':>13}  created (UTC)")
    for row in rows:
        records = f"{row['first_seq']}..{row['last_seq']}"
        print(f"{row['segment']:14} {records:>23} {row['blocks']:>9} {row['bytes']:>13}  {row['created_utc']}")
    return EXIT_OK


def _segment_row(path: Path) -> dict[str, object]:
    with SegmentReader(path) as reader:
        header = reader.header
        last = last_block(reader.env)
    return {
        "segment": path.name,
        "number": header.number,
        "first_seq": header.first_seq,
        "last_seq": last[0].batch_last_seq if last else header.first_seq - 1,
        "blocks": last[0].block_no - header.first_block_no + 1 if last else 0,
        "epoch": last[0].epoch if last else 0,
        "bytes": (path / "data.mdb").stat().st_size,
        "created_utc": utc_text(header.created_utc_ns),
        "version": header.version,
        "journal_id": header.journal_id.hex(),
    }


def utc_text(utc_ns: int) -> str:
    """RFC 3339 with milliseconds."""
    import datetime

    moment = datetime.datetime.fromtimestamp(utc_ns / 1e9, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _show(args: argparse.Namespace) -> int:
    kinds = set()
    for name in args.kind:
        try:
            kinds.add(int(name) if name.isdigit() else RecordKind[name.upper()].value)
        except KeyError:
            known = ", ".join(kind.name.lower() for kind in RecordKind)
            print(f"tickwright journal: --kind: {name} is none of {known}", file=sys.stderr)
            return EXIT_USAGE
    records = _selected(args, kinds)
    try:
        for record in islice(records, args.limit or None):
            print(json.dumps(_as_json(record)) if args.json else _as_line(record))
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
    return EXIT_OK


def _selected(args: argparse.Namespace, kinds: set[int]) -> Iterator[Record]:
    for record in read_records(args.path, args.from_seq, args.stream):
        if record.seq > args.to_seq:
            return
        if not kinds or record.kind in kinds:
            yield record


def kind_name(kind: int) -> str:
    """Name of a record kind; its number when this program does not know it."""
    try:
        return RecordKind(kind).name
    except ValueError:
        return str(kind)


def _as_json(record: Record) -> dict[str, object]:
    shown: dict[str, object] = {
        "seq": record.seq,
        "ts_ns": record.ts_ns,
        "stream": "ledger" if record.kind >= LEDGER_BASE else "tape",
        "kind": kind_name(record.kind),
        "source": record.source,
    }
    shown["payload"] = _payload(record)
    return shown


def _payload(record: Record) -> object:
    """What the payload means, as far as it says: text of a frame, values of MessagePack, else base64."""
    if not record.payload:
        return None
    if record.kind == RecordKind.FRAME:
        try:
            return record.payload.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(record.payload).decode()}
    try:
        if record.kind == RecordKind.RESPONSE:
            response = decode_response(record.payload)
            return {
                "request_id": response.request_id,
                "status": response.status,
                "headers": dict(response.headers),
                "body": response.body.decode("utf-8", "replace"),
            }
        # A round trip through JSON's own types: bytes become base64, keys become text.
        return json.loads(msgspec.json.encode(msgspec.msgpack.decode(record.payload)))
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return {"base64": base64.b64encode(record.payload).decode()}


def _as_line(record: Record) -> str:
    payload = _payload(record)
    text = "" if payload is None else payload if isinstance(payload, str) else json.dumps(payload)
    if len(text) > _SHOWN_BYTES:
        text = f"{text[:_SHOWN_BYTES]}... ({len(record.payload)} bytes)"
    return f"{record.seq:>10} {record.ts_ns / 1e9:>16.6f} {kind_name(record.kind):18} {record.source:>5}  {text}"


def _verify(args: argparse.Namespace) -> int:
    if args.head and not args.head.partition(":")[0].isdigit():
        print(f"tickwright journal: --head must be SEQ:HASH, was {args.head}", file=sys.stderr)
        return EXIT_USAGE
    report = verify(args.path, args.head)
    if args.json:
        print(json.dumps(report._asdict()))
    elif report.ok:
        print(
            f"ok: records {report.first_seq}..{report.last_seq} in {report.blocks} blocks, {report.segments} segments"
        )
        print(f"head {report.head}")
    else:
        print(f"NOT OK: first bad record {report.bad_seq}: {report.problem}")
    return EXIT_OK if report.ok else EXIT_PROBLEM
