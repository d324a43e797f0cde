"""Request budgets for other extensions: decide without the GIL."""

from libc.stdint cimport int64_t

cdef enum:
    PRIORITIES = 6
    RING = 128   # slices kept of a rolling window, a power of two
    SLICES = 32  # slices a window is cut into


cdef class Throttle:
    cdef int64_t limits[PRIORITIES]   # weight a class may fill the window up to
    cdef int64_t frozen[PRIORITIES]   # ns, monotonic
    cdef int64_t refused[PRIORITIES]  # count
    cdef int64_t capacity_            # weight
    cdef int64_t window               # ns
    cdef int64_t guard                # ns
    cdef int64_t reserve_ppm
    cdef int kind_
    # Calendar: weight of the window before, of this one, and of the next as far as it is charged already.
    cdef int64_t offset               # ns, server UTC minus monotonic
    cdef int64_t window_id
    cdef int64_t prev
    cdef int64_t cur
    cdef int64_t next
    cdef int64_t pos                  # ns since the start of this window, set by turn()
    # Rolling: weight by slice of time; slice i is in ring[i & (RING - 1)].
    cdef int64_t slice_ns
    cdef int64_t keep                 # slices after which one no longer counts
    cdef int64_t head                 # number of the newest slice
    cdef int64_t total
    cdef int64_t ring[RING]
    cdef int64_t granted
    cdef int64_t granted_weight_
    cdef int64_t freezes
    cdef int64_t foreign

    cdef void turn(self, int64_t now_ns) noexcept nogil
    cdef int64_t wait_of(self, int64_t weight, int priority, int64_t now_ns) noexcept nogil
    cdef int64_t wait_calendar(self, int64_t weight, int64_t limit) noexcept nogil
    cdef int64_t wait_rolling(self, int64_t weight, int64_t limit, int64_t now_ns) noexcept nogil
    cdef void charge(self, int64_t weight) noexcept nogil
    # 0: granted and charged. Else the wait in ns; nothing is charged. `priority` must be one of the six.
    cdef int64_t acquire_c(self, int64_t weight, int priority, int64_t now_ns) noexcept nogil
    cdef void learn_used(self, int64_t used, int64_t now_ns, int64_t sent_ns) noexcept nogil
    cdef void derive_limits(self) noexcept nogil
