"""Verification of a stored journal: CRC, block hashes, the chain, gaps. Does file I/O, in a child process."""

from __future__ import annotations

import mmap
import os
import signal
from pathlib import Path
from typing import NamedTuple

import lmdb
import msgspec

from engine import blocks
from engine.blocks import BLOCK_HEADER_BYTES, BlockHeader
from engine.errors import JournalError
from engine.journal_read import SegmentReader, segment_paths
from ext import ring as rings


class VerifyReport(NamedTuple):
    """What `verify` found. `bad_seq` is the first sequence that cannot be trusted, 0 when all is well."""

    ok: bool
    first_seq: int
    last_seq: int
    records: int
    blocks: int
    segments: int
    head: str
    bad_seq: int
    problem: str


def verify(path: str | os.PathLike[str], head: str | None = None) -> VerifyReport:
    """Check every byte that carries a record: CRC, SHA-256 of blocks, the chain over them, gaps in the sequence.

    `head` is a `head` of an earlier report ("SEQ:HASH"), kept elsewhere: without it, a chain that was rewritten or cut
    at its end cannot be told from a true one. Runs in a child process: a damaged file may kill its reader.
    Errors: JournalError when there is no journal, or a newer one.
    """
    root = Path(path).resolve()
    if not segment_paths(root):
        raise JournalError(f"{root}: no journal here")
    progress = mmap.mmap(-1, 8)
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(receive)
            answer: object = _verify_here(root, head, progress)
        except BaseException as problem:  # the child's border: it must not return into the parent's frames
            answer = f"{problem}"
        try:
            with os.fdopen(send, "wb") as pipe:
                pipe.write(msgspec.msgpack.encode(answer))
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        raw = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) or not raw:
        reached = int.from_bytes(progress[:], "little")
        name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "no answer"
        return VerifyReport(False, 0, reached - 1, 0, 0, 0, "", max(reached, 1), f"damaged: its reader died ({name})")
    answer = msgspec.msgpack.decode(raw)
    if isinstance(answer, str):
        raise JournalError(answer)
    return msgspec.convert(answer, VerifyReport)


class _Check(msgspec.Struct):
    """The walk of one verification."""

    link: bytes = blocks.NO_HASH
    next_block: int = 1
    next_seq: int = 1
    first_seq: int = 0
    records: int = 0
    segments: int = 0
    head: str = ""
    head_wanted: str = ""
    head_met: bool = False


class _Bad(Exception):
    def __init__(self, seq: int, problem: str) -> None:
        super().__init__(problem)
        self.seq = seq


def _verify_here(root: Path, head: str | None, progress: mmap.mmap) -> VerifyReport:
    walk = _Check(head_wanted=head or "")
    bad_seq, problem = 0, ""
    try:
        journal_id = b""
        for path in segment_paths(root):
            journal_id = _verify_segment(walk, path, journal_id, progress)
        if walk.head_wanted and not walk.head_met:
            seq = int(walk.head_wanted.partition(":")[0])
            if seq >= walk.next_seq:
                raise _Bad(walk.next_seq, f"ends at record {walk.next_seq - 1}, the head kept elsewhere is at {seq}")
            raise _Bad(walk.first_seq, f"the chain at record {seq} is not the one whose head was kept elsewhere")
    except _Bad as found:
        bad_seq, problem = found.seq, str(found)
    return VerifyReport(
        not problem,
        walk.first_seq,
        walk.next_seq - 1,
        walk.records,
        walk.next_block - 1,
        walk.segments,
        walk.head,
        bad_seq,
        problem,
    )


def _verify_segment(walk: _Check, path: Path, journal_id: bytes, progress: mmap.mmap) -> bytes:
    try:
        reader = SegmentReader(path)
    except (JournalError, lmdb.Error) as problem:
        if isinstance(problem, JournalError) and "format" in str(problem):
            raise
        raise _Bad(walk.next_seq, str(problem)) from None
    with reader:
        header = reader.header
        if walk.segments == 0:  # the oldest one kept: older ones may have been dropped by retention
            walk.link, walk.next_block, walk.next_seq = header.prev_hash, header.first_block_no, header.first_seq
            walk.first_seq, journal_id = header.first_seq, header.journal_id
        if path.name != f"seg-{header.number:08d}" or header.journal_id != journal_id:
            raise _Bad(walk.next_seq, f"{path.name}: is segment {header.number} of journal {header.journal_id.hex()}")
        if header.prev_hash != walk.link:
            raise _Bad(walk.next_seq, f"{path.name}: its header does not follow from the segment before it")
        if (header.first_block_no, header.first_seq) != (walk.next_block, walk.next_seq):
            raise _Bad(walk.next_seq, f"{path.name}: begins at record {header.first_seq}, expected {walk.next_seq}")
        walk.link = reader.link
        walk.segments += 1
        try:
            for batch_last, found in reader.batches(list(blocks.STREAMS), 0):
                _verify_batch(walk, path.name, batch_last, found)
                progress[:] = walk.next_seq.to_bytes(8, "little")
        except (JournalError, lmdb.Error) as problem:
            raise _Bad(walk.next_seq, f"{path.name}: {problem}") from None
    return journal_id


def _verify_batch(walk: _Check, name: str, batch_last: int, found: list[tuple[BlockHeader, bytes]]) -> None:
    first = walk.next_seq
    count = 0
    for header, value in found:
        where = f"{name}: block {header.block_no}"
        if header.block_no != walk.next_block or header.prev_hash != walk.link:
            raise _Bad(first, f"{where} does not follow block {walk.next_block - 1}: removed, inserted or swapped")
        body = memoryview(value)[BLOCK_HEADER_BYTES:]
        checked, first_seq, last_seq, offset = rings.check(value, BLOCK_HEADER_BYTES)
        if len(body) != header.body_bytes or offset >= 0 or blocks.hash_of(body) != header.body_hash:
            bad = _next_of_stream(last_seq + 1, found, header) if offset >= 0 and checked else header.first_seq
            raise _Bad(bad, f"{where}: record {bad} was changed (or {len(body)} bytes are not {header.body_bytes})")
        if (checked, first_seq, last_seq) != (header.record_count, header.first_seq, header.last_seq):
            raise _Bad(first, f"{where}: holds {checked} records {first_seq}..{last_seq}, its header says otherwise")
        count += checked
        walk.link = blocks.hash_of(value[:BLOCK_HEADER_BYTES])
        walk.next_block += 1
    if count != batch_last - first + 1 or min(header.first_seq for header, _ in found) != first:
        raise _Bad(first, f"{name}: records {first}..{batch_last} expected, {count} found: gap in the sequence")
    walk.next_seq = batch_last + 1
    walk.records += count
    walk.head = f"{batch_last}:{walk.link.hex()}"
    walk.head_met = walk.head_met or walk.head == walk.head_wanted


def _next_of_stream(seq: int, found: list[tuple[BlockHeader, bytes]], header: BlockHeader) -> int:
    """First sequence from `seq` on that the other stream's block of the batch does not hold."""
    for other, value in found:
        if other.stream != header.stream:
            try:
                taken = {record[0] for record in rings.parse(value, BLOCK_HEADER_BYTES)}
            except ValueError:
                return seq
            while seq in taken:
                seq += 1
    return seq
