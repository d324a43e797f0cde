# The levels of one book as a C struct: a moving tick window a side and what lies outside. No Python object in it.
from libc.stdint cimport int32_t, int64_t, uint64_t

from ext.message cimport level_t


cdef extern from "native/bits.h" nogil:
    uint64_t offset_above(int64_t px, int64_t base) noexcept
    int64_t px_at(int64_t base, uint64_t slot, uint64_t mask) noexcept
    int64_t add_wrap(int64_t a, int64_t b) noexcept
    int64_t sub_wrap(int64_t a, int64_t b) noexcept
    int64_t middle(int64_t a, int64_t b) noexcept
    int lowest_bit(uint64_t word) noexcept
    int highest_bit(uint64_t word) noexcept
    uint64_t bit(uint64_t position) noexcept
    uint64_t bits_below(uint64_t position) noexcept
    uint64_t bits_above(uint64_t position) noexcept

cdef enum:
    BOOK_OK = 0
    BOOK_NO_MEMORY = -1  # overflow could not grow: the book is invalid until the next snapshot

cdef int64_t NO_PX
cdef int64_t PX_LIMIT  # prices and sums beyond it are refused

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

cdef int ladder_allocate(book_t* book, int window_bits) except -1
cdef void ladder_free(book_t* book) noexcept nogil
cdef int book_apply(
    book_t* book, const level_t* bids, int32_t bid_count, const level_t* asks, int32_t ask_count, bint is_snapshot
) noexcept nogil
cdef void book_trim(book_t* book, int32_t max_depth) noexcept nogil
cdef void book_clear(book_t* book) noexcept nogil


cdef inline bint book_is_crossed(const book_t* book) noexcept nogil:
    return book.bids.best_qty != 0 and book.asks.best_qty != 0 and book.bids.best_px >= book.asks.best_px


# Both searches are cyclic and need a level in the window (near_count > 0). All levels lie within one turn of the ring,
# so going down from the old best bid the first bit found is the next lower price, and likewise upwards.

cdef inline uint64_t find_down(const book_t* book, const side_t* side, uint64_t slot) noexcept nogil:
    cdef uint64_t word = slot >> 6
    cdef uint64_t found = side.words[word] & (bits_below(slot) | bit(slot))
    cdef uint64_t group
    cdef int32_t _
    if found != 0:
        return (word << 6) | <uint64_t>highest_bit(found)
    group = word >> 6
    found = side.summary[group] & bits_below(word)
    for _ in range(book.summary_count + 1):
        if found != 0:
            word = (group << 6) | <uint64_t>highest_bit(found)
            return (word << 6) | <uint64_t>highest_bit(side.words[word])
        group = group - 1 if group != 0 else <uint64_t>book.summary_count - 1
        found = side.summary[group]
    return slot


cdef inline uint64_t find_up(const book_t* book, const side_t* side, uint64_t slot) noexcept nogil:
    cdef uint64_t word = slot >> 6
    cdef uint64_t found = side.words[word] & (bits_above(slot) | bit(slot))
    cdef uint64_t group
    cdef int32_t _
    if found != 0:
        return (word << 6) | <uint64_t>lowest_bit(found)
    group = word >> 6
    found = side.summary[group] & bits_above(word)
    for _ in range(book.summary_count + 1):
        if found != 0:
            word = (group << 6) | <uint64_t>lowest_bit(found)
            return (word << 6) | <uint64_t>lowest_bit(side.words[word])
        group = group + 1 if group + 1 < <uint64_t>book.summary_count else 0
        found = side.summary[group]
    return slot


cdef inline int64_t near_highest(const book_t* book, const side_t* side) noexcept nogil:
    return px_at(book.base, find_down(book, side, <uint64_t>sub_wrap(book.base, 1) & book.mask), book.mask)


cdef inline int64_t near_lowest(const book_t* book, const side_t* side) noexcept nogil:
    return px_at(book.base, find_up(book, side, <uint64_t>book.base & book.mask), book.mask)


cdef inline bint is_near(const book_t* book, int64_t px) noexcept nogil:
    return offset_above(px, book.base) <= book.mask
