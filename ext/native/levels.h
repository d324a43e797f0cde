/* Price and quantity text of a book or a trade, by the grid of its symbol.
   Two ways to the same result: digit by digit (tw_fixed_units), and 16 bytes at once where the processor has SSSE3.
   A third way, where it has AVX2, reads a price and its quantity side by side in the two halves of one register.
   tw_levels_canonical takes only levels in the form the venues write, `["61737.63","0.014"]` without spaces, and stops before
   any other; the caller then reads that one level by the slow and exact rules. Reads [p, end) only. */
#ifndef TICKWRIGHT_LEVELS_H
#define TICKWRIGHT_LEVELS_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "fixed.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
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
/* 16 bytes from n on: the last n kept. */
static const uint8_t tw_own_bytes[32] = {0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
                                         0,   0,   0,   0,   0,   255, 255, 255, 255, 255, 255,
                                         255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
/* Controls of pshufb: a window of 16 from 16 - n moves bytes n places to the right, zeros in front; from 16 + n moves
   them n places to the left, zeros behind. */
static const uint8_t tw_shift_bytes[48] = {128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128,
                                           0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,
                                           128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128};

/* 0: digit by digit, 1: 16 bytes, 2: price and quantity at once. */
static inline int tw_levels_fast(void) {
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
        return 2;
    return __builtin_cpu_supports("ssse3") ? 1 : 0;
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

/* How the 16 bytes before a closing quote become units of 10**-decimals, by the place of the point: `most` is the
   largest value that each byte (less '0') may have, `from` where each of 16 decimal places comes from. What would be
   lost, digits behind the grid and in front of the 16th place, may only be 0. */
typedef struct {
    uint8_t most[16];
    uint8_t from[16];
} tw_row_t;

#define TW_NO_POINT 16
static tw_row_t tw_rows[TW_MAX_DECIMALS + 1][TW_NO_POINT + 1]; /* [decimals][bytes behind the point] */

/* Once before the first level is read. */
static void tw_fill_rows(void) {
    for (int decimals = 0; decimals <= TW_MAX_DECIMALS; decimals++) {
        for (int behind = 0; behind <= TW_NO_POINT; behind++) {
            tw_row_t *const row = &tw_rows[decimals][behind];
            const int point = behind == TW_NO_POINT ? 16 : 15 - behind;
            memset(row->most, 0, 16);
            memset(row->from, 128, 16);
            for (int at = 0; at < 16; at++) {
                const int place = at < point ? at - point + 16 - decimals : at - point + 15 - decimals;
                if (at == point) {
                    row->most[at] = behind > 0 ? 255 : 0; /* `1.` is no number */
                } else if (place >= 0 && place < 16) {
                    row->most[at] = 9;
                    row->from[place] = (uint8_t)at;
                }
            }
        }
    }
}

#define TW_INLINE_AVX2 static inline __attribute__((target("avx2,bmi,bmi2"), always_inline))

TW_INLINE_AVX2 __m256i tw_two(const void *low, const void *high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)low)),
                                   _mm_loadu_si128((const __m128i *)high), 1);
}

/* Two texts of 1 to 16 bytes, by their closing quotes; 16 bytes before each quote are readable. 0 when the slow rules
   must decide. */
TW_INLINE_AVX2 int tw_pair(const char *px_end, unsigned px_length, const char *qty_end, unsigned qty_length,
                           const tw_row_t *px_rows, const tw_row_t *qty_rows, const tw_symbol_t *symbol,
                           tw_level_t *out) {
    const __m256i text = tw_two(px_end - 16, qty_end - 16);
    const __m256i mine = tw_two(tw_own_bytes + px_length, tw_own_bytes + qty_length);
    const __m256i digits = _mm256_and_si256(_mm256_xor_si256(text, _mm256_set1_epi8('0')), mine);
    const unsigned points = (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(digits, _mm256_set1_epi8('.' ^ '0')));
    const tw_row_t *const px_row = px_rows + __builtin_clz(points << 16 | 0x8000);
    const tw_row_t *const qty_row = qty_rows + __builtin_clz((points & 0xFFFF0000) | 0x8000);
    const __m256i most = tw_two(px_row->most, qty_row->most);
    const __m256i fits = _mm256_cmpeq_epi8(_mm256_min_epu8(digits, most), digits);
    /* A point in front of all digits, bit 16 - length of each half. */
    const unsigned first = (0x10000u >> px_length) | (unsigned)(UINT64_C(0x100000000) >> qty_length);
    if ((unsigned)_mm256_movemask_epi8(fits) != 0xFFFFFFFF || points & first)
        return 0;
    const __m256i places = _mm256_shuffle_epi8(digits, tw_two(px_row->from, qty_row->from));
    const __m256i pairs = _mm256_maddubs_epi16(places, _mm256_set1_epi16(0x010A));
    const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00010064));
    const __m256i packed = _mm256_packus_epi32(fours, fours);
    const __m256i eights = _mm256_madd_epi16(packed, _mm256_set1_epi32(0x00012710));
    const __m256i units = _mm256_add_epi64(_mm256_mul_epu32(eights, _mm256_set1_epi64x(100000000)),
                                           _mm256_srli_epi64(eights, 32));
    _mm_storeu_si128((__m128i *)out, _mm256_castsi256_si128(_mm256_permute4x64_epi64(units, 8)));
    if (__builtin_expect((symbol->px.mantissa | symbol->qty.mantissa) == 1, 1))
        return 1;
    return tw_on_grid((uint64_t)out->px_ticks, &symbol->px, &out->px_ticks) == 0 &&
           tw_on_grid((uint64_t)out->qty_lots, &symbol->qty, &out->qty_lots) == 0;
}

/* A price and a quantity that stand anywhere in a message that begins at `start`. */
static __attribute__((target("avx2,bmi,bmi2"))) int tw_pair_wide(const char *start, const char *px_end,
                                                                 Py_ssize_t px_length, const char *qty_end,
                                                                 Py_ssize_t qty_length, const tw_symbol_t *symbol,
                                                                 tw_level_t *out) {
    if ((((uint64_t)px_length - 1) | ((uint64_t)qty_length - 1)) > 15 || px_end - start < 16 || qty_end - start < 16)
        return 0;
    return tw_pair(px_end, (unsigned)px_length, qty_end, (unsigned)qty_length, tw_rows[symbol->px.decimals],
                   tw_rows[symbol->qty.decimals], symbol, out);
}

TW_INLINE_AVX2 unsigned tw_quotes32(const char *p) {
    return (unsigned)_mm256_movemask_epi8(
        _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)p), _mm256_set1_epi8('"')));
}

TW_INLINE_AVX2 uint32_t tw_load4(const char *p) {
    uint32_t word;
    memcpy(&word, p, 4);
    return word;
}

/* Without its two lowest bits. */
TW_INLINE_AVX2 uint64_t tw_without_two(uint64_t bits) {
    bits &= bits - 1;
    return bits & (bits - 1);
}

/* As tw_levels_canonical; `start` is where the message begins. */
static __attribute__((target("avx2,bmi,bmi2"))) int32_t tw_levels_wide(const char **at, const char *start,
                                                                       const char *end, const tw_symbol_t *symbol,
                                                                       tw_level_t *out, int32_t room, int *closed) {
    const char *p = *at;
    const tw_row_t *const px_rows = tw_rows[symbol->px.decimals];
    const tw_row_t *const qty_rows = tw_rows[symbol->qty.decimals];
    int32_t count = 0;
    /* A price ends 3 bytes behind p or later, and 16 bytes before its end are read. */
    if (p - start < 13 || end - p < 12 || end - start < 32 || p[0] != '[' || p[1] != '"')
        return 0;
    /* Two levels at a time: where the next begins is known only when the quotes of this one are, and that wait is
       longer than the work. Anything unusual, and the end of the array or the message, is left to the loop below. */
    while (room - count >= 2 && end - p >= 72) {
        const uint64_t quotes = tw_quotes32(p + 2) | (uint64_t)tw_quotes32(p + 34) << 32;
        const uint64_t end_1 = tw_without_two(quotes);
        const uint64_t px_2 = tw_without_two(end_1);
        const uint64_t end_2 = tw_without_two(px_2);
        if (end_2 == 0)
            break;
        const unsigned px_length_1 = (unsigned)__builtin_ctzll(quotes);
        const unsigned last_1 = (unsigned)__builtin_ctzll(end_1);
        const unsigned quote_2 = (unsigned)__builtin_ctzll(px_2);
        const unsigned last_2 = (unsigned)__builtin_ctzll(end_2);
        const unsigned qty_length_1 = last_1 - px_length_1 - 3;
        const unsigned px_length_2 = quote_2 - last_1 - 5;
        const unsigned qty_length_2 = last_2 - quote_2 - 3;
        const char *const from = p + 2;
        if (((px_length_1 - 1) | (qty_length_1 - 1) | (px_length_2 - 1) | (qty_length_2 - 1)) > 15)
            break;
        if (((tw_load4(from + px_length_1) & 0xFFFFFF) ^ 0x222C22) | ((tw_load4(from + quote_2) & 0xFFFFFF) ^ 0x222C22) |
            (tw_load4(from + last_1 + 1) ^ 0x225B2C5D) | (tw_load4(from + last_2 + 1) ^ 0x225B2C5D))
            break;
        if (!tw_pair(from + px_length_1, px_length_1, from + last_1, qty_length_1, px_rows, qty_rows, symbol,
                     &out[count]) ||
            !tw_pair(from + quote_2, px_length_2, from + last_2, qty_length_2, px_rows, qty_rows, symbol,
                     &out[count + 1]))
            break;
        p = from + last_2 + 3;
        count += 2;
    }
    while (count < room) {
        /* Quotes behind `["`: end of the price, begin and end of the quantity. Only their places are needed here, so
           near the end of the message they are looked up in its last 32 bytes. */
        const Py_ssize_t behind = p + 34 - end;
        unsigned quotes;
        if (__builtin_expect(behind <= 0, 1)) {
            quotes = tw_quotes32(p + 2);
        } else {
            if (behind > 31)
                break;
            quotes = tw_quotes32(end - 32) >> behind;
        }
        const unsigned last_quote = (unsigned)tw_without_two(quotes);
        if (last_quote == 0)
            break;
        const unsigned px_length = (unsigned)__builtin_ctz(quotes);
        const unsigned qty_end = (unsigned)__builtin_ctz(last_quote);
        const unsigned qty_length = qty_end - px_length - 3;
        const char *const quote = p + 2 + px_length;
        const char *const last = p + 2 + qty_end;
        if (((px_length - 1) | (qty_length - 1)) > 15 || end - last < 5 || (tw_load4(quote) & 0xFFFFFF) != 0x222C22)
            break;
        if (!tw_pair(quote, px_length, last, qty_length, px_rows, qty_rows, symbol, &out[count]))
            break;
        const uint32_t next = tw_load4(last + 1);
        if (__builtin_expect(next != 0x225B2C5D, 0)) { /* not `],["` */
            if ((next & 0xFFFF) == 0x5D5D) {
                p = last + 3;
                count++;
                *closed = 1;
            }
            break;
        }
        p = last + 3;
        count++;
    }
    *at = p;
    return count;
}

#else

static inline int tw_levels_fast(void) {
    return 0;
}

static void tw_fill_rows(void) {
}

static int tw_pair_wide(const char *start, const char *px_end, Py_ssize_t px_length, const char *qty_end,
                        Py_ssize_t qty_length, const tw_symbol_t *symbol, tw_level_t *out) {
    return 0;
}

static int32_t tw_levels_wide(const char **at, const char *start, const char *end, const tw_symbol_t *symbol,
                              tw_level_t *out, int32_t room, int *closed) {
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
