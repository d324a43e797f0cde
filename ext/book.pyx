"""L2 book of one instrument: the Python face over ext/ladder, the depth walk, and the check of all invariants.

Knows no venue and no sequence rule; ext/sequence decides when a book is valid.

Units: px in ticks, qty in lots, time in ns. Not thread-safe.
"""

cimport cython
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc

from ext.ladder cimport (
    BOOK_OK,
    NO_PX,
    PX_LIMIT,
    bit,
    book_apply,
    book_clear,
    book_is_crossed,
    book_t,
    book_trim,
    find_down,
    find_up,
    is_near,
    ladder_allocate,
    ladder_free,
    near_highest,
    near_lowest,
    px_at,
    side_t,
    sub_wrap,
)
from ext.message cimport level_t


cdef extern from "native/bits.h" nogil:
    void add_product(int64_t* high, uint64_t* low, int64_t a, int64_t b) noexcept


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
        if not 6 <= window_bits <= 24:
            raise ValueError(f"book: window_bits must be 6..24, was {window_bits}")
        ladder_allocate(&self.l2, window_bits)

    def __dealloc__(self):
        ladder_free(&self.l2)

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
