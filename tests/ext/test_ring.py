"""The ring of journal records: bytes, wrap, refusal, readers, and what is left after SIGKILL."""

from __future__ import annotations

import gc
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

import google_crc32c
import pytest

from engine.journal_read import Record
from engine.records import LEDGER_BASE
from ext import ring as rings
from ext.ring import Ring, RingReader, check, crc32c, parse

SMALL = 1 << 16


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path / "ring", SMALL)


def payloads(seed: int, count: int, largest: int = 400) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.randrange(largest)) for _ in range(count)]


@pytest.mark.parametrize("portable", [False, True])
def test_crc_equals_an_independent_implementation(portable: bool) -> None:
    rng = random.Random(1)
    for size in [*range(70), 127, 128, 129, 560, 4095, 65536]:
        payload = rng.randbytes(size)
        assert crc32c(payload, portable) == google_crc32c.value(payload), size


def test_stream_border_is_the_one_of_the_records() -> None:
    assert rings.FIRST_LEDGER_KIND == LEDGER_BASE


def test_record_bytes_are_those_of_the_format_page(ring: Ring) -> None:
    payload = b'{"e":"trade"}'
    assert ring.append(1, 0x0102, -5, payload) == 1
    raw = ring.drain()
    size, crc, seq, ts_ns, kind, flags, source = struct.unpack_from("<IIQqHHI", raw)
    assert (size, seq, ts_ns, kind, flags, source) == (32 + len(payload), 1, -5, 1, 0, 0x0102)
    assert raw[32:] == payload + bytes(3)
    assert crc == google_crc32c.value(raw[:4] + raw[8:size])


def test_records_come_back_in_order_through_many_wraps(ring: Ring) -> None:
    for seq, payload in enumerate(payloads(2, 5000), 1):
        assert ring.append(seq % 100, seq % 7, seq * 3, payload) == seq
        if seq % 37 == 0:
            records = parse(ring.drain())
            assert [record[0] for record in records] == list(range(seq - 36, seq + 1))
            assert records[-1] == (seq, seq * 3, seq % 100, seq % 7, payload)
    assert ring.free_bytes < SMALL and ring.high_water == 0


def test_full_ring_refuses_counts_and_keeps_what_it_has(ring: Ring) -> None:
    written = 0
    while ring.append(1, 0, 0, bytes(100)) > 0:
        written += 1
    assert ring.append(1, 0, 0, bytes(100)) == rings.FULL and ring.refused == 2
    assert ring.free_bytes < 200 and ring.next_seq == written + 1
    assert [record[0] for record in parse(ring.drain(1 << 30))] == list(range(1, written + 1))
    assert ring.append(1, 0, 0, b"") == written + 1


def test_record_larger_than_a_quarter_of_the_ring_is_refused(ring: Ring) -> None:
    assert ring.append(1, 0, 0, bytes(ring.max_payload)) == 1
    assert ring.append(1, 0, 0, bytes(ring.max_payload + 1)) == rings.TOO_BIG
    assert ring.refused == 1


def test_drain_takes_at_most_what_was_asked_but_one_record_at_least(ring: Ring) -> None:
    for _ in range(10):
        ring.append(1, 0, 0, bytes(96))
    assert len(parse(ring.drain(3 * 128))) == 3
    assert len(parse(ring.drain(1))) == 1


def test_split_sorts_records_into_streams_and_frees_nothing(ring: Ring) -> None:
    for kind in (1, 64, 2, 3, 89):
        ring.append(kind, 0, 0, bytes([kind]))
    tape, ledger = bytearray(1000), bytearray(1000)
    for _ in range(2):
        count, first, last, end, tape_part, ledger_part, needed = ring.split(tape, ledger, 8, 1 << 20)
        assert (count, first, last, needed) == (5, 1, 5, 0)
        assert tape_part == (3, 1, 4, 3 * 40) and ledger_part == (2, 2, 5, 2 * 40)
        assert [record[2] for record in parse(bytes(tape[8 : 8 + 120]))] == [1, 2, 3]
        assert [record[2] for record in parse(bytes(ledger[8 : 8 + 80]))] == [64, 89]
    ring.release(end, last + 1)
    assert ring.split(tape, ledger, 8, 1 << 20)[0] == 0 and ring.tail_seq == 6 and ring.high_water == 200


def test_split_names_the_size_of_a_record_that_does_not_fit(ring: Ring) -> None:
    ring.append(1, 0, 0, bytes(2000))
    assert ring.split(bytearray(100), bytearray(100), 0, 1 << 20)[-1] == 2032


def test_split_finds_overwritten_memory(ring: Ring, tmp_path: Path) -> None:
    ring.append(1, 0, 0, bytes(100))
    ring.append(1, 0, 0, bytes(100))
    with (tmp_path / "ring").open("r+b") as file:
        file.seek(4096 + 136 + 50)
        file.write(b"x")
    count, *_ = ring.split(bytearray(1000), bytearray(1000), 0, 1 << 20)
    assert count == rings.CORRUPT


def test_reopened_ring_goes_on_where_it_was(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", SMALL)
    for payload in payloads(3, 100):
        ring.append(1, 0, 0, payload)
    ring_id = ring.ring_id
    ring.close()
    assert ring.append(1, 0, 0, b"") == rings.CLOSED and ring.free_bytes == 0
    again = Ring(tmp_path / "ring", SMALL)
    assert (again.ring_id, again.next_seq, again.append(1, 0, 0, b"")) == (ring_id, 101, 101)
    assert [record[4] for record in parse(again.drain(1 << 30))] == [*payloads(3, 100), b""]


def test_seek_keeps_what_lies_behind_the_given_place(ring: Ring) -> None:
    for payload in payloads(4, 10):
        ring.append(1, 0, 0, payload)
    tape = bytearray(1 << 14)
    _, _, last, end, *_ = ring.split(tape, tape, 0, 800)
    ring.release(ring.head_position, 11)
    ring.seek(end, last + 1)
    assert [record[0] for record in parse(ring.drain())] == list(range(last + 1, 11))


def test_stale_record_of_an_earlier_round_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", SMALL)
    for _ in range(3 * SMALL // 128):
        assert ring.append(1, 0, 0, bytes(96)) > 0
        ring.drain()
    ring.close()
    again = Ring(tmp_path / "ring", SMALL)
    assert again.next_seq == 3 * SMALL // 128 + 1 and again.drain() == b""


@pytest.mark.parametrize(
    ("offset", "content", "words"),
    [(0, b"x", "magic"), (8, b"\x02", "format 2"), (16, b"\x00\x00\x02", "capacity"), (None, b"", "no ring: 10 bytes")],
)
def test_file_that_is_no_ring_of_ours_is_refused(
    tmp_path: Path, offset: int | None, content: bytes, words: str
) -> None:
    path = tmp_path / "ring"
    Ring(path, SMALL).close()
    with path.open("r+b") as file:
        if offset is None:
            file.truncate(10)
        else:
            file.seek(offset)
            file.write(content)
    with pytest.raises(ValueError, match=words):
        Ring(path, SMALL)


def test_ring_file_is_for_its_owner_only(ring: Ring, tmp_path: Path) -> None:
    assert (tmp_path / "ring").stat().st_mode & 0o777 == 0o600


def test_reader_follows_and_is_told_when_it_was_too_slow(ring: Ring, tmp_path: Path) -> None:
    reader = Ring.open_reader(tmp_path / "ring")
    position, seq = reader.tail
    for round_ in range(50):
        for _ in range(10):
            ring.append(1, 0, round_, b"abc")
        taken = reader.read(position, seq)
        assert taken is not None
        raw, position, seq = taken
        assert [record[1] for record in parse(raw)] == [round_] * 10
        ring.drain()
    assert reader.read(position, seq) == (b"", position, seq)
    assert reader.read(0, 1) is None, "records that the producer may overwrite must not be handed out"


def test_reader_refuses_a_file_that_is_no_ring(tmp_path: Path) -> None:
    (tmp_path / "ring").write_bytes(bytes(5000))
    with pytest.raises(ValueError, match="magic"):
        RingReader(tmp_path / "ring")


def test_check_finds_every_flipped_bit(ring: Ring) -> None:
    for payload in payloads(5, 4, 40):
        ring.append(1, 0, 7, payload)
    raw = ring.drain()
    sizes = [32 + len(payload) for payload in payloads(5, 4, 40)]
    assert check(raw) == (4, 1, 4, -1)
    start = 0
    for number, size in enumerate(sizes):
        for bit in range(size * 8):
            damaged = bytearray(raw)
            damaged[start + bit // 8] ^= 1 << bit % 8
            assert check(bytes(damaged))[3] == start, (number, bit)
        start += (size + 7) // 8 * 8


def test_check_and_parse_stop_at_every_truncation(ring: Ring) -> None:
    ring.append(1, 0, 7, b"hello")
    raw = ring.drain()
    for size in range(1, len(raw)):
        assert check(raw[:size]) == (0, 0, 0, 0)
        with pytest.raises(ValueError, match="offset 0"):
            parse(raw[:size])


def test_parse_makes_named_tuples_that_are_whole_objects(ring: Ring) -> None:
    for payload in payloads(6, 200):
        ring.append(1, 3, 2**40, payload)
    raw = ring.drain(1 << 30)
    found = parse(raw, 0, 101, Record)
    gc.collect()
    assert [record.seq for record in found] == list(range(101, 201))
    assert found[0] == Record(101, 2**40, 1, 3, payloads(6, 200)[100]) and type(found[0]) is Record
    assert hash(found[0]) == hash(tuple(found[0])) and sys.getrefcount(found[1].payload) <= 3
    with pytest.raises(TypeError, match="NamedTuple"):
        parse(raw, 0, 0, list)  # type: ignore[type-var]


def kill_and_count(path: Path, delay_s: float, largest: int) -> tuple[int, int]:
    """Last sequence that a killed child had got back from append, and the one that a scan finds."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        ring = Ring(path, SMALL)
        record = os.pwrite
        acknowledged = os.open(path.with_suffix(".ack"), os.O_RDWR | os.O_CREAT)
        os.write(send, b"go")
        number = 0
        while True:
            number += 1
            seq = ring.append(1, 0, number, bytes([seq_byte(number)]) * (number * 7 % largest))
            record(acknowledged, seq.to_bytes(8, "little"), 0)
            if number % 50 == 0:
                ring.drain(1 << 30)
    os.close(send)
    assert os.read(receive, 2) == b"go"
    os.close(receive)
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    acknowledged = int.from_bytes(path.with_suffix(".ack").read_bytes(), "little")
    ring = Ring(path, SMALL)
    found = ring.next_seq - 1
    for seq, ts_ns, _, _, payload in parse(ring.drain(1 << 30)):
        assert seq == ts_ns and payload == bytes([seq_byte(seq)]) * (seq * 7 % largest)
    ring.close()
    return acknowledged, found


def seq_byte(seq: int) -> int:
    return seq * 31 & 0xFF


@pytest.mark.parametrize("rounds", [30, pytest.param(500, marks=pytest.mark.slow)])
def test_no_appended_record_is_lost_when_the_process_is_killed(tmp_path: Path, rounds: int) -> None:
    rng = random.Random(rounds)
    for number in range(rounds):
        acknowledged, found = kill_and_count(tmp_path / f"ring{number}", rng.random() * 0.004, 700)
        assert found in (acknowledged, acknowledged + 1), f"round {number}: {acknowledged} appended, {found} found"
        for path in tmp_path.iterdir():
            path.unlink()
