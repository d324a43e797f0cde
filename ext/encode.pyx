"""Make the bytes of an order request from constant text with typed holes, in one pass and without a Python object but
the answer.

A template is made once for each instrument and kind of order; it knows how long everything is before it writes, so the
answer is written in place. Where the venue wants a signature it is made here too, over a second text with the same
holes. Which words a venue wants is the connector's, and so is that no text needs escaping: identifiers of venues are
digits, letters and hyphens. Prices and quantities: ext/native/fixed.h; identifiers: engine/ids.py.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from ext.fixed cimport FIXED_MAX_DECIMALS, FIXED_TEXT_SIZE, div_floor, fixed_text, grid_t
from ext.sign cimport HmacSha256

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

PX = HOLE_PX
QTY = HOLE_QTY
CL_ORD_ID = HOLE_CL_ORD_ID
UTC_MS = HOLE_UTC_MS
REQUEST_ID = HOLE_REQUEST_ID
ORDER_ID = HOLE_ORDER_ID
CLIENT_ID = HOLE_CLIENT_ID
SIGNATURE = HOLE_SIGNATURE

cdef int64_t NS_PER_MS = 1_000_000
cdef const char* HEX = b"0123456789abcdef"
cdef grid_t WHOLE
WHOLE.mantissa = 1
WHOLE.decimals = 0


cdef int set_grid(grid_t* grid, object scale) except -1:
    decimals, mantissa = scale
    if not 0 <= decimals <= FIXED_MAX_DECIMALS or mantissa < 1:
        raise ValueError(f"decimals must be 0..{FIXED_MAX_DECIMALS} and mantissa >= 1, was {scale}")
    grid.decimals = decimals
    grid.mantissa = mantissa
    return 0


# Takes references to constants into `kept`: the pieces point into them.
cdef int set_pieces(pieces_t* pieces, object parts, list kept) except -1:
    cdef bytes text = b""
    cdef Py_ssize_t at = 0
    cdef list pairs = []
    for part in parts:
        if isinstance(part, bytes):
            text += part
        elif 0 <= part < HOLE_COUNT:
            pairs.append((text, part))
            text = b""
        else:
            raise ValueError(f"parts must be bytes or a hole, was {part!r}")
    pairs.append((text, HOLE_COUNT))
    pieces.items = <piece_t*> calloc(len(pairs), sizeof(piece_t))
    if pieces.items == NULL:
        raise MemoryError
    pieces.count = len(pairs)
    for text, hole in pairs:
        kept.append(text)
        pieces.items[at].p = PyBytes_AS_STRING(text)
        pieces.items[at].n = PyBytes_GET_SIZE(text)
        pieces.items[at].hole = hole
        pieces.size += PyBytes_GET_SIZE(text)
        if hole != HOLE_COUNT:
            pieces.uses |= <uint32_t> 1 << <int> hole
        at += 1
    return 0


cdef inline void hex16(uint64_t value, char* out) noexcept nogil:
    cdef int at
    for at in range(15, -1, -1):
        out[at] = HEX[value & 15]
        value >>= 4


cdef Py_ssize_t size_of(const pieces_t* pieces, const values_t* values) noexcept nogil:
    cdef Py_ssize_t at, size = pieces.size
    for at in range(pieces.count - 1):
        size += values.n[pieces.items[at].hole]
    return size


cdef void write(const pieces_t* pieces, const values_t* values, char* out) noexcept nogil:
    cdef Py_ssize_t at
    cdef int hole
    for at in range(pieces.count):
        memcpy(out, pieces.items[at].p, pieces.items[at].n)
        out += pieces.items[at].n
        hole = pieces.items[at].hole
        if hole != HOLE_COUNT:
            memcpy(out, values.p[hole], values.n[hole])
            out += values.n[hole]


cdef inline int put(values_t* values, int hole, const char* p, Py_ssize_t n) noexcept nogil:
    values.p[hole] = p
    values.n[hole] = n
    return 0


# AssertionError, not ValueError: connectors take that for a message of the venue that they do not understand.
cdef int put_units(values_t* values, int hole, int64_t units, const grid_t* grid, char* room, str what) except -1:
    cdef int n = fixed_text(units, grid, room, FIXED_TEXT_SIZE) if units >= 0 else -1
    if n < 0:
        raise AssertionError(
            f"{what} of {units} units (decimals {grid.decimals}, mantissa {grid.mantissa}) has no text"
        )
    return put(values, hole, room, n)


cdef int put_text(values_t* values, int hole, str text, str what) except -1:
    cdef Py_ssize_t n = 0
    cdef const char* p = PyUnicode_AsUTF8AndSize(text, &n)
    if n == 0:
        raise AssertionError(f"{what} is empty")
    return put(values, hole, p, n)


@cython.final
cdef class OrderTemplate:
    def __cinit__(self, parts, *, px, qty, signed_parts=(), HmacSha256 signer=None):
        self.kept = []
        set_grid(&self.px_grid, px)
        set_grid(&self.qty_grid, qty)
        set_pieces(&self.text, parts, self.kept)
        set_pieces(&self.to_sign, signed_parts, self.kept)
        self.signer = signer
        if (signer is not None) != bool(self.text.uses & (1 << HOLE_SIGNATURE)):
            raise ValueError("a signer and a hole for the signature come together")
        if self.to_sign.uses & (1 << HOLE_SIGNATURE):
            raise ValueError("the signature cannot be part of what is signed")

    def __dealloc__(self):
        free(self.text.items)
        free(self.to_sign.items)
        free(self.scratch)

    def fill(
        self,
        int64_t request_id=0,
        int64_t utc_ns=0,
        uint64_t cl_ord_id=0,
        int64_t px_ticks=0,
        int64_t qty_lots=0,
        str order_id not None="",
        str client_id not None="",
    ):
        cdef values_t values
        cdef bytes out
        cdef uint32_t uses = self.text.uses | self.to_sign.uses
        if uses & (1 << HOLE_PX):
            put_units(&values, HOLE_PX, px_ticks, &self.px_grid, values.px, "price")
        if uses & (1 << HOLE_QTY):
            put_units(&values, HOLE_QTY, qty_lots, &self.qty_grid, values.qty, "quantity")
        if uses & (1 << HOLE_CL_ORD_ID):
            memcpy(values.cl_ord_id, b"tw", 2)
            hex16(cl_ord_id, values.cl_ord_id + 2)
            put(&values, HOLE_CL_ORD_ID, values.cl_ord_id, CL_ORD_ID_SIZE)
        if uses & (1 << HOLE_UTC_MS):
            put_units(&values, HOLE_UTC_MS, div_floor(utc_ns, NS_PER_MS), &WHOLE, values.utc_ms, "time")
        if uses & (1 << HOLE_REQUEST_ID):
            put_units(&values, HOLE_REQUEST_ID, request_id, &WHOLE, values.request_id, "request identifier")
        if uses & (1 << HOLE_ORDER_ID):
            put_text(&values, HOLE_ORDER_ID, order_id, "order_id")
        if uses & (1 << HOLE_CLIENT_ID):
            put_text(&values, HOLE_CLIENT_ID, client_id, "client_id")
        if uses & (1 << HOLE_SIGNATURE):
            self.sign(&values)
        out = PyBytes_FromStringAndSize(NULL, size_of(&self.text, &values))
        write(&self.text, &values, PyBytes_AS_STRING(out))
        return out

    cdef int sign(self, values_t* values) except -1:
        cdef Py_ssize_t n = size_of(&self.to_sign, values)
        cdef char* grown
        if n > self.scratch_capacity:
            grown = <char*> realloc(self.scratch, 2 * n)
            if grown == NULL:
                raise MemoryError
            self.scratch, self.scratch_capacity = grown, 2 * n
        write(&self.to_sign, values, self.scratch)
        self.signer.hex_c(self.scratch, n, values.signature)
        return put(values, HOLE_SIGNATURE, values.signature, SIGNATURE_SIZE)
