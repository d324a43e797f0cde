"""Convert decimal text to int64 units of a tick or a lot, and back, exactly.

The work is in ext/native/fixed.h, inline for whoever cimports it; this is the face for cold code and tests. A grid
is `mantissa * 10**-decimals`, as Instrument.px_scale and Instrument.qty_scale say. What is not a plain number on the
grid is refused with a named code (`ext.scan.REFUSALS`), never rounded. Exponents are refused by name: no venue sends
them in prices, and `1e5` read as 1 would be an order of magnitude.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

MAX_DECIMALS = FIXED_MAX_DECIMALS
MAX_TEXT = FIXED_MAX_TEXT


cdef grid_t grid_of(int decimals, int64_t mantissa) except *:
    cdef grid_t grid
    if not 0 <= decimals <= FIXED_MAX_DECIMALS:
        raise ValueError(f"decimals must be 0..{FIXED_MAX_DECIMALS}, was {decimals}")
    if mantissa < 1:
        raise ValueError(f"mantissa must be >= 1, was {mantissa}")
    grid.mantissa = mantissa
    grid.decimals = decimals
    return grid


def units_from_text(text: bytes, decimals: int, mantissa: int) -> tuple[int, int]:
    """Return (0, units) or (refusal, 0)."""
    cdef grid_t grid = grid_of(decimals, mantissa)
    cdef int64_t units = 0
    cdef int code = fixed_units(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), &grid, &units)
    return code, units if code == 0 else 0


def text_from_units(units: int, decimals: int, mantissa: int, capacity: int = FIXED_TEXT_SIZE) -> bytes | int:
    """Return the text with exactly `decimals` digits behind the point, or the refusal."""
    cdef grid_t grid = grid_of(decimals, mantissa)
    cdef char[FIXED_TEXT_SIZE] out
    if not 0 <= capacity <= FIXED_TEXT_SIZE:
        raise ValueError(f"capacity must be 0..{FIXED_TEXT_SIZE}, was {capacity}")
    cdef int length = fixed_text(units, &grid, out, capacity)
    return out[:length] if length >= 0 else length


def floor_div(a: int, b: int) -> int:
    """Divide rounding towards minus infinity. Errors: ValueError unless b > 0."""
    if b < 1:
        raise ValueError(f"divisor must be > 0, was {b}")
    return div_floor(a, b)


def ceil_div(a: int, b: int) -> int:
    """Divide rounding towards plus infinity. Errors: ValueError unless b > 0."""
    if b < 1:
        raise ValueError(f"divisor must be > 0, was {b}")
    return div_ceil(a, b)
