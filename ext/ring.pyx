"""The journal's first stop: a ring of records in mapped memory that outlives the process.

Owns the bytes of a record and of the ring file. Must never wait: a full ring is the code RING_FULL, counted, and the
engine is told before by `free_bytes`. One thread appends, one thread (the journal's writer) drains; any process may
look on through RingReader.

A record is 32 bytes of header (record_t) and the payload, padded to 8. The first 8 bytes (size and CRC) are written
last, with the ordering of a release; the 8 bytes after the record are zeroed before that. So after SIGKILL at any
instruction a scan from a known position finds every record whose append returned, perhaps one more that was whole,
and then a zero. CRC and sequence are checked too: they tell a page that a power cut left old from a record.

The data area is mapped twice in a row, so a record that wraps is contiguous. Little-endian hosts only.
"""

import os
import secrets

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from "native/crc32c.h":
    int crc32c_hw
    void crc32c_setup() noexcept nogil
    uint32_t crc32c_extend(uint32_t crc, const void* at, size_t size) noexcept nogil
    uint32_t crc32c_soft(uint32_t crc, const unsigned char* at, size_t size) noexcept nogil
    uint32_t crc32c_copy(uint32_t crc, void* to, const void* source, size_t size) noexcept nogil

cdef extern from "native/atomics.h":
    uint64_t load_acquire_u64(const uint64_t* at) noexcept nogil
    void store_release_u64(uint64_t* at, uint64_t value) noexcept nogil
    void fence_acquire() noexcept nogil

cdef extern from "native/mapping.h":
    char* map_mirrored(int fd, size_t header_bytes, size_t capacity, bint writable) noexcept nogil
    void unmap_mirrored(char* base, size_t header_bytes, size_t capacity) noexcept nogil
    void touch_for_writing(char* base, size_t length) noexcept nogil

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        pass
    object PyType_GenericAlloc(PyTypeObject* type_, Py_ssize_t items)

cdef enum:
    HEADER_BYTES = 4096
    FORMAT = 1
    MIN_CAPACITY = 65536

cdef uint64_t MAGIC = 0x31474E4952575454  # "TTWRING1"

CODES: dict[int, str] = {
    RING_FULL: "ring full", RING_TOO_BIG: "record too big", RING_CLOSED: "ring closed", RING_CORRUPT: "ring corrupt",
}
RECORD_BYTES = RECORD_HEADER_BYTES
FIRST_LEDGER_KIND = LEDGER_KIND
FULL, TOO_BIG, CLOSED, CORRUPT = RING_FULL, RING_TOO_BIG, RING_CLOSED, RING_CORRUPT

assert sizeof(record_t) == RECORD_HEADER_BYTES and sizeof(ring_header_t) == 192
crc32c_setup()


def crc32c(payload: bytes, portable: bool = False) -> int:
    """CRC-32C of the bytes; `portable` forces the table form, so that both can be tested on one machine."""
    cdef const char* at = PyBytes_AS_STRING(payload)
    cdef size_t size = PyBytes_GET_SIZE(payload)
    cdef uint32_t crc = 0xFFFFFFFF
    crc = crc32c_soft(crc, <const unsigned char*> at, size) if portable else crc32c_extend(crc, at, size)
    return crc ^ 0xFFFFFFFF


cdef inline uint64_t padded(uint64_t size) noexcept nogil:
    return (size + 7) & ~<uint64_t> 7


cdef int64_t record_check(const char* at, uint64_t room, uint64_t seq) noexcept nogil:
    # Bytes that the record at `at` takes with its padding, or 0 when there is no valid record. seq 0: any.
    cdef uint64_t word = load_acquire_u64(<const uint64_t*> at)
    cdef const record_t* record = <const record_t*> at
    cdef uint32_t size = <uint32_t> word
    cdef uint32_t crc
    if size < RECORD_HEADER_BYTES or padded(size) > room:
        return 0
    if seq and record.seq != seq:
        return 0
    crc = crc32c_extend(0xFFFFFFFF, &size, 4)
    crc = crc32c_extend(crc, at + 8, size - 8) ^ <uint32_t> 0xFFFFFFFF
    return <int64_t> padded(size) if crc == <uint32_t> (word >> 32) else 0


@cython.final
cdef class Ring:
    """Open the ring file, or create it (0600, pre-allocated, every page touched).

    `capacity_bytes` is rounded up to a power of two; an existing file of another capacity is refused (ValueError), the
    journal drains it first. `start_seq` is the first sequence of a new file. Cost of append: 16 to 30 ns for 128 bytes.
    """

    def __cinit__(self):
        self.base = NULL
        self.fd = -1

    def __init__(self, path, capacity_bytes: int, start_seq: int = 1) -> None:
        cdef uint64_t capacity = MIN_CAPACITY
        assert start_seq > 0, f"start_seq was {start_seq}, must be positive"
        while capacity < <uint64_t> capacity_bytes:
            capacity *= 2
        self.path = os.fspath(path)
        self.capacity = capacity
        self.mask = capacity - 1
        self.max_size = capacity // 4
        if not os.path.exists(self.path):
            self._create(start_seq)
        self._map()
        self._scan_head()

    def _create(self, start_seq):
        # Under another name first: a crash in here leaves no half-made ring behind.
        cdef ring_header_t header
        memset(&header, 0, sizeof(header))
        header.magic = MAGIC
        header.format = FORMAT
        header.header_bytes = HEADER_BYTES
        header.capacity = self.capacity
        header.ring_id = secrets.randbits(63) | 1
        header.start_seq = header.next_seq = header.tail_seq = start_seq
        draft = f"{self.path}.new"
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, HEADER_BYTES + self.capacity)
            os.pwrite(fd, PyBytes_FromStringAndSize(<char*> &header, sizeof(header)), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(draft, self.path)

    def _map(self):
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            problem = header_problem(fd, self.capacity)
            if problem:
                raise ValueError(f"{self.path}: {problem}")
            self.base = map_mirrored(fd, HEADER_BYTES, self.capacity, True)
            if self.base == NULL:
                raise OSError(f"{self.path}: mmap of {self.capacity} bytes failed")
        finally:
            os.close(fd)
        touch_for_writing(self.base, HEADER_BYTES + 2 * self.capacity)
        self.header = <ring_header_t*> self.base
        self.records = self.base + HEADER_BYTES

    cdef void _scan_head(self) noexcept:
        # The mapped head is only a hint to readers: the last append may have died between its record and that store.
        cdef uint64_t position = self.header.tail
        cdef uint64_t seq = self.header.tail_seq
        cdef uint64_t end = position + self.capacity
        cdef int64_t size
        while position + RECORD_HEADER_BYTES <= end:
            size = record_check(self.records + (position & self.mask), end - position, seq)
            if size == 0:
                break
            position += <uint64_t> size
            seq += 1
        self.head = position
        self.next_seq_value = seq
        self.tail_seen = self.header.tail
        (<uint64_t*> (self.records + (position & self.mask)))[0] = 0
        self.header.next_seq = seq
        store_release_u64(&self.header.head, position)

    def __dealloc__(self):
        if self.base != NULL:
            unmap_mirrored(self.base, HEADER_BYTES, self.capacity)
            self.base = NULL

    @staticmethod
    def open_reader(path):
        """Look at the ring of another process."""
        return RingReader(path)

    def close(self) -> None:
        """Unmap. Appends are answered with RING_CLOSED from here on."""
        if self.base != NULL:
            unmap_mirrored(self.base, HEADER_BYTES, self.capacity)
            self.base = NULL

    cdef int64_t append_c(
        self, int kind, int source, int64_t ts_ns, const char* payload, Py_ssize_t size
    ) noexcept nogil:
        # The sequence given to the record, or a ring_code_t. Producer thread only.
        cdef uint64_t total = <uint64_t> size + RECORD_HEADER_BYTES
        cdef uint64_t used = padded(total)
        cdef char* at
        cdef record_t* record
        cdef uint32_t crc
        cdef uint32_t size32
        cdef uint64_t seq
        if self.base == NULL:
            return RING_CLOSED
        if total > self.max_size:
            self.header.refused_size = self.header.refused_size + 1
            return RING_TOO_BIG
        # 8 bytes more: the zero word behind the record must not touch what is not drained yet.
        if self.head + used + 8 > self.tail_seen + self.capacity:
            self.tail_seen = load_acquire_u64(&self.header.tail)
            if self.head + used + 8 > self.tail_seen + self.capacity:
                self.header.refused_full = self.header.refused_full + 1
                return RING_FULL
        at = self.records + (self.head & self.mask)
        record = <record_t*> at
        seq = self.next_seq_value
        size32 = <uint32_t> total
        record.seq = seq
        record.ts_ns = ts_ns
        record.kind = <uint16_t> kind
        record.flags = 0
        record.source = <uint32_t> source
        if size & 7:
            (<uint64_t*> (at + used - 8))[0] = 0
        crc = crc32c_extend(0xFFFFFFFF, &size32, 4)
        crc = crc32c_extend(crc, at + 8, RECORD_HEADER_BYTES - 8)
        crc = crc32c_copy(crc, at + RECORD_HEADER_BYTES, payload, <size_t> size) ^ <uint32_t> 0xFFFFFFFF
        (<uint64_t*> (at + used))[0] = 0
        store_release_u64(<uint64_t*> at, (<uint64_t> crc) << 32 | size32)
        self.head = self.head + used
        self.next_seq_value = seq + 1
        self.header.next_seq = seq + 1
        store_release_u64(&self.header.head, self.head)
        return <int64_t> seq

    def append(self, kind: int, source: int, ts_ns: int, payload: bytes) -> int:
        """Append one record; its sequence, or a negative code of CODES. Producer thread only."""
        return self.append_c(kind, source, ts_ns, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))

    def append_many(self, kind: int, source: int, ts_ns: int, payload: bytes, count: int) -> int:
        """Append one record `count` times or until the ring refuses; how many. For benchmarks: no Python between."""
        cdef const char* at = PyBytes_AS_STRING(payload)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
        cdef int kind_ = kind
        cdef int source_ = source
        cdef int64_t ts = ts_ns
        cdef int64_t wanted = count
        cdef int64_t done = 0
        with nogil:
            while done < wanted and self.append_c(kind_, source_, ts, at, size) > 0:
                done = done + 1
        return done

    cdef int split_c(self, char* tape, char* ledger, uint64_t room, uint64_t max_bytes, split_t* out) noexcept nogil:
        # Copy whole records from tail on, tape records to `tape`, ledger records to `ledger`; each has `room` bytes.
        # Does not free them: release_c does, once they are durable. Number of records, or RING_CORRUPT.
        cdef uint64_t head = load_acquire_u64(&self.header.head)
        cdef uint64_t position = self.header.tail
        cdef uint64_t seq = self.header.tail_seq
        cdef uint64_t stop
        cdef int64_t size = 0
        cdef const char* at
        memset(out, 0, sizeof(split_t))
        out.first_seq = seq
        out.end = position
        if head - position > self.header.high_water:
            self.header.high_water = head - position
        stop = head if head - position <= max_bytes else position + max_bytes
        while position < stop:
            at = self.records + (position & self.mask)
            size = record_check(at, head - position, seq)
            if size == 0:
                return RING_CORRUPT
            if (<const record_t*> at).kind >= LEDGER_KIND:
                if out.ledger_bytes + <uint64_t> size > room:
                    break
                memcpy(ledger + out.ledger_bytes, at, <size_t> size)
                out.ledger_bytes = out.ledger_bytes + <uint64_t> size
                out.ledger_count = out.ledger_count + 1
                out.ledger_last = seq
                if out.ledger_first == 0:
                    out.ledger_first = seq
            else:
                if out.tape_bytes + <uint64_t> size > room:
                    break
                memcpy(tape + out.tape_bytes, at, <size_t> size)
                out.tape_bytes = out.tape_bytes + <uint64_t> size
                out.tape_count = out.tape_count + 1
                out.tape_last = seq
                if out.tape_first == 0:
                    out.tape_first = seq
            position += <uint64_t> size
            seq += 1
        out.last_seq = seq - 1
        out.end = position
        if position < stop and out.tape_count + out.ledger_count == 0:
            out.needed = <uint64_t> size
        return <int> (out.tape_count + out.ledger_count)

    cdef void release_c(self, uint64_t end, uint64_t next_seq) noexcept nogil:
        # tail_seq first: a reader that sees the new tail then never pairs it with a sequence that is too old.
        self.header.tail_seq = next_seq
        store_release_u64(&self.header.tail, end)

    def split(self, tape: bytearray, ledger: bytearray, offset: int, max_bytes: int) -> tuple:
        """Copy the next records into the two buffers from `offset` on; see split_c.

        Returns (records or RING_CORRUPT, first_seq, last_seq, end, (count, first, last, bytes) of the tape, the same of
        the ledger, needed). Nothing is freed until release(end, last_seq + 1).
        """
        cdef split_t out
        cdef char* tape_at = PyByteArray_AS_STRING(tape) + <Py_ssize_t> offset
        cdef char* ledger_at = PyByteArray_AS_STRING(ledger) + <Py_ssize_t> offset
        cdef uint64_t room = min(PyByteArray_GET_SIZE(tape), PyByteArray_GET_SIZE(ledger)) - <Py_ssize_t> offset
        cdef uint64_t limit = max_bytes
        cdef int count
        self._check_open()
        with nogil:
            count = self.split_c(tape_at, ledger_at, room, limit, &out)
        return (count, out.first_seq, out.last_seq, out.end,
                (out.tape_count, out.tape_first, out.tape_last, out.tape_bytes),
                (out.ledger_count, out.ledger_first, out.ledger_last, out.ledger_bytes), out.needed)

    def drain(self, max_bytes: int = 1048576) -> bytes:
        """Take whole records from the ring: their bytes, to be read with `parse`. They are freed at once."""
        cdef uint64_t head = load_acquire_u64(&self.header.head)
        cdef uint64_t position
        cdef uint64_t start
        cdef uint64_t seq
        cdef int64_t size
        self._check_open()
        start = position = self.header.tail
        seq = self.header.tail_seq
        while position < head:
            size = record_check(self.records + (position & self.mask), head - position, seq)
            if size == 0:
                raise ValueError(f"{self.path}: record {seq} does not check")
            if position > start and position + <uint64_t> size - start > <uint64_t> max_bytes:
                break
            position += <uint64_t> size
            seq += 1
        taken = PyBytes_FromStringAndSize(self.records + (start & self.mask), <Py_ssize_t> (position - start))
        self.release_c(position, seq)
        return taken

    def release(self, end: int, next_seq: int) -> None:
        """Free everything before position `end`; the record there will have (or has) sequence `next_seq`."""
        self._check_open()
        assert self.header.tail <= end <= self.head, f"release to {end}, ring holds {self.header.tail}..{self.head}"
        self.release_c(end, next_seq)

    def seek(self, position: int, seq: int) -> None:
        """Continue from a position that a durable store names, whatever the mapped header says; see recovery.

        Records found there are kept as not yet drained. Only before the first append.
        """
        self._check_open()
        self.header.tail_seq = seq
        self.header.tail = position
        self._scan_head()

    def _check_open(self):
        if self.base == NULL:
            raise ValueError(f"{self.path}: ring is closed")

    @property
    def ring_id(self) -> int:
        self._check_open()
        return self.header.ring_id

    @property
    def start_seq(self) -> int:
        """Sequence of the record at position 0."""
        self._check_open()
        return self.header.start_seq

    @property
    def capacity_bytes(self) -> int:
        return self.capacity

    @property
    def max_payload(self) -> int:
        """Largest payload taken; a quarter of the ring at most, may be set lower."""
        return self.max_size - RECORD_HEADER_BYTES

    @max_payload.setter
    def max_payload(self, value: int) -> None:
        self.max_size = min(<uint64_t> value + RECORD_HEADER_BYTES, self.capacity // 4)

    @property
    def next_seq(self) -> int:
        """Sequence of the next record."""
        return self.next_seq_value

    @property
    def head_position(self) -> int:
        return self.head

    @property
    def tail_position(self) -> int:
        self._check_open()
        return load_acquire_u64(&self.header.tail)

    @property
    def tail_seq(self) -> int:
        """Sequence of the oldest record that is not freed."""
        self._check_open()
        return self.header.tail_seq

    @property
    def free_bytes(self) -> int:
        if self.base == NULL:
            return 0
        return self.capacity - (self.head - load_acquire_u64(&self.header.tail))

    @property
    def high_water(self) -> int:
        """Most bytes that a drain has found waiting."""
        self._check_open()
        return self.header.high_water

    @property
    def refused(self) -> int:
        """Appends answered with RING_FULL or RING_TOO_BIG since the file was created."""
        self._check_open()
        return self.header.refused_full + self.header.refused_size


def header_problem(fd, capacity=0):
    # Empty when the file is a ring of this format (and capacity, unless 0); else what is wrong with it.
    cdef ring_header_t header
    raw = os.pread(fd, sizeof(header), 0)
    if len(raw) < <Py_ssize_t> sizeof(header):
        return f"no ring: {len(raw)} bytes"
    memcpy(&header, PyBytes_AS_STRING(raw), sizeof(header))
    if header.magic != MAGIC:
        return "no ring: wrong magic"
    if header.format != FORMAT or header.header_bytes != HEADER_BYTES:
        return f"ring format {header.format}, this program reads {FORMAT}"
    if os.fstat(fd).st_size < <Py_ssize_t> (HEADER_BYTES + header.capacity):
        return f"truncated to {os.fstat(fd).st_size} bytes, capacity is {header.capacity}"
    if capacity and header.capacity != <uint64_t> capacity:
        return f"capacity is {header.capacity}, asked for {capacity}"
    return ""


def capacity_of(path) -> int:
    """Capacity of the ring in a file; ValueError when it is none."""
    cdef ring_header_t header
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        problem = header_problem(fd)
        if problem:
            raise ValueError(f"{path}: {problem}")
        raw = os.pread(fd, sizeof(header), 0)
    finally:
        os.close(fd)
    memcpy(&header, PyBytes_AS_STRING(raw), sizeof(header))
    return header.capacity


@cython.final
cdef class RingReader:
    """Look at a ring from another process, without its leave: nothing is written, nothing is held up."""

    def __cinit__(self):
        self.base = NULL

    def __init__(self, path) -> None:
        self.path = os.fspath(path)
        self.capacity = capacity_of(self.path)
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.base = map_mirrored(fd, HEADER_BYTES, self.capacity, False)
        finally:
            os.close(fd)
        if self.base == NULL:
            raise OSError(f"{self.path}: mmap failed")
        self.header = <ring_header_t*> self.base
        self.records = self.base + HEADER_BYTES

    def __dealloc__(self):
        if self.base != NULL:
            unmap_mirrored(self.base, HEADER_BYTES, self.capacity)

    @property
    def ring_id(self) -> int:
        return self.header.ring_id

    @property
    def start_seq(self) -> int:
        return self.header.start_seq

    @property
    def capacity_bytes(self) -> int:
        return self.capacity

    @property
    def tail(self) -> tuple[int, int]:
        """Position and sequence from which records are still here (both may move on at any time)."""
        position = load_acquire_u64(&self.header.tail)
        return position, self.header.tail_seq

    def read(self, position: int, seq: int, max_bytes: int = 1048576) -> tuple[bytes, int, int] | None:
        """Whole records from `position` on, the first of sequence `seq` (0: any): (bytes, position, sequence) to go on.

        Empty bytes: nothing there yet. None: they were overwritten meanwhile, they are in the store by now.
        """
        cdef uint64_t start = position
        cdef uint64_t at = start
        cdef uint64_t expected = seq
        cdef uint64_t limit = max(max_bytes, RECORD_HEADER_BYTES)
        cdef int64_t size
        if load_acquire_u64(&self.header.tail) > start:
            return None
        while at - start < limit:
            size = record_check(self.records + (at & (self.capacity - 1)), self.capacity - (at - start), expected)
            if size == 0:
                break
            expected = (<const record_t*> (self.records + (at & (self.capacity - 1)))).seq + 1
            at += <uint64_t> size
        taken = PyBytes_FromStringAndSize(self.records + (start & (self.capacity - 1)), <Py_ssize_t> (at - start))
        # The producer may only overwrite what is before tail: if tail is still not past us, the copy is whole.
        fence_acquire()
        if load_acquire_u64(&self.header.tail) > start:
            return None
        return taken, at, expected


def check(block: bytes, offset: int = 0) -> tuple[int, int, int, int]:
    """Check every record of a run of records: (count, first seq, last seq, offset of the first bad byte or -1)."""
    cdef const char* base = PyBytes_AS_STRING(block)
    cdef uint64_t end = PyBytes_GET_SIZE(block)
    cdef uint64_t at = offset
    cdef uint64_t first = 0
    cdef uint64_t last = 0
    cdef uint64_t count = 0
    cdef int64_t size
    with nogil:
        while at + RECORD_HEADER_BYTES <= end:
            size = record_check(base + at, end - at, 0)
            if size == 0 or (count and (<const record_t*> (base + at)).seq <= last):
                break
            last = (<const record_t*> (base + at)).seq
            if count == 0:
                first = last
            count += 1
            at += <uint64_t> size
    return count, first, last, -1 if at == end else <int64_t> at


cdef inline object item_of(object made, Py_ssize_t index, object value):
    # A new tuple's slot takes its own reference.
    Py_INCREF(value)
    PyTuple_SET_ITEM(made, index, value)


def parse(block: bytes, offset: int = 0, start_seq: int = 0, record_type=tuple) -> list:
    """The records of a run of records as (seq, ts_ns, kind, source, payload), from `start_seq` on.

    `record_type` is tuple or a NamedTuple of those five. Errors: ValueError naming the offset of the first record
    whose CRC does not match. Cost: about 150 ns a record.
    """
    cdef const char* base = PyBytes_AS_STRING(block)
    cdef uint64_t end = PyBytes_GET_SIZE(block)
    cdef uint64_t at = offset
    cdef uint64_t first = start_seq
    cdef const record_t* record
    cdef int64_t size
    cdef list found = []
    cdef object made
    if not (isinstance(record_type, type) and issubclass(record_type, tuple)
            and record_type.__basicsize__ == tuple.__basicsize__):
        raise TypeError(f"record_type must be tuple or a NamedTuple, was {record_type!r}")
    while at < end:
        size = record_check(base + at, end - at, 0) if at + RECORD_HEADER_BYTES <= end else 0
        if size == 0:
            raise ValueError(f"record at offset {at} does not check")
        record = <const record_t*> (base + at)
        if record.seq >= first:
            made = PyType_GenericAlloc(<PyTypeObject*> record_type, 5)
            item_of(made, 0, record.seq)
            item_of(made, 1, record.ts_ns)
            item_of(made, 2, record.kind)
            item_of(made, 3, record.source)
            item_of(made, 4, PyBytes_FromStringAndSize(
                base + at + RECORD_HEADER_BYTES, <Py_ssize_t> record.size - RECORD_HEADER_BYTES))
            found.append(made)
        at += <uint64_t> size
    return found
