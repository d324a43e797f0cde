# What the decoders of all venues share: symbol table, scratch, counters, arrays of levels and the Python face.
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcmp

from ext.fixed cimport grid_t
from ext.message cimport level_t, md_msg_t, trade_t
from ext.scan cimport REFUSED_LEVEL_SHAPE, REFUSED_OFF_GRID, REFUSED_TOO_MANY_LEVELS
from ext.scan cimport refuse, separator_end, space_end

cdef extern from "native/levels.h" nogil:
    ctypedef struct symbol_t "tw_symbol_t":
        grid_t px
        grid_t qty
        int32_t slot
        int32_t length
        char name[40]
    ctypedef struct tw_level_t:
        pass  # twin of level_t
    int levels_fast "tw_levels_fast"() noexcept
    void fill_rows "tw_fill_rows"() noexcept
    uint64_t symbol_hash "tw_symbol_hash"(const char* p, Py_ssize_t n) noexcept
    bint symbol_is "tw_symbol_is"(const symbol_t* symbol, const char* p, Py_ssize_t n) noexcept
    # Text up to its closing quote (*next) to units >= 0: 0 or a refusal.
    int quoted_units "tw_quoted_units"(
        const char* p, const char* end, const grid_t* grid, const char** next, int64_t* units) noexcept
    int quoted_units_fast "tw_quoted_units_fast"(
        const char* p, const char* end, const grid_t* grid, const char** next, int64_t* units) noexcept
    int32_t levels_canonical "tw_levels_canonical"(
        const char** at, const char* end, const symbol_t* symbol, tw_level_t* out, int32_t room, int* closed) noexcept
    int32_t levels_wide "tw_levels_wide"(
        const char** at, const char* start, const char* end, const symbol_t* symbol, tw_level_t* out, int32_t room,
        int* closed) noexcept
    # Price and quantity by their closing quotes: 0 when quoted_units must decide.
    int pair_wide "tw_pair_wide"(
        const char* start, const char* px_end, Py_ssize_t px_length, const char* qty_end, Py_ssize_t qty_length,
        const symbol_t* symbol, tw_level_t* out) noexcept

    const int64_t NS_PER_MS "TW_NS_PER_MS"
    const int64_t MAX_MS "TW_MAX_MS"  # the year 2255: its nanoseconds fit int64

cdef enum:
    COUNTERS = 64


cdef extern from "native/json.h" nogil:
    ctypedef struct text_t "tw_text_t":
        const char* p  # first byte, behind the quote; of an array its bracket; NULL: absent
        Py_ssize_t n


cdef inline bint is_text(const text_t* text, const char* word, Py_ssize_t size) noexcept nogil:
    return text.n == size and memcmp(text.p, word, size) == 0


cdef struct reading_t:
    const char* start  # of the message
    int fast           # 0: digit by digit, 1: 16 bytes at once, 2: price and quantity side by side
    # Quantities off the lot grid occur (old orders on Binance spot): rounded down and counted, or refused when strict.
    bint strict_qty
    uint64_t qty_rounded


cdef class Decoder:
    cdef md_msg_t msg                 # the last message; its arrays are valid until the next call
    cdef readonly int32_t max_levels  # a side
    cdef readonly int32_t max_trades
    cdef reading_t how
    cdef uint64_t counts[COUNTERS]    # [kind] understood, [15 - refusal] refused
    cdef symbol_t* symbols            # dense, in the order they were added
    cdef int32_t symbol_count
    cdef int32_t symbol_room
    cdef int32_t* table               # open addressing over the hash of the name: 1 + index in `symbols`, 0 empty
    cdef uint64_t table_mask
    cdef symbol_t* last_symbol        # a stream repeats its symbol

    # One complete frame of a stream. Returns msg_kind_t, or a refusal (< 0, ext/scan.pxd).
    cdef int decode_c(self, const char* p, Py_ssize_t n) noexcept nogil
    # One answer to a REST order book request, for a slot that add_symbol named.
    cdef int decode_snapshot_c(self, int32_t slot, const char* p, Py_ssize_t n) noexcept nogil

    # For the decoders only.
    cdef void reset(self) noexcept nogil
    cdef int finish(self, int code, const symbol_t* symbol) noexcept nogil
    cdef symbol_t* find_symbol(self, const char* p, Py_ssize_t n) noexcept nogil
    cdef symbol_t* find_slot(self, int32_t slot) noexcept nogil
    cdef int _grow(self) except -1
    cdef void _enter(self, int32_t number) noexcept
    cdef bint usual_pair(
        self, const text_t* px, const text_t* qty, const symbol_t* symbol, level_t* out
    ) noexcept nogil
    cdef int pair(
        self, const text_t* px, const text_t* qty, const char* end, const symbol_t* symbol, level_t* out
    ) noexcept nogil
    cdef const char* levels(
        self, const char* p, const char* end, const symbol_t* symbol, level_t* out, int32_t* count, int* refusal
    ) noexcept nogil


cdef inline int px_of(
    reading_t* how, const char* p, const char* end, const grid_t* grid, int64_t* units
) noexcept nogil:
    # Text up to its closing quote, inside a message of at least 16 bytes that ends at `end`.
    cdef const char* quote = NULL
    if how.fast:
        return quoted_units_fast(p, end, grid, &quote, units)
    return quoted_units(p, end, grid, &quote, units)


cdef inline int qty_of(
    reading_t* how, const char* p, const char* end, const grid_t* grid, int64_t* units
) noexcept nogil:
    cdef int code = px_of(how, p, end, grid, units)
    if code == REFUSED_OFF_GRID and not how.strict_qty:
        how.qty_rounded += 1
        return 0
    return code
