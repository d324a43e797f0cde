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
import importlib
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

import lmdb
import msgspec

from engine import blocks
from engine.blocks import SegmentHeader
from engine.errors import JournalError, JournalHeld
from engine.journal_read import (
    HELD,
    SEGMENT_KEY,
    Record,
    SegmentReader,
    last_block,
    open_env,
    read_records,
    segment_paths,
)
from engine.journal_verify import VerifyReport, verify
from engine.records import RecordKind
from ext import ring as rings
from ext import store as stores
from ext.ring import Ring
from ext.store import BlockStore

__all__ = ["Journal", "Record", "VerifyReport", "file_system", "file_system_warning", "read_records", "verify"]

DEFAULT_RING_MIB: Final = 64
DEFAULT_SEGMENT_MIB: Final = 256
DEFAULT_SYNC_INTERVAL_MS: Final = 5
ROLL_AT: Final = 0.8
VERSION: Final = "0.1.0"
_BATCH_BYTES: Final = 4 << 20

stores.load(str(importlib.import_module("lmdb.cpython").__file__))


class _End(NamedTuple):
    """Where the store ends: what the next block has to know."""

    link: bytes
    block_no: int
    last_seq: int
    ring_id: int
    ring_pos: int
    epoch: int


class Journal:
    """The writing end. `ring` is for the hot path; everything durable happens on the writer's thread.

    Errors: after the first failed commit `failed` says why and nothing is committed any more (a smaller commit could
    still succeed on a full disk and leave a hole); what is appended then stays in the ring.
    """

    def __init__(self, path: Path, lock_fd: int, *, segment_mib: int, sync_interval_ms: int, durability: str) -> None:
        self.path = path
        self.durability = durability
        self._lock_fd = lock_fd
        self._segment_bytes = segment_mib << 20
        # Half: a record waits at most one pause and one commit until it is durable.
        self._pause_ns = sync_interval_ms * 500_000
        self._number = 0
        self._journal_id = bytes(16)
        self._rolled = 0  # segment that the last roll made
        self._roll_problem = ""
        self._thread: threading.Thread | None = None
        self._keep_off_cpu: int | None = None
        self._end = _End(blocks.NO_HASH, 0, 0, 0, 0, 0)
        self._store: BlockStore
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
        keep_off_cpu: int | None = None,
    ) -> Journal:
        """Open or create the journal, recover what the ring still holds, start the writer.

        `keep_off_cpu`: the hot thread's CPU, where the writer must not run when there is another.
        Errors: JournalHeld when another process writes it; JournalError when it is corrupt, newer, or not writable.
        """
        assert durability in ("batch", "strict"), f"durability was {durability!r}"
        root = Path(path).resolve()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = _take_lock(root)
        journal = cls(root, lock_fd, segment_mib=segment_mib, sync_interval_ms=sync_interval_ms, durability=durability)
        try:
            journal._read_store()
            journal._open_ring(int(ring_mib * (1 << 20)))
        except BaseException as problem:
            journal._release()
            if isinstance(problem, (lmdb.Error, OSError)):
                raise JournalError(f"{root}: {problem}; nothing was written") from problem
            raise
        journal._keep_off_cpu = keep_off_cpu
        journal._thread = threading.Thread(target=journal._run, name="journal", daemon=True)
        journal._thread.start()
        return journal

    # --- the hot side ---

    def append(self, kind: int, source: int, ts_ns: int, payload: bytes) -> int:
        """Sequence of the record, or a negative code of ext.ring.CODES: then nothing was recorded."""
        return self.ring.append(kind, source, ts_ns, payload)

    def wait_durable(self, seq: int, timeout_s: float) -> bool:
        """Wait until record `seq` is on the disk. False: not within the time, or the journal has failed."""
        return self._store.wait_durable(seq, int(timeout_s * 1e9))

    @property
    def durable_seq(self) -> int:
        """Everything up to this record is on the disk."""
        return self._store.durable_seq

    @property
    def failed(self) -> str:
        """Why nothing becomes durable any more; empty while all is well."""
        return self._roll_problem or self._store.failure

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
    def disk_free_bytes(self) -> int:
        """Free bytes on the journal's disk for this user. Open no new risk below two segments (T3)."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    @property
    def epoch(self) -> int:
        return self._store.epoch

    def raise_epoch(self) -> int:
        """Count one more start; on the disk before this returns. The epoch is in every client order id."""
        epoch = self._store.epoch + 1
        _write_durably(self.path / "epoch", f"{epoch}\n".encode())
        self._store.epoch = epoch
        self.append(RecordKind.EPOCH_RAISED, 0, time.monotonic_ns(), msgspec.msgpack.encode(epoch))
        return epoch

    def close(self) -> None:
        """Make everything durable, then let go of the journal. Nothing may be appended any more."""
        if self._thread is not None:
            self._store.stop()
            self._thread.join()
            self._thread = None
        self._release()

    def _release(self) -> None:
        if hasattr(self, "_store"):
            self._store.close_segment()
        if hasattr(self, "ring"):
            self.ring.close()
        if self._lock_fd >= 0:
            HELD.discard(self.path)
            os.close(self._lock_fd)
            self._lock_fd = -1

    # --- opening ---

    def _read_store(self) -> None:
        """Learn where the store ends. With py-lmdb, closed again before the writer opens the same environment."""
        segments = segment_paths(self.path)
        if not segments:
            self._journal_id = secrets.token_bytes(16)
            self._create_segment()
            return
        with SegmentReader(segments[-1]) as reader:
            header, link, last = reader.header, reader.link, last_block(reader.env)
        self._number, self._journal_id = header.number, header.journal_id
        if last is not None:
            block, link = last
            self._end = _End(link, block.block_no, block.batch_last_seq, block.ring_id, block.ring_pos, block.epoch)
            return
        self._end = _End(link, header.first_block_no - 1, header.first_seq - 1, 0, 0, 0)
        if len(segments) > 1:
            # Rolled and killed before the first block: the place in the ring stands in the segment before.
            with SegmentReader(segments[-2]) as reader:
                last = last_block(reader.env)
            if last is not None:
                self._end = self._end._replace(ring_id=last[0].ring_id, ring_pos=last[0].ring_pos, epoch=last[0].epoch)

    def _open_ring(self, capacity: int) -> None:
        """Attach the ring, store what it holds beyond the last block, then give it the wanted size."""
        path = self.path / "ring"
        epoch = max(self._end.epoch, _stored_epoch(self.path / "epoch"))
        if path.exists():
            try:
                self.ring = Ring(path, rings.capacity_of(path))
            except ValueError as problem:
                raise JournalError(f"{problem}; move it away to start without what it may still hold") from problem
            self._seek_ring()
            self._open_store(epoch)
            self._recover()
            if self.ring.capacity_bytes >= capacity > self.ring.capacity_bytes // 2:
                return
            self._end = self._end._replace(
                link=self._store.link, block_no=self._store.block_no, last_seq=self._store.durable_seq
            )
            self._store.close_segment()
            self.ring.close()
            path.unlink()
        self.ring = Ring(path, capacity, self._end.last_seq + 1)
        self._open_store(epoch)

    def _open_store(self, epoch: int) -> None:
        batch_bytes = min(_BATCH_BYTES, self._segment_bytes // 8)
        self.ring.max_payload = min(self.ring.max_payload, self._segment_bytes // 2)
        self._store = BlockStore(self.ring, self._pause_ns, batch_bytes, int(self._segment_bytes * ROLL_AT))
        self._store.set_chain(self._end.link, self._end.block_no, self._end.last_seq, epoch)
        self._store.open_segment(self._segment_path(), self._segment_bytes)

    def _recover(self) -> None:
        while (code := self._store.commit_batch(blocks.RECOVERED)) != stores.IDLE:
            if code < 0:
                raise JournalError(f"{self.path}: {self._store.failure}")
            if code == stores.ROLL:
                self._roll()

    def _seek_ring(self) -> None:
        end, ring = self._end, self.ring
        if end.ring_id == ring.ring_id:
            if ring.tail_position > end.ring_pos:
                raise JournalError(
                    f"{self.path}: the ring was drained up to record {ring.tail_seq - 1}, the store ends at "
                    f"{end.last_seq}; the store is older than the ring, restore the newer one"
                )
            ring.seek(end.ring_pos, end.last_seq + 1)
        elif ring.start_seq == end.last_seq + 1:
            ring.seek(0, ring.start_seq)
        else:
            raise JournalError(
                f"{self.path}: the ring starts at record {ring.start_seq}, the store ends at {end.last_seq}; "
                f"they do not belong together"
            )

    # --- segments ---

    def _segment_path(self) -> Path:
        return self.path / f"seg-{self._number:08d}"

    def _create_segment(self) -> None:
        """A new environment with its header, made under another name first, so that it is there whole or not at all."""
        end = self._end
        self._number += 1
        header = SegmentHeader(
            self._number, time.time_ns(), end.block_no + 1, end.last_seq + 1, self._journal_id, end.link, VERSION
        )
        packed = blocks.pack_segment_header(header)
        path = self._segment_path()
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
        self._end = end._replace(link=blocks.hash_of(packed))

    def _roll(self) -> None:
        store = self._store
        before = (self._number, self._end.last_seq)
        self._end = self._end._replace(link=store.link, block_no=store.block_no, last_seq=store.durable_seq)
        if before == (self._rolled, self._end.last_seq):
            raise JournalError(f"{self.path}: record {self._end.last_seq + 1} does not fit into an empty segment")
        store.close_segment()
        self._create_segment()
        self._rolled = self._number
        store.set_chain(self._end.link, self._end.block_no, self._end.last_seq, store.epoch)
        store.open_segment(self._segment_path(), self._segment_bytes)

    def _run(self) -> None:
        """The writer's thread: nearly all of it inside BlockStore.run, without the interpreter lock."""
        others = os.sched_getaffinity(0) - {self._keep_off_cpu}
        if self._keep_off_cpu is not None and others:
            os.sched_setaffinity(0, others)
        try:
            while self._store.run() == stores.ROLL:
                self._roll()
        except BaseException as problem:  # the thread's border: whatever it was, nothing may be stored after it
            self._roll_problem = f"{type(problem).__name__}: {problem}"
            self._store.give_up()


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
