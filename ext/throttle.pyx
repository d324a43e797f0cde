"""Request budgets with priorities: one decision in a few dozen nanoseconds, without a clock and without a sleep.

Owns how much of a venue's window is used, by our own count and by the venue's headers, whichever is larger. It never
knows what a request is, nor when to ask again: the caller is told the wait and queues. Two kinds of window:

- CALENDAR (Binance): fixed windows aligned to server time. A request may land in the window before or after the one
  our estimate of the server's clock says, so within `guard` of a border it is charged to both windows.
- ROLLING (Bybit): any span of `window` ns. Time is cut into slices of 1/32 window; a slice counts until all of it is
  older than window + 2 guard, so no span of the venue's time holds more than the capacity.

Rules: Binance "LIMITS" (headers, 429, 418), Bybit v5 "Rate Limit" (X-Bapi-Limit, -Status, -Reset-Timestamp).
"""

from libc.stdint cimport INT64_MAX, int64_t
from libc.string cimport memset

CALENDAR = 0
ROLLING = 1

CANCEL = 0
HEDGE = 1
REDUCE = 2
NEW = 3
QUERY = 4
BULK = 5

NEVER = INT64_MAX

cdef enum:
    KIND_CALENDAR = 0
    KIND_ROLLING = 1

cdef int64_t PPM = 1_000_000
cdef int64_t WEIGHT_MAX = 1 << 40
cdef int64_t GUARD_MAX_NS = 100_000_000
cdef int64_t WINDOW_MAX_NS = 7 * 86_400 * 1_000_000_000
cdef int64_t TIME_MAX_NS = 1 << 62

# What each class leaves free, in quarters of the reserve. A cancel may take the last unit; bulk stops at twice.
cdef int64_t[6] SHARES = [0, 2, 3, 4, 6, 8]


cdef int64_t checked_weight(int64_t weight) except -1:
    if not 0 <= weight <= WEIGHT_MAX:
        raise ValueError(f"weight must be 0..2**40, was {weight}")
    return weight


cdef int checked_priority(int priority) except -1:
    if not 0 <= priority < PRIORITIES:
        raise ValueError(f"priority must be 0..5, was {priority}")
    return priority


cdef int64_t checked_time(int64_t time_ns) except -1:
    if not 0 <= time_ns <= TIME_MAX_NS:
        raise ValueError(f"time must be 0..2**62 ns, was {time_ns}")
    return time_ns


cdef class Throttle:
    def __cinit__(self, capacity, window_ns, int kind, reserve_ppm=200_000, guard_ns=-1):
        if not 1 <= window_ns <= WINDOW_MAX_NS:
            raise ValueError(f"window_ns must be 1..{WINDOW_MAX_NS}, was {window_ns}")
        if kind != KIND_CALENDAR and kind != KIND_ROLLING:
            raise ValueError(f"kind must be CALENDAR or ROLLING, was {kind}")
        if not 0 <= reserve_ppm <= 500_000:
            raise ValueError(f"reserve_ppm must be 0..500000, was {reserve_ppm}")
        self.window = window_ns
        self.kind_ = kind
        self.reserve_ppm = reserve_ppm
        widest = self.window // 4 if kind == KIND_CALENDAR else self.window
        if not -1 <= guard_ns <= widest:
            raise ValueError(f"guard_ns must be -1..{widest} for this window, was {guard_ns}")
        self.guard = guard_ns if guard_ns >= 0 else min(self.window // 50, GUARD_MAX_NS)
        self.slice_ns = (self.window + SLICES - 1) // SLICES
        self.keep = (self.window + 2 * self.guard + self.slice_ns - 1) // self.slice_ns
        self.set_capacity(capacity)

    cdef void derive_limits(self) noexcept nogil:
        cdef int i
        for i in range(PRIORITIES):
            self.limits[i] = self.capacity_ - self.capacity_ * (self.reserve_ppm * SHARES[i] // 4) // PPM

    # Bring the window up to this time. Time that goes back changes nothing.
    cdef void turn(self, int64_t now_ns) noexcept nogil:
        cdef int64_t number, server_ns, i, slot
        if self.kind_ == KIND_CALENDAR:
            server_ns = max(now_ns + self.offset, 0)
            number = server_ns // self.window
            if number < self.window_id:
                self.pos = 0
                return
            self.pos = server_ns - number * self.window
            if number == self.window_id:
                return
            if number == self.window_id + 1:
                self.prev = self.cur
                self.cur = self.next
            else:
                self.prev = self.next if number == self.window_id + 2 else 0
                self.cur = 0
            self.next = 0
            self.window_id = number
            return
        number = now_ns // self.slice_ns
        if number <= self.head:
            return
        if number - self.head > self.keep:
            memset(self.ring, 0, sizeof(self.ring))
            self.total = 0
        else:
            for i in range(self.head - self.keep, number - self.keep):
                slot = i & (RING - 1)
                self.total = self.total - self.ring[slot]
                self.ring[slot] = 0
        self.head = number

    cdef int64_t wait_calendar(self, int64_t weight, int64_t limit) noexcept nogil:
        cdef int64_t left = self.window - self.pos
        cdef bint is_early = self.pos < self.guard
        cdef bint is_late = left <= self.guard
        if self.cur + weight <= limit:
            if not (is_late and self.next + weight > limit):
                # An early request may still fall into the window before: that one must have room too.
                return self.guard - self.pos if is_early and self.prev + weight > limit else 0
            return left + self.window + self.guard
        # This window is full. Past the guard of the next one, what this one holds no longer matters.
        return left + self.guard + (self.window if self.next + weight > limit else 0)

    cdef int64_t wait_rolling(self, int64_t weight, int64_t limit, int64_t now_ns) noexcept nogil:
        cdef int64_t excess = self.total + weight - limit, freed = 0, i = self.head - self.keep - 1
        if excess <= 0:
            return 0
        while freed < excess:
            i += 1
            freed += self.ring[i & (RING - 1)]
        # The slice stops counting when `keep` whole slices have begun after it.
        return (i + self.keep + 1) * self.slice_ns - now_ns

    cdef int64_t wait_of(self, int64_t weight, int priority, int64_t now_ns) noexcept nogil:
        cdef int64_t limit = self.limits[priority], wait, thaw = self.frozen[priority] - now_ns
        self.turn(now_ns)
        if weight > limit:
            if weight > self.capacity_:
                return INT64_MAX
            # Larger than its class's share: it would wait for ever, so it may have an empty window.
            limit = weight
        if self.kind_ == KIND_CALENDAR:
            wait = self.wait_calendar(weight, limit)
        else:
            wait = self.wait_rolling(weight, limit, now_ns)
        return thaw if thaw > wait else wait

    # Charge to every window that the venue may count it in. A negative weight at the same time takes it back.
    cdef void charge(self, int64_t weight) noexcept nogil:
        cdef int64_t slot
        if self.kind_ == KIND_ROLLING:
            slot = self.head & (RING - 1)
            self.ring[slot] = self.ring[slot] + weight
            self.total = self.total + weight
            return
        self.cur = self.cur + weight
        if self.pos < self.guard:
            self.prev = self.prev + weight
        if self.window - self.pos <= self.guard:
            self.next = self.next + weight

    cdef int64_t acquire_c(self, int64_t weight, int priority, int64_t now_ns) noexcept nogil:
        cdef int64_t wait = self.wait_of(weight, priority, now_ns)
        if wait > 0:
            self.refused[priority] = self.refused[priority] + 1
            return wait
        self.charge(weight)
        self.granted = self.granted + 1
        self.granted_weight_ = self.granted_weight_ + weight
        return 0

    cdef void learn_used(self, int64_t used, int64_t now_ns, int64_t sent_ns) noexcept nogil:
        cdef int64_t sent_server_ns, more
        self.turn(now_ns)
        if self.kind_ == KIND_CALENDAR:
            sent_server_ns = (sent_ns if sent_ns > 0 else now_ns) + self.offset
            if sent_server_ns < self.window_id * self.window + self.guard:
                # The venue may have counted it in the window before, where the count says nothing about this one.
                if self.prev < used:
                    self.prev = used
                return
            more = used - self.cur
            if more > 0:
                self.cur = used
                self.foreign = self.foreign + more
            return
        more = used - self.total
        if more > 0:
            self.charge(more)
            self.foreign = self.foreign + more

    def acquire(self, int64_t weight, int priority, int64_t now_ns):
        return self.acquire_c(checked_weight(weight), checked_priority(priority), checked_time(now_ns))

    def peek(self, int64_t weight, int priority, int64_t now_ns):
        return self.wait_of(checked_weight(weight), checked_priority(priority), checked_time(now_ns))

    def on_used(self, int64_t used, int64_t now_ns, int64_t sent_ns=0):
        if 0 <= used <= WEIGHT_MAX:
            self.learn_used(used, checked_time(now_ns), checked_time(sent_ns))

    def on_remaining(self, int64_t remaining, int64_t limit, int64_t now_ns):
        if not 0 < limit <= WEIGHT_MAX:
            return
        if limit != self.capacity_:
            self.set_capacity(limit)
        if 0 <= remaining <= limit:
            self.learn_used(limit - remaining, checked_time(now_ns), 0)

    def freeze(self, int64_t until_ns, int priority=0):
        cdef int64_t until = checked_time(until_ns)
        cdef int i
        for i in range(checked_priority(priority), PRIORITIES):
            self.frozen[i] = max(self.frozen[i], until)
        self.freezes = self.freezes + 1

    def unfreeze(self):
        memset(self.frozen, 0, sizeof(self.frozen))

    def is_open(self, now_ns):
        # A freeze always covers the lowest class.
        return self.frozen[PRIORITIES - 1] > checked_time(now_ns)

    def set_capacity(self, int64_t capacity):
        if not 1 <= capacity <= WEIGHT_MAX:
            raise ValueError(f"capacity must be 1..2**40, was {capacity}")
        self.capacity_ = capacity
        self.derive_limits()

    def set_server_offset(self, int64_t offset_ns):
        # Relabel instead of turning: what this window holds stays in it, so a corrected clock never frees budget.
        cdef int64_t now_ns = self.window_id * self.window + self.pos - self.offset
        cdef int64_t number
        if not -TIME_MAX_NS <= offset_ns <= TIME_MAX_NS:
            raise ValueError(f"offset must be within 2**62 ns, was {offset_ns}")
        self.offset = offset_ns
        if self.kind_ == KIND_CALENDAR and self.window_id > 0:
            number = max(now_ns + offset_ns, 0) // self.window
            if number != self.window_id:
                self.prev = max(self.prev, self.cur)
                self.window_id = number

    def used(self, now_ns):
        self.turn(checked_time(now_ns))
        return self.cur if self.kind_ == KIND_CALENDAR else self.total

    def headroom_ppm(self, now_ns):
        if self.is_open(now_ns):
            return 0
        return max(self.capacity_ - <int64_t> self.used(now_ns), 0) * PPM // self.capacity_

    def _check(self):
        """Raise AssertionError unless what must hold between any two calls does."""
        total = sum([self.ring[i] for i in range(RING)])
        if total != self.total or min([self.ring[i] for i in range(RING)]) < 0:
            raise AssertionError(f"total {self.total}, slices sum to {total}")
        if min(self.prev, self.cur, self.next) < 0:
            raise AssertionError(f"windows hold {self.prev} {self.cur} {self.next}")
        limits = [self.limits[i] for i in range(PRIORITIES)]
        if limits != sorted(limits, reverse=True) or limits[0] != self.capacity_ or limits[PRIORITIES - 1] < 0:
            raise AssertionError(f"shares of {self.capacity_} are {limits}")

    @property
    def capacity(self):
        return self.capacity_

    @property
    def window_ns(self):
        return self.window

    @property
    def kind(self):
        return self.kind_

    @property
    def guard_ns(self):
        return self.guard

    @property
    def frozen_until_ns(self):
        return self.frozen[PRIORITIES - 1]

    @property
    def granted_count(self):
        return self.granted

    @property
    def granted_weight(self):
        return self.granted_weight_

    @property
    def refused_count(self):
        return sum(self.refused_by_priority)

    @property
    def refused_by_priority(self):
        return tuple([self.refused[i] for i in range(PRIORITIES)])

    @property
    def freeze_count(self):
        return self.freezes

    @property
    def foreign_weight(self):
        return self.foreign


def acquire_all(throttles, weights, priority, now_ns):
    cdef Throttle throttle
    cdef int64_t wait, longest = 0, now = checked_time(now_ns)
    cdef int level = checked_priority(priority)
    cdef Py_ssize_t charged = 0, i, count = len(throttles)
    if count != len(weights):
        raise ValueError(f"one weight a throttle: {count} throttles, {len(weights)} weights")
    amounts = [checked_weight(weight) for weight in weights]
    # Charge as we go, so that a throttle named twice sees its own first weight; take it all back on a refusal.
    for i in range(count):
        throttle = throttles[i]
        wait = throttle.wait_of(amounts[i], level, now)
        if wait > 0:
            throttle.refused[level] = throttle.refused[level] + 1
            longest = max(longest, wait)
        if longest == 0:
            throttle.charge(amounts[i])
            charged += 1
    for i in range(charged):
        throttle = throttles[i]
        if longest > 0:
            throttle.charge(-<int64_t> amounts[i])
        else:
            throttle.granted = throttle.granted + 1
            throttle.granted_weight_ = throttle.granted_weight_ + <int64_t> amounts[i]
    return longest
