/* Bytes of one JSON text: strings and numbers. Every function reads [p, end) only, and needs p <= end.
   A NULL result means refused, with the reason in *refusal. What is accepted, a strict JSON parser accepts. */
#ifndef TICKWRIGHT_JSON_H
#define TICKWRIGHT_JSON_H

#include <assert.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "refused.h"

#define TW_MAX_NUMBER 64 /* the longest number token that is skipped; Python's own parser stops at 4300 digits */

typedef struct {
    const char *p; /* first byte, behind the quote; of an array its bracket; NULL: absent */
    Py_ssize_t n;
} tw_text_t;

/* Bytes from `from` to `to`. Cython's overflow check of the checked build cannot subtract pointers. */
static inline Py_ssize_t tw_span(const char *from, const char *to) {
    assert(from <= to);
    return to - from;
}

static inline const char *tw_refuse(int *refusal, int code) {
    *refusal = code;
    return NULL;
}

static inline int tw_hex4(const char *p) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)p[i];
        unsigned digit = (unsigned)c - '0';
        if (digit > 9) {
            digit = ((unsigned)c | 32) - 'a';
            if (digit > 5)
                return -1;
            digit += 10;
        }
        value = value * 16 + (int)digit;
    }
    return value;
}

/* p is behind a backslash: the byte behind the escape. Half a surrogate pair is refused. */
static inline const char *tw_escape(const char *p, const char *end, int *refusal) {
    if (p == end)
        return tw_refuse(refusal, REFUSED_TRUNCATED);
    if (*p != 'u')
        return *p && strchr("\"\\/bfnrt", *p) ? p + 1 : tw_refuse(refusal, REFUSED_ESCAPE);
    if (end - p < 5)
        return tw_refuse(refusal, REFUSED_TRUNCATED);
    int unit = tw_hex4(p + 1);
    p += 5;
    if (unit < 0 || (unit & 0xFC00) == 0xDC00)
        return tw_refuse(refusal, REFUSED_ESCAPE);
    if ((unit & 0xFC00) != 0xD800)
        return p;
    if (end - p < 6)
        return tw_refuse(refusal, REFUSED_TRUNCATED);
    if (p[0] != '\\' || p[1] != 'u')
        return tw_refuse(refusal, REFUSED_ESCAPE);
    unit = tw_hex4(p + 2);
    return unit >= 0 && (unit & 0xFC00) == 0xDC00 ? p + 6 : tw_refuse(refusal, REFUSED_ESCAPE);
}

/* p is at a byte >= 0x80: the byte behind the character. Overlong forms and surrogates are refused (RFC 3629). */
static inline const char *tw_utf8(const char *p, const char *end, int *refusal) {
    const unsigned char *s = (const unsigned char *)p;
    int more = s[0] >= 0xF0 ? 3 : s[0] >= 0xE0 ? 2 : 1;
    unsigned low = 0x80, high = 0xBF;
    if (s[0] < 0xC2 || s[0] > 0xF4)
        return tw_refuse(refusal, REFUSED_UTF8);
    if (s[0] == 0xE0)
        low = 0xA0;
    else if (s[0] == 0xED)
        high = 0x9F;
    else if (s[0] == 0xF0)
        low = 0x90;
    else if (s[0] == 0xF4)
        high = 0x8F;
    if (end - p <= more)
        return tw_refuse(refusal, REFUSED_TRUNCATED);
    if (s[1] < low || s[1] > high)
        return tw_refuse(refusal, REFUSED_UTF8);
    for (int i = 2; i <= more; i++)
        if (s[i] < 0x80 || s[i] > 0xBF)
            return tw_refuse(refusal, REFUSED_UTF8);
    return p + 1 + more;
}

static __attribute__((noinline)) const char *tw_string_end_rare(const char *p, const char *end, int *escaped,
                                                                int *refusal) {
    while (p < end) {
        unsigned char c = (unsigned char)*p;
        if (c == '"')
            return p;
        if (c < 0x20)
            return tw_refuse(refusal, REFUSED_CONTROL_CHARACTER);
        if (c == '\\') {
            *escaped = 1;
            p = tw_escape(p + 1, end, refusal);
        } else if (c >= 0x80) {
            p = tw_utf8(p, end, refusal);
        } else {
            p++;
        }
        if (p == NULL)
            return NULL;
    }
    return tw_refuse(refusal, REFUSED_TRUNCATED);
}

/* p is behind the opening quote: the closing quote. *escaped is set when the text holds a backslash. */
static inline const char *tw_string_end(const char *p, const char *end, int *escaped, int *refusal) {
#ifdef __SSE2__
    for (; end - p >= 16; p += 16) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)p);
        /* Signed compare: control characters and bytes >= 0x80 are both below 0x20. */
        const int stops = _mm_movemask_epi8(_mm_or_si128(
            _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
            _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')), _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)))));
        if (stops) {
            p += __builtin_ctz((unsigned)stops);
            if (*p == '"')
                return p;
            break;
        }
    }
#endif
    return tw_string_end_rare(p, end, escaped, refusal);
}

/* p is at '-' or a digit: the byte behind the number. */
static inline const char *tw_number_end(const char *p, const char *end, int *refusal) {
    const char *const start = p;
    const char *digits;
#define TW_DIGITS()                                                                                                   \
    for (digits = p; p < end && (unsigned char)(*p - '0') <= 9; p++)                                                  \
        ;                                                                                                             \
    if (p == digits)                                                                                                  \
        return tw_refuse(refusal, p == end ? REFUSED_TRUNCATED : REFUSED_JSON_NUMBER);
    if (p < end && *p == '-')
        p++;
    TW_DIGITS()
    if (*digits == '0' && p - digits > 1)
        return tw_refuse(refusal, REFUSED_JSON_NUMBER);
    if (p < end && *p == '.') {
        p++;
        TW_DIGITS()
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        TW_DIGITS()
    }
#undef TW_DIGITS
    return p - start <= TW_MAX_NUMBER ? p : tw_refuse(refusal, REFUSED_JSON_NUMBER);
}

static inline uint64_t tw_load8(const char *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

/* The letter of a key of one letter with its quotes and its colon, `"x":`; 0 for anything else. Needs 4 bytes. */
static inline unsigned char tw_short_key(const char *p) {
    uint32_t word;
    memcpy(&word, p, 4);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (word & 0xFFFF00FF) == 0x3A220022 ? (unsigned char)(word >> 8) : 0;
#else
    return p[0] == '"' && p[2] == '"' && p[3] == ':' ? (unsigned char)p[1] : 0;
#endif
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define TW_SWAR 1
/* High bit of every byte of p[0:8] - '0' that is no digit. */
static inline uint64_t tw_no_digits(uint64_t less) {
    return ((less + UINT64_C(0x7676767676767676)) | less) & UINT64_C(0x8080808080808080);
}

/* Eight digits, each less '0', the first in the lowest byte. */
static inline uint64_t tw_eight(uint64_t less) {
    less = less * 10 + (less >> 8);
    return ((less & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x000F424000000064) +
            ((less >> 16) & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x0000271000000001)) >>
           32;
}
#else
#define TW_SWAR 0
#endif

/* Whole number without sign that fits int64, not followed by a fraction or an exponent: the byte behind it.
   NULL for anything else, valid or not: the caller then skips it with tw_number_end or as another type. */
static inline const char *tw_integer_end(const char *p, const char *end, int64_t *value) {
    const char *const start = p;
    uint64_t sum = 0;
#if TW_SWAR
    /* Sequences and milliseconds have 10 to 15 digits: eight, then up to seven without a loop. */
    if (end - p >= 16) {
        static const uint64_t scale[8] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};
        uint64_t less = tw_load8(p) - UINT64_C(0x3030303030303030);
        if (__builtin_expect(tw_no_digits(less) == 0, 1)) {
            sum = tw_eight(less);
            p += 8;
            less = tw_load8(p) - UINT64_C(0x3030303030303030);
            const uint64_t stops = tw_no_digits(less);
            if (__builtin_expect(stops != 0, 1)) {
                const int bits = __builtin_ctzll(stops) - 7; /* 0, 8 .. 56 */
                sum = sum * scale[bits >> 3] + tw_eight(less << 8 << (56 - bits));
                p += bits >> 3;
            }
        }
    }
#endif
    for (; p < end; p++) {
        unsigned digit = (unsigned char)*p - '0';
        if (digit > 9)
            break;
        if (sum > ((uint64_t)INT64_MAX - digit) / 10)
            return NULL;
        sum = sum * 10 + digit;
    }
    if (p == start || p == end || (*start == '0' && p - start > 1) || *p == '.' || *p == 'e' || *p == 'E')
        return NULL;
    *value = (int64_t)sum;
    return p;
}

#endif
