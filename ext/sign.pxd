"""HMAC-SHA256 for other extensions: sign in place, without the GIL."""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from "native/sha256.h" nogil:
    ctypedef struct hmac_sha256_t:
        uint32_t inner[8]
        uint32_t outer[8]
        int use_ni

    const uint32_t SHA256_START[8]
    int sha256_has_ni() noexcept
    void sha256_finish(
        uint32_t* state, const uint8_t* p, size_t n, unsigned long long before, int use_ni, uint8_t* out
    ) noexcept
    void hmac_sha256_init(hmac_sha256_t* h, const uint8_t* key, size_t n, int use_ni) noexcept
    void hmac_sha256(const hmac_sha256_t* h, const uint8_t* p, size_t n, uint8_t* out) noexcept
    void hmac_sha256_hex(const hmac_sha256_t* h, const uint8_t* p, size_t n, char* out64) noexcept


cdef class HmacSha256:
    cdef hmac_sha256_t state

    # Write the 64 hexadecimal characters of the HMAC of p[0:n] to out64, which must have room for them and may lie
    # behind the message in the same buffer. Returns 64.
    cdef int hex_c(self, const char* p, Py_ssize_t n, char* out64) noexcept nogil
