# L2 book of one instrument as a C struct, so that other extensions reach it without a Python object.
from libc.stdint cimport int32_t, int64_t, uint64_t

from ext.message cimport level_t

cdef enum:
    BOOK_OK = 0
    BOOK_NO_MEMORY = -1  # overflow could not grow: the book is invalid until the next snapshot

cdef int64_t NO_PX

cdef struct side_t:
    int64_t* qty  # lots by slot (px & mask); 0: no level
    uint64_t* words  # one bit a slot
    uint64_t* summary  # one bit a word
    level_t* far  # levels outside the window, ascending price
    int32_t near_count
    int32_t far_count
    int32_t far_capacity
    int64_t edge  # best price while applying; INT64_MIN (bids) or INT64_MAX (asks) when empty
    int64_t best_px  # ticks; NO_PX when empty
    int64_t best_qty  # lots; 0 when empty

cdef struct book_t:
    side_t bids
    side_t asks
    int64_t base  # lowest tick of the window
    uint64_t mask  # ticks in the window - 1
    int32_t summary_count
    int32_t is_valid
    int64_t exch_ts_ns  # matching engine's time of the last change
    int64_t recv_ts_ns  # our monotonic time of the last message
    int64_t last_seq  # venue's sequence of the last message applied
    int64_t horizon_bid_px  # below it the snapshot told nothing: depth there is a lower bound; NO_PX: none
    int64_t horizon_ask_px
    int64_t recentred_count
    int64_t far_hits  # level updates that fell outside the window
    int64_t far_grow_count
    int64_t bad_level_count  # refused: negative quantity, price beyond 2**62

cdef struct cursor_t:
    int64_t near_px
    int32_t near_left
    int32_t far_index

cdef struct walk_t:
    int64_t filled_lots
    int64_t worst_px  # NO_PX when nothing was filled
    int64_t value_high  # sum of px * qty, upper 64 bits of 128
    uint64_t value_low

cdef int book_apply(
    book_t* book, const level_t* bids, int32_t bid_count, const level_t* asks, int32_t ask_count, bint is_snapshot
) noexcept nogil
cdef void book_trim(book_t* book, int32_t max_depth) noexcept nogil
cdef void book_clear(book_t* book) noexcept nogil
cdef void book_walk(const book_t* book, int side, int64_t qty_lots, walk_t* walk) noexcept nogil
cdef int64_t book_depth_within(const book_t* book, int side, int64_t px_ticks) noexcept nogil
cdef void cursor_start(const book_t* book, int side, cursor_t* cursor) noexcept nogil
cdef bint cursor_next(const book_t* book, int side, cursor_t* cursor, level_t* level) noexcept nogil


cdef inline bint book_is_crossed(const book_t* book) noexcept nogil:
    return book.bids.best_qty != 0 and book.asks.best_qty != 0 and book.bids.best_px >= book.asks.best_px


cdef class Book:
    cdef book_t l2  # stays at one address for the life of the object
    cdef int apply_levels(
        self, const level_t* bids, int32_t bid_count, const level_t* asks, int32_t ask_count, bint is_snapshot
    ) noexcept nogil

# (px_ticks, qty_lots) pairs to levels; cold.
cdef int fill_levels(level_t* levels, list pairs) except -1
