"""Records of the local exchange: listings, orders, fills and the events a venue core emits.

Units: px in ticks, qty in lots, money in atoms (10**-8 of a currency unit), time in UTC ns. Fee rates are in 10**-8.
Knows nothing of a venue's wire: the fronts turn these into Binance's or Bybit's words.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum
from typing import Any, Final

from engine.instrument import Instrument
from engine.types import MONEY_SCALE, InstrumentState, Market, OrdStatus, OrdType, Side, TimeInForce

ATOMS: Final = 10**MONEY_SCALE
RATE_SCALE: Final = 10**8
"""Fee and funding rates are ints of 10**-8: 0.04 % is 40_000."""


class Stp(IntEnum):
    """Self-trade prevention: who gives way when an order would trade with its own account."""

    NONE = 0
    EXPIRE_MAKER = 1
    EXPIRE_TAKER = 2
    EXPIRE_BOTH = 3


class Reason(IntEnum):
    """Why an order ended, or why a request was refused. The fronts map these to their codes and texts."""

    NONE = 0
    USER = 1  # canceled on request
    IOC = 2  # immediate-or-cancel remainder
    FOK = 3  # could not fill whole
    POST_ONLY = 4  # would have taken liquidity
    SELF_TRADE = 5
    NO_LIQUIDITY = 6  # market order ran out of book
    REDUCE_ONLY = 7
    VENUE = 8  # canceled by the venue: halt, control command
    COUNTDOWN = 9  # dead man's switch
    AMENDED_AWAY = 10  # amended to no more than is filled already
    BALANCE = 11
    MARGIN = 12
    DUPLICATE_ID = 13
    UNKNOWN_ORDER = 14
    HALTED = 15
    PX_FILTER = 16
    QTY_FILTER = 17
    NOTIONAL_FILTER = 18
    PX_BAND = 19
    MAX_ORDERS = 20
    AMEND_SAME = 21  # nothing would change
    AMEND_QTY = 22  # quantity not allowed for this amendment
    AMEND_LIMIT = 23  # amended too often
    ID_MISMATCH = 24  # order id and client id name different orders
    CANCEL_RESTRICTION = 25


class Refused(Exception):
    """A request that changed nothing, with its reason."""

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(f"{reason.name} {text}".strip())
        self.reason = reason
        self.text = text


@dataclass(slots=True)
class Listing:
    """One instrument of a venue: its engine description plus what only the exchange knows."""

    instrument: Instrument
    maker_fee_e8: int = 100_000
    taker_fee_e8: int = 100_000
    max_market_lots: int = 2**62
    min_px_ticks: int = 1
    max_px_ticks: int = 2**62
    band_e4: int = 0  # limit price within mark * (1 +- band/10**4); 0 is no band
    max_open_orders: int = 200
    maint_margin_e8: int = 500_000  # 0.5 % of notional
    max_leverage: int = 100
    state: InstrumentState = InstrumentState.TRADING
    mark_px_ticks: int = 0  # 0 until the first trade, book or `set_mark`
    funding_rate_e8: int = 10_000
    next_funding_ns: int = 0
    last_px_ticks: int = 0
    update_id: int = 0
    last_trade_id: int = 0
    index: int = field(init=False)
    symbol: str = field(init=False)
    market: Market = field(init=False)
    value_num: int = field(init=False)
    value_den: int = field(init=False)
    lot_atoms: int = field(init=False)  # atoms of base that one lot is
    px_decimals: int = field(init=False)
    px_mantissa: int = field(init=False)
    qty_decimals: int = field(init=False)
    qty_mantissa: int = field(init=False)

    def __post_init__(self) -> None:
        instrument = self.instrument
        self.index, self.symbol, self.market = instrument.index, instrument.symbol, instrument.market
        self.value_num, self.value_den = instrument.value_ratio
        lot = instrument.lot_size * instrument.multiplier * ATOMS
        assert lot == int(lot), f"{self.symbol}: a lot must be whole atoms, was {lot}"
        self.lot_atoms = int(lot)
        self.px_decimals, self.px_mantissa = instrument.px_scale
        self.qty_decimals, self.qty_mantissa = instrument.qty_scale

    @property
    def is_spot(self) -> bool:
        return self.market is Market.SPOT

    def value(self, px_ticks: int, qty_lots: int) -> int:
        """Atoms of quote that `qty_lots` at `px_ticks` are worth, rounded towards zero."""
        gross = px_ticks * qty_lots * self.value_num
        return gross // self.value_den if gross >= 0 else -(-gross // self.value_den)

    def px_text(self, px_ticks: int, decimals: int = -1) -> str:
        """Decimal text with `decimals` digits after the point; -1 is the tick's own number of digits."""
        return fixed_text(px_ticks * self.px_mantissa, self.px_decimals, decimals)

    def qty_text(self, qty_lots: int, decimals: int = -1) -> str:
        return fixed_text(qty_lots * self.qty_mantissa, self.qty_decimals, decimals)

    def ticks(self, text: str | Decimal) -> int:
        """Raises ValueError off the tick grid."""
        return grid_units(text, self.px_decimals, self.px_mantissa)

    def lots(self, text: str | Decimal) -> int:
        """Raises ValueError off the lot grid."""
        return grid_units(text, self.qty_decimals, self.qty_mantissa)


def fixed_text(units: int, scale: int, decimals: int = -1) -> str:
    """`units * 10**-scale` as text with `decimals` digits (never fewer than needed when decimals >= scale)."""
    if decimals < 0:
        decimals = scale
    if decimals > scale:
        units *= 10 ** (decimals - scale)
    elif decimals < scale:
        units //= 10 ** (scale - decimals)
    if decimals == 0:
        return str(units)
    sign = "-" if units < 0 else ""
    digits = str(abs(units)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"


def grid_units(text: str | Decimal, decimals: int, mantissa: int) -> int:
    scaled = Decimal(text).scaleb(decimals)
    whole = int(scaled)
    if scaled != whole or whole % mantissa:
        raise ValueError(f"{text} is not on the grid of {fixed_text(mantissa, decimals)}")
    return whole // mantissa


@dataclass(slots=True)
class NewOrder:
    """A request to place an order."""

    listing: Listing
    side: Side
    ord_type: OrdType
    qty_lots: int  # 0 for a spot market order by quote_atoms
    px_ticks: int = 0
    tif: TimeInForce = TimeInForce.GTC
    client_id: str = ""
    post_only: bool = False
    reduce_only: bool = False
    quote_atoms: int = 0  # spot market order that spends (BUY) or raises (SELL) this much quote
    stp: Stp = Stp.EXPIRE_MAKER
    expire_ns: int = 0  # GTD
    wire: dict[str, Any] = field(default_factory=dict)  # what the front wants back: type names, response kind


@dataclass(slots=True, eq=False)
class Order:
    """One order of one account. `seq` is its place in time priority."""

    order_id: int
    account_id: int
    listing: Listing
    client_id: str
    side: Side
    ord_type: OrdType
    tif: TimeInForce
    px_ticks: int
    qty_lots: int
    post_only: bool
    reduce_only: bool
    quote_atoms: int
    stp: Stp
    expire_ns: int
    created_ns: int
    updated_ns: int
    wire: dict[str, Any]
    seq: int = 0
    status: OrdStatus = OrdStatus.NEW
    reason: Reason = Reason.NONE
    cum_lots: int = 0
    cum_quote: int = 0  # atoms of quote traded
    cum_value: int = 0  # sum of px * qty, ticks * lots, for the exact average price
    locked: int = 0  # spot: atoms still locked for this order
    prevented_lots: int = 0
    amend_count: int = 0
    last_exec_id: int = 0
    original_qty_lots: int = 0

    @property
    def leaves(self) -> int:
        return self.qty_lots - self.cum_lots

    @property
    def is_open(self) -> bool:
        return self.status < OrdStatus.FILLED


@dataclass(slots=True, eq=False)
class Fill:
    """One side of one trade."""

    trade_id: int
    exec_id: int  # unique over the venue and both sides
    order: Order
    account_id: int
    listing: Listing
    side: Side
    px_ticks: int
    qty_lots: int
    quote_atoms: int
    fee_atoms: int  # positive is paid
    fee_asset: str
    is_maker: bool
    realized_atoms: int
    ts_ns: int


class OrderChange(IntEnum):
    """What an OrderEvent reports."""

    NEW = 1
    TRADE = 2
    CANCELED = 3
    REPLACED = 4  # amended: price, quantity
    EXPIRED = 5
    REJECTED = 6
    SELF_TRADE = 7  # expired by self-trade prevention


@dataclass(slots=True, eq=False)
class OrderEvent:
    """`order` is live and changes later: the fields an event needs of its moment are copied here."""

    change: OrderChange
    order: Order
    ts_ns: int
    exec_id: int
    status: OrdStatus
    reason: Reason
    px_ticks: int
    qty_lots: int
    cum_lots: int
    cum_quote: int
    cum_value: int
    fill: Fill | None = None
    note: dict[str, Any] = field(default_factory=dict)  # of the request: cancel id, modify id


@dataclass(slots=True, eq=False)
class BookChange:
    """One level of one book now has `qty_lots` (0: gone)."""

    listing: Listing
    update_id: int
    side: Side
    px_ticks: int
    qty_lots: int
    ts_ns: int


@dataclass(slots=True, eq=False)
class PublicTrade:
    listing: Listing
    trade_id: int
    px_ticks: int
    qty_lots: int
    taker_side: Side
    buyer_order_id: int
    seller_order_id: int
    ts_ns: int


@dataclass(slots=True, eq=False)
class BalanceChange:
    """Balances of one account after a change. `cause`: ORDER, FEE, DEPOSIT, TRANSFER, FUNDING."""

    account_id: int
    market: Market
    asset: str
    free: int
    locked: int
    delta: int  # of free + locked
    cause: str
    ts_ns: int
    listing: Listing | None = None


@dataclass(slots=True, eq=False)
class PositionChange:
    account_id: int
    listing: Listing
    qty_lots: int
    cost_atoms: int
    realized_atoms: int  # of this change
    cause: str
    ts_ns: int


@dataclass(slots=True, eq=False)
class ListingChange:
    """Trading state or mark price changed."""

    listing: Listing
    what: str  # "state", "mark", "funding"
    ts_ns: int


Event = OrderEvent | BookChange | PublicTrade | BalanceChange | PositionChange | ListingChange


@dataclass(slots=True)
class Policy:
    """How a venue decides what the matching rules leave open."""

    post_only_refuses: bool = True  # else: accepted, then canceled/expired by event
    fok_refuses: bool = False
    reduce_only_shrinks: bool = True  # else refused when larger than the position
    qty_down_keeps_priority: bool = False
    client_id_forever: bool = False  # else unique among open orders only
    max_amends: int = 10_000
    unified_wallet: bool = False  # spot and linear share one wallet (Bybit UTA)


class FaultKind(IntEnum):
    """Faults of one request; see `Hooks.take`."""

    REJECT = 1  # answer with `code`, `text`; nothing executed
    DROP_REQUEST = 2  # not executed, no answer
    DROP_ANSWER = 3  # executed, no answer
    UNKNOWN_DONE = 4  # executed, answered "status unknown" (Binance -1007 / 503, Bybit 10000 / 10016)
    UNKNOWN_NOT_DONE = 5  # not executed, answered "status unknown"
    DELAY_ANSWER = 6  # executed now, answered after `delay_ns`
    EVENTS_FIRST = 7  # executed; its events go out before its answer
    DISCONNECT = 8  # executed, then the connection that asked is closed without an answer


@dataclass(slots=True)
class Fault:
    kind: FaultKind
    code: int = 0
    text: str = ""
    delay_ns: int = 0


@dataclass(slots=True)
class Hooks:
    """Fault settings that core and fronts consult. The control API fills them; all at rest by default.

    Requests: `next_faults[op]` is a queue, one fault is taken per request; `op` is "place", "cancel", "amend",
    "query", "other", or "*" for any. Settings that persist are the fields below.
    """

    next_faults: dict[str, deque[Fault]] = field(default_factory=dict)
    answer_delay_ns: int = 0  # every order answer
    event_delay_ns: int = 0  # every private event
    events_first: bool = False  # private events of a request before its answer
    duplicate_fills: int = 0  # the next n fill events are sent twice
    drop_private: int = 0  # the next n private events are lost
    late_fill_ns: int = 0  # fill events only: later than the order's other events by this
    query_lag_ns: int = 0  # orders and fills younger than this are invisible to queries
    stalled_streams: set[str] = field(default_factory=set)  # topics or symbols that send nothing; "*" is all public
    private_stalled: bool = False
    drop_book_events: int = 0  # the next n public book events are lost: a sequence gap
    duplicate_book_events: int = 0
    clock_skew_ns: int = 0  # added to the venue's own clock
    is_overloaded: bool = False  # every order request answered "overloaded", not executed

    def push(self, op: str, fault: Fault) -> None:
        self.next_faults.setdefault(op, deque()).append(fault)

    def take(self, op: str) -> Fault | None:
        for key in (op, "*"):
            queue = self.next_faults.get(key)
            if queue:
                return queue.popleft()
        return None
