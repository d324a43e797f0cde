"""The WebSocket listener of the hot path, for extensions that send."""

from libc.stdint cimport int64_t

from ext.ring cimport Ring
from picows.picows cimport WSFrame, WSListener, WSTransport


cdef class Listener(WSListener):
    cdef readonly int channel
    cdef object handler
    cdef object on_frame           # bound method of the handler
    cdef object append             # Python callable in place of a ring
    cdef Ring ring
    cdef tuple redact
    cdef WSTransport transport
    cdef str reason                # why the connection ends, when we know
    cdef bint is_detached
    cdef bint is_choked            # the peer does not read; what we send would wait
    cdef bint is_read_done         # the next frame comes from a new read
    cdef bint is_ended
    cdef bint is_broken            # the peer broke the protocol; nothing more is taken from it
    cdef int64_t recv_ts_ns        # CLOCK_MONOTONIC, of the last read
    # Parts of a fragmented message.
    cdef char* parts
    cdef Py_ssize_t parts_size
    cdef Py_ssize_t parts_capacity
    cdef Py_ssize_t max_bytes
    cdef bint is_fragmented
    # What is sent: 14 bytes for the header of the frame, then the message, which is masked in place.
    cdef char* out
    cdef Py_ssize_t out_capacity
    cdef readonly int64_t frame_count
    cdef readonly int64_t ping_count
    cdef readonly int64_t redacted_count
    cdef readonly int64_t refused_sends
    cdef readonly int64_t sent_count
    cdef readonly int64_t journal_failures

    cdef bint can_send(self) noexcept
    cdef int deliver(self, char* p, Py_ssize_t n) except -1
    cdef int redact_c(self, char* p, Py_ssize_t n) except -1
    cdef int add_part(self, const char* p, Py_ssize_t n) except -1
    cdef int fail(self, int code, str reason) except -1
    cdef int report(self, object error) except -1
    # False: not connected, nothing was sent. The bytes are copied.
    cdef bint send_c(self, const char* p, Py_ssize_t n) except -1
