# The statistics page: named counters, gauges and histograms in a mapped file, and the clock that stamps stages.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from ext.histogram cimport hist_t

cdef enum:
    STAGES_MAX = 12
    VENUES_MAX = 8


cdef struct stats_header_t:
    uint64_t magic
    uint32_t format
    uint32_t entry_bytes
    uint64_t page_bytes
    uint64_t directory      # offset of the first entry
    uint32_t entry_max
    int32_t entry_count     # stored last: an entry below it is complete
    int64_t created_utc_ns
    int64_t pid
    uint64_t used           # offset of the first free byte


cdef struct stats_entry_t:
    char name[104]          # UTF-8, zero-padded
    uint32_t kind           # 1 counter, 2 gauge, 3 histogram
    uint32_t reserved
    uint64_t offset
    uint64_t size


cdef class Counter:
    cdef int64_t* at
    cdef object keeper

cdef class Gauge:
    cdef int64_t* at
    cdef object keeper


cdef class StatsPage:
    cdef readonly str path
    cdef char* base
    cdef stats_header_t* header
    cdef uint64_t page_bytes
    cdef dict entries

    cdef char* _place(self, str name, uint32_t kind, uint64_t size) except NULL


cdef class StageClock:
    cdef int32_t stage_count
    cdef int32_t venue_count
    cdef int64_t begun_ns
    cdef int64_t stamps[STAGES_MAX]
    cdef hist_t* hists[VENUES_MAX][STAGES_MAX + 1]   # the last one: begin to the last stage
    cdef object keeper

    cdef void begin_c(self, int64_t recv_ts_ns) noexcept nogil
    cdef void mark_c(self, int32_t stage) noexcept nogil
    cdef void commit_c(self, int32_t venue) noexcept nogil
