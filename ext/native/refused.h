/* Names of every refusal. A refusal is a negative int that a decoder returns instead of raising.
   ext/scan.pyx holds the same list as text; tests/ext/test_scan.py compares the two. */
#ifndef TICKWRIGHT_REFUSED_H
#define TICKWRIGHT_REFUSED_H

enum {
    /* decimal text */
    REFUSED_NOT_NUMBER = -1,
    REFUSED_OFF_GRID = -2,
    REFUSED_OVERFLOW = -3,
    REFUSED_TOO_MANY_DIGITS = -4,
    REFUSED_EXPONENT = -5,
    REFUSED_NEGATIVE = -6,
    REFUSED_BUFFER_TOO_SMALL = -7,
    /* JSON text */
    REFUSED_EMPTY = -10,
    REFUSED_TRUNCATED = -11,
    REFUSED_SYNTAX = -12,
    REFUSED_CONTROL_CHARACTER = -13,
    REFUSED_ESCAPE = -14,
    REFUSED_UTF8 = -15,
    REFUSED_JSON_NUMBER = -16,
    REFUSED_TOO_DEEP = -17,
    REFUSED_TRAILING = -18,
    REFUSED_TOO_LARGE = -19,
    /* a known message with wrong content */
    REFUSED_DUPLICATE_KEY = -30,
    REFUSED_ESCAPED_KEY = -31,
    REFUSED_WRONG_TYPE = -32,
    REFUSED_MISSING_FIELD = -33,
    REFUSED_LEVEL_SHAPE = -34,
    REFUSED_TOO_MANY_LEVELS = -35,
    REFUSED_TOO_MANY_TRADES = -36,
    REFUSED_MIXED_SYMBOLS = -37,
    REFUSED_TRADE_SIDE = -38,
    REFUSED_SLOT = -39,
    REFUSED_LOWEST = -40 /* counters are indexed with -code below this */
};

#endif
