cimport cython
from libc.stdint cimport int64_t, uint32_t

from ext.decode cimport Decoder, symbol_t, text_t


cdef struct key_t:
    # What a key means: its bit, the type its value has in the messages that we know, where in event_t that goes.
    uint32_t field
    uint32_t type
    Py_ssize_t offset


cdef struct event_t:
    # What one message said, before its kind is known. Bits of `seen` and `wrong` are F_* of decode_binance.pyx.
    uint32_t seen
    uint32_t wrong    # present, with a type that no known message has there
    uint32_t twice
    uint32_t arrays   # b, a, bids or asks whose value is an array
    uint32_t parsed   # those of them that are in the scratch already
    bint escaped      # a key held a backslash
    bint is_answer    # of a REST request: a partial book or nothing
    bint is_wrapped   # inside `data` of the combined form
    bint is_maker     # m: the buyer is the maker
    int refusal       # of an array of levels; counts only when the message is a book
    int64_t send_ms
    int64_t exch_ms
    symbol_t* entry   # NULL: not known yet, or not registered
    text_t stream
    # From here on not cleared for each message: read only where `seen` says so.
    text_t name       # e
    text_t symbol
    text_t bid        # b or bids
    text_t bid_qty
    text_t ask
    text_t ask_qty
    text_t px
    text_t qty
    int64_t first_seq
    int64_t last_seq
    int64_t prev_seq
    int64_t update_id
    int64_t st


cdef extern from "native/predict.h" nogil:
    ctypedef struct ticker_t "tw_ticker_t":
        text_t symbol
        text_t bid
        text_t bid_qty
        text_t ask
        text_t ask_qty
        int64_t last_seq
        int64_t exch_ms
        int64_t send_ms
    ctypedef struct head_t "tw_head_t":
        text_t symbol
        int64_t send_ms
        int64_t exch_ms
        int64_t first_seq
        int64_t last_seq
        int64_t prev_seq
        bint has_exch
        bint has_prev
    const char* ticker_end "tw_ticker"(const char* p, const char* end, ticker_t* out) noexcept
    const char* depth_head "tw_depth_head"(const char* p, const char* end, head_t* out) noexcept


@cython.final
cdef class BinanceDecoder(Decoder):
    cdef bint usual_ticker(self, const char* p, const char* end) noexcept nogil
    cdef const char* usual_head(self, const char* p, const char* end, event_t* event) noexcept nogil
    cdef const char* fields(
        self, const char* p, const char* end, bint nested, event_t* event, int* refusal
    ) noexcept nogil
    cdef const char* unusual(
        self, const char* p, const char* end, const key_t* key, event_t* event, int* refusal
    ) noexcept nogil
    cdef const char* array(
        self, const char* p, const char* end, const key_t* key, event_t* event, int* refusal
    ) noexcept nogil
    cdef int message(self, event_t* event, const char* end) noexcept nogil
    cdef int depth(self, event_t* event, const char* end, int kind) noexcept nogil
    cdef int deferred(self, event_t* event, uint32_t field, text_t* at, const char* end) noexcept nogil
    cdef int bbo(self, event_t* event, const char* end) noexcept nogil
    cdef int trade(self, event_t* event, const char* end) noexcept nogil
    cdef void stamp(self, event_t* event) noexcept nogil
    cdef symbol_t* entry_of_stream(self, const text_t* stream) noexcept nogil
    cdef int run(self, const char* p, Py_ssize_t n, event_t* event) noexcept nogil
