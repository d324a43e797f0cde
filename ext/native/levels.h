/* Price and quantity text of a book or a trade, by the grid of its symbol.
   Two ways to the same result: digit by digit (tw_fixed_units), and 16 bytes at once where the processor has SSSE3.
   tw_levels_canonical takes only levels in the form the venues write, `["61737.63","0.014"]` without spaces, and stops before
   any other; the caller then reads that one level by the slow and exact rules. Reads [p, end) only. */
#ifndef TICKWRIGHT_LEVELS_H
#define TICKWRIGHT_LEVELS_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "fixed.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <tmmintrin.h>
#define TW_SSSE3 1
#else
#define TW_SSSE3 0
#endif

static const int64_t TW_NS_PER_MS = 1000000;
static const int64_t TW_MAX_MS = 9000000000000;

typedef struct {
    tw_grid_t px;
    tw_grid_t qty;
    int32_t slot;
    int32_t length;
    char name[40];
} tw_symbol_t;

/* Twin of level_t in ext/message.pxd. */
typedef struct {
    int64_t px_ticks;
    int64_t qty_lots;
} tw_level_t;

static inline uint64_t tw_symbol_hash(const char *p, Py_ssize_t n) {
    uint64_t head = 0, tail = 0;
    if (n >= 8) {
        memcpy(&head, p, 8);
        memcpy(&tail, p + n - 8, 8);
    } else if (n >= 4) {
        memcpy(&head, p, 4);
        memcpy(&tail, p + n - 4, 4);
    } else if (n > 0) {
        memcpy(&head, p, 1);
        memcpy(&tail, p + n - 1, 1);
    }
    uint64_t hash = (head ^ (uint64_t)n) * UINT64_C(0x9E3779B97F4A7C15);
    hash = (hash ^ (hash >> 29) ^ tail) * UINT64_C(0xBF58476D1CE4E5B9);
    return hash ^ (hash >> 32);
}

static inline int tw_symbol_is(const tw_symbol_t *symbol, const char *p, Py_ssize_t n) {
    return symbol != NULL && symbol->length == n && memcmp(symbol->name, p, (size_t)n) == 0;
}

/* Decimal text up to a closing quote: *next is that quote. */
static inline int tw_quoted_units(const char *p, const char *end, const tw_grid_t *grid, const char **next,
                                  int64_t *units) {
    const char *q = p;
    while (q < end && *q != '"')
        q++;
    if (q == end)
        return REFUSED_TRUNCATED;
    *next = q;
    int code = tw_fixed_units(p, q - p, grid, units);
    return *p == '-' && (code == 0 || code == REFUSED_OFF_GRID) ? REFUSED_NEGATIVE : code;
}

#if TW_SSSE3

static const uint8_t tw_keep_bytes[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                          255, 255, 255, 255, 255, 0,   0,   0,   0,   0,   0,
                                          0,   0,   0,   0,   0,   0,   0,   0,   0,   0};
/* Controls of pshufb: a window of 16 from 16 - n moves bytes n places to the right, zeros in front; from 16 + n moves
   them n places to the left, zeros behind. */
static const uint8_t tw_shift_bytes[48] = {128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128,
                                           0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,
                                           128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128};

static inline int tw_levels_fast(void) {
    return __builtin_cpu_supports("ssse3");
}

/* 16 bytes from p, zeros behind end. The message is at least 16 bytes long: [start, end). */
static inline __attribute__((target("ssse3"), always_inline)) __m128i tw_load16(const char *p, const char *end) {
    const Py_ssize_t left = end - p;
    if (__builtin_expect(left >= 16, 1))
        return _mm_loadu_si128((const __m128i *)p);
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(end - 16));
    return _mm_shuffle_epi8(bytes, _mm_loadu_si128((const __m128i *)(tw_shift_bytes + 32 - left)));
}

#define TW_INLINE_SSSE3 static inline __attribute__((target("ssse3"), always_inline))

TW_INLINE_SSSE3 unsigned tw_quotes(__m128i text) {
    return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(text, _mm_set1_epi8('"')));
}

/* Text of `length` <= 15 bytes, at most 15 digits with the zeros added for the grid. 0 when the slow rules must
   decide. */
TW_INLINE_SSSE3 int tw_digits16(__m128i text, int length, const tw_grid_t *grid, int64_t *units) {
    const int decimals = grid->decimals;
    const __m128i digits = _mm_and_si128(_mm_sub_epi8(text, _mm_set1_epi8('0')),
                                         _mm_loadu_si128((const __m128i *)(tw_keep_bytes + 16 - length)));
    /* Behind the text are zeros, so `others` has the point or nothing. */
    const __m128i valid = _mm_cmpeq_epi8(_mm_min_epu8(digits, _mm_set1_epi8(9)), digits);
    const unsigned others = 0xFFFF ^ (unsigned)_mm_movemask_epi8(valid);
    const unsigned dots = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(text, _mm_set1_epi8('.')));
    const int whole = __builtin_ctz(others | (1u << length));
    const unsigned nonzero = (unsigned)_mm_movemask_epi8(_mm_cmpgt_epi8(digits, _mm_setzero_si128()));
    /* Nothing but digits, or one point with digits on both sides; nothing but zeros behind the grid. */
    if ((others & (others - 1)) | (others & ~dots) | (whole == 0) | (whole + 1 == length && others) |
        (whole + decimals > 15) || (uint64_t)nonzero >> (whole + 1 + decimals))
        return 0;
    /* Right-align, and from the point on take the byte behind it. */
    __m128i from = _mm_loadu_si128((const __m128i *)(tw_shift_bytes + whole + decimals));
    from = _mm_sub_epi8(from, _mm_cmpgt_epi8(from, _mm_set1_epi8((char)(whole - 1))));
    const __m128i pairs = _mm_maddubs_epi16(_mm_shuffle_epi8(digits, from), _mm_set1_epi16(0x010A));
    const __m128i fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x00010064));
    const __m128i packed = _mm_packs_epi32(fours, fours);
    const uint64_t eights = (uint64_t)_mm_cvtsi128_si64(_mm_madd_epi16(packed, _mm_set1_epi32(0x00012710)));
    return tw_on_grid((eights & 0xFFFFFFFF) * 100000000 + (eights >> 32), grid, units) == 0;
}

static __attribute__((target("ssse3"))) int tw_quoted_units_fast(const char *p, const char *end,
                                                                 const tw_grid_t *grid, const char **next,
                                                                 int64_t *units) {
    const __m128i text = tw_load16(p, end);
    const int length = __builtin_ctz(tw_quotes(text) | 0x10000);
    if (length > 15 || length == 0 || !tw_digits16(text, length, grid, units))
        return tw_quoted_units(p, end, grid, next, units);
    *next = p + length;
    return 0;
}

/* From the first byte of a level. *at is left at the first byte of the level that was not taken, or, with *closed
   set, behind the bracket that ends the array. Returns how many levels were written. */
static __attribute__((target("ssse3"))) int32_t tw_levels_canonical(const char **at, const char *end,
                                                                const tw_symbol_t *symbol, tw_level_t *out,
                                                                int32_t room, int *closed) {
    const char *p = *at;
    const tw_grid_t px = symbol->px, qty = symbol->qty;
    int32_t count = 0;
    while (count < room && end - p >= 12) {
        /* The quotes of a whole level at once: where one ends decides where the next begins, and nothing else may be
           on that path. Behind `["` stand the end of the price, the begin and the end of the quantity. */
        const __m128i head = tw_load16(p + 2, end);
        const __m128i tail = tw_load16(end - p >= 18 ? p + 18 : end, end);
        unsigned quotes = tw_quotes(head) | tw_quotes(tail) << 16;
        const int px_end = __builtin_ctz(quotes | 0x80000000);
        quotes &= quotes - 1;
        quotes &= quotes - 1;
        if (quotes == 0 || px_end == 0 || px_end > 15)
            break;
        const int qty_end = __builtin_ctz(quotes);
        const char *const quote = p + 2 + px_end;
        const char *const last = p + 2 + qty_end;
        const int length = qty_end - px_end - 3;
        if (length < 1 || length > 15 || end - last < 3)
            break;
        if (p[0] != '[' || p[1] != '"' || quote[1] != ',' || quote[2] != '"' || last[1] != ']')
            break;
        if (!tw_digits16(head, px_end, &px, &out[count].px_ticks) ||
            !tw_digits16(tw_load16(quote + 3, end), length, &qty, &out[count].qty_lots))
            break;
        if (last[2] == ',') {
            p = last + 3;
        } else if (last[2] == ']') {
            p = last + 3;
            *closed = 1;
        } else {
            break;
        }
        count++;
        if (*closed)
            break;
    }
    *at = p;
    return count;
}

#else

static inline int tw_levels_fast(void) {
    return 0;
}

static int tw_quoted_units_fast(const char *p, const char *end, const tw_grid_t *grid, const char **next,
                                int64_t *units) {
    return tw_quoted_units(p, end, grid, next, units);
}

static int32_t tw_levels_canonical(const char **at, const char *end, const tw_symbol_t *symbol, tw_level_t *out,
                                   int32_t room, int *closed) {
    return 0;
}

#endif

#endif
