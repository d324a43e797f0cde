"""From the socket's read buffer to the journal and the pipeline, one WebSocket message at a time.

Owns one client connection of one channel: the time stamp (one a read of the socket, so that messages which arrived
together carry the time they arrived), reassembly of fragments, pings, the journal record of every message before
anything else sees it, and the copy that is sent. It never knows what a message says. An exception of the handler is
reported to it and does not end the connection (picows would drop it in silence).

Pointers into picows' read buffer live until `on_ws_frame` returns; none is kept. Sending writes the frame header into
the 14 bytes before the message and masks the message in place, hence the buffer of our own. Rule: RFC 6455; picows 2.3.
"""

import picows
from picows import WSCloseCode as CloseCodes

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from ext.ring cimport Ring
from picows.picows cimport WSFrame, WSListener, WSMsgType, WSTransport

cdef extern from "native/clock.h" nogil:
    int64_t clock_monotonic_ns "monotonic_ns"() noexcept

cdef extern from "native/find.h" nogil:
    Py_ssize_t find_bytes(const char* p, size_t start, size_t n, const char* what, size_t size) noexcept

FRAME_KIND = 1

cdef enum:
    KIND_FRAME = 1
    HEADROOM = 14
    SLACK = 64              # picows masks in strides of up to 64 bytes
    SMALLEST = 4096
    PROTOCOL_ERROR = 1002
    MESSAGE_TOO_BIG = 1009

# Struct sizes are checked by Cython at import, the order of virtual methods is not: a call would land elsewhere.
if not picows.__version__.startswith("2.3."):
    raise ImportError(f"ext.listener is built for picows 2.3, found {picows.__version__}")


def monotonic_ns():
    return clock_monotonic_ns()


cdef class Listener(WSListener):
    def __cinit__(self, handler, int channel, ring=None, *, tuple redact=(), Py_ssize_t max_message_bytes=16_777_216):
        self.handler = handler
        self.on_frame = handler.on_frame
        self.channel = channel
        if isinstance(ring, Ring):
            self.ring = ring
        else:
            self.append = ring
        for secret in redact:
            if not isinstance(secret, bytes) or not secret:
                raise ValueError("redact must hold bytes that are not empty")
        self.redact = redact
        self.max_bytes = max_message_bytes
        self.is_read_done = True

    def __dealloc__(self):
        free(self.parts)
        free(self.out)

    # --- what picows calls ---

    cpdef object on_ws_connected(self, WSTransport transport):
        self.transport = transport
        if self.is_detached:
            transport.disconnect(False)
            return
        try:
            self.handler.on_connected(self.channel, clock_monotonic_ns())
        except BaseException as error:
            self.report(error)

    cpdef object on_ws_frame(self, WSTransport transport, WSFrame frame):
        if self.is_read_done:
            self.recv_ts_ns = clock_monotonic_ns()
        self.is_read_done = frame.last_in_buffer
        if self.is_detached or self.is_ended or self.is_broken:
            return
        cdef WSMsgType kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.fail(PROTOCOL_ERROR, "reserved bits set, but no extension was agreed")
        elif kind == WSMsgType.TEXT or kind == WSMsgType.BINARY:
            if self.is_fragmented:
                self.fail(PROTOCOL_ERROR, "new message inside a fragmented one")
            elif not frame.fin:
                self.is_fragmented = True
                self.add_part(frame.payload_ptr, frame.payload_size)
            elif frame.payload_size > self.max_bytes:
                self.fail(MESSAGE_TOO_BIG, f"message of {frame.payload_size} bytes, limit {self.max_bytes}")
            else:
                self.deliver(frame.payload_ptr, frame.payload_size)
        elif kind == WSMsgType.CONTINUATION:
            if not self.is_fragmented:
                self.fail(PROTOCOL_ERROR, "continuation of no message")
            elif self.add_part(frame.payload_ptr, frame.payload_size) and frame.fin:
                self.is_fragmented = False
                self.deliver(self.parts, self.parts_size)
                self.parts_size = 0
        elif kind == WSMsgType.PING:
            self.ping_count += 1
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind == WSMsgType.CLOSE:
            text = frame.get_close_reason() if frame.payload_size > 2 else ""
            if not self.reason:
                self.reason = f"closed by venue: {int(frame.get_close_code())} {text}".rstrip()
            if not transport.is_close_frame_sent:
                transport.send_close(frame.get_close_code())
            transport.disconnect()

    cpdef object on_ws_disconnected(self, WSTransport transport):
        # The transport holds us; without this the two would wait for a garbage collection.
        self.transport = None
        if self.is_detached or self.is_ended:
            return
        self.is_ended = True
        try:
            self.handler.on_disconnected(self.channel, self.reason or "connection lost", clock_monotonic_ns())
        except BaseException as error:
            self.report(error)

    cpdef object pause_writing(self):
        self.is_choked = True

    cpdef object resume_writing(self):
        self.is_choked = False

    # --- receiving ---

    cdef int deliver(self, char* p, Py_ssize_t n) except -1:
        cdef int64_t seq = 0
        cdef bytes payload
        if self.redact:
            self.redact_c(p, n)
        if self.ring is not None:
            seq = self.ring.append_c(KIND_FRAME, self.channel, self.recv_ts_ns, p, n)
        payload = PyBytes_FromStringAndSize(p, n)
        self.frame_count += 1
        try:
            if self.append is not None:
                seq = self.append(KIND_FRAME, self.channel, self.recv_ts_ns, payload)
            if seq < 0:
                # Not journaled, delivered all the same: a fill that is not taken in is worse than one not on tape.
                self.journal_failures += 1
                self.handler.on_journal_error(self.channel, seq)
            self.on_frame(self.channel, payload, self.recv_ts_ns)
        except BaseException as error:
            self.report(error)
        return 0

    cdef int redact_c(self, char* p, Py_ssize_t n) except -1:
        cdef bytes secret
        cdef Py_ssize_t at, size
        for secret in self.redact:
            size = PyBytes_GET_SIZE(secret)
            at = find_bytes(p, 0, n, PyBytes_AS_STRING(secret), size)
            while at >= 0:
                memset(p + at, c"x", size)
                self.redacted_count += 1
                at = find_bytes(p, at + size, n, PyBytes_AS_STRING(secret), size)
        return 0

    # 1: added. 0: too big, and the connection is being closed.
    cdef int add_part(self, const char* p, Py_ssize_t n) except -1:
        cdef Py_ssize_t capacity
        cdef char* grown
        if n > self.max_bytes - self.parts_size:
            self.fail(MESSAGE_TOO_BIG, f"fragments of more than {self.max_bytes} bytes")
            return 0
        if self.parts_size + n > self.parts_capacity:
            capacity = max(2 * (self.parts_size + n), SMALLEST)
            grown = <char*> realloc(self.parts, capacity)
            if grown == NULL:
                raise MemoryError
            self.parts, self.parts_capacity = grown, capacity
        memcpy(self.parts + self.parts_size, p, n)
        self.parts_size += n
        return 1

    cdef int fail(self, int code, str reason) except -1:
        self.is_broken = True
        self.reason = f"closed by us: {code} {reason}"
        self.is_fragmented = False
        self.parts_size = 0
        self.transport.send_close(CloseCodes(code))
        self.transport.disconnect()
        return 0

    # An error of the handler's own error report goes up to picows, which ends the connection and logs.
    cdef int report(self, object error) except -1:
        self.handler.on_listener_error(self.channel, error)
        return 0

    # --- sending ---

    cdef bint can_send(self) noexcept:
        cdef WSTransport transport = self.transport
        if transport is None or self.is_choked or self.is_ended:
            return False
        return not (transport.is_disconnected or transport.is_close_frame_sent)

    cdef bint send_c(self, const char* p, Py_ssize_t n) except -1:
        cdef Py_ssize_t capacity
        cdef char* grown
        if not self.can_send():
            self.refused_sends += 1
            return False
        if HEADROOM + n + SLACK > self.out_capacity:
            capacity = max(2 * (HEADROOM + n + SLACK), SMALLEST)
            grown = <char*> realloc(self.out, capacity)
            if grown == NULL:
                raise MemoryError
            self.out, self.out_capacity = grown, capacity
        memcpy(self.out + HEADROOM, p, n)
        self.sent_count += 1
        try:
            self.transport.send_reuse_external_buffer(WSMsgType.TEXT, self.out + HEADROOM, n)
        except Exception as error:
            # Some of it may have left, so the answer is "sent"; the end of the connection makes its fate unknown.
            self.report(error)
            self.abort()
        return True

    def send(self, payload):
        cdef Py_buffer view
        if isinstance(payload, bytes):
            return self.send_c(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            return self.send_c(<const char*> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    # --- life ---

    def close(self, str reason="closed by us"):
        if self.transport is None or self.transport.is_disconnected:
            return
        if not self.reason:
            self.reason = reason
        if not self.transport.is_close_frame_sent:
            self.transport.send_close(CloseCodes.OK)
        self.transport.disconnect()

    def abort(self):
        if self.transport is not None and not self.transport.is_disconnected:
            self.transport.disconnect(False)

    def detach(self):
        self.is_detached = True

    @property
    def is_connected(self):
        return self.transport is not None and not (self.is_ended or self.transport.is_disconnected)
