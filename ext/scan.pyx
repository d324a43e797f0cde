"""Scan one complete JSON message by pointer, strictly: what is accepted, a strict JSON parser accepts too.

Owns the grammar (strings with escapes and UTF-8, numbers, nesting) and the names of all refusals. Knows no venue.
Source: RFC 8259, RFC 3629. Stricter than the RFC where a venue never needs it: nesting stops at MAX_DEPTH, a number
token at 64 bytes, half a surrogate pair is refused.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

REFUSALS: dict[int, str] = {
    REFUSED_NOT_NUMBER: "not_number",
    REFUSED_OFF_GRID: "off_grid",
    REFUSED_OVERFLOW: "overflow",
    REFUSED_TOO_MANY_DIGITS: "too_many_digits",
    REFUSED_EXPONENT: "exponent",
    REFUSED_NEGATIVE: "negative",
    REFUSED_BUFFER_TOO_SMALL: "buffer_too_small",
    REFUSED_EMPTY: "empty",
    REFUSED_TRUNCATED: "truncated",
    REFUSED_SYNTAX: "syntax",
    REFUSED_CONTROL_CHARACTER: "control_character",
    REFUSED_ESCAPE: "escape",
    REFUSED_UTF8: "utf8",
    REFUSED_JSON_NUMBER: "json_number",
    REFUSED_TOO_DEEP: "too_deep",
    REFUSED_TRAILING: "trailing",
    REFUSED_TOO_LARGE: "too_large",
    REFUSED_DUPLICATE_KEY: "duplicate_key",
    REFUSED_ESCAPED_KEY: "escaped_key",
    REFUSED_WRONG_TYPE: "wrong_type",
    REFUSED_MISSING_FIELD: "missing_field",
    REFUSED_LEVEL_SHAPE: "level_shape",
    REFUSED_TOO_MANY_LEVELS: "too_many_levels",
    REFUSED_TOO_MANY_TRADES: "too_many_trades",
    REFUSED_MIXED_SYMBOLS: "mixed_symbols",
    REFUSED_TRADE_SIDE: "trade_side",
    REFUSED_SLOT: "slot",
}


cdef const char* object_end(const char* p, const char* end, int depth, int* refusal) noexcept nogil:
    cdef bint closed = False
    cdef int escaped = 0
    if depth >= MAX_DEPTH:
        return refuse(refusal, REFUSED_TOO_DEEP)
    p = space_end(p + 1, end)
    if p < end and p[0] == c"}":
        return p + 1
    while not closed:
        if p == end:
            return refuse(refusal, REFUSED_TRUNCATED)
        if p[0] != c'"':
            return refuse(refusal, REFUSED_SYNTAX)
        p = string_end(p + 1, end, &escaped, refusal)
        if p == NULL:
            return NULL
        p = colon_end(p + 1, end, refusal)
        if p == NULL:
            return NULL
        p = value_end(p, end, depth + 1, refusal)
        if p == NULL:
            return NULL
        p = separator_end(p, end, c"}", &closed, refusal)
        if p == NULL:
            return NULL
    return p


cdef const char* array_end(const char* p, const char* end, int depth, int* refusal) noexcept nogil:
    cdef bint closed = False
    if depth >= MAX_DEPTH:
        return refuse(refusal, REFUSED_TOO_DEEP)
    p = space_end(p + 1, end)
    if p < end and p[0] == c"]":
        return p + 1
    while not closed:
        p = value_end(p, end, depth + 1, refusal)
        if p == NULL:
            return NULL
        p = separator_end(p, end, c"]", &closed, refusal)
        if p == NULL:
            return NULL
    return p


cdef const char* word_end(
    const char* p, const char* end, const char* word, Py_ssize_t size, int* refusal
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        if p + i == end:
            return refuse(refusal, REFUSED_TRUNCATED)
        if p[i] != word[i]:
            return refuse(refusal, REFUSED_SYNTAX)
    return p + size


cdef const char* value_end(const char* p, const char* end, int depth, int* refusal) noexcept nogil:
    cdef int escaped = 0
    if p == end:
        return refuse(refusal, REFUSED_TRUNCATED)
    if p[0] == c'"':
        p = string_end(p + 1, end, &escaped, refusal)
        return p + 1 if p != NULL else NULL
    if p[0] == c"{":
        return object_end(p, end, depth, refusal)
    if p[0] == c"[":
        return array_end(p, end, depth, refusal)
    if p[0] == c"-" or c"0" <= p[0] <= c"9":
        return number_end(p, end, refusal)
    if p[0] == c"t":
        return word_end(p, end, b"true", 4, refusal)
    if p[0] == c"f":
        return word_end(p, end, b"false", 5, refusal)
    if p[0] == c"n":
        return word_end(p, end, b"null", 4, refusal)
    return refuse(refusal, REFUSED_SYNTAX)


cdef int check(const char* p, Py_ssize_t n) noexcept nogil:
    cdef const char* end = p + n
    cdef int refusal = 0
    if n > MAX_MESSAGE:
        return REFUSED_TOO_LARGE
    p = space_end(p, end)
    if p == end:
        return REFUSED_EMPTY
    p = value_end(p, end, 0, &refusal)
    return trailing(p, end) if p != NULL else refusal


def validate(payload: bytes) -> int:
    """Return 0 when the payload is one strict JSON text, or the refusal."""
    return check(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
