"""Records of the ledger: what the inputs meant. State is the fold of these, live, after a crash, and in an audit.

One struct a kind, encoded as MessagePack arrays, so that recorded and recomputed records compare byte by byte.
Units: px in ticks, qty in lots, money in atoms (10**-8), time in ns (monotonic `ts_ns`, venue's `exch_ts_ns`).
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.instrument import Instrument
from engine.records import RecordKind
from engine.types import OrdStatus, OrdType, Side, TimeInForce, Venue


class LedgerRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    kind: ClassVar[RecordKind]


class OrderPlaced(LedgerRecord, frozen=True):
    """The intent, journaled before the first byte can reach a socket. `plan_id` 0: not part of a leg plan."""

    kind = RecordKind.ORDER_PLACED
    venue: Venue
    instrument: int
    cl_ord_id: int
    strategy: int
    side: Side
    ord_type: OrdType
    px_ticks: int
    qty_lots: int
    time_in_force: TimeInForce
    post_only: bool
    reduce_only: bool
    is_hedge: bool
    plan_id: int
    ts_ns: int


class OrderAccepted(LedgerRecord, frozen=True):
    """Evidence that the venue has it. `status` PENDING_NEW: accepted for processing only."""

    kind = RecordKind.ORDER_ACCEPTED
    cl_ord_id: int
    order_id: str
    status: OrdStatus
    exch_ts_ns: int


class OrderFilled(LedgerRecord, frozen=True):
    """One execution applied once. `cl_ord_id` 0: a foreign order's fill on our account."""

    kind = RecordKind.ORDER_FILLED
    venue: Venue
    instrument: int
    cl_ord_id: int
    order_id: str
    exec_id: str
    side: Side
    px_ticks: int
    qty_lots: int
    fee_atoms: int
    fee_asset: str
    is_maker: bool
    exch_ts_ns: int
    status: OrdStatus


class OrderClosed(LedgerRecord, frozen=True):
    cl_ord_id: int
    cum_qty_lots: int
    code: int
    text: str


class OrderCanceled(OrderClosed, frozen=True):
    kind = RecordKind.ORDER_CANCELED


class OrderRejected(OrderClosed, frozen=True):
    kind = RecordKind.ORDER_REJECTED


class OrderExpired(OrderClosed, frozen=True):
    kind = RecordKind.ORDER_EXPIRED


class OrderUnknown(LedgerRecord, frozen=True):
    """No evidence of the outcome; exposure stays reserved until the venue proves one."""

    kind = RecordKind.ORDER_UNKNOWN
    cl_ord_id: int
    text: str


class CancelRequested(LedgerRecord, frozen=True):
    kind = RecordKind.CANCEL_REQUESTED
    cl_ord_id: int
    ts_ns: int


class AmendRequested(LedgerRecord, frozen=True):
    kind = RecordKind.AMEND_REQUESTED
    cl_ord_id: int
    px_ticks: int
    qty_lots: int
    ts_ns: int


class OrderAmended(LedgerRecord, frozen=True):
    """The venue's price and total quantity now; also how an order leaves PENDING_CANCEL or UNKNOWN alive."""

    kind = RecordKind.ORDER_AMENDED
    cl_ord_id: int
    px_ticks: int
    qty_lots: int
    status: OrdStatus


class BalanceChanged(LedgerRecord, frozen=True):
    kind = RecordKind.BALANCE_CHANGED
    venue: Venue
    asset: str
    total_atoms: int
    available_atoms: int


class FundingBooked(LedgerRecord, frozen=True):
    kind = RecordKind.FUNDING_PAID
    venue: Venue
    instrument: int
    amount_atoms: int
    asset: str
    exec_id: str


class CapitalMoved(LedgerRecord, frozen=True):
    """Internal accounting: allotment of one strategy moved between venues. Sums are conserved."""

    kind = RecordKind.CAPITAL_MOVED
    strategy: int
    from_venue: Venue
    to_venue: Venue
    amount_atoms: int


class Correction(LedgerRecord, frozen=True):
    """A difference to the venue, adopted: the venue is right. `what` is "position", "holding", "order" or "fill"."""

    kind = RecordKind.CORRECTION
    venue: Venue
    what: str
    instrument: int
    ours: int
    theirs: int
    evidence: str


class OrderAdopted(LedgerRecord, frozen=True):
    """An order of ours that the venue knows and the ledger does not (lost tail of a power cut)."""

    kind = RecordKind.ORDER_ADOPTED
    placed: OrderPlaced
    order_id: str
    cum_qty_lots: int


class RiskRefused(LedgerRecord, frozen=True):
    kind = RecordKind.RISK_REFUSED
    strategy: int
    instrument: int
    side: Side
    px_ticks: int
    qty_lots: int
    reason: str
    value: int
    limit: int


class RouteDecided(LedgerRecord, frozen=True):
    """Scored candidates of one decision: (instrument, net price in quote atoms a base unit, depth in base atoms,
    reason it was left out or "")."""

    kind = RecordKind.ROUTE_DECIDED
    plan_id: int
    side: Side
    qty_atoms: int
    chosen: int
    candidates: tuple[tuple[int, int, int, str], ...]


class LegChanged(LedgerRecord, frozen=True):
    kind = RecordKind.LEG_CHANGED
    plan_id: int
    state: str
    residual_atoms: int
    text: str


class VenueGate(LedgerRecord, frozen=True):
    kind = RecordKind.VENUE_GATE
    venue: Venue
    is_open: bool
    text: str


class Anomaly(LedgerRecord, frozen=True):
    kind = RecordKind.ANOMALY
    what: str
    cl_ord_id: int
    text: str


class KillSwitch(LedgerRecord, frozen=True):
    kind = RecordKind.KILL_SWITCH
    is_on: bool
    reason: str
    operator: str


class QuerySent(LedgerRecord, frozen=True):
    kind = RecordKind.QUERY_SENT
    venue: Venue
    what: str
    request_id: int
    instrument: int
    cl_ord_id: int


class InstrumentNoted(LedgerRecord, frozen=True):
    """The definition that later ticks and lots refer to."""

    kind = RecordKind.INSTRUMENT_DEFINED
    instrument: Instrument


RECORDS: dict[int, type[LedgerRecord]] = {
    record.kind: record
    for record in (
        OrderPlaced, OrderAccepted, OrderFilled, OrderCanceled, OrderRejected, OrderExpired, OrderUnknown,
        CancelRequested, AmendRequested, OrderAmended, BalanceChanged, FundingBooked, CapitalMoved, Correction,
        OrderAdopted, RiskRefused, RouteDecided, LegChanged, VenueGate, Anomaly, KillSwitch, QuerySent, InstrumentNoted,
    )
}  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(record) for kind, record in RECORDS.items()
}

encode_ledger = _encoder.encode


def decode_ledger(kind: int, payload: bytes) -> LedgerRecord:
    """Raises KeyError for a kind this version does not know, msgspec.DecodeError for bytes that do not fit it."""
    record: LedgerRecord = _decoders[kind].decode(payload)
    return record
