"""The levels of one book: quantities by tick in a window around the mid, a two-level bitmap a side to find the next
best, and a sorted array (`far`) for what lies outside.

A level in the window costs one store and a bit; one outside costs a binary search and a memmove (`far_hits`): widen
the window when that share grows. The window is a ring (slot = px & mask), so it follows the mid by moving only the
levels that enter or leave it. Knows no venue, no sequence and no Python object; ext/book is its face.

Units: px in ticks, qty in lots. Memory is taken once; only `far` may double (counted). Not thread-safe.
"""

from libc.limits cimport INT_MAX
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memmove, memset

from ext.message cimport level_t

cdef int64_t NO_PX = INT64_MIN
cdef int64_t PX_LIMIT = (<int64_t>1) << 62
cdef int32_t FAR_CAPACITY = 1024


cdef inline void mark(side_t* side, uint64_t slot) noexcept nogil:
    side.words[slot >> 6] |= bit(slot)
    side.summary[slot >> 12] |= bit(slot >> 6)


cdef inline void unmark(side_t* side, uint64_t slot) noexcept nogil:
    side.words[slot >> 6] &= ~bit(slot)
    if side.words[slot >> 6] == 0:
        side.summary[slot >> 12] &= ~bit(slot >> 6)


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


cdef int apply_side(
    book_t* book, side_t* side, bint is_bid, const level_t* levels, int32_t count
) noexcept nogil:
    # Whether a level comes, goes or stays is not to be foreseen, so the usual way has no branch on it: bit and count
    # change by what the quantity says. Branches are for what is rare: outside the window, the first or last level of
    # a word, at the best price or better.
    cdef int64_t flip = 0 if is_bid else -1  # px ^ flip: the greater, the better, on either side
    cdef int64_t edge = side.edge
    cdef int32_t near_count = side.near_count
    cdef int64_t px, qty
    cdef uint64_t slot, old_word, word, has, had
    cdef int32_t i
    cdef int failed = BOOK_OK
    for i in range(count):
        px = levels[i].px_ticks
        qty = levels[i].qty_lots
        if qty < 0:
            book.bad_level_count += 1
            continue
        if not is_near(book, px):
            side.edge = edge
            side.near_count = near_count
            failed |= far_put(book, side, is_bid, px, qty)
            edge = side.edge
            continue
        slot = <uint64_t>px & book.mask
        has = qty != 0
        had = side.qty[slot] != 0
        side.qty[slot] = qty
        old_word = side.words[slot >> 6]
        word = old_word ^ ((has ^ had) << (slot & 63))
        side.words[slot >> 6] = word
        near_count += <int32_t>has - <int32_t>had
        if (word == 0) != (old_word == 0):
            side.summary[slot >> 12] ^= bit(slot >> 6)
        if px ^ flip >= edge ^ flip:
            if has:
                edge = px
            elif had:
                side.near_count = near_count
                find_edge(book, side, is_bid, px)
                edge = side.edge
    side.edge = edge
    side.near_count = near_count
    return failed


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
    cdef int failed
    if is_snapshot:
        start_snapshot(book, bids, bid_count, asks, ask_count)
    failed = apply_side(book, &book.bids, True, bids, bid_count)
    failed |= apply_side(book, &book.asks, False, asks, ask_count)
    publish(book, &book.bids)
    publish(book, &book.asks)
    failed |= recentre(book)
    if failed:
        book_clear(book)
    return failed


cdef void trim_side(book_t* book, side_t* side, bint is_bid, int32_t max_depth) noexcept nogil:
    cdef level_t worst
    cdef int64_t px
    cdef int64_t far_px
    worst.qty_lots = 0
    while side.near_count + side.far_count > max_depth:
        px = INT64_MAX if is_bid else INT64_MIN
        if side.near_count != 0:
            px = near_lowest(book, side) if is_bid else near_highest(book, side)
        if side.far_count != 0:
            far_px = side.far[0].px_ticks if is_bid else side.far[side.far_count - 1].px_ticks
            if (far_px < px) if is_bid else (far_px > px):
                px = far_px
        worst.px_ticks = px
        apply_side(book, side, is_bid, &worst, 1)


cdef void book_trim(book_t* book, int32_t max_depth) noexcept nogil:
    """Drop the worst levels beyond max_depth a side: a depth-limited feed does not tell when a level slides out."""
    if max_depth <= 0:
        return
    trim_side(book, &book.bids, True, max_depth)
    trim_side(book, &book.asks, False, max_depth)


# --- memory -------------------------------------------------------------------------------------------------------

cdef void free_side(side_t* side) noexcept nogil:
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


cdef int ladder_allocate(book_t* book, int window_bits) except -1:
    """Take the memory of an empty book: 16 bytes a tick of the window."""
    cdef size_t slots = <size_t>1 << window_bits
    cdef size_t summary_count = (slots + 4095) // 4096
    allocate_side(&book.bids, slots, summary_count)
    allocate_side(&book.asks, slots, summary_count)
    book.mask = slots - 1
    book.summary_count = <int32_t>summary_count
    book.base = -<int64_t>(slots // 2)
    book_clear(book)
    return 0


cdef void ladder_free(book_t* book) noexcept nogil:
    free_side(&book.bids)
    free_side(&book.asks)
