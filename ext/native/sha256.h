/* SHA-256 compression, with the CPU's SHA extensions where it has them, and hexadecimal in place.
 *
 * The message is read where it lies; only the last one or two blocks are built on the stack. Rule: FIPS 180-4.
 * The choice is made once by sha256_has_ni(); valgrind reports a CPU without the extension, so instruction counts
 * are of the portable code. */
#ifndef TICKWRIGHT_SHA256_H
#define TICKWRIGHT_SHA256_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#define SHA256_X86 1
#else
#define SHA256_X86 0
#endif

static const uint32_t SHA256_K[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static const uint32_t SHA256_START[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static inline uint32_t sha256_rotr(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

static inline uint32_t sha256_load_be(const uint8_t *p) {
    return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | (uint32_t)p[3];
}

static inline void sha256_store_be(uint8_t *p, uint32_t x) {
    p[0] = (uint8_t)(x >> 24);
    p[1] = (uint8_t)(x >> 16);
    p[2] = (uint8_t)(x >> 8);
    p[3] = (uint8_t)x;
}

static void sha256_blocks_portable(uint32_t state[8], const uint8_t *p, size_t count) {
    uint32_t w[64];
    while (count--) {
        for (int i = 0; i < 16; i++) w[i] = sha256_load_be(p + 4 * i);
        for (int i = 16; i < 64; i++) {
            uint32_t s0 = sha256_rotr(w[i - 15], 7) ^ sha256_rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
            uint32_t s1 = sha256_rotr(w[i - 2], 17) ^ sha256_rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 64; i++) {
            uint32_t s1 = sha256_rotr(e, 6) ^ sha256_rotr(e, 11) ^ sha256_rotr(e, 25);
            uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + SHA256_K[i] + w[i];
            uint32_t s0 = sha256_rotr(a, 2) ^ sha256_rotr(a, 13) ^ sha256_rotr(a, 22);
            uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
            h = g; g = f; f = e; e = d + t1;
            d = c; c = b; b = a; a = t1 + t2;
        }
        state[0] += a; state[1] += b; state[2] += c; state[3] += d;
        state[4] += e; state[5] += f; state[6] += g; state[7] += h;
        p += 64;
    }
    /* The schedule holds the message and, while a key is being set up, the key. */
    explicit_bzero(w, sizeof(w));
}

#if SHA256_X86

static int sha256_has_ni(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 19)) || !(c & (1u << 9))) return 0; /* SSE4.1, SSSE3 */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    return (b >> 29) & 1; /* SHA */
}

/* Four rounds on the message words in M, and the schedule of the words after them. */
#define SHA256_RND4(M, i)                                                                       \
    do {                                                                                        \
        __m128i k_ = _mm_add_epi32(M, _mm_load_si128((const __m128i *)(SHA256_K + 4 * (i))));    \
        s1 = _mm_sha256rnds2_epu32(s1, s0, k_);                                                  \
        s0 = _mm_sha256rnds2_epu32(s0, s1, _mm_shuffle_epi32(k_, 0x0E));                         \
    } while (0)

/* W[t..t+3] from the sixteen words before them; A is the oldest and is replaced. */
#define SHA256_SCHED(A, B, C, D)                                                                \
    do {                                                                                        \
        A = _mm_sha256msg1_epu32(A, B);                                                         \
        A = _mm_add_epi32(A, _mm_alignr_epi8(D, C, 4));                                          \
        A = _mm_sha256msg2_epu32(A, D);                                                         \
    } while (0)

__attribute__((target("sha,sse4.1,ssse3")))
static void sha256_blocks_ni(uint32_t state[8], const uint8_t *p, size_t count) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i t = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xB1);       /* CDAB */
    __m128i s1 = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1B); /* EFGH */
    __m128i s0 = _mm_alignr_epi8(t, s1, 8);                                              /* ABEF */
    s1 = _mm_blend_epi16(s1, t, 0xF0);                                                   /* CDGH */
    while (count--) {
        const __m128i keep0 = s0, keep1 = s1;
        __m128i a = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p), swap);
        __m128i b = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16)), swap);
        __m128i c = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 32)), swap);
        __m128i d = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 48)), swap);
        SHA256_RND4(a, 0);
        SHA256_RND4(b, 1);
        SHA256_RND4(c, 2);
        SHA256_RND4(d, 3);
        SHA256_SCHED(a, b, c, d); SHA256_RND4(a, 4);
        SHA256_SCHED(b, c, d, a); SHA256_RND4(b, 5);
        SHA256_SCHED(c, d, a, b); SHA256_RND4(c, 6);
        SHA256_SCHED(d, a, b, c); SHA256_RND4(d, 7);
        SHA256_SCHED(a, b, c, d); SHA256_RND4(a, 8);
        SHA256_SCHED(b, c, d, a); SHA256_RND4(b, 9);
        SHA256_SCHED(c, d, a, b); SHA256_RND4(c, 10);
        SHA256_SCHED(d, a, b, c); SHA256_RND4(d, 11);
        SHA256_SCHED(a, b, c, d); SHA256_RND4(a, 12);
        SHA256_SCHED(b, c, d, a); SHA256_RND4(b, 13);
        SHA256_SCHED(c, d, a, b); SHA256_RND4(c, 14);
        SHA256_SCHED(d, a, b, c); SHA256_RND4(d, 15);
        s0 = _mm_add_epi32(s0, keep0);
        s1 = _mm_add_epi32(s1, keep1);
        p += 64;
    }
    t = _mm_shuffle_epi32(s0, 0x1B);                                                      /* FEBA */
    s1 = _mm_shuffle_epi32(s1, 0xB1);                                                     /* DCHG */
    s0 = _mm_blend_epi16(t, s1, 0xF0);                                                    /* DCBA */
    s1 = _mm_alignr_epi8(s1, t, 8);                                                       /* HGFE */
    _mm_storeu_si128((__m128i *)state, s0);
    _mm_storeu_si128((__m128i *)(state + 4), s1);
}

#else

static int sha256_has_ni(void) { return 0; }

static void sha256_blocks_ni(uint32_t state[8], const uint8_t *p, size_t count) {
    sha256_blocks_portable(state, p, count);
}

#endif

static inline void sha256_blocks(uint32_t state[8], const uint8_t *p, size_t count, int use_ni) {
    if (use_ni) sha256_blocks_ni(state, p, count);
    else sha256_blocks_portable(state, p, count);
}

/* Hash n bytes on from `state`, after `before` bytes (a multiple of 64) that are in it already. */
static inline void sha256_finish(uint32_t state[8], const uint8_t *p, size_t n, uint64_t before, int use_ni,
                                 uint8_t out[32]) {
    uint8_t tail[128];
    size_t whole = n / 64, rest = n % 64, size = rest < 56 ? 64 : 128;
    uint64_t bits = (before + n) * 8;
    if (whole) sha256_blocks(state, p, whole, use_ni);
    if (rest) memcpy(tail, p + 64 * whole, rest);
    memset(tail + rest, 0, size - rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++) tail[size - 1 - i] = (uint8_t)(bits >> (8 * i));
    sha256_blocks(state, tail, size / 64, use_ni);
    for (int i = 0; i < 8; i++) sha256_store_be(out + 4 * i, state[i]);
}

typedef struct {
    uint32_t inner[8]; /* state after key ^ 0x36.. */
    uint32_t outer[8]; /* state after key ^ 0x5c.. */
    int use_ni;
} hmac_sha256_t;

/* Rule: RFC 2104. Nothing of the key stays behind but the two states. */
static void hmac_sha256_init(hmac_sha256_t *h, const uint8_t *key, size_t n, int use_ni) {
    uint8_t block[64] = {0}, pad[64];
    uint32_t state[8];
    h->use_ni = use_ni;
    if (n > 64) {
        memcpy(state, SHA256_START, 32);
        sha256_finish(state, key, n, 0, use_ni, block);
    } else if (n) {
        memcpy(block, key, n);
    }
    for (int i = 0; i < 64; i++) pad[i] = block[i] ^ 0x36;
    memcpy(h->inner, SHA256_START, 32);
    sha256_blocks(h->inner, pad, 1, use_ni);
    for (int i = 0; i < 64; i++) pad[i] = block[i] ^ 0x5c;
    memcpy(h->outer, SHA256_START, 32);
    sha256_blocks(h->outer, pad, 1, use_ni);
    explicit_bzero(block, sizeof(block));
    explicit_bzero(pad, sizeof(pad));
    explicit_bzero(state, sizeof(state));
}

static inline void hmac_sha256(const hmac_sha256_t *h, const uint8_t *p, size_t n, uint8_t out[32]) {
    uint32_t state[8];
    uint8_t inner[32];
    memcpy(state, h->inner, 32);
    sha256_finish(state, p, n, 64, h->use_ni, inner);
    memcpy(state, h->outer, 32);
    sha256_finish(state, inner, 32, 64, h->use_ni, out);
}

static inline void hex_portable(const uint8_t *p, size_t n, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
}

#if SHA256_X86
__attribute__((target("ssse3")))
static inline void hex32_ssse3(const uint8_t *p, char *out) {
    const __m128i digits = _mm_setr_epi8('0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f');
    const __m128i low = _mm_set1_epi8(15);
    for (int i = 0; i < 2; i++) {
        __m128i v = _mm_loadu_si128((const __m128i *)(p + 16 * i));
        __m128i hi = _mm_shuffle_epi8(digits, _mm_and_si128(_mm_srli_epi16(v, 4), low));
        __m128i lo = _mm_shuffle_epi8(digits, _mm_and_si128(v, low));
        _mm_storeu_si128((__m128i *)(out + 32 * i), _mm_unpacklo_epi8(hi, lo));
        _mm_storeu_si128((__m128i *)(out + 32 * i + 16), _mm_unpackhi_epi8(hi, lo));
    }
}
#endif

static inline void hmac_sha256_hex(const hmac_sha256_t *h, const uint8_t *p, size_t n, char out64[64]) {
    uint8_t mac[32];
    hmac_sha256(h, p, n, mac);
#if SHA256_X86
    if (h->use_ni) {
        hex32_ssse3(mac, out64);
        return;
    }
#endif
    hex_portable(mac, 32, out64);
}

#endif
