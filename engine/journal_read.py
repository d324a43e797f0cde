"""Reading the journal: from other processes while it is written, and from any process afterwards. Does file I/O.

No read transaction outlives a batch: one that did would make every commit cost a hundred times its size (T6). In the
writing process itself the store must not be read: LMDB allows an environment once per process.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Generator, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from engine import blocks
from engine.blocks import BLOCK_HEADER_BYTES, BlockHeader, SegmentHeader
from engine.errors import JournalError
from engine.records import LEDGER_BASE
from ext import ring as rings
from ext.ring import RingReader

SEGMENT_KEY: Final = b"segment"
HELD: Final[set[Path]] = set()
"""Journals that this process writes."""
_BATCH_BYTES: Final = 4 << 20
_SEGMENT_NAME = re.compile(r"seg-(\d{8})")


class Record(NamedTuple):
    """One journal record. Units: ts_ns monotonic; payload as engine/records.py says for the kind."""

    seq: int
    ts_ns: int
    kind: int
    source: int
    payload: bytes


def segment_paths(root: Path) -> list[Path]:
    """Segment directories in order. Errors: JournalError when a number is missing in between."""
    found = sorted(path for path in root.iterdir() if _SEGMENT_NAME.fullmatch(path.name)) if root.is_dir() else []
    numbers = [int(path.name[4:]) for path in found]
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            raise JournalError(f"{root}: segment {before + 1} is missing between {before} and {after}")
    return found


def open_env(path: Path, *, map_bytes: int = 0, readonly: bool = False) -> lmdb.Environment:
    # Default sync flags, no writemap (a full disk would be SIGBUS), and the 0.9 format said in so many words.
    return lmdb.open(
        str(path), map_size=map_bytes, max_dbs=4, mode=0o600, create=not readonly, readonly=readonly, lib_version=0
    )


def read_segment_header(env: lmdb.Environment) -> tuple[SegmentHeader, bytes]:
    """The header and its link. Errors: JournalError."""
    _check_size(env)
    meta = env.open_db(b"meta", create=False)
    with env.begin() as txn:
        raw = txn.get(SEGMENT_KEY, db=meta)
    if raw is None:
        raise JournalError(f"{env.path()}: no segment header")
    try:
        return blocks.unpack_segment_header(raw), blocks.hash_of(raw)
    except JournalError as problem:
        raise JournalError(f"{env.path()}: {problem}") from None


def _check_size(env: lmdb.Environment) -> None:
    # A truncated file is mapped beyond its end: reading there is SIGBUS, which nothing in this process can catch.
    needed = (env.info()["last_pgno"] + 1) * 4096
    size = os.path.getsize(os.path.join(env.path(), "data.mdb"))
    if size < needed:
        raise JournalError(f"{env.path()}: truncated: {size} bytes, its own count is {needed}")


def last_block(env: lmdb.Environment) -> tuple[BlockHeader, bytes] | None:
    """The last block of a segment and its link, of whichever stream."""
    found: list[tuple[BlockHeader, bytes]] = []
    databases = [env.open_db(name.encode(), create=False) for name in blocks.STREAMS.values()]
    with env.begin(buffers=True) as txn:
        for database in databases:
            cursor = txn.cursor(db=database)
            if cursor.last():
                raw = bytes(cursor.value()[:BLOCK_HEADER_BYTES])
                found.append((blocks.unpack_block_header(raw), blocks.hash_of(raw)))
    return max(found, key=lambda item: item[0].block_no, default=None)


class SegmentReader:
    """Blocks of one segment, copied out in batches; no transaction is open between them (T6)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.env = open_env(path, readonly=True)
        except lmdb.Error as problem:
            raise JournalError(f"{path}: {problem}") from problem
        self.header, self.link = read_segment_header(self.env)
        self.end_seq = 0  # last sequence of the store as `batches` saw it
        self.databases = {
            number: self.env.open_db(name.encode(), create=False) for number, name in blocks.STREAMS.items()
        }

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.env.close()

    def blocks(self, stream: int, start_seq: int) -> Iterator[tuple[BlockHeader, bytes]]:
        """Blocks of a stream that hold anything from `start_seq` on."""
        key = blocks.key_of(start_seq)
        inclusive = True
        while True:
            found: list[tuple[bytes, bytes]] = []
            size = 0
            with self.env.begin() as txn, txn.cursor(db=self.databases[stream]) as cursor:
                more = _place(cursor, key, inclusive)
                while more and size < _BATCH_BYTES:
                    found.append((cursor.key(), cursor.value()))
                    size += len(found[-1][1])
                    more = cursor.next()
            inclusive = inclusive and not found
            key = found[-1][0] if found else key
            for _, value in found:
                header = blocks.unpack_block_header(value)
                if header.last_seq >= start_seq:
                    yield header, value
            if not found:
                return

    def batches(self, streams: list[int], start_seq: int) -> Iterator[tuple[int, list[tuple[BlockHeader, bytes]]]]:
        """Blocks in the order of their batches: (last sequence of the batch, its blocks), up to `end_seq`.

        The streams are read in transactions of their own. A batch that is committed between them would be seen in one
        stream only, so what is newer than the end at the start is left for the next reading.
        """
        last = last_block(self.env)
        self.end_seq = last[0].batch_last_seq if last else self.header.first_seq - 1
        sources = [self.blocks(stream, start_seq) for stream in streams]
        heads = [next(source, None) for source in sources]
        while any(heads):
            batch = min(head[0].batch_last_seq for head in heads if head is not None)
            if batch > self.end_seq:
                return
            found = []
            for index, head in enumerate(heads):
                if head is not None and head[0].batch_last_seq == batch:
                    found.append(head)
                    heads[index] = next(sources[index], None)
            yield batch, found


def _place(cursor: lmdb.Cursor, key: bytes, inclusive: bool) -> bool:
    """Put the cursor on the block that holds `key` (inclusive) or on the first one after it."""
    found = bool(cursor.set_range(key))
    if not inclusive:
        return bool(cursor.next()) if found and cursor.key() == key else found
    if found and cursor.key() == key:
        return True
    # The block before may reach over `key`.
    return bool(cursor.prev() if found else cursor.last()) or bool(cursor.first())


def read_records(
    path: str | os.PathLike[str], start_seq: int = 0, stream: str | None = None, *, tail: bool = True
) -> Iterator[Record]:
    """Records in order of sequence, up to the end at the time of reading; on a live journal too.

    `stream`: "tape", "ledger", or both. `tail`: go on with what is in the ring and not yet in the store.
    Errors: JournalError when a record does not check, a segment is missing or newer, or the caller writes the journal.
    """
    root = Path(path).resolve()
    if root in HELD:
        raise JournalError(f"{root}: written by this process; read it from another one, or after close")
    streams = [number for number, name in blocks.STREAMS.items() if stream in (None, name)]
    assert streams, f"stream was {stream!r}, must be tape, ledger or None"
    next_seq = start_seq
    while True:
        next_seq = yield from _store_records(root, next_seq, streams)
        if not tail or not (root / "ring").exists():
            return
        waiting = _ring_records(root / "ring")
        if waiting is not None and (not waiting or waiting[0][0] <= next_seq):
            break
        # The writer has moved on since: what we missed is in the store now.
    wanted = {number == blocks.LEDGER for number in streams}
    for record in waiting:
        if record.seq >= next_seq and (record.kind >= LEDGER_BASE) in wanted:
            yield record


def _ring_records(path: Path) -> list[Record] | None:
    # None: the writer freed some of them while we looked.
    try:
        reader = RingReader(path)
    except ValueError as problem:
        raise JournalError(str(problem)) from problem
    taken = reader.read(reader.tail[0], 0, reader.capacity_bytes)
    return None if taken is None else rings.parse(taken[0], 0, 0, Record)


def _store_records(root: Path, start_seq: int, streams: list[int]) -> Generator[Record, None, int]:
    """Records of the store; returns the sequence that follows it."""
    segments = segment_paths(root)
    if not segments:
        raise JournalError(f"{root}: no journal here")
    first = len(segments) - 1
    while first > 0 and _first_seq(segments[first]) > start_seq:
        first -= 1
    next_seq = start_seq
    for segment in segments[first:]:
        with SegmentReader(segment) as reader:
            for _, found in reader.batches(streams, start_seq):
                yield from _records_of(found, start_seq, segment)
            next_seq = max(next_seq, reader.end_seq + 1)
    return next_seq


def _records_of(found: list[tuple[BlockHeader, bytes]], start_seq: int, segment: Path) -> list[Record]:
    records: list[Record] = []
    for header, value in found:
        try:
            records += rings.parse(value, BLOCK_HEADER_BYTES, start_seq, Record)
        except ValueError as problem:
            raise JournalError(
                f"{segment}: block of records {header.first_seq}..{header.last_seq}: {problem}"
            ) from None
    if len(found) > 1:
        records.sort(key=itemgetter(0))
    return records


def _first_seq(path: Path) -> int:
    with SegmentReader(path) as reader:
        return reader.header.first_seq
