"""The journal's writer: take records from the ring, make blocks, commit them to LMDB. It holds no interpreter lock.

With the lock, each of its wake-ups would stop the hot thread for as long as the switch takes (5 ms by default). Rolling
to a new segment is rare and left to Python (engine/journal.py). Default sync flags: a commit that returned is on the
disk. A write transaction begins and ends inside one call, so always on one thread (T13). After a failed commit nothing
is committed any more: a smaller one could succeed on a full disk and leave a hole (T3).
"""

import os

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from ext.ring cimport Ring, split_t

cdef extern from "native/crc32c.h":
    void crc32c_setup() noexcept nogil
    uint32_t crc32c_extend(uint32_t crc, const void* at, size_t size) noexcept nogil

cdef extern from "native/sha256.h":
    const uint32_t SHA256_START[8]
    int sha256_has_ni() noexcept nogil
    void sha256_finish(
        uint32_t* state, const uint8_t* at, size_t size, uint64_t before, int use_ni, uint8_t* out
    ) noexcept nogil

cdef extern from "native/clock.h":
    int64_t monotonic_ns() noexcept nogil
    int64_t utc_ns() noexcept nogil

cdef extern from "native/atomics.h":
    uint64_t load_acquire_u64(const uint64_t* at) noexcept nogil
    void store_release_u64(uint64_t* at, uint64_t value) noexcept nogil
    int32_t load_acquire_i32(const int32_t* at) noexcept nogil
    void store_release_i32(int32_t* at, int32_t value) noexcept nogil

cdef extern from "native/futex.h":
    void futex_wait(int32_t* word, int32_t expected, int64_t timeout_ns) noexcept nogil
    void futex_wake_all(int32_t* word) noexcept nogil
    int32_t exchange_i32(int32_t* at, int32_t value) noexcept nogil
    void add_i32(int32_t* at, int32_t amount) noexcept nogil

cdef extern from "native/lmdb.h":
    ctypedef struct lmdb_val_t:
        size_t size
        void* at
    ctypedef struct lmdb_info_t:
        size_t map_bytes
        size_t last_page
    int lmdb_load(const char* extension) noexcept nogil
    int lmdb_env_create(void** env) noexcept nogil
    int lmdb_env_set_mapsize(void* env, size_t size) noexcept nogil
    int lmdb_env_set_maxdbs(void* env, unsigned int count) noexcept nogil
    int lmdb_env_open(void* env, const char* path, unsigned int flags, unsigned int mode) noexcept nogil
    int lmdb_env_info(void* env, lmdb_info_t* info) noexcept nogil
    void lmdb_env_close(void* env) noexcept nogil
    int lmdb_txn_begin(void* env, void** txn) noexcept nogil
    int lmdb_txn_commit(void* txn) noexcept nogil
    void lmdb_txn_abort(void* txn) noexcept nogil
    int lmdb_dbi_open(void* txn, const char* name, unsigned int* dbi) noexcept nogil
    int lmdb_append(void* txn, unsigned int dbi, lmdb_val_t* key, lmdb_val_t* value) noexcept nogil
    int lmdb_reader_check(void* env, int* dead) noexcept nogil
    const char* lmdb_error_text(int code) noexcept nogil

cdef enum:
    PAGE_BYTES = 4096
    TREE_BYTES = 65536      # what the trees of a batch may take besides its blocks
    TAPE = 1
    LEDGER = 2

cdef int64_t READER_CHECK_NS = 10_000_000_000

IDLE, STORED, ROLL, STOPPED = STORE_IDLE, STORE_STORED, STORE_ROLL, STORE_STOPPED

assert sizeof(block_header_t) == BLOCK_HEADER_BYTES
crc32c_setup()


def load(extension: str) -> None:
    """Find LMDB in py-lmdb's extension module, which must be imported. Errors: ImportError."""
    raw = os.fsencode(extension)
    if lmdb_load(<char*> raw) != 0:
        raise ImportError(f"{extension} exports no mdb09_*: the journal needs lmdb 3.0")


@cython.final
cdef class BlockStore:
    """The writing end of a store. Everything but kick, stop, wait_durable and the properties belongs to one thread.

    Units: `pause_ns` is the time between two commits when records trickle; `batch_bytes` is what one commit takes at
    most (and one record more); `roll_bytes` is the used part of the map that makes a segment full.
    """

    def __cinit__(self):
        self.env = NULL
        self.tape = self.ledger = NULL

    def __init__(self, Ring ring not None, pause_ns: int, batch_bytes: int, roll_bytes: int) -> None:
        self.ring = ring
        self.pause_ns = pause_ns
        self.batch_bytes = batch_bytes
        self.roll_bytes = roll_bytes
        self.room = self.batch_bytes + ring.max_size + 8
        self.use_ni = sha256_has_ni()
        self.kicked = self.is_stopping = self.commits = self.error = self.has_given_up = 0
        self.tape = <char*> malloc(BLOCK_HEADER_BYTES + self.room)
        self.ledger = <char*> malloc(BLOCK_HEADER_BYTES + self.room)
        if self.tape == NULL or self.ledger == NULL:
            raise MemoryError()

    def __dealloc__(self):
        if self.env != NULL:
            lmdb_env_close(self.env)
        free(self.tape)
        free(self.ledger)

    def open_segment(self, path, map_bytes: int) -> None:
        """Open an environment that has its three databases. Errors: OSError with LMDB's words."""
        cdef void* txn = NULL
        cdef int rc
        cdef bytes raw = os.fsencode(path)
        assert self.env == NULL, "the segment before is still open"
        rc = lmdb_env_create(&self.env)
        if rc == 0:
            rc = lmdb_env_set_mapsize(self.env, map_bytes)
        if rc == 0:
            rc = lmdb_env_set_maxdbs(self.env, 4)
        if rc == 0:
            rc = lmdb_env_open(self.env, raw, 0, 0o600)
        if rc == 0:
            rc = lmdb_txn_begin(self.env, &txn)
        if rc == 0:
            rc = lmdb_dbi_open(txn, b"tape", &self.dbis[0])
            if rc == 0:
                rc = lmdb_dbi_open(txn, b"ledger", &self.dbis[1])
            if rc == 0:
                rc = lmdb_txn_commit(txn)
            else:
                lmdb_txn_abort(txn)
        if rc != 0:
            self.close_segment()
            raise OSError(f"{path}: {lmdb_error_text(rc).decode()}")

    def close_segment(self) -> None:
        if self.env != NULL:
            lmdb_env_close(self.env)
            self.env = NULL

    def set_chain(self, link: bytes, block_no: int, last_seq: int, epoch: int) -> None:
        """Where the store ends: hash of the last link, number of the last block, last sequence, restart epoch."""
        assert len(link) == 32, f"link of {len(link)} bytes"
        memcpy(self.chain, <const char*> link, 32)
        self.block_no_value = block_no
        self.durable = last_seq
        self.epoch_value = epoch

    @property
    def link(self) -> bytes:
        return (<const char*> self.chain)[:32]

    @property
    def block_no(self) -> int:
        """Number of the last block."""
        return self.block_no_value

    @property
    def durable_seq(self) -> int:
        return load_acquire_u64(&self.durable)

    @property
    def epoch(self) -> int:
        return self.epoch_value

    @epoch.setter
    def epoch(self, value: int) -> None:
        self.epoch_value = value

    @property
    def commit_count(self) -> int:
        return self.commits

    @property
    def dead_readers(self) -> int:
        """Readers found dead inside a transaction, and cleared."""
        return self.dead_readers_value

    @property
    def failure(self) -> str:
        """Why nothing is stored any more; empty while all is well."""
        if load_acquire_i32(&self.has_given_up) == 0:
            return ""
        if self.error == STORE_CORRUPT:
            return f"ring record {self.durable + 1} or later does not check: memory was overwritten"
        return lmdb_error_text(self.error).decode()

    cdef int _put_block(self, void* txn, int stream, char* block, const split_t* batch, int flags) noexcept nogil:
        # Finish the header in front of the records in `block`, store both, move the chain on.
        cdef block_header_t* header = <block_header_t*> block
        cdef uint32_t state[8]
        cdef uint8_t key_bytes[8]
        cdef lmdb_val_t key
        cdef lmdb_val_t value
        cdef int i
        memset(header, 0, sizeof(block_header_t))
        memcpy(header.magic, b"TWB1", 4)
        header.format = 1
        header.stream = <uint8_t> stream
        header.flags = <uint8_t> flags
        self.block_no_value = self.block_no_value + 1
        header.block_no = self.block_no_value
        if stream == TAPE:
            header.first_seq = batch.tape_first
            header.last_seq = batch.tape_last
            header.record_count = batch.tape_count
            header.body_bytes = <uint32_t> batch.tape_bytes
        else:
            header.first_seq = batch.ledger_first
            header.last_seq = batch.ledger_last
            header.record_count = batch.ledger_count
            header.body_bytes = <uint32_t> batch.ledger_bytes
        header.epoch = self.epoch_value
        header.ring_id = self.ring.header.ring_id
        header.ring_pos = batch.end
        header.batch_last_seq = batch.last_seq
        header.utc_ns = utc_ns()
        memcpy(header.prev_hash, self.chain, 32)
        memcpy(state, SHA256_START, sizeof(state))
        sha256_finish(state, <uint8_t*> block + BLOCK_HEADER_BYTES, header.body_bytes, 0, self.use_ni, header.body_hash)
        header.crc = crc32c_extend(0xFFFFFFFF, header, BLOCK_HEADER_BYTES - 8) ^ <uint32_t> 0xFFFFFFFF
        memcpy(state, SHA256_START, sizeof(state))
        sha256_finish(state, <uint8_t*> block, BLOCK_HEADER_BYTES, 0, self.use_ni, self.chain)
        for i in range(8):  # big-endian: LMDB orders keys by bytes
            key_bytes[i] = <uint8_t> (header.first_seq >> (56 - 8 * i))
        key.size = 8
        key.at = key_bytes
        value.size = BLOCK_HEADER_BYTES + header.body_bytes
        value.at = block
        return lmdb_append(txn, self.dbis[stream - 1], &key, &value)

    cdef int _commit_batch(self, int flags) noexcept nogil:
        cdef split_t batch
        cdef lmdb_info_t info
        cdef void* txn = NULL
        cdef uint64_t size
        cdef int rc
        cdef int count = self.ring.split_c(
            self.tape + BLOCK_HEADER_BYTES, self.ledger + BLOCK_HEADER_BYTES, self.room, self.batch_bytes, &batch
        )
        if count == 0:
            return STORE_IDLE
        if count < 0:
            self.error = STORE_CORRUPT
            return STORE_CORRUPT
        size = batch.tape_bytes + batch.ledger_bytes
        lmdb_env_info(self.env, &info)
        if (<uint64_t> info.last_page + 1) * PAGE_BYTES + size + TREE_BYTES > self.roll_bytes:
            return STORE_ROLL
        rc = lmdb_txn_begin(self.env, &txn)
        if rc == 0:
            if batch.tape_count:
                rc = self._put_block(txn, TAPE, self.tape, &batch, flags)
            if rc == 0 and batch.ledger_count:
                rc = self._put_block(txn, LEDGER, self.ledger, &batch, flags)
            if rc == 0:
                rc = lmdb_txn_commit(txn)
            else:
                lmdb_txn_abort(txn)
        if rc != 0:
            self.error = rc
            return STORE_FAILED
        self.ring.release_c(batch.end, batch.last_seq + 1)
        store_release_u64(&self.durable, batch.last_seq)
        add_i32(&self.commits, 1)
        futex_wake_all(&self.commits)
        return STORE_FULL_BATCH if size >= self.batch_bytes else STORE_STORED

    cdef int _run(self) noexcept nogil:
        cdef int rc
        cdef int dead = 0
        cdef int64_t checked_ns = monotonic_ns()
        while True:
            if monotonic_ns() - checked_ns > READER_CHECK_NS:
                # A reader that was killed inside a transaction pins old pages until its slot is cleared (T6).
                lmdb_reader_check(self.env, &dead)
                self.dead_readers_value = self.dead_readers_value + dead
                checked_ns = monotonic_ns()
            rc = self._commit_batch(0)
            if rc < 0 or rc == STORE_ROLL:
                return rc
            if rc == STORE_FULL_BATCH:
                continue
            if load_acquire_i32(&self.is_stopping):
                if rc == STORE_IDLE:
                    return STORE_STOPPED
                continue
            if exchange_i32(&self.kicked, 0) == 0:
                futex_wait(&self.kicked, 0, self.pause_ns)
                exchange_i32(&self.kicked, 0)

    cdef void _wake_writer(self) noexcept nogil:
        exchange_i32(&self.kicked, 1)
        futex_wake_all(&self.kicked)

    def run(self) -> int:
        """Store what comes until stop() or until something is to be done: STOPPED, ROLL, or a failure (negative)."""
        cdef int rc
        with nogil:
            rc = self._run()
        if rc < 0:
            self.give_up()
        return rc

    def commit_batch(self, flags: int = 0) -> int:
        """Store one batch: STORED (or more), IDLE when there was nothing, ROLL, or a failure (negative)."""
        cdef int rc
        cdef int with_flags = flags
        with nogil:
            rc = self._commit_batch(with_flags)
        if rc < 0:
            self.give_up()
        return rc

    def give_up(self) -> None:
        """Nothing will be stored any more; whoever waits is told."""
        store_release_i32(&self.has_given_up, 1)
        add_i32(&self.commits, 1)
        futex_wake_all(&self.commits)

    def stop(self) -> None:
        """Ask the running thread to store what there is and return."""
        store_release_i32(&self.is_stopping, 1)
        self._wake_writer()

    def kick(self) -> None:
        """Ask for a commit now instead of after the pause."""
        self._wake_writer()

    def wait_durable(self, seq: int, timeout_ns: int) -> bool:
        """Wait until record `seq` is durable. False: not in time, or the writer has given up."""
        cdef uint64_t wanted = seq
        cdef int64_t until
        cdef int64_t left
        cdef int32_t seen
        cdef int64_t limit = timeout_ns
        with nogil:
            until = monotonic_ns() + limit
            while True:
                seen = load_acquire_i32(&self.commits)
                left = until - monotonic_ns()
                if load_acquire_u64(&self.durable) >= wanted or load_acquire_i32(&self.has_given_up) or left <= 0:
                    break
                self._wake_writer()
                futex_wait(&self.commits, seen, left)
        return self.durable >= wanted
