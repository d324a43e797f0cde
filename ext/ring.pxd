# A mapped ring of journal records: one producer, one consumer, readers that may look on. Layout and rules: ring.pyx.
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t


cdef enum ring_code_t:
    RING_FULL = -1     # no room until the consumer moves on
    RING_TOO_BIG = -2  # the payload is larger than max_payload
    RING_CLOSED = -3
    RING_CORRUPT = -4  # a record between tail and head does not check: memory was overwritten

cdef enum:
    RECORD_HEADER_BYTES = 32
    LEDGER_KIND = 64   # kinds from here on belong to the ledger, below it to the tape (engine/records.py)


cdef struct record_t:
    uint32_t size      # header and payload without padding; 0: no record here (yet)
    uint32_t crc       # CRC-32C over `size` and everything from `seq` to the end of the payload
    uint64_t seq
    int64_t ts_ns
    uint16_t kind
    uint16_t flags
    uint32_t source


cdef struct ring_header_t:
    # Fixed at creation.
    uint64_t magic
    uint32_t format
    uint32_t header_bytes
    uint64_t capacity      # bytes, a power of two
    uint64_t ring_id       # random; blocks in the store name the ring they were drained from
    uint64_t start_seq     # seq of the record at position 0
    uint64_t reserved[3]
    # Producer's cache line. Positions count bytes since creation and never wrap; offset = position & (capacity - 1).
    uint64_t head
    uint64_t next_seq
    uint64_t refused_full
    uint64_t refused_size
    uint64_t producer_pad[4]
    # Consumer's cache line.
    uint64_t tail          # everything before it is durable elsewhere and may be overwritten
    uint64_t tail_seq      # seq of the record at tail
    uint64_t high_water    # most bytes ever seen waiting
    uint64_t consumer_pad[5]


cdef struct split_t:
    # What one call of split_c moved: whole records from tail on, sorted into the two streams.
    uint64_t first_seq
    uint64_t last_seq
    uint64_t end           # position after the last record
    uint64_t tape_bytes
    uint64_t ledger_bytes
    uint64_t tape_first
    uint64_t tape_last
    uint64_t ledger_first
    uint64_t ledger_last
    uint32_t tape_count
    uint32_t ledger_count
    uint64_t needed        # > 0: the next record alone does not fit into `room`


cdef int64_t record_check(const char* at, uint64_t room, uint64_t seq) noexcept nogil


cdef class Ring:
    cdef readonly str path
    cdef char* base            # the mapping; NULL when closed
    cdef char* records         # base + header
    cdef ring_header_t* header
    cdef uint64_t capacity
    cdef uint64_t mask
    cdef uint64_t max_size     # header and payload
    cdef uint64_t head         # the producer's own copies: it never reads the mapped ones
    cdef uint64_t next_seq_value
    cdef uint64_t tail_seen    # last tail the producer looked at; refreshed only when the ring looks full
    cdef int fd

    cdef int64_t append_c(
        self, int kind, int source, int64_t ts_ns, const char* payload, Py_ssize_t size
    ) noexcept nogil
    cdef int split_c(self, char* tape, char* ledger, uint64_t room, uint64_t max_bytes, split_t* out) noexcept nogil
    cdef void release_c(self, uint64_t end, uint64_t next_seq) noexcept nogil
    cdef void _scan_head(self) noexcept


cdef class RingReader:
    cdef readonly str path
    cdef char* base
    cdef char* records
    cdef ring_header_t* header
    cdef uint64_t capacity
