"""The bytes of the journal's store: segment headers, block headers, the hash chain. Format 1, see JOURNAL_FORMAT.md.

Knows no file and no clock. A link of the chain is a segment header or a block header; each carries the SHA-256 of the
link before it, and a block header carries the SHA-256 of its records, so a block's records may be dropped by retention
and the chain still holds.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

from engine.errors import JournalError
from ext.ring import crc32c

FORMAT: Final = 1
TAPE: Final = 1
LEDGER: Final = 2
STREAMS: Final = {TAPE: "tape", LEDGER: "ledger"}
NO_HASH: Final = bytes(32)
RECOVERED: Final = 1  # flag of a block: drained from the ring of a process that had died

_KEY = struct.Struct(">Q")
_CRC = struct.Struct("<II")
_BLOCK = struct.Struct("<4sHBBQQQIIIIQQQq32s32s")
_SEGMENT = struct.Struct("<4sHHIIqQQ16s32s24s")
BLOCK_HEADER_BYTES: Final = _BLOCK.size + _CRC.size
SEGMENT_HEADER_BYTES: Final = _SEGMENT.size + _CRC.size
_BLOCK_MAGIC = b"TWB1"
_SEGMENT_MAGIC = b"TWS1"


class BlockHeader(NamedTuple):
    """What a block says about itself. `ring_pos` is where, in ring `ring_id`, the record after the batch begins."""

    stream: int
    flags: int
    block_no: int
    first_seq: int
    last_seq: int
    record_count: int
    body_bytes: int
    epoch: int
    ring_id: int
    ring_pos: int
    batch_last_seq: int
    utc_ns: int
    prev_hash: bytes
    body_hash: bytes


class SegmentHeader(NamedTuple):
    """First link of a segment. `first_block_no` and `first_seq` are those of the first block to come."""

    number: int
    created_utc_ns: int
    first_block_no: int
    first_seq: int
    journal_id: bytes
    prev_hash: bytes
    version: str


def key_of(seq: int) -> bytes:
    """Big-endian, so that LMDB's byte order is the order of sequences (T15)."""
    return _KEY.pack(seq)


def seq_of(key: bytes) -> int:
    return int(_KEY.unpack(key)[0])


def hash_of(link: bytes | memoryview) -> bytes:
    return hashlib.sha256(link).digest()


def pack_block_header(header: BlockHeader) -> bytes:
    (stream, flags, block_no, first_seq, last_seq, count, body_bytes, epoch, *rest) = header
    packed = _BLOCK.pack(
        _BLOCK_MAGIC, FORMAT, stream, flags, block_no, first_seq, last_seq, count, body_bytes, epoch, 0, *rest
    )
    return packed + _CRC.pack(crc32c(packed), 0)


def unpack_block_header(value: bytes) -> BlockHeader:
    """Errors: JournalError when the header does not check; the body is not looked at."""
    if len(value) < BLOCK_HEADER_BYTES:
        raise JournalError(f"block of {len(value)} bytes, its header alone has {BLOCK_HEADER_BYTES}")
    packed = value[: _BLOCK.size]
    magic, form, stream, flags, block_no, first_seq, last_seq, count, body_bytes, epoch, zero, *rest = _BLOCK.unpack(
        packed
    )
    if magic != _BLOCK_MAGIC:
        raise JournalError(f"no block: magic was {magic!r}")
    if form != FORMAT:
        raise JournalError(f"block of format {form}, this program reads {FORMAT}")
    if _CRC.unpack_from(value, _BLOCK.size) != (crc32c(packed), 0) or zero:
        raise JournalError(f"header of block {block_no} does not check")
    return BlockHeader(stream, flags, block_no, first_seq, last_seq, count, body_bytes, epoch, *rest)


def pack_segment_header(header: SegmentHeader) -> bytes:
    version = header.version.encode("ascii", "replace")[:24].ljust(24, b"\0")
    packed = _SEGMENT.pack(
        _SEGMENT_MAGIC,
        FORMAT,
        0,
        header.number,
        0,
        header.created_utc_ns,
        header.first_block_no,
        header.first_seq,
        header.journal_id,
        header.prev_hash,
        version,
    )
    return packed + _CRC.pack(crc32c(packed), 0)


def unpack_segment_header(raw: bytes) -> SegmentHeader:
    """Errors: JournalError, also when the format is newer than this program."""
    if len(raw) < 6 or raw[:4] != _SEGMENT_MAGIC:
        raise JournalError("no journal segment: wrong magic")
    form = struct.unpack_from("<H", raw, 4)[0]
    if form != FORMAT:
        raise JournalError(f"journal format {form}, this program reads {FORMAT}; use the version that wrote it")
    if len(raw) != SEGMENT_HEADER_BYTES:
        raise JournalError(f"segment header of {len(raw)} bytes, must be {SEGMENT_HEADER_BYTES}")
    packed = raw[: _SEGMENT.size]
    if _CRC.unpack_from(raw, _SEGMENT.size) != (crc32c(packed), 0):
        raise JournalError("segment header does not check")
    _, _, zero, number, zero2, created, first_block_no, first_seq, journal_id, prev_hash, version = _SEGMENT.unpack(
        packed
    )
    if zero or zero2:
        raise JournalError("segment header has bits that this program does not know")
    text = version.rstrip(b"\0").decode("ascii", "replace")
    return SegmentHeader(number, created, first_block_no, first_seq, journal_id, prev_hash, text)
