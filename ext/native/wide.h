/* 128-bit sums of products for the pre-trade gate: money there is px_ticks * qty_lots * value_num / value_den, and none
 * of its steps may overflow. Results that leave 64 bits are clamped to WIDE_MAX, which is above every limit. */
#ifndef TICKWRIGHT_WIDE_H
#define TICKWRIGHT_WIDE_H

#include <stdint.h>

#include "bits.h"

#define WIDE_MAX INT64_MAX

typedef struct {
    i128_t v;
} wide_t;

static inline int64_t wide_clamp(i128_t value) {
    if (value > (i128_t)WIDE_MAX) return WIDE_MAX;
    if (value < -(i128_t)WIDE_MAX) return -WIDE_MAX;
    return (int64_t)value;
}

/* floor(raw * num / den) for raw >= 0, num > 0, den > 0. */
static inline int64_t wide_scale(i128_t raw, int64_t num, int64_t den) {
    i128_t value;
    uint64_t small;
    if (raw >= 0 && raw <= (i128_t)INT64_MAX && !__builtin_mul_overflow((uint64_t)raw, (uint64_t)num, &small)) {
        if (den != 1) small /= (uint64_t)den;
        return small > (uint64_t)WIDE_MAX ? WIDE_MAX : (int64_t)small;
    }
    if (__builtin_mul_overflow(raw, (i128_t)num, &value)) return WIDE_MAX;
    return wide_clamp(den == 1 ? value : value / den);
}

static inline int64_t wide_value(int64_t px, int64_t qty, int64_t num, int64_t den) {
    return wide_scale((i128_t)px * qty, num, den);
}

/* sum += a * b */
static inline void wide_add(wide_t *sum, int64_t a, int64_t b) { sum->v += (i128_t)a * b; }

/* clamp(sum + a * b) */
static inline int64_t wide_with(const wide_t *sum, int64_t a, int64_t b) { return wide_clamp(sum->v + (i128_t)a * b); }

/* sum * kept / whole, rounded towards zero: the cost of what is left of a position. */
static inline void wide_keep(wide_t *sum, int64_t kept, int64_t whole) {
    /* Split, as sum * kept may leave 128 bits. */
    i128_t quotient = sum->v / whole, rest = sum->v % whole;
    sum->v = quotient * kept + rest * kept / whole;
}

/* Worst case of one strategy on one instrument, in atoms: all its buys filled, or all its sells. */
static inline int64_t wide_worst(const wide_t *held, const wide_t *buys, const wide_t *sells, int64_t px,
                                 int64_t buy_qty, int64_t sell_qty, int64_t num, int64_t den) {
    i128_t longest = held->v + buys->v + (i128_t)px * buy_qty;
    i128_t shortest = sells->v + (i128_t)px * sell_qty - held->v;
    i128_t worst = longest > shortest ? longest : shortest;
    return worst <= 0 ? 0 : wide_scale(worst, num, den);
}

/* px outside ref * (1 -+ ppm / 10^6), with ref2 = 2 * ref. */
static inline int wide_outside(int64_t px, int64_t ref2, int64_t ppm) {
    i128_t distance = (i128_t)2 * px - ref2;
    if (distance < 0) distance = -distance;
    return distance * 1000000 > (i128_t)ref2 * ppm;
}

/* Last price inside the collar, on the upper (side > 0) or lower edge. */
static inline int64_t wide_edge(int64_t ref2, int64_t ppm, int side) {
    if (side > 0) return wide_clamp((i128_t)ref2 * (1000000 + ppm) / 2000000);
    if (ppm >= 1000000) return 0;
    return wide_clamp(((i128_t)ref2 * (1000000 - ppm) + 1999999) / 2000000);
}

#endif
