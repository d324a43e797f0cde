"""The vocabulary of orders and venues. FIX words and numbers where FIX has them; venue words end at the connectors."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

MONEY_SCALE: Final = 8
"""Money is int64 atoms: 10**-8 of one unit of its currency, for every currency."""

NO_PX: Final = -(2**63)
"""No price: a side of a book that is empty, a market order, an unknown mark."""


class Venue(IntEnum):
    BINANCE = 1
    OKX = 2
    BYBIT = 3
    DYDX = 4


class Market(IntEnum):
    """The venue's product line that an instrument trades on; one connector may serve several."""

    SPOT = 1
    LINEAR = 2  # Binance USD-M, Bybit linear, dYdX perpetuals, OKX USDT swaps and futures


class InstrumentKind(IntEnum):
    SPOT = 1
    PERPETUAL = 2
    FUTURE = 3


class InstrumentState(IntEnum):
    """FIX 326 SecurityTradingStatus, reduced to what an order needs to know."""

    UNKNOWN = 0
    TRADING = 1
    CANCEL_ONLY = 2
    HALTED = 3
    CLOSED = 4


class Side(IntEnum):
    """FIX 54; the value is the sign, so `side * qty_lots` is the signed quantity."""

    BUY = 1
    SELL = -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrdType(IntEnum):
    """FIX 40."""

    MARKET = 1
    LIMIT = 2


class TimeInForce(IntEnum):
    """FIX 59. Post-only is a flag of its own, as FIX 18=6 is."""

    GTC = 1
    IOC = 3
    FOK = 4
    GTD = 6


class OrdStatus(IntEnum):
    """FIX 39: where the order stands. UNKNOWN is ours: no evidence of its outcome yet, exposure stays reserved."""

    PENDING_NEW = 1
    NEW = 2
    PARTIALLY_FILLED = 3
    PENDING_CANCEL = 4
    PENDING_REPLACE = 5
    UNKNOWN = 6
    FILLED = 7
    CANCELED = 8
    REJECTED = 9
    EXPIRED = 10

    @property
    def is_terminal(self) -> bool:
        return self >= OrdStatus.FILLED


class ExecType(IntEnum):
    """FIX 150: what one report says has happened."""

    PENDING_NEW = 1  # accepted for processing: the venue has the request, the matching engine may not
    NEW = 2
    TRADE = 3
    CANCELED = 4
    REPLACED = 5
    REJECTED = 6
    EXPIRED = 7
    STATUS = 8  # FIX I: the answer to a query; carries where the order stands, not an event
    CANCEL_REJECTED = 9
    REPLACE_REJECTED = 10
    NOT_FOUND = 11  # a query found no such order: weak evidence, see engine/orders.py
    OUTCOME_UNKNOWN = 12  # timeout, lost connection, unparsable or ambiguous answer


class ConnState(IntEnum):
    """State of one channel (socket) of a venue."""

    DOWN = 0
    CONNECTING = 1
    UP = 2  # connected, logged in where needed, subscriptions confirmed


class HealthState(IntEnum):
    DOWN = 0
    DEGRADED = 1
    UP = 2
