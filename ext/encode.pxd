"""Order requests as bytes, for other extensions."""

cimport cython
from libc.stdint cimport int32_t, uint32_t

from ext.fixed cimport FIXED_TEXT_SIZE, grid_t
from ext.sign cimport HmacSha256

cdef enum hole_t:
    HOLE_PX
    HOLE_QTY
    HOLE_CL_ORD_ID
    HOLE_UTC_MS
    HOLE_REQUEST_ID
    HOLE_ORDER_ID
    HOLE_CLIENT_ID
    HOLE_SIGNATURE
    HOLE_COUNT

cdef enum:
    CL_ORD_ID_SIZE = 18     # "tw" and 16 hexadecimal digits: engine/ids.py
    SIGNATURE_SIZE = 64

# Constant text, and the hole behind it.
ctypedef struct piece_t:
    const char* p
    Py_ssize_t n
    int32_t hole            # HOLE_COUNT behind the last piece

ctypedef struct pieces_t:
    piece_t* items
    Py_ssize_t count
    Py_ssize_t size         # of all constant text
    uint32_t uses           # bit a hole

# What goes into the holes of one order: text by hole.
ctypedef struct values_t:
    const char* p[HOLE_COUNT]
    Py_ssize_t n[HOLE_COUNT]
    char px[FIXED_TEXT_SIZE]
    char qty[FIXED_TEXT_SIZE]
    char cl_ord_id[CL_ORD_ID_SIZE]
    char utc_ms[FIXED_TEXT_SIZE]
    char request_id[FIXED_TEXT_SIZE]
    char signature[SIGNATURE_SIZE]


@cython.final
cdef class OrderTemplate:
    cdef grid_t px_grid
    cdef grid_t qty_grid
    cdef pieces_t text
    cdef pieces_t to_sign   # no items where nothing is signed
    cdef HmacSha256 signer
    cdef list kept          # owns the constant text
    cdef char* scratch      # the signed text
    cdef Py_ssize_t scratch_capacity

    # Fill the hole of the signature from the values of all others.
    cdef int sign(self, values_t* values) except -1
