"""The journal: ring -> writer thread -> LMDB blocks in segments; and its reading. A shell file: it does I/O.

The hot thread only appends to the ring (ext/ring.pyx), which outlives the process. The writer groups what it finds
into one block a stream, links each block to the one before it by SHA-256, and commits with LMDB's default flags: every
no-sync mode was seen to corrupt on power loss. At restart the records that the store has not are taken from the ring
before anything else. Bytes: engine/blocks.py and JOURNAL_FORMAT.md.

One process writes (flock on `instance.lock`); any other process reads while it runs (journal_read.py).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Final

import lmdb
import msgspec

from engine import blocks
from engine.blocks import BLOCK_HEADER_BYTES, BlockHeader, SegmentHeader
from engine.errors import JournalError, JournalHeld
from engine.journal_read import (
    HELD,
    SEGMENT_KEY,
    Record,
    last_block,
    open_env,
    read_records,
    read_segment_header,
    segment_paths,
)
from engine.journal_verify import VerifyReport, verify
from engine.records import RecordKind
from ext import ring as rings
from ext.ring import Ring

__all__ = ["Journal", "Record", "VerifyReport", "file_system", "file_system_warning", "read_records", "verify"]

DEFAULT_RING_MIB: Final = 64
DEFAULT_SEGMENT_MIB: Final = 256
DEFAULT_SYNC_INTERVAL_MS: Final = 5
ROLL_AT: Final = 0.8
_BATCH_BYTES: Final = 4 << 20


class _Chain(msgspec.Struct):
    """Where the store ends: what the next block has to know."""

    link: bytes = blocks.NO_HASH
    block_no: int = 0  # of the last block
    last_seq: int = 0
    ring_id: int = 0
    ring_pos: int = 0
    epoch: int = 0


class _Segment:
    """One LMDB environment, open for writing."""

    def __init__(self, path: Path, map_bytes: int) -> None:
        self.path = path
        self.env = open_env(path, map_bytes=map_bytes)
        self.map_bytes = map_bytes
        self.meta = self.env.open_db(b"meta")
        self.streams = {number: self.env.open_db(name.encode()) for number, name in blocks.STREAMS.items()}

    def has_room(self, size: int) -> bool:
        info = self.env.info()
        used = (info["last_pgno"] + 1) * 4096
        return bool(used + size + (64 << 10) <= self.map_bytes * ROLL_AT)

    def close(self) -> None:
        self.env.close()


class Journal:
    """The writing end. `ring` is for the hot path; everything durable happens on the writer's thread.

    Errors: after the first failed commit `failed` says why and nothing is committed any more (a smaller commit could
    still succeed on a full disk and leave a hole); what is appended then stays in the ring.
    """

    def __init__(self, path: Path, lock_fd: int, *, segment_mib: int, sync_interval_ms: int, durability: str) -> None:
        self.path = path
        self.durability = durability
        self.failed = ""
        self.durable_seq = 0
        self._lock_fd = lock_fd
        self._segment_bytes = segment_mib << 20
        self._batch_bytes = min(_BATCH_BYTES, self._segment_bytes // 8)
        # Half: a record waits at most one pause and one commit until it is durable.
        self._pause_s = sync_interval_ms / 2000
        self._chain = _Chain()
        self._number = 0
        self._journal_id = bytes(16)
        self._buffers = (bytearray(), bytearray())
        self._stop = False
        self._wake = threading.Event()
        self._durable = threading.Condition()
        self._thread: threading.Thread | None = None
        self._segment: _Segment
        self.ring: Ring

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        ring_mib: float = DEFAULT_RING_MIB,
        segment_mib: int = DEFAULT_SEGMENT_MIB,
        sync_interval_ms: int = DEFAULT_SYNC_INTERVAL_MS,
        durability: str = "batch",
    ) -> Journal:
        """Open or create the journal, recover what the ring still holds, start the writer.

        Errors: JournalHeld when another process writes it; JournalError when it is corrupt, newer, or not writable.
        """
        assert durability in ("batch", "strict"), f"durability was {durability!r}"
        root = Path(path).resolve()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = _take_lock(root)
        journal = cls(root, lock_fd, segment_mib=segment_mib, sync_interval_ms=sync_interval_ms, durability=durability)
        try:
            journal._open_store()
            journal._open_ring(int(ring_mib * (1 << 20)))
            journal.ring.max_payload = min(journal.ring.max_payload, journal._segment_bytes // 2)
        except BaseException as problem:
            journal._release()
            if isinstance(problem, (lmdb.Error, OSError)):
                raise JournalError(f"{root}: {problem}; nothing was written") from problem
            raise
        journal._thread = threading.Thread(target=journal._run, name="journal", daemon=True)
        journal._thread.start()
        return journal

    # --- the hot side ---

    def append(self, kind: int, source: int, ts_ns: int, payload: bytes) -> int:
        """Sequence of the record, or a negative code of ext.ring.CODES: then nothing was recorded."""
        return self.ring.append(kind, source, ts_ns, payload)

    def wait_durable(self, seq: int, timeout_s: float) -> bool:
        """Wait until record `seq` is on the disk. False: not within the time, or the journal has failed."""
        if self.durable_seq >= seq:
            return True
        self._wake.set()
        with self._durable:
            self._durable.wait_for(lambda: self.durable_seq >= seq or self.failed != "", timeout_s)
        return self.durable_seq >= seq

    @property
    def max_payload(self) -> int:
        """Largest payload of one record: a quarter of the ring, half a segment."""
        return self.ring.max_payload

    @property
    def lag_records(self) -> int:
        """Records appended and not yet durable."""
        return self.ring.next_seq - 1 - self.durable_seq

    @property
    def free_fraction(self) -> float:
        """Free part of the ring, 0..1. It shrinks when the disk is slow, and only then."""
        return self.ring.free_bytes / self.ring.capacity_bytes

    @property
    def epoch(self) -> int:
        return self._chain.epoch

    def raise_epoch(self) -> int:
        """Count one more start; on the disk before this returns. The epoch is in every client order id."""
        epoch = self._chain.epoch + 1
        _write_durably(self.path / "epoch", f"{epoch}\n".encode())
        self._chain.epoch = epoch
        self.append(RecordKind.EPOCH_RAISED, 0, time.monotonic_ns(), msgspec.msgpack.encode(epoch))
        return epoch

    def close(self) -> None:
        """Make everything durable, then let go of the journal."""
        if self._thread is not None:
            self._stop = True
            self._wake.set()
            self._thread.join()
            self._thread = None
        self._release()

    def _release(self) -> None:
        if hasattr(self, "ring"):
            self.ring.close()
        if hasattr(self, "_segment"):
            self._segment.close()
        if self._lock_fd >= 0:
            HELD.discard(self.path)
            os.close(self._lock_fd)
            self._lock_fd = -1

    # --- opening ---

    def _open_store(self) -> None:
        segments = segment_paths(self.path)
        if not segments:
            self._journal_id = secrets.token_bytes(16)
            self._create_segment()
        else:
            self._segment = _Segment(segments[-1], self._segment_bytes)
            header, link = read_segment_header(self._segment.env)
            self._number = header.number
            self._journal_id = header.journal_id
            self._chain = _Chain(link=link, block_no=header.first_block_no - 1, last_seq=header.first_seq - 1)
            self._read_last_blocks(segments)
        self.durable_seq = self._chain.last_seq
        self._chain.epoch = max(self._chain.epoch, _stored_epoch(self.path / "epoch"))

    def _read_last_blocks(self, segments: list[Path]) -> None:
        chain = self._chain
        last = last_block(self._segment.env)
        if last is None and len(segments) > 1:
            # Rolled and killed before the first block: the segment's own header has the chain, the ring's place is
            # in the segment before it.
            env = open_env(segments[-2], readonly=True)
            try:
                last = last_block(env)
            finally:
                env.close()
            if last is not None:
                chain.ring_id, chain.ring_pos, chain.epoch = last[0].ring_id, last[0].ring_pos, last[0].epoch
            return
        if last is not None:
            header, link = last
            self._chain = _Chain(
                link, header.block_no, header.batch_last_seq, header.ring_id, header.ring_pos, header.epoch
            )

    def _open_ring(self, capacity: int) -> None:
        """Attach the ring and store what it holds beyond the last block. Then give it the wanted size."""
        path = self.path / "ring"
        if path.exists():
            try:
                existing = rings.capacity_of(path)
                self.ring = Ring(path, existing)
            except ValueError as problem:
                raise JournalError(f"{problem}; move it away to start without what it may still hold") from problem
            self._seek_ring()
            while self._commit_batch(blocks.RECOVERED):
                pass
            if self.ring.capacity_bytes >= capacity > self.ring.capacity_bytes // 2:
                return
            self.ring.close()
            path.unlink()
        self.ring = Ring(path, capacity, self._chain.last_seq + 1)
        self._chain.ring_id, self._chain.ring_pos = self.ring.ring_id, 0

    def _seek_ring(self) -> None:
        chain, ring = self._chain, self.ring
        if chain.ring_id == ring.ring_id:
            if ring.tail_position > chain.ring_pos:
                raise JournalError(
                    f"{self.path}: the ring was drained up to record {ring.tail_seq - 1}, the store ends at "
                    f"{chain.last_seq}; the store is older than the ring, restore the newer one"
                )
            ring.seek(chain.ring_pos, chain.last_seq + 1)
        elif ring.start_seq == chain.last_seq + 1:
            ring.seek(0, ring.start_seq)
            chain.ring_id, chain.ring_pos = ring.ring_id, 0
        else:
            raise JournalError(
                f"{self.path}: the ring starts at record {ring.start_seq}, the store ends at {chain.last_seq}; "
                f"they do not belong together"
            )

    def _create_segment(self) -> None:
        """A new environment with its header, made under another name first, so that it is there whole or not at all."""
        chain = self._chain
        self._number += 1
        header = SegmentHeader(
            self._number, time.time_ns(), chain.block_no + 1, chain.last_seq + 1, self._journal_id, chain.link, "0.1.0"
        )
        packed = blocks.pack_segment_header(header)
        path = self.path / f"seg-{self._number:08d}"
        draft = self.path / f".{path.name}.new"
        if draft.exists():
            for leftover in draft.iterdir():
                leftover.unlink()
        draft.mkdir(mode=0o700, exist_ok=True)
        env = open_env(draft, map_bytes=self._segment_bytes)
        try:
            # One transaction: a reader never meets a segment without its header or its streams.
            with env.begin(write=True) as txn:
                for name in blocks.STREAMS.values():
                    env.open_db(name.encode(), txn=txn)
                stored = txn.put(SEGMENT_KEY, packed, db=env.open_db(b"meta", txn=txn))
                assert stored, "segment header was not stored"
        finally:
            env.close()
        draft.rename(path)
        _sync_directory(self.path)
        self._segment = _Segment(path, self._segment_bytes)
        chain.link = blocks.hash_of(packed)

    # --- the writer ---

    def _run(self) -> None:
        try:
            while not self._stop:
                self._wake.wait(self._pause_s)
                self._wake.clear()
                while self._commit_batch():
                    pass
            while self._commit_batch():
                pass
        except BaseException as problem:  # the thread's border: whatever it was, nothing may be committed after it
            self.failed = f"{type(problem).__name__}: {problem}"
            with self._durable:
                self._durable.notify_all()

    def _commit_batch(self, flags: int = 0) -> bool:
        """Store what the ring holds, at most one batch. False when there was nothing."""
        tape, ledger = self._buffers
        if not tape:
            tape, ledger = self._buffers = (bytearray(self._batch_bytes), bytearray(self._batch_bytes))
        count, first, last, end, *parts, needed = self.ring.split(tape, ledger, BLOCK_HEADER_BYTES, self._batch_bytes)
        if needed:
            size = needed + BLOCK_HEADER_BYTES
            self._buffers = (bytearray(size), bytearray(size))
            return self._commit_batch(flags)
        if count < 0:
            raise JournalError(f"{self.path}: ring record {first} or later does not check; memory was overwritten")
        if count == 0:
            return False
        batch_bytes = sum(part[3] for part in parts)
        if not self._segment.has_room(batch_bytes):
            self._segment.close()
            self._create_segment()
            if not self._segment.has_room(batch_bytes):
                raise JournalError(f"{self.path}: a batch of {batch_bytes} bytes does not fit into a new segment")
        chain = self._chain
        link, block_no = chain.link, chain.block_no
        with self._segment.env.begin(write=True) as txn:
            for stream, part, buffer in zip(blocks.STREAMS, parts, (tape, ledger), strict=True):
                part_count, part_first, part_last, part_bytes = part
                if part_count == 0:
                    continue
                block_no += 1
                body = memoryview(buffer)[BLOCK_HEADER_BYTES : BLOCK_HEADER_BYTES + part_bytes]
                header = BlockHeader(
                    stream,
                    flags,
                    block_no,
                    part_first,
                    part_last,
                    part_count,
                    part_bytes,
                    chain.epoch,
                    self.ring.ring_id,
                    end,
                    last,
                    time.time_ns(),
                    link,
                    blocks.hash_of(body),
                )
                packed = blocks.pack_block_header(header)
                buffer[:BLOCK_HEADER_BYTES] = packed
                value = memoryview(buffer)[: BLOCK_HEADER_BYTES + part_bytes]
                stored = txn.put(blocks.key_of(part_first), value, db=self._segment.streams[stream], append=True)
                assert stored, f"block {block_no} was not stored: key {part_first} is not the greatest"
                link = blocks.hash_of(packed)
        chain.link, chain.block_no, chain.last_seq = link, block_no, last
        chain.ring_id, chain.ring_pos = self.ring.ring_id, end
        self.ring.release(end, last + 1)
        self.durable_seq = last
        with self._durable:
            self._durable.notify_all()
        return True


def _take_lock(root: Path) -> int:
    fd = os.open(root / "instance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 64, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise JournalHeld(f"{root}: held by process {holder}; this engine does not start") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    HELD.add(root)
    return fd


def _stored_epoch(path: Path) -> int:
    if not path.exists():
        return 0
    text = path.read_text(errors="replace").strip()
    if not (text.isascii() and text.isdigit()):
        raise JournalError(f"{path}: no epoch: {text[:20]!r}; write the last one used into it, see the orders' ids")
    return int(text)


def _write_durably(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    draft.rename(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_FILE_SYSTEMS: Final = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlay",
    0x6969: "nfs",
    0x9123683E: "btrfs",
    0x65735546: "fuse",
    0xFF534D42: "cifs",
    0x517B: "smb",
    0xFE534D42: "smb2",
}
"""statfs f_type, from linux/magic.h."""


def file_system(path: str | os.PathLike[str]) -> str:
    """Name of the file system below a path, or its number in hexadecimal."""
    buffer = (ctypes.c_long * 32)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(path), buffer) != 0:
        raise OSError(ctypes.get_errno(), "statfs failed", os.fspath(path))
    number = buffer[0] & 0xFFFFFFFF
    return _FILE_SYSTEMS.get(number, f"{number:#x}")


def file_system_warning(path: str | os.PathLike[str]) -> str:
    """A line when the file system cannot keep the journal's promise on power loss, else empty (T16)."""
    name = file_system(path)
    if name in ("ext4", "xfs"):
        return ""
    return f"{os.fspath(path)}: journal on {name}: what is journaled survives a killed process, not a power cut"
