"""Decode Binance market data: spot and USD-M, raw and combined-stream frames, and REST order books.

Understood: depthUpdate, partial depth, bookTicker (with and without `e`), trade, aggTrade. Keys may come in any order:
what a message is, is decided behind its last byte. Any other valid JSON, COIN-M events (`st` other than 1) and the
RPI book (`@rpiDepth`) are MSG_OTHER. A partial book of USD-M looks like a delta and is told by its stream name only:
subscribe to it in the combined form.
Source: Binance spot and USD-M docs, "WebSocket Streams", read 2026-07.
"""
cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.string cimport memcmp, memset

from ext.decode cimport MAX_MS, NS_PER_MS, is_text
from ext.message cimport MSG_BBO, MSG_DEPTH_DELTA, MSG_DEPTH_SNAPSHOT, MSG_OTHER, MSG_TRADE, level_t, trade_t
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
    short_key,
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


cdef enum:
    T_NONE
    T_INTEGER
    T_TEXT
    T_LEVELS   # an array of levels in a book, a text in a BBO
    T_FLAG
    T_OBJECT

cdef key_t UNKNOWN
cdef key_t LETTERS[256]
cdef key_t PREV, ST, DATA, BIDS, ASKS, STREAM, UPDATE_ID


cdef key_t key_at(uint32_t field, uint32_t type, const void* event, const void* member) noexcept:
    cdef key_t key
    key.field = field
    key.type = type
    key.offset = span(<const char*>event, <const char*>member) if member != NULL else 0
    return key


cdef void fill_keys() noexcept:
    global PREV, ST, DATA, BIDS, ASKS, STREAM, UPDATE_ID
    cdef event_t e
    memset(&e, 0, sizeof(e))
    LETTERS[c"e"] = key_at(F_E, T_TEXT, &e, &e.name)
    LETTERS[c"E"] = key_at(F_SEND, T_INTEGER, &e, &e.send_ms)
    LETTERS[c"T"] = key_at(F_EXCH, T_INTEGER, &e, &e.exch_ms)
    LETTERS[c"s"] = key_at(F_S, T_TEXT, &e, &e.symbol)
    LETTERS[c"U"] = key_at(F_FIRST, T_INTEGER, &e, &e.first_seq)
    LETTERS[c"u"] = key_at(F_LAST, T_INTEGER, &e, &e.last_seq)
    LETTERS[c"b"] = key_at(F_B, T_LEVELS, &e, &e.bid)
    LETTERS[c"a"] = key_at(F_A, T_LEVELS, &e, &e.ask)
    LETTERS[c"B"] = key_at(F_BQ, T_TEXT, &e, &e.bid_qty)
    LETTERS[c"A"] = key_at(F_AQ, T_TEXT, &e, &e.ask_qty)
    LETTERS[c"p"] = key_at(F_P, T_TEXT, &e, &e.px)
    LETTERS[c"q"] = key_at(F_Q, T_TEXT, &e, &e.qty)
    LETTERS[c"m"] = key_at(F_M, T_FLAG, &e, NULL)
    PREV = key_at(F_PREV, T_INTEGER, &e, &e.prev_seq)
    ST = key_at(F_ST, T_INTEGER, &e, &e.st)
    UPDATE_ID = key_at(F_ID, T_INTEGER, &e, &e.update_id)
    BIDS = key_at(F_BIDS, T_LEVELS, &e, &e.bid)
    ASKS = key_at(F_ASKS, T_LEVELS, &e, &e.ask)
    STREAM = key_at(F_STREAM, T_TEXT, &e, &e.stream)
    DATA = key_at(F_DATA, T_OBJECT, &e, NULL)


fill_keys()


cdef inline const key_t* key_of(const char* p, Py_ssize_t n) noexcept nogil:
    if n == 1:
        return &LETTERS[<unsigned char>p[0]]
    if n == 2:
        if p[0] == c"p" and p[1] == c"u":
            return &PREV
        return &ST if p[0] == c"s" and p[1] == c"t" else &UNKNOWN
    if n == 4:
        if memcmp(p, b"data", 4) == 0:
            return &DATA
        if memcmp(p, b"bids", 4) == 0:
            return &BIDS
        return &ASKS if memcmp(p, b"asks", 4) == 0 else &UNKNOWN
    if n == 6:
        return &STREAM if memcmp(p, b"stream", 6) == 0 else &UNKNOWN
    if n == 12:
        return &UPDATE_ID if memcmp(p, b"lastUpdateId", 12) == 0 else &UNKNOWN
    return &UNKNOWN


cdef inline void clear(event_t* event) noexcept nogil:
    memset(event, 0, span(<const char*>event, <const char*>&event.name))


@cython.final
cdef class BinanceDecoder(Decoder):
    """Decoder of one Binance market (spot or USD-M: the same symbol has another grid in each)."""

    cdef int decode_c(self, const char* p, Py_ssize_t n) noexcept nogil:
        cdef event_t event
        cdef int code
        self.how.start = p
        self.reset()
        if self.how.fast == 2 and 64 <= n <= 512 and self.usual_ticker(p, p + n):
            return self.finish(MSG_BBO, NULL)
        clear(&event)
        code = self.run(p, n, &event)
        return self.finish(code, event.entry)

    cdef int decode_snapshot_c(self, int32_t slot, const char* p, Py_ssize_t n) noexcept nogil:
        cdef event_t event
        cdef int code = REFUSED_SLOT
        self.how.start = p
        self.reset()
        clear(&event)
        event.is_answer = True
        event.entry = self.find_slot(slot)
        if event.entry != NULL:
            code = self.run(p, n, &event)
        return self.finish(code, event.entry)

    cdef int run(self, const char* p, Py_ssize_t n, event_t* event) noexcept nogil:
        cdef const char* end = p + n
        cdef int refusal = 0
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

    cdef bint usual_ticker(self, const char* p, const char* end) noexcept nogil:
        # A bookTicker in the venue's own form, raw or combined, of a known symbol. False leaves nothing behind but the
        # levels' scratch.
        cdef ticker_t ticker
        cdef symbol_t* entry
        cdef int escaped = 0
        cdef int refusal = 0
        cdef bint is_wrapped = memcmp(p, b'{"stream":"', 11) == 0
        if is_wrapped:
            p = string_end(p + 11, end, &escaped, &refusal)
            if p == NULL or escaped or span(p, end) < 64 or memcmp(p, b'","data":{', 10) != 0:
                return False
            p += 9
        if p[0] != c"{":
            return False
        p = ticker_end(p + 1, end, &ticker)
        if p == NULL or span(p, end) != is_wrapped or is_wrapped and p[0] != c"}":
            return False
        if ticker.exch_ms > MAX_MS or ticker.send_ms > MAX_MS:
            return False
        entry = self.find_symbol(ticker.symbol.p, ticker.symbol.n)
        if entry == NULL:
            return False
        if not self.usual_pair(&ticker.bid, &ticker.bid_qty, entry, &self.msg.bids[0]) \
                or not self.usual_pair(&ticker.ask, &ticker.ask_qty, entry, &self.msg.asks[0]):
            return False
        self.msg.slot = entry.slot
        self.msg.first_seq = ticker.last_seq
        self.msg.last_seq = ticker.last_seq
        self.msg.exch_ts_ns = ticker.exch_ms * NS_PER_MS
        self.msg.send_ts_ns = ticker.send_ms * NS_PER_MS
        self.msg.bid_count = 1
        self.msg.ask_count = 1
        return True

    cdef const char* usual_head(self, const char* p, const char* end, event_t* event) noexcept nogil:
        # The keys of a depthUpdate before its levels, in the venue's own order: the key behind them. NULL: not so.
        cdef head_t head
        cdef const text_t* symbol = &head.symbol
        cdef const char* next = depth_head(p, end, &head)
        if next == NULL:
            return NULL
        event.name.p = p + 5
        event.name.n = 11
        event.symbol = symbol[0]
        event.seen |= F_E | F_SEND | F_S | F_FIRST | F_LAST
        event.send_ms = head.send_ms
        event.first_seq = head.first_seq
        event.last_seq = head.last_seq
        if head.has_exch:
            event.seen |= F_EXCH
            event.exch_ms = head.exch_ms
        if head.has_prev:
            event.seen |= F_PREV
            event.prev_seq = head.prev_seq
        if event.entry == NULL:
            event.entry = self.find_symbol(symbol.p, symbol.n)
        return next

    cdef const char* fields(
        self, const char* p, const char* end, bint nested, event_t* event, int* refusal
    ) noexcept nogil:
        # One object, from its brace; `nested` is the `data` of the combined form. Behind `data`, only a stream name
        # is ours, and a second `data` is a duplicate.
        cdef bint closed = False
        cdef int escaped
        cdef uint32_t foreign = F_STREAM | F_DATA if nested else 0
        cdef const key_t* key
        cdef const char* next
        cdef text_t* text
        p = space_end(p + 1, end)
        if p < end and p[0] == c"}":
            return p + 1
        if self.how.fast and span(p, end) >= 128:
            next = self.usual_head(p, end, event)
            if next != NULL:
                p = next
        while not closed:
            key = &UNKNOWN
            if span(p, end) >= 5:
                # The usual key is one letter, its quotes and the colon.
                key = &LETTERS[short_key(p)]
            if key.field != 0:
                p = space_end(p + 4, end)
            else:
                if p == end:
                    return refuse(refusal, REFUSED_TRUNCATED)
                if p[0] != c'"':
                    return refuse(refusal, REFUSED_SYNTAX)
                escaped = 0
                next = string_end(p + 1, end, &escaped, refusal)
                if next == NULL:
                    return NULL
                event.escaped |= escaped
                key = key_of(p + 1, span(p, next) - 1)
                p = colon_end(next + 1, end, refusal)
                if p == NULL:
                    return NULL
            if key.field & foreign or key.field == 0:
                p = value_end(p, end, 1 + nested, refusal)
                if p == NULL:
                    return NULL
                p = separator_end(p, end, c"}", &closed, refusal)
                if p == NULL:
                    return NULL
                continue
            event.twice |= event.seen & key.field
            event.seen |= key.field
            next = NULL
            if key.type == T_INTEGER:
                next = integer_end(p, end, <int64_t*>(<char*>event + key.offset))
            elif p < end and p[0] == c'"' and (key.type == T_TEXT or key.type == T_LEVELS):
                escaped = 0
                p += 1
                next = string_end(p, end, &escaped, refusal)
                if next == NULL:
                    return NULL
                text = <text_t*>(<char*>event + key.offset)
                text.p = p
                text.n = span(p, next)
                if escaped:
                    event.wrong |= key.field
                elif key.field == F_S and event.entry == NULL:
                    event.entry = self.find_symbol(p, text.n)
                next += 1
            p = next if next != NULL else self.unusual(p, end, key, event, refusal)
            if p == NULL:
                return NULL
            p = separator_end(p, end, c"}", &closed, refusal)
            if p == NULL:
                return NULL
            if event.is_wrapped and not nested:
                foreign = ~<uint32_t>(F_STREAM | F_DATA)
        return p

    cdef const char* unusual(
        self, const char* p, const char* end, const key_t* key, event_t* event, int* refusal
    ) noexcept nogil:
        # A value that is no text and no number. One of a type that no message we know has there is marked and skipped.
        cdef const char* next
        if p < end and p[0] == c"[" and key.type == T_LEVELS:
            return self.array(p, end, key, event, refusal)
        if key.type == T_FLAG:
            next = value_end(p, end, 1, refusal)
            if next == NULL:
                return NULL
            event.is_maker = p[0] == c"t"
            event.wrong |= 0 if p[0] == c"t" or p[0] == c"f" else F_M
            return next
        if key.type == T_OBJECT and p < end and p[0] == c"{" and event.seen & ~<uint32_t>(F_STREAM | F_DATA) == 0 \
                and not event.is_wrapped:
            event.is_wrapped = True
            return self.fields(p, end, True, event, refusal)
        event.wrong |= key.field
        return value_end(p, end, 1 + event.is_wrapped, refusal)

    cdef const char* array(
        self, const char* p, const char* end, const key_t* key, event_t* event, int* refusal
    ) noexcept nogil:
        # An array of levels: parsed at once when the symbol is known, remembered otherwise. A refusal of a level is
        # kept, not returned: only the end of the message tells whether it was a book.
        cdef const char* next
        cdef uint32_t field = key.field
        cdef text_t* text = <text_t*>(<char*>event + key.offset)
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
        code = self.pair(&event.bid, &event.bid_qty, end, event.entry, &self.msg.bids[0])
        if code == 0:
            code = self.pair(&event.ask, &event.ask_qty, end, event.entry, &self.msg.asks[0])
        self.msg.bid_count = 1
        self.msg.ask_count = 1
        return code if code != 0 else MSG_BBO

    cdef int trade(self, event_t* event, const char* end) noexcept nogil:
        cdef trade_t* out = self.msg.trades
        cdef level_t level
        cdef int code = checked(event, NEED_TRADE, MAY_TRADE)
        if code != 0:
            return code
        self.stamp(event)
        if event.entry == NULL:
            return MSG_TRADE
        self.msg.slot = event.entry.slot
        code = self.pair(&event.px, &event.qty, end, event.entry, &level)
        out.px_ticks = level.px_ticks
        out.qty_lots = level.qty_lots
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
