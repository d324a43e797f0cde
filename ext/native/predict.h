/* The head of a Binance message in the order in which the venue writes its keys, compared as whole words. A way to the
   same result as reading key by key, never another one: at the first surprise nothing was read, and the general way
   decides. Reads [p, end) only. */
#ifndef TICKWRIGHT_PREDICT_H
#define TICKWRIGHT_PREDICT_H

#include "json.h"

typedef struct {
    tw_text_t symbol;
    tw_text_t bid, bid_qty, ask, ask_qty;
    int64_t last_seq, exch_ms, send_ms;
} tw_ticker_t;

typedef struct {
    tw_text_t symbol;
    int64_t send_ms, exch_ms, first_seq, last_seq, prev_seq;
    int has_exch, has_prev;
} tw_head_t;

#define TW_IS(p, end, word) ((end) - (p) >= (Py_ssize_t)sizeof(word) && memcmp(p, word, sizeof(word) - 1) == 0)
#define TW_SKIP(word)                                                                                                 \
    if (!TW_IS(p, end, word))                                                                                         \
        return NULL;                                                                                                  \
    p += sizeof(word) - 1
#define TW_INTEGER(at)                                                                                                \
    if ((p = tw_integer_end(p, end, at)) == NULL)                                                                     \
    return NULL
#define TW_TEXT(at)                                                                                                   \
    if ((p = tw_plain_text(p, end, at)) == NULL)                                                                      \
    return NULL

/* p is behind the opening quote of a text of up to 16 plain ASCII bytes: its closing quote. */
static inline const char *tw_plain_text(const char *p, const char *end, tw_text_t *text) {
#ifdef __SSE2__
    const Py_ssize_t left = end - p;
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(left >= 16 ? p : end - 16));
    const unsigned back = left >= 16 ? 0 : (unsigned)(16 - left);
    const unsigned quotes = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'))) >> back;
    const unsigned odd =
        (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')),
                                                 _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)))) >>
        back;
    /* A byte that is not plain before the first quote has a lower bit than it. */
    if (quotes == 0 || odd & (quotes ^ (quotes - 1)))
        return NULL;
    text->p = p;
    text->n = __builtin_ctz(quotes);
    return p + text->n;
#else
    return NULL;
#endif
}

/* A whole bookTicker event, from behind its brace: behind its closing brace. USD-M had its times at the end in 2024,
   has them behind `u` and writes the pair now. */
static inline const char *tw_ticker(const char *p, const char *end, tw_ticker_t *out) {
    int has_times = 0;
    if (TW_IS(p, end, "\"e\":\"bookTicker\","))
        p += sizeof("\"e\":\"bookTicker\",") - 1;
    out->exch_ms = 0;
    out->send_ms = 0;
    TW_SKIP("\"u\":");
    TW_INTEGER(&out->last_seq);
    if (TW_IS(p, end, ",\"E\":")) {
        p += 5;
        TW_INTEGER(&out->send_ms);
        TW_SKIP(",\"T\":");
        TW_INTEGER(&out->exch_ms);
        has_times = 1;
    }
    TW_SKIP(",\"s\":\"");
    TW_TEXT(&out->symbol);
    TW_SKIP("\",\"b\":\"");
    TW_TEXT(&out->bid);
    TW_SKIP("\",\"B\":\"");
    TW_TEXT(&out->bid_qty);
    TW_SKIP("\",\"a\":\"");
    TW_TEXT(&out->ask);
    TW_SKIP("\",\"A\":\"");
    TW_TEXT(&out->ask_qty);
    p++;
    if (!has_times && TW_IS(p, end, ",\"T\":")) {
        p += 5;
        TW_INTEGER(&out->exch_ms);
        TW_SKIP(",\"E\":");
        TW_INTEGER(&out->send_ms);
    }
    if (TW_IS(p, end, ",\"ps\":\"")) {
        tw_text_t pair;
        p += 7;
        TW_TEXT(&pair);
        TW_SKIP("\",\"st\":1");
    }
    return p < end && *p == '}' ? p + 1 : NULL;
}

/* What stands before the levels of a depthUpdate, from its first key: the key of the bids. */
static inline const char *tw_depth_head(const char *p, const char *end, tw_head_t *out) {
    TW_SKIP("\"e\":\"depthUpdate\",\"E\":");
    TW_INTEGER(&out->send_ms);
    out->has_exch = TW_IS(p, end, ",\"T\":");
    if (out->has_exch) {
        p += 5;
        TW_INTEGER(&out->exch_ms);
    }
    TW_SKIP(",\"s\":\"");
    TW_TEXT(&out->symbol);
    TW_SKIP("\",\"U\":");
    TW_INTEGER(&out->first_seq);
    TW_SKIP(",\"u\":");
    TW_INTEGER(&out->last_seq);
    out->has_prev = TW_IS(p, end, ",\"pu\":");
    if (out->has_prev) {
        p += 6;
        TW_INTEGER(&out->prev_seq);
    }
    return TW_IS(p, end, ",\"b\":[") ? p + 1 : NULL;
}

#undef TW_IS
#undef TW_SKIP
#undef TW_INTEGER
#undef TW_TEXT

#endif
