"""L2 book of one instrument: quantities by tick in a window around the mid, a two-level bitmap a side to find the next
best, and a sorted array (`far`) for what lies outside.

A level in the window costs one store and a bit; one outside costs a binary search and a memmove (`far_hits`): widen
the window when that share grows. The window is a ring (slot = px & mask), so it follows the mid by moving only the
levels that enter or leave it. Knows no venue and no sequence rule; ext/sequence decides when a book is valid.

Units: px in ticks, qty in lots, time in ns. Memory is taken at construction; only `far` may double (counted).
Not thread-safe.
"""

cimport cython
from libc.limits cimport INT_MAX
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memmove, memset

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
    void add_product(int64_t* high, uint64_t* low, int64_t a, int64_t b) noexcept

cdef int64_t NO_PX = INT64_MIN
cdef int64_t PX_LIMIT = (<int64_t>1) << 62
cdef int32_t FAR_CAPACITY = 1024


# --- search in the window -----------------------------------------------------------------------------------------
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


cdef inline void mark(side_t* side, uint64_t slot) noexcept nogil:
    side.words[slot >> 6] |= bit(slot)
    side.summary[slot >> 12] |= bit(slot >> 6)


cdef inline void unmark(side_t* side, uint64_t slot) noexcept nogil:
    side.words[slot >> 6] &= ~bit(slot)
    if side.words[slot >> 6] == 0:
        side.summary[slot >> 12] &= ~bit(slot >> 6)


cdef inline int64_t near_highest(const book_t* book, const side_t* side) noexcept nogil:
    return px_at(book.base, find_down(book, side, <uint64_t>sub_wrap(book.base, 1) & book.mask), book.mask)


cdef inline int64_t near_lowest(const book_t* book, const side_t* side) noexcept nogil:
    return px_at(book.base, find_up(book, side, <uint64_t>book.base & book.mask), book.mask)


cdef inline bint is_near(const book_t* book, int64_t px) noexcept nogil:
    return offset_above(px, book.base) <= book.mask


# --- overflow -----------------------------------------------------------------------------------------------------

cdef int32_t far_position(const side_t* side, int64_t px) noexcept nogil:
    """Index of the first overflow level at px or above."""
    cdef int32_t low = 0
    cdef int32_t high = side.far_count
    cdef int32_t at
    while low < high:
        at = (low + high) >> 1
        if side.far[at].px_ticks < px:
            low = at + 1
        else:
            high = at
    return low


cdef bint far_reserve(book_t* book, side_t* side, int32_t extra) noexcept nogil:
    cdef int32_t capacity = side.far_capacity
    cdef level_t* grown
    if side.far_count + extra <= capacity:
        return True
    while capacity < side.far_count + extra:
        if capacity > INT_MAX // 2:
            return False
        capacity *= 2
    grown = <level_t*>realloc(side.far, <size_t>capacity * sizeof(level_t))
    if grown == NULL:
        return False
    side.far = grown
    side.far_capacity = capacity
    book.far_grow_count += 1
    return True


cdef inline void far_remove(side_t* side, int32_t at, int32_t count) noexcept nogil:
    memmove(side.far + at, side.far + at + count, <size_t>(side.far_count - at - count) * sizeof(level_t))
    side.far_count -= count


cdef int far_put(book_t* book, side_t* side, bint is_bid, int64_t px, int64_t qty) noexcept nogil:
    cdef int32_t at
    if px > PX_LIMIT or px < -PX_LIMIT:
        book.bad_level_count += 1
        return BOOK_OK
    book.far_hits += 1
    at = far_position(side, px)
    if at < side.far_count and side.far[at].px_ticks == px:
        if qty != 0:
            side.far[at].qty_lots = qty
            return BOOK_OK
        far_remove(side, at, 1)
        if px == side.edge:
            find_edge(book, side, is_bid, px)
        return BOOK_OK
    if qty == 0:
        return BOOK_OK
    if not far_reserve(book, side, 1):
        return BOOK_NO_MEMORY
    memmove(side.far + at + 1, side.far + at, <size_t>(side.far_count - at) * sizeof(level_t))
    side.far[at].px_ticks = px
    side.far[at].qty_lots = qty
    side.far_count += 1
    if (px > side.edge) if is_bid else (px < side.edge):
        side.edge = px
    return BOOK_OK


# --- one side -----------------------------------------------------------------------------------------------------

cdef void find_edge(book_t* book, side_t* side, bint is_bid, int64_t from_px) noexcept nogil:
    """Next best at or behind from_px; everything better than it is known to be gone."""
    cdef uint64_t slot
    cdef int64_t px = INT64_MIN if is_bid else INT64_MAX
    cdef int64_t far_px
    if side.near_count != 0:
        if is_near(book, from_px):
            slot = <uint64_t>from_px & book.mask
            slot = find_down(book, side, slot) if is_bid else find_up(book, side, slot)
            px = px_at(book.base, slot, book.mask)
        else:
            px = near_highest(book, side) if is_bid else near_lowest(book, side)
    if side.far_count != 0:
        far_px = side.far[side.far_count - 1].px_ticks if is_bid else side.far[0].px_ticks
        if (far_px > px) if is_bid else (far_px < px):
            px = far_px
    side.edge = px


cdef inline int put(book_t* book, side_t* side, bint is_bid, int64_t px, int64_t qty) noexcept nogil:
    cdef uint64_t slot
    cdef int64_t old
    if qty < 0:
        book.bad_level_count += 1
        return BOOK_OK
    if not is_near(book, px):
        return far_put(book, side, is_bid, px, qty)
    slot = <uint64_t>px & book.mask
    old = side.qty[slot]
    side.qty[slot] = qty
    if qty != 0:
        if old == 0:
            mark(side, slot)
            side.near_count += 1
            if (px > side.edge) if is_bid else (px < side.edge):
                side.edge = px
    elif old != 0:
        # Deleting an absent level is normal: the snapshot is limited in depth.
        unmark(side, slot)
        side.near_count -= 1
        if px == side.edge:
            find_edge(book, side, is_bid, px)
    return BOOK_OK


cdef inline void publish(book_t* book, side_t* side) noexcept nogil:
    cdef int32_t at
    if side.near_count + side.far_count == 0:
        side.best_px = NO_PX
        side.best_qty = 0
        return
    side.best_px = side.edge
    if is_near(book, side.edge):
        side.best_qty = side.qty[<uint64_t>side.edge & book.mask]
        return
    at = far_position(side, side.edge)
    side.best_qty = side.far[at].qty_lots


cdef void clear_side(side_t* side, int32_t summary_count, bint is_bid) noexcept nogil:
    cdef int32_t group
    cdef uint64_t words, word, bits
    for group in range(summary_count):
        words = side.summary[group]
        while words != 0:
            word = (<uint64_t>group << 6) | <uint64_t>lowest_bit(words)
            words &= words - 1
            bits = side.words[word]
            while bits != 0:
                side.qty[(word << 6) | <uint64_t>lowest_bit(bits)] = 0
                bits &= bits - 1
            side.words[word] = 0
        side.summary[group] = 0
    side.near_count = 0
    side.far_count = 0
    side.edge = INT64_MIN if is_bid else INT64_MAX
    side.best_px = NO_PX
    side.best_qty = 0


# --- moving the window --------------------------------------------------------------------------------------------

cdef bint evict(book_t* book, side_t* side, int64_t from_px, uint64_t length) noexcept nogil:
    """Move the levels in [from_px, from_px + length) out of the window; the range lies at one of its ends."""
    cdef uint64_t slot = <uint64_t>from_px & book.mask
    cdef int64_t px
    cdef int32_t at = far_position(side, from_px)
    cdef int32_t filled = at
    cdef int32_t count = 0
    cdef int32_t left = side.near_count
    if not far_reserve(book, side, side.near_count):
        return False
    while left > 0:  # count first: the overflow is opened once
        slot = find_up(book, side, slot)
        px = px_at(book.base, slot, book.mask)
        if offset_above(px, from_px) >= length:
            break
        count += 1
        left -= 1
        slot = (slot + 1) & book.mask
    if count == 0:
        return True
    memmove(side.far + at + count, side.far + at, <size_t>(side.far_count - at) * sizeof(level_t))
    slot = <uint64_t>from_px & book.mask
    while filled < at + count:
        slot = find_up(book, side, slot)
        side.far[filled].px_ticks = px_at(book.base, slot, book.mask)
        side.far[filled].qty_lots = side.qty[slot]
        side.qty[slot] = 0
        unmark(side, slot)
        filled += 1
    side.far_count += count
    side.near_count -= count
    return True


cdef void admit(book_t* book, side_t* side) noexcept nogil:
    """Move the overflow levels that the window now covers into it."""
    cdef int32_t at = far_position(side, book.base)
    cdef int32_t end = at
    cdef uint64_t slot
    while end < side.far_count and is_near(book, side.far[end].px_ticks):
        slot = <uint64_t>side.far[end].px_ticks & book.mask
        side.qty[slot] = side.far[end].qty_lots
        mark(side, slot)
        end += 1
    if end != at:
        side.near_count += end - at
        far_remove(side, at, end - at)


cdef int move_window(book_t* book, int64_t new_base) noexcept nogil:
    cdef uint64_t up = offset_above(new_base, book.base)
    cdef uint64_t down = offset_above(book.base, new_base)
    cdef uint64_t length = book.mask + 1
    cdef int64_t from_px = book.base
    if up <= book.mask:  # upwards, overlapping: the low end leaves
        length = up
    elif down <= book.mask:  # downwards, overlapping: the high end leaves
        from_px = add_wrap(new_base, <int64_t>length)
        length = down
    if not evict(book, &book.bids, from_px, length) or not evict(book, &book.asks, from_px, length):
        return BOOK_NO_MEMORY
    book.base = new_base
    admit(book, &book.bids)
    admit(book, &book.asks)
    book.recentred_count += 1
    return BOOK_OK


cdef inline int64_t base_around(const book_t* book, int64_t px) noexcept nogil:
    return sub_wrap(px, <int64_t>((book.mask + 1) >> 1))


cdef inline int recentre(book_t* book) noexcept nogil:
    """Follow the mid once it has left the middle half of the window."""
    cdef int64_t mid
    cdef uint64_t quarter = (book.mask + 1) >> 2
    if book.bids.best_qty == 0 and book.asks.best_qty == 0:
        return BOOK_OK
    if book.bids.best_qty == 0:
        mid = book.asks.best_px
    elif book.asks.best_qty == 0:
        mid = book.bids.best_px
    else:
        mid = middle(book.bids.best_px, book.asks.best_px)
    if offset_above(mid, add_wrap(book.base, <int64_t>quarter)) <= 2 * quarter:
        return BOOK_OK
    return move_window(book, base_around(book, mid))


# --- the book -----------------------------------------------------------------------------------------------------

cdef void book_clear(book_t* book) noexcept nogil:
    """Forget all levels; the book is not valid afterwards."""
    clear_side(&book.bids, book.summary_count, True)
    clear_side(&book.asks, book.summary_count, False)
    book.is_valid = False
    book.horizon_bid_px = NO_PX
    book.horizon_ask_px = NO_PX


cdef void start_snapshot(
    book_t* book, const level_t* bids, int32_t bid_count, const level_t* asks, int32_t ask_count
) noexcept nogil:
    """Empty the book and put the window around the first levels (venues send the best first)."""
    cdef int64_t mid
    book_clear(book)
    if bid_count > 0 and ask_count > 0:
        mid = middle(bids[0].px_ticks, asks[0].px_ticks)
    elif bid_count > 0:
        mid = bids[0].px_ticks
    elif ask_count > 0:
        mid = asks[0].px_ticks
    else:
        return
    if -PX_LIMIT <= mid <= PX_LIMIT:
        book.base = base_around(book, mid)


cdef int book_apply(
    book_t* book, const level_t* bids, int32_t bid_count, const level_t* asks, int32_t ask_count, bint is_snapshot
) noexcept nogil:
    """Apply one message: absolute quantities, 0 deletes; a snapshot replaces everything. Validity is the caller's.

    Errors: BOOK_NO_MEMORY; the book is then cleared and invalid. Cost: 5 to 10 ns a level in the window.
    """
    cdef int32_t i
    cdef int failed = BOOK_OK
    if is_snapshot:
        start_snapshot(book, bids, bid_count, asks, ask_count)
    for i in range(bid_count):
        failed |= put(book, &book.bids, True, bids[i].px_ticks, bids[i].qty_lots)
    for i in range(ask_count):
        failed |= put(book, &book.asks, False, asks[i].px_ticks, asks[i].qty_lots)
    publish(book, &book.bids)
    publish(book, &book.asks)
    failed |= recentre(book)
    if failed:
        book_clear(book)
    return failed


cdef void trim_side(book_t* book, side_t* side, bint is_bid, int32_t max_depth) noexcept nogil:
    cdef int64_t px
    cdef int64_t far_px
    while side.near_count + side.far_count > max_depth:
        px = INT64_MAX if is_bid else INT64_MIN
        if side.near_count != 0:
            px = near_lowest(book, side) if is_bid else near_highest(book, side)
        if side.far_count != 0:
            far_px = side.far[0].px_ticks if is_bid else side.far[side.far_count - 1].px_ticks
            if (far_px < px) if is_bid else (far_px > px):
                px = far_px
        put(book, side, is_bid, px, 0)


cdef void book_trim(book_t* book, int32_t max_depth) noexcept nogil:
    """Drop the worst levels beyond max_depth a side: a depth-limited feed does not tell when a level slides out."""
    if max_depth <= 0:
        return
    trim_side(book, &book.bids, True, max_depth)
    trim_side(book, &book.asks, False, max_depth)


# --- reading, best first ------------------------------------------------------------------------------------------

cdef void cursor_start(const book_t* book, int side, cursor_t* cursor) noexcept nogil:
    """Begin at the best level of a side: +1 bids, -1 asks. The book must not change while a cursor is in use."""
    cdef const side_t* levels = &book.bids if side > 0 else &book.asks
    cursor.near_left = levels.near_count
    cursor.far_index = levels.far_count - 1 if side > 0 else 0
    if cursor.near_left != 0:
        cursor.near_px = near_highest(book, levels) if side > 0 else near_lowest(book, levels)


cdef bint cursor_next(const book_t* book, int side, cursor_t* cursor, level_t* level) noexcept nogil:
    """Give the next level in `level`; False at the end."""
    cdef const side_t* levels = &book.bids if side > 0 else &book.asks
    cdef bint has_far = 0 <= cursor.far_index < levels.far_count
    cdef uint64_t slot
    if has_far:
        level[0] = levels.far[cursor.far_index]
        if cursor.near_left == 0 or (
            (level.px_ticks > cursor.near_px) if side > 0 else (level.px_ticks < cursor.near_px)
        ):
            cursor.far_index -= side
            return True
    if cursor.near_left == 0:
        return False
    slot = <uint64_t>cursor.near_px & book.mask
    level.px_ticks = cursor.near_px
    level.qty_lots = levels.qty[slot]
    cursor.near_left -= 1
    if cursor.near_left != 0:
        slot = find_down(book, levels, <uint64_t>sub_wrap(<int64_t>slot, 1) & book.mask) if side > 0 else find_up(
            book, levels, (slot + 1) & book.mask
        )
        cursor.near_px = px_at(book.base, slot, book.mask)
    return True


cdef void book_walk(const book_t* book, int side, int64_t qty_lots, walk_t* walk) noexcept nogil:
    """Take up to qty_lots from a side, best first."""
    cdef cursor_t cursor
    cdef level_t level
    cdef int64_t take
    walk.filled_lots = 0
    walk.worst_px = NO_PX
    walk.value_high = 0
    walk.value_low = 0
    cursor_start(book, side, &cursor)
    while walk.filled_lots < qty_lots and cursor_next(book, side, &cursor, &level):
        take = qty_lots - walk.filled_lots
        if level.qty_lots < take:
            take = level.qty_lots
        walk.filled_lots += take
        walk.worst_px = level.px_ticks
        add_product(&walk.value_high, &walk.value_low, level.px_ticks, take)


cdef int64_t book_depth_within(const book_t* book, int side, int64_t px_ticks) noexcept nogil:
    """Lots on a side at px_ticks or better, no more than 2**62."""
    cdef cursor_t cursor
    cdef level_t level
    cdef int64_t lots = 0
    cursor_start(book, side, &cursor)
    while cursor_next(book, side, &cursor, &level):
        if (level.px_ticks < px_ticks) if side > 0 else (level.px_ticks > px_ticks):
            break
        if level.qty_lots >= PX_LIMIT - lots:
            return PX_LIMIT
        lots += level.qty_lots
    return lots


# --- the Python face ----------------------------------------------------------------------------------------------

cdef void free_side(side_t* side) noexcept:
    free(side.qty)
    free(side.words)
    free(side.summary)
    free(side.far)


cdef int allocate_side(side_t* side, size_t slots, size_t summary_count) except -1:
    side.qty = <int64_t*>malloc(slots * sizeof(int64_t))
    side.words = <uint64_t*>calloc(summary_count * 64, sizeof(uint64_t))
    side.summary = <uint64_t*>calloc(summary_count, sizeof(uint64_t))
    side.far = <level_t*>malloc(<size_t>FAR_CAPACITY * sizeof(level_t))
    side.far_capacity = FAR_CAPACITY
    if side.qty == NULL or side.words == NULL or side.summary == NULL or side.far == NULL:
        raise MemoryError("book: no memory for the tick window")
    memset(side.qty, 0, slots * sizeof(int64_t))  # touches the pages now, not at the first message
    return 0


cdef int fill_levels(level_t* levels, list pairs) except -1:
    cdef Py_ssize_t i
    for i in range(len(pairs)):
        levels[i].px_ticks, levels[i].qty_lots = pairs[i]
    return 0


@cython.final
cdef class Book:
    """L2 book of one instrument. `window_bits`: 2**window_bits ticks around the mid are kept flat.

    Cost: 16 bytes a tick of the window (1 MiB at 16 bits).
    """

    def __cinit__(self, int window_bits=16):
        cdef size_t slots
        cdef size_t summary_count
        if not 6 <= window_bits <= 24:
            raise ValueError(f"book: window_bits must be 6..24, was {window_bits}")
        slots = <size_t>1 << window_bits
        summary_count = (slots + 4095) // 4096
        allocate_side(&self.l2.bids, slots, summary_count)
        allocate_side(&self.l2.asks, slots, summary_count)
        self.l2.mask = slots - 1
        self.l2.summary_count = <int32_t>summary_count
        self.l2.base = -<int64_t>(slots // 2)
        book_clear(&self.l2)

    def __dealloc__(self):
        free_side(&self.l2.bids)
        free_side(&self.l2.asks)

    cdef int apply_levels(
        self, const level_t* bids, int32_t bid_count, const level_t* asks, int32_t ask_count, bint is_snapshot
    ) noexcept nogil:
        return book_apply(&self.l2, bids, bid_count, asks, ask_count, is_snapshot)

    def apply(self, list bids, list asks, bint is_snapshot, int max_depth=0):
        """Apply levels given as (px_ticks, qty_lots); a snapshot makes the book valid. Returns 0 or a negative code."""
        cdef size_t count = len(bids) + len(asks)
        cdef level_t* levels = <level_t*>malloc((count + 1) * sizeof(level_t))
        cdef int code
        if levels == NULL:
            raise MemoryError("book: no memory for a message")
        try:
            fill_levels(levels, bids)
            fill_levels(levels + len(bids), asks)
            code = book_apply(&self.l2, levels, <int32_t>len(bids), levels + len(bids), <int32_t>len(asks), is_snapshot)
            book_trim(&self.l2, max_depth)
        finally:
            free(levels)
        if code == BOOK_OK and is_snapshot:
            self.l2.is_valid = True
        return code

    def apply_packed(self, bytes levels not None, bytes shape not None):
        """Apply many messages at once, for benchmarks and bulk playback: `shape` holds int32 triples (bid count, ask
        count, is_snapshot), `levels` the int64 pairs of all of them. Returns the number of levels applied."""
        cdef const int32_t* triple = <const int32_t*><const char*>shape
        cdef const level_t* level = <const level_t*><const char*>levels
        cdef Py_ssize_t count = len(shape) // 12
        cdef Py_ssize_t left = len(levels) // <Py_ssize_t>sizeof(level_t)
        cdef Py_ssize_t i
        cdef int code
        for i in range(count):
            if triple[0] < 0 or triple[1] < 0 or left < <Py_ssize_t>triple[0] + triple[1]:
                raise ValueError(f"book: message {i} has more levels than are given")
            code = book_apply(&self.l2, level, triple[0], level + triple[0], triple[1], triple[2])
            if code != BOOK_OK:
                raise MemoryError("book: no memory for the levels outside the window")
            self.l2.is_valid = self.l2.is_valid or triple[2] != 0
            level += triple[0] + triple[1]
            left -= <Py_ssize_t>triple[0] + triple[1]
            triple += 3
        return len(levels) // <Py_ssize_t>sizeof(level_t) - left

    def stamp(self, int64_t exch_ts_ns, int64_t recv_ts_ns, int64_t last_seq):
        """Say when the book last changed and with which sequence; for books that are not fed by ext.sequence."""
        self.l2.exch_ts_ns = exch_ts_ns
        self.l2.recv_ts_ns = recv_ts_ns
        self.l2.last_seq = last_seq

    def levels(self, int side, int depth=0):
        """Levels as (px_ticks, qty_lots), best first; side +1 bids, -1 asks; depth 0 gives all."""
        cdef cursor_t cursor
        cdef level_t level
        cdef list out = []
        cursor_start(&self.l2, side, &cursor)
        while (depth <= 0 or len(out) < depth) and cursor_next(&self.l2, side, &cursor, &level):
            out.append((level.px_ticks, level.qty_lots))
        return out

    def walk(self, int side, int64_t qty_lots):
        """Take qty_lots from a side: (filled_lots, worst_px_ticks, sum of px * qty). Nothing filled: (0, NO_PX, 0)."""
        cdef walk_t walk
        book_walk(&self.l2, side, qty_lots, &walk)
        return walk.filled_lots, walk.worst_px, ((<object>walk.value_high) << 64) + <object>walk.value_low

    def depth_within(self, int side, int64_t px_ticks):
        """Lots on a side at px_ticks or better."""
        return book_depth_within(&self.l2, side, px_ticks)

    def level_count(self, int side):
        """Number of levels on a side."""
        cdef side_t* levels = &self.l2.bids if side > 0 else &self.l2.asks
        return levels.near_count + levels.far_count

    def invalidate(self):
        """Say that the book may be wrong; its levels stay to be looked at until the next snapshot."""
        self.l2.is_valid = False

    def clear(self):
        """Drop all levels and invalidate."""
        book_clear(&self.l2)

    @property
    def best_bid_px(self):
        return self.l2.bids.best_px

    @property
    def best_bid_qty(self):
        return self.l2.bids.best_qty

    @property
    def best_ask_px(self):
        return self.l2.asks.best_px

    @property
    def best_ask_qty(self):
        return self.l2.asks.best_qty

    @property
    def is_valid(self):
        return self.l2.is_valid != 0

    @property
    def is_crossed(self):
        return book_is_crossed(&self.l2)

    @property
    def exch_ts_ns(self):
        return self.l2.exch_ts_ns

    @property
    def recv_ts_ns(self):
        return self.l2.recv_ts_ns

    @property
    def last_seq(self):
        return self.l2.last_seq

    @property
    def horizon_bid_px(self):
        return self.l2.horizon_bid_px

    @property
    def horizon_ask_px(self):
        return self.l2.horizon_ask_px

    @property
    def recentred_count(self):
        return self.l2.recentred_count

    @property
    def far_hits(self):
        return self.l2.far_hits

    @property
    def far_grow_count(self):
        return self.l2.far_grow_count

    @property
    def bad_level_count(self):
        return self.l2.bad_level_count

    def far_count(self, int side):
        """Levels of a side outside the window."""
        return self.l2.bids.far_count if side > 0 else self.l2.asks.far_count

    def _check(self):
        """Raise AssertionError at the first invariant that does not hold. Cost: all of the window."""
        check_side(&self.l2, &self.l2.bids, True)
        check_side(&self.l2, &self.l2.asks, False)


# --- invariants (cold) --------------------------------------------------------------------------------------------

cdef int require(bint holds, str name, object value) except -1:
    if not holds:
        raise AssertionError(f"book: {name}, was {value}")
    return 0


cdef int check_side(const book_t* book, const side_t* side, bint is_bid) except -1:
    cdef uint64_t slot
    cdef int32_t i
    cdef int32_t near = 0
    cdef int64_t px
    cdef int64_t edge = INT64_MIN if is_bid else INT64_MAX
    cdef int64_t edge_qty = 0
    for slot in range(book.mask + 1):
        require((side.qty[slot] != 0) == (side.words[slot >> 6] & bit(slot) != 0), "bit must mirror quantity", slot)
        require(side.qty[slot] >= 0, "quantity must not be negative", side.qty[slot])
        if side.qty[slot] != 0:
            near += 1
            px = px_at(book.base, slot, book.mask)
            require(is_near(book, px), "near level must lie in the window", px)
            if (px > edge) if is_bid else (px < edge):
                edge = px
                edge_qty = side.qty[slot]
    for i in range(book.summary_count * 64):
        require(
            (side.words[i] != 0) == (side.summary[i >> 6] & bit(<uint64_t>i) != 0), "summary must mirror words", i
        )
    require(near == side.near_count, "near_count must count the window", (near, side.near_count))
    for i in range(side.far_count):
        px = side.far[i].px_ticks
        require(side.far[i].qty_lots > 0, "far quantity must be positive", side.far[i].qty_lots)
        require(not is_near(book, px), "far level must lie outside the window", px)
        require(i == 0 or side.far[i - 1].px_ticks < px, "far must ascend", px)
        if (px > edge) if is_bid else (px < edge):
            edge = px
            edge_qty = side.far[i].qty_lots
    require(side.far_count <= side.far_capacity, "far must fit", side.far_count)
    require(edge == side.edge, "edge must be the best price", (edge, side.edge))
    require(edge_qty == side.best_qty, "best_qty must be the best level's", (edge_qty, side.best_qty))
    require(side.best_px == (edge if edge_qty != 0 else NO_PX), "best_px must be published", side.best_px)
    return 0
