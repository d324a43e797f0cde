# The venues' rules for applying depth messages in order, over the C book.
from libc.stdint cimport int32_t, int64_t

from ext.book cimport Book
from ext.decode cimport Decoder
from ext.ladder cimport book_t
from ext.message cimport md_msg_t

cdef enum sequence_rule_t:
    SEQ_BINANCE_SPOT = 1
    SEQ_BINANCE_USDM = 2
    SEQ_BYBIT = 3

cdef enum outcome_t:
    OUTCOME_OTHER = 0  # not market data, or of an instrument that has no book here
    OUTCOME_APPLIED = 1
    OUTCOME_SNAPSHOT = 2
    OUTCOME_STALE = 3
    OUTCOME_BBO = 4
    OUTCOME_TRADE = 5
    OUTCOME_REPEAT = 6
    OUTCOME_UNSYNCED = 7
    OUTCOME_GAP = -100
    OUTCOME_CROSSED = -101
    OUTCOME_NO_MEMORY = -102

cdef struct sequence_t:
    book_t* book
    int32_t rule
    int32_t max_depth  # levels a side that the feed keeps; 0: all
    int32_t is_bridged  # Binance: a delta has joined the snapshot
    int32_t crossed_in_row
    int64_t applied_count  # snapshots of the stream and repeats included, REST snapshots not
    int64_t snapshot_count
    int64_t stale_count
    int64_t repeat_count
    int64_t unsynced_count
    int64_t gap_count
    int64_t crossed_count  # messages that left the book crossed

cdef int sequence_on_depth(sequence_t* seq, const md_msg_t* msg, int64_t recv_ts_ns) noexcept nogil
cdef int sequence_on_rest_snapshot(sequence_t* seq, const md_msg_t* msg, int64_t recv_ts_ns) noexcept nogil


cdef class SequencedBook:
    cdef sequence_t seq
    cdef readonly Book book


cdef class Feed:
    cdef readonly Decoder decoder
    cdef readonly int32_t slot  # of the last message; -1: none
    cdef readonly int64_t unknown_count  # market data of instruments that have no book here
    cdef sequence_t** sequences  # by slot; NULL: none
    cdef int32_t slot_count
    cdef list books

    cdef int grow(self, int32_t count) except -1

    cdef int on_frame_c(self, const char* p, Py_ssize_t n, int64_t recv_ts_ns) noexcept nogil
