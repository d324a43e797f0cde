# The pre-trade gate as C, for strategies and routers that hold no Python object.
from libc.stdint cimport int32_t, int64_t, uint64_t

from ext.ladder cimport book_t


cdef extern from "native/wide.h" nogil:
    ctypedef struct wide_t:
        pass

cdef struct limits_t:  # one instrument: its definition, its market, and what we have in it
    book_t* book  # NULL: none bound
    int32_t is_defined
    int32_t is_used  # an order was reserved
    int32_t state
    int32_t venue
    int32_t underlying
    int32_t max_open_orders
    int32_t open_orders
    int64_t base_atoms_per_lot
    int64_t value_num
    int64_t value_den
    int64_t min_qty_lots
    int64_t max_qty_lots
    int64_t min_notional_atoms
    int64_t max_order_notional_atoms
    int64_t collar_ppm
    int64_t max_position_lots
    int64_t mark_px
    int64_t mark_ts_ns
    int64_t own_bid_px
    int64_t own_ask_px
    int64_t position_lots  # signed
    int64_t open_buy_lots
    int64_t open_sell_lots
    int64_t value_px  # last reference; NO_PX before the first
    int64_t gross_atoms  # worst case at value_px

cdef struct exposure_t:  # one strategy on one instrument; sums of px * qty
    wide_t held  # signed cost of the position at order prices
    wide_t buys
    wide_t sells
    int64_t position_lots
    int64_t used_atoms

cdef struct underlying_t:
    wide_t longest  # base atoms, all buys filled
    wide_t shortest  # base atoms, all sells filled, as a positive number
    int64_t max_long_atoms
    int64_t max_short_atoms

cdef struct pace_t:  # one strategy's last max_orders orders
    int64_t* times
    int64_t count

cdef struct recent_t:
    int64_t previous  # number of the order before it in its bucket; -1: none
    int64_t ts_ns
    int64_t px_ticks
    int64_t qty_lots
    int32_t index
    int32_t strategy
    int32_t side

cdef struct order_t:
    int32_t index
    int32_t strategy
    int32_t side
    int32_t is_reduce_only
    int64_t px_ticks
    int64_t qty_lots
    int64_t now_ns


cdef class Gate:
    cdef public bint is_killed
    cdef public bint is_reduce_only
    cdef public int64_t loss_atoms  # positive: a loss
    cdef readonly int64_t last_value
    cdef readonly int64_t last_limit
    cdef readonly int32_t instrument_count
    cdef readonly int32_t underlying_count
    cdef readonly int32_t strategy_count
    cdef limits_t* limits
    cdef underlying_t* underlyings
    cdef exposure_t* exposures  # [strategy][instrument]
    cdef wide_t* used_totals  # [strategy][venue]
    cdef int64_t* allotments
    cdef pace_t* paces
    cdef recent_t* recent
    cdef int64_t* buckets
    cdef int64_t recent_count
    cdef wide_t gross
    cdef int64_t max_orders
    cdef int64_t window_ns
    cdef int64_t duplicate_count
    cdef int64_t duplicate_window_ns
    cdef int64_t stale_ns
    cdef int64_t max_gross_atoms
    cdef int64_t loss_limit_atoms
    cdef list books

    cdef int check_c(self, const order_t* order) noexcept nogil
    cdef int refuse(self, int reason, int64_t value, int64_t limit) noexcept nogil
    cdef int check_order(self, const limits_t* its, const order_t* order, bint is_closing) noexcept nogil
    cdef int check_price(self, limits_t* its, const order_t* order, bint is_closing) noexcept nogil
    cdef int check_exposure(self, limits_t* its, const order_t* order) noexcept nogil
    cdef int check_pace(self, const order_t* order) noexcept nogil
    cdef void note_order(self, const order_t* order) noexcept nogil
    cdef void refresh_gross(self, limits_t* its) noexcept nogil
    cdef void refresh_used(self, limits_t* its, int32_t index, int32_t strategy) noexcept nogil
    cdef void add_open(self, int32_t index, int32_t strategy, int side, int64_t px, int64_t qty) noexcept nogil
    cdef void add_position(self, int32_t index, int64_t qty) noexcept nogil
    cdef void add_fill(self, int32_t index, int32_t strategy, int side, int64_t px, int64_t qty) noexcept nogil
    cdef void fill_exposure(self, exposure_t* own, int side, int64_t px, int64_t qty) noexcept nogil
    cdef limits_t* at(self, int index) except NULL
    cdef int require(self, int index, int strategy, int side, int64_t px, int64_t qty) except -1
    cdef int require_open(
        self, int index, int strategy, int side, int64_t px, int64_t qty, bint is_closed
    ) except -1
