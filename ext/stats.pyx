"""Statistics in a mapped page: the engine writes plain int64s, any process reads them without asking.

Owns the page's bytes. The directory in the page names every number, so a reader needs nothing but the file. Numbers
are single 8-byte stores, each true for itself; two of them are not taken at one instant. One writer. Little-endian.
"""

import os
import time

cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap

from ext.histogram cimport Histogram, hist_record, hist_reset, hist_t

cdef extern from "native/atomics.h":
    int32_t load_acquire_i32(const int32_t* at) noexcept nogil
    void store_release_i32(int32_t* at, int32_t value) noexcept nogil

cdef extern from "native/clock.h":
    int64_t monotonic_ns() noexcept nogil

cdef extern from "native/mapping.h":
    void touch_for_writing(char* base, size_t length) noexcept nogil

cdef enum:
    FORMAT = 1
    KIND_COUNTER = 1
    KIND_GAUGE = 2
    KIND_HISTOGRAM = 3
    DIRECTORY = 4096
    ENTRIES = 1024

cdef uint64_t MAGIC = 0x3153544154535454  # "TTSTATS1"

assert sizeof(stats_entry_t) == 128 and sizeof(stats_header_t) <= DIRECTORY


def clock_ns() -> int:
    """CLOCK_MONOTONIC, the clock of the stamps."""
    return monotonic_ns()


@cython.final
cdef class Counter:
    """A number that only grows."""

    def add(self, amount: int = 1) -> None:
        self.at[0] = self.at[0] + <int64_t> amount

    @property
    def value(self) -> int:
        return self.at[0]


@cython.final
cdef class Gauge:
    """A number that is what it is."""

    def set(self, value: int) -> None:
        self.at[0] = value

    @property
    def value(self) -> int:
        return self.at[0]


@cython.final
cdef class StatsPage:
    """Create the page (0600, every byte touched). A page already there is replaced, its readers keep the old one.

    Names are at most 104 bytes; asking for a name again gives the same number. Errors: ValueError when the page is
    full or the name is taken by another kind.
    """

    def __cinit__(self):
        self.base = NULL

    def __init__(self, path, capacity_bytes: int = 8388608) -> None:
        self.path = os.fspath(path)
        cdef uint64_t least = DIRECTORY + ENTRIES * sizeof(stats_entry_t) + 4096
        self.page_bytes = max(<uint64_t> capacity_bytes, least)
        self.page_bytes = (self.page_bytes + 4095) & ~<uint64_t> 4095
        self.entries = {}
        draft = f"{self.path}.new"
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self.page_bytes)
            self.base = <char*> mmap(NULL, self.page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        finally:
            os.close(fd)
        if self.base == <char*> MAP_FAILED:
            self.base = NULL
            raise OSError(f"{self.path}: mmap of {self.page_bytes} bytes failed")
        touch_for_writing(self.base, self.page_bytes)
        self.header = <stats_header_t*> self.base
        self.header.format = FORMAT
        self.header.entry_bytes = sizeof(stats_entry_t)
        self.header.page_bytes = self.page_bytes
        self.header.directory = DIRECTORY
        self.header.entry_max = ENTRIES
        self.header.created_utc_ns = time.time_ns()
        self.header.pid = os.getpid()
        self.header.used = DIRECTORY + ENTRIES * sizeof(stats_entry_t)
        self.header.magic = MAGIC
        os.rename(draft, self.path)

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.page_bytes)

    cdef char* _place(self, str name, uint32_t kind, uint64_t size) except NULL:
        cdef stats_entry_t* entry
        cdef uint64_t offset
        known = self.entries.get(name)
        if known is not None:
            if known[0] != kind:
                raise ValueError(f"{self.path}: {name} is there already, of another kind")
            return self.base + <uint64_t> known[1]
        raw = name.encode()
        offset = (self.header.used + 63) & ~<uint64_t> 63 if kind == KIND_HISTOGRAM else self.header.used
        if self.header.entry_count >= ENTRIES or offset + size > self.page_bytes:
            raise ValueError(f"{self.path}: no room for {name}: {self.header.entry_count} entries, {offset} bytes used")
        entry = (<stats_entry_t*> (self.base + self.header.directory)) + self.header.entry_count
        if not 0 < len(raw) <= <Py_ssize_t> sizeof(entry.name):
            raise ValueError(f"{self.path}: name of {len(raw)} bytes, must be 1..{sizeof(entry.name)}: {name}")
        memset(entry, 0, sizeof(stats_entry_t))
        memcpy(entry.name, <char*> raw, len(raw))
        entry.kind = kind
        entry.offset = offset
        entry.size = size
        self.header.used = offset + size
        self.entries[name] = (kind, offset)
        if kind == KIND_HISTOGRAM:
            hist_reset(<hist_t*> (self.base + offset))
        store_release_i32(&self.header.entry_count, self.header.entry_count + 1)
        return self.base + offset

    def counter(self, name: str) -> Counter:
        cdef Counter made = Counter.__new__(Counter)
        made.at = <int64_t*> self._place(name, KIND_COUNTER, 8)
        made.keeper = self
        return made

    def gauge(self, name: str) -> Gauge:
        cdef Gauge made = Gauge.__new__(Gauge)
        made.at = <int64_t*> self._place(name, KIND_GAUGE, 8)
        made.keeper = self
        return made

    def histogram(self, name: str) -> Histogram:
        return Histogram.at(<hist_t*> self._place(name, KIND_HISTOGRAM, sizeof(hist_t)), self)


@cython.final
cdef class StatsReader:
    """The numbers of a page, read from any process. Errors: ValueError when the file is no page of this format."""

    cdef readonly str path
    cdef const char* base
    cdef uint64_t page_bytes
    cdef object identity

    def __cinit__(self):
        self.base = NULL

    def __init__(self, path) -> None:
        self.path = os.fspath(path)
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            self.identity = (found.st_dev, found.st_ino)
            self.page_bytes = found.st_size
            if self.page_bytes < DIRECTORY:
                raise ValueError(f"{self.path}: no statistics page: {self.page_bytes} bytes")
            self.base = <char*> mmap(NULL, self.page_bytes, PROT_READ, MAP_SHARED, fd, 0)
        finally:
            os.close(fd)
        if self.base == <char*> MAP_FAILED:
            self.base = NULL
            raise OSError(f"{self.path}: mmap failed")
        header = <const stats_header_t*> self.base
        if header.magic != MAGIC:
            raise ValueError(f"{self.path}: no statistics page: wrong magic")
        if header.format != FORMAT or header.entry_bytes != sizeof(stats_entry_t):
            raise ValueError(f"{self.path}: statistics page of format {header.format}, this program reads {FORMAT}")
        if header.page_bytes > self.page_bytes or header.directory + ENTRIES * sizeof(stats_entry_t) > self.page_bytes:
            raise ValueError(f"{self.path}: truncated to {self.page_bytes} bytes, its own count is {header.page_bytes}")

    def __dealloc__(self):
        if self.base != NULL:
            munmap(<void*> self.base, self.page_bytes)

    def _entries(self, wanted):
        header = <const stats_header_t*> self.base
        cdef const stats_entry_t* entry = <const stats_entry_t*> (self.base + header.directory)
        cdef int32_t i
        found = []
        for i in range(min(load_acquire_i32(&header.entry_count), <int32_t> ENTRIES)):
            if entry[i].kind == <uint32_t> wanted and entry[i].offset + entry[i].size <= self.page_bytes:
                raw = (<const char*> entry[i].name)[:sizeof(entry[i].name)]
                found.append((raw.rstrip(b"\0").decode("utf-8", "replace"), entry[i].offset))
        return found

    def _numbers(self, kind):
        return {name: (<const int64_t*> (self.base + <uint64_t> offset))[0] for name, offset in self._entries(kind)}

    def counters(self) -> dict[str, int]:
        return self._numbers(KIND_COUNTER)

    def gauges(self) -> dict[str, int]:
        return self._numbers(KIND_GAUGE)

    def histograms(self) -> dict[str, Histogram]:
        """Copies of the histograms as they are now."""
        return {name: Histogram.at(<hist_t*> (self.base + <uint64_t> offset), self).copy()
                for name, offset in self._entries(KIND_HISTOGRAM)}

    @property
    def pid(self) -> int:
        """Process that made the page."""
        return (<const stats_header_t*> self.base).pid

    @property
    def created_utc_ns(self) -> int:
        return (<const stats_header_t*> self.base).created_utc_ns

    @property
    def is_replaced(self) -> bool:
        """A newer page has taken the file's place: open it again."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != self.identity


@cython.final
cdef class StageClock:
    """Stamp the stages between a frame and the orders it causes; histograms per venue of the order.

    begin() once a frame, mark(stage) after each stage, commit(venue) when an order was written: stage n gets the time
    since the stage before it that was marked, `tick_to_trade` the time from begin to the last one. Stages after the
    frame's own (risk, signed, written) may be marked and committed again for each further order of the same frame.
    Histograms are named `latency_ns.VENUE.STAGE`. Cost: one clock read a mark, 20 to 30 ns from C.
    """

    def __init__(self, StatsPage page not None, venues: list[str], stages: list[str]) -> None:
        cdef int32_t v
        cdef int32_t s
        if not (0 < len(stages) <= STAGES_MAX and 0 < len(venues) <= VENUES_MAX):
            raise ValueError(f"{len(venues)} venues and {len(stages)} stages, at most {VENUES_MAX} and {STAGES_MAX}")
        self.keeper = page
        self.stage_count = len(stages)
        self.venue_count = len(venues)
        self.begun_ns = 0
        memset(self.stamps, 0, sizeof(self.stamps))
        for v, venue in enumerate(venues):
            for s, stage in enumerate([*stages, "tick_to_trade"]):
                self.hists[v][s] = <hist_t*> page._place(f"latency_ns.{venue}.{stage}", KIND_HISTOGRAM, sizeof(hist_t))

    cdef void begin_c(self, int64_t recv_ts_ns) noexcept nogil:
        self.begun_ns = recv_ts_ns
        memset(self.stamps, 0, sizeof(self.stamps))

    cdef void mark_c(self, int32_t stage) noexcept nogil:
        if 0 <= stage < self.stage_count:
            self.stamps[stage] = monotonic_ns()

    cdef void commit_c(self, int32_t venue) noexcept nogil:
        cdef int64_t before = self.begun_ns
        cdef int32_t s
        if self.begun_ns == 0 or not 0 <= venue < self.venue_count:
            return
        for s in range(self.stage_count):
            if self.stamps[s]:
                hist_record(self.hists[venue][s], self.stamps[s] - before)
                before = self.stamps[s]
        hist_record(self.hists[venue][self.stage_count], before - self.begun_ns)

    def begin(self, recv_ts_ns: int) -> None:
        self.begin_c(recv_ts_ns)

    def mark(self, stage: int) -> None:
        self.mark_c(stage)

    def commit(self, venue: int) -> None:
        self.commit_c(venue)

    def mark_many(self, stage: int, count: int) -> None:
        """Mark a stage `count` times. For benchmarks: no Python between."""
        cdef int64_t _i
        cdef int64_t limit = count
        cdef int32_t at = stage
        with nogil:
            for _i in range(limit):
                self.mark_c(at)
