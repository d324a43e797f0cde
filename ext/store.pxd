# The journal's writer: ring -> blocks -> LMDB, one nogil loop. Bytes: engine/JOURNAL_FORMAT.md.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ext.ring cimport Ring, split_t

cdef enum store_code_t:
    STORE_IDLE = 0
    STORE_STORED = 1
    STORE_FULL_BATCH = 2    # stored, and there is probably more
    STORE_ROLL = 3          # the segment has no room for the next batch: nothing was stored
    STORE_STOPPED = 4
    STORE_FAILED = -1       # LMDB refused; see error
    STORE_CORRUPT = -2      # a ring record does not check

cdef enum:
    BLOCK_HEADER_BYTES = 152


cdef struct block_header_t:
    uint8_t magic[4]
    uint16_t format
    uint8_t stream
    uint8_t flags
    uint64_t block_no
    uint64_t first_seq
    uint64_t last_seq
    uint32_t record_count
    uint32_t body_bytes
    uint32_t epoch
    uint32_t zero
    uint64_t ring_id
    uint64_t ring_pos
    uint64_t batch_last_seq
    int64_t utc_ns
    uint8_t prev_hash[32]
    uint8_t body_hash[32]
    uint32_t crc
    uint32_t zero2


cdef class BlockStore:
    cdef Ring ring
    cdef void* env
    cdef unsigned int dbis[2]
    cdef char* tape            # room for a block: header and records
    cdef char* ledger
    cdef uint64_t room         # of the records of one block
    cdef uint64_t batch_bytes
    cdef uint64_t roll_bytes   # used bytes of the map from which the segment is full
    cdef int64_t pause_ns
    cdef int use_ni
    cdef int32_t kicked        # futex: someone wants a commit now
    cdef int32_t is_stopping
    cdef int32_t commits       # futex: changes with every commit, and when the writer gives up
    cdef int32_t error
    cdef int32_t dead_readers_value
    cdef int32_t has_given_up
    cdef uint32_t epoch_value
    cdef uint64_t durable      # last durable sequence
    cdef uint64_t block_no_value
    cdef uint8_t chain[32]

    cdef int _put_block(self, void* txn, int stream, char* block, const split_t* batch, int flags) noexcept nogil
    cdef int _commit_batch(self, int flags) noexcept nogil
    cdef int _run(self) noexcept nogil
    cdef void _wake_writer(self) noexcept nogil
