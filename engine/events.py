"""What connectors tell the core. Every event carries `recv_ts_ns` (ours, monotonic); venue words do not appear.

`BookUpdate` is made once an instrument and sent again and again; every other event is made fresh and never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.instrument import Instrument
from engine.types import ConnState, ExecType, InstrumentState, OrdStatus, OrdType, Side, TimeInForce, Venue

if TYPE_CHECKING:
    from ext import Book


class Event(msgspec.Struct, gc=False):
    recv_ts_ns: int


class BookUpdate:
    """The book of `instrument` changed. Reused: read it at once, never keep it."""

    __slots__ = ("book", "instrument", "recv_ts_ns")

    def __init__(self, instrument: int, book: Book) -> None:
        self.instrument = instrument  # Instrument.index
        self.book = book
        self.recv_ts_ns = 0


class BookInvalid(Event):
    """The book may not be routed on until the next BookUpdate (gap, stale, crossed, disconnected)."""

    instrument: int
    reason: str


class TradePrint(Event):
    """A public trade; `side` is the aggressor's."""

    instrument: int
    side: Side
    px_ticks: int
    qty_lots: int
    exch_ts_ns: int


class MarkPrice(Event):
    """Mark price and funding of a perpetual. `funding_rate_e9` is the rate for the next payment times 10**9."""

    instrument: int
    px_ticks: int
    funding_rate_e9: int
    next_funding_ts_ns: int


class InstrumentDefined(Event):
    """The venue's definition, at start and whenever it changes (tick, lot, limits, state)."""

    instrument: Instrument


class InstrumentStateChanged(Event):
    instrument: int
    state: InstrumentState


class ChannelState(Event):
    """One socket of a venue went up or down."""

    venue: Venue
    channel: int
    state: ConnState
    reason: str = ""


class VenueReady(Event):
    """Instruments known, key checked, clock measured, private stream live: reconciliation may start."""

    venue: Venue


class VenueLost(Event):
    """A private stream, order entry or the clock is gone: nothing may be opened until the next VenueReady."""

    venue: Venue
    reason: str


class VenueRefused(Event):
    """The connector will not trade this venue: key may withdraw, wrong environment, clock out of window.

    `category` is "key", "environment", "clock", "mode" or "instruments"; the run ends with an error for "key" and
    "environment".
    """

    venue: Venue
    category: str
    reason: str


class VenueNotice(Event):
    """Announced maintenance, shutdown, a rate-limit cut or ban. `until_ts_ns` is 0 when not known."""

    venue: Venue
    kind: str  # "maintenance", "shutdown", "rate_limited", "banned", "restored"
    until_ts_ns: int = 0


class FeeTier(Event):
    """The account's real fees on one instrument, parts per million of notional; a rebate is negative."""

    instrument: int
    maker_ppm: int
    taker_ppm: int


class ClockOffset(Event):
    """Venue clock minus ours, measured by round trips on the venue's time endpoint."""

    venue: Venue
    offset_ns: int
    rtt_ns: int


class OrderReport(Event):
    """One report on one order, ours or foreign (`cl_ord_id` 0). Quantities are cumulative; fills come as `Fill`.

    `ord_status` is the venue's word, already normalised; `exec_type` says what happened. A field the venue did not
    send is 0 (quantities: -1).
    """

    venue: Venue
    instrument: int
    cl_ord_id: int
    order_id: str
    exec_type: ExecType
    ord_status: OrdStatus
    side: Side = Side.BUY
    ord_type: OrdType = OrdType.LIMIT
    time_in_force: TimeInForce = TimeInForce.GTC
    px_ticks: int = 0
    order_qty_lots: int = -1
    cum_qty_lots: int = -1
    exch_ts_ns: int = 0
    code: int = 0  # the venue's error code, 0 for none
    text: str = ""  # the venue's words or ours; never a secret


class Fill(Event):
    """One execution. Identity: (venue, instrument, exec_id). `fee_atoms` > 0 was paid, < 0 is a rebate."""

    venue: Venue
    instrument: int
    cl_ord_id: int  # 0 when the venue's message names only order_id, or the order is foreign
    order_id: str
    exec_id: str
    side: Side
    px_ticks: int
    qty_lots: int
    fee_atoms: int
    fee_asset: str
    is_maker: bool
    exch_ts_ns: int


class Balance(Event):
    """Absolute balance of one asset. Formulas for `available_atoms` are in each connector's account.py."""

    venue: Venue
    asset: str
    total_atoms: int
    available_atoms: int
    exch_ts_ns: int = 0


class PositionReport(Event):
    """Absolute position of one derivative instrument, one-way mode; signed lots."""

    venue: Venue
    instrument: int
    qty_lots: int
    exch_ts_ns: int = 0


class FundingPaid(Event):
    """Funding settled: `amount_atoms` < 0 was paid by us."""

    venue: Venue
    instrument: int
    amount_atoms: int
    asset: str
    exec_id: str
    exch_ts_ns: int


class OpenOrders(Event):
    """The complete answer to get_open_orders: one STATUS report each, ours and foreign."""

    venue: Venue
    request_id: int
    orders: tuple[OrderReport, ...]
    is_ok: bool = True


class Fills(Event):
    """The complete answer to get_fills for one instrument (all pages)."""

    venue: Venue
    request_id: int
    instrument: int
    fills: tuple[Fill, ...]
    is_ok: bool = True


class Balances(Event):
    venue: Venue
    request_id: int
    balances: tuple[Balance, ...]
    is_ok: bool = True


class Positions(Event):
    """The complete answer to get_positions; an instrument that is not listed is flat."""

    venue: Venue
    request_id: int
    positions: tuple[PositionReport, ...]
    is_ok: bool = True


class Timer(Event):
    """Time passes even when nothing else happens; at least every 100 ms."""


class Command(Event):
    """An operator's word: `kill`, `resume`, `stop`, `cancel_all`, `limit`. Journaled with who said it."""

    name: str
    args: dict[str, str]
    operator: str = ""


AnyEvent = Event | BookUpdate
