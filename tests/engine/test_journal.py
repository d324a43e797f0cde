"""The journal: what is durable, what survives SIGKILL, what verification finds, who is refused."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import struct
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from engine import blocks, journal_read
from engine.errors import JournalError, JournalHeld
from engine.journal import Journal, file_system, file_system_warning, read_records, verify
from engine.journal_read import segment_paths
from engine.records import RecordKind
from ext import ring as rings

TIMEOUT_S = 10.0
SMALL = {"ring_mib": 0.0625, "segment_mib": 1, "sync_interval_ms": 1}


def payload_of(number: int, largest: int = 400) -> bytes:
    return bytes([number * 31 & 0xFF]) * (number * 7 % largest)


def kind_of(number: int) -> int:
    return 64 + number % 20 if number % 3 == 0 else 1 + number % 6


def fill(journal: Journal, count: int, start: int = 1) -> None:
    for number in range(start, start + count):
        while journal.append(kind_of(number), number % 5, number, payload_of(number)) < 0:
            time.sleep(0.0002)


def assert_filled(path: Path, last: int, start_seq: int = 1) -> None:
    found = list(read_records(path, start_seq))
    assert [record.seq for record in found] == list(range(start_seq, last + 1))
    for record in found:
        expected = (record.seq, kind_of(record.seq), record.seq % 5, payload_of(record.seq))
        assert (record.ts_ns, record.kind, record.source, record.payload) == expected


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A closed journal of several segments, 12,000 records."""
    with_journal = Journal.open(tmp_path / "j", **SMALL)
    fill(with_journal, 12_000)
    with_journal.close()
    return tmp_path / "j"


def in_child(path: Path, *, count: int, then_close: bool) -> None:
    """Write from another process; without closing it ends as if it had been killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            journal = Journal.open(path, **SMALL)
            fill(journal, count, journal.ring.next_seq)
            if then_close:
                journal.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_records_come_back_as_they_were_appended_over_many_segments(filled: Path) -> None:
    assert len(segment_paths(filled)) > 2
    assert_filled(filled, 12_000)
    assert verify(filled).ok


@pytest.mark.parametrize("start_seq", [0, 1, 2, 4000, 7777, 11_999, 12_000, 12_001, 99_999])
def test_reading_starts_at_any_sequence(filled: Path, start_seq: int) -> None:
    assert [record.seq for record in read_records(filled, start_seq)] == list(range(max(1, start_seq), 12_001))


@pytest.mark.parametrize("start_seq", [0, 5000])
def test_streams_can_be_read_alone(filled: Path, start_seq: int) -> None:
    ledger = [record.seq for record in read_records(filled, start_seq, "ledger")]
    tape = [record.seq for record in read_records(filled, start_seq, "tape")]
    assert ledger == [number for number in range(start_seq, 12_001) if number % 3 == 0 and number]
    assert sorted(ledger + tape) == list(range(max(1, start_seq), 12_001))


def test_durable_sequence_is_in_the_store_when_the_wait_returns(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, **SMALL)
    for number in range(1, 20):
        seq = journal.append(64, 0, number, b"intent")
        assert journal.wait_durable(seq, TIMEOUT_S) and journal.durable_seq >= seq
    assert journal.lag_records == 0 and journal.free_fraction == 1.0 and journal.failed == ""
    assert not journal.wait_durable(seq + 1, 0.01)
    journal.close()
    assert [record.seq for record in read_records(tmp_path, tail=False)] == list(range(1, 20))


def test_large_records_pass_and_larger_ones_are_refused(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, ring_mib=1, segment_mib=1)
    seq = journal.append(RecordKind.RESPONSE, 1, 0, bytes(journal.max_payload))
    assert seq == 1 and journal.append(RecordKind.RESPONSE, 1, 0, bytes(journal.max_payload + 1)) == rings.TOO_BIG
    for _ in range(8):
        assert journal.wait_durable(journal.append(2, 1, 0, bytes(journal.max_payload)), TIMEOUT_S), journal.failed
    journal.close()
    assert verify(tmp_path).records == 9


def test_files_are_for_their_owner_only(filled: Path) -> None:
    for path in [filled, *filled.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_journal_is_read_while_another_process_writes_it(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            journal = Journal.open(tmp_path, **SMALL)
            fill(journal, 6000)
            time.sleep(5)
        finally:
            os._exit(0)
    try:
        seen = 0
        deadline = time.monotonic() + TIMEOUT_S
        while seen < 6000 and time.monotonic() < deadline:
            try:
                for record in read_records(tmp_path, seen + 1):
                    seen += 1
                    assert (record.seq, record.payload) == (seen, payload_of(seen))
                assert (report := verify(tmp_path)).ok, report
            except JournalError as problem:
                assert seen == 0 and "no journal here" in str(problem), problem
        assert seen == 6000
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_only_the_ring_holds_is_read_and_then_recovered(tmp_path: Path) -> None:
    in_child(tmp_path, count=500, then_close=False)
    assert_filled(tmp_path, 500)
    journal = Journal.open(tmp_path, **SMALL)
    assert journal.durable_seq == 500 and journal.ring.next_seq == 501
    journal.close()
    assert_filled(tmp_path, 500)
    assert len(list(read_records(tmp_path, tail=False))) == 500
    assert verify(tmp_path).ok


def test_recovered_blocks_say_so(tmp_path: Path) -> None:
    in_child(tmp_path, count=50, then_close=True)
    shutil.copytree(tmp_path / "seg-00000001", tmp_path / "kept")
    journal = Journal.open(tmp_path, **SMALL)
    journal.close()
    ring = rings.Ring(tmp_path / "ring", 1 << 16)
    ring.append(1, 0, 0, b"of a process that died before it could store this")
    ring.close()
    Journal.open(tmp_path, **SMALL).close()
    with journal_read.SegmentReader(tmp_path / "seg-00000001") as reader:
        flags = [header.flags for header, _ in reader.blocks(blocks.TAPE, 0)]
    assert flags[-1] == blocks.RECOVERED and set(flags[:-1]) == {0}


def test_ring_changes_its_size_without_losing_a_record(tmp_path: Path) -> None:
    in_child(tmp_path, count=300, then_close=False)
    journal = Journal.open(tmp_path, ring_mib=1, segment_mib=1)
    assert journal.ring.capacity_bytes == 1 << 20
    fill(journal, 10, 301)
    journal.close()
    assert_filled(tmp_path, 310)
    assert verify(tmp_path).ok


def test_missing_ring_is_made_anew(tmp_path: Path) -> None:
    in_child(tmp_path, count=30, then_close=True)
    (tmp_path / "ring").unlink()
    for start in (31, 41):
        journal = Journal.open(tmp_path, **SMALL)
        fill(journal, 10, start)
        journal.close()
    assert_filled(tmp_path, 50)


def test_epoch_is_raised_durably_and_stands_in_the_ledger(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        journal = Journal.open(tmp_path, **SMALL)
        assert journal.raise_epoch() == expected
        assert (tmp_path / "epoch").read_text() == f"{expected}\n"
        journal.close()
    kinds = [record.kind for record in read_records(tmp_path, stream="ledger")]
    assert kinds == [RecordKind.EPOCH_RAISED] * 3
    (tmp_path / "epoch").unlink()
    journal = Journal.open(tmp_path, **SMALL)
    assert journal.raise_epoch() == 4, "blocks remember the epoch too"
    journal.close()


@pytest.mark.parametrize("content", ["", "12x\n", "-1\n"])
def test_damaged_epoch_file_is_refused(tmp_path: Path, content: str) -> None:
    Journal.open(tmp_path, **SMALL).close()
    (tmp_path / "epoch").write_text(content)
    with pytest.raises(JournalError, match="epoch"):
        Journal.open(tmp_path, **SMALL)


# --- refusals ---


def test_second_engine_is_refused_and_told_who_holds_the_journal(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, **SMALL)
    with pytest.raises(JournalHeld, match=f"process {os.getpid()};"):
        Journal.open(tmp_path, **SMALL)
    journal.close()
    Journal.open(tmp_path, **SMALL).close()


def test_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    in_child(tmp_path, count=1, then_close=False)
    Journal.open(tmp_path, **SMALL).close()


def test_writing_process_may_not_read_its_own_store(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, **SMALL)
    with pytest.raises(JournalError, match="another"):
        next(read_records(tmp_path))
    journal.close()


def rewrite_segment_header(path: Path, change: dict[int, bytes]) -> None:
    with lmdb.open(str(path), max_dbs=4) as env, env.begin(write=True) as txn:
        meta = env.open_db(b"meta", txn=txn)
        raw = bytearray(txn.get(b"segment", db=meta))
        for offset, content in change.items():
            raw[offset : offset + len(content)] = content
        struct.pack_into("<I", raw, 112, rings.crc32c(bytes(raw[:112])))
        assert txn.put(b"segment", bytes(raw), db=meta)


def test_unknown_format_is_refused_by_writer_and_readers_and_left_alone(tmp_path: Path) -> None:
    in_child(tmp_path, count=10, then_close=True)
    rewrite_segment_header(tmp_path / "seg-00000001", {4: struct.pack("<H", 2)})
    before = (tmp_path / "seg-00000001" / "data.mdb").read_bytes()
    for attempt in (
        lambda: Journal.open(tmp_path, **SMALL),
        lambda: list(read_records(tmp_path)),
        lambda: verify(tmp_path),
    ):
        with pytest.raises(JournalError, match="journal format 2, this program reads 1"):
            attempt()
    assert (tmp_path / "seg-00000001" / "data.mdb").read_bytes() == before


def test_store_older_than_its_ring_is_refused(tmp_path: Path) -> None:
    in_child(tmp_path, count=100, then_close=True)
    shutil.copytree(tmp_path / "seg-00000001", tmp_path / "old")
    in_child(tmp_path, count=100, then_close=True)
    shutil.rmtree(tmp_path / "seg-00000001")
    (tmp_path / "old").rename(tmp_path / "seg-00000001")
    with pytest.raises(JournalError, match="store is older than the ring"):
        Journal.open(tmp_path, **SMALL)


def test_ring_of_another_journal_is_refused(tmp_path: Path) -> None:
    in_child(tmp_path / "a", count=10, then_close=True)
    in_child(tmp_path / "b", count=20, then_close=True)
    shutil.copy(tmp_path / "b" / "ring", tmp_path / "a" / "ring")
    with pytest.raises(JournalError, match="do not belong together"):
        Journal.open(tmp_path / "a", **SMALL)


def test_garbage_in_place_of_the_ring_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ring").write_bytes(bytes(100_000))
    with pytest.raises(JournalError, match="magic"):
        Journal.open(tmp_path, **SMALL)


def test_garbage_in_place_of_a_segment_is_refused(filled: Path) -> None:
    (segment_paths(filled)[-1] / "data.mdb").write_bytes(b"\xff" * 100_000)
    with pytest.raises(JournalError):
        Journal.open(filled, **SMALL)


def test_path_without_a_journal_is_refused(tmp_path: Path) -> None:
    for attempt in (lambda: list(read_records(tmp_path / "none")), lambda: verify(tmp_path)):
        with pytest.raises(JournalError, match="no journal here"):
            attempt()


def test_file_system_is_named() -> None:
    assert file_system("/proc") == "0x9fa0"
    assert file_system("/dev/shm") == "tmpfs" and "power cut" in file_system_warning("/dev/shm")


# --- failure of the writer ---


def test_first_failed_commit_latches_and_nothing_is_stored_afterwards(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fail_a_commit(tmp_path)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    stored = [record.payload for record in read_records(tmp_path, tail=False)]
    assert stored == [b"before"]
    # What was appended lay in the ring all the time.
    Journal.open(tmp_path, **SMALL).close()
    stored = [record.payload[:10] for record in read_records(tmp_path, tail=False)]
    assert stored == [b"before", b"not stored", b"later"]


def fail_a_commit(path: Path) -> None:
    journal = Journal.open(path, **SMALL)
    seq = journal.append(1, 0, 0, b"before")
    assert journal.wait_durable(seq, TIMEOUT_S)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = (path / "seg-00000001" / "data.mdb").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    lost = journal.append(1, 0, 0, b"not stored" * 1000)
    assert not journal.wait_durable(lost, TIMEOUT_S)
    assert journal.failed, "a commit must have failed"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert journal.append(1, 0, 0, b"later") == lost + 1
    time.sleep(0.01)
    assert journal.durable_seq == seq and journal.lag_records == 2
    journal.close()


# --- SIGKILL ---


def killed_writer(path: Path, delay_s: float) -> None:
    child = os.fork()
    if child == 0:
        try:
            acknowledged = os.open(path.with_suffix(".ack"), os.O_RDWR | os.O_CREAT)
            journal = Journal.open(path, **SMALL)
            number = journal.ring.next_seq
            while True:
                seq = journal.append(kind_of(number), number % 5, number, payload_of(number))
                if seq == number:
                    os.pwrite(acknowledged, seq.to_bytes(8, "little"), 0)
                    number += 1
                elif journal.failed:
                    os.write(2, journal.failed.encode())
                    os._exit(3)
        finally:
            os._exit(2)
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), f"the writer ended by itself: {status}"
    return


@pytest.mark.parametrize("rounds", [30, pytest.param(400, marks=pytest.mark.slow)])
def test_nothing_appended_is_lost_when_the_engine_is_killed(tmp_path: Path, rounds: int) -> None:
    path = tmp_path / "j"
    rng = random.Random(rounds)
    last = 0
    for number in range(rounds):
        killed_writer(path, rng.random() * 0.02)
        if not path.with_suffix(".ack").exists() or not (path / "ring").exists():
            continue
        acknowledged = int.from_bytes(path.with_suffix(".ack").read_bytes(), "little")
        found = -1
        for record in read_records(path, last + 1):
            found = record.seq
            expected = (record.seq, kind_of(record.seq), record.seq % 5, payload_of(record.seq))
            assert (record.ts_ns, record.kind, record.source, record.payload) == expected
            assert found == last + 1
            last = found
        assert last in (acknowledged, acknowledged + 1), f"round {number}: {acknowledged} appended, {last} found"
        if number % 10 == 9:
            assert (report := verify(path)).ok, report
    Journal.open(path, **SMALL).close()
    assert_filled(path, last)
    report = verify(path)
    assert report.ok and report.last_seq == last > 100


# --- tamper ---


def stored_blocks(path: Path) -> Iterator[tuple[str, bytes, bytes]]:
    with lmdb.open(str(path), max_dbs=4, readonly=True) as env:
        for name in ("tape", "ledger"):
            with env.begin(db=env.open_db(name.encode(), create=False)) as txn:
                for key, value in txn.cursor():
                    yield name, key, value


def replace_block(path: Path, name: str, key: bytes, value: bytes | None) -> None:
    with lmdb.open(str(path), max_dbs=4) as env, env.begin(write=True, db=env.open_db(name.encode())) as txn:
        assert txn.delete(key) if value is None else txn.put(key, value)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A closed journal of one segment with a few blocks, 60 records."""
    path = tmp_path / "s"
    journal = Journal.open(path, **SMALL)
    for start in range(1, 61, 10):
        fill(journal, 10, start)
        assert journal.wait_durable(start + 9, TIMEOUT_S)
    journal.close()
    return path


def test_every_changed_byte_of_a_block_is_found_and_named(small: Path) -> None:
    segment = small / "seg-00000001"
    listed = list(stored_blocks(segment))
    name, key, value = listed[len(listed) // 2]
    records = rings.parse(value, blocks.BLOCK_HEADER_BYTES)
    batch = blocks.unpack_block_header(value).batch_last_seq
    first_of_batch = min(
        header.first_seq
        for header in (blocks.unpack_block_header(other) for _, _, other in listed)
        if header.batch_last_seq == batch
    )
    rng = random.Random(6)
    for offset in sorted({*range(0, blocks.BLOCK_HEADER_BYTES, 3), *rng.sample(range(len(value)), 40)}):
        damaged = bytearray(value)
        damaged[offset] ^= 1 << rng.randrange(8)
        replace_block(segment, name, key, bytes(damaged))
        report = verify(small)
        assert not report.ok, offset
        if offset < blocks.BLOCK_HEADER_BYTES:
            assert first_of_batch <= report.bad_seq <= records[0][0], (offset, report)
        else:
            at = blocks.BLOCK_HEADER_BYTES
            expected = 0
            for seq, _, _, _, payload in records:
                at += 32 + (len(payload) + 7) // 8 * 8
                if offset < at:
                    expected = seq
                    break
            assert report.bad_seq in (expected, records[0][0]), (offset, report)
    replace_block(segment, name, key, value)
    assert verify(small).ok


def test_removed_swapped_and_inserted_blocks_are_found(small: Path) -> None:
    segment = small / "seg-00000001"
    listed = [item for item in stored_blocks(segment) if item[0] == "tape"]
    (name, key, value), (_, key2, value2) = listed[1], listed[2]
    replace_block(segment, name, key, None)
    assert 0 < verify(small).bad_seq <= blocks.seq_of(key)
    replace_block(segment, name, key, value2)
    replace_block(segment, name, key2, value)
    assert 0 < verify(small).bad_seq <= blocks.seq_of(key)
    replace_block(segment, name, key, value)
    replace_block(segment, name, key2, value2)
    assert verify(small).ok
    replace_block(segment, name, blocks.key_of(1000), value2)
    assert verify(small).bad_seq > 0


def test_cut_end_is_found_with_a_head_that_was_kept_elsewhere(small: Path) -> None:
    head = verify(small).head
    assert head.startswith("60:") and verify(small, head).ok
    segment = small / "seg-00000001"
    for name, key, value in list(stored_blocks(segment)):
        if blocks.unpack_block_header(value).batch_last_seq == 60:
            replace_block(segment, name, key, None)
    report = verify(small)
    assert report.ok and report.last_seq < 60
    cut = verify(small, head)
    assert not cut.ok and cut.bad_seq == report.last_seq + 1 and "head kept elsewhere" in cut.problem


def test_older_head_stays_valid_while_the_journal_grows(small: Path) -> None:
    head = verify(small).head
    in_child(small, count=40, then_close=True)
    assert verify(small, head).ok and verify(small).last_seq == 100
    forged = head[:-1] + ("0" if head[-1] != "0" else "1")
    assert not verify(small, forged).ok


def test_changed_segment_header_is_found(filled: Path) -> None:
    second = segment_paths(filled)[1]
    rewrite_segment_header(second, {16: struct.pack("<q", 1)})
    report = verify(filled)
    with journal_read.SegmentReader(second) as reader:
        assert not report.ok and report.bad_seq == reader.header.first_seq


def test_truncated_file_is_named_and_kills_nobody(filled: Path) -> None:
    second = segment_paths(filled)[1]
    with journal_read.SegmentReader(second) as reader:
        first_seq = reader.header.first_seq
    with (second / "data.mdb").open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) // 2)
    report = verify(filled)
    assert not report.ok and report.bad_seq == first_seq and "truncated" in report.problem
    with pytest.raises(JournalError, match="truncated"):
        list(read_records(filled))


def test_missing_segment_is_named(filled: Path) -> None:
    shutil.rmtree(segment_paths(filled)[1])
    for attempt in (lambda: verify(filled), lambda: Journal.open(filled, **SMALL)):
        with pytest.raises(JournalError, match="segment 2 is missing"):
            attempt()


@pytest.mark.slow
def test_any_damaged_page_ends_in_a_report_and_never_kills_the_caller(small: Path) -> None:
    data = small / "seg-00000001" / "data.mdb"
    original = data.read_bytes()
    head = verify(small).head
    rng = random.Random(11)
    found = 0
    for _ in range(500):
        damaged = bytearray(original)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        data.write_bytes(damaged)
        try:
            report = verify(small, head)
        except JournalError:
            found += 1
            continue
        found += not report.ok
        # What passes has hit bytes that carry nothing: every record is still there, under the same head.
        assert not report.ok or (report.records, report.head) == (60, head)
    assert found > 20
