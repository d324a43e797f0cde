"""The order state machine. Everything that changes an order's state is in TRANSITIONS below; nothing outside this
file may. ExecType says what happened, OrdStatus where we stand: the two are never compared.

Only evidence from the venue makes an order terminal. A timeout, a lost connection or an answer that cannot be read
makes it UNKNOWN, which keeps its whole remaining quantity reserved. Quantities come from fills alone; the venue's
cumulative quantity is kept beside them, and an order whose fills are still missing does not become terminal.
"""

from __future__ import annotations

from enum import IntEnum

from engine.types import ExecType, OrdStatus, OrdType, Side, TimeInForce, Venue


class OrderInput(IntEnum):
    """What can happen to an order, from either side of the wire."""

    ACKED = 1  # accepted for processing
    ACCEPTED = 2  # in the matching engine
    PARTIAL = 3
    FILLED = 4
    CANCELED = 5
    REJECTED = 6
    EXPIRED = 7
    CANCEL_SENT = 8
    CANCEL_REFUSED = 9
    AMEND_SENT = 10
    AMENDED = 11
    AMEND_REFUSED = 12
    LOST = 13  # timeout, lost connection, ambiguous answer
    NOT_PLACED = 14  # proved absent: see is_proved_absent


_S, _I = OrdStatus, OrderInput

TRANSITIONS: dict[tuple[OrdStatus, OrderInput], OrdStatus] = {
    # Sent, nothing heard.
    (_S.PENDING_NEW, _I.ACKED): _S.PENDING_NEW,
    (_S.PENDING_NEW, _I.ACCEPTED): _S.NEW,
    (_S.PENDING_NEW, _I.PARTIAL): _S.PARTIALLY_FILLED,  # a fill implies acceptance
    (_S.PENDING_NEW, _I.FILLED): _S.FILLED,
    (_S.PENDING_NEW, _I.CANCELED): _S.CANCELED,
    (_S.PENDING_NEW, _I.REJECTED): _S.REJECTED,
    (_S.PENDING_NEW, _I.EXPIRED): _S.EXPIRED,
    (_S.PENDING_NEW, _I.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.PENDING_NEW, _I.LOST): _S.UNKNOWN,
    # Resting.
    (_S.NEW, _I.ACKED): _S.NEW,  # the ack was overtaken by the order stream
    (_S.NEW, _I.ACCEPTED): _S.NEW,
    (_S.NEW, _I.PARTIAL): _S.PARTIALLY_FILLED,
    (_S.NEW, _I.FILLED): _S.FILLED,
    (_S.NEW, _I.CANCELED): _S.CANCELED,
    (_S.NEW, _I.REJECTED): _S.REJECTED,  # Bybit post-only: acknowledged, then refused
    (_S.NEW, _I.EXPIRED): _S.EXPIRED,
    (_S.NEW, _I.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.NEW, _I.AMEND_SENT): _S.PENDING_REPLACE,
    (_S.NEW, _I.AMENDED): _S.NEW,
    (_S.NEW, _I.LOST): _S.UNKNOWN,
    (_S.PARTIALLY_FILLED, _I.ACKED): _S.PARTIALLY_FILLED,
    (_S.PARTIALLY_FILLED, _I.ACCEPTED): _S.PARTIALLY_FILLED,
    (_S.PARTIALLY_FILLED, _I.PARTIAL): _S.PARTIALLY_FILLED,
    (_S.PARTIALLY_FILLED, _I.FILLED): _S.FILLED,
    (_S.PARTIALLY_FILLED, _I.CANCELED): _S.CANCELED,
    (_S.PARTIALLY_FILLED, _I.EXPIRED): _S.EXPIRED,
    (_S.PARTIALLY_FILLED, _I.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.PARTIALLY_FILLED, _I.AMEND_SENT): _S.PENDING_REPLACE,
    (_S.PARTIALLY_FILLED, _I.AMENDED): _S.PARTIALLY_FILLED,
    (_S.PARTIALLY_FILLED, _I.LOST): _S.UNKNOWN,
    # A cancel is on its way; fills may still come.
    (_S.PENDING_CANCEL, _I.ACKED): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _I.ACCEPTED): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _I.PARTIAL): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _I.FILLED): _S.FILLED,
    (_S.PENDING_CANCEL, _I.CANCELED): _S.CANCELED,
    (_S.PENDING_CANCEL, _I.REJECTED): _S.REJECTED,
    (_S.PENDING_CANCEL, _I.EXPIRED): _S.EXPIRED,
    (_S.PENDING_CANCEL, _I.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _I.CANCEL_REFUSED): _S.UNKNOWN,  # filled, gone, or not there yet: the venue must say
    (_S.PENDING_CANCEL, _I.AMENDED): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _I.AMEND_REFUSED): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _I.LOST): _S.UNKNOWN,
    # An amend is on its way.
    (_S.PENDING_REPLACE, _I.ACKED): _S.PENDING_REPLACE,
    (_S.PENDING_REPLACE, _I.ACCEPTED): _S.PENDING_REPLACE,
    (_S.PENDING_REPLACE, _I.PARTIAL): _S.PENDING_REPLACE,
    (_S.PENDING_REPLACE, _I.FILLED): _S.FILLED,
    (_S.PENDING_REPLACE, _I.CANCELED): _S.CANCELED,
    (_S.PENDING_REPLACE, _I.REJECTED): _S.REJECTED,
    (_S.PENDING_REPLACE, _I.EXPIRED): _S.EXPIRED,
    (_S.PENDING_REPLACE, _I.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.PENDING_REPLACE, _I.AMENDED): _S.NEW,
    (_S.PENDING_REPLACE, _I.AMEND_REFUSED): _S.NEW,
    (_S.PENDING_REPLACE, _I.LOST): _S.UNKNOWN,
    # Nothing is proved. A query or the stream decides.
    (_S.UNKNOWN, _I.ACKED): _S.UNKNOWN,
    (_S.UNKNOWN, _I.ACCEPTED): _S.NEW,
    (_S.UNKNOWN, _I.PARTIAL): _S.PARTIALLY_FILLED,
    (_S.UNKNOWN, _I.FILLED): _S.FILLED,
    (_S.UNKNOWN, _I.CANCELED): _S.CANCELED,
    (_S.UNKNOWN, _I.REJECTED): _S.REJECTED,
    (_S.UNKNOWN, _I.EXPIRED): _S.EXPIRED,
    (_S.UNKNOWN, _I.CANCEL_SENT): _S.UNKNOWN,
    (_S.UNKNOWN, _I.CANCEL_REFUSED): _S.UNKNOWN,
    (_S.UNKNOWN, _I.AMENDED): _S.NEW,
    (_S.UNKNOWN, _I.AMEND_REFUSED): _S.UNKNOWN,
    (_S.UNKNOWN, _I.LOST): _S.UNKNOWN,
    (_S.UNKNOWN, _I.NOT_PLACED): _S.REJECTED,
    # Terminal. Late words repeat what is known; late fills change quantities.
    (_S.FILLED, _I.ACKED): _S.FILLED,
    (_S.FILLED, _I.ACCEPTED): _S.FILLED,
    (_S.FILLED, _I.PARTIAL): _S.FILLED,
    (_S.FILLED, _I.FILLED): _S.FILLED,
    (_S.FILLED, _I.CANCEL_REFUSED): _S.FILLED,
    (_S.FILLED, _I.AMEND_REFUSED): _S.FILLED,
    (_S.FILLED, _I.AMENDED): _S.FILLED,
    (_S.FILLED, _I.LOST): _S.FILLED,
    (_S.CANCELED, _I.ACKED): _S.CANCELED,
    (_S.CANCELED, _I.ACCEPTED): _S.CANCELED,
    (_S.CANCELED, _I.PARTIAL): _S.CANCELED,
    (_S.CANCELED, _I.FILLED): _S.FILLED,
    (_S.CANCELED, _I.CANCELED): _S.CANCELED,
    (_S.CANCELED, _I.EXPIRED): _S.CANCELED,
    (_S.CANCELED, _I.CANCEL_REFUSED): _S.CANCELED,
    (_S.CANCELED, _I.AMEND_REFUSED): _S.CANCELED,
    (_S.CANCELED, _I.AMENDED): _S.CANCELED,
    (_S.CANCELED, _I.LOST): _S.CANCELED,
    (_S.EXPIRED, _I.ACKED): _S.EXPIRED,
    (_S.EXPIRED, _I.ACCEPTED): _S.EXPIRED,
    (_S.EXPIRED, _I.PARTIAL): _S.EXPIRED,
    (_S.EXPIRED, _I.FILLED): _S.FILLED,
    (_S.EXPIRED, _I.EXPIRED): _S.EXPIRED,
    (_S.EXPIRED, _I.CANCELED): _S.EXPIRED,
    (_S.EXPIRED, _I.CANCEL_REFUSED): _S.EXPIRED,
    (_S.EXPIRED, _I.AMEND_REFUSED): _S.EXPIRED,
    (_S.EXPIRED, _I.LOST): _S.EXPIRED,
    (_S.REJECTED, _I.ACKED): _S.REJECTED,
    (_S.REJECTED, _I.REJECTED): _S.REJECTED,
    (_S.REJECTED, _I.CANCELED): _S.REJECTED,
    (_S.REJECTED, _I.EXPIRED): _S.REJECTED,
    (_S.REJECTED, _I.CANCEL_REFUSED): _S.REJECTED,
    (_S.REJECTED, _I.LOST): _S.REJECTED,
    # We were told "not there" and it lives: the exposure is reserved again.
    (_S.REJECTED, _I.ACCEPTED): _S.NEW,
    (_S.REJECTED, _I.PARTIAL): _S.PARTIALLY_FILLED,
    (_S.REJECTED, _I.FILLED): _S.FILLED,
}

WORKING = (OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED)
NOT_FOUND_MIN = 2  # queries that did not find it, besides the time window (shared answers lag the engine)


def next_status(status: OrdStatus, happened: OrderInput, cum_qty_lots: int) -> OrdStatus | None:
    """Where the order stands after `happened`; None when the table does not know it: an anomaly, never a guess."""
    target = TRANSITIONS.get((status, happened))
    if target is OrdStatus.NEW and cum_qty_lots > 0:
        return OrdStatus.PARTIALLY_FILLED
    return target


STATUS_INPUT: dict[OrdStatus, OrderInput] = {
    OrdStatus.PENDING_NEW: OrderInput.ACKED,
    OrdStatus.NEW: OrderInput.ACCEPTED,
    OrdStatus.PARTIALLY_FILLED: OrderInput.ACCEPTED,
    OrdStatus.FILLED: OrderInput.FILLED,
    OrdStatus.CANCELED: OrderInput.CANCELED,
    OrdStatus.REJECTED: OrderInput.REJECTED,
    OrdStatus.EXPIRED: OrderInput.EXPIRED,
    OrdStatus.PENDING_CANCEL: OrderInput.ACCEPTED,
    OrdStatus.PENDING_REPLACE: OrderInput.ACCEPTED,
    OrdStatus.UNKNOWN: OrderInput.LOST,
}
"""Venue's word on where an order stands -> input. Fills are counted from executions, so PARTIALLY_FILLED only proves
that it lives."""

EXEC_INPUT: dict[ExecType, OrderInput] = {
    ExecType.PENDING_NEW: OrderInput.ACKED,
    ExecType.NEW: OrderInput.ACCEPTED,
    ExecType.CANCELED: OrderInput.CANCELED,
    ExecType.REPLACED: OrderInput.AMENDED,
    ExecType.REJECTED: OrderInput.REJECTED,
    ExecType.EXPIRED: OrderInput.EXPIRED,
    ExecType.CANCEL_REJECTED: OrderInput.CANCEL_REFUSED,
    ExecType.REPLACE_REJECTED: OrderInput.AMEND_REFUSED,
    ExecType.OUTCOME_UNKNOWN: OrderInput.LOST,
}


class Order:
    """One order of ours. `cum_qty_lots` counts applied fills; `venue_cum_lots` is what the venue says it is."""

    # Defaults live on the class: an order is made on the hot path, and most of these never change.
    post_only = False
    reduce_only = False
    is_hedge = False
    order_id = ""
    status = OrdStatus.PENDING_NEW
    cum_qty_lots = 0
    venue_cum_lots = 0
    final: OrdStatus | None = None  # the venue's last word, waiting for the fills it counts
    last_query_ns = 0
    query_count = 0
    not_found_count = 0
    text = ""

    def __init__(
        self, cl_ord_id: int, strategy: int, venue: Venue, instrument: int, side: Side, ord_type: OrdType,
        px_ticks: int, qty_lots: int, time_in_force: TimeInForce, plan_id: int, now_ns: int,
    ) -> None:  # fmt: skip
        self.cl_ord_id = cl_ord_id
        self.strategy = strategy
        self.venue = venue
        self.instrument = instrument
        self.side = side
        self.ord_type = ord_type
        self.px_ticks = px_ticks
        self.qty_lots = qty_lots
        self.time_in_force = time_in_force
        self.plan_id = plan_id
        self.reserved_lots = qty_lots
        self.reserved_px_ticks = px_ticks  # what the gate was told, which an amend may have made worse than px_ticks
        self.touched_ns = now_ns

    @property
    def leaves_qty_lots(self) -> int:
        return 0 if self.status.is_terminal else self.qty_lots - self.cum_qty_lots

    @property
    def is_open(self) -> bool:
        return not self.status.is_terminal

    @property
    def is_missing_fills(self) -> bool:
        return self.venue_cum_lots > self.cum_qty_lots

    def is_proved_absent(self, now_ns: int, window_ns: int) -> bool:
        """No single "not found" proves anything: answers lag. Two of them, and the window since the send."""
        return (
            self.status is OrdStatus.UNKNOWN
            and self.cum_qty_lots == 0
            and self.venue_cum_lots == 0
            and self.not_found_count >= NOT_FOUND_MIN
            and now_ns - self.touched_ns >= window_ns
        )
