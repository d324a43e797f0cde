"""What the decoders of all venues share: symbol table, scratch, counters, arrays of levels and the Python face.

A decoder turns one complete frame into `md_msg_t` (ext/message.pxd): int64 ticks and lots, no Python object and no
allocation a message. The arrays that the message points to are the decoder's scratch and valid until its next call.
It knows no sequence rule and no book. Refusals are negative codes with a counter each (`ext.scan.REFUSALS`).
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy

from ext.fixed cimport FIXED_MAX_DECIMALS
from ext.message cimport MSG_BBO, MSG_DEPTH_DELTA, MSG_DEPTH_SNAPSHOT, MSG_OTHER, MSG_TRADE

from ext.scan import REFUSALS

KINDS: dict[int, str] = {
    MSG_OTHER: "other",
    MSG_DEPTH_DELTA: "depth_delta",
    MSG_DEPTH_SNAPSHOT: "depth_snapshot",
    MSG_BBO: "bbo",
    MSG_TRADE: "trade",
}
MAX_SYMBOL = 32

fill_rows()


cdef class Decoder:
    """Base of BinanceDecoder and BybitDecoder; decodes nothing itself."""

    def __cinit__(self, max_levels: int = 5000, max_trades: int = 2048) -> None:
        if not (0 < max_levels <= 1_000_000 and 0 < max_trades <= 1_000_000):
            raise ValueError(f"max_levels and max_trades must be 1..1000000, were {max_levels} and {max_trades}")
        self.max_levels = max_levels
        self.max_trades = max_trades
        self.how.fast = levels_fast()
        self.table_mask = 63
        self.symbol_room = 32
        self.symbols = <symbol_t*>calloc(self.symbol_room, sizeof(symbol_t))
        self.table = <int32_t*>calloc(self.table_mask + 1, sizeof(int32_t))
        self.msg.bids = <level_t*>malloc(self.max_levels * sizeof(level_t))
        self.msg.asks = <level_t*>malloc(self.max_levels * sizeof(level_t))
        self.msg.trades = <trade_t*>malloc(self.max_trades * sizeof(trade_t))
        if (self.symbols == NULL or self.table == NULL or self.msg.bids == NULL or self.msg.asks == NULL
                or self.msg.trades == NULL):
            raise MemoryError
        self.reset()

    def __dealloc__(self) -> None:
        free(self.symbols)
        free(self.table)
        free(self.msg.bids)
        free(self.msg.asks)
        free(self.msg.trades)

    def add_symbol(
        self, symbol: str, slot: int, px_decimals: int, px_mantissa: int, qty_decimals: int, qty_mantissa: int
    ) -> None:
        """Register a symbol. Units: tick = px_mantissa * 10**-px_decimals, lot likewise (Instrument.px_scale)."""
        cdef bytes name = symbol.encode("ascii")
        cdef symbol_t* entry
        if not 0 < len(name) <= MAX_SYMBOL:
            raise ValueError(f"symbol must have 1..{MAX_SYMBOL} characters, was {symbol!r}")
        for what, decimals, mantissa in (("px", px_decimals, px_mantissa), ("qty", qty_decimals, qty_mantissa)):
            if not (0 <= decimals <= FIXED_MAX_DECIMALS and mantissa >= 1):
                raise ValueError(f"{symbol}: {what} grid must be mantissa >= 1 and 0..{FIXED_MAX_DECIMALS} decimals, "
                                 f"was {mantissa} and {decimals}")
        if slot < 0 or self.find_slot(slot) != NULL:
            raise ValueError(f"{symbol}: slot must be >= 0 and unused, was {slot}")
        if self.find_symbol(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)) != NULL:
            raise ValueError(f"symbol {symbol} is already registered")
        self._grow()
        entry = &self.symbols[self.symbol_count]
        entry.px.decimals = px_decimals
        entry.px.mantissa = px_mantissa
        entry.qty.decimals = qty_decimals
        entry.qty.mantissa = qty_mantissa
        entry.slot = slot
        entry.length = <int32_t>len(name)
        memcpy(entry.name, PyBytes_AS_STRING(name), entry.length)
        self.symbol_count += 1
        self._enter(self.symbol_count)

    cdef int _grow(self) except -1:
        # Keeps the table at most half full, so that a search for an unknown symbol ends soon.
        cdef int32_t i
        cdef symbol_t* symbols
        cdef int32_t* table
        if self.symbol_count < self.symbol_room:
            return 0
        symbols = <symbol_t*>realloc(self.symbols, 2 * self.symbol_room * sizeof(symbol_t))
        if symbols == NULL:
            raise MemoryError
        self.symbols = symbols
        self.last_symbol = NULL
        table = <int32_t*>calloc(2 * (self.table_mask + 1), sizeof(int32_t))
        if table == NULL:
            raise MemoryError
        free(self.table)
        self.table = table
        self.symbol_room *= 2
        self.table_mask = 2 * self.table_mask + 1
        for i in range(self.symbol_count):
            self._enter(i + 1)
        return 0

    cdef void _enter(self, int32_t number) noexcept:
        cdef symbol_t* entry = &self.symbols[number - 1]
        cdef uint64_t at = symbol_hash(entry.name, entry.length) & self.table_mask
        while self.table[at] != 0:
            at = (at + 1) & self.table_mask
        self.table[at] = number

    cdef symbol_t* find_symbol(self, const char* p, Py_ssize_t n) noexcept nogil:
        cdef uint64_t at
        if symbol_is(self.last_symbol, p, n):
            return self.last_symbol
        at = symbol_hash(p, n) & self.table_mask
        while self.table[at] != 0:
            if symbol_is(&self.symbols[self.table[at] - 1], p, n):
                self.last_symbol = &self.symbols[self.table[at] - 1]
                return self.last_symbol
            at = (at + 1) & self.table_mask
        return NULL

    cdef symbol_t* find_slot(self, int32_t slot) noexcept nogil:
        cdef int32_t i
        for i in range(self.symbol_count):
            if self.symbols[i].slot == slot:
                return &self.symbols[i]
        return NULL

    cdef void reset(self) noexcept nogil:
        self.msg.kind = MSG_OTHER
        self.msg.slot = -1
        self.msg.first_seq = -1
        self.msg.last_seq = -1
        self.msg.prev_seq = -1
        self.msg.cross_seq = -1
        self.msg.exch_ts_ns = 0
        self.msg.send_ts_ns = 0
        self.msg.bid_count = 0
        self.msg.ask_count = 0
        self.msg.trade_count = 0

    cdef int finish(self, int code, const symbol_t* symbol) noexcept nogil:
        # Nothing of a message that was refused or is another's is left for a reader who forgets to look at the code,
        # except whose it was: that book has missed an update.
        cdef uint64_t* counter = &self.counts[code if code >= 0 else 15 - code]
        if code <= MSG_OTHER:
            self.reset()
            if code < 0 and symbol != NULL:
                self.msg.slot = symbol.slot
        self.msg.kind = code
        counter[0] += 1
        return code

    cdef bint usual_pair(
        self, const text_t* px, const text_t* qty, const symbol_t* symbol, level_t* out
    ) noexcept nogil:
        # Both on the grid and short; needs AVX2. False: not so, or not sure.
        return pair_wide(self.how.start, px.p + px.n, px.n, qty.p + qty.n, qty.n, symbol, <tw_level_t*>out)

    cdef int pair(
        self, const text_t* px, const text_t* qty, const char* end, const symbol_t* symbol, level_t* out
    ) noexcept nogil:
        # A price and a quantity that were found as texts. Returns 0 or a refusal.
        cdef int code
        if self.how.fast == 2 and self.usual_pair(px, qty, symbol, out):
            return 0
        code = px_of(&self.how, px.p, end, &symbol.px, &out.px_ticks)
        return code if code != 0 else qty_of(&self.how, qty.p, end, &symbol.qty, &out.qty_lots)

    cdef const char* levels(
        self, const char* p, const char* end, const symbol_t* symbol, level_t* out, int32_t* count, int* refusal
    ) noexcept nogil:
        # `[[px, qty], ...]` from its first bracket. A refusal here may be of the grid only: the caller then has the
        # scanner judge the array as JSON and keeps the refusal until the kind of the message is known.
        cdef bint closed = False
        cdef int done = 0
        p = space_end(p + 1, end)
        if p < end and p[0] == c"]":
            return p + 1
        while not closed:
            if self.how.fast == 2:
                count[0] += levels_wide(
                    &p, self.how.start, end, symbol, <tw_level_t*>&out[count[0]], self.max_levels - count[0], &done
                )
                if done:
                    return p
            if self.how.fast:
                count[0] += levels_canonical(
                    &p, end, symbol, <tw_level_t*>&out[count[0]], self.max_levels - count[0], &done
                )
                if done:
                    return p
            if count[0] >= self.max_levels:
                return refuse(refusal, REFUSED_TOO_MANY_LEVELS)
            p = level_end(&self.how, p, end, symbol, &out[count[0]], refusal)
            if p == NULL:
                return NULL
            count[0] += 1
            p = separator_end(p, end, c"]", &closed, refusal)
            if p == NULL:
                return NULL
        return p

    cdef int decode_c(self, const char* p, Py_ssize_t n) noexcept nogil:
        return MSG_OTHER

    cdef int decode_snapshot_c(self, int32_t slot, const char* p, Py_ssize_t n) noexcept nogil:
        return MSG_OTHER

    def decode(self, payload: bytes | memoryview) -> int:
        """Decode one complete frame. Returns a kind (`KINDS`) or a refusal (`ext.scan.REFUSALS`)."""
        cdef Py_buffer view
        if type(payload) is bytes:
            return self.decode_c(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            return self.decode_c(<const char*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def decode_snapshot(self, slot: int, payload: bytes) -> int:
        """Decode the answer to a REST order book request made for the symbol of this slot."""
        return self.decode_snapshot_c(slot, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))

    def decode_all(self, payloads: list[bytes], rounds: int = 1) -> int:
        """Decode a list of frames `rounds` times, with no Python between them. Returns how many levels and trades."""
        cdef int64_t found = 0
        cdef int64_t left = rounds
        cdef bytes payload
        while left > 0:
            for payload in payloads:
                self.decode_c(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
                found += self.msg.bid_count + self.msg.ask_count + self.msg.trade_count
            left -= 1
        return found

    @property
    def kind(self) -> int:
        return self.msg.kind

    @property
    def slot(self) -> int:
        return self.msg.slot

    @property
    def first_seq(self) -> int:
        return self.msg.first_seq

    @property
    def last_seq(self) -> int:
        return self.msg.last_seq

    @property
    def prev_seq(self) -> int:
        return self.msg.prev_seq

    @property
    def cross_seq(self) -> int:
        return self.msg.cross_seq

    @property
    def exch_ts_ns(self) -> int:
        return self.msg.exch_ts_ns

    @property
    def send_ts_ns(self) -> int:
        return self.msg.send_ts_ns

    @property
    def bids(self) -> list[tuple[int, int]]:
        return [(self.msg.bids[i].px_ticks, self.msg.bids[i].qty_lots) for i in range(self.msg.bid_count)]

    @property
    def asks(self) -> list[tuple[int, int]]:
        return [(self.msg.asks[i].px_ticks, self.msg.asks[i].qty_lots) for i in range(self.msg.ask_count)]

    @property
    def trades(self) -> list[tuple[int, int, int, int]]:
        """(side, px_ticks, qty_lots, exch_ts_ns) of each trade; side is the aggressor's."""
        return [
            (self.msg.trades[i].side, self.msg.trades[i].px_ticks, self.msg.trades[i].qty_lots,
             self.msg.trades[i].exch_ts_ns)
            for i in range(self.msg.trade_count)
        ]

    @property
    def strict_qty(self) -> bool:
        """Refuse a quantity off the lot grid instead of rounding it down; a price off the tick grid always is."""
        return self.how.strict_qty

    @strict_qty.setter
    def strict_qty(self, value: bool) -> None:
        self.how.strict_qty = value

    @property
    def qty_rounded(self) -> int:
        """Quantities that were off the lot grid and were rounded down."""
        return self.how.qty_rounded

    @property
    def counters(self) -> dict[str, int]:
        """Messages by kind, and refusals by name; names that never occurred are left out."""
        cdef int code
        found = {}
        for code, name in (*KINDS.items(), *REFUSALS.items()):
            if self.counts[code if code >= 0 else 15 - code]:
                found[name] = self.counts[code if code >= 0 else 15 - code]
        return found

    def use_fast_path(self, wanted: int) -> int:
        """Choose how numbers are read (tests, benchmarks): 0 digit by digit, 1 16 bytes at once (SSSE3), 2 price and
        quantity side by side (AVX2). Returns what is used: the processor decides how much it can."""
        self.how.fast = min(max(wanted, 0), levels_fast())
        return self.how.fast


cdef const char* level_end(
    reading_t* how, const char* p, const char* end, const symbol_t* symbol, level_t* out, int* refusal
) noexcept nogil:
    # One level by the exact rules: spaces allowed, both texts in quotes, nothing behind them.
    cdef const char* quote = NULL
    cdef int code
    if p == end or p[0] != c"[":
        return refuse(refusal, REFUSED_LEVEL_SHAPE)
    p = space_end(p + 1, end)
    if p == end or p[0] != c'"':
        return refuse(refusal, REFUSED_LEVEL_SHAPE)
    code = quoted_units(p + 1, end, &symbol.px, &quote, &out.px_ticks)
    if code != 0:
        return refuse(refusal, code)
    p = space_end(quote + 1, end)
    if p == end or p[0] != c",":
        return refuse(refusal, REFUSED_LEVEL_SHAPE)
    p = space_end(p + 1, end)
    if p == end or p[0] != c'"':
        return refuse(refusal, REFUSED_LEVEL_SHAPE)
    code = quoted_units(p + 1, end, &symbol.qty, &quote, &out.qty_lots)
    if code == REFUSED_OFF_GRID and not how.strict_qty:
        how.qty_rounded += 1
    elif code != 0:
        return refuse(refusal, code)
    p = space_end(quote + 1, end)
    if p == end or p[0] != c"]":
        return refuse(refusal, REFUSED_LEVEL_SHAPE)
    return p + 1
