"""HMAC-SHA256 with stored pads.

Owns the two midstates of one key (the inner and the outer pad already hashed), so that a signature costs the message
and one block. It never keeps the key, never shows the midstates and wipes them at the end. Which message a venue wants
signed is the connector's. Rule: RFC 2104, FIPS 180-4.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

cdef extern from "string.h" nogil:
    void explicit_bzero(void* p, size_t n) noexcept

cdef int HAS_NI = sha256_has_ni()


cdef class HmacSha256:
    def __cinit__(self, bytes key not None, *, bint force_portable=False):
        hmac_sha256_init(
            &self.state,
            <const uint8_t*> PyBytes_AS_STRING(key),
            <size_t> PyBytes_GET_SIZE(key),
            1 if HAS_NI and not force_portable else 0,
        )

    def __dealloc__(self):
        explicit_bzero(&self.state, sizeof(self.state))

    def __reduce__(self):
        raise TypeError("HmacSha256 holds a secret and cannot be pickled or copied")

    cdef int hex_c(self, const char* p, Py_ssize_t n, char* out64) noexcept nogil:
        hmac_sha256_hex(&self.state, <const uint8_t*> p, <size_t> n, out64)
        return 64

    @property
    def is_accelerated(self):
        return self.state.use_ni != 0

    def digest(self, bytes message not None):
        cdef bytes out = PyBytes_FromStringAndSize(NULL, 32)
        hmac_sha256(
            &self.state,
            <const uint8_t*> PyBytes_AS_STRING(message),
            <size_t> PyBytes_GET_SIZE(message),
            <uint8_t*> PyBytes_AS_STRING(out),
        )
        return out

    def hexdigest(self, bytes message not None):
        cdef bytes out = PyBytes_FromStringAndSize(NULL, 64)
        self.hex_c(PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), PyBytes_AS_STRING(out))
        return out


def sha256(bytes message not None, *, bint force_portable=False):
    cdef uint32_t state[8]
    cdef bytes out = PyBytes_FromStringAndSize(NULL, 32)
    memcpy(state, SHA256_START, 32)
    sha256_finish(
        state,
        <const uint8_t*> PyBytes_AS_STRING(message),
        <size_t> PyBytes_GET_SIZE(message),
        0,
        1 if HAS_NI and not force_portable else 0,
        <uint8_t*> PyBytes_AS_STRING(out),
    )
    return out
