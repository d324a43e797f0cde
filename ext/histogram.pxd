# Log-linear histogram of nanoseconds (or any int64 >= 0): 128 linear steps to each power of two, error below 0.8 %.
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from "native/clock.h":
    int32_t log2_floor(uint64_t value) noexcept nogil

cdef enum:
    SUB_BITS = 7
    SUB_STEPS = 128
    MAX_BITS = 42                                    # 2**42 ns = 73 minutes; larger values count as the largest
    BUCKETS = 4608                                   # (MAX_BITS - SUB_BITS + 1) * SUB_STEPS


cdef struct hist_t:
    int64_t count
    int64_t sum
    int64_t min
    int64_t max
    int64_t clamped        # values below 0 or from 2**MAX_BITS on
    int64_t reserved[3]
    int64_t buckets[BUCKETS]


cdef inline int32_t bucket_of(int64_t value) noexcept nogil:
    # 0 <= value < 2**MAX_BITS
    cdef int32_t shift
    if value < SUB_STEPS:
        return <int32_t> value
    shift = log2_floor(<uint64_t> value) - SUB_BITS
    return (shift << SUB_BITS) + <int32_t> (value >> shift)


cdef inline int64_t bucket_top(int32_t bucket) noexcept nogil:
    # The largest value that falls into the bucket.
    cdef int32_t shift
    if bucket < 2 * SUB_STEPS:
        return bucket
    shift = (bucket >> SUB_BITS) - 1
    return ((<int64_t> (bucket - (shift << SUB_BITS)) + 1) << shift) - 1


cdef inline void hist_record(hist_t* hist, int64_t value) noexcept nogil:
    # 1 to 2 ns. One writer; a reader of the same memory may see the bucket before the count.
    if value < 0 or value >= (<int64_t> 1 << MAX_BITS):
        hist.clamped = hist.clamped + 1
        value = 0 if value < 0 else (<int64_t> 1 << MAX_BITS) - 1
    hist.buckets[bucket_of(value)] = hist.buckets[bucket_of(value)] + 1
    hist.count = hist.count + 1
    hist.sum = hist.sum + value
    if value > hist.max:
        hist.max = value
    if value < hist.min:
        hist.min = value


cdef void hist_reset(hist_t* hist) noexcept nogil
cdef int64_t hist_percentile(const hist_t* hist, double percent) noexcept nogil


cdef class Histogram:
    cdef hist_t* hist
    cdef hist_t* owned     # freed with the object; NULL when the counts lie in a mapped page
    cdef object keeper     # whatever keeps that page mapped

    @staticmethod
    cdef Histogram at(hist_t* hist, object keeper)
    cdef void record_c(self, int64_t value) noexcept nogil
