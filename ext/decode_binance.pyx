"""Decode Binance market data: spot and USD-M, raw and combined-stream frames, and REST order books.

Understood: depthUpdate, partial depth, bookTicker (with and without `e`), trade, aggTrade. Keys may come in any order:
what a message is, is decided behind its last byte. Any other valid JSON, COIN-M events (`st` other than 1) and the
RPI book (`@rpiDepth`) are MSG_OTHER. A partial book of USD-M looks like a delta and is told by its stream name only:
subscribe to it in the combined form.
Source: Binance spot and USD-M docs, "WebSocket Streams", read 2026-07.
"""
from libc.stdint cimport int32_t
from libc.string cimport memcmp, memset

from ext.decode cimport MAX_MS, NS_PER_MS, is_text, px_of, qty_of, trade_t
from ext.message cimport MSG_BBO, MSG_DEPTH_DELTA, MSG_DEPTH_SNAPSHOT, MSG_OTHER, MSG_TRADE
from ext.scan cimport (
    MAX_MESSAGE,
    REFUSED_DUPLICATE_KEY,
    REFUSED_EMPTY,
    REFUSED_ESCAPED_KEY,
    REFUSED_MISSING_FIELD,
    REFUSED_SLOT,
    REFUSED_SYNTAX,
    REFUSED_TOO_LARGE,
    REFUSED_TRUNCATED,
    REFUSED_WRONG_TYPE,
    colon_end,
    integer_end,
    refuse,
    separator_end,
    space_end,
    span,
    string_end,
    trailing,
    value_end,
)


cdef enum:
    F_E = 0x1        # event type
    F_SEND = 0x2     # E
    F_EXCH = 0x4     # T
    F_S = 0x8
    F_FIRST = 0x10    # U
    F_LAST = 0x20     # u
    F_PREV = 0x40     # pu
    F_B = 0x80
    F_A = 0x100
    F_BQ = 0x200       # B
    F_AQ = 0x400      # A
    F_P = 0x800
    F_Q = 0x1000
    F_M = 0x2000
    F_ST = 0x4000
    F_ID = 0x8000      # lastUpdateId
    F_BIDS = 0x10000
    F_ASKS = 0x20000
    F_STREAM = 0x40000
    F_DATA = 0x80000
    F_INTEGERS = F_SEND | F_EXCH | F_FIRST | F_LAST | F_PREV | F_ST | F_ID
    F_ARRAYS = F_B | F_A | F_BIDS | F_ASKS
    # What a message of a kind must have, and what it may have; `b` and `a` are arrays in a book and texts in a BBO.
    NEED_DEPTH = F_E | F_S | F_FIRST | F_LAST | F_B | F_A
    MAY_DEPTH = NEED_DEPTH | F_SEND | F_EXCH | F_PREV | F_ST
    NEED_PARTIAL = F_ID | F_BIDS | F_ASKS
    MAY_PARTIAL = NEED_PARTIAL | F_SEND | F_EXCH
    NEED_BBO = F_S | F_LAST | F_B | F_BQ | F_A | F_AQ
    MAY_BBO = NEED_BBO | F_E | F_SEND | F_EXCH | F_ST
    NEED_TRADE = F_E | F_S | F_P | F_Q | F_EXCH | F_M
    MAY_TRADE = NEED_TRADE | F_SEND | F_ST



cdef inline uint32_t field_of(const char* p, Py_ssize_t n) noexcept nogil:
    # Keys of more than one character.
    if n == 2:
        if p[0] == c"p" and p[1] == c"u":
            return F_PREV
        return F_ST if p[0] == c"s" and p[1] == c"t" else 0
    if n == 4:
        if memcmp(p, b"data", 4) == 0:
            return F_DATA
        if memcmp(p, b"bids", 4) == 0:
            return F_BIDS
        return F_ASKS if memcmp(p, b"asks", 4) == 0 else 0
    if n == 6:
        return F_STREAM if memcmp(p, b"stream", 6) == 0 else 0
    if n == 12:
        return F_ID if memcmp(p, b"lastUpdateId", 12) == 0 else 0
    return 0


cdef inline uint32_t field_of_letter(char letter) noexcept nogil:
    if letter == c"e":
        return F_E
    if letter == c"E":
        return F_SEND
    if letter == c"T":
        return F_EXCH
    if letter == c"s":
        return F_S
    if letter == c"U":
        return F_FIRST
    if letter == c"u":
        return F_LAST
    if letter == c"b":
        return F_B
    if letter == c"a":
        return F_A
    if letter == c"B":
        return F_BQ
    if letter == c"A":
        return F_AQ
    if letter == c"p":
        return F_P
    if letter == c"q":
        return F_Q
    if letter == c"m":
        return F_M
    return 0


cdef inline int64_t* integer_at(event_t* event, uint32_t field) noexcept nogil:
    if field == F_SEND:
        return &event.send_ms
    if field == F_EXCH:
        return &event.exch_ms
    if field == F_FIRST:
        return &event.first_seq
    if field == F_LAST:
        return &event.last_seq
    if field == F_PREV:
        return &event.prev_seq
    if field == F_ID:
        return &event.update_id
    return &event.st


cdef inline text_t* text_at(event_t* event, uint32_t field) noexcept nogil:
    if field == F_E:
        return &event.name
    if field == F_S:
        return &event.symbol
    if field == F_B or field == F_BIDS:
        return &event.bid
    if field == F_A or field == F_ASKS:
        return &event.ask
    if field == F_BQ:
        return &event.bid_qty
    if field == F_AQ:
        return &event.ask_qty
    if field == F_P:
        return &event.px
    if field == F_Q:
        return &event.qty
    if field == F_STREAM:
        return &event.stream
    return NULL


cdef class BinanceDecoder(Decoder):
    """Decoder of one Binance market (spot or USD-M: the same symbol has another grid in each)."""

    cdef int decode_c(self, const char* p, Py_ssize_t n) noexcept nogil:
        cdef event_t event
        cdef int code
        memset(&event, 0, sizeof(event))
        code = self.run(p, n, &event)
        return self.finish(code, event.entry)

    cdef int decode_snapshot_c(self, int32_t slot, const char* p, Py_ssize_t n) noexcept nogil:
        cdef event_t event
        cdef int code = REFUSED_SLOT
        memset(&event, 0, sizeof(event))
        event.is_answer = True
        event.entry = self.find_slot(slot)
        if event.entry != NULL:
            code = self.run(p, n, &event)
        return self.finish(code, event.entry)

    cdef int run(self, const char* p, Py_ssize_t n, event_t* event) noexcept nogil:
        cdef const char* end = p + n
        cdef int refusal = 0
        self.reset()
        if n > MAX_MESSAGE:
            return REFUSED_TOO_LARGE
        p = space_end(p, end)
        if p == end:
            return REFUSED_EMPTY
        if p[0] == c"{":
            p = self.fields(p, end, False, event, &refusal)
        else:
            p = value_end(p, end, 0, &refusal)
        if p == NULL:
            return refusal
        if p != end and trailing(p, end) != 0:
            return trailing(p, end)
        return self.message(event, end)

    cdef const char* fields(
        self, const char* p, const char* end, bint nested, event_t* event, int* refusal
    ) noexcept nogil:
        # One object, from its brace; `nested` is the `data` of the combined form.
        cdef bint closed = False
        cdef int escaped
        cdef uint32_t field
        cdef const char* key
        p = space_end(p + 1, end)
        if p < end and p[0] == c"}":
            return p + 1
        while not closed:
            # The usual key is one letter, its quotes and the colon.
            field = 0
            if span(p, end) >= 5 and p[2] == c'"' and p[3] == c":" and p[0] == c'"':
                field = field_of_letter(p[1])
            if field != 0:
                p = space_end(p + 4, end)
            else:
                if p == end:
                    return refuse(refusal, REFUSED_TRUNCATED)
                if p[0] != c'"':
                    return refuse(refusal, REFUSED_SYNTAX)
                escaped = 0
                key = p + 1
                p = string_end(key, end, &escaped, refusal)
                if p == NULL:
                    return NULL
                event.escaped |= escaped
                field = field_of_letter(key[0]) if span(key, p) == 1 else field_of(key, span(key, p))
                p = colon_end(p + 1, end, refusal)
                if p == NULL:
                    return NULL
            if nested and field & (F_STREAM | F_DATA) or not nested and event.is_wrapped and field != F_STREAM:
                # Not ours there, except that a second `data` is a duplicate.
                event.twice |= field & F_DATA if not nested else 0
                field = 0
            if field == 0:
                p = value_end(p, end, 1 + nested, refusal)
            else:
                event.twice |= event.seen & field
                event.seen |= field
                p = self.value(p, end, field, event, refusal)
            if p == NULL:
                return NULL
            p = separator_end(p, end, c"}", &closed, refusal)
            if p == NULL:
                return NULL
        return p

    cdef const char* value(
        self, const char* p, const char* end, uint32_t field, event_t* event, int* refusal
    ) noexcept nogil:
        # Takes the value where it has the type we know for the key; marks it wrong and skips it otherwise.
        cdef const char* next
        cdef text_t* text
        cdef int escaped = 0
        if field & F_INTEGERS:
            next = integer_end(p, end, integer_at(event, field))
            if next != NULL:
                return next
        elif p < end and p[0] == c'"':
            text = text_at(event, field)
            if text != NULL:
                p += 1
                next = string_end(p, end, &escaped, refusal)
                if next == NULL:
                    return NULL
                text.p = p
                text.n = span(p, next)
                if escaped:
                    event.wrong |= field
                elif field == F_S and event.entry == NULL:
                    event.entry = self.find_symbol(p, text.n)
                return next + 1
        elif p < end and p[0] == c"[" and field & F_ARRAYS:
            return self.array(p, end, field, event, refusal)
        elif field == F_M:
            next = value_end(p, end, 1, refusal)
            if next == NULL:
                return NULL
            event.is_maker = p[0] == c"t"
            event.wrong |= 0 if p[0] == c"t" or p[0] == c"f" else F_M
            return next
        elif field == F_DATA and p < end and p[0] == c"{" and event.seen & ~<uint32_t>(F_STREAM | F_DATA) == 0:
            event.is_wrapped = True
            return self.fields(p, end, True, event, refusal)
        event.wrong |= field
        return value_end(p, end, 1 + event.is_wrapped, refusal)

    cdef const char* array(
        self, const char* p, const char* end, uint32_t field, event_t* event, int* refusal
    ) noexcept nogil:
        # An array of levels: parsed at once when the symbol is known, remembered otherwise. A refusal of a level is
        # kept, not returned: only the end of the message tells whether it was a book.
        cdef const char* next
        cdef text_t* text = text_at(event, field)
        cdef bint is_bid = (field & (F_B | F_BIDS)) != 0
        cdef int code = 0
        event.arrays |= field
        text.p = p
        if event.entry != NULL and not event.parsed & field:
            event.parsed |= field
            if is_bid:
                self.msg.bid_count = 0
                next = self.levels(p, end, event.entry, self.msg.bids, &self.msg.bid_count, &code)
            else:
                self.msg.ask_count = 0
                next = self.levels(p, end, event.entry, self.msg.asks, &self.msg.ask_count, &code)
            if next != NULL:
                return next
            if event.refusal == 0:
                event.refusal = code
        return value_end(p, end, 1 + event.is_wrapped, refusal)

    cdef int message(self, event_t* event, const char* end) noexcept nogil:
        # What was it? A wrong type or a missing field is a refusal only once the kind is sure.
        cdef bint is_partial = False
        if event.is_answer:
            if event.is_wrapped or event.seen & F_E or event.seen & NEED_PARTIAL != NEED_PARTIAL:
                return MSG_OTHER
            return self.depth(event, end, MSG_DEPTH_SNAPSHOT)
        if event.is_wrapped:
            if not event.seen & F_STREAM:
                return MSG_OTHER
            if event.twice & (F_STREAM | F_DATA):
                return REFUSED_DUPLICATE_KEY
            if event.wrong & F_STREAM:
                return REFUSED_WRONG_TYPE
        if event.seen & F_ST and (event.wrong & F_ST or event.st != 1):
            return MSG_OTHER
        if not event.seen & F_E:
            if event.seen & NEED_PARTIAL == NEED_PARTIAL:
                return self.depth(event, end, MSG_DEPTH_SNAPSHOT)
            if event.seen & NEED_BBO == NEED_BBO:
                return self.bbo(event, end)
            return MSG_OTHER
        if event.twice & F_E:
            return REFUSED_DUPLICATE_KEY
        if event.wrong & F_E:
            return MSG_OTHER
        if is_text(&event.name, b"depthUpdate", 11):
            if event.is_wrapped and not is_book_stream(&event.stream, &is_partial):
                return MSG_OTHER
            return self.depth(event, end, MSG_DEPTH_SNAPSHOT if is_partial else MSG_DEPTH_DELTA)
        if is_text(&event.name, b"bookTicker", 10):
            return self.bbo(event, end)
        if is_text(&event.name, b"trade", 5) or is_text(&event.name, b"aggTrade", 8):
            return self.trade(event, end)
        return MSG_OTHER

    cdef int depth(self, event_t* event, const char* end, int kind) noexcept nogil:
        cdef bint has_symbol = (event.seen & F_E) != 0
        cdef uint32_t need = NEED_DEPTH if has_symbol else NEED_PARTIAL
        cdef uint32_t may = MAY_DEPTH if has_symbol else MAY_PARTIAL
        cdef int code = checked(event, need, may)
        if code == 0 and event.arrays & need != need & F_ARRAYS:
            code = REFUSED_WRONG_TYPE
        if code != 0:
            return code
        if not has_symbol and event.entry == NULL:
            event.entry = self.entry_of_stream(&event.stream)
        self.msg.first_seq = event.first_seq if has_symbol else event.update_id
        self.msg.last_seq = event.last_seq if has_symbol else event.update_id
        if event.seen & F_PREV:
            self.msg.prev_seq = event.prev_seq
        self.stamp(event)
        if event.entry == NULL:
            return kind
        self.msg.slot = event.entry.slot
        if event.refusal == 0:
            event.refusal = self.deferred(event, need & (F_B | F_BIDS), &event.bid, end)
        if event.refusal == 0:
            event.refusal = self.deferred(event, need & (F_A | F_ASKS), &event.ask, end)
        return event.refusal if event.refusal != 0 else kind

    cdef int deferred(self, event_t* event, uint32_t field, text_t* at, const char* end) noexcept nogil:
        # The array came before the symbol.
        cdef int code = 0
        if event.parsed & field:
            return 0
        if field & (F_B | F_BIDS):
            self.levels(at.p, end, event.entry, self.msg.bids, &self.msg.bid_count, &code)
        else:
            self.levels(at.p, end, event.entry, self.msg.asks, &self.msg.ask_count, &code)
        return code

    cdef int bbo(self, event_t* event, const char* end) noexcept nogil:
        cdef int code = checked(event, NEED_BBO, MAY_BBO)
        if code == 0 and event.arrays & (F_B | F_A):
            code = REFUSED_WRONG_TYPE
        if code != 0:
            return code
        self.msg.first_seq = event.last_seq
        self.msg.last_seq = event.last_seq
        self.stamp(event)
        if event.entry == NULL:
            return MSG_BBO
        self.msg.slot = event.entry.slot
        code = px_of(&self.how, event.bid.p, end, &event.entry.px, &self.msg.bids[0].px_ticks)
        if code == 0:
            code = qty_of(&self.how, event.bid_qty.p, end, &event.entry.qty, &self.msg.bids[0].qty_lots)
        if code == 0:
            code = px_of(&self.how, event.ask.p, end, &event.entry.px, &self.msg.asks[0].px_ticks)
        if code == 0:
            code = qty_of(&self.how, event.ask_qty.p, end, &event.entry.qty, &self.msg.asks[0].qty_lots)
        self.msg.bid_count = 1
        self.msg.ask_count = 1
        return code if code != 0 else MSG_BBO

    cdef int trade(self, event_t* event, const char* end) noexcept nogil:
        cdef trade_t* out = self.msg.trades
        cdef int code = checked(event, NEED_TRADE, MAY_TRADE)
        if code != 0:
            return code
        self.stamp(event)
        if event.entry == NULL:
            return MSG_TRADE
        self.msg.slot = event.entry.slot
        code = px_of(&self.how, event.px.p, end, &event.entry.px, &out.px_ticks)
        if code == 0:
            code = qty_of(&self.how, event.qty.p, end, &event.entry.qty, &out.qty_lots)
        out.exch_ts_ns = self.msg.exch_ts_ns
        out.side = -1 if event.is_maker else 1
        self.msg.trade_count = 1
        return code if code != 0 else MSG_TRADE

    cdef void stamp(self, event_t* event) noexcept nogil:
        self.msg.send_ts_ns = event.send_ms * NS_PER_MS
        self.msg.exch_ts_ns = event.exch_ms * NS_PER_MS

    cdef symbol_t* entry_of_stream(self, const text_t* stream) noexcept nogil:
        # `btcusdt@depth20@100ms`: a partial book of spot names its symbol nowhere else, in small letters.
        cdef char[40] name
        cdef Py_ssize_t n = 0
        while n < stream.n and n < 40 and stream.p[n] != c"@":
            name[n] = stream.p[n] - 32 if c"a" <= stream.p[n] <= c"z" else stream.p[n]
            n += 1
        return self.find_symbol(name, n) if 0 < n < stream.n and stream.p[n] == c"@" else NULL


cdef inline int checked(event_t* event, uint32_t need, uint32_t may) noexcept nogil:
    # Fields of a message whose kind is known.
    if event.escaped:
        return REFUSED_ESCAPED_KEY
    if event.twice & may:
        return REFUSED_DUPLICATE_KEY
    if event.seen & need != need:
        return REFUSED_MISSING_FIELD
    if event.wrong & may or event.send_ms > MAX_MS or event.exch_ms > MAX_MS:
        return REFUSED_WRONG_TYPE
    return 0


cdef bint is_book_stream(const text_t* stream, bint* is_partial) noexcept nogil:
    # `<symbol>@depth[5|10|20][@100ms]`. `@rpiDepth` holds other quantities and must not reach the book.
    cdef Py_ssize_t i = 0
    while i < stream.n and stream.p[i] != c"@":
        i += 1
    if stream.n - i < 6 or memcmp(stream.p + i, b"@depth", 6) != 0:
        return False
    i += 6
    is_partial[0] = i < stream.n and c"0" <= stream.p[i] <= c"9"
    return i == stream.n or is_partial[0] or stream.p[i] == c"@"
