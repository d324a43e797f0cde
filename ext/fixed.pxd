# Decimal text to int64 units of a grid, and back. Exact: no float, no rounding, no Python object.
# A grid is `mantissa * 10**-decimals` (a tick, a lot): Instrument.px_scale and Instrument.qty_scale.
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from "native/refused.h" nogil:
    enum:
        REFUSED_NOT_NUMBER
        REFUSED_OFF_GRID
        REFUSED_OVERFLOW
        REFUSED_TOO_MANY_DIGITS
        REFUSED_EXPONENT
        REFUSED_NEGATIVE
        REFUSED_BUFFER_TOO_SMALL

cdef extern from "native/fixed.h" nogil:
    # b must be > 0. Rounding is the same in both builds, unlike Cython's `//`, which follows cdivision.
    int64_t div_floor "tw_div_floor"(int64_t a, int64_t b) noexcept
    int64_t div_ceil "tw_div_ceil"(int64_t a, int64_t b) noexcept
    enum:
        FIXED_MAX_DECIMALS "TW_MAX_DECIMALS"  # 18
        FIXED_MAX_TEXT "TW_MAX_TEXT"          # 48: longest text that is read
        FIXED_TEXT_SIZE "TW_TEXT_SIZE"        # 24: room that fixed_text never exceeds
    ctypedef struct grid_t "tw_grid_t":
        int64_t mantissa  # >= 1
        int32_t decimals  # 0 .. FIXED_MAX_DECIMALS
    # Text of n bytes to units of the grid: 0 and *units, or a refusal. A leading '-' is read.
    int fixed_units "tw_fixed_units"(const char* p, Py_ssize_t n, const grid_t* grid, int64_t* units) noexcept
    # Units to text with exactly grid.decimals digits behind the point: its length, or a refusal. No NUL is written.
    int fixed_text "tw_fixed_text"(int64_t units, const grid_t* grid, char* out, Py_ssize_t capacity) noexcept
