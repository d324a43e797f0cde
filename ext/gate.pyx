"""The pre-trade gate: every check between a decision and the wire, in integers.

Counts an order from `reserve` until the venue's truth removes it (`release`, `on_fill`), so an order of unknown outcome
keeps its worst case. Every limit is literal and starts at 0: what nobody set allows nothing. Knows no clock (time
arrives with each call) and no venue's rules but tick, lot and smallest order.

A *closing* order reduces |position| even if it and all orders before it on its side fill. It passes where only opening
is forbidden: reduce-only mode, loss limit, an instrument that is not trading, an invalid or stale book (the collar is
then held against the mark). The kill switch refuses everything.

Units: px in ticks, qty in lots, money in atoms of the quote currency, exposure in base atoms, time in ns.
Cost: about 100 ns a check, no allocation. Source: RTS 6 Art. 15, SEC 15c3-5; controls C01 to C10 and C17.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from ext.book cimport Book
from ext.ladder cimport NO_PX, book_t

cdef extern from "native/wide.h" nogil:
    int64_t wide_value(int64_t px, int64_t qty, int64_t num, int64_t den) noexcept
    void wide_add(wide_t* sum, int64_t a, int64_t b) noexcept
    int64_t wide_with(const wide_t* sum, int64_t a, int64_t b) noexcept
    void wide_keep(wide_t* sum, int64_t kept, int64_t whole) noexcept
    int64_t wide_worst(
        const wide_t* held, const wide_t* buys, const wide_t* sells,
        int64_t px, int64_t buy_qty, int64_t sell_qty, int64_t num, int64_t den
    ) noexcept
    bint wide_outside(int64_t px, int64_t ref2, int64_t ppm) noexcept
    int64_t wide_edge(int64_t ref2, int64_t ppm, int side) noexcept

cdef extern from "native/bits.h" nogil:
    uint64_t mix(uint64_t seed, int64_t value) noexcept

cdef enum:
    VENUES = 8
    RECENT = 8192  # orders within duplicate_window_ns that the duplicate check sees
    BUCKETS = 4096
    TRADING = 1

cdef enum refusal_t:
    R_NOT_TRADING = -1
    R_KILLED = -2
    R_REDUCE_ONLY_MODE = -3
    R_BAD_PX = -4
    R_BAD_QTY = -5
    R_MIN_NOTIONAL = -6
    R_MAX_ORDER_QTY = -7
    R_MAX_ORDER_NOTIONAL = -8
    R_PRICE_COLLAR = -9
    R_NO_REFERENCE = -10
    R_STALE_BOOK = -11
    R_INVALID_BOOK = -12
    R_POSITION_LIMIT = -13
    R_UNDERLYING_LIMIT = -14
    R_GROSS_LIMIT = -15
    R_ALLOTMENT = -16
    R_OPEN_ORDERS = -17
    R_ORDER_RATE = -18
    R_DUPLICATE = -19
    R_SELF_MATCH = -20
    R_LOSS_LIMIT = -21

NOT_TRADING = R_NOT_TRADING
KILLED = R_KILLED
REDUCE_ONLY_MODE = R_REDUCE_ONLY_MODE
BAD_PX = R_BAD_PX
BAD_QTY = R_BAD_QTY
MIN_NOTIONAL = R_MIN_NOTIONAL
MAX_ORDER_QTY = R_MAX_ORDER_QTY
MAX_ORDER_NOTIONAL = R_MAX_ORDER_NOTIONAL
PRICE_COLLAR = R_PRICE_COLLAR
NO_REFERENCE = R_NO_REFERENCE
STALE_BOOK = R_STALE_BOOK
INVALID_BOOK = R_INVALID_BOOK
POSITION_LIMIT = R_POSITION_LIMIT
UNDERLYING_LIMIT = R_UNDERLYING_LIMIT
GROSS_LIMIT = R_GROSS_LIMIT
ALLOTMENT = R_ALLOTMENT
OPEN_ORDERS = R_OPEN_ORDERS
ORDER_RATE = R_ORDER_RATE
DUPLICATE = R_DUPLICATE
SELF_MATCH = R_SELF_MATCH
LOSS_LIMIT = R_LOSS_LIMIT
REASONS = {
    R_NOT_TRADING: "NOT_TRADING",
    R_KILLED: "KILLED",
    R_REDUCE_ONLY_MODE: "REDUCE_ONLY_MODE",
    R_BAD_PX: "BAD_PX",
    R_BAD_QTY: "BAD_QTY",
    R_MIN_NOTIONAL: "MIN_NOTIONAL",
    R_MAX_ORDER_QTY: "MAX_ORDER_QTY",
    R_MAX_ORDER_NOTIONAL: "MAX_ORDER_NOTIONAL",
    R_PRICE_COLLAR: "PRICE_COLLAR",
    R_NO_REFERENCE: "NO_REFERENCE",
    R_STALE_BOOK: "STALE_BOOK",
    R_INVALID_BOOK: "INVALID_BOOK",
    R_POSITION_LIMIT: "POSITION_LIMIT",
    R_UNDERLYING_LIMIT: "UNDERLYING_LIMIT",
    R_GROSS_LIMIT: "GROSS_LIMIT",
    R_ALLOTMENT: "ALLOTMENT",
    R_OPEN_ORDERS: "OPEN_ORDERS",
    R_ORDER_RATE: "ORDER_RATE",
    R_DUPLICATE: "DUPLICATE",
    R_SELF_MATCH: "SELF_MATCH",
    R_LOSS_LIMIT: "LOSS_LIMIT",
}

cdef int64_t AMOUNT_LIMIT = (<int64_t>1) << 60  # of a price, a quantity, a position: sums of four stay within int64


cdef inline int64_t larger(int64_t a, int64_t b) noexcept nogil:
    return a if a > b else b


cdef inline int64_t worst_lots(const limits_t* its, int64_t buy, int64_t sell) noexcept nogil:
    """Largest |position| when all buys, or all sells, and the given ones besides have filled."""
    cdef int64_t most = its.position_lots + its.open_buy_lots + buy
    cdef int64_t least = its.position_lots - its.open_sell_lots - sell
    return larger(larger(most, -most), larger(least, -least))


cdef inline bint closes(const limits_t* its, const order_t* order) noexcept nogil:
    if order.side > 0:
        return its.position_lots < 0 and its.position_lots + its.open_buy_lots + order.qty_lots <= 0
    return its.position_lots > 0 and its.position_lots - its.open_sell_lots - order.qty_lots >= 0


cdef inline bint is_fresh(int64_t ts_ns, int64_t now_ns, int64_t stale_ns) noexcept nogil:
    return now_ns <= ts_ns or now_ns - ts_ns <= stale_ns


cdef inline int64_t bucket_of(const order_t* order) noexcept nogil:
    cdef uint64_t hashed = mix(<uint64_t>order.index, order.strategy)
    hashed = mix(mix(mix(hashed, order.side), order.px_ticks), order.qty_lots)
    return <int64_t>(hashed % BUCKETS)


@cython.final
cdef class Gate:
    """See the module. One gate an engine; `index` is Instrument.index, `strategy` and `underlying` are dense too."""

    def __cinit__(self, int instruments, int underlyings, int strategies):
        cdef size_t i
        if instruments < 1 or underlyings < 1 or strategies < 1:
            raise ValueError(f"gate: counts must be positive, were {instruments}, {underlyings}, {strategies}")
        self.instrument_count = instruments
        self.underlying_count = underlyings
        self.strategy_count = strategies
        self.limits = <limits_t*>calloc(instruments, sizeof(limits_t))
        self.underlyings = <underlying_t*>calloc(underlyings, sizeof(underlying_t))
        self.exposures = <exposure_t*>calloc(<size_t>strategies * <size_t>instruments, sizeof(exposure_t))
        self.used_totals = <wide_t*>calloc(<size_t>strategies * VENUES, sizeof(wide_t))
        self.allotments = <int64_t*>calloc(<size_t>strategies * VENUES, sizeof(int64_t))
        self.paces = <pace_t*>calloc(strategies, sizeof(pace_t))
        self.recent = <recent_t*>calloc(RECENT, sizeof(recent_t))
        self.buckets = <int64_t*>malloc(BUCKETS * sizeof(int64_t))
        if (
            self.limits == NULL or self.underlyings == NULL or self.exposures == NULL or self.used_totals == NULL
            or self.allotments == NULL or self.paces == NULL or self.recent == NULL or self.buckets == NULL
        ):
            raise MemoryError("gate: no memory for its tables")
        for i in range(BUCKETS):
            self.buckets[i] = -1
        for i in range(<size_t>instruments):
            self.limits[i].mark_px = self.limits[i].value_px = NO_PX
            self.limits[i].own_bid_px = self.limits[i].own_ask_px = NO_PX
        self.books = [None] * instruments

    def __dealloc__(self):
        cdef int32_t i
        if self.paces != NULL:
            for i in range(self.strategy_count):
                free(self.paces[i].times)
        free(self.limits)
        free(self.underlyings)
        free(self.exposures)
        free(self.used_totals)
        free(self.allotments)
        free(self.paces)
        free(self.recent)
        free(self.buckets)

    # --- what is set --------------------------------------------------------------------------------------------

    def define(
        self, int index, *, int underlying, int64_t base_atoms_per_lot, int64_t value_num, int64_t value_den,
        int64_t min_qty_lots, int64_t max_qty_lots, int64_t min_notional_atoms, int64_t max_order_notional_atoms,
        int64_t collar_ppm, int64_t max_position_lots, int max_open_orders,
    ):
        """Say what an instrument is and what its limits are. Again, with the same underlying: limits change."""
        cdef limits_t* its = self.at(index)
        if not 0 <= underlying < self.underlying_count:
            raise IndexError(f"gate: underlying must be 0..{self.underlying_count - 1}, was {underlying}")
        if value_num <= 0 or value_den <= 0 or base_atoms_per_lot <= 0:
            raise ValueError(f"gate: instrument {index}: scales must be positive")
        if its.is_defined and (its.underlying != underlying or its.base_atoms_per_lot != base_atoms_per_lot
                               or its.value_num != value_num or its.value_den != value_den):
            raise ValueError(f"gate: instrument {index}: underlying and scales cannot change")
        its.is_defined = True
        its.underlying = underlying
        its.base_atoms_per_lot = base_atoms_per_lot
        its.value_num = value_num
        its.value_den = value_den
        its.min_qty_lots = min_qty_lots
        its.max_qty_lots = max_qty_lots
        its.min_notional_atoms = min_notional_atoms
        its.max_order_notional_atoms = max_order_notional_atoms
        its.collar_ppm = collar_ppm
        its.max_position_lots = max_position_lots
        its.max_open_orders = max_open_orders

    def bind_book(self, int index, Book book not None):
        """Take the collar's reference from this book."""
        self.at(index).book = &book.l2
        self.books[index] = book

    def set_venue(self, int index, int venue):
        """Say which venue's allotment an instrument uses; before the first order."""
        if not 0 < venue < VENUES:
            raise ValueError(f"gate: venue must be 1..{VENUES - 1}, was {venue}")
        if self.at(index).is_used and self.limits[index].venue != venue:
            raise ValueError(f"gate: instrument {index}: its venue cannot change after its first order")
        self.limits[index].venue = venue

    def set_state(self, int index, int state):
        """InstrumentState; only TRADING (1) lets a position open."""
        self.at(index).state = state

    def set_mark(self, int index, int64_t px_ticks, int64_t now_ns):
        """The venue's mark price: reference where the book gives none. NO_PX, or what no price can be: none."""
        cdef limits_t* its = self.at(index)
        if not 0 < px_ticks < AMOUNT_LIMIT:
            px_ticks = NO_PX
        its.mark_px = px_ticks
        its.mark_ts_ns = now_ns
        if px_ticks != NO_PX:
            its.value_px = px_ticks
            self.refresh_gross(its)

    def set_own(self, int index, int64_t best_own_bid_px, int64_t best_own_ask_px):
        """Best prices of our own resting orders on the venue, NO_PX where none."""
        cdef limits_t* its = self.at(index)
        its.own_bid_px = best_own_bid_px
        its.own_ask_px = best_own_ask_px

    def set_underlying_limit(self, int underlying, int64_t max_long_atoms, int64_t max_short_atoms):
        """Largest worst case over all venues, base atoms, both positive."""
        if not 0 <= underlying < self.underlying_count:
            raise IndexError(f"gate: underlying must be 0..{self.underlying_count - 1}, was {underlying}")
        self.underlyings[underlying].max_long_atoms = max_long_atoms
        self.underlyings[underlying].max_short_atoms = max_short_atoms

    def set_allotment(self, int strategy, int instrument_venue, int64_t atoms):
        """Quote atoms that a strategy may use on a venue."""
        if not 0 <= strategy < self.strategy_count or not 0 < instrument_venue < VENUES:
            raise IndexError(f"gate: no allotment of strategy {strategy} on venue {instrument_venue}")
        self.allotments[strategy * VENUES + instrument_venue] = atoms

    def set_rates(
        self, *, int64_t max_orders, int64_t window_ns, int64_t duplicate_count, int64_t duplicate_window_ns,
        int64_t stale_ns, int64_t max_gross_notional_atoms, int64_t loss_limit_atoms,
    ):
        """Limits that are not an instrument's. max_orders a strategy in any window_ns; duplicate_count equal orders in
        any duplicate_window_ns. Forgets the orders counted so far when max_orders changes."""
        cdef int32_t i
        cdef int64_t* times
        if not 0 <= max_orders <= 1_000_000 or window_ns < 0 or duplicate_window_ns < 0 or stale_ns < 0:
            raise ValueError(f"gate: max_orders must be 0..1000000 and times not negative, was {max_orders}")
        if max_orders != self.max_orders:
            for i in range(self.strategy_count):
                times = <int64_t*>calloc(<size_t>max_orders + 1, sizeof(int64_t))
                if times == NULL:
                    raise MemoryError("gate: no memory for the order times")
                free(self.paces[i].times)
                self.paces[i].times = times
                self.paces[i].count = 0
        self.max_orders = max_orders
        self.window_ns = window_ns
        self.duplicate_count = duplicate_count
        self.duplicate_window_ns = duplicate_window_ns
        self.stale_ns = stale_ns
        self.max_gross_atoms = max_gross_notional_atoms
        self.loss_limit_atoms = loss_limit_atoms

    # --- the checks ---------------------------------------------------------------------------------------------

    def check(
        self, int index, int strategy, int side, int64_t px_ticks, int64_t qty_lots, bint reduce_only, int64_t now_ns
    ):
        """0, or the negative reason (REASONS) why the order must not be sent; the numbers are in last_value and
        last_limit. An order that passes counts towards the rate and as a possible duplicate; nothing is reserved.

        A market order has no price here: give its bound (`market_px`).
        """
        cdef order_t order
        self.at(index)
        if not 0 <= strategy < self.strategy_count or (side != 1 and side != -1):
            raise ValueError(f"gate: no strategy {strategy}, or side {side} is neither 1 nor -1")
        order.index, order.strategy, order.side, order.is_reduce_only = index, strategy, side, reduce_only
        order.px_ticks, order.qty_lots, order.now_ns = px_ticks, qty_lots, now_ns
        return self.check_c(&order)

    cdef int check_c(self, const order_t* order) noexcept nogil:
        cdef limits_t* its = &self.limits[order.index]
        cdef bint is_closing
        cdef int reason
        if self.is_killed:
            return self.refuse(R_KILLED, 1, 0)
        if order.px_ticks <= 0 or order.px_ticks >= AMOUNT_LIMIT:
            return self.refuse(R_BAD_PX, order.px_ticks, 1)
        if order.qty_lots <= 0 or order.qty_lots < its.min_qty_lots:
            return self.refuse(R_BAD_QTY, order.qty_lots, larger(its.min_qty_lots, 1))
        if order.qty_lots > its.max_qty_lots or order.qty_lots >= AMOUNT_LIMIT:
            return self.refuse(R_MAX_ORDER_QTY, order.qty_lots, its.max_qty_lots)
        is_closing = closes(its, order)
        reason = self.check_order(its, order, is_closing)
        if reason == 0:
            reason = self.check_price(its, order, is_closing)
        if reason == 0:
            reason = self.check_exposure(its, order)
        if reason == 0:
            reason = self.check_pace(order)
        if reason == 0:
            self.note_order(order)
        return reason

    cdef int refuse(self, int reason, int64_t value, int64_t limit) noexcept nogil:
        self.last_value = value
        self.last_limit = limit
        return reason

    cdef int check_order(self, const limits_t* its, const order_t* order, bint is_closing) noexcept nogil:
        """Whether this order may be sent at all, by itself."""
        cdef int64_t value
        if not its.is_defined or (its.state != TRADING and not is_closing):
            return self.refuse(R_NOT_TRADING, its.state, TRADING)
        if self.is_reduce_only and not is_closing:
            return self.refuse(R_REDUCE_ONLY_MODE, its.position_lots, 0)
        if self.loss_atoms > self.loss_limit_atoms and not is_closing:
            return self.refuse(R_LOSS_LIMIT, self.loss_atoms, self.loss_limit_atoms)
        value = wide_value(order.px_ticks, order.qty_lots, its.value_num, its.value_den)
        if value < its.min_notional_atoms and not (order.is_reduce_only and is_closing):
            return self.refuse(R_MIN_NOTIONAL, value, its.min_notional_atoms)
        if value > its.max_order_notional_atoms:
            return self.refuse(R_MAX_ORDER_NOTIONAL, value, its.max_order_notional_atoms)
        return 0

    cdef int check_price(self, limits_t* its, const order_t* order, bint is_closing) noexcept nogil:
        """Collar around the mid of a good book, else around a fresh mark (closing orders, or a book with one side
        empty); then our own orders on the other side."""
        cdef const book_t* book = its.book
        cdef int reason = R_NO_REFERENCE
        cdef int64_t ref2 = 0
        cdef int64_t value = 0
        cdef int64_t limit = 0
        if book != NULL:
            if not book.is_valid:
                reason = R_INVALID_BOOK
            elif not is_fresh(book.recv_ts_ns, order.now_ns, self.stale_ns):
                reason, value, limit = R_STALE_BOOK, order.now_ns - book.recv_ts_ns, self.stale_ns
            elif book.bids.best_qty != 0 and book.asks.best_qty != 0 and book.bids.best_px > 0:
                ref2 = book.bids.best_px + book.asks.best_px
        if ref2 == 0 and (is_closing or reason == R_NO_REFERENCE):
            if its.mark_px != NO_PX and is_fresh(its.mark_ts_ns, order.now_ns, self.stale_ns):
                ref2 = 2 * its.mark_px
        if ref2 == 0:
            return self.refuse(reason, value, limit)
        if wide_outside(order.px_ticks, ref2, its.collar_ppm):
            value = 1 if 2 * order.px_ticks > ref2 else -1
            return self.refuse(R_PRICE_COLLAR, order.px_ticks, wide_edge(ref2, its.collar_ppm, <int>value))
        if order.side > 0 and its.own_ask_px != NO_PX and order.px_ticks >= its.own_ask_px:
            return self.refuse(R_SELF_MATCH, order.px_ticks, its.own_ask_px)
        if order.side < 0 and its.own_bid_px != NO_PX and order.px_ticks <= its.own_bid_px:
            return self.refuse(R_SELF_MATCH, order.px_ticks, its.own_bid_px)
        if its.value_px != ref2 // 2:
            its.value_px = ref2 // 2
            self.refresh_gross(its)
        return 0

    cdef int check_exposure(self, limits_t* its, const order_t* order) noexcept nogil:
        """What would be if this order, and all orders on its side before it, filled."""
        cdef int64_t buy = order.qty_lots if order.side > 0 else 0
        cdef int64_t sell = order.qty_lots - buy
        cdef underlying_t* underlying = &self.underlyings[its.underlying]
        cdef exposure_t* own = &self.exposures[order.strategy * self.instrument_count + order.index]
        cdef int64_t at_venue = order.strategy * VENUES + its.venue
        cdef int64_t value
        if order.side > 0:
            value = its.position_lots + its.open_buy_lots + buy
        else:
            value = its.open_sell_lots + sell - its.position_lots
        if value > its.max_position_lots:
            return self.refuse(R_POSITION_LIMIT, value, its.max_position_lots)
        if order.side > 0:
            value = wide_with(&underlying.longest, buy, its.base_atoms_per_lot)
            if value > underlying.max_long_atoms:
                return self.refuse(R_UNDERLYING_LIMIT, value, underlying.max_long_atoms)
        else:
            value = wide_with(&underlying.shortest, sell, its.base_atoms_per_lot)
            if value > underlying.max_short_atoms:
                return self.refuse(R_UNDERLYING_LIMIT, value, underlying.max_short_atoms)
        value = wide_value(its.value_px, worst_lots(its, buy, sell), its.value_num, its.value_den) - its.gross_atoms
        if value > 0:  # an order that adds no gross exposure passes above the limit
            value = wide_with(&self.gross, value, 1)
            if value > self.max_gross_atoms:
                return self.refuse(R_GROSS_LIMIT, value, self.max_gross_atoms)
        value = wide_worst(
            &own.held, &own.buys, &own.sells, order.px_ticks, buy, sell, its.value_num, its.value_den
        ) - own.used_atoms
        if value > 0:
            value = wide_with(&self.used_totals[at_venue], value, 1)
            if value > self.allotments[at_venue]:
                return self.refuse(R_ALLOTMENT, value, self.allotments[at_venue])
        if its.open_orders >= its.max_open_orders:
            return self.refuse(R_OPEN_ORDERS, its.open_orders + 1, its.max_open_orders)
        return 0

    cdef int check_pace(self, const order_t* order) noexcept nogil:
        """Orders of the strategy in the window, then equal orders in theirs."""
        cdef pace_t* pace = &self.paces[order.strategy]
        cdef recent_t* entry
        cdef int64_t number
        cdef int64_t equal = 0
        cdef int64_t oldest_kept = self.recent_count - RECENT
        if self.max_orders == 0 or (
            pace.count >= self.max_orders
            and order.now_ns - pace.times[pace.count % self.max_orders] < self.window_ns
        ):
            return self.refuse(R_ORDER_RATE, self.max_orders + 1, self.max_orders)
        number = self.buckets[bucket_of(order)]
        while number >= 0 and number >= oldest_kept:
            entry = &self.recent[number % RECENT]
            if order.now_ns - entry.ts_ns >= self.duplicate_window_ns:
                break
            equal += (
                entry.px_ticks == order.px_ticks and entry.qty_lots == order.qty_lots and entry.index == order.index
                and entry.strategy == order.strategy and entry.side == order.side
            )
            number = entry.previous
        if equal >= self.duplicate_count:
            return self.refuse(R_DUPLICATE, equal + 1, self.duplicate_count)
        return 0

    cdef void note_order(self, const order_t* order) noexcept nogil:
        cdef pace_t* pace = &self.paces[order.strategy]
        cdef recent_t* entry = &self.recent[self.recent_count % RECENT]
        cdef int64_t bucket = bucket_of(order)
        pace.times[pace.count % self.max_orders] = order.now_ns
        pace.count += 1
        entry.previous = self.buckets[bucket]
        entry.ts_ns = order.now_ns
        entry.px_ticks = order.px_ticks
        entry.qty_lots = order.qty_lots
        entry.index = order.index
        entry.strategy = order.strategy
        entry.side = order.side
        self.buckets[bucket] = self.recent_count
        self.recent_count = self.recent_count + 1

    def market_px(self, int index, int side, int64_t now_ns):
        """The bound that a market order must carry: the collar's edge on its far side, NO_PX without a reference."""
        cdef limits_t* its = self.at(index)
        cdef const book_t* book = its.book
        cdef int64_t ref2 = 0
        if book != NULL and book.is_valid and is_fresh(book.recv_ts_ns, now_ns, self.stale_ns):
            if book.bids.best_qty != 0 and book.asks.best_qty != 0 and book.bids.best_px > 0:
                ref2 = book.bids.best_px + book.asks.best_px
        if ref2 == 0 and its.mark_px != NO_PX and is_fresh(its.mark_ts_ns, now_ns, self.stale_ns):
            ref2 = 2 * its.mark_px
        return NO_PX if ref2 == 0 else larger(wide_edge(ref2, its.collar_ppm, side), 1)

    # --- what is open and held ----------------------------------------------------------------------------------

    def reserve(self, int index, int strategy, int side, int64_t px_ticks, int64_t qty_lots):
        """Count an order from now on, before its first byte is sent."""
        self.require(index, strategy, side, px_ticks, qty_lots)
        self.add_open(index, strategy, side, px_ticks, qty_lots)
        self.limits[index].open_orders += 1
        self.limits[index].is_used = True

    def release(self, int index, int strategy, int side, int64_t px_ticks, int64_t qty_lots, bint is_closed):
        """Count qty_lots of an order no longer: cancelled, expired, rejected, reduced. `is_closed`: it is gone."""
        self.require_open(index, strategy, side, px_ticks, qty_lots, is_closed)
        self.add_open(index, strategy, side, px_ticks, -qty_lots)
        self.limits[index].open_orders -= is_closed

    def on_fill(self, int index, int strategy, int side, int64_t order_px_ticks, int64_t qty_lots, bint is_closed):
        """Move filled lots of an order from reserved to position. `order_px_ticks` is the price it was reserved at."""
        self.require_open(index, strategy, side, order_px_ticks, qty_lots, is_closed)
        self.add_open(index, strategy, side, order_px_ticks, -qty_lots)
        self.add_fill(index, strategy, side, order_px_ticks, qty_lots)
        self.limits[index].open_orders -= is_closed

    def on_late_fill(self, int index, int strategy, int side, int64_t px_ticks, int64_t qty_lots):
        """Count a fill of an order that is reserved no longer: it came after the venue had closed the order."""
        self.require(index, strategy, side, px_ticks, qty_lots)
        self.add_fill(index, strategy, side, px_ticks, qty_lots)

    def set_position(self, int index, int64_t qty_lots):
        """Take the venue's word for a position. What it cost each strategy stays as the fills told."""
        cdef limits_t* its = self.at(index)
        if not -AMOUNT_LIMIT < qty_lots < AMOUNT_LIMIT:
            raise ValueError(f"gate: instrument {index}: position {qty_lots} lots is beyond 2**60")
        self.add_position(index, qty_lots - its.position_lots)

    cdef void add_open(self, int32_t index, int32_t strategy, int side, int64_t px, int64_t qty) noexcept nogil:
        cdef limits_t* its = &self.limits[index]
        cdef exposure_t* own = &self.exposures[strategy * self.instrument_count + index]
        cdef underlying_t* underlying = &self.underlyings[its.underlying]
        if side > 0:
            its.open_buy_lots += qty
            wide_add(&underlying.longest, qty, its.base_atoms_per_lot)
            wide_add(&own.buys, px, qty)
        else:
            its.open_sell_lots += qty
            wide_add(&underlying.shortest, qty, its.base_atoms_per_lot)
            wide_add(&own.sells, px, qty)
        self.refresh_gross(its)
        self.refresh_used(its, index, strategy)

    cdef void add_position(self, int32_t index, int64_t qty) noexcept nogil:
        cdef limits_t* its = &self.limits[index]
        cdef underlying_t* underlying = &self.underlyings[its.underlying]
        its.position_lots += qty
        wide_add(&underlying.longest, qty, its.base_atoms_per_lot)
        wide_add(&underlying.shortest, -qty, its.base_atoms_per_lot)
        self.refresh_gross(its)

    cdef void add_fill(self, int32_t index, int32_t strategy, int side, int64_t px, int64_t qty) noexcept nogil:
        self.add_position(index, side * qty)
        self.fill_exposure(&self.exposures[strategy * self.instrument_count + index], side, px, qty)
        self.refresh_used(&self.limits[index], index, strategy)
        self.limits[index].is_used = True

    cdef void fill_exposure(self, exposure_t* own, int side, int64_t px, int64_t qty) noexcept nogil:
        """Add a fill to a strategy's cost; closing takes away its share, so that a flat position costs nothing."""
        cdef int64_t held = own.position_lots if own.position_lots >= 0 else -own.position_lots
        cdef int64_t closed = 0
        if own.position_lots * side < 0:
            closed = qty if qty < held else held
            wide_keep(&own.held, held - closed, held)
        own.position_lots += side * qty
        wide_add(&own.held, side * px, qty - closed)

    cdef void refresh_gross(self, limits_t* its) noexcept nogil:
        cdef int64_t atoms = 0
        if its.value_px != NO_PX and its.is_defined:
            atoms = wide_value(its.value_px, worst_lots(its, 0, 0), its.value_num, its.value_den)
        wide_add(&self.gross, atoms - its.gross_atoms, 1)
        its.gross_atoms = atoms

    cdef void refresh_used(self, limits_t* its, int32_t index, int32_t strategy) noexcept nogil:
        cdef exposure_t* own = &self.exposures[strategy * self.instrument_count + index]
        cdef int64_t atoms = wide_worst(
            &own.held, &own.buys, &own.sells, 0, 0, 0, its.value_num, its.value_den
        )
        wide_add(&self.used_totals[strategy * VENUES + its.venue], atoms - own.used_atoms, 1)
        own.used_atoms = atoms

    # --- reading ------------------------------------------------------------------------------------------------

    def position(self, int index):
        """Signed lots held."""
        return self.at(index).position_lots

    def open_buy(self, int index):
        """Lots of our buy orders that may still fill."""
        return self.at(index).open_buy_lots

    def open_sell(self, int index):
        """Lots of our sell orders that may still fill."""
        return self.at(index).open_sell_lots

    def open_orders(self, int index):
        """Number of our orders that may still fill."""
        return self.at(index).open_orders

    def worst_long(self, int underlying):
        """Base atoms over all venues when every buy has filled and no sell."""
        if not 0 <= underlying < self.underlying_count:
            raise IndexError(f"gate: underlying must be 0..{self.underlying_count - 1}, was {underlying}")
        return wide_with(&self.underlyings[underlying].longest, 0, 0)

    def worst_short(self, int underlying):
        """Base atoms short (positive) over all venues when every sell has filled and no buy."""
        if not 0 <= underlying < self.underlying_count:
            raise IndexError(f"gate: underlying must be 0..{self.underlying_count - 1}, was {underlying}")
        return wide_with(&self.underlyings[underlying].shortest, 0, 0)

    def used(self, int strategy, int venue):
        """Quote atoms of the allotment in use: worst case of each instrument at order prices, summed."""
        if not 0 <= strategy < self.strategy_count or not 0 <= venue < VENUES:
            raise IndexError(f"gate: no allotment of strategy {strategy} on venue {venue}")
        return wide_with(&self.used_totals[strategy * VENUES + venue], 0, 0)

    @property
    def gross_atoms(self):
        """Worst case of all instruments at their last reference prices, quote atoms."""
        return wide_with(&self.gross, 0, 0)

    cdef limits_t* at(self, int index) except NULL:
        if not 0 <= index < self.instrument_count:
            raise IndexError(f"gate: index must be 0..{self.instrument_count - 1}, was {index}")
        return &self.limits[index]

    cdef int require(self, int index, int strategy, int side, int64_t px, int64_t qty) except -1:
        """Refuse what no order of ours can be; a wrong sum here would be a wrong limit later."""
        cdef limits_t* its = self.at(index)
        if not its.is_defined or not 0 <= strategy < self.strategy_count or (side != 1 and side != -1):
            raise ValueError(f"gate: no such order: instrument {index}, strategy {strategy}, side {side}")
        if not 0 < px < AMOUNT_LIMIT or not 0 <= qty < AMOUNT_LIMIT:
            raise ValueError(f"gate: instrument {index}: no such order: {qty} lots at {px} ticks")
        if its.open_buy_lots >= AMOUNT_LIMIT or its.open_sell_lots >= AMOUNT_LIMIT:
            raise OverflowError(f"gate: instrument {index}: more than 2**60 lots open")
        return 0

    cdef int require_open(
        self, int index, int strategy, int side, int64_t px, int64_t qty, bint is_closed
    ) except -1:
        cdef int64_t open_lots
        self.require(index, strategy, side, px, qty)
        open_lots = self.limits[index].open_buy_lots if side > 0 else self.limits[index].open_sell_lots
        if qty > open_lots:
            raise ValueError(f"gate: instrument {index}: {qty} lots released, {open_lots} were reserved")
        if is_closed and self.limits[index].open_orders <= 0:
            raise ValueError(f"gate: instrument {index}: an order closed, none was open")
        return 0
