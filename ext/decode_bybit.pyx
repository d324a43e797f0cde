"""Decode Bybit v5 market data: orderbook.<depth>, publicTrade, and REST order books.

Keys come in any order (spot and L1 send `ts` before `type`, `u`, `seq` and `cts` come behind the levels): what a
message is, is decided behind its last byte. Every trade of a message is kept. `orderbook.rpi`, `orderbook.full` and
any other valid JSON are MSG_OTHER. A message whose `s` is not the symbol of its topic is refused.
Source: Bybit v5 docs, "WebSocket Stream: Orderbook, Trade", read 2026-07.
"""
cimport cython
from libc.stdint cimport int32_t
from libc.string cimport memcmp, memset

from ext.decode cimport MAX_MS, NS_PER_MS, is_text, px_of, qty_of, symbol_is
from ext.message cimport MSG_DEPTH_DELTA, MSG_DEPTH_SNAPSHOT, MSG_OTHER, MSG_TRADE
from ext.scan cimport (
    MAX_MESSAGE,
    REFUSED_DUPLICATE_KEY,
    REFUSED_EMPTY,
    REFUSED_ESCAPED_KEY,
    REFUSED_MISSING_FIELD,
    REFUSED_MIXED_SYMBOLS,
    REFUSED_SLOT,
    REFUSED_SYNTAX,
    REFUSED_TOO_LARGE,
    REFUSED_TOO_MANY_TRADES,
    REFUSED_TRADE_SIDE,
    REFUSED_TRAILING,
    REFUSED_TRUNCATED,
    REFUSED_WRONG_TYPE,
    colon_end,
    integer_end,
    refuse,
    separator_end,
    short_key,
    space_end,
    span,
    string_end,
    trailing,
    value_end,
)


cdef enum:
    # Where an object stands.
    IN_FRAME = 0
    IN_DATA = 1
    IN_ANSWER = 2
    IN_RESULT = 3
    IN_TRADE = 4

    F_TOPIC = 0x1
    F_TYPE = 0x2
    F_TS = 0x4
    F_CTS = 0x8
    F_DATA = 0x10
    F_S = 0x20
    F_B = 0x40
    F_A = 0x80
    F_U = 0x100
    F_SEQ = 0x200
    F_RET = 0x400
    F_RESULT = 0x800
    F_TRADES = 0x1000     # `data` that is an array
    F_T = 0x2000          # of one trade
    F_SIDE = 0x4000
    F_V = 0x8000
    F_P = 0x10000
    F_INTEGERS = F_TS | F_CTS | F_U | F_SEQ | F_RET | F_T
    F_TEXTS = F_TOPIC | F_TYPE | F_S
    F_ARRAYS = F_B | F_A
    NEED_LEVELS = F_S | F_B | F_A | F_U
    NEED_DEPTH = F_TOPIC | F_TYPE | F_DATA | NEED_LEVELS
    MAY_DEPTH = NEED_DEPTH | F_TS | F_CTS | F_SEQ
    NEED_ANSWER = F_RET | F_RESULT | NEED_LEVELS
    MAY_ANSWER = NEED_ANSWER | F_TS | F_CTS | F_SEQ
    NEED_TRADES = F_TOPIC | F_DATA
    MAY_TRADES = NEED_TRADES | F_TS | F_TRADES
    NEED_TRADE = F_T | F_S | F_SIDE | F_V | F_P
    MAY_TRADE = NEED_TRADE | F_SEQ


cdef inline uint32_t field_of(const char* p, Py_ssize_t n, int place) noexcept nogil:
    # The same word is another thing in another place: `s` of a trade, `ts` of a frame and of a REST result.
    cdef char c = p[0]
    if place == IN_DATA or place == IN_RESULT:
        if n == 1:
            return F_S if c == c"s" else F_B if c == c"b" else F_A if c == c"a" else F_U if c == c"u" else 0
        if n == 3 and memcmp(p, b"seq", 3) == 0:
            return F_SEQ
        if place == IN_DATA:
            return 0
    elif place == IN_TRADE:
        if n == 1:
            return F_T if c == c"T" else F_S if c == c"s" else F_SIDE if c == c"S" else F_V if c == c"v" \
                else F_P if c == c"p" else 0
        return F_SEQ if n == 3 and memcmp(p, b"seq", 3) == 0 else 0
    elif place == IN_ANSWER:
        if n == 7 and memcmp(p, b"retCode", 7) == 0:
            return F_RET
        return F_RESULT if n == 6 and memcmp(p, b"result", 6) == 0 else 0
    elif n == 5 and memcmp(p, b"topic", 5) == 0:
        return F_TOPIC
    elif n == 4:
        return F_TYPE if memcmp(p, b"type", 4) == 0 else F_DATA if memcmp(p, b"data", 4) == 0 else 0
    if n == 2 and memcmp(p, b"ts", 2) == 0:
        return F_TS
    return F_CTS if n == 3 and memcmp(p, b"cts", 3) == 0 else 0


cdef inline int64_t* integer_at(frame_t* frame, uint32_t field) noexcept nogil:
    if field == F_TS:
        return &frame.ts
    if field == F_CTS:
        return &frame.cts
    if field == F_U:
        return &frame.update_id
    if field == F_SEQ:
        return &frame.seq
    return &frame.ret_code


cdef inline const char* key_end(
    const char* p, const char* end, int place, uint32_t* field, bint* is_escaped, int* refusal
) noexcept nogil:
    # At a key: its field and the first byte of its value.
    cdef int escaped = 0
    cdef const char* key = p + 1
    if span(p, end) >= 6 and short_key(p):
        # `"x":` with a letter that means something here.
        field[0] = field_of(key, 1, place)
        if field[0] != 0 and p[4] > 32:
            return p + 4
    if p == end:
        return refuse(refusal, REFUSED_TRUNCATED)
    if p[0] != c'"':
        return refuse(refusal, REFUSED_SYNTAX)
    p = string_end(key, end, &escaped, refusal)
    if p == NULL:
        return NULL
    if escaped:
        is_escaped[0] = True
    field[0] = field_of(key, span(key, p), place)
    return colon_end(p + 1, end, refusal)


cdef inline void clear(frame_t* frame) noexcept nogil:
    memset(frame, 0, span(<const char*>frame, <const char*>&frame.type))  # short, so that it becomes plain stores
    frame.type.n = 0
    frame.bid.p = NULL
    frame.ask.p = NULL


@cython.final
cdef class BybitDecoder(Decoder):
    """Decoder of one Bybit category (spot, linear: the same symbol has another grid in each)."""

    cdef int decode_c(self, const char* p, Py_ssize_t n) noexcept nogil:
        cdef frame_t frame
        cdef int code
        clear(&frame)
        code = self.run(p, n, IN_FRAME, &frame)
        return self.finish(code, frame.entry)

    cdef int decode_snapshot_c(self, int32_t slot, const char* p, Py_ssize_t n) noexcept nogil:
        cdef frame_t frame
        cdef int code = REFUSED_SLOT
        clear(&frame)
        frame.entry = self.find_slot(slot)
        if frame.entry != NULL:
            code = self.run(p, n, IN_ANSWER, &frame)
        return self.finish(code, frame.entry)

    cdef int run(self, const char* p, Py_ssize_t n, int place, frame_t* frame) noexcept nogil:
        cdef const char* end = p + n
        cdef int refusal = 0
        self.how.start = p
        self.reset()
        if n > MAX_MESSAGE:
            return REFUSED_TOO_LARGE
        p = space_end(p, end)
        if p == end:
            return REFUSED_EMPTY
        if p[0] == c"{":
            p = self.fields(p, end, place, frame, &refusal)
        else:
            p = value_end(p, end, 0, &refusal)
        if p == NULL:
            return refusal
        if trailing(p, end) != 0:
            return REFUSED_TRAILING
        return self.message(frame, end) if place == IN_FRAME else self.answer(frame, end)

    cdef const char* fields(
        self, const char* p, const char* end, int place, frame_t* frame, int* refusal
    ) noexcept nogil:
        # One object, from its brace.
        cdef bint closed = False
        cdef uint32_t field = 0
        p = space_end(p + 1, end)
        if p < end and p[0] == c"}":
            return p + 1
        while not closed:
            p = key_end(p, end, place, &field, &frame.escaped, refusal)
            if p == NULL:
                return NULL
            if field == 0:
                p = value_end(p, end, 2, refusal)
            else:
                frame.twice |= frame.seen & field
                frame.seen |= field
                p = self.value(p, end, field, frame, refusal)
            if p == NULL:
                return NULL
            p = separator_end(p, end, c"}", &closed, refusal)
            if p == NULL:
                return NULL
        return p

    cdef const char* value(
        self, const char* p, const char* end, uint32_t field, frame_t* frame, int* refusal
    ) noexcept nogil:
        # Takes the value where it has the type we know for the key; marks it wrong and skips it otherwise.
        cdef const char* next
        cdef text_t* text
        cdef int escaped = 0
        if field & F_INTEGERS:
            next = integer_end(p, end, integer_at(frame, field))
            if next != NULL:
                return next
        elif field & F_TEXTS:
            if p[0] == c'"':
                text = &frame.topic if field == F_TOPIC else &frame.type if field == F_TYPE else &frame.symbol
                text.p = p + 1
                next = string_end(p + 1, end, &escaped, refusal)
                if next == NULL:
                    return NULL
                text.n = span(text.p, next)
                if escaped:
                    frame.wrong |= field
                elif field == F_TOPIC and not frame.twice & F_TOPIC:
                    frame.kind = self.kind_of(frame)
                elif field == F_S and frame.entry == NULL:
                    frame.entry = self.find_symbol(text.p, text.n)
                return next + 1
        elif field & F_ARRAYS:
            if p[0] == c"[":
                return self.array(p, end, field, frame, refusal)
        elif p[0] == c"{" and not frame.twice & field:
            return self.fields(p, end, IN_DATA if field == F_DATA else IN_RESULT, frame, refusal)
        elif p[0] == c"[" and field == F_DATA and not frame.twice & field:
            frame.seen |= F_TRADES
            return self.array(p, end, F_TRADES, frame, refusal)
        frame.wrong |= field
        return value_end(p, end, 2, refusal)

    cdef int kind_of(self, frame_t* frame) noexcept nogil:
        # `orderbook.<digits>.<symbol>` or `publicTrade.<symbol>`; finds the symbol.
        cdef const char* p = frame.topic.p
        cdef Py_ssize_t n = frame.topic.n
        cdef Py_ssize_t i
        cdef int kind = MSG_TRADE
        if n > 12 and memcmp(p, b"publicTrade.", 12) == 0:
            i = 12
        elif n > 10 and memcmp(p, b"orderbook.", 10) == 0:
            kind = MSG_DEPTH_DELTA
            i = 10
            while i < n and c"0" <= p[i] <= c"9":
                i += 1
            if i == 10 or n - i < 2 or p[i] != c".":
                return MSG_OTHER
            i += 1
        else:
            return MSG_OTHER
        frame.topic_symbol.p = p + i
        frame.topic_symbol.n = n - i
        if frame.entry == NULL:
            frame.entry = self.find_symbol(p + i, n - i)
        return kind

    cdef const char* array(
        self, const char* p, const char* end, uint32_t field, frame_t* frame, int* refusal
    ) noexcept nogil:
        # Levels or trades: parsed at once when the symbol is known, remembered otherwise. A refusal of one of them is
        # kept, not returned: only the end of the message tells what it was.
        cdef const char* next
        cdef int code = 0
        cdef text_t* text = &frame.bid if field == F_B else &frame.ask if field == F_A else &frame.trades
        text.p = p
        if frame.entry != NULL and not frame.parsed & field and (field != F_TRADES or frame.kind == MSG_TRADE):
            next = self.parse(p, end, field, frame, &code)
            if next != NULL:
                return next
            if frame.refusal == 0:
                frame.refusal = code
        return value_end(p, end, 2, refusal)

    cdef const char* parse(
        self, const char* p, const char* end, uint32_t field, frame_t* frame, int* refusal
    ) noexcept nogil:
        frame.parsed |= field
        if field == F_B:
            return self.levels(p, end, frame.entry, self.msg.bids, &self.msg.bid_count, refusal)
        if field == F_A:
            return self.levels(p, end, frame.entry, self.msg.asks, &self.msg.ask_count, refusal)
        return self.trades_end(p, end, frame.entry, refusal)

    cdef int deferred(self, frame_t* frame, uint32_t field, text_t* at, const char* end) noexcept nogil:
        # The array came before the symbol.
        cdef int code = 0
        if not frame.parsed & field and frame.refusal == 0:
            self.parse(at.p, end, field, frame, &code)
        return code

    cdef int message(self, frame_t* frame, const char* end) noexcept nogil:
        # A wrong type or a missing field is a refusal only once the kind is sure.
        if frame.kind == MSG_OTHER or frame.wrong & F_TOPIC:
            return MSG_OTHER
        if frame.twice & F_TOPIC:
            return REFUSED_DUPLICATE_KEY
        if frame.kind == MSG_TRADE:
            return self.trade(frame, end)
        if is_text(&frame.type, b"delta", 5):
            return self.depth(frame, end, MSG_DEPTH_DELTA)
        if frame.seen & F_TYPE and not is_text(&frame.type, b"snapshot", 8):
            return REFUSED_WRONG_TYPE
        return self.depth(frame, end, MSG_DEPTH_SNAPSHOT)

    cdef int answer(self, frame_t* frame, const char* end) noexcept nogil:
        if not frame.seen & F_RET or not frame.seen & F_RESULT or frame.wrong & F_RET or frame.ret_code != 0:
            return MSG_OTHER
        frame.topic_symbol.p = frame.entry.name
        frame.topic_symbol.n = frame.entry.length
        return self.depth(frame, end, MSG_DEPTH_SNAPSHOT)

    cdef int depth(self, frame_t* frame, const char* end, int kind) noexcept nogil:
        cdef bint is_answer = (frame.seen & F_RET) != 0 and not frame.seen & F_TOPIC
        cdef int code
        if is_answer:
            code = checked(frame, NEED_ANSWER, MAY_ANSWER)
        else:
            code = checked(frame, NEED_DEPTH, MAY_DEPTH)
        if code == 0 and (frame.bid.p == NULL or frame.ask.p == NULL or frame.seen & F_TRADES):
            code = REFUSED_WRONG_TYPE
        if code == 0 and not same(&frame.symbol, &frame.topic_symbol):
            code = REFUSED_MIXED_SYMBOLS
        if code != 0:
            return code
        self.msg.first_seq = frame.update_id
        self.msg.last_seq = frame.update_id
        if frame.seen & F_SEQ:
            self.msg.cross_seq = frame.seq
        self.msg.send_ts_ns = frame.ts * NS_PER_MS
        self.msg.exch_ts_ns = frame.cts * NS_PER_MS
        if frame.entry == NULL:
            return kind
        self.msg.slot = frame.entry.slot
        code = self.deferred(frame, F_B, &frame.bid, end)
        if code == 0:
            code = self.deferred(frame, F_A, &frame.ask, end)
        if frame.refusal != 0:
            code = frame.refusal
        return code if code != 0 else kind

    cdef int trade(self, frame_t* frame, const char* end) noexcept nogil:
        cdef int code = checked(frame, NEED_TRADES, MAY_TRADES)
        if code == 0 and not frame.seen & F_TRADES:
            code = REFUSED_WRONG_TYPE
        if code != 0:
            return code
        self.msg.send_ts_ns = frame.ts * NS_PER_MS
        if frame.entry == NULL:
            return MSG_TRADE
        self.msg.slot = frame.entry.slot
        code = self.deferred(frame, F_TRADES, &frame.trades, end)
        if frame.refusal != 0:
            code = frame.refusal
        if code != 0:
            return code
        if self.msg.trade_count > 0:
            self.msg.exch_ts_ns = self.msg.trades[self.msg.trade_count - 1].exch_ts_ns
        return MSG_TRADE

    cdef const char* trades_end(
        self, const char* p, const char* end, const symbol_t* entry, int* refusal
    ) noexcept nogil:
        cdef bint closed = False
        p = space_end(p + 1, end)
        if p < end and p[0] == c"]":
            return p + 1
        while not closed:
            if self.msg.trade_count >= self.max_trades:
                return refuse(refusal, REFUSED_TOO_MANY_TRADES)
            p = self.trade_end(p, end, entry, &self.msg.trades[self.msg.trade_count], refusal)
            if p == NULL:
                return NULL
            self.msg.trade_count = self.msg.trade_count + 1  # `+=` would want the GIL in the checked build
            p = separator_end(p, end, c"]", &closed, refusal)
            if p == NULL:
                return NULL
        return p

    cdef const char* trade_end(
        self, const char* p, const char* end, const symbol_t* entry, trade_t* out, int* refusal
    ) noexcept nogil:
        # One trade. Its `seq` is the message's cross_seq in the end: the last one counts.
        cdef bint closed = False
        cdef bint is_escaped = False
        cdef uint32_t field = 0
        cdef uint32_t seen = 0
        cdef const char* next
        cdef int escaped = 0
        cdef int code = 0
        cdef int64_t number = 0
        if p == end or p[0] != c"{":
            return refuse(refusal, REFUSED_WRONG_TYPE)
        p = space_end(p + 1, end)
        if p < end and p[0] == c"}":
            return refuse(refusal, REFUSED_MISSING_FIELD)
        while not closed:
            p = key_end(p, end, IN_TRADE, &field, &is_escaped, refusal)
            if p == NULL:
                return NULL
            if seen & field or is_escaped:
                return refuse(refusal, REFUSED_DUPLICATE_KEY if seen & field else REFUSED_ESCAPED_KEY)
            seen |= field
            if field == F_T or field == F_SEQ:
                next = integer_end(p, end, &number)
                if next == NULL or field == F_T and number > MAX_MS:
                    return refuse(refusal, REFUSED_WRONG_TYPE)
                if field == F_T:
                    out.exch_ts_ns = number * NS_PER_MS
                else:
                    self.msg.cross_seq = number
            elif field == 0:
                next = value_end(p, end, 3, refusal)
                if next == NULL:
                    return NULL
            else:
                if p[0] != c'"':
                    return refuse(refusal, REFUSED_WRONG_TYPE)
                p += 1
                next = string_end(p, end, &escaped, refusal)
                if next == NULL:
                    return NULL
                if field == F_P:
                    code = px_of(&self.how, p, end, &entry.px, &out.px_ticks)
                elif field == F_V:
                    code = qty_of(&self.how, p, end, &entry.qty, &out.qty_lots)
                elif field == F_S:
                    code = 0 if symbol_is(entry, p, span(p, next)) else REFUSED_MIXED_SYMBOLS
                elif span(p, next) == 3 and memcmp(p, b"Buy", 3) == 0:
                    out.side = 1
                elif span(p, next) == 4 and memcmp(p, b"Sell", 4) == 0:
                    out.side = -1
                else:
                    code = REFUSED_TRADE_SIDE
                if code != 0:
                    return refuse(refusal, code)
                next += 1
            p = separator_end(next, end, c"}", &closed, refusal)
            if p == NULL:
                return NULL
        return p if seen & NEED_TRADE == NEED_TRADE else refuse(refusal, REFUSED_MISSING_FIELD)


cdef inline bint same(const text_t* one, const text_t* other) noexcept nogil:
    return one.n == other.n and memcmp(one.p, other.p, one.n) == 0


cdef inline int checked(const frame_t* frame, uint32_t need, uint32_t may) noexcept nogil:
    # Fields of a message whose kind is known.
    if frame.escaped:
        return REFUSED_ESCAPED_KEY
    if frame.twice & may:
        return REFUSED_DUPLICATE_KEY
    if frame.seen & need != need:
        return REFUSED_MISSING_FIELD
    if frame.wrong & may or frame.ts > MAX_MS or frame.cts > MAX_MS:
        return REFUSED_WRONG_TYPE
    return 0
