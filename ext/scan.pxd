# Strict scanner over one complete JSON text [p, end). Positions are pointers into it; NULL means refused, with the
# reason in *refusal. Nothing is copied, allocated or read behind `end`.
from libc.stdint cimport int32_t, int64_t

cdef extern from "native/refused.h" nogil:
    enum:
        REFUSED_NOT_NUMBER
        REFUSED_OFF_GRID
        REFUSED_OVERFLOW
        REFUSED_TOO_MANY_DIGITS
        REFUSED_EXPONENT
        REFUSED_NEGATIVE
        REFUSED_BUFFER_TOO_SMALL
        REFUSED_EMPTY
        REFUSED_TRUNCATED
        REFUSED_SYNTAX
        REFUSED_CONTROL_CHARACTER
        REFUSED_ESCAPE
        REFUSED_UTF8
        REFUSED_JSON_NUMBER
        REFUSED_TOO_DEEP
        REFUSED_TRAILING
        REFUSED_TOO_LARGE
        REFUSED_DUPLICATE_KEY
        REFUSED_ESCAPED_KEY
        REFUSED_WRONG_TYPE
        REFUSED_MISSING_FIELD
        REFUSED_LEVEL_SHAPE
        REFUSED_TOO_MANY_LEVELS
        REFUSED_TOO_MANY_TRADES
        REFUSED_MIXED_SYMBOLS
        REFUSED_TRADE_SIDE
        REFUSED_SLOT
        REFUSED_LOWEST

cdef extern from "native/json.h" nogil:
    Py_ssize_t span "tw_span"(const char* from_, const char* to) noexcept
    # p behind the opening quote -> the closing quote.
    const char* string_end "tw_string_end"(const char* p, const char* end, int* escaped, int* refusal) noexcept
    # The letter of `"x":` at p, 0 for anything else; reads 4 bytes.
    unsigned char short_key "tw_short_key"(const char* p) noexcept
    # p at '-' or a digit -> behind the number.
    const char* number_end "tw_number_end"(const char* p, const char* end, int* refusal) noexcept
    # Unsigned whole number within int64 -> behind it; NULL for anything else, which is not yet a refusal.
    const char* integer_end "tw_integer_end"(const char* p, const char* end, int64_t* value) noexcept

cdef enum:
    MAX_DEPTH = 32             # nested arrays and objects
    MAX_MESSAGE = 67_108_864   # bytes

# One value of any type, at its first byte -> behind it. `depth` counts the arrays and objects around it.
cdef const char* value_end(const char* p, const char* end, int depth, int* refusal) noexcept nogil
# A whole message that is nothing to us: 0 when it is strict JSON.
cdef int check(const char* p, Py_ssize_t n) noexcept nogil


cdef inline const char* refuse(int* refusal, int code) noexcept nogil:
    refusal[0] = code
    return NULL


cdef inline const char* space_end(const char* p, const char* end) noexcept nogil:
    # Venues write no spaces: one compare in the usual case.
    while p < end and p[0] <= 32 and (p[0] == c" " or p[0] == c"\n" or p[0] == c"\r" or p[0] == c"\t"):
        p += 1
    return p


cdef inline const char* separator_end(
    const char* p, const char* end, char closing, bint* closed, int* refusal
) noexcept nogil:
    # Behind a value: `,` and the spaces behind it, or the closing bracket (*closed). No trailing comma.
    p = space_end(p, end)
    if p == end:
        return refuse(refusal, REFUSED_TRUNCATED)
    if p[0] == c",":
        p = space_end(p + 1, end)
        if p == end:
            return refuse(refusal, REFUSED_TRUNCATED)
        if p[0] == closing:
            return refuse(refusal, REFUSED_SYNTAX)
        return p
    if p[0] != closing:
        return refuse(refusal, REFUSED_SYNTAX)
    closed[0] = True
    return p + 1


cdef inline const char* colon_end(const char* p, const char* end, int* refusal) noexcept nogil:
    # Behind a key: the first byte of its value.
    p = space_end(p, end)
    if p < end and p[0] == c":":
        p = space_end(p + 1, end)
        if p < end:
            return p
    return refuse(refusal, REFUSED_TRUNCATED if p == end else REFUSED_SYNTAX)


cdef inline int trailing(const char* p, const char* end) noexcept nogil:
    # Behind the message: nothing but spaces.
    return 0 if space_end(p, end) == end else REFUSED_TRAILING
