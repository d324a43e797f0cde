"""Latency histogram: 1 to 2 ns a record, fixed memory (36 KiB), any percentile afterwards.

The layout is that of HdrHistogram with linear steps of 1/128 of each power of two: a percentile is too high by less
than 0.8 %, never too low. The counts may lie in a mapped page that another process reads. One writer.
"""

cimport cython
from libc.math cimport ceil
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free

cdef int64_t NEVER = 0x7FFFFFFFFFFFFFFF

assert BUCKETS == (MAX_BITS - SUB_BITS + 1) * SUB_STEPS


cdef void hist_reset(hist_t* hist) noexcept nogil:
    cdef int32_t i
    for i in range(BUCKETS):
        hist.buckets[i] = 0
    hist.count = hist.sum = hist.max = hist.clamped = 0
    hist.min = NEVER


cdef int64_t hist_percentile(const hist_t* hist, double percent) noexcept nogil:
    # Sums the buckets instead of trusting `count`: a writer may be half-way through a record.
    cdef int64_t total = 0
    cdef int64_t wanted
    cdef int64_t seen = 0
    cdef int32_t i
    for i in range(BUCKETS):
        total = total + hist.buckets[i]
    if total == 0:
        return 0
    wanted = <int64_t> ceil(percent * <double> total / 100.0 - 1e-6)  # 1e-6: rounding of the product
    wanted = 1 if wanted < 1 else (total if wanted > total else wanted)
    for i in range(BUCKETS):
        seen = seen + hist.buckets[i]
        if seen >= wanted:
            return bucket_top(i) if bucket_top(i) < hist.max else hist.max
    return hist.max


@cython.final
cdef class Histogram:
    """Histogram of non-negative integers, in the unit they are recorded in."""

    def __cinit__(self):
        self.hist = NULL
        self.owned = NULL

    def __init__(self) -> None:
        self.owned = <hist_t*> calloc(1, sizeof(hist_t))
        if self.owned == NULL:
            raise MemoryError()
        self.hist = self.owned
        self.hist.min = NEVER

    @staticmethod
    cdef Histogram at(hist_t* hist, object keeper):
        cdef Histogram self = Histogram.__new__(Histogram)
        self.hist = hist
        self.keeper = keeper
        return self

    def __dealloc__(self):
        free(self.owned)

    cdef void record_c(self, int64_t value) noexcept nogil:
        hist_record(self.hist, value)

    def record(self, value: int) -> None:
        """Count one value. Below 0 it counts as 0, above 2**42 as that; both are counted in `clamped`."""
        hist_record(self.hist, value)

    def record_many(self, value: int, count: int) -> None:
        """Record `count` values from `value` on, at most 1024 different ones. For benchmarks: no Python between."""
        cdef int64_t i
        cdef int64_t limit = count
        cdef int64_t at = value
        with nogil:
            for i in range(limit):
                hist_record(self.hist, at + (i & 1023))

    def percentile(self, percent: float) -> int:
        """The value that `percent` (0..100) of the records do not exceed; 0 when there are none."""
        return hist_percentile(self.hist, percent)

    def merge(self, Histogram other not None) -> None:
        """Add the other's counts to this one."""
        cdef int32_t i
        for i in range(BUCKETS):
            self.hist.buckets[i] = self.hist.buckets[i] + other.hist.buckets[i]
        self.hist.count = self.hist.count + other.hist.count
        self.hist.sum = self.hist.sum + other.hist.sum
        self.hist.clamped = self.hist.clamped + other.hist.clamped
        self.hist.max = max(self.hist.max, other.hist.max)
        self.hist.min = min(self.hist.min, other.hist.min)

    def copy(self) -> Histogram:
        """The counts as they are now, in memory of its own."""
        fresh = Histogram()
        fresh.merge(self)
        return fresh

    def reset(self) -> None:
        hist_reset(self.hist)

    def counts(self) -> list[tuple[int, int]]:
        """(largest value of the bucket, records in it) for every bucket that has any, in order."""
        cdef int32_t i
        return [(bucket_top(i), self.hist.buckets[i]) for i in range(BUCKETS) if self.hist.buckets[i]]

    @property
    def count(self) -> int:
        return self.hist.count

    @property
    def sum(self) -> int:
        return self.hist.sum

    @property
    def max(self) -> int:
        return self.hist.max

    @property
    def min(self) -> int:
        """Smallest value, 0 when there are none."""
        return self.hist.min if self.hist.count else 0

    @property
    def mean(self) -> float:
        return self.hist.sum / <double> self.hist.count if self.hist.count else 0.0

    @property
    def clamped(self) -> int:
        return self.hist.clamped
