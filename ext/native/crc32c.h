// CRC-32C (Castagnoli, reflected 0x82F63B78), the checksum of journal records. SSE4.2 has it as an instruction; the
// choice is made at run time, so a portable build is not slow on a machine that has it.
#ifndef TICKWRIGHT_CRC32C_H
#define TICKWRIGHT_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static uint32_t crc32c_table[8][256];
static int crc32c_hw = -1;  // -1: not asked yet

static inline void crc32c_setup(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = (c & 1) ? (c >> 1) ^ 0x82F63B78u : c >> 1;
        crc32c_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            crc32c_table[t][i] = (crc32c_table[t - 1][i] >> 8) ^ crc32c_table[0][crc32c_table[t - 1][i] & 0xFF];
#if defined(__x86_64__)
    __builtin_cpu_init();
    crc32c_hw = __builtin_cpu_supports("sse4.2") != 0;
#else
    crc32c_hw = 0;
#endif
}

// Both take and give the raw register (no inversion), so that a checksum can be continued over two ranges.
static inline uint32_t crc32c_soft(uint32_t crc, const unsigned char *p, size_t n) {
    while (n >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        w ^= crc;  // little-endian hosts only, as is the whole file format
        crc = crc32c_table[7][w & 0xFF] ^ crc32c_table[6][(w >> 8) & 0xFF] ^ crc32c_table[5][(w >> 16) & 0xFF] ^
              crc32c_table[4][(w >> 24) & 0xFF] ^ crc32c_table[3][(w >> 32) & 0xFF] ^
              crc32c_table[2][(w >> 40) & 0xFF] ^ crc32c_table[1][(w >> 48) & 0xFF] ^ crc32c_table[0][w >> 56];
        p += 8;
        n -= 8;
    }
    while (n--) crc = (crc >> 8) ^ crc32c_table[0][(crc ^ *p++) & 0xFF];
    return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("sse4.2"))) static inline uint32_t crc32c_sse(uint32_t crc, const unsigned char *p, size_t n) {
    uint64_t c = crc;
    while (n >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        c = _mm_crc32_u64(c, w);
        p += 8;
        n -= 8;
    }
    while (n--) c = _mm_crc32_u8((uint32_t)c, *p++);
    return (uint32_t)c;
}
#endif

// Raw register in, raw register out. Call crc32c_setup() once per module first.
static inline uint32_t crc32c_extend(uint32_t crc, const void *p, size_t n) {
#if defined(__x86_64__)
    if (__builtin_expect(crc32c_hw > 0, 1)) return crc32c_sse(crc, (const unsigned char *)p, n);
#endif
    return crc32c_soft(crc, (const unsigned char *)p, n);
}

// memcpy that returns the checksum of what it copied: one pass over the bytes instead of two.
static inline uint32_t crc32c_copy(uint32_t crc, void *to, const void *from, size_t n) {
    memcpy(to, from, n);
    return crc32c_extend(crc, to, n);
}

#endif
