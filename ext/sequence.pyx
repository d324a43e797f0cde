"""Sequence rules of the venues: which depth message applies, which is old, and which proves that one was lost.

A gap invalidates the book at once, before anything else happens; it becomes valid again only by a snapshot. A crossed
book is tolerated for one message (venues send them for an instant) and is invalid at the second. Knows no socket and
fetches nothing: the caller acts on the outcome codes.

Sources: Binance spot and USD-M, "How to manage a local order book correctly" (docs read 2026-11); Bybit v5,
orderbook.{depth}.{symbol} (docs read 2026-11).
"""

cimport cython
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset

from ext.book cimport Book, fill_levels
from ext.decode cimport Decoder
from ext.ladder cimport BOOK_OK, NO_PX, book_apply, book_is_crossed, book_trim
from ext.message cimport (
    MSG_BBO,
    MSG_DEPTH_DELTA,
    MSG_DEPTH_SNAPSHOT,
    MSG_TRADE,
    level_t,
    md_msg_t,
)

RULE_BINANCE_SPOT = SEQ_BINANCE_SPOT
RULE_BINANCE_USDM = SEQ_BINANCE_USDM
RULE_BYBIT = SEQ_BYBIT
RULES = {SEQ_BINANCE_SPOT: "BINANCE_SPOT", SEQ_BINANCE_USDM: "BINANCE_USDM", SEQ_BYBIT: "BYBIT"}

OUT_OTHER = OUTCOME_OTHER
OUT_APPLIED = OUTCOME_APPLIED
OUT_SNAPSHOT = OUTCOME_SNAPSHOT
OUT_STALE = OUTCOME_STALE
OUT_BBO = OUTCOME_BBO
OUT_TRADE = OUTCOME_TRADE
OUT_REPEAT = OUTCOME_REPEAT
OUT_UNSYNCED = OUTCOME_UNSYNCED
OUT_GAP = OUTCOME_GAP
OUT_CROSSED = OUTCOME_CROSSED
OUT_NO_MEMORY = OUTCOME_NO_MEMORY
OUTCOMES = {
    OUTCOME_OTHER: "OTHER",
    OUTCOME_APPLIED: "APPLIED",
    OUTCOME_SNAPSHOT: "SNAPSHOT",
    OUTCOME_STALE: "STALE",
    OUTCOME_BBO: "BBO",
    OUTCOME_TRADE: "TRADE",
    OUTCOME_REPEAT: "REPEAT",
    OUTCOME_UNSYNCED: "UNSYNCED",
    OUTCOME_GAP: "GAP",
    OUTCOME_CROSSED: "CROSSED",
    OUTCOME_NO_MEMORY: "NO_MEMORY",
}


# --- the rules ----------------------------------------------------------------------------------------------------

cdef int judge_binance_spot(sequence_t* seq, const md_msg_t* msg) noexcept nogil:
    # U <= lastUpdateId + 1 <= u joins the snapshot; the documentation's "lastUpdateId within [U, u]" differs only at
    # U == lastUpdateId + 1, which is a seamless start. The same test holds for every event that follows.
    if msg.last_seq <= seq.book.last_seq:
        return OUTCOME_STALE
    if msg.first_seq > seq.book.last_seq + 1:
        return OUTCOME_GAP
    return OUTCOME_APPLIED


cdef int judge_binance_usdm(sequence_t* seq, const md_msg_t* msg) noexcept nogil:
    cdef int64_t last = seq.book.last_seq
    if not seq.is_bridged:
        # Drop u < lastUpdateId; the first event contains it. An event that names it as its predecessor is seamless.
        if msg.last_seq < last:
            return OUTCOME_STALE
        if msg.first_seq <= last or msg.prev_seq == last:
            return OUTCOME_APPLIED
        return OUTCOME_GAP
    # Ids skip here: only `pu` tells of a loss. An event not newer than ours is a copy, not a loss.
    if msg.last_seq <= last:
        return OUTCOME_STALE
    return OUTCOME_APPLIED if msg.prev_seq == last else OUTCOME_GAP


cdef int judge_bybit(sequence_t* seq, const md_msg_t* msg) noexcept nogil:
    if msg.last_seq <= seq.book.last_seq:
        return OUTCOME_STALE
    return OUTCOME_APPLIED if msg.last_seq == seq.book.last_seq + 1 else OUTCOME_GAP


cdef int judge(sequence_t* seq, const md_msg_t* msg) noexcept nogil:
    if not seq.book.is_valid:
        return OUTCOME_UNSYNCED
    if seq.rule == SEQ_BYBIT:
        return judge_bybit(seq, msg)
    if seq.rule == SEQ_BINANCE_USDM:
        return judge_binance_usdm(seq, msg)
    return judge_binance_spot(seq, msg)


# --- applying -----------------------------------------------------------------------------------------------------

cdef inline void stamp(sequence_t* seq, const md_msg_t* msg, int64_t recv_ts_ns) noexcept nogil:
    seq.book.last_seq = msg.last_seq
    seq.book.exch_ts_ns = msg.exch_ts_ns if msg.exch_ts_ns != 0 else msg.send_ts_ns
    seq.book.recv_ts_ns = recv_ts_ns


cdef int apply(sequence_t* seq, const md_msg_t* msg, int64_t recv_ts_ns, bint is_snapshot, int outcome) noexcept nogil:
    """Apply and look at the result: trimmed, stamped, not crossed twice in a row."""
    if book_apply(seq.book, msg.bids, msg.bid_count, msg.asks, msg.ask_count, is_snapshot) != BOOK_OK:
        return OUTCOME_NO_MEMORY
    book_trim(seq.book, seq.max_depth)
    stamp(seq, msg, recv_ts_ns)
    if is_snapshot:
        seq.crossed_in_row = 0
        seq.book.is_valid = True
    if not book_is_crossed(seq.book):
        seq.crossed_in_row = 0
        return outcome
    seq.crossed_count += 1
    seq.crossed_in_row += 1
    if seq.crossed_in_row == 1:
        return outcome
    seq.book.is_valid = False
    return OUTCOME_CROSSED


cdef int on_stream_snapshot(sequence_t* seq, const md_msg_t* msg, int64_t recv_ts_ns) noexcept nogil:
    """A snapshot of the stream replaces the book at any time. The same `u` again is the L1 sign of life after 3 s
    without a change; `u` 1 is a restart of the venue's service and never a repeat."""
    cdef bint is_repeat = seq.book.is_valid and msg.last_seq == seq.book.last_seq and msg.last_seq != 1
    cdef int outcome = apply(seq, msg, recv_ts_ns, True, OUTCOME_REPEAT if is_repeat else OUTCOME_SNAPSHOT)
    seq.is_bridged = False
    seq.applied_count += 1
    seq.snapshot_count += 1
    seq.repeat_count += is_repeat
    return outcome


cdef int sequence_on_depth(sequence_t* seq, const md_msg_t* msg, int64_t recv_ts_ns) noexcept nogil:
    """Judge one depth message of the stream and apply it when its turn has come. Returns an outcome."""
    cdef int outcome
    if msg.kind == MSG_DEPTH_SNAPSHOT or (seq.rule == SEQ_BYBIT and msg.last_seq == 1):
        return on_stream_snapshot(seq, msg, recv_ts_ns)
    outcome = judge(seq, msg)
    if outcome == OUTCOME_APPLIED:
        outcome = apply(seq, msg, recv_ts_ns, False, OUTCOME_APPLIED)
        seq.is_bridged = True
        seq.applied_count += 1
    elif outcome == OUTCOME_STALE:
        seq.stale_count += 1
    elif outcome == OUTCOME_UNSYNCED:
        seq.unsynced_count += 1
    else:
        seq.book.is_valid = False
        seq.gap_count += 1
    return outcome


cdef int sequence_on_rest_snapshot(sequence_t* seq, const md_msg_t* msg, int64_t recv_ts_ns) noexcept nogil:
    """Start from a REST answer. A valid book that is newer stays (OUTCOME_STALE)."""
    cdef int outcome
    if seq.book.is_valid and msg.last_seq <= seq.book.last_seq:
        seq.stale_count += 1
        return OUTCOME_STALE
    outcome = apply(seq, msg, recv_ts_ns, True, OUTCOME_SNAPSHOT)
    # What lies behind the last level of a depth-limited answer stays unknown until it changes.
    seq.book.horizon_bid_px = msg.bids[msg.bid_count - 1].px_ticks if msg.bid_count > 0 else NO_PX
    seq.book.horizon_ask_px = msg.asks[msg.ask_count - 1].px_ticks if msg.ask_count > 0 else NO_PX
    seq.is_bridged = False
    seq.snapshot_count += 1
    return outcome


# --- the Python face ----------------------------------------------------------------------------------------------

@cython.final
cdef class SequencedBook:
    """One book and the rule its messages follow. `max_depth`: levels a side of a depth-limited feed (Bybit)."""

    def __init__(self, int rule, Book book not None, int max_depth=0):
        if rule not in RULES:
            raise ValueError(f"sequence: rule must be one of {sorted(RULES)}, was {rule}")
        if max_depth < 0:
            raise ValueError(f"sequence: max_depth must not be negative, was {max_depth}")
        memset(&self.seq, 0, sizeof(sequence_t))
        self.book = book
        self.seq.book = &book.l2
        self.seq.rule = rule
        self.seq.max_depth = max_depth

    def on_message(
        self,
        int64_t first_seq,
        int64_t last_seq,
        list bids,
        list asks,
        int64_t prev_seq=-1,
        bint is_snapshot=False,
        bint is_rest=False,
        int64_t exch_ts_ns=0,
        int64_t recv_ts_ns=0,
    ):
        """Judge and apply one message given as Python values; cold, for tests and simulations. Returns an outcome."""
        cdef md_msg_t msg
        cdef size_t count = len(bids) + len(asks)
        cdef level_t* levels = <level_t*>malloc((count + 1) * sizeof(level_t))
        if levels == NULL:
            raise MemoryError("sequence: no memory for a message")
        memset(&msg, 0, sizeof(md_msg_t))
        try:
            fill_levels(levels, bids)
            fill_levels(levels + len(bids), asks)
            msg.kind = MSG_DEPTH_SNAPSHOT if is_snapshot else MSG_DEPTH_DELTA
            msg.first_seq, msg.last_seq, msg.prev_seq = first_seq, last_seq, prev_seq
            msg.exch_ts_ns = exch_ts_ns
            msg.bids, msg.bid_count = levels, <int32_t>len(bids)
            msg.asks, msg.ask_count = levels + len(bids), <int32_t>len(asks)
            if is_rest:
                return sequence_on_rest_snapshot(&self.seq, &msg, recv_ts_ns)
            return sequence_on_depth(&self.seq, &msg, recv_ts_ns)
        finally:
            free(levels)

    @property
    def counters(self):
        """What happened to the messages so far, by name."""
        return {
            "applied": self.seq.applied_count,
            "snapshots": self.seq.snapshot_count,
            "stale": self.seq.stale_count,
            "repeats": self.seq.repeat_count,
            "unsynced": self.seq.unsynced_count,
            "gaps": self.seq.gap_count,
            "crossed": self.seq.crossed_count,
        }


@cython.final
cdef class Feed:
    """One decoder and the sequenced books that it feeds, by instrument slot."""

    def __cinit__(self):
        self.slot_count = 0
        self.sequences = NULL
        self.slot = -1

    def __init__(self, Decoder decoder not None):
        self.decoder = decoder
        self.books = []

    def __dealloc__(self):
        free(self.sequences)

    def add(self, int slot, int rule, Book book not None, int max_depth=0):
        """Feed `book` from messages whose symbol the decoder knows as `slot`. Again: replaces book and state."""
        cdef SequencedBook sequenced = SequencedBook(rule, book, max_depth)
        if not 0 <= slot < 65_536:
            raise ValueError(f"sequence: slot must be 0..65535, was {slot}")
        self.grow(slot + 1)
        self.books[slot] = sequenced
        self.sequences[slot] = &sequenced.seq

    cdef int grow(self, int32_t count) except -1:
        cdef sequence_t** grown
        if count <= self.slot_count:
            return 0
        grown = <sequence_t**>realloc(<void*>self.sequences, <size_t>count * sizeof(sequence_t*))
        if grown == NULL:
            raise MemoryError("sequence: no memory for the slots")
        memset(<void*>(grown + self.slot_count), 0, <size_t>(count - self.slot_count) * sizeof(sequence_t*))
        self.books.extend([None] * (count - self.slot_count))
        self.sequences = grown
        self.slot_count = count
        return 0

    cdef int on_frame_c(self, const char* p, Py_ssize_t n, int64_t recv_ts_ns) noexcept nogil:
        """Decode, judge, apply. Returns an outcome, or the decoder's refusal."""
        cdef int kind = self.decoder.decode_c(p, n)
        cdef sequence_t* seq = NULL
        self.slot = -1
        if kind <= 0:
            return kind
        if 0 <= self.decoder.msg.slot < self.slot_count:
            seq = self.sequences[self.decoder.msg.slot]
        if seq == NULL:
            self.unknown_count = self.unknown_count + 1
            return OUTCOME_OTHER
        self.slot = self.decoder.msg.slot
        if kind == MSG_BBO:
            return OUTCOME_BBO
        if kind == MSG_TRADE:
            return OUTCOME_TRADE
        return sequence_on_depth(seq, &self.decoder.msg, recv_ts_ns)

    def on_frame(self, bytes payload not None, int64_t recv_ts_ns):
        """Take one frame of the stream. Returns an outcome (OUTCOMES), or the decoder's refusal (ext.scan.REFUSALS)."""
        return self.on_frame_c(payload, len(payload), recv_ts_ns)

    def on_frames(self, list payloads not None, int64_t recv_ts_ns):
        """Take many frames with no Python between them (benchmarks, bulk playback). Returns {outcome: how many}."""
        cdef dict outcomes = {}
        cdef bytes payload
        cdef int outcome = OUTCOME_OTHER
        cdef int last = OUTCOME_OTHER
        cdef int64_t run = 0
        for payload in payloads:
            outcome = self.on_frame_c(payload, len(payload), recv_ts_ns)
            if outcome != last:
                outcomes[last] = outcomes.get(last, 0) + run
                last = outcome
                run = 0
            run += 1
        outcomes[last] = outcomes.get(last, 0) + run
        return {outcome: count for outcome, count in outcomes.items() if count}

    def on_snapshot(self, int slot, bytes payload not None, int64_t recv_ts_ns):
        """Take a REST answer for `slot`; feed the buffered frames afterwards. Returns as on_frame."""
        cdef int kind
        if not 0 <= slot < self.slot_count or self.sequences[slot] == NULL:
            raise KeyError(f"sequence: slot {slot} has no book")
        kind = self.decoder.decode_snapshot_c(slot, payload, len(payload))
        self.slot = -1
        if kind <= 0:
            return kind
        self.slot = slot
        return sequence_on_rest_snapshot(self.sequences[slot], &self.decoder.msg, recv_ts_ns)

    @property
    def bbo(self):
        """(bid_px, bid_qty, ask_px, ask_qty) of the last message, where that was OUT_BBO; NO_PX and 0 for no price."""
        cdef md_msg_t* msg = &self.decoder.msg
        cdef tuple bid = (msg.bids[0].px_ticks, msg.bids[0].qty_lots) if msg.bid_count > 0 else (NO_PX, <int64_t>0)
        cdef tuple ask = (msg.asks[0].px_ticks, msg.asks[0].qty_lots) if msg.ask_count > 0 else (NO_PX, <int64_t>0)
        return bid + ask

    @property
    def trades(self):
        """[(side, px_ticks, qty_lots, exch_ts_ns)] of the last message, where that was OUT_TRADE."""
        cdef md_msg_t* msg = &self.decoder.msg
        cdef int32_t i
        return [
            (msg.trades[i].side, msg.trades[i].px_ticks, msg.trades[i].qty_lots, msg.trades[i].exch_ts_ns)
            for i in range(msg.trade_count)
        ]

    def sequenced(self, int slot):
        """The SequencedBook of a slot, None where there is none."""
        return self.books[slot] if 0 <= slot < self.slot_count else None

    def book(self, int slot):
        """The book of a slot."""
        return (<SequencedBook>self.books[slot]).book

    def counters(self, int slot):
        """Counters of a slot, by name."""
        return self.books[slot].counters
