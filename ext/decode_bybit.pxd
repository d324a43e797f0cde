cimport cython
from libc.stdint cimport int64_t, uint32_t

from ext.decode cimport Decoder, symbol_t, text_t
from ext.message cimport trade_t


cdef struct frame_t:
    # What one message said, before its kind is known. Bits of `seen` and `wrong` are F_* of decode_bybit.pyx.
    uint32_t seen
    uint32_t wrong    # present, with a type that no known message has there
    uint32_t twice
    uint32_t parsed   # arrays that are in the scratch already
    bint escaped      # a key held a backslash
    int kind          # by the topic: MSG_DEPTH_DELTA any book, MSG_TRADE, MSG_OTHER
    int refusal       # of an array of levels or trades; counts only when the message is of that kind
    int64_t ts
    int64_t cts
    symbol_t* entry   # NULL: not known yet, or not registered
    # From here on not cleared for each message, but for three: read only where `seen` or `kind` says so.
    text_t type       # no length: absent
    text_t bid        # NULL: no array
    text_t ask
    text_t topic
    text_t topic_symbol
    text_t symbol
    text_t trades
    int64_t update_id
    int64_t seq
    int64_t ret_code


@cython.final
cdef class BybitDecoder(Decoder):
    cdef int kind_of(self, frame_t* frame) noexcept nogil
    cdef int run(self, const char* p, Py_ssize_t n, int place, frame_t* frame) noexcept nogil
    cdef const char* fields(
        self, const char* p, const char* end, int place, frame_t* frame, int* refusal
    ) noexcept nogil
    cdef const char* value(
        self, const char* p, const char* end, uint32_t field, frame_t* frame, int* refusal
    ) noexcept nogil
    cdef const char* array(
        self, const char* p, const char* end, uint32_t field, frame_t* frame, int* refusal
    ) noexcept nogil
    cdef const char* parse(
        self, const char* p, const char* end, uint32_t field, frame_t* frame, int* refusal
    ) noexcept nogil
    cdef int message(self, frame_t* frame, const char* end) noexcept nogil
    cdef int answer(self, frame_t* frame, const char* end) noexcept nogil
    cdef int depth(self, frame_t* frame, const char* end, int kind) noexcept nogil
    cdef int trade(self, frame_t* frame, const char* end) noexcept nogil
    cdef int deferred(self, frame_t* frame, uint32_t field, text_t* at, const char* end) noexcept nogil
    cdef const char* trades_end(
        self, const char* p, const char* end, const symbol_t* entry, int* refusal
    ) noexcept nogil
    cdef const char* trade_end(
        self, const char* p, const char* end, const symbol_t* entry, trade_t* out, int* refusal
    ) noexcept nogil
