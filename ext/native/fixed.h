/* Decimal text <-> int64 units of a grid (mantissa * 10**-decimals). Exact; reads [p, p + n) only.
   In C, not Cython, because ext/native/levels.h builds on it; Cython code cimports it from ext/fixed.pxd. */
#ifndef TICKWRIGHT_FIXED_H
#define TICKWRIGHT_FIXED_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "refused.h"

#define TW_MAX_DECIMALS 18
#define TW_MAX_TEXT 48  /* the longest text that is read: int64 with 18 decimals needs 21 */
#define TW_TEXT_SIZE 24 /* sign, 19 digits, point, and one zero before the point */

typedef struct {
    int64_t mantissa;
    int32_t decimals;
} tw_grid_t;

static inline int64_t tw_div_floor(int64_t a, int64_t b) {
    assert(b > 0);
    int64_t q = a / b;
    return q - (a % b < 0);
}

static inline int64_t tw_div_ceil(int64_t a, int64_t b) {
    assert(b > 0);
    int64_t q = a / b;
    return q + (a % b > 0);
}

/* Why [p, p + n) is no plain decimal number: an exponent is named, everything else is not a number. */
static __attribute__((noinline)) int tw_not_number(const char *p, const char *end) {
    const char *q = p;
    if (q < end && *q == '-')
        q++;
    if (q == end || (unsigned char)(*q - '0') > 9)
        return REFUSED_NOT_NUMBER;
    while (q < end && ((unsigned char)(*q - '0') <= 9 || *q == '.'))
        q++;
    return q < end && (*q == 'e' || *q == 'E') ? REFUSED_EXPONENT : REFUSED_NOT_NUMBER;
}

/* Units of 10**-decimals to units of the grid. Off the grid, *units is rounded towards zero. */
static inline int tw_on_grid(uint64_t value, const tw_grid_t *grid, int64_t *units) {
    if (grid->mantissa == 1) {
        *units = (int64_t)value;
        return 0;
    }
    uint64_t quotient = value / (uint64_t)grid->mantissa;
    *units = (int64_t)quotient;
    return quotient * (uint64_t)grid->mantissa == value ? 0 : REFUSED_OFF_GRID;
}

/* Grammar: -? digit+ ( '.' digit+ )?   Zeros behind the grid's last decimal are fine (Binance always sends 8).
   Off the grid *units is rounded towards zero, for the caller who may take it; after any other refusal it is not set.
   The value in units of 10**-decimals must fit int64, also where the mantissa would bring it back into range. */
static inline int tw_fixed_units(const char *p, Py_ssize_t n, const tw_grid_t *grid, int64_t *units) {
    const char *const start = p;
    const char *const end = p + n;
    const uint64_t limit = INT64_MAX;
    uint64_t value = 0;
    int decimals = grid->decimals;
    int negative = 0;
    int overflow = 0;
    assert(grid->mantissa >= 1 && decimals >= 0 && decimals <= TW_MAX_DECIMALS);
    if (n > TW_MAX_TEXT)
        return REFUSED_TOO_MANY_DIGITS;
    if (p < end && *p == '-') {
        negative = 1;
        p++;
    }
    const char *const whole = p;
    for (; p < end; p++) {
        unsigned digit = (unsigned char)*p - '0';
        if (digit > 9)
            break;
        overflow |= value > (limit - digit) / 10;
        value = overflow ? 0 : value * 10 + digit;
    }
    if (p == whole)
        return tw_not_number(start, end);
    int off_grid = 0;
    if (p < end) {
        if (*p != '.' || ++p == end)
            return tw_not_number(start, end);
        for (; p < end; p++) {
            unsigned digit = (unsigned char)*p - '0';
            if (digit > 9)
                return tw_not_number(start, end);
            if (decimals > 0) {
                overflow |= value > (limit - digit) / 10;
                value = overflow ? 0 : value * 10 + digit;
                decimals--;
            } else {
                off_grid |= digit;
            }
        }
    }
    for (; decimals > 0; decimals--) {
        overflow |= value > limit / 10;
        value = overflow ? 0 : value * 10;
    }
    if (overflow)
        return REFUSED_OVERFLOW;
    int code = tw_on_grid(value, grid, units);
    if (negative)
        *units = -*units;
    return off_grid ? REFUSED_OFF_GRID : code;
}

static inline int tw_fixed_text(int64_t units, const tw_grid_t *grid, char *out, Py_ssize_t capacity) {
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051"
        "52535455565758596061626364656667686970717273747576777879808182838485868788899091929394959697989"
        "9";
    char text[TW_TEXT_SIZE + 20];
    char *p = text + sizeof text;
    uint64_t value = units < 0 ? 0 - (uint64_t)units : (uint64_t)units;
    int decimals = grid->decimals;
    assert(grid->mantissa >= 1 && decimals >= 0 && decimals <= TW_MAX_DECIMALS);
    if (__builtin_mul_overflow(value, (uint64_t)grid->mantissa, &value) || value > (uint64_t)INT64_MAX)
        return REFUSED_OVERFLOW;
    if (decimals) {
        for (; decimals >= 2; decimals -= 2) {
            p -= 2;
            memcpy(p, pairs + 2 * (value % 100), 2);
            value /= 100;
        }
        if (decimals) {
            *--p = (char)('0' + value % 10);
            value /= 10;
        }
        *--p = '.';
    }
    for (; value >= 100; value /= 100) {
        p -= 2;
        memcpy(p, pairs + 2 * (value % 100), 2);
    }
    if (value >= 10) {
        p -= 2;
        memcpy(p, pairs + 2 * value, 2);
    } else {
        *--p = (char)('0' + value);
    }
    if (units < 0)
        *--p = '-';
    int length = (int)(text + sizeof text - p);
    if (length > capacity)
        return REFUSED_BUFFER_TOO_SMALL;
    memcpy(out, p, (size_t)length);
    return length;
}

#endif
