/* Bit scans, wrapping offsets and 128-bit products. Here because the checked build of Cython would test arithmetic
 * that wraps on purpose, and because Cython has no 128-bit integer of its own. */
#ifndef TICKWRIGHT_BITS_H
#define TICKWRIGHT_BITS_H

#include <stdint.h>

typedef __int128 i128_t;

/* Distance of px above base, huge when px is below it: one comparison then tests both ends of a window. */
static inline uint64_t offset_above(int64_t px, int64_t base) { return (uint64_t)px - (uint64_t)base; }

static inline int64_t px_at(int64_t base, uint64_t slot, uint64_t mask) {
    return (int64_t)((uint64_t)base + ((slot - (uint64_t)base) & mask));
}

static inline int64_t add_wrap(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
static inline int64_t sub_wrap(int64_t a, int64_t b) { return (int64_t)((uint64_t)a - (uint64_t)b); }

/* Middle of two prices without overflow, rounded towards a. */
static inline int64_t middle(int64_t a, int64_t b) { return (int64_t)(((i128_t)a + (i128_t)b) / 2); }

static inline int lowest_bit(uint64_t word) { return __builtin_ctzll(word); }
static inline int highest_bit(uint64_t word) { return 63 - __builtin_clzll(word); }
static inline uint64_t bit(unsigned position) { return (uint64_t)1 << (position & 63); }
static inline uint64_t bits_below(unsigned position) { return bit(position) - 1; }           /* [0, position) */
static inline uint64_t bits_above(unsigned position) { return ~(uint64_t)1 << (position & 63); } /* (position, 63] */

static inline uint64_t mix(uint64_t seed, int64_t value) {
    uint64_t hashed = (seed ^ (uint64_t)value) * 0x9E3779B97F4A7C15u;
    return hashed ^ (hashed >> 29);
}

/* (high, low) += a * b, as one signed 128-bit number. */
static inline void add_product(int64_t *high, uint64_t *low, int64_t a, int64_t b) {
    i128_t sum = (i128_t)(((unsigned __int128)(uint64_t)*high << 64) | *low) + (i128_t)a * b;
    *high = (int64_t)(sum >> 64);
    *low = (uint64_t)sum;
}

#endif
