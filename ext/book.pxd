# L2 book of one instrument, for extensions that hold or read one.
from libc.stdint cimport int32_t, int64_t, uint64_t

from ext.ladder cimport book_t
from ext.message cimport level_t

cdef struct cursor_t:
    int64_t near_px
    int32_t near_left
    int32_t far_index

cdef struct walk_t:
    int64_t filled_lots
    int64_t worst_px  # NO_PX when nothing was filled
    int64_t value_high  # sum of px * qty, upper 64 bits of 128
    uint64_t value_low

cdef void book_walk(const book_t* book, int side, int64_t qty_lots, walk_t* walk) noexcept nogil
cdef int64_t book_depth_within(const book_t* book, int side, int64_t px_ticks) noexcept nogil
cdef void cursor_start(const book_t* book, int side, cursor_t* cursor) noexcept nogil
cdef bint cursor_next(const book_t* book, int side, cursor_t* cursor, level_t* level) noexcept nogil


cdef class Book:
    cdef book_t l2  # stays at one address for the life of the object
    cdef int apply_levels(
        self, const level_t* bids, int32_t bid_count, const level_t* asks, int32_t ask_count, bint is_snapshot
    ) noexcept nogil

# (px_ticks, qty_lots) pairs to levels; cold.
cdef int fill_levels(level_t* levels, list pairs) except -1
